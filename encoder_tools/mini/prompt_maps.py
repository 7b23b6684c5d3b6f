"""Prompts as maps: Gaussians of clicks, frames of boxes, windows to pool features under a prompt.

Nearly everything is an outer product of two 1-D profiles, one along x and one along y, so that a map costs one
small matrix product. Coordinates are pixels of the tile; a map of stride ``s`` is sampled at ``(i + 0.5) * s``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

FARTHEST = 16.0
"""Greatest geodesic distance; beyond it nothing is told apart."""

OUTSIDE_COST = 4.0
"""What a path between the sides of a box pays more for a cell outside of it."""


@dataclass(frozen=True)
class Prompts:
    """Point prompts taken apart.

    Attributes
    ----------
    xy : float (B, N, 2)
        Coordinates in pixels of the tile.
    positive, negative : float (B, N)
        1 where the point is of that kind.
    low, high : float (B, 2)
        Corners of the box, zeros without a box.
    has_box, has_positive, has_negative : float (B, 1, 1, 1)
        1 where there is one.
    """

    xy: Tensor
    positive: Tensor
    negative: Tensor
    low: Tensor
    high: Tensor
    has_box: Tensor
    has_positive: Tensor
    has_negative: Tensor


def split_prompts(coords: Tensor, labels: Tensor) -> Prompts:
    """Take SAM's points and labels apart.

    Parameters
    ----------
    coords : float (B, N, 2)
        XY in pixels of the tile.
    labels : float (B, N)
        1 positive, 0 negative, 2 and 3 corners of a box, -1 ignored.
    """
    kinds = [(labels == value).to(coords.dtype) for value in (0, 1, 2, 3)]
    negative, positive, first, second = kinds
    low = (coords * first[..., None]).sum(1)
    high = (coords * second[..., None]).sum(1)

    def exists(kind: Tensor) -> Tensor:
        return kind.sum(1).clamp(max=1.0)[:, None, None, None]

    return Prompts(coords, positive, negative, low, high, exists(first), exists(positive), exists(negative))


def centres(size: int, stride: int, like: Tensor) -> Tensor:
    """Return the sampling positions (size,) of a map in pixels of the tile."""
    return (torch.arange(size, device=like.device, dtype=torch.float32) + 0.5) * float(stride)


def point_profiles(prompts: Prompts, shape: tuple[int, int], stride: int, sigma: float) -> tuple[Tensor, Tensor]:
    """Return the Gaussians of every point along y (B, N, H) and along x (B, N, W)."""
    scale = 1.0 / (2.0 * sigma * sigma)
    dx = prompts.xy[..., 0:1] - centres(shape[1], stride, prompts.xy)
    dy = prompts.xy[..., 1:2] - centres(shape[0], stride, prompts.xy)
    return torch.exp(-dy * dy * scale), torch.exp(-dx * dx * scale)


def click_maps(prompts: Prompts, shape: tuple[int, int], stride: int, sigmas: tuple[float, ...]) -> Tensor:
    """Return Gaussians of positive and negative clicks.

    Returns
    -------
    float (B, 2 * len(sigmas), H, W)
        For each sigma the positive and the negative map, at most 1.
    """
    maps: list[Tensor] = []
    for sigma in sigmas:
        along_y, along_x = point_profiles(prompts, shape, stride, sigma)
        kinds = (prompts.positive, prompts.negative)
        maps.extend(torch.matmul((along_y * kind[..., None]).transpose(1, 2), along_x) for kind in kinds)
    return torch.stack(maps, dim=1).clamp(max=1.0)


def _window(low: Tensor, high: Tensor, size: int, stride: int) -> Tensor:
    """Return the share of each cell of one axis inside [low, high]: (B, size)."""
    at = centres(size, stride, low)
    left = ((at - low[:, None]) / stride + 0.5).clamp(0.0, 1.0)
    right = ((high[:, None] - at) / stride + 0.5).clamp(0.0, 1.0)
    return left * right


def box_window(prompts: Prompts, shape: tuple[int, int], stride: int, scale: float, margin: float = 0.0) -> Tensor:
    """Return the box, scaled about its centre and grown by a margin in pixels, as a soft window.

    Returns
    -------
    float (B, 1, H, W)
        Zero everywhere for prompts without a box.
    """
    middle = (prompts.low + prompts.high) * 0.5
    half = (prompts.high - prompts.low) * (0.5 * scale) + margin
    low, high = middle - half, middle + half
    along_x = _window(low[:, 0], high[:, 0], shape[1], stride)
    along_y = _window(low[:, 1], high[:, 1], shape[0], stride)
    return (along_y[:, :, None] * along_x[:, None, :])[:, None] * prompts.has_box


def _offsets(prompts: Prompts, shape: tuple[int, int], stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return distances from the box's middle, (B, W) along x and (B, H) along y, and its half size (B, 2)."""
    middle = (prompts.low + prompts.high) * 0.5
    half = ((prompts.high - prompts.low) * 0.5).clamp(min=1.0)
    dx = (centres(shape[1], stride, prompts.xy) - middle[:, 0:1]).abs()
    dy = (centres(shape[0], stride, prompts.xy) - middle[:, 1:2]).abs()
    return dx, dy, half


def box_distance(prompts: Prompts, shape: tuple[int, int], stride: int) -> Tensor:
    """Return the signed distance to the box's border in units of 32 px, clipped to -1 and 1.

    Returns
    -------
    float (B, 1, H, W)
        Positive inside, zero everywhere for prompts without a box.
    """
    dx, dy, half = _offsets(prompts, shape, stride)
    inside_x = ((half[:, 0:1] - dx) / 32.0).clamp(-1.0, 1.0)[:, None, None, :]
    inside_y = ((half[:, 1:2] - dy) / 32.0).clamp(-1.0, 1.0)[:, None, :, None]
    return torch.minimum(inside_x, inside_y) * prompts.has_box


def box_frame(prompts: Prompts, shape: tuple[int, int], stride: int) -> Tensor:
    """Return where each place lies in the frame of the box.

    Returns
    -------
    float (B, 4, H, W)
        |u| and |v| (1 on the border of the box) and their maximum, all clipped to 2, and `box_distance`; zero
        without a box.
    """
    dx, dy, half = _offsets(prompts, shape, stride)
    u = (dx / half[:, 0:1]).clamp(max=2.0)[:, None, None, :]
    v = (dy / half[:, 1:2]).clamp(max=2.0)[:, None, :, None]
    full = torch.zeros((1, 1, shape[0], shape[1]), dtype=torch.float32, device=u.device)
    frame = torch.cat([u + full, v + full, torch.maximum(u, v)], dim=1) * prompts.has_box
    return torch.cat([frame, box_distance(prompts, shape, stride)], dim=1)


def geodesic_maps(prompts: Prompts, cost: Tensor, stride: int, steps: int) -> Tensor:
    """Return how near each place is to the prompts along the cheapest path: a learned flood fill.

    Paths begin at positive clicks, at negative clicks, and at the border of the box and all beyond it. They step to
    any of eight neighbours and pay what the cell they enter costs.

    Parameters
    ----------
    prompts : Prompts
    cost : float (B or 1, 1, H, W)
        At least 0.
    stride : int
    steps : int
        Greatest number of cells on a path.

    Returns
    -------
    float (B, 6, H, W)
        ``exp(-d)`` of the three distances, then ``exp(-d / 4)``; zero where nothing of that kind was prompted.
    """
    near = _cheapest_paths(_prompt_seeds(prompts, (cost.shape[2], cost.shape[3]), stride), cost, steps)
    there = torch.cat([prompts.has_positive, prompts.has_negative, prompts.has_box], dim=1)
    return torch.cat([torch.exp(near) * there, torch.exp(near * 0.25) * there], dim=1)


def geodesic_side_maps(prompts: Prompts, cost: Tensor, stride: int, steps: int) -> tuple[Tensor, Tensor]:
    """Return `geodesic_maps`, and how near each place is to each side of the box by paths inside of the box.

    An object touches all four sides of its box. Of strips that lie one inside the other only the outer one is near
    to all of them.

    Returns
    -------
    maps : float (B, 6, H, W)
        As `geodesic_maps` returns them.
    sides : float (B, 5, H, W)
        ``exp(-d / 4)`` of the distances to the left, right, upper and lower side, and ``exp(-d / 2)`` of the
        greatest of the four; zero without a box.
    """
    shape = (cost.shape[2], cost.shape[3])
    window = box_window(prompts, shape, stride, 1.0)
    seeds = torch.cat([_prompt_seeds(prompts, shape, stride), _side_seeds(prompts, shape, stride) * window], dim=1)
    within = cost + (1.0 - window) * OUTSIDE_COST
    costs = torch.cat([cost.expand_as(within)] * 3 + [within] * 4, dim=1)
    near = _cheapest_paths(seeds, costs, steps)
    there = torch.cat([prompts.has_positive, prompts.has_negative, prompts.has_box], dim=1)
    maps = torch.cat([torch.exp(near[:, :3]) * there, torch.exp(near[:, :3] * 0.25) * there], dim=1)
    sides = near[:, 3:]
    farthest = sides.amin(1, keepdim=True)
    return maps, torch.cat([torch.exp(sides * 0.25), torch.exp(farthest * 0.5)], dim=1) * prompts.has_box


def _prompt_seeds(prompts: Prompts, shape: tuple[int, int], stride: int) -> Tensor:
    """Return where paths begin (B, 3, H, W): at positive and at negative clicks, and beyond the box."""
    clicks = click_maps(prompts, shape, stride, (0.7 * stride,))
    beyond = (1.0 - box_window(prompts, shape, stride, 1.0)) * prompts.has_box
    return torch.cat([clicks, beyond], dim=1)


def _side_seeds(prompts: Prompts, shape: tuple[int, int], stride: int) -> Tensor:
    """Return the cells (B, 4, H, W) along the left, right, upper and lower side of the box."""
    full = torch.zeros((1, 1, shape[0], shape[1]), dtype=torch.float32, device=prompts.xy.device)
    x, y = centres(shape[1], stride, prompts.xy), centres(shape[0], stride, prompts.xy)
    columns = [(1.5 - (x - at[:, 0:1]).abs() / stride).clamp(0.0, 1.0) for at in (prompts.low, prompts.high)]
    rows = [(1.5 - (y - at[:, 1:2]).abs() / stride).clamp(0.0, 1.0) for at in (prompts.low, prompts.high)]
    upright = [column[:, None, None, :] + full for column in columns]
    return torch.cat([*upright, *(row[:, None, :, None] + full for row in rows)], dim=1)


def _cheapest_paths(seeds: Tensor, cost: Tensor, steps: int) -> Tensor:
    """Return the negative length (B, K, H, W) of the cheapest path from each kind of seeds, `FARTHEST` at most."""
    near = (torch.log(seeds.clamp(min=1e-6)) * 2.0).clamp(min=-FARTHEST)
    for _ in range(steps):
        near = torch.maximum(near, functional.max_pool2d(near, 3, 1, 1) - cost)
    return near
