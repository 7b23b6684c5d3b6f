"""Asks a second decoder the same prompts, while the user draws."""

from __future__ import annotations

from functools import partial

import shapely
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ...core.topology import merge, polygon_parts
from ...inference.session import SegmentationSession
from ...store.decoders import StoreDecoder
from ..stores.decoder_choice import Comparison, DecoderChoice, LoadedDecoders
from .controller import SegmentationController

__all__ = ["DecoderComparison"]


class DecoderComparison(QObject):
    """Compares the answer to the object being drawn with that of the other decoder, while it is switched on.

    Signals
    -------
    compared : Comparison or None
        None where there is nothing to compare.
    """

    compared = pyqtSignal(object)

    def __init__(
        self, controller: SegmentationController, decoders: DecoderChoice, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._controller = controller
        self._decoders = decoders
        self._is_on = False
        self._follower: SegmentationSession | None = None
        controller.drawing_changed.connect(self._compare)
        decoders.changed.connect(self._on_decoders_changed)
        decoders.switching.connect(lambda *_: self.compared.emit(None))

    def set_on(self, is_on: bool) -> None:
        """Switch the comparison on or off."""
        self._is_on = is_on
        self.compared.emit(None)
        self._compare()

    def _on_decoders_changed(self, _state: object) -> None:
        self._follower = None
        self.compared.emit(None)
        self._compare()

    def _compare(self, _drawing: object = None) -> None:
        loaded, state, drawing = self._decoders.loaded, self._decoders.state, self._controller.drawing
        decoder = state.find(state.other)
        if not self._is_on:
            return
        if loaded is None or decoder is None or drawing.result is None:
            self.compared.emit(None)
        elif not drawing.busy:
            self._controller.ask(partial(self._answer, loaded, decoder), self.compared.emit)

    def _answer(self, loaded: LoadedDecoders, decoder: StoreDecoder, session: SegmentationSession) -> Comparison | None:
        """Answer the prompts of a session with another decoder; called in the worker's thread."""
        segmenter, follower = loaded.segmenter(decoder), self._follower
        if follower is None or follower.segmenter is not segmenter or follower.options != session.options:
            # It keeps what it has answered, so that only new prompts are decoded.
            follower = self._follower = SegmentationSession(segmenter, session.level, session.options)
        result = follower.follow(session)
        if result is None or session.current is None:
            return None
        own = session.current.geometry
        union = shapely.union(own, result.geometry).area
        difference = merge(polygon_parts(shapely.symmetric_difference(own, result.geometry)))
        # Rounding may make it negative, which would be shown as -0 %.
        agreement = max(1 - difference.area / union, 0.0) if union else 0.0
        return Comparison(decoder.name, result, agreement, difference)
