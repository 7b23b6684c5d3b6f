"""SAM's prompt encoder and mask decoder as two networks: what the prompt does not touch, and the rest.

`Prepare` runs once when a tile becomes active, `Decode` at every prompt; together they compute what
segment_anything's `PromptEncoder` and `MaskDecoder` do, from the same weights. The image is a sequence of
64 x 64 = 4096 tokens all along.

Where the cut goes: the first layer's projections of the image (keys, values, queries) do not depend on the
prompt unless there is a mask prompt. That one adds to the image an embedding made by a 1x1 convolution of 16
channels, and a projection of a 1x1 convolution is one itself: so it is added to the projections as well, in
place of projecting the sum.
"""

from __future__ import annotations

import math
from typing import Any

from encoder_tools.sam.libraries import torch

__all__ = ["CONTEXT_NAMES", "Decode", "Prepare"]

CONTEXT_NAMES = ("image_tokens", "layer0_keys", "layer0_values", "layer0_queries")
"""Tensors that `Prepare` gives and `Decode` takes: float32 (1, 4096, 256) and three of (1, 4096, 128)."""

_SIDE = 64
_TOKENS = _SIDE * _SIDE
_PROMPT_KINDS = (-1, 0, 1, 2, 3)


def _tokens(maps: torch.Tensor) -> torch.Tensor:
    """(B, C, 64, 64) -> (B, 4096, C)."""
    return maps.flatten(2).transpose(1, 2)


def _attend(attention: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Apply one of SAM's attentions to inputs that were projected already; a batch of 1 goes with any."""
    width = attention.internal_dim // attention.num_heads
    heads = (x.reshape(x.shape[0], -1, attention.num_heads, width).transpose(1, 2) for x in (q, k, v))
    q, k, v = heads  # each (B, heads, T, width)
    weights = torch.softmax(q * width**-0.5 @ k.transpose(2, 3), dim=-1)
    merged = (weights @ v).transpose(1, 2)
    out: torch.Tensor = attention.out_proj(merged.reshape(merged.shape[0], -1, attention.internal_dim))
    return out


class Prepare(torch.nn.Module):
    """Features of one tile to the context that `Decode` reads.

    Parameters
    ----------
    sam : segment_anything.modeling.Sam
        Its weights are shared, not copied.
    """

    position: torch.Tensor
    no_mask: torch.Tensor

    def __init__(self, sam: Any) -> None:
        super().__init__()
        layer = sam.mask_decoder.transformer.layers[0]
        self.read = layer.cross_attn_token_to_image
        self.write = layer.cross_attn_image_to_token
        self.register_buffer("position", _tokens(sam.prompt_encoder.get_dense_pe()).detach())
        self.register_buffer("no_mask", sam.prompt_encoder.no_mask_embed.weight.detach())

    def forward(self, image_embeddings: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Map float32 (1, 256, 64, 64) to the tensors of `CONTEXT_NAMES`."""
        image = _tokens(image_embeddings) + self.no_mask
        placed = image + self.position
        return image, self.read.k_proj(placed), self.read.v_proj(image), self.write.q_proj(placed)


class _MaskPrompt(torch.nn.Module):
    """Mask prompt to what it adds to the tensors of the context.

    The context stands for "no mask", so a mask adds the difference between its embedding and that one's. A
    17th channel of ones carries the constant part, and where there is no mask all 17 are zero.
    """

    def __init__(self, sam: Any) -> None:
        super().__init__()
        layer = sam.mask_decoder.transformer.layers[0]
        *shrink, last = sam.prompt_encoder.mask_downscaling
        self.shrink = torch.nn.Sequential(*shrink)
        constant = last.bias - sam.prompt_encoder.no_mask_embed.weight[0]
        embed = torch.cat([last.weight.flatten(1), constant.unsqueeze(1)], dim=1).detach().double()
        projections = (
            torch.eye(last.out_channels),
            layer.cross_attn_token_to_image.k_proj.weight,
            layer.cross_attn_token_to_image.v_proj.weight,
            layer.cross_attn_image_to_token.q_proj.weight,
        )
        self.expand = torch.nn.ParameterList(
            (projection.detach().double() @ embed).float().T.contiguous() for projection in projections
        )

    def forward(self, mask_input: torch.Tensor, has_mask_input: torch.Tensor) -> tuple[torch.Tensor, ...]:
        small = self.shrink(mask_input)
        small = torch.cat([small, torch.ones_like(small[:, :1])], dim=1)
        small = _tokens(small * has_mask_input.reshape(-1, 1, 1, 1))
        return tuple(small @ weight for weight in self.expand)


class _PointPrompt(torch.nn.Module):
    """Points and box corners to tokens."""

    size: torch.Tensor
    frequencies: torch.Tensor
    kinds: torch.Tensor
    embeddings: torch.Tensor

    def __init__(self, sam: Any) -> None:
        super().__init__()
        prompt_encoder = sam.prompt_encoder
        height, width = prompt_encoder.input_image_size
        # SAM scales pixels to -1..1, then multiplies by its random frequencies and 2 pi.
        self.register_buffer("size", torch.tensor([width, height], dtype=torch.float32))
        self.register_buffer("frequencies", prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.detach())
        kinds = [prompt_encoder.not_a_point_embed, *prompt_encoder.point_embeddings]
        self.register_buffer("kinds", torch.tensor(_PROMPT_KINDS, dtype=torch.float32))
        self.register_buffer("embeddings", torch.cat([kind.weight for kind in kinds]).detach())

    def forward(self, point_coords: torch.Tensor, point_labels: torch.Tensor) -> torch.Tensor:
        labels = point_labels.unsqueeze(2)
        centres = (point_coords + 0.5) / self.size * 2 - 1
        angles = 2 * math.pi * (centres @ self.frequencies)
        place = torch.cat([torch.sin(angles), torch.cos(angles)], dim=2)
        is_padding, is_kind = torch.eq(labels, -1), torch.eq(labels, self.kinds)
        return torch.where(is_padding, 0.0, place) + is_kind.float() @ self.embeddings


class _Upscale(torch.nn.Module):
    """Image tokens to masks: SAM's two transposed convolutions and the product with its mask tokens.

    Their kernels are as wide as their strides, so each output pixel comes from one input token: they are
    plain matrix products with 2 x 2 results per token, and the pixels are put in order only at the end, in
    the four masks, where they are fewest.
    """

    activation: Any

    def __init__(self, sam: Any) -> None:
        super().__init__()
        first, norm, self.activation, second, _ = sam.mask_decoder.output_upscaling
        self.first = self._as_linear(first)
        self.second = self._as_linear(second)
        self.norm = torch.nn.LayerNorm(first.out_channels, eps=norm.eps)
        self.norm.weight, self.norm.bias = norm.weight, norm.bias
        self.widths = (first.out_channels, second.out_channels)
        self.count = sam.mask_decoder.num_mask_tokens

    @staticmethod
    def _as_linear(convolution: Any) -> torch.nn.Linear:
        weight, bias = convolution.weight.detach(), convolution.bias.detach()  # weight: (in, out, 2, 2)
        linear = torch.nn.Linear(weight.shape[0], 4 * weight.shape[1])
        with torch.no_grad():
            linear.weight.copy_(weight.permute(2, 3, 1, 0).flatten(0, 2))
            linear.bias.copy_(bias.repeat(4))
        return linear

    def forward(self, image: torch.Tensor, hyper: torch.Tensor) -> torch.Tensor:
        """Map (B, 4096, 256) and (B, K, 32) to (B, K, 256, 256)."""
        x: torch.Tensor = self.first(image).reshape(-1, 4 * _TOKENS, self.widths[0])
        x = self.activation(self.second(self.activation(self.norm(x))))
        x = x.reshape(-1, 16 * _TOKENS, self.widths[1]) @ hyper.transpose(1, 2)
        # Per token: y and x of the first product's 2 x 2, then of the second's.
        x = x.reshape(-1, _SIDE, _SIDE, 2, 2, 2, 2, self.count)
        return x.permute(0, 7, 1, 3, 5, 2, 4, 6).reshape(-1, self.count, 4 * _SIDE, 4 * _SIDE)


class Decode(torch.nn.Module):
    """Context and prompts to masks and scores.

    Parameters
    ----------
    sam : segment_anything.modeling.Sam
        Its weights are shared where they are used as they are.
    """

    outputs: torch.Tensor
    position: torch.Tensor
    transformer: Any

    def __init__(self, sam: Any) -> None:
        super().__init__()
        decoder = sam.mask_decoder
        self.points = _PointPrompt(sam)
        self.mask = _MaskPrompt(sam)
        self.upscale = _Upscale(sam)
        self.transformer = decoder.transformer
        self.hypernetworks = decoder.output_hypernetworks_mlps
        self.score = decoder.iou_prediction_head
        outputs = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        self.register_buffer("outputs", outputs.detach().unsqueeze(0))
        self.register_buffer("position", _tokens(sam.prompt_encoder.get_dense_pe()).detach())

    def forward(
        self,
        image_tokens: torch.Tensor,
        layer0_keys: torch.Tensor,
        layer0_values: torch.Tensor,
        layer0_queries: torch.Tensor,
        point_coords: torch.Tensor,
        point_labels: torch.Tensor,
        mask_input: torch.Tensor,
        has_mask_input: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Answer prompts on one tile.

        Parameters
        ----------
        image_tokens, layer0_keys, layer0_values, layer0_queries : float32 (1, 4096, C)
            The context, from `Prepare`.
        point_coords : float32 (B, N, 2)
            X, Y in pixels of the 1024 x 1024 tile.
        point_labels : float32 (B, N)
            1 and 0 for positive and negative points, 2 and 3 for a box's corners, -1 for padding. As SAM was
            trained, a prompt without box ends with a padding point.
        mask_input : float32 (B, 1, 256, 256)
            Logits of an earlier answer.
        has_mask_input : float32 (1,) or (B,)
            1 where ``mask_input`` counts, 0 where not.

        Returns
        -------
        low_res_masks : float32 (B, 4, 256, 256)
            Logits; mask 0 is the single-mask token's, 1 to 3 the three candidates.
        iou_predictions : float32 (B, 4)
            Predicted IoU of each.
        """
        prompt = self.points(point_coords, point_labels)
        prompt = torch.cat([self.outputs.expand(prompt.shape[0], -1, -1), prompt], dim=1)
        added = self.mask(mask_input, has_mask_input)
        context = (image_tokens, layer0_keys, layer0_values, layer0_queries)
        image, keys, values, image_queries = (x + more for x, more in zip(context, added))

        first, second = self.transformer.layers
        tokens = first.norm1(first.self_attn(prompt, prompt, prompt))
        tokens = self._read(first, tokens, prompt, keys, values)
        image = self._write(first, image, image_queries, tokens, prompt)

        placed = image + self.position
        read, write, final = (
            second.cross_attn_token_to_image,
            second.cross_attn_image_to_token,
            self.transformer.final_attn_token_to_image,
        )
        told = tokens + prompt
        tokens = second.norm1(tokens + second.self_attn(told, told, tokens))
        tokens = self._read(second, tokens, prompt, read.k_proj(placed), read.v_proj(image))
        image = self._write(second, image, write.q_proj(placed), tokens, prompt)

        answer = final(tokens + prompt, image + self.position, image)
        tokens = self.transformer.norm_final_attn(tokens + answer)
        hyper = torch.stack([mlp(tokens[:, 1 + i]) for i, mlp in enumerate(self.hypernetworks)], dim=1)
        return self.upscale(image, hyper), self.score(tokens[:, 0])

    @staticmethod
    def _read(
        layer: Any, tokens: torch.Tensor, prompt: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        """Let the tokens look at the image, and think about it."""
        attention = layer.cross_attn_token_to_image
        tokens = layer.norm2(tokens + _attend(attention, attention.q_proj(tokens + prompt), keys, values))
        thought: torch.Tensor = layer.norm3(tokens + layer.mlp(tokens))
        return thought

    @staticmethod
    def _write(
        layer: Any, image: torch.Tensor, queries: torch.Tensor, tokens: torch.Tensor, prompt: torch.Tensor
    ) -> torch.Tensor:
        """Let the image look at the tokens."""
        attention = layer.cross_attn_image_to_token
        keys, values = attention.k_proj(tokens + prompt), attention.v_proj(tokens)
        written: torch.Tensor = layer.norm4(image + _attend(attention, queries, keys, values))
        return written
