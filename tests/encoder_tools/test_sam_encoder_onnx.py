"""The image encoder on onnxruntime against segment_anything's own, on the same weights."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
if importlib.util.find_spec("segment_anything") is None:  # it imports only with torchvision or its placeholders
    pytest.skip("segment_anything is not installed", allow_module_level=True)

from encoder_tools.models.sam import encoder_onnx as vit_onnx  # noqa: E402
from encoder_tools.models.sam.encoder_onnx import OnnxImageEncoder  # noqa: E402
from geosam_es.errors import ModelError  # noqa: E402
from tests.encoder_tools.small_vit import make_encoder  # noqa: E402


def difference(got: Any, wanted: Any) -> float:
    return float((got - wanted).abs().max() / wanted.abs().max())


# Without padding, with padding, with pieces of queries that do not come out even, and with less than a row of them.
@pytest.mark.parametrize(("side", "queries"), [(14, 256), (20, 60), (18, 100), (18, 5)])
def test_it_computes_what_the_original_does(side: int, queries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vit_onnx, "_QUERIES", queries)
    encoder = make_encoder(side)
    pixels = torch.randn(2, 3, 16 * side, 16 * side)
    with torch.inference_mode():
        wanted, got = encoder(pixels), OnnxImageEncoder(encoder, threads=1)(pixels)
    assert got.shape == wanted.shape == (2, 16, side, side)
    assert difference(got, wanted) < 1e-5


def test_one_graph_or_several(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = make_encoder(14, heads=5)
    whole = OnnxImageEncoder(encoder, threads=1)
    assert len(whole._sessions) == 1
    two_blocks = sum(weight.nbytes for weight in encoder.blocks[:2].parameters())
    monkeypatch.setattr(vit_onnx, "_GRAPH_BYTES", two_blocks)
    parts = OnnxImageEncoder(encoder, threads=1)
    assert len(parts._sessions) == 2
    monkeypatch.setattr(vit_onnx, "_GRAPH_BYTES", 1)
    single = OnnxImageEncoder(encoder, threads=1)
    assert len(single._sessions) == 3
    pixels = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        wanted = encoder(pixels)
        for encoded in (whole, parts, single):
            assert difference(encoded(pixels), wanted) < 1e-5


def test_the_weights_of_the_blocks_are_copied() -> None:
    encoder = make_encoder(14)
    pixels = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        wanted = encoder(pixels)
        ours = OnnxImageEncoder(encoder, threads=1)
        for parameter in encoder.blocks.parameters():
            parameter.zero_()
    # Without inference_mode too.
    assert difference(ours(pixels).detach(), wanted) < 1e-5
    assert not [name for name, _ in ours.named_parameters() if "blocks" in name]


def test_missing_onnx_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = make_encoder(14)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelError, match="onnx cannot be imported"):
        OnnxImageEncoder(encoder)
