"""The bfloat16 image encoder against segment_anything's own, on the same weights."""

from __future__ import annotations

import importlib.util

import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("segment_anything") is None:  # it imports only with torchvision or its placeholders
    pytest.skip("segment_anything is not installed", allow_module_level=True)

from encoder_tools.models.sam import encoder_bfloat16  # noqa: E402
from encoder_tools.models.sam.encoder_bfloat16 import Bfloat16ImageEncoder  # noqa: E402
from tests.encoder_tools.small_vit import make_encoder  # noqa: E402


# Without padding, with padding, and with a last piece of queries that is shorter than the others.
@pytest.mark.parametrize(("side", "queries"), [(14, 512), (20, 64), (18, 100)])
def test_it_is_as_close_to_float32_as_bfloat16_allows(side: int, queries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_bfloat16, "_QUERIES", queries)
    encoder = make_encoder(side)
    pixels = torch.randn(2, 3, 16 * side, 16 * side)
    with torch.inference_mode():
        wanted, got = encoder(pixels), Bfloat16ImageEncoder(encoder)(pixels)
    assert got.shape == wanted.shape == (2, 16, side, side)
    assert got.dtype is torch.float32
    difference = (got - wanted).abs()
    assert 1e-6 < float(difference.mean() / wanted.abs().mean()) < 0.02
    # A wrong place, as at a border between windows, would show in single features.
    assert float(difference.max() / wanted.abs().max()) < 0.1


def test_the_weights_of_the_original_stay_as_they_are() -> None:
    encoder = make_encoder(14)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    Bfloat16ImageEncoder(encoder)
    assert all(value.dtype is torch.float32 for value in encoder.parameters())
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
