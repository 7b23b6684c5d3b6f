"""The interface to a raster file: its header and its pixels.

The command line implements `RasterFile` with rasterio, QGIS with its GDAL. Both get the same tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..core.geotransform import GeoTransform
from ..core.window import Window
from .mosaic import TileIndex

__all__ = ["BandInfo", "RasterFile", "RasterHeader", "VirtualFile"]


class BandInfo(NamedTuple):
    """Header of a band.

    Attributes
    ----------
    dtype : str
        NumPy name of the type that it is read as.
    colour : str
        GDAL's colour interpretation: red, green, blue, gray, alpha, palette, undefined and so on.
    masks : frozenset of str
        GDAL's mask flags: all_valid, per_dataset, alpha, nodata.
    """

    dtype: str
    colour: str
    masks: frozenset[str]


@dataclass(frozen=True)
class RasterHeader:
    """Header of a raster file.

    Attributes
    ----------
    width, height : int
    transform : GeoTransform, optional
        None if the file is not georeferenced.
    is_unwarped : bool
        Whether the position of the pixels is described, but not by a transform or in a way that can be warped here.
    crs_wkt : str
        Empty if there is none.
    bands : tuple of BandInfo
    nodata : float, optional
        Of the first band, if its type can hold the value.
    palette : uint8 (N, 4), optional
        RGBA of each value of a palette image.
    overviews : tuple of int
        Reduction factors of the first band's overviews.
    subdatasets : tuple of str
        GDAL's names of the rasters in the file, if there are several.
    is_virtual : bool
        Whether it is a virtual raster (VRT).
    """

    width: int
    height: int
    transform: GeoTransform | None
    is_unwarped: bool
    crs_wkt: str
    bands: tuple[BandInfo, ...]
    nodata: float | None
    palette: NDArray[np.uint8] | None
    overviews: tuple[int, ...] = ()
    subdatasets: tuple[str, ...] = ()
    is_virtual: bool = False


class VirtualFile(Protocol):
    """A file in memory that exists as long as this object."""

    @property
    def name(self) -> str:
        """Name to open it by."""
        ...


class RasterFile(Protocol):
    """An open file, used by one thread."""

    @property
    def header(self) -> RasterHeader:
        """Header of the file."""
        ...

    @property
    def index(self) -> TileIndex | None:
        """Tiles of a tile index; None for other rasters."""
        ...

    def read(self, bands: Sequence[int], window: Window, shape: tuple[int, int], average: bool) -> NDArray[Any]:
        """Read bands, counted from 1.

        Parameters
        ----------
        bands : sequence of int
        window : Window
            In native pixels.
        shape : (int, int)
            Rows and columns of the result.
        average : bool
            Whether pixels are averaged if the result has fewer rows and columns than the window, using overviews if
            there are any. Otherwise the nearest pixels are taken.

        Returns
        -------
        (bands, rows, columns)

        Raises
        ------
        OSError
            If the file is damaged at this place.
        """
        ...

    def read_masks(self, bands: Sequence[int], window: Window, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """Read the masks of bands, averaged; see `read`."""
        ...

    def with_nodata(self, nodata: float) -> VirtualFile:
        """Return a virtual raster of this file with a nodata value for every band."""
        ...
