"""What the decoder said of one tile, and what can be read off it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from ..core.contour import mask_polygons
from ..core.frame import TileFrame, warp_logits
from ..core.grid import Pyramid, Tile
from ..core.prompts import Bounds, Prompts
from .decoder import DecodedMasks

__all__ = ["Candidate", "Piece", "Proposal", "TileAnswer"]

_TOUCHING_CELLS = 2
"""Mask cells on a tile's border from which on the object counts as cut."""


@dataclass(frozen=True)
class TileAnswer:
    """The decoder's masks of one tile.

    Attributes
    ----------
    frame : TileFrame
    masks : DecodedMasks
    """

    frame: TileFrame
    masks: DecodedMasks

    def best_match(self, other: Piece, tile_size: int) -> tuple[int, float]:
        """Find the mask that agrees best with a mask of another tile, where the two tiles overlap.

        Returns
        -------
        (int, float)
            Index of the mask, and its IoU with the other there.
        """
        known = warp_logits(np.ones_like(other.logits), other.frame, self.frame, tile_size) > 0
        wanted = (warp_logits(other.logits, other.frame, self.frame, tile_size) > 0) & known
        best = (0, 0.0)
        for index, logits in enumerate(self.masks.low_res_masks):
            mask = (logits > 0) & known
            union = int((mask | wanted).sum())
            iou = float((mask & wanted).sum()) / union if union else 0.0
            if iou > best[1]:
                best = (index, iou)
        return best

    def piece(self, index: int) -> Piece:
        """Return one of the masks."""
        return Piece(self.frame, self.masks.low_res_masks[index], float(self.masks.iou_predictions[index]), index)


@dataclass(frozen=True)
class Piece:
    """One mask on one tile.

    Attributes
    ----------
    frame : TileFrame
    logits : float32 (256, 256)
    score : float
        Predicted IoU.
    token : int
        Index of the mask among the decoder's.
    """

    frame: TileFrame
    logits: NDArray[np.float32]
    score: float
    token: int

    def polygons(self, tile_size: int, bounds: Bounds) -> list[shapely.Polygon]:
        """Trace the mask.

        Parameters
        ----------
        tile_size : int
        bounds : Bounds
            The tile up to the raster's true edge. A coarse level ends up to one of its pixels before it; what
            reaches the level's end is drawn out to the raster's.

        Returns
        -------
        list of Polygon
            In native pixels, the largest first.
        """
        frame = self.frame
        ends = np.array(frame.bounds[2:]), np.array(bounds[2:])

        def to_native(xy: NDArray[np.float64]) -> NDArray[np.float64]:
            native = frame.array_to_native(xy)
            return np.where(native >= ends[0], ends[1], native)

        traced = mask_polygons(self.logits, tile_size, frame.width, frame.height)
        return [shapely.transform(polygon, to_native) for polygon in traced]

    def mask_bounds(self, tile_size: int) -> Bounds | None:
        """Return the rectangle around the mask in native pixels, or None where the mask is empty."""
        rows, cols = np.nonzero(self.logits > 0)
        if rows.size == 0:
            return None
        stride = tile_size / self.logits.shape[0]
        left, top = self.frame.to_native(cols.min() * stride, rows.min() * stride)
        right, bottom = self.frame.to_native((cols.max() + 1) * stride, (rows.max() + 1) * stride)
        own = self.frame.bounds
        return Bounds(left, top, min(right, own.max_x), min(bottom, own.max_y))

    def cut_sides(self, pyramid: Pyramid) -> tuple[str, ...]:
        """Name the sides at which the tile cuts the mask: left, top, right, bottom; never the raster's own edge."""
        frame, mask = self.frame, self.logits > 0
        grid = pyramid.grids[frame.tile.level]
        size = pyramid.tiling.tile_size
        edges = {
            "left": (mask[:, 0], frame.col_off > 0),
            "top": (mask[0], frame.row_off > 0),
            "right": (mask[:, -1], frame.col_off + size < grid.width),
            "bottom": (mask[-1], frame.row_off + size < grid.height),
        }
        return tuple(side for side, (cells, is_inner) in edges.items() if is_inner and cells.sum() >= _TOUCHING_CELLS)


@dataclass(frozen=True)
class Proposal:
    """The decoder's answer to a set of prompts, before any of its masks is traced.

    Attributes
    ----------
    prompts : Prompts
        In native pixels.
    answers : tuple of TileAnswer
        One, but where no single tile holds all the prompts.
    ranking : tuple of int
        Indices of the masks, the one to show first in front.
    """

    prompts: Prompts
    answers: tuple[TileAnswer, ...]
    ranking: tuple[int, ...]


@dataclass(frozen=True)
class Candidate:
    """One of the masks of a proposal, as polygons.

    Attributes
    ----------
    polygons : tuple of Polygon
        In native pixels, valid; empty where the mask is.
    score : float
        Predicted IoU.
    level : int
        Of the tile that answered.
    tiles : tuple of Tile
        Every tile that had a part in it.
    piece : Piece
        The mask it started from, to be refined by the next prompt.
    """

    polygons: tuple[shapely.Polygon, ...]
    score: float
    level: int
    tiles: tuple[Tile, ...]
    piece: Piece
