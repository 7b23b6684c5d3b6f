"""From an image to a classified coverage in the real QGIS window, run by ``SCRIPT=everything film.sh``.

*Segment everything*, review by keys, classes from the first 20 polygons, similar objects, clicks where fields are still
wrong, *Check coverage*. ``by_clicks.py`` draws every field by clicks, to compare. Files are those of ``film.py``;
``everything.gpkg`` is the coverage.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import processing
from qgis.core import QgsApplication, QgsGeometry, QgsProject, QgsVectorLayer
from qgis.PyQt.QtCore import QSettings
from qgis.PyQt.QtWidgets import QCheckBox, QSlider
from qgis.utils import iface

sys.path.append(os.environ["GEOSAM_ES_TESTS"])

from film import Field, Film, require
from hand import FOLDER, pause, start, wait

CLASSES = {"en": ("Field", "Other ground"), "es": ("Parcela", "Otro suelo")}
UNIT_M2, TRAINING, SURE = 2000, 20, 0.9
GOOD, DRAWN, WHOLE, PURE, CLICKS = 0.75, 0.85, 0.6, 0.7, 6
"""IoU below which a field is drawn again, to which it is corrected by at most so many clicks, and which is a field."""


class Everything(Film):
    NAME = "everything"

    def __init__(self) -> None:
        super().__init__()
        self.base = []
        self.truths = [QgsGeometry.fromWkt(field["outline"]) for field in self.fields]
        self.ground_truth = QgsGeometry.unaryUnion([QgsGeometry.fromWkt(wkt) for wkt in self.all_fields])
        language = "es" if QgsApplication.instance().translation().startswith("es") else "en"
        self.codes = CLASSES[language]
        for language, names in CLASSES.items():
            rows = zip(names, names, ("#f6c945", "#8fb8de"))
            text = "\n".join(["code,name,color", *(",".join(row) for row in rows)])
            (FOLDER / f"classes_{language}.csv").write_text(text + "\n", encoding="utf-8")

    # What is known.

    def whole(self) -> None:
        box = QgsProject.instance().mapLayersByName("fields")[0].extent()
        self.zoom([box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum()], 1.02)

    def best(self, outline: QgsGeometry) -> float:
        """The largest IoU with a true field."""
        shared = [(truth, truth.intersection(outline).area()) for truth in self.truths]
        return max(area / (truth.area() + outline.area() - area) for truth, area in shared)

    def ious(self) -> list[float]:
        """The IoU of each true field with the best polygon."""
        outlines = [feature.geometry() for feature in self.layer.getFeatures()]
        found = []
        for truth in self.truths:
            near = [outline for outline in outlines if outline.intersects(truth)]
            shared = [(outline, outline.intersection(truth).area()) for outline in near]
            found.append(max((a / (o.area() + truth.area() - a) for o, a in shared), default=0.0))
        return found

    def agreement_of_all(self) -> dict[str, Any]:
        ious, areas = self.ious(), [truth.area() for truth in self.truths]
        box = QgsGeometry.fromRect(QgsProject.instance().mapLayersByName("fields")[0].extent())
        right = 0.0
        for feature in self.layer.getFeatures():
            inside = feature.geometry().intersection(self.ground_truth).area()
            right += (
                inside if feature["class"] == self.codes[0] else feature.geometry().intersection(box).area() - inside
            )
        return {
            "polygons": self.layer.featureCount(),
            "weighted_iou": round(sum(i * a for i, a in zip(ious, areas)) / sum(areas), 3),
            "fields_at_0.75": sum(iou >= GOOD for iou in ious),
            "right_class": round(right / box.area(), 3),
        }

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        begun, clicks, keys = time.monotonic(), self.hand.clicks, self.hand.presses
        stage = self.report.setdefault("stages", {})[name] = {}
        yield stage
        seconds = time.monotonic() - begun - stage.pop("aside", 0)
        stage.update(seconds=round(seconds), clicks=self.hand.clicks - clicks, keys=self.hand.presses - keys)
        stage.update(self.agreement_of_all())
        (FOLDER / "report.json").write_text(json.dumps(self.report, indent=1))

    # What is done.

    def algorithm(self, name: str, parameters: dict[str, Any], output: str, picture: str = "") -> QgsVectorLayer:
        """Run an algorithm in its own dialog; what is chosen there counts as a click each, and as one to open it."""
        dialog = processing.createAlgorithmDialog(f"geosam_es:{name}", {**parameters, "OUTPUT": output})
        self.hand.clicks += 1 + len(parameters)
        before = set(QgsProject.instance().mapLayers())
        dialog.show()
        pause(1)
        if picture:
            self.picture(picture)
        self.hand.press(dialog.runButton())

        def made() -> list[Any]:
            return [layer for key, layer in QgsProject.instance().mapLayers().items() if key not in before]

        wait(lambda: dialog.wasExecuted(), name, 240)
        wait(lambda: made(), f"{name}: result", 10)
        pause(0.5)
        dialog.close()
        return made()[0]

    @property
    def review(self) -> Any:
        return self.interaction.review

    @property
    def review_box(self) -> Any:
        return self.interaction.dock.review_box

    def show_only(self, *layers: QgsVectorLayer) -> None:
        """Show some layers, in this order, above the image, each by a click or a drag in the layer tree."""
        root = QgsProject.instance().layerTreeRoot()
        wanted = [*layers, QgsProject.instance().mapLayersByName("fields")[0]]
        self.hand.clicks += sum(root.findLayer(layer).isVisible() != (layer in wanted) for layer in root.layerOrder())
        for layer in root.layerOrder():
            root.findLayer(layer).setItemVisibilityChecked(layer in wanted)
        root.setHasCustomLayerOrder(True)
        root.setCustomLayerOrder(wanted)

    def to_review(self, layer: QgsVectorLayer) -> None:
        self.show_only(self.layer, layer)
        self.review_box.setCollapsed(False)
        self.hand.clicks += 2
        self.review_box.layers.setLayer(layer)
        wait(lambda: self.review.layer is layer, "review")
        iface.messageBar().clearWidgets()
        self.interaction.dock.options_box.setCollapsed(True)

    def judge(self, counts: Counter[str], pure: float = PURE, only_fields: bool = False) -> None:
        """Judge the current polygon by one key, as one who knows the truth: it gets the class of most of its ground.

        It is rejected if less of its ground than ``pure`` has that class, or, of ``only_fields``, if it is no whole
        field.
        """
        outline = QgsGeometry.fromWkt(self.review._polygon.wkt)
        inside = outline.intersection(self.ground_truth).area() / outline.area()
        key = "1" if inside > 0.5 else "2"
        is_good = max(inside, 1 - inside) >= pure
        if only_fields:
            is_good = self.best(outline) >= WHOLE
        guess = self.guess()
        if guess:
            counts["class guessed"] += 1
            counts["class right"] += guess == self.codes[int(key) - 1]
        before = self.review.candidates.counts
        if not is_good or self.review.fitted.refusal is not None:
            key = "Delete"
        self.key(key)
        wait(lambda: self.review.candidates.counts != before or self.messages(), "judgement", 20)
        if self.review.candidates.counts == before:
            counts["refused"] += 1
            iface.messageBar().clearWidgets()
            self.key("Delete")
            wait(lambda: self.review.candidates.counts != before, "rejection", 20)
        counts["rejected" if key == "Delete" else "accepted"] += 1
        pause(0.05)

    def guess(self) -> str:
        """The class that the polygon was given by *Classify polygons*, or that the panel suggests."""
        names = self.review.layer.fields().names()
        return self.review._feature["class"] if "class" in names else self.interaction.dock.class_box._suggested

    def go(self) -> bool:
        self.to_map()
        if self.review.index is None and len(self.review.items):
            self.key("n")
        wait(lambda: self.review.index is not None or not len(self.review.items), "walk", 10)
        return self.review.index is not None

    def automatic(self) -> QgsVectorLayer:
        with self.stage("auto") as stage:
            parameters = {"RASTER": "fields", "COVERAGE": True, "MIN_AREA": UNIT_M2}
            layer = self.algorithm("automaticmasks", parameters, str(FOLDER / "auto.gpkg"), "1_everything")
            stage["found"] = layer.featureCount()
        self.whole()
        self.picture("2_found")
        return layer

    def first(self, layer: QgsVectorLayer) -> None:
        counts: Counter[str] = Counter()
        with self.stage("first") as stage:
            self.to_review(layer)
            order = self.review_box._order
            order.setCurrentIndex(1)
            self.hand.clicks += 2
            while self.go() and counts["accepted"] < TRAINING:
                if counts["accepted"] == 8 and "3_review" not in self.report:
                    self.report["3_review"] = True
                    pause(0.5)
                    self.picture("3_review")
                self.judge(counts)
            stage["judged"] = dict(counts)

    def classify(self, layer: QgsVectorLayer) -> QgsVectorLayer:
        with self.stage("classes") as stage:
            parameters = {
                **{"RASTER": "fields", "INPUT": self.layer.id(), "CLASS_FIELD": "class", "POLYGONS": layer.id()},
                "REPORT": str(FOLDER / "classes"),
            }
            classified = self.algorithm("classifypolygons", parameters, str(FOLDER / "classified.gpkg"))
            stage["classified"] = classified.featureCount()
            self.only_panel()
        return classified

    def rest(self, layer: QgsVectorLayer) -> None:
        """Accept what is sure in one go, and judge the others by keys."""
        counts: Counter[str] = Counter()
        with self.stage("sure") as stage:
            self.to_review(layer)
            box = self.review_box
            box._fields.setCurrentIndex(box._fields.findData("probability"))
            box.findChild(QSlider).setValue(round(100 * SURE))
            self.hand.clicks += 3
            before = len(self.review.items)
            self.picture("4_sure")
            steps = self.layer.undoStack().index()
            self.hand.press(box._all)
            wait(lambda: self.layer.undoStack().index() > steps, "accept all", 60)
            stage["taken"] = before - len(self.review.items)
            stage["messages"] = self.messages()
            iface.messageBar().clearWidgets()
        with self.stage("rest") as stage:
            box.findChild(QSlider).setValue(0)
            self.hand.clicks += 1
            pause(0.3)
            while self.go():
                self.judge(counts, pure=0.0)
            stage["judged"] = dict(counts)
        self.whole()
        self.show_only(self.layer)
        pause(1)
        self.picture("5_judged")

    def similar(self) -> None:
        counts: Counter[str] = Counter()
        with self.stage("similar") as stage:
            scored = sorted(
                ((self.best(item.geometry()), item.id()) for item in self.layer.getFeatures()), reverse=True
            )
            self.show_only(self.layer)
            self.layer.selectByIds([key for _, key in scored[:5]])
            self.hand.clicks += 5
            self.to_map()
            shown = self.review.layer
            self.key("f")
            wait(lambda: self.review.layer is not shown or self.messages(), "similar", 120)
            stage["messages"] = self.messages()
            iface.messageBar().clearWidgets()
            if self.review.layer is not shown:
                self.show_only(self.layer, self.review.layer)
                stage["found"] = len(self.review.items)
                self.layer.removeSelection()
                self.picture("6_similar")
                while self.go():
                    self.judge(counts, only_fields=True)
            stage["judged"] = dict(counts)

    def draw_missed(self) -> None:
        """Draw what is still wrong by clicks; neighbours give way."""
        with self.stage("drawn") as stage:
            self.show_only(self.layer)
            self.ground("carve")
            missed = [field for field, iou in zip(self.fields, self.ious()) if iou < GOOD]
            stage["missed"], stage["drawn"] = len(missed), 0
            for field in missed:
                stage["drawn"] += self.draw_field(field, "7_drawn" if stage["drawn"] == 3 else "")

    def draw_field(self, field: Field, picture: str = "") -> bool:
        self.zoom(field["bounds"], 1.8)
        agreement = self.segment(field)
        self.close_messages()
        truth = QgsGeometry.fromWkt(field["outline"])
        for _ in range(CLICKS):
            parts = self.shown_outline().symDifference(truth).buffer(-1, 4).asGeometryCollection()
            if agreement >= DRAWN or not parts:
                break
            place = max(parts, key=lambda part: part.area()).poleOfInaccessibility(0.5)[0].asPoint()
            self.click(place.x(), place.y(), "" if truth.contains(QgsGeometry.fromPointXY(place)) else "shift")
            agreement = self.agreement(truth)
        if agreement < WHOLE:
            self.key("Escape")
            return False
        if self.interaction.dock.class_box.attributes().get("class") != self.codes[0]:
            self.key("1")
        if picture:
            self.picture(picture)
        steps = self.layer.undoStack().index()
        self.key("Return")
        wait(lambda: self.layer.undoStack().index() > steps or self.messages(), "accepting", 20)
        if self.layer.undoStack().index() > steps:
            return True
        self.report.setdefault("refused", []).extend(self.messages())
        self.close_messages()
        self.key("Escape")
        return False

    def shown_outline(self) -> QgsGeometry:
        """The proposal, in the CRS of the project, which is that of the image."""
        return QgsGeometry.fromWkt(self.drawing.result.geometry.wkt)

    def close_messages(self) -> None:
        if self.messages():
            iface.messageBar().clearWidgets()
            self.to_map()

    def check(self) -> None:
        """Mend what the check finds with N and Enter."""
        with self.stage("check") as stage:
            self.whole()
            check = self.interaction.check
            self.checked()
            stage["findings"] = dict(Counter(finding.kind.value for finding in check.findings))
            self.to_map()
            mended: Counter[str] = Counter()
            for _ in range(3 * len(check.findings)):
                if check.current is None and check.findings:
                    self.key("n")
                if check.current is None:
                    break
                if not mended:
                    self.picture("8_finding")
                name, steps = check.current.kind.value, self.layer.undoStack().index()
                self.key("Return")
                wait(lambda steps=steps: self.layer.undoStack().index() > steps or self.messages(), name, 20)
                if self.layer.undoStack().index() == steps:
                    name = f"{name}: {self.messages()}"
                    self.close_messages()
                    self.key("n")
                wait(lambda: not check.is_running, "check")
                mended[name] += 1
            stage["mended"] = dict(mended)
            self.checked()
            stage["left"] = dict(Counter(finding.kind.value for finding in check.findings))

    def save(self) -> None:
        iface.setActiveLayer(self.layer)
        iface.actionSaveActiveLayerEdits().trigger()
        wait(lambda: not self.layer.isModified(), "saving")

    def run(self) -> None:
        tool = Path(os.environ["GEOSAM_ES_TESTS"]).parents[2] / ".venv" / "bin" / "geosam-es"
        QSettings().setValue("geosam_es/command_line", str(tool))
        self.open()
        self.coverage_mode()
        self.hand.press(self.shown(self.coverage.findChild(QCheckBox, "joins_class")))
        require(not self.mode.joins_class, "neighbours of one class")
        self.interaction.dock.options_box.setCollapsed(True)
        found = self.automatic()
        self.first(found)
        classified = self.classify(found)
        self.rest(classified)
        self.similar()
        self.draw_missed()
        self.check()
        self.save()
        iface.messageBar().clearWidgets()
        self.whole()
        self.interaction.dock.options_box.setCollapsed(True)
        self.picture("9_coverage")


if __name__ == "__main__":
    start(Everything)
