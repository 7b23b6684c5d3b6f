"""The polygons of a layer under review: which are left, how sure the machine was, and what the user decided."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsFeatureRequest,
    QgsField,
    QgsFillSymbol,
    QgsProject,
    QgsRectangle,
    QgsSingleSymbolRenderer,
    QgsVectorDataProvider,
    QgsVectorLayer,
    QgsWkbTypes,
)
from shapely.geometry.base import BaseGeometry

from ...core.topology import valid_polygon
from ...errors import EditError
from ...qgis_support.crs import from_qgs, to_qgs, transform, transform_polygon
from ...qgis_support.fields import REAL, TEXT, make_fields
from ...qgis_support.messages import tr

__all__ = [
    *("ACCEPTED", "REJECTED", "REVIEW_FIELD", "UNSAVED"),
    *("Candidates", "candidate_layer", "is_same", "own_class"),
]

REVIEW_FIELD = "review"
ACCEPTED, REJECTED = "accepted", "rejected"
UNSAVED = "unsaved"
"""Accepted into a layer whose edits are not saved yet."""

CONFIDENCE_FIELDS = ("probability", "likeness", "predicted_iou", "score", "confidence")
"""Fields that say how sure a machine was, the likeliest first."""

_PROPERTY = "geosam_es/review"
_OUTLINE = {"style": "no", "outline_color": "#ff9f1c", "outline_width": "0.4"}
_SAME_OBJECT = 0.5
"""Least part of the smaller polygon that is in the other one too if both are one object."""


def candidate_layer(
    name: str, crs: QgsCoordinateReferenceSystem, polygons: Sequence[BaseGeometry], **values: Iterable[float]
) -> QgsVectorLayer:
    """Return a temporary layer of polygons to review, with a field for each of the values; not in the project yet."""
    layer = QgsVectorLayer("MultiPolygon", name, "memory")
    layer.setCrs(crs)
    layer.dataProvider().addAttributes(make_fields(**dict.fromkeys(values, REAL)).toList())
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
    return bool(shapely.intersection(polygon, other).area > _SAME_OBJECT * min(polygon.area, other.area))


def own_class(feature: QgsFeature, fields: Iterable[str]) -> dict[str, Any]:
    """Return the class that a candidate brings with it, by field name; empty if it has none."""
    values = {name: feature[name] for name in fields if feature.fieldNameIndex(name) >= 0}
    return values if any(isinstance(value, (str, int)) for value in values.values()) else {}


class Candidates:
    """The polygons of a layer that are judged, one row each. Their geometries stay in the layer.

    What was decided is kept in the field `REVIEW_FIELD` of the layer, written at once. If the layer cannot have it, or
    uses it for something else, the project keeps it.

    Parameters
    ----------
    layer : QgsVectorLayer
    target : QgsVectorLayer, optional
        Candidates that were accepted, but are not in it, were not saved: they are put back.

    Attributes
    ----------
    ids : ndarray of int64, shape (N,)
    confidence : ndarray of float64, shape (N,)
        NaN if unknown.
    pending : ndarray of bool, shape (N,)
        Not judged yet.
    states : dict of int to str
        What was decided, by feature id.
    field : str
        The field with the confidence; empty if there is none.
    lost : int
        How many were put back.

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
        boxes = {
            feature.id(): feature.geometry().boundingBox().center()
            for feature in layer.getFeatures(QgsFeatureRequest().setSubsetOfAttributes([]))
            if not feature.geometry().isEmpty()
        }
        self.ids = np.fromiter(boxes, np.int64, len(boxes))
        self._centers = np.array([(middle.x(), middle.y()) for middle in boxes.values()], float).reshape(-1, 2)
        self._rows = {key: row for row, key in enumerate(boxes)}
        self.pending = np.ones(len(boxes), bool)
        self._due: dict[int, str] = {}
        self.states = self._read()
        self.mark({key: self._found(target, key) if state == UNSAVED else state for key, state in self.states.items()})
        self.lost = sum(not state for state in self._due.values())
        known = {name.lower(): name for name in self.fields}
        self.set_field(next((known[name] for name in CONFIDENCE_FIELDS if name in known), ""))

    @property
    def fields(self) -> list[str]:
        """Names of the numeric fields, without the key."""
        keys = self.layer.primaryKeyAttributes()
        fields = enumerate(self.layer.fields().toList())
        return [field.name() for index, field in fields if field.isNumeric() and index not in keys]

    def _read(self) -> dict[int, str]:
        kept = self._values(REVIEW_FIELD)
        states = ACCEPTED, REJECTED, UNSAVED
        index = self.layer.fields().lookupField(REVIEW_FIELD)
        self._in_layer = {value for value in kept.values() if isinstance(value, str)} <= {"", *states}
        self._in_layer &= index < 0 or self.layer.fields().at(index).type() == TEXT
        try:
            project = json.loads(self.layer.customProperty(_PROPERTY, "{}"))
            kept = {**(kept if self._in_layer else {}), **{int(key): state for key, state in project.items()}}
        except (AttributeError, TypeError, ValueError):
            project = {}
        self._in_layer &= not project
        return {key: state for key, state in kept.items() if key in self._rows and state in states}

    def _found(self, target: QgsVectorLayer | None, key: int) -> str:
        """Return the state of a candidate that was accepted, but perhaps not saved."""
        if target is None:
            return UNSAVED
        place = transform_polygon(self.outline(key), transform(self.layer.crs(), target.crs()))
        near = target.getFeatures(QgsFeatureRequest().setFilterRect(QgsRectangle(*place.bounds)))
        same = [item.id() for item in near if is_same(place, valid_polygon(from_qgs(item.geometry())))]
        return (ACCEPTED if max(same) >= 0 else UNSAVED) if same else ""

    def _values(self, field: str) -> dict[int, Any]:
        if self.layer.fields().lookupField(field) < 0:
            return {}
        request = QgsFeatureRequest().setFlags(QgsFeatureRequest.NoGeometry)
        request.setSubsetOfAttributes([field], self.layer.fields())
        return {feature.id(): feature[field] for feature in self.layer.getFeatures(request)}

    def set_field(self, field: str) -> None:
        """Read the confidence from a field; an empty name stands for none."""
        self.field, values = field, self._values(field) if field else {}
        # NULL is no number.
        numbers = (value if isinstance(value, (int, float)) else np.nan for value in map(values.get, self._rows))
        self.confidence = np.fromiter(numbers, float, len(self.ids))

    def in_order(self, least: float) -> NDArray[np.int64]:
        """Return the rows that are left with at least this confidence, the most doubtful first."""
        rows = np.flatnonzero(self.pending & ~(self.confidence < least))
        return rows[np.argsort(np.nan_to_num(self.confidence[rows], nan=-np.inf), kind="stable")]

    def nearest(self, rows: NDArray[np.int64], row: int) -> int:
        """Return the position in ``rows`` of the one nearest to another row."""
        return int(np.argmin(((self._centers[rows] - self._centers[row]) ** 2).sum(axis=1)))

    def mark(self, states: Mapping[int, str]) -> list[int]:
        """Take note of new states by feature id, for `keep`; return the rows that were judged, and are put back."""
        changed = {key: state for key, state in states.items() if self.states.get(key, "") != state}
        self.states.update(changed)
        self._due.update(changed)
        rows = {self._rows[key]: not state for key, state in states.items() if key in self._rows}
        self.pending[list(rows)] = list(rows.values())
        return [self._rows[key] for key, state in changed.items() if not state and key in self._rows]

    def keep(self) -> None:
        """Write what was decided since the last time.

        Raises
        ------
        EditError
            If the layer does not take it; from then on the project keeps it.
        """
        # Features that are not saved have no lasting ids.
        due, self._due = {key: state or None for key, state in self._due.items() if key >= 0}, {}
        if due and self._in_layer:
            self._in_layer = self._write(due)
            if not self._in_layer:
                self._keep_in_project()
                problem = tr("The decisions of the review cannot be written to {name}").format(name=self.layer.name())
                raise EditError(problem, tr("save the project, which keeps them"))
        elif due:
            self._keep_in_project()

    def _keep_in_project(self) -> None:
        self.layer.setCustomProperty(_PROPERTY, json.dumps({key: state for key, state in self.states.items() if state}))
        QgsProject.instance().setDirty(True)

    def _write(self, states: Mapping[int, str | None]) -> bool:
        # Past the edit buffer: it is no edit of the user's, and outlives a crash.
        provider = self.layer.dataProvider()
        if not provider.capabilities() & QgsVectorDataProvider.ChangeAttributeValues:
            return False
        if provider.fields().lookupField(REVIEW_FIELD) < 0:
            if not provider.addAttributes([QgsField(REVIEW_FIELD, TEXT)]):
                return False
            self.layer.updateFields()
        index = provider.fields().lookupField(REVIEW_FIELD)
        return bool(provider.changeAttributeValues({key: {index: state} for key, state in states.items()}))

    def outline(self, key: int) -> BaseGeometry:
        """Return a polygon by its feature id, repaired if need be, in the CRS of the layer."""
        return valid_polygon(from_qgs(self.layer.getGeometry(key)))

    @property
    def counts(self) -> tuple[int, int]:
        """How many were accepted and rejected."""
        rejected = sum(state == REJECTED for state in self.states.values())
        return len(self.ids) - int(self.pending.sum()) - rejected, rejected

    def judged(self) -> tuple[list[BaseGeometry], list[BaseGeometry]]:
        """Return the polygons that were accepted and those that were rejected, as proposed, in the CRS of the layer."""
        judged = [(self.outline(key), state) for key, state in self.states.items() if state]
        accepted = [outline for outline, state in judged if state != REJECTED]
        return accepted, [outline for outline, state in judged if state == REJECTED]
