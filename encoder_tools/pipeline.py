"""Encoding a raster into a store from beginning to end: estimate, make or resume the store, encode, tidy up."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geosam_es.core.grid import Tile
from geosam_es.encoding.encode import EncodeReport, ProgressCallback, encode_tiles
from geosam_es.encoding.plan import EncodeOptions, EncodePlan, make_plan
from geosam_es.errors import GeoSamError, OutputError, RasterError, StoreError
from geosam_es.inference.encoder import Encoder
from geosam_es.store import StoreReader, StoreWriter

from .raster import bounded_cache

__all__ = ["EncodeOptions", "EncodePlan", "EncodeReport", "Estimate", "encode", "estimate", "make_plan"]

_TIMED_TILES = 3
_LEVEL_BYTES = 4096
"""More than the JSON files of a level take, and those of the root."""


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


def estimate(plan: EncodePlan, encoder: Encoder, decoder_files: Mapping[str, Path]) -> Estimate:
    """Time a few tiles and say what the whole would take."""
    tiles = [tile for tile in plan.pyramid if plan.is_wanted(tile)]
    sample = [tiles[len(tiles) * step // _TIMED_TILES] for step in range(min(_TIMED_TILES, len(tiles)))]
    # The first tile warms up the runtime and is not counted.
    seconds = [_time_tile(plan, encoder, tile) for tile in sample[:1] + sample][1:]
    fixed_bytes = sum(path.stat().st_size for path in decoder_files.values())
    fixed_bytes += _LEVEL_BYTES * (1 + plan.metadata.levels)
    return Estimate(
        len(tiles), len(tiles) * plan.metadata.tile_bytes + fixed_bytes, len(tiles) * float(np.mean(seconds or [0.0]))
    )


def _time_tile(plan: EncodePlan, encoder: Encoder, tile: Tile) -> float:
    started = time.perf_counter()
    encoder.encode(plan.read(tile).image[None])
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
        with bounded_cache():
            report = encode_tiles(plan, encoder, writer, progress=progress)
        if report.skipped == len(plan.pyramid):
            raise RasterError(
                f"{plan.raster.path} shows nothing: every tile is without data, of one colour, or outside --aoi",
                "check the image, its nodata value and the area of interest",
            )
        return report
    except GeoSamError as error:
        is_kept = isinstance(error, OutputError) and any(count.encoded for count in StoreReader(store).counts())
        if is_kept:
            raise OutputError(error.problem, "make room for it and go on with --resume") from error
        if is_new:
            writer.discard()
        raise
