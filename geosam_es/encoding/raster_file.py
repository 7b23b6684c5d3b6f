"""What has to be known of a raster file, and how its pixels are asked for.

The command line reads with rasterio, QGIS with its own GDAL; both give a `RasterFile`, and get the same tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..core.geotransform import GeoTransform
from ..core.window import Window

__all__ = ["BandInfo", "RasterFile", "RasterHeader", "VirtualFile"]


class BandInfo(NamedTuple):
    """What a file says of a band.

    Attributes
    ----------
    dtype : str
        NumPy name of the type in which it is read.
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
    """What a file says of itself.

    Attributes
    ----------
    width, height : int
    transform : GeoTransform, optional
        None where it has no place on the map.
    has_control_points : bool
        Whether ground control points stand in for the transform.
    crs_wkt : str
        Empty where there is none.
    bands : tuple of BandInfo
    nodata : float, optional
        Of the first band, if its type can hold it.
    palette : uint8 (N, 4), optional
        RGBA for each value of a palette image.
    overviews : tuple of int
        How many times smaller than the image those of the first band are.
    """

    width: int
    height: int
    transform: GeoTransform | None
    has_control_points: bool
    crs_wkt: str
    bands: tuple[BandInfo, ...]
    nodata: float | None
    palette: NDArray[np.uint8] | None
    overviews: tuple[int, ...] = ()


class VirtualFile(Protocol):
    """A file in memory that lives as long as this object."""

    @property
    def name(self) -> str:
        """What it is opened by."""
        ...


class RasterFile(Protocol):
    """An open file, used by one thread."""

    @property
    def header(self) -> RasterHeader:
        """What the file says of itself."""
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
            Whether pixels are averaged where there are fewer rows and columns than in the window; overviews are used
            where there are any. Otherwise the nearest are taken.

        Returns
        -------
        (bands, rows, columns)

        Raises
        ------
        OSError
            If the file is damaged there.
        """
        ...

    def read_masks(self, bands: Sequence[int], window: Window, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """Read the masks of bands, averaged; see `read`."""
        ...

    def with_nodata(self, nodata: float) -> VirtualFile:
        """Return a virtual raster around this one in which every band has a nodata value."""
        ...
