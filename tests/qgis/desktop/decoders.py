"""Two decoders of a store in the real QGIS window, run by ``run.sh``: compare, swap, accept, and time it.

Uses the folder that `prepare` makes, as ``end_to_end.py`` does; its store has a second decoder. ``report.json`` and
screenshots go there too. GEOSAM_ES_TESTS is the folder of this file.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from qgis.core import QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtTest import QTest
from qgis.utils import iface

sys.path.append(os.environ["GEOSAM_ES_TESTS"])

from window import FOLDER, Desktop, pause, start, wait


class Comparing(Desktop):
    def __init__(self) -> None:
        super().__init__()
        self.decoders = self.interaction.decoders
        self.compared: Any = None
        self.taken: dict[str, list[float]] = {"answer": [], "both": [], "swap": []}
        self.interaction.comparison.compared.connect(self._on_compared)

    def _on_compared(self, comparison: Any) -> None:
        self.compared = comparison

    def _begin(self) -> float:
        pause(0.05)
        self.compared = None
        self.holds.longest()
        return time.perf_counter()

    def _end(self, name: str, begun: float) -> None:
        """Record how long something took, and for how long the event loop was blocked meanwhile."""
        self.taken[name].append((time.perf_counter() - begun) * 1000.0)
        self.held.append(self.holds.longest())

    def click(self, x: float, y: float, modifiers: Any = Qt.KeyboardModifier.NoModifier) -> None:
        begun = self._begin()
        QTest.mouseClick(self.canvas.viewport(), Qt.MouseButton.LeftButton, modifiers, self.spot(x, y))
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


def run() -> dict[str, Any]:
    objects = json.loads((FOLDER / "objects.json").read_text())
    window = Comparing()
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
    report = {name: sorted(round(value, 1) for value in values) for name, values in window.taken.items()}
    window.picture("end.png")
    # A swap lasts until the next one.
    return {**report, "longest_hold_ms": round(max(window.held), 1), "decoders": kept, "equal": len(set(kept)) == 2}


start(run)
