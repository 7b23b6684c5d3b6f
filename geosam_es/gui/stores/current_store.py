"""The open stores, the one that answers, the one being opened, and the thread that reads from them."""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from qgis.core import QgsMapLayer, QgsProject
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QObject, QTimer, pyqtSignal

from ...errors import GeoSamError, StoreError
from ...inference.runtime import load_onnxruntime
from ...qgis_support.layer_source import LayerSource
from ...qgis_support.live_store import LiveOptions, LiveStore, live_options, store_cache
from ...qgis_support.messages import tr
from ...qgis_support.settings import Settings
from ...store.metadata import read_metadata
from ...store.signature import has_same_tiles
from .open_store import (
    OpenStore,
    OpenStoreTask,
    Place,
    follow_layer_crs,
    project_raster,
    project_rasters,
    store_beside,
)
from .worker import Job, Worker

__all__ = ["CurrentStore"]

_MOST_OPEN = 8
"""Stores kept open, so that going back to a raster takes no time."""

Value = TypeVar("Value")


class CurrentStore(QObject):
    """Owns the open stores and the thread that reads from them, and opens stores in the background.

    One of the stores is the current one, which answers. The others stay open; those used least recently are closed.

    Signals
    -------
    changed : OpenStore or None
        Another store is the current one, or none is.
    opened
        A store was opened, or the CRS of its layer was followed; sent after ``changed``. What waits for a store asks
        again.
    closed
        All stores were closed; sent before ``changed``. What waits for a store is out of date.
    updated : OpenStore
        The current store has another decoder or CRS.
    refused : GeoSamError
        A store cannot be opened. The current one stays.
    failed : GeoSamError
        The work given to `run` failed, or a store cannot be opened and another one takes its place.
    noticed : str
        Something the user should know about the store just opened.
    """

    changed = pyqtSignal(object)
    opened = pyqtSignal()
    closed = pyqtSignal()
    updated = pyqtSignal(object)
    refused = pyqtSignal(object)
    failed = pyqtSignal(object)
    noticed = pyqtSignal(str)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.worker = Worker(self)
        # By the key of the raster, or by the path of a store that fits none; the one used last is the last one.
        self._stores: OrderedDict[Hashable, OpenStore] = OrderedDict()
        self._current: Hashable | None = None
        # The stores that the user opened, and the rasters whose store beside them cannot be used.
        self._chosen: dict[Hashable, Place] = {}
        self._without: set[Hashable] = set()
        self._task: OpenStoreTask | None = None
        self._layer: QgsMapLayer | None = None
        self._closing: deque[OpenStore] = deque()
        # The panel shows the store first: together with the prompts that wait, it would hold the window too long.
        self._then = QTimer(self)
        self._then.setSingleShot(True)
        self._then.timeout.connect(self.opened.emit)
        QgsProject.instance().layersRemoved.connect(self._on_layers_removed)

    @property
    def store(self) -> OpenStore | None:
        """The current store."""
        return self._stores[self._current] if self._current is not None else None

    @property
    def chosen(self) -> list[OpenStore]:
        """The open stores that the user opened, the one used last first."""
        return [store for key, store in reversed(self._stores.items()) if key in self._chosen]

    @property
    def is_opening(self) -> bool:
        """Whether a store is being opened."""
        return self._task is not None

    def is_opening_for(self, raster: LayerSource) -> bool:
        """Tell whether the store of a raster is being opened."""
        wanted = raster.key
        opening = self._task.rasters if self._task is not None and not self._task.is_chosen else []
        return any(other.key == wanted for other in opening)

    def is_current(self, raster: LayerSource) -> bool:
        """Tell whether the current store is that of a raster."""
        return raster.key == self._current

    @property
    def is_gone(self) -> bool:
        """Whether the current store was deleted, or replaced by one with other tiles."""
        return self.store is not None and _is_gone(self.store)

    def find(self, raster: LayerSource) -> OpenStore | None:
        """Return the open store of a raster, or None. It has the CRS of the raster's layer, and was not deleted."""
        store = self._stores.get(raster.key)
        if store is not None and _is_gone(store):
            return None
        is_same = store is not None and store.raster is not None and store.raster.crs_wkt == raster.crs_wkt
        return store if is_same else None

    def can_open_quickly(self, raster: LayerSource) -> bool:
        """Tell whether a raster has a store that is not open, so that opening it writes nothing."""
        key = raster.key
        if key in self._stores or self.is_opening:
            return False
        if key in self._chosen:
            return True
        if key in self._without:
            return False
        return store_beside(raster) is not None or store_cache(LiveOptions()).may_have(raster.cache_name)

    def open(
        self,
        path: Place | None,
        rasters: list[LayerSource],
        options: LiveOptions | None = None,
        neighbours: Sequence[Path] = (),
    ) -> None:
        """Begin to open a store for the user, instead of any that is being opened; it becomes the current one.

        A store given by its path answers for its raster until the project is closed, and where no raster layer is
        visible. See `OpenStoreTask` for the parameters; the options are
        by default those of the user.
        """
        self.cancel_opening()
        self._begin(path, rasters, options, is_chosen=True, neighbours=neighbours)

    def request(self, raster: LayerSource, options: LiveOptions | None = None) -> None:
        """Begin to open the store of a raster, unless a store is being opened.

        It is the one that the user opened, or the one beside the raster, or one that is made. It becomes the current
        one only if there is none.
        """
        key = raster.key
        if key in self._stores and not _is_gone(self._stores[key]):
            self._follow(key, raster, self.refused.emit)
        elif self._task is None:
            path: Place | None = self._chosen.get(key)
            if path is None and key not in self._without:
                path = store_beside(raster)
            self._begin(path, [raster], options, is_chosen=False)

    def _begin(
        self,
        path: Place | None,
        rasters: list[LayerSource],
        options: LiveOptions | None,
        is_chosen: bool,
        neighbours: Sequence[Path] = (),
    ) -> None:
        settings = Settings()
        threads = settings.decoder_threads or None
        task = OpenStoreTask(path, rasters, options or live_options(settings), threads, is_chosen, neighbours)
        task.opened.connect(self._on_opened)
        task.refused.connect(self._on_refused)
        self._task = task
        task.start()

    def cancel_opening(self) -> None:
        """Stop opening a store."""
        if self._task is not None:
            task, self._task = self._task, None
            for signal in (task.opened, task.refused):
                signal.disconnect()
            task.cancel()

    def select(self, store: OpenStore | None) -> None:
        """Make an open store the current one, or none; the others stay open."""
        if store is not self.store:
            self._select(None if store is None else _key_of(store))

    def close_all(self) -> None:
        """Close all stores, and forget which ones the user opened."""
        self.cancel_opening()
        self._then.stop()
        self._chosen.clear()
        self._without.clear()
        stores = list(self._stores.values())
        self._current = None
        self._stores.clear()
        self.worker.interrupt()
        self._close(stores)
        self._watch(None)
        self.closed.emit()
        self.changed.emit(None)

    def update(self, store: OpenStore) -> None:
        """Replace the current store by the same one with another decoder or CRS."""
        if self._current is not None:
            self._stores[self._current] = store
            self.updated.emit(store)

    def relocate(self, live: LiveStore) -> None:
        """Take note that a store that is filled on demand has moved."""
        for key, store in self._stores.items():
            if store.live is live:
                self._stores[key] = replace(store, path=live.root)
                if key == self._current:
                    self.updated.emit(self.store)

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
        """End the thread and close the stores; nothing works afterwards."""
        QgsProject.instance().layersRemoved.disconnect(self._on_layers_removed)
        self.cancel_opening()
        self._then.stop()
        self._watch(None)
        self.worker.stop()
        self._current = None
        self._closing.extend(self._stores.values())
        self._stores.clear()
        self._close_former()

    def _select(self, key: Hashable | None) -> None:
        self._current = key
        if key is not None:
            self._stores.move_to_end(key)
        store = self.store
        self._watch(store.raster if store is not None else None)
        self.changed.emit(store)
        self._catch_up()

    def _close(self, stores: list[OpenStore]) -> None:
        """Close stores in the thread that may be reading from them."""
        if stores:
            self._closing.extend(stores)
            self.worker.set_look_ahead([])
            self.worker.post(Job(self._close_former))

    def _close_former(self) -> None:
        while self._closing:
            self._closing.popleft().close()

    def _on_opened(self, store: OpenStore, notice: str) -> None:
        task, self._task = self._task, None
        key = _key_of(store)
        former = self._stores.pop(key, None)
        self._stores[key] = store
        is_chosen = task is not None and task.is_chosen
        if task is not None and is_chosen and task.path is not None:
            self._chosen[key] = task.path
        if is_chosen or self._current in (None, key):
            self._select(key)
        old = [known for known in self._stores if known != self._current][: max(0, len(self._stores) - _MOST_OPEN)]
        self._close([self._stores.pop(known) for known in old] + ([former] if former is not None else []))
        self._then.start()
        if store.raster is None and task is not None and task.rasters:
            notice = tr(
                "No layer of the project shows {name}. Its prepared image answers where no raster layer is visible."
            ).format(name=store.metadata.raster.file_name)
        if notice:
            self.noticed.emit(notice)

    def _on_refused(self, error: GeoSamError) -> None:
        task, self._task = self._task, None
        if task is None or task.is_chosen or task.path is None:
            self.refused.emit(error)
            return
        # Who waits for it asks again, and gets a store that is made.
        key = task.rasters[0].key
        self._chosen.pop(key, None)
        self._without.add(key)
        self.failed.emit(error)
        self.opened.emit()

    def _on_layers_removed(self, layer_ids: list[str]) -> None:
        """Close the stores of layers that are gone; one that the user opened stays, without a layer."""
        task = self._task
        if task is not None and not task.is_chosen and task.rasters[0].layer_id in layer_ids:
            self.cancel_opening()
            self.opened.emit()
        gone = [
            key
            for key, store in self._stores.items()
            if store.raster is not None and store.raster.layer_id in layer_ids
        ]
        # Another layer of the same image takes its place.
        others = {raster.key: raster for raster in project_rasters()} if gone else {}
        for key in gone:
            store, other = self._stores[key], others.get(key)
            if other is not None and store.raster is not None:
                raster = replace(store.raster, layer_id=other.layer_id)
                self._stores[key] = replace(store, raster=raster)
                if key == self._current:
                    self._watch(raster)
                    self._catch_up()
            elif key not in self._chosen:
                if key == self._current:
                    self._select(None)
                self._close([self._stores.pop(key)])

    def _watch(self, raster: LayerSource | None) -> None:
        """Follow the CRS of the raster's layer."""
        if self._layer is not None and not sip.isdeleted(self._layer):
            self._layer.crsChanged.disconnect(self._on_layer_crs)
        self._layer = QgsProject.instance().mapLayer(raster.layer_id) if raster is not None else None
        if self._layer is not None:
            self._layer.crsChanged.connect(self._on_layer_crs)

    def _on_layer_crs(self) -> None:
        raster = project_raster(self._layer)
        if raster is not None and self.is_current(raster):
            self._follow(raster.key, raster, self.failed.emit)

    def _catch_up(self) -> None:
        """Follow the layer if its CRS has changed since the current store was compared with it."""
        store = self.store
        if store is None or store.raster is None or self._layer is None or sip.isdeleted(self._layer):
            return
        raster = project_raster(self._layer)
        if raster is not None and raster.crs_wkt != store.raster.crs_wkt:
            self._on_layer_crs()

    def _follow(self, key: Hashable, raster: LayerSource, failed: Callable[[GeoSamError], None]) -> None:
        """Take the CRS of a layer of the same raster."""
        work = partial(follow_layer_crs, replace(self._stores[key], raster=raster))
        self.worker.post(Job(work, partial(self._on_crs, key, self._stores[key].path), failed))

    def _on_crs(self, key: Hashable, path: Path, followed: tuple[OpenStore, str]) -> None:
        store, notice = followed
        now = self._stores.get(key)
        if now is None or now.path != path:
            self.opened.emit()
            return
        self._stores[key] = replace(now, crs=store.crs, raster=store.raster)
        if key == self._current:
            self._watch(store.raster)
            if notice:
                self.updated.emit(self.store)
        if notice:
            self.noticed.emit(notice)
        self._catch_up()
        self.opened.emit()


def _key_of(store: OpenStore) -> Hashable:
    return store.path if store.raster is None else store.raster.key


def _is_gone(store: OpenStore) -> bool:
    """Tell whether a store was deleted, or replaced by one with other tiles, so that it is to be opened again."""
    if store.live is not None:
        return not store.live.is_there
    if store.segmenter.reader.remote is None:
        # The answer to a prompt says what is wrong with one that cannot be read.
        with suppress(StoreError):
            return not has_same_tiles(read_metadata(store.path), store.metadata)
    return False
