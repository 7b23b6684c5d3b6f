"""Fixtures of the tests that run inside QGIS. Without QGIS, none of these tests is collected."""

from __future__ import annotations

import gc
import importlib.util
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from geosam_es.store import StoreMetadata
from tests.helpers import BlobDecoder, make_store

if importlib.util.find_spec("qgis") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    from pytest_qgis.utils import process_events
    from qgis.core import (
        QgsCoordinateReferenceSystem,
        QgsMapLayer,
        QgsProject,
        QgsRasterLayer,
        QgsRectangle,
        QgsSettings,
        QgsVectorLayer,
    )
    from qgis.gui import QgsLayerTreeMapCanvasBridge
    from qgis.PyQt import sip
    from qgis.PyQt.QtCore import QLocale, QSettings
    from qgis.PyQt.QtWidgets import QApplication

    from geosam_es.gui.interaction import Interaction
    from geosam_es.gui.plugin import GeoSamPlugin
    from tests.qgis.support import CRS, LEFT, PIXEL, SIDE, TOP, TRANSFORM, Interface, make_sheet, scene, with_store


@pytest.fixture(scope="session", autouse=True)
def own_settings_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Use a settings file apart from the user's and from those of tests that run at the same time."""
    folder = str(tmp_path_factory.mktemp("settings"))
    for kind in (QSettings.Format.NativeFormat, QSettings.Format.IniFormat):
        QSettings.setPath(kind, QSettings.Scope.UserScope, folder)


@pytest.fixture(scope="session", autouse=True)
def nothing_outlives_qgis(qgis_app: Any) -> Iterator[None]:
    """Collect garbage before QGIS shuts down: freeing its objects afterwards crashes the process."""
    yield
    gc.collect()
    # QGIS never lets go of the exception of a failed algorithm, nor of the layers in the frames that called it.
    for left in gc.get_objects():
        if issubclass(type(left), QgsMapLayer) and not sip.isdeleted(left):
            sip.transferto(left, None)


@pytest.fixture(scope="session", autouse=True)
def layers_are_shown_as_in_qgis(qgis_app: Any) -> None:
    """Update the canvas in the event loop, as QGIS does. pytest-qgis would run the loop inside `addMapLayer`."""
    QgsProject.instance().legendLayersAdded.disconnect(process_events)


@pytest.fixture(autouse=True)
def fresh_settings(qgis_app: Any) -> Iterator[None]:
    settings = QgsSettings()
    settings.remove("geosam_es")
    # The tests expect English texts and numbers, whatever the language of the system.
    own = QLocale()
    QLocale.setDefault(QLocale.c())
    settings.setValue("locale/overrideFlag", True)
    settings.setValue("locale/userLocale", "en")
    yield
    settings.remove("geosam_es")
    settings.remove("locale")
    QLocale.setDefault(own)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep prepared images apart from those of the user, and of other tests."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr("geosam_es.qgis_support.settings.cache_folder", lambda: folder)
    monkeypatch.setattr("geosam_es.qgis_support.live_store.cache_folder", lambda: folder)
    return folder


@pytest.fixture(autouse=True)
def processing_without_canvas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep Processing from the canvas of pytest-qgis, which another test may have deleted: reading it crashes."""
    module = sys.modules.get("processing.tools.dataobjects")
    if module is not None:
        monkeypatch.setattr(module, "iface", None)


@pytest.fixture(autouse=True)
def no_exception_in_slots(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test if a slot raised; PyQt would end the process."""
    raised: list[str] = []
    monkeypatch.setattr("sys.excepthook", lambda *error: raised.append("".join(traceback.format_exception(*error))))
    yield
    assert not raised, raised[0]


@pytest.fixture
def iface(qgis_app: Any, qgis_new_project: None) -> Iterator[Interface]:
    interface = Interface()
    interface.window.resize(900, 600)
    canvas = interface.canvas
    canvas.setDestinationCrs(QgsCoordinateReferenceSystem(CRS))
    # The canvas shows the layers of the project, as in QGIS.
    bridge = QgsLayerTreeMapCanvasBridge(QgsProject.instance().layerTreeRoot(), canvas)
    bridge.setAutoSetupOnFirstLayer(False)
    interface.window.show()
    QApplication.processEvents()
    canvas.setExtent(QgsRectangle(LEFT, TOP - SIDE * PIXEL, LEFT + SIDE * PIXEL, TOP))
    QApplication.processEvents()
    yield interface
    sip.delete(bridge)
    interface.window.close()
    interface.window.deleteLater()
    QApplication.processEvents()


@pytest.fixture(scope="session")
def blob_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store of the scene, shared by all tests: copy it before you change it."""
    root = make_store(tmp_path_factory.mktemp("store"), scene(), transform=TRANSFORM)
    document = json.loads((root / "zarr.json").read_text())
    document["attributes"]["geosam_es"]["raster"]["crs_wkt"] = QgsCoordinateReferenceSystem(CRS).toWkt()
    (root / "zarr.json").write_text(json.dumps(document))
    return root


@pytest.fixture
def blobs(monkeypatch: pytest.MonkeyPatch) -> BlobDecoder:
    """Use a decoder with known answers for every store."""
    decoder = BlobDecoder()
    monkeypatch.setattr("geosam_es.inference.session.load_decoder", lambda *_: decoder)
    return decoder


@pytest.fixture
def target(iface: Interface) -> QgsVectorLayer:
    layer = QgsVectorLayer(f"MultiPolygon?crs={CRS}&field=class:string&field=note:string", "target", "memory")
    QgsProject.instance().addMapLayer(layer)
    return layer


@pytest.fixture
def plugin(iface: Interface) -> Iterator[GeoSamPlugin]:
    plugin = GeoSamPlugin(iface)
    plugin.initGui()
    yield plugin
    plugin.unload()


@pytest.fixture
def ready(plugin: GeoSamPlugin, blob_store: Path, blobs: BlobDecoder, target: QgsVectorLayer) -> Interaction:
    """Return a scene to draw in: the tool active, a store open, a layer chosen."""
    interaction = with_store(plugin, blob_store)
    interaction.dock.layers.setLayer(target)
    return interaction


@pytest.fixture
def raster_with_store(tmp_path: Path) -> QgsRasterLayer:
    """Return a GeoTIFF of the scene that has its store beside it."""
    return make_sheet(tmp_path, "blobs")


@pytest.fixture
def edit_metadata() -> Callable[[StoreMetadata, Callable[[dict[str, Any]], None]], StoreMetadata]:
    """Return a function that changes the raster section of a store's metadata."""

    def edit(metadata: StoreMetadata, change: Callable[[dict[str, Any]], None]) -> StoreMetadata:
        document = metadata.to_json()
        change(document["raster"])
        return StoreMetadata.from_json(document)

    return edit
