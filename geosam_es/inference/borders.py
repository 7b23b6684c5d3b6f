"""What to do when a tile's border cuts a mask.

In this order, until the object is whole: another tile of the same level that holds all that is seen of it; coarser
levels, as long as their mask agrees with the finer one where both see; and where neither helps (a road, a river, a
store with one level), the neighbouring tiles of the same level, each prompted with the mask that reaches into it.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import shapely

from ..core.grid import Pyramid, Tile
from ..core.prompts import Bounds, Point, Prompts
from ..store.reader import StoreReader
from .masks import Piece, TileAnswer

__all__ = ["continue_beyond_border"]

MIN_AGREEMENT = 0.7
"""IoU, where both see, from which on a mask counts as the same object's."""

MAX_TILES = 16
"""Tiles that one object may grow over, which bounds the time of a click on an endless road."""

_SEED_PARTS = 2


class TileDecoder(Protocol):
    """The part of `Segmenter` that is needed here."""

    reader: StoreReader
    pyramid: Pyramid

    def decode(self, tile: Tile, prompts: Prompts, previous: Piece | None = None) -> TileAnswer:
        """Decode prompts on a tile."""
        ...


def continue_beyond_border(decoder: TileDecoder, piece: Piece, prompts: Prompts) -> list[Piece]:
    """Follow a mask beyond the border of its tile.

    Parameters
    ----------
    decoder : TileDecoder
    piece : Piece
        The mask as the first tile has it.
    prompts : Prompts
        In native pixels.

    Returns
    -------
    list of Piece
        Masks that together cover the object, the one that answers for it first.
    """
    if not piece.cut_sides(decoder.pyramid):
        return [piece]
    centred = _same_level(decoder, piece, prompts)
    if centred is not None:
        return [centred]
    coarse = _coarser(decoder, piece, prompts)
    if not coarse.cut_sides(decoder.pyramid):
        return [coarse]
    return _neighbours(decoder, coarse, prompts)


def _same_level(decoder: TileDecoder, piece: Piece, prompts: Prompts) -> Piece | None:
    """Look for a tile of the same level in which the object is whole."""
    grid = decoder.pyramid.grids[piece.frame.tile.level]
    for _, tile in grid.tiles_around(_seen(decoder, piece, prompts), tolerance=grid.scale):
        if tile != piece.frame.tile and decoder.reader.is_encoded(tile):
            found = _matching(decoder, tile, piece, prompts)
            return found if found and not found.cut_sides(decoder.pyramid) else None
    return None


def _coarser(decoder: TileDecoder, piece: Piece, prompts: Prompts) -> Piece:
    """Climb the levels while the object is cut and the coarser mask is the same object's."""
    for grid in decoder.pyramid.grids[piece.frame.tile.level + 1 :]:
        around = grid.tiles_around(_seen(decoder, piece, prompts), tolerance=grid.scale)
        tile = next((tile for _, tile in around if decoder.reader.is_encoded(tile)), None)
        found = _matching(decoder, tile, piece, prompts) if tile else None
        if found is None:
            break
        piece = found
        if not piece.cut_sides(decoder.pyramid):
            break
    return piece


def _neighbours(decoder: TileDecoder, first: Piece, prompts: Prompts) -> list[Piece]:
    """Let the mask grow from tile to tile of its level."""
    pieces = [first]
    visited = {first.frame.tile}
    queue = deque([first])
    while queue and len(pieces) < MAX_TILES:
        piece = queue.popleft()
        for side in piece.cut_sides(decoder.pyramid):
            tile = _neighbour(decoder.pyramid, piece.frame.tile, side)
            if tile is None or tile in visited or len(pieces) >= MAX_TILES:
                continue
            visited.add(tile)
            seeds = _seeds(decoder.pyramid, piece, tile)
            if not seeds or not decoder.reader.is_encoded(tile):
                continue
            own = prompts.within(decoder.pyramid.tile_bounds(tile)).points
            grown = _matching(decoder, tile, piece, Prompts((*seeds, *own)), piece)
            if grown is not None:
                pieces.append(grown)
                queue.append(grown)
    return pieces


def _matching(
    decoder: TileDecoder, tile: Tile, piece: Piece, prompts: Prompts, previous: Piece | None = None
) -> Piece | None:
    """Decode on another tile and return the mask of the same object, if there is one."""
    answer = decoder.decode(tile, prompts, previous)
    index, agreement = answer.best_match(piece, decoder.pyramid.tiling.tile_size)
    return answer.piece(index) if agreement >= MIN_AGREEMENT else None


def _seen(decoder: TileDecoder, piece: Piece, prompts: Prompts) -> Bounds:
    """Return the rectangle around the prompts and all that is seen of the object, in native pixels."""
    bounds = prompts.positive_bounds
    mask = piece.mask_bounds(decoder.pyramid.tiling.tile_size) or bounds
    return Bounds(
        min(bounds.min_x, mask.min_x),
        min(bounds.min_y, mask.min_y),
        max(bounds.max_x, mask.max_x),
        max(bounds.max_y, mask.max_y),
    )


def _neighbour(pyramid: Pyramid, tile: Tile, side: str) -> Tile | None:
    step = {"left": (0, -1), "right": (0, 1), "top": (-1, 0), "bottom": (1, 0)}[side]
    row, col = tile.row + step[0], tile.col + step[1]
    grid = pyramid.grids[tile.level]
    return Tile(tile.level, row, col) if 0 <= row < grid.rows and 0 <= col < grid.cols else None


def _seeds(pyramid: Pyramid, piece: Piece, tile: Tile) -> list[Point]:
    """Return points well inside the parts of the mask that reach into a neighbouring tile."""
    area = shapely.box(*pyramid.tile_bounds(tile))
    polygons = piece.polygons(pyramid.tiling.tile_size, pyramid.tile_bounds(piece.frame.tile))
    inside = [shapely.intersection(polygon, area) for polygon in polygons]
    parts = sorted((part for part in inside if part.area > 0), key=lambda part: -part.area)
    points = [shapely.point_on_surface(part) for part in parts[:_SEED_PARTS]]
    return [Point(point.x, point.y) for point in points]
