"""Measurements of fine-tuning: its gain by depth and number of polygons, and the time that stored features save.

    python -m benchmarks.finetuning measure --data ../shared/data --work runs/finetuning
    python -m benchmarks.finetuning time    --work runs/finetuning
    python -m benchmarks.finetuning write   --work runs/finetuning

The first two write JSON files to the work folder, `measure` one for each run, so that it goes on where it was stopped
and a longer run adds to a shorter one. The last one fills docs/finetuning.md from them. The domain is a coast that the
embedded `mini` has not seen, or fields with ``--kind fields --model FOLDER``, for a `mini` trained without fields.
"""

from __future__ import annotations

import argparse
import csv
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
from encoder_tools.mini.sources import read_geometries, read_rgb  # noqa: E402
from encoder_tools.models.loading import load_model  # noqa: E402
from encoder_tools.models.sam.weights import random_sam  # noqa: E402
from encoder_tools.pipeline import encode  # noqa: E402
from encoder_tools.raster import Raster  # noqa: E402
from geosam_es.encoding.plan import EncodeOptions, make_plan  # noqa: E402

from ..markdown import markdown_table, replace_sections  # noqa: E402

CRS = "EPSG:25830"
ORIGIN = (500_000.0, 4_400_000.0)
APART = 12_000.0
COUNTS = (10, 25, 50, 100, 200)
DRAWS = 3
SAMPLES = 2000
PROMPTS = {"point": ("point", 1), "box": ("box", 1), "3 clicks": ("clicks:5", 3), "5 clicks": ("clicks:5", 5)}
"""Column of the table: kind of prompts in the report, and which of its clicks."""

COLOURS = {"decoder": "#8d99ae", "adapter": "#1b7fbd", "all": "#d1495b", "auto": "#2a9d8f"}
HIDDEN_IMAGES = 12
"""Training images of the coast, at one end of it, that are measured on together with those for validation: 71 objects
alone leave too much to chance."""

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

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "finetuning.md"
IMAGES = ROOT / "docs" / "images"
MIN_PIXELS = 100.0
"""Smallest area of an object in pixels."""


def images(data: Path, kind: str, part: str) -> Iterator[tuple[Path, list[BaseGeometry]]]:
    """Yield images and their objects in pixels."""
    folder, suffix = data / kind, "*.jpg" if kind == "coast" else "*.png"
    paths = sorted((folder / "train").glob(suffix))
    hidden = sorted((folder / "val").glob(suffix))
    if kind == "coast":
        paths.sort(key=lambda path: [int(number) for number in path.stem.split("_")[1:3]])
        paths, hidden = paths[HIDDEN_IMAGES:], paths[:HIDDEN_IMAGES] + hidden
    for path in paths if part == "train" else hidden:
        yield path, list(read_geometries(path.with_name(f"{path.stem}.pixels.geojson")))


def prepare(data: Path, work: Path, kind: str, part: str, model: str) -> tuple[list[Path], Path]:
    """Write images as GeoTIFFs far apart, encode them, and write a layer of their objects."""
    folder = work / kind / part
    stores_folder = work / kind / f"stores-{Path(model).name}"
    folder.mkdir(parents=True, exist_ok=True)
    stores_folder.mkdir(parents=True, exist_ok=True)
    stores, polygons = [], []
    loaded = load_model(model, None, "auto", work)
    for number, (path, objects) in enumerate(images(data, kind, part)):
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
            shapely.affinity.affine_transform(g, (1, 0, 0, -1, transform.c, transform.f))
            for g in seen
            if g.geom_type in ("Polygon", "MultiPolygon") and g.area >= MIN_PIXELS
        ]
    return stores, write_polygons(work / kind / f"{part}.gpkg", polygons)


def _write_image(path: Path, pixels: Any, transform: Affine) -> None:
    if path.exists():
        return
    shape = {"count": 3, "height": pixels.shape[1], "width": pixels.shape[2], "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", crs=CRS, transform=transform, **shape) as dataset:
        dataset.write(pixels)


def write_polygons(path: Path, polygons: Sequence[BaseGeometry]) -> Path:
    path.unlink(missing_ok=True)
    wkb = np.array([shapely.to_wkb(polygon) for polygon in polygons], dtype=object)
    pyogrio.raw.write(path, wkb, [], [], geometry_type="Unknown", crs=CRS)
    return path


def measure(options: argparse.Namespace) -> None:
    """Tune on random draws of polygons, and write the IoU of the hidden objects before and after."""
    train_stores, truth = prepare(options.data, options.work, options.kind, "train", options.model)
    val_stores, holdout = prepare(options.data, options.work, options.kind, "val", options.model)
    everything = shapely.from_wkb(pyogrio.raw.read(truth)[2])
    folder = options.work / "runs"
    folder.mkdir(exist_ok=True)
    for draw, count, depth in itertools.product(range(options.draws), options.counts, options.depths):
        result = folder / f"{options.kind}-{count}-{depth}-{draw}.json"
        if result.exists():
            continue
        chosen = np.random.default_rng([count, draw]).permutation(len(everything))[:count]
        layer = write_polygons(folder / f"{options.kind}-{count}-{draw}.gpkg", everything[np.sort(chosen)])
        out = result.with_suffix("")
        command = [sys.executable, "-c", ON_CPU_TIME, "finetune", *train_stores, *val_stores, layer, "-o", out]
        command += ["--holdout", holdout, "--depth", depth, "--minutes", CORES * options.minutes, "--threads", 1]
        command += ["--keep-stores", "--overwrite"] + (
            [] if options.model == "mini" else ["--checkpoint", options.model]
        )
        row = {"kind": options.kind, "count": count, "depth": depth, "draw": draw, **run_measured(command)}
        row["outcome"] = json.loads((out / "report" / "summary.json").read_text(encoding="utf-8"))["facts"]["tuned"]
        row["ious"] = ious_of(out / "report" / "objects.csv")
        result.write_text(json.dumps(row) + "\n", encoding="utf-8")
        print(f"{result.stem}: {row['outcome']}, {row['cpu_minutes']:.0f} CPU minutes", flush=True)


def run_measured(command: Sequence[object]) -> dict[str, float]:
    """Run a command; return its minutes of CPU, and peak memory in GB."""
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the command failed: {' '.join(str(part) for part in command)}")
    cpu = (usage.ru_utime + usage.ru_stime) / 60
    return {"cpu_minutes": cpu, "peak_gb": usage.ru_maxrss / 1e6}


def ious_of(path: Path) -> dict[str, dict[str, list[float]]]:
    """Return the IoU of every object for each of `PROMPTS`, before and tuned."""
    with path.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return {
        name: {
            decoder: [
                float(row[f"iou_{click}"]) for row in rows if row["prompts"] == kind and row["decoder"] == decoder
            ]
            for decoder in ("before", "tuned")
        }
        for name, (kind, click) in PROMPTS.items()
    }


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
    """Return the gains (draws, N) of runs."""
    return np.array([np.subtract(row["ious"][prompts]["tuned"], row["ious"][prompts]["before"]) for row in rows])


def table(groups: dict[tuple[str, int, str], list[dict[str, Any]]]) -> str:
    header = ["polygons", "depth", "draws", *PROMPTS, "CPU minutes", "GB"]
    lines = []
    for kind in dict.fromkeys(key[0] for key in groups):
        first = next(rows[0] for key, rows in groups.items() if key[0] == kind)
        before = [f"{np.mean(first['ious'][prompts]['before']):.3f}" for prompts in PROMPTS]
        lines.append([f"{kind}, before", "", "", *before, "", ""])
        for (_, count, depth), rows in ((key, rows) for key, rows in groups.items() if key[0] == kind):
            cells = [gain_text(*interval(gains_of(rows, prompts))) for prompts in PROMPTS]
            cost = [
                f"{np.mean([row[key] for row in rows]):.{digits}f}"
                for key, digits in (("cpu_minutes", 0), ("peak_gb", 1))
            ]
            lines.append([str(count), depth, str(len(rows)), *cells, *cost])
    return markdown_table(header, lines)


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
    if groups:
        IMAGES.mkdir(exist_ok=True)
        text = table(groups)
        for kind in dict.fromkeys(key[0] for key in groups):
            name = f"finetuning-{kind}.png"
            draw_curve(groups, kind, IMAGES / name)
            text += f"\n\n![gain in IoU against number of polygons, {kind}](images/{name})"
        sections["gain"] = text
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
    parser.add_argument("what", choices=("measure", "time", "write"))
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--kind", choices=("coast", "fields"), default="coast")
    parser.add_argument("--model", default="mini", help="mini, or a folder that train-mini wrote")
    parser.add_argument("--depths", nargs="+", choices=tuple(COLOURS), default=DEPTHS)
    parser.add_argument("--counts", nargs="+", type=int, default=COUNTS, help="numbers of polygons")
    parser.add_argument("--draws", type=int, default=DRAWS, help="random draws of each number")
    parser.add_argument("--minutes", type=float, default=10, help="time limit of each training on two idle cores")
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.what == "write":
        write_page(options.work)
    elif options.what == "measure":
        measure(options)
    else:
        result = measure_time(options.work, options.steps)
        (options.work / "time.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
