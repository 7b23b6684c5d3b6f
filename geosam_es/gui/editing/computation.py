"""Computes a change of a layer in a thread. The gestures of the map tool wait until it is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from qgis.core import QgsVectorLayer
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ...errors import EditError, GeoSamError
from ...qgis_support.messages import tr
from ..canvas.controller import SegmentationController
from ..stores.worker import Job, Worker
from .fitter import changes_of
from .layer_geometry import geos_errors

__all__ = ["Computation"]

Value = TypeVar("Value")


class Computation(QObject):
    """Computes one change at a time, in a thread of its own.

    Parameters
    ----------
    controller : SegmentationController
    remedy : str
        What the user does if the layer was changed meanwhile.

    Signals
    -------
    ended
        The computation has ended, or was given up; nothing is written yet.
    failed : GeoSamError
    """

    ended = pyqtSignal()
    failed = pyqtSignal(object)

    def __init__(self, controller: SegmentationController, remedy: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._controller = controller
        self._remedy = remedy
        self._worker = Worker(self)
        self._job: Job[Any] | None = None
        self._layer: QgsVectorLayer | None = None

    @property
    def is_running(self) -> bool:
        """Whether a change is being computed."""
        return self._job is not None

    def start(self, layer: QgsVectorLayer, run: Callable[[], Value], write: Callable[[Value], None]) -> None:
        """Call a function in the thread, and one that writes its value, unless the layer changes meanwhile."""

        def done(value: Value) -> None:
            if self._job is not job:
                return
            held = self.stop()
            try:
                write(value)
            except GeoSamError as error:
                self.failed.emit(error)
                return
            for gesture in held:
                gesture()

        def failed(error: GeoSamError) -> None:
            if self._job is job:
                self.stop()
                self.failed.emit(error)

        job = self._job = Job(geos_errors()(run), done, failed)
        self._layer = layer
        for signal in changes_of(layer):
            signal.connect(self._on_change)
        self._controller.pause()
        self._worker.post(job)

    def stop(self) -> list[Callable[[], None]]:
        """Give up what is being computed, and return the gestures that waited for it."""
        layer, self._layer, self._job = self._layer, None, None
        if layer is None:
            return []
        for signal in changes_of(layer) if not sip.isdeleted(layer) else ():
            signal.disconnect(self._on_change)
        self.ended.emit()
        return self._controller.resume()

    def release(self) -> None:
        """End the thread."""
        self.stop()
        self._worker.stop()

    def _on_change(self, *_: object) -> None:
        self.stop()
        self.failed.emit(EditError(tr("The layer was changed meanwhile"), self._remedy))
