"""How the command line and the decoder stand many kills, full disks and clicks: ``make soak``.

It writes the figures to the page given with ``--page``. The tests run short forms of the same functions.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from encoder_tools.models.checkpoints import mini_folder
from geosam_es.core.geotransform import GeoTransform
from geosam_es.core.grid import Tiling
from geosam_es.core.radiometry import Stretch
from geosam_es.inference.encoder import OnnxEncoder
from geosam_es.inference.session import SegmentationSession, open_segmenter
from geosam_es.store import StoreMetadata, StoreReader, StoreWriter
from geosam_es.store.metadata import RasterInfo

from .markdown import markdown_table, replace_sections
from .speed.images import write_raster
from .speed.measure import processor_name

__all__ = ["click_often", "fill_disk", "kill_often"]

_CLICKS_PER_VISIT = 5
"""A user clicks a few times on a tile, and moves on."""

_SHARE = 10
"""The first and the last tenth of the clicks are compared."""

_LABELS = {
    "kills": "runs killed",
    "completed": "stores completed after kills, all equal to the one made without",
    "temporary_files_left": "temporary files left beside these",
    "disks": "disks",
    "full": "disks that filled up",
    "resumed": "stores kept on full disks, all complete once there was room",
    "clicks": "clicks",
    "tiles": "tiles clicked on",
    "p99_start_ms": "time of a click, 99th percentile, first tenth, ms",
    "p99_end_ms": "time of a click, 99th percentile, last tenth, ms",
    "cpu_p99_start_ms": "processor time of a click, 99th percentile, first tenth, ms",
    "cpu_p99_end_ms": "processor time of a click, 99th percentile, last tenth, ms",
    "mib_start": "memory at the start, MiB",
    "mib_end": "memory at the end, MiB",
    "files_start": "open files at the start",
    "files_end": "open files at the end",
}


def kill_often(
    folder: Path, encode: Sequence[str], store: Path, times: int, longest_s: float, seed: int = 0
) -> dict[str, int]:
    """Kill a command that encodes a raster into ``store``, with ``--resume``, after up to ``longest_s``.

    After each kill, every tile must be whole or missing. A store that is complete must be equal to one that was made
    without kills, which goes into an empty folder, and is made anew. Returns the numbers of kills, of completed stores,
    and of temporary files that were left; raises AssertionError if a store was damaged.
    """
    rng = random.Random(seed)
    subprocess.run(encode, check=True, capture_output=True)
    shutil.move(store, folder / "whole")
    kills = completed = left = 0
    while kills < times or store.exists() or not completed:
        process = subprocess.Popen(encode, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
        is_last = kills >= times
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=None if is_last else rng.uniform(0, longest_s))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            kills += 1
            if store.exists():
                bad = {problem for _, problem in StoreReader(store).problems()} - {"", "missing"}
                _check(not bad, f"after kill {kills}: {bad}")
            continue
        _check(process.returncode == 0, f"the command failed with {process.returncode}")
        left += sum(path.name.startswith(".") for path in store.iterdir())
        _check(_tiles(store) == _tiles(folder / "whole"), "the store differs from one made without kills")
        completed += 1
        shutil.rmtree(store)
    return {"kills": kills, "completed": completed, "temporary_files_left": left}


def fill_disk(folder: Path, encode: Sequence[str], name: str, sizes: Sequence[int]) -> dict[str, int]:
    """Encode onto disks of these sizes in bytes, which fill up, then make room and resume; only root can mount them.

    The folder for the store is added to the command. Returns how many disks were full, and how many of their stores
    could be resumed; raises AssertionError if a store was damaged, or an error was not one sentence.
    """
    subprocess.run([*encode, str(folder / "whole")], check=True, capture_output=True)
    full = resumed = 0
    for size in sizes:
        with _small_disk(folder, size) as disk:
            done = subprocess.run([*encode, str(disk)], capture_output=True, text=True, check=False)
            store = disk / name
            if done.returncode != 0:
                full += 1
                errors = [line for line in done.stderr.splitlines() if " tiles" not in line]
                _check(done.returncode == 2 and len(errors) == 1, done.stderr)
                _check("No space left on device" in errors[0] or "free some space" in errors[0], errors[0])
            if store.exists():
                bad = {problem for _, problem in StoreReader(store).problems()} - {"", "missing"}
                _check(not bad, str(bad))
                resumed += 1
            subprocess.run(["mount", "-o", "remount,size=1g", str(disk)], check=True)
            subprocess.run([*encode, str(disk)], check=True, capture_output=True)
            _check(_tiles(store) == _tiles(folder / "whole" / name), "the store differs from one on a large disk")
    return {"disks": len(sizes), "full": full, "resumed": resumed}


@contextmanager
def _small_disk(folder: Path, size: int) -> Iterator[Path]:
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], check=True, capture_output=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)
        disk.rmdir()


def _check(is_right: bool, text: str) -> None:
    if not is_right:
        raise AssertionError(text)


def _tiles(store: Path) -> dict[str, bytes]:
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("c/**/*") if path.is_file()}


def click_often(folder: Path, clicks: int, tiles: int, threads: int = 1, seed: int = 0) -> dict[str, float]:
    """Click at random places of a store of one tile of the embedded model, written many times, in one process.

    Returns, for the first and the last tenth, the 99th percentile of the time and of the processor time of a click,
    resident memory in MiB, and the number of open files.
    """
    store = _store_of(folder, tiles)
    segmenter = open_segmenter(store, threads)
    pyramid = segmenter.pyramid
    places = [tile for tile in pyramid if tile.level == 0]
    rng = random.Random(seed)
    seconds: list[tuple[float, float]] = []
    state: list[tuple[float, int]] = []
    while len(seconds) < clicks:
        window = pyramid.tile_bounds(rng.choice(places))
        for _ in range(_CLICKS_PER_VISIT):
            x, y = rng.uniform(window.min_x, window.max_x), rng.uniform(window.min_y, window.max_y)
            started, worked = time.perf_counter(), time.process_time()
            SegmentationSession(segmenter).add_point(x, -y, positive=True)
            seconds.append((time.perf_counter() - started, time.process_time() - worked))
        if len(seconds) % (clicks // _SHARE) < _CLICKS_PER_VISIT:
            state.append((_resident_mib(), len(list(Path("/proc/self/fd").iterdir()))))
    share = clicks // _SHARE
    times = np.array(seconds) * 1e3
    start, end = (np.percentile(part, 99, axis=0).tolist() for part in (times[:share], times[-share:]))
    return {
        "clicks": len(seconds),
        "tiles": len(places),
        "p99_start_ms": start[0],
        "p99_end_ms": end[0],
        "cpu_p99_start_ms": start[1],
        "cpu_p99_end_ms": end[1],
        "mib_start": state[0][0],
        "mib_end": state[-1][0],
        "files_start": state[0][1],
        "files_end": state[-1][1],
    }


def _store_of(folder: Path, tiles: int) -> Path:
    """Write a store with at least so many tiles at its only level."""
    side = 1024
    encoder = OnnxEncoder(mini_folder(), 1)
    rows = max(1, int(np.sqrt(tiles)))
    cols = -(-tiles // rows)
    raster = RasterInfo(
        "soak.tif", 1, cols * side, rows * side, "0" * 64, "", GeoTransform(1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
    )
    metadata = StoreMetadata(
        raster, (1, 2, 3), Stretch(), None, encoder.info.to_json(), "float16", Tiling(side, 0), 1, None, "soak", ""
    )
    files = {name: mini_folder() / name for name in ("prepare.onnx", "decoder.onnx")}
    store = folder / "soak.embeddings.zarr"
    writer = StoreWriter.create(store, metadata, files)
    image = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8).repeat(64, 0).repeat(64, 1)
    features = {name: values[0] for name, values in encoder.encode(image[None]).items()}
    for tile in metadata.pyramid:
        writer.write(tile, features)
    return store


def _resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Run everything and fill in the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--disks", type=int, default=10)
    parser.add_argument("--clicks", type=int, default=10_000)
    parser.add_argument("--tiles", type=int, default=200)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    started = time.monotonic()
    with TemporaryDirectory(prefix="geosam-es-soak-") as work:
        folder = Path(work)
        (folder / "kills").mkdir()
        (folder / "disks").mkdir()
        image = write_raster(folder / "soak.tif", 3000, 3000)
        encode = [sys.executable, "-m", "encoder_tools.cli", "encode", str(image), "--resume", "--threads", "1"]
        store = folder / "soak.embeddings.zarr"
        rows: list[Mapping[str, float]] = [kill_often(folder / "kills", encode, store, options.kills, 6.0)]
        print(rows[-1], flush=True)
        sizes = [random.Random(1).randrange(1 << 20, 60 << 20) for _ in range(options.disks)]
        rows.append(fill_disk(folder / "disks", [*encode, "-o"], store.name, sizes))
        print(rows[-1], flush=True)
        (folder / "clicks").mkdir()
        rows.append(click_often(folder / "clicks", options.clicks, options.tiles))
        print(rows[-1], flush=True)
    lines = [(_LABELS[key], f"{value:.5g}") for found in rows for key, value in found.items()]
    text = f"{processor_name()}, {os.cpu_count()} cores, {time.monotonic() - started:.0f} s.\n\n"
    text += markdown_table(("what", "result"), lines)
    if options.page is not None:
        replace_sections(options.page, {"soak": text})


if __name__ == "__main__":
    main()
