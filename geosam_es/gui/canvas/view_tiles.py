"""The tiles of a store that lie in view: prepared before they are needed, and shown."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import shapely

from ...core.prompts import Bounds
from ...inference.segmenter import Segmenter
from ...store.reader import TileState
from ..stores.open_store import OpenStore
from ..stores.worker import Job
from .view import Sight

__all__ = ["TilesInView", "jobs_ahead", "prepare_tile", "tiles_in_view"]

_MOST_TILES = 600
"""More than this on a screen is a grey haze, and takes long to look up."""


class TilesInView(NamedTuple):
    """Outlines of tiles in the raster's CRS."""

    encoded: list[shapely.Polygon]
    missing: list[shapely.Polygon]


def tiles_in_view(segmenter: Segmenter, sight: Sight) -> TilesInView:
    """Look up the tiles that answer at this scale and touch the view; those without data are left out."""
    reader = segmenter.reader
    transform = reader.metadata.raster.transform
    inverse = transform.inverse()
    cols, rows = zip(*(inverse.apply(x, y) for x, y in sight.corners))
    view = Bounds(min(cols), min(rows), max(cols), max(rows))
    bounds_of = reader.pyramid.tile_bounds
    touched = [tile for tile in reader.pyramid.grids[sight.level] if bounds_of(tile).intersection(view)]
    found = TilesInView([], [])
    for tile in touched[:_MOST_TILES]:
        state = reader.state(tile)
        if state is TileState.SKIPPED:
            continue
        outline = transform.apply_geometry(shapely.box(*bounds_of(tile)))
        (found.encoded if state is TileState.ENCODED else found.missing).append(outline)
    return found


def prepare_tile(segmenter: Segmenter, x: float, y: float, level: int) -> None:
    """Read and prepare the tile that would answer a click at a place in the raster's CRS."""
    col, row = segmenter.reader.metadata.raster.transform.inverse().apply(x, y)
    place = Bounds(col, row, col, row)
    tile = segmenter.pyramid.choose(place, is_box=False, level=level, available=segmenter.can_provide)
    if tile is not None and segmenter.provide(tile):
        segmenter.context(tile)


def jobs_ahead(store: OpenStore, sight: Sight, with_tiles: bool) -> list[Job]:
    """Return what can be done before a click: look up the tiles, if they are to be shown, and prepare them."""
    # Where tiles are encoded on demand, those the user never clicks on are not worth the time.
    places = sight.places if store.live is None else sight.places[:1]
    jobs = [Job(partial(prepare_tile, store.segmenter, x, y, sight.level), "ahead") for x, y in places]
    if with_tiles:
        jobs.insert(0, Job(partial(tiles_in_view, store.segmenter, sight), "tiles", store))
    return jobs
