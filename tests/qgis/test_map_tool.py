"""Mouse and keys through the viewport of a real canvas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from qgis.core import QgsPointXY
from qgis.PyQt.QtCore import QEvent, QPoint, Qt
from qgis.PyQt.QtGui import QColor, QCursor, QKeyEvent
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QApplication, QLineEdit

from geosam_es.gui.canvas.map_tool import SegmentMapTool
from geosam_es.gui.panel.actions import QAction
from tests.qgis.support import Interface, click, drag, move, on_screen, place

NONE = Qt.KeyboardModifier.NoModifier
LEFT = Qt.MouseButton.LeftButton


class Recorder:
    def __init__(self, tool: SegmentMapTool) -> None:
        self.events: list[Any] = []
        tool.clicked.connect(lambda point, positive: self.events.append(("click", point, positive)))
        tool.boxed.connect(lambda corners: self.events.append(("box", corners)))
        tool.hovered.connect(lambda point, positive: self.events.append(("hover", positive)))
        tool.accepted.connect(lambda: self.events.append(("accept",)))

    def kinds(self) -> list[str]:
        return [event[0] for event in self.events if event[0] != "hover"]


@pytest.fixture
def undo(iface: Interface) -> Any:
    action = QAction("Undo", iface.window)
    action.setShortcut("Ctrl+Z")
    return action


@pytest.fixture
def tool(iface: Interface, undo: Any) -> Iterator[SegmentMapTool]:
    tool = SegmentMapTool(iface.canvas, [undo])
    iface.canvas.setMapTool(tool)
    yield tool
    iface.canvas.unsetMapTool(tool)


def test_a_click_is_positive_and_with_shift_negative(iface: Interface, tool: SegmentMapTool) -> None:
    recorder = Recorder(tool)
    click(iface.canvas, place("a"))
    click(iface.canvas, place("b"), modifiers=Qt.KeyboardModifier.ShiftModifier)
    (_, first, positive), (_, _, negative) = [event for event in recorder.events if event[0] == "click"]
    assert (positive, negative) == (True, False)
    assert first.distance(place("a")) < 2 * iface.canvas.mapUnitsPerPixel()


def test_a_drag_is_a_box_not_a_click(iface: Interface, tool: SegmentMapTool) -> None:
    recorder = Recorder(tool)
    start, end = place("a", -100, -80), place("a", 100, 80)
    drag(iface.canvas, start, end)
    assert recorder.kinds() == ["box"]
    corners = recorder.events[-1][1]
    assert max(c.x() for c in corners) - min(c.x() for c in corners) == pytest.approx(100, abs=4)
    assert max(c.y() for c in corners) - min(c.y() for c in corners) == pytest.approx(80, abs=4)


@pytest.mark.parametrize("mode", ["", "lasso"])
def test_the_wheel_may_zoom_during_a_drag(iface: Interface, tool: SegmentMapTool, mode: str) -> None:
    sent: list[Any] = []
    tool.boxed.connect(sent.append)
    tool.stroked.connect(lambda _mode, points, _positive: sent.append([points[0], points[1], points[-1]]))
    tool.set_mode(mode)
    canvas, ends = iface.canvas, [place("a", -100, -100), place("a", 50, 50), place("a", 100, 100)]
    QTest.mousePress(canvas.viewport(), LEFT, NONE, on_screen(canvas, ends[0]))
    move(canvas, on_screen(canvas, ends[1]))
    canvas.zoomByFactor(0.5, place("a", 100, 100))
    QApplication.processEvents()
    move(canvas, on_screen(canvas, ends[2]))
    QTest.mouseRelease(canvas.viewport(), LEFT, NONE, on_screen(canvas, ends[2]))
    wanted = ends if mode else [ends[0], place("a", 100, -100), ends[2], place("a", -100, 100)]
    pixel = 4 * canvas.mapUnitsPerPixel()
    assert all(point.distance(other) < pixel for point, other in zip(sent[0], wanted))
    # Nothing moved on the screen: it is a click.
    recorder = Recorder(tool)
    tool.set_mode("")
    spot = on_screen(canvas, ends[0])
    QTest.mousePress(canvas.viewport(), LEFT, NONE, spot)
    canvas.zoomByFactor(0.5, place("a", 100, 100))
    QApplication.processEvents()
    QTest.mouseRelease(canvas.viewport(), LEFT, NONE, spot)
    assert recorder.kinds() == ["click"] and recorder.events[-1][1].distance(ends[0]) < pixel


def test_a_shaking_hand_still_clicks(iface: Interface, tool: SegmentMapTool) -> None:
    recorder = Recorder(tool)
    spot = on_screen(iface.canvas, place("a"))
    QTest.mousePress(iface.canvas.viewport(), LEFT, NONE, spot)
    move(iface.canvas, spot + QPoint(2, 1))
    QTest.mouseRelease(iface.canvas.viewport(), LEFT, NONE, spot + QPoint(2, 1))
    assert recorder.kinds() == ["click"]


def test_escape_cancels_a_box(iface: Interface, tool: SegmentMapTool) -> None:
    recorder = Recorder(tool)
    viewport, spot = iface.canvas.viewport(), on_screen(iface.canvas, place("a"))
    QTest.mousePress(viewport, LEFT, NONE, spot)
    move(iface.canvas, spot + QPoint(60, 60))
    QTest.keyClick(iface.canvas, Qt.Key.Key_Escape)
    QTest.mouseRelease(viewport, LEFT, NONE, spot + QPoint(60, 60))
    assert recorder.kinds() == []


def test_the_right_button_accepts(iface: Interface, tool: SegmentMapTool) -> None:
    recorder = Recorder(tool)
    click(iface.canvas, place("a"), Qt.MouseButton.RightButton)
    assert recorder.kinds() == ["accept"]


def test_on_a_rotated_canvas_a_box_keeps_its_corners(iface: Interface, tool: SegmentMapTool) -> None:
    iface.canvas.setRotation(30)
    QApplication.processEvents()
    recorder = Recorder(tool)
    spot = on_screen(iface.canvas, place("c"))
    viewport = iface.canvas.viewport()
    QTest.mousePress(viewport, LEFT, NONE, spot)
    move(iface.canvas, spot + QPoint(80, 40))
    QTest.mouseRelease(viewport, LEFT, NONE, spot + QPoint(80, 40))
    corners = recorder.events[-1][1]
    step = iface.canvas.mapUnitsPerPixel()
    assert corners[0].distance(corners[1]) == pytest.approx(80 * step, rel=0.01)
    assert corners[1].distance(corners[2]) == pytest.approx(40 * step, rel=0.01)
    assert corners[0].y() != pytest.approx(corners[1].y(), abs=step)


def test_space_and_the_wheel_still_move_the_map(iface: Interface, tool: SegmentMapTool) -> None:
    recorder = Recorder(tool)
    canvas = iface.canvas
    before = canvas.center()
    spot = on_screen(canvas, place("a"))
    move(canvas, spot, Qt.MouseButton.NoButton)
    QTest.keyPress(canvas, Qt.Key.Key_Space)
    QTest.mousePress(canvas.viewport(), LEFT, NONE, spot)
    move(canvas, spot + QPoint(80, 40))
    QTest.mouseRelease(canvas.viewport(), LEFT, NONE, spot + QPoint(80, 40))
    QTest.keyRelease(canvas, Qt.Key.Key_Space)
    assert canvas.center().distance(before) > 10 * canvas.mapUnitsPerPixel()
    assert recorder.kinds() == []
    click(canvas, QgsPointXY(canvas.center()))
    assert recorder.kinds() == ["click"]


def test_a_shortcut_is_taken_before_the_main_window_gets_it(iface: Interface, tool: SegmentMapTool, undo: Any) -> None:
    """QGIS has its own Ctrl+Z, and Qt ignores ambiguous shortcuts."""
    own, other = [], []
    undo.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)
    undo.triggered.connect(lambda: own.append(1))
    of_qgis = QAction("Undo of QGIS", iface.window)
    of_qgis.setShortcut("Ctrl+Z")
    of_qgis.triggered.connect(lambda: other.append(1))
    iface.window.addAction(of_qgis)
    iface.window.activateWindow()
    iface.canvas.setFocus()
    QTest.keyClick(iface.canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert (own, other) == ([1], [])
    undo.setEnabled(False)
    QTest.keyClick(iface.canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert (own, other) == ([1], [1])


def test_a_changed_shortcut_is_used(iface: Interface, tool: SegmentMapTool, undo: Any) -> None:
    taken = []
    undo.triggered.connect(lambda: taken.append(1))
    undo.setShortcut("U")
    QTest.keyClick(iface.canvas, Qt.Key.Key_U)
    QTest.keyClick(iface.canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert taken == [1]


def test_an_inactive_tool_leaves_the_keys_alone(iface: Interface, tool: SegmentMapTool, undo: Any) -> None:
    taken = []
    undo.triggered.connect(lambda: taken.append(1))
    iface.canvas.unsetMapTool(tool)
    QTest.keyClick(iface.canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert taken == []


@pytest.mark.parametrize("flagged", [True, False])
def test_a_held_key_triggers_only_what_repeats(
    iface: Interface, tool: SegmentMapTool, undo: Any, flagged: bool
) -> None:
    """X11 sends a release and a press at the same time, and Qt flags only some of them."""
    taken, other = [], []
    undo.triggered.connect(lambda: taken.append(1))
    of_qgis = QAction("Undo of QGIS", iface.window)
    of_qgis.setShortcut("Ctrl+Z")
    of_qgis.triggered.connect(lambda: other.append(1))
    iface.window.addAction(of_qgis)

    def send(kind: Any, time_ms: int, repeated: bool = False) -> None:
        event = QKeyEvent(kind, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier, "", repeated)
        event.setTimestamp(time_ms)
        QApplication.sendEvent(iface.canvas, event)

    def repeat(time_ms: int) -> None:
        send(QEvent.Type.KeyRelease, time_ms, flagged)
        send(QEvent.Type.ShortcutOverride, time_ms, flagged)
        send(QEvent.Type.KeyPress, time_ms, flagged)

    send(QEvent.Type.KeyPress, 1000)
    repeat(1500)
    assert len(taken) == 2
    undo.setAutoRepeat(False)
    repeat(1540)
    undo.setEnabled(False)
    repeat(1580)
    assert len(taken) == 2 and other == []
    undo.setEnabled(True)
    send(QEvent.Type.KeyRelease, 1600)
    send(QEvent.Type.KeyPress, 1690)
    assert len(taken) == 3


def test_a_text_follows_the_pointer_and_changes_at_once(iface: Interface, tool: SegmentMapTool) -> None:
    viewport, spot = iface.canvas.viewport(), on_screen(iface.canvas, place("a"))
    QCursor.setPos(viewport.mapToGlobal(spot))
    QApplication.processEvents()
    assert viewport.underMouse()
    tool.show_beside_pointer("C1 Láminas de agua", QColor("#0000ff"))
    assert tool.label.isVisible() and tool.label.geometry().adjusted(-30, -30, 0, 0).contains(spot)
    tool.show_beside_pointer("E1.3 Pastos", QColor("#00ff00"))
    assert tool.label.isVisible() and tool.label.text() == "E1.3 Pastos"
    tool.show_beside_pointer("", QColor("#00ff00"))
    assert not tool.label.isVisible()
    iface.canvas.unsetMapTool(tool)
    tool.show_beside_pointer("C1 Láminas de agua", QColor("#0000ff"))
    assert not tool.label.isVisible()


def test_the_real_pointer_brings_the_focus(iface: Interface, tool: SegmentMapTool) -> None:
    line = QLineEdit()
    iface.window.addToolBar("other").addWidget(line)
    QApplication.setActiveWindow(iface.window)
    QCursor.setPos(line.mapToGlobal(line.rect().center()))
    QApplication.processEvents()
    line.setFocus()
    assert line.hasFocus()
    QCursor.setPos(iface.canvas.viewport().mapToGlobal(on_screen(iface.canvas, place("b"))))
    QApplication.processEvents()
    assert iface.canvas.hasFocus()


def test_tab_and_backspace_stay_on_the_map(iface: Interface, tool: SegmentMapTool) -> None:
    """Qt would move the focus, and QGIS would delete the selected features when it sees the key of the canvas."""
    line = QLineEdit(iface.window)
    line.show()
    iface.window.activateWindow()
    iface.canvas.setFocus()
    seen = []
    iface.canvas.keyPressed.connect(lambda event: seen.append(event.key()))
    for code, modifiers in (
        (Qt.Key.Key_Tab, NONE),
        (Qt.Key.Key_Backtab, Qt.KeyboardModifier.ShiftModifier),
        (Qt.Key.Key_Backspace, NONE),
    ):
        QTest.keyClick(iface.canvas, code, modifiers)
        assert iface.canvas.hasFocus()
    assert Qt.Key.Key_Backspace not in seen
    iface.canvas.unsetMapTool(tool)
    QTest.keyClick(iface.canvas, Qt.Key.Key_Backspace)
    assert Qt.Key.Key_Backspace in seen
