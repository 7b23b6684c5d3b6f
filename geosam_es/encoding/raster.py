"""From a georeferenced image to tiles: the choice of bands and the pixels that have data.

`TiledRaster` makes these decisions; a `RasterFile` only reads pixels, with rasterio or QGIS's GDAL.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..core.geotransform import GeoTransform
from ..core.window import Window
from ..errors import RasterError
from ..store.metadata import RasterInfo
from ..store.raster_name import GdalName, RasterPath, gdal_text, raster_path, shown, typed
from ..store.signature import pixel_fingerprint
from .band_choice import alpha_band, choose_bands, masked_bands
from .mosaic import Source, check_exists, find_unreadable, vrt_sources
from .placement import MapCrs, check_placement
from .raster_file import RasterFile, RasterHeader, VirtualFile
from .raster_source import RasterSource
from .unreadable import archive_name, check_file, explain

__all__ = ["RPC_CRS", "WARP_TOLERANCE_PX", "TiledRaster"]

RPC_CRS = "EPSG:4326"
WARP_TOLERANCE_PX = 0.2
"""Error of a raster warped by its control points or RPCs: that of QGIS, so that the polygons fit what it shows."""

_MOST_KNOWN_BANDS = 4
"""More bands are those of a sensor, which rarely begin with red, green and blue."""

_MOST_OPENED = 256
"""The most files of a mosaic that are opened to check them before anything is read."""

_MEAN_PIXELS = 1 << 20
"""Native pixels that are averaged at once."""


class TiledRaster(RasterSource):
    """A georeferenced raster, opened once per thread that reads it.

    Parameters
    ----------
    path : Path, str or GdalName
        A file, or the name of anything else that GDAL opens.
    bands : sequence of int, optional
        The bands to use as red, green and blue, counted from 1; a single band is repeated. By default the bands tagged
        red, green and blue, else the first three, else the first.
    nodata : float, optional
        Replaces the value in the file.
    crs : str, optional
        Replaces the CRS of the file, in any form PROJ understands.

    Attributes
    ----------
    file_crs_wkt : str
        The CRS of the file itself; empty if it has none.
    ignores_nodata : bool
        Whether the file has a mask, which GDAL prefers to the nodata value given.
    guesses_bands : bool
        Whether the first three of more than four bands are used because none are tagged red, green and blue.

    Notes
    -----
    A raster with ground control points or RPCs instead of a geotransform is warped while it is read, as QGIS does.

    Raises
    ------
    RasterError
        If the file is missing, not a raster, complex, without CRS or geotransform, or lacks a band; if it refers to a
        file that is lost; or if its coordinates cannot be coordinates of the CRS.
    """

    def __init__(
        self,
        path: RasterPath | str,
        bands: Sequence[int] | None = None,
        nodata: float | None = None,
        crs: str | None = None,
    ) -> None:
        self.path = path if isinstance(path, GdalName) else raster_path(str(path))
        self._name = gdal_text(self.path)
        self._given_crs = crs
        self._local = threading.local()
        self._virtual: VirtualFile | None = None
        self._readable_tiles: set[Source] = set()
        header = self._file().header
        self._check_sources()
        self.transform = _georeference(self.path, header)
        self.file_crs_wkt = header.crs_wkt
        self.crs_wkt = header.crs_wkt if header.crs_wkt and crs is None else self.crs_of_user()
        self.width = header.width
        self.height = header.height
        check_placement(self.path, self.map_crs(), self.transform, self.width, self.height)
        self.palette = header.palette if bands is None else None
        self.bands = choose_bands(self.path, header.bands, bands)
        is_tagged = {"red", "green", "blue"} <= {info.colour for info in header.bands}
        self.guesses_bands = bands is None and len(header.bands) > _MOST_KNOWN_BANDS and not is_tagged
        band_types = [np.dtype(header.bands[band - 1].dtype) for band in self.bands]
        self.dtype = np.dtype("uint8") if self.palette is not None else np.result_type(*band_types)
        self.nodata = header.nodata if nodata is None else nodata
        self._tag_nodata(header, nodata)
        infos = self._file().header.bands
        self._band_count = len(infos)
        masks = frozenset().union(*(infos[band - 1].masks for band in self.bands))
        self.ignores_nodata = nodata is not None and "per_dataset" in masks and "alpha" not in masks
        self._masked_bands = masked_bands(infos, self.bands)
        self._alpha_band = alpha_band(infos, self.bands)
        # GDAL would leave out pixels where a band that the user named, and that it takes for alpha, is 0.
        is_named_alpha = "alpha" in masks and not self._masked_bands
        self.overviews = () if self._virtual or is_named_alpha else header.overviews
        self._has_own_mean = is_named_alpha or self._needs_own_mean(header)

    @abstractmethod
    def open_file(self, name: str) -> RasterFile:
        """Open a file for one thread.

        Raises
        ------
        OSError
            If it is not a raster.
        """

    @abstractmethod
    def read_size(self, name: str) -> tuple[int, int]:
        """Return the width and height of another raster.

        Raises
        ------
        OSError
            If it is not a raster.
        """

    @abstractmethod
    def drivers(self) -> Collection[str]:
        """Return the short names of GDAL's drivers."""

    @abstractmethod
    def parse_crs(self, text: str) -> str:
        """Return the WKT of a CRS given by the user.

        Raises
        ------
        ValueError
            If PROJ does not understand it.
        """

    @abstractmethod
    def map_crs(self) -> MapCrs:
        """Describe the CRS."""

    def close(self) -> None:
        """Close the file. The next read opens it again."""
        self._local = threading.local()

    def info(self) -> RasterInfo:
        """Describe the raster for a store, with its fingerprint."""
        every = range(1, self._band_count + 1)
        fingerprint = pixel_fingerprint(
            self.width,
            self.height,
            self._band_count,
            lambda window: self._read(every, window, (window.height, window.width), average=False),
        )
        return RasterInfo(
            file_name=self.path.name,
            file_bytes=_file_bytes(self.path),
            width=self.width,
            height=self.height,
            fingerprint=fingerprint,
            crs_wkt=self.crs_wkt,
            transform=self.transform,
        )

    def read_bands(self, window: Window, scale: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read a window of a level; see `RasterSource.read_bands`. Overviews are used if the file has them.

        The bands are in the raster's type, or RGB in uint8 for a palette image. Nodata, alpha, mask and NaN count as no
        data.
        """
        shape = (window.height, window.width)
        # The only row of a level may extend beyond a raster whose height is not a multiple of the scale.
        native = window.scaled(scale).intersection(Window(0, 0, self.width, self.height))
        if scale > 1 and self._has_own_mean:
            return self._mean_of_valid(native, shape, scale, self.overviews)
        pixels, valid = self._read_valid(native, shape, average=scale > 1)
        if pixels.dtype.kind == "f":
            finite = np.isfinite(pixels).all(axis=0)
            if scale > 1 and (valid & ~finite).any():
                # One such pixel spoils a mean, and those of overviews.
                return self._mean_of_valid(native, shape, scale, ())
            valid &= finite
        return pixels, valid

    def _read_valid(
        self, native: Window, shape: tuple[int, int], *, average: bool
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read the chosen bands; NaN and infinite values count as valid."""
        if self.palette is not None:
            colours = np.moveaxis(self.palette[self._read([1], native, shape, average=False)[0]], -1, 0)
            pixels, valid = colours[:3], colours[3] > 0
        else:
            indexes = sorted(set(self.bands))
            read = self._read(indexes, native, shape, average=average)
            pixels = read[[indexes.index(band) for band in self.bands]]
            valid = np.ones(shape, dtype=np.bool_)
        valid &= self._valid(native, shape)
        return pixels, valid

    def _mean_of_valid(
        self, native: Window, shape: tuple[int, int], scale: int, overviews: Sequence[int]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Average the pixels with data, as GDAL does where it knows them and computes exactly."""
        factor = max((factor for factor in overviews if scale % factor == 0), default=1)
        step = scale // factor
        height, width = shape
        mean, any_valid = np.empty((3, *shape), self.dtype), np.empty(shape, np.bool_)
        # A row of a wide raster may be too much already.
        together = max(1, _MEAN_PIXELS // step**2)
        across = min(width, together)
        down = together // across
        for top, left in product(range(0, height, down), range(0, width, across)):
            at = np.s_[top : top + down, left : left + across]
            part = Window(native.col_off + left * scale, native.row_off + top * scale, across * scale, down * scale)
            part = part.intersection(native)
            # Rounded up: the only row of a level may be lower than the scale.
            size = (-(-part.height // factor), -(-part.width // factor))
            pixels, valid = self._read_valid(part, size, average=False)
            if pixels.dtype.kind == "f":
                finite = np.isfinite(pixels).all(axis=0)
                if factor > 1 and (valid & ~finite).any():
                    # A pixel of an overview has no number if one of its native pixels has none.
                    return self._mean_of_valid(native, shape, scale, ())
                valid &= finite
            total = _block_sums(np.where(valid, pixels, 0), step, np.float64)
            seen = _block_sums(valid, step, np.uint32)
            total /= np.maximum(seen, 1)
            mean[(slice(None), *at)] = total if self.dtype.kind == "f" else np.rint(total, out=total)
            any_valid[at] = seen > 0
        return mean, any_valid

    def read_valid(self, window: Window) -> NDArray[np.bool_]:
        """Return which native pixels have data, as `read_bands` does, but without reading bands that do not matter."""
        if self.palette is not None or self.dtype.kind == "f":
            return self.read_bands(window, 1)[1]
        return self._valid(window, (window.height, window.width))

    def read_values(self, window: Window) -> NDArray[Any]:
        """Read the native pixels with data (3, N); NaN in bands that have none where others have."""
        bands, valid = self.read_bands(window, 1)
        pixels = bands[:, valid]
        if len(self._masked_bands) < 2:
            return pixels
        masks = self._masks(window, valid.shape)[:, valid]
        places = [self._masked_bands.index(band) for band in self.bands]
        return np.where(masks[places] > 0, pixels, np.nan)

    def _file(self) -> RasterFile:
        """Return this thread's file handle; GDAL's must not be shared."""
        # Another thread may close the raster meanwhile.
        local = self._local
        if not hasattr(local, "file"):
            local.file = self._open()
        found: RasterFile = local.file
        return found

    def _open(self) -> RasterFile:
        check_file(self.path)
        try:
            file = self.open_file(self._virtual.name if self._virtual else self._name)
        except OSError as error:
            archive = archive_name(self.path)
            if archive is not None and archive != self._name:
                self._name = archive
                with suppress(RasterError):
                    return self._open()
                self._name = gdal_text(self.path)
            raise find_unreadable(self.path, vrt_sources(self.path), self.read_size) or explain(
                self.path, self.drivers()
            ) from error
        if not file.header.bands or file.header.subdatasets:
            raise _choose_subdataset(self.path, file.header.subdatasets)
        return file

    def _check_sources(self) -> None:
        """Check the files that a mosaic refers to. GDAL would read some lost or changed ones as empty."""
        index = self._file().index
        sources = index.tiles if index else list(dict.fromkeys(vrt_sources(self.path)))
        for source in sources:
            check_exists(self.path, source)
        step = len(sources) // _MOST_OPENED + 1
        error = find_unreadable(self.path, sources[::step], self.read_size)
        if error:
            raise error

    def _check_tiles(self, native: Window) -> None:
        """Check that the tiles of an index that touch a window can be opened: GDAL leaves the others out."""
        index = self._file().index
        if index is None:
            return
        corners = [self.transform.apply(x, y) for x in native.bounds[::2] for y in native.bounds[1::2]]
        xs, ys = zip(*corners)
        for tile in index.touching((min(xs), min(ys), max(xs), max(ys))):
            check_exists(self.path, tile)
            if tile not in self._readable_tiles:
                error = find_unreadable(self.path, [tile], self.read_size)
                if error:
                    raise error
                self._readable_tiles.add(tile)

    def crs_of_user(self) -> str:
        """Return the WKT of the CRS that the user gave.

        Raises
        ------
        RasterError
            If none was given, or PROJ does not understand it.
        """
        crs = self._given_crs
        if crs is None:
            raise RasterError(
                "{path} has no coordinate reference system",
                "set it with --crs EPSG:25830 or the like; in QGIS, set the CRS of the layer",
                path=self.path,
            )
        try:
            return self.parse_crs(crs)
        except ValueError:
            raise RasterError(
                "--crs {crs} is not a coordinate reference system", "use a code such as EPSG:25830", crs=crs
            ) from None

    def _tag_nodata(self, header: RasterHeader, nodata: float | None) -> None:
        """Wrap the file in a virtual raster with a nodata value that the file itself lacks.

        Only GDAL can exclude nodata, and likewise NaN, when it averages pixels for a coarser level. The cost is that
        GDAL then averages native pixels even if the file has overviews.
        """
        if nodata is None:
            if self.dtype.kind != "f" or "all_valid" not in header.bands[self.bands[0] - 1].masks:
                return
            nodata = float("nan")
        elif self.dtype.kind != "f" and not _is_in_range(nodata, self.dtype):
            raise RasterError(
                "--nodata {nodata:g} is not a valid value of {path}, which is {dtype}",
                "choose a value of that type",
                nodata=nodata,
                path=self.path,
                dtype=self.dtype,
            )
        self._virtual = self._file().with_nodata(nodata)
        self._local = threading.local()

    def _needs_own_mean(self, header: RasterHeader) -> bool:
        """Tell whether GDAL cannot average the pixels with data.

        It does not average the colours of a palette, does not see an alpha band beside nodata or among five bands, nor
        the mask of a virtual raster, and older versions round 32-bit integers.
        """
        has_mask = any("per_dataset" in header.bands[band - 1].masks for band in self.bands)
        if self.palette is not None:
            return bool(self._masked_bands) or self._alpha_band is not None or not self.palette[:, 3].all()
        return (
            self._alpha_band is not None
            or (header.is_virtual and has_mask)
            or (self.dtype.kind in "iu" and self.dtype.itemsize > 2)
        )

    def _read(self, bands: Sequence[int], native: Window, shape: tuple[int, int], *, average: bool) -> NDArray[Any]:
        try:
            read = self._file().read(bands, native, shape, average)
        except (OSError, MemoryError) as error:
            raise self._unread(native, error) from error
        self._check_tiles(native)
        return read

    def _valid(self, native: Window, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return where any band has data. A coarse pixel has data if any native pixel in it does."""
        valid = np.ones(shape, dtype=np.bool_)
        if self._masked_bands:
            valid &= (self._masks(native, shape) > 0).any(axis=0)
        if self._alpha_band is not None:
            valid &= self._read([self._alpha_band], native, shape, average=True)[0] > 0
        return valid

    def _masks(self, native: Window, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        try:
            return self._file().read_masks(self._masked_bands, native, (shape[0], shape[1]))
        except (OSError, MemoryError) as error:
            raise self._unread(native, error) from error

    def _unread(self, native: Window, error: OSError | MemoryError) -> RasterError:
        if isinstance(error, MemoryError):
            return RasterError(
                "There is not enough memory to read {path}", "close other programs, and try again", path=self.path
            )
        index = self._file().index
        sources = index.tiles if index else list(vrt_sources(self.path))
        return find_unreadable(self.path, sources, self.read_size) or RasterError(
            "{path}, or a file that it refers to, is damaged: its pixels at {col},{row} cannot be read"
            if sources
            else "{path} is truncated or damaged: its pixels at {col},{row} cannot be read",
            "copy or download it again",
            path=self.path,
            col=native.col_off,
            row=native.row_off,
        )


def _block_sums(values: NDArray[Any], size: int, dtype: DTypeLike) -> NDArray[Any]:
    """Add up the square blocks of an image, of which the last ones may be smaller."""
    for _ in ("rows", "columns"):
        values = values.swapaxes(-2, -1)
        sums = values[..., ::size].astype(dtype)
        for number in range(1, size):
            part = values[..., number::size]
            sums[..., : part.shape[-1]] += part
        values = sums
    return values


def _file_bytes(path: RasterPath) -> int:
    file = path.file if isinstance(path, GdalName) else path
    return 0 if file is None else file.stat().st_size


def _choose_subdataset(path: RasterPath, subdatasets: Sequence[str]) -> RasterError:
    if not subdatasets:
        return RasterError("{path} has no bands", "name an image", path=shown(path))
    # GDAL was given the absolute path.
    names = [name.replace(gdal_text(path), str(path)) for name in subdatasets]
    return RasterError(
        "{path} contains {count} rasters",
        "name one of them: {names}",
        path=shown(path),
        count=len(names),
        names=", ".join(map(typed, names)),
    )


def _georeference(path: RasterPath, header: RasterHeader) -> GeoTransform:
    if header.transform is None:
        raise RasterError(
            "{path} has no geotransform, so its position on the map is unknown",
            "warp it first with: {command}" if header.is_unwarped else "georeference it in QGIS",
            path=shown(path),
            command=f"gdalwarp -geoloc {typed(str(path))} warped.tif",
        )
    if not header.transform.is_usable(header.width, header.height):
        raise RasterError(
            "{path} has a geotransform that places all pixels on one line, or beyond any map",
            "georeference it again in QGIS",
            path=shown(path),
        )
    return header.transform


def _is_in_range(value: float, dtype: np.dtype[Any]) -> bool:
    limits = np.iinfo(dtype)
    return limits.min <= value <= limits.max and float(value).is_integer()
