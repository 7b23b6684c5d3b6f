"""Reading rasters with rasterio."""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import pyproj.exceptions
import rasterio
import rasterio.shutil
import rasterio.windows
import shapely
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.env import env_ctx_if_needed
from rasterio.errors import CRSError, NodataShadowWarning, NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT

from geosam_es.core.geotransform import GeoTransform
from geosam_es.core.grid import Pyramid
from geosam_es.core.window import Window
from geosam_es.encoding.mosaic import TileIndex, vrt_sources
from geosam_es.encoding.placement import NO_MAP, MapCrs
from geosam_es.encoding.raster import RPC_CRS, WARP_TOLERANCE_PX, TiledRaster
from geosam_es.encoding.raster_file import BandInfo, RasterFile, RasterHeader, VirtualFile
from geosam_es.errors import GeoSamError, RasterError
from geosam_es.inference.encoder import TILE_SIZE
from geosam_es.store.files import temporary_name
from geosam_es.store.raster_name import RasterPath

from .crs import lost_crs, map_crs

__all__ = ["Raster", "RasterioFile", "bounded_cache", "can_read"]

_CACHE_VARIABLE = "GDAL_CACHEMAX"
_CACHE_BYTES = 256 << 20

_MONTH_S = 30 * 24 * 3600

_MOST_BANDS = 4
"""Overviews of more bands would be larger than what they save."""

# We raise an error for the first and handle the second. Set once because warning filters are not thread-safe.
warnings.simplefilter("ignore", NotGeoreferencedWarning)
warnings.simplefilter("ignore", NodataShadowWarning)


def bounded_cache() -> AbstractContextManager[Any]:
    """Limit GDAL's block cache, by default a share of the memory, to a fixed size unless the user has set one."""
    return nullcontext() if _CACHE_VARIABLE in os.environ else rasterio.Env(**{_CACHE_VARIABLE: _CACHE_BYTES})


def can_read(path: Path) -> bool:
    """Tell whether GDAL reads a file or folder as a raster, or as several."""
    try:
        with _errors(), rasterio.open(path) as dataset:
            return bool(dataset.count or _subdatasets(dataset))
    except OSError:
        return False


class Raster(TiledRaster):
    """A raster read with rasterio; see `TiledRaster` for the parameters and errors.

    Parameters
    ----------
    size : (int, int), optional
        Width and height to take for those of the file, which has further pixels beyond them.

    Attributes
    ----------
    arguments : tuple
        What opens it again, in another process.
    """

    def __init__(
        self,
        path: RasterPath | str,
        bands: Sequence[int] | None = None,
        nodata: float | None = None,
        crs: str | None = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(path, bands, nodata, crs)
        self.arguments = (self.path, None if bands is None else tuple(bands), nodata, crs, size)
        if size is not None:
            self.width, self.height = size

    @property
    def crs(self) -> CRS:
        """The CRS of the file, or the one given by the user."""
        return CRS.from_wkt(self.crs_wkt)

    def open_file(self, name: str) -> RasterFile:
        """Open a file for one thread; see `TiledRaster.open_file`."""
        with _errors():
            dataset = _open(name)
            return RasterioFile(dataset, self._warp(dataset), _read_index(dataset, name))

    def read_size(self, name: str) -> tuple[int, int]:
        """Return the width and height of another raster; see `TiledRaster.read_size`."""
        with _errors(), _open(name) as dataset:
            return dataset.width, dataset.height

    def drivers(self) -> Collection[str]:
        """Return the short names of GDAL's drivers; see `TiledRaster.drivers`."""
        with rasterio.Env() as env:
            names: Collection[str] = env.drivers()
        return names

    def _warp(self, dataset: Any) -> Any | None:
        """Warp a raster that has ground control points or RPCs instead of a transform, exactly as QGIS does."""
        points, crs = dataset.gcps
        if not dataset.transform.is_identity or not (points or dataset.rpcs):
            return None
        crs = crs or (self.crs_of_user() if points or self._given_crs else RPC_CRS)
        return WarpedVRT(
            dataset,
            src_crs=crs if points else RPC_CRS,
            crs=crs,
            resampling=Resampling.nearest,
            tolerance=WARP_TOLERANCE_PX,
            add_alpha=ColorInterp.alpha not in dataset.colorinterp,
        )

    @contextmanager
    def with_overviews(self, folder: Path) -> Iterator[Raster]:
        """Use this raster with overviews in a temporary folder in ``folder``, made in one pass over the pixels.

        It is this raster itself if it has overviews, or if GDAL cannot make them as exactly as levels are read.
        """
        made, copy = temporary_name(folder), None
        try:
            try:
                made.mkdir()
                copy = self._copy_with_overviews(made)
                # A run of weeks needs it longer than `remove_stale` expects.
                os.utime(made, (time.time() + _MONTH_S,) * 2)
            except OSError:
                # Such as no space for them. Reading without them is slower, and says what is wrong with a raster.
                copy = None
            yield copy or self
        finally:
            if copy is not None:
                # Windows removes no open file.
                copy.close()
            shutil.rmtree(made, ignore_errors=True)

    def _has_sources_with_overviews(self) -> bool:
        """Tell whether this is a mosaic of files with overviews, which GDAL uses."""
        first = next(vrt_sources(self.path), None)
        if first is None:
            return False
        with _errors(), _open(first.name) as source:
            return bool(source.count and source.overviews(1))

    def _copy_with_overviews(self, folder: Path) -> Raster | None:
        if not isinstance(self.path, Path) or self._has_sources_with_overviews():
            return None
        # The absolute path, because the copy refers to it, and workers may run in other folders.
        with _errors(), _open(str(self.path.absolute())) as source:
            masks = {flag.name for flags in source.mask_flag_enums for flag in flags}
            last = Pyramid.full_level_count(self.width, self.height, TILE_SIZE) - 1
            if (
                self.overviews
                or min(self.width, self.height) < 2**last
                or self._virtual
                or self.palette is not None
                or self._has_own_mean
                # NaN and infinite values beside nodata spoil overviews.
                or (self.dtype.kind == "f" and not np.isnan(np.nan if self.nodata is None else self.nodata))
                or masks & {"per_dataset", "alpha"}
                or source.count > _MOST_BANDS
                or source.gcps[0]
                or source.rpcs
                or source.driver == "GTI"
            ):
                return None
            path = folder / f"{self.path.stem}.vrt"
            rasterio.shutil.copy(source, path, driver="VRT")
        # GDAL's overviews are exact if the size is a multiple of their factors. No level has pixels with padding.
        padded = (-(-size >> last) << last for size in (self.width, self.height))
        size_text = 'rasterXSize="{}" rasterYSize="{}"'
        text = path.read_text("utf-8").replace(size_text.format(self.width, self.height), size_text.format(*padded), 1)
        path.write_text(text, encoding="utf-8")
        options = {"COMPRESS_OVERVIEW": "DEFLATE", "BIGTIFF_OVERVIEW": "IF_SAFER", _CACHE_VARIABLE: _CACHE_BYTES}
        with _errors(), rasterio.Env(**options), rasterio.open(path, "r+") as copy:
            copy.build_overviews([2**level for level in range(1, last + 1)], Resampling.average)
        with _errors():
            for number in range(last):
                with rasterio.open(path, OVERVIEW_LEVEL=number) as overview:
                    # GDAL does not say that the disk was full when it wrote the last blocks.
                    overview.read(window=rasterio.windows.Window(overview.width - 1, overview.height - 1, 1, 1))
        return type(self)(path, *self.arguments[1:4], (self.width, self.height))

    def parse_crs(self, text: str) -> str:
        """Return the WKT of a CRS given by the user; see `TiledRaster.parse_crs`."""
        try:
            return str(CRS.from_user_input(text).to_wkt())
        except CRSError as error:
            raise ValueError(text) from error

    def map_crs(self) -> MapCrs:
        """Describe the CRS; see `TiledRaster.map_crs`."""
        try:
            crs = pyproj.CRS.from_wkt(self.crs_wkt)
        except pyproj.exceptions.ProjError as error:
            raise RasterError(
                "{path} has a CRS that PROJ cannot read", "give another one with --crs EPSG:25830", path=self.path
            ) from error
        meant = lost_crs(crs)
        if meant is not None:
            raise RasterError(
                "{path} has a local CRS with the name of {name}, but without its definition",
                "give the CRS with --crs {code}",
                path=self.path,
                name=meant.name,
                code=meant.to_string(),
            )
        described = map_crs(crs)
        if self._given_crs is not None and described.kind == NO_MAP:
            raise RasterError(
                "--crs {crs} is not a CRS for maps", "use a code such as EPSG:25830", crs=str(self._given_crs)
            )
        return described


class RasterioFile:
    """A rasterio dataset as a `RasterFile`.

    Parameters
    ----------
    dataset : rasterio dataset
    warped : rasterio dataset, optional
        The same raster, warped; read instead of it.
    index : TileIndex, optional
    """

    def __init__(self, dataset: Any, warped: Any | None = None, index: TileIndex | None = None) -> None:
        self._source = dataset
        self._index = index
        self._dataset = dataset = warped or dataset
        self._header = RasterHeader(
            width=dataset.width,
            height=dataset.height,
            transform=None if dataset.transform.is_identity else GeoTransform.from_sequence(dataset.transform),
            is_unwarped=bool(dataset.tags(ns="GEOLOCATION")),
            crs_wkt=dataset.crs.to_wkt() if dataset.crs else "",
            bands=tuple(
                BandInfo(_numpy_name(dtype), colour.name, frozenset(flag.name for flag in flags))
                for dtype, colour, flags in zip(dataset.dtypes, dataset.colorinterp, dataset.mask_flag_enums)
            ),
            nodata=dataset.nodata,
            palette=_palette(dataset),
            overviews=tuple(dataset.overviews(1)) if dataset.count else (),
            subdatasets=_subdatasets(dataset),
            is_virtual=dataset.driver == "VRT",
        )

    @property
    def index(self) -> TileIndex | None:
        """Tiles of a tile index; see `RasterFile.index`."""
        return self._index

    @property
    def header(self) -> RasterHeader:
        """Header of the file."""
        return self._header

    def read(self, bands: Sequence[int], window: Window, shape: tuple[int, int], average: bool) -> NDArray[Any]:
        """Read bands; see `RasterFile.read`."""
        indexes = list(bands)
        # rasterio cannot read bands of several types, as in a virtual raster, in one call.
        has_types = len({self._header.bands[index - 1].dtype for index in indexes}) > 1
        parts = [[index] for index in indexes] if has_types else [indexes]
        with _errors():
            read = [
                self._dataset.read(
                    part,
                    window=rasterio.windows.Window(*window),
                    out_shape=(len(part), *shape),
                    resampling=Resampling.average if average else Resampling.nearest,
                )
                for part in parts
            ]
        return read[0] if len(read) == 1 else np.concatenate(read)

    def read_masks(self, bands: Sequence[int], window: Window, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """Read the masks of bands; see `RasterFile.read_masks`."""
        with _errors():
            masks: NDArray[np.uint8] = self._dataset.read_masks(
                list(bands),
                window=rasterio.windows.Window(*window),
                out_shape=(len(bands), *shape),
                resampling=Resampling.average,
            )
        return masks

    def with_nodata(self, nodata: float) -> VirtualFile:
        """Return a virtual raster of this file; see `RasterFile.with_nodata`."""
        memory: VirtualFile = MemoryFile(ext=".vrt")
        rasterio.shutil.copy(self._dataset, memory.name, driver="VRT")
        with rasterio.open(memory.name, "r+") as virtual:
            virtual.nodata = nodata
        return memory


def _open(name: str) -> Any:
    # rasterio searches a text for URLs, but not a path.
    is_file = Path(name).is_absolute() and not name.startswith("/vsi")
    return rasterio.open(Path(name) if is_file else name)


@contextmanager
def _errors() -> Iterator[None]:
    """Raise OSError for rasterio's errors, and keep GDAL from printing: without an Env of the thread it does."""
    with env_ctx_if_needed():
        try:
            yield
        except GeoSamError:
            raise
        except (RasterioError, CPLE_BaseError, ValueError) as error:
            raise OSError(str(error)) from error


def _subdatasets(dataset: Any) -> tuple[str, ...]:
    """Return the names to choose from, which are the pages of a TIFF with several, or all rasters without a main one.

    The names in ``dataset.subdatasets`` are changed by rasterio.
    """
    tags = dataset.tags(ns="SUBDATASETS")
    names = tuple(tags[f"SUBDATASET_{number}_NAME"] for number in range(1, len(tags) // 2 + 1))
    is_choice = dataset.count == 0 or (len(names) > 1 and names[0].startswith("GTIFF_DIR:1:"))
    return names if is_choice else ()


def _read_index(dataset: Any, name: str) -> TileIndex | None:
    """Read the tiles of a GDAL tile index with pyogrio; None for other rasters and unusual indexes."""
    if dataset.driver != "GTI":
        return None
    path = Path(name[len("GTI:") :] if name.startswith("GTI:") else name)
    try:
        column = next(field for field in pyogrio.read_info(path)["fields"] if field.lower() == "location")
        _, _, geometries, fields = pyogrio.raw.read(path, columns=[column])
    except (pyogrio.errors.DataSourceError, StopIteration):
        return None
    return TileIndex(path.parent, fields[0], shapely.bounds(shapely.from_wkb(geometries)))


def _palette(dataset: Any) -> NDArray[np.uint8] | None:
    """Return the colour table of a palette image as RGBA (N, 4), or None for other images."""
    if dataset.colorinterp not in ((ColorInterp.palette,), (ColorInterp.palette, ColorInterp.alpha)):
        return None
    try:
        colours = dataset.colormap(1)
    except ValueError:
        # A band may be called a palette without having one.
        return None
    table = np.zeros((1 << 8 * np.dtype(dataset.dtypes[0]).itemsize, 4), dtype=np.uint8)
    for index, colour in colours.items():
        table[index] = colour
    return table


def _numpy_name(name: str) -> str:
    """Return the type as which rasterio reads a band; NumPy has no complex integers."""
    return "complex64" if name == "complex_int16" else name
