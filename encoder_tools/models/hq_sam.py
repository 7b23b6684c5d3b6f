"""HQ-SAM: SAM with frozen weights, and one more token, whose mask corrects the outline of SAM's masks.

The correction sees finer features, which combine SAM's features with those of an early block of the image encoder. No
prompt changes them, so a tile has them as a second feature map. SAM's own decoder works with the first one alone, and
goes into the store as a second decoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from geosam_es.inference.encoder import ModelInfo

from .checkpoints import Checkpoint, checkpoint_path, load_registry
from .family import Network
from .fast_decoder.networks import Decode, OutputHeads, Prepare
from .fast_decoder.upscaling import Upscale
from .libraries import torch
from .mobile_sam import LoadedMobileSam, tiny_sam
from .sam.encoder import TileEncoder
from .sam.encoder_onnx import OnnxImageEncoder
from .sam.weights import (
    FEATURES,
    UNKNOWN_LICENCE,
    Architecture,
    LoadedSam,
    build,
    check_architecture,
    checkpoint_info,
    fill,
    read_state,
)
from .tiny_vit import TinyViT, fold_batch_norms

__all__ = ["LoadedHqSam", "load", "load_decoder_weights", "random_hq_tiny"]

_FINE = "hq_features"
_ADDEND = "hq_addend"
_BOTH = {**FEATURES, _FINE: (32, 256, 256)}
_TINY_WIDTH = 160
"""Channels of TinyViT's early features."""

_PARTS = ("hf_token", "hf_mlp", "compress_vit_feat", "embedding_encoder", "embedding_maskfeature")


class _Correction(torch.nn.Module):
    """What HQ-SAM adds to SAM's mask decoder, with its names.

    Parameters
    ----------
    width : int
        Channels of the early features.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        from segment_anything.modeling.common import LayerNorm2d
        from segment_anything.modeling.mask_decoder import MLP

        def upscaling(before: int, between: int) -> torch.nn.Sequential:
            layers = torch.nn.ConvTranspose2d(before, between, 2, 2), torch.nn.ConvTranspose2d(between, 32, 2, 2)
            return torch.nn.Sequential(layers[0], LayerNorm2d(between), torch.nn.GELU(), layers[1])

        self.hf_token, self.hf_mlp = torch.nn.Embedding(1, 256), MLP(256, 256, 32, 3)
        self.compress_vit_feat, self.embedding_encoder = upscaling(width, 256), upscaling(256, 64)
        self.embedding_maskfeature = torch.nn.Sequential(
            torch.nn.Conv2d(32, 64, 3, 1, 1), LayerNorm2d(64), torch.nn.GELU(), torch.nn.Conv2d(64, 32, 3, 1, 1)
        )


class _ImageEncoder(torch.nn.Module):
    """Normalised pixels to both feature maps.

    Parameters
    ----------
    encoder : ImageEncoderViT or TinyViT
    correction : _Correction
    threads : int, optional
        With ``is_onnx``, CPU threads.
    is_onnx : bool
        Whether the blocks of a ViT run in onnxruntime.
    """

    def __init__(
        self, encoder: Any, correction: _Correction, threads: int | None = None, is_onnx: bool = False
    ) -> None:
        super().__init__()
        self.encoder, self.correction = encoder, correction
        self.early: Any = getattr(encoder, "early", None)
        self.late: Any = getattr(encoder, "late", None)
        if not isinstance(encoder, TinyViT):
            # Up to the first block with global attention, and the rest.
            count = next(index for index, block in enumerate(encoder.blocks, 1) if block.window_size == 0)
            self.early = _Blocks(encoder.patch_embed, encoder.pos_embed, encoder.blocks[:count], torch.nn.Identity())
            start = torch.zeros_like(encoder.pos_embed[..., :1])
            self.late = _Blocks(_ChannelsLast(), start, encoder.blocks[count:], encoder.neck)
            if is_onnx:
                self.early, self.late = (OnnxImageEncoder(part, threads) for part in (self.early, self.late))
                self.encoder = None

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (B, 3, 1024, 1024) to (B, 256, 64, 64) and (B, 32, 256, 256)."""
        early = self.early(pixels)
        features = self.late(early)
        return features, self.correction.embedding_encoder(features) + self.correction.compress_vit_feat(early)


class _ChannelsLast(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1)


class _Blocks(torch.nn.Module):
    """A part of SAM's image encoder, with the attributes of the whole."""

    def __init__(self, patch_embed: Any, pos_embed: torch.Tensor, blocks: Any, neck: Any) -> None:
        super().__init__()
        self.patch_embed, self.pos_embed, self.blocks, self.neck = patch_embed, pos_embed, blocks, neck

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(x) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        result: torch.Tensor = self.neck(x.permute(0, 3, 1, 2))
        return result


class _Prepare(Prepare):
    """Passes the finer features on, as a matrix."""

    def __init__(self, sam: Any) -> None:
        super().__init__(sam)
        self.context_names = (*self.context_names, _ADDEND)

    def forward(self, image_embeddings: torch.Tensor, *fine: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return *super().forward(image_embeddings), fine[0].flatten(2)


class _AllMasks(torch.nn.Module):
    """The output of the transformer to SAM's four masks, each corrected, and their scores."""

    unit: torch.Tensor
    last: torch.Tensor
    first: Any

    def __init__(self, heads: OutputHeads, upscale: Upscale, correction: _Correction) -> None:
        super().__init__()
        self.heads, self.upscale = heads, upscale
        layers: Any = correction.embedding_maskfeature
        *first, last = layers
        self.first = torch.nn.Sequential(*first)
        self.register_buffer("unit", torch.eye(32).unsqueeze(0))
        # One product with a mask's vector gives its own kernel: (32, 9 * 64 + 1), the bias last.
        kernels = last.weight.detach().permute(0, 2, 3, 1).flatten(1)
        self.register_buffer("last", torch.cat([kernels, last.bias.detach().unsqueeze(1)], dim=1))

    def forward(
        self, places: torch.Tensor, tokens: torch.Tensor, prompt_tokens: torch.Tensor, addend: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        attended = self.heads.attention(places, tokens, prompt_tokens[:, : tokens.shape[1]])
        vectors, scores = self.heads(attended)
        pixels = self.upscale(places.unsqueeze(0), self.unit.expand(vectors.shape[0], -1, -1))
        side, flat = pixels.shape[3], pixels.flatten(2)
        correcting = vectors[:, 4:]
        kernel = correcting @ self.last
        parts = kernel[:, :, :-1].reshape(-1, 9, 64) @ self.first(pixels).flatten(2)
        parts = torch.nn.functional.pad(parts.reshape(-1, 9, side, side), (1, 1, 1, 1))
        shifted = [parts[:, 3 * row + col, row : row + side, col : col + side] for row in range(3) for col in range(3)]
        correction = correcting @ addend + torch.stack(shifted).sum(0).flatten(1).unsqueeze(1) + kernel[:, :, -1:]
        return (vectors[:, :4] @ flat + correction).reshape(-1, 4, side, side), scores


class _FirstMask(torch.nn.Module):
    """The mask to show first. The correction needs all pixels, so this is no faster."""

    def __init__(self, all_masks: _AllMasks) -> None:
        super().__init__()
        self.all_masks = all_masks

    def forward(
        self,
        places: torch.Tensor,
        tokens: torch.Tensor,
        prompt_tokens: torch.Tensor,
        point_labels: torch.Tensor,
        refined_places: torch.Tensor,
        addend: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        masks, scores = self.all_masks(places, tokens, prompt_tokens, addend)
        is_click = torch.eq((point_labels[0] >= 0).sum(), 1)
        # Also reads the number of places, which the graph must have as an input.
        shown = ((scores[0, 1:].argmax(dim=0) + 1) * is_click * (refined_places > 0)).reshape(1)
        return masks.index_select(1, shown), scores.index_select(1, shown)


class _Decode(Decode):
    all_masks: Any
    first_mask: Any

    def __init__(self, sam: Any, correction: _Correction) -> None:
        super().__init__(sam)
        self.all_masks = _AllMasks(self.all_masks.heads, self.all_masks.upscale, correction)
        self.first_mask = _FirstMask(self.all_masks)


@dataclass
class LoadedHqSam(LoadedMobileSam):
    """An HQ-SAM with its weights; see `LoadedSam`.

    Attributes
    ----------
    correction : _Correction
    """

    correction: Any = None

    def tile_network(self) -> torch.nn.Module:
        """Return normalisation and image encoder; see `Network.tile_network`."""
        return TileEncoder(self.network, _ImageEncoder(self.network.image_encoder, self.correction))

    def cpu_network(self, threads: int | None) -> torch.nn.Module:
        """Return the same with a ViT's blocks in onnxruntime, as SAM's own encoder has."""
        image_encoder = _ImageEncoder(self.network.image_encoder, self.correction, threads, is_onnx=True)
        return TileEncoder(self.network, image_encoder)

    def decoder(self) -> tuple[Prepare, Decode]:
        """Return the fast decoder; see `Network.decoder`."""
        own = self.network.mask_decoder
        tokens = torch.cat([own.mask_tokens.weight, self.correction.hf_token.weight])
        decoder = SimpleNamespace(
            transformer=own.transformer,
            iou_token=own.iou_token,
            mask_tokens=SimpleNamespace(weight=tokens),
            num_mask_tokens=len(tokens),
            output_upscaling=own.output_upscaling,
            output_hypernetworks_mlps=[*own.output_hypernetworks_mlps, self.correction.hf_mlp],
            iou_prediction_head=own.iou_prediction_head,
        )
        sam = SimpleNamespace(prompt_encoder=self.network.prompt_encoder, mask_decoder=decoder)
        return _Prepare(sam), _Decode(sam, self.correction)

    def decoder_parts(self) -> dict[str, Any]:
        """Return SAM's parts and the correction; see `Network.decoder_parts`."""
        return {**super().decoder_parts(), "correction": self.correction}

    def others(self) -> Mapping[str, Network]:
        """Return SAM, whose decoder reads the first feature map; see `Network.others`."""
        return {"SAM": LoadedSam(self.network, replace(self.info, features=FEATURES))}

    def answer(self, features: Sequence[Any], prompts: Sequence[Any], is_learning: bool = False) -> tuple[Any, Any]:
        """Answer with segment_anything's modules and a plain correction; see `Network.answer`."""
        own, correction = self.network.mask_decoder, self.correction
        sparse, dense, position = self.embedded(prompts)
        tokens = torch.cat([own.iou_token.weight, own.mask_tokens.weight, correction.hf_token.weight])
        tokens = torch.cat([tokens.expand(len(sparse), -1, -1), sparse], dim=1)
        position = position.expand(len(sparse), -1, -1, -1)
        attended, places = own.transformer(features[0] + dense, position, tokens)
        pixels = own.output_upscaling(places.transpose(1, 2).reshape(-1, 256, 64, 64))
        vectors = [perceptron(attended[:, 1 + index]) for index, perceptron in enumerate(own.output_hypernetworks_mlps)]
        masks = torch.einsum("bkc,bchw->bkhw", torch.stack(vectors, dim=1), pixels)
        fine = correction.embedding_maskfeature(pixels) + features[1]
        corrected = masks + torch.einsum("bc,bchw->bhw", correction.hf_mlp(attended[:, 5]), fine).unsqueeze(1)
        return corrected, own.iou_prediction_head(attended[:, 0])


def load(model: Checkpoint, checkpoint: Path | None) -> LoadedHqSam:
    """Load an HQ-SAM; see `Family.load`."""
    return _load(checkpoint or checkpoint_path(model.name), model.name)


def load_decoder_weights(checkpoint: Path) -> LoadedHqSam:
    """Load the decoder of any size; see `Family.load_decoder_weights`."""
    loaded = _load(checkpoint, *(model.name for model in load_registry().values() if model.family == "hq_sam"))
    loaded.drop_image_encoder()
    return loaded


def _load(path: Path, *names: str) -> LoadedHqSam:
    state = fold_batch_norms(read_state(path))
    name = check_architecture(path, state, *names)
    prefixes = tuple(f"mask_decoder.{part}." for part in _PARTS)
    added = {key[len("mask_decoder.") :]: state.pop(key) for key in list(state) if key.startswith(prefixes)}
    if name == "hq_tiny":
        network, width = tiny_sam(), _TINY_WIDTH
    else:
        network = build(cast(Architecture, name[len("hq_") :]))
        width = network.image_encoder.pos_embed.shape[3]
    correction = _Correction(width).eval()
    for part, weights in ((network, state), (correction, added)):
        fill(part, weights, path, name)
    return LoadedHqSam(network, replace(checkpoint_info(path), features=_BOTH), correction)


def random_hq_tiny(seed: int) -> LoadedHqSam:
    """Build a model with random weights, for benchmarks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network, correction = tiny_sam(), _Correction(_TINY_WIDTH).eval()
    return LoadedHqSam(network, ModelInfo("hq_tiny-random", "0" * 64, UNKNOWN_LICENCE, _BOTH), correction)
