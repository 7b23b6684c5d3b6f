"""Whether the coordinates of a raster can be coordinates of its CRS: metres are no degrees, and the other way round."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.geotransform import GeoTransform
from ..errors import RasterError
from ..store.raster_name import RasterPath

__all__ = ["GEOGRAPHIC", "LOCAL", "NO_MAP", "PROJECTED", "MapCrs", "check_placement"]

GEOGRAPHIC, PROJECTED, LOCAL, NO_MAP = "geographic", "projected", "local", "no map"

_MOST_LATITUDE = 100.0
_MOST_LONGITUDE = 540.0
"""A raster may be in 0 to 360 degrees, and a global one may extend a little beyond the poles."""

_SMALLEST_PIXEL_M = 5e-4
"""Smaller pixels of a projected CRS are those of degrees: 0.1 m is 1e-6 degrees, and 30 m is 3e-4 degrees."""

_AREA_MARGIN_DEGREES = 5.0
_GRID_SIDE = 5


class MapCrs(NamedTuple):
    """What must be known of a CRS, from pyproj or QGIS's GDAL.

    Attributes
    ----------
    name : str
    kind : str
        `GEOGRAPHIC`, `PROJECTED`, `LOCAL` (a site without a place on the Earth), or `NO_MAP` for heights, times and
        geocentric coordinates.
    unit : float
        Degrees of its unit for a geographic CRS, metres for others.
    area : tuple of float, optional
        West, south, east and north of its area of use in degrees.
    to_degrees : callable
        Transforms coordinates (N, 2) to longitude and latitude, infinite where there are none.
    """

    name: str
    kind: str
    unit: float
    area: tuple[float, float, float, float] | None
    to_degrees: Callable[[NDArray[np.float64]], NDArray[np.float64]]


def _are_degrees(degrees: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell for each longitude and latitude (N, 2) whether it may be on the globe, or slightly beyond a pole."""
    longitude, latitude = np.abs(degrees).T
    return np.asarray((longitude <= _MOST_LONGITUDE) & (latitude <= _MOST_LATITUDE))


def check_placement(path: RasterPath, crs: MapCrs, transform: GeoTransform, width: int, height: int) -> None:
    """Check that the coordinates of a raster can be coordinates of its CRS.

    Parameters
    ----------
    path : Path or GdalName
        Raster or store, named in the message.
    crs : MapCrs
    transform : GeoTransform
    width, height : int
        Size of the raster in pixels.

    Raises
    ------
    RasterError
        If the CRS is not for maps, its unit is not that of the coordinates, or no part of the raster exists in it.
    """
    if crs.kind == NO_MAP:
        raise RasterError(
            "{crs}, the CRS of {path}, is not a CRS for maps",
            "give the true CRS with --crs or --set-crs; in QGIS, set the CRS of the layer",
            path=path,
            crs=crs.name,
        )
    steps = np.linspace(0, 1, _GRID_SIDE)
    pixels = np.stack(np.meshgrid(steps * width, steps * height), axis=-1).reshape(-1, 2)
    xy = transform.apply_array(pixels)
    place = f"{xy[0, 0]:.10g}, {xy[0, 1]:.10g}"
    if crs.kind == GEOGRAPHIC and not _are_degrees(xy * crs.unit).all():
        raise RasterError(
            "{path} begins at {place}, which is not in degrees, but the CRS {crs} is",
            "give the true CRS with --crs or --set-crs; in QGIS, set the CRS of the layer",
            path=path,
            place=place,
            crs=crs.name,
        )
    if crs.kind != PROJECTED:
        return
    degrees = crs.to_degrees(xy)
    degrees = degrees[np.isfinite(degrees).all(axis=1)]
    if not len(degrees) or _should_be_degrees(crs, xy, degrees, transform.pixel_size):
        raise RasterError(
            "{path} begins at {place}, which is in degrees, but the CRS {crs} is not"
            if len(degrees)
            else "{path} begins at {place}, which is no place in the CRS {crs}",
            "give the true CRS with --crs or --set-crs; in QGIS, set the CRS of the layer",
            path=path,
            place=place,
            crs=crs.name,
        )


def _should_be_degrees(crs: MapCrs, xy: NDArray[np.float64], degrees: NDArray[np.float64], pixel_size: float) -> bool:
    """Tell whether coordinates of a projected CRS are degrees: small numbers, but so are the metres of a site."""
    if not (np.abs(xy) <= (360.0, 90.0)).all():
        return False
    if pixel_size * crs.unit < _SMALLEST_PIXEL_M:
        return True
    return bool(
        crs.area is not None
        and _is_in_area(xy, crs.area, 0.0).all()
        and not _is_in_area(degrees, crs.area, _AREA_MARGIN_DEGREES).any()
    )


def _is_in_area(
    degrees: NDArray[np.float64], area: tuple[float, float, float, float], margin: float
) -> NDArray[np.bool_]:
    west, south, east, north = area
    longitude, latitude = degrees.T
    # An area across the antimeridian ends west of where it begins.
    width = (east - west) % 360.0 or 360.0
    inside = (longitude - west + margin) % 360.0 <= width + 2 * margin
    return np.asarray(inside & (latitude >= south - margin) & (latitude <= north + margin))
