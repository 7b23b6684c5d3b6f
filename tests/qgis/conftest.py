"""Fixtures of the tests inside QGIS; where there is no QGIS, none of them is collected."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers import BlobDecoder, make_store

if importlib.util.find_spec("qgis") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    from qgis.core import QgsCoordinateReferenceSystem, QgsProject, QgsRectangle, QgsSettings, QgsVectorLayer
    from qgis.PyQt.QtWidgets import QApplication

    from tests.qgis.support import CRS, LEFT, PIXEL, SIDE, TOP, TRANSFORM, Interface, scene

if TYPE_CHECKING:
    from qgis.core import QgsVectorLayer


@pytest.fixture(autouse=True)
def fresh_settings(qgis_app: Any) -> Iterator[None]:
    QgsSettings().remove("geosam_es")
    yield
    QgsSettings().remove("geosam_es")


@pytest.fixture
def iface(qgis_app: Any, qgis_new_project: None) -> Iterator[Interface]:
    interface = Interface()
    interface.window.resize(900, 600)
    canvas = interface.canvas
    canvas.setDestinationCrs(QgsCoordinateReferenceSystem(CRS))
    interface.window.show()
    QApplication.processEvents()
    canvas.setExtent(QgsRectangle(LEFT, TOP - SIDE * PIXEL, LEFT + SIDE * PIXEL, TOP))
    QApplication.processEvents()
    yield interface
    interface.window.close()
    interface.window.deleteLater()
    QApplication.processEvents()


@pytest.fixture(scope="session")
def blob_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the scene. Copy it before damaging it."""
    root = make_store(tmp_path_factory.mktemp("store"), scene(), transform=TRANSFORM)
    document = json.loads((root / "zarr.json").read_text())
    document["attributes"]["geosam_es"]["raster"]["crs_wkt"] = QgsCoordinateReferenceSystem(CRS).toWkt()
    (root / "zarr.json").write_text(json.dumps(document))
    return root


@pytest.fixture
def blobs(monkeypatch: pytest.MonkeyPatch) -> BlobDecoder:
    """Answer from any store with the decoder whose answers are known."""
    decoder = BlobDecoder()
    monkeypatch.setattr("geosam_es.inference.session.load_decoder", lambda *_: decoder)
    return decoder


@pytest.fixture
def target(iface: Interface) -> QgsVectorLayer:
    layer = QgsVectorLayer(f"MultiPolygon?crs={CRS}&field=class:string&field=note:string", "target", "memory")
    QgsProject.instance().addMapLayer(layer)
    return layer
