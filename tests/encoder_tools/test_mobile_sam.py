"""MobileSAM: our image encoder against the package of its authors, and files of the layout of mobile_sam.pt."""

from __future__ import annotations

import importlib.util
import inspect
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("segment_anything") is None:  # it imports only with torchvision or its placeholders
    pytest.skip("segment_anything is not installed", allow_module_level=True)

from encoder_tools.finetune.base_decoder import load_base  # noqa: E402
from encoder_tools.models.loading import load_model  # noqa: E402
from encoder_tools.models.mobile_sam import tiny_sam  # noqa: E402
from geosam_es.errors import ModelError  # noqa: E402
from geosam_es.inference.runtime import OnnxGraph  # noqa: E402
from geosam_es.store import StoreReader, StoreWriter  # noqa: E402
from tests.encoder_tools.reference_import import import_reference  # noqa: E402
from tests.helpers import make_metadata  # noqa: E402


@pytest.fixture(scope="module")
def reference() -> Any:
    """A MobileSAM of its authors with random weights, all far from zero."""
    torch.manual_seed(0)
    sam = import_reference("mobile_sam").sam_model_registry["vit_t"]()
    with torch.no_grad():
        for name, values in sam.image_encoder.state_dict().items():
            if "running_var" in name or name.endswith("bn.weight"):
                values.uniform_(0.5, 1.5)
            elif "biases" in name or name.endswith(("bias", "running_mean")):
                values.normal_(0, 0.3)
    return sam.train().eval()  # the attention biases are copied then


@pytest.fixture(scope="module")
def checkpoint(reference: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "mobile_sam.pt"
    torch.save(reference.state_dict(), path)
    return path


def test_the_features_are_those_of_the_reference(reference: Any, checkpoint: Path, tmp_path: Path) -> None:
    tile = np.random.default_rng(0).integers(0, 256, (1, 1024, 1024, 3), dtype=np.uint8)
    loaded = load_model("mobile_sam", checkpoint, "cpu", tmp_path)
    assert (loaded.encoder.info.name, loaded.encoder.info.licence) == ("mobile_sam", "NOASSERTION")
    got = loaded.encoder.encode(tile)["image_embeddings"]
    with torch.inference_mode():
        wanted = reference.image_encoder(reference.preprocess(torch.from_numpy(tile).permute(0, 3, 1, 2))).numpy()
    assert got.shape == (1, 256, 64, 64)
    assert np.abs(got - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_the_image_encoder_is_the_same_in_onnx(tmp_path: Path) -> None:
    encoder, path = tiny_sam().image_encoder, tmp_path / "encoder.onnx"
    pixels = torch.randn(2, 3, 160, 160)
    options = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    axes = {"pixels": {0: "batch"}}
    torch.onnx.export(
        encoder, (pixels[:1],), str(path), input_names=["pixels"], dynamic_axes=axes, opset_version=17, **options
    )
    (got,) = OnnxGraph(path, 1).run({"pixels": pixels.numpy()}).values()
    with torch.no_grad():
        assert np.allclose(got, encoder(pixels).numpy(), atol=1e-4)


def test_its_decoder_can_be_tuned(checkpoint: Path, reference: Any, tmp_path: Path) -> None:
    info = load_model("mobile_sam", checkpoint, "cpu", tmp_path).encoder.info
    metadata = make_metadata(1024, 1024)
    graph = tmp_path / "decoder.onnx"
    graph.touch()
    StoreWriter.create(tmp_path / "s.zarr", replace(metadata, model=info.to_json()), {"decoder.onnx": graph})
    base = load_base(StoreReader(tmp_path / "s.zarr"), None, checkpoint, train_prompt_encoder=False)
    tuned = base.decoder.module.state_dict()
    wanted = reference.state_dict()
    assert all(torch.equal(values, wanted[name]) for name, values in tuned.items())


def test_wrong_files(reference: Any, checkpoint: Path, tmp_path: Path) -> None:
    state = reference.state_dict()
    for name, wrong in {
        "pruned.pt": {**state, "image_encoder.layers.1.blocks.0.attn.qkv.weight": torch.zeros(96, 64)},
        "half.pt": {key: value for key, value in state.items() if "layers.3" not in key},
        "norm.pt": {key: value for key, value in state.items() if "bn.running_mean" not in key},
    }.items():
        torch.save(wrong, tmp_path / name)
        with pytest.raises(ModelError, match=f"{name} is not a complete MobileSAM"):
            load_model("mobile_sam", tmp_path / name, "cpu", tmp_path)
    with pytest.raises(ModelError, match="is a SAM mobile_sam, not vit_b"):
        load_model("vit_b", checkpoint, "cpu", tmp_path)
    with pytest.raises(ModelError, match="models download mobile_sam"):
        load_model("mobile_sam", None, "cpu", tmp_path)
