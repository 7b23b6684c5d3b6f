"""Layers of online services, served on loopback, as images to click on."""

from __future__ import annotations

import re
import shutil
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from operator import methodcaller
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from qgis.core import (
    Qgis,
    QgsApplication,
    QgsAuthMethodConfig,
    QgsCoordinateReferenceSystem,
    QgsDateTimeRange,
    QgsPointXY,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
)
from qgis.PyQt.QtCore import QCoreApplication, QDate, QDateTime, Qt, QThread, QTime
from rasterio.io import MemoryFile
from rasterio.transform import Affine, array_bounds

from geosam_es.core.prompts import Bounds
from geosam_es.core.window import Window
from geosam_es.errors import GeoSamError, RasterError, StoreError
from geosam_es.gui.canvas.controller import SegmentationController
from geosam_es.gui.canvas.overlay import Overlay
from geosam_es.gui.canvas.pointed_image import PointedImage
from geosam_es.gui.canvas.view import Sight
from geosam_es.gui.canvas.view_tiles import tiles_in_view
from geosam_es.gui.stores.background_encoding import BackgroundEncoding
from geosam_es.gui.stores.current_store import CurrentStore
from geosam_es.gui.stores.open_store import OpenStore, OpenStoreTask, pixel_area_m2, project_raster
from geosam_es.inference.session import SegmentationSession
from geosam_es.qgis_support.crs import EllipsoidArea, raster_crs
from geosam_es.qgis_support.layer_source import LayerSource, open_raster, source_of
from geosam_es.qgis_support.live_store import LiveOptions, LiveStore
from geosam_es.qgis_support.service_request import interrupt, interruptible
from geosam_es.store.reader import StoreReader, TileState
from tests.helpers import disc
from tests.qgis import online_server
from tests.qgis.online_server import HALF, MapServer, exception, serving, status
from tests.qgis.support import Interface, wait_until

ZOOM = 19
PIXEL = 2 * HALF / 256 / 2**ZOOM
COL, ROW = 65400 * 1024, 49800 * 1024
"""Pixel of the world at zoom 19 where the orthophoto begins: near Valencia."""

SIZE = 1300
MERCATOR = Affine(PIXEL, 0.0, -HALF + COL * PIXEL, 0.0, -PIXEL, HALF - ROW * PIXEL)
DISC = (400, 400, 80)
"""Column, row and radius in pixels."""


def picture() -> Any:
    """Draw a bright disc on uneven ground."""
    ground = np.random.default_rng(1).normal(70, 6, (SIZE, SIZE))
    return np.repeat((ground + 120 * disc((SIZE, SIZE), *DISC))[None], 3, axis=0).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def ortho(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ortho") / "ortho.tif"
    profile = {"crs": "EPSG:3857", "transform": MERCATOR, "driver": "GTiff", "dtype": "uint8"}
    with rasterio.open(path, "w", count=3, height=SIZE, width=SIZE, **profile) as dataset:
        dataset.write(picture())
    return path


@pytest.fixture
def server(ortho: Path) -> Iterator[MapServer]:
    with serving(ortho) as started:
        yield started


@pytest.fixture
def options(tmp_path: Path) -> LiveOptions:
    return LiveOptions(cache_folder=tmp_path / "cache", threads=1)


class _Thread(QThread):
    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__()
        self._work = work
        self.ident = 0
        self.value: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        self.ident = threading.get_ident()
        try:
            self.value = self._work()
        except BaseException as error:
            self.error = error


def begin(work: Callable[[], Any]) -> _Thread:
    thread = _Thread(work)
    thread.start()
    return thread


def end(thread: _Thread) -> Any:
    while not thread.isFinished():
        QCoreApplication.processEvents()
        thread.wait(2)
    # A thread that has only just finished still deletes its objects.
    thread.wait()
    if thread.error is not None:
        raise thread.error
    return thread.value


def in_thread(work: Callable[[], Any]) -> Any:
    """Do what the worker does: QGIS's network needs a QThread."""
    return end(begin(work))


def layer(uri: str, name: str = "PNOA") -> QgsRasterLayer:
    made = QgsRasterLayer(uri, name, "wms")
    assert made.isValid()
    return made


def opened(uri: str, options: LiveOptions, name: str = "PNOA") -> LiveStore:
    source = source_of(layer(uri, name))
    return in_thread(lambda: LiveStore.open(source, options))


def centre(crs: str) -> tuple[float, float]:
    x, y = MERCATOR @ DISC[:2]
    if crs == "EPSG:3857":
        return x, y
    xs, ys = rasterio.warp.transform("EPSG:3857", crs, [x], [y])
    return xs[0], ys[0]


def click(live: LiveStore, level: int = 0, crs: str = "EPSG:3857") -> Any:
    return in_thread(lambda: SegmentationSession(live.segmenter, level).add_point(*centre(crs)))


def tiles(server: MapServer) -> set[tuple[int, ...]]:
    return {tuple(map(int, path.removesuffix(".png").split("/")[2:])) for path in server.images}


def iou(one: Any, other: Any) -> float:
    return float(one.intersection(other).area / one.union(other).area)


def test_a_click_on_xyz_gives_the_polygon_of_the_file(ortho: Path, server: MapServer, options: LiveOptions) -> None:
    live = opened(server.xyz(), options)
    assert server.images == []
    assert live.root.parent == options.cache_folder
    result = click(live)
    local = LiveStore.open(LayerSource(ortho, "", "ortho"), options)
    expected = SegmentationSession(local.segmenter).add_point(*centre("EPSG:3857"))
    assert iou(result.geometry, expected.geometry) > 0.95
    # The tiles of the service that the encoder's one tile needs, each once and one after the other.
    assert server.at_once == 1 and len(server.images) == len(tiles(server)) == 16
    assert {zoom for zoom, _, _ in tiles(server)} == {ZOOM}
    assert len({col for _, col, _ in tiles(server)}) == len({row for _, _, row in tiles(server)}) == 4
    for each in (live, local):
        each.close()


def test_neighbouring_tiles_share_what_was_fetched(server: MapServer, options: LiveOptions) -> None:
    live = opened(server.xyz(), options)
    x, y = centre("EPSG:3857")
    session = SegmentationSession(live.segmenter)
    in_thread(lambda: session.add_point(x, y))
    for step in (400, 700):
        in_thread(lambda step=step: SegmentationSession(live.segmenter).add_point(x + step * PIXEL, y - step * PIXEL))
    assert len(server.images) == len(tiles(server)) > 16
    live.close()


@pytest.mark.parametrize("kind", ["wms", "wms degrees", "wmts utm", "wmts mercator", "xyz"])
def test_every_kind_of_service_gives_the_polygon_and_its_area(
    ortho: Path, server: MapServer, options: LiveOptions, kind: str
) -> None:
    uris = {
        "wms": (server.wms(), "EPSG:25830"),
        "wms degrees": (server.wms("EPSG:4326"), "EPSG:4326"),
        "wmts utm": (server.wmts(), "EPSG:25830"),
        "wmts mercator": (server.wmts("mercator"), "EPSG:3857"),
        "xyz": (server.xyz(), "EPSG:3857"),
    }
    uri, crs = uris[kind]
    live = opened(uri, options)
    pixel = live.reader.metadata.raster.transform.a
    ground = {"EPSG:3857": PIXEL, "EPSG:25830": PIXEL * 0.8, "EPSG:4326": PIXEL / 111320}[crs]
    level = max(0, round(np.log2(ground / pixel)))
    result = click(live, level, crs)
    assert server.at_once == 1
    to_mercator = rasterio.warp.transform_geom(crs, "EPSG:3857", shapely.geometry.mapping(result.geometry))
    shape = shapely.geometry.shape(to_mercator)
    middle = shapely.Point(centre("EPSG:3857"))
    assert iou(shape, middle.buffer(DISC[2] * PIXEL)) > 0.9
    store_crs = raster_crs(live.reader.metadata)
    area = EllipsoidArea(store_crs).area_m2(result.geometry)
    geod = pyproj.Geod(ellps="WGS84")
    ring = shapely.geometry.shape(
        rasterio.warp.transform_geom("EPSG:3857", "EPSG:4326", shapely.geometry.mapping(shape))
    )
    assert area == pytest.approx(abs(geod.geometry_area_perimeter(ring)[0]), rel=1e-3)
    live.close()


def test_a_level_has_the_pixels_of_the_service(server: MapServer, options: LiveOptions) -> None:
    """The same click at the same detail gives the same polygon, whatever was read before, and after a restart."""
    live = opened(server.xyz(), options)
    first = click(live, 1)
    assert {zoom for zoom, _, _ in tiles(server)} == {ZOOM - 1}
    live.close()
    other = opened(server.xyz(), LiveOptions(cache_folder=options.cache_folder.with_name("other"), threads=1))
    x, y = centre("EPSG:3857")
    in_thread(lambda: SegmentationSession(other.segmenter, 1).add_point(x + 300 * PIXEL, y - 200 * PIXEL))
    in_thread(lambda: SegmentationSession(other.segmenter, 0).add_point(x + 300 * PIXEL, y - 200 * PIXEL))
    assert click(other, 1).geometry.equals_exact(first.geometry, 0)
    other.close()


@pytest.mark.parametrize("kind", ["xyz", "wms", "wmts"])
def test_the_cache_answers_while_the_service_is_away(server: MapServer, options: LiveOptions, kind: str) -> None:
    crs = "EPSG:3857" if kind == "xyz" else "EPSG:25830"
    source = source_of(layer(getattr(server, kind)()))
    live = in_thread(lambda: LiveStore.open(source, options))
    first = click(live, 2, crs)
    live.close()
    server.stop()
    server.reset()
    again = in_thread(lambda: LiveStore.open(source, options))
    assert again.root == live.root
    assert click(again, 2, crs).geometry.equals_exact(first.geometry, 0)
    again.close()


def failing(answer: Any) -> Callable[[str], Any]:
    """Fail for the sixth image only."""
    count = iter(range(1000))
    return lambda path: answer(path) if next(count) == 5 else None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (status(500), "HTTP 500.*try again"),
        (status(503), "HTTP 503.*try again"),
        (status(403), "refuses to show PNOA .HTTP 403.*authentication"),
        (status(429), "too many images of PNOA"),
        (exception, "a message in place of an image of PNOA: The database is away"),
        (lambda _: (200, "image/png", b"\x89PNG\r\n\x1a\n not"), "not an image"),
        (lambda _: (200, "image/png", b""), "not an image"),
        (lambda _: (200, "image/jpeg", jpeg()[:-2000]), "not an image"),
        (lambda _: (200, "text/plain", b"The quota is used up"), "PNOA: The quota is used up"),
        (lambda _: (200, "image/png", b"\xef\xbb\xbf\n<?xml?><e>Closed today</e>"), "PNOA: Closed today"),
    ],
)
def test_a_part_that_fails_is_an_error_and_nothing_is_kept(
    server: MapServer, options: LiveOptions, answer: Any, words: str
) -> None:
    live = opened(server.xyz(), options)
    server.answer = failing(answer)
    with pytest.raises(RasterError, match=words):
        click(live)
    assert len(server.images) in (6, 16)
    assert states(live) == {TileState.MISSING}
    # Later it works, without asking again for what had come.
    server.reset()
    assert click(live).geometry.area > 0
    assert len(server.images) <= 11
    live.close()


def jpeg() -> bytes:
    with MemoryFile() as memory:
        with memory.open(driver="JPEG", width=256, height=256, count=3, dtype="uint8") as image:
            image.write(picture()[:, :256, :256])
        return bytes(memory.read())


@pytest.mark.parametrize("after", [b"", b"\n\0\0"])
def test_an_image_is_known_by_its_content(server: MapServer, options: LiveOptions, after: bytes) -> None:
    server.answer = lambda _: (200, "text/html", jpeg() + after)
    live = opened(server.xyz(), options)
    x, y = centre("EPSG:3857")
    wanted = live.tiles_in(shapely.Point(x, y))
    assert {in_thread(lambda tile=tile: live.ensure_tile(tile)) for tile in wanted} == {TileState.ENCODED}
    live.close()


@pytest.fixture
def authcfg(qgis_app: Any) -> Iterator[str]:
    """Keep a login in QGIS's authentication database."""
    manager = QgsApplication.authManager()
    if not manager.masterPasswordIsSet():
        assert manager.setMasterPassword("of this test", True)
    login = QgsAuthMethodConfig("Basic")
    login.setConfigMap({"username": "me", "password": SECRETS[0]})
    login.setName("loopback")
    assert manager.storeAuthenticationConfig(login)
    yield login.id()
    manager.removeAuthenticationConfig(login.id())


def redirecting(target: Callable[[str], str]) -> Callable[[str], Any]:
    """Redirect what has no query."""
    return lambda path: (online_server.REDIRECT, "text/html", target(path).encode()) if "?" not in path else None


@pytest.mark.parametrize("login", ["", "&username=me&password=x", "&http-header:authorization=x", "&authcfg="])
@pytest.mark.parametrize("is_relative", [True, False])
def test_redirects_are_followed_but_no_password_goes_to_another_server(
    ortho: Path, server: MapServer, authcfg: str, login: str, is_relative: bool
) -> None:
    login += authcfg if login.endswith("authcfg=") else ""
    with serving(ortho) as other:
        for target in (server, other):
            prefix = target.url
            if is_relative:
                prefix = "" if target is server else f"//{target.url.partition('//')[2]}"
            server.answer = redirecting(lambda path, prefix=prefix: f"{prefix}{path}?new")
            path = first_request(server, server.xyz(more=login))
            assert [*server.images, *other.images] == [path, f"{path}?new"]
            assert all(("authorization" in header) == bool(login) for header in server.headers)
        assert not any("authorization" in header for header in other.headers)


@pytest.mark.parametrize("target", ["{path}", "{path}#{count}", "{path}?{count}", "file://{ortho}"])
def test_a_redirect_that_leads_nowhere_is_an_error(ortho: Path, server: MapServer, target: str) -> None:
    def answer(path: str) -> Any:
        location = target.format(path=path.partition("?")[0], count=len(server.images), ortho=ortho)
        return online_server.REDIRECT, "text/html", location.encode()

    server.answer = answer
    with pytest.raises(RasterError, match=r"PNOA cannot be read: 127\.0\.0\.1:.*redirect"):
        first_request(server, server.xyz())
    assert len(server.images) <= 20


def test_what_was_interrupted_asks_for_nothing_more(server: MapServer) -> None:
    source = source_of(layer(server.xyz()))

    def work() -> None:
        raster = open_raster(source)
        col, row = raster.transform.inverse().apply(*centre("EPSG:3857"))
        with interruptible():
            raster.read_values(Window(int(col), int(row), 8, 8))
            interrupt(threading.get_ident())
            with pytest.raises(RasterError, match="stopped"):
                raster.read_values(Window(int(col) + 512, int(row), 8, 8))
        assert len(server.images) == 1
        raster.read_values(Window(int(col) + 512, int(row), 8, 8))
        assert len(server.images) == 2

    in_thread(work)


def states(live: LiveStore) -> set[TileState]:
    """Return the states of the tiles of level 0 around the orthophoto."""
    area = live.reader.metadata.raster.transform.inverse().apply_geometry(
        shapely.box(*array_bounds(SIZE, SIZE, MERCATOR))
    )
    return {live.reader.state(tile) for tile in live.reader.pyramid.grid(0).touching(Bounds(*area.bounds))}


@pytest.mark.parametrize("kind", ["xyz", "wms"])
def test_a_service_that_does_not_answer(server: MapServer, options: LiveOptions, kind: str) -> None:
    live = opened(getattr(server, kind)(), options)
    server.stop()
    with pytest.raises(RasterError, match=r"PNOA cannot be read: 127\.0\.0\.1:.* does not answer") as failure:
        click(live, 2, "EPSG:3857" if kind == "xyz" else "EPSG:25830")
    assert "proxy" in failure.value.remedy
    live.close()


def test_tiles_that_do_not_exist_have_no_data(server: MapServer, options: LiveOptions) -> None:
    live = opened(server.xyz(), options)
    x, y = MERCATOR @ (-20000, -20000)
    with pytest.raises(GeoSamError, match="no data"):
        in_thread(lambda: SegmentationSession(live.segmenter).add_point(x, y))
    assert len(server.images) == len(tiles(server)) <= 64
    # One that is cut by the edge of the coverage is kept with what there is.
    result = in_thread(lambda: SegmentationSession(live.segmenter).add_point(*(MERCATOR @ (1250, 1250))))
    assert result.geometry.area > 0
    live.close()


@pytest.mark.parametrize("kind", ["xyz", "wms"])
def test_reading_stops_at_once(server: MapServer, options: LiveOptions, kind: str) -> None:
    live = opened(getattr(server, kind)(), options)
    server.delay = 30.0
    thread = begin(lambda: click_here(live, kind))
    deadline = time.monotonic() + 10
    while not server.images:
        QCoreApplication.processEvents()
        assert time.monotonic() < deadline
    began = time.monotonic()
    interrupt(thread.ident)
    with pytest.raises(RasterError, match="stopped"):
        end(thread)
    assert time.monotonic() - began < 5.0
    assert len(server.images) == 1
    live.close()


def click_here(live: LiveStore, kind: str) -> Any:
    crs = "EPSG:3857" if kind == "xyz" else "EPSG:25830"
    return SegmentationSession(live.segmenter, 2).add_point(*centre(crs))


def test_two_threads_take_turns(server: MapServer, options: LiveOptions) -> None:
    first, second = opened(server.xyz(), options), opened(server.wmts("mercator"), options, "other")
    server.delay = 0.01
    threads = [begin(lambda live=live: click_here(live, "xyz")) for live in (first, second)]
    for thread in threads:
        end(thread)
    assert server.at_once == 1
    for live in (first, second):
        live.close()


def test_no_bulk_download(server: MapServer, options: LiveOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    live = opened(server.xyz(), options)
    with pytest.raises(StoreError, match="must not be downloaded as a whole"):
        live.tiles_in()
    x, y = centre("EPSG:3857")
    view = shapely.Point(x, y).buffer(600 * PIXEL)
    wanted = live.tiles_in(view, 1)
    assert {tile.level for tile in wanted} == {1} and len(wanted) <= 4
    report = in_thread(lambda: live.encode(wanted))
    assert report.encoded + report.skipped == len(wanted)
    assert live.tiles_in(view, 1) == []
    assert server.at_once == 1
    monkeypatch.setattr("geosam_es.qgis_support.service_request.MOST_PIXELS_PER_MINUTE", 2**20)
    with pytest.raises(RasterError, match="limit of requests per minute"):
        click(live, 0)
    live.close()


SECRETS = ("hunter2", "k3y0fTheUser", "Zm9vYmFyMTIzNDU2Nzg5MGFiY2RlZg0")


@pytest.mark.parametrize("kind", ["xyz", "wms", "wmts"])
def test_no_secret_is_kept_and_the_attribution_is(server: MapServer, options: LiveOptions, kind: str) -> None:
    secret = f"{server.url}/{kind}?token={SECRETS[1]}&map=a.map"
    if kind == "xyz":
        secret = f"{server.url}/xyz/{{z}}/{{x}}/{{y}}.png?apikey={SECRETS[1]}&v={SECRETS[2]}"
    uri = getattr(server, kind)(more=f"&username=me&password={SECRETS[0]}")
    uri = re.sub("url=[^&]*", f"url={quote(secret, safe='')}", uri)
    shown = layer(uri)
    shown.setAttribution("© IGN, CC BY 4.0")
    source = source_of(shown)
    assert source.service is not None and not any(each in repr(source) for each in SECRETS)
    live = in_thread(lambda: LiveStore.open(source, options))
    crs = "EPSG:3857" if kind == "xyz" else "EPSG:25830"
    click(live, 2, crs)
    # The service gets them.
    assert all(header["authorization"].startswith("Basic ") for header in server.headers)
    assert all(SECRETS[1] in path for path in server.images) or kind != "xyz"
    raster = live.reader.metadata.raster
    assert raster.file_name == "PNOA" and raster.file_bytes == 0
    assert raster.attribution.startswith(f"© IGN, CC BY 4.0, {server.url}/{kind}")
    for path in [live.root, *live.root.rglob("*")]:
        assert not any(each in str(path) for each in SECRETS)
        if path.suffix == ".json":
            assert not any(each in path.read_text() for each in SECRETS)
    live.close()
    server.stop()
    server.reset()
    with pytest.raises(RasterError) as failure:
        click(live, 0, crs)
    assert not any(each in str(failure.value) for each in SECRETS)


def test_what_decides_the_image_decides_the_key(server: MapServer) -> None:
    def key(uri: str, **changes: str) -> str:
        for before, after in changes.items():
            uri = uri.replace(before, after)
        service = source_of(layer(uri)).service
        assert service is not None
        return service.key

    uris = [
        server.xyz(),
        server.xyz(zmax=18),
        server.wms(),
        server.wms("EPSG:3857"),
        server.wms(more="&opacities=128"),
        server.wms().replace("image/png", "image/jpeg"),
        server.wmts(),
        server.wmts("mercator"),
        server.wmts(more="&tileDimensions=Time%3D2020"),
    ]
    assert len({key(uri) for uri in uris}) == len(uris)
    assert key(server.wms()) == key(server.wms(more="&username=a&password=b&featureCount=3"))
    years = [server.xyz().replace("xyz%2F", f"Ortofoto_{year}_25cm_Castilla_y_Leon%2F") for year in (2020, 2023)]
    assert len({key(uri) for uri in years}) == 2
    keyed = [server.wms().replace("%2Fwms", f"%2Fwms%3Fmapkey%3D{text}%26AWSAccessKeyId%3D{text}") for text in "ab"]
    assert len({key(uri) for uri in keyed}) == 1
    timed = layer(server.wms())
    properties = timed.temporalProperties()
    properties.setIsActive(True)
    properties.setMode(Qgis.RasterTemporalMode.FixedTemporalRange)
    day = QDateTime(QDate(2020, 5, 1), QTime(0, 0), Qt.TimeSpec.UTC)
    properties.setFixedTemporalRange(QgsDateTimeRange(day, day))
    service = source_of(timed).service
    assert service is not None and service.time == "2020-05-01T00:00:00Z" and service.key != key(server.wms())


def first_request(server: MapServer, uri: str) -> str:
    """Return the address of the first image that is asked for in the middle of the orthophoto."""
    source = source_of(layer(uri))

    def read() -> None:
        raster = open_raster(source)
        col, row = raster.transform.inverse().apply(*centre(raster_crs_name(source)))
        with interruptible():
            raster.read_bands(Window(int(col), int(row), 8, 8), 1)

    server.reset()
    in_thread(read)
    return unquote(server.images[0])


def raster_crs_name(source: LayerSource) -> str:
    return QgsCoordinateReferenceSystem.fromWkt(source.crs_wkt).authid()


def test_layers_of_a_wms_are_drawn_in_the_order_of_qgis(server: MapServer) -> None:
    server.answer = lambda _: (200, "image/jpeg", jpeg())
    asked = first_request(
        server, server.wms().replace("layers=ortho&styles", "layers=ortho&layers=roads&styles=&styles=red")
    )
    shown = QgsRasterLayer(
        server.wms().replace("layers=ortho&styles", "layers=ortho&layers=roads&styles=&styles=red"), "two", "wms"
    )
    server.reset()
    assert shown.dataProvider().block(1, shown.extent(), 8, 8).isValid()
    for name in ("LAYERS", "STYLES"):
        assert parameter(asked, name) == parameter(unquote(server.images[0]), name)


def parameter(url: str, name: str) -> str:
    return dict(part.partition("=")[::2] for part in url.partition("?")[2].split("&"))[name]


def test_a_plus_in_the_uri_is_no_space(server: MapServer) -> None:
    server.answer = lambda _: (200, "image/jpeg", jpeg())
    uri = f"type=xyz&url={server.url}/a+b/%7Bz%7D/%7Bx%7D/%7By%7D.png&zmax=19&zmin=0"
    assert first_request(server, uri).startswith("/a+b/19/")


@pytest.mark.parametrize("zooms", ["", "&zmin=&zmax=", "&zmin=x&zmax=18.5"])
def test_zooms_that_are_no_numbers_are_the_usual_ones(server: MapServer, zooms: str) -> None:
    uri = re.sub("&zmax.*", zooms, server.xyz())
    assert first_request(server, uri).startswith("/xyz/18/")


@pytest.mark.parametrize("size", ["-1", "0", "many"])
def test_a_largest_size_that_is_none_is_the_usual_one(
    server: MapServer, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    described = online_server.wms_capabilities
    monkeypatch.setattr(
        online_server, "wms_capabilities", lambda *given: described(*given).replace(">800<", f">{size}<")
    )
    server.answer = lambda _: (200, "image/jpeg", jpeg())
    assert parameter(first_request(server, server.wms()), "WIDTH") == "8"


def test_a_service_that_describes_itself_badly(server: MapServer, monkeypatch: pytest.MonkeyPatch) -> None:
    described = online_server.wmts_capabilities
    source = source_of(layer(server.wmts()))
    monkeypatch.setattr(
        online_server, "wmts_capabilities", lambda *given: described(*given).replace("<TileWidth>256", "<TileWidth>")
    )
    with pytest.raises(RasterError, match="its service does not describe itself"):
        in_thread(lambda: open_raster(source))


def test_a_world_of_tiles_is_never_looped_over(server: MapServer, options: LiveOptions) -> None:
    live = opened(server.xyz(22), options)
    raster = live.reader.metadata.raster
    assert raster.width == 2**30 and live.reader.metadata.levels == 21
    left, bottom, right, top = live.segmenter.map_bounds
    assert (left, bottom, right, top) == pytest.approx((-HALF, -HALF, HALF, HALF))
    x, y = centre("EPSG:3857")
    # A box that no tile of its level holds goes through all levels.
    session = SegmentationSession(live.segmenter, 3)
    in_thread(lambda: session.set_box(Bounds(x - 80 * PIXEL, y - 80 * PIXEL, x + 80 * PIXEL, y + 80 * PIXEL).corners))
    assert session.current is not None and session.current.geometry.area > 0
    reader = StoreReader(live.root)
    counts = {count.level: (count.encoded, count.encoded + count.skipped + count.missing) for count in reader.counts()}
    assert sum(encoded for encoded, _ in counts.values()) >= 1
    assert all(total == len(reader.pyramid.grid(level)) for level, (_, total) in counts.items())
    problems = list(reader.problems())
    assert problems and not any(problem for _, problem in problems)
    assert tiles_in_view(live.segmenter, Sight([(-HALF, -HALF), (HALF, HALF)], [(x, y)], 0))
    assert 0 < pixel_area_m2(OpenStore(live.root, live.segmenter, raster_crs(live.reader.metadata), None, live)) < 0.01
    live.close()


def test_rasters_that_cannot_be_clicked_on_say_so(server: MapServer, tmp_path: Path) -> None:
    heights = QgsRasterLayer(server.xyz(more="&interpretation=maptilerterrain"), "heights", "wms")
    with pytest.raises(RasterError, match="heights does not show images"):
        source_of(heights)
    remote = QgsRasterLayer(f"/vsicurl/{server.url}/none.tif?token={SECRETS[1]}", "cog", "gdal")
    source = source_of(remote)
    assert source.store_beside is None and SECRETS[1] not in f"{source.path} {source.path.stem} {source.path.name}"
    with pytest.raises(RasterError, match="cog"):
        open_raster(source)


@pytest.fixture
def stores(qgis_app: Any) -> Iterator[CurrentStore]:
    current = CurrentStore()
    yield current
    current.shutdown()


@pytest.fixture
def controller(iface: Interface, stores: CurrentStore, server: MapServer, options: LiveOptions) -> Any:
    """Return a controller with the XYZ layer open; closed again by the fixture of the stores."""
    iface.canvas.setDestinationCrs(QgsCoordinateReferenceSystem("EPSG:3857"))
    shown = layer(server.xyz())
    # The map itself would ask for tiles too.
    iface.canvas.freeze(True)
    QgsProject.instance().addMapLayer(shown)
    iface.canvas.setLayers([shown])
    raster = project_raster(shown)
    assert raster is not None
    stores.open(None, [raster], options)
    wait_until(lambda: stores.store is not None)
    show(iface, (0, 0), 1.3)
    return SegmentationController(stores, iface.canvas.mapSettings)


def show(iface: Interface, offset: tuple[float, float], screen_pixel: float) -> None:
    """Centre the map on the disc and an offset in pixels, with so many pixels of the image per pixel of the screen."""
    x, y = centre("EPSG:3857")
    size = iface.canvas.size()
    width, height = size.width() * screen_pixel * PIXEL, size.height() * screen_pixel * PIXEL
    middle = QgsPointXY(x + offset[0] * PIXEL, y + offset[1] * PIXEL)
    iface.canvas.setExtent(QgsRectangle.fromCenterAndSize(middle, width, height))


def answered(controller: SegmentationController) -> Any:
    wait_until(lambda: not controller.drawing.busy, 60)
    assert controller.drawing.result is not None
    return controller.drawing.result.geometry


def asked(server: MapServer) -> list[str]:
    """Return the tiles of the finest zoom; the map, which shows a coarser one, asks for its own."""
    return [path for path in server.images if path.startswith(f"/xyz/{ZOOM}/")]


def test_the_same_click_gives_the_same_polygon_wherever_the_map_is(
    iface: Interface, controller: SegmentationController, server: MapServer
) -> None:
    found = []
    for offset, screen_pixel in (((0, 0), 1.3), ((150, -90), 1.3), ((-60, 40), 1.9)):
        show(iface, offset, screen_pixel)
        controller.add_point(QgsPointXY(*centre("EPSG:3857")))
        found.append(answered(controller))
        controller.discard()
    assert all(each.equals_exact(found[0], 0) for each in found)
    assert len(asked(server)) == len(set(asked(server))) == 16


def test_only_a_click_and_the_middle_of_the_view_ask_the_service(
    controller: SegmentationController, stores: CurrentStore, server: MapServer
) -> None:
    previews: list[Any] = []
    controller.preview_changed.connect(previews.append)
    here = QgsPointXY(*centre("EPSG:3857"))
    controller.preview(here)
    wait_until(lambda: previews)
    assert previews == [None] and asked(server) == []
    controller.look_ahead()
    live = stores.store.live if stores.store is not None else None
    assert live is not None
    wait_until(lambda: TileState.ENCODED in states(live))
    assert len(asked(server)) == len(set(asked(server))) == 16
    controller.preview(here)
    wait_until(lambda: previews[-1] is not None)
    assert len(asked(server)) == 16


def test_a_slow_service_is_told_of(controller: SegmentationController, stores: CurrentStore, server: MapServer) -> None:
    image = PointedImage(controller, stores)
    texts: list[str] = []
    image.changed.connect(lambda state: texts.append(state.text))
    image.look()
    assert texts == ["online"]
    server.delay = 0.1
    here = QgsPointXY(*centre("EPSG:3857"))
    controller.add_point(here)
    wait_until(lambda: texts[-1] == "fetching images …")
    answered(controller)
    assert texts == ["online", "fetching images …", "online"]
    controller.discard()
    # The images are there: on a machine that is not busy, the answer comes at once.
    fetched, started = asked(server), time.monotonic()
    controller.add_point(here)
    answered(controller)
    assert asked(server) == fetched and texts[-1] == "online"
    assert len(texts) == 3 or time.monotonic() - started > 0.3


def test_closing_does_not_wait_for_a_slow_service(
    controller: SegmentationController, stores: CurrentStore, server: MapServer
) -> None:
    server.delay = 30.0
    controller.add_point(QgsPointXY(*centre("EPSG:3857")))
    wait_until(lambda: asked(server))
    started = time.monotonic()
    stores.worker.stop()
    assert time.monotonic() - started < 5.0


def test_a_service_that_is_away_for_a_while(controller: SegmentationController, server: MapServer) -> None:
    failures: list[Any] = []
    controller.failed.connect(failures.append)
    here = QgsPointXY(*centre("EPSG:3857"))
    server.answer = status(503)
    controller.add_point(here)
    wait_until(lambda: failures)
    assert not controller.drawing.busy and not controller.drawing.prompts
    server.answer = None
    controller.add_point(here)
    assert answered(controller).area > 0 and len(failures) == 1


def remove_layer(controller: SegmentationController) -> None:
    assert controller.store is not None and controller.store.raster is not None
    QgsProject.instance().removeMapLayer(controller.store.raster.layer_id)
    assert controller.store is None


@pytest.mark.parametrize("end_object", [remove_layer, methodcaller("discard"), methodcaller("set_aside")])
def test_what_nobody_waits_for_stops_its_requests(
    controller: SegmentationController, stores: CurrentStore, server: MapServer, end_object: Callable[[Any], Any]
) -> None:
    server.delay = 30.0
    controller.add_point(QgsPointXY(*centre("EPSG:3857")))
    wait_until(lambda: asked(server))
    end_object(controller)
    assert not controller.drawing.busy
    done: list[bool] = []
    stores.run(lambda: True, done.append)
    started = time.monotonic()
    wait_until(lambda: done, 40)
    assert time.monotonic() - started < 5.0


def test_a_click_does_not_wait_for_what_is_fetched_ahead(
    controller: SegmentationController, stores: CurrentStore, server: MapServer
) -> None:
    failures: list[Any] = []
    controller.failed.connect(failures.append)
    server.delay = 30.0
    controller.look_ahead()
    wait_until(lambda: asked(server))
    server.delay = 0.0
    started = time.monotonic()
    controller.add_point(QgsPointXY(*centre("EPSG:3857")))
    assert answered(controller).area > 0 and failures == []
    assert time.monotonic() - started < 10.0


def test_cancelling_an_object_lets_the_next_one_be_asked_for(
    controller: SegmentationController, server: MapServer
) -> None:
    failures: list[Any] = []
    controller.failed.connect(failures.append)
    server.delay = 30.0
    controller.add_point(QgsPointXY(*centre("EPSG:3857")))
    wait_until(lambda: asked(server))
    server.delay = 0.0
    controller.cancel()
    controller.add_point(QgsPointXY(*centre("EPSG:3857")))
    assert answered(controller).area > 0 and failures == []


def test_a_store_that_was_deleted_is_made_again(
    controller: SegmentationController, stores: CurrentStore, options: LiveOptions
) -> None:
    """By the user, or by another QGIS that cleared the cache."""
    failures: list[Any] = []
    controller.failed.connect(failures.append)
    controller.store_wanted.connect(lambda raster: stores.request(raster, options))
    assert stores.store is not None
    shutil.rmtree(stores.store.path)
    here = QgsPointXY(*centre("EPSG:3857"))
    controller.add_point(here)
    wait_until(lambda: controller.drawing.result is not None or failures, 30)
    assert failures == [] and stores.store.live is not None
    assert TileState.ENCODED in states(stores.store.live)
    # An object that is being drawn is kept.
    drawn = answered(controller)
    shutil.rmtree(stores.store.path)
    beside = QgsPointXY(here.x() + 20 * PIXEL, here.y())
    controller.add_point(beside)
    assert answered(controller).equals(drawn)
    assert "was deleted or replaced: accept the polygon or discard it" in failures.pop().user_message
    controller.discard()
    controller.add_point(beside)
    wait_until(lambda: failures or (stores.store.path.is_dir() and not controller.is_waiting), 30)
    assert answered(controller).area > 0 and failures == []


def test_preparing_a_view_stops_at_once(
    controller: SegmentationController, stores: CurrentStore, server: MapServer
) -> None:
    encoding = BackgroundEncoding()
    ended: list[str] = []
    failures: list[GeoSamError] = []
    encoding.ended.connect(ended.append)
    encoding.failed.connect(failures.append)
    assert stores.store is not None
    encoding.start(stores.store)
    wait_until(lambda: failures)
    assert "must not be downloaded as a whole" in str(failures.pop())
    server.delay = 30.0
    sight = controller.sight(stores.store)
    assert sight is not None
    encoding.start(stores.store, shapely.Polygon(sight.corners), sight.level)
    wait_until(lambda: asked(server))
    started = time.monotonic()
    encoding.cancel()
    wait_until(lambda: len(ended) == 2)
    assert time.monotonic() - started < 5.0 and failures == []


def test_a_file_on_a_server_goes_the_way_of_a_local_file(
    ortho: Path, server: MapServer, options: LiveOptions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    remote = QgsRasterLayer(f"/vsicurl/{server.url}/file.tif?token={SECRETS[1]}", "cog", "gdal")
    assert remote.isValid()
    source = source_of(remote)
    live = in_thread(lambda: LiveStore.open(source, options))
    assert live.root.parent == options.cache_folder and list(tmp_path.glob("*.zarr")) == []
    assert live.reader.metadata.raster.file_name == "cog" and SECRETS[1] not in str(live.root)
    local = LiveStore.open(LayerSource(ortho, "", "ortho"), options)
    expected = SegmentationSession(local.segmenter).add_point(*centre("EPSG:3857"))
    assert iou(click(live).geometry, expected.geometry) > 0.99
    for each in (live, local):
        each.close()


def test_a_prepared_service_is_opened_again_by_its_folder_and_by_another_name(
    server: MapServer, options: LiveOptions
) -> None:
    live = opened(server.xyz(), options)
    first = click(live)
    live.close()
    server.stop()
    raster = project_raster(layer(server.xyz(), "renamed"))
    assert raster is not None
    for path in (None, live.root):
        found: list[OpenStore] = []
        task = OpenStoreTask(path, [raster], options)
        task.opened.connect(lambda store, _notice, found=found: found.append(store))
        task.start()
        wait_until(lambda found=found: found)
        assert found[0].live is not None and found[0].path == live.root
        assert click(found[0].live).geometry.equals_exact(first.geometry, 0)
        found[0].close()


def test_the_whole_world_has_no_outline_on_the_map(
    iface: Interface, controller: SegmentationController, ortho: Path, options: LiveOptions
) -> None:
    overlay = Overlay(iface.canvas)
    assert controller.store is not None
    overlay.show_footprint(controller.store)
    assert overlay.bands["footprint"].asGeometry().isEmpty()
    live = LiveStore.open(LayerSource(ortho, "", "ortho"), options)
    overlay.show_footprint(OpenStore(live.root, live.segmenter, raster_crs(live.reader.metadata), None, live))
    assert not overlay.bands["footprint"].asGeometry().isEmpty()
    overlay.remove()
    live.close()


def test_an_authentication_of_qgis_is_used_and_not_kept(server: MapServer, options: LiveOptions, authcfg: str) -> None:
    live = opened(server.xyz(more=f"&authcfg={authcfg}"), options)
    click(live, 2)
    wanted = b64encode(f"me:{SECRETS[0]}".encode()).decode()
    assert {header["authorization"] for header in server.headers} == {f"Basic {wanted}"}
    assert authcfg not in (live.root / "zarr.json").read_text()
    live.close()


def test_an_authentication_that_is_gone(server: MapServer, options: LiveOptions, authcfg: str) -> None:
    live = opened(server.xyz(more=f"&authcfg={authcfg}"), options)
    QgsApplication.authManager().removeAuthenticationConfig(authcfg)
    with pytest.raises(RasterError, match=r"PNOA cannot be read: .*authentication"):
        click(live, 2)
    assert server.images == []
    live.close()
