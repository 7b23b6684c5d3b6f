"""EdgeTAM: the decoder of SAM 2.1 with a small image encoder of convolutions, RepViT-M1.

transformers builds that encoder with timm, which needs torchvision. Here it is built without both, with batch norms and
parallel convolutions folded into one convolution each.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from geosam_es.errors import ModelError
from geosam_es.inference.encoder import TILE_SIZE
from geosam_es.store.decoder_files import file_sha256

from . import sam2
from .checkpoints import Checkpoint, checkpoint_path, load_registry
from .libraries import torch
from .sam.weights import UNKNOWN_LICENCE, fill, read_state
from .sam2 import CONFIG_FILE, LoadedSam2, folder_of, is_folder, model_class, random_sam2, read_config
from .sam2_meta import read_meta_state
from .tiny_vit import depthwise, fold_batch_norms

__all__ = ["load", "load_decoder_weights", "random_edgetam"]

_WIDTHS, _DEPTHS = (48, 96, 192, 384), (2, 2, 14, 2)
_PREFIX = "vision_encoder.backbone."
_FIRST = f"{_PREFIX}stem.conv1.weight"


class _Excitation(torch.nn.Module):
    """Weighs the channels by what their means say."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = 8 * -(-width // 32)
        self.fc1, self.fc2 = torch.nn.Conv2d(width, inner, 1), torch.nn.Conv2d(inner, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = x * self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return result


class _Perceptron(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = torch.nn.Conv2d(width, 2 * width, 1), torch.nn.Conv2d(2 * width, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = x + self.conv2(torch.nn.functional.gelu(self.conv1(x)))
        return result


def _named(**parts: torch.nn.Module) -> torch.nn.Sequential:
    return torch.nn.Sequential(OrderedDict(parts))


def _block(width: int, is_excited: bool) -> torch.nn.Module:
    se = _Excitation(width) if is_excited else torch.nn.Identity()
    return _named(token_mixer=depthwise(width), se=se, channel_mixer=_Perceptron(width))


def _step(before: int, width: int) -> torch.nn.Module:
    """Halve the rows and columns, and change the width to that of the next stage."""
    return _named(
        pre_block=_block(before, False),
        spatial_downsample=depthwise(before, 2),
        channel_downsample=torch.nn.Conv2d(before, width, 1),
        ffn=_Perceptron(width),
    )


class _RepVit(torch.nn.Module):
    """Pixels to the maps of the four stages, the finest first."""

    def __init__(self) -> None:
        super().__init__()
        first, before = _WIDTHS[0], 0
        halving = torch.nn.Conv2d(3, first // 2, 3, 2, 1), torch.nn.Conv2d(first // 2, first, 3, 2, 1)
        self.stem = _named(conv1=halving[0], gelu=torch.nn.GELU(), conv2=halving[1])
        for index, (width, depth) in enumerate(zip(_WIDTHS, _DEPTHS)):
            blocks = torch.nn.Sequential(*(_block(width, number % 2 == 0) for number in range(depth)))
            downsample = _step(before, width) if before else torch.nn.Identity()
            self.add_module(f"stages_{index}", _named(downsample=downsample, blocks=blocks))
            before = width

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps = []
        for part in self.children():
            x = part(x)
            maps.append(x)
        return maps[1:]


class _ImageEncoder(torch.nn.Module):
    """Normalised pixels to the maps that the decoder reads, with the names of transformers' ``EdgeTamVisionModel``."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = _RepVit()
        self.neck: Any = torch.nn.Module()
        self.neck.convs = torch.nn.ModuleList(torch.nn.Conv2d(width, 256, 1) for width in reversed(_WIDTHS))

    def forward(self, pixels: torch.Tensor) -> SimpleNamespace:
        """Return maps of 256 channels of pixels (B, 3, h, w), at 1/4, 1/8 and 1/16 of their size."""
        pairs = zip(self.neck.convs, reversed(self.backbone(pixels)))
        coarsest, coarse, finer, finest = (convolution(maps) for convolution, maps in pairs)
        coarse = coarse + torch.nn.functional.interpolate(coarsest, scale_factor=2.0, mode="nearest")
        return SimpleNamespace(fpn_hidden_states=(finest, finer, coarse))


def _build(side: int, **decoder: Any) -> Any:
    """Return a model for images of ``side`` pixels, with settings of the mask decoder."""
    import transformers

    # A small placeholder for the image encoder.
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=8, embed_dim_per_stage=[8] * 4, num_attention_heads_per_stage=[1] * 4, blocks_per_stage=[1] * 4
    )
    sizes = [[side // 4] * 2, [side // 8] * 2, [side // 16] * 2]
    vision = transformers.Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=[8] * 4, backbone_feature_sizes=sizes
    )
    config = transformers.Sam2Config(
        vision_config=vision, prompt_encoder_config={"image_size": side}, mask_decoder_config=decoder
    )
    model = model_class("edgetam")(config)
    model.vision_encoder = _ImageEncoder()
    return model


def load(model: Checkpoint, checkpoint: Path | None) -> LoadedSam2:
    """Load EdgeTAM; see `Family.load`."""
    path = checkpoint_path(model.name) if checkpoint is None else checkpoint
    licence = model.licence if checkpoint is None else UNKNOWN_LICENCE
    name, decoder = path.stem, cast("dict[str, Any]", {})
    if is_folder(path):
        folder = folder_of(path)
        path, config = read_config(folder, model.family)
        name = model.name if checkpoint is None else folder.resolve().name
        decoder = config.get("mask_decoder_config") or {}
    model_class(model.family)  # if transformers is missing, it says so before the weights are read
    try:
        stability = {key: decoder[key] for key in decoder if key.startswith("dynamic_multimask")}
        network = _build(TILE_SIZE, **stability)
    except Exception as error:  # transformers raises errors of many kinds for wrong values
        raise ModelError(f"{path.with_name(CONFIG_FILE)} is damaged", "download the model again") from error
    fill(network, read_meta_state(path, _folded, _FIRST, "EdgeTAM"), path, "EdgeTAM", has_more=True)
    return LoadedSam2(network, name, file_sha256(path), licence)


def load_decoder_weights(checkpoint: Path) -> LoadedSam2:
    """Load the decoder of EdgeTAM, SAM 2 or SAM 3, whose stores look alike; see `Family.load_decoder_weights`."""
    if is_folder(checkpoint):
        is_own = read_config(folder_of(checkpoint), "")[1]["model_type"].startswith("edgetam")
    else:
        is_own = any("stem.conv1." in key for key in read_state(checkpoint))
    if not is_own:
        return sam2.load_decoder_weights(checkpoint)
    loaded = load(load_registry()["edgetam"], checkpoint)
    loaded.drop_image_encoder()
    return loaded


def _folded(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights with each convolution and its norm, and each ``token_mixer``, as one convolution."""
    folded = {
        re.sub(rf"^{re.escape(_PREFIX)}(body|timm_model)\.", _PREFIX, key): values
        for key, values in fold_batch_norms(state).items()
    }
    for key in [key for key in folded if key.endswith(".token_mixer.conv.weight")]:
        mixer = key[: -len(".conv.weight")]
        parts = [
            folded.pop(f"{mixer}.{part}", None) for part in ("conv.weight", "conv.bias", "conv1.weight", "conv1.bias")
        ]
        if any(part is None for part in parts):
            continue
        weight, bias, small, other = (part for part in parts if part is not None)
        # The third branch is the image itself.
        folded[f"{mixer}.weight"] = weight + torch.nn.functional.pad(small + 1, (1, 1, 1, 1))
        folded[f"{mixer}.bias"] = bias + other
    return folded


def random_edgetam(seed: int, side: int = TILE_SIZE, **decoder: Any) -> LoadedSam2:
    """Build a model with random weights for images of ``side`` pixels, for tests and benchmarks."""
    return random_sam2(seed, SimpleNamespace(model_type="edgetam"), lambda _: _build(side, **decoder))
