"""The decoders of the open store: which one answers, and which one to compare it with."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import shapely
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ...errors import GeoSamError
from ...inference.decoder import load_decoder
from ...inference.segmenter import Segmenter
from ...inference.session import Result, with_decoder
from ...qgis_support.settings import Settings
from ...store.decoders import StoreDecoder, install_decoder, list_decoders, use_decoder
from .current_store import CurrentStore
from .open_store import OpenStore
from .worker import Job, ignore

__all__ = ["Comparison", "DecoderChoice", "DecoderState", "LoadedDecoders"]

_KEPT = 2
"""Decoders kept in memory with the tiles they have prepared: the one that answers, and the one to compare with."""


@dataclass(frozen=True)
class Comparison:
    """The answer of a second decoder to the prompts of the object being drawn.

    Attributes
    ----------
    decoder : str
        Its name.
    result : Result
    agreement : float
        IoU of the two polygons, 0 to 1.
    difference : Polygon or MultiPolygon
        The area that is in only one of them.
    """

    decoder: str
    result: Result
    agreement: float
    difference: shapely.Polygon | shapely.MultiPolygon


@dataclass(frozen=True)
class DecoderState:
    """The decoders to choose from, and the choice.

    Attributes
    ----------
    decoders : tuple of StoreDecoder
        Empty if no store is open.
    chosen : str
        The one that answers.
    other : str
        The one to compare it with; empty if there is none.
    """

    decoders: tuple[StoreDecoder, ...] = ()
    chosen: str = ""
    other: str = ""

    def find(self, name: str) -> StoreDecoder | None:
        """Return the decoder of a name, or None."""
        return next((decoder for decoder in self.decoders if decoder.name == name), None)


class LoadedDecoders:
    """The decoders of a store that were used most recently; for the worker's thread only."""

    def __init__(self, store: OpenStore, threads: int | None) -> None:
        self._first = store.segmenter
        self._threads = threads
        self._segmenters = OrderedDict({store.decoder: store.segmenter})

    def segmenter(self, decoder: StoreDecoder) -> Segmenter:
        """Return the segmenter of a decoder, loading the decoder if needed."""
        known = self._segmenters.pop(decoder.name, None) or with_decoder(self._first, decoder, self._threads)
        self._segmenters[decoder.name] = known
        while len(self._segmenters) > _KEPT:
            self._segmenters.popitem(last=False)
        return known


class DecoderChoice(QObject):
    """Lists the decoders of the open store, remembers the choice, and adds decoders.

    Attributes
    ----------
    state : DecoderState

    Signals
    -------
    changed : DecoderState
    switching : str, callable
        The user chose the decoder of this name. The callable returns its segmenter, which may take a while, so call
        it in the worker's thread. The receiver then calls `CurrentStore.update`.

    Notes
    -----
    A choice holds until the store is opened again, and is not written into the store; `keep` writes it.
    """

    changed = pyqtSignal(object)
    switching = pyqtSignal(str, object)

    def __init__(self, current: CurrentStore, settings: Settings, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._current = current
        self._settings = settings
        self.state = DecoderState()
        self.loaded: LoadedDecoders | None = None
        # The decoders to choose in stores that are open, but not the current one.
        self._wanted: dict[Path, str] = {}
        current.changed.connect(self._on_store)
        current.updated.connect(self._on_updated)

    def choose(self, name: str) -> None:
        """Let another decoder answer."""
        decoder = self.state.find(name)
        if self.loaded is not None and decoder is not None and name != self.state.chosen:
            self.switching.emit(name, partial(self.loaded.segmenter, decoder))

    def compare_with(self, name: str) -> None:
        """Choose the decoder to compare with."""
        if name != self.state.chosen and self.state.find(name) is not None:
            self._set(replace(self.state, other=name))

    def swap(self) -> None:
        """Let the other decoder answer, and compare it with the current one."""
        self.choose(self.state.other)

    def keep(self) -> None:
        """Write the choice into the store, for everyone who opens it."""
        store = self._current.store
        if store is not None:
            self._current.run(partial(use_decoder, store.path, self.state.chosen), ignore)

    def add(
        self, folder: Path, store: OpenStore | None = None, failed: Callable[[GeoSamError], None] | None = None
    ) -> None:
        """Copy a tuned decoder into a store, and let it answer from now on, here and wherever the store is opened.

        Parameters
        ----------
        folder : Path
            Of the decoder.
        store : OpenStore, optional
            By default the open one. It need not be open any more.
        failed : callable, optional
            Called with the error; by default the sender of `CurrentStore.failed`.
        """
        into = store or self._current.store
        if into is not None:

            def install() -> StoreDecoder:
                # It may move before this job's turn comes.
                return install_decoder(into.folder, folder, load_decoder)

            self._current.worker.post(Job(install, self._on_added, failed or self._current.failed.emit))

    def refresh(self, path: Path | None = None, name: str = "") -> None:
        """Read the list of decoders from the open store again.

        Parameters
        ----------
        path : Path, optional
            Only if this is the open store.
        name : str, optional
            The decoder to choose then. If the store is not the open one, it is chosen when it is.
        """
        store = self._current.store
        if path is not None and name:
            self._wanted[path] = name
        if store is not None and path in (None, store.path):
            name = self._wanted.pop(store.path, name)
            read = partial(list_decoders, store.path)
            self._current.run(read, lambda decoders: self._on_listed(store.path, decoders, name))

    def _on_store(self, store: OpenStore | None) -> None:
        self.loaded = None if store is None else LoadedDecoders(store, self._settings.decoder_threads or None)
        self._set(DecoderState() if store is None else DecoderState((), store.decoder))
        self.refresh()

    def _on_updated(self, store: OpenStore) -> None:
        before = self.state
        other = before.chosen if before.other in ("", store.decoder) else before.other
        self._set(replace(before, chosen=store.decoder, other=other))

    def _on_listed(self, path: Path, decoders: list[StoreDecoder], name: str) -> None:
        store = self._current.store
        if store is not None and store.path == path:
            self._set(replace(self.state, decoders=tuple(decoders)))
            self.choose(name)

    def _on_added(self, decoder: StoreDecoder) -> None:
        self.refresh(decoder.folder.parents[1], decoder.name)

    def _set(self, state: DecoderState) -> None:
        others = [decoder.name for decoder in state.decoders if decoder.name != state.chosen]
        if state.other not in others:
            # The first one is the store's original.
            state = replace(state, other=others[0] if others else "")
        self.state = state
        self.changed.emit(state)
