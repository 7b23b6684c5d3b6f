"""The edits of several layers in the order in which they were made, read from the undo stacks of the layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from qgis.core import QgsVectorLayer
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ..canvas.controller import SetAside
from .provenance import Provenance

__all__ = ["EditHistory", "EditStep", "OwnEdit", "named"]


@dataclass(eq=False)
class OwnEdit:
    """What the plugin did in an edit.

    Attributes
    ----------
    name : str
        For people.
    provenance : Provenance, optional
        Of the object that was accepted, to be drawn again when the edit is undone.
    feature_id : int, optional
        The feature that was refined.
    values : mapping of str to value, optional
        Its new class, by field name.
    """

    name: str
    provenance: Provenance | None = None
    feature_id: int | None = None
    values: Mapping[str, Any] | None = None


@dataclass(eq=False)
class EditStep:
    """One command on the undo stack of a layer.

    Attributes
    ----------
    layer : QgsVectorLayer
    command : int
        Address of the command, which identifies it while it is on the stack.
    text : str
        Its name in QGIS.
    own : OwnEdit, optional
        None if another tool made it.
    later : SetAside, optional
        Prompts of the next object, which were taken back before the edit was undone.
    """

    layer: QgsVectorLayer
    command: int
    text: str
    own: OwnEdit | None = None
    later: SetAside | None = None


def named(text: str, layer: QgsVectorLayer, label: str) -> str:
    """Put a layer and a class, which may be empty, into a text with ``{layer}`` and ``{label}``."""
    return " ".join(text.format(label=label, layer=layer.name()).split())


class EditHistory(QObject):
    """Knows the last edit of the target layer and of all layers that got polygons, whichever tool made it."""

    changed = pyqtSignal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._layers: list[QgsVectorLayer] = []
        self._seen: dict[int, tuple[Any, ...]] = {}
        # The last item is the next to be undone or redone.
        self._done: list[EditStep] = []
        self._undone: list[EditStep] = []

    @property
    def last_done(self) -> EditStep | None:
        """The edit to undo next."""
        self._catch_up()
        return next((step for step in reversed(self._done) if step.layer.undoStack().canUndo()), None)

    @property
    def last_undone(self) -> EditStep | None:
        """The edit to redo next."""
        self._catch_up()
        return next((step for step in reversed(self._undone) if step.layer.undoStack().canRedo()), None)

    def follow(self, layer: QgsVectorLayer | None) -> None:
        """Follow a layer, and of the others only those that have edits of the plugin."""
        own = {id(step.layer) for step in (*self._done, *self._undone) if step.own is not None}
        for other in [other for other in self._layers if other is not layer and id(other) not in own]:
            self._leave(other)
        if layer is not None:
            self._watch(layer)
        self._on_stack()

    def note(self, layer: QgsVectorLayer, own: OwnEdit) -> None:
        """Say what the last edit of a layer was."""
        self._watch(layer)
        self._catch_up()
        step = next((step for step in reversed(self._done) if step.layer is layer), None)
        if step is not None:
            step.own = own
            self._done.remove(step)
            self._done.append(step)
        self.changed.emit()

    def forget_drawings(self) -> None:
        """Forget the objects that were set aside, which keep the files of their store open."""
        for step in (*self._done, *self._undone):
            step.later = None

    def release(self) -> None:
        """Stop following layers."""
        for layer in list(self._layers):
            self._leave(layer)

    def _watch(self, layer: QgsVectorLayer) -> None:
        if any(layer is known for known in self._layers):
            return
        self._layers.append(layer)
        layer.undoStack().indexChanged.connect(self._on_stack)
        # Whatever was done before is older than the edits that were followed.
        later = self._done, self._undone
        self._done, self._undone = [], []
        self._catch_up_with(layer)
        self._done += later[0]
        self._undone += later[1]

    def _leave(self, layer: QgsVectorLayer) -> None:
        self._layers = [known for known in self._layers if known is not layer]
        self._seen.pop(id(layer), None)
        self._done = [step for step in self._done if step.layer is not layer]
        self._undone = [step for step in self._undone if step.layer is not layer]
        if not sip.isdeleted(layer):
            layer.undoStack().indexChanged.disconnect(self._on_stack)

    def _on_stack(self, _index: int = 0) -> None:
        self._catch_up()
        self.changed.emit()

    def _catch_up(self) -> None:
        for layer in list(self._layers):
            if sip.isdeleted(layer):
                self._leave(layer)
            else:
                self._catch_up_with(layer)

    def _catch_up_with(self, layer: QgsVectorLayer) -> None:
        stack: Any = layer.undoStack()
        index, count = stack.index(), stack.count()
        if (index > 0 and not stack.canUndo()) or (count > index and not stack.canRedo()):
            # An edit is being made.
            return
        seen = index, count, *(_address(stack, position) for position in (index - 1, index))
        if self._seen.get(id(layer)) == seen:
            return
        self._seen[id(layer)] = seen
        known = {step.command: step for step in (*self._done, *self._undone) if step.layer is layer}
        steps = []
        for position in range(count):
            command = _address(stack, position)
            steps.append(known.get(command) or EditStep(layer, command, stack.text(position)))
        self._done = _updated(self._done, layer, steps[:index])
        self._undone = _updated(self._undone, layer, steps[index:][::-1])


def _address(stack: Any, position: int) -> int:
    command = stack.command(position)
    return sip.unwrapinstance(command) if command is not None else 0


def _updated(steps: Iterable[EditStep], layer: QgsVectorLayer, now: list[EditStep]) -> list[EditStep]:
    """Leave out steps that are gone, and append those that are new; ``now`` are the steps of a layer."""
    present = set(now)
    kept = [step for step in steps if step.layer is not layer or step in present]
    known = set(kept)
    return kept + [step for step in now if step not in known]
