"""The part of SAM's mask decoder that runs at every click, with as few operations over the image as it takes.

SAM's two-way transformer lets T tokens (about 7 to 12) and N = 4096 image places look at each other five times,
through H = 8 heads of 16 channels. Written as products, most of its work is to project the image to 128 channels and
back, six times. But a product of three matrices may begin at either end: with few tokens it takes less to bring the
tokens' side through the weights and meet the image as it is. For a head with the weights W_q, W_k, W_v, W_o:

- scores of tokens over places: ``(t W_q) (x W_k)^T = (t W_q W_k^T) x^T``;
- what tokens read: ``p (x W_v) = (p x) W_v``;
- what is written to places: ``p^T (t W_v) W_o = p^T (t W_v W_o)``.

The position of a place, which SAM adds before it projects, gives a constant projection; key biases add the same to
all of a token's scores and fall out of the softmax. All of this is exact. From about 16 tokens on the usual order is
cheaper again: both are built, and the graph chooses (see `export`).

Tensors over tokens and places are kept as (B, H, T, N), places last, which suits both softmaxes.
"""

from __future__ import annotations

from typing import Any

from encoder_tools.sam.libraries import torch

__all__ = ["FEW_TOKENS", "SIDE", "Transformer", "split_heads"]

SIDE = 64
"""Places along each side of the image."""

FEW_TOKENS = 16
"""Tokens up to which the folded order is cheaper: two of them take as many operations as a channel of a head."""


class ToHeads(torch.nn.Module):
    """A linear map to heads: (B, L, 256) to (B, H, L, w).

    Parameters
    ----------
    linear : torch.nn.Linear
    heads : int
    scale : float
        Factor of the result.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, linear: Any, heads: int, scale: float = 1.0) -> None:
        super().__init__()
        weight = linear.weight.detach() * scale
        self.register_buffer("weight", weight.T.reshape(weight.shape[1], heads, -1).transpose(0, 1).contiguous())
        self.register_buffer("bias", (linear.bias.detach() * scale).reshape(heads, 1, -1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, L, 256) to (B, H, L, w)."""
        return x.unsqueeze(1) @ self.weight + self.bias


def split_heads(projection: torch.Tensor, heads: int) -> torch.Tensor:
    """(B, L, H * w) -> (B, H, L, w)."""
    return projection.reshape(projection.shape[0], -1, heads, projection.shape[2] // heads).transpose(1, 2)


class _Attention(torch.nn.Module):
    """What both directions share.

    Parameters
    ----------
    attention : segment_anything.modeling.transformer.Attention
    folded : bool
        Whether to go through the weights on the side of the tokens.
    """

    def __init__(self, attention: Any, folded: bool) -> None:
        super().__init__()
        self.attention, self.folded = attention, folded
        self.heads: int = attention.num_heads
        self.width = attention.internal_dim // self.heads
        # SAM's scale is a power of two, so that it may as well be applied to the weights: no bit changes.
        self.scale = self.width**-0.5

    def rows(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, H, T, C) -> (B, H * T, C): one product for all heads."""
        return maps.reshape(maps.shape[0], -1, maps.shape[3])

    def per_head(self, rows: torch.Tensor) -> torch.Tensor:
        """(B, H * T, C) -> (B, H, T, C)."""
        return rows.reshape(rows.shape[0], self.heads, -1, rows.shape[2])


class _Read(_Attention):
    """Tokens look at the image.

    Parameters
    ----------
    attention, folded
        As for `_Attention`.
    position : float32 (1, N, 256), optional
        Encoding of the places; None where keys and values come projected, from the context.
    """

    position: torch.Tensor
    keys: torch.Tensor

    def __init__(self, attention: Any, position: torch.Tensor | None, folded: bool) -> None:
        super().__init__(attention, folded)
        self.queries = ToHeads(attention.q_proj, self.heads, self.scale)
        if position is None:
            return
        self.values = ToHeads(attention.v_proj, self.heads)
        weight = attention.k_proj.weight.detach().reshape(self.heads, self.width, -1)
        self.register_buffer("keys", weight)
        self.register_buffer("position", weight @ position[0].T)  # (H, w, N)

    def scores(self, queries: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Return (B, H, T, N), but for what a softmax over places takes away."""
        places = queries @ self.position
        if not self.folded:
            keys = split_heads(image @ self.attention.k_proj.weight.T, self.heads)
            return queries @ keys.transpose(2, 3) + places
        return self.per_head(self.rows(queries @ self.keys) @ image.transpose(1, 2)) + places

    def read(self, weights: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Return (B, H, T, w) of (B, H, T, N) and the image."""
        if not self.folded:
            return weights @ split_heads(self.attention.v_proj(image), self.heads)
        return self.per_head(self.rows(weights) @ image) @ self.values.weight + self.values.bias

    def out(self, seen: torch.Tensor) -> torch.Tensor:
        """(B, H, T, w) -> (B, T, 256)."""
        merged = seen.transpose(1, 2).reshape(seen.shape[0], -1, self.heads * self.width)
        projected: torch.Tensor = self.attention.out_proj(merged)
        return projected

    def forward(self, tokens: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Return what (B, T, 256) find in (B, N, 256), as (B, T, 256)."""
        return self.out(self.read(torch.softmax(self.scores(self.queries(tokens), image), dim=-1), image))


class _Write(_Attention):
    """The image looks at the tokens.

    Parameters are those of `_Read`.
    """

    position: torch.Tensor
    queries: torch.Tensor
    out: torch.Tensor
    out_bias: torch.Tensor

    def __init__(self, attention: Any, position: torch.Tensor | None, folded: bool) -> None:
        super().__init__(attention, folded)
        self.keys = ToHeads(attention.k_proj, self.heads, self.scale)
        self.values = ToHeads(attention.v_proj, self.heads)
        out = attention.out_proj.weight.detach()  # (256, H * w)
        self.register_buffer("out", out.T.reshape(self.heads, self.width, -1).contiguous())
        # The weights of a head add up to 1 at each place: so each head may bring its share of the bias.
        self.register_buffer("out_bias", attention.out_proj.bias.detach() / self.heads)
        if position is None:
            return
        weight = attention.q_proj.weight.detach().reshape(self.heads, self.width, -1)
        self.register_buffer("queries", weight)
        bias = attention.q_proj.bias.detach().reshape(self.heads, self.width, 1)
        self.register_buffer("position", weight @ position[0].T + bias)

    def scores(self, keys: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Return (B, H, T, N)."""
        places = keys @ self.position
        if not self.folded:
            queries = split_heads(image @ self.attention.q_proj.weight.T, self.heads)
            return keys @ queries.transpose(2, 3) + places
        return self.per_head(self.rows(keys @ self.queries) @ image.transpose(1, 2)) + places

    @staticmethod
    def weights(scores: torch.Tensor) -> torch.Tensor:
        """Softmax over the tokens: spelled out, as the operator is slow along so few that do not lie together."""
        weights = torch.exp(scores - scores.amax(dim=2, keepdim=True))
        return weights / weights.sum(dim=2, keepdim=True)

    def written(
        self, tokens: torch.Tensor, weights: torch.Tensor, more: tuple[torch.Tensor, torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Return what is added to the image, (B, N, 256).

        Parameters
        ----------
        tokens : float32 (B, T, 256)
        weights : float32 (B, H, T, N)
        more : float32 (B, C, N) and (C, 256), optional
            Maps with what they add, done in the same product.
        """
        values = self.values(tokens)
        if self.folded:
            maps, rows = self.rows(weights), self.rows(values @ self.out + self.out_bias)
        else:
            maps, rows = self.rows(values.transpose(2, 3) @ weights), self.out.flatten(0, 1).unsqueeze(0)
        if more is not None:
            # A batch may be that of the prompts on one side, and 1 on the other.
            rows = torch.cat([rows, more[1].expand(rows.shape[0], -1, -1)], dim=1)
            maps = torch.cat([maps, more[0]], dim=1)
        product = maps.transpose(1, 2) @ rows
        return product if self.folded else product + self.attention.out_proj.bias


class _MaskTerms(torch.nn.Module):
    """What a mask prompt adds in the first layer, whose projections of the image are prepared without it.

    A mask is embedded by a 1x1 convolution of 16 channels. A 17th channel of ones stands for what is constant, the
    embedding of "no mask" taken away with it; where there is no mask all 17 are zero. Each projection of the
    embedding is one matrix of these 17 channels, and goes to the side of the tokens.
    """

    image: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    queries: torch.Tensor

    def __init__(self, sam: Any, read: Any, write: Any) -> None:
        super().__init__()
        last = sam.prompt_encoder.mask_downscaling[-1]
        constant = last.bias - sam.prompt_encoder.no_mask_embed.weight[0]
        embed = torch.cat([last.weight.flatten(1), constant.unsqueeze(1)], dim=1).detach().double()
        heads = read.num_heads
        self.register_buffer("image", embed.T.float().contiguous())
        for name, linear in (("keys", read.k_proj), ("values", read.v_proj), ("queries", write.q_proj)):
            projected = linear.weight.detach().double() @ embed  # (H * w, 17)
            self.register_buffer(name, projected.float().reshape(heads, -1, embed.shape[1]))
        self.values = self.values.transpose(1, 2).contiguous()

    def scores(self, tokens: torch.Tensor, weight: torch.Tensor, small: torch.Tensor) -> torch.Tensor:
        """(B, H, T, w), (H, w, 17) and (B, 17, N) -> (B, H, T, N)."""
        return (tokens @ weight) @ small.unsqueeze(1)

    def read(self, weights: torch.Tensor, small: torch.Tensor) -> torch.Tensor:
        """(B, H, T, N) and (B, 17, N) -> (B, H, T, w)."""
        return (weights @ small.unsqueeze(1).transpose(2, 3)) @ self.values


class Transformer(torch.nn.Module):
    """SAM's two-way transformer on prepared context.

    Parameters
    ----------
    sam : segment_anything.modeling.Sam
        Its weights are shared where they are used as they are.
    position : float32 (1, N, 256)
        Encoding of the places.
    folded : bool
        The order of products for few tokens; False for many. The answers are equal.
    """

    def __init__(self, sam: Any, position: torch.Tensor, folded: bool) -> None:
        super().__init__()
        transformer = sam.mask_decoder.transformer
        self.first, self.second = transformer.layers
        self.norm = transformer.norm_final_attn
        read, write = self.first.cross_attn_token_to_image, self.first.cross_attn_image_to_token
        self.mask = _MaskTerms(sam, read, write)
        self.first_read, self.first_write = _Read(read, None, folded), _Write(write, None, folded)
        self.second_read = _Read(self.second.cross_attn_token_to_image, position, folded)
        self.second_write = _Write(self.second.cross_attn_image_to_token, position, folded)
        self.final_read = _Read(transformer.final_attn_token_to_image, position, folded)

    def forward(
        self,
        image_tokens: torch.Tensor,
        layer0_keys: torch.Tensor,
        layer0_values: torch.Tensor,
        layer0_queries: torch.Tensor,
        prompt: torch.Tensor,
        small: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Map the context, prompt tokens (B, T, 256) and mask maps (B, 17, N) to image and tokens of the last layer.

        Returns
        -------
        image : float32 (B, N, 256)
        tokens : float32 (B, T, 256)
        """
        first, second, mask = self.first, self.second, self.mask
        tokens = first.norm1(first.self_attn(prompt, prompt, prompt))

        queries = self.first_read.queries(tokens + prompt)
        weights = torch.softmax(queries @ layer0_keys + mask.scores(queries, mask.keys, small), dim=-1)
        seen = weights @ layer0_values + mask.read(weights, small)
        tokens = self._think(first, tokens + self.first_read.out(seen))

        keys = self.first_write.keys(tokens + prompt)
        weights = _Write.weights(keys @ layer0_queries + mask.scores(keys, mask.queries, small))
        image = first.norm4(image_tokens + self.first_write.written(tokens, weights, (small, mask.image)))

        told = tokens + prompt
        tokens = second.norm1(tokens + second.self_attn(told, told, tokens))
        tokens = self._think(second, tokens + self.second_read(tokens + prompt, image))

        second_write = self.second_write
        weights = _Write.weights(second_write.scores(second_write.keys(tokens + prompt), image))
        image = second.norm4(image + second_write.written(tokens, weights))
        return image, self.norm(tokens + self.final_read(tokens + prompt, image))

    @staticmethod
    def _think(layer: Any, tokens: torch.Tensor) -> torch.Tensor:
        tokens = layer.norm2(tokens)
        thought: torch.Tensor = layer.norm3(tokens + layer.mlp(tokens))
        return thought
