"""Prepares a polygon for a layer: the user's options, the layer's CRS and its geometry type. Writes nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Union

import shapely
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeatureRequest,
    QgsGeometry,
    QgsRectangle,
    QgsVectorLayer,
    QgsVectorLayerFeatureSource,
)
from qgis.PyQt.QtCore import QLocale
from shapely.affinity import scale
from shapely.geometry.base import BaseGeometry

from ...core.orthogonal import square_angles
from ...core.partition import fit_to_neighbours
from ...core.topology import fill_holes, merge, polygon_parts
from ...errors import EditError, GeoSamError
from ...qgis_support.crs import EllipsoidArea, from_qgs, to_qgs, transform, transform_polygon, unit_m
from ...qgis_support.messages import tr
from ...qgis_support.settings import Settings
from ..canvas.drawing import Fitted

__all__ = ["AcceptOptions", "LayerFitting", "layer_geometries"]

Outline = Union[shapely.Polygon, shapely.MultiPolygon]

_WALL_DISPLACEMENT_M = 3.0
"""Largest distance that a wall may move to get right angles."""

_LEAST_AGREEMENT = 0.7
"""Lowest IoU of a fitted polygon with the one that was proposed."""


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
    ) -> None:
        if not crs.isValid():
            raise EditError(tr("The raster has no CRS"), tr("set it in the properties of its layer"))
        self._raster_crs = crs
        self._options = options
        self._skip = skip
        self._pixel_m = pixel_m
        self.crs = layer.crs() if layer is not None else crs
        self._to_layer = transform(crs, self.crs) if crs != self.crs else None
        self._meter = EllipsoidArea(self.crs)
        self._name = layer.name() if layer is not None else ""
        wanted = layer is not None and (options.trim_overlaps or options.snap_m > 0)
        self._features = QgsVectorLayerFeatureSource(layer) if wanted else None

    def __call__(self, polygon: BaseGeometry) -> Fitted:
        """Return the polygon as it will be written, or why it will not be."""
        try:
            return Fitted(self.fit(polygon), self.crs, self)
        except GeoSamError as error:
            return Fitted(None, self.crs, self, error)

    def fit(self, polygon: BaseGeometry) -> Outline:
        """Apply the options to a polygon of the raster, repaired if need be, and transform it to the layer's CRS.

        Returns
        -------
        Polygon or MultiPolygon
            Valid and not empty, in the layer's CRS.

        Raises
        ------
        EditError
            If nothing is left of the polygon, or it cannot be transformed.
        """
        try:
            return self._fit(polygon)
        except shapely.errors.GEOSException as error:
            problem = tr("The polygon cannot be fitted to the layer ({reason})").format(reason=error)
            raise EditError(
                problem, tr("turn off the options under Shape and borders, or correct the polygons around it")
            ) from error

    def _fit(self, polygon: BaseGeometry) -> Outline:
        options = self._options
        outline = _valid(polygon)
        if outline.is_empty:
            raise EditError(tr("There is no polygon to add"), tr("click an object first"))
        if options.right_angles:
            squared = _square(outline, self._raster_crs)
            _check_agreement(outline, squared, tr("Right angles would change the polygon too much"))
            outline = squared
        if self._to_layer is not None:
            outline = _valid(transform_polygon(outline, self._to_layer))
        if options.fill_holes_m2 > 0:
            limit, area_m2 = options.fill_holes_m2, self._meter.area_m2
            outline = merge(fill_holes(part, limit, area_m2) for part in polygon_parts(outline))
        # Before trimming: a polygon that is too small is reported as such, not as covered by others.
        outline = _large_parts(outline, options.min_area_m2, self._meter)
        if self._features is not None:
            outline = _large_parts(self._beside_neighbours(outline), options.min_area_m2, self._meter)
        return outline

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
        if not fitted.is_clean:
            problem = tr("The polygon cannot be fitted to those around it without overlaps")
            raise EditError(problem, tr("change Snap to neighbours, or correct the polygons around it"))
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


def _check_agreement(before: Outline, after: Outline, problem: str) -> None:
    if after is before:
        return
    union = shapely.union(before, after).area
    if union > 0 and shapely.intersection(before, after).area < _LEAST_AGREEMENT * union:
        raise EditError(problem, tr("lower the value or turn it off under Shape and borders"))


def _square(outline: Outline, crs: QgsCoordinateReferenceSystem) -> Outline:
    """Square the corners on a plane where angles are true, whatever the CRS."""
    north = unit_m(crs)
    if not crs.isGeographic():
        return square_angles(outline, _WALL_DISPLACEMENT_M / north)
    middle = outline.envelope.centroid
    east = north * max(math.cos(math.radians(middle.y)), 1e-6)
    squared = square_angles(scale(outline, east, north, origin=middle), _WALL_DISPLACEMENT_M)
    return scale(squared, 1 / east, 1 / north, origin=middle)


def _valid(geometry: BaseGeometry) -> Outline:
    if isinstance(geometry, (shapely.Polygon, shapely.MultiPolygon)) and geometry.is_valid:
        return geometry
    return merge(polygon_parts(shapely.make_valid(geometry)))


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
