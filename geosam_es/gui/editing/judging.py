"""Judgements of the review: steps of the undo stacks of layers, kept at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qgis.core import QgsVectorLayer
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QObject, QTimer

from ...errors import EditError
from ...qgis_support.messages import tr
from ..canvas.controller import SegmentationController
from .candidates import ACCEPTED, REJECTED, UNSAVED, Candidates
from .walk import Walk

try:
    from qgis.PyQt.QtGui import QUndoCommand
except ImportError:  # Qt 5
    from qgis.PyQt.QtWidgets import QUndoCommand

__all__ = ["Judging"]


class Judging(Walk):
    """A walk through candidates that goes on after each judgement, and back to one that is undone.

    The items are rows of the candidates.

    Attributes
    ----------
    candidates : Candidates, optional
    least : float
        Candidates with a lower confidence are not in the list.
    by_space : bool
        Whether the nearest candidate comes next, not the most doubtful one.
    """

    def __init__(self, controller: SegmentationController, parent: QObject | None = None) -> None:
        super().__init__(controller, parent)
        self.items: NDArray[np.int64] = np.zeros(0, np.int64)
        self.candidates: Candidates | None = None
        self.least, self.by_space = -np.inf, False
        self._row = 0
        # Where to go on, once the layers have their edits, and what was put back.
        self._resume: int | None = None
        self._back: list[int] = []
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(0)
        self._soon.timeout.connect(self._go_on)
        # The ids of a layer change after the signals of saving.
        self._renumbered: QgsVectorLayer | None = None
        self._reading_again = QTimer(self)
        self._reading_again.setSingleShot(True)
        self._reading_again.setInterval(0)
        # Python forgets the commands of a stack together with its own object for the stack.
        self._stacks: dict[str, Any] = {}
        self._armed: tuple[Any, Any] | None = None
        self._unsaved: dict[str, list[tuple[Candidates, list[int]]]] = {}
        self._discarding: set[str] = set()

    def _go(self, index: int | None) -> None:
        """Show the candidate at a position in the list; None for none."""
        raise NotImplementedError

    def step(self, step: int) -> None:
        """Go to the next candidate, or to the previous one with -1."""
        if self.by_space and step > 0 and self.index is not None:
            self._bring_nearest(self.index + 1)
        super().step(step)

    def _bring_nearest(self, index: int) -> None:
        """Put the candidate nearest to the last one at a position in the list, of those from there on."""
        if self.candidates is not None and index < len(self.items):
            nearest = index + self.candidates.nearest(self.items[index:], self._row)
            self.items[[index, nearest]] = self.items[[nearest, index]]

    def _expect(self, target: QgsVectorLayer, key: int) -> None:
        """Accept a candidate within the next edit of the target layer, so that undoing it takes back both."""

        def started(_text: str) -> None:
            self._disarm()
            self._push(target, [key], UNSAVED)

        self._armed = target, started
        target.editCommandStarted.connect(started)

    def _disarm(self) -> None:
        armed, self._armed = self._armed, None
        if armed is not None and not sip.isdeleted(armed[0]):
            armed[0].editCommandStarted.disconnect(armed[1])

    def go_on(self) -> None:
        """Go on after what was accepted is written, or could not be."""
        self._disarm()
        if self._soon.isActive():
            self._go_on()

    def _push(self, layer: QgsVectorLayer, keys: list[int], state: str) -> None:
        """Judge candidates in an undo step of a layer, or in the edit that is being made."""
        found, layer_id = self.candidates, layer.id()
        if found is None:
            return
        if self._is_gone(layer_id):
            # A project that is opened again gives its layers the same ids.
            self._unsaved.pop(layer_id, None)
            self._discarding.discard(layer_id)
            self._stacks[layer_id] = layer.undoStack()
            layer.afterCommitChanges.connect(lambda: self._on_saved(layer_id))
            layer.beforeRollBack.connect(lambda: None if sip.isdeleted(self) else self._discarding.add(layer_id))
            layer.afterRollBack.connect(lambda: self._on_discarded(layer_id))
        if state == UNSAVED:
            self._unsaved.setdefault(layer_id, []).append((found, keys))

        def is_kept() -> bool:
            # A rejection is no edit of the layer: discarding its edits leaves it.
            return state == REJECTED and layer_id in self._discarding

        self._stacks[layer_id].push(_Judgement(partial(self._judge, found), keys, state, is_kept))

    def _is_gone(self, layer_id: str) -> bool:
        """Return whether no layer with this id has judgements, or the one that had them was deleted."""
        stack = self._stacks.get(layer_id)
        return stack is None or sip.isdeleted(stack)

    def _judge(self, found: Candidates, states: dict[int, str]) -> None:
        if sip.isdeleted(self) or sip.isdeleted(found.layer):
            return
        if found.is_renumbered:
            # Reading finds what is in the target layer now.
            if found.layer is self.layer:
                self._read_again(found.layer)
            return
        if found.layer is not self.layer or self.candidates is None:
            found.mark(states)
            self._keep(found)
            return
        index = self._resume if self.index is None else self.index
        back = self.candidates.mark(states)
        self.index = None
        if back:
            index = min(index or 0, len(self.items))
            self.items = np.insert(self.items, index, back)
            self._back += back
        is_left = self.candidates.pending[self.items]
        if index is not None:
            index = int(np.count_nonzero(is_left[:index]))
        self.items = self.items[is_left]
        if self.by_space and not back and index is not None:
            self._bring_nearest(index)
        self._resume = index
        self._soon.start()

    def _read_again(self, layer: QgsVectorLayer) -> None:
        self._renumbered = layer
        self._reading_again.start()

    def _go_on(self) -> None:
        self._soon.stop()
        index, self._resume, back, self._back = self._resume, None, self._back, []
        if self.candidates is not None:
            self._keep(self.candidates)
            if len(back) > 1:
                self.items, index = self.candidates.in_order(self.least), None
        self._go(index)

    def _keep(self, found: Candidates, at_once: bool = False) -> None:
        """Keep what was decided; many decisions little by little, unless it must be done at once."""
        try:
            while not sip.isdeleted(found.layer) and not found.keep():
                if not at_once:
                    QTimer.singleShot(0, lambda: None if sip.isdeleted(self) else self._keep(found))
                    return
        except EditError as error:
            self.failed.emit(error)

    def _on_saved(self, layer_id: str) -> None:
        for found, keys in self._take_unsaved(layer_id):
            found.mark(dict.fromkeys(keys, ACCEPTED))
            self._keep(found)

    def _on_discarded(self, layer_id: str) -> None:
        if sip.isdeleted(self):
            return
        self._discarding.discard(layer_id)
        # In a transaction group, QGIS discards edits without undoing them.
        for found, keys in self._take_unsaved(layer_id):
            self._judge(found, dict.fromkeys(keys, ""))

    def _unsaved_elsewhere(self, layer: QgsVectorLayer, target: QgsVectorLayer | None) -> set[int]:
        """Return the candidates of a layer that are among the unsaved edits of others than the target layer."""
        own = target.id() if target is not None else ""
        others = (judged for other, judged in self._unsaved.items() if other != own and not self._is_gone(other))
        return {key for judged in others for found, keys in judged if found.layer is layer for key in keys}

    def _take_unsaved(self, layer_id: str) -> Iterator[tuple[Candidates, list[int]]]:
        """Yield the candidates whose polygons are among the unsaved edits of a layer, and forget them."""
        for found, keys in [] if sip.isdeleted(self) else self._unsaved.pop(layer_id, []):
            if found.is_renumbered:
                continue
            now = self.candidates if self.candidates is not None and found.layer is self.layer else found
            left = [key for key in keys if now.states.get(key) == UNSAVED]
            if left and not sip.isdeleted(now.layer):
                yield now, left


class _Judgement(QUndoCommand):
    def __init__(
        self, judge: Callable[[dict[int, str]], None], keys: Iterable[int], state: str, is_kept: Callable[[], bool]
    ) -> None:
        super().__init__(tr("Review"))
        self._judge = judge
        self._is_kept = is_kept
        self._keys = list(keys)
        self._state = state

    def redo(self) -> None:
        """Judge; called by Qt, also when the command is pushed."""
        self._judge(dict.fromkeys(self._keys, self._state))

    def undo(self) -> None:
        """Put the candidates back; called by Qt."""
        if not self._is_kept():
            self._judge(dict.fromkeys(self._keys, ""))
