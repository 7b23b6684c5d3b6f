"""SAM's image encoder on PyTorch and exported, with segment_anything's own network made small."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("segment_anything") is None:  # it imports only with torchvision or its placeholders
    pytest.skip("segment_anything is not installed", allow_module_level=True)

from encoder_tools.cli.encode import encode_command  # noqa: E402
from encoder_tools.models import export  # noqa: E402
from encoder_tools.models.checkpoints import file_sha256  # noqa: E402
from encoder_tools.models.sam.encoder import SamTorchEncoder  # noqa: E402
from encoder_tools.models.sam.weights import LoadedSam, random_sam  # noqa: E402
from encoder_tools.models.torch_encoder import Precision, resolve_device  # noqa: E402
from geosam_es.errors import ModelError, OutputError  # noqa: E402
from geosam_es.inference.encoder import FILL_RGB, OnnxEncoder  # noqa: E402


@pytest.fixture(scope="module")
def sam() -> LoadedSam:
    """Return a SAM whose image encoder is small: one windowed and one global block, 64 wide."""
    loaded = random_sam("vit_b", seed=0)
    from segment_anything.modeling import ImageEncoderViT

    torch.manual_seed(0)
    encoder = ImageEncoderViT(
        depth=2,
        embed_dim=64,
        num_heads=2,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=(1,),
    )
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "pos" in name:  # zero in a new encoder
                parameter.normal_(0, 0.3)
    loaded.network.image_encoder = encoder.eval()
    return loaded


@pytest.fixture(scope="module")
def tiles() -> Any:
    return np.random.default_rng(0).integers(0, 256, (3, 1024, 1024, 3), dtype=np.uint8)


@pytest.fixture
def encoder(sam: LoadedSam) -> SamTorchEncoder:
    return SamTorchEncoder(sam, "cpu", threads=1)


def relative(got: Any, wanted: Any) -> float:
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def predictor_features(sam: LoadedSam, image: Any) -> Any:
    from segment_anything import SamPredictor

    predictor = SamPredictor(sam.network)
    predictor.set_torch_image(torch.tensor(image).permute(2, 0, 1)[None], image.shape[:2])
    return predictor.features.numpy()


def test_the_features_are_those_of_sam_predictor(sam: LoadedSam, encoder: SamTorchEncoder, tiles: Any) -> None:
    features = encoder.encode(tiles[:1])
    assert list(features) == ["image_embeddings"]
    assert features["image_embeddings"].dtype == np.float32
    assert features["image_embeddings"].shape == (1, 256, 64, 64)
    assert relative(features["image_embeddings"], predictor_features(sam, tiles[0])) < 1e-3


def test_filled_padding_is_close_to_sams_own(sam: LoadedSam, encoder: SamTorchEncoder, tiles: Any) -> None:
    padded = tiles[:1].copy()
    padded[:, :, 700:] = FILL_RGB
    wanted = predictor_features(sam, padded[0, :, :700])
    assert np.abs(encoder.encode(padded)["image_embeddings"] - wanted).mean() / np.abs(wanted).mean() < 1e-2


def test_no_tiles(encoder: SamTorchEncoder, tiles: Any) -> None:
    assert encoder.encode(tiles[:0])["image_embeddings"].shape == (0, 256, 64, 64)


def test_a_batch_that_does_not_fit_is_halved(
    encoder: SamTorchEncoder, tiles: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def forward(batch: Any) -> Any:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return (batch[:, :1, :1, :1].float().expand(-1, 256, 64, 64),)

    monkeypatch.setattr(encoder, "_forward", forward)
    images = np.concatenate([tiles, tiles[:2]])
    images[:, 0, 0, 0] = range(5)
    features = encoder.encode(images)["image_embeddings"]
    assert features[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert sizes == [5, 2, 2, 1]
    encoder.encode(images)
    assert sizes[4:] == [2, 2, 1]


def test_too_little_memory_for_one_tile(encoder: SamTorchEncoder, tiles: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(batch: Any) -> Any:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(encoder, "_forward", forward)
    with pytest.raises(ModelError, match="too little free memory for one tile of vit_b-random"):
        encoder.encode(tiles)


def test_after_an_overflow_in_float16_batches_are_computed_in_bfloat16(
    encoder: SamTorchEncoder, tiles: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Any] = []

    def forward(batch: Any) -> Any:
        used.append(encoder._dtype)
        value = float("inf") if encoder._dtype is torch.float16 else 1.0
        return (torch.full((len(batch), 256, 64, 64), value),)

    monkeypatch.setattr(encoder, "_dtype", torch.float16)
    monkeypatch.setattr(encoder, "_forward", forward)
    for _ in range(2):
        assert np.isfinite(encoder.encode(tiles[:1])["image_embeddings"]).all()
    assert used == [torch.float16, torch.bfloat16, torch.bfloat16]


def test_reduced_precision_stays_close(sam: LoadedSam, encoder: SamTorchEncoder, tiles: Any) -> None:
    wanted = encoder.encode(tiles[:1])["image_embeddings"]
    got = SamTorchEncoder(sam, "cpu", "bfloat16").encode(tiles[:1])["image_embeddings"]
    assert 1e-5 < np.abs(got - wanted).mean() / np.abs(wanted).mean() < 0.02


@pytest.mark.parametrize(
    ("precision", "dtype"), [("auto", torch.float16), ("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_precision_of_a_gpu(sam: LoadedSam, precision: Any, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gpu:
        """Stands for the device; tensors stay where they are."""

        type = "cuda"

    monkeypatch.setattr("encoder_tools.models.sam.encoder.resolve_device", lambda name: Gpu)
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *_, **__: self)
    encoder = SamTorchEncoder(sam, "cuda", precision)
    assert encoder._dtype is dtype
    # float16 is what stores keep anyway; what rounds more may not be mixed with it in one store.
    assert encoder.info.precision == ("bfloat16" if precision == "bfloat16" else "float32")


def test_mps_does_not_support_bfloat16(sam: LoadedSam, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(ModelError, match="the device mps does not support bfloat16"):
        SamTorchEncoder(sam, "mps", "bfloat16")


def test_the_command_line_knows_every_precision() -> None:
    option = next(option for option in encode_command.params if option.name == "precision")
    assert tuple(option.type.choices) == get_args(Precision)  # type: ignore[attr-defined]


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "meta", ""])
def test_unavailable_devices(device: str) -> None:
    with pytest.raises(ModelError, match="device"):
        resolve_device(device)


def test_automatic_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto").type == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto").type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto").type == "cuda"
    assert resolve_device("cuda:1").index == 1
    with pytest.raises(ModelError, match="no device cuda:2"):
        resolve_device("cuda:2")


def test_batch_size_follows_the_free_memory(encoder: SamTorchEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert encoder.default_batch_size == 1
    monkeypatch.setattr(encoder, "_device", torch.device("cuda"))
    sizes = []
    for gibibytes in (0.5, 4, 140):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=int(gibibytes * 2**30): (free, free))
        sizes.append(encoder.default_batch_size)
    assert sizes == [1, 7, 16]


@pytest.fixture(scope="module")
def exported(sam: LoadedSam, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("exported")
    export.export_model(sam, directory, with_encoder=True)
    return directory


def test_the_exported_encoder_takes_any_batch(exported: Path, encoder: SamTorchEncoder, tiles: Any) -> None:
    onnx_encoder = OnnxEncoder(exported, threads=1)
    assert onnx_encoder.info == encoder.info
    got = onnx_encoder.encode(tiles[:2])["image_embeddings"]
    assert relative(got, encoder.encode(tiles[:2])["image_embeddings"]) < 1e-3


def test_the_card_lists_every_file_with_its_hash(exported: Path, sam: LoadedSam) -> None:
    names = ["decoder.onnx", "encoder.onnx", "model.json", "prepare.onnx"]
    assert sorted(path.name for path in exported.iterdir()) == names
    card = json.loads((exported / "model.json").read_text())
    assert card["files"] == {name: file_sha256(exported / name) for name in names if name.endswith(".onnx")}
    assert (card["version"], card["image_size"], card["name"]) == (1, 1024, "vit_b-random")


def test_weights_in_many_files_are_gathered_in_one(
    exported: Path, tmp_path: Path, encoder: SamTorchEncoder, tiles: Any
) -> None:
    onnx = pytest.importorskip("onnx")
    scattered, gathered = tmp_path / "scattered" / "encoder.onnx", tmp_path / "gathered" / "encoder.onnx"
    scattered.parent.mkdir()
    gathered.parent.mkdir()
    onnx.save_model(
        onnx.load(exported / "encoder.onnx"),
        scattered,
        save_as_external_data=True,
        all_tensors_to_one_file=False,
    )
    assert len(list(scattered.parent.iterdir())) > 10
    export._gather_weights(scattered, gathered)
    assert sorted(path.name for path in gathered.parent.iterdir()) == ["encoder.onnx", "encoder.onnx.data"]
    (gathered.parent / "model.json").write_bytes((exported / "model.json").read_bytes())
    got = OnnxEncoder(gathered.parent, threads=1).encode(tiles[:1])["image_embeddings"]
    assert relative(got, encoder.encode(tiles[:1])["image_embeddings"]) < 1e-3


def test_weights_that_are_not_finite_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    sam = random_sam("vit_b", seed=0)
    with torch.no_grad():
        sam.network.mask_decoder.iou_prediction_head.layers[0].weight[0, 0] = np.nan
    with pytest.raises(ModelError, match=r"decoder\.onnx differs"):
        export.export_model(sam, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "old.txt").write_text("kept")
    with pytest.raises(ModelError, match=r"decoder\.onnx differs"):
        export.export_model(sam, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["old.txt"]


def test_a_decoder_is_not_put_beside_the_encoder_of_another_model(exported: Path, sam: LoadedSam) -> None:
    other = replace(sam, info=replace(sam.info, encoder_sha256="1" * 64))
    before = {path: path.stat().st_mtime_ns for path in exported.iterdir()}
    with pytest.raises(OutputError, match="contains the encoder of another model: choose another folder"):
        export.export_model(other, exported)
    assert {path: path.stat().st_mtime_ns for path in exported.iterdir()} == before
    export.export_model(sam, exported)


def test_a_directory_that_cannot_be_written(sam: LoadedSam, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        export.export_model(sam, tmp_path / "file" / "out")
