"""``geosam-es evaluate``, its report, and the decoders that users name."""

from __future__ import annotations

import base64
import csv
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import shapely
from onnx import numpy_helper

from encoder_tools.evaluation.evaluate import evaluate
from encoder_tools.evaluation.ground_truth import TruthObject
from encoder_tools.evaluation.named_decoder import find_named_decoder
from encoder_tools.evaluation.pictures import RasterWindows, find_raster, raster_to_show
from encoder_tools.evaluation.prompting import parse_kinds
from encoder_tools.output_folder import MANIFEST_FILE
from geosam_es.errors import GeoSamError, ModelError, RasterError
from geosam_es.inference.decoder import load_decoder
from geosam_es.store import StoreReader
from tests.encoder_tools.conftest import Ortho, Run
from tests.encoder_tools.scenes import Block, scene, transform_of, write_layer, write_raster

BLOCKS = [Block(24 + 96 * (n % 6), 24 + 96 * (n // 6), 16 + 4 * n, 16 + 4 * n) for n in range(12)]


@pytest.fixture(scope="module")
def blocks(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A store of twelve blocks, and the layer of their outlines."""
    from click.testing import CliRunner

    from encoder_tools.cli.app import cli

    folder = tmp_path_factory.mktemp("blocks")
    image = write_raster(folder / "blocks.tif", scene(640, 240, BLOCKS))
    assert CliRunner().invoke(cli, ["encode", str(image), "--model", str(model)]).exit_code == 0
    polygons = [block.on_map(transform_of(image)) for block in BLOCKS]
    kinds = ["shed" if number < 6 else "house" for number in range(12)]
    return folder / "blocks.embeddings.zarr", write_layer(folder / "truth.gpkg", polygons, kind=kinds)


def weak_decoder(store: Path, folder: Path, **card: object) -> Path:
    """Write a decoder that finds only the brightest pixels; keywords go to its ``model.json``."""
    folder.mkdir()
    shutil.copy(store / "prepare.onnx", folder)
    graph = onnx.load(store / "decoder.onnx")
    for tensor in graph.graph.initializer:
        if tensor.name == "thresholds":
            tensor.CopyFrom(numpy_helper.from_array(np.full((1, 4, 1, 1), 0.99, np.float32), "thresholds"))
    onnx.save(graph, folder / "decoder.onnx")
    if card:
        (folder / "model.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


def pictures(page: str) -> list[bytes]:
    return [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]


def test_report(run: Run, blocks: tuple[Path, Path], tmp_path: Path) -> None:
    store, truth = blocks
    out = tmp_path / "informe ñ"
    result = run("evaluate", store, truth, "--class", "kind", "--prompts", "point,clicks:3", "-o", out)
    assert result.exit_code == 0, result.stderr
    assert "12 objects, 0 not used" in result.stdout and re.search(r"point +original +IoU 0\.9", result.stdout)
    assert {path.name for path in out.iterdir()} == {"objects.csv", "report.html", "summary.json", MANIFEST_FILE}
    page = (out / "report.html").read_text(encoding="utf-8")
    # The page loads no other file.
    assert "http" not in page and "<script" not in page and "<link" not in page
    assert len(pictures(page)) == 3 and all(data.startswith(b"\x89PNG") for data in pictures(page))
    for text in ("By class", "shed", "By size", "small", "Corrective clicks (clicks:3)", "Worst results of original"):
        assert text in page
    with (out / "objects.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 24 and {row["class"] for row in rows} == {"shed", "house"}
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    by_hand = np.mean([float(row["iou"]) for row in rows if row["prompts"] == "point"])
    mean, low, high = summary["all"][0]["values"]["iou"]
    assert mean == pytest.approx(by_hand, abs=1e-4) and low <= mean <= high
    assert {row["group"] for row in summary["by_class"]} == {"shed", "house"}


def test_decoders_side_by_side(run: Run, blocks: tuple[Path, Path], tmp_path: Path) -> None:
    store, truth = blocks
    weak = weak_decoder(store, tmp_path / "weak")
    out = tmp_path / "report"
    result = run(
        "evaluate", store, truth, "--decoder", weak, "--decoder", "original", "--prompts", "point", "-o", out, "--json"
    )
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert summary == json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert [row["decoder"] for row in summary["all"]] == ["weak", "original"]
    (difference,) = summary["differences"]
    assert difference["decoder"] == "original" and difference["values"]["iou"][1] > 0.9
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Difference from weak" in page and "weak and original, point" in page and len(pictures(page)) == 3


def test_few_objects_and_unused_ones_are_reported(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    far = Block(5000, 0, 40, 40).on_map(transform_of(ortho.image))
    truth = write_layer(tmp_path / "few.gpkg", [ortho.truth, far])
    result = run("evaluate", ortho.store, truth, "--prompts", "box", "-o", tmp_path / "report")
    assert result.exit_code == 0
    assert "Warning: Only 1 objects were measured, too few" in result.stderr
    assert "1 objects, 1 not used" in result.stdout
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "1: outside the raster" in page and "too few for conclusions" in page


def test_a_store_that_cannot_be_written_and_no_raster(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    truth = write_layer(tmp_path / "truth.gpkg", [ortho.truth] * 5)
    ortho.image.unlink()
    before = {path: path.stat().st_mtime_ns for path in ortho.store.rglob("*")}
    for path in (*ortho.store.rglob("*"), ortho.store):
        path.chmod(0o555 if path.is_dir() else 0o444)
    result = run("evaluate", ortho.store, truth, "--prompts", "box", "-o", tmp_path / "report")
    assert result.exit_code == 0, result.stderr
    assert {path: path.stat().st_mtime_ns for path in ortho.store.rglob("*")} == before
    assert "The raster is not next to the store" in (tmp_path / "report" / "report.html").read_text()


def test_an_earlier_report_is_kept_or_replaced(run: Run, ortho: Ortho, tmp_path: Path) -> None:
    truth = write_layer(tmp_path / "truth.gpkg", [ortho.truth] * 5)
    command = ("evaluate", ortho.store, truth, "--prompts", "box", "-o", tmp_path / "report")
    assert run(*command).exit_code == 0
    (tmp_path / "report" / "notes.txt").write_text("mine")
    again = run(*command)
    assert again.exit_code == 2 and "already contains a report: choose another folder with -o" in again.stderr
    assert run(*command, "--overwrite").exit_code == 0
    assert (tmp_path / "report" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["objects.csv", "summary.json", "report.html", MANIFEST_FILE])
@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_files_of_the_user_are_not_replaced(
    run: Run, ortho: Ortho, tmp_path: Path, name: str, options: tuple[str, ...]
) -> None:
    truth = write_layer(tmp_path / "truth.gpkg", [ortho.truth] * 5)
    out = tmp_path / "report"
    out.mkdir()
    (out / name).write_text("mine")
    result = run("evaluate", ortho.store, truth, "--prompts", "box", "-o", out, *options)
    assert result.exit_code == 2
    assert f"Error: {out} contains {name}, which geosam-es did not write there: choose another" in result.stderr
    assert [path.name for path in out.iterdir()] == [name] and (out / name).read_text() == "mine"


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("lines", "has a LineString, but polygons are needed"),
        ("outside", "None of the 1 polygons of"),
        ("no field", "has no field colour"),
        ("prompts", "polygon is not a valid kind of prompts"),
        ("no decoder", "nonsense is neither a folder or file nor a decoder of"),
        ("empty folder", "has no decoder.onnx: choose a folder that geosam-es finetune wrote"),
        ("other encoder", "is a decoder for vit_b, but"),
        ("damaged card", "model.json is damaged"),
        ("two of a name", "Two decoders are called original"),
        ("no raster", "check --raster, or omit it"),
        ("no parent", "create it, or choose another one with -o"),
        ("file", "is a file: choose a folder with -o"),
        ("no store", "is not an embedding store"),
    ],
)
def test_bad_input_gives_one_sentence_and_writes_nothing(
    run: Run, ortho: Ortho, tmp_path: Path, case: str, message: str
) -> None:
    truth = write_layer(tmp_path / "truth.gpkg", [ortho.truth])
    lines = write_layer(tmp_path / "lines.gpkg", [shapely.LineString(ortho.truth.exterior)])
    outside = write_layer(tmp_path / "out.gpkg", [Block(5000, 0, 40, 40).on_map(transform_of(ortho.image))])
    empty = tmp_path / "empty"
    empty.mkdir()
    other = weak_decoder(ortho.store, tmp_path / "other", name="vit_b", encoder_sha256="c" * 64)
    damaged = weak_decoder(ortho.store, tmp_path / "damaged", name="bright")
    file = tmp_path / "file"
    file.touch()
    out = tmp_path / "report"
    arguments = {
        "lines": [ortho.store, lines],
        "outside": [ortho.store, outside],
        "no field": [ortho.store, truth, "--class", "colour"],
        "prompts": [ortho.store, truth, "--prompts", "polygon"],
        "no decoder": [ortho.store, truth, "--decoder", "nonsense"],
        "empty folder": [ortho.store, truth, "--decoder", empty],
        "other encoder": [ortho.store, truth, "--decoder", other],
        "damaged card": [ortho.store, truth, "--decoder", damaged],
        "two of a name": [ortho.store, truth, "--decoder", "original", "--decoder", "original"],
        "no raster": [ortho.store, truth, "--raster", tmp_path / "missing.tif"],
        "no parent": [ortho.store, truth, "-o", tmp_path / "missing" / "report"],
        "file": [ortho.store, truth, "-o", file],
        "no store": [empty, truth],
    }[case]
    before = sorted(tmp_path.rglob("*"))
    result = run("evaluate", "-o", out, *arguments)
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert result.exit_code == 2 and len(errors) == 1 and message in errors[0], result.stderr
    assert sorted(tmp_path.rglob("*")) == before and result.stdout == ""


def test_decoders_by_file(ortho: Ortho, model: Path, tmp_path: Path) -> None:
    reader = StoreReader(ortho.store)
    assert find_named_decoder(None, reader).name == "original"
    assert find_named_decoder(str(model), reader).name == model.name
    beside = find_named_decoder(str(model / "decoder.onnx"), reader)
    assert beside.prepare_path == model / "prepare.onnx" and beside.load() is not None
    single = tmp_path / "single.onnx"
    shutil.copy(model / "decoder.onnx", single)
    alone = find_named_decoder(str(single), reader)
    assert alone.prepare_path is None and alone.name == "single"
    with pytest.raises(GeoSamError, match="not a complete SAM decoder"):
        alone.load()
    with pytest.raises(ModelError, match="is neither a folder or file nor a decoder of"):
        find_named_decoder("../ortho", reader)


def test_pictures_show_the_encoded_raster(ortho: Ortho, tmp_path: Path) -> None:
    reader = StoreReader(ortho.store)
    assert find_raster(reader) == ortho.image
    with pytest.raises(RasterError):
        find_raster(reader, tmp_path / "none.tif")
    truth = TruthObject("1", shapely.box(100, 80, 160, 120))
    decoder = load_decoder(reader.decoder.prepare_path, reader.decoder.decoder_path)
    (outcome,) = evaluate([reader], [[truth]], {"d": decoder}, parse_kinds("box")).outcomes
    panel = RasterWindows([reader], [ortho.image]).panel(outcome, "red")
    assert panel.image is not None
    left, right, bottom, top = panel.extent
    x, y = int(130 - left), int(100 - top)
    assert panel.image[y, x].tolist() == [220] * 3 and panel.image[2, 2].max() < 60
    assert right - left == bottom - top == panel.image.shape[0]
    # A raster of another size is not shown.
    other = write_raster(tmp_path / "other.tif", scene(200, 200, []))
    with pytest.raises(RasterError, match=r"other\.tif is not the image that .*ortho.*: give that image with --raster"):
        raster_to_show(reader, other, [])
    assert RasterWindows([reader], [other]).panel(outcome, "red").image is None
    # Pixels outside the raster are padded.
    corner = TruthObject("2", shapely.box(0, 0, 20, 20))
    (outcome,) = evaluate([reader], [[corner]], {"d": decoder}, parse_kinds("box")).outcomes
    edge = RasterWindows([reader], [ortho.image]).panel(outcome, "red")
    assert edge.image is not None and edge.extent[0] < 0 and edge.image[0, 0].tolist() == [124, 116, 104]


def test_a_missing_matplotlib_is_noticed_before_the_work(
    run: Run, blocks: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run("evaluate", *blocks, "-o", tmp_path / "report")
    assert result.exit_code == 2 and 'pip install "geosam-es[evaluate]"' in result.stderr
    assert "objects" not in result.stderr and not (tmp_path / "report").exists()
