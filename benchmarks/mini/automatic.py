"""Recall of automatic masks and of superpixels on held-out imagery: ``python -m benchmarks.mini.automatic``.

An object is found if a mask, or a superpixel, overlaps it with at least this IoU. The superpixels have the settings of
`baselines`, chosen on the training images.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import rasterio.features
import shapely
from numpy.typing import NDArray
from skimage.segmentation import felzenszwalb, slic

from encoder_tools.mini.labelled_tiles import LabelledScene
from geosam_es.errors import GeoSamError
from geosam_es.inference.automatic import automatic_masks, default_options

from ..markdown import markdown_table, replace_sections
from .baselines import Settings, chosen_settings
from .exported_model import OnnxMini
from .held_out import held_out, measurement_parser
from .process_pool import map_with_model
from .small_objects import open_scene

__all__ = ["measure_scene", "recall_table"]

SECTION = "automatic masks"
IOUS = (0.5, 0.75)


class Recalled(NamedTuple):
    """The best IoU of each object (N,), the number of masks, and the seconds that they took."""

    ious: NDArray[np.float64]
    masks: int
    seconds: float


def measure_scene(models: Path, points: int | None, model: OnnxMini, scene: LabelledScene) -> dict[str, Recalled]:
    """Measure every method on an image; ``points`` are those along the side of a tile."""
    settings = chosen_settings(scene.dataset)
    found = {name: _superpixels(scene, cut, settings[name]) for name, cut in SUPERPIXELS.items()}
    with TemporaryDirectory() as folder:
        segmenter = open_scene(models, model, scene, Path(folder))
        options = default_options(segmenter)
        options = replace(options, points_per_side=points) if points else options
        started = time.perf_counter()
        polygons = np.array([mask.polygon for mask in automatic_masks(segmenter, options)], dtype=object)
    found["mini"] = Recalled(_best(polygons, scene), len(polygons), time.perf_counter() - started)
    return found


def _best(polygons: NDArray[np.object_], scene: LabelledScene) -> NDArray[np.float64]:
    truth, best = np.array(scene.polygons, dtype=object), np.zeros(len(scene.polygons))
    first, second = shapely.STRtree(polygons).query(truth)
    common = shapely.area(shapely.intersection(truth[first], polygons[second]))
    np.maximum.at(best, first, common / (shapely.area(truth[first]) + shapely.area(polygons[second]) - common))
    return best


def _slic(image: NDArray[np.uint8], settings: Settings) -> Any:
    count = max(2, round(image.shape[0] * image.shape[1] / settings["area"]))
    return slic(image, n_segments=count, compactness=settings["compactness"], start_label=0)


def _felzenszwalb(image: NDArray[np.uint8], settings: Settings) -> Any:
    return felzenszwalb(image, scale=settings["scale"], sigma=settings["sigma"], min_size=50)


SUPERPIXELS: dict[str, Callable[[NDArray[np.uint8], Settings], Any]] = {"SLIC": _slic, "Felzenszwalb": _felzenszwalb}


def _superpixels(
    scene: LabelledScene, cut: Callable[[NDArray[np.uint8], Settings], Any], settings: Settings
) -> Recalled:
    started = time.perf_counter()
    labels = cut(scene.image, settings)
    seconds = time.perf_counter() - started
    sizes, best = np.bincount(labels.ravel()), []
    for polygon in scene.polygons:
        inside = rasterio.features.rasterize([polygon], labels.shape, dtype="uint8") > 0
        common = np.bincount(labels[inside], minlength=len(sizes))
        best.append(float((common / (sizes + inside.sum() - common)).max()))
    return Recalled(np.array(best), int((sizes > 0).sum()), seconds)


def recall_table(found: dict[str, list[dict[str, Recalled]]]) -> str:
    """Return the recall by data set and method as a Markdown table."""
    rows = []
    for dataset, scenes in found.items():
        for method in scenes[0]:
            measured = [scene[method] for scene in scenes]
            ious = np.concatenate([item.ious for item in measured])
            recalls = [f"{np.mean(ious >= least):.2f}" for least in IOUS]
            masks = sum(item.masks for item in measured)
            seconds = sum(item.seconds for item in measured) / len(scenes)
            rows.append([dataset, method, str(len(ious)), *recalls, str(masks), f"{seconds:.1f}"])
    recalls = [f"recall at IoU {least}" for least in IOUS]
    return markdown_table(["set", "method", "objects", *recalls, "masks", "seconds per image"], rows)


def main() -> None:
    """Parse the command line, measure, and print the table or write it into a page."""
    parser = measurement_parser("automatic", __doc__)
    parser.add_argument("--points", type=int, help="points along the side of a tile")
    parser.add_argument("--page", type=Path, help="page whose table is replaced")
    options: argparse.Namespace = parser.parse_args()
    try:
        scenes = held_out(options.data, options.limit)
        measured = map_with_model(
            partial(measure_scene, options.models, options.points), scenes, options.models, options.processes
        )
        found: dict[str, list[dict[str, Recalled]]] = {}
        for scene, item in zip(scenes, measured):
            found.setdefault(scene.dataset, []).append(item)
        table = recall_table(found)
        print(table)
        if options.page is not None:
            replace_sections(options.page, {SECTION: table})
    except GeoSamError as error:
        parser.exit(2, f"error: {error.user_message}\n")


if __name__ == "__main__":
    main()
