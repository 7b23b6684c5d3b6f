"""How well the labels of the coast agree with themselves: ``python -m benchmarks.label_noise --data DIR``.

The images are squares of one mosaic, and each has labels of its own. Where two of them meet, an object that crosses the
seam is labelled twice. The classes of the pixels on both sides of the seam are compared; for comparison, also those of
the two rows and the two columns in the middle of each image.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from shapely.geometry.base import BaseGeometry

from encoder_tools.mini.sources import read_rgb

from .finetuning import ROOT, SAMPLES, images
from .markdown import markdown_table

__all__ = ["agreement", "class_map", "pairs_inside", "pairs_on_seams"]

Line = NDArray[np.int32]
Pair = tuple[Line, Line]


def class_map(shape: tuple[int, int], objects: Sequence[BaseGeometry], numbers: Sequence[int]) -> NDArray[np.int32]:
    """Return the number of the class of each pixel (H, W), 0 where nothing is labelled."""
    shapes = [(outline, number) for outline, number in zip(shapely.make_valid(np.array(objects, object)), numbers)]
    found: NDArray[np.int32] = rasterize(shapes, shape, dtype="int32") if shapes else np.zeros(shape, np.int32)
    return found


def pairs_on_seams(maps: Mapping[tuple[int, int], NDArray[np.int32]]) -> list[Pair]:
    """Return the last column or row of each map and the first one of its neighbour.

    The keys of the maps are the positions (x, y) of their upper left corners in pixels.
    """
    pairs = []
    for (x, y), one in maps.items():
        height, width = one.shape
        right, below = maps.get((x + width, y)), maps.get((x, y + height))
        if right is not None and len(right) == height:
            pairs.append((one[:, -1], right[:, 0]))
        if below is not None and below.shape[1] == width:
            pairs.append((one[-1], below[0]))
    return pairs


def pairs_inside(maps: Mapping[tuple[int, int], NDArray[np.int32]]) -> list[Pair]:
    """Return the two columns and the two rows in the middle of each map."""
    pairs = []
    for one in maps.values():
        row, column = one.shape[0] // 2, one.shape[1] // 2
        pairs += [(one[:, column - 1], one[:, column]), (one[row - 1], one[row])]
    return pairs


def agreement(pairs: Sequence[Pair]) -> list[tuple[float, float, float]]:
    """Return how often both sides of lines have the same class, with the 95 % bootstrap interval over lines.

    Returns
    -------
    list of (share, low, high)
        Of the pixels with a label on either side, and of those with one on both sides.
    """
    counts = []
    for one, other in pairs:
        labelled, same = (one > 0).astype(np.int64) + (other > 0), one == other
        counts.append([[np.sum(same & (labelled >= least)), np.sum(labelled >= least)] for least in (1, 2)])
    lines = np.array(counts, dtype=np.float64)
    some = lines[np.random.default_rng(0).integers(len(lines), size=(SAMPLES, len(lines)))].sum(1)
    totals = lines.sum(0)
    low, high = np.nanpercentile(some[..., 0] / some[..., 1], (2.5, 97.5), axis=0)
    return [(float(same / all_), float(a), float(b)) for (same, all_), a, b in zip(totals, low, high)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.label_noise", description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    data = parser.parse_args().data
    maps: dict[tuple[int, int], NDArray[np.int32]] = {}
    numbers: dict[str, int] = {}
    for path, objects, classes in (found for part in ("train", "val") for found in images(data, "coast", part)):
        x, y = map(int, path.stem.split("_")[1:3])
        height, width, _ = read_rgb(path).shape
        of_class = [numbers.setdefault(name, len(numbers) + 1) for name in classes]
        maps[x, y] = class_map((height, width), objects, of_class)
    rows = []
    for name, pairs in (("seam of two images", pairs_on_seams(maps)), ("inside an image", pairs_inside(maps))):
        cells = [f"{share:.1%} ({low:.1%} to {high:.1%})" for share, low, high in agreement(pairs)]
        rows.append([name, str(len(pairs)), *cells])
    print(markdown_table(["where", "lines", "same class, either side labelled", "same class, both labelled"], rows))


if __name__ == "__main__":
    main()
