"""Bent crops, which turn straight fields into contour strips, terraces and crooked fields."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geosam_es.inference.encoder import FILL_RGB

CELL = 16
"""Cell size of the mesh in pixels."""

Mesh = tuple[tuple[int, int, int, int], tuple[float, ...]]


@dataclass(frozen=True)
class Warp:
    """Source position of each pixel of a square crop.

    Attributes
    ----------
    size : int
        Side of the crop in pixels, a multiple of `CELL`.
    nodes : float64 (size / 16 + 1, size / 16 + 1, 2)
        Source XY of the corners of the mesh, with bilinear interpolation between them.
    """

    size: int
    nodes: NDArray[np.float64]

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """x_min, y_min, x_max, y_max of all source positions."""
        low, high = self.nodes.min((0, 1)), self.nodes.max((0, 1))
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    def positions(self, stride: int) -> NDArray[np.float64]:
        """Return the source XY (size / stride, size / stride, 2) of the centres of cells."""
        at = (np.arange(self.size // stride) + 0.5) * stride / CELL
        weights = np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(self.size // CELL + 1)))
        return np.asarray(np.einsum("yi,xj,ijc->yxc", weights, weights, self.nodes, optimize=True))

    def sample(self, source: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
        """Sample a picture (H, W, 3) at `scale` times the source's resolution, bilinearly; outside it is padding."""
        height, width = source.shape[:2]
        x0, y0, x1, y1 = self.bounds
        left, top = (max(0, int(np.floor(value * scale)) - 2) for value in (x0, y0))
        right, bottom = min(width, int(np.ceil(x1 * scale)) + 2), min(height, int(np.ceil(y1 * scale)) + 2)
        if right <= left or bottom <= top:
            return np.full((self.size, self.size, 3), FILL_RGB, dtype=np.uint8)
        window = Image.fromarray(source[top:bottom, left:right])
        nodes = self.nodes * scale - (left, top)
        crop = window.transform(
            (self.size, self.size),
            Image.Transform.MESH,
            list(_mesh(nodes)),
            Image.Resampling.BILINEAR,
            fillcolor=FILL_RGB,
        )
        return np.array(crop)


def _mesh(nodes: NDArray[np.float64]) -> list[Mesh]:
    """Return boxes of the crop and their source corners: upper left, lower left, lower right, upper right."""
    rows, columns = nodes.shape[0] - 1, nodes.shape[1] - 1
    corners = np.concatenate([nodes[:-1, :-1], nodes[1:, :-1], nodes[1:, 1:], nodes[:-1, 1:]], axis=2)
    return [
        (
            (column * CELL, row * CELL, (column + 1) * CELL, (row + 1) * CELL),
            tuple(corners[row, column].tolist()),
        )
        for row in range(rows)
        for column in range(columns)
    ]


def make_warp(size: int, turn: NDArray[np.float64], middle: NDArray[np.float64], bend: Bend | None) -> Warp:
    """Return the warp of a crop.

    Parameters
    ----------
    size : int
    turn : float64 (2, 2)
        Crop pixels to source pixels.
    middle : float64 (2,)
        Source XY of the crop's centre.
    bend : Bend or None
        Applied in the crop before `turn`.
    """
    at = np.arange(size // CELL + 1) * float(CELL) - size / 2
    nodes = np.stack(np.meshgrid(at, at), axis=2)
    if bend is not None:
        nodes = nodes + bend.shift(nodes)
    return Warp(size, nodes @ turn.T + middle)


@dataclass(frozen=True)
class Bend:
    """Two sine waves that displace the pixels of a crop.

    Attributes
    ----------
    directions, amplitudes, lengths, phases : float64 (2,)
        Radians, pixels, pixels, radians.
    """

    directions: NDArray[np.float64]
    amplitudes: NDArray[np.float64]
    lengths: NDArray[np.float64]
    phases: NDArray[np.float64]

    @classmethod
    def draw(cls, size: int, rng: np.random.Generator) -> Bend:
        """Draw a bend for crops of this size; each wave is at most 40 degrees steep."""
        lengths = size * np.exp(rng.uniform(np.log(0.4), np.log(2.0), 2))
        slopes = rng.uniform(0.15, 0.8, 2)
        amplitudes = slopes * lengths / (2 * np.pi)
        return cls(rng.uniform(0, 2 * np.pi, 2), amplitudes, lengths, rng.uniform(0, 2 * np.pi, 2))

    def shift(self, nodes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the displacement (..., 2) of positions (..., 2), which is zero in the middle."""
        total = np.zeros_like(nodes)
        for direction, amplitude, length, phase in zip(self.directions, self.amplitudes, self.lengths, self.phases):
            along = np.array([np.cos(direction), np.sin(direction)])
            across = np.array([-along[1], along[0]])
            wave = np.sin(2 * np.pi * (nodes @ along) / length + phase) - np.sin(phase)
            total += amplitude * wave[..., None] * across
        return total
