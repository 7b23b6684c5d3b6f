from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from encoder_tools.models.checkpoints import mini_folder
from geosam_es.errors import ModelError
from geosam_es.inference.encoder import FILL_RGB, ModelInfo, OnnxEncoder, read_model_info


def test_the_embedded_model_encodes_a_batch() -> None:
    encoder = OnnxEncoder(mini_folder(), threads=1)
    tiles = np.random.default_rng(0).integers(0, 256, (2, 1024, 1024, 3), dtype=np.uint8)
    both = encoder.encode(tiles)["image_embeddings"]
    assert both.shape == (2, *encoder.info.features["image_embeddings"]) and both.dtype == np.float32
    np.testing.assert_allclose(encoder.encode(tiles[1:])["image_embeddings"][0], both[1], atol=1e-4)
    assert np.isfinite(both.astype(np.float16)).all()


def test_copies_give_the_same_as_the_whole() -> None:
    tile = np.random.default_rng(0).integers(0, 256, (1, 1024, 1024, 3), dtype=np.uint8)
    encoder = OnnxEncoder(mini_folder(), threads=2)
    parts = encoder.split()
    assert len(parts) == 2
    for part in parts:
        np.testing.assert_array_equal(part.encode(tile)["image_embeddings"], encoder.encode(tile)["image_embeddings"])
    for threads in (1, 3, 9):
        counts = [part.threads for part in OnnxEncoder(mini_folder(), threads).split() if isinstance(part, OnnxEncoder)]
        assert len(counts) <= 4 and sum(counts) <= threads


@pytest.fixture
def light_megabyte(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("geosam_es.inference.encoder.LIGHT_MODEL_BYTES", 1 << 20)
    return 1 << 20


@pytest.mark.usefixtures("light_megabyte")
def test_a_heavy_model_is_not_split() -> None:
    """Each copy would take its weights and activations into memory again."""
    encoder = OnnxEncoder(mini_folder(), threads=2)
    assert list(encoder.split()) == [encoder]


@pytest.mark.parametrize("location", ["encoder.onnx.data", "weights.bin", "data/" + "parte ñ" * 25])
def test_external_weights_count_as_part_of_the_model(tmp_path: Path, light_megabyte: int, location: str) -> None:
    onnx = pytest.importorskip("onnx")
    shutil.copy(mini_folder() / "model.json", tmp_path)
    (tmp_path / "data").mkdir()
    model = onnx.load(mini_folder() / "encoder.onnx")
    onnx.save(model, tmp_path / "encoder.onnx", save_as_external_data=True, location=location, size_threshold=0)
    # Neither the decoder's files nor anything else in the folder are weights of the encoder.
    (tmp_path / "decoder.onnx.data").write_bytes(bytes(9 << 20))
    assert (tmp_path / "encoder.onnx").stat().st_size < light_megabyte < (tmp_path / location).stat().st_size
    encoder = OnnxEncoder(tmp_path, threads=2)
    assert list(encoder.split()) == [encoder]


def test_other_files_of_the_folder_do_not_make_a_model_heavy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geosam_es.inference.encoder.LIGHT_MODEL_BYTES", 9 << 20)
    for name in ("model.json", "encoder.onnx"):
        shutil.copy(mini_folder() / name, tmp_path)
    (tmp_path / "decoder.onnx.data").write_bytes(bytes(9 << 20))
    assert len(OnnxEncoder(tmp_path, threads=2).split()) == 2


def test_padding_has_finite_features() -> None:
    tile = np.empty((1, 1024, 1024, 3), np.uint8)
    tile[:] = FILL_RGB
    assert np.isfinite(OnnxEncoder(mini_folder(), threads=1).encode(tile)["image_embeddings"]).all()


@pytest.mark.parametrize(
    "text", [None, "", "{}", "[]", '{"name": "a", "encoder_sha256": "b", "licence": "c", "features": 3}']
)
def test_damaged_model_folders_are_reported(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "model.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match="is not a model folder"):
        read_model_info(tmp_path)


def test_an_encoder_of_another_kind_is_refused(tmp_path: Path) -> None:
    shutil.copy(mini_folder() / "model.json", tmp_path)
    shutil.copy(mini_folder() / "prepare.onnx", tmp_path / "encoder.onnx")
    with pytest.raises(ModelError, match="is not an encoder"):
        OnnxEncoder(tmp_path)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_model_info_survives_json(tmp_path: Path, precision: str) -> None:
    info = ModelInfo("a", "b" * 64, "CC0-1.0", {"image_embeddings": (1, 2, 3)}, precision)
    (tmp_path / "model.json").write_text(json.dumps(info.to_json()), encoding="utf-8")
    assert read_model_info(tmp_path) == info
