"""Stores of neighbouring sheets read as one, for objects that the border of a sheet cuts.

One sheet is the main one: coordinates are its native pixels, which go on beyond it, and its tiles keep their addresses.
The rows of the n-th neighbour begin at n times `_ROWS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.grid import LevelGrid, Pyramid, Tile
from ..core.prompts import Bounds
from ..core.window import Window
from ..errors import StoreError
from .metadata import StoreMetadata
from .reader import StoreReader, TileState
from .remote import StorePlace

__all__ = ["JoinedReader"]

_ROWS = 1 << 32
_INWARD = {"left": 1, "top": 1, "right": -1, "bottom": -1}

_MOST_COMMON = 0.5
"""Images that share more of their area than this show one place, at different times perhaps, and are no neighbours."""

_TOLERANCE = 0.05
"""Largest distance of the pixel grids of two sheets in pixels."""


class JoinedReader(StoreReader):
    """The store of a sheet together with those of its neighbours that have the same model and pixel grid.

    Parameters
    ----------
    root : Path or RemoteStore
    neighbours : sequence of Path or RemoteStore
        Those that cannot be read, or do not agree, are left out.
    same_crs : callable
        Tells whether two CRSs, as WKT, are the same.

    Raises
    ------
    StoreError
        If the store of the main sheet cannot be opened.
    """

    def __init__(
        self, root: StorePlace, neighbours: Sequence[StorePlace], same_crs: Callable[[str, str], bool]
    ) -> None:
        super().__init__(root)
        self._readers: list[StoreReader] = [self]
        self._unreadable: set[Tile] = set()
        sheets = [_Sheet(self.pyramid, 0, 0)]
        for place in neighbours:
            with suppress(StoreError):
                reader = StoreReader(place)
                shift = _shift(self.metadata, reader.metadata)
                if shift is not None and same_crs(self.metadata.raster.crs_wkt, reader.metadata.raster.crs_wkt):
                    self._readers.append(reader)
                    sheets.append(_Sheet(reader.pyramid, *shift))
        if len(sheets) > 1:
            self.pyramid = _JoinedPyramid(sheets)

    @property
    def readers(self) -> Sequence[StoreReader]:
        """See `StoreReader.readers`."""
        return self._readers

    def state(self, tile: Tile) -> TileState:
        """See `StoreReader.state`; a tile of a neighbour that could not be read is missing."""
        number, own = _own(tile)
        if tile in self._unreadable:
            return TileState.MISSING
        return super().state(tile) if number == 0 else self._readers[number].state(own)

    def read_stored(self, tile: Tile) -> dict[str, NDArray[Any]]:
        """See `StoreReader.read_stored`."""
        number, own = _own(tile)
        if number == 0:
            return super().read_stored(tile)
        try:
            return self._readers[number].read_stored(own)
        except StoreError:
            self._unreadable.add(tile)
            raise


def _shift(main: StoreMetadata, other: StoreMetadata) -> tuple[int, int] | None:
    """Return where another sheet begins in the pixels of the main one; None if it is no neighbour that agrees."""
    width, height = other.raster.width, other.raster.height
    corners = np.array([(0, 0), (width, 0), (0, height)], dtype=float)
    found = main.raster.transform.inverse().apply_array(other.raster.transform.apply_array(corners))
    col, row = np.rint(found[0]).astype(int).tolist()
    is_same_model = main.model["encoder_sha256"] == other.model["encoder_sha256"] and main.features == other.features
    is_same_grid = np.allclose(found, corners + found[0].round(), rtol=0, atol=_TOLERANCE)
    is_same = is_same_model and is_same_grid and main.tiling.tile_size == other.tiling.tile_size
    common = main.pyramid.bounds.intersection(Bounds(col, row, col + width, row + height))
    smaller = min(width * height, main.raster.width * main.raster.height)
    is_beside = common is None or common.width * common.height <= _MOST_COMMON * smaller
    return (col, row) if is_same and is_beside else None


class _Sheet(NamedTuple):
    """The tiles of a sheet, and where it begins in native pixels of the main one."""

    pyramid: Pyramid
    col: int
    row: int

    def moved(self, bounds: Bounds, sign: int = 1) -> Bounds:
        """Return a rectangle of the sheet in pixels of the main one, or the other way round."""
        col, row = sign * self.col, sign * self.row
        return Bounds(bounds.min_x + col, bounds.min_y + row, bounds.max_x + col, bounds.max_y + row)


class _JoinedPyramid(Pyramid):
    """The tiles of several sheets. What is counted and iterated over are those of the main one."""

    def __init__(self, sheets: Sequence[_Sheet]) -> None:
        main = sheets[0].pyramid
        super().__init__(main.width, main.height, main.tiling, len(main.grids))
        self.sheets = sheets
        self.parts = tuple(sheet.moved(sheet.pyramid.bounds) for sheet in sheets)
        self.grids = tuple(_JoinedGrid(self, grid) for grid in main.grids)
        self.enlarged = tuple(_JoinedGrid(self, grid) for grid in main.enlarged)

    def origin(self, tile: Tile) -> tuple[float, float]:
        """Return the upper left corner of a tile in pixels of its level; on coarse levels maybe between pixels."""
        number, own = _own(tile)
        sheet, scale = self.sheets[number], 2.0**tile.level
        col, row = sheet.pyramid.origin(own)
        return col + sheet.col / scale, row + sheet.row / scale

    def tile_bounds(self, tile: Tile) -> Bounds:
        """Return the native pixels that a tile covers."""
        number, own = _own(tile)
        sheet = self.sheets[number]
        return sheet.moved(sheet.pyramid.tile_bounds(own))

    def neighbour(self, tile: Tile, side: str) -> Tile | None:
        """Return the next tile of the same sheet; None at its border."""
        number, own = _own(tile)
        found = self.sheets[number].pyramid.neighbour(own, side)
        return None if found is None else _numbered(number, found)


class _JoinedGrid(LevelGrid):
    """The tiles of one level."""

    def __init__(self, pyramid: _JoinedPyramid, main: LevelGrid) -> None:
        super().__init__(main.level, main.width, main.height, main.tiling)
        self._pyramid = pyramid

    def window(self, row: int, col: int) -> Window:
        """Return the pixels that a tile covers in its own sheet."""
        number, own = _own(Tile(self.level, row, col))
        return self._pyramid.sheets[number].pyramid.window(own)

    def _grids(self) -> Iterator[tuple[int, _Sheet, LevelGrid]]:
        for number, sheet in enumerate(self._pyramid.sheets):
            if self.level < len(sheet.pyramid.grids):
                yield number, sheet, sheet.pyramid.grid(self.level)

    def touching(self, bounds: Bounds) -> Iterator[Tile]:
        """Return the tiles that share an area with a rectangle in native pixels."""
        for number, sheet, grid in self._grids():
            yield from (_numbered(number, tile) for tile in grid.touching(sheet.moved(bounds, -1)))

    def tiles_around(self, bounds: Bounds, tolerance: float) -> list[tuple[float, Tile]]:
        """Return the tiles that contain a rectangle, widest margin first; the border of a sheet counts as one."""
        found = []
        for number, sheet, grid in self._grids():
            for _, tile in grid.tiles_around(sheet.moved(bounds, -1), tolerance):
                own = sheet.moved(sheet.pyramid.tile_bounds(tile))
                inner = self._pyramid.inner_sides(own, self.scale)
                margins = [
                    sign * (end - border) / self.scale if side in inner else self.tiling.tile_size
                    for (side, sign), end, border in zip(_INWARD.items(), bounds, own)
                ]
                x, y = min(margins[::2]), min(margins[1::2])
                found.append((min(x, y), x + y, _numbered(number, tile)))
        found.sort(key=lambda item: (-item[0], -item[1], item[2]))
        return [(margin, tile) for margin, _, tile in found]


def _own(tile: Tile) -> tuple[int, Tile]:
    """Return the number of the sheet of a tile, and its address there."""
    number, row = divmod(tile.row, _ROWS)
    return number, tile._replace(row=row)


def _numbered(number: int, tile: Tile) -> Tile:
    return tile._replace(row=tile.row + number * _ROWS)
