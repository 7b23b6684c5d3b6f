"""Reading rasters with rasterio."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pyproj
import pyproj.exceptions
import rasterio
import rasterio.shutil
import rasterio.windows
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import CRSError, NodataShadowWarning, NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile

from geosam_es.core.geotransform import GeoTransform
from geosam_es.core.window import Window
from geosam_es.encoding.placement import MapCrs
from geosam_es.encoding.raster import TiledRaster
from geosam_es.encoding.raster_file import BandInfo, RasterFile, RasterHeader, VirtualFile
from geosam_es.errors import RasterError

from .crs import lost_crs, map_crs

__all__ = ["Raster", "RasterioFile", "bounded_cache"]

_CACHE_VARIABLE = "GDAL_CACHEMAX"
_CACHE_BYTES = 256 << 20

# rasterio cannot catch what GDAL's own threads print, as those that decode JPEG 2000.
os.environ.setdefault("CPL_LOG", os.devnull)
# GDAL's fast way to read a whole PNG does not notice that it is truncated.
os.environ.setdefault("GDAL_PNG_WHOLE_IMAGE_OPTIM", "NO")

# We raise an error for the first and handle the second. Set once because warning filters are not thread-safe.
warnings.simplefilter("ignore", NotGeoreferencedWarning)
warnings.simplefilter("ignore", NodataShadowWarning)


def bounded_cache() -> AbstractContextManager[Any]:
    """Limit GDAL's block cache, by default a share of the memory, to a fixed size unless the user has set one."""
    return nullcontext() if _CACHE_VARIABLE in os.environ else rasterio.Env(**{_CACHE_VARIABLE: _CACHE_BYTES})


class Raster(TiledRaster):
    """A raster read with rasterio; see `TiledRaster` for the parameters and errors."""

    @property
    def crs(self) -> CRS:
        """The CRS of the file, or the one given by the user."""
        return CRS.from_wkt(self.crs_wkt)

    def open_file(self, name: str) -> RasterFile:
        """Open a file for one thread; see `TiledRaster.open_file`."""
        try:
            return RasterioFile(rasterio.open(name))
        except (RasterioError, ValueError) as error:
            raise OSError(str(error)) from error

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
        return map_crs(crs)


class RasterioFile:
    """A rasterio dataset as a `RasterFile`.

    Parameters
    ----------
    dataset : rasterio dataset
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._header = RasterHeader(
            width=dataset.width,
            height=dataset.height,
            transform=None if dataset.transform.is_identity else GeoTransform.from_sequence(dataset.transform),
            has_control_points=bool(dataset.gcps[0]),
            crs_wkt=dataset.crs.to_wkt() if dataset.crs else "",
            bands=tuple(
                BandInfo(_numpy_name(dtype), colour.name, frozenset(flag.name for flag in flags))
                for dtype, colour, flags in zip(dataset.dtypes, dataset.colorinterp, dataset.mask_flag_enums)
            ),
            nodata=dataset.nodata,
            palette=_palette(dataset),
            overviews=tuple(dataset.overviews(1)) if dataset.count else (),
            is_virtual=dataset.driver == "VRT",
        )

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
        try:
            read = [
                self._dataset.read(
                    part,
                    window=rasterio.windows.Window(*window),
                    out_shape=(len(part), *shape),
                    resampling=Resampling.average if average else Resampling.nearest,
                )
                for part in parts
            ]
        except RasterioError as error:
            raise OSError(str(error)) from error
        return read[0] if len(read) == 1 else np.concatenate(read)

    def read_masks(self, bands: Sequence[int], window: Window, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """Read the masks of bands; see `RasterFile.read_masks`."""
        try:
            masks: NDArray[np.uint8] = self._dataset.read_masks(
                list(bands),
                window=rasterio.windows.Window(*window),
                out_shape=(len(bands), *shape),
                resampling=Resampling.average,
            )
        except RasterioError as error:
            raise OSError(str(error)) from error
        return masks

    def with_nodata(self, nodata: float) -> VirtualFile:
        """Return a virtual raster of this file; see `RasterFile.with_nodata`."""
        memory: VirtualFile = MemoryFile(ext=".vrt")
        rasterio.shutil.copy(self._dataset, memory.name, driver="VRT")
        with rasterio.open(memory.name, "r+") as virtual:
            virtual.nodata = nodata
        return memory


def _palette(dataset: Any) -> NDArray[np.uint8] | None:
    """Return the colour table of a palette image as RGBA (N, 4), or None for other images."""
    if dataset.count != 1 or dataset.colorinterp[0] != ColorInterp.palette:
        return None
    table = np.zeros((1 << 8 * np.dtype(dataset.dtypes[0]).itemsize, 4), dtype=np.uint8)
    for index, colour in dataset.colormap(1).items():
        table[index] = colour
    return table


def _numpy_name(name: str) -> str:
    """Return the type as which rasterio reads a band; NumPy has no complex integers."""
    return "complex64" if name == "complex_int16" else name
