"""Encoding a raster into a store: read | encode | write, overlapped, so that the device never waits.

Reader threads keep a bounded number of tiles ahead of the device, batches are encoded in the calling thread, and
writer threads put the features on disk. Memory does not depend on the size of the raster.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geosam_es import __version__
from geosam_es.core.grid import Pyramid, Tile, Tiling
from geosam_es.errors import GeoSamError, OutputError, StoreError
from geosam_es.inference.encoder import TILE_SIZE, Encoder
from geosam_es.store import StoreMetadata, StoreReader, StoreWriter

from .raster import Raster, RasterTile, bounded_cache
from .stretch import decide_stretch

__all__ = ["EncodeOptions", "EncodePlan", "EncodeReport", "Estimate", "encode", "estimate", "make_plan"]

_READERS = 2
_WRITERS = 2
_TIMED_TILES = 3
_LEVEL_BYTES = 4096
"""More than the JSON files of a level take, and those of the root."""

ProgressCallback = Callable[[int, int], None]


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
        Of the stored features.
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

    raster: Raster
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


@dataclass(frozen=True)
class Estimate:
    """What an encoding would take.

    Attributes
    ----------
    tiles : int
        Touching the area of interest; those without data are found on reading.
    store_bytes : int
        At most.
    seconds : float
        From a few tiles, timed.
    """

    tiles: int
    store_bytes: int
    seconds: float


@dataclass(frozen=True)
class EncodeReport:
    """What an encoding did: tiles encoded now, skipped now, and found done before; time."""

    encoded: int
    skipped: int
    resumed: int
    seconds: float


def make_plan(raster: Raster, encoder: Encoder, options: EncodeOptions) -> EncodePlan:
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
        raise StoreError(f"--overlap {options.overlap} cannot be ({error})", "use 256") from error
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


def estimate(plan: EncodePlan, encoder: Encoder, decoder_files: Mapping[str, Path]) -> Estimate:
    """Time a few tiles and say what the whole would take."""
    tiles = [tile for tile in plan.pyramid if plan.is_wanted(tile)]
    sample = [tiles[len(tiles) * step // _TIMED_TILES] for step in range(min(_TIMED_TILES, len(tiles)))]
    # The first tile warms up the runtime and is not counted.
    seconds = [_time_tile(plan, encoder, tile) for tile in sample[:1] + sample][1:]
    values = sum(int(np.prod(shape)) for shape in plan.metadata.features.values())
    tile_bytes = values * np.dtype(plan.metadata.dtype).itemsize
    fixed_bytes = sum(path.stat().st_size for path in decoder_files.values())
    fixed_bytes += _LEVEL_BYTES * (1 + plan.metadata.levels)
    return Estimate(len(tiles), len(tiles) * tile_bytes + fixed_bytes, len(tiles) * float(np.mean(seconds or [0.0])))


def _time_tile(plan: EncodePlan, encoder: Encoder, tile: Tile) -> float:
    started = time.perf_counter()
    encoder.encode(_read(plan, tile).image[None])
    return time.perf_counter() - started


def _open_writer(
    plan: EncodePlan, store: Path, decoder_files: Mapping[str, Path], *, resume: bool, overwrite: bool
) -> tuple[StoreWriter, bool]:
    """Make the store, or open it to go on, and tell whether it was made."""
    if not (resume and store.exists()):
        try:
            return StoreWriter.create(store, plan.metadata, decoder_files, overwrite=overwrite), True
        except StoreError:
            # Another writer may have made it just now; then both fill it.
            if not (resume and store.exists()):
                raise
    writer = StoreWriter.resume(store, plan.metadata)
    # Tiles added to a store that lacks its arrays or its decoder would be of no use.
    StoreReader(store)
    return writer, False


def encode(
    plan: EncodePlan,
    encoder: Encoder,
    store: Path,
    decoder_files: Mapping[str, Path],
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> EncodeReport:
    """Encode a raster.

    Parameters
    ----------
    plan : EncodePlan
    encoder : Encoder
    store : Path
    decoder_files : mapping of str to Path
        Copied into a new store.
    resume, overwrite : bool
        What to do with a store that is there already.
    progress : callable, optional
        Called with the tiles done and their number.

    Returns
    -------
    EncodeReport

    Raises
    ------
    GeoSamError
        If the raster cannot be read or the store not be written. A store made by this call is removed again, but
        for one that already holds tiles and only ran out of space: that one can be resumed.
    """
    writer, is_new = _open_writer(plan, store, decoder_files, resume=resume, overwrite=overwrite)
    try:
        return _Run(plan, encoder, writer, progress).execute()
    except GeoSamError as error:
        is_kept = isinstance(error, OutputError) and any(count.encoded for count in StoreReader(store).counts())
        if is_kept:
            raise OutputError(error.problem, "make room for it and go on with --resume") from error
        if is_new:
            writer.discard()
        raise


class _Run:
    """One pass over the tiles that are missing."""

    def __init__(
        self, plan: EncodePlan, encoder: Encoder, writer: StoreWriter, progress: ProgressCallback | None
    ) -> None:
        self.plan = plan
        self.encoder = encoder
        self.writer = writer
        self.progress = progress
        self.encoded = self.skipped = self.resumed = 0
        self._total = len(plan.pyramid)
        self._skipping: deque[Future[None]] = deque()
        self._writing: deque[Future[None]] = deque()

    def execute(self) -> EncodeReport:
        started = time.perf_counter()
        todo = [tile for tile in self.plan.pyramid if not self.writer.is_done(tile)]
        self.resumed = self._total - len(todo)
        self._report()
        with ExitStack() as stack:
            stack.enter_context(bounded_cache())
            readers = stack.enter_context(ThreadPoolExecutor(_READERS, "read"))
            writers = stack.enter_context(ThreadPoolExecutor(_WRITERS, "write"))
            stack.callback(readers.shutdown, cancel_futures=True)
            self._overlap(todo, readers, writers)
        return EncodeReport(self.encoded, self.skipped, self.resumed, time.perf_counter() - started)

    def _overlap(self, todo: Sequence[Tile], readers: ThreadPoolExecutor, writers: ThreadPoolExecutor) -> None:
        size = self.plan.batch_size
        batch: list[tuple[Tile, NDArray[np.uint8]]] = []
        for tile, read in self._read_ahead(todo, readers, ahead=2 * size + _READERS):
            if read is None or not read.has_data:
                self._skipping.append(writers.submit(self.writer.skip, tile))
            else:
                batch.append((tile, read.image))
            if len(batch) == size:
                self._encode(batch, writers)
                batch = []
            self._settle(2 * size + _WRITERS)
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
            future = readers.submit(_read, self.plan, tile) if self.plan.is_wanted(tile) else None
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


def _read(plan: EncodePlan, tile: Tile) -> RasterTile:
    return plan.raster.read_tile(plan.pyramid.window(tile), 1 << tile.level, plan.metadata.stretch)
