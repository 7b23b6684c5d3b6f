"""Reading orthophotos with rasterio: any bands, any type, windows of any level, in constant memory."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import rasterio.shutil
import rasterio.windows
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import CRSError, NodataShadowWarning, NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile

from geosam_es.core.geotransform import GeoTransform
from geosam_es.core.radiometry import Stretch
from geosam_es.core.window import Window
from geosam_es.errors import RasterError
from geosam_es.inference.encoder import FILL_RGB, TILE_SIZE
from geosam_es.store.layout import RasterInfo
from geosam_es.store.signature import pixel_fingerprint

__all__ = ["Raster", "RasterTile", "bounded_cache"]

_CACHE_VARIABLE = "GDAL_CACHEMAX"
_CACHE_BYTES = 256 << 20

# The one is an error of ours, the other is taken care of. Set once, because filters are not safe to change in threads.
warnings.simplefilter("ignore", NotGeoreferencedWarning)
warnings.simplefilter("ignore", NodataShadowWarning)


def bounded_cache() -> AbstractContextManager[Any]:
    """Hold GDAL's cache of blocks to a fixed size, unless the user set one: by default it is a share of the memory."""
    return nullcontext() if _CACHE_VARIABLE in os.environ else rasterio.Env(**{_CACHE_VARIABLE: _CACHE_BYTES})


class RasterTile(NamedTuple):
    """A tile ready for an encoder.

    Attributes
    ----------
    image : uint8 (1024, 1024, 3)
        Padding and pixels without data hold the fill colour.
    has_data : bool
        False where no pixel has data, or all have one and the same value: black margins are seldom tagged.
    """

    image: NDArray[np.uint8]
    has_data: bool


class Raster:
    """A georeferenced raster, opened once for each thread that reads it.

    Parameters
    ----------
    path : Path
    bands : sequence of int, optional
        The bands to show as red, green and blue, counted from 1; one band is repeated. By default those tagged so,
        or the first three, or the first alone.
    nodata : float, optional
        In place of what the file says.
    crs : str, optional
        For a file that has none, anything PROJ understands.

    Raises
    ------
    RasterError
        If the file is not there, not a raster, complex, without CRS or georeference, or lacks a band.
    """

    def __init__(
        self, path: Path, bands: Sequence[int] | None = None, nodata: float | None = None, crs: str | None = None
    ) -> None:
        self.path = path
        self._local = threading.local()
        self._retagged: MemoryFile | None = None
        dataset = self._dataset()
        self.crs = _crs_of(path, dataset, crs)
        _check_georeference(path, dataset)
        self.width: int = dataset.width
        self.height: int = dataset.height
        self.transform = GeoTransform.from_sequence(dataset.transform)
        self.palette = _palette(dataset) if bands is None else None
        self.bands = _choose_bands(path, dataset, bands)
        band_types = [_numpy_type(dataset.dtypes[band - 1]) for band in self.bands]
        self.dtype = np.dtype("uint8") if self.palette is not None else np.result_type(*band_types)
        self.nodata: float | None = dataset.nodata if nodata is None else nodata
        self._retag(dataset, nodata)
        self._masked_bands = _masked_bands(self._dataset(), self.bands)
        self._alpha_band = _alpha_band(self._dataset(), self.bands)

    def _retag(self, dataset: Any, nodata: float | None) -> None:
        """Let GDAL know a nodata value that the file does not tell, by a virtual raster in memory around it.

        Only GDAL can leave nodata out when it averages pixels for a coarser level. NaN needs it as much. The price is
        that GDAL averages native pixels then, also where the file has overviews.
        """
        if nodata is None:
            is_open = MaskFlags.all_valid in dataset.mask_flag_enums[self.bands[0] - 1]
            if self.dtype.kind != "f" or not is_open:
                return
            nodata = float("nan")
        elif self.dtype.kind != "f" and not _is_in_range(nodata, self.dtype):
            raise RasterError(f"--nodata {nodata:g} cannot be in {self.path}, which is {self.dtype}", "correct it")
        self._retagged = MemoryFile(ext=".vrt")
        rasterio.shutil.copy(dataset, self._retagged.name, driver="VRT")
        with rasterio.open(self._retagged.name, "r+") as virtual:
            virtual.nodata = nodata
        self._local = threading.local()

    def info(self) -> RasterInfo:
        """Describe the raster for a store, with its fingerprint."""
        dataset = self._dataset()
        fingerprint = pixel_fingerprint(
            self.width,
            self.height,
            dataset.count,
            lambda window: self._read(dataset, list(dataset.indexes), window, 1, (window.height, window.width)),
        )
        return RasterInfo(
            file_name=self.path.name,
            file_bytes=self.path.stat().st_size,
            width=self.width,
            height=self.height,
            fingerprint=fingerprint,
            crs_wkt=self.crs.to_wkt(),
            transform=self.transform,
        )

    def read_bands(self, window: Window, scale: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read a window of a level.

        Parameters
        ----------
        window : Window
            In pixels of the level.
        scale : int
            Native pixels along the side of a pixel of the level. Overviews are used where the file has them.

        Returns
        -------
        bands : (3, h, w)
            In the raster's own type, or RGB in uint8 for a palette.
        valid : bool (h, w)
            False where there is no data: nodata, alpha, mask, NaN.

        Raises
        ------
        RasterError
            If the file is damaged there.
        """
        dataset = self._dataset()
        shape = (window.height, window.width)
        # A level of one row may reach beyond a raster whose height is no multiple of its pixels.
        native = window.scaled(scale).intersection(Window(0, 0, self.width, self.height))
        if self.palette is not None:
            indices = self._read(dataset, [1], native, scale, shape, Resampling.nearest)[0]
            colours = np.moveaxis(self.palette[indices], -1, 0)
            pixels, valid = colours[:3], colours[3] > 0
        else:
            indexes = sorted(set(self.bands))
            pixels = self._read(dataset, indexes, native, scale, shape)[[indexes.index(band) for band in self.bands]]
            valid = np.ones(shape, dtype=np.bool_)
        valid &= self._valid(dataset, native, shape)
        if pixels.dtype.kind == "f":
            valid &= np.isfinite(pixels).all(axis=0)
        return pixels, valid

    def read_tile(self, window: Window, scale: int, stretch: Stretch) -> RasterTile:
        """Read a tile as the encoders take it; see `read_bands` for the parameters and errors."""
        bands, valid = self.read_bands(window, scale)
        image = np.empty((TILE_SIZE, TILE_SIZE, 3), dtype=np.uint8)
        image[:] = FILL_RGB
        image[: window.height, : window.width] = stretch.apply(bands, valid, FILL_RGB)
        seen = bands[:, valid]
        has_data = bool(seen.size) and bool((seen != seen.flat[0]).any())
        return RasterTile(image, has_data)

    def _dataset(self) -> Any:
        """Return this thread's handle: GDAL's may not be shared."""
        if not hasattr(self._local, "dataset"):
            if not self.path.is_file():
                raise RasterError(f"{self.path} is not there", "check the path")
            try:
                self._local.dataset = rasterio.open(self._retagged.name if self._retagged else self.path)
            except (RasterioError, ValueError) as error:
                raise RasterError(
                    f"{self.path} is not a raster that GDAL can read", "check the file, or copy it again"
                ) from error
            if self._local.dataset.count == 0:
                raise RasterError(f"{self.path} has no bands of its own", "choose one of its subdatasets")
        return self._local.dataset

    def _read(
        self,
        dataset: Any,
        indexes: list[int],
        native: Window,
        scale: int,
        shape: tuple[int, int],
        resampling: Resampling = Resampling.average,
    ) -> NDArray[Any]:
        # A virtual raster may have bands of several types, which rasterio does not read together.
        has_types = len({dataset.dtypes[index - 1] for index in indexes}) > 1
        parts = [[index] for index in indexes] if has_types else [indexes]
        try:
            return np.concatenate(
                [
                    dataset.read(
                        part,
                        window=rasterio.windows.Window(*native),
                        out_shape=(len(part), *shape),
                        resampling=resampling if scale > 1 else Resampling.nearest,
                    )
                    for part in parts
                ]
            )
        except (RasterioError, MemoryError) as error:
            raise self._damaged(native) from error

    def _valid(self, dataset: Any, native: Window, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Tell where any of the bands has data; a coarse pixel has where any native one under it does."""
        valid = np.ones(shape, dtype=np.bool_)
        options = {"window": rasterio.windows.Window(*native), "resampling": Resampling.average}
        try:
            if self._masked_bands:
                masks = dataset.read_masks(self._masked_bands, out_shape=(len(self._masked_bands), *shape), **options)
                valid &= (masks > 0).any(axis=0)
            if self._alpha_band is not None:
                valid &= dataset.read(self._alpha_band, out_shape=shape, **options) > 0
        except (RasterioError, MemoryError) as error:
            raise self._damaged(native) from error
        return valid

    def _damaged(self, native: Window) -> RasterError:
        return RasterError(
            f"{self.path} is truncated or damaged: its pixels at {native.col_off},{native.row_off} cannot be read",
            "copy or download it again",
        )


def _crs_of(path: Path, dataset: Any, crs: str | None) -> CRS:
    if dataset.crs:
        return dataset.crs
    if crs is None:
        raise RasterError(f"{path} has no coordinate reference system", "name it with --crs EPSG:25830 or the like")
    try:
        return CRS.from_user_input(crs)
    except CRSError:
        raise RasterError(f"--crs {crs} is not a coordinate reference system", "use a code as EPSG:25830") from None


def _check_georeference(path: Path, dataset: Any) -> None:
    transform = GeoTransform.from_sequence(dataset.transform)
    if dataset.transform.is_identity or transform.determinant == 0:
        remedy = "warp it by its control points with gdalwarp" if dataset.gcps[0] else "georeference it in QGIS"
        raise RasterError(f"{path} has no geotransform, so its pixels have no place on the map", remedy)


def _palette(dataset: Any) -> NDArray[np.uint8] | None:
    """Return the colour table of a palette image as RGBA (N, 4), or None for any other image."""
    if dataset.count != 1 or dataset.colorinterp[0] != ColorInterp.palette:
        return None
    table = np.zeros((1 << 8 * np.dtype(dataset.dtypes[0]).itemsize, 4), dtype=np.uint8)
    for index, colour in dataset.colormap(1).items():
        table[index] = colour
    return table


def _numpy_type(name: str) -> np.dtype[Any]:
    """Return the type in which rasterio reads a band; GDAL's complex integers have none of their own."""
    return np.dtype("complex64" if name == "complex_int16" else name)


def _is_in_range(value: float, dtype: np.dtype[Any]) -> bool:
    limits = np.iinfo(dtype)
    return limits.min <= value <= limits.max and float(value).is_integer()


def _alpha_band(dataset: Any, bands: Sequence[int]) -> int | None:
    """Return the band of transparency that is not in GDAL's masks, because a nodata value hides it."""
    is_hidden = any(MaskFlags.nodata in dataset.mask_flag_enums[band - 1] for band in bands)
    found = [index for index, colour in enumerate(dataset.colorinterp, start=1) if colour == ColorInterp.alpha]
    return found[0] if found and is_hidden else None


def _masked_bands(dataset: Any, bands: Sequence[int]) -> list[int]:
    """Return the bands whose masks tell where there is data: one where all share it, none where all is valid."""
    flags = {band: dataset.mask_flag_enums[band - 1] for band in sorted(set(bands))}
    shared = [band for band in flags if MaskFlags.per_dataset in flags[band]]
    own = [band for band in flags if MaskFlags.all_valid not in flags[band]]
    return shared[:1] or (own if len(own) == len(flags) else [])


def _choose_bands(path: Path, dataset: Any, bands: Sequence[int] | None) -> tuple[int, int, int]:
    if bands is None:
        bands = _default_bands(dataset)
    if len(bands) == 1:
        bands = [bands[0]] * 3
    if len(bands) != 3:
        raise RasterError(f"--bands needs one band or three, not {len(bands)}", "write it as 4,1,2")
    missing = [band for band in bands if not 1 <= band <= dataset.count]
    if missing:
        raise RasterError(f"{path} has {dataset.count} band(s), and no band {missing[0]}", "correct --bands")
    if any(_numpy_type(dataset.dtypes[band - 1]).kind == "c" for band in bands):
        raise RasterError(f"{path} has complex values, which are no image", "compute an amplitude image first")
    return bands[0], bands[1], bands[2]


def _default_bands(dataset: Any) -> list[int]:
    interpretation = list(dataset.colorinterp)
    wanted = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
    if all(colour in interpretation for colour in wanted):
        return [interpretation.index(colour) + 1 for colour in wanted]
    data = [index + 1 for index, colour in enumerate(interpretation) if colour != ColorInterp.alpha]
    return data[:3] if len(data) >= 3 else data[:1]
