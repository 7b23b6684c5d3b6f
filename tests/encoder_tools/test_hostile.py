"""Prompt files, images, models and decoders damaged at random: one sentence or a result, and nothing else is touched.

``GEOSAM_ES_DAMAGED_CASES`` sets the number of cases, as for damaged stores.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import shapely
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from encoder_tools.cli.app import cli
from tests.encoder_tools.conftest import Ortho, Run, Spawn
from tests.encoder_tools.scenes import Block, scene, write_layer, write_raster
from tests.encoder_tools.test_damaged_stores import CASES_VARIABLE, HARMLESS, OPENED, VALUES
from tests.helpers import make_decoder

CASES = int(os.environ.get(CASES_VARIABLE, "600"))
HEADER = 600
"""Bytes at the start of a file, which most changes hit: there is its header."""

fuzzed = settings(
    max_examples=max(10, CASES // 12),
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


class Change(NamedTuple):
    """Bytes that are overwritten, and how many are cut off at the end."""

    places: list[tuple[bool, int, int]]
    cut: int

    def apply(self, content: bytes) -> bytes:
        changed = bytearray(content)
        for in_header, place, value in self.places:
            changed[place % (min(HEADER, len(changed)) if in_header else len(changed))] = value
        return bytes(changed[: len(changed) - self.cut % len(changed)])


CHANGES = st.builds(
    Change,
    st.lists(st.tuples(st.booleans(), st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=8),
    st.one_of(st.just(0), st.just(0), st.integers(0, 1 << 16)),
)


class Bench(NamedTuple):
    """A whole store and files of every kind, and a folder for the damaged copies and the output."""

    ortho: Ortho
    model: Path
    files: dict[str, bytes]
    folder: Path

    def names(self) -> set[str]:
        return {f"{root}/{name}" for root, folders, files in os.walk(self.folder) for name in (*folders, *files)}

    def check(self, *arguments: object) -> None:
        """Run a command: no traceback, one sentence, and no file opened outside."""
        with OPENED.watched() as opened:
            result = CliRunner().invoke(cli, list(map(str, arguments)))
        said = f"{arguments}: {result.exit_code} {result.exception!r} {result.stderr}"
        assert result.exit_code in (0, 2), said
        assert result.exception is None or isinstance(result.exception, SystemExit), said
        assert sum(line.startswith("Error: ") for line in result.stderr.splitlines()) == (result.exit_code == 2), said
        work = f"{tempfile.gettempdir()}/geosam-es-"
        allowed = (str(self.folder), str(self.ortho.image.parent), str(self.model), work, *HARMLESS)
        # A source is opened to show a line of it in a warning.
        assert not [path for path in opened if not path.startswith(allowed) and not path.endswith(".py")], said


@pytest.fixture(scope="module")
def bench(made_ortho: Ortho, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    made, folder = (tmp_path_factory.mktemp(name) for name in ("made", "cases"))
    x, y = made_ortho.centre
    points = [shapely.Point(x, y), shapely.Point(x + 2, y)]
    for suffix in ("geojson", "gpkg", "fgb"):
        write_layer(made / f"prompts.{suffix}", points, object=[1, 1], label=[1, 0])
    (made / "prompts.csv").write_text(f"X,Y,label\n{x},{y},1\n")
    boxes = {
        "images": [{"id": 1, "file_name": "ortho.tif", "width": 300, "height": 200}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [100, 80, 60, 40]}],
        "categories": [{"id": 1, "name": "block"}],
    }
    (made / "prompts.json").write_text(json.dumps(boxes))
    (made / "prompts.txt").write_text("0 0.43 0.5 0.2 0.2\n")
    pixels = scene(120, 90, [Block(20, 20, 16, 16)])
    write_raster(made / "image.tif", pixels, compress="deflate")
    write_raster(made / "tiled.tif", pixels, tiled=True, blockxsize=16, blockysize=16)
    (made / "image.vrt").write_text(
        '<VRTDataset rasterXSize="120" rasterYSize="90"><SRS>EPSG:25830</SRS>'
        "<GeoTransform>0, 1, 0, 0, 0, -1</GeoTransform>"
        '<VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename relativeToVRT="1">tiled.tif'
        "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    files = {path.name: path.read_bytes() for path in made.iterdir()}
    (folder / "tiled.tif").write_bytes(files["tiled.tif"])
    return Bench(made_ortho, model, files, folder)


@fuzzed
@given(name=st.sampled_from(["geojson", "gpkg", "fgb", "csv", "json", "txt"]), change=CHANGES)
def test_prompt_files(bench: Bench, name: str, change: Change) -> None:
    path = bench.folder / f"fuzzed.{name}"
    path.write_bytes(change.apply(bench.files[f"prompts.{name}"]))
    bench.check("segment", bench.ortho.store, path, "-o", bench.folder / "out.geojson", "--overwrite")


@fuzzed
@given(name=st.sampled_from(["image.tif", "tiled.tif", "image.vrt"]), change=CHANGES)
def test_images(bench: Bench, name: str, change: Change) -> None:
    path = bench.folder / f"fuzzed.{name.partition('.')[2]}"
    path.write_bytes(change.apply(bench.files[name]))
    store = bench.folder / "fuzzed.embeddings.zarr"
    bench.check("encode", path, "--model", bench.model, "-o", store, "--levels", 1, "--stretch", "none")
    shutil.rmtree(store, ignore_errors=True)


@fuzzed
@given(change=CHANGES, value=st.sampled_from(VALUES), key=st.sampled_from(["name", "prepare_sha256", "encoder_sha256"]))
def test_decoder_folders(bench: Bench, change: Change, value: Any, key: str) -> None:
    """The hashes fit, as those of a decoder made on purpose do."""
    store = bench.folder / "store.embeddings.zarr"
    if not store.exists():
        shutil.copytree(bench.ortho.store, store)
    files = {name: (bench.model / name).read_bytes() for name in ("prepare.onnx", "decoder.onnx")}
    files["decoder.onnx"] = change.apply(files["decoder.onnx"])
    info = {"model": "bright", "encoder_sha256": "b" * 64, **({key: value} if len(change.places) > 5 else {})}
    folder = bench.folder / "tuned"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        make_decoder(folder, str(info.pop("name", "tuned")), files, **info)
    except UnicodeEncodeError:
        return
    before = bench.names()
    bench.check("decoder", "set", store, folder)
    assert all(name.startswith(str(store / "decoders")) for name in bench.names() - before)
    shutil.rmtree(store / "decoders", ignore_errors=True)


def links(folder: Path, secret: Path) -> None:
    for name in ("decoder.onnx", "prepare.onnx"):
        (folder / name).unlink()
        (folder / name).symlink_to(secret)


def named(name: object) -> Callable[[Path, Path], None]:
    def rename(folder: Path, secret: Path) -> None:
        info = json.loads((folder / "decoder.json").read_text())
        (folder / "decoder.json").write_text(json.dumps({**info, "name": name}))

    return rename


def weights_elsewhere(folder: Path, secret: Path) -> None:
    (folder / "decoder.onnx.data").symlink_to(secret)


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
@pytest.mark.parametrize(
    "trap", [links, weights_elsewhere, *map(named, ("../../out", "/else", "..", "a/../../b", "original", "\u202e"))]
)
def test_decoder_folders_that_are_traps(
    run: Run, ortho: Ortho, model: Path, tmp_path: Path, trap: Callable[[Path, Path], None]
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(np.arange(64, dtype=np.float32).tobytes())
    files = {name: (model / name).read_bytes() for name in ("prepare.onnx", "decoder.onnx")}
    folder = make_decoder(tmp_path / "tuned", "tuned", files, model="bright", encoder_sha256="b" * 64)
    trap(folder, secret)
    before = set(tmp_path.rglob("*"))
    result = run("decoder", "set", ortho.store, folder)
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1
    assert set(tmp_path.rglob("*")) == before


def test_an_image_that_claims_to_be_huge_is_refused_at_once(run: Run, bench: Bench, tmp_path: Path) -> None:
    """Its pixels are not there."""
    content = bench.files["image.vrt"].replace(b'"120"', b'"2000000000"').replace(b'"90"', b'"2000000000"')
    (tmp_path / "image.vrt").write_bytes(content.replace(b"tiled.tif", b"nothing.tif"))
    result = run("encode", tmp_path / "image.vrt", "--model", bench.model)
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1


def test_a_message_of_gdal_that_is_not_text_is_one_sentence(spawn: Spawn, tmp_path: Path) -> None:
    (tmp_path / "image.vrt").write_bytes(b"<VRTDataset rasterXSize='1' rasterYSize='1'><\xb6 \xff></VRTDataset>")
    done = spawn("encode", tmp_path / "image.vrt")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
