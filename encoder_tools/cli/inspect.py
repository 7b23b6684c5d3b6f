"""``geosam-es info``, ``geosam-es verify`` and ``geosam-es repair``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import cache
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import pyproj

from geosam_es.core.grid import Tile
from geosam_es.encoding.encode import encode_tiles
from geosam_es.encoding.placement import check_placement
from geosam_es.encoding.plan import EncodePlan
from geosam_es.errors import StoreError
from geosam_es.inference.runtime import available_cores
from geosam_es.store import StoreMetadata, StoreReader, set_crs
from geosam_es.store.decoder_files import check_file
from geosam_es.store.decoders import check_decoder, list_decoders
from geosam_es.store.files import folder_bytes
from geosam_es.store.layout import DECODER_FILE, GROUP_FILE
from geosam_es.store.metadata import check_not_frozen
from geosam_es.store.raster_name import GdalName, RasterPath, typed
from geosam_es.store.reader import TileState
from geosam_es.store.remote import is_object
from geosam_es.store.signature import check_signature, raster_signature, signature

from ..crs import map_crs, parse_crs, same_crs, store_crs
from ..evaluation.pictures import find_raster
from ..finetune.encode_again import raster_of
from ..models.checkpoints import load_registry
from ..models.loading import LoadedModel, load_model
from ..progress import Progress
from ..raster import Raster, bounded_cache
from ..remote import Target, has_decoder, metadata_of, open_target, put_decoder, resume_writer
from .decoder import decoder_json, decoder_text
from .options import PATH, RASTER, STORE, TARGET, StorePlace, counted, json_option, threads_option

__all__ = ["info_command", "repair_command", "verify_command"]

_SHOWN_PROBLEMS = 5

_MISSING = "missing"
"""What `StoreReader.problem` says of a tile that was never encoded."""

_OF_AREA = "continue with: geosam-es encode IMAGE --aoi AREA --resume"


@click.command("info")
@click.argument("store", type=STORE)
@json_option
@click.option("--set-crs", "crs", metavar="CRS", help="Correct the CRS of the store first. Features are not affected.")
def info_command(store: StorePlace, as_json: bool, crs: str | None) -> None:
    """Print what STORE contains.

    \b
    Example:
      geosam-es info ortho.embeddings.zarr
      geosam-es info ortho.embeddings.zarr --set-crs EPSG:25830
    """
    if crs is not None:
        _set_crs(store if isinstance(store, Path) else store.folder, parse_crs(crs))
    reader = StoreReader(store)
    raster_crs = store_crs(reader)
    # A server would be asked for each tile.
    counts = reader.counts() if reader.remote is None else []
    size_bytes = folder_bytes(reader.root)
    if as_json:
        tiles = [asdict(count) for count in counts]
        decoders = [decoder_json(decoder, reader.decoder.name) for decoder in list_decoders(reader.root)]
        value = {**reader.metadata.to_json(), "tiles": tiles, "bytes": size_bytes, "decoders": decoders}
        click.echo(json.dumps(value, indent=2))
        return
    metadata, raster = reader.metadata, reader.metadata.raster
    here = "" if reader.remote is None else " of it here"
    click.echo(f"Store:   {store} ({size_bytes / 2**20:.1f} MiB{here}, {metadata.software}, {metadata.created})")
    click.echo(f"Raster:  {raster.file_name}, {raster.width} x {raster.height} px, {raster_crs.name}")
    click.echo(f"Bands:   {', '.join(map(str, metadata.bands))}, {_stretch_text(reader)}, nodata {metadata.nodata}")
    click.echo(f"Model:   {metadata.model['name']} ({metadata.model['licence']}), {metadata.dtype}")
    _print_decoders(reader)
    click.echo(f"Tiles:   {metadata.tiling.tile_size} px, overlap {metadata.tiling.overlap} px")
    for count, grid in zip_longest(counts, reader.grids):
        state = f": {count.encoded} encoded, {count.skipped} without data, {count.missing} missing" if count else ""
        click.echo(f"Level {grid.level}: {grid.width} x {grid.height} px, {grid.rows} x {grid.cols} tiles{state}")


def _set_crs(store: Path, crs: pyproj.CRS) -> None:
    def check(metadata: StoreMetadata) -> None:
        raster = metadata.raster
        check_placement(store, map_crs(crs), raster.transform, raster.width, raster.height)

    set_crs(store, crs.to_wkt(), check)


def _print_decoders(reader: StoreReader) -> None:
    decoders = list_decoders(reader.root)
    if len(decoders) == 1:
        return
    for decoder in decoders:
        in_use = ", in use" if decoder.name == reader.decoder.name else ""
        click.echo(f"Decoder: {decoder_text(decoder)}{in_use}")


def _stretch_text(reader: StoreReader) -> str:
    limits = reader.metadata.stretch.limits
    if limits is None:
        return "no stretch"
    return "stretched " + ", ".join(f"{low:g} to {high:g}" for low, high in limits)


@click.command("verify", short_help="Check that STORE is complete and undamaged.")
@click.argument("store", type=STORE)
@click.argument("image", required=False, type=RASTER)
@threads_option
@json_option
def verify_command(store: StorePlace, image: RasterPath | None, threads: int | None, as_json: bool) -> None:
    """Check that STORE is complete and undamaged: all tiles and decoders. With IMAGE, check that it was made from it.

    Tiles are compared with the checksums that were stored when they were encoded. The exit code is 2 if a tile or a
    decoder is missing or damaged.

    \b
    Example:
      geosam-es verify ortho.embeddings.zarr ortho.tif
    """
    reader = StoreReader(store)
    store_crs(reader)
    if image is not None:
        _check_raster(reader, image)
    for decoder in list_decoders(reader.root):
        check_decoder(decoder)
    for name, sha256 in reader.metadata.decoder_sha256.items():
        check_file(reader.root / name, sha256, GROUP_FILE)
        if reader.remote is not None and not has_decoder(reader.remote, name, sha256):
            raise StoreError(f"{store}/{name} is missing or damaged", "put it back with: geosam-es repair STORE")
    total = sum(map(len, reader.grids))
    problems = []
    unchecked = absent = 0
    for tile, problem in _checked(reader, store.name, threads):
        if problem:
            problems.append((tile, problem))
        elif reader.state(tile) is TileState.MISSING:
            # Enlarged levels need not be complete.
            absent += 1
        elif reader.state(tile) is TileState.ENCODED and not reader.has_checksums(tile):
            unchecked += 1
    total -= absent
    if as_json:
        listed = _listed(problems)
        click.echo(json.dumps({"tiles": total, "problems": listed, "without_checksum": unchecked}, indent=2))
    if problems:
        lost = sum(_is_of_area(reader.metadata, problem) for _, problem in problems)
        repair = f"encode them again with: geosam-es repair {typed(str(store))}"
        raise StoreError(
            f"{store} has {counted(len(problems), 'bad tile')} of {total}: {_in_words(problems)}",
            "repair the store where it lies with: geosam-es repair STORE"
            if reader.remote is not None and not is_object(str(store))
            else "make the store again with: geosam-es import-geosam"
            if reader.metadata.is_frozen
            else _OF_AREA
            if lost == len(problems)
            else f"{repair}, then {_OF_AREA}"
            if lost
            else repair,
        )
    if not as_json:
        click.echo(f"{store}: all {total} tiles are complete" + (f", and it was made from {image}" if image else ""))
        if unchecked:
            remedy = "--resume encodes them again" if reader.keeps_checksums() else "--overwrite makes new ones"
            click.echo(
                f"Changed values cannot be detected in {counted(unchecked, 'tile')} without checksum: "
                f"geosam-es encode IMAGE {remedy}"
            )


def _is_of_area(metadata: StoreMetadata, problem: str) -> bool:
    """Tell whether a tile may lie outside the area that is encoded; a store does not know the area."""
    return problem == _MISSING and metadata.aoi_sha256 is not None


def _checked(reader: StoreReader, label: str, threads: int | None) -> Iterator[tuple[Tile, str]]:
    """Check all tiles with progress; see `StoreReader.problems`."""
    total = sum(map(len, reader.grids))
    with Progress(label, "tiles") as progress:
        progress(0, total)
        for done, found in enumerate(reader.problems(threads or available_cores()), start=1):
            yield found
            progress(done, total)


def _listed(problems: Sequence[tuple[Tile, str]]) -> list[dict[str, Any]]:
    return [{**tile._asdict(), "problem": problem} for tile, problem in problems]


def _in_words(problems: Sequence[tuple[Tile, str]]) -> str:
    return "; ".join(f"level {t.level} ({t.row}, {t.col}) {problem}" for t, problem in problems[:_SHOWN_PROBLEMS])


@click.command("repair", short_help="Encode the missing and damaged tiles of STORE again.")
@click.argument("store", type=TARGET)
@click.option("--raster", type=RASTER, help="The image of the store, or its folder. Default: found beside the store.")
@click.option("--model", help="Folder of the model of the store, if it is not one that comes with GeoSAM-ES.")
@click.option("--checkpoint", type=PATH, help="File of SAM weights. Default: the downloaded one.")
@click.option("--device", default="auto", show_default=True, help="Device to encode on: auto, cpu, cuda or cuda:1.")
@threads_option
@json_option
def repair_command(
    store: Target,
    raster: RasterPath | None,
    model: str | None,
    checkpoint: Path | None,
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Encode the missing and damaged tiles of STORE again, and no others, with its own model, bands and stretch.

    A decoder that is missing or damaged is put back too, and needs no image. If an encoding with --aoi was interrupted,
    continue it with geosam-es encode.

    \b
    Example:
      geosam-es repair ortho.embeddings.zarr --raster ortho.tif
    """
    label, metadata = Path(store).name, metadata_of(store)
    hashes = metadata.decoder_sha256
    files = [name for name, sha256 in hashes.items() if not has_decoder(store, name, sha256)]
    # Stores of older versions have no hashes.
    is_lost = not hashes and not has_decoder(store, DECODER_FILE)
    with TemporaryDirectory(prefix="geosam-es-") as work:

        @cache
        def load() -> LoadedModel:
            name = model or str(metadata.model["name"])
            precision = metadata.precision if name in load_registry() and metadata.precision != "float16" else "auto"
            loaded = load_model(name, checkpoint, device, Path(work), threads, precision)
            wanted = signature(replace(metadata, model=loaded.encoder.info.to_json()))
            remedy = "give the model of the store with --model, or the device that it was made on with --device"
            check_signature(store, signature(metadata), wanted, remedy)
            return loaded

        if files or is_lost:
            made = {name: path for name, path in load().export_decoder().items() if name in files or is_lost}
            for name, sha256 in hashes.items():
                if name in made:
                    check_file(made[name], sha256, GROUP_FILE)
            for name, path in made.items():
                put_decoder(store, name, path)
            files = list(made)
        reader = StoreReader(open_target(store))
        store_crs(reader)
        problems = [found for found in _checked(reader, label, threads) if found[1]]
        known = [found for found in problems if not _is_of_area(metadata, found[1])]
        if known:
            check_not_frozen(store, metadata)
            encoder = load().encoder
            image = raster if isinstance(raster, GdalName) else find_raster(reader, raster)
            plan = EncodePlan(raster_of(reader, image), metadata, None, encoder.default_batch_size)
            writer = resume_writer(store, metadata)
            for tile, problem in known:
                # Another program may have encoded a missing one meanwhile.
                if problem != _MISSING or not writer.is_done(tile):
                    writer.forget(tile)
            with Progress(label, "tiles") as progress, bounded_cache():
                encode_tiles(plan, encoder, writer, [tile for tile, _ in known], progress)
    left = [(tile, problem) for tile, problem in ((tile, reader.problem(tile)) for tile, _ in problems) if problem]
    if as_json:
        value = {"repaired": _listed([found for found in problems if found[0] not in dict(left)]), "files": files}
        click.echo(json.dumps(value, indent=2))
    if left:
        remedy = _OF_AREA if all(_is_of_area(metadata, problem) for _, problem in left) else "check the disk"
        raise StoreError(f"{store} still has {counted(len(left), 'bad tile')}: {_in_words(left)}", remedy)
    if not as_json:
        click.echo(
            f"{store}: {counted(len(problems), 'tile')} encoded again" + "".join(f", {name} replaced" for name in files)
        )


def _check_raster(reader: StoreReader, image: RasterPath) -> None:
    metadata = reader.metadata
    # Bands and nodata are not compared, and another raster may not even have them.
    raster = Raster(image, crs=metadata.raster.crs_wkt)
    wanted = {**raster_signature(raster.info()), "CRS": raster.file_crs_wkt or raster.crs_wkt}
    remedy = f"use the raster it was made from, or encode {image}"
    check_signature(reader.root, signature(metadata), wanted, remedy, same_crs)
