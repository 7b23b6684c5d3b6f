"""What an encoding will do: the metadata of the store and the tiles, decided before the first tile is read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timezone

import shapely
from shapely.geometry.base import BaseGeometry

from .. import __version__
from ..core.grid import LevelGrid, Pyramid, Tile, Tiling
from ..core.prompts import Bounds
from ..errors import StoreError
from ..inference.encoder import TILE_SIZE, Encoder
from ..store import StoreMetadata
from .raster import RasterSource, RasterTile
from .stretch import decide_stretch

__all__ = ["EncodeOptions", "EncodePlan", "make_plan"]


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
    """

    stretch: str = "auto"
    overlap: int = 256
    levels: int | None = None
    dtype: str = "float16"
    batch_size: int | None = None
    aoi: BaseGeometry | None = None
    finest: int = 0


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
    """

    raster: RasterSource
    metadata: StoreMetadata
    aoi: BaseGeometry | None
    batch_size: int
    finest: int = 0

    @property
    def pyramid(self) -> Pyramid:
        """Tiles and levels of the store."""
        return self.metadata.pyramid

    @property
    def grids(self) -> tuple[LevelGrid, ...]:
        """The levels to encode."""
        return self.pyramid.grids_from(self.finest)

    @property
    def tiles(self) -> list[Tile]:
        """The tiles of these levels; those outside the area of interest will be skipped.

        Enlarged tiles outside it are left out instead, so that they can be added later.
        """
        enlarged = (tile for grid in self.grids if grid.level < 0 for tile in grid.touching(self._native_aoi))
        return [*self.pyramid, *filter(self.is_wanted, enlarged)]

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
    return EncodePlan(raster, metadata, options.aoi, options.batch_size or encoder.default_batch_size, options.finest)
