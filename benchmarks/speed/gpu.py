"""Encoding on a GPU, if there is one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder_tools.models.libraries import torch
from encoder_tools.models.sam.encoder import SamTorchEncoder, TileEncoder
from encoder_tools.models.sam.weights import Architecture, LoadedSam, random_sam
from encoder_tools.pipeline import EncodeOptions, encode, make_plan
from encoder_tools.raster import Raster
from geosam_es.store.writer import remove_store

from .images import write_raster
from .measure import Bench, timing_of
from .model import Goal, Item, Row
from .sam import sam_files

__all__ = ["compare", "run"]

_NAMES: Sequence[Architecture] = ("vit_b", "vit_l", "vit_h")
_BATCHES = (1, 2, 4, 8, 16)
_WHAT = {
    "one_by_one": "encoding on a GPU: tiles per second",
    "bare": "encoding on a GPU, from GeoTIFF to store: tiles per second",
}
_AGAINST = {
    "one_by_one": "one chip at a time, float32, predictor rebuilt for each chip, as Geo-SAM does",
    "bare": "the bare model at its best batch, tiles on the device",
}
_GOALS = {"one_by_one": Goal(5.0, is_least=True), "bare": Goal(0.8, is_least=True)}


def run(bench: Bench) -> Iterator[Item]:
    """Measure on a GPU, or yield rows that say there is none."""
    if not torch.cuda.is_available():
        for key in _WHAT:
            yield Row(f"gpu_{key}", _WHAT[key], _AGAINST[key], None, goal=_GOALS[key], note="no GPU on this machine")
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
    encode(plan, encoder, root, lambda: files)  # warms up
    seconds = []
    for _ in range(bench.runs(3, 1)):
        remove_store(root)
        seconds.append(encode(plan, encoder, root, lambda: files).seconds)
    remove_store(root)
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
            note=f"{ours:.1f} and {reference:.1f} tiles per second, {len(tiles)} tiles",
        )


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
