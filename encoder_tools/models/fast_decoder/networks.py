"""Prompt encoder and mask decoder of SAM and SAM 2 as two networks, split at what depends on the prompt.

`Prepare` runs once when a tile becomes active, `Decode` for every prompt. Together they compute the same as
segment_anything's `PromptEncoder` and `MaskDecoder`, from the same weights. The image is a sequence of 64 x 64 = 4096
tokens throughout; that of SAM 3 has 72 x 72, and its masks are resized to 288 x 288 and back.

SAM 2 has the same decoder with these additions. Attributes of its ``mask_decoder`` and ``prompt_encoder`` tell of them:

- ``obj_score_token``: one more token, which nothing reads;
- ``has_fine_maps``: finer maps of the image are added while upscaling, see `upscaling.arranged`;
- ``stability``, (delta, least): the best of the three candidates replaces an unstable single mask, see `stable`;
- ``is_always_padded``: prompts with a box have a padding point too, which is added here.

`Prepare` computes the first layer's projections of the image (keys, values, queries). Only a mask prompt changes them;
`Decode` adds its part to their products.
"""

from __future__ import annotations

import math
from typing import Any

from geosam_es.core.prompts import PADDING_LABEL

from ..libraries import torch
from .transformer import FEW_TOKENS, FinalAttention, Transformer, split_heads
from .upscaling import Shown, Upscale, arranged

__all__ = ["CONTEXT_NAMES", "Decode", "Prepare"]

CONTEXT_NAMES = ("image_tokens", "layer0_keys", "layer0_values", "layer0_queries")
"""Tensors from `Prepare` to `Decode`: float32 (1, 4096, 256), (1, 8, 16, 4096), (1, 8, 4096, 16) and
(1, 8, 16, 4096)."""

FINE_NAMES = tuple(f"addends_{index}" for index in range(6))
"""Further ones of SAM 2, two float32 (1, 4096, 128) and four (1, 8192, 64), see `arranged`."""

MASK_SIDE = 256
"""Height and width of masks in and out."""

_PROMPT_KINDS = (-1, 0, 1, 2, 3)
_OUTPUTS = 5
"""Tokens of the answer: one for the scores, and one for each mask."""


def _tokens(maps: torch.Tensor) -> torch.Tensor:
    """(B, C, 64, 64) -> (B, 4096, C)."""
    return maps.flatten(2).transpose(1, 2)


class Prepare(torch.nn.Module):
    """Maps the features of one tile to the context of `Decode`.

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
        self.to_image = layer.cross_attn_token_to_image
        self.to_token = layer.cross_attn_image_to_token
        self.register_buffer("position", _tokens(sam.prompt_encoder.get_dense_pe()).detach())
        self.register_buffer("no_mask", sam.prompt_encoder.no_mask_embed.weight.detach())
        has_fine_maps = getattr(sam.mask_decoder, "has_fine_maps", False)
        self.convolutions = torch.nn.ModuleList(sam.mask_decoder.output_upscaling[::3] if has_fine_maps else [])
        self.context_names = CONTEXT_NAMES + (FINE_NAMES if has_fine_maps else ())

    def forward(self, image_embeddings: torch.Tensor, *fine: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Map float32 (1, 256, 64, 64), and of SAM 2 (1, 64, 128, 128) and (1, 32, 256, 256), to the context."""
        image = _tokens(image_embeddings) + self.no_mask
        placed = image + self.position
        heads = self.to_image.num_heads
        projected = self.to_image.k_proj(placed), self.to_image.v_proj(image), self.to_token.q_proj(placed)
        keys, values, queries = (split_heads(one, heads, self.to_image.internal_dim // heads) for one in projected)
        addends = (one for each in zip(self.convolutions, fine, (1, 2)) for one in arranged(*each))
        return image, keys.transpose(2, 3), values, queries.transpose(2, 3), *addends


def _resized(masks: torch.Tensor, side: int) -> torch.Tensor:
    """Return masks (B, K, h, w) with another number of rows and columns."""
    if masks.shape[2] == side:
        return masks
    return torch.nn.functional.interpolate(masks, size=(side, side), mode="bilinear", align_corners=False)


class MaskPrompt(torch.nn.Module):
    """Mask prompt to the 17 maps that `transformer` takes, zero without a mask.

    Parameters
    ----------
    sam : segment_anything.modeling.Sam
    """

    def __init__(self, sam: Any) -> None:
        super().__init__()
        *shrink, _ = sam.prompt_encoder.mask_downscaling
        self.shrink = torch.nn.Sequential(*shrink)
        self.side = 4 * sam.prompt_encoder.get_dense_pe().shape[2]

    def forward(self, mask_input: torch.Tensor, has_mask_input: torch.Tensor) -> torch.Tensor:
        """Map (B, 1, 256, 256) and (1,) or (B,) to (B, 17, 4096)."""
        small = self.shrink(_resized(mask_input, self.side))
        small = torch.cat([small, torch.ones_like(small[:, :1])], dim=1)
        return (small * has_mask_input.reshape(-1, 1, 1, 1)).flatten(2)


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
        # SAM scales pixels to -1..1 and multiplies them by its random frequencies and 2 pi.
        self.register_buffer("size", torch.tensor([width, height], dtype=torch.float32))
        self.register_buffer("frequencies", prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.detach())
        kinds = [prompt_encoder.not_a_point_embed, *prompt_encoder.point_embeddings]
        self.register_buffer("kinds", torch.tensor(_PROMPT_KINDS, dtype=torch.float32))
        self.register_buffer("embeddings", torch.cat([kind.weight for kind in kinds]).detach())
        self.is_always_padded = getattr(prompt_encoder, "is_always_padded", False)

    def forward(self, point_coords: torch.Tensor, point_labels: torch.Tensor) -> torch.Tensor:
        if self.is_always_padded:
            missing = 1 - torch.eq(point_labels[0], PADDING_LABEL).any().long()
            padding = torch.zeros_like(point_coords[:, :1])[:, :missing]
            point_coords = torch.cat([point_coords, padding], dim=1)
            point_labels = torch.cat([point_labels, padding[:, :, 0] + PADDING_LABEL], dim=1)
        labels = point_labels.unsqueeze(2)
        centres = (point_coords + 0.5) / self.size * 2 - 1
        angles = 2 * math.pi * (centres @ self.frequencies)
        place = torch.cat([torch.sin(angles), torch.cos(angles)], dim=2)
        is_padding, is_kind = torch.eq(labels, PADDING_LABEL), torch.eq(labels, self.kinds)
        return torch.where(is_padding, 0.0, place) + is_kind.float() @ self.embeddings


class _Perceptrons(torch.nn.Module):
    """Perceptrons of the same shape, one for each token, computed together."""

    def __init__(self, perceptrons: Any) -> None:
        super().__init__()
        layers = list(zip(*(perceptron.layers for perceptron in perceptrons)))
        self.weights = torch.nn.ParameterList(torch.stack([one.weight.T for one in layer]).detach() for layer in layers)
        self.biases = torch.nn.ParameterList(
            torch.stack([one.bias for one in layer]).unsqueeze(1).detach() for layer in layers
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map (B, K, 256) to (B, K, C)."""
        x = tokens.transpose(0, 1)
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            x = (torch.relu(x) if index else x) @ weight + bias
        return x.transpose(0, 1)


class PromptTokens(torch.nn.Module):
    """Points and boxes to tokens: SAM's prompt encoder, and its decoder's output tokens.

    Parameters
    ----------
    sam : segment_anything.modeling.Sam
        Its weights are shared where they are used unchanged, here and in all modules below.
    """

    outputs: torch.Tensor

    def __init__(self, sam: Any) -> None:
        super().__init__()
        self.points = _PointPrompt(sam)
        decoder = sam.mask_decoder
        own = (decoder.iou_token, decoder.mask_tokens, getattr(decoder, "obj_score_token", None))
        # The tokens that are read come first: their order has no effect.
        outputs = torch.cat([token.weight for token in own if token is not None])
        self.register_buffer("outputs", outputs.detach().unsqueeze(0))

    def forward(self, point_coords: torch.Tensor, point_labels: torch.Tensor) -> torch.Tensor:
        """Return tokens (B, 5 + N, 256), of SAM 2 up to two more; for the parameters see `Decode`."""
        prompt = self.points(point_coords, point_labels)
        return torch.cat([self.outputs.expand(prompt.shape[0], -1, -1), prompt], dim=1)


class OutputHeads(torch.nn.Module):
    """The last attention of the output tokens to the image, then their masks and scores.

    Parameters
    ----------
    sam : segment_anything.modeling.Sam
    position : float32 (1, 4096, 256)
        Positional encoding.
    """

    def __init__(self, sam: Any, position: torch.Tensor) -> None:
        super().__init__()
        self.attention = FinalAttention(sam, position)
        self.hyper = _Perceptrons(sam.mask_decoder.output_hypernetworks_mlps)
        self.score = sam.mask_decoder.iou_prediction_head

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (B, 5, 256) to a vector for each mask, (B, 4, 32), and its score, (B, 4)."""
        return self.hyper(tokens[:, 1:]), self.score(tokens[:, 0])


class AllMasks(torch.nn.Module):
    """The output of the transformer to masks and scores.

    Parameters
    ----------
    sam : segment_anything.modeling.Sam
    heads : OutputHeads
    side : int
        Places along each side of the image.
    """

    def __init__(self, sam: Any, heads: OutputHeads, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.upscale = Upscale(sam.mask_decoder, side)
        self.stability: tuple[float, float] | None = getattr(sam.mask_decoder, "stability", None)

    def forward(
        self, places: torch.Tensor, tokens: torch.Tensor, prompt_tokens: torch.Tensor, *fine: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (B * 4096, 256), (B, 5, 256), (B, 5 + N, 256) and the finer maps to masks and scores."""
        hyper, scores = self.heads(self.heads.attention(places, tokens, prompt_tokens[:, :_OUTPUTS]))
        masks = self.upscale(places.unsqueeze(0), hyper, *fine)
        if self.stability is not None:
            masks, scores = stable(masks, scores, *self.stability)
        return _resized(masks, MASK_SIDE), scores


def stable(masks: torch.Tensor, scores: torch.Tensor, delta: float, least: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Replace the single mask by the best candidate where it is unstable.

    Parameters
    ----------
    masks : float32 (B, 4, h, w)
    scores : float32 (B, 4)
    delta : float
        The stability of a mask is the ratio of its areas at the thresholds ``delta`` and ``-delta``.
    least : float
        Stability of a stable mask.
    """
    single = masks[:, 0].flatten(1)
    # Summed as float32, which is exact here and faster than as integers.
    inner, outer = (single > delta).float().sum(1), (single > -delta).float().sum(1)
    chosen = torch.where(inner >= outer * least, 0, scores[:, 1:].argmax(1) + 1)
    own = torch.arange(_OUTPUTS - 1)
    order = own + chosen.unsqueeze(1) * (own == 0)
    rows = (order + torch.arange(masks.shape[0]).unsqueeze(1) * (_OUTPUTS - 1)).flatten()
    return masks.flatten(0, 1).index_select(0, rows).reshape_as(masks), scores.gather(1, order)


class FirstMask(torch.nn.Module):
    """The output of the transformer to the mask to show first.

    That is one of the three candidates of a single click, or the single mask, so one of the five tokens is not needed.

    Parameters
    ----------
    sam : segment_anything.modeling.Sam
    heads : OutputHeads
    side : int
        Places along each side of the image.
    """

    needed: torch.Tensor
    restored: torch.Tensor

    def __init__(self, sam: Any, heads: OutputHeads, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.shown = Shown(sam.mask_decoder, side)
        # For other prompts, and for a single click: the tokens needed, and their indices in place of all five.
        self.register_buffer("needed", torch.tensor([[0, 1, 2, 3], [0, 2, 3, 4]]))
        self.register_buffer("restored", torch.tensor([[0, 1, 2, 3, 3], [0, 1, 1, 2, 3]]))

    def forward(
        self,
        places: torch.Tensor,
        tokens: torch.Tensor,
        prompt_tokens: torch.Tensor,
        point_labels: torch.Tensor,
        refined_places: torch.Tensor,
        *fine: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (4096, 256), (1, 5, 256), (1, 5 + N, 256), (1, N) and an int64 to (1, 1, 256, 256) and (1, 1).

        See `Decode`.
        """
        # SAM's authors recommend the single-mask token for all prompts but a single click.
        is_click = torch.eq((point_labels[0] >= 0).sum(), 1)
        row = is_click.long().reshape(1)
        needed, restored = (rows.index_select(0, row)[0] for rows in (self.needed, self.restored))
        attended = self.heads.attention(places, tokens.index_select(1, needed), prompt_tokens.index_select(1, needed))
        hyper, scores = self.heads(attended.index_select(1, restored))
        mask, score = self.shown(places.unsqueeze(0), hyper, scores, is_click, refined_places, *fine)
        return _resized(mask, MASK_SIDE), score


class PlacesOfClick(torch.nn.Module):
    """Lets only a single click have the mask to show first alone: for others, `stable` needs all masks."""

    def forward(self, point_labels: torch.Tensor, refined_places: torch.Tensor) -> torch.Tensor:
        """Map (1, N) and an int64 to the latter, or to 0."""
        return refined_places * torch.eq((point_labels[0] >= 0).sum(), 1)


class Decode(torch.nn.Module):
    """Context and prompts to masks and scores.

    Parameters
    ----------
    sam : segment_anything.modeling.Sam
    """

    def __init__(self, sam: Any) -> None:
        super().__init__()
        position = _tokens(sam.prompt_encoder.get_dense_pe()).detach()
        self.prompt_tokens, self.mask_maps = PromptTokens(sam), MaskPrompt(sam)
        self.plain = Transformer(sam, position, folded=True, is_masked=False)
        self.few, self.many = (Transformer(sam, position, folded, is_masked=True) for folded in (True, False))
        heads, side = OutputHeads(sam, position), math.isqrt(position.shape[1])
        self.all_masks, self.first_mask = AllMasks(sam, heads, side), FirstMask(sam, heads, side)
        self.places_of_click = PlacesOfClick() if self.all_masks.stability is not None else None

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
        refined_places: int = 0,
        *fine: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Answer prompts on one tile.

        Parameters
        ----------
        image_tokens, layer0_keys, layer0_values, layer0_queries : float32 (1, 4096, C)
            The context, from `Prepare`.
        point_coords : float32 (B, N, 2)
            X, Y in pixels of the 1024 x 1024 tile.
        point_labels : float32 (B, N)
            1 and 0 for positive and negative points, 2 and 3 for the corners of a box, -1 for padding. As in SAM's
            training, a prompt without a box ends with a padding point.
        mask_input : float32 (B, 1, 256, 256)
            Logits of a previous answer.
        has_mask_input : float32 (1,) or (B,)
            1 to use ``mask_input``, 0 to ignore it.
        refined_places : int
            0 for all masks. Otherwise B must be 1, and only the mask to show first is computed, in full in at most that
            many of the 64 x 64 places: those most likely on its outline, see `Shown`.
        *fine : float32
            The rest of the context, of SAM 2.

        Returns
        -------
        low_res_masks : float32 (B, 4, 256, 256)
            Logits; mask 0 is the single-mask token's, 1 to 3 the three candidates. (1, 1, 256, 256) of the mask to
            show first.
        iou_predictions : float32 (B, 4)
            Predicted IoU of each. (1, 1) of the mask to show first.
        """
        prompt = self.prompt_tokens(point_coords, point_labels)
        inputs = image_tokens, layer0_keys, layer0_values, layer0_queries, prompt
        is_few = prompt.shape[1] <= FEW_TOKENS
        if is_few and not bool((has_mask_input > 0).any()):
            places, tokens = self.plain(*inputs)
        else:
            places, tokens = (self.few if is_few else self.many)(*inputs, self.mask_maps(mask_input, has_mask_input))
        count = torch.tensor(refined_places)
        if self.places_of_click is not None:
            count = self.places_of_click(point_labels, count)
        if bool(count):
            answer = self.first_mask(places, tokens, prompt, point_labels, count, *fine)
        else:
            answer = self.all_masks(places, tokens, prompt, *fine)
        masks, scores = answer
        return masks, scores
