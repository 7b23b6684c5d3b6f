"""Finds more objects like those selected, and hands them to the review."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import shapely
from qgis.core import (
    QgsFeatureRequest,
    QgsProject,
    QgsRectangle,
    QgsVectorLayer,
    QgsVectorLayerFeatureSource,
)
from qgis.PyQt.QtCore import QObject, pyqtSignal
from shapely.geometry.base import BaseGeometry

from ...errors import EditError, GeoSamError
from ...inference.similar import SimilarObject, SimilarObjects
from ...qgis_support.crs import from_qgs, transform, transform_polygon
from ...qgis_support.messages import tr
from ..canvas.controller import SegmentationController
from ..panel.dock import SegmentDock
from ..stores.background_task import BackgroundTask
from ..stores.open_store import OpenStore
from .candidates import candidate_layer
from .reviewing import ReviewQueue

__all__ = ["SHOWN", "SimilarFinding"]

SHOWN = 0.3
"""Least likeness of what is handed to the review, which walks from doubtful to sure."""

_MOST_CLICKS = 16
"""Places of the view that a search clicks, so that it answers at once; the next search goes on."""


_Polygons = Callable[[], Sequence[BaseGeometry]]
"""Reads polygons in native pixels; called in any thread."""


class _CancelledError(Exception):
    """Raised in the search when the user has cancelled it."""


class _Search(BackgroundTask):
    """Learns, and searches in the view.

    Attributes
    ----------
    finder : SimilarObjects, optional
        What was learnt, for the next search.
    found : list of SimilarObject
    """

    def __init__(
        self,
        make: Callable[[], SimilarObjects],
        area: BaseGeometry,
        known: _Polygons,
        done: Callable[[_Search], None],
    ) -> None:
        super().__init__(tr("Finding similar objects"))
        self.finder: SimilarObjects | None = None
        self.found: list[SimilarObject] = []
        self._make, self._area, self._known, self._done = make, area, known, done

    def work(self) -> None:
        """Search; called in another thread."""
        finder = self._make()
        self.found = list(finder.search(self._area, SHOWN, self._known(), self._on_progress, _MOST_CLICKS))
        self.finder = finder

    def _on_progress(self, done: int, total: int) -> None:
        self.setProgress(100.0 * done / max(total, 1))
        if self.isCanceled():
            raise _CancelledError

    def finished(self, result: bool) -> None:
        """Report the result; called in the GUI thread."""
        super().finished(result)
        self._done(self)


class SimilarFinding(QObject):
    """Searches the view for objects like the selected polygons of the target layer, or like the proposal.

    The next search learns from what was accepted and rejected in the review since.

    Signals
    -------
    failed : GeoSamError
    """

    failed = pyqtSignal(object)

    def __init__(
        self,
        controller: SegmentationController,
        dock: SegmentDock,
        review: ReviewQueue,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._controller = controller
        self._dock = dock
        self._review = review
        self._task: _Search | None = None
        self._finder: SimilarObjects | None = None
        self._layer: QgsVectorLayer | None = None
        self._is_edited = False
        review.filled.connect(self._on_filled)

    def start(self) -> None:
        """Search the view, or cancel the search that runs."""
        if self._task is not None:
            self._task.cancel()
            return
        try:
            self._start()
        except GeoSamError as error:
            self.failed.emit(error)

    def stop(self) -> None:
        """Cancel a search, and forget what was learnt."""
        if self._task is not None:
            self._task.cancel()
        self._task = self._finder = self._layer = None

    def _start(self) -> None:
        store = self._controller.store
        sight = self._controller.sight(store) if store is not None else None
        if store is None or sight is None:
            raise EditError(tr("There is no prepared image in view"), tr("click an object of the image first"))
        to_native = store.metadata.raster.transform.inverse().apply_geometry
        view = shapely.Polygon(sight.corners)
        examples = self._examples(store)
        judged = self._review.candidates if self._layer is not None and self._review.layer is self._layer else None
        finder = self._finder if self._finder is not None and self._finder.segmenter is store.segmenter else None
        if examples is None and finder is None:
            raise EditError(
                tr("There is no example to search with"),
                tr("select polygons of the target layer, or click an object, and press F again"),
            )
        segmenter = store.segmenter

        def make() -> SimilarObjects:
            pool = finder.pool if finder is not None else None
            given = examples() if examples is not None else []
            # With nothing selected, or the same polygons, the search goes on.
            made = finder if finder is not None and finder.has_learnt(given) else SimilarObjects(segmenter, given, pool)
            if judged is not None:
                accepted, rejected = judged.judged()
                made.learn([*map(to_native, accepted)], [*map(to_native, rejected)])
            return made

        known = self._in_view(store, view)

        def found(task: _Search) -> None:
            self._review.after_all(lambda: self._on_found(task, store))

        self._task = _Search(make, to_native(view), known, found)
        self._task.start()

    def _examples(self, store: OpenStore) -> _Polygons | None:
        """Return the selected polygons of the target layer or, without any, the proposal; None if there is none."""
        layer, result = self._dock.layer, self._controller.drawing.result
        if layer is not None and layer.selectedFeatureCount():
            return _polygons(layer, QgsFeatureRequest().setFilterFids(layer.selectedFeatureIds()), store)
        if result is None or result.geometry.is_empty:
            return None
        example = store.metadata.raster.transform.inverse().apply_geometry(result.geometry)
        return lambda: [example]

    def _in_view(self, store: OpenStore, view: BaseGeometry) -> _Polygons:
        """Return the polygons of the target layer in view."""
        layer = self._dock.layer
        if layer is None:
            return lambda: []
        seen = transform_polygon(view, transform(store.crs, layer.crs()))
        return _polygons(layer, QgsFeatureRequest().setFilterRect(QgsRectangle(*seen.bounds)), store)

    def _on_filled(self) -> None:
        if self._layer is not None and self._review.layer is not self._layer:
            self._layer = None

    def _on_found(self, task: _Search, store: OpenStore) -> None:
        if task is not self._task:
            return
        self._task = None
        if task.error is not None:
            self.failed.emit(task.error)
        if task.finder is None:
            return
        self._finder = task.finder
        to_map = store.metadata.raster.transform.apply_geometry
        polygons = [to_map(item.polygon) for item in task.found]
        likeness, score = ([getattr(item, name) for item in task.found] for name in ("likeness", "score"))
        previous, self._layer = self._layer, None
        name = tr("Similar objects")
        if previous is not None and self._is_of_user(previous, name):
            previous = None
        layer = candidate_layer(name, store.crs, polygons, likeness=likeness, score=score)
        QgsProject.instance().addMapLayer(layer)
        self._review.fill(layer, tr("F: keep searching"))
        self._layer, self._is_edited = layer, False
        layer.editingStarted.connect(self._on_edited)
        if previous is not None:
            QgsProject.instance().removeMapLayer(previous)

    def _on_edited(self) -> None:
        self._is_edited = True

    def _is_of_user(self, layer: QgsVectorLayer, name: str) -> bool:
        """Tell whether the user has edited, renamed or saved a result, or draws into it."""
        is_as_made = layer.name() == name and layer.providerType() == "memory"
        return self._is_edited or not is_as_made or layer is self._dock.layer


def _polygons(layer: QgsVectorLayer, request: QgsFeatureRequest, store: OpenStore) -> _Polygons:
    """Return what reads polygons of a layer."""
    source, way = QgsVectorLayerFeatureSource(layer), transform(layer.crs(), store.crs)
    to_native = store.metadata.raster.transform.inverse().apply_geometry
    request.setSubsetOfAttributes([])

    def read() -> list[BaseGeometry]:
        polygons = [from_qgs(feature.geometry()) for feature in source.getFeatures(request)]
        return [to_native(transform_polygon(polygon, way)) for polygon in polygons if not polygon.is_empty]

    return read
