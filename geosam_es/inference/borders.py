"""Continuing a mask that the border of a tile cuts.

Until the object is whole, these are tried in order: another tile of the same level that holds all that is known of the
object; coarser levels, as long as their mask agrees with the finer one where they overlap; and, if neither helps (a
road, a river, a store with one level), the neighbouring tiles of the level, each prompted with the mask that reaches
into it.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import shapely
from shapely.geometry.base import BaseGeometry

from ..core.grid import Pyramid, Tile
from ..core.prompts import Bounds, Point, Prompts
from .masks import TileMask, best_match

__all__ = ["continue_beyond_border"]

MIN_AGREEMENT = 0.7
"""Two masks count as the same object from this IoU in their overlap."""

MAX_TILES = 16
"""Tiles that one object may extend over; bounds the time of a click on a long road."""

_SEED_PARTS = 2


class TileDecoder(Protocol):
    """The part of `Segmenter` needed here."""

    pyramid: Pyramid

    def provide(self, tile: Tile) -> bool:
        """Encode a tile if it can be on demand, and tell whether it has features."""
        ...

    def decode(self, tile: Tile, prompts: Prompts, previous: TileMask | None = None) -> tuple[TileMask, ...]:
        """Decode prompts on a tile."""
        ...


def continue_beyond_border(decoder: TileDecoder, mask: TileMask, prompts: Prompts) -> list[TileMask]:
    """Continue a mask beyond the border of its tile, encoding the tiles it needs if the decoder can.

    Parameters
    ----------
    decoder : TileDecoder
    mask : TileMask
        Of the first tile.
    prompts : Prompts
        In native pixels.

    Returns
    -------
    list of TileMask
        Masks that together cover the object, the main one first.
    """
    if not mask.cut_sides(decoder.pyramid):
        return [mask]
    centred = _same_level(decoder, mask, prompts)
    if centred is not None:
        return [centred]
    coarse = _coarser(decoder, mask, prompts)
    if not coarse.cut_sides(decoder.pyramid):
        return [coarse]
    return _neighbours(decoder, coarse, prompts)


def _same_level(decoder: TileDecoder, mask: TileMask, prompts: Prompts) -> TileMask | None:
    """Look for a tile of the same level in which the object is whole."""
    grid = decoder.pyramid.grid(mask.frame.tile.level)
    for _, tile in grid.tiles_around(_extent(decoder, mask, prompts), tolerance=grid.scale):
        if tile != mask.frame.tile and decoder.provide(tile):
            found = _matching(decoder, tile, mask, prompts)
            return found if found and not found.cut_sides(decoder.pyramid) else None
    return None


def _coarser(decoder: TileDecoder, mask: TileMask, prompts: Prompts) -> TileMask:
    """Go to coarser levels while the object is cut and the coarser mask agrees."""
    for grid in decoder.pyramid.grids_from(mask.frame.tile.level)[1:]:
        around = grid.tiles_around(_extent(decoder, mask, prompts), tolerance=grid.scale)
        if len(decoder.pyramid.parts) > 1 and around and around[0][0] <= 0:
            # It ends where the object is cut, as every level does at the border of a sheet.
            continue
        tile = next((tile for _, tile in around if decoder.provide(tile)), None)
        found = _matching(decoder, tile, mask, prompts) if tile else None
        if found is None:
            break
        mask = found
        if not mask.cut_sides(decoder.pyramid):
            break
    return mask


def _neighbours(decoder: TileDecoder, first: TileMask, prompts: Prompts) -> list[TileMask]:
    """Grow the mask from tile to tile of its level."""
    masks = [first]
    visited = {first.frame.tile}
    queue = deque([first])
    while queue and len(masks) < MAX_TILES:
        mask = queue.popleft()
        for side in mask.cut_sides(decoder.pyramid):
            tile, known = decoder.pyramid.neighbour(mask.frame.tile, side), mask
            if tile is None:
                known = mask.beyond(side, decoder.pyramid)
                tile = _across(decoder.pyramid, known, mask.frame.tile)
            if tile is None or tile in visited or len(masks) >= MAX_TILES:
                continue
            visited.add(tile)
            bounds = decoder.pyramid.tile_bounds(tile)
            seeds = _seeds(decoder.pyramid, known, shapely.box(*bounds))
            if not seeds or not decoder.provide(tile):
                continue
            own = prompts.within(bounds).points
            # What is assumed beyond a border is too little for `mask_input`: the scores fall to a tenth.
            is_shared = bounds.intersection(mask.frame.bounds) is not None
            grown = _matching(decoder, tile, known, Prompts((*seeds, *own)), known if is_shared else None)
            if grown is not None:
                masks.append(grown)
                queue.append(grown)
    return masks


def _matching(
    decoder: TileDecoder, tile: Tile, mask: TileMask, prompts: Prompts, previous: TileMask | None = None
) -> TileMask | None:
    """Decode on another tile and return the mask of the same object, if there is one."""
    found, agreement = best_match(decoder.decode(tile, prompts, previous), mask, decoder.pyramid.tiling.tile_size)
    return found if agreement >= MIN_AGREEMENT else None


def _extent(decoder: TileDecoder, mask: TileMask, prompts: Prompts) -> Bounds:
    """Return the bounding box of the prompts and the mask, in native pixels."""
    bounds = prompts.positive_bounds
    known = mask.mask_bounds(decoder.pyramid.tiling.tile_size) or bounds
    return Bounds(
        min(bounds.min_x, known.min_x),
        min(bounds.min_y, known.min_y),
        max(bounds.max_x, known.max_x),
        max(bounds.max_y, known.max_y),
    )


def _across(pyramid: Pyramid, mask: TileMask, tile: Tile) -> Tile | None:
    """Return the tile of another sheet that shows best where a mask goes on beyond a tile of its own."""
    around = shapely.box(*mask.frame.bounds)
    seeds = _seeds(pyramid, mask, shapely.difference(around, shapely.box(*pyramid.tile_bounds(tile))))
    grid = pyramid.grid(tile.level)
    places = [Bounds(seed.x, seed.y, seed.x, seed.y) for seed in seeds[:1]]
    return next((other for place in places for _, other in grid.tiles_around(place, 0.0)), None)


def _seeds(pyramid: Pyramid, mask: TileMask, area: BaseGeometry) -> list[Point]:
    """Return points well inside the parts of the mask that reach into an area, such as that of a neighbouring tile."""
    polygons = mask.polygons(pyramid.tiling.tile_size, mask.frame.bounds)
    inside = [shapely.intersection(polygon, area) for polygon in polygons]
    parts = sorted((part for part in inside if part.area > 0), key=lambda part: -part.area)
    points = [shapely.point_on_surface(part) for part in parts[:_SEED_PARTS]]
    return [Point(point.x, point.y) for point in points]
