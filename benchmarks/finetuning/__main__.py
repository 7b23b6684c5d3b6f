"""Measurements of fine-tuning: its gain, and the time saved by stored features; fills docs/finetuning.md.

    python -m benchmarks.finetuning study  --data ../shared/data --work runs/finetune
    python -m benchmarks.finetuning curve  --data ../shared/data --work runs/finetune --model mini_without_fields/
    python -m benchmarks.finetuning time   --work runs/finetune
    python -m benchmarks.finetuning write  --work runs/finetune

The first three write their results as JSON to the work folder; the last one writes the page from them. `curve` needs a
`mini` trained without fields, as `geosam-es train-mini` writes it from data without them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import rasterio
import shapely
import shapely.affinity
from rasterio.transform import Affine
from shapely.geometry.base import BaseGeometry

from encoder_tools.models.malloc import tune_malloc

tune_malloc()

import torch  # noqa: E402

from encoder_tools.evaluation.figures import new_figure, png  # noqa: E402
from encoder_tools.finetune.finetuning import Request, finetune  # noqa: E402
from encoder_tools.finetune.losses import tuning_loss  # noqa: E402
from encoder_tools.finetune.model_card import gain_text  # noqa: E402
from encoder_tools.finetune.sam_decoder import SamDecoder  # noqa: E402
from encoder_tools.finetune.training import TuneOptions  # noqa: E402
from encoder_tools.finetune.tunable_decoder import PromptTensors, trainable  # noqa: E402
from encoder_tools.mini.sources import polygons_in_pixels, read_geometries, read_rgb  # noqa: E402
from encoder_tools.models.loading import load_model  # noqa: E402
from encoder_tools.models.sam.weights import random_sam  # noqa: E402
from encoder_tools.pipeline import encode  # noqa: E402
from encoder_tools.raster import Raster  # noqa: E402
from geosam_es.encoding.plan import EncodeOptions, make_plan  # noqa: E402

from ..markdown import replace_sections  # noqa: E402

CRS = "EPSG:25830"
ORIGIN = (500_000.0, 4_400_000.0)
APART = 12_000.0
COUNTS = (10, 30, 100, 200)
DRAWS = 2
METRICS = ("iou", "dice", "precision", "recall")
STUDY = {"point": (0.70, 0.81, 0.85, 0.78), "box": (0.75, 0.85, 0.88, 0.82)}
"""IoU, Dice, precision and recall of a published study with SAM on flood imagery, after fine-tuning."""

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "finetuning.md"
IMAGES = ROOT / "docs" / "images"

BUILDINGS = {
    "train": (
        ("train_zanzibar", "*.tif", "labels.geojson"),
        ("train_banepa", "ortho_block[01].tif", "labels.geojson"),
        ("train_banepa", "ortho_block2.tif", "labels_block2.geojson"),
    ),
    "val": (("val_kampala", "*.tif", "labels.geojson"),),
}
MIN_PIXELS = {"fields": 100.0, "buildings": 1800.0}
"""Smallest area of an object in pixels. According to the source, buildings under 10 m2 are not all labelled."""


def images(data: Path, kind: str, part: str) -> Iterator[tuple[Path, list[BaseGeometry]]]:
    """Yield images and their objects in pixels."""
    if kind == "fields":
        for path in sorted((data / "fields" / part).glob("*.png")):
            yield path, list(read_geometries(path.with_name(f"{path.stem}.pixels.geojson")))
    else:
        for folder, pattern, labels in BUILDINGS[part]:
            for path in sorted((data / "buildings" / folder).glob(pattern)):
                yield path, list(polygons_in_pixels(path.with_name(labels), path))


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
            if g.geom_type in ("Polygon", "MultiPolygon") and g.area >= MIN_PIXELS[kind]
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


def tune(
    stores: Sequence[Path], truth: Path, holdout: Path, out: Path, options: TuneOptions
) -> tuple[dict[str, Any], float]:
    """Tune a decoder; return the summary of the report and the seconds of training."""
    request = Request(stores, truth, out, holdout=holdout, options=options, overwrite=True)
    tuned = finetune(request)
    return tuned.summary, tuned.facts.trained.history[-1].seconds


def study(data: Path, work: Path, model: str, options: TuneOptions, kinds: Sequence[str]) -> dict[str, Any]:
    """Tune the embedded model on the training images of each kind, and measure it on the others."""
    known = work / "study.json"
    results: dict[str, Any] = json.loads(known.read_text(encoding="utf-8")) if known.is_file() else {}
    for kind in kinds:
        train_stores, truth = prepare(data, work, kind, "train", model)
        val_stores, holdout = prepare(data, work, kind, "val", model)
        summary, seconds = tune([*train_stores, *val_stores], truth, holdout, work / f"study-{kind}", options)
        results[kind] = {"summary": summary, "seconds": seconds}
    return results


def curve(
    data: Path, work: Path, model: str, options: TuneOptions, counts: Sequence[int], draws: int
) -> dict[str, Any]:
    """Tune a model trained without fields on growing numbers of them."""
    train_stores, truth = prepare(data, work, "fields", "train", model)
    val_stores, holdout = prepare(data, work, "fields", "val", model)
    everything = shapely.from_wkb(pyogrio.raw.read(truth)[2])
    rows = []
    for count in counts:
        for draw in range(draws):
            chosen = np.random.default_rng([count, draw]).permutation(len(everything))[:count]
            layer = write_polygons(work / "fields" / f"train-{count}-{draw}.gpkg", everything[np.sort(chosen)])
            out = work / f"curve-{count}-{draw}"
            # More epochs for fewer objects, so that all trainings have enough steps.
            longer = replace(options, epochs=min(60, max(options.epochs, 1500 // count)))
            summary, seconds = tune([*train_stores, *val_stores], layer, holdout, out, longer)
            rows.append({"count": count, "draw": draw, "summary": summary, "seconds": seconds})
            print(f"{count} polygons, draw {draw}: {seconds:.0f} s", flush=True)
    return {"rows": rows}


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


def study_table(results: dict[str, Any]) -> str:
    lines = ["| | prompts | IoU | Dice | precision | recall |", "|---|---|---|---|---|---|"]
    for prompts, values in STUDY.items():
        lines.append(f"| study: SAM, flood, tuned | {prompts} | {' | '.join(f'{value:.2f}' for value in values)} |")
    for kind, result in results.items():
        for row in result["summary"]["all"]:
            if row["prompts"] in STUDY:
                cells = " | ".join(f"{row['values'][name][0]:.3f}" for name in METRICS)
                lines.append(f"| {kind}, {row['decoder']} | {row['prompts']} | {cells} |")
        for row in result["summary"]["differences"]:
            if row["prompts"] in STUDY:
                cells = " | ".join(gain_text(*row["values"][name]) for name in METRICS)
                lines.append(f"| {kind}, gain | {row['prompts']} | {cells} |")
        lines.append(f"| {kind}, minutes of training: {result['seconds'] / 60:.0f} | | | | | |")
    return "\n".join(lines)


def _iou(summary: dict[str, Any], prompts: str, decoder: str) -> float:
    rows = [row for row in summary["all"] if row["prompts"] == prompts and row["decoder"] == decoder]
    return float(rows[0]["values"]["iou"][0])


def curve_table(result: dict[str, Any]) -> str:
    lines = ["| polygons | point, IoU | box, IoU | minutes |", "|---|---|---|---|"]
    rows = result["rows"]
    before = rows[0]["summary"]
    lines.append(f"| 0 | {_iou(before, 'point', 'before'):.3f} | {_iou(before, 'box', 'before'):.3f} | |")
    for count in sorted({row["count"] for row in rows}):
        some = [row for row in rows if row["count"] == count]
        cells = []
        for prompts in ("point", "box"):
            values = [_iou(row["summary"], prompts, "tuned") for row in some]
            cells.append(f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})")
        minutes = np.mean([row["seconds"] for row in some]) / 60
        lines.append(f"| {count} | {cells[0]} | {cells[1]} | {minutes:.1f} |")
    return "\n".join(lines)


def draw_curve(result: dict[str, Any], path: Path) -> None:
    figure = new_figure(6.0, 3.8)
    axis = figure.subplots()
    rows = result["rows"]
    counts = sorted({row["count"] for row in rows})
    for prompts, colour in (("point", "#d1495b"), ("box", "#1b7fbd")):
        by_count = [[_iou(r["summary"], prompts, "tuned") for r in rows if r["count"] == count] for count in counts]
        means = [_iou(rows[0]["summary"], prompts, "before"), *(float(np.mean(values)) for values in by_count)]
        axis.plot([0, *counts], means, marker="o", color=colour, label=prompts)
        for count, values in zip(counts, by_count):
            axis.plot([count] * len(values), values, ".", color=colour, alpha=0.5)
    axis.set_xlabel("field polygons it was tuned on")
    axis.set_ylabel("mean IoU on fields of other images")
    axis.grid(alpha=0.3)
    axis.legend()
    path.write_bytes(png(figure))


def write_page(work: Path) -> None:
    """Write the results into the sections of the page."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}"
    sections = {}
    for name in ("study", "curve", "time"):
        path = work / f"{name}.json"
        if not path.is_file():
            continue
        result = json.loads(path.read_text(encoding="utf-8"))
        if name == "study":
            text = study_table(result)
        elif name == "curve":
            IMAGES.mkdir(exist_ok=True)
            draw_curve(result, IMAGES / "finetuning-curve.png")
            text = f"{curve_table(result)}\n\n![IoU against number of polygons](images/finetuning-curve.png)"
        else:
            stored, encoding = result["seconds"]["stored"], result["seconds"]["encoding"]
            text = (
                f"A step takes {stored:.2f} s on stored features and {encoding:.2f} s with encoding in the loop:"
                f" **{result['ratio']:.1f} times** as long (medians of {result['steps']} steps each, alternating)."
            )
        sections[name] = f"{text}\n\nMeasured on {machine}."
    replace_sections(PAGE, sections)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.finetuning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("study", "curve", "time", "write"))
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", default="mini", help="mini, or a folder that train-mini wrote")
    parser.add_argument("--kinds", nargs="+", choices=("fields", "buildings"), default=("fields", "buildings"))
    parser.add_argument("--counts", nargs="+", type=int, default=COUNTS, help="numbers of polygons of the curve")
    parser.add_argument("--draws", type=int, default=DRAWS, help="random draws of each number")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--minutes", type=float, help="time limit of each training")
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.what == "write":
        write_page(options.work)
        return
    if options.what == "time":
        result = measure_time(options.work, options.steps)
    else:
        chosen = TuneOptions(epochs=options.epochs, minutes=options.minutes)
        if options.what == "study":
            result = study(options.data, options.work, options.model, chosen, options.kinds)
        else:
            result = curve(options.data, options.work, options.model, chosen, options.counts, options.draws)
    (options.work / f"{options.what}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1) if options.what == "time" else f"{options.what}: done")


if __name__ == "__main__":
    main()
