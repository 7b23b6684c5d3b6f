"""Which of a store's decoders answers, and which one is asked the same for comparison."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import shapely
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ...core.topology import merge, polygon_parts
from ...inference.decoder import load_decoder
from ...inference.segmenter import Segmenter
from ...inference.session import Result, SegmentationSession, with_decoder
from ...qgis_support.settings import Settings
from ...store.decoders import StoreDecoder, add_decoder, check_decoder, list_decoders, read_decoder, use_decoder
from ..canvas.controller import SegmentationController
from ..canvas.drawing import Drawing
from .open_store import OpenStore

__all__ = ["Comparison", "DecoderChoice", "DecoderState"]

_KEPT = 2
"""Decoders in memory, each with the tiles it has prepared: the one that answers and the one it is compared with."""


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
    difference : MultiPolygon
        What is in one of them alone.
    """

    decoder: str
    result: Result
    agreement: float
    difference: shapely.MultiPolygon


@dataclass(frozen=True)
class DecoderState:
    """What there is to choose from, and what was chosen.

    Attributes
    ----------
    decoders : tuple of StoreDecoder
        None of them where no store is open.
    chosen : str
        The one that answers.
    other : str
        The one to compare it with; empty where there is none.
    """

    decoders: tuple[StoreDecoder, ...] = ()
    chosen: str = ""
    other: str = ""

    @property
    def names(self) -> list[str]:
        """Their names."""
        return [decoder.name for decoder in self.decoders]


class DecoderChoice(QObject):
    """Switches and compares the decoders of the open store.

    Parameters
    ----------
    controller : SegmentationController
    settings : Settings
    parent : QObject, optional

    Signals
    -------
    changed : DecoderState
    compared : Comparison or None
        None where there is nothing to compare, or no longer.

    Notes
    -----
    What is chosen here counts until the store is opened again, and writes nothing into it; `keep` does.
    """

    changed = pyqtSignal(object)
    compared = pyqtSignal(object)

    def __init__(self, controller: SegmentationController, settings: Settings, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._controller = controller
        self._settings = settings
        self._state = DecoderState()
        self._comparing = False
        self._loaded: _Loaded | None = None
        controller.store_changed.connect(self._on_store)
        controller.decoder_changed.connect(self._on_decoder)
        controller.drawing_changed.connect(self._on_drawing)
        controller.beside_answered.connect(self.compared.emit)

    @property
    def state(self) -> DecoderState:
        """What there is and what was chosen."""
        return self._state

    def choose(self, name: str) -> None:
        """Let a decoder answer, the object being drawn too."""
        store, loaded, decoder = self._controller.store, self._loaded, self._find(name)
        if store is None or loaded is None or decoder is None or name == self._state.chosen:
            return

        def other() -> OpenStore:
            return replace(store, segmenter=loaded.get(decoder), decoder=name)

        self.compared.emit(None)
        self._controller.answer_with(other)

    def set_comparing(self, comparing: bool) -> None:
        """Ask the other decoder too from now on, or no longer."""
        self._comparing = comparing
        self._on_drawing(self._controller.drawing)

    def compare_with(self, name: str) -> None:
        """Choose the decoder to compare with."""
        if name != self._state.chosen and self._find(name) is not None:
            self._set(replace(self._state, other=name))
            self._on_drawing(self._controller.drawing)

    def swap(self) -> None:
        """Let the other decoder answer, and compare it with the one that did so far."""
        self.choose(self._state.other)

    def keep(self) -> None:
        """Write into the store that the decoder chosen is the one to answer, whoever opens it."""
        store = self._controller.store
        if store is not None:
            self._controller.run(partial(use_decoder, store.path, self._state.chosen), lambda _decoder: None)

    def add(self, folder: Path) -> None:
        """Copy a tuned decoder into the store, and let it answer from now on, here and wherever it is opened."""
        store = self._controller.store
        if store is not None:
            self._controller.run(partial(_add, store.path, folder), self._on_added)

    def refresh(self, path: Path | None = None, name: str = "") -> None:
        """Look again which decoders the open store has.

        Parameters
        ----------
        path : Path, optional
            Only if this is the open store.
        name : str, optional
            The one to choose then.
        """
        store = self._controller.store
        if store is not None and path in (None, store.path):
            read = partial(list_decoders, store.path)
            self._controller.run(read, lambda decoders: self._on_listed(store.path, decoders, name))

    def _on_store(self, store: OpenStore | None) -> None:
        self._loaded = None if store is None else _Loaded(store, self._settings.decoder_threads or None)
        self._set(DecoderState() if store is None else DecoderState((), store.decoder))
        self.compared.emit(None)
        self.refresh()

    def _on_listed(self, path: Path, decoders: list[StoreDecoder], name: str) -> None:
        store = self._controller.store
        if store is None or store.path != path:
            return
        self._set(replace(self._state, decoders=tuple(decoders)))
        if name:
            self.choose(name)

    def _on_added(self, decoder: StoreDecoder) -> None:
        self.refresh(decoder.folder.parents[1], decoder.name)

    def _on_decoder(self, store: OpenStore) -> None:
        before = self._state
        other = before.chosen if before.other in ("", store.decoder) else before.other
        self._set(replace(before, chosen=store.decoder, other=other))

    def _set(self, state: DecoderState) -> None:
        """Take over a state, with another decoder to compare with where the one so far is no other."""
        others = [name for name in state.names if name != state.chosen]
        if state.other not in others:
            # The first is the one that the store was made with.
            state = replace(state, other=others[0] if others else "")
        self._state = state
        self.changed.emit(state)

    def _on_drawing(self, drawing: Drawing) -> None:
        loaded, decoder = self._loaded, self._find(self._state.other)
        if not self._comparing or loaded is None or decoder is None or drawing.result is None:
            self.compared.emit(None)
        elif not drawing.busy:
            self._controller.ask_beside(partial(loaded.compare, decoder))

    def _find(self, name: str) -> StoreDecoder | None:
        return next((decoder for decoder in self._state.decoders if decoder.name == name), None)


class _Loaded:
    """The decoders of one store that were used last; only the worker's thread looks into it."""

    def __init__(self, store: OpenStore, threads: int | None) -> None:
        self._first = store.segmenter
        self._threads = threads
        self._segmenters = OrderedDict({store.decoder: store.segmenter})
        self._follower: SegmentationSession | None = None

    def get(self, decoder: StoreDecoder) -> Segmenter:
        """Return what answers with a decoder, loading it where that was not done yet."""
        known = self._segmenters.pop(decoder.name, None) or with_decoder(self._first, decoder, self._threads)
        self._segmenters[decoder.name] = known
        while len(self._segmenters) > _KEPT:
            self._segmenters.popitem(last=False)
        return known

    def compare(self, decoder: StoreDecoder, session: SegmentationSession) -> Comparison | None:
        """Answer the prompts of a session with another decoder."""
        segmenter, follower = self.get(decoder), self._follower
        if follower is None or follower.segmenter is not segmenter or follower.options != session.options:
            follower = self._follower = SegmentationSession(segmenter, session.level, session.options)
        result = follower.follow(session)
        if result is None or session.current is None:
            return None
        own = session.current.geometry
        union = shapely.union(own, result.geometry).area
        difference = merge(polygon_parts(shapely.symmetric_difference(own, result.geometry)))
        return Comparison(decoder.name, result, 1 - difference.area / union if union else 0.0, difference)


def _add(store: Path, folder: Path) -> StoreDecoder:
    decoder = read_decoder(folder)
    check_decoder(decoder)
    # What no runtime can load must not answer from a store.
    load_decoder(decoder.prepare_path, decoder.decoder_path, threads=1)
    added = add_decoder(store, folder)
    use_decoder(store, added.name)
    return added
