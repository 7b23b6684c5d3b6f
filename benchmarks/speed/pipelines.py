"""Encoding a raster from end to end: the pipeline against the model alone."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder_tools.models.loading import load_model
from encoder_tools.models.sam.encoder import SamTorchEncoder
from encoder_tools.raster import Raster, bounded_cache
from geosam_es.core.grid import Tile
from geosam_es.encoding.encode import encode_tiles
from geosam_es.encoding.plan import EncodeOptions, EncodePlan, make_plan
from geosam_es.inference.encoder import TILE_SIZE, Encoder, SplittableEncoder
from geosam_es.store import StoreWriter
from geosam_es.store.writer import remove_store

from .images import write_raster
from .measure import Bench, timing_of
from .model import Goal, Item, Row
from .sam import lively_sam, sam_files

__all__ = ["measure_pipeline", "run"]

_LEAST_SHARE = 0.97
_MOST_FACTOR = 1.03
_SIDE_BY_SIDE_RUNS = 3


class PipelineTimes(NamedTuple):
    """Seconds for all tiles, one value for each run; `side_by_side`, for the notes, of the first runs only."""

    bare: list[float]
    side_by_side: list[float]
    whole: list[float]
    reading: list[float]

    @property
    def slowdown(self) -> float:
        """Time of the pipeline relative to the model alone: the median over pairs of consecutive runs.

        A run lasts seconds, during which other load on the machine changes. Consecutive runs share more of it than the
        medians of all runs do.
        """
        return float(np.median(np.divide(self.whole, self.bare)))

    def floor_s(self, threads: int) -> float:
        """Return the time of the fastest use of the model alone, plus reading divided among all threads."""
        alone = min(np.median(self.bare), np.median(self.side_by_side))
        return float(alone + np.median(self.reading) / threads)


def run(bench: Bench) -> Iterator[Item]:
    """Measure the pipeline with a light and with a heavy model."""
    side = bench.runs(2560, TILE_SIZE)
    small = write_raster(bench.work / "small.tif", side, side)
    large = write_raster(
        bench.work / "large.tif", 8192, bench.runs(4096, TILE_SIZE), compress="JPEG", photometric="YCBCR"
    )
    mini = load_model("mini", None, "cpu", bench.work, bench.threads)
    yield from measure_pipeline(bench, "mini", mini.encoder, mini.export_decoder(), small, large, tiles=60, runs=(9, 7))
    sam = lively_sam()
    vit_b = SamTorchEncoder(sam, "cpu", threads=bench.threads)
    files = sam_files(bench.work, sam).decoder_files
    yield from measure_pipeline(bench, "vit_b", vit_b, files, small, large, tiles=4, runs=(7, 9))


def measure_pipeline(
    bench: Bench,
    name: str,
    encoder: Encoder,
    decoder_files: Mapping[str, Path],
    small: Path,
    large: Path,
    tiles: int,
    runs: tuple[int, int],
) -> Iterator[Row]:
    """Compare the pipeline with the model alone.

    Parameters
    ----------
    bench : Bench
    name : str
        Of the model.
    encoder : Encoder
    decoder_files : mapping of str to Path
    small, large : Path
        An uncompressed image and a large JPEG one.
    tiles : int
        Largest number of tiles of each image.
    runs : (int, int)
        How often each image is encoded.
    """
    times = _times(bench, encoder, decoder_files, small, tiles, runs[0])
    count = len(_plan(encoder, small, tiles)[1])
    bare, whole = timing_of(times.bare), timing_of(times.whole)
    yield Row(
        f"pipeline_{name}",
        f"encode pipeline, {name} on the CPU, {count} tiles: tiles per second",
        "the model alone over tiles in memory",
        1 / times.slowdown,
        unit="of its speed",
        goal=Goal(_LEAST_SHARE, is_least=True),
        ours=whole,
        reference=bare,
        note=f"{count / whole.median_ms * 1e3:.2f} and {count / bare.median_ms * 1e3:.2f} tiles per second; "
        f"the model alone, tiles side by side: {count / np.median(times.side_by_side):.2f}; "
        f"upper limit of a pipeline with this reading: {count / times.floor_s(bench.threads):.2f}",
    )
    times = _times(bench, encoder, decoder_files, large, tiles, runs[1])
    bare, whole = timing_of(times.bare), timing_of(times.whole)
    yield Row(
        f"reading_{name}",
        f"8192 x 4096 JPEG GeoTIFF, {name}: encoding with reading and stretch",
        "the model alone over the same tiles in memory",
        times.slowdown,
        goal=Goal(_MOST_FACTOR),
        ours=whole,
        reference=bare,
        note=f"reading alone takes {np.median(times.reading):.2f} s on one thread; the ratio would be "
        f"{1 + np.median(times.reading) * 1e3 / bare.median_ms:.2f} one after the other, and "
        f"{times.floor_s(bench.threads) * 1e3 / bare.median_ms:.2f} with reading shared among {bench.threads} threads",
    )


def _plan(encoder: Encoder, image: Path, tiles: int) -> tuple[EncodePlan, list[Tile]]:
    # A stretch, so that its work counts too.
    plan = make_plan(Raster(image), encoder, EncodeOptions(stretch="2,98"))
    return plan, list(islice(plan.pyramid, tiles))


def _times(
    bench: Bench, encoder: Encoder, decoder_files: Mapping[str, Path], image: Path, tiles: int, runs: int
) -> PipelineTimes:
    plan, chosen = _plan(encoder, image, bench.runs(tiles, 1))
    times = PipelineTimes([], [], [], [])
    encoder.encode(plan.read(chosen[0]).image[None])
    _whole(bench, plan, encoder, decoder_files, chosen[: 2 * bench.threads])
    for run in range(bench.runs(runs, 1)):
        with bounded_cache():
            started = time.perf_counter()
            images = [plan.read(tile).image for tile in chosen]
            times.reading.append(time.perf_counter() - started)
        if run < _SIDE_BY_SIDE_RUNS:
            times.side_by_side.append(_side_by_side(encoder, images))
        # Alternating, so that neither always comes first.
        for is_whole in (False, True) if run % 2 else (True, False):
            if is_whole:
                times.whole.append(_whole(bench, plan, encoder, decoder_files, chosen))
            else:
                times.bare.append(_bare(encoder, images))
    return times


def _bare(encoder: Encoder, images: Sequence[NDArray[np.uint8]]) -> float:
    """Time the model alone, tile after tile."""
    started = time.perf_counter()
    for pixels in images:
        encoder.encode(pixels[None])
    return time.perf_counter() - started


def _side_by_side(encoder: Encoder, images: Sequence[NDArray[np.uint8]]) -> float:
    """Time the model alone, with the threads divided as in the pipeline."""
    parts = encoder.split() if isinstance(encoder, SplittableEncoder) else [encoder]
    free: SimpleQueue[Encoder] = SimpleQueue()
    for part in parts:
        free.put(part)

    def encode(pixels: NDArray[np.uint8]) -> None:
        part = free.get()
        part.encode(pixels[None])
        free.put(part)

    with ThreadPoolExecutor(len(parts)) as pool:
        started = time.perf_counter()
        list(pool.map(encode, images))
        return time.perf_counter() - started


def _whole(
    bench: Bench, plan: EncodePlan, encoder: Encoder, decoder_files: Mapping[str, Path], tiles: Sequence[Tile]
) -> float:
    root = bench.work / "pipeline.embeddings.zarr"
    writer = StoreWriter.create(root, plan.metadata, decoder_files)
    with bounded_cache():
        report = encode_tiles(plan, encoder, writer, tiles)
    remove_store(root)
    return report.seconds
