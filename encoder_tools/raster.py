"""Reading orthophotos with rasterio: any bands, any type, windows of any level, in constant memory."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError

from geosam_es.core.geotransform import GeoTransform
from geosam_es.core.radiometry import Stretch, percentile_limits
from geosam_es.core.window import Window
from geosam_es.errors import RasterError
from geosam_es.inference.encoder import FILL_RGB, TILE_SIZE
from geosam_es.store.layout import RasterInfo
from geosam_es.store.signature import pixel_fingerprint

__all__ = ["Raster", "RasterTile", "decide_stretch"]

_STRETCH_SAMPLE = 2048
"""Longest side in pixels of the reduced image that the stretch is read from."""


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
        dataset = self._dataset()
        self.crs = _crs_of(path, dataset, crs)
        _check_georeference(path, dataset)
        self.width: int = dataset.width
        self.height: int = dataset.height
        self.transform = GeoTransform.from_sequence(dataset.transform)
        self.palette = _palette(dataset) if bands is None else None
        self.bands = _choose_bands(path, dataset, bands)
        self.dtype = np.dtype("uint8") if self.palette is not None else np.dtype(dataset.dtypes[self.bands[0] - 1])
        self._user_nodata = nodata
        self.nodata: float | None = dataset.nodata if nodata is None else nodata
        self._has_mask = any(MaskFlags.all_valid not in flags for flags in dataset.mask_flag_enums)

    def info(self) -> RasterInfo:
        """Describe the raster for a store, with its fingerprint."""
        dataset = self._dataset()
        fingerprint = pixel_fingerprint(
            self.width, self.height, dataset.count, lambda window: self._read(dataset, None, window, 1)
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
        native = window.scaled(scale)
        if self.palette is not None:
            indices = self._read(dataset, [1], native, scale, shape, Resampling.nearest)[0]
            pixels = np.moveaxis(self.palette[indices], -1, 0)
        else:
            pixels = self._read(dataset, sorted(set(self.bands)), native, scale, shape)
            pixels = pixels[[sorted(set(self.bands)).index(band) for band in self.bands]]
        valid = self._valid(dataset, native, scale, shape)
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
                    self._local.dataset = rasterio.open(self.path)
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
        indexes: list[int] | None,
        native: Window,
        scale: int,
        shape: tuple[int, int] | None = None,
        resampling: Resampling | None = None,
    ) -> NDArray[Any]:
        if resampling is None:
            resampling = Resampling.average if scale > 1 else Resampling.nearest
        try:
            pixels: NDArray[Any] = dataset.read(
                indexes,
                window=rasterio.windows.Window(*native),
                out_shape=None if shape is None else (len(indexes or dataset.indexes), *shape),
                resampling=resampling,
            )
        except (RasterioError, MemoryError) as error:
            raise self._damaged(native) from error
        return pixels

    def _valid(self, dataset: Any, native: Window, scale: int, shape: tuple[int, int]) -> NDArray[np.bool_]:
        if self._user_nodata is not None:
            raw = self._read(dataset, sorted(set(self.bands)), native, scale, shape, Resampling.nearest)
            same = np.isnan(raw) if np.isnan(self._user_nodata) else raw == self._user_nodata
            return np.asarray(~same.all(axis=0), dtype=np.bool_)
        if not self._has_mask:
            return np.ones(shape, dtype=np.bool_)
        try:
            mask = dataset.dataset_mask(window=rasterio.windows.Window(*native), out_shape=shape)
        except (RasterioError, MemoryError) as error:
            raise self._damaged(native) from error
        return np.asarray(mask > 0, dtype=np.bool_)

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
    limits = _parse_values(option)
    if limits is not None:
        return Stretch((limits,) * 3)
    sample, valid = _sample(raster)
    if not valid.any():
        raise RasterError(f"{raster.path} has no data at all", "check its nodata value, or set --nodata")
    if option == "none" or (option == "auto" and is_8_bit):
        return Stretch()
    percentiles = (2.0, 98.0) if option == "auto" else _parse_percentiles(option)
    return Stretch(tuple(percentile_limits(band[valid], percentiles) for band in sample))


def _sample(raster: Raster) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    scale = max(1, -(-max(raster.width, raster.height) // _STRETCH_SAMPLE))
    window = Window(0, 0, max(1, raster.width // scale), max(1, raster.height // scale))
    return raster.read_bands(window, scale)


def _parse_values(option: str) -> tuple[float, float] | None:
    if ":" not in option:
        return None
    try:
        low, high = (float(part) for part in option.split(":"))
    except ValueError:
        raise _bad_stretch(option) from None
    if not low < high:
        raise _bad_stretch(option)
    return low, high


def _parse_percentiles(option: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in option.split(","))
    except ValueError:
        raise _bad_stretch(option) from None
    if not 0 <= low < high <= 100:
        raise _bad_stretch(option)
    return low, high


def _bad_stretch(option: str) -> RasterError:
    return RasterError(
        f"--stretch {option} cannot be read", "use auto, none, two percentiles as 2,98 or two values as 0:4000"
    )


def _crs_of(path: Path, dataset: Any, crs: str | None) -> CRS:
    if crs is not None:
        try:
            return CRS.from_user_input(crs)
        except CRSError:
            raise RasterError(f"--crs {crs} is not a coordinate reference system", "use a code as EPSG:25830") from None
    if dataset.crs is None:
        raise RasterError(f"{path} has no coordinate reference system", "name it with --crs EPSG:25830 or the like")
    return dataset.crs


def _check_georeference(path: Path, dataset: Any) -> None:
    transform = GeoTransform.from_sequence(dataset.transform)
    if dataset.transform.is_identity or transform.determinant == 0:
        remedy = "warp it by its control points with gdalwarp" if dataset.gcps[0] else "georeference it in QGIS"
        raise RasterError(f"{path} has no geotransform, so its pixels have no place on the map", remedy)


def _palette(dataset: Any) -> NDArray[np.uint8] | None:
    """Return the colour table of a palette image as RGB (256, 3), or None for any other image."""
    if dataset.count != 1 or dataset.colorinterp[0] != ColorInterp.palette:
        return None
    table = np.zeros((256, 3), dtype=np.uint8)
    for index, colour in dataset.colormap(1).items():
        table[index] = colour[:3]
    return table


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
    if any(np.dtype(dataset.dtypes[band - 1]).kind == "c" for band in bands):
        raise RasterError(f"{path} has complex values, which are no image", "compute an amplitude image first")
    return bands[0], bands[1], bands[2]


def _default_bands(dataset: Any) -> list[int]:
    interpretation = list(dataset.colorinterp)
    wanted = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
    if all(colour in interpretation for colour in wanted):
        return [interpretation.index(colour) + 1 for colour in wanted]
    data = [index + 1 for index, colour in enumerate(interpretation) if colour != ColorInterp.alpha]
    return data[:3] if len(data) >= 3 else data[:1]
