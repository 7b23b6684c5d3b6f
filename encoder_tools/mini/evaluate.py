"""Measure the exported `mini` on imagery it never saw: ``python -m encoder_tools.mini.evaluate --data DIR``.

The ONNX files are run on onnxruntime from embeddings rounded to float16, as a store keeps them. A simulated user
gives one click in the object's middle, or its bounding box, then clicks in the middle of what is wrong.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
import shapely
import shapely.affinity
from numpy.typing import NDArray
from rasterio import features
from shapely.geometry.base import BaseGeometry

from encoder_tools.mini.prompts import (
    BOX_HIGH,
    BOX_LOW,
    POSITIVE,
    cell_to_xy,
    correction,
    deepest_cell,
    depth,
    intersection_over_union,
)
from encoder_tools.mini.report import machine, summarise, table, update_card
from encoder_tools.mini.sources import (
    data_folder,
    landcover_regions,
    polygons_in_pixels,
    read_geometries,
    read_rgb,
)
from geosam_es.errors import GeoSamError, ModelError, OutputError, RasterError
from geosam_es.inference.encoder import FILL_RGB, TILE_SIZE

MODEL_FOLDER = Path(__file__).resolve().parents[2] / "geosam_es" / "models" / "mini"
STRIDE = 4
WINDOW_STEP = 256
MIN_AREA_M2 = 10.0
MIN_AREA_PIXELS = 100.0
BUILDING_PIXEL_M = 0.0746
ROUNDS = 4

Prompt = tuple[float, float, float]


@dataclass(frozen=True)
class EvaluationScene:
    """One held-out image.

    Attributes
    ----------
    dataset : str
        Row of the table it counts for.
    image : uint8 (H, W, 3)
    polygons : list of geometry
        Objects in pixel coordinates.
    """

    dataset: str
    image: NDArray[np.uint8]
    polygons: list[BaseGeometry]


class OnnxMini:
    """The three exported graphs."""

    def __init__(self, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        # Spinning threads would take the processor from a training that runs beside this.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self.encoder, self.prepare, self.decoder = (
                onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])
                for name in ("encoder", "prepare", "decoder")
            )
        except Exception as error:  # onnxruntime raises classes of its own without a common public root
            raise ModelError(f"'{folder}' holds no model ({error})", "export one first") from error
        self.context: dict[str, NDArray[np.float32]] = {}

    def set_image(self, tile: NDArray[np.uint8]) -> None:
        """Encode a uint8 (1024, 1024, 3) tile and prepare its context."""
        embeddings = self.encoder.run(None, {"images": tile[None]})[0]
        stored = embeddings.astype(np.float16).astype(np.float32)
        names = [output.name for output in self.prepare.get_outputs()]
        self.context = dict(zip(names, self.prepare.run(None, {"image_embeddings": stored})))

    def predict(
        self, prompts: list[Prompt], previous: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Answer one set of prompts: logits (4, 256, 256) and scores (4,)."""
        points = np.asarray(prompts, dtype=np.float32)
        grid = TILE_SIZE // STRIDE
        mask = np.zeros((grid, grid), dtype=np.float32) if previous is None else previous
        inputs = {
            "point_coords": points[None, :, :2],
            "point_labels": points[None, :, 2],
            "mask_input": mask[None, None],
            "has_mask_input": np.array([previous is not None], dtype=np.float32),
        }
        masks, scores = self.decoder.run(None, {**self.context, **inputs})
        return masks[0], scores[0]


def evaluation_scenes(data: Path) -> Iterator[EvaluationScene]:
    """Yield the held-out images with their objects.

    Raises
    ------
    RasterError
        Where a folder is missing.
    """
    folders = {name: data / name for name in ("buildings/val_kampala", "fields/val", "landcover/val_dubai")}
    for name, folder in folders.items():
        if not folder.is_dir():
            raise RasterError(f"'{data}' has no '{name}'", "see SOURCES.md")
    for block in sorted(folders["buildings/val_kampala"].glob("*.tif")):
        polygons = polygons_in_pixels(block.with_name("labels.geojson"), block)
        least = MIN_AREA_M2 / BUILDING_PIXEL_M**2
        yield EvaluationScene("buildings/val_kampala", read_rgb(block), [p for p in polygons if p.area >= least])
    for path in sorted(folders["fields/val"].glob("*.png")):
        image = read_rgb(path)
        frame = shapely.box(0, 0, image.shape[1], image.shape[0])
        polygons = [p.intersection(frame) for p in read_geometries(path.with_name(f"{path.stem}.pixels.geojson"))]
        yield EvaluationScene("fields/val", image, [p for p in polygons if p.area >= MIN_AREA_PIXELS])
    for path in sorted(folders["landcover/val_dubai"].glob("*/*.jpg")):
        regions = landcover_regions(path.with_suffix(".png"))
        for kind in ("water", "vegetation"):
            chosen = [polygon for name, polygon in regions if name == kind]
            if chosen:
                yield EvaluationScene(f"landcover/val_dubai {kind}", read_rgb(path), chosen)


def _origins(length: int) -> NDArray[np.int64]:
    """Return where windows begin along one axis: every 256 px, the last one at the end."""
    last = max(0, length - TILE_SIZE)
    return np.unique(np.append(np.arange(0, last, WINDOW_STEP), last))


def windows(scene: EvaluationScene) -> dict[tuple[int, int], list[BaseGeometry]]:
    """Give every object the window (x, y) in which it lies best; objects larger than a window are left out."""
    height, width = scene.image.shape[:2]
    chosen: dict[tuple[int, int], list[BaseGeometry]] = {}
    for polygon in scene.polygons:
        x0, y0, x1, y1 = polygon.bounds
        if max(x1 - x0, y1 - y0) > TILE_SIZE:
            continue
        origin = []
        for low, high, length in ((x0, x1, width), (y0, y1, height)):
            starts = _origins(length)
            margins = np.minimum(low - starts, starts + TILE_SIZE - high)
            origin.append(int(starts[int(np.argmax(margins))]))
        chosen.setdefault((origin[0], origin[1]), []).append(polygon)
    return chosen


def cut_tile(image: NDArray[np.uint8], x: int, y: int) -> NDArray[np.uint8]:
    """Cut a 1024 px window, padded on the right and at the bottom."""
    tile = np.full((TILE_SIZE, TILE_SIZE, 3), FILL_RGB, dtype=np.uint8)
    part = image[y : y + TILE_SIZE, x : x + TILE_SIZE]
    tile[: part.shape[0], : part.shape[1]] = part
    return tile


def upsample(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Interpolate logits (h, w) linearly to (4h, 4w), samples being at the middle of their cells."""
    size = logits.shape[0]
    at = np.clip((np.arange(size * STRIDE) + 0.5) / STRIDE - 0.5, 0, size - 1)
    weights = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(size))).astype(np.float32)
    return np.asarray(weights @ logits @ weights.T, dtype=np.float32)


def measure_object(model: OnnxMini, polygon: BaseGeometry) -> dict[str, float] | None:
    """Return every metric of one object in the coordinates of the current tile.

    Returns
    -------
    dict of str to float, or None
        None where the object is too thin to hold a click.
    """
    truth = features.rasterize([polygon], (TILE_SIZE, TILE_SIZE), dtype="uint8").astype(bool)
    small = np.ascontiguousarray(truth[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE])
    if not small.any():
        return None

    def iou(logits: NDArray[np.float32]) -> float:
        return intersection_over_union(truth, upsample(logits) > 0)

    x0, y0, x1, y1 = polygon.bounds
    box = np.zeros_like(truth)
    box[math.floor(y0) : math.ceil(y1), math.floor(x0) : math.ceil(x1)] = True
    found = {"box itself": intersection_over_union(truth, box)}

    clicks: list[Prompt] = [(*cell_to_xy(deepest_cell(depth(small)), STRIDE), POSITIVE)]
    masks, scores = model.predict(clicks)
    each = [iou(mask) for mask in masks[1:]]
    best = int(np.argmax(scores[1:]))
    found |= {"click": each[best], "click oracle": max(each), "click score": float(scores[1 + best])}
    after = _correct(model, small, clicks, masks[1 + best])
    found |= {"3 clicks": iou(after[1]), "5 clicks": iou(after[3])}

    sides: list[Prompt] = [(x0, y0, BOX_LOW), (x1, y1, BOX_HIGH)]
    masks, scores = model.predict(sides)
    after = _correct(model, small, sides, masks[0])
    found |= {"box": iou(masks[0]), "box score": float(scores[0])}
    return found | {"box + 1": iou(after[0]), "box + 3": iou(after[2])}


def _correct(
    model: OnnxMini, truth: NDArray[np.bool_], prompts: list[Prompt], logits: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    """Return the logits after one, two, ... corrective clicks."""
    given = list(prompts)
    answers = []
    for _ in range(ROUNDS):
        wrong = correction(truth, logits > 0)
        if wrong is not None:
            cell, label = wrong
            given.append((*cell_to_xy(cell, STRIDE), label))
            logits = model.predict(given, logits)[0][0]
        answers.append(logits)
    return answers


def evaluate(data: Path | None, models: Path = MODEL_FOLDER, limit: int | None = None) -> dict[str, dict[str, object]]:
    """Measure a model on all held-out sets.

    Parameters
    ----------
    data : Path or None
        Folder of labelled imagery; None takes ``GEOSAM_ES_DATA``.
    models : Path
        Folder of the ONNX files.
    limit : int, optional
        About how many objects of each set to take, evenly spread, for a quick look.

    Returns
    -------
    dict of str to dict
        For each data set what `summarise` returns.
    """
    model = OnnxMini(models)
    rows: dict[str, list[dict[str, float]]] = {}
    for scene in _thinned(list(evaluation_scenes(data_folder(data))), limit):
        for (x, y), polygons in windows(scene).items():
            model.set_image(cut_tile(scene.image, x, y))
            for polygon in polygons:
                row = measure_object(model, shapely.affinity.translate(polygon, -x, -y))
                if row is not None:
                    rows.setdefault(scene.dataset, []).append(row)
    return {dataset: summarise(found) for dataset, found in rows.items()}


def _thinned(scenes: list[EvaluationScene], limit: int | None) -> list[EvaluationScene]:
    """Keep every n-th object so that about `limit` remain of each set."""
    if limit is None:
        return scenes
    totals: dict[str, int] = {}
    for scene in scenes:
        totals[scene.dataset] = totals.get(scene.dataset, 0) + len(scene.polygons)
    steps = {dataset: max(1, round(total / limit)) for dataset, total in totals.items()}
    return [replace(scene, polygons=scene.polygons[:: steps[scene.dataset]]) for scene in scenes]


def measure_speed(model: OnnxMini, repeats: int = 15) -> dict[str, float]:
    """Return the median milliseconds of each graph for one tile or prompt, on two threads."""
    tile = np.random.default_rng(0).integers(0, 256, (1, TILE_SIZE, TILE_SIZE, 3), dtype=np.uint8)
    prompts: list[Prompt] = [(300.0, 300.0, BOX_LOW), (700.0, 640.0, BOX_HIGH), (500.0, 470.0, POSITIVE)]
    model.set_image(tile[0])
    embeddings = model.encoder.run(None, {"images": tile})[0]
    runs: dict[str, Callable[[], object]] = {
        "encoder": lambda: model.encoder.run(None, {"images": tile}),
        "prepare": lambda: model.prepare.run(None, {"image_embeddings": embeddings}),
        "decoder": lambda: model.predict(prompts),
    }
    medians = {}
    for name, run in runs.items():
        times = []
        for _ in range(repeats):
            begun = time.perf_counter()
            run()
            times.append(1000 * (time.perf_counter() - begun))
        medians[name] = round(float(np.median(times)), 1)
    return medians


def main() -> None:
    """Parse the command line, measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m encoder_tools.mini.evaluate", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of labelled imagery (default: GEOSAM_ES_DATA)")
    parser.add_argument("--models", type=Path, default=MODEL_FOLDER, help="folder of the ONNX files")
    parser.add_argument("-o", "--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--limit", type=int, help="about how many objects of each set, for a quick look")
    parser.add_argument("--card", type=Path, help="model card whose figures are replaced")
    options = parser.parse_args()
    try:
        _report(options)
    except GeoSamError as error:
        parser.exit(2, f"error: {error.user_message}\n")


def _report(options: argparse.Namespace) -> None:
    """Measure, print the table, and write what was asked for."""
    speed = measure_speed(OnnxMini(options.models))
    results = evaluate(options.data, options.models, options.limit)
    print(table(results))
    figures = {"machine": machine(), "limit": options.limit, "speed_ms": speed, "results": results}
    print(json.dumps({"machine": figures["machine"], "speed_ms": speed}))
    try:
        if options.out is not None:
            options.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        if options.card is not None:
            update_card(options.card, results, speed, options.limit)
    except OSError as error:
        raise OutputError(f"cannot write the figures ({error})", "choose another file") from error


if __name__ == "__main__":
    main()
