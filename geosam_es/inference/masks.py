"""The decoder's masks of a tile, and what is derived from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray

from ..core.contour import mask_polygons
from ..core.frame import TileFrame, warp_logits
from ..core.grid import Pyramid, Tile
from ..core.prompts import Bounds, Prompts
from .decoder import rank_masks

__all__ = ["Candidate", "Proposal", "TileMask", "best_match"]

_TOUCHING_CELLS = 2
"""A tile cuts the object if at least this many cells of the mask lie on one of its borders."""

_CELLS_BEYOND = 4
"""How far an object is assumed to go on beyond the border of a sheet that the next one only touches."""


@dataclass(frozen=True)
class TileMask:
    """One of the decoder's masks of a tile.

    Attributes
    ----------
    frame : TileFrame
    logits : float32 (256, 256)
    score : float
        Predicted IoU.
    """

    frame: TileFrame
    logits: NDArray[np.float32]
    score: float

    def polygons(self, tile_size: int, bounds: Bounds) -> list[shapely.Polygon]:
        """Trace the mask.

        Parameters
        ----------
        tile_size : int
        bounds : Bounds
            The tile up to the raster's edge. A coarse level may end up to one of its pixels before that edge; a mask
            that reaches the end of the level is extended to the edge.

        Returns
        -------
        list of Polygon
            In native pixels, largest first.
        """
        frame = self.frame
        ends = np.array(frame.bounds[2:]), np.array(bounds[2:])

        def to_native(xy: NDArray[np.float64]) -> NDArray[np.float64]:
            native = frame.array_to_native(xy)
            return np.where(native >= ends[0], ends[1], native)

        traced = mask_polygons(self.logits, tile_size, frame.width, frame.height)
        return [shapely.transform(polygon, to_native) for polygon in traced]

    def mask_bounds(self, tile_size: int) -> Bounds | None:
        """Return the bounding box of the mask in native pixels, or None if the mask is empty."""
        rows, cols = np.nonzero(self.logits > 0)
        if rows.size == 0:
            return None
        stride = tile_size / self.logits.shape[0]
        left, top = self.frame.to_native(cols.min() * stride, rows.min() * stride)
        right, bottom = self.frame.to_native((cols.max() + 1) * stride, (rows.max() + 1) * stride)
        own = self.frame.bounds
        return Bounds(left, top, min(right, own.max_x), min(bottom, own.max_y))

    def cut_sides(self, pyramid: Pyramid) -> tuple[str, ...]:
        """Return the sides (left, top, right, bottom) where the tile cuts the mask, leaving out the raster's edges."""
        rows, cols = self._ends(pyramid)
        places = {"left": (..., 0), "top": (0,), "right": (..., cols - 1), "bottom": (rows - 1,)}
        inner = pyramid.inner_sides(self.frame.bounds, self.frame.scale)
        return tuple(side for side in inner if (self.logits[places[side]] > 0).sum() >= _TOUCHING_CELLS)

    def _ends(self, pyramid: Pyramid) -> tuple[int, int]:
        """Return the rows and columns of cells with pixels; the rest is padding."""
        size, (rows, cols) = pyramid.tiling.tile_size, self.logits.shape
        return -(-rows * self.frame.height // size), -(-cols * self.frame.width // size)

    def beyond(self, side: str, pyramid: Pyramid) -> TileMask:
        """Return the mask moved a little beyond a side, where the object goes on as it is at the border."""
        down, right = {"left": (0, -1), "top": (-1, 0), "right": (0, 1), "bottom": (1, 0)}[side]
        at_row, at_col = (
            np.clip(np.arange(count) + _CELLS_BEYOND * move, 0, end - 1)
            for count, move, end in zip(self.logits.shape, (down, right), self._ends(pyramid))
        )
        step = pyramid.tiling.tile_size // len(self.logits) * _CELLS_BEYOND
        frame = self.frame
        moved = replace(frame, col_off=frame.col_off + right * step, row_off=frame.row_off + down * step)
        return replace(self, frame=moved, logits=self.logits[at_row][:, at_col])


def best_match(masks: Sequence[TileMask], other: TileMask, tile_size: int) -> tuple[TileMask, float]:
    """Find the mask that agrees best with a mask of another tile where the two tiles overlap.

    Parameters
    ----------
    masks : sequence of TileMask
        Of one tile.
    other : TileMask
        Of another tile.
    tile_size : int

    Returns
    -------
    (TileMask, float)
        The mask, and its IoU with the other one.
    """
    frame = masks[0].frame
    known = warp_logits(np.ones_like(other.logits), other.frame, frame, tile_size) > 0
    wanted = (warp_logits(other.logits, other.frame, frame, tile_size) > 0) & known
    best = (masks[0], 0.0)
    for item in masks:
        mask = (item.logits > 0) & known
        union = int((mask | wanted).sum())
        iou = float((mask & wanted).sum()) / union if union else 0.0
        if iou > best[1]:
            best = (item, iou)
    return best


@dataclass(frozen=True)
class Proposal:
    """The decoder's masks for a set of prompts, not traced yet.

    Attributes
    ----------
    prompts : Prompts
        In native pixels.
    masks : tuple of tuple of TileMask
        The masks of each tile: one tile, unless no tile holds all the prompts. Empty for an outline made by hand.
    """

    prompts: Prompts
    masks: tuple[tuple[TileMask, ...], ...]

    @property
    def ranking(self) -> tuple[int, ...]:
        """Indices of a tile's masks, the one to show first in front."""
        scores = np.array([mask.score for masks in self.masks[:1] for mask in masks])
        return tuple(rank_masks(scores, self.prompts.is_ambiguous))


@dataclass(frozen=True)
class Candidate:
    """One of the masks of a proposal, traced.

    Attributes
    ----------
    polygons : tuple of Polygon
        In native pixels, valid; empty if the mask is.
    masks : tuple of TileMask
        The masks it was traced from. The next prompt refines the first. Empty for an outline made by hand.
    """

    polygons: tuple[shapely.Polygon, ...]
    masks: tuple[TileMask, ...]

    @property
    def mask(self) -> TileMask:
        """The mask that the next prompt refines."""
        return self.masks[0]

    @property
    def score(self) -> float:
        """Predicted IoU."""
        return self.mask.score

    @property
    def level(self) -> int:
        """Level of the tiles."""
        return self.mask.frame.tile.level

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """The tiles of the masks."""
        return tuple(mask.frame.tile for mask in self.masks)
