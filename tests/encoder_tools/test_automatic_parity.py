"""Automatic masks of one tile against segment_anything's SamAutomaticMaskGenerator.

With the weights of `mini`, the official generator gets the logits of the same decoder, enlarged by SAM's own code.
Grid, filters, stability at full resolution, suppression and the removal of small regions are its own. With SAM's own
prompt encoder and mask decoder and random weights, everything is its own; ours is the exported decoder.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("segment_anything") is None:  # it imports only with torchvision or its placeholders
    pytest.skip("segment_anything is not installed", allow_module_level=True)

import rasterio.features  # noqa: E402

from benchmarks.mini.exported_model import MODEL_FOLDER, OnnxMini  # noqa: E402
from benchmarks.mini.small_objects import open_scene  # noqa: E402
from encoder_tools.mini.labelled_tiles import LabelledScene  # noqa: E402
from encoder_tools.models.export import export_model  # noqa: E402
from encoder_tools.models.sam.segment_anything_import import import_segment_anything  # noqa: E402
from encoder_tools.models.sam.weights import FEATURES, LoadedSam  # noqa: E402
from encoder_tools.synthetic import synthetic_orthophoto  # noqa: E402
from geosam_es.core.prompts import Prompts  # noqa: E402
from geosam_es.inference.automatic import AutomaticOptions, automatic_masks  # noqa: E402
from geosam_es.inference.decoder import Context, DecodedMasks, MaskDecoder, load_decoder  # noqa: E402
from geosam_es.inference.encoder import ModelInfo  # noqa: E402

POINTS = 8
LEAST_MASKS = 25
LARGE = 2000
"""Area in pixels; in a smaller mask, single pixels of the outline count for more than a hundredth."""


class Remembered:
    """A decoder that answers the same point twice from one computation."""

    def __init__(self, decoder: MaskDecoder) -> None:
        self.prepare = decoder.prepare
        self._decoder = decoder
        self.answers: dict[tuple[float, float], DecodedMasks] = {}

    def decode(self, context: Context, prompts: Prompts, mask_input: Any = None) -> DecodedMasks:
        x, y, _ = prompts.points[0]
        if (x, y) not in self.answers:
            self.answers[x, y] = self._decoder.decode(context, prompts, mask_input)
        return self.answers[x, y]


def plain_nms(boxes: Any, scores: Any, categories: Any, iou_threshold: float) -> Any:
    """Do what torchvision's batched_nms does for one category; torchvision need not be installed."""
    kept: list[int] = []
    for index in torch.argsort(scores, descending=True, stable=True).tolist():
        x0, y0, x1, y1 = boxes[index].tolist()
        for other in kept:
            a0, b0, a1, b1 = boxes[other].tolist()
            common = max(min(x1, a1) - max(x0, a0), 0) * max(min(y1, b1) - max(y0, b0), 0)
            if common / ((x1 - x0) * (y1 - y0) + (a1 - a0) * (b1 - b0) - common) > iou_threshold:
                break
        else:
            kept.append(index)
    return torch.tensor(kept, dtype=torch.long)


def official_masks(
    decoder: Remembered, options: AutomaticOptions, monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, Any]]:
    import_segment_anything()
    from segment_anything import automatic_mask_generator as official
    from segment_anything.modeling import Sam

    network = SimpleNamespace(image_encoder=SimpleNamespace(img_size=1024), mask_threshold=0.0, device="cpu")

    def predict(coords: Any, *_: Any, **__: Any) -> Any:
        answers = [decoder.answers[tuple(xy)] for xy in coords[:, 0].tolist()]
        logits = torch.from_numpy(np.stack([answer.low_res_masks[1:] for answer in answers]))
        scores = torch.from_numpy(np.stack([answer.iou_predictions[1:] for answer in answers]))
        return Sam.postprocess_masks(network, logits, (1024, 1024), (1024, 1024)), scores, logits

    monkeypatch.setattr(official, "batched_nms", plain_nms)
    generator = official.SamAutomaticMaskGenerator(
        network,
        POINTS,
        pred_iou_thresh=options.pred_iou_thresh,
        stability_score_thresh=options.stability_score_thresh,
        min_mask_region_area=options.min_mask_region_area,
        points_per_batch=16,
    )
    monkeypatch.setattr(generator.predictor, "set_image", lambda image: None)
    monkeypatch.setattr(generator.predictor, "predict_torch", predict)
    found: list[dict[str, Any]] = generator.generate(np.zeros((1024, 1024, 3), np.uint8))
    return found


def test_the_masks_are_those_of_segment_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = OnnxMini(MODEL_FOLDER)
    image = synthetic_orthophoto(1024, 1024, 0.25, seed=3).image
    segmenter = open_scene(MODEL_FOLDER, model, LabelledScene("synthetic", image, []), tmp_path)
    segmenter.decoder = decoder = Remembered(model.decoder)
    options = AutomaticOptions(POINTS, pred_iou_thresh=0.4, stability_score_thresh=0.3, min_mask_region_area=300)
    found = list(automatic_masks(segmenter, options))
    wanted = official_masks(decoder, options, monkeypatch)
    ours = {(mask.point, round(mask.predicted_iou, 5)): mask for mask in found}
    theirs = {(tuple(record["point_coords"][0]), round(record["predicted_iou"], 5)): record for record in wanted}
    assert len(wanted) == len(theirs) >= LEAST_MASKS
    assert ours.keys() == theirs.keys()
    ious, areas = [], []
    for key, record in theirs.items():
        truth = record["segmentation"]
        mask = rasterio.features.rasterize([ours[key].polygon], truth.shape, dtype="uint8") > 0
        ious.append((truth & mask).sum() / (truth | mask).sum())
        areas.append(record["area"])
        assert ours[key].stability_score == pytest.approx(record["stability_score"], abs=1e-6)
    # The polygons are traced between the samples. Single pixels of the outline fall on the other side.
    is_large = np.array(areas) >= LARGE
    assert np.mean(np.array(ious)[is_large]) >= 0.99
    assert min(np.array(ious)[is_large]) >= 0.985
    assert min(ious) >= 0.97


def smooth_sam() -> Any:
    """Return a SAM with random weights whose logits are smooth, change sign and differ between points.

    Its image encoder gives the same smooth features for every image.
    """
    import_segment_anything()
    from segment_anything.modeling import MaskDecoder as SamDecoder
    from segment_anything.modeling import PromptEncoder, Sam, TwoWayTransformer

    torch.manual_seed(0)
    features = torch.nn.functional.interpolate(torch.randn(1, 256, 6, 6), 64, mode="bicubic")
    encoder = torch.nn.Identity()
    encoder.img_size, encoder.forward = 1024, lambda _image: features
    transformer = TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8)
    decoder = SamDecoder(num_multimask_outputs=3, transformer=transformer, transformer_dim=256)
    sam = Sam(encoder, PromptEncoder(256, (64, 64), (1024, 1024), 16), decoder).eval()
    upscaled: list[Any] = []
    with torch.no_grad():
        for name, weight in decoder.named_parameters():
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                weight.mul_(4)
            elif name.endswith(("v_proj.weight", "out_proj.weight")):
                weight.mul_(2)
            elif "output_upscaling" in name and weight.ndim == 4:
                weight.copy_(weight.mean((2, 3), keepdim=True).expand_as(weight))
        hook = decoder.output_upscaling.register_forward_hook(lambda *found: upscaled.append(found[-1]))
        sparse, dense = sam.prompt_encoder((torch.full((1, 1, 2), 500.0), torch.ones(1, 1)), None, None)
        decoder(features, sam.prompt_encoder.get_dense_pe(), sparse, dense, True)
        hook.remove()
        # Logits of the mean feature are a little below zero for every point.
        mean = upscaled[0].mean((0, 2, 3))
        along = torch.outer(mean, mean) / mean.dot(mean)
        for network in decoder.output_hypernetworks_mlps:
            last = network.layers[-1]
            last.weight.mul_(10)
            last.weight.sub_(along @ last.weight)
            last.bias.sub_(along @ last.bias + 0.3 * mean / mean.dot(mean))
    return sam


def test_the_masks_of_sams_own_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sam = smooth_sam()
    info = ModelInfo("small", "0" * 64, "NOASSERTION", FEATURES)
    export_model(LoadedSam(sam, info), tmp_path / "model")
    decoder = load_decoder(tmp_path / "model" / "prepare.onnx", tmp_path / "model" / "decoder.onnx")
    encoder = SimpleNamespace(
        info=info, default_batch_size=1, encode=lambda _: {"image_embeddings": sam.image_encoder(None).numpy()}
    )
    image = synthetic_orthophoto(1024, 1024, 0.25, seed=3).image
    model: Any = SimpleNamespace(encoder=encoder, decoder=decoder)
    segmenter = open_scene(tmp_path / "model", model, LabelledScene("synthetic", image, []), tmp_path)
    options = AutomaticOptions(4, -0.09, 0.5, stability_score_offset=0.01, box_nms_thresh=1.0)
    found = list(automatic_masks(segmenter, options))
    from segment_anything import automatic_mask_generator as official

    monkeypatch.setattr(official, "batched_nms", plain_nms)
    settings = {name: getattr(options, name) for name in ("pred_iou_thresh", "stability_score_thresh")}
    generator = official.SamAutomaticMaskGenerator(
        sam,
        4,
        stability_score_offset=options.stability_score_offset,
        box_nms_thresh=1.0,
        points_per_batch=8,
        **settings,
    )
    monkeypatch.setattr(generator.predictor.transform, "apply_image", lambda image: image)
    wanted = generator.generate(image)
    assert len(found) == len(wanted) >= LEAST_MASKS
    ours = sorted(found, key=lambda mask: (mask.point, mask.predicted_iou))
    theirs = sorted(wanted, key=lambda record: (*record["point_coords"], record["predicted_iou"]))
    ious = []
    for mask, record in zip(ours, theirs):
        assert [*mask.point] == record["point_coords"][0]
        assert mask.predicted_iou == pytest.approx(record["predicted_iou"], abs=1e-3)
        assert mask.stability_score == pytest.approx(record["stability_score"], abs=0.02)
        truth = record["segmentation"]
        drawn = rasterio.features.rasterize([mask.polygon], truth.shape, dtype="uint8") > 0
        ious.append((truth & drawn).sum() / (truth | drawn).sum())
    is_large = np.array([record["area"] for record in theirs]) >= LARGE
    assert is_large.sum() >= LEAST_MASKS
    assert np.mean(np.array(ious)[is_large] >= 0.99) >= 0.99, sorted(ious)[:5]
    assert min(ious) >= 0.97
