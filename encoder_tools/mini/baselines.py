"""What needs no training, on the same objects and prompts: flood fill, superpixels, and GrabCut in the box.

Their settings are chosen on the training images, for each kind of imagery by itself, and written down beside this
file: ``python -m encoder_tools.mini.baselines --data DIR``. Results are kept in a folder, by what they depend on,
because they take longer than the model. Needs OpenCV and scikit-image: ``pip install 'geosam-es[mini-eval]'``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from encoder_tools.mini.heldout import EvaluationScene, Tile, tiles, training_scenes
from encoder_tools.mini.measuring import Target, box_pixels, target_of
from encoder_tools.mini.prompts import intersection_over_union
from encoder_tools.mini.sources import data_folder
from geosam_es.errors import GeoSamError, ModelError, OutputError

__all__ = ["BASELINES", "BaselineCache", "Settings", "chosen_settings", "measure_baselines"]

SETTINGS_FILE = Path(__file__).with_name("baselines.json")
CACHE_FOLDER = Path("runs") / "baselines"
BASELINES = ("flood fill", "Felzenszwalb", "SLIC", "GrabCut")
TUNING_TILES = 3
TUNING_OBJECTS = 6
MIN_MARGIN = 16
COLLAPSED = 0.05

Mask = NDArray[np.bool_]
Settings = dict[str, float]
Finder = Callable[[Target], Mask]

GRID: dict[str, dict[str, tuple[float, ...]]] = {
    "flood fill": {"sigma": (0, 2), "tolerance": (8, 12, 18, 26, 38, 55, 80)},
    "Felzenszwalb": {"sigma": (0.8,), "scale": (150, 600, 2400)},
    "SLIC": {"compactness": (10,), "area": (1600, 6400, 25600)},
    "GrabCut": {"margin": (0.25, 1.0), "iterations": (1, 5)},
}
"""What is tried: sigma of a Gaussian in pixels; tolerance in grey values of the most different channel; scale as
scikit-image has it; area of a superpixel in pixels; margin around the box as a share of its longer side."""


@dataclass
class BaselineCache:
    """IoU of every baseline at objects seen before, one file for each tile.

    Parameters
    ----------
    folder : Path
    """

    folder: Path = CACHE_FOLDER

    def measure(self, tile: Tile, targets: list[Target]) -> list[dict[str, float]]:
        """Return the IoU of each baseline for each target, from the file where it is known."""
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
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()


def _name(target: Target) -> str:
    return hashlib.sha256(shapely.to_wkb(target.polygon) + repr(target.click).encode()).hexdigest()


def chosen_settings(dataset: str) -> dict[str, Settings]:
    """Return the settings of every baseline for a data set, whose name begins with the kind of imagery.

    Raises
    ------
    ModelError
        Where none have been chosen.
    """
    kind = dataset.partition("/")[0]
    try:
        chosen = json.loads(SETTINGS_FILE.read_text(encoding="utf-8"))[kind]
        return {name: chosen[name]["settings"] for name in BASELINES}
    except (OSError, ValueError, KeyError) as error:
        remedy = "choose them with: python -m encoder_tools.mini.baselines --data DIR"
        raise ModelError(f"'{SETTINGS_FILE}' has no settings for {kind}", remedy) from error


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
    """Return a baseline that knows its image (H, W, 3) and answers targets with masks (H, W)."""
    maker = {"flood fill": _flood, "Felzenszwalb": _felzenszwalb, "SLIC": _slic, "GrabCut": _grabcut}[name]
    try:
        return maker(image, settings)
    except ImportError as error:
        raise ModelError(f"{name} needs {error.name}", "pip install 'geosam-es[mini-eval]'") from error


def _flood(image: NDArray[np.uint8], settings: Settings) -> Finder:
    """Find the connected pixels whose colour differs from the one clicked by at most the tolerance in any channel."""
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

    Where next to nothing of the box is left, the box is the answer: whoever sees that would keep it.
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
        # Without background there is nothing to tell the object from.
        if not box.all():
            cv2.setRNGSeed(0)
            crop, models = np.ascontiguousarray(image[around]), np.zeros((2, 1, 65))
            rounds = int(settings["iterations"])
            cv2.grabCut(crop, labels, (0, 0, 1, 1), models[0], models[1], rounds, cv2.GC_INIT_WITH_MASK)
        found = np.zeros((height, width), dtype=np.bool_)
        kept = labels == cv2.GC_PR_FGD
        found[around] = kept if kept.sum() >= COLLAPSED * box.sum() else box
        return found

    return find


def _combinations(name: str) -> Iterator[Settings]:
    keys = GRID[name]
    for values in product(*keys.values()):
        yield dict(zip(keys, (float(value) for value in values)))


def choose(kind: str, scenes: list[EvaluationScene], names: Sequence[str]) -> dict[str, dict[str, object]]:
    """Try every combination on some objects of training images and return the best of each baseline named.

    Returns
    -------
    dict of baseline to dict
        ``settings``, the ``mean_iou`` that they reach there, and ``objects``.
    """
    found = [tile for scene in scenes for tile in tiles(scene) if len(tile.polygons) >= TUNING_OBJECTS]
    sample = found[:: max(1, len(found) // TUNING_TILES)][:TUNING_TILES]
    work = [(tile, _some_targets(tile)) for tile in sample]
    chosen = {name: _best(name, work) for name in names}
    print(kind, json.dumps(chosen), flush=True)
    return chosen


def _some_targets(tile: Tile) -> list[Target]:
    """Prepare a few objects of a tile, spread over all of them."""
    polygons = tile.polygons[:: max(1, len(tile.polygons) // TUNING_OBJECTS)][:TUNING_OBJECTS]
    return [target for target in map(target_of, polygons) if target is not None]


def _best(name: str, work: list[tuple[Tile, list[Target]]]) -> dict[str, object]:
    best: dict[str, object] = {}
    for settings in _combinations(name):
        ious = []
        for tile, targets in work:
            find = _finder(name, np.ascontiguousarray(tile.image[: tile.height, : tile.width]), settings)
            ious += [_iou(target, find(target), tile) for target in targets]
        mean = round(float(np.mean(ious)), 4)
        if not best or mean > float(str(best["mean_iou"])):
            best = {"settings": settings, "mean_iou": mean, "objects": len(ious)}
    return best


def main() -> None:
    """Choose the settings on the training images and write them down."""
    parser = argparse.ArgumentParser(prog="python -m encoder_tools.mini.baselines", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of labelled imagery (default: GEOSAM_ES_DATA)")
    parser.add_argument("--only", choices=BASELINES, help="choose for this one, and leave the others as they are")
    options = parser.parse_args()
    try:
        scenes = training_scenes(data_folder(options.data))
        names = [options.only] if options.only else list(BASELINES)
        with ProcessPoolExecutor(min(len(scenes), os.cpu_count() or 1)) as pool:
            found = dict(zip(scenes, pool.map(choose, scenes, scenes.values(), [names] * len(scenes))))
        known = json.loads(SETTINGS_FILE.read_text(encoding="utf-8")) if options.only else {}
        chosen = {kind: {**known.get(kind, {}), **best} for kind, best in found.items()}
        SETTINGS_FILE.write_text(json.dumps(chosen, indent=1) + "\n", encoding="utf-8")
    except GeoSamError as error:
        parser.exit(2, f"error: {error.user_message}\n")


if __name__ == "__main__":
    main()
