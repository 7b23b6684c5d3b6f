"""A georeferenced image that is read by tiles: what the encoding needs of it, wherever its pixels come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.geotransform import GeoTransform
from ..core.radiometry import Stretch
from ..core.window import Window
from ..inference.encoder import FILL_RGB, TILE_SIZE
from ..store.metadata import RasterInfo
from ..store.raster_name import RasterPath
from .enlarge import MARGIN, enlarge

__all__ = ["RasterSource", "RasterTile"]


class RasterTile(NamedTuple):
    """A tile ready for an encoder.

    Attributes
    ----------
    image : uint8 (1024, 1024, 3)
        Padding and pixels without data have the fill colour.
    has_data : bool
        False if no pixel has data or all have the same value, because black margins are seldom tagged as nodata.
    """

    image: NDArray[np.uint8]
    has_data: bool


class RasterSource(ABC):
    """A georeferenced image that is read by tiles.

    Attributes
    ----------
    path : Path or GdalName
    width, height : int
        Native size in pixels.
    transform : GeoTransform
    crs_wkt : str
    bands : (int, int, int)
        The bands used as red, green and blue, counted from 1.
    nodata : float, optional
    dtype : numpy.dtype
    overviews : tuple of int
        Native pixels along the side of a pixel of each overview.
    levels : int, optional
        Number of levels that can be read; None for all.
    is_online : bool
        Whether it comes from an online service, which must not be read as a whole.
    enlarges : bool
        Whether level 0 is the finest that there is, so that enlarged levels are of use.
    """

    levels: int | None = None
    is_online = False
    enlarges = True
    path: RasterPath
    width: int
    height: int
    transform: GeoTransform
    crs_wkt: str
    bands: tuple[int, int, int]
    nodata: float | None
    dtype: np.dtype[Any]
    overviews: tuple[int, ...]

    @abstractmethod
    def info(self) -> RasterInfo:
        """Describe the raster for a store, with its fingerprint."""

    @abstractmethod
    def close(self) -> None:
        """Close the file. The next read opens it again."""

    @abstractmethod
    def read_bands(self, window: Window, scale: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read a window of a level.

        Parameters
        ----------
        window : Window
            In pixels of the level.
        scale : int
            Native pixels along the side of a pixel of the level.

        Returns
        -------
        bands : (3, h, w)
        valid : bool (h, w)
            False for pixels without data.

        Raises
        ------
        RasterError
            If it cannot be read there.
        """

    @abstractmethod
    def read_valid(self, window: Window) -> NDArray[np.bool_]:
        """Return which native pixels have data."""

    @abstractmethod
    def read_values(self, window: Window) -> NDArray[Any]:
        """Read the native pixels with data (3, N); NaN in bands that have none where others have."""

    def read_tile(self, window: Window, scale: float, stretch: Stretch) -> RasterTile:
        """Read a tile for an encoder; see `read_bands` for the parameters and errors.

        If ``scale`` is less than 1, the native pixels are enlarged.
        """
        if scale < 1:
            return self._read_enlarged(window, scale, stretch)
        bands, valid = self.read_bands(window, int(scale))
        return _padded_tile(stretch.apply(bands, valid, FILL_RGB), _shows_something(bands, valid))

    def _read_enlarged(self, window: Window, scale: float, stretch: Stretch) -> RasterTile:
        native = window.scaled(scale)
        left, top, right, bottom = native.bounds
        around = Window(left - MARGIN, top - MARGIN, native.width + 2 * MARGIN, native.height + 2 * MARGIN)
        read = around.intersection(Window(0, 0, self.width, self.height))
        rows = slice(top - read.row_off, bottom - read.row_off)
        cols = slice(left - read.col_off, right - read.col_off)
        bands, valid = self.read_bands(read, 1)
        factor = round(1 / scale)
        image = enlarge(stretch.apply(bands, valid, FILL_RGB), valid, factor)
        inside = image[rows.start * factor : rows.stop * factor, cols.start * factor : cols.stop * factor]
        return _padded_tile(inside, _shows_something(bands[:, rows, cols], valid[rows, cols]))


def _padded_tile(image: NDArray[np.uint8], has_data: bool) -> RasterTile:
    height, width = image.shape[:2]
    if (height, width) == (TILE_SIZE, TILE_SIZE):
        return RasterTile(np.ascontiguousarray(image), has_data)
    padded = np.empty((TILE_SIZE, TILE_SIZE, 3), dtype=np.uint8)
    padded[:] = FILL_RGB
    padded[:height, :width] = image
    return RasterTile(padded, has_data)


def _shows_something(bands: NDArray[Any], valid: NDArray[np.bool_]) -> bool:
    """Tell whether the pixels with data have more than one value."""
    if valid.all():
        return bool(bands.size) and bool(bands.min() != bands.max())
    first = int(valid.argmax())
    return bool(valid.flat[first]) and bool(((bands != bands[0].flat[first]) & valid).any())
