"""HQ-SAM: the exported decoder against that of its authors, its encoders, and a store with two decoders.

The package segment-anything-hq needs torchvision, so it is not among the packages for development. Without it, answers
that it has given are compared; with it, ``python -m pytest tests/encoder_tools/test_hq_sam.py`` compares many more.
transformers 5.24 cannot be the reference: its SamHQMaskDecoder upscales the image before the attention to the prompts.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")
if importlib.util.find_spec("segment_anything") is None:  # it imports only with torchvision or its placeholders
    pytest.skip("segment_anything is not installed", allow_module_level=True)

from encoder_tools.cli.app import cli  # noqa: E402
from encoder_tools.models.checkpoints import load_registry  # noqa: E402
from encoder_tools.models.hq_sam import LoadedHqSam, _Correction, load  # noqa: E402
from encoder_tools.models.mobile_sam import tiny_sam  # noqa: E402
from encoder_tools.models.sam.encoder import TileEncoder  # noqa: E402
from encoder_tools.models.sam.segment_anything_import import import_segment_anything  # noqa: E402
from geosam_es.core.prompts import Bounds, Point, Prompts  # noqa: E402
from geosam_es.errors import ModelError  # noqa: E402
from geosam_es.inference.decoder import SplitDecoder, decode_preview  # noqa: E402
from geosam_es.inference.encoder import ModelInfo  # noqa: E402
from geosam_es.inference.runtime import OnnxGraph  # noqa: E402
from geosam_es.inference.session import SegmentationSession, open_segmenter, with_decoder  # noqa: E402
from geosam_es.store.decoders import list_decoders  # noqa: E402
from tests.encoder_tools.reference_import import import_reference  # noqa: E402
from tests.encoder_tools.scenes import Block, scene, write_raster  # noqa: E402
from tests.encoder_tools.small_vit import make_encoder  # noqa: E402
from tests.encoder_tools.test_sam_parity import PromptSet, random_prompts  # noqa: E402

PROMPT_SETS = 6
WIDTH = 160
KEPT = (
    (
        (31.81, 2.98, 15.35, -4.74, 19.07, 19.32, -20.73, -38.74, 9.19),
        (27.02, 1.28, 25.28, -3.06, 26.22, 21.85, -14.09, -30.07, 15.75),
        (29.57, 1.77, 14.24, -8.21, 19.44, 19.19, -19.89, -37.11, 11.33),
        (17.85, -6.51, 12.18, -15.57, 15.29, 9.74, -26.52, -42.95, 1.35),
    ),
    (
        (8.88, -15.29, -4.57, -14.77, 8.62, -5.65, -16.85, -26.01, 12.35),
        (-4.2, -28.13, -20.24, -27.35, -7.53, -18.32, -29.1, -34.72, -1.82),
        (7.04, -16.53, -9.3, -15.64, 5.77, -6.79, -16.39, -28.62, 11.78),
        (0.79, -23.56, -10.66, -21.0, 0.73, -12.19, -22.65, -31.43, 4.9),
    ),
    (
        (47.32, 13.03, -0.11, -23.54, 21.45, 35.29, -15.01, -14.64, 8.65),
        (59.63, 38.99, 10.95, -12.54, 37.73, 54.68, 12.21, 15.97, 36.91),
        (51.44, 19.71, 3.79, -23.2, 23.04, 36.62, -9.57, -10.56, 12.37),
        (36.82, 9.54, -4.16, -30.92, 9.27, 20.74, -10.13, -11.27, 10.15),
    ),
)
"""Logits of the authors' package at nine places, of the four masks of three prompt sets."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the names of the authors' own, and weights from a seed that every version of NumPy draws alike."""
    network, correction = tiny_sam(), _Correction(WIDTH)
    generator = np.random.RandomState(0)
    state = network.state_dict()
    state.update({f"mask_decoder.{name}": values for name, values in correction.state_dict().items()})
    for name, values in state.items():
        drawn = generator.standard_normal(values.shape)
        scale = 0.1 if values.ndim < 2 else np.prod(values.shape[1:]) ** -0.5
        is_norm = values.ndim == 1 and name.endswith("weight")
        state[name] = torch.from_numpy((drawn * scale + is_norm).astype(np.float32))
    for name in state:
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            state[name] *= 4
        elif name.endswith(("v_proj.weight", "out_proj.weight")):
            state[name] *= 2
        elif "_mlp" in name and name.endswith("layers.2.weight"):
            state[name] *= 10
    path = tmp_path_factory.mktemp("weights") / "sam_hq_vit_tiny.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Any:
    """Prompt encoder and decoder of the authors."""
    sam = import_reference("segment_anything_hq").sam_model_registry["vit_tiny"]()
    state = torch.load(checkpoint, weights_only=True)
    own = {name: value for name, value in state.items() if name.split(".")[0] in ("prompt_encoder", "mask_decoder")}
    assert not sam.load_state_dict(own, strict=False).unexpected_keys
    return sam.eval()


@pytest.fixture(scope="module")
def sam(checkpoint: Path) -> LoadedHqSam:
    return load(load_registry()["hq_tiny"], checkpoint)


@pytest.fixture(scope="module")
def store(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hq")
    write_raster(folder / "ortho.tif", scene(1024, 1024, [Block(300, 300, 400, 300)]))
    line = ["encode", str(folder / "ortho.tif"), "--model", "hq_tiny", "--checkpoint", str(checkpoint)]
    done = CliRunner().invoke(cli, [*line, "--dtype", "float32"])
    assert done.exit_code == 0, done.stderr
    return folder / "ortho.embeddings.zarr"


def reference_answer(reference: Any, features: Any, early: Any, prompts: PromptSet) -> Any:
    """SAM's single mask and its three candidates, each with the correction added; and the scores."""
    points = None
    if len(prompts.points):
        points = torch.from_numpy(prompts.points[None]).float(), torch.from_numpy(prompts.labels[None])
    box = None if prompts.box is None else torch.from_numpy(prompts.box[None]).float()
    mask = None if prompts.mask is None else torch.from_numpy(prompts.mask[None, None]).float()
    sparse, dense = reference.prompt_encoder(points, box, mask)
    decoder = reference.mask_decoder
    fine = decoder.embedding_encoder(features) + decoder.compress_vit_feat(early)
    position = reference.prompt_encoder.get_dense_pe()
    masks, scores = decoder.predict_masks(features, position, sparse, dense, fine)
    single = decoder(features, position, sparse, dense, False, False, [early.permute(0, 2, 3, 1)])[0]
    corrected = masks[:, :4] + masks[:, 4:]
    assert torch.equal(single[:, 0], corrected[:, 0])
    return corrected[0].numpy(), scores[0].numpy()


class Exported:
    """The decoder of a store on random features."""

    def __init__(self, sam: LoadedHqSam, store: Path) -> None:
        generator = np.random.RandomState(3)
        maps = ((1, count, 64, 64) for count in (256, WIDTH))
        self.features, self.early = (torch.from_numpy(generator.standard_normal(shape)).float() for shape in maps)
        with torch.no_grad():
            fine = sam.correction.embedding_encoder(self.features) + sam.correction.compress_vit_feat(self.early)
        prepare, self.graph = (OnnxGraph(store / f"{name}.onnx", threads=1) for name in ("prepare", "decoder"))
        self.context = prepare.run({"image_embeddings": self.features.numpy(), "hq_features": fine.numpy()})

    def answer(self, prompts: PromptSet) -> tuple[Any, Any]:
        outputs = self.graph.run({**self.context, **prompts.feeds()})
        return outputs["low_res_masks"][0], outputs["iou_predictions"][0]


@pytest.fixture(scope="module")
def exported(sam: LoadedHqSam, store: Path) -> Exported:
    return Exported(sam, store)


def prompt_sets(count: int) -> list[PromptSet]:
    generator = np.random.default_rng(4)
    return [random_prompts(generator, index) for index in range(count)]


def test_the_masks_are_those_of_the_authors(reference: Any, exported: Exported) -> None:
    for prompts in prompt_sets(PROMPT_SETS):
        with torch.no_grad():
            masks, scores = reference_answer(reference, exported.features, exported.early, prompts)
        got, got_scores = exported.answer(prompts)
        assert np.abs(got - masks).max() <= 1e-3 * np.abs(masks).max()
        assert np.abs(got_scores - scores).max() <= 1e-3 * max(1, np.abs(scores).max())
        union = ((got > 0) | (masks > 0)).sum(axis=(1, 2))
        assert (((got > 0) & (masks > 0)).sum(axis=(1, 2)) >= 0.999 * union).all()
        assert 0.02 < (masks > 0).mean() < 0.98


def test_answers_kept_from_the_authors_package(exported: Exported) -> None:
    for prompts, kept in zip(prompt_sets(len(KEPT)), KEPT):
        masks, _ = exported.answer(prompts)
        assert np.abs(masks[:, 40::88, 40::88].reshape(4, 9) - kept).max() <= 2e-3 * np.abs(masks).max()


def test_the_mask_to_show_first_is_one_of_all(store: Path) -> None:
    decoder = SplitDecoder(store / "prepare.onnx", store / "decoder.onnx", threads=1)
    generator = np.random.default_rng(0)
    shapes = {"image_embeddings": (1, 256, 64, 64), "hq_features": (1, 32, 256, 256)}
    context = decoder.prepare({name: generator.standard_normal(shape, np.float32) for name, shape in shapes.items()})
    for prompts in (Prompts((Point(300, 200, True),)), Prompts(box=Bounds(100, 200, 700, 800))):
        whole, shown = decoder.decode(context, prompts), decode_preview(decoder, context, prompts)
        first = whole.ranking(ambiguous=prompts.box is None)[0]
        assert np.allclose(shown.low_res_masks[0], whole.low_res_masks[first], atol=1e-4)
        assert np.isclose(shown.iou_predictions[0], whole.iou_predictions[first])


def test_one_store_has_both_decoders(store: Path) -> None:
    decoders = list_decoders(store)
    assert [decoder.name for decoder in decoders] == ["original", "SAM"]
    segmenter = open_segmenter(store, threads=1)
    masks = []
    for decoder in decoders:
        session = SegmentationSession(with_decoder(segmenter, decoder, threads=1))
        result = session.add_point(700000.0 + 250, 4400000.0 - 225)
        masks.append(result.proposal.masks[0][0].logits)
    assert not np.allclose(*masks)
    listed = CliRunner().invoke(cli, ["decoder", "list", str(store)])
    assert "SAM (made with the store)" in listed.stdout


def test_the_vit_gives_sams_features_and_early_ones_on_every_path() -> None:
    import_segment_anything()
    encoder = make_encoder(side=16)
    correction = _Correction(60)
    correction.embedding_encoder[0] = torch.nn.ConvTranspose2d(16, 64, 2, 2)
    parts = {"pixel_mean": torch.full((3, 1, 1), 120.0), "pixel_std": torch.full((3, 1, 1), 60.0)}
    network = SimpleNamespace(image_encoder=encoder, **parts)
    sam = LoadedHqSam(network, ModelInfo("small", "0" * 64, "none", {"image_embeddings": (16, 16, 16)}), correction)
    tile = torch.randint(0, 256, (1, 256, 256, 3), dtype=torch.uint8)
    with torch.no_grad():
        plain, fast, own = sam.tile_network()(tile), sam.cpu_network(1)(tile), TileEncoder(network)(tile)
        early = encoder.patch_embed((tile.permute(0, 3, 1, 2).float() - 120) / 60) + encoder.pos_embed
        early = encoder.blocks[1](encoder.blocks[0](early)).permute(0, 3, 1, 2)
        fine = correction.embedding_encoder(own) + correction.compress_vit_feat(early)
    for features, finer in (plain, fast):
        assert torch.allclose(features, own, atol=1e-4)
        assert torch.allclose(finer, fine, atol=1e-4)


def test_wrong_files(checkpoint: Path, tmp_path: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)
    wrong = {
        "narrow.pth": {key: value for key, value in state.items() if "hf_mlp" not in key},
        "wide.pth": {**state, "mask_decoder.compress_vit_feat.0.weight": torch.zeros(768, 256, 2, 2)},
        "short.pth": {key: value for key, value in state.items() if "layers.3" not in key},
    }
    for name, content in wrong.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(ModelError, match=f"{name} is not a complete hq_tiny"):
            load(load_registry()["hq_tiny"], tmp_path / name)
    with pytest.raises(ModelError, match="is a SAM hq_tiny, not hq_vit_b: choose the model hq_tiny"):
        load(load_registry()["hq_vit_b"], checkpoint)
    with pytest.raises(ModelError, match="lkeab/hq-sam"):
        load(load_registry()["hq_vit_b"], None)
