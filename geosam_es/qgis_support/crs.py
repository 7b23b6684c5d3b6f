"""Geometries between shapely and QGIS and between CRSs, and areas and lengths on the ellipsoid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray
from qgis.core import (  # type: ignore[attr-defined]
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCoordinateTransformContext,
    QgsCsException,
    QgsDistanceArea,
    QgsEllipsoidUtils,
    QgsGeometry,
    QgsPointXY,
    QgsProject,
    QgsUnitTypes,
)
from shapely.geometry.base import BaseGeometry

from ..core.globe import DEGREES, Project, Seam, crosses, densified, find_seam, placed, split_at_seam, untorn
from ..core.prompts import Bounds
from ..encoding.placement import NO_MAP
from ..errors import EditError
from ..store.metadata import StoreMetadata
from .gdal_raster import describe_crs
from .messages import tr

__all__ = [
    "EllipsoidArea",
    "check_map_crs",
    "crs_from_wkt",
    "from_qgs",
    "made_anew",
    "points_in_world",
    "prompt_to_raster",
    "raster_crs",
    "to_qgs",
    "transform",
    "transform_geometry",
    "transform_points",
    "transform_polygon",
    "unit_m",
]


def raster_crs(metadata: StoreMetadata) -> QgsCoordinateReferenceSystem:
    """Return the CRS of the raster of a store; invalid if the raster has none."""
    return crs_from_wkt(metadata.raster.crs_wkt)


def crs_from_wkt(wkt: str) -> QgsCoordinateReferenceSystem:
    """Return a CRS made in this thread. QGIS can no longer use a CRS after the thread that made it has ended."""
    # QGIS keeps each CRS by its code and by its text, whatever thread made it.
    QgsCoordinateReferenceSystem.invalidateCache()
    return QgsCoordinateReferenceSystem.fromWkt(wkt)


def made_anew(crs: QgsCoordinateReferenceSystem) -> QgsCoordinateReferenceSystem:
    """Return a CRS of another thread made in this one; one without a code needs that the other thread still runs."""
    if not crs.authid():
        definition = str(crs.toWkt(QgsCoordinateReferenceSystem.WKT2_2018))
        return crs_from_wkt(definition) if definition else crs
    QgsCoordinateReferenceSystem.invalidateCache()
    return QgsCoordinateReferenceSystem(crs.authid())


def unit_m(crs: QgsCoordinateReferenceSystem) -> float:
    """Return the length of the unit of a CRS in metres; at the equator for degrees."""
    metres = QgsUnitTypes.DistanceUnit.DistanceMeters  # type: ignore[attr-defined]
    return float(QgsUnitTypes.fromUnitToUnitFactor(crs.mapUnits(), metres))


def to_qgs(geometry: BaseGeometry) -> QgsGeometry:
    """Convert a shapely geometry to QGIS's type."""
    result = QgsGeometry()
    # In QGIS's process shapely may run on an older GEOS, which rejects shapely's default of four dimensions.
    result.fromWkb(shapely.to_wkb(geometry, output_dimension=2))
    return result


def from_qgs(geometry: QgsGeometry) -> BaseGeometry:
    """Convert a QGIS geometry to shapely's type, in two dimensions: Z and M are dropped, curves become segments."""
    if geometry.isNull():
        return shapely.Polygon()
    flat = geometry.constGet().segmentize()
    flat.dropZValue()
    flat.dropMValue()
    return shapely.from_wkb(bytes(flat.asWkb()))


def transform(
    source: QgsCoordinateReferenceSystem, target: QgsCoordinateReferenceSystem, project: QgsProject | None = None
) -> QgsCoordinateTransform:
    """Return the transform between two CRSs with the settings of a project; every transform is made here.

    QGIS gives coordinates back unchanged if a transform is invalid. If that of the project is, the default one is
    made anew.

    Parameters
    ----------
    source, target : QgsCoordinateReferenceSystem
    project : QgsProject, optional
        By default the current one.

    Raises
    ------
    EditError
        If there is no transform, as from a local CRS or from none.
    """
    return _made(source, target, (project or QgsProject.instance()).transformContext())


def _made(
    source: QgsCoordinateReferenceSystem, target: QgsCoordinateReferenceSystem, context: QgsCoordinateTransformContext
) -> QgsCoordinateTransform:
    wanted = QgsCoordinateTransform(source, target, context)
    if not wanted.isValid():
        # QGIS keeps transforms, failed ones too, and cannot use a CRS made in a thread that has ended.
        QgsCoordinateTransform.invalidateCache()
        wanted = QgsCoordinateTransform(made_anew(source), made_anew(target), QgsCoordinateTransformContext())
    if not wanted.isValid():
        problem = tr("Coordinates cannot be transformed from the CRS {source} to {target}").format(
            source=source.userFriendlyIdentifier(), target=target.userFriendlyIdentifier()
        )
        raise EditError(problem, tr("check the CRS of the raster and of the layer"))
    return wanted


def _mended(transformation: QgsCoordinateTransform) -> QgsCoordinateTransform:
    """Return a transform made anew if it is invalid."""
    if transformation.isValid():
        return transformation
    return _made(transformation.sourceCrs(), transformation.destinationCrs(), transformation.context())


def transform_points(
    points: Sequence[QgsPointXY],
    source: QgsCoordinateReferenceSystem,
    target: QgsCoordinateReferenceSystem,
) -> list[QgsPointXY]:
    """Return points in another CRS; unchanged if one of the two is not set, as QGIS draws layers without CRS.

    Raises
    ------
    EditError
        If there is no transform, or a point lies outside the area where it is defined.
    """
    if not source.isValid() or not target.isValid():
        return list(points)
    transformation = transform(source, target)
    try:
        moved = [transformation.transform(point) for point in points]
    except QgsCsException:
        moved = []
    if len(moved) < len(points) or not all(math.isfinite(point.x()) and math.isfinite(point.y()) for point in moved):
        raise EditError(tr("This place cannot be transformed to the CRS of the raster"), tr("click on the raster"))
    return moved


def transform_geometry(geometry: QgsGeometry, transformation: QgsCoordinateTransform) -> QgsGeometry:
    """Return a geometry in another CRS; an invalid transform is made anew.

    Raises
    ------
    EditError
        If there is no transform, or the geometry lies outside the area where the target CRS is defined.
    """
    result = QgsGeometry(geometry)
    transformation = _mended(transformation)
    success = QgsGeometry.OperationResult.Success
    try:
        is_transformed = result.transform(transformation) == success
    except QgsCsException:
        is_transformed = False
    if not is_transformed or not result.boundingBox().isFinite():
        raise _outside(transformation.destinationCrs())
    return result


def transform_polygon(geometry: BaseGeometry, transformation: QgsCoordinateTransform) -> BaseGeometry:
    """Return a polygon in another CRS, split where it crosses the antimeridian.

    Parameters
    ----------
    geometry : Polygon or MultiPolygon
    transformation : QgsCoordinateTransform

    Returns
    -------
    Polygon or MultiPolygon
        Not changed if the two CRSs are the same.

    Raises
    ------
    EditError
        As `transform_geometry`.
    """
    source, target = transformation.sourceCrs(), transformation.destinationCrs()
    if source == target:
        return geometry
    transformation = _mended(transformation)
    plain = from_qgs(transform_geometry(to_qgs(geometry), transformation))
    context = transformation.context()
    seam = _seam(target, context)
    globe = _globe(target)
    to_lonlat = _projection(source, globe, context)
    longitudes = to_lonlat(shapely.get_coordinates(geometry))[:, 0]
    meridian = seam.longitude if seam is not None else 0.0
    if not longitudes.size or not np.isfinite(longitudes).all() or not crosses(longitudes, meridian):
        return plain
    if seam is None:
        return from_qgs(transform_geometry(to_qgs(densified(geometry)), transformation))
    forth = None if target.isGeographic() else _projection(globe, target, context)
    split = split_at_seam(geometry, to_lonlat, meridian, forth)
    if not np.isfinite(shapely.get_coordinates(split)).all():
        raise _outside(target)
    return split


def prompt_to_raster(geometry: BaseGeometry, transformation: QgsCoordinateTransform, extent: Bounds) -> BaseGeometry:
    """Return a prompt in the CRS of a raster, on the side of the antimeridian where the raster is.

    Parameters
    ----------
    geometry : MultiPoint, Polygon or MultiPolygon
    transformation : QgsCoordinateTransform
        To the CRS of the raster.
    extent : Bounds
        Extent of the raster.

    Raises
    ------
    EditError
        As `transform_geometry`.
    """
    source, target = transformation.sourceCrs(), transformation.destinationCrs()
    theirs, ours = (_seam(crs, transformation.context()) for crs in (source, target))
    period = ours.period if ours is not None else None
    if geometry.geom_type in ("Polygon", "MultiPolygon") and (source != target or _is_wide(geometry, period)):
        geometry = densified(untorn(geometry, theirs.period if theirs is not None else None))
    moved = from_qgs(transform_geometry(to_qgs(geometry), transformation))
    is_here = extent.min_x <= moved.bounds[0] and moved.bounds[2] <= extent.max_x and not _is_wide(moved, period)
    return moved if period is None or is_here else placed(moved, period, extent)


def _is_wide(geometry: BaseGeometry, period: float | None) -> bool:
    """Tell whether an edge of a geometry may go around the world the other way."""
    return period is not None and bool(geometry.bounds[2] - geometry.bounds[0] > period / 2)


def points_in_world(
    points: list[tuple[float, float]], crs: QgsCoordinateReferenceSystem, extent: Bounds
) -> list[tuple[float, float]]:
    """Move points in the CRS of a raster by whole worlds to where the raster is; others stay where they are."""
    seam = _seam(crs, QgsProject.instance().transformContext())
    if seam is None or seam.period is None:
        return points
    moved = shapely.get_coordinates(placed(shapely.MultiPoint(points), seam.period, extent))
    return [(float(x), float(y)) for x, y in moved]


_seams: dict[str, Seam | None] = {}
"""By the WKT of a CRS."""


def _seam(crs: QgsCoordinateReferenceSystem, context: QgsCoordinateTransformContext) -> Seam | None:
    if crs.isGeographic():
        return Seam(DEGREES / 2, DEGREES)
    wkt = crs.toWkt()
    if wkt not in _seams:
        _seams[wkt] = find_seam(_projection(_globe(crs), crs, context))
    return _seams[wkt]


def _globe(crs: QgsCoordinateReferenceSystem) -> QgsCoordinateReferenceSystem:
    """Return the geographic CRS of a CRS."""
    if crs.isGeographic():
        return crs
    globe = QgsCoordinateReferenceSystem(crs.geographicCrsAuthId())
    return globe if globe.isValid() else QgsCoordinateReferenceSystem("EPSG:4326")


def _projection(
    source: QgsCoordinateReferenceSystem, target: QgsCoordinateReferenceSystem, context: QgsCoordinateTransformContext
) -> Project:
    """Return a transform as a function of positions (N, 2), NaN where it is not defined.

    Raises
    ------
    EditError
        If there is no transform.
    """
    transformation = _made(source, target, context)

    def project(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        line = to_qgs(shapely.LineString(np.vstack((xy, xy[-1:]))))
        try:
            is_done = line.transform(transformation) == QgsGeometry.OperationResult.Success
        except QgsCsException:
            is_done = False
        if is_done:
            return shapely.get_coordinates(from_qgs(line))[:-1]
        # One by one, because QGIS fails for all of them together.
        return np.full_like(xy, np.nan) if len(xy) == 1 else np.vstack([project(one[np.newaxis]) for one in xy])

    return project


def check_map_crs(crs: QgsCoordinateReferenceSystem) -> None:
    """Check that coordinates in a CRS give a place on a map, which heights, times and geocentric ones do not.

    Raises
    ------
    EditError
        If they do not, or QGIS cannot use the CRS.
    """
    wkt = crs.toWkt(QgsCoordinateReferenceSystem.WKT2_2018)
    if not crs.isValid() or describe_crs(wkt).kind == NO_MAP:
        problem = tr("The CRS {name} is not a CRS for maps").format(name=crs.userFriendlyIdentifier())
        raise EditError(problem, tr("choose another CRS"))


def _outside(target: QgsCoordinateReferenceSystem) -> EditError:
    problem = tr("The polygon cannot be transformed to the CRS {name}")
    remedy = tr("check the CRS of the raster and of the layer")
    return EditError(problem.format(name=target.userFriendlyIdentifier()), remedy)


class EllipsoidArea:
    """Measures areas and lengths on the ellipsoid of a CRS.

    Parameters
    ----------
    crs : QgsCoordinateReferenceSystem
        CRS of the geometries. If it has no ellipsoid, areas are planar.
    project : QgsProject, optional
        By default the current one.
    """

    def __init__(self, crs: QgsCoordinateReferenceSystem, project: QgsProject | None = None) -> None:
        self._crs = crs
        self._context = (project or QgsProject.instance()).transformContext()
        # In this thread, because CRSs are of no use after their thread has ended.
        try:
            self._tools: tuple[QgsDistanceArea, QgsCoordinateTransform | None] | None = self._made_tools()
        except EditError:
            self._tools = None

    def area_m2(self, geometry: BaseGeometry) -> float:
        """Return the area of a polygon in square metres, without its holes.

        Raises
        ------
        EditError
            If the area is not a finite number: the CRS does not fit the coordinates.
        """
        if geometry.is_empty:
            return 0.0
        area = self._measured(geometry, "measureArea")
        if not math.isfinite(area):
            problem = tr("The area of the polygon cannot be measured in the CRS {name}")
            raise EditError(
                problem.format(name=self._crs.userFriendlyIdentifier()),
                tr("check the CRS of the raster and of the layer"),
            )
        return area

    def metres_per_unit(self, x: float, y: float) -> tuple[float, float]:
        """Return how many metres on the ground one unit of the CRS is around a place, along x and along y.

        Raises
        ------
        EditError
            If they are not finite numbers: the CRS does not fit the coordinates.
        """
        # About ten metres; shorter lines suffer from rounding.
        step = 1e-4 if self._crs.isGeographic() else 10.0
        lines = [shapely.LineString([(x - dx, y - dy), (x + dx, y + dy)]) for dx, dy in ((step, 0.0), (0.0, step))]
        along_x, along_y = (self._measured(line, "measureLength") / (2 * step) for line in lines)
        if not (math.isfinite(along_x) and math.isfinite(along_y) and along_x > 0 and along_y > 0):
            raise _outside(self._crs)
        return along_x, along_y

    def _measured(self, geometry: BaseGeometry, method: str) -> float:
        """Return an area or a length; NaN if it cannot be measured, with the settings of the project or without."""
        converted = to_qgs(geometry)
        for _ in range(2):
            try:
                self._tools = self._tools or self._made_tools()
                meter, to_globe = self._tools
                on_globe = converted if to_globe is None else transform_geometry(converted, to_globe)
                measure = abs(float(getattr(meter, method)(on_globe)))
            except (QgsCsException, EditError):
                measure = math.nan
            if math.isfinite(measure):
                return measure
            self._tools, self._context = None, QgsCoordinateTransformContext()
        return math.nan

    def _made_tools(self) -> tuple[QgsDistanceArea, QgsCoordinateTransform | None]:
        meter = QgsDistanceArea()
        acronym = self._crs.ellipsoidAcronym()
        ellipsoid = QgsEllipsoidUtils.ellipsoidParameters(acronym)
        if not acronym or not ellipsoid.valid:
            return meter, None
        # Only the axes: the CRS that QGIS keeps with an ellipsoid is of no use after the thread that first asked for
        # it has ended, and every area is NaN from then on.
        meter.setEllipsoid(ellipsoid.semiMajor, ellipsoid.semiMinor)
        return meter, None if self._crs.isGeographic() else _made(self._crs, _globe(self._crs), self._context)
