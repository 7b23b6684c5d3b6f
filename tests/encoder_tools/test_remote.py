"""Stores on a web server, read by the command line: a plain server, and servers that are slow, broken or lie."""

from __future__ import annotations

import functools
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import shapely

from encoder_tools import remote
from encoder_tools.evaluation.pictures import find_raster
from encoder_tools.vector import read_vector
from geosam_es.errors import ServerError, StoreError
from geosam_es.store import StoreReader
from geosam_es.store.cache import StoreCache
from geosam_es.store.reader import TileState
from geosam_es.store.remote import RemoteStore
from tests.encoder_tools.conftest import Ortho, Run
from tests.helpers import make_decoder

CHUNK = "level0/image_embeddings/c/0/0/0/0/0"
CHECKSUM = "level0/image_embeddings_crc32/c/0/0"


class Handler(SimpleHTTPRequestHandler):
    """Serves files as ``python -m http.server`` does, but notes what is asked for, and has faults."""

    server: Server

    def do_GET(self) -> None:
        key = self.path.partition("?")[0].partition(".embeddings.zarr/")[2]
        self.server.asked.append(self.path)
        fault = self.server.faults.get(key) or self.server.faults.get("*")
        if fault is None:
            super().do_GET()
        else:
            fault(self)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    faults: dict[str, Callable[[Handler], None]]
    asked: list[str]


@pytest.fixture
def server(ortho: Ortho, tmp_path: Path) -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), functools.partial(Handler, directory=str(ortho.store.parent)))
    made.faults, made.asked = {}, []
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/ortho.embeddings.zarr"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "_TIMEOUT_S", 0.5)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    return tmp_path / "cache" / "geosam-es" / "stores"


def answer(status: int, body: bytes = b"", **headers: object) -> Callable[[Handler], None]:
    def send(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in {"Content_Length": len(body), **headers}.items():
            handler.send_header(name.replace("_", "-"), str(value))
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    return send


def silent(handler: Handler) -> None:
    """Send nothing until the client has gone."""
    handler.connection.settimeout(5)
    handler.rfile.read(1)
    handler.close_connection = True


def test_a_click_on_a_store_on_a_server(run: Run, server: Server, url: str, ortho: Ortho, tmp_path: Path) -> None:
    here, there = tmp_path / "here.geojson", tmp_path / "there.geojson"
    assert run("segment", ortho.store, ortho.click, "-o", here).exit_code == 0
    result = run("segment", f"{url}/?key=secret", ortho.click, "-o", there)
    assert result.exit_code == 0, result.stderr
    assert shapely.equals(read_vector(here).geometries[0], read_vector(there).geometries[0])
    # Files are asked for by their names, whole, and once.
    assert len(set(server.asked)) == len(server.asked) and all(path.endswith("?key=secret") for path in server.asked)
    assert sum(f"/{CHUNK}" in path for path in server.asked) == 1
    assert not [path for path in server.asked if path.partition("?")[0].endswith("/")]
    server.asked.clear()
    assert run("segment", f"{url}/?key=secret", ortho.click, "-o", there, "--overwrite").exit_code == 0
    assert not [path for path in server.asked if "/c/" in path or ".onnx" in path]
    server.server_close()


def test_info_and_verify(run: Run, server: Server, url: str, ortho: Ortho) -> None:
    lines = run("info", url).stdout.splitlines()
    assert lines[0].startswith(f"Store:   {url} (") and lines[-1] == "Level 0: 300 x 200 px, 1 x 1 tiles"
    assert json.loads(run("info", url, "--json").stdout)["raster"]["file_name"] == "ortho.tif"
    assert run("verify", url, ortho.image).stdout.startswith(f"{url}: all 1 tiles are complete, and it was made from")
    content = bytearray((ortho.store / CHUNK).read_bytes())
    content[1000] ^= 1
    (ortho.store / CHUNK).write_bytes(content)
    result = run("verify", url)
    assert result.exit_code == 2 and f"{CHUNK} was changed after it was written" in result.stderr
    assert result.stderr.endswith(": repair the store where it lies with: geosam-es repair STORE\n")
    (ortho.store / CHUNK).write_bytes(content[:-3])
    assert "has 393213 bytes instead of 393216" in run("verify", url).stderr
    (ortho.store / CHUNK).unlink()
    assert f"{CHUNK} is missing" in run("verify", url).stderr


def test_what_changes_a_store_is_refused(run: Run, url: str, ortho: Ortho, tmp_path: Path) -> None:
    for command in (
        ("encode", ortho.image, "-o", url),
        ("repair", url),
        ("decoder", "set", url, tmp_path),
        ("decoder", "use", url, "original"),
    ):
        result = run(*command)
        assert result.exit_code == 2 and f"{url} is on a server, and stores are only read from there" in result.stderr
    result = run("info", url, "--set-crs", "EPSG:25829")
    assert result.exit_code == 2 and f"{url} is on a server, and only read from there" in result.stderr
    copy = remote.open_remote(url).folder
    result = run("encode", ortho.image, "-o", copy, "--resume")
    assert result.exit_code == 2 and f"{url} is on a server" in result.stderr


@pytest.mark.parametrize(
    "place",
    [
        "http://[::1/a.zarr",
        "http://HOST/my a.zarr",
        "http://HOST",
        "http:/HOST/a.zarr",
        "gs://bucket/a.zarr",
        "s3://[maps/a.zarr",
        "s3://maps//a.zarr",
    ],
)
def test_an_address_is_never_taken_for_a_folder(
    run: Run, ortho: Ortho, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for command in (("info", place), ("repair", place), ("encode", ortho.image, "-o", place)):
        result = run(*command)
        assert result.exit_code == 2
        assert f"Error: {place} is not a folder or the address of a store: write an address as" in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_the_decoder_in_use_is_that_of_the_server(run: Run, url: str, ortho: Ortho, tmp_path: Path) -> None:
    files = {name: (ortho.store / name).read_bytes() for name in ("prepare.onnx", "decoder.onnx")}
    tuned = make_decoder(tmp_path / "tuned", "my fields", files, model="bright", encoder_sha256="b" * 64)
    assert StoreReader(remote.open_remote(url)).decoder.name == "original"
    assert run("decoder", "set", ortho.store, tuned).exit_code == 0
    reader = StoreReader(remote.open_remote(url))
    assert reader.decoder.name == "my fields" and reader.read(next(iter(reader.pyramid)))
    (ortho.store / "decoders" / "my fields" / "decoder.onnx").write_bytes(b"another")
    shutil.rmtree(reader.root)
    result = run("info", url)
    assert result.exit_code == 2 and "does not have the hash in decoder.json" in result.stderr and url in result.stderr
    for name in ("../../x", "/etc", "a/b"):
        (ortho.store / "decoders" / "active.json").write_text(json.dumps({"name": name}))
        result = run("info", url)
        assert result.exit_code == 2 and result.stderr.startswith("Error: ")


def test_a_damaged_decoder_is_refused(run: Run, url: str, ortho: Ortho, cache: Path) -> None:
    (ortho.store / "decoder.onnx").write_bytes(b"something else")
    result = run("info", url)
    assert result.exit_code == 2 and f"{url}/decoder.onnx does not have the hash in zarr.json" in result.stderr
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "message", "tries"),
    [
        (answer(404), "is not an embedding store: it has no zarr.json", 1),
        (answer(403), "cannot be read (HTTP 403, Forbidden)", 1),
        (answer(429, Retry_After=1), "cannot be read (HTTP 429, Too Many Requests)", 3),
        (answer(500), "cannot be read (HTTP 500, Internal Server Error)", 3),
        (answer(200, b"{}", Content_Length=500), "cannot be read (", 3),
        (answer(200, b"<html>"), "zarr.json is not JSON, but perhaps a page of the server: check the address", 1),
        (answer(200, Content_Length=10**9, Content_Type="text/html"), "cannot be read (", 3),
        (answer(302, Location="ftp://127.0.0.1/zarr.json"), "redirects to ftp://", 1),
        (answer(302, Location="file:///etc/passwd"), "file:///etc/passwd", 1),
        (answer(302, Location="/ortho.embeddings.zarr/zarr.json"), "cannot be read (HTTP 302", 1),
        (silent, "cannot be read (", 3),
    ],
)
def test_servers_that_fail(
    run: Run, server: Server, url: str, fault: Callable[[Handler], None], message: str, tries: int
) -> None:
    server.faults["zarr.json"] = fault
    started = time.monotonic()
    result = run("info", url)
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1
    assert url in result.stderr and message in result.stderr
    assert time.monotonic() - started < 5
    assert tries == 1 or sum(path.endswith("zarr.json") for path in server.asked) == tries


def test_a_server_that_asks_for_a_pause(server: Server, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    faults = [answer(429, Retry_After=3), answer(503, Retry_After=3600)]

    def answer_at_last(handler: Handler) -> None:
        if len(faults) == 1:
            del server.faults["zarr.json"]
        faults.pop(0)(handler)

    server.faults["zarr.json"] = answer_at_last
    assert remote.fetch(f"{url}/zarr.json", 1 << 20)
    assert [pause for pause in pauses if pause >= 1] == [3, 10]


def test_a_page_in_place_of_the_name_of_the_decoder(run: Run, server: Server, url: str) -> None:
    server.faults["decoders/active.json"] = answer(200, b"<html>not found</html>")
    result = run("info", url)
    assert result.exit_code == 2 and "decoders/active.json is not JSON, but perhaps a page" in result.stderr


def test_a_server_that_has_gone(run: Run, server: Server, url: str) -> None:
    server.shutdown()
    server.server_close()
    result = run("verify", url)
    assert result.exit_code == 2 and "cannot be read (" in result.stderr and "check the address" in result.stderr


def test_letters_of_any_language_and_a_password_in_an_address(server: Server, url: str, ortho: Ortho) -> None:
    ortho.store.rename(ortho.store.with_name("Cáceres 1.embeddings.zarr"))
    told: list[str | None] = []

    def listen(handler: Handler) -> None:
        told.append(handler.headers["Authorization"])
        SimpleHTTPRequestHandler.do_GET(handler)

    server.faults["*"] = listen
    address = url.replace("ortho", "Cáceres 1")
    assert remote.fetch(f"{address}/zarr.json", 10**6)
    assert remote.fetch(f"{address}/zarr.json".replace("//", "//ana:se%40cret@"), 10**6)
    assert told == [None, "Basic YW5hOnNlQGNyZXQ="]
    # Another server does not get it.
    server.faults["*"] = answer(302, Location=f"{url}/zarr.json".replace("127.0.0.1", "localhost"))
    with pytest.raises(ServerError) as failed:
        remote.fetch("http://ana:secret@127.0.0.1:1/x", 100)
    assert "secret" not in failed.value.user_message


def test_a_redirect_is_followed(run: Run, server: Server, url: str) -> None:
    server.faults["zarr.json"] = answer(302, Location=f"{url}/zarr.json?again")
    first = server.faults["zarr.json"]

    def once(handler: Handler) -> None:
        del server.faults["zarr.json"]
        first(handler)

    server.faults["zarr.json"] = once
    assert run("info", url).exit_code == 0


def drip(handler: Handler) -> None:
    """Send one byte at a time, so that no single wait is long."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        try:
            handler.wfile.write(b" ")
        except OSError:
            break
        threading.Event().wait(0.02)
    handler.close_connection = True


def test_a_server_that_drips(server: Server, url: str) -> None:
    server.faults["zarr.json"] = drip
    with pytest.raises(ServerError, match="sends too slowly"):
        remote.fetch(f"{url}/zarr.json", 1 << 20)


def test_a_body_without_end_is_not_read(server: Server, url: str) -> None:
    server.faults["zarr.json"] = answer(200, bytes(1 << 20), Content_Length=1 << 40)
    with pytest.raises(ServerError, match="more than 1000 bytes"):
        remote.fetch(f"{url}/zarr.json", 1000)


def test_a_failing_server_is_no_damaged_store(run: Run, server: Server, url: str) -> None:
    server.faults[CHUNK] = answer(503)
    result = run("verify", url)
    assert result.exit_code == 2 and "HTTP 503" in result.stderr and "bad tile" not in result.stderr
    reader = StoreReader(remote.open_remote(url))
    (tile,) = reader.pyramid
    with pytest.raises(ServerError):
        reader.read(tile)
    del server.faults[CHUNK]
    assert reader.read(tile)


def test_damaged_tiles_are_not_kept(server: Server, url: str, ortho: Ortho) -> None:
    reader = StoreReader(remote.open_remote(url))
    (tile,) = reader.pyramid
    whole = (ortho.store / CHUNK).read_bytes()
    (ortho.store / CHUNK).write_bytes(whole[:-1] + b"\1")
    with pytest.raises(StoreError, match="its checksum differs"):
        reader.read(tile)
    (ortho.store / CHUNK).write_bytes(whole)
    assert reader.read(tile)


def test_missing_and_skipped_tiles(server: Server, url: str, ortho: Ortho) -> None:
    (ortho.store / CHUNK).unlink()
    (ortho.store / CHECKSUM).unlink()
    reader = StoreReader(remote.open_remote(url))
    (tile,) = reader.pyramid
    assert reader.state(tile) is TileState.MISSING
    count = len(server.asked)
    assert reader.state(tile) is TileState.MISSING and len(server.asked) == count
    skipped = ortho.store / "level0" / "skipped" / "c" / "0" / "0"
    skipped.parent.mkdir(parents=True)
    skipped.write_bytes(b"\1")
    assert StoreReader(remote.open_remote(url)).state(tile) is TileState.SKIPPED


def test_a_server_says_nothing_of_images_here(url: str, ortho: Ortho) -> None:
    document = json.loads((ortho.store / "zarr.json").read_text())
    document["attributes"]["geosam_es"]["raster"]["path"] = str(ortho.image)
    (ortho.store / "zarr.json").write_text(json.dumps(document))
    assert find_raster(StoreReader(ortho.store)) == ortho.image
    assert find_raster(StoreReader(remote.open_remote(url))) is None


def test_a_new_store_at_the_address_is_seen(run: Run, url: str, ortho: Ortho, model: Path) -> None:
    first = remote.open_remote(url)
    reader = StoreReader(first)
    (tile,) = reader.pyramid
    before = reader.read(tile)["image_embeddings"]
    assert run("encode", ortho.image, "--model", model, "--overwrite", "--stretch", "0:100").exit_code == 0
    second = remote.open_remote(url)
    assert second.folder != first.folder
    assert (StoreReader(second).read(tile)["image_embeddings"] != before).any()


def test_a_copy_that_another_process_removed_is_made_again(url: str, ortho: Ortho, cache: Path) -> None:
    store = remote.open_remote(url)
    reader = StoreReader(store)
    (tile,) = reader.pyramid
    before = reader.read(tile)["image_embeddings"]
    shutil.rmtree(store.folder)
    assert (reader.read(tile)["image_embeddings"] == before).all()
    other = StoreCache(cache, 0)
    assert other.stores() == [store.folder] and (store.folder / "zarr.json").is_file()
    # What was left of one without its metadata counts, too.
    (store.folder / "zarr.json").unlink()
    assert other.size() > 0
    store.close()
    other.clear()
    assert list(cache.iterdir()) == []


def test_the_cache_has_a_limit(url: str, ortho: Ortho, tmp_path: Path) -> None:
    """With room for one tile, the one that was read first makes way."""
    for name in ("image_embeddings", "image_embeddings_crc32"):
        source = ortho.store / "level0" / name / "c" / "0"
        shutil.copytree(source, ortho.store / "level0" / name / "c" / "1")
    store = RemoteStore(url, remote.fetch, StoreCache(tmp_path / "small", 450_000))
    keys = [CHUNK, CHUNK.replace("c/0/0", "c/1/0")]
    assert [store.provide(key, 393_216) for key in keys] == [True, True]
    assert [store.has(key, 393_216) for key in keys] == [False, True]
    store.close()
    roomy = RemoteStore(url, remote.fetch, StoreCache(tmp_path / "roomy", 900_000))
    roomy.provide(keys[0], 393_216)
    roomy.forget(keys[:1])
    assert all(roomy.provide(key, 393_216) for key in keys)
    assert all(roomy.has(key, 393_216) for key in keys), "what was forgotten takes no room"
    roomy.close()


def test_the_limit_counts_for_all_stores_of_a_command(
    run: Run, url: str, ortho: Ortho, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_CACHE_BYTES", 1)
    document = json.loads((ortho.store / "zarr.json").read_text())
    transform = document["attributes"]["geosam_es"]["raster"]["transform"]
    names = [f"{number}.embeddings.zarr" for number in range(2)]
    for name in names:
        shutil.copytree(ortho.store, ortho.store.with_name(name))
        (ortho.store.with_name(name) / "zarr.json").write_text(json.dumps(document))
        transform[2] += 1000 * transform[0]
    catalog, drawn, updated = (tmp_path / name for name in ("catalog.gpkg", "drawn.gpkg", "updated.gpkg"))
    for command in (
        ("catalog", *(url.replace("ortho.embeddings.zarr", name) for name in names), "-o", catalog),
        ("auto", catalog, "-o", drawn),
        ("update", catalog, drawn, "-o", updated),
        ("similar", catalog, drawn, "-o", tmp_path / "similar.gpkg"),
    ):
        result = run(*command)
        assert result.exit_code == 0 and len(list(cache.iterdir())) == 1, result.stderr
    assert len(read_vector(updated).geometries) == 2
