"""Every way of encoding that is timed gives the same features, on a small encoder."""

from __future__ import annotations

import importlib.util
import shutil
from functools import partial
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
if importlib.util.find_spec("segment_anything") is None:  # it imports only with torchvision or its placeholders
    pytest.skip("segment_anything is not installed", allow_module_level=True)

from benchmarks.speed import encoders  # noqa: E402
from benchmarks.speed.measure import Bench  # noqa: E402
from encoder_tools.models.sam.weights import random_sam  # noqa: E402

COMPILED = "float32, torch.compile"


def test_all_ways_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Compiling takes most of a minute.
    monkeypatch.setattr(shutil, "which", lambda _: None)
    sam = random_sam("vit_b", seed=0)
    from segment_anything.modeling import ImageEncoderViT

    sam.network.image_encoder = ImageEncoderViT(
        depth=2,
        embed_dim=32,
        num_heads=1,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=(1,),
    ).eval()
    before = [weight.data_ptr() for weight in sam.network.image_encoder.parameters()]
    ways = encoders.reference_encoders(Bench(tmp_path, 1, quick=False), sam)
    assert len(ways) == 5 and COMPILED not in ways
    pixels = torch.randn(1, 3, 1024, 1024)
    with torch.inference_mode():
        features = {name: encode(pixels).float() for name, encode in ways.items()}
    wanted = features.pop(encoders.PLAIN)
    for name, got in features.items():
        limit = 0.03 if "bfloat16" in name else 1e-3
        assert float((got - wanted).abs().mean() / wanted.abs().mean()) < limit, name
    assert [weight.data_ptr() for weight in sam.network.image_encoder.parameters()] == before


def test_quick_runs_compare_with_plain_torch_alone(tmp_path: Path) -> None:
    sam = random_sam("vit_b", seed=0)
    assert list(encoders.reference_encoders(Bench(tmp_path, 1, quick=True), sam)) == [encoders.PLAIN]
