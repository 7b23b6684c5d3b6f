"""Classes of land cover: macro F1 against the number of training polygons per class, on places not learned from.

    python -m benchmarks.classes --data ../shared/data --work runs/classes

The polygons are the connected parts of each class in six images, those to classify are in a seventh. Writes the
section of docs/classes.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import rasterio
import shapely
import shapely.affinity
from numpy.typing import NDArray
from rasterio.transform import Affine

from encoder_tools.evaluation.classification import Described, classify, describe
from encoder_tools.evaluation.classification_report import f1_scores
from encoder_tools.evaluation.ground_truth import Located, TruthObject
from encoder_tools.evaluation.pictures import RasterWindows
from encoder_tools.mini.sources import data_folder, landcover_regions, read_rgb
from encoder_tools.models.loading import load_model
from encoder_tools.pipeline import encode
from encoder_tools.raster import Raster
from geosam_es.core.topology import merge, polygon_parts
from geosam_es.encoding.plan import EncodeOptions, make_plan
from geosam_es.store import StoreReader

from .markdown import markdown_table, replace_sections

PAGE = Path(__file__).resolve().parents[1] / "docs" / "classes.md"
COLOURS = {
    "building": (0x3C, 0x10, 0x98),
    "bare land": (0x84, 0x29, 0xF6),
    "road": (0x6E, 0xC1, 0xE4),
    "vegetation": (0xFE, 0xDD, 0x3A),
    "water": (0xE2, 0xA9, 0x29),
}
COUNTS = (3, 5, 10, 20, 50)
DRAWS = 5
LEARNED, REPORTED = "train_dubai", "val_dubai"


def prepare(folder: Path, work: Path) -> tuple[StoreReader, Path, list[TruthObject]]:
    """Put the nine parts of an image together, encode it, and return its polygons in native pixels."""
    parts = sorted(folder.glob("*.jpg"))
    images = [read_rgb(part) for part in parts]
    # Their sides differ by a pixel.
    height, width = np.min([image.shape[:2] for image in images], axis=0)
    rows = [np.hstack([image[:height, :width] for image in images[row : row + 3]]) for row in (0, 3, 6)]
    whole, frame, objects = np.vstack(rows), shapely.box(0, 0, width, height), []
    for number, part in enumerate(parts):
        for index, (name, polygon) in enumerate(landcover_regions(part.with_suffix(".png"), COLOURS)):
            placed = shapely.affinity.translate(
                merge(polygon_parts(polygon & frame)), number % 3 * width, number // 3 * height
            )
            objects.append(TruthObject(f"{number}-{index}", placed, name))
    image, store = work / f"{folder.name}.tif", work / f"{folder.name}.embeddings.zarr"
    if not store.exists():
        grid = Affine(1.0, 0.0, 500_000.0, 0.0, -1.0, 4_400_000.0)
        shape = {"count": 3, "height": whole.shape[0], "width": whole.shape[1], "dtype": "uint8"}
        with rasterio.open(image, "w", driver="GTiff", crs="EPSG:25830", transform=grid, **shape) as dataset:
            dataset.write(np.moveaxis(whole, -1, 0))
        loaded = load_model("mini", None, "auto", work)
        plan = make_plan(Raster(image), loaded.encoder, EncodeOptions())
        encode(plan, loaded.encoder, store, loaded.export_decoder)
    return StoreReader(store), image, objects


def described(folders: list[Path], work: Path) -> tuple[Described, NDArray[np.str_]]:
    """Return what describes the polygons of images, and their classes."""
    parts, classes = [], []
    for folder in folders:
        reader, image, found = prepare(folder, work)
        objects, part = describe(reader, Located([found]), RasterWindows([reader], [image]))
        parts.append(part)
        classes += [item.class_name for item in objects]
    features, others = zip(*((part.features, part.others) for part in parts))
    return Described(np.concatenate(features), np.concatenate(others)), np.array(classes)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.classes", description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    data = data_folder(options.data) / "landcover"
    learned, classes = described(sorted((data / LEARNED).iterdir()), options.work)
    shown, truth = described(sorted((data / REPORTED).iterdir()), options.work)
    rows = []
    for count in COUNTS:
        values = []
        for draw in range(DRAWS):
            rng = np.random.default_rng([count, draw])
            drawn = np.concatenate([rng.permutation(np.flatnonzero(classes == name))[:count] for name in COLOURS])
            answer = classify(learned.at(drawn), classes[drawn].tolist(), shown)
            values.append(f1_scores(truth, answer.ranked[:, 0])[""].mean)
        rows.append([str(count), f"{np.mean(values):.3f}", f"{min(values):.3f} to {max(values):.3f}"])
    table = markdown_table(["polygons per class", "macro F1", "range"], rows)
    counts = ", ".join(f"{name} {np.count_nonzero(truth == name)}" for name in COLOURS)
    replace_sections(PAGE, {"landcover": f"{table}\n\n{len(truth)} polygons to classify: {counts}."})
    print(table)


if __name__ == "__main__":
    main()
