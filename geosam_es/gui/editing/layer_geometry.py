"""Prepares a polygon for a layer: the user's options, the layer's CRS and its geometry type. Writes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsFeatureRequest,
    QgsGeometry,
    QgsGeometryUtils,
    QgsPoint,
    QgsPointXY,
    QgsProject,
    QgsRectangle,
    QgsVectorLayer,
    QgsVectorLayerFeatureSource,
    QgsWkbTypes,
)
from qgis.PyQt.QtCore import QLocale
from shapely.affinity import scale
from shapely.geometry.base import BaseGeometry

from ...core.orthogonal import square_angles
from ...core.partition import fit_to_neighbours, polygonal, valid
from ...core.topology import Outline, fewest_vertices, fill_holes, merge, polygon_parts, valid_polygon
from ...errors import EditError, GeoSamError
from ...qgis_support.crs import EllipsoidArea, from_qgs, to_qgs, transform, transform_polygon, unit_m
from ...qgis_support.messages import tr
from ...qgis_support.settings import Settings
from ..canvas.drawing import Fitted
from .coverage import LayerCoverage

__all__ = [
    "AcceptOptions",
    "LayerFitting",
    "avoids_overlaps",
    "geos_errors",
    "layer_geometries",
    "overlap_rules",
    "vertex_on",
    "vertices_with_heights",
    "with_heights",
]

_WALL_DISPLACEMENT_M = 3.0
"""Largest distance that a wall may move to get right angles."""

_SAME_PLACE = 1e-8
"""Largest distance from an outline of a vertex on it, as a part of the coordinates."""

_LEAST_AGREEMENT = 0.7
"""Lowest IoU of a fitted polygon with the one that was proposed."""

_SAME, _SAME_DEGREES = 1e-6, 1e-11
"""In the units of the layer. A transformation to another CRS and back moves vertices by less."""


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
    outline : str
        ``few`` for as few vertices as keep an outline within a pixel, ``smooth`` for curves; empty for as traced. It
        does not change an outline that gets right angles.
    trim_overlaps : bool
        Whether to cut off what other polygons of the layer cover.
    snap_m : float
        Borders closer than this to other polygons of the layer are moved onto them, in metres on the ground; 0 for
        none.
    open_form : bool
        Whether to open the attribute form.
    provenance_table : bool
        Whether to keep provenance in a table of the GeoPackage if the layer has no fields for it.
    """

    min_area_m2: float = 0.0
    fill_holes_m2: float = 0.0
    right_angles: bool = False
    outline: str = ""
    trim_overlaps: bool = False
    snap_m: float = 0.0
    open_form: bool = False
    provenance_table: bool = False

    @classmethod
    def of(cls, settings: Settings) -> AcceptOptions:
        """Return what the user has set in the panel; the settings have the names of the options."""
        return cls(**{option.name: getattr(settings, option.name) for option in fields(cls)})

    @property
    def change_polygons(self) -> bool:
        """Whether a polygon may be changed or refused."""
        return self != self.without_changes

    @property
    def without_changes(self) -> AcceptOptions:
        """The options for a polygon that is written as it is."""
        return AcceptOptions(open_form=self.open_form, provenance_table=self.provenance_table)


class LayerFitting:
    """Fits polygons to a layer as it is now, its unsaved edits included. Made in the GUI thread, used in any.

    Parameters
    ----------
    layer : QgsVectorLayer or None
        None if there is none yet: polygons stay in the CRS of the raster, and have no neighbours.
    crs : QgsCoordinateReferenceSystem
        CRS of the raster.
    options : AcceptOptions
    skip : int, optional
        Id of the feature that the polygon replaces; it is not one of its neighbours.
    pixel_m : float
        Side of a pixel in metres. Fitting leaves no part that is narrower on average.
    avoids : bool
        Whether to cut off what polygons of other layers, or of this one, cover, if the project says so.
    coverage : LayerCoverage, optional
        Keeps the polygons of the layer a coverage, in place of the minimum area, trimming and snapping.
    class_name : str, optional
        Class of the polygon in the coverage.

    Raises
    ------
    EditError
        If the raster has no CRS, or there is no transform to that of the layer.
    """

    def __init__(
        self,
        layer: QgsVectorLayer | None,
        crs: QgsCoordinateReferenceSystem,
        options: AcceptOptions,
        skip: int | None = None,
        pixel_m: float = 0.0,
        *,
        avoids: bool = False,
        coverage: LayerCoverage | None = None,
        class_name: str | None = None,
    ) -> None:
        if not crs.isValid():
            raise EditError(tr("The raster has no CRS"), tr("set it in the properties of its layer"))
        avoided = _avoided_layers(layer) if avoids else []
        if coverage is not None:
            options = replace(options, min_area_m2=0.0, trim_overlaps=False, snap_m=0.0)
        elif layer in avoided:
            options = replace(options, trim_overlaps=True)
        self._raster_crs = crs
        self._options = options
        self._coverage = coverage
        self._class_name = class_name
        self._skip = skip
        replaced = [from_qgs(layer.getFeature(skip).geometry())] if layer is not None and skip is not None else []
        self._vertices = np.unique(shapely.get_coordinates(replaced), axis=0)
        self._pixel_m = pixel_m
        self.crs = layer.crs() if layer is not None else crs
        self._to_layer = transform(crs, self.crs) if crs != self.crs else None
        self._meter = EllipsoidArea(self.crs)
        self._name = layer.name() if layer is not None else ""
        wanted = layer is not None and (options.trim_overlaps or options.snap_m > 0)
        self._features = QgsVectorLayerFeatureSource(layer) if wanted else None
        # Of other layers, with the way to their CRS and back.
        self._avoided = [
            (QgsVectorLayerFeatureSource(other), transform(self.crs, other.crs()), transform(other.crs(), self.crs))
            for other in avoided
            if other is not layer
        ]

    def __call__(self, polygon: BaseGeometry, keeps_outline: bool = False) -> Fitted:
        """Return the polygon as it will be written, or why it will not be."""
        try:
            outline = self.fit(polygon, keeps_outline)
            if self._coverage is None:
                return Fitted(outline, self.crs, self)
            return self._covered(self._coverage, outline)
        except GeoSamError as error:
            return Fitted(None, self.crs, self, error)

    def fit(self, polygon: BaseGeometry, keeps_outline: bool = False) -> Outline:
        """Apply the options to a polygon of the raster, repaired if need be, and transform it to the layer's CRS.

        Parameters
        ----------
        polygon : Polygon or MultiPolygon
        keeps_outline : bool
            Whether it gets no right angles, no curves and not fewer vertices.

        Returns
        -------
        Polygon or MultiPolygon
            Valid and not empty, in the layer's CRS.

        Raises
        ------
        EditError
            If nothing is left of the polygon, or it cannot be transformed.
        """
        with geos_errors():
            return self._fit(polygon, keeps_outline)

    def _covered(self, coverage: LayerCoverage, outline: Outline) -> Fitted:
        """Return a polygon as it becomes part of the coverage, and what changes around it."""
        key = self._skip
        with geos_errors():
            if key is None:
                changes = coverage.place(outline, self._class_name)
                shown = changes.new[0]
            else:
                changes = coverage.reshape(key, outline, self._class_name)
                shown = changes.changed.get(key) or coverage.outline(key)
            return Fitted(shown, self.crs, self, changes=changes, neighbours=coverage.neighbours(changes, key))

    def _fit(self, polygon: BaseGeometry, keeps_outline: bool) -> Outline:
        options = self._options
        outline = valid_polygon(polygon)
        if outline.is_empty:
            raise EditError(tr("There is no polygon to add"), tr("click an object first"))
        if not keeps_outline:
            outline = self._styled(outline)
        if self._to_layer is not None:
            outline = valid_polygon(transform_polygon(outline, self._to_layer))
        if len(self._vertices):
            outline = valid_polygon(self._with_exact_vertices(outline))
        if options.fill_holes_m2 > 0:
            limit, area_m2 = options.fill_holes_m2, self._meter.area_m2
            outline = merge(fill_holes(part, limit, area_m2) for part in polygon_parts(outline))
        for others in self._avoided:
            outline = polygonal(shapely.difference(outline, _cover(outline, *others)))
            if outline.is_empty:
                problem = tr("Polygons of other layers cover the whole polygon")
                raise EditError(problem, tr("change Avoid Overlap in QGIS's snapping toolbar, or the other polygons"))
        # Before trimming: a polygon that is too small is reported as such, not as covered by others.
        outline = _large_parts(outline, options.min_area_m2, self._meter)
        if self._features is not None:
            outline = _large_parts(self._beside_neighbours(outline), options.min_area_m2, self._meter)
        return outline

    def _with_exact_vertices(self, outline: Outline) -> Outline:
        """Move vertices that rounding has displaced back to those of the polygon that is replaced."""
        tolerance = _SAME_DEGREES if self.crs.isGeographic() else _SAME
        places = shapely.STRtree(np.array(shapely.points(self._vertices), dtype=object))

        def exact(xy: NDArray[np.float64]) -> NDArray[np.float64]:
            moved, known = places.query_nearest(shapely.points(xy), max_distance=tolerance, all_matches=False)
            xy[moved] = self._vertices[known]
            return xy

        result: Outline = shapely.transform(outline, exact)
        return result

    def _styled(self, outline: Outline) -> Outline:
        """Give an outline right angles, or else fewer vertices or curves."""
        options, styled = self._options, outline
        if options.right_angles:
            styled = _on_plane(square_angles, outline, self._raster_crs, _WALL_DISPLACEMENT_M)
            _check_agreement(outline, styled, tr("Right angles would change the polygon too much"))
        style = {"few": fewest_vertices, "smooth": _smoothed}.get(options.outline)
        if style is not None and self._pixel_m > 0 and _is_unchanged(outline, styled):
            styled = _on_plane(style, outline, self._raster_crs, self._pixel_m)
            # Nothing is left of a part that is smaller than a pixel.
            styled = outline if styled.is_empty else styled
        return styled

    def _beside_neighbours(self, outline: Outline) -> Outline:
        options = self._options
        middle = outline.envelope.centroid
        metres = self._meter.metres_per_unit(middle.x, middle.y)
        reach = 2 * max(options.snap_m, self._pixel_m, 1.0)
        fitted = fit_to_neighbours(
            outline,
            list(self._neighbours(outline, reach / metres[0], reach / metres[1])),
            trims=options.trim_overlaps,
            tolerance_m=options.snap_m,
            min_width_m=self._pixel_m,
            metres_per_unit=metres,
        )
        if fitted.outline.is_empty:
            problem = tr("Other polygons of {name} cover the whole polygon").format(name=self._name)
            raise EditError(problem, tr("turn off No overlaps, or change the other polygons"))
        _check_agreement(fitted.trimmed, fitted.outline, tr("Snapping to neighbours would change the polygon too much"))
        return fitted.outline

    def _neighbours(self, outline: Outline, reach_x: float, reach_y: float) -> Iterator[BaseGeometry]:
        """Yield the polygons around an outline, including those that are not saved yet."""
        min_x, min_y, max_x, max_y = outline.bounds
        rectangle = QgsRectangle(min_x - reach_x, min_y - reach_y, max_x + reach_x, max_y + reach_y)
        request = QgsFeatureRequest().setFilterRect(rectangle).setSubsetOfAttributes([])
        for feature in self._features.getFeatures(request):
            if feature.id() != self._skip and feature.hasGeometry():
                yield from_qgs(feature.geometry())


@contextmanager
def geos_errors() -> Iterator[None]:
    """Turn errors of GEOS into those for people."""
    try:
        yield
    except shapely.errors.GEOSException as error:
        problem = tr("The polygon cannot be fitted to the layer ({reason})").format(reason=error)
        raise EditError(
            problem, tr("turn off the options under Shape and borders, or correct the polygons around it")
        ) from error


def avoids_overlaps() -> bool:
    """Tell whether the project says that new polygons avoid overlaps."""
    return bool(QgsProject.instance().avoidIntersectionsMode() != QgsProject.AvoidIntersectionsMode.AllowIntersections)


def overlap_rules() -> tuple[Any, tuple[QgsVectorLayer, ...]]:
    """Return the project's mode for avoiding overlaps, and the layers that it names."""
    project = QgsProject.instance()
    return project.avoidIntersectionsMode(), tuple(project.avoidIntersectionsLayers())


def _avoided_layers(layer: QgsVectorLayer | None) -> list[QgsVectorLayer]:
    """Return the layers that new polygons of a layer must not overlap, as the project says."""
    project = QgsProject.instance()
    if layer is None or not avoids_overlaps():
        return []
    if project.avoidIntersectionsMode() == QgsProject.AvoidIntersectionsMode.AvoidIntersectionsCurrentLayer:
        return [layer]
    return [other for other in project.avoidIntersectionsLayers() if other.crs().isValid()]


def _cover(
    outline: Outline,
    source: QgsVectorLayerFeatureSource,
    forth: QgsCoordinateTransform,
    back: QgsCoordinateTransform,
) -> BaseGeometry:
    """Return what the polygons of another layer cover around an outline."""
    rectangle = to_qgs(transform_polygon(outline.envelope, forth)).boundingBox()
    features = source.getFeatures(QgsFeatureRequest().setFilterRect(rectangle).setSubsetOfAttributes([]))
    polygons = [from_qgs(feature.geometry()) for feature in features if feature.hasGeometry()]
    return shapely.union_all([valid(transform_polygon(polygon, back)) for polygon in polygons])


def _check_agreement(before: Outline, after: Outline, problem: str) -> None:
    if after is before:
        return
    union = shapely.union(before, after).area
    if union > 0 and shapely.intersection(before, after).area < _LEAST_AGREEMENT * union:
        raise EditError(problem, tr("lower the value or turn it off under Shape and borders"))


def _on_plane(
    style: Callable[[Outline, float], Outline], outline: Outline, crs: QgsCoordinateReferenceSystem, metres: float
) -> Outline:
    """Change an outline by up to a distance, on a plane where angles are true, whatever the CRS."""
    north = unit_m(crs)
    if not crs.isGeographic():
        return style(outline, metres / north)
    middle = outline.envelope.centroid
    east = north * max(math.cos(math.radians(middle.y)), 1e-6)
    changed = style(scale(outline, east, north, origin=middle), metres)
    return scale(changed, 1 / east, 1 / north, origin=middle)


def _smoothed(outline: Outline, tolerance: float) -> Outline:
    """Return an outline with curves in place of corners, by Chaikin's method."""
    # A corner moves by at most a quarter of its edges.
    fine = shapely.segmentize(outline, 4 * tolerance)
    return valid_polygon(shapely.simplify(from_qgs(to_qgs(fine).smooth(2)), tolerance / 10))


def _is_unchanged(before: Outline, after: Outline) -> bool:
    return bool(shapely.equals_exact(before, after, 1e-12 * max(map(abs, before.bounds))))


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


def layer_geometries(
    layer: QgsVectorLayer,
    outline: Outline,
    known: Mapping[tuple[float, float], QgsPoint],
    shapes: Sequence[QgsGeometry] = (),
) -> list[QgsGeometry]:
    """Convert a polygon to geometries of the layer's type, with Z and M if the type has them.

    A multipolygon becomes one geometry, or in a layer of single polygons one for each part, the largest first. Vertices
    that are ``known`` keep their Z and M; see `vertices_with_heights`. Others get those of the first of ``shapes`` on
    whose outline they lie.
    """
    parts = sorted(to_qgs(outline).coerceToType(layer.wkbType()), key=lambda geometry: geometry.area(), reverse=True)
    for part in parts if known else ():
        for number, vertex in enumerate(list(part.vertices())):
            here = known.get((vertex.x(), vertex.y()))
            if here is None:
                here = _on_outlines(shapes, vertex)
            if here is not None:
                part.moveVertex(here, number)
    return [QgsGeometry(part) for part in parts]


def _on_outlines(shapes: Sequence[QgsGeometry], vertex: QgsPoint) -> QgsPoint | None:
    for shape in shapes:
        here, _, distance = vertex_on(shape, vertex.x(), vertex.y())
        if distance < _SAME_PLACE * max(abs(vertex.x()), abs(vertex.y()), 1.0):
            return here
    return None


def vertex_on(shape: QgsGeometry, x: float, y: float) -> tuple[QgsPoint, int, float]:
    """Return a vertex for the outline of a geometry, with the Z and M that the outline has there.

    Returns
    -------
    QgsPoint
        At (x, y).
    int
        The number that it would have.
    float
        Its distance from the outline.
    """
    square, place, number, _ = shape.closestSegmentWithContext(QgsPointXY(x, y))
    before, after = shape.vertexAt(number - 1), shape.vertexAt(number)
    # A vertex may be there twice.
    part = before.distance(place.x(), place.y()) / (before.distance(after) or 1.0)
    vertex = QgsGeometryUtils.interpolatePointOnLine(before, after, part)
    vertex.setX(x)
    vertex.setY(y)
    return vertex, number, math.sqrt(square) if square >= 0 else math.inf


def vertices_with_heights(geometries: Iterable[QgsGeometry]) -> dict[tuple[float, float], QgsPoint]:
    """Return the vertices of geometries with Z or M, by x and y; the last of several."""
    return {(vertex.x(), vertex.y()): vertex for shape in with_heights(geometries) for vertex in shape.vertices()}


def with_heights(geometries: Iterable[QgsGeometry]) -> list[QgsGeometry]:
    """Return the geometries that have Z or M."""
    return [shape for shape in geometries if QgsWkbTypes.hasZ(shape.wkbType()) or QgsWkbTypes.hasM(shape.wkbType())]
