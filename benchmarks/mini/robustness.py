"""The accuracy of `mini` on changed images: ``python -m benchmarks.mini.robustness --data DIR --page PAGE``.

One click in the middle and the bounding box, as in the evaluation, on the held-out images under each of `CHANGES`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from encoder_tools.mini.labelled_tiles import MIN_AREA_PIXELS, LabelledScene, tiles
from encoder_tools.mini.sources import data_folder
from geosam_es.errors import GeoSamError

from ..markdown import markdown_table, replace_sections
from .exported_model import OnnxMini
from .held_out import held_out, measurement_parser
from .image_changes import CHANGES, Change, NearInfrared, changed
from .measuring import User, target_of
from .process_pool import map_with_model
from .report import write_json
from .targets import short_name

__all__ = ["measure_changes", "robustness_table"]

PROMPTS = ("click", "box")
UNCHANGED = "unchanged"

Answers = dict[int, tuple[float, float]]
"""IoU for a click and for the box, by the index of the object in its scene."""

Figures = dict[str, dict[str, dict[str, list[float]]]]
"""By change, data set and prompt: mean IoU, mean IoU of the same objects in unchanged images, and their number."""


def first_answers(model: OnnxMini, scene: LabelledScene) -> Answers:
    """Return the IoU of the mask shown first for every object of at least 100 pixels."""
    answers: Answers = {}
    for tile in tiles(scene):
        model.set_image(tile.image)
        for number, polygon in zip(tile.numbers, tile.polygons):
            target = target_of(polygon) if polygon.area >= MIN_AREA_PIXELS else None
            if target is not None:
                user = User(model, tile, target)
                answers[number] = user.first([target.click]), user.first(target.box)
    return answers


def _answers_after(near_infrared: NearInfrared, model: OnnxMini, item: tuple[Change | None, LabelledScene]) -> Answers:
    change, scene = item
    seen = scene if change is None else changed(scene, change, near_infrared)
    return {} if seen is None else first_answers(model, seen)


def measure_changes(data: Path | None, models: Path, limit: int | None = None, processes: int = 1) -> Figures:
    """Measure the model under each change, and on the same objects in unchanged images.

    Parameters
    ----------
    data : Path or None
        Folder of labelled imagery; None takes ``GEOSAM_ES_DATA``.
    models : Path
        Folder of the ONNX files.
    limit : int, optional
        Approximate number of objects of each set.
    processes : int

    Raises
    ------
    RasterError
        If imagery is missing.
    ModelError
        If the model is missing or damaged.
    """
    folder = data_folder(data)
    scenes = held_out(folder, limit)
    items = [(change, scene) for change in (None, *CHANGES) for scene in scenes]
    answers = map_with_model(partial(_answers_after, NearInfrared(folder)), items, models, processes)
    found = list(tqdm(answers, total=len(items), unit="scene", disable=None))
    unchanged = found[: len(scenes)]
    figures: Figures = {}
    for place, change in enumerate((None, *CHANGES)):
        part = found[place * len(scenes) : (place + 1) * len(scenes)]
        figures[UNCHANGED if change is None else change[0]] = _compare(scenes, unchanged, part)
    return figures


def _compare(
    scenes: list[LabelledScene], before: list[Answers], after: list[Answers]
) -> dict[str, dict[str, list[float]]]:
    pairs: dict[str, list[tuple[tuple[float, float], tuple[float, float]]]] = defaultdict(list)
    for scene, old, new in zip(scenes, before, after):
        pairs[scene.dataset] += [(new[number], old[number]) for number in new if number in old]
    result = {}
    for dataset, found in pairs.items():
        if found:
            means = np.asarray(found).mean(axis=0)
            result[dataset] = {
                prompt: [round(float(means[0, place]), 3), round(float(means[1, place]), 3), len(found)]
                for place, prompt in enumerate(PROMPTS)
            }
    return result


def robustness_table(figures: Mapping[str, Mapping[str, Mapping[str, list[float]]]]) -> str:
    """Return a Markdown table: mean IoU, and in brackets the difference from unchanged images."""
    columns = [(dataset, prompt) for dataset in figures[UNCHANGED] for prompt in PROMPTS]
    rows = []
    for name, sets in figures.items():
        cells = []
        for dataset, prompt in columns:
            mean, before, count = sets[dataset][prompt] if dataset in sets else (0.0, 0.0, 0)
            fewer = count < figures[UNCHANGED][dataset][prompt][2]
            change = "" if name == UNCHANGED else f" ({mean - before:+.3f})"
            cells.append(f"{mean:.3f}{change}" + (f", {count:.0f} objects" if fewer else "") if count else "")
        rows.append([name, *cells])
    header = [f"{short_name(dataset)}, {prompt}" for dataset, prompt in columns]
    return markdown_table(["image", *header], rows)


def main() -> None:
    """Parse the command line, measure and print the table."""
    parser = measurement_parser("robustness", __doc__)
    parser.add_argument("-o", "--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--page", type=Path, help="page whose table of robustness is replaced")
    options = parser.parse_args()
    try:
        figures = measure_changes(options.data, options.models, options.limit, options.processes)
        text = robustness_table(figures)
        fit = NearInfrared(data_folder(options.data)).r_squared
        text += f"\n\nThe simulated near infrared explains {fit:.0%} of the variance of the real band it was fitted to."
        print(text)
        if options.out is not None:
            write_json(options.out, figures)
        if options.page is not None:
            replace_sections(options.page, {"robustness": text})
    except GeoSamError as error:
        parser.exit(2, f"error: {error.user_message}\n")


if __name__ == "__main__":
    main()
