"""Time every gesture in the real QGIS window, run by ``run.sh``: strokes, cuts, merges, a coverage, and undo of each.

``report.json`` says for each gesture how long it takes from the release of the button or key until the result is
painted, and for how long the window was held meanwhile, both in milliseconds. Each undo must bring back what was.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from qgis.core import Qgis, QgsFeature, QgsGeometry, QgsPointXY, QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QEvent, QPoint, QPointF, Qt
from qgis.PyQt.QtGui import QMouseEvent
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QApplication, QCheckBox
from qgis.utils import iface

sys.path.append(os.environ["GEOSAM_ES_TESTS"])

from window import FOLDER, Desktop, pause, percentiles, start, wait

TIMES = 8
VERTICES = 5000
CELLS, SIDE, BEND = 12, 40.0, 3.0
"""The coverage: cells in a row and a column, their side in metres, and how far their borders bend."""

NONE, ALT, CONTROL = (
    Qt.KeyboardModifier.NoModifier,
    Qt.KeyboardModifier.AltModifier,
    Qt.KeyboardModifier.ControlModifier,
)
LEFT = Qt.MouseButton.LeftButton

Place = tuple[float, float]


class Gestures(Desktop):
    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[float]] = {}
        self.holding: dict[str, list[float]] = {}
        self.moves: list[float] = []
        self.wrong: list[str] = []

    @property
    def layer(self) -> Any:
        return self.interaction.dock.layer

    @property
    def drawing(self) -> Any:
        return self.controller.drawing

    def settled(self) -> bool:
        return not (self.drawing.busy or self.controller.is_waiting)

    def steps(self) -> int:
        return self.layer.undoStack().index()

    def shown(self) -> str:
        result = self.drawing.result
        return result.geometry.wkt if result is not None else ""

    def written(self) -> dict[int, str]:
        return {feature.id(): feature.geometry().asWkt() for feature in self.layer.getFeatures()}

    def timed(self, name: str, act: Callable[[], None], done: Callable[[], Any]) -> None:
        pause(0.05)
        # The map of the gesture before.
        wait(lambda: not self.canvas.isDrawing())
        self.holds.longest()
        begun = time.perf_counter()
        act()
        try:
            wait(lambda: self.settled() and done(), 10.0)
        except TimeoutError as error:
            messages = [item.text() for item in iface.messageBar().items()]
            raise AssertionError(f"{name}: nothing came of it; {messages}") from error
        self.canvas.viewport().repaint()
        self.found.setdefault(name, []).append((time.perf_counter() - begun) * 1000.0)
        pause(0.03)
        self.holding.setdefault(name, []).append(self.holds.longest())

    def press(self, code: Any, modifiers: Any = NONE) -> None:
        QTest.keyClick(self.canvas, code, modifiers)

    def move(self, spot: QPoint, buttons: Any = LEFT, modifiers: Any = NONE) -> None:
        """Move the mouse; QTest's own moves carry no buttons."""
        viewport = self.canvas.viewport()
        where = QPointF(spot), QPointF(viewport.mapToGlobal(spot))
        none = Qt.MouseButton.NoButton
        QApplication.sendEvent(viewport, QMouseEvent(QEvent.Type.MouseMove, *where, none, buttons, modifiers))

    def stroke(self, name: str, places: list[Place], modifiers: Any = NONE, times_moves: bool = False) -> None:
        """Drag along places, and time what comes of the release."""
        viewport, spots = self.canvas.viewport(), [self.spot(*place) for place in places]
        self.move(spots[0], Qt.MouseButton.NoButton)
        QTest.mousePress(viewport, LEFT, modifiers, spots[0])
        for first, last in zip(spots, spots[1:]):
            for step in range(1, 13):
                begun = time.perf_counter()
                self.move(first + (last - first) * step / 12, LEFT, modifiers)
                viewport.repaint()
                if times_moves:
                    self.moves.append((time.perf_counter() - begun) * 1000.0)
                pause(0.005)
        before, steps = self.shown(), self.steps()
        release = lambda: QTest.mouseRelease(viewport, LEFT, modifiers, spots[-1])  # noqa: E731
        self.timed(name, release, lambda: self.shown() != before or self.steps() != steps)

    def undone(self, name: str, shown: str, written: dict[int, str]) -> None:
        """Undo, and check that everything is as it was."""
        key = lambda: self.press(Qt.Key.Key_Z, CONTROL)  # noqa: E731
        now, steps = self.shown(), self.steps()
        self.timed(f"undo of {name}", key, lambda: self.shown() != now or self.steps() != steps)
        if steps != self.steps():
            # The object of an accepted polygon is on the map again.
            self.leave()
        elif self.shown() != shown:
            self.wrong.append(f"{name}: another polygon on the map")
        if self.written() != written:
            self.wrong.append(f"{name}: other polygons in the layer")

    def leave(self) -> None:
        for _ in range(4):
            if not (self.drawing.can_undo or self.interaction.tool.mode):
                return
            self.key(Qt.Key.Key_Escape)

    def mode(self, code: Any) -> None:
        self.press(code)
        wait(lambda: self.interaction.tool.mode)

    def add(self, outlines: list[QgsGeometry]) -> list[int]:
        features = []
        for outline in outlines:
            feature = QgsFeature(self.layer.fields())
            feature.setGeometry(outline)
            features.append(feature)
        before = set(self.written())
        if not self.layer.dataProvider().addFeatures(features)[0]:
            raise AssertionError("the polygons were not added")
        self.layer.updateExtents()
        self.layer.startEditing()
        return sorted(set(self.written()) - before)

    # What is timed.

    def prompts(self, bounds: list[float], x: float, y: float) -> None:
        """A click, a lasso and a scribble on an object of the image."""
        min_x, min_y, max_x, max_y = bounds
        self.zoom(x, y, 4 * max(max_x - min_x, max_y - min_y))
        written = self.written()
        click = lambda: QTest.mouseClick(self.canvas.viewport(), LEFT, NONE, self.spot(x, y))  # noqa: E731
        self.timed("click", click, lambda: self.drawing.has_polygon)
        self.undone("click", "", written)
        loop = [(min_x, min_y), (max_x, min_y), (max_x, max_y), (min_x, max_y), (min_x, min_y)]
        self.stroke("lasso", loop, ALT)
        self.undone("lasso", "", written)
        self.stroke("scribble", [((x + min_x) / 2, y), ((x + max_x) / 2, y)], ALT)
        self.undone("scribble", "", written)
        self.leave()

    def outline(self, x: float, y: float) -> None:
        """Refine, brush, erase and cut an outline of many vertices, and cut and merge it in the layer."""
        radius = 100.0
        (long,) = self.add([QgsGeometry.fromPolygonXY([wavy(x, y, radius, VERTICES)])])
        self.zoom(x, y, 5 * radius)
        for turn in range(TIMES):
            angle = 2 * math.pi * turn / TIMES
            east, north = math.cos(angle), math.sin(angle)
            edge, out, far = ((x + way * radius * east, y + way * radius * north) for way in (0.9, 1.2, 1.5))
            written = self.written()
            self.move(self.spot(x, y), Qt.MouseButton.NoButton)
            self.timed("refine (R)", lambda: self.press(Qt.Key.Key_R), lambda: self.drawing.has_polygon)
            for name, code, places in (("brush", Qt.Key.Key_B, [edge, out]), ("eraser", Qt.Key.Key_E, [out, edge])):
                before = self.shown()
                self.mode(code)
                self.stroke(name, places, times_moves=True)
                if name == "brush":
                    self.stroke("brush", [out, far], times_moves=True)
                    self.press(Qt.Key.Key_Z, CONTROL)
                    wait(self.settled)
                self.undone(name, before, written)
            self.leave()
            side = 2 * radius
            across = [(x - side * east, y - side * north), (x + side * east, y + side * north)]
            self.mode(Qt.Key.Key_K)
            self.stroke("cut in the layer (K)", across)
            self.merge("merge (M)", (x - 30 * north, y + 30 * east), (x + 30 * north, y - 30 * east))
            self.undone("cut in the layer (K)", "", written)
            self.brushed_cut(x, y, across, written)
        self.layer.rollBack()
        self.layer.dataProvider().deleteFeatures([long])

    def brushed_cut(self, x: float, y: float, across: list[Place], written: dict[int, str]) -> None:
        """Cut the polygon being drawn, which is changed by hand."""
        self.move(self.spot(x, y), Qt.MouseButton.NoButton)
        self.press(Qt.Key.Key_R)
        wait(lambda: self.settled() and self.drawing.has_polygon)
        self.mode(Qt.Key.Key_B)
        self.stroke("brush", [(x, y), (x + 120.0, y)])
        before = self.shown()
        self.mode(Qt.Key.Key_K)
        self.stroke("cut of the polygon drawn (K)", across)
        self.undone("cut of the polygon drawn (K)", before, written)
        self.leave()

    def writes(self, name: str, code: Any) -> None:
        steps = self.steps()
        self.timed(name, lambda: self.press(code), lambda: self.steps() != steps)

    def merge(self, name: str, first: Place, second: Place) -> None:
        """Merge the polygons at two places, one of which is selected."""
        written = self.written()
        self.layer.selectByIds([self.under(*first)])
        self.move(self.spot(*second), Qt.MouseButton.NoButton)
        self.writes(name, Qt.Key.Key_M)
        self.layer.removeSelection()
        self.undone(name, "", written)

    def under(self, x: float, y: float) -> int:
        here = QgsGeometry.fromPointXY(QgsPointXY(x, y))
        return next(feature.id() for feature in self.layer.getFeatures() if feature.geometry().contains(here))

    def coverage(self, x: float, y: float) -> None:
        """Fill, carve, split, cut and merge in a coverage, with a strip of free ground in its middle."""
        self.add(cells(x, y))
        box = self.interaction.dock.options_box.coverage
        box.findChild(QCheckBox, "coverage").setChecked(True)
        self.zoom(x, y, 9 * SIDE)
        for turn in range(TIMES):
            north = y + (turn - TIMES / 2) * SIDE * 0.7
            written = self.written()
            for ground, first, last in (
                ("fill", (x - 0.4 * SIDE, north), (x + 0.9 * SIDE, north + 5)),
                ("carve", (x + 1.2 * SIDE, north), (x + 2.7 * SIDE, north + 8)),
                ("split", (x + 1.3 * SIDE, north), (x + 1.5 * SIDE, north + 5)),
            ):
                for _ in range(3):
                    if box.mode.ground != ground:
                        self.press(Qt.Key.Key_V)
                        pause(0.02)
                self.mode(Qt.Key.Key_B)
                self.stroke("brush in coverage mode", [first, last])
                self.writes(f"accept: {ground}", Qt.Key.Key_Return)
                self.undone(f"accept: {ground}", "", written)
                self.leave()
            self.mode(Qt.Key.Key_K)
            self.stroke("cut in coverage mode (K)", [(x + 0.8 * SIDE, north), (x + 3.6 * SIDE, north)])
            self.undone("cut in coverage mode (K)", "", written)
            self.merge("merge in coverage mode (M)", (x + 1.5 * SIDE, north), (x + 2.5 * SIDE, north))


def wavy(x: float, y: float, radius: float, count: int) -> list[QgsPointXY]:
    turns = [2 * math.pi * step / count for step in range(count)]
    rims = [radius * (1 + 0.03 * math.sin(40 * turn)) for turn in turns]
    return [QgsPointXY(x + rim * math.cos(turn), y + rim * math.sin(turn)) for rim, turn in zip(rims, turns)]


def cells(x: float, y: float) -> list[QgsGeometry]:
    """Return cells whose borders bend, without those of the column in the middle."""

    def node(col: float, row: float) -> QgsPointXY:
        bend = BEND * math.sin(2 * math.pi * (col + row) * 1.3)
        return QgsPointXY(x + (col - CELLS / 2) * SIDE + bend, y + (row - CELLS / 2) * SIDE + bend)

    parts = [step / 12 for step in range(12)]
    outlines = []
    for col in range(CELLS):
        for row in range(CELLS):
            if col == CELLS // 2:
                continue
            ring = [node(col + part, row) for part in parts] + [node(col + 1, row + part) for part in parts]
            ring += [node(col + 1 - part, row + 1) for part in parts] + [node(col, row + 1 - part) for part in parts]
            outlines.append(QgsGeometry.fromPolygonXY([ring]))
    return outlines


def run() -> dict[str, Any]:
    desktop = Gestures()
    objects = json.loads((FOLDER / "objects.json").read_text())
    raster = QgsRasterLayer(str(FOLDER / "ortho.tif"), "ortho")
    QgsProject.instance().setCrs(raster.crs())
    QgsProject.instance().addMapLayer(raster)
    next(a for a in iface.mapToolActionGroup().actions() if a.objectName() == "geosamEsTool").trigger()
    wait(lambda: desktop.controller.store is not None)
    desktop.interaction.dock.new_layer_wanted.emit(str(FOLDER / "polygons.gpkg"))
    wait(lambda: desktop.layer is not None)
    desktop.layer.startEditing()
    for _, x, y, bounds in objects[4 : 4 + TIMES]:
        desktop.prompts(bounds, x, y)
    middle = raster.extent().center()
    desktop.outline(middle.x(), middle.y())
    desktop.coverage(middle.x(), middle.y())
    desktop.picture("coverage.png")
    names = [*desktop.found, "brush moves"]
    desktop.found["brush moves"] = desktop.holding["brush moves"] = desktop.moves
    return {
        "qgis": Qgis.QGIS_VERSION.partition("-")[0],
        "gestures": {name: percentiles(desktop.found[name]) for name in names},
        "held": {name: percentiles(desktop.holding[name]) for name in names},
        "wrong": desktop.wrong,
        "equal": not desktop.wrong,
    }


start(run)
