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


def write_encoder(folder: Path, kind: str, outputs: dict[str, tuple[int, ...]], side: int = 1024) -> np.ndarray:
    """Write a tiny encoder of the form of samexporter's: mean colours of squares, times random weights."""
    onnx = pytest.importorskip("onnx")
    make, tensor = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    is_raw = kind == "raw"
    item = tensor("input_image", 1, ["height", "width", 3] if is_raw else [1, 3, side, side])
    nodes = [make("Identity", ["input_image"], ["tile"])]
    if is_raw:  # as with --use-preprocess
        mean, deviation = (onnx.helper.make_tensor(name, 1, [3], values) for name, values in PIXELS.items())
        nodes = [
            make("Constant", [], ["mean"], value=mean),
            make("Constant", [], ["deviation"], value=deviation),
            make("Sub", ["input_image", "mean"], ["centred"]),
            make("Div", ["centred", "deviation"], ["scaled"]),
            make("Transpose", ["scaled"], ["planes"], perm=[2, 0, 1]),
            make("Unsqueeze", ["planes", "axis"], ["tile"]),
        ]
    weights = np.random.default_rng(0).standard_normal((256, 3, 1, 1), dtype=np.float32)
    constants = [onnx.numpy_helper.from_array(np.array([0]), "axis")]
    for name, (channels, height) in outputs.items():
        step = side // height
        nodes.append(make("AveragePool", ["tile"], [f"{name}_means"], kernel_shape=[step] * 2, strides=[step] * 2))
        constants.append(onnx.numpy_helper.from_array(weights[:channels], f"{name}_weights"))
        nodes.append(make("Conv", [f"{name}_means", f"{name}_weights"], [name]))
    sides = {name: ["rows", "columns"] if is_raw else [height] * 2 for name, (_, height) in outputs.items()}
    made = [tensor(name, 1, [1, channels, *sides[name]]) for name, (channels, _) in outputs.items()]
    graph = onnx.helper.make_graph(nodes, "encoder", [item], made, constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "encoder.onnx")
    return weights[:, :, 0, 0]


PIXELS = {"mean": [123.675, 116.28, 103.53], "deviation": [58.395, 57.12, 57.375]}
SAM = {"image_embeddings": (256, 64)}
SAM2 = {"high_res_feats_0": (32, 256), "high_res_feats_1": (64, 128), "image_embed": (256, 64)}


@pytest.mark.parametrize("outputs", [SAM, SAM2], ids=["SAM", "SAM 2"])
@pytest.mark.parametrize("kind", ["normalised", "raw"])
@pytest.mark.parametrize("is_described", [False, True])
def test_encoders_of_other_programs(
    tmp_path: Path, kind: str, outputs: dict[str, tuple[int, int]], is_described: bool
) -> None:
    weights = write_encoder(tmp_path, kind, outputs)
    info = OnnxEncoder(tmp_path, threads=1).info
    assert (info.name, info.licence, len(info.encoder_sha256)) == (tmp_path.name, "NOASSERTION", 64)
    if is_described:
        info = ModelInfo("mine", "a" * 64, "MIT", info.features)
        (tmp_path / "model.json").write_text(json.dumps(info.to_json()), encoding="utf-8")
    encoder = OnnxEncoder(tmp_path, threads=1)
    assert encoder.info == info
    tiles = np.random.default_rng(1).integers(0, 256, (2, 1024, 1024, 3), dtype=np.uint8)
    found = encoder.encode(tiles)
    assert found.keys() == info.features.keys() and "image_embeddings" in found
    pixels = (tiles - np.array(PIXELS["mean"])) / np.array(PIXELS["deviation"])
    for name, values in found.items():
        channels, side, _ = info.features[name]
        means = pixels.reshape(2, side, 1024 // side, side, 1024 // side, 3).mean(axis=(2, 4))
        np.testing.assert_allclose(values, np.einsum("bhwc,kc->bkhw", means, weights[:channels]), atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "outputs", "side", "named"),
    [
        ("normalised", {"image_embed": (256, 64)}, 1024, r"gives image_embed \[1, 256, 64, 64\]"),
        ("normalised", {"vision_features": (256, 64)}, 1024, "gives vision_features"),
        ("normalised", {"image_embeddings": (128, 64)}, 1024, r"gives image_embeddings \[1, 128, 64, 64\]"),
        ("normalised", SAM, 512, r"takes input_image \[1, 3, 512, 512\]"),
    ],
)
def test_what_no_known_program_writes_is_refused(
    tmp_path: Path, kind: str, outputs: dict[str, tuple[int, int]], side: int, named: str
) -> None:
    write_encoder(tmp_path, kind, outputs, side)
    with pytest.raises(ModelError, match=rf"has no model\.json, and its encoder\.onnx is not one of .*{named}"):
        OnnxEncoder(tmp_path, threads=1)


def test_external_weights_tell_encoders_apart(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    write_encoder(tmp_path, "normalised", SAM)
    path = tmp_path / "encoder.onnx"
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    first = OnnxEncoder(tmp_path, threads=1).info
    content = (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(content[::-1])
    second = OnnxEncoder(tmp_path, threads=1).info
    assert first.encoder_sha256 != second.encoder_sha256 and first.features == second.features
