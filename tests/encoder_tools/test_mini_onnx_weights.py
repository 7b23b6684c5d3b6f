"""The network of `mini` from exported ONNX files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from benchmarks.mini.exported_model import OnnxMini  # noqa: E402
from encoder_tools.mini.export import save_checkpoint  # noqa: E402
from encoder_tools.mini.network import MiniNet, normalise  # noqa: E402
from encoder_tools.mini.onnx_weights import load_network, network_of_folder  # noqa: E402
from encoder_tools.models.checkpoints import mini_folder  # noqa: E402
from encoder_tools.synthetic import synthetic_orthophoto  # noqa: E402
from geosam_es.errors import ModelError  # noqa: E402


def test_the_network_answers_as_its_files_do() -> None:
    net, model = network_of_folder(mini_folder()).eval(), OnnxMini(mini_folder())
    tile = synthetic_orthophoto(1024, 1024, 0.3, seed=4).image
    prompts = [(300.0, 200.0, 2.0), (700.0, 640.0, 3.0), (420.0, 400.0, 1.0), (350.0, 500.0, 0.0)]
    previous = np.random.default_rng(1).normal(0, 5, (256, 256)).astype(np.float32)
    model.set_image(tile)
    masks, scores = model.predict(prompts, previous)
    with torch.no_grad():
        packed = net.encoder(normalise(torch.from_numpy(tile)[None])).half().float()
        points = torch.tensor(prompts)[None]
        given = torch.from_numpy(previous)[None, None], torch.ones(1)
        expected = net.decoder(net.decoder.context(packed), points[..., :2], points[..., 2], *given)
        edges = net.encoder.edge_logits(packed)
    np.testing.assert_allclose(masks, expected[0][0].numpy(), atol=0.02)
    np.testing.assert_allclose(scores, expected[1][0].numpy(), atol=2e-3)
    assert not edges.any(), "the boundary head begins with zeros, and does not disturb the encoder"


def test_a_checkpoint_or_a_folder_is_loaded(tmp_path: Path) -> None:
    weights = MiniNet().state_dict()
    net, trained = load_network(save_checkpoint(weights, {"step": 3, "seconds": 2}, tmp_path / "some.pt"))
    assert all(torch.equal(net.state_dict()[name], value) for name, value in weights.items())
    assert trained == {"step": 3.0, "seconds": 2.0}
    assert load_network(mini_folder())[1] == {"step": 0.0, "seconds": 0.0}


def test_files_of_another_network_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"encoder\.onnx"):
        network_of_folder(tmp_path)
    for name in ("encoder.onnx", "prepare.onnx", "decoder.onnx"):
        shutil.copy(mini_folder() / name, tmp_path / name)
    graph = onnx.load(str(tmp_path / "decoder.onnx"))
    for tensor in graph.graph.initializer:
        tensor.name = tensor.name.replace("body8", "corpus8")
    onnx.save(graph, str(tmp_path / "decoder.onnx"))
    with pytest.raises(ModelError, match="another version of mini"):
        network_of_folder(tmp_path)
