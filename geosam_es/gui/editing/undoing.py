"""Undo and redo as one story: the prompts of the object being drawn, then the edits of the layers."""

from __future__ import annotations

from qgis.PyQt.QtCore import QObject, pyqtSignal

from ...core.prompts import Bounds, Point
from ...qgis_support.messages import tr
from ..canvas.controller import SegmentationController
from .history import EditHistory, EditStep, OwnEdit
from .refining import Refining, same_prompts

__all__ = ["UndoStory"]


class UndoStory(QObject):
    """Undoes and redoes step by step, and says what the next step is.

    Undoing an accepted polygon draws its object again, so that the story goes on with its prompts; redoing writes the
    polygon again. Prompts that were given since then make no redo: the layer keeps it until they are discarded.

    Signals
    -------
    changed
        The next step is another one.
    undone, done : str
        What was undone in a layer, or what was redone or deleted, for people.
    outdated
        Something else would be redone or undone now than what was said last.
    """

    changed = pyqtSignal()
    undone = pyqtSignal(str)
    done = pyqtSignal(str)
    outdated = pyqtSignal()

    def __init__(
        self,
        controller: SegmentationController,
        history: EditHistory,
        refining: Refining,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._controller = controller
        self._history = history
        self._refining = refining
        self._said_undone: EditStep | None = None
        self._said_done: EditStep | None = None
        refining.deleted.connect(self._on_deleted)
        controller.drawing_changed.connect(self._on_change)
        history.changed.connect(self._on_change)

    @property
    def undo_text(self) -> str:
        """What `undo` would do; empty if there is nothing to undo."""
        drawing, step = self._controller.drawing, self._undo_step()
        if step is not None:
            return _step_text(step, tr("Undo: {what}"), tr("Undo in {layer}: {edit}"))
        return tr("Undo: {what}").format(what=_prompt_name(drawing.last)) if drawing.can_undo else ""

    @property
    def redo_text(self) -> str:
        """What `redo` would do; empty if there is nothing to redo."""
        drawing, step = self._controller.drawing, self._redo_step()
        if step is not None:
            return _step_text(step, tr("Redo: {what}"), tr("Redo in {layer}: {edit}"))
        return tr("Redo: {what}").format(what=_prompt_name(drawing.undone)) if drawing.can_redo else ""

    def undo(self) -> None:
        """Take back the last prompt, or else the last edit."""
        if self._controller.hold(self.undo):
            return
        step = self._undo_step()
        if step is None:
            self._controller.undo()
            self.changed.emit()
        else:
            self._undo_edit(step)

    def redo(self) -> None:
        """Restore what was undone last."""
        if self._controller.hold(self.redo):
            return
        step = self._redo_step()
        if step is None:
            self._controller.redo()
            self.changed.emit()
        else:
            self._redo_edit(step)

    def undo_edit(self) -> None:
        """Undo the last edit of a layer, whatever is drawn; the object being drawn is kept if it is another one."""
        step = self._history.last_done
        if step is not None:
            self._undo_edit(step)

    def redo_edit(self) -> None:
        """Redo the edit that was undone last, whatever is drawn."""
        step = self._history.last_undone
        if step is not None:
            self._redo_edit(step)

    def _undo_step(self) -> EditStep | None:
        return None if self._controller.drawing.can_undo else self._history.last_done

    def _redo_step(self) -> EditStep | None:
        drawing, step = self._controller.drawing, self._history.last_undone
        if step is None or self._is_drawn(step.own):
            return step
        return None if drawing.can_undo or drawing.can_redo else step

    def _is_drawn(self, own: OwnEdit | None) -> bool:
        """Tell whether the object on the map is, unchanged, the one of an edit that was undone."""
        drawing = self._controller.drawing
        if own is None or own.provenance is None or not drawing.can_undo:
            return False
        return same_prompts(drawing.prompts, own.provenance.prompts)

    def _undo_edit(self, step: EditStep) -> None:
        own = step.own
        if not self._controller.drawing.can_undo:
            was_refining = self._refining.current is not None
            aside = self._controller.set_aside()
            step.later = None if was_refining else aside
        step.layer.undoStack().undo()
        step.layer.triggerRepaint()
        if own is not None and not self._controller.drawing.can_undo:
            self._refining.draw_again(step.layer, own)
        self._say(undone=step)
        self.undone.emit(_step_text(step, tr("Undone: {what}"), tr("Undone in {layer}: {edit}")))

    def _redo_edit(self, step: EditStep) -> None:
        own, later, step.later = step.own, step.later, None
        if self._is_drawn(own):
            self._controller.discard()
        step.layer.undoStack().redo()
        step.layer.triggerRepaint()
        if later is not None and not self._controller.drawing.can_undo:
            self._controller.take_up(later)
        self._say(done=step)
        self.done.emit(_step_text(step, tr("Redone: {what}"), tr("Redone in {layer}: {edit}")))

    def say_done(self, name: str) -> None:
        """Say what was done in a layer, so that it can be undone at once."""
        self._say(done=self._history.last_done)
        self.done.emit(tr("Done: {what}").format(what=name))

    def _on_deleted(self, name: str) -> None:
        self._say(done=self._history.last_done)
        self.done.emit(tr("Deleted: {what}").format(what=name))

    def _say(self, undone: EditStep | None = None, done: EditStep | None = None) -> None:
        self._said_undone, self._said_done = undone, done

    def _on_change(self, _drawing: object = None) -> None:
        is_undone = self._said_undone is None or self._said_undone is self._redo_step()
        is_done = self._said_done is None or self._said_done is self._history.last_done
        if not (is_undone and is_done):
            self._say()
            self.outdated.emit()
        self.changed.emit()


def _prompt_name(prompt: Point | Bounds | str | None) -> str:
    if isinstance(prompt, Bounds):
        return tr("box")
    if isinstance(prompt, str):
        return _gesture_name(prompt)
    return tr("point outside") if prompt is not None and not prompt.positive else tr("point")


def _gesture_name(gesture: str) -> str:
    names = {
        "brush": tr("brush stroke"),
        "eraser": tr("eraser stroke"),
        "cut": tr("cut"),
        "lasso": tr("lasso"),
        "scribble": tr("scribble"),
        "merge": tr("merge"),
    }
    return names.get(gesture, tr("polygon of the layer"))


def _step_text(step: EditStep, of_ours: str, of_others: str) -> str:
    if step.own is None:
        return of_others.format(layer=step.layer.name(), edit=step.text)
    return of_ours.format(what=step.own.name)
