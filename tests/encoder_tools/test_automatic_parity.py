"""Automatic masks of one tile against segment_anything's SamAutomaticMaskGenerator, on the same weights and features."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("segment_anything") is None:  # it imports only with torchvision or its placeholders
    pytest.skip("segment_anything is not installed", allow_module_level=True)

import rasterio.features  # noqa: E402

from encoder_tools.models.sam.export import export_sam  # noqa: E402
from encoder_tools.models.sam.weights import random_sam  # noqa: E402
from geosam_es.core.grid import Tile  # noqa: E402
from geosam_es.inference.automatic import AutomaticOptions, automatic_masks  # noqa: E402
from geosam_es.inference.session import open_segmenter  # noqa: E402
from geosam_es.store import StoreWriter  # noqa: E402
from tests.encoder_tools.test_sam_parity import liven, smooth  # noqa: E402
from tests.helpers import make_metadata  # noqa: E402

POINTS = 8
pytestmark = pytest.mark.usefixtures("one_thread")


def plain_nms(boxes: Any, scores: Any, categories: Any, iou_threshold: float) -> Any:
    """Do what torchvision's batched_nms does for one category, as torchvision need not be installed."""
    kept: list[int] = []
    for index in torch.argsort(scores, descending=True, stable=True).tolist():
        x0, y0, x1, y1 = boxes[index]
        for other in kept:
            a0, b0, a1, b1 = boxes[other]
            common = (min(x1, a1) - max(x0, a0)).clamp(min=0) * (min(y1, b1) - max(y0, b0)).clamp(min=0)
            if common / ((x1 - x0) * (y1 - y0) + (a1 - a0) * (b1 - b0) - common) > iou_threshold:
                break
        else:
            kept.append(index)
    return torch.tensor(kept, dtype=torch.long)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A SAM of random weights, features, and a store of one tile with both."""
    folder = tmp_path_factory.mktemp("automatic")
    sam = random_sam("vit_b", seed=0)
    liven(sam)
    with torch.no_grad():
        for index in (0, 3):
            kernel = sam.network.mask_decoder.output_upscaling[index].weight
            mean = kernel.mean((2, 3), keepdim=True)
            kernel.copy_(2 * mean + 0.03 * (kernel - mean))
    export_sam(sam, folder)
    features = smooth(np.random.default_rng(7), sigma=4)
    metadata = make_metadata(1024, 1024)
    metadata = replace(metadata, model={**metadata.model, "features": {"image_embeddings": (256, 64, 64)}})
    files = {name: folder / name for name in ("prepare.onnx", "decoder.onnx")}
    writer = StoreWriter.create(folder / "tile.embeddings.zarr", metadata, files)
    writer.write(Tile(0, 0, 0), {"image_embeddings": features[0]})
    return sam, features, writer.root


@pytest.mark.parametrize("min_area", [300])
def test_the_masks_are_those_of_segment_anything(
    scene: tuple[Any, Any, Path], min_area: int, monkeypatch: pytest.MonkeyPatch, record_property: Any
) -> None:
    sam, features, store = scene
    from segment_anything import automatic_mask_generator as official

    loose = list(automatic_masks(open_segmenter(store), AutomaticOptions(POINTS, 0, 0, box_nms_thresh=1)))
    import sys; print(len(loose), np.percentile([m.predicted_iou for m in loose],[0,10,50,90,100]), np.percentile([m.stability_score for m in loose],[0,10,50,90,100]), np.percentile([m.polygon.area for m in loose],[0,10,50,90,100]), file=sys.stderr)
    scores = np.median([(mask.predicted_iou, mask.stability_score) for mask in loose], axis=0)
    options = AutomaticOptions(POINTS, *scores.tolist(), 1.0, 0.7, 0.7, min_area)
    found = list(automatic_masks(open_segmenter(store), options))

    monkeypatch.setattr(official, "batched_nms", plain_nms)
    generator = official.SamAutomaticMaskGenerator(
        sam.network,
        POINTS,
        pred_iou_thresh=options.pred_iou_thresh,
        stability_score_thresh=options.stability_score_thresh,
        min_mask_region_area=min_area,
    )

    def set_image(_: Any) -> None:
        generator.predictor.features = torch.from_numpy(features)
        generator.predictor.original_size = generator.predictor.input_size = (1024, 1024)
        generator.predictor.is_image_set = True

    monkeypatch.setattr(generator.predictor, "set_image", set_image)
    wanted = generator.generate(np.zeros((1024, 1024, 3), np.uint8))
    assert len(wanted) > 20
    ious = []
    burned = [rasterio.features.rasterize([mask.polygon], (1024, 1024), dtype="uint8") > 0 for mask in found]
    for record in wanted:
        iou, index = max(
            ((record["segmentation"] & mask).sum() / (record["segmentation"] | mask).sum(), index)
            for index, mask in enumerate(burned)
        )
        ious.append(iou)
        if iou >= 0.99:
            assert found[index].predicted_iou == pytest.approx(record["predicted_iou"], abs=1e-4)
            assert found[index].stability_score == pytest.approx(record["stability_score"], abs=1e-3)
            assert list(found[index].point) == record["point_coords"][0]
            assert found[index].polygon.area == pytest.approx(record["area"], rel=0.01)
    record_property("masks of IoU >= 0.99", np.mean(np.array(ious) >= 0.99))
    print(f"\n{len(found)} masks for {len(wanted)}; IoU smallest {min(ious):.4f}")
    assert abs(len(found) - len(wanted)) <= 0.01 * len(wanted)
    assert np.mean(np.array(ious) >= 0.99) >= 0.99
