"""The polygons of a layer that are under review: which are left, how sure the machine was, in which order they come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsFeatureRequest,
    QgsFillSymbol,
    QgsRectangle,
    QgsSingleSymbolRenderer,
    QgsVectorLayer,
    QgsWkbTypes,
)
from shapely.geometry.base import BaseGeometry

from ...core.topology import valid_polygon
from ...errors import EditError
from ...qgis_support.crs import from_qgs, to_qgs, transform, transform_polygon
from ...qgis_support.fields import REAL, make_fields
from ...qgis_support.judgements import ACCEPTED, REJECTED, UNSAVED, Judgements
from ...qgis_support.messages import tr

__all__ = ["CONFIDENCE_FIELDS", "Candidates", "candidate_layer", "is_same", "own_class"]

CONFIDENCE_FIELDS = ("predicted_iou", "score", "likeness", "probability", "confidence")
"""Fields that say how sure a machine was, the likeliest first."""

_OUTLINE = {"style": "no", "outline_color": "#ff9f1c", "outline_width": "0.4"}
_SAME_OBJECT = 0.5
"""Least part of the smaller polygon that is in the other one too if both are one object."""


def candidate_layer(
    name: str, crs: QgsCoordinateReferenceSystem, polygons: Sequence[BaseGeometry], **values: Iterable[float]
) -> QgsVectorLayer:
    """Return a temporary layer of polygons for `ReviewQueue.fill`, with a field for each of the values.

    It is not added to the project.
    """
    layer = QgsVectorLayer("MultiPolygon", name, "memory")
    layer.setCrs(crs)
    layer.dataProvider().addAttributes(list(make_fields(**dict.fromkeys(values, REAL))))
    layer.updateFields()
    features = []
    for polygon, *numbers in zip(polygons, *values.values()):
        feature = QgsFeature(layer.fields())
        feature.setGeometry(to_qgs(polygon))
        feature.setAttributes([float(number) for number in numbers])
        features.append(feature)
    layer.dataProvider().addFeatures(features)
    layer.setRenderer(QgsSingleSymbolRenderer(QgsFillSymbol.createSimple(_OUTLINE)))
    return layer


def is_same(polygon: BaseGeometry, other: BaseGeometry) -> bool:
    """Tell whether two polygons are of one object, perhaps corrected."""
    common = shapely.intersection(polygon, other).area
    return bool(common > _SAME_OBJECT * min(polygon.area, other.area))


class Candidates:
    """The polygons of a layer that are judged, one row each. Their geometries stay in the layer.

    Parameters
    ----------
    layer : QgsVectorLayer
    target : QgsVectorLayer, optional
        What is accepted goes there.

    Attributes
    ----------
    layer : QgsVectorLayer
    judgements : Judgements
    ids : ndarray of int64, shape (N,)
    centers : ndarray of float64, shape (N, 2)
        In the CRS of the layer.
    confidence : ndarray of float64, shape (N,)
        NaN if unknown.
    pending : ndarray of bool, shape (N,)
        Not judged yet.
    fields : list of str
        Numeric fields of the layer.
    field : str
        The one with the confidence; empty if there is none.
    lost : int
        How many were accepted before, but not saved in the target layer; they are pending again.

    Raises
    ------
    EditError
        If it is not a layer of polygons with a CRS.
    """

    def __init__(self, layer: QgsVectorLayer, target: QgsVectorLayer | None = None) -> None:
        if layer.geometryType() != QgsWkbTypes.PolygonGeometry or not layer.crs().isValid():
            problem = tr("{name} is not a polygon layer with a CRS").format(name=layer.name())
            raise EditError(problem, tr("choose another layer to review"))
        self.layer = layer
        self.judgements = Judgements(layer, target)
        boxes = {
            feature.id(): feature.geometry().boundingBox().center()
            for feature in layer.getFeatures(QgsFeatureRequest().setSubsetOfAttributes([]))
            if not feature.geometry().isEmpty()
        }
        self.ids = np.fromiter(boxes, np.int64, len(boxes))
        self.centers = np.array([(middle.x(), middle.y()) for middle in boxes.values()], float).reshape(-1, 2)
        self._rows = {key: row for row, key in enumerate(boxes)}
        self.lost = self._find_lost(target)
        self.pending, self._accepted = np.zeros((2, len(boxes)), bool)
        self.mark({key: self.judgements.state(key) for key in boxes})
        self.fields = [field.name() for field in layer.fields() if field.isNumeric()]
        known = {name.lower(): name for name in self.fields}
        self.set_field(next((known[name] for name in CONFIDENCE_FIELDS if name in known), ""))

    def _find_lost(self, target: QgsVectorLayer | None) -> int:
        """Put back what was accepted, but is neither saved in the target layer nor in its edit buffer."""
        unsaved = self._of(UNSAVED)
        states = {key: self._state_in(target, key) for key in unsaved} if target is not None else {}
        if states:
            self.judgements.set(states)
        return sum(not state for state in states.values())

    def _state_in(self, target: QgsVectorLayer, key: int) -> str:
        place = transform_polygon(self.outline(key), transform(self.layer.crs(), target.crs()))
        near = target.getFeatures(QgsFeatureRequest().setFilterRect(QgsRectangle(*place.bounds)))
        found = [item.id() for item in near if is_same(place, valid_polygon(from_qgs(item.geometry())))]
        return (ACCEPTED if max(found) >= 0 else UNSAVED) if found else ""

    def set_field(self, field: str) -> None:
        """Read the confidence from a field; an empty name stands for none."""
        self.field, self.confidence = field, np.full(len(self.ids), np.nan)
        request = QgsFeatureRequest().setFlags(QgsFeatureRequest.NoGeometry)
        request.setSubsetOfAttributes([field], self.layer.fields())
        for feature in self.layer.getFeatures(request) if field else ():
            value, row = feature[field], self._rows.get(feature.id())
            # NULL is no number.
            if row is not None and isinstance(value, (int, float)):
                self.confidence[row] = value

    def in_order(self, least: float) -> NDArray[np.int64]:
        """Return the rows that are left with at least this confidence, the most doubtful first."""
        rows = np.flatnonzero(self.pending & ~(self.confidence < least))
        doubt = np.nan_to_num(self.confidence[rows], nan=-np.inf)
        return rows[np.argsort(doubt, kind="stable")]

    def nearest(self, rows: NDArray[np.int64], place: NDArray[np.float64]) -> int:
        """Return the position in ``rows`` of the one nearest to a place."""
        return int(np.argmin(((self.centers[rows] - place) ** 2).sum(axis=1)))

    def mark(self, states: Mapping[int, str]) -> list[int]:
        """Take note of new states by feature id, and return the rows that are pending again."""
        known = {self._rows[key]: state for key, state in states.items() if key in self._rows}
        rows = np.fromiter(known, np.int64, len(known))
        self.pending[rows] = [not state for state in known.values()]
        self._accepted[rows] = [state in (ACCEPTED, UNSAVED) for state in known.values()]
        return [row for row, state in known.items() if not state]

    def feature(self, row: int) -> QgsFeature:
        """Return the feature of a row as it is now; without a geometry if it was deleted."""
        return self.layer.getFeature(int(self.ids[row]))

    def outline(self, key: int) -> BaseGeometry:
        """Return a polygon by its feature id, repaired if need be, in the CRS of the layer."""
        return valid_polygon(from_qgs(self.layer.getGeometry(key)))

    @property
    def counts(self) -> tuple[int, int]:
        """How many were accepted and rejected."""
        accepted = int(self._accepted.sum())
        return accepted, len(self.ids) - accepted - int(self.pending.sum())

    def judged(self) -> tuple[list[BaseGeometry], list[BaseGeometry]]:
        """Return the polygons that were accepted and those that were rejected, as proposed, in the CRS of the layer."""
        accepted = [self.outline(key) for key in self._of(ACCEPTED, UNSAVED)]
        return accepted, [self.outline(key) for key in self._of(REJECTED)]

    def _of(self, *states: str) -> list[int]:
        return [key for key in self._rows if self.judgements.state(key) in states]


def own_class(feature: QgsFeature, fields: Iterable[str]) -> dict[str, Any]:
    """Return the class that a candidate brings with it, by field name; empty if it has none."""
    values = {name: feature[name] for name in fields if feature.fieldNameIndex(name) >= 0}
    return values if any(isinstance(value, (str, int)) for value in values.values()) else {}
