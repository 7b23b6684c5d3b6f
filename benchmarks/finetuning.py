"""Measurements of fine-tuning: its gain by depth and number of polygons, and the time that stored features save.

    python -m benchmarks.finetuning train   --data ../shared/data --work runs/finetuning
    python -m benchmarks.finetuning measure --data ../shared/data --work runs/finetuning
    python -m benchmarks.finetuning classes --data ../shared/data --work runs/finetuning
    python -m benchmarks.finetuning time    --work runs/finetuning
    python -m benchmarks.finetuning write   --work runs/finetuning

`measure`, `classes` and `time` write JSON files to the work folder. The first two write one for each run, so they go on
where they were stopped, and a longer run adds to a shorter one. `write` fills docs/finetuning.md from them.

The domain is a coast that the embedded `mini` has not seen. With ``--kind fields`` it is fields, for the `mini` that
`train` trains without any. `classes` compares a model for each class of the coast with one for all.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import rasterio
import shapely
import shapely.affinity
from numpy.typing import NDArray
from rasterio.transform import Affine
from shapely.geometry.base import BaseGeometry

from encoder_tools.models.malloc import tune_malloc

tune_malloc()

import torch  # noqa: E402

from encoder_tools.evaluation.figures import new_figure, png  # noqa: E402
from encoder_tools.finetune.finetuning import DEPTHS  # noqa: E402
from encoder_tools.finetune.losses import tuning_loss  # noqa: E402
from encoder_tools.finetune.model_card import gain_text  # noqa: E402
from encoder_tools.finetune.sam_decoder import SamDecoder  # noqa: E402
from encoder_tools.finetune.tunable_decoder import PromptTensors, trainable  # noqa: E402
from encoder_tools.mini.config import TrainConfig  # noqa: E402
from encoder_tools.mini.sources import read_geometries, read_rgb  # noqa: E402
from encoder_tools.mini.train import EXPORT_FOLDER, run_training  # noqa: E402
from encoder_tools.models.loading import load_model  # noqa: E402
from encoder_tools.models.sam.weights import random_sam  # noqa: E402
from encoder_tools.pipeline import encode  # noqa: E402
from encoder_tools.raster import Raster  # noqa: E402
from geosam_es.encoding.plan import EncodeOptions, make_plan  # noqa: E402

from .markdown import markdown_table, replace_sections  # noqa: E402
from .mini.ablation import without  # noqa: E402

CRS = "EPSG:25830"
ORIGIN = (500_000.0, 4_400_000.0)
APART = 12_000.0
COUNTS = (10, 25, 50, 100, 200)
DRAWS = 3
SAMPLES = 2000
PROMPTS = {"point": ("point", 1), "box": ("box", 1), "3 clicks": ("clicks:5", 3), "5 clicks": ("clicks:5", 5)}
"""Column of the table: kind of prompts in the report, and which of its clicks."""

COLOURS = {"decoder": "#8d99ae", "adapter": "#1b7fbd", "all": "#d1495b", "auto": "#2a9d8f"}
CLASS_POLYGONS = 50
"""A class with fewer polygons gets no model of its own."""

HIDDEN_IMAGES = 12
"""Training images of the coast, at one end of it, that are measured on together with those for validation: 71 objects
alone leave too much to chance."""

FIELDS = ("fields", "flanders")
"""Kinds of training images that show fields."""

WITHOUT_FIELDS = "mini-without-fields"
"""Subfolder of the work folder for the `mini` that has never seen a field."""

CORES = 2
ON_CPU_TIME = """
from encoder_tools.models.malloc import tune_malloc
tune_malloc()
import time, types
from encoder_tools.finetune import training
training.time = types.SimpleNamespace(monotonic=time.process_time)
from encoder_tools.cli import main
main()
"""
"""The command line, whose time limit counts the time of one core, so that other work on the machine does not matter."""

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "finetuning.md"
IMAGES = ROOT / "docs" / "images"
MIN_PIXELS = 100.0
"""Smallest area of an object in pixels."""


def train_without_fields(data: Path, work: Path, minutes: float) -> Path:
    """Train `mini` from scratch on everything but fields, for `minutes`, and return the folder of the model."""
    config = TrainConfig()
    for kind in FIELDS:
        config = without(config, kind)
    # Neither the best checkpoint nor the score may be chosen with fields.
    config = dataclasses.replace(config, continuations=(), validate_every=sys.maxsize)
    return run_training(data, work / WITHOUT_FIELDS, minutes, config, scores=False)


def images(data: Path, kind: str, part: str) -> Iterator[tuple[Path, list[BaseGeometry], list[str]]]:
    """Yield each image with the outlines of its objects in pixels and their classes, which are empty for fields."""
    folder, suffix = data / kind, "*.jpg" if kind == "coast" else "*.png"
    paths = sorted((folder / "train").glob(suffix))
    hidden = sorted((folder / "val").glob(suffix))
    if kind == "coast":
        paths.sort(key=lambda path: [int(number) for number in path.stem.split("_")[1:3]])
        paths, hidden = paths[HIDDEN_IMAGES:], paths[:HIDDEN_IMAGES] + hidden
    for path in paths if part == "train" else hidden:
        labels = path.with_name(f"{path.stem}.pixels.geojson")
        features = json.loads(labels.read_text(encoding="utf-8"))["features"]
        yield path, read_geometries(labels), [feature["properties"].get("class", "") for feature in features]


def prepare(data: Path, work: Path, kind: str, part: str, model: str) -> tuple[list[Path], Path]:
    """Write the images as GeoTIFFs far apart, encode them, and write a layer of their objects and classes."""
    folder = work / kind / part
    stores_folder = work / kind / "stores"
    folder.mkdir(parents=True, exist_ok=True)
    stores_folder.mkdir(parents=True, exist_ok=True)
    stores: list[Path] = []
    polygons: list[tuple[BaseGeometry, str]] = []
    loaded = load_model(model, None, "auto", work)
    for number, (path, objects, classes) in enumerate(images(data, kind, part)):
        pixels = np.moveaxis(read_rgb(path), -1, 0)
        shift = APART * (number + (500 if part == "val" else 0))
        transform = Affine(1.0, 0.0, ORIGIN[0] + shift, 0.0, -1.0, ORIGIN[1])
        image = folder / f"{part}-{number:02d}.tif"
        _write_image(image, pixels, transform)
        store = stores_folder / f"{image.stem}.embeddings.zarr"
        if not store.exists():
            plan = make_plan(Raster(image), loaded.encoder, EncodeOptions())
            encode(plan, loaded.encoder, store, loaded.export_decoder)
        stores.append(store)
        frame = shapely.box(0, 0, pixels.shape[2], pixels.shape[1])
        seen = [g.intersection(frame) for g in shapely.make_valid(np.array(objects, dtype=object))]
        polygons += [
            (shapely.affinity.affine_transform(g, (1, 0, 0, -1, transform.c, transform.f)), name)
            for g, name in zip(seen, classes)
            if g.geom_type in ("Polygon", "MultiPolygon") and g.area >= MIN_PIXELS
        ]
    return stores, write_polygons(work / kind / f"{part}.gpkg", polygons)


def _write_image(path: Path, pixels: Any, transform: Affine) -> None:
    if path.exists():
        return
    shape = {"count": 3, "height": pixels.shape[1], "width": pixels.shape[2], "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", crs=CRS, transform=transform, **shape) as dataset:
        dataset.write(pixels)


def write_polygons(path: Path, polygons: Sequence[tuple[BaseGeometry, str]]) -> Path:
    path.unlink(missing_ok=True)
    wkb = np.array([shapely.to_wkb(polygon) for polygon, _ in polygons], dtype=object)
    names = np.array([name for _, name in polygons], dtype=object)
    pyogrio.raw.write(path, wkb, [names], ["class"], geometry_type="Unknown", crs=CRS)
    return path


class Study:
    """Stores and polygons of one kind, and runs of ``finetune`` on some of the polygons."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.kind, self.work, self.minutes = options.kind, options.work, CORES * (options.minutes or 10)
        self.model = "mini" if self.kind == "coast" else str(self.work / WITHOUT_FIELDS / EXPORT_FOLDER)
        stores, truth = prepare(options.data, self.work, self.kind, "train", self.model)
        hidden_stores, self.holdout = prepare(options.data, self.work, self.kind, "val", self.model)
        self.stores = stores + hidden_stores
        self.polygons = read_polygons(truth)
        self.hidden_classes = [name for _, name in read_polygons(self.holdout)]

    def run(self, result: Path, chosen: Sequence[int], depth: str, facts: dict[str, Any]) -> None:
        """Tune, and write the IoU of the hidden objects before and after to ``result``, unless it exists."""
        if result.exists():
            return
        result.parent.mkdir(exist_ok=True)
        layer = write_polygons(result.with_suffix(".gpkg"), [self.polygons[index] for index in chosen])
        out = result.with_suffix("")
        command = [sys.executable, "-c", ON_CPU_TIME, "finetune", *self.stores, layer, "-o", out]
        command += ["--holdout", self.holdout, "--depth", depth, "--minutes", self.minutes, "--threads", 1]
        command += ["--keep-stores", "--overwrite"] + ([] if self.model == "mini" else ["--checkpoint", self.model])
        row = {"kind": self.kind, "count": len(chosen), "depth": depth, **facts, **run_measured(command)}
        row["outcome"] = json.loads((out / "report" / "summary.json").read_text(encoding="utf-8"))["facts"]["tuned"]
        row["ious"], objects = ious_of(out / "report" / "objects.csv")
        row["classes"] = [self.hidden_classes[number - 1] for number in objects]
        result.write_text(json.dumps(row) + "\n", encoding="utf-8")
        print(f"{result.stem}: {row['outcome']}, {row['cpu_minutes']:.0f} CPU minutes", flush=True)


def read_polygons(path: Path) -> list[tuple[BaseGeometry, str]]:
    _, _, wkb, (names,) = pyogrio.raw.read(path)
    return list(zip(shapely.from_wkb(wkb), names))


def measure(options: argparse.Namespace) -> None:
    """Tune on random draws of polygons."""
    study = Study(options)
    for draw, count, depth in itertools.product(range(options.draws), options.counts, options.depths):
        chosen = np.random.default_rng([count, draw]).permutation(len(study.polygons))[:count]
        result = study.work / "runs" / f"{study.kind}-{count}-{depth}-{draw}.json"
        study.run(result, np.sort(chosen).tolist(), depth, {"draw": draw})


def measure_classes(options: argparse.Namespace) -> None:
    """Tune on all polygons of the coast, and on those of each class that has enough of them."""
    study = Study(options)
    names = [name for _, name in study.polygons]
    for depth in options.depths:
        for only in [None, *(name for name in sorted(set(names)) if names.count(name) >= CLASS_POLYGONS)]:
            chosen = [index for index, name in enumerate(names) if only in (None, name)]
            result = study.work / "classes" / f"{only or 'all classes'}-{depth}.json"
            study.run(result, chosen, depth, {"class": only})


def run_measured(command: Sequence[object]) -> dict[str, float]:
    """Run a command; return its minutes of CPU, and peak memory in GB."""
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the command failed: {' '.join(str(part) for part in command)}")
    cpu = (usage.ru_utime + usage.ru_stime) / 60
    return {"cpu_minutes": cpu, "peak_gb": usage.ru_maxrss / 1e6}


def ious_of(path: Path) -> tuple[dict[str, dict[str, list[float]]], list[int]]:
    """Return the IoU of every object before and after tuning, for each of `PROMPTS`, and the object numbers."""
    with path.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    ious: dict[str, dict[str, list[float]]] = {name: {"before": [], "tuned": []} for name in PROMPTS}
    objects = []
    for row in rows:
        for name, (kind, click) in PROMPTS.items():
            if row["prompts"] == kind:
                ious[name][row["decoder"]].append(float(row[f"iou_{click}"]))
        if row["prompts"] == "point" and row["decoder"] == "before":
            objects.append(int(row["object"]))
    return ious, objects


def measure_time(work: Path, steps: int) -> dict[str, Any]:
    """Time training steps on stored features and with encoding in each step, alternating in one run.

    The encoder is this project's fast one, frozen and without gradients, so the comparison is with the best case.
    """
    from encoder_tools.models.sam.encoder import SamTorchEncoder

    sam = random_sam("vit_b", seed=0)
    encoder = SamTorchEncoder(sam, "cpu", "bfloat16")
    decoder = SamDecoder(sam)
    optimizer = torch.optim.AdamW(trainable(decoder.module), lr=1e-4)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (1, 1024, 1024, 3), dtype=np.uint8)
    stored = work / "features.bin"
    features = encoder.encode(image)["image_embeddings"]
    features.astype(np.float16).tofile(stored)
    seconds: dict[str, list[float]] = {"stored": [], "encoding": []}
    for _ in range(steps):
        for way in seconds:
            started = time.perf_counter()
            if way == "stored":
                values = np.fromfile(stored, np.float16).astype(np.float32).reshape(features.shape)
            else:
                values = encoder.encode(image)["image_embeddings"]
            _one_step(decoder, optimizer, values)
            seconds[way].append(time.perf_counter() - started)
    medians = {way: float(np.median(values)) for way, values in seconds.items()}
    return {"steps": steps, "seconds": medians, "ratio": medians["encoding"] / medians["stored"]}


def _one_step(decoder: SamDecoder, optimizer: Any, features: Any) -> None:
    """Make one training step with a click on each of four objects of a tile."""
    truth = torch.zeros(4, 1, 256, 256)
    for number in range(4):
        truth[number, 0, 40 * number : 40 * number + 60, 50:120] = 1
    coords = torch.tensor([[[340.0, 160.0 * number + 120]] for number in range(4)])
    prompts = PromptTensors(coords, torch.ones(4, 1), torch.zeros(4, 1, 256, 256), torch.zeros(4))
    optimizer.zero_grad()
    answer = decoder.decode(decoder.prepare(torch.from_numpy(features)), prompts)
    tuning_loss(answer, truth, torch.ones(4)).mean().backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def interval(gains: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the mean of gains (draws, N), and its 95 % bootstrap interval over objects."""
    rng = np.random.default_rng(0)
    means = gains.mean(0)
    some = means[rng.integers(len(means), size=(SAMPLES, len(means)))].mean(1)
    low, high = np.percentile(some, (2.5, 97.5))
    return float(means.mean()), float(low), float(high)


def grouped(work: Path) -> dict[tuple[str, int, str], list[dict[str, Any]]]:
    """Return the runs by kind, number of polygons and depth."""
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((work / "runs").glob("*.json"))]
    groups: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: (row["kind"], row["count"], list(COLOURS).index(row["depth"]))):
        groups.setdefault((row["kind"], row["count"], row["depth"]), []).append(row)
    return groups


def gains_of(rows: Sequence[dict[str, Any]], prompts: str) -> NDArray[np.float64]:
    """Return the gains (runs, N) in IoU of several runs that hide the same N objects."""
    return np.array([np.subtract(row["ious"][prompts]["tuned"], row["ious"][prompts]["before"]) for row in rows])


def table(groups: dict[tuple[str, int, str], list[dict[str, Any]]]) -> str:
    """Return a Markdown table of the runs of one kind."""
    first = next(iter(groups.values()))[0]
    before = [f"{np.mean(first['ious'][prompts]['before']):.3f}" for prompts in PROMPTS]
    lines = [[f"{first['kind']}, before", "", "", *before, "", ""]]
    for (_, count, depth), rows in groups.items():
        cells = [gain_text(*interval(gains_of(rows, prompts))) for prompts in PROMPTS]
        cost = [
            f"{np.mean([row[key] for row in rows]):.{digits}f}" for key, digits in (("cpu_minutes", 0), ("peak_gb", 1))
        ]
        lines.append([str(count), depth, str(len(rows)), *cells, *cost])
    return markdown_table(["polygons", "depth", "draws", *PROMPTS, "CPU minutes", "GB"], lines)


def class_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table of the gain of each class, trained alone and together with the others."""
    lines = []
    for alone in (row for row in rows if row["class"] is not None):
        together = next(row for row in rows if row["class"] is None and row["depth"] == alone["depth"])
        own = np.array([name == alone["class"] for name in alone["classes"]])
        cells = [
            gain_text(*interval(gains_of([row], prompts)[:, own]))
            for prompts in ("point", "box", "3 clicks")
            for row in (alone, together)
        ]
        lines.append([alone["class"], str(alone["count"]), str(own.sum()), alone["depth"], *cells])
    header = [f"{prompts}, {way}" for prompts in ("point", "box", "3 clicks") for way in ("alone", "together")]
    return markdown_table(["class", "polygons", "hidden objects", "depth", *header], lines)


def draw_curve(groups: dict[tuple[str, int, str], list[dict[str, Any]]], kind: str, path: Path) -> None:
    figure = new_figure(8.0, 3.4)
    for axis, prompts in zip(figure.subplots(1, 2, sharey=True), ("point", "box")):
        for depth, colour in COLOURS.items():
            found = {
                key[1]: gains_of(rows, prompts).mean(1) for key, rows in groups.items() if key[::2] == (kind, depth)
            }
            if found:
                axis.plot(
                    list(found), [values.mean() for values in found.values()], marker="o", color=colour, label=depth
                )
            for count, values in found.items():
                axis.plot([count] * len(values), values, ".", color=colour, alpha=0.5)
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set_xlabel("polygons learned from")
        axis.set_title(prompts)
        axis.grid(alpha=0.3)
    figure.axes[0].set_ylabel(f"gain in IoU, {kind}")
    figure.axes[0].legend()
    path.write_bytes(png(figure))


def write_page(work: Path) -> None:
    """Write the results into the sections of the page."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}"
    sections = {}
    groups = grouped(work)
    IMAGES.mkdir(exist_ok=True)
    for kind in dict.fromkeys(key[0] for key in groups):
        some = {key: rows for key, rows in groups.items() if key[0] == kind}
        name = f"finetuning-{kind}.png"
        draw_curve(some, kind, IMAGES / name)
        picture = f"![gain in IoU against number of polygons, {kind}](images/{name})"
        sections[f"gain {kind}"] = f"{table(some)}\n\n{picture}"
    by_class = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((work / "classes").glob("*.json"))]
    if by_class:
        sections["classes"] = class_table(by_class)
    path = work / "time.json"
    if path.is_file():
        result = json.loads(path.read_text(encoding="utf-8"))
        stored, encoding = result["seconds"]["stored"], result["seconds"]["encoding"]
        sections["time"] = (
            f"A step takes {stored:.2f} s on stored features and {encoding:.2f} s with encoding in the loop:"
            f" **{result['ratio']:.1f} times** as long (medians of {result['steps']} steps each, alternating)."
        )
    replace_sections(PAGE, {name: f"{text}\n\nMeasured on {machine}." for name, text in sections.items()})


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.finetuning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("train", "measure", "classes", "time", "write"))
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--kind", choices=("coast", "fields"), default="coast")
    parser.add_argument("--depths", nargs="+", choices=tuple(COLOURS), default=DEPTHS)
    parser.add_argument("--counts", nargs="+", type=int, default=COUNTS, help="numbers of polygons")
    parser.add_argument("--draws", type=int, default=DRAWS, help="random draws of each number")
    parser.add_argument(
        "--minutes", type=float, help="time limit of each training on two idle cores (10); of train (45)"
    )
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.what == "write":
        write_page(options.work)
    elif options.what == "train":
        print(train_without_fields(options.data, options.work, options.minutes or 45))
    elif options.what == "measure":
        measure(options)
    elif options.what == "classes":
        measure_classes(options)
    else:
        result = measure_time(options.work, options.steps)
        (options.work / "time.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
