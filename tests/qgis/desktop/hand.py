"""A person at the real QGIS window: the mouse and the keys of the X server, and what they do with the plugin.

``day.py`` and ``film.py`` run it inside QGIS. Files go to the folder named by GEOSAM_ES_DESKTOP.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsApplication,
    QgsCoordinateTransform,
    QgsGeometry,
    QgsPointXY,
    QgsProject,
    QgsRectangle,
)
from qgis.PyQt.QtCore import QPoint, QProcess, Qt, QTimer
from qgis.PyQt.QtWidgets import QAbstractButton, QApplication
from qgis.utils import iface, plugins

FOLDER = Path(os.environ["GEOSAM_ES_DESKTOP"])


def wait(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: timed out")
        QgsApplication.processEvents()
        time.sleep(0.001)


def pause(seconds: float) -> None:
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end, "pause", seconds + 5)


class Hand:
    """The mouse and the keyboard of the X server."""

    def __init__(self) -> None:
        self.presses = 0
        self.clicks = 0

    def _do(self, *words: Any) -> None:
        process = QProcess()
        process.start("xdotool", [str(word) for word in words])
        wait(lambda: process.state() == QProcess.ProcessState.NotRunning, "xdotool")
        if process.exitCode():
            raise RuntimeError(bytes(process.readAllStandardError()).decode())
        pause(0.03)

    def move(self, widget: Any, spot: QPoint) -> None:
        place = widget.mapToGlobal(spot)
        self._do("mousemove", place.x(), place.y())

    def click(self, widget: Any, spot: QPoint, button: int = 1, modifier: str = "") -> None:
        self.clicks += 1
        self.move(widget, spot)
        held = ("keydown", modifier), ("keyup", modifier)
        self._do(*(held[0] if modifier else ()), "click", button, *(held[1] if modifier else ()))

    def press(self, widget: Any) -> None:
        """Click in the middle of a button or another widget."""
        self.click(widget, widget.rect().center())

    def drag(self, widget: Any, first: QPoint, last: QPoint) -> None:
        self.stroke(widget, [first + (last - first) * step / 6 for step in range(7)])

    def stroke(self, widget: Any, spots: list[QPoint]) -> None:
        self.clicks += 1
        self.move(widget, spots[0])
        self._do("mousedown", 1)
        for spot in spots[1:]:
            self.move(widget, spot)
        self._do("mouseup", 1)

    def key(self, name: str) -> None:
        self.presses += 1
        self._do("key", name)

    def type(self, text: str) -> None:
        self._do("type", text)


class Person:
    def __init__(self) -> None:
        self.hand = Hand()
        self.canvas = iface.mapCanvas()
        self.report: dict[str, Any] = {}

    # What is seen.

    def picture(self, name: str) -> None:
        pause(0.4)
        QApplication.primaryScreen().grabWindow(0).save(str(FOLDER / f"{name}.png"))

    @property
    def interaction(self) -> Any:
        return plugins["geosam_es"].interaction

    @property
    def drawing(self) -> Any:
        return self.interaction.controller.drawing

    @property
    def layer(self) -> Any:
        return self.interaction.dock.layer

    def messages(self) -> list[str]:
        return [item.text() for item in iface.messageBar().items() if item.title() == "GeoSAM-ES"]

    # What is done.

    def zoom(self, bounds: list[float], factor: float = 1.8) -> None:
        rectangle = QgsRectangle(*bounds)
        rectangle.scale(factor)
        drawn: list[bool] = []
        self.canvas.setExtent(rectangle)
        self.canvas.mapCanvasRefreshed.connect(lambda: drawn.append(True))
        self.canvas.refresh()
        wait(lambda: drawn, "rendering")
        self.canvas.mapCanvasRefreshed.disconnect()
        pause(0.3)

    def spot(self, x: float, y: float) -> QPoint:
        pixel = self.canvas.getCoordinateTransform().transform(QgsPointXY(x, y))
        return QPoint(round(pixel.x()), round(pixel.y()))

    def settled(self) -> bool:
        return not self.drawing.busy and not self.interaction.stores.is_opening

    def click(self, x: float, y: float, modifier: str = "") -> None:
        self.hand.click(self.canvas.viewport(), self.spot(x, y), modifier=modifier)
        wait(lambda: self.settled() and self.drawing.result is not None, "answer")

    def box(self, bounds: list[float]) -> None:
        first, last = self.spot(bounds[0], bounds[3]), self.spot(bounds[2], bounds[1])
        self.hand.drag(self.canvas.viewport(), first, last)
        wait(lambda: self.settled() and self.drawing.result is not None, "answer")

    def key(self, name: str) -> None:
        self.hand.key(name)
        wait(self.settled, f"key {name}")

    def take_tool(self) -> None:
        """Press the plugin's button."""
        tool = plugins["geosam_es"]._actions.tool
        bar = next(widget for widget in tool.associatedWidgets() if hasattr(widget, "widgetForAction"))
        if not tool.isChecked():
            self.hand.press(bar.widgetForAction(tool))
        wait(lambda: self.interaction is not None and self.canvas.mapTool() is self.interaction.tool, "tool")

    def segment(self, field: dict[str, Any]) -> float:
        """Draw a field as a person does: a click, a look at the result, and a box if it is another object.

        Returns the IoU with its true outline.
        """
        outline = QgsGeometry.fromWkt(field["outline"])
        self.click(*field["inside"])
        for _ in range(3):
            if self.agreement(outline) >= 0.85:
                break
            self.key("Tab")
        else:
            self.key("Escape")
            self.box(field["bounds"])
        return self.agreement(outline)

    def agreement(self, outline: QgsGeometry) -> float:
        shown = QgsGeometry.fromWkt(self.drawing.result.geometry.wkt)
        crs, project = self.interaction.stores.store.crs, QgsProject.instance()
        shown.transform(QgsCoordinateTransform(crs, project.crs(), project))
        if shown.isEmpty():
            return 0.0
        return shown.intersection(outline).area() / shown.combine(outline).area()

    def button(self, index: int = 0) -> Any:
        """A button of the message shown."""
        item = iface.messageBar().currentItem()
        wanted = [b for b in item.findChildren(QAbstractButton) if b.isVisible() and b.objectName() != "mCloseBtn"]
        return wanted[index]

    def run(self) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Write further files, at the end or after an error."""


def start(kind: type[Person]) -> None:
    """Run a person's work soon, in a maximised window, write ``report.json``, and end QGIS."""

    def work() -> None:
        person = kind()
        try:
            person.run()
            person.report["done"] = True
        except BaseException:
            person.report["error"] = traceback.format_exc()
            person.report["messages"] = person.messages()
            person.picture("error")
        (FOLDER / "report.json").write_text(json.dumps(person.report, indent=1, ensure_ascii=False))
        person.finish()
        os._exit(0)

    iface.mainWindow().setWindowState(Qt.WindowState.WindowMaximized)
    QTimer.singleShot(2500, work)
