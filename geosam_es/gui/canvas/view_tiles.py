"""The tiles of a store in view: outlines to show, and preparation before the first click."""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

import shapely

from ...core.prompts import Bounds
from ...inference.segmenter import Segmenter
from ...store.reader import TileState
from .view import Sight

__all__ = ["TilesInView", "prepare_tile", "tiles_in_view"]

_MOST_TILES = 600
"""Shown at once; more could not be told apart, and would take long to look up."""


class TilesInView(NamedTuple):
    """Outlines of tiles in the raster's CRS."""

    encoded: list[shapely.Polygon]
    missing: list[shapely.Polygon]


def tiles_in_view(segmenter: Segmenter, sight: Sight) -> TilesInView:
    """Return the tiles in view at the level of the map's scale, without those that have no data."""
    reader = segmenter.reader
    transform = reader.metadata.raster.transform
    inverse = transform.inverse()
    cols, rows = zip(*(inverse.apply(x, y) for x, y in sight.corners))
    view = Bounds(min(cols), min(rows), max(cols), max(rows))
    bounds_of = reader.pyramid.tile_bounds
    found = TilesInView([], [])
    for tile in islice(reader.pyramid.grid(sight.level).touching(view), _MOST_TILES):
        state = reader.state(tile)
        if state is TileState.SKIPPED:
            continue
        outline = transform.apply_geometry(shapely.box(*bounds_of(tile)))
        (found.encoded if state is TileState.ENCODED else found.missing).append(outline)
    return found


def prepare_tile(segmenter: Segmenter, x: float, y: float, level: int) -> None:
    """Read and prepare the tile that would answer a click at a place, in the raster's CRS."""
    col, row = segmenter.reader.metadata.raster.transform.inverse().apply(x, y)
    place = Bounds(col, row, col, row)
    tile = segmenter.pyramid.choose(place, is_box=False, level=level, available=segmenter.can_provide)
    if tile is not None and segmenter.provide(tile):
        segmenter.context(tile)
