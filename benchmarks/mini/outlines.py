"""Measure `mini` with strokes, outlines and old polygons as prompts: ``python -m benchmarks.mini.outlines``.

On the held-out images, each object is prompted with clicks, a scribble along its axis, a loop around it, and its
outline displaced or simplified; the user then clicks once where the answer is wrong. For `geosam-es update`, a newer
image is made of each: displaced, dimmed, with objects erased and grown. The clicks and seconds that an object takes are
compared with those that drawing its vertices by hand takes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import rasterio.features
import shapely
import shapely.affinity
from numpy.typing import NDArray
from scipy import ndimage
from shapely.geometry.base import BaseGeometry
from shapely.ops import polylabel

from encoder_tools.mini.labelled_tiles import LabelledScene
from geosam_es.core.geotransform import GeoTransform
from geosam_es.core.prompts import Bounds, Prompts
from geosam_es.core.topology import merge, polygon_parts
from geosam_es.errors import GeoSamError
from geosam_es.inference.batch import PromptFeature, SegmentOptions
from geosam_es.inference.segmenter import Segmenter
from geosam_es.inference.session import Result, SegmentationSession
from geosam_es.inference.updating import SAME, UpdatedObject, UpdateOptions, outline_prompts, update_objects

from ..markdown import markdown_table, replace_sections
from .exported_model import OnnxMini
from .held_out import held_out, measurement_parser
from .process_pool import map_with_model
from .small_objects import geometry_iou, mean_text, open_scene

__all__ = ["hand_clicks", "measure_effort", "measure_scene", "measure_update", "newer_image"]

MIN_AREA = 400.0
"""In square pixels."""

DISPLACED, SIMPLIFIED = 0.12, 0.1
"""Change of an outline relative to the square root of its area."""

ERASED, GROWN = 0.25, 0.25
"""Shares of objects that change."""

GROWTH = 1.4
SEED = 11
UPDATE_SEEDS = range(11, 16)

GOOD_IOUS = (0.85, 0.9)
MOST_CLICKS = 10
"""Who is not content then draws the object by hand."""

HAND_TOLERANCE_PX = 1.0
"""How far from the truth a border drawn by hand may lie."""

POINT_S, CLICK_S, LOOK_S = 1.1, 0.2, 1.35
"""To point, to click, and to judge an answer, by the keystroke-level model of Card, Moran and Newell."""

Image = NDArray[np.float32]
Measured = dict[str, float]


def measure_scene(models: Path, model: OnnxMini, scene: LabelledScene) -> list[Measured]:
    """Return the IoU of each answer for each object of an image."""
    with TemporaryDirectory() as folder:
        segmenter = open_scene(models, model, scene, Path(folder))
        rng = np.random.default_rng(SEED)
        return [_measure(segmenter, polygon, rng) for polygon in _measured(scene.polygons)]


def _measured(polygons: list[BaseGeometry]) -> list[shapely.Polygon]:
    parts = [max(polygon_parts(shapely.make_valid(item)), key=lambda part: part.area) for item in polygons]
    return [part for part in parts if part.area >= MIN_AREA]


def _measure(segmenter: Segmenter, truth: shapely.Polygon, rng: np.random.Generator) -> Measured:
    size, turn = float(np.sqrt(truth.area)), rng.uniform(0, 2 * np.pi)
    frame = shapely.box(*segmenter.pyramid.bounds)
    displaced = shapely.affinity.translate(truth, *(DISPLACED * size * np.array([np.cos(turn), np.sin(turn)])))
    loop = shapely.simplify(truth, SIMPLIFIED * size).buffer(0.06 * size).intersection(frame)
    user = _User(segmenter, truth)
    found = {f"{count} click{'s' * (count > 1)}": iou for count, iou in enumerate(islice(user.clicks(), 3), start=1)}
    found["box"] = user.answer(Prompts(box=Bounds(*truth.bounds)))
    found["scribble"], found["scribble + click"] = user.stroke(_axis(truth))
    found["loop"], found["loop + click"] = user.stroke(shapely.LineString(_largest(loop).exterior.coords))
    for name, outline in (("displaced", displaced), ("simplified", shapely.simplify(truth, SIMPLIFIED * size))):
        outline = _largest(outline.intersection(frame))
        found[f"{name} itself"] = geometry_iou(truth, outline)
        found[name], found[f"{name} + click"] = user.answer(Prompts(outline=outline)), user.refined(outline)
    return found


class _User:
    """Prompts one object, whose coordinates are native pixels."""

    def __init__(self, segmenter: Segmenter, truth: shapely.Polygon) -> None:
        self.segmenter, self.truth = segmenter, truth
        # How long all answers took.
        self.seconds = 0.0
        self.transform: GeoTransform = segmenter.reader.metadata.raster.transform

    def answer(self, prompts: Prompts) -> float:
        return self._iou(SegmentationSession(self.segmenter).prompt(prompts))

    def clicks(self) -> Iterator[float]:
        """Yield the IoU after each click, without end."""
        session = SegmentationSession(self.segmenter)
        middle = polylabel(self.truth, 0.5)
        yield self._iou(session.add_point(*self.transform.apply(middle.x, middle.y)))
        while True:
            yield self._corrected(session)

    def stroke(self, stroke: shapely.LineString) -> tuple[float, float]:
        session = SegmentationSession(self.segmenter)
        first = session.draw([self.transform.apply(x, y) for x, y in stroke.coords])
        return self._iou(first), self._corrected(session)

    def refined(self, outline: shapely.Polygon) -> float:
        session = SegmentationSession(self.segmenter)
        session.reshape(self.transform.apply_geometry(outline))
        return self._corrected(session)

    def _corrected(self, session: SegmentationSession) -> float:
        """Click in the middle of the largest error."""
        assert session.current is not None
        drawn = self._native(session.current.geometry)
        errors = polygon_parts(shapely.symmetric_difference(self.truth, drawn).buffer(-1.0))
        if not errors:
            return self._iou(session.current)
        middle = polylabel(max(errors, key=lambda part: part.area), 0.5)
        x, y = self.transform.apply(middle.x, middle.y)
        return self._iou(session.add_point(x, y, bool(self.truth.contains(middle))))

    def _native(self, geometry: BaseGeometry) -> BaseGeometry:
        return self.transform.inverse().apply_geometry(geometry)

    def _iou(self, result: Result) -> float:
        self.seconds += result.milliseconds / 1000.0
        return geometry_iou(self.truth, self._native(result.geometry))


def _axis(polygon: shapely.Polygon) -> shapely.LineString:
    """Return a stroke along the longer axis of an object, as far as it lies well inside."""
    corners = shapely.get_coordinates(polygon.minimum_rotated_rectangle)
    middles = (corners[:4] + corners[1:]) / 2
    ends = max(
        (middles[0], middles[2]), (middles[1], middles[3]), key=lambda pair: float(np.hypot(*(pair[0] - pair[1])))
    )
    middle = polylabel(polygon, 0.5)
    inside = polygon.buffer(-0.3 * polygon.exterior.distance(middle))
    offset = np.array([middle.x, middle.y]) - (ends[0] + ends[1]) / 2
    pieces = shapely.get_parts(shapely.LineString([ends[0] + offset, ends[1] + offset]).intersection(inside))
    lines = [piece for piece in pieces if piece.geom_type == "LineString"]
    return max(lines, key=lambda piece: piece.length) if lines else shapely.LineString([middle, middle])


def newer_image(
    scene: LabelledScene, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], list[tuple[shapely.Polygon, BaseGeometry]]]:
    """Make a newer image of a scene: some objects erased, some grown, the whole displaced and dimmed.

    Erased objects get the texture of the ground beside them, fitted to what is around them without an edge.

    Returns
    -------
    image : uint8 (H, W, 3)
    objects : list of (Polygon, geometry)
        The old outline, and the true one in the newer image; empty if the object is gone.
    """
    image = scene.image.astype(np.float32)
    frame = shapely.box(0, 0, image.shape[1], image.shape[0])
    polygons = [polygon for polygon in _measured(scene.polygons) if frame.buffer(-8).contains(polygon)]
    tree, taken = shapely.STRtree(polygons), shapely.Polygon()
    truths: dict[int, BaseGeometry] = {}
    for index in rng.permutation(len(polygons)).tolist():
        old, draw = polygons[index], rng.random()
        truths[index] = old
        grown = shapely.affinity.scale(old, GROWTH, GROWTH, origin=old.centroid)
        hole = old.buffer(6).intersection(frame)
        near = [polygons[other] for other in tree.query(grown) if other != index]
        if draw < ERASED and not hole.intersects(taken):
            ground = _ground(hole, frame, polygons, taken, rng)
            if ground is not None:
                _erase(image, hole, ground)
                truths[index], taken = shapely.Polygon(), taken.union(hole)
        elif (
            draw < ERASED + GROWN
            and frame.contains(grown)
            and all(other.intersection(grown).area < 0.05 * other.area for other in (taken, *near))
        ):
            _grow(image, scene.image, old, grown)
            truths[index], taken = grown, taken.union(grown)
    x, y = (int(value) for value in rng.integers(-5, 6, 2))
    image = ndimage.shift(image, (y, x, 0), order=1, mode="nearest") * rng.uniform(0.65, 0.95) * (1, 0.97, 0.92) + 6
    moved = [(polygons[index], shapely.affinity.translate(truth, x, y)) for index, truth in truths.items()]
    return np.clip(image, 0, 255).astype(np.uint8), moved


def _ground(
    hole: BaseGeometry,
    frame: BaseGeometry,
    objects: list[shapely.Polygon],
    taken: BaseGeometry,
    rng: np.random.Generator,
) -> tuple[int, int] | None:
    """Return the offset (x, y) to a place beside a hole that has its shape and no object; None if there is none."""
    tree = shapely.STRtree(objects)
    for _ in range(60):
        turn, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 4) * np.sqrt(hole.area)
        offset = int(far * np.cos(turn)), int(far * np.sin(turn))
        place = shapely.affinity.translate(hole, *offset)
        is_free = frame.contains(place) and not place.intersects(hole) and not place.intersects(taken)
        if is_free and not len(tree.query(place, predicate="intersects")):
            return offset
    return None


def _erase(image: Image, hole: BaseGeometry, offset: tuple[int, int]) -> None:
    window, inside = _window(hole, image.shape)
    rows, cols = np.mgrid[window]
    source = image[np.clip(rows + offset[1], 0, image.shape[0] - 1), np.clip(cols + offset[0], 0, image.shape[1] - 1)]
    # The difference at the border, continued inwards, so that no edge is left.
    difference = ndimage.uniform_filter(image[window] - source, (5, 5, 1))
    nearest = ndimage.distance_transform_edt(inside, return_distances=False, return_indices=True)
    source = source + ndimage.gaussian_filter(difference[tuple(nearest)], (4, 4, 0))
    _blend(image, window, inside, source, 1.5)


def _grow(image: Image, before: NDArray[np.uint8], old: shapely.Polygon, grown: BaseGeometry) -> None:
    window, inside = _window(grown, image.shape)
    rows, cols = np.mgrid[window].astype(np.float64)
    x, y = old.centroid.x - 0.5, old.centroid.y - 0.5
    places = (y + (rows - y) / GROWTH, x + (cols - x) / GROWTH)
    bands = [ndimage.map_coordinates(before[..., band].astype(np.float32), places, order=1) for band in range(3)]
    _blend(image, window, inside, np.stack(bands, axis=-1), 0.8)


def _window(polygon: BaseGeometry, shape: tuple[int, ...]) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    left, top, right, bottom = (int(value) for value in polygon.bounds)
    window = slice(max(0, top - 4), min(shape[0], bottom + 5)), slice(max(0, left - 4), min(shape[1], right + 5))
    local = shapely.affinity.translate(polygon, -window[1].start, -window[0].start)
    size = window[0].stop - window[0].start, window[1].stop - window[1].start
    return window, rasterio.features.rasterize([local], size, dtype="uint8").astype(bool)


def _blend(image: Image, window: tuple[slice, slice], inside: NDArray[np.bool_], source: Image, soft: float) -> None:
    weight = ndimage.gaussian_filter(inside.astype(np.float32), soft)[..., None]
    image[window] = image[window] * (1 - weight) + source * weight


def measure_update(
    models: Path,
    limit: int | None,
    model: OnnxMini,
    scene: LabelledScene,
    with_older: bool = False,
    seeds: Sequence[int] = UPDATE_SEEDS,
) -> list[tuple[str, str]]:
    """Return the true verdict and the found one of objects on a newer image of each seed, up to a number of objects.

    ``same`` is true for all objects that are neither erased nor grown.
    """
    with TemporaryDirectory() as folder:
        older = open_scene(models, model, scene, Path(folder)) if with_older else None
        return [pair for seed in seeds for pair in _verdicts(models, limit, model, scene, older, seed)]


def _verdicts(
    models: Path, limit: int | None, model: OnnxMini, scene: LabelledScene, older: Segmenter | None, seed: int
) -> list[tuple[str, str]]:
    image, objects = newer_image(scene, np.random.default_rng(seed))
    objects = objects[:limit]
    if not objects:
        return []
    newer = LabelledScene(scene.dataset, image, [])
    with TemporaryDirectory() as folder:
        segmenter = open_scene(models, model, newer, Path(folder))
        on_map = segmenter.reader.metadata.raster.transform.apply_geometry
        old = outline_prompts(PromptFeature(on_map(polygon)) for polygon, _ in objects)
        answers = update_objects(segmenter, old, SegmentOptions(), UpdateOptions(older=older), _Plane())
        found = {
            answer.index: item.verdict
            for answer in answers
            for item in answer.results
            if isinstance(item, UpdatedObject)
        }
    return [(_truth(*outlines), found.get(index, "none")) for index, outlines in enumerate(objects)]


def _truth(old: shapely.Polygon, new: BaseGeometry) -> str:
    return "gone" if new.is_empty else "changed" if new.area > 1.1 * old.area else SAME


class _Plane:
    def area_m2(self, geometry: BaseGeometry) -> float:
        return float(geometry.area)


def update_table(verdicts: dict[str, list[tuple[str, str]]]) -> str:
    """Return how often a change was found, and how often what was found is one: as counted, and if half change."""
    rows = []
    for dataset, pairs in verdicts.items():
        counts = {kind: sum(true == kind for true, _ in pairs) for kind in (SAME, "changed", "gone")}
        found = {
            kind: sum(true == kind and verdict in ("changed", "gone") for true, verdict in pairs) for kind in counts
        }
        exact = {kind: sum(true == kind == verdict for true, verdict in pairs) for kind in counts}
        real = counts["changed"] + counts["gone"]
        recall, false = (found["changed"] + found["gone"]) / max(real, 1), found[SAME] / max(counts[SAME], 1)
        numbers = [f"{exact[kind]} of {counts[kind]}" for kind in ("changed", "gone")]
        rows.append(
            [
                dataset,
                *numbers,
                f"{found[SAME]} of {counts[SAME]}",
                f"{recall:.2f}",
                f"{recall * real / max(recall * real + found[SAME], 1e-9):.2f}",
                f"{recall / max(recall + false, 1e-9):.2f}",
            ]
        )
    columns = ["set", "grown: changed", "erased: gone", "false alarms", "recall", "precision", "if half change"]
    return markdown_table(columns, rows)


def measure_effort(models: Path, model: OnnxMini, scene: LabelledScene) -> list[Measured]:
    """Return for each object of an image the clicks by hand, and those until each of `GOOD_IOUS`, accepting included.

    Seconds have an " s" after the name. NaN where `MOST_CLICKS` do not suffice.
    """
    with TemporaryDirectory() as folder:
        segmenter = open_scene(models, model, scene, Path(folder))
        return [_effort(segmenter, polygon) for polygon in _measured(scene.polygons)]


def _effort(segmenter: Segmenter, truth: shapely.Polygon) -> Measured:
    hand, user = hand_clicks(truth), _User(segmenter, truth)
    # The clicks that end a ring need no pointing.
    found: Measured = {"hand": hand, "hand s": hand * CLICK_S + (hand - 1 - len(truth.interiors)) * POINT_S}
    for count, iou in enumerate(islice(user.clicks(), MOST_CLICKS), start=1):
        seconds = found["most s"] = count * (POINT_S + CLICK_S + LOOK_S) + user.seconds
        for wanted in GOOD_IOUS:
            if iou >= wanted:
                found.setdefault(str(wanted), count + 1)
                found.setdefault(f"{wanted} s", seconds + CLICK_S)
        if iou >= max(GOOD_IOUS):
            break
    return {**{f"{wanted}{unit}": np.nan for wanted in GOOD_IOUS for unit in ("", " s")}, **found}


def hand_clicks(truth: shapely.Polygon) -> int:
    """Return the clicks that drawing a polygon with QGIS's own tools takes: its vertices, and one to end each ring."""
    # The last coordinate of a ring is its first one again.
    return int(shapely.get_num_coordinates(truth.simplify(HAND_TOLERANCE_PX)))


def effort_table(found: dict[str, list[Measured]], unit: str = "") -> str:
    """Return by data set the mean clicks per object, or with the unit " s" the seconds, and the ratio of their sums."""
    rows = []
    for name, objects in found.items():
        hand = np.array([item["hand" + unit] for item in objects])
        most = np.array([item.get("most" + unit, MOST_CLICKS) for item in objects])
        row = [f"{name} ({len(objects)})", f"{hand.mean():.1f}"]
        for wanted in GOOD_IOUS:
            clicks = np.array([item[str(wanted) + unit] for item in objects])
            gives_up = np.isnan(clicks)
            clicks = np.where(gives_up, most + hand, clicks)
            row += [f"{clicks.mean():.1f}", f"{hand.sum() / clicks.sum():.1f}", str(gives_up.sum())]
        rows.append(row)
    columns = [text.format(wanted) for wanted in GOOD_IOUS for text in ("to IoU {}", "ratio", "by hand after all")]
    return markdown_table(["set", "by hand", *columns], rows)


def prompt_table(found: dict[str, list[Measured]]) -> str:
    """Return mean IoU by data set as a Markdown table."""
    names = list(next(iter(found.values()))[0])
    rows = [[name, *(mean_text([item[name] for item in objects]) for objects in found.values())] for name in names]
    return markdown_table(["prompt", *(f"{name} ({len(objects)})" for name, objects in found.items())], rows)


def _largest(geometry: BaseGeometry) -> shapely.Polygon:
    return max(polygon_parts(merge(polygon_parts(geometry))), key=lambda part: part.area)


def main() -> None:
    """Parse the command line, measure, and print the tables."""
    parser = measurement_parser("outlines", __doc__)
    parser.add_argument("--parts", nargs="+", choices=("prompts", "update", "effort"), default=("prompts", "update"))
    parser.add_argument("--page", type=Path, help="page whose tables are replaced")
    options: argparse.Namespace = parser.parse_args()
    tables: dict[str, str] = {}
    apply = partial(map_with_model, models=options.models, processes=options.processes)
    try:
        if "prompts" in options.parts:
            scenes = held_out(options.data, options.limit)
            found: dict[str, list[Measured]] = {}
            for scene, objects in zip(scenes, apply(partial(measure_scene, options.models), scenes)):
                found.setdefault(scene.dataset, []).extend(objects)
            tables["outlines"] = prompt_table({name: objects for name, objects in found.items() if objects})
        if "update" in options.parts:
            scenes = [scene for scene in held_out(options.data) if "landcover" not in scene.dataset]
            verdicts: dict[str, list[tuple[str, str]]] = {}
            for with_older, name in ((False, ""), (True, ", with the older image")):
                measure = partial(measure_update, options.models, options.limit, with_older=with_older)
                for scene, pairs in zip(scenes, apply(measure, scenes)):
                    for key in (scene.dataset + name, "all" + name):
                        verdicts.setdefault(key, []).extend(pairs)
            tables["updates"] = update_table(verdicts)
        if "effort" in options.parts:
            scenes = [scene for scene in held_out(options.data, options.limit) if "landcover" not in scene.dataset]
            effort: dict[str, list[Measured]] = {}
            for scene, objects in zip(scenes, apply(partial(measure_effort, options.models), scenes)):
                effort.setdefault(scene.dataset, []).extend(objects)
            tables["effort"], tables["effort_seconds"] = effort_table(effort), effort_table(effort, " s")
        print("\n\n".join(tables.values()))
        if options.page is not None:
            replace_sections(options.page, tables)
    except GeoSamError as error:
        parser.exit(2, f"error: {error.user_message}\n")


if __name__ == "__main__":
    main()
