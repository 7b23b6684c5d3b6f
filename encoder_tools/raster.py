"""Reading orthophotos with rasterio: any bands, any type, windows of any level, in constant memory."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import rasterio.shutil
import rasterio.windows
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile

from geosam_es.core.geotransform import GeoTransform
from geosam_es.core.grid import Pyramid, Tiling
from geosam_es.core.radiometry import Stretch, percentile_limits
from geosam_es.core.window import Window
from geosam_es.errors import RasterError
from geosam_es.inference.encoder import FILL_RGB, TILE_SIZE
from geosam_es.store.layout import RasterInfo
from geosam_es.store.signature import pixel_fingerprint

__all__ = ["Raster", "RasterTile", "decide_stretch"]

_SAMPLES_PER_SIDE = 16
_SAMPLE_SIZE = 64
"""The stretch is read from 16 x 16 windows of this size, so that it takes no time however large the raster is."""

_SPARSE_STEP = 97
"""Where those windows find no data, every 97th pixel with data of the whole raster is taken."""


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

    def _retag(self, dataset: Any, nodata: float | None) -> None:
        """Let GDAL know a nodata value that the file does not tell, by a virtual raster in memory around it.

        Only GDAL can leave nodata out when it averages pixels for a coarser level. NaN needs it as much.
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
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", NotGeoreferencedWarning)
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
        types = {_numpy_type(dataset.dtypes[index - 1]) for index in indexes}
        try:
            pixels: NDArray[Any] = dataset.read(
                indexes,
                window=rasterio.windows.Window(*native),
                out_shape=(len(indexes), *shape),
                resampling=resampling if scale > 1 else Resampling.nearest,
                # A virtual raster may have bands of several types, which rasterio does not bring together itself.
                out_dtype=np.result_type(*types) if len(types) > 1 else None,
            )
        except (RasterioError, MemoryError) as error:
            raise self._damaged(native) from error
        return pixels

    def _valid(self, dataset: Any, native: Window, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Tell where any of the bands has data; a coarse pixel has where any native one under it does."""
        if not self._masked_bands:
            return np.ones(shape, dtype=np.bool_)
        try:
            masks = dataset.read_masks(
                self._masked_bands,
                window=rasterio.windows.Window(*native),
                out_shape=(len(self._masked_bands), *shape),
                resampling=Resampling.average,
            )
        except (RasterioError, MemoryError) as error:
            raise self._damaged(native) from error
        return np.asarray((masks > 0).any(axis=0), dtype=np.bool_)

    def _damaged(self, native: Window) -> RasterError:
        return RasterError(
            f"{self.path} is truncated or damaged: its pixels at {native.col_off},{native.row_off} cannot be read",
            "copy or download it again",
        )


def decide_stretch(raster: Raster, option: str = "auto") -> Stretch:
    """Decide how the whole raster is brought to 8 bits.

    Parameters
    ----------
    raster : Raster
    option : str
        ``auto`` (8-bit data are left alone, anything else gets its 2 to 98 %), ``none``, percentiles as ``2,98``, or
        values as ``0:4000``.

    Returns
    -------
    Stretch

    Raises
    ------
    RasterError
        If the option cannot be read or does not suit the data, or the whole raster has no data.
    """
    is_8_bit = raster.dtype == np.uint8
    if option == "none" and not is_8_bit:
        raise RasterError(f"{raster.path} is {raster.dtype}, which needs a stretch", "leave out --stretch none")
    values = _parse_pair(option, ":")
    percentiles = (2.0, 98.0) if option in ("auto", "none") else _parse_pair(option, ",")
    if (values is None and percentiles is None) or (percentiles and not 0 <= percentiles[0] < percentiles[1] <= 100):
        raise RasterError(
            f"--stretch {option} cannot be read", "use auto, none, two percentiles as 2,98 or two values as 0:4000"
        )
    sample = _sample(raster)
    if sample.size == 0:
        raise RasterError(f"{raster.path} has no data at all", "check its nodata value, or set --nodata")
    if values is not None:
        return Stretch((values,) * 3)
    if option == "none" or (option == "auto" and is_8_bit) or percentiles is None:
        return Stretch()
    return Stretch(tuple(percentile_limits(band, percentiles) for band in sample))


def _parse_pair(option: str, separator: str) -> tuple[float, float] | None:
    """Read two finite numbers, the lower one first; None where they are not that."""
    try:
        low, high = (float(part) for part in option.split(separator))
    except ValueError:
        return None
    return (low, high) if low < high and math.isfinite(low) and math.isfinite(high) else None


def _sample(raster: Raster) -> NDArray[Any]:
    """Read pixels with data (3, N) from all over the raster."""
    side = _SAMPLES_PER_SIDE * _SAMPLE_SIZE
    if raster.width * raster.height <= side * side:
        return _pixels_with_data(raster, [Window(0, 0, raster.width, raster.height)])
    cols = np.linspace(0, max(0, raster.width - _SAMPLE_SIZE), _SAMPLES_PER_SIDE, dtype=int)
    rows = np.linspace(0, max(0, raster.height - _SAMPLE_SIZE), _SAMPLES_PER_SIDE, dtype=int)
    width, height = min(_SAMPLE_SIZE, raster.width), min(_SAMPLE_SIZE, raster.height)
    found = _pixels_with_data(raster, (Window(int(c), int(r), width, height) for r in rows for c in cols))
    if found.size:
        return found
    whole = Pyramid(raster.width, raster.height, Tiling(TILE_SIZE, 0), levels=1)
    return _pixels_with_data(raster, (whole.window(tile) for tile in whole), _SPARSE_STEP)


def _pixels_with_data(raster: Raster, windows: Iterable[Window], step: int = 1) -> NDArray[Any]:
    found = []
    for window in windows:
        bands, valid = raster.read_bands(window, 1)
        found.append(bands[:, valid][:, ::step])
    return np.concatenate(found, axis=1)


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
