"""The real QGIS window, operated by Qt's own mouse and key events, and timed. Scripts of ``run.sh`` use it."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qgis.core import QgsApplication, QgsPointXY, QgsProject, QgsRectangle
from qgis.PyQt.QtCore import QEvent, QPoint, Qt, QTimer
from qgis.PyQt.QtTest import QTest
from qgis.utils import iface, plugins

FOLDER = Path(os.environ["GEOSAM_ES_DESKTOP"])
_DELETION = int(getattr(QEvent.Type.DeferredDelete, "value", QEvent.Type.DeferredDelete))


def wait(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("timed out")
        QgsApplication.processEvents()
        # Qt leaves it until the script ends, and the more old messages there are, the slower the message bar gets.
        QgsApplication.sendPostedEvents(None, _DELETION)
        time.sleep(0.001)


def pause(seconds: float) -> None:
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end, seconds + 5)


class Holds:
    """Measures how long the event loop was blocked: the gaps between ticks of a 5 ms timer."""

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._beat)
        self._timer.start(5)

    def _beat(self) -> None:
        now = time.perf_counter()
        self.gaps.append((now - self._last) * 1000.0)
        self._last = now

    def longest(self) -> float:
        longest, self.gaps = max(self.gaps, default=0.0), []
        return round(longest, 1)


class Desktop:
    """The QGIS window, operated by mouse and keyboard."""

    def __init__(self) -> None:
        self.canvas = iface.mapCanvas()
        self.plugin = plugins["geosam_es"]
        self.interaction = self.plugin.interaction
        self.controller = self.interaction.controller
        self.holds = Holds()
        self.times: list[float] = []
        self.decoding: list[float] = []
        self.held: list[float] = []

    def spot(self, x: float, y: float) -> QPoint:
        pixel = self.canvas.getCoordinateTransform().transform(QgsPointXY(x, y))
        return QPoint(round(pixel.x()), round(pixel.y()))

    def zoom(self, x: float, y: float, width: float) -> None:
        self.canvas.setExtent(QgsRectangle.fromCenterAndSize(QgsPointXY(x, y), width, width * 0.7))
        self.canvas.waitWhileRendering()
        pause(0.5)

    def click(self, x: float, y: float, modifiers: Any = Qt.KeyboardModifier.NoModifier) -> None:
        """Click, and time it from the press until the polygon is painted."""
        spot = self.spot(x, y)
        pause(0.05)
        self.holds.longest()
        begun = time.perf_counter()
        QTest.mouseClick(self.canvas.viewport(), Qt.MouseButton.LeftButton, modifiers, spot)
        wait(lambda: not self.controller.drawing.busy)
        self.canvas.viewport().repaint()
        self.times.append((time.perf_counter() - begun) * 1000.0)
        pause(0.03)
        self.held.append(self.holds.longest())
        if self.controller.drawing.result is not None:
            self.decoding.append(self.controller.drawing.result.milliseconds)

    def box(self, bounds: list[float]) -> None:
        viewport = self.canvas.viewport()
        first, last = self.spot(bounds[0], bounds[3]), self.spot(bounds[2], bounds[1])
        QTest.mousePress(viewport, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, first)
        for step in range(1, 9):
            QTest.mouseMove(viewport, first + (last - first) * step / 8)
            pause(0.02)
        QTest.mouseRelease(viewport, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, last)
        wait(lambda: not self.controller.drawing.busy)

    def key(self, code: Any, modifiers: Any = Qt.KeyboardModifier.NoModifier) -> None:
        QTest.keyClick(self.canvas, code, modifiers)
        wait(lambda: not self.controller.drawing.busy)

    def picture(self, name: str) -> None:
        pause(0.3)
        iface.mainWindow().grab().save(str(FOLDER / name))


def percentiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "count": len(ordered),
        "p50": round(ordered[len(ordered) // 2], 1),
        "p95": round(ordered[int(len(ordered) * 0.95)], 1),
        "longest": round(ordered[-1], 1),
    }


def start(run: Callable[[], dict[str, Any]]) -> None:
    """Call a function soon, write what it returns to ``report.json``, and end QGIS."""

    def main() -> None:
        try:
            report = run()
        except BaseException:
            report = {"error": traceback.format_exc()}
            iface.mainWindow().grab().save(str(FOLDER / "error.png"))
        (FOLDER / "report.json").write_text(json.dumps(report, indent=1))
        iface.mapCanvas().unsetMapTool(iface.mapCanvas().mapTool())
        QgsProject.instance().clear()
        QgsProject.instance().setDirty(False)
        iface.actionExit().trigger()

    QTimer.singleShot(1500, main)
