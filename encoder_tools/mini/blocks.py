"""Convolution blocks shared by the encoder and the decoder of `mini`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class ConvNorm(nn.Module):
    """A 3x3 or 1x1 convolution with batch normalisation and, if asked, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, relu: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs, momentum=0.03)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        x, folded = channels_last(x), self.folded()
        if folded is None:
            y = self.norm(self.conv(x))
        else:
            y = functional.conv2d(x, *folded, self.conv.stride, self.conv.padding)
        return functional.relu(y) if self.relu else y

    def folded(self) -> tuple[Tensor, Tensor] | None:
        """Return weight and bias with the normalisation in them; None if its statistics still change.

        Gradients pass through both. Separate normalisations would take a fifth of the time of a training.
        """
        norm = self.norm
        if not isinstance(norm, nn.BatchNorm2d) or norm.training:
            return None
        mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        return self.conv.weight * scale[:, None, None, None], norm.bias - mean * scale


def channels_last(x: Tensor) -> Tensor:
    """Return maps (B, C, H, W) in the memory layout in which convolutions are fastest.

    Two layouts in one operation take several times as long as either.
    """
    return x.contiguous(memory_format=torch.channels_last)


class Residual(nn.Module):
    """Two 3x3 convolutions beside an identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = ConvNorm(width, width)
        self.second = ConvNorm(width, width, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W) to the same shape."""
        return functional.relu(x + self.second(self.first(x)))


class ShuffleUp(nn.Module):
    """Twice the resolution by a 1x1 convolution and a pixel shuffle."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = ConvNorm(inputs, 4 * outputs, kernel=1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, 2H, 2W)."""
        folded = self.conv.folded()
        if folded is None:
            return functional.pixel_shuffle(self.conv(x), 2)
        # The same as one transposed convolution, whose gradient is several times as fast.
        weight, bias = folded
        kernel = weight.view(-1, 2, 2, weight.shape[1]).permute(3, 0, 1, 2)
        y = functional.conv_transpose2d(channels_last(x), kernel, stride=2)
        return y + channels_last(repeat_pattern(bias.view(1, -1, 2, 2), x)).to(y.dtype)


def repeat_pattern(pattern: Tensor, like: Tensor) -> Tensor:
    """Tile a (1, C, 2, 2) pattern to twice the height and width of `like`."""
    return pattern.repeat(1, 1, like.shape[2], like.shape[3])
