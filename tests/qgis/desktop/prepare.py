"""Prepares the test in the real window: a synthetic orthophoto, its store, and objects to click."""

from __future__ import annotations

import json
import shutil
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
import rasterio
from rasterio.transform import from_origin

from encoder_tools.cli.app import cli
from encoder_tools.synthetic import synthetic_orthophoto
from geosam_es.store import store_path_for
from geosam_es.store.metadata import read_metadata
from tests.helpers import make_decoder

HEIGHT, WIDTH, PIXEL, LEFT, TOP = 3000, 4000, 0.25, 726000.0, 4372000.0
FIRST = (("building", 3), ("field", 20), ("tree", 3), ("building", 8))
"""Objects that are drawn and saved, the last one with a box: class, and rank by area."""

NOISE = 0.05
"""Noise in the weights of the second decoder, relative to them."""

TIMED = (("building", 10), ("field", 30), ("tree", 10))
"""Objects whose clicks are timed: ten of each class from this rank on."""


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
    store = store_path_for(image)
    cli(["decoder", "set", str(store), str(second_decoder(folder, store)), "--keep-active"], standalone_mode=False)


def second_decoder(folder: Path, store: Path) -> Path:
    """Make a decoder with slightly different answers: the store's own, with noise in its weights."""
    graph = onnx.load(store / "decoder.onnx")
    random = np.random.default_rng(0)
    for weights in graph.graph.initializer:
        values = onnx.numpy_helper.to_array(weights)
        if values.dtype.kind == "f" and values.ndim > 1:
            noisy = values * (1 + NOISE * random.standard_normal(values.shape)).astype(values.dtype)
            weights.CopyFrom(onnx.numpy_helper.from_array(noisy, weights.name))
    model = read_metadata(store).model
    files = {"prepare.onnx": (store / "prepare.onnx").read_bytes(), "decoder.onnx": graph.SerializeToString()}
    made = folder / "second"
    shutil.rmtree(made, ignore_errors=True)
    return make_decoder(made, "second", files, model=model["name"], encoder_sha256=model["encoder_sha256"])


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
