"""Keeps the polygon being drawn fitted to the target layer, so that what is shown is what will be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qgis.core import QgsVectorLayer
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QObject, QTimer

from ...errors import GeoSamError
from ...qgis_support.coverage_mode import CoverageMode
from ...qgis_support.settings import Settings
from ..canvas.controller import SegmentationController
from ..panel.dock import SegmentDock
from ..stores.open_store import pixel_area_m2
from .coverage import LayerCoverage
from .layer_geometry import AcceptOptions, LayerFitting, avoids_overlaps, overlap_rules
from .refining import Refining

__all__ = ["Fitter", "FollowedLayers", "changes_of"]


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
        self._followed = FollowedLayers(self._on_change)
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
        self._followed.follow()

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
        avoided = overlap_rules()
        if self._followed.follow(layer, *avoided[1]):
            self._key = None
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

    def _on_change(self, *_: object) -> None:
        self._key = None
        self._soon.start()

    def _refit(self) -> None:
        # The polygon being written is not its own neighbour while its form is open.
        if not self._followed.are_edited:
            self._controller.refit()

    def _soon_again(self, *_: object) -> None:
        self._soon.start()


class FollowedLayers:
    """Calls a function when the polygons of some layers have changed."""

    def __init__(self, on_change: Callable[..., None]) -> None:
        self._on_change = on_change
        self._layers: list[QgsVectorLayer] = []

    def follow(self, *wanted: QgsVectorLayer | None) -> bool:
        """Follow these layers instead of those before, and return whether they are others."""
        layers = [layer for layer in dict.fromkeys(wanted) if layer is not None]
        if layers == self._layers:
            return False
        for layer in self._alive():
            for signal in changes_of(layer):
                signal.disconnect(self._on_change)
        self._layers = layers
        for layer in layers:
            for signal in changes_of(layer):
                signal.connect(self._on_change)
        return True

    @property
    def are_edited(self) -> bool:
        """Whether an edit is being made in one of them."""
        return any(layer.isEditCommandActive() for layer in self._alive())

    def _alive(self) -> list[QgsVectorLayer]:
        return [layer for layer in self._layers if not sip.isdeleted(layer)]


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
