"""Encoding a store again with a tuned model; the old tiles stay in use until the new store is complete."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

from geosam_es import __version__
from geosam_es.encoding.encode import encode_tiles
from geosam_es.encoding.plan import EncodePlan
from geosam_es.errors import OutputError, RasterError
from geosam_es.store import StoreReader, StoreWriter
from geosam_es.store.decoders import copy_decoders
from geosam_es.store.files import flush_tree, temporary_name
from geosam_es.store.metadata import check_not_frozen
from geosam_es.store.raster_name import RasterPath
from geosam_es.store.reader import TileState
from geosam_es.store.writer import replace_store

from ..evaluation.pictures import find_raster, is_raster_of, open_raster, shows_its_pixels
from ..models.loading import load_model
from ..raster import Raster, bounded_cache
from ..remote import Target

__all__ = [
    "encode_again",
    "encode_in_place",
    "is_raster_of",
    "moved_note",
    "put_in_place_of",
    "raster_of",
]

Progress = Callable[[int, int], None]


def raster_of(reader: StoreReader, path: RasterPath | None) -> Raster:
    """Open the raster of a store.

    Raises
    ------
    RasterError
        If it was not found, or is another image.
    """
    raster = None if path is None else open_raster(reader, path)
    check_not_frozen(reader.root, reader.metadata)
    if raster is None:
        place = reader.remote or reader.root
        raise RasterError(
            f"The raster {reader.metadata.raster.file_name} of {place} is missing or another image",
            "give the file or its folder with --raster",
        )
    if not shows_its_pixels(reader, raster):
        raise RasterError(f"{path} is not the image that {reader.root} was made from", "give it with --raster")
    return raster


def encode_again(
    reader: StoreReader, raster: Raster, model: Path, root: Path, progress: Progress | None = None
) -> None:
    """Write a store with the tiles of another one, encoded by another model.

    Parameters
    ----------
    reader : StoreReader
    raster : Raster
        From `raster_of`.
    model : Path
        Folder of the model.
    root : Path
        The new store.
    progress : callable, optional
        Called with the number of tiles done and of all tiles.

    Raises
    ------
    GeoSamError
        If the raster or the model cannot be read, or the store cannot be written.
    """
    with TemporaryDirectory(prefix="geosam-es-") as work:
        loaded = load_model(str(model), None, "cpu", Path(work))
        created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        metadata = replace(
            reader.metadata,
            model=loaded.encoder.info.to_json(),
            software=f"GeoSAM-ES {__version__}",
            created=created,
        )
        writer = StoreWriter.create(root, metadata, loaded.export_decoder())
        states = {tile: reader.state(tile) for grid in reader.grids for tile in reader.tiles(grid.level)}
        for tile in (tile for tile, state in states.items() if state is TileState.SKIPPED):
            writer.skip(tile)
        tiles = [tile for tile, state in states.items() if state is TileState.ENCODED]
        plan = EncodePlan(raster, metadata, None, loaded.encoder.default_batch_size)
        with bounded_cache():
            encode_tiles(plan, loaded.encoder, writer, tiles, progress)


def encode_in_place(store: Path, model: Path, raster: Path | None = None, progress: Progress | None = None) -> str:
    """Encode a store again with a model and put the result in its place; see `encode_again`.

    Returns
    -------
    str
        See `put_in_place_of`.

    Raises
    ------
    GeoSamError
        As `encode_again` does. The store is unchanged then.
    """
    reader = StoreReader(store)
    image = raster_of(reader, find_raster(reader, raster))
    fresh = temporary_name(store.resolve().parent)
    try:
        encode_again(reader, image, model, fresh, progress)
        return put_in_place_of(store, fresh)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def put_in_place_of(store: Path, fresh: Path) -> str:
    """Replace a store with a complete new one. Decoders that were added to it are kept in a new folder beside it.

    Returns
    -------
    str
        Where they are; empty if there are none.

    Raises
    ------
    OutputError
        If it cannot be replaced. The old one stays then.
    """
    kept = None
    try:
        flush_tree(fresh)
        # They are copied, not moved, so that the old store stays whole if this is interrupted.
        kept = copy_decoders(store)
        replace_store(store, fresh)
    except OSError as error:
        if kept is not None and store.exists():
            shutil.rmtree(kept, ignore_errors=True)
        raise OutputError(f"{store} cannot be replaced ({error.strerror})", "close the programs that use it") from error
    return "" if kept is None else moved_note(store, kept)


def moved_note(store: Target, kept: Path) -> str:
    """Say where the decoders of an older store are."""
    return f"{store}: its decoders belong to the old encoder and are now in {kept}"
