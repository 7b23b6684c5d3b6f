"""``geosam-es finetune`` as a user runs it, on stores of a `mini` with random weights."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
import torch
from click.testing import CliRunner

from encoder_tools.cli.app import cli
from encoder_tools.finetune.checkpoint import STATE_FILE
from encoder_tools.finetune.finetuning import DataSplit
from encoder_tools.finetune.mini_decoder import MiniDecoder
from encoder_tools.output_folder import MANIFEST_FILE
from encoder_tools.vector import read_vector
from geosam_es.inference.session import open_segmenter
from geosam_es.store.decoders import read_info
from tests.encoder_tools.conftest import Run
from tests.encoder_tools.tuning_scenes import (
    MINI,
    copy_scene,
    mini_features,
    object_boxes,
    on_map,
    write_layer,
    write_mini_decoder,
    write_mini_scene,
    write_store,
)

Scene = tuple[list[Path], Path]

QUICK = ("--depth", "decoder", "--epochs", 2, "--minutes", 0, "--threads", 1)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mini_decoder(tmp_path_factory.mktemp("decoder"))


@pytest.fixture(scope="module")
def scene(decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Three stores of one tile with three objects each, and the layer of their outlines."""
    return write_mini_scene(tmp_path_factory.mktemp("scene"), 3, 3, decoder)


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """Check and compare few objects, compare with clicks only, and train on the narrowest windows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("encoder_tools.finetune.training._MOST_CHECKED", 1)
        patch.setattr("encoder_tools.finetune.finetuning._MOST_COMPARED", 2)
        patch.setattr("encoder_tools.finetune.finetuning.REPORT_PROMPTS", "point")
        patch.setattr(MiniDecoder, "window_cells", (16,))
        yield


@pytest.fixture(scope="module")
def whole(quick: None, scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The result of a training on two stores that nothing interrupted."""
    stores, truth = scene
    out = tmp_path_factory.mktemp("whole") / "tuned"
    command = ["finetune", *stores[:2], truth, *QUICK, "--holdout", 0, "-o", out]
    result = CliRunner().invoke(cli, [str(part) for part in command])
    assert result.exit_code == 0, result.stderr
    return out


def snapshot(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / "tuned.pt", weights_only=True)["weights"]
    return state


def interrupt_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Interrupt a training at its second epoch; return a list with an item for each epoch begun."""
    from encoder_tools.finetune import learners, training

    monkeypatch.setattr(training, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    plan, epochs = learners.plan_epoch, []

    def interrupted(*arguments):  # type: ignore[no-untyped-def]
        epochs.append(1)
        if len(epochs) == 2:
            raise KeyboardInterrupt
        return plan(*arguments)

    monkeypatch.setattr(learners, "plan_epoch", interrupted)
    return epochs


@pytest.mark.usefixtures("quick")
def test_from_a_store_to_a_decoder(run: Run, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("encoder_tools.finetune.finetuning._MOST_COMPARED", 4)
    stores, truth = scene
    out = tmp_path / "parcelas ñ"
    before = {store: snapshot(store) for store in stores}
    result = run("finetune", *stores, truth, "-o", out, *QUICK, "--holdout", 0.3)
    assert result.exit_code == 0, result.stderr
    assert {store: snapshot(store) for store in stores} == before
    assert "6 training objects, 3 held out, 0 not used" in result.stderr
    assert re.search(r"^training: 100/100 %", result.stderr, re.MULTILINE)
    assert re.search(
        r"^decoder: point 0\.\d+ -> 0\.\d+, box .* with \d+% of its weights, 2 epochs", result.stderr, re.M
    )
    assert re.search(r"point +IoU 0\.\d+ -> 0\.\d+", result.stdout) and str(out) in result.stdout
    names = {"decoder.json", "decoder.onnx", "prepare.onnx", "MODEL_CARD.md", "report", "training.png", "tuned.pt"}
    assert {path.name for path in out.iterdir()} == {*names, MANIFEST_FILE}
    card = (out / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "held-out objects" in card and "| point | before |" in card and "| training | 6 |" in card
    info = read_info(out)
    assert info.name == out.name and info.objects == 6 and info.base == "original"
    assert info.encoder_sha256 == MINI["encoder_sha256"] and info.summary["held_out"] == 3
    assert set(info.summary["prompts"]["point"]) == {"before", "tuned", "iou_gain"}
    page = (out / "report" / "report.html").read_text(encoding="utf-8")
    assert "before and tuned, point" in page
    tuned = MiniDecoder.from_onnx(out / "prepare.onnx", out / "decoder.onnx")
    for name, values in tuned.module.state_dict().items():
        if not name.endswith(("up4.pattern", "up8.pattern")):
            assert torch.allclose(values, weights(out)[name], rtol=1e-3, atol=1e-3), name

    # It works in a store, and can be tuned again. Of many objects, a sample is measured.
    assert run("decoder", "set", stores[0], out).exit_code == 0
    try:
        assert open_segmenter(stores[0]) is not None
        again = tmp_path / "again"
        done = run(
            "finetune", *stores, truth, "-o", again, *QUICK, "--epochs", 1, "--class", "kind=field", "--holdout", 0
        )
        assert done.exit_code == 0, done.stderr
        assert read_info(again).base == out.name
        assert "Warning: No objects were held out" in done.stderr
        assert "6 training objects" in done.stderr
        card = (again / "MODEL_CARD.md").read_text(encoding="utf-8")
        assert "kind = field" in card and "Mean over the 4 training objects" in card
        sampled = "The figures are of 4 of the 6 objects, drawn evenly at random."
        page = (again / "report" / "report.html").read_text(encoding="utf-8")
        assert f"Warning: {sampled}" in done.stderr and sampled in card and sampled in page
        assert len((again / "report" / "objects.csv").read_text(encoding="utf-8").splitlines()) == 1 + 2 * 4
    finally:
        assert run("decoder", "use", stores[0], "original").exit_code == 0


@pytest.mark.usefixtures("quick")
def test_a_resumed_training_gives_the_same_weights(
    run: Run, scene: Scene, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores, truth = scene
    command = ["finetune", *stores[:2], truth, *QUICK, "--holdout", 0]
    cut = tmp_path / "cut"
    epochs = interrupt_once(monkeypatch)
    stopped = run(*command, "-o", cut)
    assert stopped.exit_code == 130
    assert {path.name for path in cut.iterdir()} == {STATE_FILE, MANIFEST_FILE}

    refused = run(*command, "-o", cut)
    assert (
        refused.exit_code == 2 and "already contains an interrupted training: continue with --resume" in refused.stderr
    )
    other = run(*command, "-o", cut, "--resume", "--seed", 4)
    assert other.exit_code == 2 and "was started with another seed: continue it with the same one" in other.stderr
    went_on = run(*command, "-o", cut, "--resume")
    assert went_on.exit_code == 0, went_on.stderr
    # One of the two epochs of the first part is left, and both of the three others. Then two copies learn from all
    # polygons, if that was better.
    assert len(epochs) - 2 in (7, 7 + 4)
    assert all(torch.equal(weights(whole)[name], values) for name, values in weights(cut).items())
    finished = run(*command, "-o", cut, "--resume")
    assert finished.exit_code == 2 and "is finished: choose another folder" in finished.stderr


@pytest.mark.usefixtures("quick")
def test_a_decoder_that_may_have_learned_the_held_out_objects(
    run: Run, scene: Scene, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores, truth = scene
    notes: list[str] = []

    def stop(learners: object, split: DataSplit, *_: object) -> None:
        notes[:] = split.notes
        raise KeyboardInterrupt

    monkeypatch.setattr("encoder_tools.finetune.finetuning._train", stop)
    command = ["finetune", *stores, truth, "-o", tmp_path / "out", *QUICK]
    learned = f"The decoder that it started from, tuned, had learned from {read_info(whole).objects} objects"
    for options, is_noted in (
        (("--decoder", whole), True),
        (("--decoder", whole, "--holdout", 0), False),
        (("--decoder", "original"), False),
    ):
        assert run(*command, *options).exit_code == 130
        assert any(note.startswith(learned) for note in notes) == is_noted, options


def bad_inputs(scene: Scene, folder: Path, decoder: Path) -> dict[str, tuple[list[object], str]]:
    stores, truth = scene
    polygons = [on_map(0, box) for box in object_boxes(4, 0)]
    lines = write_layer(folder / "lines.gpkg", [polygon.exterior for polygon in polygons])
    few = write_layer(folder / "few.gpkg", polygons)
    far = write_layer(folder / "far.gpkg", [shapely.box(0, 0, 9, 9)] * 6)
    empty = folder / "empty.geojson"
    empty.write_text('{"type": "FeatureCollection", "features": []}')
    held = write_layer(folder / "held.gpkg", [on_map(n, box) for n in range(3) for box in object_boxes(4, n)])
    tiny = write_layer(folder / "tiny.gpkg", [on_map(0, (4 * n, 4, 4 * n + 5, 9)) for n in range(6)])
    other = {**MINI, "encoder_sha256": "sha256:" + "b" * 64}
    foreign = write_store(folder, 7, mini_features([]), decoder, other)
    unknown = write_store(folder, 8, np.zeros((3, 64, 64), np.float32), decoder, {**MINI, "name": "toy"})
    sam = write_store(folder, 9, np.zeros((256, 64, 64), np.float32), decoder, {**MINI, "name": "vit_b"})
    boxes = object_boxes(6, 9)
    on_others = [write_layer(folder / f"on{n}.gpkg", [on_map(n, box) for box in boxes]) for n in (8, 9)]
    half = folder / "half"
    half.mkdir()
    (half / STATE_FILE).write_bytes(b"half a checkpoint")
    (half / MANIFEST_FILE).write_text(json.dumps({"files": [STATE_FILE]}), encoding="utf-8")
    file = folder / "file"
    file.touch()
    return {
        "lines": ([*stores, lines], "has a LinearRing, but polygons|has a LineString, but polygons are needed"),
        "few": ([*stores, few], "few.gpkg has 4 usable objects, and fine-tuning needs at least 5"),
        "outside": ([*stores, far], "None of the 6 polygons of .*far.gpkg is on the raster of"),
        "empty": ([*stores, empty], "empty.geojson has no geometries"),
        "class": ([*stores, truth, "--class", "kind=sea"], "no object with kind = sea: choose one of: field, pond"),
        "class without value": ([*stores, truth, "--class", "kind"], "has no value: write it as FIELD=VALUE"),
        "holdout": ([*stores, truth, "--holdout", held], "Only 0 objects of .* are away from those of"),
        "tiny holdout": (
            [*stores, truth, "--holdout", tiny],
            "tiny.gpkg has no usable object to hold out \\(smaller than 4 mask cells\\): .*--holdout 0.2",
        ),
        "two models": ([*stores, foreign, truth], "were encoded with different models"),
        "other model": ([unknown, on_others[0]], "was encoded with toy, whose decoder cannot be fine-tuned"),
        "no weights": ([sam, on_others[1]], "The weights of vit_b, the model of the store, are missing"),
        "no checkpoint": ([sam, on_others[1], "--checkpoint", folder / "none.pth"], "none.pth does not exist"),
        "checkpoint": ([*stores, truth, "--checkpoint", file], "mini has no checkpoint, .*: omit --checkpoint"),
        "no raster": ([*stores, truth, "--raster", folder / "none.tif"], "none.tif does not exist: check --raster"),
        "depth": ([*stores, truth, "--depth", "all"], "is not the model in .*: give the folder of its model"),
        "prompt encoder": ([*stores, truth, "--prompt-encoder"], "has no separate prompt encoder"),
        "no store": ([half, truth], "is not an embedding store"),
        "no decoder": (
            [*stores, truth, "--decoder", "nonsense"],
            "nonsense is neither a folder or file nor a decoder of",
        ),
        "begun": ([*stores, truth, "-o", half], "already contains an interrupted training: continue with --resume"),
        "damaged": ([*stores, truth, "-o", half, "--resume"], "training.pt is damaged: start again with --overwrite"),
        "parent": ([*stores, truth, "-o", folder / "none" / "out"], "The folder of .* does not exist: create it"),
        "file": ([*stores, truth, "-o", file], "file is a file: choose a folder with -o"),
    }


def test_bad_input_gives_one_sentence_and_writes_nothing(
    run: Run, scene: Scene, decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOSAM_ES_MODELS", str(tmp_path / "no models"))
    cases = bad_inputs(scene, tmp_path, decoder)
    before = snapshot(tmp_path)
    for case, (arguments, message) in cases.items():
        result = run("finetune", "-o", tmp_path / "out", *arguments)
        errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
        assert result.exit_code == 2 and len(errors) == 1, (case, result.stderr)
        assert re.search(message, errors[0]), (case, errors)
        assert snapshot(tmp_path).keys() == before.keys() and result.stdout == "", case


@pytest.mark.usefixtures("quick")
def test_overwrite_replaces_only_what_finetune_wrote(run: Run, scene: Scene, whole: Path, tmp_path: Path) -> None:
    stores, truth = scene
    command = ["finetune", *stores[:2], truth, *QUICK, "--epochs", 1, "--holdout", 0]
    # Folders of the user, with and without a file that has the name of a result.
    free, taken = tmp_path / "free", tmp_path / "taken"
    for folder in (free, taken):
        (folder / "photos").mkdir(parents=True)
        (folder / "photos" / "me.jpg").write_bytes(b"a photo")
    (taken / "report").mkdir()
    (taken / "report" / "summary.json").write_text("mine")
    for options in ((), ("--overwrite",)):
        before = snapshot(taken)
        refused = run(*command, "-o", taken, *options)
        assert refused.exit_code == 2 and snapshot(taken) == before
        assert f"{taken} contains report/summary.json, which geosam-es did not write there" in refused.stderr
    shutil.copytree(whole, free, dirs_exist_ok=True)
    (free / "report" / "notes.txt").write_text("mine")
    written = (free / "decoder.onnx").stat().st_mtime_ns
    kept = run(*command, "-o", free)
    assert kept.exit_code == 2 and "already contains a tuned decoder: " in kept.stderr
    assert run(*command, "-o", free, "--overwrite").exit_code == 0
    assert (free / "decoder.onnx").stat().st_mtime_ns > written
    assert (free / "photos" / "me.jpg").read_bytes() == b"a photo"
    assert (free / "report" / "notes.txt").read_text() == "mine"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["shapefile", "geodatabase"])
def test_resume_notices_changed_classes(
    run: Run, scene: Scene, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores, source = scene
    layer = read_vector(source)
    path = tmp_path / ("truth.shp" if kind == "shapefile" else "truth.gdb")

    def write(classes: list[str]) -> None:
        if path.is_dir():
            shutil.rmtree(path)
        driver = "ESRI Shapefile" if kind == "shapefile" else "OpenFileGDB"
        wkb = np.array([shapely.to_wkb(geometry) for geometry in layer.geometries], dtype=object)
        pyogrio.raw.write(
            path, wkb, [np.array(classes, dtype=object)], ["kind"], geometry_type="MultiPolygon", crs="EPSG:25830",
            driver=driver, promote_to_multi=True,
        )  # fmt: skip

    classes = ["field" if index % 4 else "pond" for index in range(9)]
    write(classes)
    command = ["finetune", *stores, path, "--class", "kind=field", *QUICK, "--holdout", 0, "-o", tmp_path / "out"]
    interrupt_once(monkeypatch)
    assert run(*command).exit_code == 130
    # Another pond becomes a field: no geometry changes, and only the .dbf of the shapefile.
    write(["field", *classes[1:]])
    changed = run(*command, "--resume")
    assert changed.exit_code == 2 and "was started with another layer" in changed.stderr
    write(classes)
    if kind == "shapefile":
        assert run(*command, "--resume").exit_code == 0


@pytest.mark.usefixtures("quick")
def test_resume_notices_tiles_that_were_encoded_meanwhile(
    run: Run, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores, truth = copy_scene(scene, tmp_path)
    tiles = stores[2] / "level0" / "image_embeddings" / "c"
    tiles.rename(tmp_path / "tiles")
    command = ["finetune", *stores, truth, *QUICK, "--holdout", 0, "-o", tmp_path / "out"]
    interrupt_once(monkeypatch)
    assert run(*command).exit_code == 130
    (tmp_path / "tiles").rename(tiles)
    changed = run(*command, "--resume")
    assert changed.exit_code == 2 and "was started with another set of encoded tiles" in changed.stderr


@pytest.mark.parametrize("seed", ["-1", "x"])
def test_seeds_are_not_negative(run: Run, scene: Scene, tmp_path: Path, seed: str) -> None:
    stores, truth = scene
    result = run("finetune", *stores, truth, "-o", tmp_path / "out", f"--seed={seed}")
    assert result.exit_code == 2 and "--seed" in result.stderr


@pytest.mark.parametrize("share", ["0.9", "-0.1"])
def test_holdout_is_a_share(run: Run, scene: Scene, tmp_path: Path, share: str) -> None:
    stores, truth = scene
    result = run("finetune", *stores, truth, "-o", tmp_path / "out", f"--holdout={share}")
    assert result.exit_code == 2 and "is not a share from 0 to 0.8" in result.stderr


@pytest.mark.usefixtures("quick")
def test_a_store_that_cannot_be_written(run: Run, scene: Scene, tmp_path: Path) -> None:
    stores, truth = copy_scene(scene, tmp_path)
    for store in stores:
        for path in (*store.rglob("*"), store):
            path.chmod(0o555 if path.is_dir() else 0o444)
    before = {store: snapshot(store) for store in stores}
    result = run("finetune", *stores[:2], truth, "-o", tmp_path / "out", *QUICK, "--epochs", 1, "--minutes", 0.01)
    assert result.exit_code == 0, result.stderr
    assert {store: snapshot(store) for store in stores} == before


@pytest.mark.usefixtures("quick")
def test_a_missing_matplotlib_is_noticed_before_the_training(
    run: Run, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores, truth = scene
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run("finetune", *stores[:2], truth, "-o", tmp_path / "out", *QUICK, "--holdout", 0)
    assert result.exit_code == 2 and 'pip install "geosam-es[evaluate]"' in result.stderr
    assert "training" not in result.stderr and not (tmp_path / "out").exists()
