"""Paths that no command expects: each gives one sentence and exit code 2, and none blocks."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.encoder_tools.conftest import Ortho, Run, Spawn
from tests.encoder_tools.scenes import write_layer
from tests.helpers import make_decoder

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")


@pytest.fixture(autouse=True)
def no_blocking() -> Iterator[None]:
    """End a command that waits for a pipe."""

    def stop(*_: object) -> None:
        raise TimeoutError("it blocks")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def is_one_sentence(result: Any) -> bool:
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    return result.exit_code == 2 and len(errors) == 1 and "unexpected" not in errors[0]


ODD = {
    "too long": lambda folder: folder / ("x" * 300),
    "path too long": lambda folder: folder.joinpath(*["y" * 200] * 30),
    "pipe": lambda folder: os.mkfifo(folder / "odd"),
    "device": lambda folder: (folder / "odd").symlink_to("/dev/zero"),
    "circle": lambda folder: (folder / "odd").symlink_to("odd"),
    "nowhere": lambda folder: (folder / "odd").symlink_to("none"),
    "empty file": lambda folder: (folder / "odd").touch(),
    "in a file": lambda folder: folder / "ortho" / "ortho.tif" / "odd",
    "not UTF-8": lambda folder: folder / os.fsdecode(b"\xff\xe9"),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_paths(run: Run, ortho: Ortho, model: Path, tmp_path: Path, kind: str) -> None:
    odd = ODD[kind](tmp_path) or tmp_path / "odd"
    truth = write_layer(tmp_path / "truth.gpkg", [ortho.truth])
    for command in (
        ("info", odd),
        ("info", odd, "--json"),
        ("info", odd, "--set-crs", "EPSG:25830"),
        ("verify", odd),
        ("verify", ortho.store, odd),
        ("decoder", "list", odd, "--json"),
        ("decoder", "set", odd, tmp_path),
        ("decoder", "set", ortho.store, odd),
        ("decoder", "use", odd, "original"),
        ("decoder", "remove", odd, "fields"),
        ("evaluate", odd, truth, "-o", tmp_path / "report"),
        ("evaluate", ortho.store, truth, "-o", tmp_path / "report", "--decoder", odd),
        ("evaluate", ortho.store, truth, "-o", tmp_path / "report", "--raster", odd),
        ("encode", ortho.image, "--model", odd, "--overwrite"),
    ):
        assert is_one_sentence(run(*command)) or (kind == "empty file" and "--raster" in command), command
    if kind != "not UTF-8":
        assert is_one_sentence(run("evaluate", ortho.store, truth, "-o", odd))


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "circle"])
def test_odd_files_in_stores_and_decoders(run: Run, ortho: Ortho, model: Path, tmp_path: Path, kind: str) -> None:
    graphs = {name: (model / name).read_bytes() for name in ("prepare.onnx", "decoder.onnx")}
    card = json.loads((model / "model.json").read_text())
    tuned = make_decoder(tmp_path / "tuned", "fields", graphs, model="bright", encoder_sha256=card["encoder_sha256"])
    assert run("decoder", "set", ortho.store, tuned).exit_code == 0
    files = [path for root in (ortho.store, tuned) for path in root.rglob("*") if path.is_file()]
    for path in files:
        kept = path.with_name(f"{path.name}.kept")
        path.rename(kept)
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to("/dev/zero" if kind == "device" else path.name)
        for command in (
            ("info", ortho.store),
            ("verify", ortho.store),
            ("decoder", "list", ortho.store),
            ("decoder", "set", ortho.store, tuned, "--keep-active"),
            ("segment", ortho.store, ortho.click, "-o", tmp_path / "out.geojson", "--overwrite"),
        ):
            result = run(*command)
            assert result.exit_code == 0 or is_one_sentence(result), (path, command, result.stderr)
        path.rmdir() if kind == "folder" else path.unlink()
        kept.rename(path)


def test_a_name_that_is_not_utf_8_can_be_printed(spawn: Spawn, ortho: Ortho) -> None:
    store = ortho.store.with_name(os.fsdecode(b"\xff\xe9.zarr"))
    ortho.store.rename(store)
    for command in ("info", "verify"):
        assert spawn(command, store).returncode == 0
        assert json.loads(spawn(command, store, "--json").stdout)
    assert json.loads(spawn("encode", ortho.image, "-o", store, "--dry-run", "--json").stdout)


def test_a_report_is_not_written_into_a_store(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    truth = write_layer(tmp_path / "truth.gpkg", [ortho.truth])
    before = sorted(ortho.store.rglob("*"))
    for command in (
        ("evaluate", ortho.store, truth, "--overwrite"),
        ("export", "vit_b"),
    ):
        result = run(*command, "-o", ortho.store)
        assert is_one_sentence(result) and "is in the embedding store" in result.stderr
    assert sorted(ortho.store.rglob("*")) == before
