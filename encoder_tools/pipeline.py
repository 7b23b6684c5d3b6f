"""Encoding a raster into a store: estimate, create or resume the store, encode, clean up after an error."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Optional

import numpy as np

from geosam_es.core.grid import Tile
from geosam_es.encoding.encode import EncodeReport, ProgressCallback, encode_tiles
from geosam_es.encoding.plan import EncodeOptions, EncodePlan, Tiles, make_plan
from geosam_es.errors import GeoSamError, OutputError, RasterError, StoreError
from geosam_es.inference.encoder import Encoder
from geosam_es.store import StoreReader, StoreWriter
from geosam_es.store.raster_name import RasterPath

from .raster import Raster, bounded_cache
from .remote import Target, create_writer, is_there, opened, resume_writer

__all__ = ["EncodeOptions", "EncodePlan", "EncodeReport", "Estimate", "encode", "estimate", "make_plan"]

DecoderFiles = Callable[[], Mapping[str, Path]]

Encode = Callable[[EncodePlan, StoreWriter, Tiles, Optional[ProgressCallback]], EncodeReport]
"""Encodes tiles, in this process or in others."""

_TIMED_TILES = 3
_LEVELS_WORTH_OVERVIEWS = 4
"""Fewer levels are read as fast as overviews are made."""

_LEVEL_BYTES = 4096
"""Upper bound of the size of the JSON files of a level, and of those of the root."""


@dataclass(frozen=True)
class Estimate:
    """What an encoding would cost.

    Attributes
    ----------
    tiles : int
        Tiles that intersect the area of interest, including those without data.
    store_bytes : int
        Upper bound of the size of the store.
    seconds : float
        Estimated from a few timed tiles.
    """

    tiles: int
    store_bytes: int
    seconds: float


def estimate(plan: EncodePlan, encoder: Encoder, decoder_bytes: int) -> Estimate:
    """Time a few tiles and estimate the cost of all; ``decoder_bytes`` is the size of the decoder's files."""
    tiles = plan.tiles if plan.aoi is None else [tile for tile in plan.tiles if plan.is_wanted(tile)]
    sample = [tiles[len(tiles) * step // _TIMED_TILES] for step in range(min(_TIMED_TILES, len(tiles)))]
    # The first run is slower and is not counted.
    seconds = [_time_tile(plan, encoder, tile) for tile in [*sample[:1], *sample]][1:]
    fixed_bytes = decoder_bytes + _LEVEL_BYTES * (1 + len(plan.grids))
    return Estimate(
        len(tiles), len(tiles) * plan.metadata.tile_bytes + fixed_bytes, len(tiles) * float(np.mean(seconds or [0.0]))
    )


def _time_tile(plan: EncodePlan, encoder: Encoder, tile: Tile) -> float:
    started = time.perf_counter()
    encoder.encode(plan.read(tile).image[None])
    return time.perf_counter() - started


def _open_writer(
    plan: EncodePlan, store: Target, export_decoder: DecoderFiles, *, resume: bool, overwrite: bool
) -> tuple[StoreWriter, bool]:
    """Create the store, or open it to resume, and tell whether it was created."""
    if not (resume and is_there(store)):
        raster = replace(plan.metadata.raster, path=_way(store, plan.raster.path))
        try:
            return create_writer(store, replace(plan.metadata, raster=raster), export_decoder(), overwrite), True
        except StoreError:
            # Another writer may have created it meanwhile; then both fill it.
            if not (resume and is_there(store)):
                raise
    metadata = plan.metadata
    if plan.finest < 0:
        # Enlarged tiles may be added to a store of another area of interest.
        with opened(store) as place:
            metadata = replace(metadata, aoi_sha256=StoreReader(place).metadata.aoi_sha256)
    writer = resume_writer(store, metadata)
    with opened(store) as place:
        # Raises an error if the store lacks its arrays or its decoder.
        StoreReader(place)
    return writer, False


def _encode_in_stages(
    plan: EncodePlan, writer: StoreWriter, stages: Sequence[Tiles], progress: ProgressCallback | None, run: Encode
) -> EncodeReport:
    """Encode the native level, then the coarse ones; a large raster without overviews gets temporary ones for them.

    Otherwise each coarse level would read the whole raster again.
    """
    report, total = EncodeReport(0, 0, 0, 0.0), sum(map(len, stages))
    for number, tiles in enumerate(stages):
        before = report.encoded + report.skipped + report.resumed

        def show(done: int, _: int, before: int = before) -> None:
            if writer.older is not None and writer.has_tiles():
                writer.drop_older()
            if progress is not None:
                progress(before + done, total)

        with ExitStack() as stack:
            of_stage = plan
            if number > 0 and isinstance(plan.raster, Raster) and not all(map(writer.is_done, tiles)):
                raster = stack.enter_context(plan.raster.with_overviews(writer.root))
                of_stage = replace(plan, raster=raster)
            done = run(of_stage, writer, tiles, show)
        report = EncodeReport(*map(sum, zip(astuple(report), astuple(done))))
    return report


def _way(store: Target, raster: RasterPath) -> str:
    """Return the way from the folder of a store to its raster; empty if it lies there, or one of them is no file."""
    if not (isinstance(raster, Path) and isinstance(store, Path)):
        return ""
    target, folder = raster.resolve(), store.resolve().parent
    try:
        way = Path(os.path.relpath(target, folder)).as_posix()
    except ValueError:
        # On another drive of Windows.
        way = target.as_posix()
    # A text that the store could not be read with is worth less than no text.
    return way if "/" in way and way.isprintable() else ""


def encode(
    plan: EncodePlan,
    encoder: Encoder,
    store: Target,
    export_decoder: DecoderFiles,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    encode_with: Encode | None = None,
) -> EncodeReport:
    """Encode a raster.

    Parameters
    ----------
    plan : EncodePlan
    encoder : Encoder
    store : Path or str
        A folder, or an address in object storage.
    export_decoder : callable
        Returns the decoder's files by their names in the store. Called only when the store is created.
    resume, overwrite : bool
        What to do with an existing store.
    progress : callable, optional
        Called with the number of finished tiles and of all tiles.
    encode_with : callable, optional
        Encodes the tiles in other processes; see `Cluster.encode`.

    Returns
    -------
    EncodeReport

    Raises
    ------
    GeoSamError
        If the raster cannot be read or the store cannot be written. A store with tiles is kept and can be resumed. One
        without, created by this call, is removed, and the one that it replaced is put back.
    """
    writer, is_new = _open_writer(plan, store, export_decoder, resume=resume, overwrite=overwrite)
    has_same_aoi = writer.metadata.aoi_sha256 == plan.metadata.aoi_sha256
    tiles = plan.tiles if has_same_aoi else plan.tiles[len(plan.pyramid) :]
    stages = [tiles]
    native = len(plan.pyramid.grids[0])
    is_worth_overviews = isinstance(plan.raster, Raster) and len(plan.pyramid.grids) >= _LEVELS_WORTH_OVERVIEWS
    # They are made in the folder of the store. Without one, workers on other machines would not see them.
    if has_same_aoi and is_worth_overviews and (isinstance(store, Path) or encode_with is None):
        stages = [tiles[:native], tiles[native:]]
    if not is_new:
        # Another program may be filling it too.
        stages = [stage.shuffled() for stage in stages]
    run = encode_with or (lambda plan, *arguments: encode_tiles(plan, encoder, *arguments))
    try:
        with bounded_cache():
            report = _encode_in_stages(plan, writer, stages, progress, run)
    except BaseException as error:
        is_fault = isinstance(error, GeoSamError)
        # A server that has just failed is not asked for tiles.
        is_silent = isinstance(store, str) and (isinstance(error, OutputError) or not is_fault)
        if is_silent or writer.has_tiles():
            writer.drop_older()
            if isinstance(error, GeoSamError):
                error.remedy = _with_resume(error)
        elif is_new and (is_fault or writer.older is not None):
            writer.discard()
        raise
    is_empty = report.skipped == len(tiles) and plan.limit is None
    if is_empty and is_new and not writer.has_tiles():
        writer.discard()
    writer.drop_older()
    if is_empty:
        raise RasterError(
            f"{plan.raster.path} has no tile to encode: all are without data, of one colour, or outside --aoi",
            "check the image, its nodata value and the area of interest",
        )
    return report


def _with_resume(error: GeoSamError) -> str:
    """Return the remedy of an error that leaves a store with tiles."""
    if "--resume" in error.remedy:
        return error.remedy
    if isinstance(error, OutputError):
        # Another folder, which is the remedy of most of these errors, would not have them.
        return "free some space and continue with --resume"
    return f"{error.remedy}, and continue with --resume" if error.remedy else "continue with --resume"
