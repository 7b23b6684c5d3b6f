"""SAM 2.1, EdgeTAM and SAM 3's clicks against transformers' own code, with random weights.

The image encoders are tiny. Most prompts are compared on a small image, whose decoder has the same layers and fewer
places; a few are compared at the true size.
"""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rasterio

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from safetensors.torch import save_file  # noqa: E402

from encoder_tools.models.checkpoints import load_registry  # noqa: E402
from encoder_tools.models.edgetam import random_edgetam  # noqa: E402
from encoder_tools.models.export import export_model  # noqa: E402
from encoder_tools.models.sam2 import LoadedSam2, load, random_sam2  # noqa: E402
from geosam_es.core.prompts import Bounds, Point, Prompts  # noqa: E402
from geosam_es.errors import ModelError  # noqa: E402
from geosam_es.inference.decoder import SplitDecoder, decode_many, load_decoder  # noqa: E402
from geosam_es.inference.encoder import FILL_RGB, OnnxEncoder  # noqa: E402
from geosam_es.inference.session import SegmentationSession, open_segmenter  # noqa: E402
from geosam_es.store import StoreReader  # noqa: E402
from geosam_es.store.metadata import read_metadata  # noqa: E402
from tests.encoder_tools.conftest import Run  # noqa: E402
from tests.encoder_tools.scenes import Block, scene, write_raster  # noqa: E402

TILE = 1024


def sam2_config(side: int) -> Any:
    """Return the configuration of a SAM 2 with a tiny encoder, for images of ``side`` pixels."""
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[side, side],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        blocks_per_stage=[1, 1, 2, 1],
        global_attention_blocks=[3],
    )
    sizes = [[side // 4] * 2, [side // 8] * 2, [side // 16] * 2]
    return transformers.Sam2Config(
        vision_config=transformers.Sam2VisionConfig(
            backbone_config=backbone, backbone_channel_list=[64, 32, 16, 8], backbone_feature_sizes=sizes
        ),
        prompt_encoder_config={"image_size": side},
        mask_decoder_config={"dynamic_multimask_stability_thresh": 0.985},
    )


def sam3_config(side: int) -> Any:
    """Return the configuration of a SAM 3 with a tiny encoder, for images of ``side`` pixels."""
    backbone = transformers.Sam3ViTConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=side,
        window_size=side // 42,
        global_attn_indexes=[1],
        pretrain_image_size=side // 3,
    )
    sizes = [[side // 14 * times] * 2 for times in (4, 2, 1)]
    return transformers.Sam3TrackerConfig(
        vision_config=transformers.Sam3VisionConfig(
            backbone_config=backbone, backbone_feature_sizes=sizes, scale_factors=[4.0, 2.0, 1.0]
        ),
        prompt_encoder_config={"image_size": side},
        mask_decoder_config={"dynamic_multimask_stability_thresh": 0.985},
    )


PROMPTS = 204
CONFIGS = {"sam2": sam2_config, "sam3": sam3_config}

needs_5 = pytest.mark.skipif(not hasattr(transformers, "Sam3TrackerModel"), reason="transformers 5 has SAM 3")


def liven(loaded: LoadedSam2) -> LoadedSam2:
    """Sharpen the attention of random weights, and widen the logits to what a trained model gives."""
    with torch.no_grad():
        for name, weight in loaded.model.mask_decoder.named_parameters():
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                weight.mul_(4)
            elif name.endswith(("v_proj.weight", "o_proj.weight")):
                weight.mul_(2)
            elif "output_hypernetworks_mlps" in name and name.endswith("proj_out.weight"):
                weight.mul_(10)
    return loaded


class StandIn(torch.nn.Module):
    """A backbone in place of that of timm."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels: Any, **_: Any) -> Any:
        return SimpleNamespace(last_hidden_state=self.backbone(pixels), hidden_states=None)


def transformers_edgetam(loaded: LoadedSam2, side: int) -> Any:
    """Return transformers' EdgeTAM with the weights of ours, and our backbone in place of timm's."""
    config = sam2_config(side)
    vision = transformers.EdgeTamVisionConfig(
        backbone_config=config.vision_config.backbone_config,
        backbone_feature_sizes=config.vision_config.backbone_feature_sizes,
    )
    edgetam = transformers.EdgeTamConfig(
        vision_config=vision,
        prompt_encoder_config={"image_size": side},
        mask_decoder_config={"dynamic_multimask_stability_thresh": 0.985},
    )
    model = transformers.EdgeTamModel(edgetam).eval()
    model.vision_encoder.backbone = StandIn(loaded.model.vision_encoder.backbone)
    found = model.load_state_dict(loaded.model.state_dict(), strict=False)
    assert all("backbone" in key for key in (*found.missing_keys, *found.unexpected_keys))
    return model


@dataclass
class Case:
    """A model, that of transformers with the same weights, its exported decoder, and the features of a random tile."""

    loaded: LoadedSam2
    model: Any
    folder: Path
    decoder: SplitDecoder
    features: dict[str, Any]

    def reference(self, prompts: Prompts, mask: Any) -> tuple[Any, Any]:
        """Answer with the model's own interface: logits (4, 256, 256) and scores (4,), the single mask first."""
        model, candidates = self.model, []
        single = type(model.mask_decoder)._dynamic_multimask_via_stability

        def keep(masks: Any, scores: Any) -> Any:
            # What the model returns with multimask_output=True. Both answers of one run: a second takes as long.
            candidates.extend((masks[0, :, 1:], scores[0, 0, 1:]))
            return single(model.mask_decoder, masks, scores)

        model.mask_decoder._dynamic_multimask_via_stability = keep
        scale = model.prompt_encoder.input_image_size / TILE

        def pixels(*xy: float) -> list[float]:
            return [(value + 0.5) * scale - 0.5 for value in xy]

        given: dict[str, Any] = {}
        if prompts.points:
            given["input_points"] = torch.tensor([[[pixels(p.x, p.y) for p in prompts.points]]])
            given["input_labels"] = torch.tensor([[[int(p.positive) for p in prompts.points]]])
        if prompts.box is not None:
            given["input_boxes"] = torch.tensor([[pixels(*prompts.box)]])
        if mask is not None:
            given["input_masks"] = resized(torch.from_numpy(mask[None, None]), model.prompt_encoder.mask_input_size[0])
        names = ("high_res_feats_0", "high_res_feats_1", "image_embeddings")
        with torch.no_grad():
            answer = model(
                image_embeddings=[torch.from_numpy(self.features[name]) for name in names],
                multimask_output=False,
                **given,
            )
        masks = torch.cat([answer.pred_masks[0], candidates[0]], dim=1)
        return resized(masks, 256)[0].numpy(), torch.cat([answer.iou_scores[0, 0], candidates[1]]).numpy()


def resized(masks: Any, side: int) -> Any:
    return torch.nn.functional.interpolate(masks, size=(side, side), mode="bilinear")


def make_case(family: str, side: int, folder: Path, with_encoder: bool) -> Case:
    if family == "edgetam":
        loaded = liven(random_edgetam(0, side, dynamic_multimask_stability_thresh=0.985))
        model = transformers_edgetam(loaded, side)
    else:
        loaded = liven(random_sam2(0, CONFIGS[family](side)))
        model = loaded.model
    export_model(loaded, folder, with_encoder=with_encoder)
    decoder = SplitDecoder(folder / "prepare.onnx", folder / "decoder.onnx", 1)
    random = np.random.default_rng(1)
    shapes = loaded.info.features
    features = {name: random.standard_normal((1, *shape), dtype=np.float32) for name, shape in shapes.items()}
    return Case(loaded, model, folder, decoder, features)


@pytest.fixture(scope="module", params=["sam2", *(pytest.param(name, marks=needs_5) for name in ("edgetam", "sam3"))])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    side = 252 if request.param == "sam3" else 256
    return make_case(request.param, side, tmp_path_factory.mktemp(request.param), True)


@pytest.fixture(scope="module")
def true_size(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case("sam2", TILE, tmp_path_factory.mktemp("true_size"), False)


def random_prompts(count: int) -> list[tuple[Prompts, Any]]:
    """Return prompts of every kind, half of them with a mask."""
    random = np.random.default_rng(2)
    found = []
    for index in range(count):
        kind = ("points", "box", "both", "click")[index % 4]
        number = {"box": 0, "click": 1}.get(kind, int(random.integers(1, 20 if index % 8 == 0 else 7)))
        points = tuple(Point(*map(float, random.uniform(0, TILE, 2)), bool(random.integers(2))) for _ in range(number))
        (left, right), (top, bottom) = np.sort(random.uniform(0, TILE, (2, 2)), axis=1).tolist()
        box = Bounds(left, top, right, bottom) if kind in ("box", "both") else None
        smooth = np.kron(random.normal(0, 6, (16, 16)), np.ones((16, 16))).astype(np.float32)
        found.append((Prompts(points, box), smooth if index // 4 % 2 else None))
    return found


def check_parity(case: Case, count: int) -> int:
    """Return how many single masks a candidate has replaced."""
    context = case.decoder.prepare(case.features)
    replaced = 0
    for prompts, mask in random_prompts(count):
        masks, scores = case.decoder.decode(context, prompts, mask)
        wanted, wanted_scores = case.reference(prompts, mask)
        assert np.abs(masks - wanted).max() <= 1e-3 * np.abs(wanted).max()
        np.testing.assert_allclose(scores, wanted_scores, atol=1e-3)
        both, either = ((masks > 0) & (wanted > 0)).sum((1, 2)), ((masks > 0) | (wanted > 0)).sum((1, 2))
        assert (both >= 0.999 * either).all()
        replaced += bool((masks[0] == masks[1:]).all((1, 2)).any())
    return replaced


def test_parity(case: Case) -> None:
    # Both kinds of single masks occur: stable ones, and those replaced by a candidate.
    assert 0 < check_parity(case, PROMPTS) < PROMPTS


def test_parity_at_the_true_size(true_size: Case) -> None:
    assert 0 < check_parity(true_size, 8) < 8


@needs_5
def test_sam3_at_its_true_size(tmp_path: Path) -> None:
    """Fewer layers and channels, and windows, positions and maps of the true size."""
    case = make_case("sam3", 1008, tmp_path, with_encoder=False)
    sizes = {name: shape[1:] for name, shape in case.loaded.info.features.items()}
    assert sizes == {"image_embeddings": (72, 72), "high_res_feats_1": (144, 144), "high_res_feats_0": (288, 288)}
    check_encoding(case, 1)
    check_parity(case, 4)


def test_a_preview_of_a_click_is_exact_at_the_outline_and_other_prompts_get_all_masks(true_size: Case) -> None:
    context = true_size.decoder.prepare(true_size.features)
    click, box = Prompts((Point(300, 500),)), Prompts(box=Bounds(100, 100, 600, 700))
    whole = true_size.decoder.decode(context, click)
    (shown,) = decode_many(true_size.decoder, context, [click], first_only=True)
    wanted = whole.low_res_masks[whole.ranking(ambiguous=True)[0]]
    assert shown.low_res_masks.shape == (1, 256, 256)
    # One pixel of each place is exact, and all those of the places that the outline crosses; here masks are noise.
    is_exact = np.abs(shown.low_res_masks[0] - wanted) < 1e-3
    assert is_exact[1::4, 1::4].all()
    assert is_exact[np.abs(wanted) < 0.2].mean() > 0.9
    (masks, scores), (expected, _) = (
        decode_many(true_size.decoder, context, [box], first_only=True)[0],
        true_size.decoder.decode(context, box),
    )
    assert scores.shape == (4,)
    np.testing.assert_array_equal(masks, expected)


def test_encoding_equals_the_model_itself(case: Case) -> None:
    check_encoding(case, 2)


def check_encoding(case: Case, count: int) -> None:
    model = case.model
    tile = np.random.default_rng(3).integers(0, 256, (count, TILE, TILE, 3), dtype=np.uint8)
    found = case.loaded.encoder("cpu", "auto", 1).encode(tile)
    side = model.prompt_encoder.input_image_size
    pixels = torch.from_numpy(tile).permute(0, 3, 1, 2).float()
    pixels = torch.nn.functional.interpolate(pixels, (side, side), mode="bilinear") / 255
    is_sam3 = "Sam3" in type(model).__name__
    mean, deviation = ([0.5] * 3, [0.5] * 3) if is_sam3 else ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    pixels = (pixels - torch.tensor(mean).reshape(3, 1, 1)) / torch.tensor(deviation).reshape(3, 1, 1)
    wanted = model.get_image_embeddings(pixels)
    for name, maps in zip(("high_res_feats_0", "high_res_feats_1", "image_embeddings"), wanted):
        assert found[name].shape[1:] == case.loaded.info.features[name]
        np.testing.assert_allclose(found[name], maps.numpy(), atol=1e-4 * float(maps.abs().max()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder as on the hub: that of a model for videos, which holds more than is needed."""
    path = tmp_path_factory.mktemp("hub") / "my-sam2"
    liven(random_sam2(0, sam2_config(256))).model.save_pretrained(path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "model_type": "sam2_video"}))
    return path


def check_store(run: Run, folder: Path, sam2: LoadedSam2, tolerance: float, *options: Any) -> StoreReader:
    """Encode an image, and compare the stored features with those of a model; a click gets an answer."""
    image = write_raster(folder / "ortho.tif", scene(300, 200, [Block(100, 80, 60, 40)]))
    result = run("encode", image, *options)
    assert result.exit_code == 0, result.stderr
    reader = StoreReader(folder / "ortho.embeddings.zarr")
    assert reader.metadata.features == dict(sam2.info.features)
    read = reader.read(next(iter(reader.tiles(0))))
    pixels = np.full((1, TILE, TILE, 3), FILL_RGB, np.uint8)
    pixels[0, :200, :300] = np.moveaxis(rasterio.open(image).read(), 0, -1)
    for name, wanted in sam2.encoder("cpu", "auto", 1).encode(pixels).items():
        np.testing.assert_allclose(read[name].astype(np.float32), wanted, atol=tolerance * np.abs(wanted).max())
    session = SegmentationSession(open_segmenter(reader.root))
    answer = session.add_point(*reader.metadata.raster.transform.apply(130, 100))
    assert answer.candidates == 3 and not answer.geometry.is_empty
    assert run("verify", reader.root).exit_code == 0
    return reader


def test_from_a_folder_to_a_click(folder: Path, run: Run, tmp_path: Path) -> None:
    sam2 = load(load_registry()["sam2.1_tiny"], folder)
    options = ("--model", "sam2.1_tiny", "--checkpoint", folder, "--dtype", "int8")
    reader = check_store(run, tmp_path, sam2, 5e-3, *options)
    assert (reader.metadata.model["name"], reader.metadata.model["licence"]) == ("my-sam2", "NOASSERTION")
    assert [shape[0] for shape in reader.metadata.features.values()] == [256, 64, 32]


def test_from_an_exported_model_to_a_click(case: Case, run: Run, tmp_path: Path) -> None:
    check_store(run, tmp_path, case.loaded, 1e-3, "--model", case.folder, "--dtype", "float16")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: (path / "model.safetensors").unlink(), "has no model.safetensors"),
        (lambda path: (path / "config.json").unlink(), "has no config.json"),
        (lambda path: (path / "config.json").write_text("{"), "config.json is damaged"),
        (
            lambda path: (path / "config.json").write_text('{"model_type": "sam3_video"}'),
            "of type sam3_video, not sam2",
        ),
        (lambda path: (path / "model.safetensors").write_bytes(b"half"), "is damaged, or does not fit its config.json"),
        (lambda path: save_file({"x": torch.zeros(1)}, path / "model.safetensors"), "lacks .* of the tensors of sam2"),
        (
            lambda path: (path / "config.json").write_text('{"model_type": "sam2"}'),
            "or has them in another shape: give",
        ),
    ],
)
def test_wrong_folders(
    folder: Path, tmp_path: Path, change: Any, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    change(copy)
    with pytest.raises(ModelError, match=message):
        load(load_registry()["sam2.1_tiny"], copy)
    assert capfd.readouterr() == ("", "")


def test_missing_weights_name_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere.pt does not exist"):
        load(load_registry()["sam2.1_tiny"], tmp_path / "nowhere.pt")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"not downloaded.*geosam-es models download sam2.1_tiny"):
        load(load_registry()["sam2.1_tiny"], None)
    with pytest.raises(ModelError, match=r"does not download sam3.*licence.*--checkpoint"):
        load(load_registry()["sam3"], None)


@needs_5
def test_the_licence_of_sam3_goes_with_all_its_weights(tmp_path: Path) -> None:
    random_sam2(0, sam3_config(252)).model.save_pretrained(tmp_path)
    loaded = load(load_registry()["sam3"], tmp_path)
    assert loaded.info.licence == "LicenseRef-SAM"


def test_the_exported_encoder_equals_the_model(case: Case) -> None:
    tiles = np.random.default_rng(5).integers(0, 256, (2, TILE, TILE, 3), dtype=np.uint8)
    wanted = case.loaded.encoder("cpu", "auto", 1).encode(tiles)
    limit = 1e-4 if type(case.loaded.model).__name__ == "Sam2Model" else 3e-4  # SAM 3 resizes the tile first
    for name, found in OnnxEncoder(case.folder, 1).encode(tiles).items():
        np.testing.assert_allclose(found, wanted[name], atol=limit * np.abs(wanted[name]).max())


def test_a_checkpoint_of_meta(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names are those of a file made with the package sam2; a file has more, for videos."""
    monkeypatch.setattr("encoder_tools.models.sam2.meta_config", lambda name: sam2_config(256))
    wanted = random_sam2(7, sam2_config(256)).model.state_dict()
    pairs = {
        "image_encoder.trunk.blocks.0.norm1.weight": "vision_encoder.backbone.blocks.0.layer_norm1.weight",
        "image_encoder.trunk.blocks.4.mlp.layers.1.bias": "vision_encoder.backbone.blocks.4.mlp.proj_out.bias",
        "image_encoder.trunk.patch_embed.proj.weight": "vision_encoder.backbone.patch_embed.projection.weight",
        "image_encoder.neck.convs.3.conv.bias": "vision_encoder.neck.convs.3.bias",
        "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": (
            "prompt_encoder.shared_embedding.positional_embedding"
        ),
        "sam_prompt_encoder.mask_downscaling.4.weight": "prompt_encoder.mask_embed.layer_norm2.weight",
        "sam_mask_decoder.transformer.layers.1.cross_attn_token_to_image.out_proj.weight": (
            "mask_decoder.transformer.layers.1.cross_attn_token_to_image.o_proj.weight"
        ),
        "sam_mask_decoder.transformer.norm_final_attn.bias": "mask_decoder.transformer.layer_norm_final_attn.bias",
        "sam_mask_decoder.output_upscaling.3.weight": "mask_decoder.upscale_conv2.weight",
        "sam_mask_decoder.output_hypernetworks_mlps.2.layers.1.bias": (
            "mask_decoder.output_hypernetworks_mlps.2.layers.0.bias"
        ),
        "sam_mask_decoder.iou_prediction_head.layers.2.bias": "mask_decoder.iou_prediction_head.proj_out.bias",
        "no_mem_embed": "no_memory_embedding",
    }
    # Only here the same name means another tensor.
    pairs |= {
        key.replace(".layers.0.", ".layers.1."): key
        for key in wanted
        if ("_head.layers.0." in key or "mlps" in key) and key not in pairs.values()
    }
    state = {key: value for key, value in wanted.items() if key not in pairs.values()}
    points = state.pop("prompt_encoder.point_embed.weight")
    del state["shared_image_embedding.positional_embedding"]
    state |= {f"sam_prompt_encoder.point_embeddings.{index}.weight": points[index][None] for index in range(4)}
    state |= {meta: wanted[own] for meta, own in pairs.items()} | {"maskmem_tpos_enc": torch.zeros(7)}
    path = tmp_path / "sam2.1_hiera_tiny.pt"
    torch.save({"model": state}, path)
    loaded = load(load_registry()["sam2.1_tiny"], path)
    assert loaded.info.name == "sam2.1_hiera_tiny"
    wanted["shared_image_embedding.positional_embedding"] = wanted[
        "prompt_encoder.shared_embedding.positional_embedding"
    ]
    assert all(torch.equal(value, wanted[key]) for key, value in loaded.model.state_dict().items())
    del state["no_mem_embed"]
    torch.save({"model": state}, path)
    with pytest.raises(ModelError, match=r"is not a complete sam2.1_tiny: 1 of"):
        load(load_registry()["sam2.1_tiny"], path)
    torch.save({key: value for key, value in state.items() if "image_encoder" not in key}, path)
    with pytest.raises(ModelError, match="is not a checkpoint of SAM 2: give"):
        load(load_registry()["sam2.1_tiny"], path)
    path.write_bytes(b"half")
    with pytest.raises(ModelError, match="is not a file of weights, is damaged"):
        load(load_registry()["sam2.1_tiny"], path)


class SamexporterEncoder(torch.nn.Module):
    """What samexporter's encoder of SAM 2 computes of normalised pixels."""

    def __init__(self, loaded: LoadedSam2) -> None:
        super().__init__()
        self.model = loaded.model

    def forward(self, image: Any) -> Any:
        return tuple(self.model.get_image_embeddings(image))


class SamexporterDecoder(torch.nn.Module):
    """What samexporter's decoder of SAM 2 computes: three masks, with a padding point of its own."""

    def __init__(self, loaded: LoadedSam2) -> None:
        super().__init__()
        self.model = loaded.model

    def forward(self, image: Any, fine0: Any, fine1: Any, coords: Any, labels: Any, mask: Any, has_mask: Any) -> Any:
        prompts = self.model.prompt_encoder
        sparse = prompts._embed_points(coords.unsqueeze(1), labels.unsqueeze(1).long(), pad=True)
        empty = prompts.no_mask_embed.weight.reshape(1, -1, 1, 1)
        dense = has_mask * prompts.mask_embed(mask) + (1 - has_mask) * empty
        position = self.model.get_image_wide_positional_embeddings()
        masks, scores = self.model.mask_decoder(image, position, sparse, dense, True, [fine0, fine1])[:2]
        return masks[:, 0].clamp(-32, 32), scores[:, 0]


def export_as_samexporter(loaded: LoadedSam2, folder: Path, side: int = TILE) -> None:
    maps = {"image_embed": (256, 16), "high_res_feats_0": (32, 64), "high_res_feats_1": (64, 32)}
    features = {name: torch.zeros(1, channels, *[side * at // 256] * 2) for name, (channels, at) in maps.items()}
    prompts = {
        "point_coords": torch.zeros(1, 5, 2),
        "point_labels": torch.zeros(1, 5),
        "mask_input": torch.zeros(1, 1, side // 4, side // 4),
        "has_mask_input": torch.ones(1),
    }
    encoder, decoder = SamexporterEncoder(loaded).eval(), SamexporterDecoder(loaded).eval()
    axes = {"point_coords": {0: "labels", 1: "points"}, "point_labels": {0: "labels", 1: "points"}}
    axes |= {"mask_input": {0: "labels"}, "has_mask_input": {0: "labels"}}
    graphs = (
        (encoder, {"image": torch.zeros(1, 3, side, side)}, [*sorted(set(maps) - {"image_embed"}), "image_embed"], {}),
        (decoder, {**features, **prompts}, ["masks", "iou_predictions"], axes),
    )
    for (graph, inputs, outputs, dynamic), name in zip(graphs, ("encoder.onnx", "decoder.onnx")):
        names = {"input_names": list(inputs), "output_names": outputs, "dynamic_axes": dynamic}
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(graph, tuple(inputs.values()), folder / name, opset_version=17, dynamo=False, **names)


@pytest.fixture(scope="module")
def ready_made(true_size: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the two files of samexporter, and nothing else."""
    folder = tmp_path_factory.mktemp("ready") / "hiera_tiny"
    folder.mkdir()
    export_as_samexporter(true_size.loaded, folder)
    return folder


def test_decoders_of_samexporter_answer_as_the_model(true_size: Case, ready_made: Path) -> None:
    decoder = load_decoder(None, ready_made / "decoder.onnx", 1)
    context = decoder.prepare(true_size.features)
    for prompts, mask in random_prompts(8):
        masks, scores = decoder.decode(context, prompts, mask)
        wanted, wanted_scores = (each[1:] for each in true_size.reference(prompts, mask))
        assert masks.shape == (3, 256, 256)
        assert np.abs(masks - wanted.clip(-32, 32)).max() <= 1e-3 * np.abs(wanted).max()
        np.testing.assert_allclose(scores, wanted_scores, atol=1e-3)


def test_a_folder_of_samexporter_from_the_image_to_a_click(
    true_size: Case, ready_made: Path, run: Run, tmp_path: Path
) -> None:
    image = write_raster(tmp_path / "ortho.tif", scene(300, 200, [Block(100, 80, 60, 40)]))
    done = run("encode", image, "--model", ready_made)
    assert done.exit_code == 0, done.stderr
    reader = StoreReader(tmp_path / "ortho.embeddings.zarr")
    assert (reader.metadata.model["name"], reader.metadata.model["licence"]) == ("hiera_tiny", "NOASSERTION")
    pixels = np.full((1, TILE, TILE, 3), FILL_RGB, np.uint8)
    pixels[0, :200, :300] = np.moveaxis(rasterio.open(image).read(), 0, -1)
    read = reader.read(next(iter(reader.tiles(0))))
    for name, wanted in true_size.loaded.encoder("cpu", "auto", 1).encode(pixels).items():
        np.testing.assert_allclose(read[name].astype(np.float32), wanted, atol=1e-3 * np.abs(wanted).max())
    session = SegmentationSession(open_segmenter(reader.root))
    answer = session.add_point(*reader.metadata.raster.transform.apply(130, 100))
    assert answer.candidates == 3 and not answer.geometry.is_empty
    assert run("verify", reader.root).exit_code == 0
    # The folder, or the file alone, is a decoder for the store too.
    assert run("decoder", "set", reader.root, ready_made).stdout.endswith("decoder hiera_tiny is in use\n")
    alone = shutil.copy(ready_made / "decoder.onnx", tmp_path / "sam2.decoder.onnx")
    assert run("decoder", "set", reader.root, alone).exit_code == 0
    listed = run("decoder", "list", reader.root).stdout
    assert "* sam2.decoder (from sam2.decoder.onnx)\n" in listed
    boxed = SegmentationSession(open_segmenter(reader.root)).set_box(Bounds(*answer.geometry.bounds).corners)
    assert not boxed.geometry.is_empty
    # The model can be described in its folder.
    described = {**reader.metadata.model, "name": "mine", "licence": "Apache-2.0"}
    folder = Path(shutil.copytree(ready_made, tmp_path / "described"))
    (folder / "model.json").write_text(json.dumps(described))
    assert run("encode", image, "--model", folder, "--overwrite").exit_code == 0
    assert read_metadata(reader.root).model == described
    assert run("decoder", "set", reader.root, folder).stdout.endswith("decoder described is in use\n")
    assert run("verify", reader.root).exit_code == 0


def test_ready_made_files_that_do_not_fit_are_refused(
    true_size: Case, ready_made: Path, run: Run, tmp_path: Path
) -> None:
    image = write_raster(tmp_path / "ortho.tif", scene(300, 200, [Block(100, 80, 60, 40)]))
    assert run("encode", image).exit_code == 0
    store, folder = tmp_path / "ortho.embeddings.zarr", tmp_path / "other"
    shutil.copytree(ready_made, folder)

    def refused(*arguments: object) -> str:
        done = run(*arguments)
        assert done.exit_code == 2 and len(done.stderr.splitlines()) == 1
        return done.stderr

    assert "was encoded with mini, not with" in refused("decoder", "set", store, folder)
    assert "decoder.onnx failed" in refused("decoder", "set", store, folder / "decoder.onnx")
    export_as_samexporter(random_sam2(0, sam2_config(512)), folder, 512)
    assert "it takes image [1, 3, 512, 512]" in refused("encode", image, "--model", folder, "--overwrite")
    shutil.copy(ready_made / "encoder.onnx", folder)
    assert "decoder.onnx failed" in refused("encode", image, "--model", folder, "--overwrite")
    onnx = pytest.importorskip("onnx")
    make, tensor = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    names = ("image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input")
    shapes = {"low_res_masks": (1, 4, 256, 256), "iou_predictions": (1, 4)}
    values = {name: onnx.numpy_helper.from_array(np.zeros(shape, np.float32)) for name, shape in shapes.items()}
    nodes = [make("Constant", [], [name], value=value) for name, value in values.items()]
    inputs, outputs = [tensor(name, 1, None) for name in names], [tensor(n, 1, shape) for n, shape in shapes.items()]
    sam = onnx.helper.make_model(onnx.helper.make_graph(nodes, "sam", inputs, outputs), ir_version=8)
    sam.opset_import[0].version = 17
    onnx.save(sam, folder / "decoder.onnx")
    assert "decoder of SAM, but the encoder is a SAM 2" in refused("encode", image, "--model", folder, "--overwrite")
    shared = onnx.load(ready_made / "decoder.onnx")
    onnx.save(shared, folder / "decoder.onnx", save_as_external_data=True, location="decoder.onnx.data")
    assert "has its weights in another file" in refused("encode", image, "--model", folder, "--overwrite")
    (folder / "decoder.onnx").unlink()
    assert "has no decoder.onnx" in refused("encode", image, "--model", folder, "--overwrite")
    (folder / "encoder.onnx").unlink()
    assert "unknown model" in refused("encode", image, "--model", folder, "--overwrite")
