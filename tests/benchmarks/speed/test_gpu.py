"""The comparison made on GPUs, tried on the CPU with a small encoder."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")
if importlib.util.find_spec("segment_anything") is None:  # it imports only with torchvision or its placeholders
    pytest.skip("segment_anything is not installed", allow_module_level=True)

from benchmarks.speed import gpu  # noqa: E402
from benchmarks.speed.images import write_raster  # noqa: E402
from benchmarks.speed.measure import Bench  # noqa: E402
from encoder_tools.models.checkpoints import mini_folder  # noqa: E402
from encoder_tools.models.sam.weights import random_sam  # noqa: E402


def test_without_a_gpu_the_rows_say_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    rows = list(gpu.run(Bench(tmp_path, 1, True)))
    assert len(rows) == 5
    assert all(row.value is None and row.note == "no GPU on this machine" for row in rows)


def test_the_comparison(tmp_path: Path) -> None:
    sam = random_sam("vit_b", seed=0)
    from segment_anything.modeling import ImageEncoderViT

    sam.network.image_encoder = ImageEncoderViT(
        depth=1,
        embed_dim=32,
        num_heads=1,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
    ).eval()
    image = write_raster(tmp_path / "image.tif", 1100, 1024)
    files = {"decoder.onnx": mini_folder() / "decoder.onnx"}
    rows = list(gpu.compare(Bench(tmp_path, 1, True), sam, files, image, "cpu"))
    found = {row.key.removeprefix("gpu_").removesuffix("_vit_b-random"): row for row in rows}
    assert list(found) == ["one_by_one", "bare", "bfloat16", "workers", "masks"]
    # The command line knows no SAM with so small an encoder.
    assert found.pop("workers").value is None
    assert all(row.value is not None and row.value > 0 for row in found.values())
    assert found["masks"].value > 0.99 and found["masks"].note == "15 masks"
    assert not (tmp_path / "gpu.embeddings.zarr").exists()
