"""Measure `mini` on small objects at the native and the enlarged levels: ``python -m benchmarks.mini.small_objects``.

The held-out images are reduced, so that their objects become small. ``small_objects.json`` adds objects that are small
in themselves, such as cars, shrubs and small roofs. They are drawn by hand on magnified images: twelve of them drawn
twice agree with a mean IoU of 0.89 (plants: 0.84), so an answer can hardly reach more. Each object gets a click in its
middle and its bounding box, on the native pixels and on the image enlarged 2 and 4 times. The polygon that the product
would draw is compared with the true one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import rasterio
import shapely
from rasterio.errors import RasterioError
from shapely.geometry.base import BaseGeometry
from shapely.ops import polylabel

from encoder_tools.evaluation.metrics import bootstrap_mean
from encoder_tools.mini.labelled_tiles import LabelledScene, coarser
from encoder_tools.mini.sources import data_folder, read_rgb
from encoder_tools.pipeline import EncodeOptions, EncodePlan, make_plan
from encoder_tools.raster import Raster
from geosam_es.core.grid import FINEST_LEVEL, Tile
from geosam_es.core.prompts import Bounds, Point, Prompts
from geosam_es.core.topology import polygon_parts
from geosam_es.encoding.encode import encode_tiles
from geosam_es.errors import GeoSamError, RasterError
from geosam_es.inference.encoder import Encoder
from geosam_es.inference.masks import Proposal
from geosam_es.inference.segmenter import Segmenter
from geosam_es.store import StoreReader, StoreWriter
from geosam_es.store.reader import TileState

from ..markdown import markdown_table, replace_sections
from .exported_model import OnnxMini
from .held_out import held_out, measurement_parser
from .process_pool import map_with_model

__all__ = [
    "DRAWN",
    "SIZES",
    "drawn_by_hand",
    "geometry_iou",
    "mean_text",
    "measure_scene",
    "open_scene",
    "small_objects_table",
    "with_totals",
]

REDUCTIONS = (2, 4)
LEVELS = tuple(range(0, FINEST_LEVEL - 1, -1))
SIZES = (10, 20, 40, 80, 160, 820)
"""Bounds of the groups: the longer side of an object in pixels."""

SMALL = 40
"""Longer side in pixels below which an object counts as small."""

DRAWN = Path(__file__).with_name("small_objects.json")
"""Objects drawn by hand: image in the data folder, reduction factor, kind, and polygon in pixels of the image."""

HELD_OUT, TRAINED = "drawn by hand", "drawn by hand, training image"

MIN_SIDE = 4.0
SECTION = "small objects"

Measured = dict[str, float]
"""The size of an object in pixels, and the IoU of each answer."""


def measure_scene(models: Path, model: OnnxMini, scene: LabelledScene) -> list[Measured]:
    """Encode an image with its enlarged levels, and prompt each object at every level.

    Parameters
    ----------
    models : Path
        Folder of the ONNX files.
    model : OnnxMini
        The model in it.
    scene : LabelledScene

    Returns
    -------
    list of dict of str to float
    """
    with TemporaryDirectory() as folder:
        segmenter = open_scene(models, model, scene, Path(folder))
        return [_measure(segmenter, polygon) for polygon in scene.polygons if _is_measured(polygon)]


def _is_measured(polygon: BaseGeometry) -> bool:
    x0, y0, x1, y1 = polygon.bounds
    return bool(min(x1 - x0, y1 - y0) >= MIN_SIDE and max(x1 - x0, y1 - y0) < SIZES[-1])


def open_scene(models: Path, model: OnnxMini, scene: LabelledScene, folder: Path) -> Segmenter:
    """Return a segmenter of an image that encodes tiles as they are needed, with a pixel of 1 m, in a folder."""
    path, store = folder / "scene.tif", folder / "scene.embeddings.zarr"
    height, width = scene.image.shape[:2]
    place = {"crs": "EPSG:25830", "transform": rasterio.Affine(1, 0, 500000, 0, -1, 4200000)}
    with rasterio.open(path, "w", driver="GTiff", width=width, height=height, count=3, dtype="uint8", **place) as image:
        image.write(np.moveaxis(scene.image, -1, 0))
    plan = make_plan(Raster(path), model.encoder, EncodeOptions())
    files = {name: models / name for name in ("prepare.onnx", "decoder.onnx")}
    writer = StoreWriter.create(store, plan.metadata, files)
    return Segmenter(StoreReader(store), model.decoder, _Encoder(plan, model.encoder, writer))


@dataclass(frozen=True)
class _Encoder:
    """Encodes the tiles that prompts need."""

    plan: EncodePlan
    encoder: Encoder
    writer: StoreWriter
    finest_level: int = FINEST_LEVEL

    def can_encode(self, tile: Tile) -> bool:
        return True

    def ensure_tile(self, tile: Tile) -> TileState:
        encode_tiles(self.plan, self.encoder, self.writer, [tile])
        return StoreReader(self.writer.root).state(tile)


def _measure(segmenter: Segmenter, polygon: BaseGeometry) -> Measured:
    bounds = Bounds(*polygon.bounds)
    middle = polylabel(max(polygon_parts(polygon), key=lambda part: part.area), 0.25)
    click, box = Prompts((Point(middle.x, middle.y),)), Prompts(box=bounds)
    found = {"size": max(bounds.width, bounds.height), "box itself": geometry_iou(polygon, shapely.box(*bounds))}
    for level in LEVELS:
        answers = [_answer(segmenter, click, level, rank) for rank in range(3)]
        ious = [geometry_iou(polygon, answer) for answer in answers]
        found[f"click {level}"], found[f"best {level}"] = ious[0], max(ious)
        found[f"box {level}"] = geometry_iou(polygon, _answer(segmenter, box, level, 0))
    chosen = segmenter.resolve(segmenter.propose(box))
    found["box"], found["box level"] = geometry_iou(polygon, shapely.union_all(chosen.polygons)), chosen.level
    return found


def _answer(segmenter: Segmenter, prompts: Prompts, level: int, rank: int) -> BaseGeometry:
    """Decode on the tile of a level that shows the prompts best."""
    grid = segmenter.pyramid.grid(level)
    around = grid.tiles_around(prompts.positive_bounds, tolerance=grid.scale)
    if not around or not segmenter.provide(around[0][1]):
        return shapely.Polygon()
    proposal = Proposal(prompts, (segmenter.decode(around[0][1], prompts),))
    return shapely.union_all(segmenter.resolve(proposal, min(rank, len(proposal.ranking) - 1)).polygons)


def geometry_iou(first: BaseGeometry, second: BaseGeometry) -> float:
    """Return the IoU of two geometries; 0 if both are empty."""
    union = shapely.union(first, second).area
    return float(shapely.intersection(first, second).area / union) if union else 0.0


def drawn_by_hand(data: Path, objects: Path = DRAWN) -> list[LabelledScene]:
    """Read the objects drawn by hand, one scene for each image, reduction factor and kind.

    Objects on images that `mini` was trained on get data sets of their own.

    Parameters
    ----------
    data : Path
        Folder of labelled imagery.
    objects : Path
        File like ``small_objects.json``.

    Raises
    ------
    RasterError
        If an image is missing or cannot be read.
    """
    groups: dict[tuple[str, int, str], list[BaseGeometry]] = {}
    for item in json.loads(objects.read_text(encoding="utf-8")):
        group = groups.setdefault((item["image"], item["reduction"], item["kind"]), [])
        group.append(shapely.Polygon(item["polygon"]))
    scenes = []
    try:
        images = {name: read_rgb(data / name) for name, _, _ in groups}
    except (OSError, RasterioError) as error:
        raise RasterError(f"'{data}' lacks an image of objects drawn by hand ({error})", "see SOURCES.md") from error
    for (name, reduction, kind), polygons in groups.items():
        parent = TRAINED if Path(name).parent.name.startswith("train") else HELD_OUT
        scene = LabelledScene(f"{parent}: {kind}", images[name], polygons)
        scenes.append(coarser(scene, reduction) if reduction > 1 else scene)
    return scenes


def with_totals(found: dict[str, list[Measured]]) -> dict[str, list[Measured]]:
    """Add a data set of all kinds of held-out objects drawn by hand, if there are any."""
    total = [item for dataset, objects in found.items() if dataset.startswith(f"{HELD_OUT}: ") for item in objects]
    return {**found, f"{HELD_OUT}: all kinds": total} if total else found


def small_objects_table(found: dict[str, list[Measured]]) -> str:
    """Return mean IoU by data set and size as a Markdown table, and over all small objects of each set.

    Parameters
    ----------
    found : dict of str to list of dict
        What `measure_scene` returns, by data set.
    """
    answers = [f"{kind} {level}" for kind in ("click", "best", "box") for level in LEVELS]
    header = ["set", "longer side, px", "objects", "box itself", *answers, "box, level chosen"]
    rows = []
    for dataset, objects in found.items():
        written: list[list[Measured]] = []
        sizes = () if dataset.startswith(HELD_OUT) else tuple(zip(SIZES, SIZES[1:]))
        for low, high in (*sizes, (0, SMALL)):
            group = [item for item in objects if low <= item["size"] < high]
            if group and group not in written:
                written.append(group)
                means = [mean_text([item[name] for item in group]) for name in ("box itself", *answers, "box")]
                size = f"{low} to {high}" if low else f"under {high}"
                rows.append([dataset, size, str(len(group)), *means])
    return markdown_table(header, rows)


def mean_text(values: list[float]) -> str:
    """Return a mean with half of its interval."""
    mean, low, high = bootstrap_mean(np.array(values))
    return f"{mean:.2f} ± {(high - low) / 2:.2f}"


def _scenes(options: argparse.Namespace) -> Iterator[LabelledScene]:
    if "reduced" in options.sets:
        for scene in held_out(options.data, options.limit):
            for factor in options.reductions:
                reduced = coarser(scene, factor) if factor > 1 else scene
                yield replace(reduced, dataset=f"{scene.dataset}, reduced")
    if "drawn" in options.sets:
        yield from drawn_by_hand(data_folder(options.data))


def main() -> None:
    """Parse the command line, measure, and print the table or write it into a page."""
    parser = measurement_parser("small_objects", __doc__)
    parser.add_argument("--reductions", type=int, nargs="+", default=REDUCTIONS, help="factors to reduce the images by")
    parser.add_argument(
        "--sets",
        nargs="+",
        choices=("reduced", "drawn"),
        default=("reduced", "drawn"),
        help="held-out images, reduced; or objects drawn by hand (default: both)",
    )
    parser.add_argument("--page", type=Path, help="page whose table is replaced")
    options = parser.parse_args()
    try:
        scenes = list(_scenes(options))
        found: dict[str, list[Measured]] = {}
        measured = map_with_model(partial(measure_scene, options.models), scenes, options.models, options.processes)
        for scene, objects in zip(scenes, measured):
            found.setdefault(scene.dataset, []).extend(objects)
        table = small_objects_table(with_totals(found))
        print(table)
        if options.page is not None:
            replace_sections(options.page, {SECTION: table})
    except GeoSamError as error:
        parser.exit(2, f"error: {error.user_message}\n")


if __name__ == "__main__":
    main()
