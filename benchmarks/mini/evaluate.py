"""Measure the exported `mini` on held-out imagery: ``python -m benchmarks.mini.evaluate --data DIR``.

The product's code runs the ONNX files, from embeddings rounded to float16 as in a store. The polygon that it would draw
is measured. A simulated user gives one click in the middle of the object, or its bounding box, then clicks in the
middle of the largest error.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from zlib import crc32

import numpy as np
import shapely
from tqdm import tqdm

from encoder_tools.mini.labelled_tiles import Tile, tiles
from encoder_tools.training.simulated_user import BOX_HIGH, BOX_LOW, POSITIVE
from geosam_es.errors import GeoSamError
from geosam_es.inference.encoder import TILE_SIZE

from ..markdown import replace_sections
from .baselines import CACHE_FOLDER, BaselineCache, has_settings
from .calibration import draw_reliability
from .exported_model import MODEL_FOLDER, OnnxMini, Prompt
from .held_out import held_out, measurement_parser
from .measuring import Measured, measure, target_of
from .process_pool import map_with_model
from .report import Summary, machine, sections, summarise, table, update_card, write_json
from .targets import targets_table

__all__ = ["OnnxMini", "evaluate", "measure_speed"]

ONNX_FILES = ("encoder.onnx", "prepare.onnx", "decoder.onnx")
RELIABILITY_PICTURE = Path("images") / "mini" / "reliability.png"


def evaluate(
    data: Path | None,
    models: Path = MODEL_FOLDER,
    limit: int | None = None,
    cache: BaselineCache | None = None,
    processes: int = 1,
) -> dict[str, Summary]:
    """Measure a model on all held-out sets.

    Parameters
    ----------
    data : Path or None
        Folder of labelled imagery; None takes ``GEOSAM_ES_DATA``.
    models : Path
        Folder of the ONNX files.
    limit : int, optional
        Approximate number of objects of each set, evenly spread, for a quick run.
    cache : BaselineCache, optional
        Keeps the results of the baselines; without it, or for a set without chosen settings, they are left out.
    processes : int
        With more than one, each uses one thread, and the calling module must be importable.

    Returns
    -------
    dict of str to dict
        What `summarise` returns, by data set.

    Raises
    ------
    RasterError
        If imagery is missing.
    ModelError
        If the model is missing or damaged.
    """
    work = [tile for scene in held_out(data, limit) for tile in tiles(scene)]
    measured = map_with_model(partial(_measure_tile, cache), work, models, processes)
    rows: dict[str, list[Measured]] = {}
    for tile, found in zip(work, tqdm(measured, total=len(work), unit="tile", disable=None)):
        rows.setdefault(tile.dataset, []).extend(found)
    return {dataset: summarise(found) for dataset, found in rows.items()}


def _measure_tile(cache: BaselineCache | None, model: OnnxMini, tile: Tile) -> list[Measured]:
    model.set_image(tile.image)
    targets = [target for target in map(target_of, tile.polygons) if target is not None]
    found = [measure(model, tile, target, crc32(shapely.to_wkb(target.polygon))) for target in targets]
    if cache is None or not has_settings(tile.dataset):
        return found
    baselines = cache.measure(tile, targets)
    return [replace(measured, values=measured.values | row) for measured, row in zip(found, baselines)]


def measure_speed(model: OnnxMini, repeats: int = 15) -> dict[str, float]:
    """Return the median milliseconds of each graph for one tile or prompt, on two threads."""
    tile = np.random.default_rng(0).integers(0, 256, (TILE_SIZE, TILE_SIZE, 3), dtype=np.uint8)
    prompts: list[Prompt] = [(300.0, 300.0, BOX_LOW), (700.0, 640.0, BOX_HIGH), (500.0, 470.0, POSITIVE)]
    model.set_image(tile)
    features = model.encoder.encode(tile[None])
    runs: dict[str, Callable[[], object]] = {
        "encoder": lambda: model.encoder.encode(tile[None]),
        "prepare": lambda: model.decoder.prepare(features),
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
    parser = measurement_parser("evaluate", __doc__)
    parser.add_argument("-o", "--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--card", type=Path, help="model card whose figures and targets are replaced")
    parser.add_argument("--page", type=Path, help="page whose tables and plot of the scores are replaced")
    parser.add_argument("--no-baselines", action="store_true", help="leave out the baselines")
    parser.add_argument("--cache", type=Path, default=CACHE_FOLDER, help="folder that caches results of the baselines")
    options = parser.parse_args()
    try:
        _report(options)
    except GeoSamError as error:
        parser.exit(2, f"error: {error.user_message}\n")


def _report(options: argparse.Namespace) -> None:
    """Measure, print the tables, and write the files of the options."""
    model = OnnxMini(options.models)
    speed = measure_speed(model)
    cache = None if options.no_baselines else BaselineCache(options.cache)
    results = evaluate(options.data, options.models, options.limit, cache, options.processes)
    megabytes = sum((options.models / name).stat().st_size for name in ONNX_FILES) / 1e6
    targets = targets_table(results, speed, megabytes)
    print(table(results), targets, *sections(results).values(), sep="\n\n")
    figures = {
        "machine": machine(),
        "encoder_sha256": model.encoder.info.encoder_sha256,
        "limit": options.limit,
        "speed_ms": speed,
        "megabytes": round(megabytes, 1),
        "results": results,
    }
    if options.out is not None:
        write_json(options.out, figures)
    if options.card is not None:
        update_card(options.card, results, speed, targets, options.limit)
    if options.page is not None:
        replace_sections(options.page, sections(results))
        draw_reliability(results, options.page.parent / RELIABILITY_PICTURE)


if __name__ == "__main__":
    main()
