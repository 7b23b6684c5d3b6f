"""Prompts as maps: Gaussians of clicks, frames of boxes, windows to pool features under a prompt, cheapest paths.

Most maps are outer products of two 1-D profiles, one along x and one along y, so that a map costs one small matrix
product. All maps of one kind and stride are computed together, because in so small a network a node of the graph costs
more than its computation. Coordinates are pixels of the tile; a map of stride ``s`` is sampled at ``(i + 0.5) * s``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .blocks import channels_last

FARTHEST = 16.0
"""Largest geodesic distance; larger ones are clipped."""

OUTSIDE_COST = 4.0
"""Additional cost of a cell outside the box, for paths from its sides."""

SEED_SIGMA = 0.7
"""Sigma, in cells, of the Gaussian from which paths begin at a click."""


@dataclass(frozen=True)
class Prompts:
    """Clicks and boxes of point prompts.

    Attributes
    ----------
    xy : float (B, N, 2)
        Coordinates in pixels of the tile.
    kinds : float (B, 2, N)
        1 for positive clicks in the first row, for negative ones in the second.
    low, high : float (B, 2)
        Corners of the box, zero without one.
    has_box : float (B, 1, 1, 1)
        1 if there is one.
    has_click : float (B, 2, 1, 1)
        1 if there are positive clicks, and negative ones.
    """

    xy: Tensor
    kinds: Tensor
    low: Tensor
    high: Tensor
    has_box: Tensor
    has_click: Tensor


def split_prompts(coords: Tensor, labels: Tensor) -> Prompts:
    """Split SAM's points and labels into clicks and boxes.

    Parameters
    ----------
    coords : float (B, N, 2)
        XY in pixels of the tile.
    labels : float (B, N)
        1 positive, 0 negative, 2 and 3 corners of a box, -1 ignored.
    """
    wanted = torch.tensor([1.0, 0.0, 2.0, 3.0], device=labels.device)[None, :, None]
    kinds = (labels[:, None, :] == wanted).to(coords.dtype)
    corners = torch.matmul(kinds[:, 2:], coords)
    exists = kinds.sum(2).clamp(max=1.0)[:, :, None, None]
    return Prompts(coords, kinds[:, :2], corners[:, 0], corners[:, 1], exists[:, 2:3], exists[:, :2])


def centres(size: int, stride: int, like: Tensor) -> Tensor:
    """Return the sampling positions (size,) of a map in pixels of the tile."""
    return (torch.arange(size, device=like.device, dtype=torch.float32) + 0.5) * float(stride)


class PromptMaps:
    """The prompt maps of one stride.

    Parameters
    ----------
    prompts : Prompts
    shape : tuple of int
        Height and width of the maps.
    stride : int
        Pixels of the tile per cell.
    """

    def __init__(self, prompts: Prompts, shape: tuple[int, int], stride: int) -> None:
        self.prompts, self.shape, self.stride = prompts, shape, stride
        self.y, self.x = (centres(size, stride, prompts.xy) for size in shape)
        self.square_dx = -(prompts.xy[..., 0:1] - self.x).square()
        self.square_dy = -(prompts.xy[..., 1:2] - self.y).square()
        self.middle = (prompts.low + prompts.high) * 0.5
        self.half = (prompts.high - prompts.low) * 0.5
        self.dx = (self.x - self.middle[:, 0:1]).abs()
        self.dy = (self.y - self.middle[:, 1:2]).abs()

    def profiles(self, sigma: float) -> tuple[Tensor, Tensor]:
        """Return the Gaussians of every point along y (B, N, H) and along x (B, N, W)."""
        scale = 1.0 / (2.0 * sigma * sigma)
        return torch.exp(self.square_dy * scale), torch.exp(self.square_dx * scale)

    def clicks_of(self, sigmas: Sequence[float]) -> Tensor:
        """Return Gaussians of positive and negative clicks.

        Returns
        -------
        float (B, 2 * len(sigmas), H, W)
            For each sigma the positive and the negative map, at most 1.
        """
        scales = torch.tensor([0.5 / (sigma * sigma) for sigma in sigmas], device=self.x.device)[:, None, None]
        along_x = torch.exp(self.square_dx[:, None] * scales)[:, :, None]
        along_y = torch.exp(self.square_dy[:, None] * scales)[:, :, None] * self.prompts.kinds[:, None, :, :, None]
        return torch.matmul(along_y.transpose(3, 4), along_x).flatten(1, 2).clamp(max=1.0)

    def windows(self, kinds: Sequence[tuple[float, float]]) -> Tensor:
        """Return the box as soft windows, each scaled about the box's centre and grown by a margin in pixels.

        Parameters
        ----------
        kinds : sequence of (scale, margin)

        Returns
        -------
        float (B, len(kinds), H, W)
            Zero everywhere for prompts without a box.
        """
        scales = torch.tensor([scale for scale, _ in kinds], device=self.x.device)[:, None]
        margins = torch.tensor([margin for _, margin in kinds], device=self.x.device)[:, None]
        half = self.half[:, None] * scales + margins
        along_x = self._share(half[..., 0:1], self.middle[:, None, 0:1], self.x)
        along_y = self._share(half[..., 1:2], self.middle[:, None, 1:2], self.y)
        return along_y[..., :, None] * (along_x[..., None, :] * self.prompts.has_box)

    def _share(self, half: Tensor, middle: Tensor, at: Tensor) -> Tensor:
        """Return the share of each cell of one axis inside windows (B, S, 1): (B, S, size)."""
        left = ((at - (middle - half)) / self.stride + 0.5).clamp(0.0, 1.0)
        right = ((middle + half - at) / self.stride + 0.5).clamp(0.0, 1.0)
        return left * right

    def distance_to_box(self) -> Tensor:
        """Return the signed distance to the box's border in units of 32 px, clipped to -1 and 1.

        Returns
        -------
        float (B, 1, H, W)
            Positive inside, zero everywhere for prompts without a box.
        """
        half = self.half.clamp(min=1.0)
        inside_x = ((half[:, 0:1] - self.dx) / 32.0).clamp(-1.0, 1.0)[:, None, None, :]
        inside_y = ((half[:, 1:2] - self.dy) / 32.0).clamp(-1.0, 1.0)[:, None, :, None]
        return torch.minimum(inside_x, inside_y) * self.prompts.has_box

    def frame_of_box(self) -> Tensor:
        """Return the position of each place relative to the box.

        Returns
        -------
        float (B, 4, H, W)
            |u| and |v| (1 on the border of the box) and their maximum, all clipped to 2, and `distance_to_box`; zero
            without a box.
        """
        half = self.half.clamp(min=1.0)
        u = (self.dx / half[:, 0:1]).clamp(max=2.0)[:, None, None, :] * self.prompts.has_box
        v = (self.dy / half[:, 1:2]).clamp(max=2.0)[:, None, :, None] * self.prompts.has_box
        full = torch.zeros((1, 1, *self.shape), dtype=torch.float32, device=u.device)
        return torch.cat([u + full, v + full, torch.maximum(u, v), self.distance_to_box()], dim=1)

    def sides_of_box(self) -> Tensor:
        """Return the cells (B, 4, H, W) along the left, right, upper and lower side of the box."""
        full = torch.zeros((1, 1, *self.shape), dtype=torch.float32, device=self.x.device)
        corners = torch.stack([self.prompts.low, self.prompts.high], dim=1)
        columns = (1.5 - (self.x - corners[..., 0:1]).abs() / self.stride).clamp(0.0, 1.0)
        rows = (1.5 - (self.y - corners[..., 1:2]).abs() / self.stride).clamp(0.0, 1.0)
        return torch.cat([columns[:, :, None, :] + full, rows[:, :, :, None] + full], dim=1)


def geodesic_maps(prompts: Prompts, clicks: Tensor, window: Tensor, cost: Tensor, steps: int) -> Tensor:
    """Return how near each place is to the prompts along the cheapest path: a learnt flood fill.

    Paths begin at positive clicks, at negative clicks, and outside the box. They step to any of eight neighbours, at
    the cost of the cell they enter.

    Parameters
    ----------
    prompts : Prompts
    clicks : float (B, 2, H, W)
        Narrow Gaussians of clicks, at which paths begin.
    window : float (B, 1, H, W)
        The box.
    cost : float (B or 1, 1, H, W)
        At least 0.
    steps : int
        Largest number of cells of a path.

    Returns
    -------
    float (B, 6, H, W)
        ``exp(-d)`` of the three distances, then ``exp(-d / 4)``; zero for kinds of prompts that were not given.
    """
    seeds = torch.cat([clicks, (1.0 - window) * prompts.has_box], dim=1)
    return _nearness(prompts, _cheapest_paths(seeds, cost, steps))


def geodesic_side_maps(
    prompts: Prompts, clicks: Tensor, window: Tensor, sides: Tensor, cost: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """Return `geodesic_maps`, and how near each place is to each side of the box along paths inside it.

    An object touches all four sides of its box. Of concentric strips only the outermost is near all four.

    Parameters
    ----------
    prompts, clicks, window, cost, steps
        As `geodesic_maps` takes them.
    sides : float (B, 4, H, W)
        From `PromptMaps.sides_of_box`.

    Returns
    -------
    maps : float (B, 6, H, W)
        As `geodesic_maps` returns them.
    sides : float (B, 5, H, W)
        ``exp(-d / 4)`` of the distances to the left, right, upper and lower side, and ``exp(-d / 2)`` of the
        largest of the four; zero without a box.
    """
    seeds = torch.cat([clicks, (1.0 - window) * prompts.has_box, sides * window], dim=1)
    within = cost + (1.0 - window) * OUTSIDE_COST
    costs = torch.cat([cost.expand_as(within)] * 3 + [within] * 4, dim=1)
    near = _cheapest_paths(seeds, costs, steps)
    found = near[:, 3:]
    close = torch.cat([torch.exp(found * 0.25), torch.exp(found.amin(1, keepdim=True) * 0.5)], dim=1)
    return _nearness(prompts, near[:, :3]), close * prompts.has_box


def _nearness(prompts: Prompts, near: Tensor) -> Tensor:
    there = torch.cat([prompts.has_click, prompts.has_box], dim=1)
    return torch.cat([torch.exp(near) * there, torch.exp(near * 0.25) * there], dim=1)


def _cheapest_paths(seeds: Tensor, cost: Tensor, steps: int) -> Tensor:
    """Return the negative length (B, K, H, W) of the cheapest path from each kind of seeds, `FARTHEST` at most."""
    near = (torch.log(seeds.clamp(min=1e-6)) * 2.0).clamp(min=-FARTHEST)
    if torch.onnx.is_in_onnx_export():
        for _ in range(steps):
            near = torch.maximum(near, functional.max_pool2d(near, 3, 1, 1) - cost)
        return near
    found: Tensor = _CheapestPaths.apply(near, cost, steps)  # type: ignore[no-untyped-call]
    return found


class _CheapestPaths(torch.autograd.Function):
    """The loop of `_cheapest_paths` with its gradient for the cost, about four times as fast as by autograd."""

    @staticmethod
    def forward(ctx: Any, near: Tensor, cost: Tensor, steps: int) -> Tensor:
        ctx.shape, ctx.cost_shape, ctx.steps = near.shape, cost.shape, []
        near, cost = _as_channels(near), _as_channels(cost.expand(near.shape))
        for _ in range(steps):
            highest, places = functional.max_pool2d(near, 3, 1, 1, return_indices=True)
            highest -= cost
            ctx.steps.append((highest > near, places))
            near = torch.maximum(near, highest)
        return near.reshape(ctx.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None]:
        grad = _as_channels(grad)
        of_cost = torch.zeros_like(grad)
        for moved, places in reversed(ctx.steps):
            along = grad * moved
            of_cost -= along
            grad = grad - along
            sizes = (3, 3), (1, 1), (1, 1), (1, 1)
            grad += torch.ops.aten.max_pool2d_with_indices_backward(along, along, *sizes, False, places)
        return None, of_cost.reshape(ctx.shape).sum_to_size(ctx.cost_shape), None


def _as_channels(maps: Tensor) -> Tensor:
    """Return maps (B, K, H, W) as the channels of one image: pooling is fast over many channels."""
    return channels_last(maps.flatten(0, 1)[None])
