"""Which model a name means."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from encoder_tools.models import loading
from encoder_tools.models.checkpoints import mini_folder
from encoder_tools.models.loading import load_model
from geosam_es.errors import ModelError
from geosam_es.inference.encoder import read_model_info


def test_mini(tmp_path: Path) -> None:
    loaded = load_model("mini", None, "auto", tmp_path, threads=1)
    info = loaded.encoder.info
    assert info == read_model_info(mini_folder()) and info.name == "mini"
    features = loaded.encoder.encode(np.full((1, 1024, 1024, 3), 99, np.uint8))
    assert {name: values.shape[1:] for name, values in features.items()} == dict(info.features)
    assert all(np.isfinite(values).all() for values in features.values())
    assert set(loaded.export_decoder()) == {"prepare.onnx", "decoder.onnx"}
    assert not list(tmp_path.iterdir())


def test_folder(model: Path, tmp_path: Path) -> None:
    loaded = load_model(str(model), None, "cpu", tmp_path)
    assert loaded.encoder.info.name == "bright" and loaded.encoder.default_batch_size == 1
    assert loaded.export_decoder()["decoder.onnx"] == model / "decoder.onnx"


def test_one_export_for_all_images_that_are_encoded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch cannot export two models at a time."""
    export = pytest.importorskip("encoder_tools.models.export", reason="exporting needs torch")
    running, most, times = [0], [0], [0]

    def slow(network: object, folder: Path) -> None:
        running[0] += 1
        times[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.05)
        running[0] -= 1

    network = Mock()
    network.others.return_value = {}
    monkeypatch.setattr(loading, "load_network", lambda *_: network)
    monkeypatch.setattr(export, "export_model", slow)
    loaded = load_model("vit_b", None, "cpu", tmp_path)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: loaded.export_decoder(), range(8)))
    assert (most, times) == ([1], [1])
    assert all(files == {name: tmp_path / name for name in ("prepare.onnx", "decoder.onnx")} for files in found)


@pytest.mark.parametrize("name", ["", "nonsense", "vit_x", "/"])
def test_unknown_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match=r"unknown model .*: use mini, vit_b, vit_l, vit_h, .* or a folder"):
        load_model(name, None, "auto", tmp_path)


def test_an_onnx_model_takes_no_precision(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="mini does not take --precision"):
        load_model("mini", None, "auto", tmp_path, precision="bfloat16")


def test_sam_without_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="SAM's encoder runs on torch")
    monkeypatch.setenv("GEOSAM_ES_MODELS", str(tmp_path / "models"))
    with pytest.raises(ModelError, match="geosam-es models download vit_h"):
        load_model("vit_h", None, "auto", tmp_path)
