"""Measure "find more like this" with `mini`: ``python -m benchmarks.mini.similar``.

Of each held-out image some objects are examples, drawn at random; the others are to be found. A simulated user then
judges the 20 most doubtful of the objects found, in rounds: those with an IoU of at least 0.5 with a true object are
accepted, the rest rejected. The result is what was accepted and what is found besides; what was rejected is not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from encoder_tools.mini.labelled_tiles import LabelledScene
from geosam_es.errors import GeoSamError
from geosam_es.inference.segmenter import Segmenter
from geosam_es.inference.similar import SimilarObjects

from ..markdown import markdown_table, replace_sections
from .exported_model import OnnxMini
from .held_out import held_out, measurement_parser
from .process_pool import map_with_model
from .small_objects import open_scene

__all__ = ["Matches", "Trial", "match", "measure_scene", "rounds", "similar_table"]

EXAMPLES = (1, 3, 10)
JUDGED = 20
ROUNDS = 5
DRAWS = 3
"""Draws of examples of each image."""

THRESHOLD = 0.5
DOUBTFUL = 0.3
"""Least likeness of what the simulated user is shown."""

LEAST_LEFT = 10
"""Objects that an image must have besides the examples."""

IOU = 0.5
SECTION = "similar"


class Matches(NamedTuple):
    """How many objects were found, of how many, and how many polygons there are."""

    found: int
    polygons: int
    objects: int

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.found / max(self.polygons + self.objects, 1)


class Trial(NamedTuple):
    """The matches after each round, of one draw of examples."""

    dataset: str
    examples: int
    matches: list[Matches]


def overlaps(polygons: Sequence[BaseGeometry], others: Sequence[BaseGeometry]) -> NDArray[np.float64]:
    """Return the IoU (N, M) of all pairs of polygons."""
    ious = np.zeros((len(polygons), len(others)))
    first, second = np.array(polygons, dtype=object), np.array(others, dtype=object)
    rows, cols = shapely.STRtree(second).query(first, predicate="intersects")
    common = shapely.area(shapely.intersection(first[rows], second[cols]))
    ious[rows, cols] = common / (shapely.area(first[rows]) + shapely.area(second[cols]) - common)
    return ious


def match(polygons: Sequence[BaseGeometry], truth: Sequence[BaseGeometry]) -> Matches:
    """Pair polygons with true objects one to one, the largest IoU first, from an IoU of 0.5 on."""
    ious = overlaps(polygons, truth)
    found = 0
    while ious.size and ious.max() >= IOU:
        row, col = np.unravel_index(int(ious.argmax()), ious.shape)
        ious[row], ious[:, col] = 0.0, 0.0
        found += 1
    return Matches(found, len(polygons), len(truth))


def rounds(segmenter: Segmenter, examples: Sequence[BaseGeometry], truth: Sequence[BaseGeometry]) -> list[Matches]:
    """Search, and let the simulated user judge; return the matches before and after each round."""
    finder = SimilarObjects(segmenter, examples)
    accepted: list[BaseGeometry] = []
    matches = []
    for number in range(ROUNDS + 1):
        shown = list(finder.search(threshold=DOUBTFUL))
        matches.append(match([*accepted, *(item.polygon for item in shown if item.likeness >= THRESHOLD)], truth))
        if number < ROUNDS:
            shown.sort(key=lambda item: abs(item.likeness - THRESHOLD))
            judged = [item.polygon for item in shown[:JUDGED]]
            is_right = overlaps(judged, truth).max(axis=1, initial=0) >= IOU
            right = [polygon for polygon, yes in zip(judged, is_right) if yes]
            finder.learn(right, [polygon for polygon, yes in zip(judged, is_right) if not yes])
            accepted += right
    return matches


def measure_scene(models: Path, draws: int, model: OnnxMini, scene: LabelledScene) -> list[Trial]:
    """Encode an image, and search with examples drawn at random."""
    objects = [shapely.make_valid(polygon) for polygon in scene.polygons]
    counts = [count for count in EXAMPLES if len(objects) - count >= LEAST_LEFT]
    trials = []
    with TemporaryDirectory() as folder:
        segmenter = open_scene(models, model, scene, Path(folder))
        for tile in segmenter.pyramid if counts else ():
            segmenter.provide(tile)
        for count in counts:
            for draw in range(draws):
                chosen = np.random.default_rng(draw).permutation(len(objects))
                examples, truth = ([objects[index] for index in part] for part in (chosen[:count], chosen[count:]))
                trials.append(Trial(scene.dataset, count, rounds(segmenter, examples, truth)))
    return trials


def similar_table(trials: Sequence[Trial]) -> str:
    """Return F1 by data set, number of examples and round as a Markdown table; images count by their objects."""
    header = ["set", "examples", "precision", "recall", "F1", *(f"after {n * JUDGED}" for n in range(1, ROUNDS + 1))]
    rows = []
    for dataset, count in dict.fromkeys((trial.dataset, trial.examples) for trial in trials):
        group = [trial.matches for trial in trials if (trial.dataset, trial.examples) == (dataset, count)]
        totals = [Matches(*np.sum(matches, axis=0).tolist()) for matches in zip(*group)]
        first = totals[0]
        ratios = [first.found / max(first.polygons, 1), first.found / first.objects, *(item.f1 for item in totals)]
        rows.append([dataset, str(count), *(f"{ratio:.2f}" for ratio in ratios)])
    return markdown_table(header, rows)


def main() -> None:
    """Parse the command line, measure, and print the table or write it into a page."""
    parser = measurement_parser("similar", __doc__)
    parser.add_argument("--draws", type=int, default=DRAWS, help="draws of examples of each image")
    parser.add_argument("--sets", nargs="+", help="names of sets to measure (default: all)")
    parser.add_argument("--page", type=Path, help="page whose table is replaced")
    options = parser.parse_args()
    try:
        scenes = [scene for scene in held_out(options.data) if not options.sets or scene.dataset in options.sets]
        work = partial(measure_scene, options.models, options.draws)
        measured = map_with_model(work, scenes, options.models, options.processes)
        table = similar_table([trial for trials in measured for trial in trials])
        print(table)
        if options.page is not None:
            replace_sections(options.page, {SECTION: table})
    except GeoSamError as error:
        parser.exit(2, f"error: {error.user_message}\n")


if __name__ == "__main__":
    main()
