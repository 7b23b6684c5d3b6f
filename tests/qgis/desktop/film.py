"""From a base map to a coverage in the real QGIS window, run by ``film.sh``, with the X server's mouse and keys.

Ten coarse polygons over fields become a coverage by split, carve, refine, brush, cut and merge; then *Check coverage*.
Each step checks that it did what it should. The folder named by GEOSAM_ES_DESKTOP holds what ``prepare_film.py``
writes; ``report.json``, ``film.gpkg`` and a picture of each step go there. GEOSAM_ES_TESTS is the folder of this file.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from qgis.core import QgsApplication, QgsFeature, QgsGeometry, QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QPoint
from qgis.PyQt.QtWidgets import QCheckBox, QDockWidget, QDoubleSpinBox, QScrollArea
from qgis.utils import iface

sys.path.append(os.environ["GEOSAM_ES_TESTS"])

from hand import FOLDER, Person, pause, start, wait

SPLITS, SPLITS_OF_ONE, CARVES, POLYGONS = 22, 7, 2, 30
GOOD = 0.7
"""A drawn field with a smaller IoU is discarded."""

SPLIT = (8, 5, 7, 1, 4, 2, 9, 6)
"""The base polygons that fields are split off, in order; the one that is cut is not among them."""

CUT = 3

CROPS = 5
"""The first classes; those of the base map come after them."""

BORDER_M = 20.0
MIN_AREA_M2 = 200.0
STILL = 1e-6
"""Relative change of an area that is none."""

Field = dict[str, Any]


def require(condition: bool, what: str) -> None:
    if not condition:
        raise AssertionError(what)


class Film(Person):
    NAME = "film"

    def __init__(self) -> None:
        super().__init__()
        film = json.loads((FOLDER / "film.json").read_text())
        self.base, self.fields, self.all_fields = film["base"], film["fields"], film["all_fields"]
        self.drawn: list[Field] = []

    # What is in the layer.

    def features(self) -> dict[int, QgsFeature]:
        return {feature.id(): feature for feature in self.layer.getFeatures()}

    def at(self, field: Field) -> QgsFeature:
        inside = QgsGeometry.fromWkt("Point ({} {})".format(*field["inside"]))
        found = [feature for feature in self.layer.getFeatures() if feature.geometry().contains(inside)]
        require(len(found) == 1, f"{len(found)} polygons at {field['inside']}")
        return found[0]

    def neighbours(self, outline: QgsGeometry) -> list[QgsFeature]:
        near = outline.buffer(3, 4)
        return [feature for feature in self.layer.getFeatures() if feature.geometry().intersects(near)]

    @contextmanager
    def step(self, name: str, count: int, touched: int) -> Iterator[None]:
        """Expect a change of the number of polygons, that at least ``touched`` of them change, and no ground lost."""
        before, steps = self.features(), self.layer.undoStack().index()
        yield
        try:
            wait(lambda: self.layer.undoStack().index() > steps, name, 20)
        except TimeoutError as error:
            raise AssertionError(f"{name}: nothing written; {self.messages()}") from error
        after = self.features()
        changed = [
            key
            for key in {*before, *after}
            if key not in before
            or key not in after
            or abs(before[key].geometry().area() - after[key].geometry().area()) > 0.01
        ]
        areas = [sum(item.geometry().area() for item in features.values()) for features in (before, after)]
        require(len(after) - len(before) == count, f"{name}: {len(before)} polygons became {len(after)}")
        require(len(changed) >= touched, f"{name}: only {len(changed)} polygons changed")
        require(abs(areas[1] / areas[0] - 1) < STILL, f"{name}: the area of all went from {areas[0]} to {areas[1]}")
        done = self.report.setdefault("steps", {}).setdefault(name, {"times": 0, "changed": []})
        done["times"] += 1
        done["changed"].append(len(changed))

    # What is done.

    def open(self) -> None:
        project, raster = QgsProject.instance(), QgsRasterLayer(str(FOLDER / "fields.tif"), "fields")
        project.setCrs(raster.crs())
        project.addMapLayer(raster)
        self.only_panel()
        self.take_tool()
        dock = self.interaction.dock
        language = "es" if QgsApplication.instance().translation().startswith("es") else "en"
        dock.class_box.csv_chosen.emit(str(FOLDER / f"classes_{language}.csv"))
        dock.new_layer_wanted.emit(str(FOLDER / f"{self.NAME}.gpkg"))
        wait(lambda: self.layer is not None, "target layer")
        layer, features = self.layer, []
        for item in self.base:
            feature = QgsFeature(layer.fields())
            feature.setGeometry(QgsGeometry.fromWkt(item["outline"]))
            feature.setAttribute("class", item["class"])
            features.append(feature)
        require(layer.dataProvider().addFeatures(features)[0], "base map")
        layer.updateExtents()
        layer.startEditing()
        self.whole()

    def only_panel(self) -> None:
        for panel in iface.mainWindow().findChildren(QDockWidget):
            panel.setVisible(panel.objectName() == "GeoSamEsDock")

    def whole(self) -> None:
        extent = self.layer.extent()
        self.zoom([extent.xMinimum(), extent.yMinimum(), extent.xMaximum(), extent.yMaximum()], 1.04)

    @property
    def coverage(self) -> Any:
        return self.interaction.dock.options_box.coverage

    def shown(self, widget: Any) -> Any:
        """A widget of the group that holds the rules of the layer, scrolled into view."""
        self.interaction.dock.options_box.setCollapsed(False)
        pause(0.3)
        area = widget
        while not isinstance(area, QScrollArea):
            area = area.parent()
        area.ensureWidgetVisible(widget)
        pause(0.3)
        return widget

    def coverage_mode(self) -> None:
        switch = self.shown(self.coverage.findChild(QCheckBox, "coverage"))
        self.hand.click(switch, QPoint(10, switch.height() // 2))
        wait(lambda: self.mode.is_on, "coverage mode")
        self.interaction.dock.options_box.findChild(QDoubleSpinBox, "fill_holes_m2").setValue(MIN_AREA_M2)
        self.shown(self.coverage.findChild(QDoubleSpinBox, "coverage_min_area_m2")).setValue(MIN_AREA_M2)
        require(self.mode.min_area_m2 == MIN_AREA_M2, "minimum area")
        self.picture("1_base")
        self.interaction.dock.options_box.setCollapsed(True)

    @property
    def mode(self) -> Any:
        return self.coverage.mode

    def to_map(self) -> None:
        """The keys belong to the plugin while the pointer is over the map."""
        self.hand.move(self.canvas.viewport(), self.canvas.viewport().rect().center())

    def ground(self, wanted: str) -> None:
        self.to_map()
        for _ in range(3):
            if self.mode.ground == wanted:
                return
            self.key("v")
        require(self.mode.ground == wanted, f"V did not choose {wanted}")

    def crop(self, outline: QgsGeometry) -> str:
        """The key of a crop that no neighbour has, the crops in turn."""
        box = self.interaction.dock.class_box
        taken = {feature["class"] for feature in self.neighbours(outline)}
        codes = [item.code for item in box._items[:CROPS]]
        turns = [(len(self.drawn) + step) % CROPS for step in range(CROPS)]
        return str(next((index for index in turns if codes[index] not in taken), turns[0]) + 1)

    def draw(self, field: Field, name: str, touched: int, picture: str = "") -> bool:
        agreement = self.segment(field)
        if self.messages():
            # Where to keep the prepared image; the message covers a part of the map.
            self.hand.press(self.button())
            wait(lambda: not self.messages(), "message closed")
            self.to_map()
        if agreement < GOOD:
            self.key("Escape")
            return False
        self.key(self.crop(QgsGeometry.fromWkt(self.drawing.result.geometry.wkt)))
        if picture:
            self.picture(picture)
        with self.step(name, 1, touched):
            self.key("Return")
        self.drawn.append(field)
        return True

    def split(self) -> None:
        self.ground("split")
        done = 0
        for index in SPLIT:
            inside = [field for field in self.fields if field["base"] == index and field["beyond"] < 0.05]
            if not inside or done == SPLITS:
                continue
            box = QgsGeometry.fromWkt(self.base[index]["outline"]).boundingBox()
            self.zoom([box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum()], 1.1)
            end = min(done + SPLITS_OF_ONE, SPLITS)
            for field in inside:
                if done < end and self.draw(field, "split", 2, "2_split" if done == 5 else ""):
                    done += 1
        require(done == SPLITS, f"only {done} fields were split off")
        self.whole()
        self.picture("3_after_splits")

    def carve(self) -> None:
        self.ground("carve")
        done = 0
        for field in sorted(self.fields, key=lambda field: -field["beyond"]):
            if field["beyond"] >= 0.05 and done < CARVES:
                self.zoom(field["bounds"], 2.2)
                done += self.draw(field, "carve", 3, f"4_carve_{done}")
        require(done > 0, "no field was carved out of two polygons")

    def error(self, field: Field, only_missing: bool = False) -> QgsGeometry:
        """The largest part in which a polygon differs from the truth."""
        truth, polygon = QgsGeometry.fromWkt(field["outline"]), self.at(field).geometry()
        wrong = truth.difference(polygon) if only_missing else truth.symDifference(polygon)
        parts = wrong.buffer(-1.5, 4).asGeometryCollection()
        return max(parts, key=lambda part: part.area(), default=QgsGeometry())

    def by_error(self, only_missing: bool = False) -> list[Field]:
        return sorted(self.drawn, key=lambda field: -self.error(field, only_missing).area())

    def take(self, field: Field) -> None:
        """Refine the polygon of a field, with R."""
        self.zoom(field["bounds"], 1.6)
        self.hand.move(self.canvas.viewport(), self.spot(*field["inside"]))
        self.key("r")
        wait(lambda: self.settled() and self.drawing.has_polygon, "refining")

    def leave(self) -> None:
        for _ in range(4):
            if not (self.drawing.has_polygon or self.interaction.tool.mode):
                return
            self.key("Escape")
        raise AssertionError("Esc does not leave")

    def refine(self) -> None:
        """Move a border by a click where it is wrong."""
        for field in self.by_error()[:8]:
            truth = QgsGeometry.fromWkt(field["outline"])
            place = self.error(field).poleOfInaccessibility(0.5)[0].asPoint()
            self.take(field)
            before = self.agreement(truth)
            outside = not truth.contains(QgsGeometry.fromPointXY(place))
            self.click(place.x(), place.y(), "shift" if outside else "")
            after = self.agreement(truth)
            if after > before + 0.01:
                self.picture("5_refine")
                with self.step("refine", 0, 2):
                    self.key("Return")
                self.report["refined"] = [round(before, 3), round(after, 3)]
                return
            self.leave()
        raise AssertionError("no click moved a border towards the truth")

    def brush(self) -> None:
        """Paint what is missing of a field."""
        field = self.by_error(only_missing=True)[0]
        truth, missing = QgsGeometry.fromWkt(field["outline"]), self.error(field, only_missing=True)
        require(not missing.isEmpty(), "nothing is missing anywhere")
        before = self.at(field).geometry()
        middle = missing.poleOfInaccessibility(0.5)[0]
        far = max(missing.vertices(), key=lambda vertex: middle.asPoint().distance(vertex.x(), vertex.y()))
        first, then = before.nearestPoint(middle).asPoint(), middle.asPoint()
        last = (then.x() + 0.7 * (far.x() - then.x()), then.y() + 0.7 * (far.y() - then.y()))
        self.take(field)
        self.key("b")
        require(self.interaction.tool.mode == "brush", "B is not the brush")
        self.hand.stroke(
            self.canvas.viewport(), list(self._spots([(first.x(), first.y()), (then.x(), then.y()), last]))
        )
        wait(self.settled, "brush")
        self.picture("6_brush")
        with self.step("brush", 0, 2):
            self.key("Return")
        after = self.at(field).geometry()
        require(after.area() > before.area() + 5, "the brush added nothing")
        ious = [item.intersection(truth).area() / item.combine(truth).area() for item in (before, after)]
        self.report["brushed"] = [round(iou, 3) for iou in ious]
        self.leave()

    def _spots(self, places: list[tuple[float, float]]) -> Iterable[QPoint]:
        for (x0, y0), (x1, y1) in zip(places, places[1:]):
            yield from (self.spot(x0 + (x1 - x0) * step / 6, y0 + (y1 - y0) * step / 6) for step in range(7))

    def cut(self) -> None:
        """Cut a strip of the base map between its two fields, and give one part a class."""
        one, other = (field for field in self.fields if field["base"] == CUT)
        y = (max(one["bounds"][1], other["bounds"][1]) + min(one["bounds"][3], other["bounds"][3])) / 2
        strip = QgsGeometry.fromWkt(self.base[CUT]["outline"]).boundingBox()
        self.zoom([strip.xMinimum() - 40, y - 90, strip.xMaximum() + 130, y + 90], 1.0)
        self.key("k")
        viewport = self.canvas.viewport()
        for x in (strip.xMinimum() - 20, strip.xMaximum() + 20):
            self.hand.click(viewport, self.spot(x, y))
        self.hand.move(viewport, self.spot(strip.xMaximum() + 30, y))
        self.picture("7_cut")
        with self.step("cut", 1, 2):
            self.hand.click(viewport, self.spot(strip.xMaximum() + 30, y), 3)
        upper = max((one, other), key=lambda field: field["inside"][1])
        polygon = self.at(upper).geometry()
        self.take(upper)
        key = self.crop(polygon)
        self.key(key)
        with self.step("class", 0, 0):
            self.key("Return")
        require(self.at(upper)["class"] == self.interaction.dock.class_box._items[int(key) - 1].code, "class")

    def merge(self) -> None:
        """Join two fields that share a border, the second of which no other neighbour of the first resembles."""
        for first in self.drawn:
            outline = self.at(first).geometry()
            for second in self.drawn:
                other = self.at(second)
                around = [item for item in self.neighbours(outline) if item.id() != other.id()]
                shared = outline.intersection(other.geometry()).length() / 2 if second is not first else 0
                if shared < BORDER_M or other["class"] in [item["class"] for item in around]:
                    continue
                both = outline.combine(other.geometry()).boundingBox()
                self.take(first)
                self.zoom([both.xMinimum(), both.yMinimum(), both.xMaximum(), both.yMaximum()], 1.4)
                self.hand.move(self.canvas.viewport(), self.spot(*second["inside"]))
                self.picture("8_merge")
                with self.step("merge", -1, 2):
                    self.key("m")
                require(self.at(first).id() == self.at(second).id(), "the fields are not one polygon")
                return
        raise AssertionError("no two fields share a border")

    def check(self) -> None:
        """Press Check coverage, mend what is found with N and Enter, and check again."""
        self.whole()
        check = self.interaction.check
        box = self.interaction.dock.options_box
        found = self.checked()
        self.report["findings"] = check.texts
        if found:
            self.to_map()
            self.key("n")
            self.picture("9_finding")
            for _ in range(3 * found):
                if not check.findings:
                    break
                if check.current is None:
                    self.key("n")
                steps = self.layer.undoStack().index()
                self.key("Return")
                wait(lambda steps=steps: self.layer.undoStack().index() > steps, f"mending {check.hint}", 20)
                wait(lambda: not check.is_running, "check")
            self.whole()
            found = self.checked()
        require(not found, f"the coverage is not clean: {check.texts}")
        box.setCollapsed(True)
        iface.messageBar().clearWidgets()
        self.picture("10_clean")

    def checked(self) -> int:
        check = self.interaction.check
        ended: list[str] = []
        check.checked.connect(ended.append)
        self.hand.press(self.shown(self.coverage._check))
        wait(lambda: ended and not check.is_running, "check", 60)
        check.checked.disconnect(ended.append)
        return len(check.findings)

    def run(self) -> None:
        self.open()
        self.coverage_mode()
        begun = time.monotonic()
        self.split()
        self.carve()
        self.refine()
        self.brush()
        self.cut()
        self.merge()
        self.report["seconds"] = round(time.monotonic() - begun)
        self.report["clicks"], self.report["keys"] = self.hand.clicks, self.hand.presses
        self.check()
        self.report["polygons"] = self.layer.featureCount()
        require(self.layer.featureCount() >= POLYGONS, f"only {self.layer.featureCount()} polygons")
        iface.setActiveLayer(self.layer)
        iface.actionSaveActiveLayerEdits().trigger()
        wait(lambda: not self.layer.isModified(), "saving")


if __name__ == "__main__":
    start(Film)
