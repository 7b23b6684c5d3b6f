"""Encoding with several workers: a worker is lost, one and two are timed, and up to a thousand are simulated.

    python -m benchmarks.scaling --data ../shared/data [--page]

Cuts twelve sheets from an orthophoto, encodes them on a cluster of two processes, of which one is killed, verifies the
stores and writes their catalogue. ``--page`` puts the log and the tables into docs/scaling.md.
"""

from __future__ import annotations

import argparse
import heapq
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import rasterio
from rasterio.windows import Window

from encoder_tools.mini.sources import data_folder

from .markdown import markdown_table, replace_sections

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scaling.md"
IMAGE = Path("buildings", "train_zanzibar", "ortho_block0.tif")
SIDE, COLS, ROWS = 1365, 4, 3
BLOCK = 64
"""Tiles of a block of work, as in `encoder_tools.distributed`."""


class Costs(NamedTuple):
    """What a tile costs: seconds of a worker, MB read and written; and what all share.

    ``disk`` is the throughput of the shared storage in MB/s, ``task`` what the scheduler needs for a block in seconds.
    """

    encode: float
    read: float
    write: float
    disk: float = 5000.0
    task: float = 0.001


CASES = {
    "`mini`, 4.2 MB stored, 0.3 s a tile on a core": Costs(0.3, 2.4, 4.2),
    "ViT-B, 2.1 MB stored, 0.05 s a tile on a GPU (assumed)": Costs(0.05, 2.4, 2.1),
}


def simulate(workers: int, costs: Costs, blocks_per_worker: int = 20) -> tuple[float, str]:
    """Return tiles per second, and the busiest of the queues: worker, storage or scheduler.

    A worker fetches a block from the scheduler, reads its tiles from the storage, encodes and writes them. Scheduler
    and storage serve one block at a time. Reading and writing overlap with encoding, as they do in a worker.
    """
    left = workers * blocks_per_worker
    ready = [(0.0, worker) for worker in range(workers)]
    free = {"scheduler": 0.0, "storage": 0.0}
    busy = {"scheduler": 0.0, "storage": 0.0, "worker": 0.0}
    end = 0.0
    transfer = BLOCK * (costs.read + costs.write) / costs.disk
    while left:
        left -= 1
        now, worker = heapq.heappop(ready)
        for queue, needed in (("scheduler", costs.task), ("storage", transfer)):
            started = max(now, free[queue])
            free[queue] = started + needed
            busy[queue] += needed
            now = started + needed if queue == "scheduler" else now
        now = max(now + BLOCK * costs.encode, free["storage"])
        busy["worker"] += BLOCK * costs.encode / workers
        end = max(end, now)
        heapq.heappush(ready, (now, worker))
    return workers * blocks_per_worker * BLOCK / end, max(busy, key=busy.__getitem__)


def simulated() -> str:
    """Return the table of the simulation."""
    rows = []
    for name, costs in CASES.items():
        alone = simulate(1, costs)[0]
        for workers in (1, 10, 100, 1000):
            rate, queue = simulate(workers, costs)
            rows.append([name, f"{workers}", f"{rate:,.0f}", f"{rate / alone / workers:.0%}", queue])
    return markdown_table(["model", "workers", "tiles/s", "efficiency", "busiest"], rows)


def cut(image: Path, folder: Path) -> list[Path]:
    """Write the sheets of an image."""
    sheets = []
    with rasterio.open(image) as source:
        for number in range(ROWS * COLS):
            window = Window(number % COLS * SIDE, number // COLS * SIDE, SIDE, SIDE)
            profile = {**source.profile, "width": SIDE, "height": SIDE, "transform": source.window_transform(window)}
            sheets.append(folder / f"sheet_{number:02}.tif")
            with rasterio.open(sheets[-1], "w", **profile) as sheet:
                sheet.write(source.read(window=window))
    return sheets


def run(*arguments: object, log: list[str] | None = None) -> None:
    """Run a command of geosam-es, and keep what it prints."""
    command = [sys.executable, "-m", "encoder_tools.cli", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=None)
    if log is not None:
        log += done.stdout.splitlines()


def timed(sheets: Sequence[Path], folder: Path, workers: int) -> float:
    """Return the seconds that encoding takes, the start of the workers included."""
    started = time.perf_counter()
    run("encode", *sheets, "-o", folder, "--workers", workers, "--threads", 1)
    return time.perf_counter() - started


def lose_a_worker(sheets: Sequence[Path], folder: Path) -> list[str]:
    """Encode with two workers, kill one of them when a third is done, verify, and return the log."""
    from distributed import LocalCluster

    log = ["starting two workers"]
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50) as cluster:
        options = ["-o", folder, "--scheduler", cluster.scheduler_address, "--threads", 1, "--resume"]
        command = [sys.executable, "-m", "encoder_tools.cli", "encode", *sheets, *options]
        log.append(
            f"geosam-es encode sheet_*.tif -o stores --scheduler {cluster.scheduler_address} --threads 1 --resume"
        )
        process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
        tiles = 0
        while process.poll() is None and tiles < 20:
            time.sleep(0.1)
            tiles = len(list(folder.glob("*/level*/image_embeddings/c/*/*/0/0/0")))
        pid = next(iter(cluster.workers.values())).pid
        os.kill(pid, signal.SIGKILL)
        log.append(f"kill -9 {pid} (one of the workers) after {tiles} tiles")
        output, _ = process.communicate()
        log += [line.replace(f"{folder}{os.sep}", "stores/") for line in output.splitlines()]
        log.append(f"exit code {process.returncode}")
    for sheet in sheets:
        run("verify", folder / f"{sheet.stem}.embeddings.zarr", sheet)
    log.append(f"geosam-es verify: {len(sheets)} stores are complete and their checksums agree")
    run("catalog", folder, "-o", folder / "catalog.gpkg", log=log)
    log[-1] = log[-1].replace(f"{folder}{os.sep}", "stores/")
    return log


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("GEOSAM_ES_DATA"))
    parser.add_argument("--page", action="store_true", help="write docs/scaling.md")
    options = parser.parse_args()
    with TemporaryDirectory() as name:
        work = Path(name)
        sheets = cut(data_folder(options.data) / IMAGE, work)
        log = lose_a_worker(sheets, work / "stores")
        print("\n".join(log))
        half = timed(sheets[: len(sheets) // 2], work / "half", 1)
        one = timed(sheets, work / "one", 1)
        two = timed(sheets, work / "two", 2)
    header = ["", "1 worker", "2 workers", "efficiency"]
    measured = [
        ["12 sheets (strong scaling)", f"{one:.0f} s", f"{two:.0f} s", f"{one / two / 2:.0%}"],
        ["6 sheets for each worker (weak scaling)", f"{half:.0f} s", f"{two:.0f} s", f"{half / two:.0%}"],
    ]
    sections = {
        "log": "```\n" + "\n".join(log) + "\n```",
        "measured": markdown_table(header, measured),
        "simulated": simulated(),
    }
    print("\n\n".join(sections.values()))
    if options.page:
        replace_sections(PAGE, sections)


if __name__ == "__main__":
    main()
