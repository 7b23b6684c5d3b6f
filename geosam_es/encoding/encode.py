"""Encoding tiles into a store: read | encode | write, overlapped so that the device never waits.

Several programs may fill one store: whether another one has made a tile is asked just before it is read, and again
before it is encoded.

Reader threads keep a bounded number of tiles ahead of the device. Batches are encoded one after the other or, with an
encoder that can be split, side by side. Writer threads put the features on disk. Memory does not depend on the size of
the raster. The command line and QGIS share this module; they differ in the library that reads the raster and in how
progress is shown.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from ..core.grid import Tile
from ..inference.encoder import Encoder, SplittableEncoder
from ..inference.float16 import float32_to_float16
from ..store import StoreWriter
from .plan import EncodePlan
from .raster_source import RasterTile

__all__ = ["EncodeReport", "ProgressCallback", "encode_tiles"]

READERS = 2
"""Upper limit. Each reader caches blocks of the file for itself, so two decode more blocks than one."""

WRITERS = 2

_EMPTY = RasterTile(np.empty((0, 0, 3), np.uint8), has_data=False)

_WORTH_SPLITTING = 4
"""An encoder is split from this number of batches, when its copies save more time than they take to load."""

ProgressCallback = Callable[[int, int], None]

_Features = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class EncodeReport:
    """Tiles that were encoded, skipped as empty, and found done by an earlier or another run; duration."""

    encoded: int
    skipped: int
    resumed: int
    seconds: float


def encode_tiles(
    plan: EncodePlan,
    encoder: Encoder,
    writer: StoreWriter,
    tiles: Iterable[Tile] | None = None,
    progress: ProgressCallback | None = None,
) -> EncodeReport:
    """Encode the tiles that a store lacks.

    Parameters
    ----------
    plan : EncodePlan
    encoder : Encoder
    writer : StoreWriter
    tiles : iterable of Tile, optional
        In the order to encode them; all tiles of the plan by default.
    progress : callable, optional
        Called with the number of tiles done and of all tiles. An exception it raises stops the run; the store stays
        valid and can be resumed.

    Returns
    -------
    EncodeReport

    Raises
    ------
    GeoSamError
        If the raster cannot be read or the store cannot be written.
    """
    if not isinstance(tiles, Sequence):
        tiles = plan.tiles if tiles is None else list(tiles)
    return _Run(plan, encoder, writer, tiles, progress).execute()


class _Run:
    """One run over the missing tiles."""

    def __init__(
        self,
        plan: EncodePlan,
        encoder: Encoder,
        writer: StoreWriter,
        tiles: Sequence[Tile],
        progress: ProgressCallback | None,
    ) -> None:
        self.plan = plan
        self.encoder = encoder
        self.writer = writer
        self.tiles = tiles
        self.progress = progress
        self.encoded = self.skipped = self.resumed = 0
        self._total = len(tiles)
        self._encoders: SimpleQueue[Encoder] = SimpleQueue()
        self._encoding: deque[tuple[list[Tile], Future[_Features]]] = deque()
        self._skipping: deque[Future[None]] = deque()
        self._writing: deque[Future[None]] = deque()

    def execute(self) -> EncodeReport:
        started = time.perf_counter()
        # One byte for each tile, because a list of the missing ones would take a hundred.
        is_done = np.fromiter(map(self.writer.is_done, self.tiles), np.bool_, self._total)
        self.resumed = int(is_done.sum())
        todo = (tile for tile, done in zip(self.tiles, is_done) if not done)
        self._report()
        with ExitStack() as stack:
            readers = [stack.enter_context(ThreadPoolExecutor(1, "read")) for _ in range(READERS)]
            writers = stack.enter_context(ThreadPoolExecutor(WRITERS, "write"))
            encoders = self._split(self._total - self.resumed)
            for encoder in encoders:
                self._encoders.put(encoder)
            workers = stack.enter_context(ThreadPoolExecutor(len(encoders), "encode"))
            for pool in (*readers, workers):
                stack.callback(pool.shutdown, cancel_futures=True)
            self._overlap(todo, readers, workers if len(encoders) > 1 else None, writers)
        return EncodeReport(self.encoded, self.skipped, self.resumed, time.perf_counter() - started)

    def _split(self, tiles: int) -> Sequence[Encoder]:
        if isinstance(self.encoder, SplittableEncoder) and tiles >= _WORTH_SPLITTING * self.plan.batch_size:
            return self.encoder.split()
        return [self.encoder]

    def _overlap(
        self,
        todo: Iterable[Tile],
        readers: Sequence[ThreadPoolExecutor],
        workers: ThreadPoolExecutor | None,
        writers: ThreadPoolExecutor,
    ) -> None:
        size = self.plan.batch_size
        side_by_side = self._encoders.qsize()
        batch: list[tuple[Tile, NDArray[np.uint8]]] = []
        for tile, read in self._read_ahead(todo, readers, ahead=(1 + side_by_side) * size + READERS):
            if read is None or (read.has_data and self.writer.is_done(tile)):
                self.resumed += 1
            elif not read.has_data:
                self._skipping.append(writers.submit(self.writer.skip, tile))
            else:
                batch.append((tile, read.image))
            if len(batch) == size:
                self._encode(batch, workers)
                # One more batch than encoders is in flight, so that none of them waits for this thread.
                self._collect(side_by_side if workers else 0, writers)
                batch = []
            self._settle(2 * size + WRITERS)
        if batch:
            self._encode(batch, workers)
        self._collect(0, writers)
        self._settle(0)

    def _settle(self, most: int) -> None:
        """Count the tiles on disk, and wait until at most ``most`` tiles of a kind are still being written.

        Raises the errors of the writers.
        """
        encoded, skipped = _take_done(self._writing, most), _take_done(self._skipping, most)
        self.encoded += encoded
        self.skipped += skipped
        if encoded or skipped:
            self._report()

    def _read_ahead(
        self, todo: Iterable[Tile], readers: Sequence[ThreadPoolExecutor], ahead: int
    ) -> Iterator[tuple[Tile, RasterTile | None]]:
        """Yield each tile with its pixels, or with None if another program has made it meanwhile."""
        waiting: deque[tuple[Tile, Future[RasterTile | None] | None]] = deque()
        used, taken = 1, 0

        def take() -> tuple[Tile, RasterTile | None]:
            nonlocal used, taken
            tile, future = waiting.popleft()
            taken += 1
            if future is None:
                return tile, _EMPTY
            # The encoder always waits for the first tiles.
            if not future.done() and taken > ahead:
                used = len(readers)
            return tile, future.result()

        for index, tile in enumerate(todo):
            reader = readers[index % used]
            waiting.append((tile, reader.submit(self._read, tile) if self.plan.is_wanted(tile) else None))
            if len(waiting) > ahead:
                yield take()
        while waiting:
            yield take()

    def _read(self, tile: Tile) -> RasterTile | None:
        return None if self.writer.is_done(tile) else self.plan.read(tile)

    def _encode(self, batch: Sequence[tuple[Tile, NDArray[np.uint8]]], workers: ThreadPoolExecutor | None) -> None:
        tiles = [tile for tile, _ in batch]
        images = batch[0][1][None] if len(batch) == 1 else np.stack([image for _, image in batch])
        if workers is not None:
            self._encoding.append((tiles, workers.submit(self._encode_images, images)))
            return
        done: Future[_Features] = Future()
        done.set_result(self._encode_images(images))
        self._encoding.append((tiles, done))

    def _encode_images(self, images: NDArray[np.uint8]) -> _Features:
        encoder = self._encoders.get()
        try:
            return encoder.encode(images)
        finally:
            self._encoders.put(encoder)

    def _collect(self, most: int, writers: ThreadPoolExecutor) -> None:
        """Pass encoded batches to the writers, and wait until at most ``most`` batches are being encoded."""
        while len(self._encoding) > most:
            tiles, future = self._encoding.popleft()
            features = future.result()
            for index, tile in enumerate(tiles):
                maps = {name: values[index] for name, values in features.items()}
                self._writing.append(writers.submit(self._write, tile, maps))

    def _write(self, tile: Tile, features: Mapping[str, NDArray[np.float32]]) -> None:
        if self.plan.metadata.dtype == "float16":
            self.writer.write(tile, {name: float32_to_float16(values) for name, values in features.items()})
        else:
            self.writer.write(tile, features)

    def _report(self) -> None:
        if self.progress is not None:
            self.progress(self.encoded + self.skipped + self.resumed, self._total)


def _take_done(futures: deque[Future[None]], most: int) -> int:
    """Remove finished futures from the front until at most ``most`` are left, waiting if needed, and count them."""
    before = len(futures)
    while futures and (len(futures) > most or futures[0].done()):
        futures.popleft().result()
    return before - len(futures)
