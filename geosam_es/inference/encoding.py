"""Encoding a raster into a store: read | encode | write, overlapped, so that the device never waits.

Reader threads keep a bounded number of tiles ahead of the device, batches are encoded in the calling thread, and
writer threads put the features on disk. Memory does not depend on the size of the raster. The command line and QGIS
share everything here; they differ in what reads the raster and in who watches the progress.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import shapely
from numpy.typing import NDArray

from .. import __version__
from ..core.grid import Pyramid, Tile, Tiling
from ..core.radiometry import Stretch
from ..core.window import Window
from ..errors import StoreError
from ..store import StoreMetadata, StoreWriter
from .encoder import TILE_SIZE, Encoder
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
WRITERS = 2

ProgressCallback = Callable[[int, int], None]


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
        self._skipping: deque[Future[None]] = deque()
        self._writing: deque[Future[None]] = deque()

    def execute(self) -> EncodeReport:
        started = time.perf_counter()
        todo = [tile for tile in self.tiles if not self.writer.is_done(tile)]
        self.resumed = self._total - len(todo)
        self._report()
        with ExitStack() as stack:
            readers = stack.enter_context(ThreadPoolExecutor(READERS, "read"))
            writers = stack.enter_context(ThreadPoolExecutor(WRITERS, "write"))
            stack.callback(readers.shutdown, cancel_futures=True)
            self._overlap(todo, readers, writers)
        return EncodeReport(self.encoded, self.skipped, self.resumed, time.perf_counter() - started)

    def _overlap(self, todo: Sequence[Tile], readers: ThreadPoolExecutor, writers: ThreadPoolExecutor) -> None:
        size = self.plan.batch_size
        batch: list[tuple[Tile, NDArray[np.uint8]]] = []
        for tile, read in self._read_ahead(todo, readers, ahead=2 * size + READERS):
            if read is None or not read.has_data:
                self._skipping.append(writers.submit(self.writer.skip, tile))
            else:
                batch.append((tile, read.image))
            if len(batch) == size:
                self._encode(batch, writers)
                batch = []
            self._settle(2 * size + WRITERS)
        if batch:
            self._encode(batch, writers)
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
        self, todo: Sequence[Tile], readers: ThreadPoolExecutor, ahead: int
    ) -> Iterator[tuple[Tile, RasterTile | None]]:
        waiting: deque[tuple[Tile, Future[RasterTile] | None]] = deque()
        for tile in todo:
            future = readers.submit(self.plan.read, tile) if self.plan.is_wanted(tile) else None
            waiting.append((tile, future))
            if len(waiting) > ahead:
                first, done = waiting.popleft()
                yield first, done.result() if done else None
        while waiting:
            first, done = waiting.popleft()
            yield first, done.result() if done else None

    def _encode(self, batch: Sequence[tuple[Tile, NDArray[np.uint8]]], writers: ThreadPoolExecutor) -> None:
        features = self.encoder.encode(np.stack([image for _, image in batch]))
        for index, (tile, _) in enumerate(batch):
            maps: dict[str, NDArray[Any]] = {name: values[index] for name, values in features.items()}
            self._writing.append(writers.submit(self.writer.write, tile, maps))

    def _report(self) -> None:
        if self.progress is not None:
            self.progress(self.encoded + self.skipped + self.resumed, self._total)


def _take_done(futures: deque[Future[None]], most: int) -> int:
    """Take those that are done off the front, waiting as long as there are more than ``most``, and count them."""
    before = len(futures)
    while futures and (len(futures) > most or futures[0].done()):
        futures.popleft().result()
    return before - len(futures)
