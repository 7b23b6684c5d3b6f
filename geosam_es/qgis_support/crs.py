"""Geometries between shapely and QGIS and between CRSs, and areas on the ellipsoid."""

from __future__ import annotations

import math

import numpy as np
import shapely
from numpy.typing import NDArray
from qgis.core import (  # type: ignore[attr-defined]
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCoordinateTransformContext,
    QgsCsException,
    QgsDistanceArea,
    QgsGeometry,
    QgsProject,
)
from shapely.geometry.base import BaseGeometry

from ..core.globe import DEGREES, Project, Seam, crosses, densified, find_seam, placed, split_at_seam, untorn
from ..core.prompts import Bounds
from ..errors import EditError
from ..store.layout import StoreMetadata
from .messages import tr

__all__ = [
    "EllipsoidArea",
    "from_qgs",
    "points_in_world",
    "prompt_to_raster",
    "raster_crs",
    "to_qgs",
    "transform",
    "transform_geometry",
    "transform_polygon",
]


def raster_crs(metadata: StoreMetadata) -> QgsCoordinateReferenceSystem:
    """Return the CRS of the raster of a store; invalid if the raster has none."""
    return QgsCoordinateReferenceSystem.fromWkt(metadata.raster.crs_wkt)


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
    """Return the transform between two CRSs with the settings of a project.

    If that transform is invalid, the default one is returned instead.

    Parameters
    ----------
    source, target : QgsCoordinateReferenceSystem
    project : QgsProject, optional
        By default the current one.
    """
    wanted = QgsCoordinateTransform(source, target, (project or QgsProject.instance()).transformContext())
    return wanted if wanted.isValid() else QgsCoordinateTransform(source, target, QgsCoordinateTransformContext())


def transform_geometry(geometry: QgsGeometry, transformation: QgsCoordinateTransform) -> QgsGeometry:
    """Return a geometry in another CRS.

    Raises
    ------
    EditError
        If the transform is invalid, or the geometry lies outside the area where the target CRS is defined.
    """
    if transformation.sourceCrs() == transformation.destinationCrs():
        return geometry
    result = QgsGeometry(geometry)
    success = QgsGeometry.OperationResult.Success
    try:
        is_transformed = transformation.isValid() and result.transform(transformation) == success
    except QgsCsException:
        is_transformed = False
    if not is_transformed or not all(math.isfinite(value) for value in _corners(result)):
        raise _failure(transformation.destinationCrs())
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
    plain = from_qgs(transform_geometry(to_qgs(geometry), transformation))
    context = transformation.context()
    seam = _seam(target, context)
    globe = _globe(target)
    to_lonlat = _projection(QgsCoordinateTransform(source, globe, context))
    longitudes = to_lonlat(shapely.get_coordinates(geometry))[:, 0]
    meridian = seam.longitude if seam is not None else 0.0
    if not longitudes.size or not np.isfinite(longitudes).all() or not crosses(longitudes, meridian):
        return plain
    if seam is None:
        return from_qgs(transform_geometry(to_qgs(densified(geometry)), transformation))
    forth = None if target.isGeographic() else _projection(QgsCoordinateTransform(globe, target, context))
    split = split_at_seam(geometry, to_lonlat, meridian, forth)
    if not np.isfinite(shapely.get_coordinates(split)).all():
        raise _failure(target)
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
    if geometry.geom_type in ("Polygon", "MultiPolygon"):
        geometry = densified(untorn(geometry, theirs.period if theirs is not None else None))
    moved = from_qgs(transform_geometry(to_qgs(geometry), transformation))
    return moved if ours is None or ours.period is None else placed(moved, ours.period, extent)


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
        _seams[wkt] = find_seam(_projection(QgsCoordinateTransform(_globe(crs), crs, context)))
    return _seams[wkt]


def _globe(crs: QgsCoordinateReferenceSystem) -> QgsCoordinateReferenceSystem:
    """Return the geographic CRS of a CRS."""
    if crs.isGeographic():
        return crs
    globe = QgsCoordinateReferenceSystem(crs.geographicCrsAuthId())
    return globe if globe.isValid() else QgsCoordinateReferenceSystem("EPSG:4326")


def _projection(transformation: QgsCoordinateTransform) -> Project:
    """Return a transform as a function of positions (N, 2), NaN where it is not defined."""

    def project(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        if not transformation.isValid():
            return np.full_like(xy, np.nan)
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


def _failure(target: QgsCoordinateReferenceSystem) -> EditError:
    problem = tr("The polygon cannot be transformed to the CRS {name}")
    remedy = tr("check the CRS of the raster and of the layer")
    return EditError(problem.format(name=target.userFriendlyIdentifier()), remedy)


def _corners(geometry: QgsGeometry) -> tuple[float, ...]:
    box = geometry.boundingBox()
    return box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum()


class EllipsoidArea:
    """Measures areas on the ellipsoid of a CRS.

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
        self._meter = self._new_meter()

    def area_m2(self, geometry: BaseGeometry) -> float:
        """Return the area of a polygon in square metres, without its holes.

        Raises
        ------
        EditError
            If the area is not a finite number: the CRS does not fit the coordinates.
        """
        if geometry.is_empty:
            return 0.0
        converted = to_qgs(geometry)
        area = _measure(self._meter, converted)
        if not math.isfinite(area):
            # Try again without the settings of the project.
            self._context = QgsCoordinateTransformContext()
            self._meter = self._new_meter()
            area = _measure(self._meter, converted)
        if not math.isfinite(area):
            problem = tr("The area of the polygon cannot be measured in the CRS {name}")
            raise EditError(
                problem.format(name=self._crs.userFriendlyIdentifier()),
                tr("check the CRS of the raster and of the layer"),
            )
        return area

    def _new_meter(self) -> QgsDistanceArea:
        meter = QgsDistanceArea()
        meter.setSourceCrs(self._crs, self._context)
        meter.setEllipsoid(self._crs.ellipsoidAcronym())
        return meter


def _measure(meter: QgsDistanceArea, geometry: QgsGeometry) -> float:
    try:
        area = abs(meter.measureArea(geometry))
    except QgsCsException:
        return math.nan
    # Before it raised exceptions, QGIS returned 0 if it could not transform the coordinates.
    return math.nan if area == 0.0 and geometry.area() != 0.0 else area
