"""Encodes the view or the whole raster while the user goes on working."""

from __future__ import annotations

import shapely
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ...errors import GeoSamError, StoreError
from ...qgis_support.messages import duration, tr
from .encode_task import EncodeTask
from .open_store import OpenStore

__all__ = ["BackgroundEncoding"]


class BackgroundEncoding(QObject):
    """Runs one `EncodeTask` at a time.

    Attributes
    ----------
    store : OpenStore, optional
        The store that is being encoded, or was last.

    Signals
    -------
    progressed : int, str
        Percent, and a text with the tiles done and the time left.
    ended : str
        The outcome, for the user.
    failed : GeoSamError
    """

    progressed = pyqtSignal(int, str)
    ended = pyqtSignal(str)
    failed = pyqtSignal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._task: EncodeTask | None = None
        self.store: OpenStore | None = None

    def start(self, store: OpenStore, view: shapely.Polygon | None = None, finest_level: int = 0) -> None:
        """Encode the view or the whole raster, unless an encoding is running.

        Parameters
        ----------
        store : OpenStore
        view : Polygon, optional
            In the raster's CRS; the whole raster by default.
        finest_level : int
            The finest level to encode; the coarser ones are encoded too.
        """
        if store.live is None:
            model = store.metadata.model["name"]
            problem = tr("This image was prepared with the model {name}, which cannot prepare images here").format(
                name=model
            )
            self.failed.emit(StoreError(problem, tr("continue with: geosam-es encode --resume")))
            return
        if self._task is not None:
            return
        name = store.metadata.raster.file_name
        text = tr("Preparing {name}") if view is None else tr("Preparing the view of {name}")
        task = EncodeTask(store.live, text.format(name=name), view, finest_level)
        task.progressed.connect(self._on_progress)
        task.taskCompleted.connect(self._on_completed)
        task.taskTerminated.connect(self._on_terminated)
        self._task, self.store = task, store
        self.progressed.emit(0, task.description())
        task.start()

    def cancel(self) -> None:
        """Stop after the current tile; the tiles encoded so far are kept."""
        if self._task is not None:
            self._task.cancel()

    def dispose(self) -> None:
        """Stop, and send no more signals."""
        if self._task is not None:
            task, self._task = self._task, None
            for signal in (task.progressed, task.taskCompleted, task.taskTerminated):
                signal.disconnect()
            task.cancel()

    def _on_progress(self, done: int, total: int, seconds: float) -> None:
        text = tr("{done} of {total} tiles, {time} left").format(done=done, total=total, time=duration(seconds))
        self.progressed.emit(100 * done // max(total, 1), text)

    def _on_completed(self) -> None:
        self._task = None
        self.ended.emit(tr("Preparation finished"))

    def _on_terminated(self) -> None:
        task, self._task = self._task, None
        error: GeoSamError | None = task.error if task is not None else None
        self.ended.emit(tr("Stopped. The tiles prepared so far are kept."))
        if error is not None:
            self.failed.emit(error)
