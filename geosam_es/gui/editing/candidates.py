"""The polygons of a layer under review: which are left, how sure the machine was, and what the user decided."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
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
    QgsVectorLayerFeatureSource,
    QgsWkbTypes,
)
from shapely.geometry.base import BaseGeometry

from ...core.topology import valid_polygon
from ...errors import EditError
from ...qgis_support.classes import class_code
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
_WRITTEN_WHOLE = ("CSV", "FlatGeobuf", "GeoJSON", "LIBKML")
"""Formats whose files are written anew for each change, which takes seconds if they are large."""
_OUTLINE = {"style": "no", "outline_color": "#ff9f1c", "outline_width": "0.4"}
_SAME_OBJECT = 0.5
"""Least part of the smaller polygon that is in the other one too if both are one object."""

_READ_TOGETHER, _WRITTEN_TOGETHER = 200, 200
"""Polygons between two reports of progress, and decisions that are written without a pause."""


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


def own_class(feature: QgsFeature, target: QgsVectorLayer | None, fields: Iterable[str]) -> dict[str, Any]:
    """Return the class that a candidate brings with it, by field name of the target layer; empty if it has none."""
    values = dict[str, Any]()
    for name in fields:
        if target is not None and feature.fieldNameIndex(name) >= 0:
            value = feature[name]
            # NULL is no number and no text.
            known = value if isinstance(value, (str, int, float)) and value != "" else None
            code = class_code(target, target.fields().lookupField(name), known)
            # Writing it says why the field cannot hold it.
            values[name] = known if code is None else code
    return values if any(value is not None for value in values.values()) else {}


class Candidates:
    """The polygons of a layer that are judged, one row each. Their geometries stay in the layer.

    What was decided is kept in the field `REVIEW_FIELD` of the layer, written at once. The project keeps it if the
    layer cannot have the field, uses it for something else, is written as a whole each time, or is in a transaction.
    Made in the GUI thread; `read` fills it in any thread.

    Parameters
    ----------
    layer : QgsVectorLayer
    target : QgsVectorLayer, optional
        Candidates that were accepted, but are not in it, were not saved: they are put back.
    elsewhere : set of int, optional
        Ids of candidates that are among the unsaved edits of another layer, and are not put back.

    Attributes
    ----------
    ids : ndarray of int64, shape (N,)
    confidence : ndarray of float64, shape (N,)
        NaN if unknown.
    pending : ndarray of bool, shape (N,)
        Not judged yet.
    states : dict of int to str
        What was decided, by feature id.
    fields : list of str
        Names of the numeric fields, without the key.
    field : str
        The field with the confidence; empty if there is none.
    lost : int
        How many were put back.
    is_renumbered : bool
        Whether the features have other ids by now, and the layer must be read again.

    Raises
    ------
    EditError
        If it is not a layer of polygons with a CRS.
    """

    def __init__(
        self, layer: QgsVectorLayer, target: QgsVectorLayer | None = None, elsewhere: Container[int] = ()
    ) -> None:
        if layer.geometryType() != QgsWkbTypes.PolygonGeometry or not layer.crs().isValid():
            problem = tr("{name} is not a polygon layer with a CRS").format(name=layer.name())
            raise EditError(problem, tr("choose another layer to review"))
        self.layer = layer
        keys, fields = layer.primaryKeyAttributes(), layer.fields()
        self._columns = {
            field.name(): (index, array("d"))
            for index, field in enumerate(fields.toList())
            if field.isNumeric() and index not in keys
        }
        self.fields = list(self._columns)
        self._review = fields.lookupField(REVIEW_FIELD)
        self._in_layer = self._review < 0 or fields.at(self._review).type() == TEXT
        self._in_project = layer.customProperty(_PROPERTY, "{}")
        self._is_written_whole = layer.dataProvider().storageType() in _WRITTEN_WHOLE
        self._source = QgsVectorLayerFeatureSource(layer)
        self._target = None
        if target is not None:
            self._target = QgsVectorLayerFeatureSource(target), transform(layer.crs(), target.crs())
        self._elsewhere = elsewhere
        self._due: dict[int, str] = {}
        self.is_renumbered = False

    def read(self, progress: Callable[[int], None] | None = None) -> None:
        """Read the polygons; ``progress`` gets their number so far, and may raise an exception to stop."""
        ids, centers, kept = array("q"), array("d"), {}
        indices = [index for index, _ in self._columns.values()]
        request = QgsFeatureRequest().setSubsetOfAttributes([*indices, *([self._review] if self._review >= 0 else [])])
        for feature in self._source.getFeatures(request):
            if progress is not None and len(ids) % _READ_TOGETHER == 0:
                progress(len(ids))
            geometry = feature.geometry()
            # A missing geometry has the area -1. Repairing takes long, and only a spike needs it.
            if geometry.isEmpty() or (geometry.area() == 0 and valid_polygon(from_qgs(geometry)).is_empty):
                continue
            middle = geometry.boundingBox().center()
            ids.append(feature.id())
            centers.extend((middle.x(), middle.y()))
            for index, column in self._columns.values():
                # NULL is no number.
                value = feature[index]
                column.append(value if isinstance(value, (int, float)) else np.nan)
            if self._review >= 0:
                kept[feature.id()] = feature[self._review]
        self.ids = np.array(ids, np.int64)
        self._centers = np.array(centers, float).reshape(-1, 2)
        self._rows = {key: row for row, key in enumerate(ids)}
        self.pending = np.ones(len(ids), bool)
        self.states = self._decided(kept)
        unsaved = [key for key, state in self.states.items() if state == UNSAVED and key not in self._elsewhere]
        self.mark({**self.states, **{key: self._found(key, outline) for key, outline in self._outlines(unsaved)}})
        self.lost = sum(not state for state in self._due.values())
        known = {name.lower(): name for name in self.fields}
        self.set_field(next((known[name] for name in CONFIDENCE_FIELDS if name in known), ""))

    def _decided(self, kept: Mapping[int, Any]) -> dict[int, str]:
        states = ACCEPTED, REJECTED, UNSAVED
        self._in_layer &= {value for value in kept.values() if isinstance(value, str)} <= {"", *states}
        try:
            project = json.loads(self._in_project)
            kept = {**(kept if self._in_layer else {}), **{int(key): state for key, state in project.items()}}
        except (AttributeError, TypeError, ValueError):
            project = {}
        self._in_layer &= not (project or self._is_written_whole)
        return {key: state for key, state in kept.items() if key in self._rows and state in states}

    def _found(self, key: int, outline: BaseGeometry) -> str:
        """Return the state of a candidate that was accepted, but perhaps not saved."""
        if self._target is None:
            return UNSAVED
        target, way = self._target
        place = transform_polygon(outline, way)
        near = target.getFeatures(QgsFeatureRequest().setFilterRect(QgsRectangle(*place.bounds)))
        same = [item.id() for item in near if is_same(place, valid_polygon(from_qgs(item.geometry())))]
        return (ACCEPTED if max(same) >= 0 else UNSAVED) if same else ""

    def _outlines(self, keys: Sequence[int]) -> Iterator[tuple[int, BaseGeometry]]:
        """Yield polygons as they were when the layer was read, repaired if need be; called in any thread."""
        request = QgsFeatureRequest().setFilterFids(list(keys)).setSubsetOfAttributes([])
        for feature in self._source.getFeatures(request) if keys else ():
            yield feature.id(), valid_polygon(from_qgs(feature.geometry()))

    def set_field(self, field: str) -> None:
        """Take the confidence from a field; an empty name stands for none."""
        self.field = field
        self.confidence = np.array(self._columns[field][1]) if field else np.full(len(self.ids), np.nan)

    def in_order(self, least: float) -> NDArray[np.int64]:
        """Return the rows that are left with at least this confidence, the most doubtful first, unknown ones last.

        Those whose confidence is unknown are left out, unless ``least`` is minus infinity.
        """
        rows = np.flatnonzero(self.pending & ((self.confidence >= least) | (least == -np.inf)))
        # NaN is sorted last.
        return rows[np.argsort(self.confidence[rows], kind="stable")]

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

    def keep(self) -> bool:
        """Write some of what was decided since the last time, and return whether that was all.

        Raises
        ------
        EditError
            If the layer does not take it; from then on the project keeps it.
        """
        # Discarding the edits of a transaction group would take back what is written in it.
        self._in_layer &= self.layer.dataProvider().transaction() is None
        # Features that are not saved have no lasting ids.
        now = list(self._due)[: _WRITTEN_TOGETHER if self._in_layer else None]
        due = {key: state or None for key, state in ((key, self._due.pop(key)) for key in now) if key >= 0}
        if due and self._in_layer:
            self._in_layer = self._write(due)
            if not self._in_layer:
                self._keep_in_project()
                problem = tr("The decisions of the review cannot be written to {name}").format(name=self.layer.name())
                raise EditError(problem, tr("save the project, which keeps them"))
        elif due:
            self._keep_in_project()
        return not self._due

    def _keep_in_project(self) -> None:
        # What was put back too: the layer may have it as judged.
        self.layer.setCustomProperty(_PROPERTY, json.dumps(self.states))
        QgsProject.instance().setDirty(True)

    def renumber(self, removed: Iterable[int]) -> None:
        """Take note that features were removed from a file, where the others move up; all is kept so far."""
        self.is_renumbered, gone = True, sorted(removed)
        if self.states and not self._in_layer:
            left = self.states.keys() - set(gone)
            self.states = {key - bisect_left(gone, key): self.states[key] for key in left}
            self._keep_in_project()

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

    @property
    def counts(self) -> tuple[int, int]:
        """How many were accepted and rejected."""
        rejected = sum(state == REJECTED for state in self.states.values())
        return len(self.ids) - int(self.pending.sum()) - rejected, rejected

    def judged(self) -> tuple[list[BaseGeometry], list[BaseGeometry]]:
        """Return the polygons that were accepted and those that were rejected, as proposed, in the CRS of the layer.

        Called in any thread.
        """
        states = {key: state for key, state in self.states.copy().items() if state}
        accepted, rejected = list[BaseGeometry](), list[BaseGeometry]()
        for key, outline in self._outlines(list(states)):
            (rejected if states[key] == REJECTED else accepted).append(outline)
        return accepted, rejected
