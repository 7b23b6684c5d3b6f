"""``geosam-es info`` and ``geosam-es verify``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
import pyproj

from geosam_es.encoding.placement import check_placement
from geosam_es.errors import StoreError
from geosam_es.store import StoreMetadata, StoreReader, set_crs
from geosam_es.store.decoders import check_decoder, list_decoders
from geosam_es.store.files import folder_bytes
from geosam_es.store.raster_name import RasterPath
from geosam_es.store.reader import TileState
from geosam_es.store.signature import check_signature, raster_signature, signature

from ..crs import map_crs, parse_crs, same_crs, store_crs
from ..progress import Progress
from ..raster import Raster
from .decoder import decoder_json, decoder_text
from .options import PATH, RASTER, json_option

__all__ = ["info_command", "verify_command"]

_SHOWN_PROBLEMS = 5


@click.command("info")
@click.argument("store", type=PATH)
@json_option
@click.option("--set-crs", "crs", metavar="CRS", help="Correct the CRS of the store first. Features are not affected.")
def info_command(store: Path, as_json: bool, crs: str | None) -> None:
    """Print what STORE contains.

    \b
    Example:
      geosam-es info ortho.embeddings.zarr
      geosam-es info ortho.embeddings.zarr --set-crs EPSG:25830
    """
    if crs is not None:
        _set_crs(store, parse_crs(crs))
    reader = StoreReader(store)
    raster_crs = store_crs(reader)
    counts = reader.counts()
    size_bytes = folder_bytes(store)
    if as_json:
        tiles = [asdict(count) for count in counts]
        decoders = [decoder_json(decoder, reader.decoder.name) for decoder in list_decoders(store)]
        value = {**reader.metadata.to_json(), "tiles": tiles, "bytes": size_bytes, "decoders": decoders}
        click.echo(json.dumps(value, indent=2))
        return
    metadata, raster = reader.metadata, reader.metadata.raster
    click.echo(f"Store:   {store} ({size_bytes / 2**20:.1f} MiB, {metadata.software}, {metadata.created})")
    click.echo(f"Raster:  {raster.file_name}, {raster.width} x {raster.height} px, {raster_crs.name}")
    click.echo(f"Bands:   {', '.join(map(str, metadata.bands))}, {_stretch_text(reader)}, nodata {metadata.nodata}")
    click.echo(f"Model:   {metadata.model['name']} ({metadata.model['licence']}), {metadata.dtype}")
    _print_decoders(reader)
    click.echo(f"Tiles:   {metadata.tiling.tile_size} px, overlap {metadata.tiling.overlap} px")
    for count, grid in zip(counts, reader.grids):
        state = f"{count.encoded} encoded, {count.skipped} without data, {count.missing} missing"
        click.echo(f"Level {count.level}: {grid.width} x {grid.height} px, {grid.rows} x {grid.cols} tiles: {state}")


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


@click.command("verify")
@click.argument("store", type=PATH)
@click.argument("image", required=False, type=RASTER)
@json_option
def verify_command(store: Path, image: RasterPath | None, as_json: bool) -> None:
    """Check that STORE is complete and undamaged: all tiles and decoders. With IMAGE, check that it was made from it.

    Tiles are compared with the checksums that were stored when they were encoded.

    \b
    Example:
      geosam-es verify ortho.embeddings.zarr ortho.tif
    """
    reader = StoreReader(store)
    store_crs(reader)
    if image is not None:
        _check_raster(reader, image)
    for decoder in list_decoders(store):
        check_decoder(decoder)
    total = sum(map(len, reader.grids))
    problems = []
    unchecked = absent = 0
    with Progress(store.name, "tiles") as progress:
        progress(0, total)
        for done, (tile, problem) in enumerate(reader.problems(), start=1):
            if problem:
                problems.append({"level": tile.level, "row": tile.row, "col": tile.col, "problem": problem})
            elif reader.state(tile) is TileState.MISSING:
                # Enlarged levels need not be complete.
                absent += 1
            elif reader.state(tile) is TileState.ENCODED and not reader.has_checksums(tile):
                unchecked += 1
            progress(done, total)
    total -= absent
    if as_json:
        click.echo(json.dumps({"tiles": total, "problems": problems, "without_checksum": unchecked}, indent=2))
    if problems:
        shown = "; ".join(
            f"level {p['level']} ({p['row']}, {p['col']}) {p['problem']}" for p in problems[:_SHOWN_PROBLEMS]
        )
        raise StoreError(
            f"{store} has {len(problems)} bad tile(s) of {total}: {shown}",
            "delete the damaged tiles and continue with: geosam-es encode IMAGE --resume",
        )
    if not as_json:
        click.echo(f"{store}: all {total} tiles are complete" + (f", and it was made from {image}" if image else ""))
        if unchecked:
            remedy = "--resume encodes them again" if reader.keeps_checksums() else "--overwrite makes new ones"
            click.echo(
                f"{unchecked} tile(s) have no checksum, so changed values in them cannot be detected: "
                f"geosam-es encode IMAGE {remedy}"
            )


def _check_raster(reader: StoreReader, image: RasterPath) -> None:
    metadata = reader.metadata
    # Bands and nodata are not compared, and another raster may not even have them.
    raster = Raster(image, crs=metadata.raster.crs_wkt)
    wanted = {**raster_signature(raster.info()), "CRS": raster.file_crs_wkt or raster.crs_wkt}
    remedy = f"use the raster it was made from, or encode {image}"
    check_signature(reader.root, signature(metadata), wanted, remedy, same_crs)
