"""EdgeTAM: its image encoder against timm, and files of the layouts of its authors and of transformers.

timm needs torchvision, so it is not among the packages for development. Without it, values that it has given are
compared; with both, ``python -m pytest -s tests/encoder_tools/test_edgetam.py`` compares all and prints these values.
Decoder and neck are compared with those of transformers in ``test_sam2.py``.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors.torch import save_file  # noqa: E402

from encoder_tools.finetune.base_decoder import load_base  # noqa: E402
from encoder_tools.models import sam2  # noqa: E402
from encoder_tools.models.checkpoints import load_registry  # noqa: E402
from encoder_tools.models.edgetam import load, random_edgetam  # noqa: E402
from geosam_es.errors import ModelError  # noqa: E402
from tests.encoder_tools.conftest import Run  # noqa: E402
from tests.encoder_tools.test_sam2 import check_store, liven  # noqa: E402

BACKBONE = "vision_encoder.backbone."
KEPT = (
    (-2.10699, -0.24473, 0.69575, -1.28089),
    (1.23885, -0.70719, 0.1693, -0.01051),
    (-0.72951, -0.8328, 0.82222, 0.4925),
    (0.05702, -1.09339, -1.15197, -0.81465),
)
"""Four values of each of the maps of timm's ``repvit_m1``, from the weights below and `pixels`."""


def unfolded(state: dict[str, Any]) -> dict[str, Any]:
    """Return timm's names for our backbone, with values from a seed that every version of NumPy draws alike."""
    shapes: dict[str, tuple[int, ...]] = {}
    for key, values in sorted(state.items()):
        name, part = key.rsplit(".", 1)
        if ".se." in name:
            shapes[key] = tuple(values.shape)
        elif part == "weight":
            branches = {"conv": values.shape, "conv1": (len(values), 1, 1, 1)}
            parts = branches.items() if name.endswith("token_mixer") else [("", values.shape)]
            for branch, shape in parts:
                whole = f"{name}.{branch}".rstrip(".")
                shapes[f"{whole}.c.weight"] = tuple(shape)
                shapes |= {
                    f"{whole}.bn.{one}": (len(values),) for one in ("weight", "bias", "running_mean", "running_var")
                }
    generator, drawn = np.random.RandomState(0), {}
    for key, shape in shapes.items():
        values = generator.standard_normal(shape)
        if len(shape) > 1:
            values *= np.prod(shape[1:]) ** -0.5
        elif key.endswith(("bn.weight", "running_var")):
            values = (0.5 + np.abs(values)) * (0.3 if key.endswith("weight") else 1)
        else:
            values *= 0.3
        drawn[key] = torch.from_numpy(values.astype(np.float32))
    return drawn


def pixels() -> Any:
    return torch.from_numpy(np.random.RandomState(1).standard_normal((1, 3, 128, 128)).astype(np.float32))


@pytest.fixture(scope="module")
def backbone() -> dict[str, Any]:
    """Weights with timm's names."""
    state = random_edgetam(0).model.state_dict()
    return unfolded({key[len(BACKBONE) :]: one for key, one in state.items() if key.startswith(BACKBONE)})


@pytest.fixture(scope="module")
def hub_state(backbone: dict[str, Any]) -> dict[str, Any]:
    """The weights of a folder of huggingface.co, which are those of the model for videos."""
    state = liven(random_edgetam(0)).model.state_dict()
    state = {key: one for key, one in state.items() if not key.startswith(BACKBONE)}
    state |= {f"{BACKBONE}timm_model.{key}": one for key, one in backbone.items()}
    return state | {"memory_encoder.projection.weight": torch.zeros(64, 256, 1, 1)}


@pytest.fixture(scope="module")
def folder(hub_state: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hub") / "EdgeTAM-hf"
    path.mkdir()
    save_file({key: one.contiguous().clone() for key, one in hub_state.items()}, path / "model.safetensors")
    described = {"model_type": "edgetam_video", "mask_decoder_config": {"dynamic_multimask_stability_thresh": 0.97}}
    (path / "config.json").write_text(json.dumps(described))
    return path


_OF_META = (
    (rf"^{BACKBONE}timm_model\.", "image_encoder.trunk.body."),
    (r"^vision_encoder\.neck\.convs\.(\d)\.", r"image_encoder.neck.convs.\1.conv."),
    (r"^(prompt_encoder|mask_decoder)\.", r"sam_\1."),
    (r"^no_memory_embedding$", "no_mem_embed"),
    (r"shared_embedding\.positional_embedding", "pe_layer.positional_encoding_gaussian_matrix"),
    (r"mask_embed\.conv1\.", "mask_downscaling.0."),
    (r"mask_embed\.layer_norm1\.", "mask_downscaling.1."),
    (r"mask_embed\.conv2\.", "mask_downscaling.3."),
    (r"mask_embed\.layer_norm2\.", "mask_downscaling.4."),
    (r"mask_embed\.conv3\.", "mask_downscaling.6."),
    (r"upscale_conv1\.", "output_upscaling.0."),
    (r"upscale_layer_norm\.", "output_upscaling.1."),
    (r"upscale_conv2\.", "output_upscaling.3."),
    (r"\.layer_norm(\d|_final_attn)\.", r".norm\1."),
    (r"\.o_proj\.", ".out_proj."),
    (r"(mlps\.\d+|_head)\.layers\.0\.", r"\1.layers.1."),
    (r"(mlps\.\d+|_head)\.proj_out\.", r"\1.layers.2."),
    (r"\.mlp\.proj_out\.", ".mlp.layers.1."),
    (r"\.proj_in\.", ".layers.0."),
)


def as_meta(state: dict[str, Any]) -> dict[str, Any]:
    """Return weights with the names of ``edgetam.pt``."""
    points = state["prompt_encoder.point_embed.weight"]
    found = {f"sam_prompt_encoder.point_embeddings.{index}.weight": one[None] for index, one in enumerate(points)}
    for key, values in state.items():
        if key in ("shared_image_embedding.positional_embedding", "prompt_encoder.point_embed.weight"):
            continue
        for pattern, new in _OF_META:
            key = re.sub(pattern, new, key)
        found[key] = values
    return found


def maps_of(path: Path) -> list[Any]:
    with torch.no_grad():
        maps: list[Any] = load(load_registry()["edgetam"], path).model.vision_encoder.backbone(pixels())
    return maps


def test_values_kept_from_timm(folder: Path) -> None:
    for maps, kept in zip(maps_of(folder), KEPT):
        np.testing.assert_allclose(maps[0, :4, 1, 2].numpy(), kept, atol=1e-4 * float(maps.abs().max()))


def test_the_maps_are_those_of_timm(folder: Path, backbone: dict[str, Any]) -> None:
    timm = pytest.importorskip("timm", exc_type=ImportError)
    reference = timm.create_model("repvit_m1", features_only=True, out_indices=(0, 1, 2, 3)).eval()
    counts = {key: one for key, one in reference.state_dict().items() if key.endswith("num_batches_tracked")}
    reference.load_state_dict(backbone | counts)
    with torch.no_grad():
        wanted = reference(pixels())
    for maps, one in zip(maps_of(folder), wanted):
        print([round(float(value), 5) for value in one[0, :4, 1, 2]])
        np.testing.assert_allclose(maps.numpy(), one.numpy(), atol=1e-4 * float(one.abs().max()))


def test_from_a_folder_to_a_click(folder: Path, run: Run, tmp_path: Path) -> None:
    edgetam = load(load_registry()["edgetam"], folder)
    assert edgetam.network.mask_decoder.stability[1] == 0.97
    reader = check_store(run, tmp_path, edgetam, 1e-3, "--model", "edgetam", "--checkpoint", folder)
    assert (reader.metadata.model["name"], reader.metadata.model["licence"]) == ("EdgeTAM-hf", "NOASSERTION")
    base = load_base(reader, None, folder, train_prompt_encoder=False)
    state, wanted = base.decoder.module.state_dict(), edgetam.model.mask_decoder.state_dict()
    assert all(torch.equal(one, state[f"mask_decoder.{key}"]) for key, one in wanted.items())
    with pytest.raises(ModelError, match=r"of EdgeTAM-hf, the model of the store, are missing: choose them with --c"):
        load_base(reader, None, None, train_prompt_encoder=False)


def test_other_files_have_the_same_weights(folder: Path, hub_state: dict[str, Any], tmp_path: Path) -> None:
    wanted = load(load_registry()["edgetam"], folder).model.state_dict()
    meta = as_meta(hub_state)
    assert "sam_mask_decoder.output_hypernetworks_mlps.3.layers.2.bias" in meta
    torch.save({"model": meta}, tmp_path / "edgetam.pt")
    torch.save(hub_state, tmp_path / "tuned.pth")
    shutil.copy(folder / "model.safetensors", tmp_path)
    for name in ("edgetam.pt", "tuned.pth", "model.safetensors"):
        loaded = load(load_registry()["edgetam"], tmp_path / name)
        state = loaded.model.state_dict()
        # Meta's file has the position embedding once.
        shared = "shared_image_embedding.positional_embedding"
        assert all(torch.equal(one, wanted[key]) for key, one in state.items() if key != shared)
        assert (loaded.info.name, loaded.info.licence) == (name.split(".")[0], "NOASSERTION")


def test_wrong_files(folder: Path, hub_state: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stem, mixer = f"{BACKBONE}timm_model.stem.conv1", f"{BACKBONE}timm_model.stages_0.blocks.0.token_mixer"
    wrong: dict[str, tuple[dict[str, Any], str]] = {
        "other.pt": (
            {key: one for key, one in hub_state.items() if "backbone" not in key},
            "not a checkpoint of EdgeTAM",
        ),
        "norm.pt": (hub_state | {f"{stem}.bn.weight": torch.zeros(5)}, "not a checkpoint of EdgeTAM"),
        "mixer.pt": ({key: one for key, one in hub_state.items() if key != f"{mixer}.conv1.c.weight"}, "EdgeTAM: 2 of"),
        "half.pt": ({key: one for key, one in hub_state.items() if "stages_3" not in key}, "is not a complete EdgeTAM"),
        "wide.pt": (hub_state | {"no_memory_embedding": torch.zeros(1, 1, 5)}, "is not a complete EdgeTAM: 1 of"),
    }
    for name, (state, message) in wrong.items():
        torch.save(state, tmp_path / name)
        with pytest.raises(ModelError, match=f"{name}.*{message}"):
            load(load_registry()["edgetam"], tmp_path / name)
    (tmp_path / "half.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"half.safetensors is not a file of weights"):
        load(load_registry()["edgetam"], tmp_path / "half.safetensors")
    odd = Path(shutil.copytree(folder, tmp_path / "odd"))
    for decoder in ([1], {"dynamic_multimask_stability_thresh": "much"}):
        (odd / "config.json").write_text(json.dumps({"model_type": "edgetam", "mask_decoder_config": decoder}))
        with pytest.raises(ModelError, match=r"odd/config.json is damaged"):
            load(load_registry()["edgetam"], odd)
    with pytest.raises(ModelError, match="of type edgetam_video, not sam2"):
        sam2.load(load_registry()["sam2.1_tiny"], folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"not downloaded.*geosam-es models download edgetam"):
        load(load_registry()["edgetam"], None)
