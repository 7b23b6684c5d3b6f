"""The adapter: it changes nothing at first, is exported into ``prepare.onnx`` and read from there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from encoder_tools.finetune.adapter import AdaptedDecoder, load_adapter
from encoder_tools.finetune.base_decoder import save_weights, with_weights
from encoder_tools.finetune.mini_decoder import FEATURE_CHANNELS, MiniDecoder
from encoder_tools.finetune.sam_decoder import SamDecoder
from encoder_tools.finetune.tunable_decoder import TunableDecoder
from encoder_tools.models.mobile_sam import LoadedMobileSam, tiny_sam
from encoder_tools.models.sam.weights import FEATURES
from geosam_es.inference.encoder import ModelInfo
from geosam_es.inference.runtime import OnnxGraph
from tests.encoder_tools.tuning_scenes import mini_features, object_boxes, sam_features, write_mini_decoder


def shaken(decoder: AdaptedDecoder) -> AdaptedDecoder:
    """Change all weights of the adapter."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for name, parameter in decoder.module.named_parameters():
            if name.startswith("adapter."):
                parameter.add_(0.05 * torch.randn_like(parameter))
    return decoder


def sam_decoder(seed: int) -> SamDecoder:
    """Return SAM's decoder with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SamDecoder(LoadedMobileSam(tiny_sam(), ModelInfo("mobile_sam", "0" * 64, "NOASSERTION", FEATURES)))


def context_of(decoder: TunableDecoder, features: np.ndarray) -> list[np.ndarray]:
    with torch.no_grad():
        return [part.numpy() for part in decoder.prepare(torch.from_numpy(features[None]))]


def assert_close(found: list[np.ndarray], wanted: list[np.ndarray], tolerance: float) -> None:
    for ours, theirs in zip(found, wanted):
        assert np.abs(ours - theirs).max() <= tolerance * max(1.0, float(np.abs(theirs).max()))


def test_a_new_adapter_changes_nothing_and_a_trained_one_is_exported(tmp_path: Path) -> None:
    folder = write_mini_decoder(tmp_path / "mini", seed=1)
    features = mini_features(object_boxes(5, 3))
    plain = MiniDecoder.from_onnx(folder / "prepare.onnx", folder / "decoder.onnx")
    before = context_of(plain, features)
    adapted = AdaptedDecoder(plain, FEATURE_CHANNELS)
    assert_close(context_of(adapted, features), before, 0.0)
    wanted = context_of(shaken(adapted), features)
    with pytest.raises(AssertionError):
        assert_close(wanted, before, 0.02)

    adapted.export(tmp_path)
    graph = OnnxGraph(tmp_path / "prepare.onnx")
    assert list(graph.inputs) == ["image_embeddings"]
    names = list(OnnxGraph(folder / "prepare.onnx").outputs)
    # float16 changes weights by up to 0.05 %.
    assert_close([graph.run({"image_embeddings": features[None]})[name] for name in names], wanted, 0.02)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["decoder.onnx", "mini", "prepare.onnx"]

    again = MiniDecoder.from_onnx(tmp_path / "prepare.onnx", tmp_path / "decoder.onnx")
    adapter = load_adapter(tmp_path / "prepare.onnx", FEATURE_CHANNELS)
    assert_close(context_of(AdaptedDecoder(again, FEATURE_CHANNELS, adapter), features), wanted, 0.02)
    assert load_adapter(folder / "prepare.onnx", FEATURE_CHANNELS) is None


def test_an_adapter_of_sam_is_exported_and_kept_with_the_weights(tmp_path: Path) -> None:
    features = sam_features([(152, 200, 420, 460)])
    adapted = shaken(AdaptedDecoder(sam_decoder(seed=0), len(features)))
    adapted.export(tmp_path)
    plain = tmp_path / "plain"
    plain.mkdir()
    adapted._decoder.export(plain)
    changed = context_of(adapted, features)[0]
    found = OnnxGraph(tmp_path / "prepare.onnx").run({"image_embeddings": features[None]})
    wanted = OnnxGraph(plain / "prepare.onnx").run({"image_embeddings": changed})
    assert_close([found[name] for name in wanted], list(wanted.values()), 0.02)

    save_weights(adapted, tmp_path / "tuned.pt")
    other = with_weights(sam_decoder(seed=1), tmp_path / "tuned.pt")
    assert isinstance(other, AdaptedDecoder)
    assert_close(context_of(other, features), [changed], 1e-5)
