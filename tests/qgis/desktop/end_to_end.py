"""A whole session in the real QGIS window, run by ``run.sh``: open, click, box, cycle, undo, accept, save, reopen.

The folder named by GEOSAM_ES_DESKTOP holds an orthophoto ``ortho.tif``, its store, and ``objects.json`` with objects to
click, each as [class, x, y, [min_x, min_y, max_x, max_y]] in map units. ``report.json`` and screenshots go there too.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from typing import Any

from qgis.core import QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtTest import QTest
from qgis.utils import iface

sys.path.append(os.environ["GEOSAM_ES_TESTS"])

from window import FOLDER, Desktop, pause, percentiles, start, wait

CLASSES = "code,name,color\nI1,Arable land,#e6c229\nJ1,Buildings,#d1495b\nG1,Trees,#2e933c\nC1,Water,#2374ab\n"
CODES = {"field": 0, "building": 1, "tree": 2, "water": 3}


def run() -> dict[str, Any]:
    """Run the session, and return its times and checks."""
    objects = json.loads((FOLDER / "objects.json").read_text())
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
    inside = runpy.run_path(os.environ["GEOSAM_ES_TESTS"] + "/geometry.py")["results"]()
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
        for _, x, y, bounds in objects[4:]:
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
    QgsProject.instance().removeMapLayer(raster.id())
    desktop.click(objects[0][1], objects[0][2])
    report["without_raster"] = desktop.controller.drawing.has_polygon or desktop.controller.drawing.result is None
    return report


start(run)
