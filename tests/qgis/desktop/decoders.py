"""Two decoders of a store in the real QGIS window, run by ``run.sh``: compare, swap, accept, and time it.

Uses the folder that `prepare` makes, as ``end_to_end.py`` does; its store has a second decoder. ``report.json`` and
screenshots go there too.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qgis.core import QgsApplication, QgsPointXY, QgsProject, QgsRasterLayer, QgsRectangle
from qgis.PyQt.QtCore import QPoint, Qt, QTimer
from qgis.PyQt.QtTest import QTest
from qgis.utils import iface, plugins

FOLDER = Path(os.environ["GEOSAM_ES_DESKTOP"])


def wait(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("timed out")
        QgsApplication.processEvents()
        time.sleep(0.001)


def pause(seconds: float) -> None:
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end, seconds + 5)


class Window:
    def __init__(self) -> None:
        self.canvas = iface.mapCanvas()
        self.interaction = plugins["geosam_es"].interaction
        self.controller = self.interaction.controller
        self.decoders = self.interaction.decoders
        self.compared: Any = None
        self.times: dict[str, list[float]] = {"answer": [], "both": [], "swap": []}
        self.gaps: list[float] = []
        self.held: list[float] = []
        self._beat = time.perf_counter()
        self._timer = QTimer()
        self._timer.timeout.connect(self._on_beat)
        self._timer.start(5)
        self.interaction.comparison.compared.connect(self._on_compared)

    def _on_beat(self) -> None:
        now = time.perf_counter()
        self.gaps.append((now - self._beat) * 1000.0)
        self._beat = now

    def _on_compared(self, comparison: Any) -> None:
        self.compared = comparison

    def _end(self, name: str, begun: float) -> None:
        """Record how long something took, and for how long the event loop was blocked meanwhile."""
        self.times[name].append((time.perf_counter() - begun) * 1000.0)
        self.held.append(max((gap for gap in self.gaps), default=0.0))

    def _begin(self) -> float:
        pause(0.05)
        self.compared = None
        self.gaps.clear()
        return time.perf_counter()

    def key(self, code: Any) -> None:
        QTest.keyClick(self.canvas, code)

    def click(self, x: float, y: float, modifiers: Any = Qt.KeyboardModifier.NoModifier) -> None:
        pixel = self.canvas.getCoordinateTransform().transform(QgsPointXY(x, y))
        begun = self._begin()
        spot = QPoint(round(pixel.x()), round(pixel.y()))
        QTest.mouseClick(self.canvas.viewport(), Qt.MouseButton.LeftButton, modifiers, spot)
        wait(lambda: not self.controller.drawing.busy)
        self._end("answer", begun)
        if self.interaction._actions.compare.isChecked():
            wait(lambda: self.compared is not None)
            self._end("both", begun)

    def swap(self) -> None:
        chosen = self.decoders.state.chosen
        begun = self._begin()
        self.key(Qt.Key.Key_X)
        wait(lambda: self.decoders.state.chosen != chosen and self.compared is not None)
        self._end("swap", begun)

    def zoom(self, x: float, y: float, width: float) -> None:
        self.canvas.setExtent(QgsRectangle.fromCenterAndSize(QgsPointXY(x, y), width, width * 0.7))
        self.canvas.waitWhileRendering()
        pause(0.6)

    def picture(self, name: str) -> None:
        pause(0.3)
        iface.mainWindow().grab().save(str(FOLDER / name))


def run() -> dict[str, Any]:
    objects = json.loads((FOLDER / "objects.json").read_text())
    window = Window()
    raster = QgsRasterLayer(str(FOLDER / "ortho.tif"), "ortho")
    QgsProject.instance().setCrs(raster.crs())
    QgsProject.instance().addMapLayer(raster)
    iface.setActiveLayer(raster)
    next(a for a in iface.mapToolActionGroup().actions() if a.objectName() == "geosamEsTool").trigger()
    wait(lambda: len(window.decoders.state.decoders) > 1)
    target = FOLDER / "polygons.gpkg"
    window.interaction.dock.new_layer_wanted.emit(str(target))
    layer = window.interaction.dock.layer
    window.key(Qt.Key.Key_C)
    for index, (_, x, y, bounds) in enumerate(objects[:14]):
        size = max(bounds[2] - bounds[0], bounds[3] - bounds[1])
        window.zoom(x, y, max(40.0, size * 3))
        window.click(x, y)
        if index % 3 == 0:
            window.click(x + 0.5, y)
        window.picture(f"compare{index}.png")
        if index % 2:
            window.swap()
            window.picture(f"swapped{index}.png")
        QTest.mouseClick(window.canvas.viewport(), Qt.MouseButton.RightButton)
        wait(lambda count=index + 1: layer.featureCount() == count)
    kept = [json.loads(feature["prompts"]).get("decoder", "original") for feature in layer.getFeatures()]
    report = {name: sorted(round(value, 1) for value in values) for name, values in window.times.items()}
    window.picture("end.png")
    # A swap lasts until the next one.
    return {**report, "longest_hold_ms": round(max(window.held), 1), "decoders": kept, "equal": len(set(kept)) == 2}


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
