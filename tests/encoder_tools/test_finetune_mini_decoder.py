"""The decoder of `mini` in PyTorch equals its ONNX files, before and after training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from encoder_tools.finetune.mini_decoder import MiniDecoder
from encoder_tools.finetune.tunable_decoder import PromptTensors, trainable
from encoder_tools.mini.export import export_decoder_graphs
from encoder_tools.mini.fold_batch_norm import fold
from encoder_tools.mini.network import MiniNet
from encoder_tools.models.checkpoints import mini_folder
from geosam_es.errors import ModelError
from geosam_es.inference.runtime import OnnxGraph
from tests.encoder_tools.tuning_scenes import mini_features, object_boxes, write_mini_decoder

BOXES = object_boxes(5, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mini_decoder(tmp_path_factory.mktemp("mini"), seed=1)


def prompts() -> PromptTensors:
    """A click with padding, a box, and a box with a click and a previous mask."""
    rng = np.random.default_rng(0)
    coords = np.array(
        [[[300, 400], [0, 0], [0, 0]], [[100, 120], [400, 380], [0, 0]], [[90, 80], [700, 600], [300, 310]]], np.float32
    )
    labels = np.array([[1, -1, -1], [2, 3, -1], [2, 3, 0]], np.float32)
    previous = rng.normal(0, 4, (3, 1, 256, 256)).astype(np.float32)
    arrays = (coords, labels, previous, np.array([0, 0, 1], np.float32))
    return PromptTensors(*(torch.from_numpy(array) for array in arrays))


def assert_same_answers(decoder: MiniDecoder, folder: Path, tolerance: float) -> None:
    features = mini_features(BOXES)[None]
    context = OnnxGraph(folder / "prepare.onnx").run({"image_embeddings": features})
    names = ("point_coords", "point_labels", "mask_input", "has_mask_input")
    feeds = {name: tensor.numpy() for name, tensor in zip(names, prompts())}
    wanted = OnnxGraph(folder / "decoder.onnx").run({**context, **feeds})
    with torch.no_grad():
        found = decoder.decode(decoder.prepare(torch.from_numpy(features)), prompts())
    limit = tolerance * float(np.abs(wanted["low_res_masks"]).max())
    assert np.abs(found.masks.numpy() - wanted["low_res_masks"]).max() < limit
    assert np.abs(found.scores.numpy() - wanted["iou_predictions"]).max() < tolerance


def load(folder: Path) -> MiniDecoder:
    return MiniDecoder.from_onnx(folder / "prepare.onnx", folder / "decoder.onnx")


def test_torch_equals_onnx(folder: Path) -> None:
    assert_same_answers(load(folder), folder, 1e-4)


def test_the_embedded_model_can_be_loaded() -> None:
    assert_same_answers(load(mini_folder()), mini_folder(), 1e-4)


def test_every_weight_is_trained_and_exported(folder: Path, tmp_path: Path) -> None:
    decoder = load(folder)
    answer = decoder.decode(decoder.prepare(torch.from_numpy(mini_features(BOXES)[None])), prompts())
    (answer.masks.square().mean() + answer.scores.sum()).backward()  # type: ignore[no-untyped-call]
    names = {name for name, parameter in decoder.module.named_parameters() if parameter.grad is None}
    # These biases are part of the context. The costs of paths stay as they are: their gradient takes much time.
    assert {name for name in names if ".cost" not in name} == {"up8.pattern", "up4.pattern"}
    with torch.no_grad():
        for parameter in trainable(decoder.module):
            if parameter.grad is not None:
                parameter.add_(0.3 * torch.randn_like(parameter) * parameter.abs().mean())
    decoder.export(tmp_path)
    # float16 changes weights by up to 0.05 %, in about ten layers.
    assert_same_answers(decoder, tmp_path, 0.02)
    assert_same_answers(load(tmp_path), tmp_path, 1e-4)
    with pytest.raises(AssertionError):
        assert_same_answers(load(folder), tmp_path, 0.02)


def test_equal_weights_that_the_exporter_stores_once(tmp_path: Path) -> None:
    """A new network has many zero biases, which the exporter may store once."""
    export_decoder_graphs(fold(MiniNet()).decoder, tmp_path)
    assert_same_answers(load(tmp_path), tmp_path, 1e-4)


def test_other_files_are_refused(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "decoder.onnx"
    broken.write_bytes(b"not ONNX at all")
    with pytest.raises(ModelError, match="no ONNX file: copy the folder again"):
        MiniDecoder.from_onnx(folder / "prepare.onnx", broken)
    graph = onnx.load(folder / "decoder.onnx")
    for tensor in graph.graph.initializer:
        if tensor.name.startswith("decoder.head8.weight"):
            tensor.name = "decoder.other.weight"
    onnx.save(graph, broken)
    with pytest.raises(
        ModelError, match=r"belongs to another version of mini \(head8\.weight differs\): encode the raster again"
    ):
        MiniDecoder.from_onnx(folder / "prepare.onnx", broken)
