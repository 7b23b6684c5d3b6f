"""EdgeTAM: the decoder of SAM 2.1 with a small image encoder of convolutions, RepViT-M1.

transformers builds that encoder with timm, which needs torchvision. Here it is built without both, with batch norms and
parallel convolutions folded into one convolution each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from geosam_es.inference.encoder import TILE_SIZE
from geosam_es.store.decoder_files import file_sha256

from .checkpoints import REPOSITORY_FILES, Checkpoint, checkpoint_path, load_registry
from .libraries import torch
from .sam.weights import UNKNOWN_LICENCE
from .sam2 import LoadedSam2, fill_sam2, model_class, random_sam2, read_config
from .sam2_meta import read_meta_state
from .tiny_vit import fold_batch_norms

__all__ = ["edgetam_config", "load", "load_decoder_weights", "random_edgetam"]

_WIDTHS, _DEPTHS = (48, 96, 192, 384), (2, 2, 14, 2)
_PREFIX = "vision_encoder.backbone."
_FIRST = f"{_PREFIX}stem.conv1.weight"


def _depthwise(width: int, stride: int = 1) -> torch.nn.Conv2d:
    return torch.nn.Conv2d(width, width, 3, stride, 1, groups=width)


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


class _Block(torch.nn.Module):
    def __init__(self, width: int, is_excited: bool) -> None:
        super().__init__()
        self.token_mixer, self.channel_mixer = _depthwise(width), _Perceptron(width)
        self.se = _Excitation(width) if is_excited else torch.nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.channel_mixer(self.se(self.token_mixer(x)))
        return result


class _Step(torch.nn.Module):
    """To half the rows and columns, and the width of the next stage."""

    def __init__(self, width: int, after: int) -> None:
        super().__init__()
        self.pre_block, self.spatial_downsample = _Block(width, False), _depthwise(width, 2)
        self.channel_downsample, self.ffn = torch.nn.Conv2d(width, after, 1), _Perceptron(after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.ffn(self.channel_downsample(self.spatial_downsample(self.pre_block(x))))
        return result


class _Stage(torch.nn.Module):
    def __init__(self, index: int) -> None:
        super().__init__()
        width = _WIDTHS[index]
        self.downsample = _Step(_WIDTHS[index - 1], width) if index else torch.nn.Identity()
        self.blocks = torch.nn.Sequential(*(_Block(width, number % 2 == 0) for number in range(_DEPTHS[index])))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.blocks(self.downsample(x))
        return result


class _RepVit(torch.nn.Module):
    """Pixels to the maps of the four stages, the finest first."""

    def __init__(self) -> None:
        super().__init__()
        first = _WIDTHS[0]
        self.stem: Any = torch.nn.Module()
        self.stem.conv1 = torch.nn.Conv2d(3, first // 2, 3, 2, 1)
        self.stem.conv2 = torch.nn.Conv2d(first // 2, first, 3, 2, 1)
        self.stages_0, self.stages_1, self.stages_2, self.stages_3 = (_Stage(index) for index in range(len(_WIDTHS)))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = self.stem.conv2(torch.nn.functional.gelu(self.stem.conv1(x)))
        maps = []
        for stage in (self.stages_0, self.stages_1, self.stages_2, self.stages_3):
            x = stage(x)
            maps.append(x)
        return maps


class _ImageEncoder(torch.nn.Module):
    """Normalised pixels to the maps that the decoder reads, with the names of transformers' ``EdgeTamVisionModel``."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = _RepVit()
        self.neck: Any = torch.nn.Module()
        self.neck.convs = torch.nn.ModuleList(torch.nn.Conv2d(width, 256, 1) for width in reversed(_WIDTHS))

    def forward(self, pixels: torch.Tensor) -> SimpleNamespace:
        """Map (B, 3, h, w) to maps of 256 channels with a 4th, 8th and 16th of the rows and columns."""
        pairs = zip(self.neck.convs, reversed(self.backbone(pixels)))
        coarsest, coarse, finer, finest = (convolution(maps) for convolution, maps in pairs)
        coarse = coarse + torch.nn.functional.interpolate(coarsest, scale_factor=2.0, mode="nearest")
        return SimpleNamespace(fpn_hidden_states=(finest, finer, coarse))


def edgetam_config(side: int = TILE_SIZE, **decoder: Any) -> Any:
    """Return the ``transformers.Sam2Config`` of EdgeTAM's decoder; the image encoder in it is a small placeholder.

    Parameters
    ----------
    side : int
        Height and width of the image.
    **decoder
        Settings of the mask decoder.
    """
    import transformers

    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=8, embed_dim_per_stage=[8] * 4, num_attention_heads_per_stage=[1] * 4, blocks_per_stage=[1] * 4
    )
    sizes = [[side // 4] * 2, [side // 8] * 2, [side // 16] * 2]
    vision = transformers.Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=[8] * 4, backbone_feature_sizes=sizes
    )
    return transformers.Sam2Config(
        vision_config=vision, prompt_encoder_config={"image_size": side}, mask_decoder_config=decoder
    )


def _build(config: Any) -> Any:
    model = model_class("edgetam")(config)
    model.vision_encoder = _ImageEncoder()
    return model


def load(model: Checkpoint, checkpoint: Path | None) -> LoadedSam2:
    """Load EdgeTAM; see `Family.load`."""
    path = checkpoint_path(model.name) if checkpoint is None else checkpoint
    licence = model.licence if checkpoint is None else UNKNOWN_LICENCE
    name, stability = path.stem, {}
    if path.is_dir() or path.name in REPOSITORY_FILES:
        folder = path if path.is_dir() else path.parent
        path, config = read_config(folder, model.family)
        name = model.name if checkpoint is None else folder.resolve().name
        decoder = config.get("mask_decoder_config") or {}
        stability = {key: value for key, value in decoder.items() if key.startswith("dynamic_multimask")}
    model_class(model.family)  # if transformers is missing, it says so before the weights are read
    network = _build(edgetam_config(**stability))
    fill_sam2(network, read_meta_state(path, _folded, _FIRST, "EdgeTAM"), path, model.name)
    return LoadedSam2(network, name, file_sha256(path), licence)


def load_decoder_weights(checkpoint: Path) -> LoadedSam2:
    """Load the decoder; see `Family.load_decoder_weights`."""
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
    """Build a model with random weights, for tests and benchmarks; for the parameters see `edgetam_config`."""
    loaded = random_sam2(seed, edgetam_config(side, **decoder), _build)
    loaded.info = replace(loaded.info, name="edgetam-random")
    return loaded
