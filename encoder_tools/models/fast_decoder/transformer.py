"""SAM's two-way transformer with as few operations over the image as possible, since it runs for every click.

In it, T tokens (about 7 to 12) and N image places (64 x 64, or 72 x 72 of SAM 3) attend to each other five times,
through H = 8 heads of 16 channels. Most of the work is projecting the image to 128 channels and back, six times. But a
product of three matrices can be computed from either end. With few tokens it is cheaper to multiply the tokens by the
weights first, and then by the image as it is. For a head with the weights W_q, W_k, W_v, W_o:

- scores of tokens over places: ``(t W_q) (x W_k)^T = (t W_q W_k^T) x^T``;
- values that tokens get from places: ``p (x W_v) = (p x) W_v``;
- values that places get from tokens: ``p^T (t W_v) W_o = p^T (t W_v W_o)``.

Positional encodings are added before a projection. In the second layer both directions take the same sum, which is
computed once. For the last attention, which would need another sum, the constant projection of the encodings is added
to the scores, which moves less memory. Key biases add the same to all scores of a token and cancel in the softmax.
Prompt tokens skip the last attention, whose output SAM does not use for them. All of this is exact. From about 18
tokens on the usual order is cheaper again, and most prompts have no mask. There is a variant for each case, and the
exported graph chooses (see `models.export`).

Tensors over tokens and places are kept as (B, H, T, N), places last, which suits both softmaxes.
"""

from __future__ import annotations

from typing import Any

from ..libraries import torch

__all__ = ["FEW_TOKENS", "FinalAttention", "Transformer", "split_heads"]

_CHANNELS = 256

FEW_TOKENS = 18
"""Largest number of tokens for which the folded order is cheaper: two tokens cost as much as a channel of a head."""


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


def split_heads(projection: torch.Tensor, heads: int, width: int) -> torch.Tensor:
    """(B, L, H * w) -> (B, H, L, w)."""
    return projection.reshape(projection.shape[0], -1, heads, width).transpose(1, 2)


def _merged(seen: torch.Tensor, inner: int) -> torch.Tensor:
    """(B, H, T, w) -> (B, T, H * w)."""
    seen = seen.transpose(1, 2)
    return seen.reshape(seen.shape[0], -1, inner)


def _rows(maps: torch.Tensor, width: int) -> torch.Tensor:
    """(B, H, T, C) -> (B, H * T, C): one product for all heads."""
    return maps.reshape(maps.shape[0], -1, width)


class _SelfAttention(torch.nn.Module):
    """Self-attention of the tokens.

    Projections of one input share a product: with so few tokens, starting a product takes longer than computing it.

    Parameters
    ----------
    attention : segment_anything.modeling.transformer.Attention
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.heads: int = attention.num_heads
        self.inner: int = attention.internal_dim
        scale = (self.inner // self.heads) ** -0.5
        queries, keys, self.values, self.out = (
            attention.q_proj,
            attention.k_proj,
            attention.v_proj,
            attention.out_proj,
        )
        weight = torch.cat([queries.weight * scale, keys.weight, self.values.weight]).detach()
        self.register_buffer("weight", weight.T.contiguous())
        self.register_buffer("bias", torch.cat([queries.bias * scale, keys.bias, self.values.bias]).detach())

    def _split(self, projection: torch.Tensor, kinds: int) -> torch.Tensor:
        return split_heads(projection, kinds * self.heads, self.inner // self.heads)

    def forward(self, tokens: torch.Tensor, values: torch.Tensor | None = None) -> torch.Tensor:
        """Map tokens (B, T, 256) to the same shape, with the values from other tokens if given."""
        kinds = 2 if values is not None else 3
        both = self._split(tokens @ self.weight[:, : kinds * self.inner] + self.bias[: kinds * self.inner], kinds)
        queries, keys = both[:, : self.heads], both[:, self.heads : 2 * self.heads]
        seen = both[:, 2 * self.heads :] if values is None else self._split(self.values(values), 1)
        weights = torch.softmax(queries @ keys.transpose(2, 3), dim=-1)
        result: torch.Tensor = self.out(_merged(weights @ seen, self.inner))
        return result


class _Attention(torch.nn.Module):
    """What the attentions in both directions between tokens and image share.

    Parameters
    ----------
    attention : segment_anything.modeling.transformer.Attention
    folded : bool
        Whether to multiply the tokens by the weights, and not the image.
    places : int
        N.
    """

    def __init__(self, attention: Any, folded: bool, places: int) -> None:
        super().__init__()
        self.attention, self.folded, self.places = attention, folded, places
        self.heads: int = attention.num_heads
        self.inner: int = attention.internal_dim
        self.width = self.inner // self.heads
        # SAM's scale is a power of two, so applying it to the weights changes no bit.
        self.scale = self.width**-0.5

    def per_head(self, rows: torch.Tensor, width: int) -> torch.Tensor:
        """(B, H * T, C) -> (B, H, T, C)."""
        return rows.reshape(rows.shape[0], self.heads, -1, width)

    def dot_products(self, folded: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """(B, H, T, 256) and (B, N, 256) -> (B, H, T, N)."""
        return self.per_head(_rows(folded, _CHANNELS) @ image.transpose(1, 2), self.places)


class _TokenToImage(_Attention):
    """Attention of tokens to the image; parameters as in `_Attention`."""

    keys: torch.Tensor

    def __init__(self, attention: Any, folded: bool, places: int) -> None:
        super().__init__(attention, folded, places)
        self.queries = ToHeads(attention.q_proj, self.heads, self.scale)
        self.values = ToHeads(attention.v_proj, self.heads)
        self.register_buffer("keys", attention.k_proj.weight.detach().reshape(self.heads, self.width, -1))

    def scores(self, queries: torch.Tensor, placed: torch.Tensor) -> torch.Tensor:
        """Map (B, H, T, w) and (B, N, 256) to scores (B, H, T, N), up to constants that cancel in the softmax."""
        if self.folded:
            return self.dot_products(queries @ self.keys, placed)
        keys = split_heads(placed @ self.attention.k_proj.weight.T, self.heads, self.width)
        return queries @ keys.transpose(2, 3)

    def weighted_values(self, weights: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Map attention weights (B, H, T, N) and the image to the values (B, H, T, w) that the tokens get."""
        if not self.folded:
            return weights @ split_heads(self.attention.v_proj(image), self.heads, self.width)
        seen = self.per_head(_rows(weights, self.places) @ image, _CHANNELS)
        return seen @ self.values.weight + self.values.bias

    def out(self, seen: torch.Tensor) -> torch.Tensor:
        """(B, H, T, w) -> (B, T, 256)."""
        projected: torch.Tensor = self.attention.out_proj(_merged(seen, self.inner))
        return projected


class _ImageToToken(_Attention):
    """Attention of the image to the tokens; parameters as in `_Attention`."""

    queries: torch.Tensor
    query_bias: torch.Tensor
    rows_out: torch.Tensor
    out_bias: torch.Tensor

    def __init__(self, attention: Any, folded: bool, places: int) -> None:
        super().__init__(attention, folded, places)
        self.keys = ToHeads(attention.k_proj, self.heads, self.scale)
        self.values = ToHeads(attention.v_proj, self.heads)
        out = attention.out_proj.weight.detach()  # (256, H * w)
        self.register_buffer("rows_out", out.T.reshape(self.heads, self.width, -1).contiguous())
        # The weights of a head add up to 1 at each place, so each head can add its share of the bias.
        self.register_buffer("out_bias", attention.out_proj.bias.detach() / self.heads)
        self.register_buffer("queries", attention.q_proj.weight.detach().reshape(self.heads, self.width, -1))
        self.register_buffer("query_bias", attention.q_proj.bias.detach().reshape(self.heads, self.width, 1))

    def scores(self, keys: torch.Tensor, placed: torch.Tensor) -> torch.Tensor:
        """Map (B, H, T, w) and (B, N, 256) to (B, H, T, N)."""
        if self.folded:
            return self.dot_products(keys @ self.queries, placed) + keys @ self.query_bias
        queries = split_heads(self.attention.q_proj(placed), self.heads, self.width)
        return keys @ queries.transpose(2, 3)

    @staticmethod
    def weights(scores: torch.Tensor) -> torch.Tensor:
        """Return the softmax over the tokens, written out because the operator is slow along a short, strided axis."""
        weights = torch.exp(scores - scores.amax(dim=2, keepdim=True))
        return weights / weights.sum(dim=2, keepdim=True)

    def update(
        self, tokens: torch.Tensor, weights: torch.Tensor, more: tuple[torch.Tensor, torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Return what the attention adds to the image, (B, N, 256).

        Parameters
        ----------
        tokens : float32 (B, T, 256)
        weights : float32 (B, H, T, N)
        more : float32 (B, C, N) and (C, 256), optional
            Maps and their weights, added in the same product.
        """
        values = self.values(tokens)
        if self.folded:
            maps = _rows(weights, self.places)
            rows = _rows(values @ self.rows_out + self.out_bias, _CHANNELS)
        else:
            maps = _rows(values.transpose(2, 3) @ weights, self.places)
            rows = self.rows_out.flatten(0, 1).unsqueeze(0)
        if more is not None:
            # The batch may be that of the prompts on one side, and 1 on the other.
            rows = torch.cat([rows, more[1].expand(rows.shape[0], -1, -1)], dim=1)
            maps = torch.cat([maps, more[0]], dim=1)
        product = maps.transpose(1, 2) @ rows
        return product if self.folded else product + self.attention.out_proj.bias


class _MaskTerms(torch.nn.Module):
    """The part of a mask prompt in the first layer, whose projections of the image are prepared without it.

    A mask is embedded by a 1x1 convolution of 16 channels. A 17th channel of ones carries the constant part, minus the
    embedding of "no mask". Without a mask all 17 channels are zero. Each projection of the embedding is a matrix of
    these 17 channels, which is multiplied by the tokens first.
    """

    image: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    queries: torch.Tensor

    def __init__(self, sam: Any) -> None:
        super().__init__()
        layer = sam.mask_decoder.transformer.layers[0]
        to_image, to_token = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
        last = sam.prompt_encoder.mask_downscaling[-1]
        constant = last.bias - sam.prompt_encoder.no_mask_embed.weight[0]
        embed = torch.cat([last.weight.flatten(1), constant.unsqueeze(1)], dim=1).detach().double()
        heads = to_image.num_heads
        self.register_buffer("image", embed.T.float().contiguous())
        for name, linear in (("keys", to_image.k_proj), ("values", to_image.v_proj), ("queries", to_token.q_proj)):
            projected = linear.weight.detach().double() @ embed  # (H * w, 17)
            self.register_buffer(name, projected.float().reshape(heads, -1, embed.shape[1]))
        self.values = self.values.transpose(1, 2).contiguous()

    def scores(self, tokens: torch.Tensor, weight: torch.Tensor, small: torch.Tensor) -> torch.Tensor:
        """(B, H, T, w), (H, w, 17) and (B, 17, N) -> (B, H, T, N)."""
        return (tokens @ weight) @ small.unsqueeze(1)

    def weighted_values(self, weights: torch.Tensor, small: torch.Tensor) -> torch.Tensor:
        """(B, H, T, N) and (B, 17, N) -> (B, H, T, w)."""
        return (weights @ small.unsqueeze(1).transpose(2, 3)) @ self.values


class Transformer(torch.nn.Module):
    """SAM's two-way transformer on prepared context, without the last attention to the image (see `FinalAttention`).

    Parameters
    ----------
    sam : segment_anything.modeling.Sam
        Its weights are shared where they are used unchanged.
    position : float32 (1, N, 256)
        Positional encoding.
    folded : bool
        Whether to use the order of products for few tokens; the answers are equal.
    is_masked : bool
        Whether to accept a mask prompt.
    """

    position: torch.Tensor

    def __init__(self, sam: Any, position: torch.Tensor, folded: bool, is_masked: bool) -> None:
        super().__init__()
        transformer = sam.mask_decoder.transformer
        self.first, self.second = transformer.layers
        self.outputs: int = 1 + sam.mask_decoder.num_mask_tokens
        self.mask = _MaskTerms(sam) if is_masked else None
        self.first_self_attention = _SelfAttention(self.first.self_attn)
        self.second_self_attention = _SelfAttention(self.second.self_attn)
        places = position.shape[1]
        self.first_token_to_image = _TokenToImage(self.first.cross_attn_token_to_image, folded, places)
        self.first_image_to_token = _ImageToToken(self.first.cross_attn_image_to_token, folded, places)
        self.second_token_to_image = _TokenToImage(self.second.cross_attn_token_to_image, folded, places)
        self.second_image_to_token = _ImageToToken(self.second.cross_attn_image_to_token, folded, places)
        self.register_buffer("position", position)

    def forward(
        self,
        image_tokens: torch.Tensor,
        layer0_keys: torch.Tensor,
        layer0_values: torch.Tensor,
        layer0_queries: torch.Tensor,
        prompt: torch.Tensor,
        small: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Map the context, prompt tokens (B, T, 256) and mask maps (B, 17, N) to image and tokens.

        Returns
        -------
        places : float32 (B * N, 256)
        tokens : float32 (B, 5, 256)
            The output tokens.
        """
        first, second, mask = self.first, self.second, self.mask
        tokens = first.norm1(self.first_self_attention(prompt))

        queries = self.first_token_to_image.queries(tokens + prompt)
        scores = queries @ layer0_keys
        if mask is not None and small is not None:
            scores = scores + mask.scores(queries, mask.keys, small)
        weights = torch.softmax(scores, dim=-1)
        seen = weights @ layer0_values
        if mask is not None and small is not None:
            seen = seen + mask.weighted_values(weights, small)
        tokens = self._feed_forward(first, tokens + self.first_token_to_image.out(seen))

        keys = self.first_image_to_token.keys(tokens + prompt)
        scores = keys @ layer0_queries
        more = None
        if mask is not None and small is not None:
            scores, more = scores + mask.scores(keys, mask.queries, small), (small, mask.image)
        update = self.first_image_to_token.update(tokens, _ImageToToken.weights(scores), more)
        image = first.norm4(image_tokens + update)

        tokens = second.norm1(tokens + self.second_self_attention(tokens + prompt, tokens))
        placed = image + self.position
        to_image, to_token = self.second_token_to_image, self.second_image_to_token
        weights = torch.softmax(to_image.scores(to_image.queries(tokens + prompt), placed), dim=-1)
        tokens = self._feed_forward(second, tokens + to_image.out(to_image.weighted_values(weights, image)))

        weights = _ImageToToken.weights(to_token.scores(to_token.keys(tokens + prompt), placed))
        # The view between sum and norm prevents their fusion by onnxruntime, which is ten times slower.
        places = second.norm4((image + to_token.update(tokens, weights)).flatten(0, 1))
        # The prompt tokens are not needed any more.
        return places, tokens[:, : self.outputs]

    @staticmethod
    def _feed_forward(layer: Any, tokens: torch.Tensor) -> torch.Tensor:
        tokens = layer.norm2(tokens)
        result: torch.Tensor = layer.norm3(tokens + layer.mlp(tokens))
        return result


class FinalAttention(torch.nn.Module):
    """The last attention of tokens to the image, computed for the tokens that are needed only.

    Parameters
    ----------
    sam : segment_anything.modeling.Sam
    position : float32 (1, N, 256)
        Positional encoding.
    """

    position: torch.Tensor

    def __init__(self, sam: Any, position: torch.Tensor) -> None:
        super().__init__()
        transformer = sam.mask_decoder.transformer
        # These tokens are always few.
        self.to_image = _TokenToImage(transformer.final_attn_token_to_image, True, position.shape[1])
        self.register_buffer("position", self.to_image.keys @ position[0].T)  # (H, w, N)
        self.norm = transformer.norm_final_attn

    def forward(self, places: torch.Tensor, tokens: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
        """Map places (B * N, 256), tokens (B, K, 256) and their prompt tokens (B, K, 256) to tokens (B, K, 256)."""
        image = places.reshape(-1, self.to_image.places, _CHANNELS)
        queries = self.to_image.queries(tokens + prompt)
        weights = torch.softmax(self.to_image.scores(queries, image) + queries @ self.position, dim=-1)
        result: torch.Tensor = self.norm(tokens + self.to_image.out(self.to_image.weighted_values(weights, image)))
        return result
