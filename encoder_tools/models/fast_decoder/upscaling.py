"""From the image tokens of SAM's transformer to masks: all four, or the one to show first.

SAM upscales the image by two transposed convolutions and multiplies it by one vector for each mask. The kernels are as
wide as their strides, so each of the 64 x 64 places determines its own 4 x 4 pixels of the mask. Everything here is a
matrix product over places, and places can be left out.

SAM 2 adds finer maps of the image encoder after each convolution. `Prepare` arranges them like the results of the
products, with the bias of the convolution added: see `arranged`.
"""

from __future__ import annotations

from typing import Any

from ..libraries import torch

__all__ = ["SAMPLE", "Shown", "Upscale", "arranged", "outline_places"]

SAMPLE = 1
"""Row and column of the pixel that is computed in each place, of its 4 x 4."""

_REFINED_RATIO = 8
"""Largest ratio of all places to those computed in full. Most outlines run through fewer than an eighth; the others
find small objects between the sampled pixels. `make bench` measures the agreement on masks of `mini`."""

_DECISIVE = 1e3
"""Larger than any predicted IoU."""

_TINY = 1e-6


class _Linear(torch.nn.Module):
    """A linear map whose bias has three axes, because onnxruntime's fusion with a plain bias is slower."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.contiguous())
        self.register_buffer("bias", bias.reshape(1, 1, -1).contiguous())

    def forward(self, x: torch.Tensor, addend: torch.Tensor | None = None) -> torch.Tensor:
        """Map (B, L, C) to (B, L, D), with the bias or with an addend (1, L, D) that includes it."""
        result: torch.Tensor = x @ self.weight + (self.bias if addend is None else addend)
        return result


def arranged(convolution: Any, maps: torch.Tensor, steps: int) -> tuple[torch.Tensor, ...]:
    """Arrange maps that are added to the result of a convolution, with its bias.

    Parameters
    ----------
    convolution : torch.nn.ConvTranspose2d
    maps : float32 (1, D, h, w)
    steps : int
        1 after the first convolution, 2 after the second.

    Returns
    -------
    tuple of float32 (1, L, 2 * D)
        One for each of the 2 * steps rows of a place's pixels, two columns last, as in `Upscale.rows`. They are
        separate because a slice of one tensor would be a copy at every click.
    """
    rows, side, channels = 2**steps, maps.shape[2] // 2**steps, maps.shape[1]
    biased: torch.Tensor = maps + convolution.bias.detach().reshape(1, -1, 1, 1)
    split = biased.reshape(channels, side, rows, side, rows).permute(2, 1, 3, 4, 0)
    return tuple(torch.chunk(split.reshape(rows, side * side * rows // 2, 2 * channels), rows))


def _rows(convolution: Any) -> torch.nn.ModuleList:
    """Return the two rows of a kernel of 2 x 2, each a linear map to the channels of its two pixels."""
    weight, bias = convolution.weight.detach(), convolution.bias.detach()  # weight: (in, out, 2, 2)
    return torch.nn.ModuleList(
        _Linear(weight[:, :, row].transpose(1, 2).flatten(1), bias.repeat(2)) for row in range(2)
    )


def _whole(convolution: Any) -> _Linear:
    """Return a kernel of 2 x 2 as a linear map to the channels of its four pixels, row by row."""
    weight = convolution.weight.detach()
    return _Linear(weight.permute(0, 2, 3, 1).flatten(1), convolution.bias.detach().repeat(4))


def _channel_norm(norm: Any, convolution: Any) -> Any:
    """Return SAM's LayerNorm2d after a convolution, for channels on the last axis."""
    last = torch.nn.LayerNorm(convolution.out_channels, eps=norm.eps)
    last.weight, last.bias = norm.weight, norm.bias
    return last


class Upscale(torch.nn.Module):
    """Image tokens to masks.

    The rows of the 2 x 2 pixels are computed separately and the columns together, so that the last product gives whole
    rows of the masks in order, and nothing is transposed.

    Parameters
    ----------
    decoder : segment_anything.modeling.MaskDecoder
    side : int
        Places along each side of the image.
    """

    activation: Any

    def __init__(self, decoder: Any, side: int) -> None:
        super().__init__()
        first, norm, self.activation, second, _ = decoder.output_upscaling
        self.first, self.second = _rows(first), _rows(second)
        self.norm = _channel_norm(norm, first)
        self.side, self.channels = side, int(second.out_channels)

    def rows(self, places: torch.Tensor, hyper: torch.Tensor, *fine: torch.Tensor) -> list[torch.Tensor]:
        """Map (1, B * L, 256) and (B, K, 32) to the four rows of pixels of each place, float32 (B, K, 4 * L) each."""
        rows = []
        channels, count = self.norm.weight.shape[0], self.side * self.side
        if fine:
            places = places.reshape(-1, count, places.shape[2])
        for upper, first in enumerate(self.first):
            x = first(places, fine[upper] if fine else None)
            x = x.reshape(-1, 2 * count, channels) if fine else x.reshape(1, -1, channels)
            x = self.activation(self.norm(x))
            for row, second in enumerate(self.second, 2 * upper):
                pixels = self.activation(second(x, fine[2 + row] if fine else None))
                # The size of a tensor would be computed at every click.
                pixels = pixels.reshape(-1, 4 * count, self.channels)
                rows.append(hyper @ pixels.transpose(1, 2))
        return rows

    def forward(self, places: torch.Tensor, hyper: torch.Tensor, *fine: torch.Tensor) -> torch.Tensor:
        """Map (1, B * 4096, 256), (B, K, 32) and the maps of `arranged`, if any, to (B, K, 256, 256)."""
        side = self.side
        rows = [row.reshape(-1, side, 1, 4 * side) for row in self.rows(places, hyper, *fine)]
        return torch.cat(rows, dim=2).reshape(-1, hyper.shape[1], 4 * side, 4 * side)


def outline_places(samples: torch.Tensor, most: torch.Tensor) -> torch.Tensor:
    """Find the places most likely on a mask's outline.

    They are those with the smallest ratio of the sample's absolute value to the range of the samples around it. Where
    both signs occur around a place, the ratio is below 1.

    Parameters
    ----------
    samples : float32 (1, 1, 64, 64)
        One logit of each place.
    most : int64 ()
        Largest number of places. Places with a ratio up to 1 are found, and at least an eighth of all.

    Returns
    -------
    int64 (P,)
        Indices of the places, row by row.
    """
    high = torch.nn.functional.max_pool2d(samples, 3, stride=1, padding=1)
    low = -torch.nn.functional.max_pool2d(-samples, 3, stride=1, padding=1)
    distance = (samples.abs() / (high - low + _TINY)).flatten()
    least = int(samples.shape[2]) ** 2 // _REFINED_RATIO
    count = torch.minimum(torch.clamp((distance <= 1).sum(), min=least), most)
    # A tensor, because an int would become a constant when traced.
    places: torch.Tensor = torch.topk(distance, count, largest=False, sorted=False).indices  # type: ignore[arg-type]
    return places


class Shown(torch.nn.Module):
    """Image tokens to the mask to show first, exact along its outline.

    One pixel of each place is computed, then all 16 of the places where the outline may be (see `outline_places`).
    Elsewhere the one pixel is repeated.

    Parameters
    ----------
    decoder : segment_anything.modeling.MaskDecoder
    side : int
        Places along each side of the image.
    """

    choice: torch.Tensor
    planes: torch.Tensor

    def __init__(self, decoder: Any, side: int) -> None:
        super().__init__()
        first, norm, self.activation, second, _ = decoder.output_upscaling
        self.norm = _channel_norm(norm, first)
        self.first, self.second = (
            _Linear(layer.weight.detach()[:, :, at, at], layer.bias.detach())
            for layer, at in ((first, SAMPLE // 2), (second, SAMPLE % 2))
        )
        self.whole_first, self.whole_second = _whole(first), _whole(second)
        self.register_buffer("choice", torch.eye(decoder.num_mask_tokens)[0] * _DECISIVE)
        self.register_buffer("planes", torch.arange(4).unsqueeze(1) * side * side)
        self.side = side

    def forward(
        self,
        places: torch.Tensor,
        hyper: torch.Tensor,
        scores: torch.Tensor,
        is_click: torch.Tensor,
        refined_places: torch.Tensor,
        *fine: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Answer one prompt.

        Parameters
        ----------
        places : float32 (1, 4096, 256)
        hyper : float32 (1, 4, 32)
        scores : float32 (1, 4)
        is_click : bool ()
            Whether the prompt is a single click.
        refined_places : int64 ()
            Largest number of places to compute in full.
        *fine : float32
            The maps of `arranged`, if the model has any.

        Returns
        -------
        mask : float32 (1, 1, 256, 256)
            Logits, exact near the outline and with the right sign elsewhere.
        score : float32 (1, 1)
        """
        shown = torch.argmax(scores[0] + torch.where(is_click, -self.choice, self.choice), dim=0).reshape(1)
        hyper = hyper.index_select(1, shown)

        side = self.side
        count, addends = side * side, self._sampled(*fine) if fine else (None, None)
        x = self.activation(self.norm(self.first(places, addends[0])))
        # Four equal columns, one for each pixel in a row of a place.
        samples = self.activation(self.second(x, addends[1])).flatten(0, 1) @ hyper[0].expand(4, -1).T
        near = outline_places(samples[:, :1].reshape(1, 1, side, side), refined_places)
        # Four planes, one for each row of a place's pixels.
        at = (near.unsqueeze(0) + self.planes).flatten()
        maps = [one.reshape(1, count, -1).index_select(1, near) for one in fine]
        pixels = samples.repeat(4, 1).index_put((at,), self._whole(places.index_select(1, near), hyper[0], *maps))
        mask = pixels.reshape(4, side, 4 * side).transpose(0, 1).reshape(1, 1, 4 * side, 4 * side)
        return mask, scores.index_select(1, shown)

    def _sampled(self, *fine: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the addends of the pixel that is computed in each place, (1, L, 64) and (1, L, 32)."""
        upper, row = fine[SAMPLE // 2], fine[2 + SAMPLE]
        pixels = row.reshape(1, self.side**2, -1)
        return upper.chunk(2, dim=2)[SAMPLE // 2], pixels.chunk(4, dim=2)[SAMPLE]

    def _whole(self, places: torch.Tensor, hyper: torch.Tensor, *fine: torch.Tensor) -> torch.Tensor:
        """Map (1, P, 256), (1, 32) and the maps at these places to their four rows of pixels, float32 (4 * P, 4).

        All pixels share each product: they are too few to gain from the order of `Upscale`.
        """
        addends: list[torch.Tensor | None] = [None, None]
        if fine:
            rows = torch.stack(fine[2:])  # (4, 1, P, 4 * 32)
            rows = rows.reshape(2, 2, -1, 2, rows.shape[3] // 2).permute(2, 0, 3, 1, 4)
            addends = [torch.cat(fine[:2], dim=2), rows.flatten(0, 2).flatten(1).unsqueeze(0)]
        x = self.whole_first(places, addends[0]).reshape(1, -1, self.norm.weight.shape[0])
        x = self.activation(self.norm(x))
        x = self.activation(self.whole_second(x, addends[1])).reshape(-1, hyper.shape[1])
        # The last axes: row and column among the 2 x 2 of the first layer, and among those of the second.
        logits: torch.Tensor = (x @ hyper.T).reshape(-1, 2, 2, 2, 2)
        return logits.permute(1, 3, 0, 2, 4).reshape(-1, 4)
