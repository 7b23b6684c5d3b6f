"""From the image tokens of SAM's transformer to masks: all of them, or at once the one to show.

SAM upscales the image by two transposed convolutions and multiplies it with one vector for each mask. The kernels are
as wide as their strides, so a place of the 64 x 64 gives its 4 x 4 pixels of the mask by itself: everything here is a
matrix product over places, and any of them may be left out.
"""

from __future__ import annotations

from typing import Any

from encoder_tools.sam.lean import SIDE
from encoder_tools.sam.libraries import torch

__all__ = ["Preview", "Upscale"]

_SAMPLE = 1
"""Row and column of a place's 4 x 4 pixels that a preview computes everywhere."""

_LOCAL, _GLOBAL = 0.5, 0.75
"""A place is computed in full up to this part of the range of logits around it and of their deviation over the tile.

Chosen on decoders with random weights, whose logits stay near zero, which is the hardest case.
"""

_DECISIVE = 1e3
"""Beyond any predicted IoU."""


class _Linear(torch.nn.Module):
    """A linear map whose bias has three axes: onnxruntime's fusion of a plain bias with GELU is slower than both."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.contiguous())
        self.register_buffer("bias", bias.reshape(1, 1, -1).contiguous())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, L, C) to (B, L, D)."""
        return x @ self.weight + self.bias


def _rows(convolution: Any) -> torch.nn.ModuleList:
    """Return the two rows of a kernel of 2 x 2, each a linear map to the channels of its two pixels."""
    weight, bias = convolution.weight.detach(), convolution.bias.detach()  # weight: (in, out, 2, 2)
    return torch.nn.ModuleList(
        _Linear(weight[:, :, row].transpose(1, 2).flatten(1), bias.repeat(2)) for row in range(2)
    )


class Upscale(torch.nn.Module):
    """Image tokens to masks.

    The rows of 2 x 2 pixels are computed apart and the columns together, so that what comes out of the last product is
    whole rows of the masks, in order: nothing is transposed.

    Parameters
    ----------
    decoder : segment_anything.modeling.MaskDecoder
    """

    activation: Any

    def __init__(self, decoder: Any) -> None:
        super().__init__()
        first, norm, self.activation, second, _ = decoder.output_upscaling
        self.first, self.second = _rows(first), _rows(second)
        self.norm = torch.nn.LayerNorm(first.out_channels, eps=norm.eps)
        self.norm.weight, self.norm.bias = norm.weight, norm.bias

    def rows(self, image: torch.Tensor, hyper: torch.Tensor) -> list[torch.Tensor]:
        """Map (B, L, 256) and (B, K, 32) to the four rows of pixels of each place, float32 (B, K, 4 * L) each."""
        rows = []
        for first in self.first:
            x = first(image)
            x = self.activation(self.norm(x.reshape(x.shape[0], -1, self.norm.weight.shape[0])))
            for second in self.second:
                pixels = self.activation(second(x))
                pixels = pixels.reshape(pixels.shape[0], -1, hyper.shape[2])
                rows.append(hyper @ pixels.transpose(1, 2))
        return rows

    def forward(self, image: torch.Tensor, hyper: torch.Tensor) -> torch.Tensor:
        """Map (B, 4096, 256) and (B, K, 32) to (B, K, 256, 256)."""
        rows = [row.reshape(-1, hyper.shape[1], SIDE, 1, 4 * SIDE) for row in self.rows(image, hyper)]
        return torch.cat(rows, dim=3).reshape(-1, hyper.shape[1], 4 * SIDE, 4 * SIDE)


class Preview(torch.nn.Module):
    """Image tokens to the mask to show first, exact where its outline is.

    One pixel of each place is computed; then all 16 of those places whose surroundings have both signs, or that are so
    near to zero that another pixel may have the other sign. Elsewhere that one pixel stands for all.

    Parameters
    ----------
    decoder : segment_anything.modeling.MaskDecoder
    upscale : Upscale
        Of the same decoder.
    """

    choice: torch.Tensor

    def __init__(self, decoder: Any, upscale: Upscale) -> None:
        super().__init__()
        self.upscale = upscale
        first, _, _, second, _ = decoder.output_upscaling
        self.first, self.second = (
            _Linear(layer.weight.detach()[:, :, at, at], layer.bias.detach())
            for layer, at in ((first, _SAMPLE // 2), (second, _SAMPLE % 2))
        )
        self.register_buffer("choice", torch.eye(decoder.num_mask_tokens)[0] * _DECISIVE)

    def forward(
        self, image: torch.Tensor, hyper: torch.Tensor, scores: torch.Tensor, point_labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Answer the first prompt of a batch.

        Parameters
        ----------
        image : float32 (B, 4096, 256)
        hyper : float32 (B, 4, 32)
        scores : float32 (B, 4)
        point_labels : float32 (B, N)

        Returns
        -------
        preview_mask : float32 (1, 1, 256, 256)
            Logits, right in sign and exact near the outline.
        preview_score : float32 (1, 1)
        """
        # SAM's authors: the single-mask token for all but a single click.
        is_click = torch.eq((point_labels[0] >= 0).sum(), 1)
        shown = torch.argmax(scores[0] + torch.where(is_click, -self.choice, self.choice), dim=0).reshape(1)
        image, hyper = image[:1], hyper[:1].index_select(1, shown)

        activation, norm = self.upscale.activation, self.upscale.norm
        samples = activation(self.second(activation(norm(self.first(image))))) @ hyper.transpose(1, 2)
        samples = samples.reshape(1, 1, SIDE, SIDE)
        high = torch.nn.functional.max_pool2d(samples, 3, stride=1, padding=1)
        low = -torch.nn.functional.max_pool2d(-samples, 3, stride=1, padding=1)
        reach = (high - low) * _LOCAL + samples.std(unbiased=False) * _GLOBAL
        is_near = torch.logical_or(low * high <= 0, samples.abs() <= reach)
        places = torch.nonzero(is_near.flatten()).squeeze(1)

        exact = [row.reshape(-1, 4) for row in self.upscale.rows(image.index_select(1, places), hyper)]
        pixels = samples.reshape(-1, 1).expand(-1, 16).index_put((places,), torch.cat(exact, dim=1))
        mask = pixels.reshape(SIDE, SIDE, 4, 4).transpose(1, 2).reshape(1, 1, 4 * SIDE, 4 * SIDE)
        return mask, scores[:1].index_select(1, shown)
