"""The first minutes in the real QGIS window, run by ``installing.sh``: the zip without network, Install, a polygon.

The folder named by GEOSAM_ES_DESKTOP holds ``ortho.tif``, ``objects.json``, ``geosam_es.zip`` and a folder ``wheels``.
``report.json`` and screenshots go there too.
"""

from __future__ import annotations

import importlib.util
import json
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyplugin_installer
from qgis.core import QgsApplication, QgsNetworkAccessManager, QgsPointXY, QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QCoreApplication, QPoint, QProcess, QTimer
from qgis.PyQt.QtNetwork import QNetworkProxy
from qgis.PyQt.QtWidgets import QPushButton
from qgis.utils import active_plugins, iface, plugins

FOLDER = Path(os.environ["GEOSAM_ES_DESKTOP"])


def wait(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("timed out")
        QgsApplication.processEvents()
        time.sleep(0.001)


def shot(name: str) -> None:
    end = time.monotonic() + 0.5
    wait(lambda: time.monotonic() > end)
    iface.mainWindow().grab().save(str(FOLDER / f"{name}.png"))


def texts() -> list[str]:
    return [item.text() for item in iface.messageBar().items() if item.title() == "GeoSAM-ES"]


def click(widget: Any, spot: QPoint) -> None:
    """Click with the mouse of the screen."""
    place = widget.mapToGlobal(spot)
    QProcess.startDetached("xdotool", ["mousemove", str(place.x()), str(place.y()), "click", "1"])


def press(text: str) -> None:
    button = next(one for one in iface.messageBar().findChildren(QPushButton) if one.text() == text)
    click(button, button.rect().center())


def _file(name: str) -> Path:
    return Path(importlib.util.find_spec(name).origin)  # type: ignore[union-attr,arg-type]


def install_plugin() -> None:
    # Nothing listens at this port, so no plugin repository answers.
    closed = QNetworkProxy(QNetworkProxy.ProxyType.HttpProxy, "127.0.0.1", 9)
    QgsNetworkAccessManager.instance().setFallbackProxyAndExcludes(closed, [], [])
    pyplugin_installer.instance().installFromZipFile(str(FOLDER / "geosam_es.zip"))


def plugin_text(text: str) -> str:
    return QCoreApplication.translate("GeoSAM-ES", text)


def run(report: dict[str, Any]) -> None:
    install_plugin()
    report["active"] = "geosam_es" in active_plugins
    plugin = plugins["geosam_es"]
    for _ in range(3):
        plugin._actions.tool.trigger()
    shot("1_missing")
    report["missing"] = texts()
    longest, last = 0.0, time.perf_counter()

    def is_done() -> bool:
        nonlocal longest, last
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
        return plugin.interaction is not None

    plugin._install_message.install(FOLDER / "wheels")
    shot("2_installing")
    last = time.perf_counter()
    wait(is_done, 120)
    report["longest_hold_ms"] = round(longest * 1000)
    shot("3_installed")
    report["installed"] = texts()
    folder = Path(QgsApplication.qgisSettingsDirPath(), "python", "geosam_es_packages")
    report["own"] = [n for n in ("onnxruntime", "shapely", "contourpy") if folder in _file(n).parents]
    raster = QgsRasterLayer(str(FOLDER / "ortho.tif"), "ortho")
    QgsProject.instance().addMapLayer(raster)
    iface.setActiveLayer(raster)
    iface.mapCanvas().setExtent(raster.extent())
    if plugin.interaction.tool is not iface.mapCanvas().mapTool():
        plugin._actions.tool.trigger()
    controller = plugin.interaction.controller
    # The panel takes its place beside the map.
    shot("4_ready")
    x, y = json.loads((FOLDER / "objects.json").read_text())[0][1:3]
    canvas = iface.mapCanvas()
    pixel = canvas.getCoordinateTransform().transform(QgsPointXY(x, y))
    begun = time.monotonic()
    click(canvas.viewport(), QPoint(round(pixel.x()), round(pixel.y())))
    wait(lambda: controller.drawing.has_polygon)
    report["first_polygon_s"] = round(time.monotonic() - begun, 2)
    report["area"] = controller.drawing.result.geometry.area
    report["place"] = texts()
    shot("5_polygon")
    beside = FOLDER / "ortho.embeddings.zarr"
    report["unasked"] = beside.exists()
    press(plugin_text("Beside the image"))
    wait(lambda: controller.store.path == beside)
    shot("6_beside")
    report["beside"] = controller.store.path.is_dir() and controller.drawing.has_polygon


def main() -> None:
    report: dict[str, Any] = {}
    try:
        run(report)
    except Exception:
        report.update(error=traceback.format_exc(), messages=texts())
    (FOLDER / "report.json").write_text(json.dumps(report, indent=1))
    QgsProject.instance().clear()
    os._exit(0)


QTimer.singleShot(1500, main)
