"""Coordinate reference systems with pyproj: comparison, transformation, areas on the ellipsoid."""

from __future__ import annotations

import math
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyproj
import shapely
import shapely.affinity
from numpy.typing import NDArray
from pyproj.exceptions import CRSError, DataDirError, ProjError
from shapely.geometry.base import BaseGeometry

from geosam_es.core.globe import (
    DEGREES,
    Project,
    Seam,
    are_degrees,
    crosses,
    densified,
    find_seam,
    globe_rings,
    placed,
    split_at_seam,
    untorn,
)
from geosam_es.core.prompts import Bounds
from geosam_es.core.topology import polygon_parts
from geosam_es.encoding.placement import GEOGRAPHIC, LOCAL, NO_MAP, PROJECTED, MapCrs
from geosam_es.errors import StoreError, VectorError
from geosam_es.store import StoreReader
from geosam_es.store.signature import set_crs_line

__all__ = [
    "ASSIGN_CRS",
    "AreaMeter",
    "area_on",
    "check_degrees",
    "check_transform",
    "is_horizontal",
    "is_local",
    "lost_crs",
    "map_crs",
    "may_be_in",
    "parse_crs",
    "prompts_to_raster",
    "reproject",
    "reproject_polygons",
    "same_crs",
    "store_crs",
]

ASSIGN_CRS = "assign its CRS in QGIS with Assign projection, or with: ogr2ogr -a_srs EPSG:25830 NEW.gpkg FILE"
"""What to do for a file without a CRS, or with a wrong one."""

_GIVE_CRS = "give the CRS that they are in with --crs, or correct the CRS of the file"

try:
    pyproj.datadir.get_data_dir()
except DataDirError:
    # The pyproj of a Linux distribution does not look there from a virtual environment.
    pyproj.datadir.set_data_dir(Path(sys.base_prefix, "share", "proj"))


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
    return first.equals(second, ignore_axis_order=True) and not (is_local(first) and first.name != second.name)


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


def is_local(crs: pyproj.CRS) -> bool:
    """Tell whether a CRS is of a site or a plan, without a known place on the Earth."""
    return crs.geodetic_crs is None


def map_crs(crs: pyproj.CRS) -> MapCrs:
    """Describe a CRS, to check whether coordinates may be in it."""
    part = _horizontal_part(crs)
    kind = LOCAL if is_local(part) else PROJECTED
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
    local = next((crs for crs in (source, target) if is_local(_horizontal_part(crs))), None)
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
    if not is_local(part):
        return None
    try:
        meant = pyproj.CRS.from_user_input(part.name)
    except ProjError:
        return None
    return meant if meant.name == part.name and not is_local(meant) else None


def reproject(
    geometries: NDArray[np.object_], source: pyproj.CRS, target: pyproj.CRS, *, may_fail: bool = False
) -> NDArray[np.object_]:
    """Transform geometries from one CRS to another, vertex by vertex.

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
    projected: NDArray[np.object_] = shapely.transform(geometries, _projection(source, target))
    if not may_fail and not np.isfinite(shapely.get_coordinates(projected)).all():
        raise _failure(source, target)
    return projected


def reproject_polygons(
    geometries: NDArray[np.object_], source: pyproj.CRS, target: pyproj.CRS
) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
    """Transform polygons to a CRS in which they are drawn, split at the antimeridian if they cross it.

    Parameters
    ----------
    geometries : object (N,)
    source, target : pyproj.CRS
        Polygons that stay in their CRS are not changed, so those of a raster beyond the antimeridian stay whole.

    Returns
    -------
    polygons : object (N,)
    is_defined : bool (N,)
        False where the transformation is not defined.

    Raises
    ------
    VectorError
        If there is no transformation.
    """
    plain = reproject(geometries, source, target, may_fail=True)
    if source != target and target.geodetic_crs is not None:
        seam, turn = _seam(target), _turn(target)
        to_lonlat = _projection(source, target.geodetic_crs)
        lonlat = shapely.transform(geometries, to_lonlat)
        for index, geometry in enumerate(geometries):
            longitudes = shapely.get_coordinates(lonlat[index])[:, 0]
            if not len(longitudes) or not np.isfinite(longitudes).all():
                continue
            if seam is not None and crosses(longitudes, seam.longitude, turn):
                forth = None if target.is_geographic else _projection(target.geodetic_crs, target)
                plain[index] = split_at_seam(geometry, to_lonlat, seam.longitude, forth, turn)
            elif seam is None and crosses(longitudes, 0.0, turn):
                plain[index] = shapely.transform(densified(geometry), _projection(source, target))
    return plain, np.array([np.isfinite(shapely.get_coordinates(item)).all() for item in plain], dtype=bool)


def prompts_to_raster(
    geometries: NDArray[np.object_], source: pyproj.CRS, target: pyproj.CRS, extent: Bounds
) -> NDArray[np.object_]:
    """Transform prompts to the CRS of a raster, on the side of the antimeridian where the raster is.

    Parameters
    ----------
    geometries : object (N,)
    source, target : pyproj.CRS
    extent : Bounds
        Extent of the raster in its CRS.

    Returns
    -------
    object (N,)
        With infinite coordinates where the transformation is not defined.

    Raises
    ------
    VectorError
        If there is no transformation.
    """
    theirs, ours = (_period(crs) for crs in (source, target))
    is_divided = shapely.get_dimensions(geometries) == 2
    if source == target:
        # Only an edge that may go around the world the other way: others keep their vertices.
        is_divided &= ours is not None and np.ptp(shapely.bounds(geometries)[:, ::2], axis=1) > ours / 2
    prepared = geometries.copy()
    prepared[is_divided] = [densified(untorn(item, theirs)) for item in geometries[is_divided]]
    moved = reproject(prepared, source, target, may_fail=True)
    if ours is None:
        return moved
    # Most prompts need no move.
    bounds = shapely.bounds(moved)
    is_here = (
        (bounds[:, 0] >= extent.min_x) & (bounds[:, 2] <= extent.max_x) & (np.ptp(bounds[:, ::2], axis=1) < ours / 2)
    )
    for index in np.flatnonzero(np.isfinite(bounds).all(axis=1) & ~is_here):
        moved[index] = placed(moved[index], ours, extent)
    return moved


def area_on(geometries: NDArray[np.object_], source: pyproj.CRS, target: pyproj.CRS, extent: Bounds) -> BaseGeometry:
    """Unite the polygons of an area of interest in the CRS of a raster, also on the other side of the antimeridian.

    Parameters
    ----------
    geometries : object (N,)
    source, target : pyproj.CRS
    extent : Bounds
        Extent of the raster in its CRS.

    Raises
    ------
    VectorError
        If there is no transformation, or it is not defined for some coordinates.
    """
    moved = reproject(geometries, source, target)
    period = _period(target)
    if period is not None and _period(source) is None:
        # Unlike one that is half as wide as the world, a polygon in metres that crosses the antimeridian is torn.
        is_torn = np.ptp(shapely.bounds(moved)[:, ::2], axis=1) > period / 2
        moved = moved.copy()
        moved[is_torn] = prompts_to_raster(geometries[is_torn], source, target, extent)
    area = shapely.union_all(shapely.make_valid(moved))
    if period is None:
        return area
    copies = [shapely.affinity.translate(area, worlds * period) for worlds in (-1, 1)]
    # Otherwise the area stays as it is, to the last vertex: its hash is kept in a store.
    here = [copy for copy in copies if copy.intersects(shapely.box(*extent))]
    return shapely.union_all([area, *here]) if here else area


def _failure(source: pyproj.CRS, target: pyproj.CRS) -> VectorError:
    return VectorError(f"Some coordinates cannot be transformed from {source.name} to {target.name}", "check the CRS")


def _projection(source: pyproj.CRS, target: pyproj.CRS) -> Project:
    try:
        transformer = pyproj.Transformer.from_crs(source, target, always_xy=True)
    except ProjError as error:
        raise _failure(source, target) from error

    def project(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(transformer.transform(xy[:, 0], xy[:, 1]))

    return project


def may_be_in(geometries: NDArray[np.object_], crs: pyproj.CRS) -> bool:
    """Tell whether any of the geometries may be in a CRS: a geographic one needs longitudes and latitudes."""
    is_empty = len(geometries) == 0
    return is_empty or not crs.is_geographic or bool(are_degrees(shapely.bounds(geometries), _turn(crs)).any())


def check_degrees(geometries: NDArray[np.object_], crs: pyproj.CRS, source: str, remedy: str = _GIVE_CRS) -> None:
    """Refuse coordinates that cannot be those of a geographic CRS.

    Parameters
    ----------
    geometries : object (N,)
    crs : pyproj.CRS
    source : str
        Name of the file, for the message.
    remedy : str
        What to do, `ASSIGN_CRS` where there is no option for it.

    Raises
    ------
    VectorError
        If none of the geometries fits the CRS.
    """
    if not may_be_in(geometries, crs):
        x, y = shapely.bounds(geometries)[0, :2]
        raise VectorError(
            f"{source} has coordinates such as ({x:.8g}, {y:.8g}), which are not longitude and latitude in {crs.name}",
            remedy,
        )


def _turn(crs: pyproj.CRS) -> float:
    """Return a full turn in the unit of a CRS's longitudes, which is 400 for grads."""
    geodetic = crs.geodetic_crs
    axes = [] if geodetic is None else geodetic.axis_info
    return round(2 * math.pi / axes[0].unit_conversion_factor, 9) if axes else DEGREES


def _seam(crs: pyproj.CRS) -> Seam | None:
    return _seam_of(crs.to_wkt())


@lru_cache(maxsize=32)
def _seam_of(wkt: str) -> Seam | None:
    crs = pyproj.CRS.from_wkt(wkt)
    turn = _turn(crs)
    if crs.is_geographic:
        return Seam(turn / 2, turn)
    if crs.geodetic_crs is None or not crs.is_projected:
        return None
    return find_seam(_projection(crs.geodetic_crs, crs), turn)


def _period(crs: pyproj.CRS) -> float | None:
    seam = _seam(crs)
    return None if seam is None else seam.period


class AreaMeter:
    """Measures areas in square metres on the ellipsoid of a CRS.

    Parameters
    ----------
    crs : pyproj.CRS
    """

    def __init__(self, crs: pyproj.CRS) -> None:
        self._geod = crs.get_geod()
        self._crs = crs
        self._turn = _turn(crs)
        geodetic = crs.geodetic_crs
        self._to_lonlat = None if geodetic is None else _projection(crs, geodetic)

    def area_m2(self, geometry: BaseGeometry) -> float:
        """Return the area of a geometry in the CRS, on the antimeridian and around a pole as well.

        In a CRS without an ellipsoid, such as a local grid, it is the planar area.

        Raises
        ------
        VectorError
            If the geometry has no place on the globe.
        """
        if geometry.is_empty:
            return 0.0
        if self._geod is None or self._to_lonlat is None:
            factor = self._crs.axis_info[0].unit_conversion_factor if self._crs.axis_info else 1.0
            return float(geometry.area) * factor * factor
        area = 0.0
        for part in polygon_parts(geometry):
            outer, *holes = map(self._ring_m2, globe_rings(part, self._to_lonlat, self._turn))
            area += outer - sum(holes)
        if not math.isfinite(area):
            raise VectorError(
                f"The area of a polygon cannot be measured in the CRS {self._crs.name}", "check the CRS of the raster"
            )
        return area

    def metres_per_unit(self, x: float, y: float) -> tuple[float, float]:
        """Return how many metres on the ground one unit of the CRS is around a place, along x and along y.

        Raises
        ------
        VectorError
            If the place is not on the globe.
        """
        if self._geod is None or self._to_lonlat is None:
            factor = self._crs.axis_info[0].unit_conversion_factor if self._crs.axis_info else 1.0
            return factor, factor
        step = 1e-4 if self._crs.is_geographic else 10.0
        corners = np.array([(x - step, y), (x + step, y), (x, y - step), (x, y + step)])
        lon, lat = self._to_lonlat(corners).T * (DEGREES / self._turn)
        along = self._geod.inv(lon[::2], lat[::2], lon[1::2], lat[1::2])[2] if np.isfinite(lon + lat).all() else (0, 0)
        if min(along) <= 0:
            raise VectorError(f"The coordinates do not fit the CRS {self._crs.name}", "check the CRS of the layer")
        return float(along[0]) / (2 * step), float(along[1]) / (2 * step)

    def _ring_m2(self, ring: NDArray[np.float64]) -> float:
        longitudes, latitudes = ring.T * (DEGREES / self._turn)
        # The sign of an area follows the direction of the ring.
        return abs(float(self._geod.polygon_area_perimeter(longitudes, latitudes)[0])) if self._geod else math.nan
