"""Judgements of the review as steps of the undo stacks of layers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from qgis.core import QgsVectorLayer
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ...errors import EditError
from ...qgis_support.judgements import ACCEPTED, UNSAVED, Judgements
from ...qgis_support.messages import tr

try:
    from qgis.PyQt.QtGui import QUndoCommand
except ImportError:  # Qt 5
    from qgis.PyQt.QtWidgets import QUndoCommand

__all__ = ["Judging"]


class Judging(QObject):
    """Keeps judgements, and takes them back when the edits that they belong to are undone.

    Signals
    -------
    judged : Judgements, dict of int to str
        New states by feature id; an empty text stands for a candidate that is put back.
    failed : EditError
    """

    judged = pyqtSignal(object, object)
    failed = pyqtSignal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        # Python forgets the commands of a stack together with its own object for the stack.
        self._stacks: dict[str, Any] = {}
        self._unsaved: dict[str, list[tuple[Judgements, list[int]]]] = {}
        self._armed: tuple[QgsVectorLayer, Any] | None = None
        self._held: list[tuple[Judgements, dict[int, str]]] | None = None

    def push(self, layer: QgsVectorLayer, judgements: Judgements, keys: Iterable[int], state: str) -> None:
        """Judge candidates in an undo step of a layer, or in the edit that is being made."""
        if layer.id() not in self._stacks:
            self._stacks[layer.id()] = layer.undoStack()
            layer.beforeRollBack.connect(self._hold)
            layer.afterRollBack.connect(self._release)
            layer.afterCommitChanges.connect(partial(self._on_saved, layer.id()))
        if state == UNSAVED:
            self._unsaved.setdefault(layer.id(), []).append((judgements, list(keys)))
        self._stacks[layer.id()].push(_Judgement(partial(self._judge, judgements), keys, state))

    def expect(self, target: QgsVectorLayer, judgements: Judgements, key: int) -> None:
        """Accept a candidate within the next edit of the target layer, so that undoing it takes back both."""

        def started(_text: str) -> None:
            self.disarm()
            self.push(target, judgements, [key], UNSAVED)

        self.disarm()
        self._armed = target, started
        target.editCommandStarted.connect(started)

    def disarm(self) -> None:
        """Expect no edit any more."""
        armed, self._armed = self._armed, None
        if armed is not None and not sip.isdeleted(armed[0]):
            armed[0].editCommandStarted.disconnect(armed[1])

    def _judge(self, judgements: Judgements, states: dict[int, str]) -> None:
        if sip.isdeleted(self):
            # The plugin was unloaded.
            return
        if self._held is not None:
            self._held.append((judgements, states))
            return
        try:
            judgements.set(states)
        except EditError as error:
            self.failed.emit(error)
        self.judged.emit(judgements, states)

    def _hold(self) -> None:
        # Rolling back an edit session undoes its edits one by one; writing each would take long.
        self._held = []

    def _release(self) -> None:
        held, self._held = self._held or [], None
        together: dict[Judgements, dict[int, str]] = {}
        for judgements, states in held:
            together.setdefault(judgements, {}).update(states)
        for judgements, states in together.items():
            self._judge(judgements, states)

    def _on_saved(self, layer_id: str) -> None:
        together: dict[Judgements, dict[int, str]] = {}
        for judgements, keys in self._unsaved.pop(layer_id, []):
            saved = [key for key in keys if judgements.state(key) == UNSAVED]
            together.setdefault(judgements, {}).update(dict.fromkeys(saved, ACCEPTED))
        for judgements, states in together.items():
            self._judge(judgements, states)


class _Judgement(QUndoCommand):
    def __init__(self, judge: Any, keys: Iterable[int], state: str) -> None:
        super().__init__(tr("Review"))
        self._judge = judge
        self._keys = list(keys)
        self._state = state

    def redo(self) -> None:
        """Judge; called by Qt, also when the command is pushed."""
        self._judge(dict.fromkeys(self._keys, self._state))

    def undo(self) -> None:
        """Put the candidates back; called by Qt."""
        self._judge(dict.fromkeys(self._keys, ""))
