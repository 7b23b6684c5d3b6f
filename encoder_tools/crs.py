"""Coordinate reference systems with pyproj: comparison, transformation, areas on the ellipsoid."""

from __future__ import annotations

import math

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from pyproj.exceptions import CRSError, ProjError
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient

from geosam_es.core.topology import polygon_parts
from geosam_es.encoding.placement import GEOGRAPHIC, LOCAL, NO_MAP, PROJECTED, MapCrs
from geosam_es.errors import StoreError, VectorError
from geosam_es.store import StoreReader
from geosam_es.store.signature import set_crs_line

__all__ = [
    "AreaMeter",
    "check_transform",
    "is_horizontal",
    "lost_crs",
    "map_crs",
    "parse_crs",
    "reproject",
    "same_crs",
    "store_crs",
]


def same_crs(first_wkt: str, second_wkt: str) -> bool:
    """Tell whether two WKT texts describe one CRS; versions of WKT and libraries differ in names and axis order.

    Heights are not compared, because polygons have none.

    Examples
    --------
    >>> texts = [pyproj.CRS("EPSG:4326").to_wkt(version) for version in ("WKT1_GDAL", "WKT2_2019")]
    >>> texts[0] == texts[1], same_crs(*texts), same_crs(texts[0], pyproj.CRS("EPSG:4258").to_wkt())
    (False, True, False)
    """
    if first_wkt == second_wkt:
        return True
    try:
        first, second = (_horizontal_part(pyproj.CRS.from_wkt(wkt)) for wkt in (first_wkt, second_wkt))
    except CRSError:
        return False
    code = first.to_epsg()
    if code is not None and code == second.to_epsg():
        return True
    # A local CRS has nothing but its name.
    return first.equals(second, ignore_axis_order=True) and not (_is_local(first) and first.name != second.name)


def is_horizontal(crs: pyproj.CRS) -> bool:
    """Tell whether coordinates in a CRS give a place on a map, which heights, times and geocentric ones do not.

    Examples
    --------
    >>> [is_horizontal(pyproj.CRS(code)) for code in ("EPSG:25830", "EPSG:25830+5782", "EPSG:5782", "EPSG:4978")]
    [True, True, False, False]
    """
    part = _horizontal_part(crs)
    return len(part.axis_info) > 1 and not part.is_geocentric


def _horizontal_part(crs: pyproj.CRS) -> pyproj.CRS:
    return _horizontal_part(crs.sub_crs_list[0]) if crs.sub_crs_list else crs


def _is_local(crs: pyproj.CRS) -> bool:
    """Tell whether a CRS is of a site or a plan, without a known place on the Earth."""
    return crs.geodetic_crs is None


def map_crs(crs: pyproj.CRS) -> MapCrs:
    """Describe a CRS, to check whether coordinates may be in it."""
    part = _horizontal_part(crs)
    kind = LOCAL if _is_local(part) else PROJECTED
    kind = GEOGRAPHIC if part.is_geographic else kind if is_horizontal(part) else NO_MAP
    factor = part.axis_info[0].unit_conversion_factor if part.axis_info else 1.0
    unit = math.degrees(factor) if part.is_geographic else factor
    area = None if crs.area_of_use is None else crs.area_of_use.bounds

    def to_degrees(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        geodetic = part.geodetic_crs or part
        transformer = pyproj.Transformer.from_crs(part, geodetic, always_xy=True)
        scale = math.degrees(geodetic.axis_info[0].unit_conversion_factor)
        return np.column_stack(transformer.transform(xy[:, 0], xy[:, 1])) * scale

    return MapCrs(crs.name, kind, unit, area, to_degrees)


def check_transform(source: pyproj.CRS, target: pyproj.CRS) -> None:
    """Check, before any work is done, that coordinates can be transformed from one CRS to another.

    Raises
    ------
    VectorError
        If one of them is a local CRS, and they differ.
    """
    # Local CRSs that differ in their names alone are taken for one.
    if source == target or same_crs(source.to_wkt(), target.to_wkt()):
        return
    local = next((crs for crs in (source, target) if _is_local(_horizontal_part(crs))), None)
    if local is not None:
        raise VectorError(
            f"{local.name} is a local CRS: coordinates cannot be transformed from {source.name} to {target.name}",
            "use one CRS for both, or give the store its true CRS with geosam-es info STORE --set-crs",
        )


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
        If PROJ cannot read it, it is no CRS for maps, or it is a local CRS with the name of another one: GDAL writes
        that where it does not find its data.
    """
    wkt = reader.metadata.raster.crs_wkt
    try:
        crs = pyproj.CRS.from_wkt(wkt)
    except ProjError as error:
        raise StoreError(
            f"{reader.root} has a coordinate reference system that PROJ cannot read",
            f"set it with: {set_crs_line(reader.root, 'EPSG:25830')}",
        ) from error
    if not is_horizontal(crs):
        raise StoreError(
            f"{reader.root} has the CRS {crs.name}, which is not a CRS for maps",
            f"set it with: {set_crs_line(reader.root, 'EPSG:25830')}",
        )
    meant = lost_crs(crs)
    if meant is not None:
        raise StoreError(
            f"{reader.root} has a local CRS with the name of {meant.name}, because GDAL did not find its data when the "
            "store was made",
            f"correct it with: {set_crs_line(reader.root, meant.to_wkt())}",
        )
    return crs


def lost_crs(crs: pyproj.CRS) -> pyproj.CRS | None:
    """Return the CRS whose name a local CRS has, if there is one: its definition was lost."""
    part = _horizontal_part(crs)
    if not _is_local(part):
        return None
    try:
        meant = pyproj.CRS.from_user_input(part.name)
    except ProjError:
        return None
    return meant if meant.name == part.name and not _is_local(meant) else None


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
