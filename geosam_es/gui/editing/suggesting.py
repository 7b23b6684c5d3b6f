"""Suggests a class for the polygon on the map, learned from the polygons of the target layer."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from functools import partial
from itertools import takewhile
from typing import Any

import shapely
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsFeature,
    QgsFeatureRequest,
    QgsRectangle,
    QgsVectorLayer,
    QgsVectorLayerFeatureSource,
)
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QObject, QTimer
from shapely.geometry.base import BaseGeometry

from ...core.geotransform import GeoTransform
from ...core.globe import densified
from ...errors import EditError, GeoSamError
from ...inference.class_learner import ClassLearner
from ...qgis_support.crs import from_qgs, transform, transform_polygon
from ...qgis_support.messages import log_error
from ..canvas.controller import SegmentationController
from ..canvas.drawing import Drawing
from ..panel.dock import SegmentDock
from ..stores.open_store import OpenStore
from ..stores.worker import Job, Worker
from .coverage import LayerCoverage

__all__ = ["ClassSuggestions"]

_SIGNALS = ("featureAdded", "featureDeleted", "geometryChanged", "attributeValueChanged")


class ClassSuggestions(QObject):
    """Follows the target layer and the polygon being drawn, and shows the suggestion in the panel.

    The features on the image are read and pooled in a thread of its own. Nothing is written.
    """

    def __init__(self, controller: SegmentationController, dock: SegmentDock, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._controller = controller
        self._dock = dock
        self._worker = Worker(self)
        self._layer: QgsVectorLayer | None = None
        self._learner: ClassLearner | None = None
        self._key: tuple[object, ...] = ()
        self._other: tuple[BaseGeometry, QgsCoordinateReferenceSystem] | None = None
        self._asked: BaseGeometry | None = None
        # The polygons that have changed; None for all.
        self._touched: set[int] | None = None
        # Many polygons may change at once.
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(0)
        self._soon.timeout.connect(self._read)
        dock.layer_chosen.connect(self._read_soon)
        dock.class_box.field_chosen.connect(self._read_soon)
        controller.drawing_changed.connect(self._on_drawing)

    def release(self) -> None:
        """Stop following the layer, and end the thread."""
        self._soon.stop()
        self._follow(None)
        # Ends the reading.
        self._learner = None
        self._worker.stop()

    def _read_soon(self, *_: object) -> None:
        self._soon.start()

    def _on_touched(self, feature_id: int, *_: object) -> None:
        if self._touched is not None:
            self._touched.add(feature_id)
        self._soon.start()

    def _on_all(self) -> None:
        self._touched = None
        self._soon.start()

    def _follow(self, layer: QgsVectorLayer | None) -> None:
        if layer is self._layer:
            return
        for followed, connects in ((self._layer, False), (layer, True)):
            if followed is not None and not sip.isdeleted(followed):
                pairs: list[Any] = [(getattr(followed, name), self._on_touched) for name in _SIGNALS]
                pairs += [(signal, self._on_all) for signal in (followed.afterRollBack, followed.dataChanged)]
                for signal, slot in pairs:
                    (signal.connect if connects else signal.disconnect)(slot)
        self._layer = layer

    def _current_key(self) -> tuple[object, ...]:
        """Return what the learner depends on."""
        store, layer = self._controller.store, self._dock.layer
        if store is None or layer is None or not self._dock.class_box.field:
            return ()
        return store.segmenter.reader, store.crs.toWkt(), layer, layer.crs().toWkt(), self._dock.class_box.field

    def _read(self) -> None:
        """Let the thread read the polygons that have changed; all of them after another choice in the panel."""
        store, layer, key = self._controller.store, self._dock.layer, self._current_key()
        self._follow(layer)
        if key != self._key:
            self._key, self._touched = key, None
            self._worker.set_look_ahead([])
            self._learner = ClassLearner(store.segmenter.reader) if store is not None and key else None
        touched, self._touched = self._touched, set()
        learner = self._learner
        if learner is None or store is None or layer is None:
            self._ask()
            return
        try:
            way = transform(layer.crs(), store.crs)
        except EditError:
            # Accepting a polygon reports it.
            return
        index = layer.fields().lookupField(self._dock.class_box.field)
        source, to_native = QgsVectorLayerFeatureSource(layer), store.metadata.raster.transform.inverse()
        request = QgsFeatureRequest().setSubsetOfAttributes([index])
        if touched is None:
            request.setFilterRect(_extent(store, layer))
        else:
            request.setFilterFids(list(touched))

        def read() -> None:
            # Not for an image or a layer that is no longer the current one.
            features = takewhile(lambda _: learner is self._learner, source.getFeatures(request))
            found = _polygons(features, index, way, to_native)
            learner.put({**dict.fromkeys(touched or ()), **found}, are_all=touched is None)

        self._worker.post(Job(read, lambda _: self._learn(learner), log_error))

    def _learn(self, learner: ClassLearner) -> None:
        """Learn for a short time, so that a polygon on the map does not wait, then go on."""
        if learner is self._learner:
            self._worker.set_look_ahead([Job(learner.learn, partial(self._on_learned, learner), self._on_failed)])

    def _on_learned(self, learner: ClassLearner, is_all: bool) -> None:
        if is_all and learner is self._learner:
            self._ask()
        else:
            self._learn(learner)

    def _on_failed(self, error: GeoSamError) -> None:
        """Go on without a polygon whose tile cannot be read."""
        log_error(error)
        if self._learner is not None:
            self._learn(self._learner)

    def _on_drawing(self, drawing: Drawing) -> None:
        if self._current_key() != self._key:
            self._soon.start()
        elif not drawing.busy:
            self._ask()

    def look_at(self, polygon: BaseGeometry | None, layer: QgsVectorLayer | None) -> None:
        """Suggest a class for a polygon of a layer, as long as nothing is drawn; None for none."""
        self._other = (polygon, layer.crs()) if polygon is not None and layer is not None else None
        self._ask()

    def _ask(self) -> None:
        """Ask for the class of the polygon on the map."""
        learner, polygon = self._learner, self._subject()
        self._asked = polygon
        if learner is None or polygon is None:
            self._worker.set_preview(None)
            self._dock.class_box.suggest("", 0.0)
            return

        def done(classes: list[tuple[str, float]]) -> None:
            if polygon is self._asked:
                self._dock.class_box.suggest(*(classes[0] if classes else ("", 0.0)))

        self._worker.set_preview(Job(lambda: learner.suggest(polygon), done, log_error))

    def _subject(self) -> BaseGeometry | None:
        """Return the polygon on the map in native pixels."""
        store, drawing = self._controller.store, self._controller.drawing
        if store is None:
            return None
        to_native = store.metadata.raster.transform.inverse().apply_geometry
        if drawing.result is not None and drawing.has_polygon:
            return to_native(drawing.result.geometry)
        if self._other is None:
            return None
        try:
            return to_native(transform_polygon(self._other[0], transform(self._other[1], store.crs)))
        except EditError:
            return None


def _extent(store: OpenStore, layer: QgsVectorLayer) -> QgsRectangle:
    """Return where the raster is in the CRS of a layer; empty, for no filter, if it reaches beyond that CRS."""
    try:
        way = transform(store.crs, layer.crs())
        return QgsRectangle(*transform_polygon(densified(shapely.box(*store.segmenter.map_bounds)), way).bounds)
    except EditError:
        return QgsRectangle()


def _polygons(
    features: Iterable[QgsFeature], index: int, way: QgsCoordinateTransform, to_native: GeoTransform
) -> dict[Hashable, tuple[BaseGeometry, str] | None]:
    """Return the polygons that have a class, by feature id, in native pixels."""
    found: dict[Hashable, tuple[BaseGeometry, str] | None] = {}
    for feature in features:
        name = LayerCoverage.class_name([feature.attribute(index)])
        if name is None or feature.geometry().isEmpty():
            continue
        try:
            found[feature.id()] = to_native.apply_geometry(transform_polygon(from_qgs(feature.geometry()), way)), name
        except EditError:
            # It is not where the raster is.
            continue
    return found
