"""Encoding on a GPU, if there is one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder_tools.models.libraries import torch
from encoder_tools.models.sam.encoder import SamTorchEncoder, TileEncoder
from encoder_tools.models.sam.weights import Architecture, LoadedSam, random_sam
from encoder_tools.pipeline import EncodeOptions, EncodePlan, encode, make_plan
from encoder_tools.raster import Raster
from geosam_es.store.writer import remove_store

from .images import write_raster
from .measure import Bench, mask_iou, timing_of
from .model import Goal, Item, Row
from .sam import sam_files

__all__ = ["compare", "run"]

_NAMES: Sequence[Architecture] = ("vit_b", "vit_l", "vit_h")
_BATCHES = (1, 2, 4, 8, 16)
_WHAT = {
    "one_by_one": "encoding on a GPU: tiles per second",
    "bare": "encoding on a GPU, from GeoTIFF to store: tiles per second",
    "bfloat16": "the same in bfloat16",
    "workers": "the same by --workers, one process",
    "masks": "smallest IoU of masks on features from the GPU",
}
_AGAINST = {
    "one_by_one": "one chip at a time, float32, predictor rebuilt for each chip, as Geo-SAM does",
    "bare": "the bare model at its best batch, tiles on the device",
    "bfloat16": "the same in float16",
    "workers": "one process without --workers",
    "masks": "masks on features in float32",
}
_GOALS = {
    "one_by_one": Goal(5.0, is_least=True),
    "bare": Goal(0.8, is_least=True),
    "masks": Goal(0.99, is_least=True),
}
_POINTS = 5


def run(bench: Bench) -> Iterator[Item]:
    """Measure on a GPU, or yield rows that say there is none."""
    if not torch.cuda.is_available():
        for key in _WHAT:
            yield Row(
                f"gpu_{key}", _WHAT[key], _AGAINST[key], None, goal=_GOALS.get(key), note="no GPU on this machine"
            )
        return
    files = dict(sam_files(bench.work).decoder_files)
    side = bench.runs(8192, 2048)
    image = write_raster(bench.work / "gpu.tif", side, side // 2)
    for name in _NAMES[: bench.runs(3, 1)]:
        yield from compare(bench, random_sam(name, seed=0), files, image, "cuda")


def compare(bench: Bench, sam: LoadedSam, files: dict[str, Path], image: Path, device: str) -> Iterator[Row]:
    """Measure one model on a device, with the files of a decoder for the store."""
    encoder = SamTorchEncoder(sam, device)
    plan = make_plan(Raster(image), encoder, EncodeOptions())
    tiles = [plan.read(tile).image for tile in plan.pyramid]
    bare = _bare(bench, sam, tiles, device)
    root = bench.work / "gpu.embeddings.zarr"
    seconds = _encoding_seconds(bench, plan, encoder, root, files)
    ours = len(tiles) / float(np.median(seconds))
    slow = _one_by_one(sam, tiles[: bench.runs(8, 1)], device)
    name = sam.info.name
    for key, reference, unit in (("one_by_one", slow, "times as fast"), ("bare", bare, "of its speed")):
        yield Row(
            f"gpu_{key}_{name}",
            f"{_WHAT[key]} ({name})",
            _AGAINST[key],
            ours / reference,
            unit=unit,
            goal=_GOALS[key],
            ours=timing_of(seconds),
            note=f"{ours:.1f} and {reference:.1f} tiles per second, {len(tiles)} tiles{_memory(device)}",
        )
    halved = SamTorchEncoder(sam, device, "bfloat16")
    short = _encoding_seconds(bench, make_plan(Raster(image), halved, EncodeOptions()), halved, root, files)
    speeds = {"bfloat16": len(tiles) / float(np.median(short)), "workers": _by_workers(bench, sam, image, device)}
    for key, speed in speeds.items():
        value, note = (
            (None, "it failed, or there is no --workers") if speed is None else (speed / ours, f"{speed:.1f} tiles/s")
        )
        yield Row(f"gpu_{key}_{name}", f"{_WHAT[key]} ({name})", _AGAINST[key], value, unit="times as fast", note=note)
    iou, count = _agreement(sam, encoder, tiles[: bench.runs(4, 1)], device)
    masks = _WHAT["masks"], _AGAINST["masks"]
    yield Row(f"gpu_masks_{name}", f"{masks[0]} ({name})", masks[1], iou, goal=_GOALS["masks"], note=f"{count} masks")


def _encoding_seconds(
    bench: Bench, plan: EncodePlan, encoder: SamTorchEncoder, root: Path, files: dict[str, Path]
) -> list[float]:
    """Encode several times after once to warm up, and return how long each time took."""
    seconds = []
    for _ in range(1 + bench.runs(3, 1)):
        seconds.append(encode(plan, encoder, root, lambda: files).seconds)
        remove_store(root)
    return seconds[1:]


def _memory(device: str) -> str:
    return (
        "" if device == "cpu" else f", at most {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB on the device"
    )


def _by_workers(bench: Bench, sam: LoadedSam, image: Path, device: str) -> float | None:
    """Return the tiles per second of the command line with a cluster of one process; None if it fails."""
    checkpoint, root = bench.work / "random.pth", bench.work / "workers.embeddings.zarr"
    torch.save(sam.network.state_dict(), checkpoint)
    command = [sys.executable, "-m", "encoder_tools.cli", "encode", str(image), "-o", str(root), "--json"]
    model = ["--model", sam.info.name.partition("-")[0], "--checkpoint", str(checkpoint), "--device", device]
    done = subprocess.run([*command, *model, "--workers", "1"], capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    (report,) = json.loads(done.stdout)
    remove_store(root)
    return float(report["encoded"] / report["seconds"])


def _agreement(
    sam: LoadedSam, encoder: SamTorchEncoder, tiles: Sequence[NDArray[np.uint8]], device: str
) -> tuple[float, int]:
    """Compare the masks of a few points on stored features and on those in float32: smallest IoU, number of masks."""
    from segment_anything import SamPredictor

    predictor = SamPredictor(sam.network.to(device))
    ious = []
    for tile in tiles:
        exact = torch.from_numpy(tile).to(device).permute(2, 0, 1)[None]
        predictor.set_torch_image(exact, tile.shape[:2])
        stored = torch.from_numpy(encoder.encode(tile[None])["image_embeddings"]).to(device, torch.float32)
        answers = []
        for features in (predictor.features, stored):
            predictor.features = features
            points = np.linspace(100, 900, _POINTS)
            answers.append([predictor.predict(np.array([[x, x]]), np.array([1]))[2] for x in points])
        ious += [mask_iou(a, b) for first, second in zip(*answers) for a, b in zip(first, second)]
    return min(ious), len(ious)


def _one_by_one(sam: LoadedSam, tiles: Sequence[NDArray[np.uint8]], device: str) -> float:
    """Return the tiles per second with a new predictor for each tile."""
    from segment_anything import SamPredictor

    sam.network.to(device)
    started = time.perf_counter()
    for tile in tiles:
        predictor = SamPredictor(sam.network)
        predictor.set_torch_image(torch.from_numpy(tile).to(device).permute(2, 0, 1)[None], tile.shape[:2])
        predictor.get_image_embedding().cpu()
    return len(tiles) / (time.perf_counter() - started)


def _bare(bench: Bench, sam: LoadedSam, tiles: Sequence[NDArray[np.uint8]], device: str) -> float:
    """Return the tiles per second of the model alone at its best batch size, in float16 on a GPU."""
    network: Any = TileEncoder(sam.network).to(device)
    network = network.to(memory_format=torch.channels_last)
    best = 0.0
    for size in _BATCHES[: bench.runs(len(_BATCHES), 1)]:
        batch = torch.from_numpy(np.stack([tiles[index % len(tiles)] for index in range(size)])).to(device)
        try:
            best = max(best, size * _rate(network, batch, device, bench.runs(5, 1)))
        except torch.cuda.OutOfMemoryError:
            break
    return best


def _rate(network: Any, batch: torch.Tensor, device: str, runs: int) -> float:
    with torch.inference_mode(), torch.autocast(device.split(":")[0], torch.float16, enabled=device != "cpu"):
        network(batch)
        _synchronise(device)
        started = time.perf_counter()
        for _ in range(runs):
            network(batch)
        _synchronise(device)
    return runs / (time.perf_counter() - started)


def _synchronise(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
