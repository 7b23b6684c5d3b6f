"""``geosam-es classify``: bright squares and dark bars on a made-up raster, which anything can tell apart."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import shapely
from click.testing import CliRunner

from encoder_tools.cli.app import cli
from encoder_tools.evaluation.classification_report import f1_scores
from encoder_tools.vector import read_vector
from encoder_tools.vector_formats import FORMATS
from tests.encoder_tools.conftest import Run
from tests.encoder_tools.scenes import Block, scene, transform_of, write_layer, write_raster

SQUARES = [Block(20 + 100 * (n % 10), 20 + 180 * (n // 10), 40, 40) for n in range(20)]
BARS = [Block(20 + 100 * (n % 10), 120 + 180 * (n // 10), 80, 24) for n in range(20)]
FAR = Block(5000, 0, 40, 40)


@pytest.fixture(scope="module")
def image(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_raster(tmp_path_factory.mktemp("classes") / "image.tif", scene(1020, 400, SQUARES))
    assert CliRunner().invoke(cli, ["encode", str(path), "--model", str(model)]).exit_code == 0
    return path


@pytest.fixture
def layer(image: Path, tmp_path: Path) -> Any:
    """Write a layer of blocks, with fields."""
    return lambda name, blocks, **fields: write_layer(
        tmp_path / f"{name}.gpkg", [block.on_map(transform_of(image)) for block in blocks], **fields
    )


@pytest.fixture
def known(layer: Any) -> Path:
    kinds = ["roof"] * 10 + ["field"] * 10
    return Path(layer("known", [*SQUARES[::2], *BARS[::2]], kind=kinds))


def store_of(image: Path) -> Path:
    return image.with_name("image.embeddings.zarr")


def read(path: Path) -> dict[str, list[Any]]:
    meta, _, _, columns = pyogrio.raw.read(path)
    return {name: column.tolist() for name, column in zip(meta["fields"], columns)}


def test_classes_of_a_layer_and_report(run: Run, image: Path, known: Path, layer: Any, tmp_path: Path) -> None:
    wanted = layer("all", [*SQUARES[1::2], FAR, *BARS[1::2]], **{"class": list(range(21))})
    out, report = tmp_path / "out.gpkg", tmp_path / "report"
    options = ("--class", "kind", "--report", report)
    result = run("classify", store_of(image), known, wanted, "-o", out, *options)
    assert result.exit_code == 0, result.stderr
    fields = read(out)
    assert fields["class"] == ["roof"] * 10 + [None] + ["field"] * 10
    # The user's own field of that name is kept under another one.
    assert fields["class_1"] == list(range(21))
    assert set(fields["second_class"]) == {"roof", "field", None}
    probabilities = np.array(fields["probability"], dtype=float)
    assert np.isnan(probabilities[10]) and (np.delete(probabilities, 10) > 0.5).all()
    assert "20 polygons, 1 without a class" in result.stdout and "macro F1 1.000" in result.stdout
    summary = json.loads((report / "summary.json").read_text(encoding="utf-8"))
    assert summary["confusion"] == {"classes": ["field", "roof"], "table": [[10, 0], [0, 10]]}
    assert summary["left_out"] == {"11": "outside the raster"}
    page = (report / "report.html").read_text(encoding="utf-8")
    assert "Cross-validation by space" in page and "doubtful ones first" in page
    again = run("classify", store_of(image), known, wanted, "-o", out, *options)
    assert again.exit_code == 2 and "--overwrite" in again.stderr


def test_without_the_raster_its_pixels_are_missed(
    run: Run, image: Path, known: Path, layer: Any, tmp_path: Path
) -> None:
    moved = tmp_path / "image.embeddings.zarr"
    moved.symlink_to(store_of(image))
    wanted = layer("all", [SQUARES[1], BARS[1]])
    hidden = image.rename(image.with_suffix(".hidden"))
    try:
        command = ("classify", moved, known, wanted, "--class", "kind", "-o")
        result = run(*command, tmp_path / "out.gpkg")
        assert result.exit_code == 0 and "Warning: The raster is not next to the store" in result.stderr
        assert read(tmp_path / "out.gpkg")["class"] == ["roof", "field"]
        result = run(*command, tmp_path / "with.gpkg", "--raster", hidden)
        assert result.exit_code == 0 and "Warning" not in result.stderr
        write_raster(image, scene(1020, 400, []))
        result = run(*command, tmp_path / "other.gpkg")
        assert result.exit_code == 0 and f"Warning: {image} is not the image that" in result.stderr
        assert "Warning: The raster is not next to the store" in result.stderr
        for other in (image, known):
            result = run(*command, tmp_path / "none.gpkg", "--raster", other)
            assert result.exit_code == 2 and f"{other} is not the image that" in result.stderr
    finally:
        hidden.replace(image)


def test_codes_of_habitats(run: Run, image: Path, layer: Any, tmp_path: Path) -> None:
    known = layer("known", [*SQUARES[:6], *BARS[:6]], kind=["4090"] * 6 + ["9340"] * 6)
    options = ("--class", "kind", "-o", tmp_path / "out.gpkg", "--report", tmp_path / "report")
    result = run("classify", store_of(image), known, layer("all", [SQUARES[7], BARS[7]]), *options)
    assert result.exit_code == 0, result.stderr
    assert read(tmp_path / "out.gpkg")["class"] == ["4090", "9340"]


def test_a_report_of_few_polygons(run: Run, image: Path, layer: Any, tmp_path: Path) -> None:
    known = layer("known", [*SQUARES[:4], *BARS[:4]], kind=["roof"] * 4 + ["field"] * 4)
    options = ("--class", "kind", "-o", tmp_path / "out.gpkg", "--report", tmp_path / "report")
    result = run("classify", store_of(image), known, layer("all", [SQUARES[7], BARS[7]]), *options)
    assert result.exit_code == 0, result.stderr
    assert "macro F1" in result.stdout


@pytest.mark.parametrize("ending", [ending for ending in FORMATS if ending != ".json"])
def test_classes_in_every_format(run: Run, image: Path, known: Path, layer: Any, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"out{ending}"
    wanted = layer("all", [SQUARES[1], FAR, BARS[1]], code=["a", "b", "c"])
    result = run("classify", store_of(image), known, wanted, "-o", out, "--class", "kind")
    assert result.exit_code == 0, result.stderr
    found = read_vector(out)
    assert found.fields["class"].tolist() == ["roof", None, "field"] and list(found.fields["code"]) == ["a", "b", "c"]
    assert ("the field probability is called probabilit" in result.stderr) == (ending == ".shp")


def test_features_without_a_geometry_and_heights(
    run: Run, image: Path, known: Path, layer: Any, tmp_path: Path
) -> None:
    blocks = [block.on_map(transform_of(image)) for block in (SQUARES[1], FAR, BARS[1])]
    heights = [None, *shapely.force_3d(blocks, 5.0)]
    wanted = write_layer(tmp_path / "some.geojson", heights)
    options = ("--class", "kind", "--report", tmp_path / "report")
    result = run("classify", store_of(image), known, wanted, "-o", tmp_path / "out.gpkg", *options)
    assert result.exit_code == 0 and result.stderr.count("the Z values of") == 1
    assert read(tmp_path / "out.gpkg")["class"] == ["roof", None, "field"]
    summary = json.loads((tmp_path / "report" / "summary.json").read_text(encoding="utf-8"))
    assert summary["left_out"] == {"3": "outside the raster"}


def test_rare_classes_are_left_out(run: Run, image: Path, layer: Any, tmp_path: Path) -> None:
    blocks = [*SQUARES[:4], *BARS[:4], SQUARES[5], SQUARES[7]]
    known = layer("known", blocks, kind=["roof"] * 4 + ["field"] * 4 + ["shed", None])
    result = run("classify", store_of(image), known, known, "--class", "kind", "-o", tmp_path / "out.gpkg")
    assert result.exit_code == 0 and "shed has fewer than 3 polygons" in result.stderr
    assert read(tmp_path / "out.gpkg")["class"] == ["roof"] * 4 + ["field"] * 4 + ["roof"] * 2


@pytest.mark.parametrize(
    ("blocks", "kinds", "option", "message"),
    [
        (SQUARES, ["roof"] * 20, "kind", "at least two classes in the field kind; it has 20 of roof: draw more"),
        ([*SQUARES[:2], *BARS[:5]], ["roof"] * 2 + ["field"] * 5, "kind", "it has 5 of field, 2 of roof"),
        (SQUARES, [None] * 20, "kind", "it has none"),
        (SQUARES, ["roof"] * 20, "habitat", "has no field habitat: its fields are: kind"),
        ([FAR] * 6, ["roof", "field"] * 3, "kind", "None of the 6 polygons of"),
    ],
)
def test_what_cannot_be_learned_is_said(
    run: Run, image: Path, layer: Any, tmp_path: Path, blocks: list[Block], kinds: list[Any], option: str, message: str
) -> None:
    known = layer("known", blocks, kind=np.array(kinds, dtype=object))
    out = tmp_path / "out.gpkg"
    result = run("classify", store_of(image), known, layer("all", SQUARES), "--class", option, "-o", out)
    assert result.exit_code == 2 and message in result.stderr and not out.exists()


def test_polygons_outside_the_store_and_own_files(
    run: Run, image: Path, known: Path, layer: Any, tmp_path: Path
) -> None:
    command = ("classify", store_of(image), known)
    result = run(*command, layer("far", [FAR]), "--class", "kind", "-o", tmp_path / "out.gpkg")
    assert result.exit_code == 2 and "None of the 1 polygons of" in result.stderr
    result = run(*command, known, "--class", "kind", "-o", known, "--overwrite")
    assert result.exit_code == 2 and "known.gpkg is one of the files with polygons" in result.stderr


def test_without_scikit_learn(
    run: Run, image: Path, known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    result = run("classify", store_of(image), known, known, "--class", "kind", "-o", tmp_path / "out.gpkg")
    assert result.exit_code == 2 and 'pip install "geosam-es[classify]"' in result.stderr


def test_f1_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(0)
    truth, predicted = rng.choice(list("abc"), 60), rng.choice(list("abcd"), 60)
    scores = f1_scores(truth, predicted)
    wanted = f1_score(truth, predicted, average=None, labels=list("abc"))
    assert [scores[name].mean for name in "abc"] == pytest.approx(wanted.tolist())
    assert scores[""].mean == pytest.approx(wanted.mean()) and scores[""].low < wanted.mean() < scores[""].high


def small_clip(folder: Path) -> Path:
    """Write a CLIP model of the real architecture with random weights and a vocabulary of single letters."""
    transformers = pytest.importorskip("transformers", reason="an extra that the development environment lacks")
    letters = [chr(code) for code in range(33, 127)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    first, last = len(tokens) - 2, len(tokens) - 1
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": first, "eos_token_id": last, "pad_token_id": last, "vocab_size": len(tokens)}
    vision = {**size, "image_size": 32, "patch_size": 16}
    config = transformers.CLIPConfig(text_config={**size, **ends}, vision_config=vision, projection_dim=8)
    transformers.CLIPModel(config).save_pretrained(folder)
    # The classes of transformers that write these files need torchvision from version 5 on.
    square, steps = {"height": 32, "width": 32}, ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
    images = {"size": {"shortest_edge": 32}, "crop_size": square, "image_processor_type": "CLIPImageProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps({**images, **dict.fromkeys(steps, True)}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    return folder


def test_classes_by_words(run: Run, image: Path, layer: Any, tmp_path: Path) -> None:
    clip = small_clip(tmp_path / "clip")
    out, report = tmp_path / "out.gpkg", tmp_path / "report"
    command = ("classify", store_of(image), layer("all", [*SQUARES, FAR]), "-o", out, "--words-model")
    result = run(*command, clip, "--words", "robledal, encinar,agua", "--report", report)
    assert result.exit_code == 0, result.stderr
    fields = read(out)
    assert {*fields["class"][:20], *fields["second_class"][:20]} <= {"robledal", "encinar", "agua"}
    assert min(fields["probability"][:20]) > 1 / 3 and fields["class"][20] is None
    assert "doubtful ones first" in (report / "report.html").read_text(encoding="utf-8")
    result = run(*command, tmp_path / "none", "--words", "robledal,agua", "--overwrite")
    assert result.exit_code == 2 and "cannot be loaded" in result.stderr and "--words-model" in result.stderr


def test_words_without_their_library_or_with_training(
    run: Run, image: Path, known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    command = ("classify", store_of(image), known, "-o", tmp_path / "out.gpkg")
    result = run(*command, "--words", "robledal,agua")
    assert result.exit_code == 2 and 'pip install "geosam-es[words]"' in result.stderr
    result = run(*command, "--words", "agua")
    assert result.exit_code == 2 and "needs at least two classes" in result.stderr
    for more in ((known, "--words", "robledal,agua"), ()):
        result = run(*command, *more)
        assert result.exit_code == 2 and "POLYGONS alone with --words" in result.stderr
