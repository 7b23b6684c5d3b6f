"""What an encoding will do: the metadata of the store and the tiles, decided before the first tile is read."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import accumulate
from typing import overload

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from .. import __version__
from ..core.grid import LevelGrid, Pyramid, Tile, Tiling
from ..core.prompts import Bounds
from ..errors import StoreError
from ..inference.encoder import TILE_SIZE, Encoder
from ..store import StoreMetadata
from .raster_source import RasterSource, RasterTile
from .stretch import decide_stretch

__all__ = ["EncodeOptions", "EncodePlan", "Tiles", "make_plan"]

_TILES_IN_A_ROW = 16
"""Tiles that `Tiles.shuffled` leaves together, because neighbours share blocks of the file."""


@dataclass(frozen=True)
class EncodeOptions:
    """Options of the user.

    Attributes
    ----------
    stretch : str
        See `decide_stretch`.
    overlap : int
        Pixels that neighbouring tiles share at least.
    levels : int, optional
        Number of levels; by default up to the one that fits into a tile.
    dtype : str
        Type of the stored features, one of `DTYPES`.
    batch_size : int, optional
        Tiles per batch; by default what suits the encoder's device.
    aoi : shapely geometry, optional
        Area of interest in the raster's CRS. Tiles outside it are skipped.
    finest : int
        The finest level: 0, or -1 or -2 to encode the image enlarged 2 or 4 times too.
    limit : int, optional
        Encode only this many tiles, the first ones.
    """

    stretch: str = "auto"
    overlap: int = 256
    levels: int | None = None
    dtype: str = "float16"
    batch_size: int | None = None
    aoi: BaseGeometry | None = None
    finest: int = 0
    limit: int | None = None


class Tiles(Sequence[Tile]):
    """Tiles of several levels, each made when it is asked for: a large raster has a million.

    Parameters
    ----------
    grids : sequence of LevelGrid
        The levels in the order of their tiles.
    numbers : sequence of int, optional
        Which tiles, counted over all levels; by default all in order.
    """

    def __init__(self, grids: Sequence[LevelGrid], numbers: Sequence[int] | None = None) -> None:
        self._grids = grids
        self._ends = list(accumulate(map(len, grids)))
        self._numbers = range(self._ends[-1]) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, at: int) -> Tile: ...

    @overload
    def __getitem__(self, at: slice) -> Tiles: ...

    def __getitem__(self, at: int | slice) -> Tile | Tiles:
        if isinstance(at, slice):
            return Tiles(self._grids, self._numbers[at])
        number = self._numbers[at]
        place = bisect_right(self._ends, number)
        grid = self._grids[place]
        return Tile(grid.level, *divmod(number + len(grid) - self._ends[place], grid.cols))

    def shuffled(self) -> Tiles:
        """Return the same tiles in a random order of short rows, half of them backwards.

        Programs that fill one store in such orders seldom come to the same tile at a time.
        """
        generator = np.random.default_rng()
        starts = generator.permutation(np.arange(0, len(self), _TILES_IN_A_ROW))
        places = starts[:, None] + np.arange(_TILES_IN_A_ROW)
        places = np.where(generator.random(len(starts))[:, None] < 0.5, places, places[:, ::-1]).ravel()
        return Tiles(self._grids, [self._numbers[place] for place in places[places < len(self)].tolist()])


@dataclass(frozen=True)
class EncodePlan:
    """A raster and the store to make of it.

    Attributes
    ----------
    raster : RasterSource
    metadata : StoreMetadata
    aoi : shapely geometry, optional
        Area of interest in the raster's CRS.
    batch_size : int
        Tiles per batch.
    finest : int
        The finest level to encode.
    limit : int, optional
        Encode only this many tiles, the first ones.
    """

    raster: RasterSource
    metadata: StoreMetadata
    aoi: BaseGeometry | None
    batch_size: int
    finest: int = 0
    limit: int | None = None

    @property
    def pyramid(self) -> Pyramid:
        """Tiles and levels of the store."""
        return self.metadata.pyramid

    @property
    def grids(self) -> tuple[LevelGrid, ...]:
        """The levels to encode."""
        return self.pyramid.grids_from(self.finest)

    @property
    def tiles(self) -> Tiles:
        """The tiles of these levels; those outside the area of interest will be skipped.

        Enlarged tiles outside it are left out instead, so that they can be added later.
        """
        enlarged = [grid for grid in self.grids if grid.level < 0]
        grids = [*self.pyramid.grids, *enlarged]
        if self.aoi is None or not enlarged:
            return Tiles(grids)[: self.limit]
        numbers, start = list(range(len(self.pyramid))), len(self.pyramid)
        for grid in enlarged:
            wanted = filter(self.is_wanted, grid.touching(self._native_aoi))
            numbers += [start + tile.row * grid.cols + tile.col for tile in wanted]
            start += len(grid)
        return Tiles(grids, numbers)[: self.limit]

    @property
    def _native_aoi(self) -> Bounds:
        """The rectangle of native pixels around the area of interest."""
        if self.aoi is None:
            return self.pyramid.bounds
        to_native = self.metadata.raster.transform.inverse().apply_geometry
        return Bounds(*to_native(shapely.box(*self.aoi.bounds)).bounds)

    def is_wanted(self, tile: Tile) -> bool:
        """Tell whether a tile touches the area of interest."""
        if self.aoi is None:
            return True
        footprint = shapely.box(*self.pyramid.tile_bounds(tile))
        return bool(self.aoi.intersects(self.metadata.raster.transform.apply_geometry(footprint)))

    def read(self, tile: Tile) -> RasterTile:
        """Read a tile from the raster."""
        return self.raster.read_tile(self.pyramid.window(tile), 2.0**tile.level, self.metadata.stretch)


def make_plan(raster: RasterSource, encoder: Encoder, options: EncodeOptions) -> EncodePlan:
    """Decide stretch, tiling and levels of a store.

    Raises
    ------
    RasterError
        If the stretch does not suit the data, or the raster has no data.
    StoreError
        If the overlap is out of range.
    """
    try:
        tiling = Tiling(TILE_SIZE, options.overlap)
    except ValueError as error:
        raise StoreError(
            "--overlap {overlap} is out of range ({reason})", "use 256", overlap=options.overlap, reason=str(error)
        ) from error
    wanted_levels = Pyramid.full_level_count(raster.width, raster.height, TILE_SIZE)
    metadata = StoreMetadata(
        raster=raster.info(),
        bands=raster.bands,
        stretch=decide_stretch(raster, options.stretch),
        nodata=raster.nodata,
        model=encoder.info.to_json(),
        dtype=options.dtype,
        tiling=tiling,
        levels=min(options.levels or wanted_levels, wanted_levels),
        aoi_sha256=None if options.aoi is None else hashlib.sha256(shapely.to_wkb(options.aoi)).hexdigest(),
        software=f"GeoSAM-ES {__version__}",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    batch_size = options.batch_size or encoder.default_batch_size
    return EncodePlan(raster, metadata, options.aoi, batch_size, options.finest, options.limit)
