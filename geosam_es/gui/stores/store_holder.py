"""The open store, the one being opened, and the thread that reads from it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ...inference.runtime import load_onnxruntime
from .live_store import LiveOptions
from .open_store import OpenStore, OpenStoreTask, RasterFile
from .worker import Job, Worker

__all__ = ["StoreHolder", "StoreOpener"]


class StoreOpener(QObject):
    """Runs one `OpenStoreTask` at a time; a new one takes the place of the one before.

    Signals
    -------
    opened : OpenStore
    refused : GeoSamError
    """

    opened = pyqtSignal(object)
    refused = pyqtSignal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._task: OpenStoreTask | None = None

    @property
    def is_opening(self) -> bool:
        """Whether a store is being opened."""
        return self._task is not None

    @property
    def path(self) -> Path | None:
        """The store being opened, where it has a name already."""
        return self._task.path if self._task is not None else None

    def open(self, path: Path | None, rasters: list[RasterFile], options: LiveOptions, threads: int | None) -> None:
        """Begin to open a store; see `OpenStoreTask`."""
        self.cancel()
        task = OpenStoreTask(path, rasters, options, threads)
        task.opened.connect(self._on_opened)
        task.refused.connect(self._on_refused)
        task.taskCompleted.connect(self._forget)
        task.taskTerminated.connect(self._forget)
        self._task = task
        QgsApplication.taskManager().addTask(task)

    def cancel(self) -> None:
        """Give up opening a store, and tell nobody."""
        if self._task is not None:
            task, self._task = self._task, None
            for signal in (task.opened, task.refused, task.taskCompleted, task.taskTerminated):
                signal.disconnect()
            task.cancel()

    def _on_opened(self, store: object) -> None:
        self._task = None
        self.opened.emit(store)

    def _on_refused(self, error: object) -> None:
        self._task = None
        self.refused.emit(error)

    def _forget(self) -> None:
        self._task = None


class StoreHolder(QObject):
    """Owns the open store and the thread that reads from it; whoever inherits says what is done there.

    Signals
    -------
    store_changed : OpenStore or None
    failed : GeoSamError
    """

    store_changed = pyqtSignal(object)
    failed = pyqtSignal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._store: OpenStore | None = None
        self._opener = StoreOpener(self)
        self._worker = Worker(self)

    @property
    def store(self) -> OpenStore | None:
        """The open store."""
        return self._store

    @property
    def is_opening(self) -> bool:
        """Whether a store is being opened."""
        return self._opener.is_opening

    @property
    def opening(self) -> Path | None:
        """The store being opened, where it has a name already."""
        return self._opener.path

    def open_store(
        self,
        path: Path | None,
        rasters: list[RasterFile],
        options: LiveOptions | None = None,
        threads: int | None = None,
    ) -> None:
        """Begin to open a store; `store_changed` or `failed` tells how it went, and the open one stays till then.

        Parameters
        ----------
        path : Path, optional
            None for a store that is filled as it is used, of the first raster.
        rasters : list of RasterFile
            What it should fit.
        options : LiveOptions, optional
            For stores that are filled.
        threads : int, optional
            For the decoder.
        """
        self._opener.open(path, rasters, options or LiveOptions(), threads)

    def cancel_opening(self) -> None:
        """Give up opening a store."""
        self._opener.cancel()

    def set_store(self, store: OpenStore | None) -> None:
        """Read from this store from now on."""
        if self._store is not None:
            # By the thread that may be reading from it.
            self._worker.post(Job(self._store.close, "close"))
        self._store = store
        if store is not None and not self._worker.isRunning():
            self._worker.start()
        self.store_changed.emit(store)

    def warm_up(self, then: Callable[[], None]) -> None:
        """Load onnxruntime, for a moment of which nothing else runs, and call ``then`` when it is there."""
        if not self._worker.isRunning():
            self._worker.start()
        if "onnxruntime" in sys.modules:
            then()
        else:
            self.run(load_onnxruntime, lambda _: then())

    def run(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Do something in the thread, and hand what comes of it to ``then`` in this one; errors go to `failed`."""
        self._worker.post(Job(work, "call", then))

    def shutdown(self) -> None:
        """End the thread; nothing works afterwards."""
        self.cancel_opening()
        self._worker.stop()
        if self._store is not None:
            self._store.close()
        self._store = None
