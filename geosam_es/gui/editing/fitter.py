"""Keeps the polygon being drawn fitted to the target layer, so that what is shown is what will be written."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsProject, QgsVectorLayer
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QObject, QTimer

from ...errors import GeoSamError
from ...qgis_support.coverage_mode import CoverageMode
from ...qgis_support.settings import Settings
from ..canvas.controller import SegmentationController
from ..panel.dock import SegmentDock
from ..stores.open_store import pixel_area_m2
from .coverage import LayerCoverage
from .layer_geometry import AcceptOptions, LayerFitting, avoids_overlaps
from .refining import Refining

__all__ = ["Fitter", "changes_of"]


class Fitter(QObject):
    """Takes a snapshot of the layers for the worker's thread, and a new one after their polygons have changed."""

    def __init__(
        self,
        controller: SegmentationController,
        refining: Refining,
        dock: SegmentDock,
        settings: Settings,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._controller = controller
        self._refining = refining
        self._dock = dock
        self._settings = settings
        self._layers: list[QgsVectorLayer] = []
        self._key: tuple[Any, ...] | None = None
        self._fitting: LayerFitting | None = None
        # Many features may change at once.
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(0)
        self._soon.timeout.connect(self._refit)
        dock.layer_chosen.connect(self._soon_again)
        dock.options_box.changed.connect(self._soon_again)
        refining.changed.connect(self._soon_again)
        # Each class may have a minimum mapping unit.
        dock.class_box.colour_changed.connect(self._soon_again)
        controller.fit_with(self.fitting)

    def release(self) -> None:
        """Stop following layers."""
        self._soon.stop()
        self._follow()

    def fitting(self) -> LayerFitting | None:
        """Return how polygons are fitted to the layer now; the same object until something changes.

        None without an option that changes polygons, or if they cannot be fitted; accepting says why.
        """
        store, options = self._controller.store, AcceptOptions.of(self._settings)
        refined = self._refining.current
        layer = refined.layer if refined is not None else self._dock.layer
        if layer is not None and sip.isdeleted(layer):
            layer = refined = None
        mode = CoverageMode.of(layer)
        if store is None or not (options.change_polygons or mode.is_on or avoids_overlaps()):
            return None
        try:
            skip = refined.locate() if refined is not None else None
        except GeoSamError:
            skip = None
        project = QgsProject.instance()
        avoided = project.avoidIntersectionsMode(), tuple(project.avoidIntersectionsLayers())
        self._follow(layer, *avoided[1])
        crs = layer.crs().toWkt() if layer is not None else ""
        class_fields = self._dock.class_box.class_fields if mode.is_on and layer is self._dock.layer else []
        chosen = self._refining.attributes() if refined is not None else self._dock.class_box.attributes()
        class_name = LayerCoverage.class_name(chosen.get(name) for name in class_fields)
        key = (layer, crs, skip, options, store.path, store.crs.toWkt(), mode, class_name, avoided)
        if key != self._key:
            self._key = key
            try:
                pixel_m = pixel_area_m2(store) ** 0.5
                coverage = LayerCoverage(layer, mode, class_fields) if layer is not None and mode.is_on else None
                self._fitting = LayerFitting(
                    *(layer, store.crs, options, skip, pixel_m),
                    avoids=True,
                    coverage=coverage,
                    class_name=class_name,
                )
            except GeoSamError:
                self._fitting = None
        return self._fitting

    def _follow(self, *wanted: QgsVectorLayer | None) -> None:
        layers = [layer for layer in dict.fromkeys(wanted) if layer is not None]
        if layers == self._layers:
            return
        for layer in self._alive():
            for signal in changes_of(layer):
                signal.disconnect(self._on_change)
        self._layers, self._key = layers, None
        for layer in layers:
            for signal in changes_of(layer):
                signal.connect(self._on_change)

    def _alive(self) -> list[QgsVectorLayer]:
        return [layer for layer in self._layers if not sip.isdeleted(layer)]

    def _on_change(self, *_: object) -> None:
        self._key = None
        self._soon.start()

    def _refit(self) -> None:
        # The polygon being written is not its own neighbour while its form is open.
        if not any(layer.isEditCommandActive() for layer in self._alive()):
            self._controller.refit()

    def _soon_again(self, *_: object) -> None:
        self._soon.start()


def changes_of(layer: QgsVectorLayer) -> list[Any]:
    """Return the signals that the polygons of a layer, or where they are read from, have changed."""
    return [
        layer.featureAdded,
        layer.featureDeleted,
        layer.geometryChanged,
        layer.editCommandEnded,
        layer.editCommandDestroyed,
        layer.afterCommitChanges,
        layer.afterRollBack,
        layer.dataChanged,
        layer.subsetStringChanged,
    ]
