"""The open store, the one being opened, and the thread that reads from it."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from qgis.core import QgsMapLayer, QgsProject
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ...errors import GeoSamError
from ...inference.runtime import load_onnxruntime
from .live_store import LiveOptions
from .open_store import OpenStore, OpenStoreTask, ProjectRaster, follow_layer_crs, project_raster
from .worker import Job, Worker

__all__ = ["CurrentStore"]

Value = TypeVar("Value")


class CurrentStore(QObject):
    """Owns the open store and the thread that reads from it, and opens stores in the background.

    Attributes
    ----------
    worker : Worker

    Signals
    -------
    changed : OpenStore or None
        Another store was opened, or the store was closed.
    opened
        The store requested with `open` is open; sent after ``changed``.
    updated : OpenStore
        The open store has another decoder or CRS.
    refused : GeoSamError
        The store requested with `open` cannot be opened. The current one stays open.
    failed : GeoSamError
        The work given to `run` failed.
    noticed : str
        The store was changed to fit its layer; says how.
    """

    changed = pyqtSignal(object)
    opened = pyqtSignal()
    updated = pyqtSignal(object)
    refused = pyqtSignal(object)
    failed = pyqtSignal(object)
    noticed = pyqtSignal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.worker = Worker(self)
        self._store: OpenStore | None = None
        self._task: OpenStoreTask | None = None
        self._layer: QgsMapLayer | None = None
        self._closing: deque[OpenStore] = deque()

    @property
    def store(self) -> OpenStore | None:
        """The open store."""
        return self._store

    @property
    def is_opening(self) -> bool:
        """Whether a store is being opened."""
        return self._task is not None

    @property
    def opening(self) -> Path | None:
        """The store being opened; None if it has no name yet."""
        return self._task.path if self._task is not None else None

    def open(
        self,
        path: Path | None,
        rasters: list[ProjectRaster],
        options: LiveOptions | None = None,
        threads: int | None = None,
    ) -> None:
        """Begin to open a store, instead of any that is being opened; see `OpenStoreTask` for the parameters."""
        self.cancel_opening()
        task = OpenStoreTask(path, rasters, options or LiveOptions(), threads)
        task.opened.connect(self._on_opened)
        task.refused.connect(self._on_refused)
        task.taskCompleted.connect(self._forget_task)
        task.taskTerminated.connect(self._forget_task)
        self._task = task
        task.start()

    def cancel_opening(self) -> None:
        """Stop opening a store."""
        if self._task is not None:
            task, self._task = self._task, None
            for signal in (task.opened, task.refused, task.taskCompleted, task.taskTerminated):
                signal.disconnect()
            task.cancel()

    def set(self, store: OpenStore | None) -> None:
        """Read from this store from now on, and close the previous one."""
        if self._store is not None:
            # By the thread that may be reading from it.
            self._closing.append(self._store)
            self.worker.interrupt()
            self.worker.post(Job(self._close_former))
        self._store = store
        self._watch(store.raster if store is not None else None)
        self.changed.emit(store)
        self._catch_up()

    def update(self, store: OpenStore) -> None:
        """Replace the open store by the same one with another decoder or CRS."""
        self._store = store
        self.updated.emit(store)

    def follow(self, raster: ProjectRaster) -> None:
        """Take the CRS of another layer of the same raster."""
        store = self._store
        if store is not None:
            self._watch(raster)
            self.run(partial(follow_layer_crs, replace(store, raster=raster)), partial(self._on_crs, store.path))

    def run(self, work: Callable[[], Value], done: Callable[[Value], None]) -> None:
        """Call ``work`` in the worker's thread and ``done`` with its value in this one; errors go to ``failed``."""
        self.worker.post(Job(work, done, self.failed.emit))

    def warm_up(self, done: Callable[[], None]) -> None:
        """Load onnxruntime, then call ``done``."""
        if "onnxruntime" in sys.modules:
            done()
        else:
            self.run(load_onnxruntime, lambda _: done())

    def shutdown(self) -> None:
        """End the thread and close the store; nothing works afterwards."""
        self.cancel_opening()
        self._watch(None)
        self.worker.stop()
        if self._store is not None:
            self._closing.append(self._store)
        self._store = None
        self._close_former()

    def _close_former(self) -> None:
        while self._closing:
            self._closing.popleft().close()

    def _on_opened(self, store: OpenStore, notice: str) -> None:
        self._task = None
        self.set(store)
        self.opened.emit()
        if notice:
            self.noticed.emit(notice)

    def _on_refused(self, error: GeoSamError) -> None:
        self._task = None
        self.refused.emit(error)

    def _forget_task(self) -> None:
        self._task = None

    def _watch(self, raster: ProjectRaster | None) -> None:
        """Follow the CRS of the raster's layer."""
        if self._layer is not None and not sip.isdeleted(self._layer):
            self._layer.crsChanged.disconnect(self._on_layer_crs)
        self._layer = QgsProject.instance().mapLayer(raster.layer_id) if raster is not None else None
        if self._layer is not None:
            self._layer.crsChanged.connect(self._on_layer_crs)

    def _on_layer_crs(self) -> None:
        raster = project_raster(self._layer)
        if raster is not None:
            self.follow(raster)

    def _catch_up(self) -> None:
        """Follow the layer if its CRS has changed since the open store was compared with it."""
        if self._store is None or self._store.raster is None or self._layer is None or sip.isdeleted(self._layer):
            return
        raster = project_raster(self._layer)
        if raster is not None and raster.source.crs_wkt != self._store.raster.source.crs_wkt:
            self.follow(raster)

    def _on_crs(self, path: Path, followed: tuple[OpenStore, str]) -> None:
        store, notice = followed
        if self._store is None or self._store.path != path:
            return
        if notice:
            self.update(replace(self._store, crs=store.crs, raster=store.raster))
            self.noticed.emit(notice)
        else:
            self._store = replace(self._store, raster=store.raster)
        self._catch_up()
