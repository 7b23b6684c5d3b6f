"""Coordinate reference systems with pyproj: comparison, transformation, areas on the ellipsoid."""

from __future__ import annotations

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from pyproj.exceptions import CRSError, ProjError
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient

from geosam_es.core.topology import polygon_parts
from geosam_es.errors import StoreError, VectorError
from geosam_es.store import StoreReader

__all__ = ["AreaMeter", "is_horizontal", "parse_crs", "reproject", "same_crs", "store_crs"]


def same_crs(first_wkt: str, second_wkt: str) -> bool:
    """Tell whether two WKT texts describe one CRS; versions of WKT and libraries differ in names and axis order.

    Examples
    --------
    >>> texts = [pyproj.CRS("EPSG:4326").to_wkt(version) for version in ("WKT1_GDAL", "WKT2_2019")]
    >>> texts[0] == texts[1], same_crs(*texts), same_crs(texts[0], pyproj.CRS("EPSG:4258").to_wkt())
    (False, True, False)
    """
    if first_wkt == second_wkt:
        return True
    try:
        first, second = pyproj.CRS.from_wkt(first_wkt), pyproj.CRS.from_wkt(second_wkt)
    except CRSError:
        return False
    code = first.to_epsg()
    return first.equals(second, ignore_axis_order=True) or (code is not None and code == second.to_epsg())


def is_horizontal(crs: pyproj.CRS) -> bool:
    """Tell whether coordinates in a CRS give a place on a map, which heights, times and geocentric ones do not.

    Examples
    --------
    >>> [is_horizontal(pyproj.CRS(code)) for code in ("EPSG:25830", "EPSG:25830+5782", "EPSG:5782", "EPSG:4978")]
    [True, True, False, False]
    """
    return len(crs.axis_info) > 1 and not crs.is_geocentric


def parse_crs(text: str) -> pyproj.CRS:
    """Read a CRS as a user writes it.

    Raises
    ------
    VectorError
        If PROJ does not know it, or it has no place on a map, as a CRS of heights.
    """
    try:
        crs = pyproj.CRS.from_user_input(text)
    except ProjError:
        raise VectorError(f"{text} is not a coordinate reference system", "use a code such as EPSG:25830") from None
    if not is_horizontal(crs):
        raise VectorError(f"{text} ({crs.name}) is not a CRS for maps", "use a code such as EPSG:25830")
    return crs


def store_crs(reader: StoreReader) -> pyproj.CRS:
    """Return the CRS of a store's raster.

    Raises
    ------
    StoreError
        If PROJ cannot read it.
    """
    try:
        return pyproj.CRS.from_wkt(reader.metadata.raster.crs_wkt)
    except ProjError as error:
        raise StoreError(
            f"{reader.root} has a coordinate reference system that PROJ cannot read",
            "set it with: geosam-es info STORE --set-crs EPSG:25830",
        ) from error


def reproject(
    geometries: NDArray[np.object_], source: pyproj.CRS, target: pyproj.CRS, *, may_fail: bool = False
) -> NDArray[np.object_]:
    """Transform geometries from one CRS to another.

    Parameters
    ----------
    geometries : object (N,)
    source, target : pyproj.CRS
    may_fail : bool
        Return infinite coordinates where the transformation is not defined, instead of raising an error.

    Raises
    ------
    VectorError
        If there is no transformation, or it is not defined for some coordinates.
    """
    if source == target:
        return geometries
    failure = VectorError(
        f"Some coordinates cannot be transformed from {source.name} to {target.name}", "check the CRS"
    )
    try:
        transformer = pyproj.Transformer.from_crs(source, target, always_xy=True)
    except ProjError as error:
        raise failure from error

    def project(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(transformer.transform(xy[:, 0], xy[:, 1]))

    projected: NDArray[np.object_] = shapely.transform(geometries, project)
    if not may_fail and not np.isfinite(shapely.get_coordinates(projected)).all():
        raise failure
    return projected


class AreaMeter:
    """Measures areas in square metres on the ellipsoid of a CRS.

    Parameters
    ----------
    crs : pyproj.CRS
    """

    def __init__(self, crs: pyproj.CRS) -> None:
        self._geod = crs.get_geod()
        self._crs = crs
        self._geodetic = crs.geodetic_crs

    def area_m2(self, geometry: BaseGeometry) -> float:
        """Return the area of a geometry in the CRS.

        In a CRS without an ellipsoid, such as a local grid, it is the planar area.
        """
        if geometry.is_empty:
            return 0.0
        if self._geod is None or self._geodetic is None:
            factor = self._crs.axis_info[0].unit_conversion_factor if self._crs.axis_info else 1.0
            return float(geometry.area) * factor * factor
        geographic = reproject(np.array([geometry], dtype=object), self._crs, self._geodetic)[0]
        # The sign of an area follows the direction of the ring.
        parts = [orient(part) for part in polygon_parts(geographic)]
        return sum(float(self._geod.geometry_area_perimeter(part)[0]) for part in parts)
