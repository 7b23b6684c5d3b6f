"""Encoding a raster into a store: read | encode | write, overlapped, so that the device never waits.

Reader threads keep a bounded number of tiles ahead of the device, batches are encoded one after the other or, by an
encoder that can be split, side by side, and writer threads put the features on disk. Memory does not depend on the size
of the raster. The command line and QGIS
share everything here; they differ in what reads the raster and in who watches the progress.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol

import numpy as np
import shapely
from numpy.typing import NDArray

from .. import __version__
from ..core.grid import Pyramid, Tile, Tiling
from ..core.radiometry import Stretch
from ..core.window import Window
from ..errors import StoreError
from ..inference.encoder import TILE_SIZE, Encoder, SplittableEncoder
from ..inference.float16 import to_half
from ..store import StoreMetadata, StoreWriter
from .raster import RasterTile, TiledRaster
from .stretch import decide_stretch

__all__ = [
    "EncodeOptions",
    "EncodePlan",
    "EncodeReport",
    "ProgressCallback",
    "RasterSource",
    "encode_tiles",
    "make_plan",
]

READERS = 2
"""At most: each has blocks of the file in a cache of its own, so that one decodes less than two do."""

WRITERS = 2

_WORTH_SPLITTING = 4
"""Batches for each part of a split encoder; with fewer, making the parts costs more than they save."""

ProgressCallback = Callable[[int, int], None]

_Features = dict[str, NDArray[np.float32]]


class RasterSource(Protocol):
    """Anything that tiles are read from."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    def read_tile(self, window: Window, scale: int, stretch: Stretch) -> RasterTile:
        """Read a tile; see `TiledRaster.read_tile`."""
        ...


@dataclass(frozen=True)
class EncodeOptions:
    """What the user may choose.

    Attributes
    ----------
    stretch : str
        See `decide_stretch`.
    overlap : int
        Pixels that neighbouring tiles share.
    levels : int, optional
        By default up to the level that fits into one tile.
    dtype : str
        Of the stored features, one of `DTYPES`.
    batch_size : int, optional
        By default what suits the encoder's device.
    aoi : shapely geometry, optional
        Area of interest in the raster's CRS; tiles that do not touch it are skipped.
    """

    stretch: str = "auto"
    overlap: int = 256
    levels: int | None = None
    dtype: str = "float16"
    batch_size: int | None = None
    aoi: shapely.Geometry | None = None


@dataclass(frozen=True)
class EncodePlan:
    """What will be done: the metadata of the store, and the tiles."""

    raster: RasterSource
    metadata: StoreMetadata
    aoi: shapely.Geometry | None
    batch_size: int

    @property
    def pyramid(self) -> Pyramid:
        """Tiles and levels."""
        return self.metadata.pyramid

    def is_wanted(self, tile: Tile) -> bool:
        """Tell whether a tile touches the area of interest."""
        if self.aoi is None:
            return True
        footprint = shapely.box(*self.pyramid.tile_bounds(tile))
        return bool(self.aoi.intersects(self.metadata.raster.transform.apply_geometry(footprint)))

    def read(self, tile: Tile) -> RasterTile:
        """Read a tile from the raster."""
        return self.raster.read_tile(self.pyramid.window(tile), 1 << tile.level, self.metadata.stretch)


@dataclass(frozen=True)
class EncodeReport:
    """What an encoding did: tiles encoded now, skipped now, and found done before; time."""

    encoded: int
    skipped: int
    resumed: int
    seconds: float


def make_plan(raster: TiledRaster, encoder: Encoder, options: EncodeOptions) -> EncodePlan:
    """Decide everything about a store before its first tile.

    Raises
    ------
    RasterError
        If the stretch does not suit the data, or there are none.
    StoreError
        If the overlap cannot be.
    """
    try:
        tiling = Tiling(TILE_SIZE, options.overlap)
    except ValueError as error:
        raise StoreError(
            "--overlap {overlap} cannot be ({reason})", "use 256", overlap=options.overlap, reason=str(error)
        ) from error
    wanted_levels = Pyramid.full_level_count(raster.width, raster.height, TILE_SIZE)
    metadata = StoreMetadata(
        raster=raster.info(),
        bands=raster.bands,
        stretch=decide_stretch(raster, options.stretch),
        nodata=raster.nodata,
        model=encoder.info.to_json(),
        dtype=options.dtype,
        tiling=tiling,
        levels=min(options.levels or wanted_levels, wanted_levels),
        aoi_sha256=None if options.aoi is None else hashlib.sha256(shapely.to_wkb(options.aoi)).hexdigest(),
        software=f"GeoSAM-ES {__version__}",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    return EncodePlan(raster, metadata, options.aoi, options.batch_size or encoder.default_batch_size)


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
        In the order in which they are wanted; all of the store by default.
    progress : callable, optional
        Called with the tiles done and their number. What it raises stops the run; the store stays whole, and can be
        gone on with.

    Returns
    -------
    EncodeReport

    Raises
    ------
    GeoSamError
        If the raster cannot be read or the store not be written.
    """
    return _Run(plan, encoder, writer, list(plan.pyramid if tiles is None else tiles), progress).execute()


class _Run:
    """One pass over the tiles that are missing."""

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
        todo = [tile for tile in self.tiles if not self.writer.is_done(tile)]
        self.resumed = self._total - len(todo)
        self._report()
        with ExitStack() as stack:
            readers = [stack.enter_context(ThreadPoolExecutor(1, "read")) for _ in range(READERS)]
            writers = stack.enter_context(ThreadPoolExecutor(WRITERS, "write"))
            encoders = self._split(len(todo))
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
        todo: Sequence[Tile],
        readers: Sequence[ThreadPoolExecutor],
        workers: ThreadPoolExecutor | None,
        writers: ThreadPoolExecutor,
    ) -> None:
        size = self.plan.batch_size
        side_by_side = self._encoders.qsize()
        batch: list[tuple[Tile, NDArray[np.uint8]]] = []
        for tile, read in self._read_ahead(todo, readers, ahead=(1 + side_by_side) * size + READERS):
            if read is None or not read.has_data:
                self._skipping.append(writers.submit(self.writer.skip, tile))
            else:
                batch.append((tile, read.image))
            if len(batch) == size:
                self._encode(batch, workers)
                # One more than run waits its turn, so that none of them waits for this thread.
                self._collect(side_by_side if workers else 0, writers)
                batch = []
            self._settle(2 * size + WRITERS)
        if batch:
            self._encode(batch, workers)
        self._collect(0, writers)
        self._settle(0)

    def _settle(self, most: int) -> None:
        """Count what is on disk by now, and wait until no more than ``most`` tiles of a kind are on their way there.

        An error while writing surfaces here.
        """
        encoded, skipped = _take_done(self._writing, most), _take_done(self._skipping, most)
        self.encoded += encoded
        self.skipped += skipped
        if encoded or skipped:
            self._report()

    def _read_ahead(
        self, todo: Sequence[Tile], readers: Sequence[ThreadPoolExecutor], ahead: int
    ) -> Iterator[tuple[Tile, RasterTile | None]]:
        waiting: deque[tuple[Tile, Future[RasterTile] | None]] = deque()
        used, taken = 1, 0

        def take() -> tuple[Tile, RasterTile | None]:
            nonlocal used, taken
            tile, future = waiting.popleft()
            taken += 1
            if future is None:
                return tile, None
            # The first ones are waited for by an encoder that has nothing to do yet.
            if not future.done() and taken > ahead:
                used = len(readers)
            return tile, future.result()

        for index, tile in enumerate(todo):
            reader = readers[index % used]
            waiting.append((tile, reader.submit(self.plan.read, tile) if self.plan.is_wanted(tile) else None))
            if len(waiting) > ahead:
                yield take()
        while waiting:
            yield take()

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
        """Hand on what is encoded, waiting until no more than ``most`` batches are on the way."""
        while len(self._encoding) > most:
            tiles, future = self._encoding.popleft()
            features = future.result()
            for index, tile in enumerate(tiles):
                maps = {name: values[index] for name, values in features.items()}
                self._writing.append(writers.submit(self._write, tile, maps))

    def _write(self, tile: Tile, features: Mapping[str, NDArray[np.float32]]) -> None:
        if self.plan.metadata.dtype == "float16":
            self.writer.write(tile, {name: to_half(values) for name, values in features.items()})
        else:
            self.writer.write(tile, features)

    def _report(self) -> None:
        if self.progress is not None:
            self.progress(self.encoded + self.skipped + self.resumed, self._total)


def _take_done(futures: deque[Future[None]], most: int) -> int:
    """Take those that are done off the front, waiting as long as there are more than ``most``, and count them."""
    before = len(futures)
    while futures and (len(futures) > most or futures[0].done()):
        futures.popleft().result()
    return before - len(futures)
