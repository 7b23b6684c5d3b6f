"""The processes of a real cluster encode and draw: a worker that is killed, and workers that do not fit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import rasterio
import shapely
from click.testing import CliRunner

from encoder_tools import distributed
from encoder_tools.cli import sheets as sheets_module
from encoder_tools.cli.app import cli
from encoder_tools.models.loading import LoadedModel, load_model
from encoder_tools.vector import read_vector
from geosam_es.inference.encoder import OnnxEncoder
from geosam_es.store import StoreReader
from tests.encoder_tools.conftest import Run
from tests.encoder_tools.scenes import Block, ramp, scene, transform_of, write_layer, write_raster

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two worker processes on this computer."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50) as started:
        yield started


def pids(cluster: Any) -> list[int]:
    return [nanny.pid for nanny in cluster.workers.values()]


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def wait_for_a_tile(folder: Path) -> None:
    wait_for(lambda: any(folder.glob("*.zarr/level*/image_embeddings/c/**/0")))


def chunks(store: Path) -> dict[str, bytes]:
    found = [path for path in store.rglob("c/**/*") if path.is_file()]
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in found}


@pytest.mark.skipif(os.name != "posix", reason="a process is killed with a POSIX signal")
def test_a_store_is_complete_though_a_worker_was_killed(run: Run, model: Path, tmp_path: Path, cluster: Any) -> None:
    image = write_raster(tmp_path / "wide.tif", ramp(3, 2600, 6000))
    store = tmp_path / "wide.embeddings.zarr"
    before: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 60
        while not before and time.monotonic() < deadline:
            encoded = sum("_crc32" not in str(path) for path in store.glob("level*/*/c/**/0"))
            if encoded > 1:
                os.kill(pids(cluster)[0], signal.SIGKILL)
                before.append(encoded)

    killer = threading.Thread(target=kill)
    killer.start()
    result = run("encode", image, "--model", model, "--scheduler", cluster.scheduler_address, "--json")
    killer.join()
    assert result.exit_code == 0, result.stderr
    (report,) = json.loads(result.stdout)
    total = sum(map(len, StoreReader(store).grids))
    assert 0 < before[0] < total and report["encoded"] + report["resumed"] == total
    assert run("encode", image, "--model", model, "-o", tmp_path / "alone.zarr").exit_code == 0
    assert chunks(store) == chunks(tmp_path / "alone.zarr")
    assert run("verify", store, image).exit_code == 0


def open_files() -> list[str]:
    return [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux lists open files")
def test_workers_close_the_temporary_overviews(run: Run, model: Path, tmp_path: Path, cluster: Any) -> None:
    from distributed import Client

    image = write_raster(tmp_path / "wide.tif", ramp(3, 300, 4200))
    assert run("encode", image, "--model", model, "--scheduler", cluster.scheduler_address).exit_code == 0
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        found = [path for files in client.run(open_files).values() for path in files]
    assert found and not [path for path in found if path.startswith(str(tmp_path))]


def test_one_bad_image_does_not_stop_the_others(run: Run, model: Path, tmp_path: Path, cluster: Any) -> None:
    images = [write_raster(tmp_path / f"{name}.tif", scene(60, 50, [Block(8, 8, 16, 16)])) for name in "abc"]
    images[1].write_text("hello")
    options = ("--model", model, "--scheduler", cluster.scheduler_address, "--json")
    result = run("encode", *images, *options)
    assert result.exit_code == 1
    assert [outcome.get("encoded") for outcome in json.loads(result.stdout)] == [1, None, 1]
    assert "1 of 3 images could not be encoded:\n" in result.stderr
    write_raster(images[1], scene(60, 50, [Block(8, 8, 16, 16)]))
    again = run("encode", *images, *options, "--resume")
    assert again.exit_code == 0
    assert [outcome["encoded"] for outcome in json.loads(again.stdout)] == [0, 1, 0]


def test_workers_must_have_the_version_and_the_model_of_the_client(
    run: Run, model: Path, tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write_raster(tmp_path / "a.tif", scene(60, 50, [Block(8, 8, 16, 16)]))
    command = ("encode", image, "--model", model, "--scheduler", cluster.scheduler_address)

    def load_other(*arguments: Any) -> LoadedModel:
        loaded = load_model(*arguments)
        encoder = OnnxEncoder(model)
        monkeypatch.setattr(encoder, "_info", replace(encoder.info, encoder_sha256="d" * 64))
        return replace(loaded, encoder=encoder)

    with monkeypatch.context() as patch:
        patch.setattr("encoder_tools.cli.encode.load_model", load_other)
        other = run(*command)
    assert other.exit_code == 2 and "copy the same model to every machine" in other.stderr
    assert len(other.stderr.splitlines()) == 1 and not (tmp_path / "a.embeddings.zarr").exists()
    monkeypatch.setattr(distributed, "__version__", "99.0")
    older = run(*command)
    assert older.exit_code == 2 and "install the same version on every machine" in older.stderr


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense", "http://127.0.0.1:1", ""])
def test_no_scheduler_answers(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    image = write_raster(tmp_path / "a.tif", scene(60, 50, [Block(8, 8, 16, 16)]))
    monkeypatch.setattr(distributed, "_WAIT_S", 0.2)
    result = run("encode", image, "--model", model, "--scheduler", address)
    assert result.exit_code == 2 and f"no Dask workers answer at {address}" in result.stderr


def test_the_scheduler_ends(run: Run, model: Path, tmp_path: Path) -> None:
    from distributed import LocalCluster

    image = write_raster(tmp_path / "wide.tif", ramp(3, 2600, 6000))
    with LocalCluster(n_workers=1, dashboard_address="127.0.0.1:0", silence_logs=50) as started:

        def end() -> None:
            wait_for_a_tile(tmp_path)
            started.close()

        ender = threading.Thread(target=end)
        ender.start()
        result = run("encode", image, image.parent, "--model", model, "--scheduler", started.scheduler_address)
        ender.join()
    assert result.exit_code == 2
    assert "the connection to the Dask scheduler was lost while" in result.stderr and "wide.tif" in result.stderr


@pytest.mark.skipif(os.name != "posix", reason="processes are interrupted with a POSIX signal")
@pytest.mark.parametrize(
    ("is_encoding", "number"), [(False, signal.SIGINT), (True, signal.SIGINT), (False, signal.SIGTERM)]
)
def test_an_interrupted_run_ends_its_workers_and_says_one_sentence(
    model: Path, tmp_path: Path, is_encoding: bool, number: signal.Signals
) -> None:
    images = [write_raster(tmp_path / f"{name}.tif", ramp(3, 2600, 6000)) for name in "ab"]
    begun = (lambda: wait_for_a_tile(tmp_path)) if is_encoding else None
    interrupt(["encode", *images, "--model", model, "--workers", "2"], tmp_path, begun, number)


@pytest.mark.skipif(os.name != "posix", reason="processes are interrupted with a POSIX signal")
def test_an_interrupted_run_over_many_stores_ends_its_workers(sheets: Path, tmp_path: Path) -> None:
    command = ["auto", sheets, "-o", tmp_path / "out.gpkg", "--points-per-side", "128", "--workers", "2"]
    interrupt(command, tmp_path, lambda: wait_for((tmp_path / "out.gpkg.tiles").exists))
    assert not (tmp_path / "out.gpkg").exists()


def interrupt(
    command: list[object],
    folder: Path,
    begun: Callable[[], None] | None,
    number: signal.Signals = signal.SIGINT,
) -> None:
    """Interrupt a command, once it has begun or while its workers start; Ctrl+C goes to all its processes."""
    temporary = folder / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "encoder_tools.cli", *map(str, command)],
        env={**os.environ, "TMPDIR": str(temporary)},
        stderr=subprocess.PIPE,
        start_new_session=True,
        # Where the tests run in the background the shell has them ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    begun() if begun is not None else wait_for(lambda: any(temporary.rglob("worker-*")))
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    lines = stderr.decode().splitlines()
    said = [line for line in lines if not line.startswith("Error: ") and "tiles" not in line and "stores" not in line]
    assert said == ["Interrupted. Finished work is kept: continue with --resume."]
    assert not any(temporary.iterdir())


@pytest.fixture(scope="module")
def sheets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores of two sheets, made with the embedded model, and a damaged one between them."""
    folder = tmp_path_factory.mktemp("sheets")
    for number, name in ((0, "a"), (2, "c")):
        transform = rasterio.Affine(0.5, 0, 700_000 + 300 * number, 0, -0.5, 4_400_000)
        blocks = [Block(col, row, 40, 40) for col in (60, 180, 300, 420) for row in (80, 220)]
        image = write_raster(folder / f"{name}.tif", scene(500, 340, blocks), transform=transform)
        result = CliRunner().invoke(cli, ["encode", str(image), "--levels", "1"])
        assert result.exit_code == 0, result.stderr
    (folder / "b.embeddings.zarr").mkdir()
    (folder / "b.embeddings.zarr" / "zarr.json").write_text("{")
    return folder


@pytest.mark.skipif(os.name != "posix", reason="a process is killed with a POSIX signal")
@pytest.mark.parametrize("command", ["auto", "segment", "similar"])
def test_workers_draw_what_one_process_draws(
    run: Run, sheets: Path, tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    middles = [
        Block(col, 80, 40, 40).centre(transform_of(sheets / f"{name}.tif")) for name in "ca" for col in (60, 180)
    ]
    clicks = write_layer(tmp_path / "clicks.geojson", list(map(shapely.Point, middles)))
    examples = write_layer(
        tmp_path / "like.geojson", [shapely.Point(x, y).buffer(10, cap_style="square") for x, y in middles]
    )
    inputs: dict[str, tuple[object, ...]] = {
        "auto": (),
        "segment": (clicks,),
        "similar": (examples, "--threshold", "0.2"),
    }
    alone = run(command, sheets, *inputs[command], "-o", tmp_path / "alone.geojson")
    ended: list[int] = []
    each = distributed.Cluster.each

    def each_but_one_worker_ends(self: Any, work: Any, items: Any) -> Any:
        for number, found in enumerate(each(self, work, items)):
            if not number:
                ended.extend(pids(cluster))
                os.kill(ended[0], signal.SIGKILL)
            yield found

    monkeypatch.setattr(distributed.Cluster, "each", each_but_one_worker_ends)
    output = tmp_path / "shared.geojson"
    shared = run(
        command, sheets, *inputs[command], "-o", output, "--scheduler", cluster.scheduler_address, "--threads", 1
    )
    assert (alone.exit_code, shared.exit_code) == (1, 1), alone.stderr + shared.stderr
    assert ended and ("4/4 objects" if command == "segment" else "2/2 stores") in shared.stderr
    assert output.read_text().replace("shared", "alone") == (tmp_path / "alone.geojson").read_text()
    assert output.read_text().count('"Feature"') > 3
    assert alone.stderr.splitlines()[-3:] == shared.stderr.splitlines()[-3:]


def test_workers_open_stores_on_a_server(
    run: Run, sheets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(sheets)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stores = [f"http://127.0.0.1:{server.server_port}/{name}.embeddings.zarr" for name in "ac"]
    extents = [shapely.box(left, 4_399_830, left + 250, 4_400_000) for left in (700_000, 700_600)]
    catalog = write_layer(tmp_path / "catalog.gpkg", extents, store=stores)
    clicks = write_layer(
        tmp_path / "clicks.geojson", [shapely.Point(700_040, 4_399_950), shapely.Point(700_640, 4_399_950)]
    )
    started: list[int] = []

    def noted(scheduler: str | None, workers: int, threads: int | None) -> Any:
        started.append(workers)
        return distributed.connect(scheduler, workers, threads)

    monkeypatch.setattr(sheets_module, "connect", noted)
    result = run("segment", catalog, clicks, "-o", tmp_path / "out.geojson", "--workers", 100)
    assert started == [2], "no more than stores"
    server.shutdown()
    server.server_close()
    assert result.exit_code == 0, result.stderr
    assert read_vector(tmp_path / "out.geojson").fields["raster"].tolist() == ["a.tif", "c.tif"]


def test_one_store_is_not_shared(run: Run, sheets: Path, tmp_path: Path) -> None:
    result = run("auto", sheets / "a.embeddings.zarr", "-o", tmp_path / "out.gpkg", "--workers", 2)
    assert result.exit_code == 2 and "this is one store: leave them out" in result.stderr


def test_processes_of_this_computer(run: Run, model: Path, tmp_path: Path) -> None:
    image = write_raster(tmp_path / "a.tif", ramp(3, 1200, 1100))
    result = run("encode", image, "--model", model, "--workers", 1, "--devices", "cpu", "--limit", 3, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)[0]["encoded"] == 3
