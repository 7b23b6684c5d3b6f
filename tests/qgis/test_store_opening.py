"""Opening stores: the raster that a store must fit, its CRS, and what happens to a cancelled opening."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import rasterio
from osgeo import gdal
from qgis.core import (
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt import sip
from rasterio.transform import Affine

from geosam_es.core.grid import Tile
from geosam_es.errors import (
    GeoSamError,
    OutputError,
    RasterError,
    RefusedError,
    ServerError,
    SignatureMismatchError,
    StoreError,
)
from geosam_es.gui.stores.current_store import CurrentStore
from geosam_es.gui.stores.open_store import OpenStoreTask, check_fits, project_raster, project_rasters, store_beside
from geosam_es.gui.stores.worker import Job
from geosam_es.qgis_support.live_store import LiveOptions, LiveStore
from geosam_es.store import StoreReader, StoreWriter, set_crs, store_path_for
from geosam_es.store.cache import StoreCache
from geosam_es.store.decoders import use_decoder
from geosam_es.store.reader import TileState
from tests.helpers import BlobDecoder
from tests.qgis.support import LEFT, PIXEL, TOP, TRANSFORM, make_sheet, wait_until


def beside(layer: QgsRasterLayer) -> Path:
    return store_path_for(Path(layer.source()))


def opened(path: Path | None, rasters: list[Any], options: LiveOptions | None = None) -> tuple[Any, str]:
    """Run the task as QGIS does, and return the store or the error, and the notice."""
    found: list[tuple[Any, str]] = []
    task = OpenStoreTask(path, rasters, options or LiveOptions())
    task.opened.connect(lambda *values: found.append(values))
    task.refused.connect(lambda error: found.append((error, "")))
    task.start()
    wait_until(lambda: found)
    return found[0]


def outcome(path: Path | None, rasters: list[Any], options: LiveOptions | None = None) -> Any:
    return opened(path, rasters, options)[0]


@pytest.fixture
def cache(tmp_path: Path) -> LiveOptions:
    return LiveOptions(cache_folder=tmp_path / "cache", threads=1, beside=True)


@pytest.fixture
def photo(tmp_path: Path) -> Iterator[QgsRasterLayer]:
    """A layer of a JPEG with a world file, whose CRS the file cannot say."""
    path = tmp_path / "photo.jpg"
    pixels = np.random.default_rng(2).integers(60, 200, (3, 300, 300)).astype(np.uint8)
    profile = {"driver": "JPEG", "width": 300, "height": 300, "count": 3, "dtype": "uint8", "WORLDFILE": "YES"}
    with rasterio.open(path, "w", transform=Affine(PIXEL, 0.0, LEFT, 0.0, -PIXEL, TOP), **profile) as dataset:
        dataset.write(pixels)
    path.with_suffix(".jpg.aux.xml").unlink(missing_ok=True)
    assert path.with_suffix(".wld").is_file()
    layer = QgsRasterLayer(str(path), "photo")
    layer.setCrs(QgsCoordinateReferenceSystem("EPSG:25829"))
    yield layer
    # Its file must be closed before QGIS ends.
    sip.delete(layer)


def keep_from_writing_beside(layer: QgsRasterLayer) -> None:
    """Lead the stores of a layer into the cache."""
    beside(layer).mkdir()


def test_only_local_rasters_are_listed(iface: Any, raster_with_store: QgsRasterLayer) -> None:
    project = QgsProject.instance()
    vector = QgsVectorLayer("Polygon?crs=EPSG:4326", "vector", "memory")
    gone = QgsRasterLayer("/nowhere/gone.tif", "gone")
    project.addMapLayers([vector, gone, raster_with_store])
    assert [file.layer_id for file in project_rasters()] == [raster_with_store.id()]
    assert project_raster(None) is None
    assert project_raster(vector) is None


def test_the_store_beside_a_raster(iface: Any, raster_with_store: QgsRasterLayer) -> None:
    file = project_raster(raster_with_store)
    assert file is not None
    assert store_beside(file) == beside(raster_with_store)
    shutil.rmtree(beside(raster_with_store))
    assert store_beside(file) is None


def test_the_raster_of_the_same_name_is_compared_before_the_active_one(
    iface: Any, raster_with_store: QgsRasterLayer, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(raster_with_store.source(), tmp_path / "elsewhere" / "active.tif")
    active = project_raster(QgsRasterLayer(str(tmp_path / "elsewhere" / "active.tif"), "active"))
    own = project_raster(raster_with_store)
    metadata = StoreReader(beside(raster_with_store)).metadata
    assert own is not None
    assert active is not None
    assert check_fits(beside(raster_with_store), metadata, [active, own], must_fit=True) == own
    assert check_fits(beside(raster_with_store), metadata, [active], must_fit=True) == active
    assert check_fits(beside(raster_with_store), metadata, [], must_fit=True) is None


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda raster: raster.__setitem__("width", 1499), "raster size"),
        (lambda raster: raster.__setitem__("fingerprint", "0" * 64), "raster fingerprint"),
        (lambda raster: raster["transform"].__setitem__(2, 1.0), "raster transform"),
    ],
)
def test_a_mismatch_is_reported_with_both_values(
    iface: Any, raster_with_store: QgsRasterLayer, edit_metadata: Any, change: Any, key: str
) -> None:
    root = beside(raster_with_store)
    metadata = StoreReader(root).metadata
    changed = edit_metadata(metadata, change)
    file = project_raster(raster_with_store)
    assert file is not None
    with pytest.raises(SignatureMismatchError) as caught:
        check_fits(root, changed, [file])
    assert caught.value.key == key
    assert repr(caught.value.stored) in str(caught.value)
    assert repr(caught.value.wanted) in str(caught.value)


def test_a_task_opens(iface: Any, raster_with_store: QgsRasterLayer, blobs: BlobDecoder) -> None:
    file = project_raster(raster_with_store)
    store = outcome(beside(raster_with_store), [file])
    assert store.path == beside(raster_with_store)
    assert store.raster == file
    assert store.crs.authid() == "EPSG:25830"
    assert store.live is None


def test_a_task_creates_a_store_if_there_is_none(iface: Any, raster_with_store: QgsRasterLayer) -> None:
    shutil.rmtree(beside(raster_with_store))
    store = outcome(None, [project_raster(raster_with_store)], LiveOptions(beside=True))
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
def test_a_damaged_store_is_one_clear_error(
    iface: Any, raster_with_store: QgsRasterLayer, damage: Any, word: str
) -> None:
    root = beside(raster_with_store)
    damage(root)
    error = outcome(root, [])
    assert isinstance(error, GeoSamError)
    assert word in error.user_message


def test_an_unexpected_exception_becomes_an_error(
    iface: Any, raster_with_store: QgsRasterLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("geosam_es.gui.stores.open_store.open_segmenter", crash)
    error = outcome(beside(raster_with_store), [])
    assert isinstance(error, GeoSamError)
    assert "boom" in error.user_message


@pytest.mark.parametrize("is_cached", [False, True])
def test_a_store_follows_the_corrected_crs_of_its_layer(
    iface: Any, photo: QgsRasterLayer, cache: LiveOptions, is_cached: bool
) -> None:
    if is_cached:
        keep_from_writing_beside(photo)
    first, notice = opened(None, [project_raster(photo)], cache)
    assert (first.path.parent == cache.cache_folder) == is_cached and first.crs.authid() == "EPSG:25829" and not notice
    first.live.encode(first.live.tiles_in())
    first.close()
    photo.setCrs(QgsCoordinateReferenceSystem("EPSG:25830"))
    again, notice = opened(None, [project_raster(photo)], cache)
    assert again.path == first.path and again.live.tiles_in() == []
    assert again.crs == photo.crs()
    assert "photo" in notice and "25829" in notice and "25830" in notice
    stored = StoreReader(again.path).metadata.raster.crs_wkt
    assert QgsCoordinateReferenceSystem.fromWkt(stored) == photo.crs()
    again.close()
    assert opened(None, [project_raster(photo)], cache)[1] == ""


@pytest.fixture
def stores(iface: Any, photo: QgsRasterLayer) -> Iterator[CurrentStore]:
    """Stores in a project with the photo."""
    QgsProject.instance().addMapLayer(photo, False)
    stores = CurrentStore()
    yield stores
    stores.shutdown()


def crs_is(stores: CurrentStore, code: str) -> bool:
    """Tell whether the open store has this CRS, here and on the disk."""
    store = stores.store
    if store is None:
        return False
    stored = QgsCoordinateReferenceSystem.fromWkt(StoreReader(store.path).metadata.raster.crs_wkt)
    return store.crs.authid() == stored.authid() == code


def test_a_crs_that_is_changed_and_changed_back_is_followed(
    stores: CurrentStore, photo: QgsRasterLayer, cache: LiveOptions
) -> None:
    """While the worker has no time for it."""
    stores.open(None, [project_raster(photo)], cache)
    wait_until(lambda: stores.store is not None)
    free, seen = threading.Event(), []
    stores.noticed.connect(seen.append)
    stores.worker.post(Job(lambda: free.wait(20)))
    for code in ("EPSG:25830", "EPSG:25829"):
        photo.setCrs(QgsCoordinateReferenceSystem(code))
    free.set()
    wait_until(lambda: len(seen) == 2 and crs_is(stores, "EPSG:25829"))


def test_a_crs_that_is_changed_while_the_store_is_opened_is_followed(
    stores: CurrentStore, photo: QgsRasterLayer, cache: LiveOptions
) -> None:
    stores.open(None, [project_raster(photo)], cache)
    photo.setCrs(QgsCoordinateReferenceSystem("EPSG:25830"))
    wait_until(lambda: crs_is(stores, "EPSG:25830"))


def test_a_layer_in_metres_with_a_crs_in_degrees(iface: Any, photo: QgsRasterLayer, cache: LiveOptions) -> None:
    QgsProject.instance().addMapLayer(photo, False)
    photo.setCrs(QgsCoordinateReferenceSystem("EPSG:4326"))
    error = opened(None, [project_raster(photo)], cache)[0]
    assert isinstance(error, RasterError) and "is not in degrees, but the CRS WGS 84 is" in error.problem
    assert "in QGIS, set the CRS of the layer" in error.remedy and not beside(photo).exists()


def test_an_open_store_does_not_follow_to_a_crs_that_cannot_be(
    stores: CurrentStore, photo: QgsRasterLayer, cache: LiveOptions
) -> None:
    stores.open(None, [project_raster(photo)], cache)
    wait_until(lambda: crs_is(stores, "EPSG:25829"))
    seen: list[Any] = []
    stores.failed.connect(seen.append)
    photo.setCrs(QgsCoordinateReferenceSystem("EPSG:4326"))
    wait_until(lambda: seen)
    assert isinstance(seen[0], RasterError) and crs_is(stores, "EPSG:25829")


def test_a_store_of_another_model_follows_the_layer_too(
    iface: Any, raster_with_store: QgsRasterLayer, blobs: BlobDecoder
) -> None:
    raster_with_store.setCrs(QgsCoordinateReferenceSystem("EPSG:25831"))
    store, notice = opened(beside(raster_with_store), [project_raster(raster_with_store)])
    assert store.crs.authid() == "EPSG:25831" and notice
    assert "25831" in StoreReader(store.path).metadata.raster.crs_wkt


def test_a_frozen_store_answers_and_no_tile_is_added(iface: Any, photo: QgsRasterLayer, cache: LiveOptions) -> None:
    rasters = [project_raster(photo)]
    store = outcome(None, rasters, cache)
    assert store.live.ensure_tile(Tile(0, 0, 0)) is TileState.ENCODED
    store.close()
    document = json.loads((store.path / "zarr.json").read_text(encoding="utf-8"))
    document["attributes"]["geosam_es"]["tiling"] = {"tile_size": 1024, "starts": [[0], [0]]}
    (store.path / "zarr.json").write_text(json.dumps(document), encoding="utf-8")
    frozen = outcome(store.path, rasters, cache)
    assert (frozen.path, frozen.live) == (store.path, None)
    assert frozen.raster == rasters[0]
    assert frozen.segmenter.can_provide(Tile(0, 0, 0))
    with pytest.raises(StoreError, match="no tile can be added"):
        LiveStore.open_at(store.path, rasters[0], cache)


def test_one_crs_written_in_two_ways_is_the_same(
    iface: Any, raster_with_store: QgsRasterLayer, blobs: BlobDecoder
) -> None:
    crs = QgsCoordinateReferenceSystem.fromProj("+proj=tmerc +lat_0=40 +lon_0=-3 +k=0.9999 +x_0=5e5 +ellps=GRS80")
    raster_with_store.setCrs(crs)
    root = beside(raster_with_store)
    set_crs(root, crs.toWkt(QgsCoordinateReferenceSystem.WKT2_2018))
    before = (root / "zarr.json").read_bytes()
    assert opened(root, [project_raster(raster_with_store)])[1] == ""
    assert (root / "zarr.json").read_bytes() == before


def test_a_store_that_was_encoded_again_with_another_model_is_opened_again(
    iface: Any, raster_with_store: QgsRasterLayer, blobs: BlobDecoder
) -> None:
    """As in a terminal, with ``encode --overwrite``. The answers of the old decoder would be silently wrong."""
    QgsProject.instance().addMapLayer(raster_with_store)
    source = project_raster(raster_with_store)
    stores = CurrentStore()
    stores.request(source)
    wait_until(lambda: stores.find(source) is not None)
    former = stores.find(source)
    assert former.live is None
    set_crs(former.path, former.metadata.raster.crs_wkt)
    assert stores.find(source) is former
    other = replace(former.metadata, model={**former.metadata.model, "encoder_sha256": "e" * 64})
    StoreWriter.create(former.path, other, {"decoder.onnx": former.path / "decoder.onnx"}, overwrite=True)
    assert stores.find(source) is None
    stores.request(source)
    wait_until(lambda: stores.find(source) is not None)
    assert stores.find(source).metadata.model["encoder_sha256"] == "e" * 64
    stores.shutdown()


def test_polygons_follow_the_layer_where_the_store_cannot_be_corrected(
    iface: Any, raster_with_store: QgsRasterLayer, blobs: BlobDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(root: Path, _crs_wkt: str) -> None:
        raise OutputError(f"{root} cannot be written (Permission denied)")

    monkeypatch.setattr("geosam_es.qgis_support.store_crs.set_crs", refuse)
    raster_with_store.setCrs(QgsCoordinateReferenceSystem("EPSG:25831"))
    store, notice = opened(beside(raster_with_store), [project_raster(raster_with_store)])
    assert store.crs.authid() == "EPSG:25831" and "Permission denied" in notice


def is_in_use(options: LiveOptions) -> bool:
    """Tell whether the cache would keep its store even if it had no room."""
    assert options.cache_folder is not None
    cache = StoreCache(options.cache_folder, 0)
    assert len(cache.stores()) == 1
    try:
        cache.trim()
    except OutputError:
        return True
    assert cache.stores() == []
    return False


def test_a_store_is_in_use_until_it_is_closed(iface: Any, photo: QgsRasterLayer, cache: LiveOptions) -> None:
    keep_from_writing_beside(photo)
    store, _ = opened(None, [project_raster(photo)], cache)
    assert is_in_use(cache)
    store.close()
    assert not is_in_use(cache)


@pytest.mark.parametrize(("owner", "name"), [(LiveStore, "open"), (OpenStoreTask, "run")])
def test_a_cancelled_opening_closes_its_store(
    iface: Any, photo: QgsRasterLayer, cache: LiveOptions, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    """Cancelled while the store is being opened, or just after."""
    keep_from_writing_beside(photo)
    begun, cancelled = threading.Event(), threading.Event()
    original = getattr(owner, name)

    def slowly(*arguments: Any) -> Any:
        result = original(*arguments)
        begun.set()
        assert cancelled.wait(20)
        return result

    monkeypatch.setattr(owner, name, slowly)
    stores = CurrentStore()
    stores.open(None, [project_raster(photo)], cache)
    assert begun.wait(20)
    stores.cancel_opening()
    cancelled.set()
    wait_until(lambda: not is_in_use(cache))
    assert stores.store is None
    stores.shutdown()


def test_the_store_of_a_raster_with_another_name_is_found_without_an_active_layer(
    iface: Any, raster_with_store: QgsRasterLayer, tmp_path: Path
) -> None:
    """A renamed file among other rasters."""
    (tmp_path / "elsewhere").mkdir()
    other = project_raster(make_sheet(tmp_path / "elsewhere", "other", TRANSFORM._replace(c=0.0)))
    shutil.copy(raster_with_store.source(), tmp_path / "elsewhere" / "renamed.tif")
    renamed = project_raster(QgsRasterLayer(str(tmp_path / "elsewhere" / "renamed.tif"), "renamed"))
    metadata = StoreReader(beside(raster_with_store)).metadata
    assert other is not None and renamed is not None
    assert check_fits(beside(raster_with_store), metadata, [other, renamed]) == renamed
    assert check_fits(beside(raster_with_store), metadata, [other]) is None


def requested(stores: CurrentStore, raster: Any, options: LiveOptions | None = None) -> Any:
    stores.request(raster, options)
    wait_until(lambda: not stores.is_opening)
    return stores.find(raster)


def test_the_stores_used_last_stay_open(
    stores: CurrentStore, photo: QgsRasterLayer, cache: LiveOptions, blobs: BlobDecoder, tmp_path: Path
) -> None:
    keep_from_writing_beside(photo)
    # Only an empty folder is beside it.
    first = project_raster(photo)
    assert first is not None
    stores.open(None, [first], cache)
    wait_until(lambda: stores.find(first) is not None)
    assert is_in_use(cache)
    layers = [make_sheet(tmp_path, f"sheet{number}") for number in range(8)]
    rasters = [raster for raster in map(project_raster, layers) if raster is not None]
    for raster in rasters:
        stores.select(requested(stores, raster))
    assert all(stores.find(raster) is not None for raster in rasters)
    assert stores.find(first) is None
    wait_until(lambda: not is_in_use(cache))
    stores.select(stores.find(rasters[0]))
    assert stores.store is stores.find(rasters[0])


def test_a_request_does_not_replace_the_current_store(
    stores: CurrentStore, raster_with_store: QgsRasterLayer, blobs: BlobDecoder, tmp_path: Path
) -> None:
    current, other = project_raster(raster_with_store), project_raster(make_sheet(tmp_path, "other"))
    assert current is not None and other is not None
    stores.select(requested(stores, current))
    store = requested(stores, other)
    assert store is not None and stores.store is stores.find(current)
    stores.select(store)
    assert stores.store is store and stores.find(current) is not None


def test_an_opening_that_the_user_stops_is_reported(
    stores: CurrentStore, raster_with_store: QgsRasterLayer, blobs: BlobDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for it must not wait for ever."""
    begun, stopped = threading.Event(), threading.Event()
    original = OpenStoreTask.run

    def slowly(task: OpenStoreTask) -> bool:
        begun.set()
        assert stopped.wait(20)
        return original(task)

    monkeypatch.setattr(OpenStoreTask, "run", slowly)
    seen: list[Any] = []
    stores.refused.connect(seen.append)
    stores.open(beside(raster_with_store), [])
    assert begun.wait(20)
    QgsApplication.taskManager().cancelAll()
    stopped.set()
    wait_until(lambda: seen)
    assert "was stopped" in seen[0].problem
    assert not stores.is_opening and stores.store is None


def test_the_stores_of_removed_layers_are_closed(
    stores: CurrentStore, raster_with_store: QgsRasterLayer, blobs: BlobDecoder, tmp_path: Path
) -> None:
    """A second layer of the same file keeps its store open."""
    twin = QgsRasterLayer(raster_with_store.source(), "twin")
    QgsProject.instance().addMapLayers([raster_with_store, twin])
    raster = project_raster(raster_with_store)
    stores.select(requested(stores, raster))
    QgsProject.instance().removeMapLayer(raster_with_store.id())
    assert stores.store is not None
    QgsProject.instance().removeMapLayer(twin.id())
    assert stores.store is None


@pytest.fixture
def server(raster_with_store: QgsRasterLayer) -> Iterator[tuple[str, ThreadingHTTPServer]]:
    """The folder of a store on a plain web server, and its address there."""
    root = beside(raster_with_store)
    made = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(root.parent)))
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}/{root.name}", made
    made.shutdown()
    made.server_close()
    thread.join()


def test_a_store_on_a_server_answers(
    iface: Any, raster_with_store: QgsRasterLayer, server: tuple[str, Any], blobs: BlobDecoder, cache: LiveOptions
) -> None:
    file = project_raster(raster_with_store)
    store = outcome(server[0], [file], cache)
    assert store.place == server[0] and store.raster == file and store.live is None
    assert store.path.parent == cache.cache_folder
    tile = next(iter(store.segmenter.pyramid))
    local = StoreReader(beside(raster_with_store)).read(tile)
    found: list[Any] = []
    stores = CurrentStore()
    stores.run(lambda: store.segmenter.reader.read(tile), found.append)
    wait_until(lambda: found)
    assert all((found[0][name] == values).all() for name, values in local.items())
    stores.shutdown()
    store.close()
    with pytest.raises(OutputError, match="is on a server"):
        use_decoder(store.path, "original")


def test_a_server_that_fails_is_one_sentence(
    iface: Any, server: tuple[str, Any], cache: LiveOptions, tmp_path: Path
) -> None:
    url = server[0]
    assert "is not an embedding store" in outcome(f"{url}x", [], cache).problem
    server[1].shutdown()
    server[1].server_close()
    error = outcome(url, [], cache)
    assert isinstance(error, ServerError) and "does not answer" in error.problem


class S3Handler(SimpleHTTPRequestHandler):
    """Serves the folder of a bucket ``maps`` as S3 does: to one key, signed for its region, unless it is public."""

    is_public = False

    def do_GET(self) -> None:
        signature = unquote(f"{self.path} {self.headers.get('Authorization', '')}")
        code = "InvalidAccessKeyId" if "key/" not in signature else "AuthorizationHeaderMalformed"
        if self.is_public == ("key/" in signature) or not (self.is_public or "/eu-south-2/s3/" in signature):
            text = f"<Error><Code>{code}</Code><Message>no</Message><Region>eu-south-2</Region></Error>".encode()
            self.send_response(400 if code.startswith("Auth") else 403)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
            return
        assert self.path.startswith("/maps/")
        self.path = self.path[len("/maps") :]
        super().do_GET()


@pytest.fixture
def s3(raster_with_store: QgsRasterLayer) -> Iterator[str]:
    """The folder of a store as a bucket, and its address for GDAL."""
    root = beside(raster_with_store)
    made = ThreadingHTTPServer(("127.0.0.1", 0), partial(S3Handler, directory=str(root.parent)))
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}).start()
    options = {"AWS_S3_ENDPOINT": f"127.0.0.1:{made.server_port}", "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE"}
    secret = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_NO_SIGN_REQUEST": None}
    for name, value in {**options, **secret}.items():
        gdal.SetConfigOption(name, value)
    yield f"s3://maps/{root.name}"
    for name in (*options, *secret, "AWS_REGION"):
        gdal.SetConfigOption(name, None)
    made.shutdown()
    made.server_close()


def test_a_store_in_object_storage_answers(
    iface: Any,
    raster_with_store: QgsRasterLayer,
    s3: str,
    blobs: BlobDecoder,
    cache: LiveOptions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = outcome(s3, [], cache)
    assert isinstance(error, ServerError) and s3 in error.problem and "set AWS_REGION to" in error.remedy
    gdal.SetConfigOption("AWS_REGION", "eu-south-2")
    store = outcome(s3, [project_raster(raster_with_store)], cache)
    assert not isinstance(store, GeoSamError), store
    assert store.place == s3 and store.path.parent == cache.cache_folder
    tile = next(iter(store.segmenter.pyramid))
    local = StoreReader(beside(raster_with_store)).read(tile)
    found: list[Any] = []
    stores = CurrentStore()
    stores.run(lambda: store.segmenter.reader.read(tile), found.append)
    wait_until(lambda: found)
    assert all((found[0][name] == values).all() for name, values in local.items())
    stores.shutdown()
    store.close()
    assert "is not an embedding store" in outcome(f"{s3}x", [], cache).problem
    gdal.SetConfigOption("AWS_ACCESS_KEY_ID", "another")
    error = outcome(s3, [], cache)
    assert isinstance(error, RefusedError) and s3 in error.problem and "AWS_ACCESS_KEY_ID" in error.remedy
    gdal.SetConfigOption("AWS_SECRET_ACCESS_KEY", None)
    monkeypatch.setenv("HOME", str(cache.cache_folder))
    error = outcome(s3, [], cache)
    assert isinstance(error, ServerError) and s3 in error.problem and "AWS_NO_SIGN_REQUEST" in error.remedy
    monkeypatch.setattr(S3Handler, "is_public", True)
    gdal.SetConfigOption("AWS_NO_SIGN_REQUEST", "YES")
    outcome(s3, [], cache).close()


def test_a_server_that_is_silent_does_not_block_the_window(iface: Any, cache: LiveOptions) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        refused: list[GeoSamError] = []
        task = OpenStoreTask(f"http://127.0.0.1:{port}/a.embeddings.zarr", [], cache)
        task.refused.connect(refused.append)
        task.start()
        silent.settimeout(20)
        # The request is here, and this thread goes on.
        connection, _ = silent.accept()
        assert refused == []
        task.cancel()
        wait_until(lambda: refused)
        connection.close()
    assert "was stopped" in refused[0].problem
