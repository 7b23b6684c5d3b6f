"""Transformation of points, boxes and logits between native pixels and a tile.

All of them use one object, so that the encoder's and the decoder's coordinates cannot differ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray

from .grid import Pyramid, Tile
from .prompts import Bounds, Prompts

__all__ = ["TileFrame", "warp_logits"]


@dataclass(frozen=True)
class TileFrame:
    """Position of a tile.

    Attributes
    ----------
    tile : Tile
    col_off, row_off : float
        Upper left corner in pixels of the tile's level; whole numbers, except on coarse levels of a neighbouring sheet.
    width, height : int
        Size of the tile in its pixels, without padding.
    scale : float
        Native pixels per pixel of the level, along one side; a power of two.

    Examples
    --------
    >>> frame = TileFrame(Tile(1, 0, 1), col_off=768, row_off=0, width=1024, height=1024, scale=2)
    >>> frame.to_tile(1636.0, 10.0)
    (50.0, 5.0)
    >>> frame.to_native(50.0, 5.0)
    (1636.0, 10.0)
    """

    tile: Tile
    col_off: float
    row_off: float
    width: int
    height: int
    scale: float

    @classmethod
    def of(cls, pyramid: Pyramid, tile: Tile) -> TileFrame:
        """Return the frame of a tile."""
        window = pyramid.window(tile)
        return cls(tile, *pyramid.origin(tile), window.width, window.height, 2.0**tile.level)

    @property
    def bounds(self) -> Bounds:
        """Extent of the tile without padding, in native pixels."""
        left, top = self.to_native(0.0, 0.0)
        return Bounds(left, top, *self.to_native(self.width, self.height))

    def to_tile(self, x: float, y: float) -> tuple[float, float]:
        """Map native pixels to tile pixels."""
        return x / self.scale - self.col_off, y / self.scale - self.row_off

    def to_native(self, x: float, y: float) -> tuple[float, float]:
        """Map tile pixels to native pixels."""
        return (x + self.col_off) * self.scale, (y + self.row_off) * self.scale

    def array_to_native(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map positions (N, 2) in tile pixels to native pixels."""
        native: NDArray[np.float64] = (xy + np.array([self.col_off, self.row_off])) * self.scale
        return native

    def prompts_to_tile(self, prompts: Prompts) -> Prompts:
        """Map prompts from native pixels to tile pixels, points and box clamped to the tile.

        A prompt on the last native pixels of a raster may lie just outside a coarse level.
        """

        def inside(x: float, y: float) -> tuple[float, float]:
            x, y = self.to_tile(x, y)
            return min(max(x, 0.0), float(self.width)), min(max(y, 0.0), float(self.height))

        outline = prompts.outline
        if outline is not None:
            outline = shapely.transform(outline, lambda xy: xy / self.scale - (self.col_off, self.row_off))
        return replace(replace(prompts, outline=None).transformed(inside), outline=outline)


def warp_logits(
    logits: NDArray[np.float32], source: TileFrame, target: TileFrame, tile_size: int
) -> NDArray[np.float32]:
    """Resample low-resolution logits from the frame of one tile to that of another, bilinearly.

    Parameters
    ----------
    logits : float32 (h, w)
        Logits of the source tile, sampled at the centres of h x w cells.
    source, target : TileFrame
    tile_size : int
        Side of both tiles in pixels.

    Returns
    -------
    float32 (h, w)
        Zero, which is undecided, outside the source tile and in the padding of the target.
    """
    height, width = logits.shape
    rows, row_known = _axis(
        height, tile_size, (source.row_off, source.scale, source.height), (target.row_off, target.scale, target.height)
    )
    cols, col_known = _axis(
        width, tile_size, (source.col_off, source.scale, source.width), (target.col_off, target.scale, target.width)
    )
    row_low, row_part = np.floor(rows).astype(int), (rows % 1)[:, None]
    col_low, col_part = np.floor(cols).astype(int), cols % 1
    row_high, col_high = np.minimum(row_low + 1, height - 1), np.minimum(col_low + 1, width - 1)
    upper = logits[row_low][:, col_low] * (1 - col_part) + logits[row_low][:, col_high] * col_part
    lower = logits[row_high][:, col_low] * (1 - col_part) + logits[row_high][:, col_high] * col_part
    warped = upper * (1 - row_part) + lower * row_part
    return np.where(row_known[:, None] & col_known, warped, 0.0).astype(np.float32)


def _axis(
    cells: int, tile_size: int, source: tuple[float, float, int], target: tuple[float, float, int]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the source cell under each target cell along one axis, and whether there is one.

    Both tiles are given as (offset, scale, size).
    """
    (off, scale, size), (target_off, target_scale, target_size) = source, target
    stride = tile_size / cells
    places = (np.arange(cells) + 0.5) * stride
    position = (places + target_off) * target_scale / scale - off
    known = (position >= 0) & (position <= size) & (places - stride / 2 < target_size)
    return np.clip(position / stride - 0.5, 0, cells - 1), known
