"""Baselines without training on the same objects and prompts: flood fill, superpixels, and GrabCut in the box.

Their settings are chosen on the training images, separately for each kind of object, and saved beside this file:
``python -m benchmarks.mini.baselines --data DIR``. Results are cached, because they take longer than the model. Needs
OpenCV and scikit-image: ``pip install 'geosam-es[mini-eval]'``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from encoder_tools.evaluation.metrics import intersection_over_union
from encoder_tools.mini.labelled_tiles import LabelledScene, Tile, tiles, training_scenes
from encoder_tools.mini.sources import data_folder
from geosam_es.errors import GeoSamError, ModelError, OutputError

from .measuring import Target, box_pixels, target_of

__all__ = ["BASELINES", "BaselineCache", "Settings", "chosen_settings", "has_settings", "measure_baselines"]

SETTINGS_FILE = Path(__file__).with_name("baselines.json")
CACHE_FOLDER = Path("runs") / "baselines"
BASELINES = ("flood fill", "Felzenszwalb", "SLIC", "GrabCut")
KINDS = ("buildings", "fields", "landcover water", "landcover vegetation", "coast")
"""Kinds of objects of the held-out sets."""

TUNING_OBJECTS = 48
TUNING_OBJECTS_OF_TILE = 8
MIN_MARGIN = 16
COLLAPSED = 0.3
CODE = Path(__file__).read_bytes()
"""This file as imported, so that results of a process started before an edit are not taken for the new code's."""

Mask = NDArray[np.bool_]
Settings = dict[str, float]
Finder = Callable[[Target], Mask]

Grid = dict[str, tuple[float, ...]]

GRID: dict[str, Grid] = {
    "flood fill": {"sigma": (0, 1, 2, 4), "tolerance": (5, 8, 12, 18, 26, 38, 55, 80)},
    "Felzenszwalb": {"sigma": (0.4, 0.8, 1.6), "scale": (19, 38, 75, 150, 300, 600, 1200, 2400, 4800)},
    "SLIC": {
        "compactness": (1.25, 2.5, 5, 10, 20, 40),
        "area": (400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 102400, 204800),
    },
    "GrabCut": {"core": (0, 0.25, 0.5, 0.75, 0.9), "margin": (0.05, 0.1, 0.25, 0.5, 1.0), "iterations": (1, 2, 4, 8)},
}
"""Values tried, starting in the middle: sigma of a Gaussian in pixels; tolerance in grey values of the channel that
differs most; scikit-image's scale; area of a superpixel in pixels; the ellipse that is certainly object, as a share of
the ellipse that fills the box; margin around the box as a share of its longer side."""


@dataclass
class BaselineCache:
    """Cached IoU of every baseline for each object, one file for each tile.

    Parameters
    ----------
    folder : Path
    """

    folder: Path = CACHE_FOLDER

    def measure(self, tile: Tile, targets: list[Target]) -> list[dict[str, float]]:
        """Return the IoU of each baseline for each target, from the cache where possible."""
        settings = chosen_settings(tile.dataset)
        path = self.folder / f"{_key(tile, settings)}.json"
        known: dict[str, dict[str, float]] = {}
        if path.is_file():
            known = json.loads(path.read_text(encoding="utf-8"))
        names = [_name(target) for target in targets]
        missing = [target for name, target in zip(names, targets) if name not in known]
        if missing:
            found = measure_baselines(tile, missing, settings)
            known |= dict(zip([name for name in names if name not in known], found))
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                partial = path.with_suffix(f".{os.getpid()}.part")
                partial.write_text(json.dumps(known), encoding="utf-8")
                partial.replace(path)
            except OSError as error:
                raise OutputError(
                    f"cannot write to '{self.folder}' ({error.strerror})", "choose another --cache"
                ) from error
        return [known[name] for name in names]


def _key(tile: Tile, settings: dict[str, Settings]) -> str:
    """Hash the pixels, the settings and the code."""
    digest = hashlib.sha256(tile.image.tobytes())
    digest.update(f"{tile.width} {tile.height} {json.dumps(settings, sort_keys=True)}".encode())
    digest.update(CODE)
    return digest.hexdigest()


def _name(target: Target) -> str:
    return hashlib.sha256(shapely.to_wkb(target.polygon) + repr(target.click).encode()).hexdigest()


def chosen_settings(dataset: str) -> dict[str, Settings]:
    """Return the settings of every baseline for a data set, by the kind of its objects.

    Raises
    ------
    ModelError
        If none have been chosen.
    """
    kind = _kind(dataset)
    try:
        chosen = json.loads(SETTINGS_FILE.read_text(encoding="utf-8"))[kind]
        return {name: chosen[name]["settings"] for name in BASELINES}
    except (OSError, ValueError, KeyError) as error:
        remedy = "choose them with: python -m benchmarks.mini.baselines --data DIR"
        raise ModelError(f"'{SETTINGS_FILE}' has no settings for {kind}", remedy) from error


def has_settings(dataset: str) -> bool:
    """Return whether settings have been chosen for the kind of objects of a data set."""
    return _kind(dataset) in json.loads(SETTINGS_FILE.read_text(encoding="utf-8"))


def _kind(dataset: str) -> str:
    """Return the kind of objects of a data set, as ``fields`` of ``fields/val``."""
    folder, _, rest = dataset.partition("/")
    return f"{folder} {rest.partition(' ')[2]}".strip()


def measure_baselines(tile: Tile, targets: list[Target], settings: dict[str, Settings]) -> list[dict[str, float]]:
    """Return the IoU of each baseline for each target."""
    image = np.ascontiguousarray(tile.image[: tile.height, : tile.width])
    rows: list[dict[str, float]] = [{} for _ in targets]
    for name in BASELINES:
        find = _finder(name, image, settings[name])
        for row, target in zip(rows, targets):
            row[name] = _iou(target, find(target), tile)
    return rows


def _iou(target: Target, found: Mask, tile: Tile) -> float:
    return intersection_over_union(target.truth[: tile.height, : tile.width], found)


def _finder(name: str, image: NDArray[np.uint8], settings: Settings) -> Finder:
    """Return a baseline for an image (H, W, 3) that answers targets with masks (H, W)."""
    maker = {"flood fill": _flood, "Felzenszwalb": _felzenszwalb, "SLIC": _slic, "GrabCut": _grabcut}[name]
    try:
        return maker(image, settings)
    except ImportError as error:
        raise ModelError(f"{name} needs {error.name}", "pip install 'geosam-es[mini-eval]'") from error


def _flood(image: NDArray[np.uint8], settings: Settings) -> Finder:
    """Find the connected pixels whose colour differs from the clicked one by at most the tolerance in any channel."""
    from scipy import ndimage

    sigma = settings["sigma"]
    smooth = ndimage.gaussian_filter(image.astype(np.float32), (sigma, sigma, 0)) if sigma else image.astype(np.float32)

    def find(target: Target) -> Mask:
        x, y = int(target.click[0]), int(target.click[1])
        alike = np.abs(smooth - smooth[y, x]).max(axis=2) <= settings["tolerance"]
        labels, _ = ndimage.label(alike)
        return np.asarray(labels == labels[y, x], dtype=np.bool_)

    return find


def _clicked(labels: NDArray[Any]) -> Finder:
    return lambda target: np.asarray(labels == labels[int(target.click[1]), int(target.click[0])], dtype=np.bool_)


def _felzenszwalb(image: NDArray[np.uint8], settings: Settings) -> Finder:
    from skimage.segmentation import felzenszwalb

    return _clicked(felzenszwalb(image, scale=settings["scale"], sigma=settings["sigma"], min_size=50))


def _slic(image: NDArray[np.uint8], settings: Settings) -> Finder:
    from skimage.segmentation import slic

    count = max(2, round(image.shape[0] * image.shape[1] / settings["area"]))
    return _clicked(slic(image, n_segments=count, compactness=settings["compactness"], start_label=0))


def _grabcut(image: NDArray[np.uint8], settings: Settings) -> Finder:
    """Find what differs in colour from the surroundings of the box; what lies outside of it is background.

    Where little of the box is left, the box is the answer: whoever sees that would keep it.
    """
    import cv2

    cv2.setNumThreads(1)
    height, width = image.shape[:2]

    def find(target: Target) -> Mask:
        x0, y0, x1, y1 = target.polygon.bounds
        margin = max(MIN_MARGIN, settings["margin"] * max(x1 - x0, y1 - y0))
        around = (
            slice(max(0, int(y0 - margin)), int(y1 + margin) + 1),
            slice(max(0, int(x0 - margin)), int(x1 + margin) + 1),
        )
        box = box_pixels(target.polygon.bounds)[:height, :width][around]
        labels = np.where(box, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
        labels[box & _core(box, settings["core"])] = cv2.GC_FGD
        # Without background there is nothing to tell the object from.
        if not box.all():
            cv2.setRNGSeed(0)
            crop, models = np.ascontiguousarray(image[around]), np.zeros((2, 1, 65))
            rounds = int(settings["iterations"])
            cv2.grabCut(crop, labels, (0, 0, 1, 1), models[0], models[1], rounds, cv2.GC_INIT_WITH_MASK)
        found = np.zeros((height, width), dtype=np.bool_)
        kept = (labels == cv2.GC_PR_FGD) | (labels == cv2.GC_FGD)
        found[around] = kept if kept.sum() >= COLLAPSED * box.sum() else box
        return found

    return find


def _core(box: Mask, share: float) -> Mask:
    """Return the ellipse in the middle of a box whose axes are a share of the box's sides."""
    (top, bottom), (left, right) = (
        (lines[0], lines[-1] + 1) for lines in map(np.flatnonzero, (box.any(1), box.any(0)))
    )
    rows = (2 * np.arange(box.shape[0]) + 1 - top - bottom) / (bottom - top)
    columns = (2 * np.arange(box.shape[1]) + 1 - left - right) / (right - left)
    return np.asarray(rows[:, None] ** 2 + columns**2 < share**2, dtype=np.bool_)


def choose(kind: str, scenes: list[LabelledScene], names: Sequence[str]) -> dict[str, dict[str, object]]:
    """Find the best settings of each baseline named on some objects of training images.

    Returns
    -------
    dict of baseline to dict
        ``settings``, the ``mean_iou`` that they reach there, and how many ``objects`` of how many ``tiles`` these were.
    """
    work = list(_tuning_targets(scenes))
    chosen = {name: _best(name, work) for name in names}
    print(kind, json.dumps(chosen), flush=True)
    return chosen


def _tuning_targets(scenes: list[LabelledScene]) -> Iterator[tuple[Tile, list[Target]]]:
    """Yield a few objects of tiles of different scenes, and of further tiles of them once each has had its turn."""
    rng = np.random.default_rng(0)
    shuffled = [scenes[number] for number in rng.permutation(len(scenes))]
    fullest_first = (sorted(tiles(scene), key=lambda tile: -len(tile.polygons)) for scene in shuffled)
    turns = chain.from_iterable(zip_longest(*fullest_first))
    wanted = TUNING_OBJECTS
    for tile in turns:
        if tile is None:
            continue
        count = min(wanted, TUNING_OBJECTS_OF_TILE)
        some = [tile.polygons[number] for number in rng.permutation(len(tile.polygons))[:count]]
        targets = [target for target in map(target_of, some) if target is not None]
        yield tile, targets
        wanted -= len(targets)
        if not wanted:
            return


def _best(name: str, work: list[tuple[Tile, list[Target]]]) -> dict[str, object]:
    """Climb from the middle of the grid, one step along one setting at a time, until none of these steps is better."""
    axes = GRID[name]
    known: dict[tuple[int, ...], float] = {}

    def score(place: tuple[int, ...]) -> float:
        if place not in known:
            known[place] = _mean_iou(name, _settings_at(axes, place), work)
        return known[place]

    best = tuple(len(values) // 2 for values in axes.values())
    climbing = True
    while climbing:
        begun = best
        for axis, values in enumerate(axes.values()):
            steps = [best[axis] + step for step in (-1, 1) if 0 <= best[axis] + step < len(values)]
            best = max([best, *((*best[:axis], step, *best[axis + 1 :]) for step in steps)], key=score)
        climbing = best != begun
    return {
        "settings": _settings_at(axes, best),
        "mean_iou": round(score(best), 4),
        "objects": sum(len(targets) for _, targets in work),
        "tiles": len(work),
    }


def _settings_at(axes: Grid, place: tuple[int, ...]) -> Settings:
    return {key: float(values[step]) for (key, values), step in zip(axes.items(), place)}


def _mean_iou(name: str, settings: Settings, work: list[tuple[Tile, list[Target]]]) -> float:
    ious = []
    for tile, targets in work:
        find = _finder(name, np.ascontiguousarray(tile.image[: tile.height, : tile.width]), settings)
        ious += [_iou(target, find(target), tile) for target in targets]
    return float(np.mean(ious))


def main() -> None:
    """Choose the settings on the training images and write them down."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mini.baselines", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of labelled imagery (default: GEOSAM_ES_DATA)")
    parser.add_argument("--only", choices=BASELINES, help="choose for this one, and leave the others as they are")
    parser.add_argument(
        "--kinds", choices=KINDS, nargs="+", default=KINDS, help="kinds to choose settings for; the others keep theirs"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: one for each core")
    options = parser.parse_args()
    try:
        scenes: dict[str, list[LabelledScene]] = {}
        for scene in chain.from_iterable(training_scenes(data_folder(options.data)).values()):
            if _kind(scene.dataset) in options.kinds:
                scenes.setdefault(_kind(scene.dataset), []).append(scene)
        names = [options.only] if options.only else list(BASELINES)
        with ProcessPoolExecutor(options.processes) as pool:
            found = dict(zip(scenes, pool.map(choose, scenes, scenes.values(), [names] * len(scenes))))
        known = json.loads(SETTINGS_FILE.read_text(encoding="utf-8"))
        chosen = known | {kind: {**known.get(kind, {}), **best} for kind, best in found.items()}
        SETTINGS_FILE.write_text(json.dumps(chosen, indent=1) + "\n", encoding="utf-8")
    except GeoSamError as error:
        parser.exit(2, f"error: {error.user_message}\n")


if __name__ == "__main__":
    main()
