"""A main window with a canvas and what the plugin touches of QGIS, and a scene whose answers are known."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qgis.gui
import shapely
from osgeo import gdal
from qgis.core import (
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsGeometry,
    QgsMapLayer,
    QgsPointXY,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorFileWriter,
    QgsVectorLayer,
)
from qgis.gui import QgsMapCanvas, QgsMessageBar
from qgis.PyQt.QtCore import QEvent, QObject, QPoint, QPointF, Qt, pyqtSignal
from qgis.PyQt.QtGui import QMouseEvent
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QActionGroup, QApplication, QMainWindow, QMenu, QStatusBar, QToolBar

from geosam_es.core.geotransform import GeoTransform
from geosam_es.gui.interaction import Interaction
from geosam_es.gui.plugin import GeoSamPlugin
from geosam_es.qgis_support.gdal_raster import GdalRaster
from geosam_es.store import StoreReader
from tests.helpers import disc, make_store

CRS = "EPSG:25830"
adds_results = pytest.mark.skipif(
    hasattr(qgis.gui, "QgsProcessingGuiUtils"), reason="this QGIS adds results through its window's layer tree"
)
"""Skips tests of the layers that Processing adds to the project."""

LEFT, TOP, PIXEL = 700000.0, 4400000.0, 0.5
SIDE = 1500
TRANSFORM = GeoTransform(PIXEL, 0.0, LEFT, 0.0, -PIXEL, TOP)
DISCS = {"a": (300, 300, 90), "b": (900, 420, 120), "c": (520, 1050, 150)}
"""Column, row and radius in pixels of each object of the test scene."""


class Interface(QObject):
    """What the plugin uses of QgisInterface, over real widgets."""

    currentLayerChanged = pyqtSignal(object)  # noqa: N815

    def __init__(self) -> None:
        super().__init__()
        self.window = QMainWindow()
        self.canvas = QgsMapCanvas(self.window)
        self.window.setCentralWidget(self.canvas)
        self.bar = QgsMessageBar(self.window)
        self.raster_menu = QMenu(self.window)
        self.help_menu = QMenu(self.window)
        self.group = QActionGroup(self.window)
        self.shortcuts: list[Any] = []
        self.options_factories: list[Any] = []
        self.active: QgsMapLayer | None = None
        self.form_answer = True
        self.forms: list[Any] = []

    def mapCanvas(self) -> QgsMapCanvas:  # noqa: N802
        return self.canvas

    def mainWindow(self) -> QMainWindow:  # noqa: N802
        return self.window

    def messageBar(self) -> QgsMessageBar:  # noqa: N802
        return self.bar

    def statusBarIface(self) -> QStatusBar:  # noqa: N802
        return self.window.statusBar()

    def mapToolActionGroup(self) -> QActionGroup:  # noqa: N802
        return self.group

    def addToolBar(self, name: str) -> QToolBar:  # noqa: N802
        return self.window.addToolBar(name)

    def addDockWidget(self, area: Any, dock: Any) -> None:  # noqa: N802
        self.window.addDockWidget(area, dock)

    def removeDockWidget(self, dock: Any) -> None:  # noqa: N802
        self.window.removeDockWidget(dock)

    def addPluginToRasterMenu(self, _name: str, action: Any) -> None:  # noqa: N802
        self.raster_menu.addAction(action)

    def removePluginRasterMenu(self, _name: str, action: Any) -> None:  # noqa: N802
        self.raster_menu.removeAction(action)

    def pluginHelpMenu(self) -> QMenu:  # noqa: N802
        return self.help_menu

    def registerMainWindowAction(self, action: Any, shortcut: str) -> bool:  # noqa: N802
        action.setShortcut(shortcut)
        self.shortcuts.append(action)
        return True

    def unregisterMainWindowAction(self, action: Any) -> bool:  # noqa: N802
        self.shortcuts.remove(action)
        return True

    def registerOptionsWidgetFactory(self, factory: Any) -> None:  # noqa: N802
        self.options_factories.append(factory)

    def unregisterOptionsWidgetFactory(self, factory: Any) -> None:  # noqa: N802
        self.options_factories.remove(factory)

    def activeLayer(self) -> QgsMapLayer | None:  # noqa: N802
        return self.active

    def setActiveLayer(self, layer: QgsMapLayer | None) -> None:  # noqa: N802
        self.active = layer
        self.currentLayerChanged.emit(layer)

    def openFeatureForm(self, _layer: Any, feature: Any, *_flags: bool) -> bool:  # noqa: N802
        self.forms.append(feature)
        return self.form_answer

    def messages(self) -> list[str]:
        return [item.text() for item in self.bar.items()]


def wait_until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Let Qt work until something is true; fail where it never gets so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"nothing came of it; tasks of QGIS: {_tasks()}"
        QApplication.processEvents()
        time.sleep(0.002)


def show_layer(iface: Interface, layer: QgsMapLayer) -> None:
    """Add a layer to the project, and wait for the canvas, which QGIS updates in the event loop."""
    QgsProject.instance().addMapLayer(layer)
    wait_until(lambda: layer in iface.canvas.layers())


def _tasks() -> list[tuple[str, Any]]:
    return [(task.description(), task.status()) for task in QgsApplication.taskManager().tasks()]


@cache
def scene() -> np.ndarray:
    """Discs on nothing; their polygons are known."""
    image = np.zeros((SIDE, SIDE), np.float32)
    for col, row, radius in DISCS.values():
        image = np.maximum(image, disc((SIDE, SIDE), col, row, radius))
    image.setflags(write=False)
    return image


def make_sheet(
    folder: Path, name: str, transform: GeoTransform = TRANSFORM, crs: str = CRS, nodata_columns: int = 0
) -> QgsRasterLayer:
    """Return a layer of a GeoTIFF of the scene that has its store beside it.

    Parameters
    ----------
    folder : Path
    name : str
        Of the layer, and of the file without its suffix.
    transform : GeoTransform
    crs : str
    nodata_columns : int
        So many columns on the left have no data.
    """
    path, image, wkt = folder / f"{name}.tif", scene(), QgsCoordinateReferenceSystem(crs).toWkt()
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), SIDE, SIDE, 1, gdal.GDT_Byte, ["TILED=YES"])
    a, b, c, d, e, f = transform
    dataset.SetGeoTransform((c, a, b, f, d, e))
    dataset.SetProjection(wkt)
    pixels = (image * 254).astype("uint8") + 1
    if nodata_columns:
        pixels[:, :nodata_columns] = 0
        dataset.GetRasterBand(1).SetNoDataValue(0)
    dataset.GetRasterBand(1).WriteArray(pixels)
    del dataset
    root = make_store(folder, image, transform=transform, name=name)
    document = json.loads((root / "zarr.json").read_text())
    raster = document["attributes"]["geosam_es"]["raster"]
    raster["file_name"] = path.name
    raster["crs_wkt"] = wkt
    raster["fingerprint"] = GdalRaster(path).info().fingerprint
    (root / "zarr.json").write_text(json.dumps(document))
    return QgsRasterLayer(str(path), name)


def place(name: str, dx: float = 0.0, dy: float = 0.0) -> QgsPointXY:
    """Return where a disc is on the map, dx and dy pixels off its centre."""
    col, row, _ = DISCS[name]
    return QgsPointXY(*TRANSFORM.apply(col + dx, row + dy))


def on_screen(canvas: QgsMapCanvas, point: QgsPointXY) -> QPoint:
    pixel = canvas.getCoordinateTransform().transform(point)
    return QPoint(round(pixel.x()), round(pixel.y()))


def click(
    canvas: QgsMapCanvas,
    point: QgsPointXY,
    button: Any = Qt.MouseButton.LeftButton,
    modifiers: Any = Qt.KeyboardModifier.NoModifier,
) -> None:
    # A new layer reaches the canvas with the next events.
    QApplication.processEvents()
    QTest.mouseClick(canvas.viewport(), button, modifiers, on_screen(canvas, point))


def move(canvas: QgsMapCanvas, spot: QPoint, buttons: Any = Qt.MouseButton.LeftButton) -> None:
    """Move the mouse; QTest's own moves carry no buttons."""
    none, modifiers = Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier
    where = QPointF(spot), QPointF(canvas.viewport().mapToGlobal(spot))
    QApplication.sendEvent(canvas.viewport(), QMouseEvent(QEvent.Type.MouseMove, *where, none, buttons, modifiers))


def drag(canvas: QgsMapCanvas, start: QgsPointXY, end: QgsPointXY) -> None:
    QApplication.processEvents()
    viewport, first, last = canvas.viewport(), on_screen(canvas, start), on_screen(canvas, end)
    QTest.mousePress(viewport, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, first)
    for step in range(1, 6):
        move(canvas, first + (last - first) * step / 5)
    QTest.mouseRelease(viewport, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, last)


def key(iface: Interface, code: Any, modifiers: Any = Qt.KeyboardModifier.NoModifier) -> None:
    QTest.keyClick(iface.canvas, code, modifiers)


def saved_as(path: Path, shapes: Sequence[shapely.Polygon], classes: Sequence[str]) -> QgsVectorLayer:
    """Return a layer of a Shapefile or GeoJSON file with a field ``class``, in the project."""
    memory = QgsVectorLayer(f"MultiPolygon?crs={CRS}&field=class:string", "memory", "memory")
    for shape, name in zip(shapes, classes):
        feature = QgsFeature(memory.fields())
        feature.setGeometry(QgsGeometry.fromWkt(shapely.MultiPolygon([shape]).wkt))
        feature.setAttribute("class", name)
        memory.dataProvider().addFeature(feature)
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName = {".shp": "ESRI Shapefile", ".geojson": "GeoJSON"}[path.suffix]
    QgsVectorFileWriter.writeAsVectorFormatV3(memory, str(path), QgsProject.instance().transformContext(), options)
    layer = QgsVectorLayer(str(path), path.stem)
    QgsProject.instance().addMapLayer(layer)
    return layer


def with_store(plugin: GeoSamPlugin, store: Path) -> Interaction:
    """Make the tool active, and open a store."""
    interaction = plugin.interaction
    assert interaction is not None
    interaction.set_active(True)
    interaction.open_store(store)
    wait_until(lambda: interaction.controller.store is not None)
    return interaction


def settled(interaction: Interaction) -> Any:
    """Return what is drawn, once all is answered."""
    wait_until(lambda: not interaction.controller.drawing.busy)
    return interaction.controller.drawing


def show_catalogue(folder: Path, iface: Interface) -> QgsVectorLayer:
    """Show a catalogue of the stores in the folder ``stores``."""
    footprints = []
    for store in sorted((folder / "stores").glob("*.zarr")):
        raster = StoreReader(store).metadata.raster
        bounds = raster.transform.apply_geometry(shapely.box(0, 0, raster.width, raster.height)).bounds
        footprints.append((f"stores/{store.name}", QgsRectangle(*bounds)))
    fields = "field=store:string&field=tiles_done:integer"
    memory = QgsVectorLayer(f"Polygon?crs=EPSG:25830&{fields}", "sheets", "memory")
    for store, box in footprints:
        feature = QgsFeature(memory.fields())
        feature.setAttributes([store, 1])
        feature.setGeometry(QgsGeometry.fromRect(box))
        memory.dataProvider().addFeature(feature)
    path = folder / "catalog.gpkg"
    context = QgsProject.instance().transformContext()
    QgsVectorFileWriter.writeAsVectorFormatV3(memory, str(path), context, QgsVectorFileWriter.SaveVectorOptions())
    layer = QgsProject.instance().addMapLayer(QgsVectorLayer(str(path), "catalogue"))
    iface.canvas.setLayers([layer])
    return layer
