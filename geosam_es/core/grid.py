"""Tiles and levels.

Level k has pixels of 2^k times the native size, and ``size >> k`` of them. A remainder of less than 2^k native pixels
exists only in the finer levels. Each level is cut into overlapping square tiles of one size. The last tile of a row or
column is moved inwards so that it is full. If a level is smaller than a tile, its only tile is padded on the right
and at the bottom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from .prompts import Bounds
from .window import Window

__all__ = ["LevelGrid", "Pyramid", "Tile", "Tiling"]

MAX_BOX_FILL = 0.8
"""Largest part of a tile's side that a box may take: the decoder needs to see the surroundings of the object."""

PATCH_SIZE = 16
"""Pixels along the side of a cell in the feature maps of SAM and of the embedded model."""


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
    """

    tile_size: int = 1024
    overlap: int = 256

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
    """

    tiles: int
    stride: int
    last: int

    @classmethod
    def of(cls, size: int, tiling: Tiling) -> _Axis:
        last = max(0, size - tiling.tile_size)
        return cls(-(-last // tiling.stride) + 1, tiling.stride, last)

    def start(self, index: int) -> int:
        return min(index * self.stride, self.last)

    def around(self, low: float, high: float, tile_size: int) -> list[int]:
        """Return the tiles that may contain an interval; the last one always, as it is moved."""
        first = max(0, int((high - tile_size) // self.stride))
        stop = min(self.tiles - 1, int(max(low, 0.0) // self.stride) + 1)
        return [*range(first, stop), self.tiles - 1]


class LevelGrid:
    """The tiles of one level.

    Parameters
    ----------
    level : int
        Pixels are 2^level times the native size.
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
        self._along_x = _Axis.of(width, tiling)
        self._along_y = _Axis.of(height, tiling)

    @property
    def rows(self) -> int:
        """Number of tiles from top to bottom."""
        return self._along_y.tiles

    @property
    def cols(self) -> int:
        """Number of tiles from left to right."""
        return self._along_x.tiles

    @property
    def scale(self) -> int:
        """Native pixels along the side of a pixel of this level."""
        return 1 << self.level

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

    Parameters
    ----------
    width, height : int
        Native size.
    tiling : Tiling
    levels : int, optional
        Number of levels; by default up to the first that fits into one tile.
    """

    def __init__(self, width: int, height: int, tiling: Tiling, levels: int | None = None) -> None:
        self.width = width
        self.height = height
        self.tiling = tiling
        wanted = self.full_level_count(width, height, tiling.tile_size)
        count = wanted if levels is None else max(1, min(levels, wanted))
        self.grids = tuple(
            LevelGrid(level, max(1, width >> level), max(1, height >> level), tiling) for level in range(count)
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
        return self.grids[tile.level].window(tile.row, tile.col)

    def tile_bounds(self, tile: Tile) -> Bounds:
        """Return the native pixels that a tile covers, up to the raster's true edge at the last tiles."""
        grid = self.grids[tile.level]
        left, top, right, bottom = grid.window(tile.row, tile.col).scaled(grid.scale).bounds
        return Bounds(
            left,
            top,
            self.width if tile.col == grid.cols - 1 else right,
            self.height if tile.row == grid.rows - 1 else bottom,
        )

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
        prompts. A box may take up to 80 % of the side of a tile, except on the last level.

        Parameters
        ----------
        bounds : Bounds
            Rectangle around the positive prompts, in native pixels.
        is_box : bool
            Whether the prompts have a box.
        level : int
            The finest level to consider, or the last one if there are fewer.
        available : callable
            Tells whether a tile has an embedding.

        Returns
        -------
        Tile or None
            None if no single tile contains the prompts.
        """
        for grid in self.grids[min(level, len(self.grids) - 1) :]:
            limit = MAX_BOX_FILL * self.tiling.tile_size * grid.scale
            is_last = grid is self.grids[-1]
            if is_box and not is_last and max(bounds.width, bounds.height) > limit:
                continue
            for _, tile in grid.tiles_around(bounds, tolerance=grid.scale):
                if available(tile):
                    return tile
        return None
