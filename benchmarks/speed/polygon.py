"""From a click to a polygon with holes in the raster's CRS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.features
import shapely
from numpy.typing import NDArray
from pyproj import CRS
from rasterio.transform import Affine
from shapely.geometry.base import BaseGeometry

from geosam_es.core.contour import mask_polygons
from geosam_es.core.geotransform import GeoTransform
from geosam_es.core.grid import Tile, Tiling
from geosam_es.core.radiometry import Stretch
from geosam_es.inference.encoder import TILE_SIZE
from geosam_es.inference.session import CleanOptions, SegmentationSession, open_segmenter
from geosam_es.store import StoreMetadata, StoreReader, StoreWriter
from geosam_es.store.metadata import RasterInfo

from .measure import Bench, mask_agreement, mask_iou, take_turns
from .model import Agreement, Goal, Item, Row
from .sam import OfficialDecoder, SamFiles, sam_files, smooth_features, some_clicks

__all__ = ["run", "sam_store"]

_TILE = Tile(0, 0, 0)
_LEAST_AREA_IOU = 0.99
_TRANSFORM = GeoTransform(0.25, 0.0, 728_000.0, 0.0, -0.25, 4_372_000.0)
_MODEL = {
    "name": "vit_b-random",
    "encoder_sha256": "0" * 64,
    "licence": "NOASSERTION",
    "features": {"image_embeddings": [256, 64, 64]},
}


def sam_store(root: Path, files: SamFiles, features: NDArray[np.float32], dtype: str = "float16") -> Path:
    """Write a store of one tile with SAM's decoder."""
    raster = RasterInfo("tile.tif", 1, TILE_SIZE, TILE_SIZE, "0" * 64, CRS.from_epsg(25830).to_wkt(), _TRANSFORM)
    metadata = StoreMetadata(
        raster, (1, 2, 3), Stretch(), None, _MODEL, dtype, Tiling(TILE_SIZE, 256), 1, None, "benchmark", ""
    )
    StoreWriter.create(root, metadata, files.decoder_files).write(_TILE, {"image_embeddings": features[0]})
    return root


def run(bench: Bench) -> Iterator[Item]:
    """Measure the time from click to polygon, and from mask to polygon alone."""
    files = sam_files(bench.work)
    root = sam_store(bench.work / "polygon.embeddings.zarr", files, smooth_features())
    features = StoreReader(root).read(_TILE)["image_embeddings"]
    official = OfficialDecoder(files.official, features, bench.threads)
    segmenter = open_segmenter(root, bench.threads)
    clicks = some_clicks(bench.runs(32, 4))

    def ours(run: int, options: CleanOptions | None = None) -> SegmentationSession:
        session = SegmentationSession(segmenter, options=options)
        session.prompt(clicks[run % len(clicks)])
        return session

    def theirs(run: int) -> tuple[BaseGeometry, dict[str, NDArray[Any]]]:
        outputs = official.decode(clicks[run % len(clicks)])
        return _vectorised(outputs["masks"][0, 0]), outputs

    whole = take_turns({"theirs": theirs, "ours": ours}, bench.runs(60))
    ious, area_ious, logits, masks = [], [], [], []
    for index in range(len(clicks)):
        result = ours(index, CleanOptions(simplify_tolerance=0.0)).current
        polygon, outputs = theirs(index)
        if result is not None:
            ious.append(mask_iou(result.candidate.mask.logits, outputs["low_res_masks"][0, 0]))
            area_ious.append(_area_iou(result.geometry, polygon))
            logits.append(result.candidate.mask.logits)
            masks.append(outputs["masks"][0, 0])
    yield Row(
        "polygon",
        "click to a polygon with holes in the CRS, simplified",
        "official ONNX, mask of 1024 px, rasterio.features.shapes, shapely",
        whole["ours"].median_ms / whole["theirs"].median_ms,
        goal=Goal(0.4),
        ours=whole["ours"],
        reference=whole["theirs"],
        agreement=mask_agreement(ious),
        note=f"median IoU of the polygons {np.median(area_ious):.4f}",
    )
    yield _contour(bench, logits, masks)


def _contour(bench: Bench, logits: Sequence[NDArray[Any]], masks: Sequence[NDArray[Any]]) -> Row:
    def ours(run: int) -> BaseGeometry:
        polygons = mask_polygons(logits[run % len(logits)], TILE_SIZE)
        return _TRANSFORM.apply_geometry(shapely.MultiPolygon(polygons))

    def theirs(run: int) -> BaseGeometry:
        return _vectorised(masks[run % len(masks)])

    times = take_turns({"theirs": theirs, "ours": ours}, bench.runs(100, 4))
    ious = [_area_iou(ours(index), theirs(index)) for index in range(len(logits))]
    return Row(
        "contour",
        "mask to polygons in the CRS, this step only",
        "rasterio.features.shapes of the 1024 px mask, shapely",
        times["ours"].median_ms / times["theirs"].median_ms,
        goal=Goal(0.2),
        ours=times["ours"],
        reference=times["theirs"],
        agreement=Agreement("median IoU of the areas", float(np.median(ious)), _LEAST_AREA_IOU),
        note=f"one outline runs between pixels, the other along them; smallest IoU {min(ious):.3f}",
    )


def _vectorised(mask: NDArray[Any]) -> BaseGeometry:
    """Vectorise a full-size mask as other plugins do."""
    inside = (mask > 0).astype(np.uint8)
    shapes = rasterio.features.shapes(inside, mask=inside > 0, transform=Affine(*_TRANSFORM))
    return shapely.MultiPolygon(
        [shapely.Polygon(rings[0], rings[1:]) for rings in (s["coordinates"] for s, _ in shapes)]
    )


def _area_iou(first: BaseGeometry, second: BaseGeometry) -> float:
    first, second = shapely.make_valid(first), shapely.make_valid(second)
    union = first.union(second).area
    return float(first.intersection(second).area / union) if union else 1.0
