"""Prepares a polygon for a layer: the user's options, the layer's CRS and its geometry type. Writes nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Union

import shapely
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeatureRequest,
    QgsGeometry,
    QgsRectangle,
    QgsUnitTypes,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QLocale
from shapely.affinity import scale
from shapely.geometry.base import BaseGeometry

from ...core.orthogonal import square_angles
from ...core.partition import snap_to_neighbours, trim_neighbours
from ...core.topology import merge, polygon_parts
from ...errors import EditError
from ...qgis_support.crs import EllipsoidArea, from_qgs, to_qgs, transform, transform_polygon
from ...qgis_support.messages import tr

__all__ = ["AcceptOptions", "fit_to_layer", "layer_geometries"]

Outline = Union[shapely.Polygon, shapely.MultiPolygon]

_WALL_DISPLACEMENT_M = 3.0
"""Largest distance that a wall may move to get right angles."""

_DEGREE_M = 111_320.0


@dataclass(frozen=True)
class AcceptOptions:
    """What is done to a polygon before it is written to a layer.

    Attributes
    ----------
    min_area_m2 : float
        Smaller parts are dropped; a polygon without any larger part is refused. Measured on the ellipsoid.
    fill_holes_m2 : float
        Smaller holes are filled. Measured on the ellipsoid.
    right_angles : bool
        Whether an outline that is nearly rectangular gets right angles.
    trim_overlaps : bool
        Whether to cut off what other polygons of the layer cover.
    snap_tolerance : float
        Borders closer than this to other polygons of the layer are moved onto them, in units of the layer; 0 for none.
    open_form : bool
        Whether to open the attribute form.
    provenance_table : bool
        Whether to keep provenance in a table of the GeoPackage if the layer has no fields for it.
    """

    min_area_m2: float = 0.0
    fill_holes_m2: float = 0.0
    right_angles: bool = False
    trim_overlaps: bool = False
    snap_tolerance: float = 0.0
    open_form: bool = False
    provenance_table: bool = False


def fit_to_layer(
    layer: QgsVectorLayer,
    polygon: BaseGeometry,
    crs: QgsCoordinateReferenceSystem,
    options: AcceptOptions,
    skip: int | None = None,
) -> Outline:
    """Apply the options to a polygon and transform it to the layer's CRS.

    Parameters
    ----------
    layer : QgsVectorLayer
    polygon : Polygon or MultiPolygon
        In ``crs``. It is repaired if it is not valid.
    crs : QgsCoordinateReferenceSystem
        CRS of the raster.
    options : AcceptOptions
    skip : int, optional
        Id of the feature that the polygon replaces; it is not one of its neighbours.

    Returns
    -------
    Polygon or MultiPolygon
        Valid and not empty, in the layer's CRS.

    Raises
    ------
    EditError
        If nothing is left of the polygon, or it cannot be transformed.
    """
    if not crs.isValid():
        raise EditError(tr("The raster has no CRS"), tr("set it in the properties of its layer"))
    outline = _valid(polygon)
    if outline.is_empty:
        raise EditError(tr("There is no polygon to add"), tr("click an object first"))
    if options.right_angles:
        outline = _square(outline, crs)
    if crs != layer.crs():
        outline = _valid(transform_polygon(outline, transform(crs, layer.crs())))
    meter = EllipsoidArea(layer.crs())
    if options.fill_holes_m2 > 0:
        outline = _fill_holes(outline, options.fill_holes_m2, meter)
    # Before trimming: a polygon that is too small is reported as such, not as covered by others.
    outline = _large_parts(outline, options.min_area_m2, meter)
    if options.trim_overlaps or options.snap_tolerance > 0:
        fitted = _fit_to_neighbours(layer, outline, options, skip)
        outline = _large_parts(fitted, options.min_area_m2, meter)
    return outline


def _square(outline: Outline, crs: QgsCoordinateReferenceSystem) -> Outline:
    """Square the corners on a plane where angles are true, whatever the CRS."""
    if not crs.isGeographic():
        metres = QgsUnitTypes.fromUnitToUnitFactor(crs.mapUnits(), QgsUnitTypes.DistanceMeters)
        return square_angles(outline, _WALL_DISPLACEMENT_M / metres)
    middle = outline.envelope.centroid
    north = _DEGREE_M
    east = north * max(math.cos(math.radians(middle.y)), 1e-6)
    squared = square_angles(scale(outline, east, north, origin=middle), _WALL_DISPLACEMENT_M)
    return scale(squared, 1 / east, 1 / north, origin=middle)


def _fit_to_neighbours(layer: QgsVectorLayer, outline: Outline, options: AcceptOptions, skip: int | None) -> Outline:
    neighbours = list(_neighbours(layer, outline, options.snap_tolerance, skip))
    if options.trim_overlaps:
        outline = trim_neighbours(outline, neighbours)
        if outline.is_empty:
            problem = tr("Other polygons of {name} cover the whole polygon").format(name=layer.name())
            raise EditError(problem, tr("turn off No overlaps, or change the other polygons"))
    return snap_to_neighbours(outline, neighbours, options.snap_tolerance) if options.snap_tolerance > 0 else outline


def _neighbours(layer: QgsVectorLayer, outline: Outline, reach: float, skip: int | None) -> Iterator[BaseGeometry]:
    """Yield the polygons around an outline, including those that are not saved yet."""
    rectangle = QgsRectangle(*outline.bounds).buffered(reach)
    request = QgsFeatureRequest().setFilterRect(rectangle).setSubsetOfAttributes([])
    for feature in layer.getFeatures(request):
        if feature.id() != skip and feature.hasGeometry():
            yield from_qgs(feature.geometry())


def _valid(geometry: BaseGeometry) -> Outline:
    return merge(polygon_parts(shapely.make_valid(geometry)))


def _fill_holes(outline: Outline, limit: float, meter: EllipsoidArea) -> Outline:
    filled = []
    for part in polygon_parts(outline):
        kept = [ring for ring in part.interiors if meter.area_m2(shapely.Polygon(ring)) >= limit]
        filled.append(shapely.Polygon(part.exterior, kept))
    return merge(filled)


def _large_parts(outline: Outline, min_area_m2: float, meter: EllipsoidArea) -> Outline:
    if min_area_m2 <= 0 and not outline.is_empty:
        return outline
    areas = [(meter.area_m2(part), part) for part in polygon_parts(outline)]
    kept = merge(part for area, part in areas if area >= min_area_m2)
    if kept.is_empty:
        largest = max((area for area, _ in areas), default=0.0)
        problem = tr("The polygon covers {area} m², less than the minimum of {limit} m²")
        raise EditError(problem.format(area=_number(largest), limit=_number(min_area_m2)), tr("lower the minimum area"))
    return kept


def _number(value: float) -> str:
    kind, digits = ("f", 0) if value >= 10 else ("g", 2)
    return str(QLocale().toString(float(value), kind, digits))


def layer_geometries(layer: QgsVectorLayer, outline: Outline) -> list[QgsGeometry]:
    """Convert a polygon to geometries of the layer's type, with Z and M if the type has them.

    A multipolygon becomes one geometry, or in a layer of single polygons one for each part, the largest first.
    """
    parts = sorted(to_qgs(outline).coerceToType(layer.wkbType()), key=lambda geometry: geometry.area(), reverse=True)
    return [QgsGeometry(part) for part in parts]
