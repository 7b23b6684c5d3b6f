"""Between shapely and QGIS, between CRSs, and from degrees to square metres."""

from __future__ import annotations

import math
from collections.abc import Callable

import shapely
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsCsException,
    QgsDistanceArea,
    QgsGeometry,
    QgsPointXY,
    QgsProject,
)

from ..errors import EditError
from .messages import tr

__all__ = ["EllipsoidArea", "from_qgs", "point_function", "to_qgs", "transform", "transform_geometry"]


def to_qgs(geometry: shapely.Geometry) -> QgsGeometry:
    """Return a shapely geometry as QGIS's."""
    result = QgsGeometry()
    # In QGIS's process shapely may meet an older GEOS than its own, which does not know its default of four dimensions.
    result.fromWkb(shapely.to_wkb(geometry, output_dimension=2))
    return result


def from_qgs(geometry: QgsGeometry) -> shapely.Geometry:
    """Return a geometry of QGIS as shapely's, in the plane: Z and M are left out, curves become chords."""
    if geometry.isNull():
        return shapely.Polygon()
    flat = geometry.constGet().segmentize()
    flat.dropZValue()
    flat.dropMValue()
    return shapely.from_wkb(bytes(flat.asWkb()))


def transform(
    source: QgsCoordinateReferenceSystem, target: QgsCoordinateReferenceSystem, project: QgsProject | None = None
) -> QgsCoordinateTransform:
    """Return the transform that the project's settings ask for (without a project, that of the current one)."""
    return QgsCoordinateTransform(source, target, (project or QgsProject.instance()).transformContext())


def transform_geometry(geometry: QgsGeometry, transformation: QgsCoordinateTransform) -> QgsGeometry:
    """Return a geometry in another CRS.

    Raises
    ------
    EditError
        If it has no place there.
    """
    result = QgsGeometry(geometry)
    try:
        result.transform(transformation)
    except QgsCsException:
        failed = True
    else:
        failed = not all(math.isfinite(value) for value in _corners(result))
    if failed:
        problem = tr("The polygon has no place in the CRS {name}")
        remedy = tr("check the CRS of the raster and of the layer")
        raise EditError(problem.format(name=transformation.destinationCrs().userFriendlyIdentifier()), remedy)
    return result


def _corners(geometry: QgsGeometry) -> tuple[float, ...]:
    box = geometry.boundingBox()
    return box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum()


def point_function(transformation: QgsCoordinateTransform) -> Callable[[float, float], tuple[float, float]]:
    """Return a transform as a function of x and y, as `Prompts.transformed` takes it; it may raise QgsCsException."""

    def apply(x: float, y: float) -> tuple[float, float]:
        point = transformation.transform(QgsPointXY(x, y))
        return point.x(), point.y()

    return apply


class EllipsoidArea:
    """Areas on the ellipsoid of a CRS.

    Parameters
    ----------
    crs : QgsCoordinateReferenceSystem
        Of the geometries to be measured. Without an ellipsoid areas are those of the plane.
    project : QgsProject, optional
    """

    def __init__(self, crs: QgsCoordinateReferenceSystem, project: QgsProject | None = None) -> None:
        self._meter = QgsDistanceArea()
        self._meter.setSourceCrs(crs, (project or QgsProject.instance()).transformContext())
        self._meter.setEllipsoid(crs.ellipsoidAcronym())

    def area_m2(self, geometry: QgsGeometry) -> float:
        """Return the area of a polygon in square metres, holes left out."""
        return 0.0 if geometry.isEmpty() else abs(self._meter.measureArea(geometry))
