"""Hovering: the age of the preview while a pointer moves 60 times a second.

The plugin's worker needs Qt, so its rule is repeated here with the real session: one thread decodes, and a new move
replaces the one that waits. Drawing is not included.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from encoder_tools.models.loading import load_model
from encoder_tools.pipeline import EncodeOptions, encode, make_plan
from encoder_tools.raster import Raster
from geosam_es.core.prompts import Point
from geosam_es.inference.encoder import TILE_SIZE
from geosam_es.inference.session import SegmentationSession, open_segmenter

from .images import orthophotos
from .measure import Bench
from .model import Goal, Item, Row
from .polygon import sam_store
from .sam import sam_files, smooth_features

__all__ = ["run"]

_RATE = 60
_SECONDS = 10
_LARGEST_AGE_MS = 60.0


@dataclass
class _Shown:
    """What a user sees."""

    moved_at: float = math.nan
    latencies: list[float] = field(default_factory=list)


class LatestWins:
    """One slot and a thread: the plugin's `Worker` without Qt."""

    def __init__(self, session: SegmentationSession) -> None:
        self.shown = _Shown()
        self._session = session
        self._ready = threading.Condition()
        self._move: tuple[float, Point] | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def move(self, moved_at: float, point: Point) -> None:
        with self._ready:
            self._move = moved_at, point
            self._ready.notify()

    def stop(self) -> None:
        with self._ready:
            self._stopping = True
            self._ready.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._stopping or self._move is not None)
                if self._stopping or self._move is None:
                    return
                (moved_at, point), self._move = self._move, None
            self._session.preview(point.x, point.y)
            self.shown.moved_at = moved_at
            self.shown.latencies.append(time.perf_counter() - moved_at)


def run(bench: Bench) -> Iterator[Item]:
    """Hover on a tile of mini and on one of SAM."""
    files = sam_files(bench.work)
    sam = sam_store(bench.work / "hover.embeddings.zarr", files, smooth_features())
    for name, store in (("mini", _mini_store(bench)), ("the SAM decoder", sam)):
        yield _hover(bench, name, store)


def _mini_store(bench: Bench) -> Path:
    (image,), _ = orthophotos(bench.work, 1)
    store = bench.work / "mini.embeddings.zarr"
    model = load_model("mini", None, "cpu", bench.work, bench.threads)
    encode(make_plan(Raster(image), model.encoder, EncodeOptions()), model.encoder, store, model.export_decoder)
    return store


def _hover(bench: Bench, name: str, store: Path) -> Row:
    segmenter = open_segmenter(store, bench.threads)
    session = SegmentationSession(segmenter)
    transform = segmenter.reader.metadata.raster.transform
    path = [Point(*transform.apply(x, y)) for x, y in _path(bench.runs(_SECONDS, 1) * _RATE)]
    session.preview(path[0].x, path[0].y)
    worker = LatestWins(session)
    ages = []
    started, cpu = time.perf_counter(), time.process_time()
    for index, point in enumerate(path):
        time.sleep(max(0.0, started + index / _RATE - time.perf_counter()))
        now = time.perf_counter()
        # At every frame, the age of the pointer position that the preview on the screen belongs to.
        ages.append(now - worker.shown.moved_at)
        worker.move(now, point)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    worker.stop()
    seen = np.array([age for age in ages if not math.isnan(age)]) * 1e3
    latencies = np.array(worker.shown.latencies) * 1e3
    return Row(
        f"hover_{'sam' if 'SAM' in name else name}",
        f"hover at {_RATE} moves per second on {name}: age of the preview shown, 95th percentile",
        "",
        float(np.percentile(seen, 95)),
        unit="ms",
        goal=Goal(_LARGEST_AGE_MS),
        note=f"age at each frame, median {np.median(seen):.0f} ms; from a move to its polygon "
        f"{np.median(latencies):.0f} ms (median), {np.percentile(latencies, 95):.0f} ms (95 %); "
        f"{len(latencies) / seconds:.0f} previews per second; {cpu / seconds:.0%} of one core; without drawing",
    )


def _path(count: int) -> Iterator[tuple[float, float]]:
    """Return a path over a tile, well inside."""
    for angle in np.linspace(0, 6 * np.pi, count):
        yield TILE_SIZE * (0.5 + 0.3 * math.cos(angle)), TILE_SIZE * (0.5 + 0.3 * math.sin(1.7 * angle))
