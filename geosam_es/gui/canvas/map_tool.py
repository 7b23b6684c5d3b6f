"""The map tool: turns mouse and keys on the canvas into signals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qgis.core import QgsPointXY
from qgis.gui import QgsMapCanvas, QgsMapMouseEvent, QgsMapTool
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QEvent, QObject, QPoint, Qt, pyqtSignal
from qgis.PyQt.QtGui import QColor, QCursor, QKeySequence, QWheelEvent
from qgis.PyQt.QtWidgets import QApplication, QDockWidget

from .gestures import BRUSHES, Circle, ClickOrBox, Line, Stroke
from .pointer_label import PointerLabel

__all__ = ["SegmentMapTool"]

_MODIFIER_KEYS = (Qt.Key.Key_Shift, Qt.Key.Key_Control, Qt.Key.Key_Alt, Qt.Key.Key_Meta)
_SAME_KEYS = {Qt.Key.Key_Enter: Qt.Key.Key_Return, Qt.Key.Key_Backtab: Qt.Key.Key_Tab}
"""Shift+Tab has a key of its own in Qt."""

_KEPT_KEYS = (Qt.Key.Key_Tab, Qt.Key.Key_Backtab, Qt.Key.Key_Backspace)
"""Qt would move the focus away from the map, and QGIS would delete the selected features."""

_HELD_MS = 5
"""A held key is pressed again at once after its release, which no finger does."""
_CURSORS = {
    "": Qt.CursorShape.CrossCursor,
    "brush": Qt.CursorShape.BlankCursor,
    "eraser": Qt.CursorShape.BlankCursor,
    "cut": Qt.CursorShape.SplitHCursor,
    "lasso": Qt.CursorShape.PointingHandCursor,
}
_LEAST_RADIUS = 2.0
_BUTTON_EVENTS = (QEvent.Type.MouseButtonPress, QEvent.Type.MouseButtonRelease, QEvent.Type.MouseButtonDblClick)


class SegmentMapTool(QgsMapTool):
    """Turns gestures into signals, without knowing what they mean.

    Parameters
    ----------
    canvas : QgsMapCanvas
    shortcuts : list of QAction
        While the tool is active and the pointer is over the canvas, their keys trigger them before QGIS's own
        shortcuts of the same keys.
        Disabled ones leave their keys alone, except Tab and Backspace. A held key triggers only its own action again,
        and only if that action repeats; it never gets to QGIS.

    Signals
    -------
    clicked : QgsPointXY, bool
        The point in the canvas's CRS, and whether it is positive.
    boxed : list of QgsPointXY
        The four corners in the canvas's CRS. They follow the screen, so the box is rotated if the canvas is.
    stroked : str, list of QgsPointXY, bool
        A drag of the mode ``brush``, ``eraser``, ``cut`` or ``lasso``, in the canvas's CRS.
    resized : int
        The wheel asks for a larger brush if above 0, and for a smaller one if below.
    hovered : QgsPointXY, bool
        Like ``clicked``.
    accepted
        The right mouse button was clicked.
    left
        The pointer left the canvas.

    Attributes
    ----------
    label : PointerLabel
        A text beside the pointer.
    mode : str
        What a drag does; empty for a click or a box. See `set_mode`.
    line : Line
        The vertices of a cut.
    brush_radius : callable
        Returns the radius of the brush in pixels of the screen at a point in the canvas's CRS.
    """

    clicked = pyqtSignal(QgsPointXY, bool)
    boxed = pyqtSignal(object)
    stroked = pyqtSignal(str, object, bool)
    resized = pyqtSignal(int)
    hovered = pyqtSignal(QgsPointXY, bool)
    accepted = pyqtSignal()
    left = pyqtSignal()

    def __init__(self, canvas: QgsMapCanvas, shortcuts: list[Any]) -> None:
        super().__init__(canvas)
        self._shortcuts = shortcuts
        self._held: QKeySequence | None = None
        self._released = (0, 0)
        self.label = PointerLabel(canvas.viewport())
        # While the left button is pressed.
        self._gesture: ClickOrBox | Stroke | None = None
        self.mode = ""
        self.line = Line(canvas)
        self.brush_radius: Callable[[QgsPointXY], float] = lambda _point: _LEAST_RADIUS
        self._circle = Circle(canvas)
        # Where the pointer was last; None outside.
        self._pointer: QPoint | None = None
        self._panning = False
        self._filtered: list[QObject] = []
        self.setCursor(_CURSORS[""])

    def activate(self) -> None:
        """Start listening to the canvas; called by QGIS."""
        super().activate()
        # Otherwise QGIS's actions take Ctrl+Z, and Qt takes Tab, before the map tool gets them.
        self._filtered = [self.canvas(), self.canvas().viewport()]
        for watched in self._filtered:
            watched.installEventFilter(self)
        self.canvas().setFocus()

    def set_mode(self, mode: str) -> None:
        """Choose what a drag does: ``brush``, ``eraser``, ``cut`` or ``lasso``, or with an empty text a box."""
        self._end_gesture()
        self.line.take()
        self.mode = mode
        self.setCursor(_CURSORS[mode])
        self.show_brush()

    def show_brush(self) -> None:
        """Show the size of the brush where the pointer is."""
        if self._pointer is not None and self.mode in BRUSHES:
            self._circle.show(self._pointer, self._screen_radius(self._pointer))
        else:
            self._circle.hide()

    def _screen_radius(self, place: QPoint) -> float:
        return max(_LEAST_RADIUS, self.brush_radius(self.toMapCoordinates(place)))

    def take_focus(self) -> None:
        """Give the canvas the keys while the tool is active, unless a menu, a dialog or another window is in use."""
        canvas, window = self.canvas(), QApplication.activeWindow()
        if canvas.hasFocus() or not self.isActive() or QApplication.activePopupWidget() is not None:
            return
        # The panel may be a window of its own.
        if isinstance(window, QDockWidget):
            canvas.activateWindow()
        elif window is not None and window != canvas.window():
            return
        canvas.setFocus()

    def show_beside_pointer(self, text: str, colour: QColor) -> None:
        """Show a text beside the pointer while it is over the canvas and the tool is active."""
        self.label.show_class(text, colour)
        viewport = self.canvas().viewport()
        if self.isActive() and viewport.underMouse():
            self.label.follow(viewport.mapFromGlobal(QCursor.pos()))

    def deactivate(self) -> None:
        """Stop listening to the canvas; called by QGIS."""
        # When QGIS closes, the canvas may go before its tool.
        if any(sip.isdeleted(watched) for watched in self._filtered):
            self._filtered = []
            return
        for watched in self._filtered:
            watched.removeEventFilter(self)
        self._filtered = []
        self._pointer = None
        self.set_mode("")
        self._panning = False
        self.label.hide()
        self.left.emit()
        super().deactivate()

    def canvasPressEvent(self, event: QgsMapMouseEvent | None) -> None:  # noqa: N802
        """Begin a gesture."""
        if event.button() == Qt.MouseButton.LeftButton:
            self._end_gesture()
            self._gesture = self._begin(event)

    def _begin(self, event: Any) -> ClickOrBox | Stroke:
        place, mode = event.pos(), self.mode
        if not mode and event.modifiers() & Qt.KeyboardModifier.AltModifier:
            mode = "lasso"
        if not mode:
            return ClickOrBox(self, place)
        return Stroke(self, place, mode, 2 * self._screen_radius(place) if mode in BRUSHES else 2)

    def canvasMoveEvent(self, event: QgsMapMouseEvent | None) -> None:  # noqa: N802
        """Go on with the gesture, or report where the pointer is."""
        self.take_focus()
        if self._panning:
            return
        self.label.follow(event.pos())
        self._pointer = event.pos()
        self.show_brush()
        self.line.follow(self.toMapCoordinates(event.pos()))
        if self._gesture is not None:
            self._gesture.move(event.pos())
        elif not event.buttons():
            self.hovered.emit(self.toMapCoordinates(event.pos()), not _has_shift(event))

    def canvasReleaseEvent(self, event: QgsMapMouseEvent | None) -> None:  # noqa: N802
        """Finish the gesture, or accept."""
        if event.button() == Qt.MouseButton.RightButton:
            self._end_gesture()
            if not self.finish_line():
                self.accepted.emit()
        elif event.button() == Qt.MouseButton.LeftButton:
            gesture = self._end_gesture()
            if gesture is not None:
                gesture.finish(event.pos(), not _has_shift(event))

    def finish_line(self) -> bool:
        """Send the line that was clicked, once it has two vertices; False if no line is drawn."""
        if len(self.line.points) >= 2:
            self.stroked.emit("cut", self.line.take(), True)
            return True
        return self.mode == "cut"

    def wheelEvent(self, event: QWheelEvent | None) -> None:  # noqa: N802
        """Change the size of the brush with Ctrl; otherwise QGIS zooms."""
        if self.mode in BRUSHES and event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            event.accept()
            self.resized.emit(event.angleDelta().y())
        else:
            event.ignore()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Handle the keys of the shortcuts, Space, and the pointer entering and leaving the canvas."""
        kind = event.type()
        if kind == QEvent.Type.Enter:
            self.take_focus()
        elif kind == QEvent.Type.Leave:
            self.label.hide()
            self._pointer = None
            self._circle.hide()
            self.left.emit()
        elif kind in (QEvent.Type.KeyPress, QEvent.Type.KeyRelease) and event.key() == Qt.Key.Key_Space:
            # QGIS pans while Space is held, so mouse events are no prompts then.
            if not event.isAutoRepeat():
                self._panning = kind == QEvent.Type.KeyPress
                self._end_gesture()
        elif kind == QEvent.Type.FocusOut:
            self._panning = False
        elif kind in _BUTTON_EVENTS and self._panning:
            # A mouse button would stop QGIS's panning with Space.
            return True
        elif kind in (QEvent.Type.ShortcutOverride, QEvent.Type.KeyPress):
            return self._take_key(event)
        elif kind == QEvent.Type.KeyRelease:
            self._released = event.key(), event.timestamp()
        return False

    def _take_key(self, event: Any) -> bool:
        if event.key() in _MODIFIER_KEYS:
            return False
        if self._gesture is not None and event.key() == Qt.Key.Key_Escape:
            # During a gesture, Esc cancels it, not the object.
            event.accept()
            if event.type() == QEvent.Type.KeyPress:
                self._end_gesture()
            return True
        pressed = _sequence(event)
        enabled = (action for action in self._shortcuts if action.isEnabled())
        action = next((action for action in enabled if pressed in action.shortcuts()), None)
        is_repeated = self._is_repeated(event)
        repeats = is_repeated and pressed == self._held
        if action is None and not repeats:
            self._held = None
            is_kept = event.key() in _KEPT_KEYS and not event.modifiers() & ~Qt.KeyboardModifier.ShiftModifier
            if is_kept:
                event.accept()
            return is_kept
        event.accept()
        if event.type() == QEvent.Type.KeyPress:
            self._held = pressed
            if action is not None and (not is_repeated or action.autoRepeat()):
                action.trigger()
        return True

    def _is_repeated(self, event: Any) -> bool:
        """Tell whether a held key sent an event again; X11 sends a release with it, and Qt does not always notice."""
        key, time_ms = self._released
        again = event.key() == key and 0 < event.timestamp() <= time_ms + _HELD_MS
        return bool(event.isAutoRepeat() or again)

    def _end_gesture(self) -> ClickOrBox | Stroke | None:
        """End the gesture, and return it to be finished; otherwise it is cancelled."""
        gesture, self._gesture = self._gesture, None
        if gesture is not None:
            gesture.close()
        return gesture


def _has_shift(event: QgsMapMouseEvent | None) -> bool:
    return bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)


def _sequence(event: Any) -> QKeySequence:
    # Spanish keyboards have the brackets on AltGr.
    modifiers = event.modifiers() & ~(Qt.KeyboardModifier.KeypadModifier | Qt.KeyboardModifier.GroupSwitchModifier)
    key = _SAME_KEYS.get(event.key(), event.key())
    return QKeySequence(_number(modifiers) | _number(key))


def _number(value: Any) -> int:
    """Return the number of an enum member, in Qt 5 and Qt 6."""
    return int(getattr(value, "value", value))
