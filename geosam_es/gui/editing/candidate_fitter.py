"""Fits a polygon under review to the target layer, in another thread where that may take long."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

from qgis.core import QgsCoordinateReferenceSystem, QgsVectorLayer
from qgis.PyQt.QtCore import QObject, QTimer, pyqtSignal
from shapely.geometry.base import BaseGeometry

from ...errors import EditError, GeoSamError
from ...qgis_support.classes import min_areas
from ...qgis_support.coverage_mode import CoverageMode
from ...qgis_support.messages import tr
from ...qgis_support.settings import Settings
from ..canvas.drawing import Fitted
from ..panel.dock import SegmentDock
from .coverage import LayerCoverage
from .edits import AcceptOptions
from .fitter import FollowedLayers
from .layer_geometry import LayerFitting, avoids_overlaps, overlap_rules

__all__ = ["CandidateFitter"]


class CandidateFitter(QObject):
    """Keeps a candidate fitted to the target layer, with the class in the panel.

    Attributes
    ----------
    fitted : Fitted, optional
        The candidate as accepting would write it; None while another thread fits it, and without a candidate.

    Signals
    -------
    changed
        `fitted` is another one, or None.
    """

    changed = pyqtSignal()
    _ended = pyqtSignal(object)

    def __init__(self, dock: SegmentDock, settings: Settings, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._dock = dock
        self._settings = settings
        self.fitted: Fitted | None = None
        self._candidate: tuple[BaseGeometry, QgsVectorLayer] | None = None
        # What `fitted` depends on; None after a change of the layers.
        self._needed: tuple[Any, ...] | None = None
        self._running: Future[Fitted] | None = None
        self._thread = ThreadPoolExecutor(1)
        self._ended.connect(self._on_ended)
        self._followed = FollowedLayers(self._on_change)
        # Many features may change at once.
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(0)
        self._soon.timeout.connect(self._refit_changed)
        dock.class_box.colour_changed.connect(self.refit)
        dock.layer_chosen.connect(self.refit)
        dock.options_box.changed.connect(self.refit)

    def release(self) -> None:
        """Stop for good, and end the thread."""
        self.forget()
        self._followed.follow()
        self._soon.stop()
        self._thread.shutdown()

    def fit(self, polygon: BaseGeometry, layer: QgsVectorLayer) -> None:
        """Fit another candidate, a polygon of this layer."""
        self.forget()
        self._candidate = polygon, layer
        self.refit()

    def forget(self) -> None:
        """Fit no candidate."""
        self._stop()
        self._candidate = self._needed = self.fitted = None

    @property
    def is_current(self) -> bool:
        """Whether the candidate is fitted to the layers as they are now."""
        return self.fitted is not None and self._needed is not None

    def wait(self, seconds: float) -> bool:
        """Wait for the thread, no longer than this, and return whether it has ended."""
        if self._running is not None and wait([self._running], seconds).done:
            self._on_ended(self._running)
        return self._running is None

    def refit(self, *_: object) -> None:
        """Fit the candidate again if something that it depends on has changed."""
        if self._candidate is None:
            return
        polygon, layer = self._candidate
        crs = layer.crs()
        attributes = self._dock.class_box.attributes()
        target, mode, options = self._dock.layer, CoverageMode.of(self._dock.layer), AcceptOptions.of(self._settings)
        areas = min_areas(target) if target is not None and mode.is_on else {}
        avoided = overlap_rules()
        self._followed.follow(target, *avoided[1])
        # But for the polygons of the layers.
        systems = [known.crs().toWkt() for known in (layer, target) if known is not None]
        needed = polygon, systems, dict(attributes), target, mode, areas, options, avoided
        if needed == self._needed:
            return
        self._stop()
        self._needed, self.fitted = needed, None
        fit = self.fitting(polygon, crs, attributes)
        if options.change_polygons or mode.is_on or avoids_overlaps():
            self._running = self._thread.submit(fit)
            self._running.add_done_callback(self._ended.emit)
        else:
            self.fitted = fit()
        self.changed.emit()

    def fitting(
        self, polygon: BaseGeometry, crs: QgsCoordinateReferenceSystem, attributes: Mapping[str, Any]
    ) -> Callable[[], Fitted]:
        """Return what gives a polygon as accepting it now would write it, or why it cannot be; for any thread."""
        target, mode = self._dock.layer, CoverageMode.of(self._dock.layer)
        try:
            fields = self._dock.class_box.class_fields if mode.is_on else []
            coverage = LayerCoverage(target, mode, fields) if target is not None and mode.is_on else None
            name = LayerCoverage.class_name(attributes.get(field) for field in fields)
            options = AcceptOptions.of(self._settings)
            fitting = LayerFitting(target, crs, options, avoids=True, coverage=coverage, class_name=name)
        except GeoSamError as error:
            return partial(Fitted, None, crs, lambda _polygon, _keeps: self.fitting(polygon, crs, attributes)(), error)

        def fit() -> Fitted:
            try:
                return fitting(polygon, True)
            # Whatever GEOS or QGIS raises, the review goes on.
            except Exception as error:
                problem = tr("The polygon cannot be fitted to the layer ({reason})").format(reason=repr(error))
                remedy = tr("turn off the options under Shape and borders, or correct the polygons around it")
                return Fitted(None, crs, fitting, EditError(problem, remedy))

        return fit

    def _stop(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.cancel()

    def _on_ended(self, ended: Future[Fitted]) -> None:
        if ended is self._running:
            self._running, self.fitted = None, ended.result()
            self.changed.emit()

    def _on_change(self, *_: object) -> None:
        self._needed = None
        self._soon.start()

    def _refit_changed(self) -> None:
        # The polygon being written is not its own neighbour while its form is open.
        if not self._followed.are_edited:
            self.refit()
