"""Stores in object storage: written by one process and by workers, and read; with faults of the server."""

from __future__ import annotations

import json
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import shapely

from encoder_tools import object_store
from encoder_tools.raster import Raster
from encoder_tools.vector import read_vector
from geosam_es.core.window import Window
from geosam_es.errors import RasterError
from geosam_es.store.metadata import read_metadata
from tests.encoder_tools.conftest import Ortho, Run
from tests.encoder_tools.scenes import ramp, write_layer, write_raster
from tests.helpers import make_decoder

BUCKET = "s3://maps"
CHUNK = "level0/image_embeddings/c/0/0/0/0/0"

App = Callable[..., Iterable[bytes]]


class Bucket:
    """A bucket of an S3 server in this process. It notes requests, and answers some with errors."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.asked: list[str] = []
        self.is_signed = False
        self.faults: dict[str, list[tuple[str, str]]] = {}
        self.slow = ""

    def app(self, real: App) -> App:
        def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
            request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
            self.asked.append(request)
            self.is_signed = "HTTP_AUTHORIZATION" in environ
            if self.slow and self.slow in request:
                time.sleep(3.5)
            for part, faults in self.faults.items():
                if part in request and faults:
                    status, code = faults.pop(0) if len(faults) > 1 else faults[0]
                    if not status:
                        faults.clear()
                        break
                    start(status, [("Content-Type", "application/xml")])
                    # Single objects are refused in an answer that is good otherwise.
                    text = f"<Error><Code>{code}</Code><Message>fault</Message></Error>"
                    return [(f"<DeleteResult>{text}</DeleteResult>" if status == "200 OK" else text).encode()]
            return real(environ, start)

        return answer

    def fail(self, part: str, *faults: tuple[str, str], then_works: bool = False) -> None:
        """Answer requests with a text in them with these errors in turn, the last one for ever, unless it works."""
        self.faults[part] = [*faults, *([("", "")] if then_works else [])]

    def objects(self, folder: str) -> dict[str, bytes]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket="maps", Prefix=f"{folder}/")
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        read = {key: self.client.get_object(Bucket="maps", Key=key)["Body"].read() for key in keys}
        return {key[len(folder) + 1 :]: content for key, content in read.items()}

    def upload(self, folder: Path, name: str) -> str:
        for path in folder.rglob("*"):
            if path.is_file():
                key = f"{name}/{path.relative_to(folder).as_posix()}"
                self.client.upload_file(str(path), "maps", key, ExtraArgs={"ACL": "public-read"})
        return f"{BUCKET}/{name}"

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket="maps", Key=key, Body=content)


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    from moto.server import ThreadedMotoServer

    made = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def bucket(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    import boto3

    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_MAX_ATTEMPTS": "2",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3", region_name="us-east-1")
    client.create_bucket(Bucket="maps")
    made, wsgi = Bucket(client), server._server
    real = wsgi.app
    wsgi.app = made.app(real)
    yield made
    wsgi.app = real
    listed = client.list_objects_v2(Bucket="maps")
    while listed.get("KeyCount"):
        client.delete_objects(Bucket="maps", Delete={"Objects": [{"Key": one["Key"]} for one in listed["Contents"]]})
        listed = client.list_objects_v2(Bucket="maps")
    client.delete_bucket(Bucket="maps")


@pytest.fixture
def url(bucket: Bucket, ortho: Ortho) -> str:
    address = bucket.upload(ortho.store, "my maps/ortho.embeddings.zarr")
    bucket.asked.clear()
    return address


def files(store: Path) -> dict[str, bytes]:
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def without_date(objects: dict[str, bytes]) -> dict[str, bytes]:
    document = json.loads(objects.pop("zarr.json"))
    del document["attributes"]["geosam_es"]["created"]
    return {**objects, "zarr.json": json.dumps(document).encode()}


def test_a_click_on_a_store_in_a_bucket(run: Run, bucket: Bucket, url: str, ortho: Ortho, tmp_path: Path) -> None:
    here, there = tmp_path / "here.geojson", tmp_path / "there.geojson"
    assert run("segment", ortho.store, ortho.click, "-o", here).exit_code == 0
    result = run("segment", url, ortho.click, "-o", there)
    assert result.exit_code == 0, result.stderr
    assert shapely.equals(read_vector(here).geometries[0], read_vector(there).geometries[0])
    # Objects are asked for by their names, once, and nothing is listed.
    assert len(set(bucket.asked)) == len(bucket.asked) and all(path.startswith("GET /maps/my") for path in bucket.asked)
    assert sum(CHUNK in path for path in bucket.asked) == 1


def test_an_older_store_in_a_bucket(run: Run, url: str, ortho: Ortho, tmp_path: Path) -> None:
    old, new = write_layer(tmp_path / "old.gpkg", [ortho.truth]), tmp_path / "new.gpkg"
    result = run("update", ortho.store, old, "-o", new, "--old-store", url)
    assert result.exit_code == 0 and "1 same" in result.stdout, result.stderr


def test_a_store_is_the_same_as_on_the_disk(
    run: Run, bucket: Bucket, ortho: Ortho, model: Path, tmp_path: Path
) -> None:
    url = f"{BUCKET}/a/ortho.embeddings.zarr"
    command = ("encode", ortho.image, "--model", model, "-o")
    result = run(*command, url)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"{url}: 1 tile encoded")
    assert without_date(bucket.objects("a/ortho.embeddings.zarr")) == without_date(files(ortho.store))
    assert "already exists: continue with --resume" in run(*command, url).stderr
    bucket.client.delete_object(Bucket="maps", Key=f"a/ortho.embeddings.zarr/{CHUNK}")
    assert "1 tile encoded" in run(*command, url, "--resume").stdout
    assert "0 tiles encoded" in run(*command, f"{BUCKET}/a/", "--resume").stdout
    other = run(*command, url, "--resume", "--stretch", "0:100")
    assert other.exit_code == 2 and f"{url} was made with stretch = " in other.stderr
    bucket.put("a/ortho.embeddings.zarr/level0/image_embeddings/c/9/9/0/0/0", b"old")
    assert run(*command, url, "--overwrite").exit_code == 0
    assert without_date(bucket.objects("a/ortho.embeddings.zarr")) == without_date(files(ortho.store))
    bucket.fail("GET /maps/a/ortho.embeddings.zarr/zarr.json", ("404 Not Found", "NoSuchKey"), then_works=True)
    assert "already exists" in run(*command, url).stderr, "another program made it meanwhile"
    assert without_date(bucket.objects("a/ortho.embeddings.zarr")) == without_date(files(ortho.store))


def test_a_store_without_tiles_is_removed(run: Run, bucket: Bucket, model: Path, tmp_path: Path) -> None:
    image = write_raster(tmp_path / "empty.tif", 0 * ramp(3) + 7)
    result = run("encode", image, "--model", model, "-o", BUCKET)
    assert (
        result.exit_code == 2
        and "has no tile to encode" in result.stderr
        and not bucket.objects("empty.embeddings.zarr")
    )


def test_a_damaged_image_keeps_the_tiles_in_the_bucket(
    run: Run, bucket: Bucket, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_raster(tmp_path / "wide.tif", ramp(3, 1500, 3000))
    read_bands = Raster.read_bands

    def fail_at_last(self: Raster, window: Window, scale: int) -> Any:
        if scale > 1:
            raise RasterError("wide.tif is damaged", "copy it again")
        return read_bands(self, window, scale)

    with monkeypatch.context() as patch:
        patch.setattr(Raster, "read_bands", fail_at_last)
        result = run("encode", image, "--model", model, "-o", BUCKET)
    assert result.exit_code == 2 and "copy it again, and continue with --resume" in result.stderr
    assert CHUNK in bucket.objects("wide.embeddings.zarr")
    result = run("encode", image, "--model", model, "-o", BUCKET, "--resume")
    assert result.exit_code == 0 and " 0 encoded before" not in result.stdout


def test_workers_write_into_a_bucket(run: Run, bucket: Bucket, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    pixels = ramp(3, 1200, 2600)
    pixels[:, :, 1500:] = 0
    image = write_raster(tmp_path / "wide.tif", pixels, nodata=0)
    command = ("encode", image, "--model", model, "--dtype", "int8", "-o")
    result = run(*command, BUCKET, "--workers", 2, "--json")
    assert result.exit_code == 0, result.stderr
    (report,) = json.loads(result.stdout)
    assert report["encoded"] > 4 and report["skipped"] > 1 and report["store"] == f"{BUCKET}/wide.embeddings.zarr"
    assert run(*command, tmp_path / "alone.zarr").exit_code == 0
    assert without_date(bucket.objects("wide.embeddings.zarr")) == without_date(files(tmp_path / "alone.zarr"))
    assert run("verify", report["store"], image).exit_code == 0
    small = write_raster(tmp_path / "small.tif", ramp(3, 40, 60))
    assert run("encode", small, "--model", model, "-o", BUCKET, "--finest", "-1", "--limit", 2).exit_code == 0
    assert bucket.objects("small.embeddings.zarr/level-1/image_embeddings").keys() == {"zarr.json", "c/0/0/0/0/0"}


def test_repair_and_catalog(run: Run, bucket: Bucket, url: str, ortho: Ortho, model: Path, tmp_path: Path) -> None:
    whole = (ortho.store / CHUNK).read_bytes()
    key = f"my maps/ortho.embeddings.zarr/{CHUNK}"
    for damaged in (whole[:-1] + b"\1", b""):
        bucket.put(key, damaged)
        assert run("verify", url).exit_code == 2
        result = run("repair", url, "--raster", ortho.image, "--model", model)
        assert result.exit_code == 0, result.stderr
        assert run("verify", url).exit_code == 0 and bucket.objects("my maps/ortho.embeddings.zarr")[CHUNK] == whole
    catalog = tmp_path / "catalog.gpkg"
    bucket.upload(ortho.store, "my maps/deep/part.embeddings.zarr")
    bucket.client.delete_object(Bucket="maps", Key=f"my maps/deep/part.embeddings.zarr/{CHUNK}")
    result = run("catalog", f"{BUCKET}/my maps", "-o", catalog)
    assert result.exit_code == 0 and "2 stores, 1 complete" in result.stdout, result.stderr
    assert sorted(read_vector(catalog).field("store")) == [f"{BUCKET}/my maps/deep/part.embeddings.zarr", url]
    result = run("segment", catalog, ortho.click, "-o", tmp_path / "click.geojson")
    assert result.exit_code == 0, result.stderr


def test_a_decoder_that_is_lost_in_the_bucket(
    run: Run, bucket: Bucket, url: str, ortho: Ortho, model: Path, tmp_path: Path
) -> None:
    assert run("verify", url).exit_code == 0
    for has_copy in (True, False):
        bucket.client.delete_object(Bucket="maps", Key="my maps/ortho.embeddings.zarr/decoder.onnx")
        if not has_copy:
            shutil.rmtree(tmp_path / "cache")
        checked = run("verify", url)
        assert checked.exit_code == 2 and f"{url}/decoder.onnx" in checked.stderr
        repaired = run("repair", url, "--model", model)
        assert repaired.exit_code == 0 and "decoder.onnx replaced" in repaired.stdout, repaired.stderr
        assert bucket.objects("my maps/ortho.embeddings.zarr") == files(ortho.store)


def test_encoding_again_keeps_the_decoders(
    run: Run, bucket: Bucket, ortho: Ortho, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = read_metadata(ortho.store).model
    own = {name: known[name] for name in ("name", "encoder_sha256")}
    contents = {name: (model / name).read_bytes() for name in ("prepare.onnx", "decoder.onnx")}
    tuned = make_decoder(tmp_path / "t", "fields", contents, model=own["name"], encoder_sha256=own["encoder_sha256"])
    assert run("decoder", "set", ortho.store, tuned).exit_code == 0
    url, added = bucket.upload(ortho.store, "ortho.embeddings.zarr"), files(ortho.store / "decoders")
    bucket.put("ortho.embeddings.zarr/decoders/../harm", b"of another program")
    again = run("encode", ortho.image, "--model", model, "-o", url, "--overwrite", "--dtype", "int8")
    assert again.exit_code == 0, again.stderr
    assert bucket.objects("ortho.embeddings.zarr/decoders") == added
    assert "fields" in run("info", url).stdout
    monkeypatch.chdir(tmp_path)
    other = run("encode", ortho.image, "-o", url, "--overwrite")
    kept = tmp_path / "ortho.old-decoders"
    assert (
        other.exit_code == 0 and f"{url}: its decoders belong to the old encoder and are now in {kept}" in other.stderr
    )
    assert files(kept) == added and not bucket.objects("ortho.embeddings.zarr/decoders")


def test_names_are_no_patterns(run: Run, bucket: Bucket, ortho: Ortho, model: Path) -> None:
    names = ("other.embeddings.zarr", "*.embeddings.zarr", "[o]ther.embeddings.zarr", "é #1? 50%.embeddings.zarr")
    for name in names:
        bucket.upload(ortho.store, name)
    for name in names[1:]:
        bucket.put(f"{name}/level0/image_embeddings/c/9/9/0/0/0", b"old")
        result = run("encode", ortho.image, "--model", model, "-o", f"{BUCKET}/{name}", "--overwrite")
        assert result.exit_code == 0 and "1 tile encoded" in result.stdout, result.stderr
        assert run("verify", f"{BUCKET}/{name}/").exit_code == 0
    for name in names:
        assert without_date(bucket.objects(name)) == without_date(files(ortho.store))
    for command in ("repair", "verify"):
        assert run(command, BUCKET).exit_code == 2
    assert f"{BUCKET} is not an embedding store" in run("repair", BUCKET).stderr


def test_what_cannot_be_removed_is_not_written_over(
    run: Run, bucket: Bucket, url: str, ortho: Ortho, model: Path
) -> None:
    bucket.fail("POST", ("200 OK", "AccessDenied"))
    result = run("encode", ortho.image, "--model", model, "-o", url, "--overwrite")
    assert result.exit_code == 2 and f"{url} cannot be removed: check the rights" in result.stderr


@pytest.mark.parametrize("option", ["--overwrite", "--resume"])
def test_a_new_store_has_no_tile_of_one_that_was_half_removed(
    run: Run, bucket: Bucket, url: str, ortho: Ortho, model: Path, option: str
) -> None:
    name, command = url.partition("maps/")[2], ("encode", ortho.image, "--model", model, "-o", url)
    for key in (CHUNK, CHUNK.replace("level0", "level-1"), "decoders/active.json"):
        bucket.put(f"{name}/{key}", b"other image")
    bucket.fail("POST", ("403 Forbidden", "AccessDenied"))
    assert run(*command, "--overwrite").exit_code == 2 and "zarr.json" not in bucket.objects(name)
    bucket.fail("POST", then_works=True)
    result = run(*command, option)
    assert "1 tile encoded" in result.stdout, result.stderr
    assert without_date(bucket.objects(name)) == without_date(files(ortho.store))


def test_objects_that_may_be_of_another_program_are_kept(run: Run, bucket: Bucket, ortho: Ortho, model: Path) -> None:
    bucket.put("b.zarr/level0/.zarray", b"other")
    result = run("encode", ortho.image, "--model", model, "-o", f"{BUCKET}/b.zarr", "--overwrite")
    assert result.exit_code == 2 and "remove them, or choose another name with -o" in result.stderr
    assert bucket.objects("b.zarr") == {"level0/.zarray": b"other"}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (("403 Forbidden", "InvalidAccessKeyId"), "(InvalidAccessKeyId, fault): check the keys (AWS_ACCESS_KEY_ID"),
        (("403 Forbidden", "AccessDenied"), "(AccessDenied, fault): check the keys"),
        (
            ("404 Not Found", "NoSuchBucket"),
            "check the name of the bucket, and AWS_ENDPOINT_URL if it is not at Amazon",
        ),
        (("503 Service Unavailable", "ServiceUnavailable"), "(ServiceUnavailable, fault): check the address, the conn"),
    ],
)
def test_a_server_that_fails_is_one_sentence(
    run: Run, bucket: Bucket, url: str, ortho: Ortho, model: Path, fault: tuple[str, str], message: str
) -> None:
    bucket.fail("GET", fault)
    result = run("info", url)
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1
    assert f"{url}/zarr.json cannot be read" in result.stderr and message in result.stderr
    bucket.fail("GET", then_works=True)
    bucket.fail("PUT", fault)
    result = run("encode", ortho.image, "--model", model, "-o", f"{BUCKET}/b.zarr")
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1, result.stderr
    assert f"{BUCKET}/b.zarr cannot be written" in result.stderr and message in result.stderr
    assert result.stderr.endswith(", and continue with --resume\n")


def test_a_server_that_fails_once(run: Run, bucket: Bucket, url: str, ortho: Ortho, model: Path) -> None:
    bucket.fail("zarr.json", ("503 Service Unavailable", "SlowDown"), then_works=True)
    assert run("info", url).exit_code == 0
    bucket.fail("PUT", ("503 Service Unavailable", "SlowDown"), then_works=True)
    assert run("encode", ortho.image, "--model", model, "-o", f"{BUCKET}/b.zarr").exit_code == 0


def test_files_that_are_not_there_may_be_refused(run: Run, bucket: Bucket, url: str) -> None:
    """S3 does so unless its user may list the bucket."""
    for name in ("active.json", "level-1", "level-2"):
        bucket.fail(name, ("403 Forbidden", "AccessDenied"))
    assert run("verify", url).exit_code == 0


def test_without_keys_or_package(run: Run, bucket: Bucket, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    result = run("info", url)
    assert result.exit_code == 2 and "or set AWS_NO_SIGN_REQUEST=YES for a public bucket" in result.stderr
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    result = run("info", url)
    assert result.exit_code == 0 and not bucket.is_signed, result.stderr
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "yes")
    result = run("info", url)
    assert result.exit_code == 2 and 'install it with `pip install "geosam-es[s3]"`' in result.stderr


def test_a_decoder_may_take_longer_than_a_tile(
    run: Run, bucket: Bucket, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("info", url).exit_code == 0, "connecting takes its time too"
    shutil.rmtree(tmp_path / "cache")
    # Other requests must not take so long on a busy machine.
    monkeypatch.setattr(object_store, "_TIMEOUT_S", 3.0)
    bucket.slow = "decoder.onnx"
    result = run("info", url)
    assert result.exit_code == 0, result.stderr


def test_a_server_that_is_silent(run: Run, bucket: Bucket, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        result = run("info", url)
    assert result.exit_code == 2 and f"{url}/zarr.json cannot be read" in result.stderr
    assert time.monotonic() - started < 5
