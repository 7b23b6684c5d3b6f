"""The embedded model as it lies in the repository keeps its contract."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from shapely.geometry import Polygon

from benchmarks.mini.evaluate import OnnxMini
from benchmarks.mini.report import METRICS
from encoder_tools.synthetic import synthetic_orthophoto
from geosam_es.inference.runtime import OnnxGraph

FOLDER = Path(__file__).resolve().parents[2] / "geosam_es" / "models" / "mini"
FILES = ("encoder.onnx", "prepare.onnx", "decoder.onnx")


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


@pytest.fixture(scope="module")
def model() -> OnnxMini:
    return OnnxMini(FOLDER)


@pytest.fixture(scope="module")
def encoder() -> OnnxGraph:
    return OnnxGraph(FOLDER / "encoder.onnx", 2)


@pytest.fixture(scope="module")
def decoder() -> OnnxGraph:
    return OnnxGraph(FOLDER / "decoder.onnx", 2)


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    return synthetic_orthophoto(1152, 1152, 0.25, seed=21).image


@pytest.fixture(scope="module")
def house() -> Polygon:
    """A field well inside the first tile of `picture` and of the one shifted by 128 px."""
    scene = synthetic_orthophoto(1152, 1152, 0.25, seed=21)
    fitting = [
        polygon
        for name, polygon in scene.objects
        if name in {"building", "water", "field"} and min(polygon.bounds) > 200 and max(polygon.bounds) < 950
    ]
    return max(fitting, key=lambda polygon: polygon.area)


def box_prompt(polygon: Polygon, shift: float = 0.0) -> list[tuple[float, float, float]]:
    x0, y0, x1, y1 = (value - shift for value in polygon.bounds)
    return [(x0, y0, 2.0), (x1, y1, 3.0)]


def test_the_three_graphs_have_at_most_12_mb() -> None:
    assert sum((FOLDER / name).stat().st_size for name in FILES) <= 12_000_000


def test_model_json_names_files_and_their_hashes() -> None:
    record = json.loads((FOLDER / "model.json").read_text(encoding="utf-8"))
    hashes = {name: "sha256:" + hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() for name in FILES}
    assert record["files"] == hashes
    assert record["encoder_sha256"] == hashes["encoder.onnx"]
    assert record["name"] == "mini"
    assert record["image_size"] == 1024
    assert record["features"] == {"image_embeddings": [512, 64, 64]}
    assert "GPL-3.0-or-later" in record["licence"]


def test_names_types_and_shapes(encoder: OnnxGraph, decoder: OnnxGraph) -> None:
    images, embeddings = encoder.inputs["images"], encoder.outputs["image_embeddings"]
    assert list(encoder.inputs) == ["images"]
    assert list(encoder.outputs) == ["image_embeddings"]
    assert (images.type, images.shape[1:]) == ("tensor(uint8)", [1024, 1024, 3])
    assert embeddings.shape[1:] == [512, 64, 64]
    context = list(OnnxGraph(FOLDER / "prepare.onnx", 2).outputs)
    assert list(decoder.inputs) == [*context, "point_coords", "point_labels", "mask_input", "has_mask_input"]
    assert list(decoder.outputs) == ["low_res_masks", "iou_predictions"]


def test_old_runtimes_can_load_the_files() -> None:
    onnx = pytest.importorskip("onnx")
    for name in FILES:
        graph = onnx.load(str(FOLDER / name))
        assert graph.ir_version <= 9
        assert [entry.version for entry in graph.opset_import if entry.domain in {"", "ai.onnx"}] == [17]


def test_embeddings_survive_float16(encoder: OnnxGraph, picture: NDArray[np.uint8]) -> None:
    tiles = np.stack([picture[:1024, :1024], np.zeros((1024, 1024, 3), np.uint8)])
    embeddings = encoder.run({"images": tiles})["image_embeddings"]
    assert embeddings.shape == (2, 512, 64, 64)
    assert embeddings.dtype == np.float32
    assert np.abs(embeddings).max() < 1000
    alone = encoder.run({"images": tiles[:1]})["image_embeddings"]
    np.testing.assert_allclose(embeddings[:1], alone, atol=1e-3)


def batch_inputs() -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(5)
    labels = np.array([[1, -1, -1], [2, 3, -1], [2, 3, 0], [1, 0, 1]], dtype=np.float32)
    coords = np.sort(rng.uniform(200, 800, (4, 3, 2)).astype(np.float32), axis=1)
    masks = rng.normal(0, 6, (4, 1, 256, 256)).astype(np.float32)
    return {
        "point_coords": coords,
        "point_labels": labels,
        "mask_input": masks,
        "has_mask_input": np.array([0, 0, 1, 1], dtype=np.float32),
    }


def run(decoder: OnnxGraph, model: OnnxMini, inputs: dict[str, NDArray[np.float32]]) -> tuple[NDArray, NDArray]:
    outputs = decoder.run({**model.context, **inputs})
    return outputs["low_res_masks"], outputs["iou_predictions"]


def test_a_batch_equals_one_by_one(model: OnnxMini, decoder: OnnxGraph, picture: NDArray[np.uint8]) -> None:
    model.set_image(picture[:1024, :1024])
    inputs = batch_inputs()
    masks, scores = run(decoder, model, inputs)
    assert masks.shape == (4, 4, 256, 256)
    assert scores.shape == (4, 4)
    assert np.abs(masks).max() <= 20
    assert scores.min() >= 0
    assert scores.max() <= 1
    for row in range(4):
        one_mask, one_score = run(decoder, model, {name: value[row : row + 1] for name, value in inputs.items()})
        np.testing.assert_allclose(masks[row], one_mask[0], atol=2e-3)
        np.testing.assert_allclose(scores[row], one_score[0], atol=1e-4)


def test_one_has_mask_counts_for_the_whole_batch(
    model: OnnxMini, decoder: OnnxGraph, picture: NDArray[np.uint8]
) -> None:
    model.set_image(picture[:1024, :1024])
    inputs = batch_inputs()
    for value in (0.0, 1.0):
        short = {**inputs, "has_mask_input": np.array([value], dtype=np.float32)}
        full = {**inputs, "has_mask_input": np.full(4, value, dtype=np.float32)}
        np.testing.assert_allclose(run(decoder, model, short)[0], run(decoder, model, full)[0], atol=1e-4)


def test_padding_points_and_unused_masks_change_nothing(
    model: OnnxMini, decoder: OnnxGraph, picture: NDArray[np.uint8]
) -> None:
    model.set_image(picture[:1024, :1024])
    plain = model.predict([(500.0, 480.0, 1.0)])
    alone = {
        "point_coords": np.array([[[500.0, 480.0]]], dtype=np.float32),
        "point_labels": np.array([[1.0]], dtype=np.float32),
        "mask_input": np.full((1, 1, 256, 256), 9.0, dtype=np.float32),
        "has_mask_input": np.zeros(1, dtype=np.float32),
    }
    padded = {
        **alone,
        "point_coords": np.array([[[500.0, 480.0], [77.0, 900.0], [0.0, 0.0]]], dtype=np.float32),
        "point_labels": np.array([[1.0, -1.0, -1.0]], dtype=np.float32),
    }
    for inputs in (alone, padded):
        masks, scores = run(decoder, model, inputs)
        np.testing.assert_allclose(masks[0], plain.low_res_masks, atol=1e-3)
        np.testing.assert_allclose(scores[0], plain.iou_predictions, atol=1e-4)


def test_a_box_finds_an_obvious_object(model: OnnxMini, picture: NDArray[np.uint8], house: Polygon) -> None:
    from rasterio import features

    model.set_image(picture[:1024, :1024])
    masks, scores = model.predict(box_prompt(house))
    truth = features.rasterize([house], (1024, 1024), dtype="uint8")[2::4, 2::4].astype(bool)
    assert iou(masks[0] > 0, truth) > 0.7
    assert scores[0] > 0.5


def test_a_confirming_click_keeps_the_mask(model: OnnxMini, picture: NDArray[np.uint8], house: Polygon) -> None:
    model.set_image(picture[:1024, :1024])
    before = model.predict(box_prompt(house))[0][0]
    inside = house.representative_point()
    after = model.predict([*box_prompt(house), (inside.x, inside.y, 1.0)], before)[0][0]
    assert iou(before > 0, after > 0) > 0.9


def test_a_negative_click_removes_its_place(model: OnnxMini, picture: NDArray[np.uint8], house: Polygon) -> None:
    model.set_image(picture[:1024, :1024])
    before = model.predict(box_prompt(house))[0][0]
    inside = house.representative_point()
    after = model.predict([*box_prompt(house), (inside.x, inside.y, 0.0)], before)[0][0]
    row, column = int(inside.y // 4), int(inside.x // 4)
    assert after[row, column] < before[row, column]


@pytest.mark.parametrize("shift", [16, 80, 128])
def test_an_object_has_the_same_mask_on_another_tile(
    model: OnnxMini, picture: NDArray[np.uint8], house: Polygon, shift: int
) -> None:
    model.set_image(picture[:1024, :1024])
    first = model.predict(box_prompt(house))[0][0] > 0
    model.set_image(picture[shift : shift + 1024, shift : shift + 1024])
    second = model.predict(box_prompt(house, shift))[0][0] > 0
    cells = shift // 4
    # A mask may reach beyond what both tiles see; only that part is compared.
    assert iou(first[cells:, cells:], second[: 256 - cells, : 256 - cells]) > 0.93


def test_the_card_shows_the_stored_results() -> None:
    card = (FOLDER / "MODEL_CARD.md").read_text(encoding="utf-8")
    card = card.split("<!-- figures: begin -->")[1].split("<!-- figures: end -->")[0]
    figures = json.loads((FOLDER / "evaluation.json").read_text(encoding="utf-8"))
    # Without the extra for the baselines, their rows are left out of both.
    measured = [metric for metric in METRICS if all(metric in found for found in figures["results"].values())]
    assert {"click", "click oracle", "5 clicks", "box", "box + 3"} <= set(measured)
    for metric in measured:
        (line,) = [line for line in card.splitlines() if line.startswith(f"| {metric} |")]
        quoted = [float(number) for number in re.findall(r"\d+\.\d{3}", line)]
        stored = [number for found in figures["results"].values() for number in found[metric]]
        assert quoted == stored
