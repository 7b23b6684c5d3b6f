"""The image encoder for CPUs against segment_anything's own, on the same weights."""

from __future__ import annotations

import importlib.util

import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("segment_anything") is None:  # importing it takes the stand-in for torchvision
    pytest.skip("segment_anything is not installed", allow_module_level=True)

from encoder_tools.models.sam import encoder_bfloat16 as vit  # noqa: E402
from encoder_tools.models.sam.encoder_bfloat16 import CpuImageEncoder  # noqa: E402
from tests.encoder_tools.small_vit import make_encoder  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


# Without padding, with padding, and with pieces of queries that do not come out even.
@pytest.mark.parametrize(("side", "queries"), [(14, 512), (20, 64), (18, 100)])
def test_it_computes_what_the_original_does(side: int, queries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vit, "_QUERIES", queries)
    encoder = make_encoder(side)
    pixels = torch.randn(2, 3, 16 * side, 16 * side)
    with torch.inference_mode():
        wanted, got = encoder(pixels), CpuImageEncoder(encoder, torch.float32)(pixels)
    assert got.shape == wanted.shape == (2, 16, side, side)
    assert float((got - wanted).abs().max() / wanted.abs().max()) < 1e-5


def test_bfloat16_stays_close_and_leaves_the_weights_alone() -> None:
    encoder = make_encoder(20)
    pixels = torch.randn(1, 3, 320, 320)
    with torch.inference_mode():
        wanted, got = encoder(pixels), CpuImageEncoder(encoder, torch.bfloat16)(pixels)
    assert got.dtype is torch.float32
    assert 1e-6 < float((got - wanted).abs().mean() / wanted.abs().mean()) < 0.02
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}


def test_weights_are_shared() -> None:
    encoder = make_encoder(14)
    own = {id(parameter) for parameter in CpuImageEncoder(encoder, torch.float32).parameters()}
    assert own <= {id(parameter) for parameter in encoder.parameters()}
