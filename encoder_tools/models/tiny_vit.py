"""TinyViT, the image encoder of MobileSAM and of the light HQ-SAM, with batch norms folded into the convolutions.

Four stages: the first of convolutions, the others of attention in windows with a learned bias for each distance. Maps
have 256, 128, 64 and 64 rows. Windows at the edge are filled with zeros, which take part in the attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .libraries import torch

__all__ = ["TinyViT", "depthwise", "fold_batch_norms"]

_EPSILON = 1e-5
_UNUSED = ("image_encoder.norm_head.", "image_encoder.head.")
"""The classifier that the encoder was trained with at first."""

_DIMS, _DEPTHS, _HEADS, _WINDOWS = (64, 128, 160, 320), (2, 2, 6, 2), (2, 4, 5, 10), (7, 7, 14, 7)


def fold_batch_norms(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a checkpoint's weights with each convolution ``NAME.c`` and its norm ``NAME.bn`` as one ``NAME``."""
    folded = {key: value for key, value in state.items() if ".bn." not in key and not key.startswith(_UNUSED)}
    for key in [key for key in folded if key.endswith(".c.weight")]:
        name = key[: -len(".c.weight")]
        norm = [state.get(f"{name}.bn.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
        if any(part is None for part in norm):
            continue
        weight, bias, mean, variance = (part for part in norm if part is not None)
        scale = weight / torch.sqrt(variance + _EPSILON)
        folded[f"{name}.weight"] = folded.pop(key) * scale.reshape(-1, 1, 1, 1)
        folded[f"{name}.bias"] = bias - mean * scale
    return folded


def depthwise(width: int, stride: int = 1) -> torch.nn.Conv2d:
    """Return a 3 x 3 convolution of each channel."""
    return torch.nn.Conv2d(width, width, 3, stride, 1, groups=width)


class _Convolutions(torch.nn.Module):
    """Widen, mix in space, narrow; with a shortcut, or as the step to the next stage."""

    def __init__(self, width: int, inner: int, outer: int, stride: int, has_shortcut: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = torch.nn.Conv2d(width, inner, 1), depthwise(inner, stride)
        self.conv3 = torch.nn.Conv2d(inner, outer, 1)
        self.has_shortcut = has_shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gelu = torch.nn.functional.gelu
        y: torch.Tensor = self.conv3(gelu(self.conv2(gelu(self.conv1(x)))))
        return gelu(x + y) if self.has_shortcut else y


class _Attention(torch.nn.Module):
    """Attention in windows (N, side * side, C)."""

    distances: torch.Tensor

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.norm, self.qkv = torch.nn.LayerNorm(width), torch.nn.Linear(width, 3 * width)
        self.proj = torch.nn.Linear(width, width)
        self.attention_biases = torch.nn.Parameter(torch.zeros(heads, side * side))
        rows, cols = (axis.flatten() for axis in torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"))
        distances = (rows[:, None] - rows).abs() * side + (cols[:, None] - cols).abs()
        self.register_buffer("distances", distances, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = self.attention_biases.shape[0]
        projected = self.qkv(self.norm(x)).reshape(-1, x.shape[1], heads, 3 * x.shape[2] // heads)
        q, k, v = projected.transpose(1, 2).chunk(3, dim=3)
        scores = (q * q.shape[3] ** -0.5) @ k.transpose(2, 3) + self.attention_biases[:, self.distances]
        result: torch.Tensor = self.proj((scores.softmax(dim=3) @ v).transpose(1, 2).flatten(2))
        return result


class _Perceptron(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(width)
        self.fc1, self.fc2 = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.fc2(torch.nn.functional.gelu(self.fc1(self.norm(x))))
        return result


class _Block(torch.nn.Module):
    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.attn, self.mlp, self.local_conv = _Attention(width, heads, window), _Perceptron(width), depthwise(width)
        self.window = window

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, h, w) to the same shape."""
        # As int, so that they are constants in an ONNX graph.
        width, height, length = (int(size) for size in x.shape[1:])
        side = self.window
        rows, cols = -(-height // side), -(-length // side)
        padded = torch.nn.functional.pad(x, (0, cols * side - length, 0, rows * side - height))
        split = padded.reshape(-1, width, rows, side, cols, side).permute(0, 2, 4, 3, 5, 1)
        seen = self.attn(split.reshape(-1, side * side, width)).reshape(-1, rows, cols, side, side, width)
        joined = seen.permute(0, 5, 1, 3, 2, 4).reshape(-1, width, rows * side, cols * side)
        x = self.local_conv(x + joined[:, :, :height, :length])
        mixed: torch.Tensor = self.mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return x + mixed


class _Stage(torch.nn.Module):
    """Blocks, and the step to the width of the next stage."""

    def __init__(self, index: int) -> None:
        super().__init__()
        width, depth = _DIMS[index], _DEPTHS[index]
        self.blocks = torch.nn.ModuleList(
            _Block(width, _HEADS[index], _WINDOWS[index]) if index else _Convolutions(width, 4 * width, width, 1, True)
            for _ in range(depth)
        )
        last = index == len(_DIMS) - 1
        after = _DIMS[-1] if last else _DIMS[index + 1]
        # The last step keeps the size, so that the maps have 64 rows as SAM's.
        stride = 1 if index == len(_DIMS) - 2 else 2
        self.downsample = torch.nn.Identity() if last else _Convolutions(width, after, after, stride, False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        result: torch.Tensor = self.downsample(x)
        return result


class TinyViT(torch.nn.Module):
    """Normalised float32 (B, 3, 1024, 1024) to float32 (B, 256, 64, 64).

    Parameters
    ----------
    norm : type
        segment_anything's LayerNorm2d.
    """

    img_size = 1024

    def __init__(self, norm: Any) -> None:
        super().__init__()
        first = _DIMS[0]
        stem = torch.nn.Sequential(
            torch.nn.Conv2d(3, first // 2, 3, 2, 1), torch.nn.GELU(), torch.nn.Conv2d(first // 2, first, 3, 2, 1)
        )
        self.patch_embed = torch.nn.ModuleDict({"seq": stem})
        self.layers = torch.nn.ModuleList(_Stage(index) for index in range(len(_DIMS)))
        self.neck = torch.nn.Sequential(
            torch.nn.Conv2d(_DIMS[-1], 256, 1, bias=False),
            norm(256),
            torch.nn.Conv2d(256, 256, 3, padding=1, bias=False),
            norm(256),
        )

    def early(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the maps after the second stage, float32 (B, 160, 64, 64), which HQ-SAM reads."""
        result: torch.Tensor = self.layers[1](self.layers[0](self.patch_embed["seq"](pixels)))
        return result

    def late(self, early: torch.Tensor) -> torch.Tensor:
        """Map the result of `early` to float32 (B, 256, 64, 64)."""
        result: torch.Tensor = self.neck(self.layers[3](self.layers[2](early)))
        return result

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the features of tiles."""
        return self.late(self.early(pixels))
