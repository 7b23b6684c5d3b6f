"""Which raster a store is compared with, and what is said where they differ."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from qgis.core import QgsApplication, QgsProject, QgsRasterLayer, QgsVectorLayer

from geosam_es.errors import GeoSamError, SignatureMismatchError
from geosam_es.gui.stores.live_store import LiveOptions
from geosam_es.gui.stores.open_store import OpenStoreTask, check_fits, raster_file, raster_files, store_beside
from geosam_es.store import StoreReader, store_path_for
from tests.helpers import BlobDecoder
from tests.qgis.support import wait_until


def beside(layer: QgsRasterLayer) -> Path:
    return store_path_for(Path(layer.source()))


def outcome(path: Path | None, rasters: list[Any]) -> Any:
    """Run the task as QGIS does, and return the store or the error."""
    found: list[Any] = []
    task = OpenStoreTask(path, rasters, LiveOptions())
    task.opened.connect(found.append)
    task.refused.connect(found.append)
    QgsApplication.taskManager().addTask(task)
    wait_until(lambda: found)
    return found[0]


def test_only_local_rasters_count(iface: Any, raster_with_store: QgsRasterLayer) -> None:
    project = QgsProject.instance()
    vector = QgsVectorLayer("Polygon?crs=EPSG:4326", "vector", "memory")
    gone = QgsRasterLayer("/nowhere/gone.tif", "gone")
    project.addMapLayers([vector, gone, raster_with_store])
    assert [file.layer_id for file in raster_files(project, vector)] == [raster_with_store.id()]
    assert raster_file(None) is None
    assert raster_file(vector) is None


def test_the_store_beside_a_raster(iface: Any, raster_with_store: QgsRasterLayer) -> None:
    file = raster_file(raster_with_store)
    assert file is not None
    assert store_beside(file) == beside(raster_with_store)
    shutil.rmtree(beside(raster_with_store))
    assert store_beside(file) is None


def test_the_raster_of_the_same_name_is_compared_before_the_active_one(
    iface: Any, raster_with_store: QgsRasterLayer, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(raster_with_store.source(), tmp_path / "elsewhere" / "active.tif")
    active = raster_file(QgsRasterLayer(str(tmp_path / "elsewhere" / "active.tif"), "active"))
    own = raster_file(raster_with_store, active=False)
    metadata = StoreReader(beside(raster_with_store)).metadata
    assert own is not None
    assert active is not None
    assert check_fits(beside(raster_with_store), metadata, [active, own]) == own
    assert check_fits(beside(raster_with_store), metadata, [active]) == active
    assert check_fits(beside(raster_with_store), metadata, []) is None


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda raster: raster.__setitem__("width", 1499), "raster size"),
        (lambda raster: raster.__setitem__("fingerprint", "0" * 64), "raster fingerprint"),
        (lambda raster: raster["transform"].__setitem__(2, 1.0), "raster transform"),
    ],
)
def test_what_differs_is_named_with_both_values(
    iface: Any, raster_with_store: QgsRasterLayer, edit_metadata: Any, change: Any, key: str
) -> None:
    root = beside(raster_with_store)
    metadata = StoreReader(root).metadata
    changed = edit_metadata(metadata, change)
    file = raster_file(raster_with_store)
    assert file is not None
    with pytest.raises(SignatureMismatchError) as caught:
        check_fits(root, changed, [file])
    assert caught.value.key == key
    assert repr(caught.value.stored) in str(caught.value)
    assert repr(caught.value.wanted) in str(caught.value)


def test_a_task_opens(iface: Any, raster_with_store: QgsRasterLayer, blobs: BlobDecoder) -> None:
    file = raster_file(raster_with_store)
    store = outcome(beside(raster_with_store), [file])
    assert store.path == beside(raster_with_store)
    assert store.raster == file
    assert store.crs.authid() == "EPSG:25830"
    assert store.live is None


def test_a_task_begins_a_store_where_there_is_none(iface: Any, raster_with_store: QgsRasterLayer) -> None:
    shutil.rmtree(beside(raster_with_store))
    store = outcome(None, [raster_file(raster_with_store)])
    assert store.path == beside(raster_with_store)
    assert store.live is not None
    store.close()


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda root: shutil.rmtree(root), "not an embedding store"),
        (lambda root: (root / "zarr.json").unlink(), "has no zarr.json"),
        (lambda root: (root / "zarr.json").write_text("{"), "damaged"),
        (lambda root: (root / "decoder.onnx").unlink(), "has no decoder.onnx"),
        (lambda root: (root / "decoder.onnx").write_bytes(b"half"), "not"),
    ],
)
def test_a_damaged_store_is_an_error_in_one_sentence(
    iface: Any, raster_with_store: QgsRasterLayer, damage: Any, word: str
) -> None:
    root = beside(raster_with_store)
    damage(root)
    error = outcome(root, [])
    assert isinstance(error, GeoSamError)
    assert word in error.user_message


def test_whatever_is_raised_inside_comes_out_as_an_error(
    iface: Any, raster_with_store: QgsRasterLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("geosam_es.gui.stores.open_store.open_segmenter", crash)
    error = outcome(beside(raster_with_store), [])
    assert isinstance(error, GeoSamError)
    assert "boom" in error.user_message
