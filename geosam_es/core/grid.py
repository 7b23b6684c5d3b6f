"""Tiles and levels.

Level k has pixels of 2^k times the native size. A remainder of less than 2^k native pixels exists only in the finer
levels. Levels -1 and -2 are the image enlarged 2 and 4 times, for objects of few pixels. Each level is cut into
overlapping square tiles of one size. The last tile of a row or column is moved inwards so that it is full. If a level
is smaller than a tile, its only tile is padded on the right and at the bottom.

A store of features that another program made has one level, and its tiles start where that program has put them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from .prompts import Bounds
from .window import Window

__all__ = ["FINEST_LEVEL", "LevelGrid", "Pyramid", "Tile", "Tiling"]

FINEST_LEVEL = -2
"""The image enlarged four times. Further enlargement shows the model nothing new."""

MAX_BOX_FILL = 0.8
"""Largest part of a tile's side that a box may take: the decoder needs to see the surroundings of the object."""

MIN_BOX_FILL = 0.1
"""Part of a tile's side that a box should take at least: a mask has 256 values along it."""

PATCH_SIZE = 16
"""Pixels along the side of a cell in the feature maps of SAM and of the embedded model."""

_LEVEL_TOLERANCE = 1e-6
"""Keeps rounding errors from choosing level 0 for a map at exactly twice the pixel size."""


class Tile(NamedTuple):
    """Address of a tile."""

    level: int
    row: int
    col: int


@dataclass(frozen=True)
class Tiling:
    """How a level is cut into tiles.

    Attributes
    ----------
    tile_size : int
        Side of a tile in pixels of its level.
    overlap : int
        Smallest number of pixels that neighbours share.
    starts : pair of tuples of int, optional
        First columns and first rows of the tiles of level 0, ascending, where another program has chosen them.
    """

    tile_size: int = 1024
    overlap: int = 256
    starts: tuple[tuple[int, ...], tuple[int, ...]] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.overlap <= self.max_overlap:
            raise ValueError(f"overlap must lie from 0 to {self.max_overlap}, got {self.overlap}")

    @property
    def stride(self) -> int:
        """Pixels between the starts of neighbours, a multiple of the encoders' patch.

        An object then lies at the same position relative to the patches of two neighbours, so both encode it alike.
        """
        return (self.tile_size - self.overlap) // PATCH_SIZE * PATCH_SIZE

    @property
    def max_overlap(self) -> int:
        """The overlap with the smallest stride."""
        return self.tile_size - PATCH_SIZE


class _Axis(NamedTuple):
    """The tiles along one side of a level.

    Attributes
    ----------
    tiles : int
    stride : int
        Pixels between the starts of neighbours.
    last : int
        Start of the last tile, which is moved inwards.
    starts : tuple of int
        The starts of all tiles if they are not regular; else empty.
    """

    tiles: int
    stride: int
    last: int
    starts: tuple[int, ...] = ()

    @classmethod
    def of(cls, size: int, tiling: Tiling, starts: tuple[int, ...] = ()) -> _Axis:
        last = max(0, size - tiling.tile_size)
        count = len(starts) or -(-last // tiling.stride) + 1
        return cls(count, tiling.stride, last, starts)

    def start(self, index: int) -> int:
        return self.starts[index] if self.starts else min(index * self.stride, self.last)

    def touching(self, low: float, high: float, tile_size: int) -> list[int]:
        """Return the tiles that share more than a point with an interval."""
        first = max(0, int((low - tile_size) // self.stride))
        stop = min(self.tiles - 1, int(max(high, 0.0) // self.stride) + 1)
        found = range(self.tiles) if self.starts else [*range(first, stop), self.tiles - 1]
        return [index for index in found if self.start(index) < high and low < self.start(index) + tile_size]

    def around(self, low: float, high: float, tile_size: int) -> list[int]:
        """Return the tiles that may contain an interval; the last one always, as it is moved."""
        if self.starts:
            return list(range(self.tiles))
        first = max(0, int((high - tile_size) // self.stride))
        stop = min(self.tiles - 1, int(max(low, 0.0) // self.stride) + 1)
        return [*range(first, stop), self.tiles - 1]


class LevelGrid:
    """The tiles of one level.

    Parameters
    ----------
    level : int
        Pixels are 2^level times the native size; negative levels are enlarged.
    width, height : int
        Size of the level in its own pixels.
    tiling : Tiling

    Examples
    --------
    >>> grid = LevelGrid(0, 2000, 900, Tiling())
    >>> grid.rows, grid.cols
    (1, 3)
    >>> grid.window(0, 2)
    Window(col_off=976, row_off=0, width=1024, height=900)
    """

    def __init__(self, level: int, width: int, height: int, tiling: Tiling) -> None:
        self.level = level
        self.width = width
        self.height = height
        self.tiling = tiling
        starts_x, starts_y = tiling.starts if tiling.starts and level == 0 else ((), ())
        self._along_x = _Axis.of(width, tiling, starts_x)
        self._along_y = _Axis.of(height, tiling, starts_y)

    @property
    def rows(self) -> int:
        """Number of tiles from top to bottom."""
        return self._along_y.tiles

    @property
    def cols(self) -> int:
        """Number of tiles from left to right."""
        return self._along_x.tiles

    @property
    def scale(self) -> float:
        """Native pixels along the side of a pixel of this level; a power of two, so that products are exact."""
        return 2.0**self.level

    def __len__(self) -> int:
        return self.rows * self.cols

    def __iter__(self) -> Iterator[Tile]:
        return (Tile(self.level, row, col) for row in range(self.rows) for col in range(self.cols))

    def window(self, row: int, col: int) -> Window:
        """Return the pixels of this level that a tile covers, padding left out."""
        size = self.tiling.tile_size
        return Window(
            self._along_x.start(col),
            self._along_y.start(row),
            min(size, self.width),
            min(size, self.height),
        )

    def touching(self, bounds: Bounds) -> Iterator[Tile]:
        """Return the tiles that share an area with a rectangle in native pixels."""
        low_x, low_y, high_x, high_y = (value / self.scale for value in bounds)
        rows = self._along_y.touching(low_y, high_y, self.tiling.tile_size)
        cols = self._along_x.touching(low_x, high_x, self.tiling.tile_size)
        return (Tile(self.level, row, col) for row in rows for col in cols)

    def tiles_around(self, bounds: Bounds, tolerance: float) -> list[tuple[float, Tile]]:
        """Return the tiles that contain a rectangle, widest margin first.

        Parameters
        ----------
        bounds : Bounds
            In native pixels.
        tolerance : float
            Native pixels by which the rectangle may extend beyond the level, whose last coarse pixel may be cut.

        Returns
        -------
        list of (float, Tile)
            Margin in pixels of the level, and tile. The edges of the raster do not count as margins.
        """
        along_x = self._margins(self._along_x, self.width, bounds.min_x, bounds.max_x, tolerance)
        along_y = self._margins(self._along_y, self.height, bounds.min_y, bounds.max_y, tolerance)
        found = [
            (min(margin_x, margin_y), margin_x + margin_y, Tile(self.level, row, col))
            for row, margin_y in along_y
            for col, margin_x in along_x
        ]
        found.sort(key=lambda item: (-item[0], -item[1], item[2]))
        return [(margin, tile) for margin, _, tile in found]

    def _margins(self, axis: _Axis, size: int, low: float, high: float, tolerance: float) -> list[tuple[int, float]]:
        tile_size = self.tiling.tile_size
        low, high, slack = low / self.scale, high / self.scale, tolerance / self.scale
        found = []
        for index in axis.around(low, high, tile_size):
            start = axis.start(index)
            before = low - start
            after = start + tile_size - high
            if start == 0:
                before = tile_size if before >= -slack else before
            if start + tile_size >= size:
                after = tile_size if high <= size + slack else -1.0
            if before >= 0 and after >= 0:
                found.append((index, min(before, after)))
        return found


class Pyramid:
    """All the levels of a raster.

    Iteration, ``len`` and ``grids`` cover the native level and the coarser ones, which every store has. The enlarged
    levels exist in every raster too, but their tiles are encoded only if somebody asks for them.

    Parameters
    ----------
    width, height : int
        Native size.
    tiling : Tiling
    levels : int, optional
        Number of levels; by default up to the first that fits into one tile.

    Attributes
    ----------
    parts : tuple of Bounds
        The rectangles with tiles, in native pixels; several where neighbouring sheets are read as one.
    """

    def __init__(self, width: int, height: int, tiling: Tiling, levels: int | None = None) -> None:
        self.width = width
        self.height = height
        self.tiling = tiling
        self.parts: tuple[Bounds, ...] = (self.bounds,)
        wanted = self.full_level_count(width, height, tiling.tile_size)
        count = wanted if levels is None else max(1, min(levels, wanted))
        self.grids = tuple(
            LevelGrid(level, max(1, width >> level), max(1, height >> level), tiling) for level in range(count)
        )
        self.enlarged = tuple(
            LevelGrid(level, width << -level, height << -level, tiling) for level in range(FINEST_LEVEL, 0)
        )

    @staticmethod
    def full_level_count(width: int, height: int, tile_size: int) -> int:
        """Return the number of levels up to the first that fits into one tile.

        Examples
        --------
        >>> Pyramid.full_level_count(8192, 4096, 1024), Pyramid.full_level_count(600, 500, 1024)
        (4, 1)
        """
        level = 0
        while max(width >> level, height >> level) > tile_size:
            level += 1
        return level + 1

    def grid(self, level: int) -> LevelGrid:
        """Return a level, which may be an enlarged one."""
        return self.grids[level] if level >= 0 else self.enlarged[level]

    def grids_from(self, level: int) -> tuple[LevelGrid, ...]:
        """Return a level and all coarser ones, or the last level if there are fewer."""
        if level >= 0:
            return self.grids[min(level, len(self.grids) - 1) :]
        return (*self.enlarged[max(level, FINEST_LEVEL) :], *self.grids)

    def level_for_size(self, size: float, level: int = 0) -> int:
        """Return the level at which an object is neither too small nor too large for a tile.

        That is ``level``, or the next one at which the object takes from a tenth to eight tenths of the tile's side.

        Parameters
        ----------
        size : float
            Longer side of the object in native pixels.
        level : int
            Where to start.

        Examples
        --------
        >>> pyramid = Pyramid(8192, 8192, Tiling())
        >>> [pyramid.level_for_size(size) for size in (10, 60, 200, 1000, 100000)]
        [-2, -1, 0, 1, 3]
        """
        tile_size, last = self.tiling.tile_size, len(self.grids) - 1
        while level > FINEST_LEVEL and size < MIN_BOX_FILL * tile_size * 2.0**level:
            level -= 1
        while level < last and size > MAX_BOX_FILL * tile_size * 2.0**level:
            level += 1
        return level

    def level_for_pixel(self, size: float) -> int:
        """Return the level for a screen pixel of ``size`` native pixels.

        That is the coarsest level with pixels no larger than the screen's. If the screen shows native pixels enlarged,
        it is the finest level that is enlarged no more than that.

        Examples
        --------
        >>> pyramid = Pyramid(8192, 8192, Tiling())
        >>> [pyramid.level_for_pixel(size) for size in (0.01, 0.3, 0.5, 0.9, 1, 7.9, 100)]
        [-2, -1, -1, 0, 0, 2, 3]
        """
        level = math.log2(size)
        level = math.floor(level + _LEVEL_TOLERANCE) if level > 0 else math.ceil(level - _LEVEL_TOLERANCE)
        return max(FINEST_LEVEL, min(level, len(self.grids) - 1))

    @property
    def bounds(self) -> Bounds:
        """The raster's rectangle in native pixels."""
        return Bounds(0.0, 0.0, float(self.width), float(self.height))

    def __len__(self) -> int:
        return sum(len(grid) for grid in self.grids)

    def __iter__(self) -> Iterator[Tile]:
        return (tile for grid in self.grids for tile in grid)

    def window(self, tile: Tile) -> Window:
        """Return the pixels of its level that a tile covers."""
        return self.grid(tile.level).window(tile.row, tile.col)

    def tile_bounds(self, tile: Tile) -> Bounds:
        """Return the native pixels that a tile covers, up to the raster's true edge at the last tiles."""
        grid, window = self.grid(tile.level), self.window(tile)
        left, top, right, bottom = (value * grid.scale for value in window.bounds)
        # The last tiles of another program may end before the raster does.
        is_last_col, is_last_row = (
            window.col_off + window.width >= grid.width,
            window.row_off + window.height >= grid.height,
        )
        return Bounds(left, top, self.width if is_last_col else right, self.height if is_last_row else bottom)

    def origin(self, tile: Tile) -> tuple[float, float]:
        """Return the upper left corner of a tile in pixels of its level."""
        return self.window(tile)[:2]

    def inner_sides(self, bounds: Bounds, scale: float) -> tuple[str, ...]:
        """Return the sides (left, top, right, bottom) of a rectangle beyond which there is a pixel of that scale."""
        left, top, right, bottom = bounds
        # Not the whole pixel, so that one that ends at the edge counts.
        step = scale * (1 - _LEVEL_TOLERANCE)
        beyond = {
            "left": (left - step, left - step, top, bottom),
            "top": (left, right, top - step, top - step),
            "right": (right + step, right + step, top, bottom),
            "bottom": (left, right, bottom + step, bottom + step),
        }
        return tuple(
            side
            for side, (low_x, high_x, low_y, high_y) in beyond.items()
            if any(low_x < p.max_x and high_x > p.min_x and low_y < p.max_y and high_y > p.min_y for p in self.parts)
        )

    def neighbour(self, tile: Tile, side: str) -> Tile | None:
        """Return the next tile beyond a side of another one; None at the raster's edge."""
        step = {"left": (0, -1), "right": (0, 1), "top": (-1, 0), "bottom": (1, 0)}[side]
        row, col = tile.row + step[0], tile.col + step[1]
        grid = self.grid(tile.level)
        return Tile(tile.level, row, col) if 0 <= row < grid.rows and 0 <= col < grid.cols else None

    def choose(
        self,
        bounds: Bounds,
        *,
        is_box: bool,
        level: int = 0,
        available: Callable[[Tile], bool] = lambda tile: True,
    ) -> Tile | None:
        """Return the tile to decode a prompt on.

        This is the tile with the widest margin on the finest level, from ``level`` on, whose tiles contain the
        prompts. For a box the level is that of `level_for_size`, or a coarser one.

        Parameters
        ----------
        bounds : Bounds
            Rectangle around the positive prompts, in native pixels.
        is_box : bool
            Whether the prompts have a box.
        level : int
            The finest level to consider, or the last one if there are fewer. A small box may get a finer one.
        available : callable
            Tells whether a tile has an embedding.

        Returns
        -------
        Tile or None
            None if no single tile contains the prompts.
        """
        if is_box:
            level = self.level_for_size(max(bounds.width, bounds.height), min(level, len(self.grids) - 1))
        for grid in self.grids_from(level):
            for _, tile in grid.tiles_around(bounds, tolerance=grid.scale):
                if available(tile):
                    return tile
        return None
