"""Loading of SAM: the right file, and every wrong one."""

from __future__ import annotations

import importlib.util
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("segment_anything") is None:  # it imports only with torchvision or its placeholders
    pytest.skip("segment_anything is not installed", allow_module_level=True)

from encoder_tools.models.checkpoints import Checkpoint  # noqa: E402
from encoder_tools.models.export import export_model  # noqa: E402
from encoder_tools.models.loading import load_model  # noqa: E402
from encoder_tools.models.sam import weights as model  # noqa: E402
from encoder_tools.models.sam.weights import (  # noqa: E402
    detect_architecture,
    load_checkpoint,
    load_sam,
    random_sam,
    read_state,
)
from geosam_es.errors import ModelError  # noqa: E402
from geosam_es.inference.encoder import read_model_info  # noqa: E402
from geosam_es.store.decoder_files import file_sha256  # noqa: E402

WIDTH_KEY = "image_encoder.patch_embed.proj.weight"


@pytest.fixture(scope="module")
def made_sam() -> model.LoadedSam:
    return random_sam("vit_b", seed=3)


@pytest.fixture(scope="module")
def checkpoint(made_sam: model.LoadedSam, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "my_sam.pth"
    torch.save(made_sam.network.state_dict(), path)
    return path


def test_random_weights_follow_the_seed_and_leave_torchs_alone(made_sam: model.LoadedSam) -> None:
    before = torch.random.get_rng_state()
    again = random_sam("vit_b", seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert again.info == made_sam.info
    assert again.info.name == "vit_b-random"
    assert len(again.info.encoder_sha256) == 64
    assert not again.network.training
    assert dict(again.info.features) == {"image_embeddings": (256, 64, 64)}


def test_a_checkpoint_is_found_loaded_and_exported(
    checkpoint: Path, made_sam: model.LoadedSam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sam = load_sam(str(checkpoint))
    info = sam.info
    (tmp_path / "out").mkdir()
    # Of an older model, whose encoder is gone.
    (tmp_path / "out" / "encoder.onnx.data").touch()
    export_model(sam, tmp_path / "out")
    assert (info.name, info.licence) == ("my_sam", "NOASSERTION")
    assert info.encoder_sha256 == file_sha256(checkpoint)
    assert read_model_info(tmp_path / "out") == info
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "decoder.onnx",
        "model.json",
        "prepare.onnx",
    ]

    size = checkpoint.stat().st_size
    published = Checkpoint("vit_b", "https://x/my_sam.pth", size, info.encoder_sha256, "Apache-2.0")
    monkeypatch.setenv("GEOSAM_ES_MODELS", str(checkpoint.parent))
    monkeypatch.setattr(model, "load_registry", lambda: {"vit_b": published})
    monkeypatch.setattr("encoder_tools.models.checkpoints.load_registry", lambda: {"vit_b": published})
    by_name = load_sam("vit_b")
    assert (by_name.info.name, by_name.info.licence) == ("vit_b", "Apache-2.0")
    wanted = made_sam.network.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in by_name.network.state_dict().items())


def test_a_file_with_another_hash_is_not_taken_for_the_published_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_sam: model.LoadedSam
) -> None:
    (tmp_path / "weights.pth").write_bytes(b"x")
    published = Checkpoint("vit_b", "https://x/weights.pth", 1, "ab", "Apache-2.0")
    monkeypatch.setenv("GEOSAM_ES_MODELS", str(tmp_path))
    monkeypatch.setattr(model, "load_checkpoint", lambda _: made_sam)
    monkeypatch.setattr("encoder_tools.models.checkpoints.load_registry", lambda: {"vit_b": published})
    with pytest.raises(ModelError, match="not the published vit_b"):
        load_sam("vit_b")


@pytest.mark.parametrize("width, name", [(768, "vit_b"), (1024, "vit_l"), (1280, "vit_h")])
def test_the_width_determines_the_architecture(width: int, name: str) -> None:
    assert detect_architecture({WIDTH_KEY: torch.zeros(width, 3, 16, 16)}) == name


@pytest.mark.parametrize("state", [{}, {WIDTH_KEY: 3}, {WIDTH_KEY: torch.zeros(())}, {WIDTH_KEY: torch.zeros(5)}])
def test_no_architecture(state: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="SAM"):
        detect_architecture(state)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda weights: weights,
        lambda weights: {"model": weights, "epoch": 3},
        lambda weights: {"state_dict": {f"module.{name}": values for name, values in weights.items()}},
        lambda weights: {**weights, 1: torch.zeros(1), "note": "text"},
    ],
)
def test_weights_as_training_scripts_save_them(wrap: Any, tmp_path: Path) -> None:
    torch.save(wrap({"a.b": torch.tensor([1.5, 2]).half()}), tmp_path / "w.pth")
    state = read_state(tmp_path / "w.pth")
    assert list(state) == ["a.b"] and state["a.b"].dtype == torch.float32 and state["a.b"].tolist() == [1.5, 2]


@pytest.mark.parametrize(
    "names, name",
    [
        (("image_encoder.patch_embed.seq.0.c.weight",), "mobile_sam"),
        (("image_encoder.patch_embed.seq.0.c.weight", "mask_decoder.hf_token.weight"), "hq_tiny"),
        ((WIDTH_KEY, "mask_decoder.hf_token.weight"), "hq_vit_l"),
    ],
)
def test_weights_of_another_family_name_it(names: tuple[str, ...], name: str, tmp_path: Path) -> None:
    torch.save(dict.fromkeys(names, torch.zeros(1024, 3, 16, 16)), tmp_path / "w.pth")
    for wanted, known in (("vit_b", "vit_b"), (None, "vit_b or vit_l or vit_h")):
        with pytest.raises(ModelError, match=f"is a SAM {name}, not {known}: choose the model {name}"):
            load_checkpoint(tmp_path / "w.pth", wanted)


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a folder: give the file"):
        load_checkpoint(tmp_path)


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harm_was_done",)


def _text(path: Path) -> None:
    path.write_text("not a checkpoint\n" * 100)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _truncated(path: Path) -> None:
    torch.save({WIDTH_KEY: torch.zeros(768, 3, 16, 16)}, path)
    path.write_bytes(path.read_bytes()[:-5000])


def _pickle_with_code(path: Path) -> None:
    path.write_bytes(pickle.dumps(Harmful(), protocol=2))


def _zip_with_code(path: Path) -> None:
    torch.save({WIDTH_KEY: Harmful()}, path)


def _tensor(path: Path) -> None:
    torch.save(torch.zeros(3), path)


def _other_model(path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(3)}, path)


def _hollow(path: Path) -> None:
    torch.save({WIDTH_KEY: torch.zeros(768, 3, 16, 16), "extra": torch.zeros(1)}, path)


@pytest.mark.parametrize(
    "write, message",
    [
        (_text, "not a file of weights"),
        (_empty, "not a file of weights"),
        (_truncated, "damaged"),
        (_pickle_with_code, "has code in it, which is not run"),
        (_zip_with_code, "has code in it, which is not run"),
        (_tensor, "contains a Tensor"),
        (_other_model, "no weights of SAM's image encoder"),
        (_hollow, "not a complete SAM vit_b: .* 1 are unknown"),
    ],
)
def test_wrong_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "wrong.pth"
    write(path)
    for load in (load_checkpoint, lambda file: load_checkpoint(file, "vit_b")):
        with pytest.raises(ModelError, match=message) as caught:
            load(path)
        assert str(path) in caught.value.problem
        assert caught.value.remedy
        assert "\n" not in caught.value.user_message
    assert not (tmp_path / "harm_was_done").exists()


def test_another_architecture(tmp_path: Path) -> None:
    path = tmp_path / "large.pth"
    torch.save({WIDTH_KEY: torch.zeros(1024, 3, 16, 16)}, path)
    with pytest.raises(ModelError, match=r"large\.pth is a SAM vit_l, not vit_b"):
        load_checkpoint(path, "vit_b")


@pytest.mark.parametrize(
    "name, message",
    [
        ("vit_l", "geosam-es models download vit_l"),
        ("mini", "embedded"),
        ("nothing.pth", "neither a model nor a checkpoint"),
    ],
)
def test_missing_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    monkeypatch.setenv("GEOSAM_ES_MODELS", str(tmp_path))
    with pytest.raises(ModelError, match=message):
        load_sam(name)


def test_loading_does_not_export_the_decoder(checkpoint: Path, tmp_path: Path) -> None:
    loaded = load_model("vit_b", checkpoint, "cpu", tmp_path, threads=1)
    assert not list(tmp_path.iterdir())
    files = loaded.export_decoder()
    assert set(files) == {"prepare.onnx", "decoder.onnx"} and all(path.is_file() for path in files.values())
    assert sum(path.stat().st_size for path in files.values()) <= loaded.decoder_bytes
    written = [path.stat().st_mtime_ns for path in files.values()]
    assert [path.stat().st_mtime_ns for path in loaded.export_decoder().values()] == written
