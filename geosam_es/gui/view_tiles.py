"""Which tiles of a store lie in view, and which of them can be prompted."""

from __future__ import annotations

from typing import NamedTuple

import shapely

from ..core.prompts import Bounds
from ..store.reader import StoreReader, TileState

__all__ = ["TilesInView", "tiles_in_view"]

_MOST_TILES = 600
"""More than this on a screen is a grey haze, and takes long to look up."""


class TilesInView(NamedTuple):
    """Outlines of tiles in the raster's CRS."""

    encoded: list[shapely.Polygon]
    missing: list[shapely.Polygon]


def tiles_in_view(reader: StoreReader, view: Bounds, level: int) -> TilesInView:
    """Look up the tiles of a level that touch a rectangle in native pixels; those without data are left out."""
    found = TilesInView([], [])
    transform = reader.metadata.raster.transform
    touched = [tile for tile in reader.pyramid.grids[level] if reader.pyramid.tile_bounds(tile).intersection(view)]
    for tile in touched[:_MOST_TILES]:
        state = reader.state(tile)
        if state is TileState.SKIPPED:
            continue
        outline = transform.apply_geometry(shapely.box(*reader.pyramid.tile_bounds(tile)))
        (found.encoded if state is TileState.ENCODED else found.missing).append(outline)
    return found
