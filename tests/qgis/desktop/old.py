"""A whole session in the real QGIS window, run by ``run.sh``: open, click, box, cycle, undo, accept, save, reopen.

The folder named by GEOSAM_ES_DESKTOP holds an orthophoto ``ortho.tif``, its store, and ``objects.json`` with objects to
click, each as [class, x, y, [min_x, min_y, max_x, max_y]] in map units. ``report.json`` and screenshots go there too.
"""

from __future__ import annotations

import json
import os
import runpy
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qgis.core import QgsApplication, QgsPointXY, QgsProject, QgsRasterLayer, QgsRectangle, QgsVectorLayer
from qgis.PyQt.QtCore import QPoint, Qt, QTimer
from qgis.PyQt.QtTest import QTest
from qgis.utils import iface, plugins

FOLDER = Path(os.environ["GEOSAM_ES_DESKTOP"])
CLASSES = "code,name,color\nI1,Arable land,#e6c229\nJ1,Buildings,#d1495b\nG1,Trees,#2e933c\nC1,Water,#2374ab\n"
CODES = {"field": 0, "building": 1, "tree": 2, "water": 3}


def wait(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("timed out")
        QgsApplication.processEvents()
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

    def stroke(self, key: Any, places: list[tuple[float, float]]) -> float:
        """Press the key of a mode, drag, and return the milliseconds from the release until the result is painted."""
        viewport, spots = self.canvas.viewport(), [self.spot(x, y) for x, y in places]
        self.key(key)
        QTest.mousePress(viewport, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, spots[0])
        for first, last in zip(spots, spots[1:]):
            for step in range(1, 9):
                QTest.mouseMove(viewport, first + (last - first) * step / 8)
                pause(0.005)
        print("stroke", key, file=open(str(FOLDER/"trace.txt"),"a"))
        before = self.controller.drawing.result
        begun = time.perf_counter()
        QTest.mouseRelease(viewport, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, spots[-1])
        wait(lambda: not self.controller.drawing.busy and self.controller.drawing.result is not before)
        viewport.repaint()
        elapsed = (time.perf_counter() - begun) * 1000.0
        if self.interaction.tool.mode:
            self.key(Qt.Key.Key_Escape)
        return elapsed

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


def gestures(desktop: Desktop, objects: list[Any]) -> dict[str, Any]:
    """Draw by hand on each object, and return the times of each gesture from its release until it is painted."""
    times: dict[str, list[float]] = {name: [] for name in ("brush", "eraser", "cut", "lasso", "scribble", "refine")}
    desktop.held.clear()
    for _, x, y, (min_x, min_y, max_x, max_y) in objects:
        print("object", x, y, file=open(str(FOLDER/"trace.txt"),"a"))
        desktop.zoom(x, y, 4 * max(max_x - min_x, max_y - min_y))
        desktop.click(x, y)
        across = [(min_x - (max_x - min_x) / 4, y), (max_x + (max_x - min_x) / 4, y)]
        times["brush"].append(desktop.stroke(Qt.Key.Key_B, [(x, y), across[1]]))
        times["eraser"].append(desktop.stroke(Qt.Key.Key_E, [across[1], ((x + max_x) / 2, y)]))
        far = 2 * (max_x - min_x)
        times["cut"].append(desktop.stroke(Qt.Key.Key_K, [(x - far, y + 0.1), (x + far, y + 0.1)]))
        desktop.key(Qt.Key.Key_Return)
        pause(0.2)
        QTest.mouseMove(desktop.canvas.viewport(), desktop.spot(x, y - 0.4))
        begun = time.perf_counter()
        QTest.keyClick(desktop.canvas, Qt.Key.Key_R)
        wait(lambda: not desktop.controller.drawing.busy and desktop.controller.drawing.result is not None)
        desktop.canvas.viewport().repaint()
        times["refine"].append((time.perf_counter() - begun) * 1000.0)
        desktop.key(Qt.Key.Key_Escape)
        loop = [(min_x, min_y), (max_x, min_y), (max_x, max_y), (min_x, max_y), (min_x, min_y)]
        times["lasso"].append(desktop.stroke(Qt.Key.Key_L, loop))
        desktop.key(Qt.Key.Key_Escape)
        times["scribble"].append(desktop.stroke(Qt.Key.Key_L, [((x + min_x) / 2, y), ((x + max_x) / 2, y)]))
        desktop.key(Qt.Key.Key_Escape)
        desktop.held.append(desktop.holds.longest())
    report: dict[str, Any] = {f"{name}_ms": percentiles(values) for name, values in times.items()}
    report["gestures_held_ms"] = percentiles(desktop.held)
    desktop.held.clear()
    return report


def run() -> dict[str, Any]:
    """Run the session, and return its times and checks."""
    objects = json.loads((FOLDER / "objects.json").read_text())
    import faulthandler; faulthandler.dump_traceback_later(60, file=open(str(FOLDER / "where.txt"), "w"), repeat=True)
    desktop = Desktop()
    report: dict[str, Any] = {}
    raster = QgsRasterLayer(str(FOLDER / "ortho.tif"), "ortho")
    QgsProject.instance().setCrs(raster.crs())
    QgsProject.instance().addMapLayer(raster)
    iface.setActiveLayer(raster)
    pause(1.0)
    desktop.holds.longest()
    next(a for a in iface.mapToolActionGroup().actions() if a.objectName() == "geosamEsTool").trigger()
    wait(lambda: desktop.controller.store is not None)
    pause(0.5)
    report["hold_open_ms"] = desktop.holds.longest()
    target = FOLDER / "polygons.gpkg"
    desktop.interaction.dock.new_layer_wanted.emit(str(target))
    layer = desktop.interaction.dock.layer
    (FOLDER / "classes.csv").write_text(CLASSES)
    desktop.interaction.dock.class_box.csv_chosen.emit(str(FOLDER / "classes.csv"))
    pause(1.0)
    desktop.holds.longest()
    expected: list[tuple[str, float]] = []
    for index, (name, x, y, bounds) in enumerate(objects[:4]):
        size = max(bounds[2] - bounds[0], bounds[3] - bounds[1])
        desktop.zoom(x, y, size * 4)
        desktop.key(Qt.Key.Key_1 + CODES[name])
        if index == 3:
            desktop.box([bounds[0] - size / 20, bounds[1] - size / 20, bounds[2] + size / 20, bounds[3] + size / 20])
        else:
            desktop.click(x, y)
            desktop.click(bounds[2] + size / 4, bounds[3] + size / 4, Qt.KeyboardModifier.ShiftModifier)
            desktop.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
            for _ in range(desktop.controller.drawing.result.candidates):
                desktop.key(Qt.Key.Key_Tab)
        desktop.picture(f"object{index}.png")
        expected.append(("IJGC"[CODES[name]] + "1", desktop.controller.drawing.result.geometry.area))
        if index % 2:
            desktop.key(Qt.Key.Key_Return)
        else:
            QTest.mouseClick(desktop.canvas.viewport(), Qt.MouseButton.RightButton)
        wait(lambda count=index + 1: layer.featureCount() == count)
    report["undo_steps"] = layer.undoStack().count()
    iface.setActiveLayer(layer)
    desktop.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    report["ctrl_z_goes_on_in_the_layer"] = layer.featureCount() == len(expected) - 1
    layer.undoStack().redo()
    iface.actionSaveActiveLayerEdits().trigger()
    again = QgsVectorLayer(str(target), "again", "ogr")
    written = [(f["class"], f.geometry().area()) for f in again.getFeatures()]
    report["equal"] = all(a[0] == b[0] and abs(a[1] - b[1]) < 0.01 * a[1] for a, b in zip(expected, written))
    plain = json.loads((FOLDER / "geometry.json").read_text())
    inside = json.loads((FOLDER / "geometry.json").read_text())
    report["shapely_differs_in"] = [name for name in plain if json.loads(json.dumps(inside[name])) != plain[name]]
    report["equal"] = report["equal"] and not report["shapely_differs_in"]
    report["features"] = len(written)
    report["provenance"] = all(f["prompts"] and f["model"] for f in again.getFeatures())
    desktop.holds.longest()
    for figures in (desktop.times, desktop.decoding, desktop.held):
        figures.clear()
    native = desktop.canvas.width() * raster.rasterUnitsPerPixelX()
    # On the second map, the first click of an object may wait until the enlarged tile is encoded.
    for key, width in (("", native), ("enlarged_", native / 3)):
        for _, x, y, bounds in objects[4:6]:
            desktop.zoom(x, y, max(width, 4 * (bounds[2] - bounds[0])))
            desktop.click(x, y)
            desktop.click(x + 0.5, y)
            desktop.key(Qt.Key.Key_Escape)
        for name, figures in (
            ("press_to_paint_ms", desktop.times),
            ("decoding_ms", desktop.decoding),
            ("event_loop_held_ms", desktop.held),
        ):
            report[key + name] = percentiles(figures)
            figures.clear()
    report |= gestures(desktop, objects[4:])
    QgsProject.instance().removeMapLayer(raster.id())
    desktop.click(objects[0][1], objects[0][2])
    report["without_raster"] = desktop.controller.drawing.has_polygon or desktop.controller.drawing.result is None
    return report


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
