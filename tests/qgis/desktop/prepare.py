"""What the run in the real desktop draws on: a synthetic orthophoto, its store, and places to click."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import rasterio
from rasterio.transform import from_origin

from encoder_tools.cli.app import cli
from encoder_tools.synthetic import synthetic_orthophoto

HEIGHT, WIDTH, PIXEL, LEFT, TOP = 3000, 4000, 0.25, 726000.0, 4372000.0
FIRST = (("building", 3), ("field", 20), ("tree", 3), ("building", 8))
"""Drawn and saved; the last one by a box."""

TIMED = (("building", 10), ("field", 30), ("tree", 10))
"""From here on ten of each are clicked on against the clock."""


def prepare(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    scene = synthetic_orthophoto(HEIGHT, WIDTH, PIXEL, seed=7)
    image = folder / "ortho.tif"
    profile = {"driver": "GTiff", "height": HEIGHT, "width": WIDTH, "count": 3, "dtype": "uint8", "tiled": True}
    transform = from_origin(LEFT, TOP, PIXEL, PIXEL)
    with rasterio.open(image, "w", crs="EPSG:25830", transform=transform, **profile) as dataset:
        dataset.write(scene.image.transpose(2, 0, 1))
    found = defaultdict(list)
    for name, polygon in sorted(scene.objects, key=lambda item: -item[1].area):
        min_x, min_y, max_x, max_y = polygon.bounds
        if min(min_x, min_y) > 100 and max_x < WIDTH - 100 and max_y < HEIGHT - 100:
            inside = polygon.representative_point()
            bounds = [*(transform * (min_x, max_y)), *(transform * (max_x, min_y))]
            found[name].append([name, *(transform * (inside.x, inside.y)), bounds])
    places = [found[name][index] for name, index in FIRST]
    places += [place for name, index in TIMED for place in found[name][index : index + 10]]
    (folder / "objects.json").write_text(json.dumps(places))
    cli(["encode", str(image), "--overwrite"], standalone_mode=False)


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
