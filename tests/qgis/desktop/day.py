"""A photo-interpreter's first day in the real QGIS window, run by ``day.sh``, with the X server's mouse and keys.

Install from the zip without network, press Install, open two sheets and an online layer, make the layer from the
message, draw 15 adjacent fields, refine two, change a class, delete one, undo and redo, save, and open the project
again. The folder named by GEOSAM_ES_DESKTOP holds what ``prepare_day.py`` writes and a zip made by ``make bundle``;
GEOSAM_ES_SERVER is the address of ``tests.qgis.online_server``, and GEOSAM_ES_TESTS the folder of this file.
``report.json``, ``expected.json`` and screenshots go to the folder.
"""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyplugin_installer
from qgis.core import QgsNetworkAccessManager, QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QProcess, QProcessEnvironment
from qgis.PyQt.QtNetwork import QNetworkProxy
from qgis.PyQt.QtWidgets import QCheckBox, QDoubleSpinBox
from qgis.utils import active_plugins, iface, plugins

sys.path.append(os.environ["GEOSAM_ES_TESTS"])

from hand import FOLDER, Person, pause, start, wait

SERVER = os.environ["GEOSAM_ES_SERVER"]
HERE = Path(os.environ["GEOSAM_ES_TESTS"])
SNAP_M = 6.0


class Day(Person):
    def __init__(self) -> None:
        super().__init__()
        self.expected: dict[str, dict[str, Any]] = {}
        self.fields = json.loads((FOLDER / "fields.json").read_text())
        self.seconds: list[float] = []

    def draw(self, field: dict[str, Any]) -> float:
        begun = time.monotonic()
        self.zoom(field["bounds"])
        agreement = self.segment(field)
        self.seconds.append(time.monotonic() - begun)
        return agreement

    # The day.

    def install(self) -> None:
        """Install the plugin's zip with QGIS's own installer, then the packages from the bundle, without network."""
        closed = QNetworkProxy(QNetworkProxy.ProxyType.HttpProxy, "127.0.0.1", 9)
        QgsNetworkAccessManager.instance().setFallbackProxyAndExcludes(closed, [], [SERVER])
        pyplugin_installer.instance().installFromZipFile(str(FOLDER / "unpacked" / "geosam_es.zip"))
        self.report["active"] = "geosam_es" in active_plugins
        plugin = plugins["geosam_es"]
        plugin._actions.tool.trigger()
        self.picture("1_missing")
        files = self.button(1)
        place = files.mapToGlobal(files.rect().center())
        # The menu and the dialog have event loops of their own, so all is typed by another process.
        steps = [
            f"xdotool mousemove {place.x()} {place.y()} click 1",
            "xdotool key Down Return",
            f"xdotool type {FOLDER / 'bundle.zip'}",
            "xdotool key Return",
        ]
        QProcess.startDetached("sh", ["-c", " && sleep 1.5 && ".join(steps)])
        longest, last = 0.0, 0.0

        def is_installed() -> bool:
            nonlocal longest, last
            now = time.perf_counter()
            if last:
                longest = max(longest, now - last)
            if plugin._install_message.installation is not None or last:
                last = now
            return plugin.interaction is not None

        wait(is_installed, "installation", 120)
        self.report["install_held_ms"] = round(longest * 1000)
        self.picture("2_installed")

    def compare_geometry(self) -> None:
        """Run all functions of shapely that the plugin uses here, and in a process of their own."""
        packages = Path(importlib.util.find_spec("shapely").origin).parent.parent  # type: ignore[union-attr,arg-type]
        self.report["shapely_in"] = packages.name
        process = QProcess()
        environment = QProcessEnvironment.systemEnvironment()
        environment.insert("PYTHONPATH", str(packages))
        process.setProcessEnvironment(environment)
        process.start("python3", [str(HERE / "geometry.py")])
        wait(lambda: process.state() == QProcess.ProcessState.NotRunning, "geometry.py", 120)
        if process.exitCode():
            raise RuntimeError(bytes(process.readAllStandardError()).decode())
        plain = json.loads(bytes(process.readAllStandardOutput()))
        inside = json.loads(json.dumps(runpy.run_path(str(HERE / "geometry.py"))["results"]()))
        self.report["shapely_functions"] = len(plain)
        self.report["shapely_differs_in"] = [name for name in plain if inside[name] != plain[name]]

    def open_sheets(self) -> None:
        project = QgsProject.instance()
        for name in ("west", "east"):
            raster = QgsRasterLayer(str(FOLDER / f"{name}.tif"), name)
            project.setCrs(raster.crs())
            project.addMapLayer(raster)
        url = quote(f"{SERVER}/xyz/{{z}}/{{x}}/{{y}}.png", safe="")
        served = QgsRasterLayer(f"type=xyz&url={url}&zmax=19&zmin=0", "XYZ", "wms")
        project.addMapLayer(served, False)
        # Below the sheets, as a background map is.
        project.layerTreeRoot().insertLayer(-1, served)
        self.zoom([726200, 4371400, 727600, 4371900], 1.1)
        self.take_tool()
        self.zoom([726200, 4371400, 727600, 4371900], 1.1)
        self.picture("3_sheets")

    def make_layer(self) -> None:
        """Accept without a layer; the message makes one, and the polygon is written to it."""
        self.interaction.dock.class_box.csv_chosen.emit(str(FOLDER / "habitats.csv"))
        pause(0.5)
        first = self.fields[0]
        self.draw(first)
        self.key("1")
        self.hand.key("Return")
        pause(0.5)
        self.picture("4_no_layer")
        self.hand.press(self.button())
        wait(lambda: self.layer is not None and self.layer.featureCount() == 1, "layer made by the message")
        self.note(first, "I1.1")
        self.report["layer"] = {"crs": self.layer.crs().authid(), "path": Path(self.layer.source().split("|")[0]).name}
        self.picture("4_polygon")
        # The message about the place of the prepared image is on top again.
        beside = FOLDER / "west.embeddings.zarr"
        self.report["beside_unasked"] = beside.exists()
        self.hand.press(self.button())
        wait(lambda: self.interaction.stores.store.path == beside, "prepared image beside its image")

    def set_borders(self) -> None:
        """Turn on the options for borders, in the group of the panel that holds them."""
        box = self.interaction.dock.options_box
        box.setCollapsed(False)
        pause(0.3)
        self.picture("5_options")
        box.findChild(QCheckBox, "trim_overlaps").setChecked(True)
        box.findChild(QDoubleSpinBox, "snap_m").setValue(SNAP_M)
        box.setCollapsed(True)

    def note(self, field: dict[str, Any], code: str) -> None:
        self.expected[f"{field['inside'][0]:.1f} {field['inside'][1]:.1f}"] = {
            "inside": field["inside"],
            "class": code,
            "outline": field["outline"],
        }

    def draw_fields(self) -> None:
        codes = [line.split(";")[0] for line in (FOLDER / "habitats.csv").read_text("utf-8").splitlines()[1:]]
        agreement = []
        for number, field in enumerate(self.fields[1:15], start=1):
            agreement.append(round(self.draw(field), 3))
            index = number % 9
            self.key(str(index + 1))
            if number in (5, 10):
                self.picture(f"6_field_{number}")
            before = self.layer.featureCount()
            self.key("Return")
            wait(lambda before=before: self.layer.featureCount() > before, f"field {number} written")
            self.note(field, codes[index])
        self.report["agreement"] = agreement
        self.zoom([726180, 4371400, 726960, 4371950], 1.05)
        self.picture("7_fifteen")

    def draw_online(self) -> None:
        field = next(field for field in self.fields if field["sheet"] == "served")
        agreement = self.draw(field)
        self.picture("8_online")
        before = self.layer.featureCount()
        self.key("3")
        self.key("Return")
        wait(lambda: self.layer.featureCount() > before, "online field written")
        self.note(field, "I1.3")
        self.report["online_agreement"] = round(agreement, 3)

    def refine(self, field: dict[str, Any], class_key: str = "", code: str = "") -> None:
        """Pick the polygon under the pointer with R, add a point, and accept."""
        self.zoom(field["bounds"])
        spot = self.spot(*field["inside"])
        self.hand.move(self.canvas.viewport(), spot)
        self.key("r")
        wait(lambda: self.settled() and self.drawing.has_polygon, "refining")
        if class_key:
            self.key(class_key)
            self.note(field, code)
        else:
            self.click(field["inside"][0] + 3, field["inside"][1])
        self.picture(f"9_refine_{class_key or 'point'}")
        count = self.layer.featureCount()
        self.key("Return")
        wait(lambda: not self.drawing.has_polygon, "refined")
        if self.layer.featureCount() != count:
            raise AssertionError("refining changed the number of polygons")

    def delete(self, field: dict[str, Any]) -> None:
        self.zoom(field["bounds"])
        self.hand.move(self.canvas.viewport(), self.spot(*field["inside"]))
        count = self.layer.featureCount()
        self.key("r")
        wait(lambda: self.settled() and self.drawing.has_polygon, "refining")
        self.key("Delete")
        wait(lambda: self.layer.featureCount() == count - 1, "deleted")
        self.picture("10_deleted")
        pause(0.7)
        self.key("ctrl+z")
        wait(lambda: self.layer.featureCount() == count, "undone")
        self.picture("11_undone")
        pause(0.7)
        self.key("ctrl+shift+z")
        wait(lambda: self.layer.featureCount() == count - 1, "redone")
        pause(0.7)
        self.key("ctrl+z")
        wait(lambda: self.layer.featureCount() == count, "undone again")

    def save_and_reopen(self) -> None:
        name = self.layer.name()
        iface.setActiveLayer(self.layer)
        iface.actionSaveActiveLayerEdits().trigger()
        iface.actionToggleEditing().trigger()
        project = QgsProject.instance()
        project.write(str(FOLDER / "day.qgz"))
        iface.newProject()
        pause(0.5)
        self.report["cleared"] = {"target": self.layer is None, "classes": len(self.interaction.dock.class_box._items)}
        project.read(str(FOLDER / "day.qgz"))
        wait(lambda: not self.canvas.isDrawing(), "rendering")
        pause(1.0)
        self.report["reopened"] = {
            "target": self.layer is not None and self.layer.name() == name,
            "classes": len(self.interaction.dock.class_box._items),
        }
        self.picture("12_reopened")

    def run(self) -> None:
        self.install()
        self.compare_geometry()
        self.open_sheets()
        self.make_layer()
        self.set_borders()
        self.draw_fields()
        self.draw_online()
        self.refine(self.fields[2])
        self.refine(self.fields[9])
        self.refine(self.fields[4], "9", "G1.7")
        self.delete(self.fields[6])
        self.report["clicks"], self.report["keys"] = self.hand.clicks, self.hand.presses
        self.report["seconds_a_polygon"] = round(sum(self.seconds) / len(self.seconds), 2)
        self.report["undo_steps"] = self.layer.undoStack().count()
        self.save_and_reopen()

    def finish(self) -> None:
        (FOLDER / "expected.json").write_text(json.dumps(list(self.expected.values())))


start(Day)
