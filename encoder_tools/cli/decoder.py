"""``geosam-es decoder``."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from geosam_es.inference.decoder import load_decoder
from geosam_es.inference.encoder import ENCODER_FILE, MODEL_FILE, read_model_info
from geosam_es.store.decoder_files import plain_sha256
from geosam_es.store.decoders import (
    ORIGINAL,
    StoreDecoder,
    active_name,
    install_decoder,
    list_decoders,
    remove_decoder,
    use_decoder,
)
from geosam_es.store.layout import DECODER_FILE, DECODER_INFO_FILE, PREPARE_FILE
from geosam_es.store.metadata import read_metadata

from ..models.loading import describe_ready_made
from ..progress import Progress
from .options import OWN_STORE, PATH, json_option

__all__ = ["decoder_command", "decoder_json", "decoder_text"]


@click.group("decoder")
def decoder_command() -> None:
    """Manage the decoders of a store.

    \b
    Example:
      geosam-es decoder set ortho.embeddings.zarr fields/    adds a tuned decoder and uses it
      geosam-es decoder list ortho.embeddings.zarr
      geosam-es decoder use ortho.embeddings.zarr original   uses the original decoder again
    """


@decoder_command.command("set", short_help="Add a tuned decoder to STORE, and use it.")
@click.argument("store", type=OWN_STORE)
@click.argument("folder", metavar="DECODER", type=PATH)
@click.option("--name", help="Name of the decoder in the store. Default: its own name.")
@click.option("--keep-active", is_flag=True, help="Add the decoder without using it.")
@click.option(
    "--raster",
    type=PATH,
    help="Raster of the store, or its folder, where DECODER has an encoder. Default: next to the store, or where it was"
    " when it was encoded.",
)
def set_command(store: Path, folder: Path, name: str | None, keep_active: bool, raster: Path | None) -> None:
    """Add DECODER, a folder written by geosam-es finetune, to STORE and use it.

    Other decoders are kept. DECODER must have been tuned for the encoder of the store. If it comes with an encoder of
    its own, the store is encoded again in place with it; the old one is in use until the new one is complete. The other
    decoders, which belong to the old encoder, are then moved to a folder beside the store.

    DECODER may also be the ONNX file that segment-anything's exporter writes, or samexporter for SAM 2, or its folder.
    The file does not say which encoder it belongs to: make sure that it comes from the model of the store.

    \b
    Example:
      geosam-es decoder set ortho.embeddings.zarr fields/ --name "fields of 2026"
      geosam-es decoder set ortho.embeddings.zarr sam2.1_tiny.decoder.onnx
    """
    if all((folder / file).is_file() for file in (MODEL_FILE, ENCODER_FILE)) and not _is_encoded_with(store, folder):
        if name is not None or keep_active:
            raise click.UsageError(
                f"{'--keep-active' if name is None else '--name'} cannot be used with {folder}, which has an encoder of"
                f" its own: omit it, and {store} is encoded again."
            )
        # Imports packages that other commands of this group do not need.
        from ..finetune.encode_again import encode_in_place

        with Progress(store.name, "tiles") as progress:
            note = encode_in_place(store, folder, raster, progress=progress)
        click.echo(f"{store}: encoded again with the model in {folder}")
        if note:
            click.echo(note)
        return
    others = (folder / DECODER_INFO_FILE, folder / PREPARE_FILE)
    is_ready_made = (folder / DECODER_FILE).is_file() and not any(path.exists() for path in others)
    with TemporaryDirectory(prefix="geosam-es-") as work:
        if folder.is_file() or is_ready_made:
            describe_ready_made(folder, read_metadata(store), Path(work))
            folder = Path(work)
        added = install_decoder(store, folder, load_decoder, name, use=not keep_active)
    click.echo(f"{store}: decoder {added.name} " + ("added" if keep_active else "is in use"))


def _is_encoded_with(store: Path, folder: Path) -> bool:
    hashes = (read_metadata(store).model["encoder_sha256"], read_model_info(folder).encoder_sha256)
    return len({plain_sha256(str(value)) for value in hashes}) == 1


@decoder_command.command("list")
@click.argument("store", type=OWN_STORE)
@json_option
def list_command(store: Path, as_json: bool) -> None:
    """List the decoders of STORE. The one in use is marked with *.

    \b
    Example:
      geosam-es decoder list ortho.embeddings.zarr
    """
    read_metadata(store)
    active, decoders = active_name(store), list_decoders(store)
    if as_json:
        click.echo(json.dumps([decoder_json(decoder, active) for decoder in decoders], indent=2))
        return
    for decoder in decoders:
        click.echo(f"{'*' if decoder.name == active else ' '} {decoder_text(decoder)}")


@decoder_command.command("use")
@click.argument("store", type=OWN_STORE)
@click.argument("name")
def use_command(store: Path, name: str) -> None:
    """Use the decoder NAME of STORE. "original" is the decoder that STORE was made with.

    \b
    Example:
      geosam-es decoder use ortho.embeddings.zarr original
    """
    click.echo(f"{store}: decoder {use_decoder(store, name).name} is in use")


@decoder_command.command("remove")
@click.argument("store", type=OWN_STORE)
@click.argument("name")
def remove_command(store: Path, name: str) -> None:
    """Remove the tuned decoder NAME from STORE. If it was in use, the original one is used afterwards.

    \b
    Example:
      geosam-es decoder remove ortho.embeddings.zarr fields
    """
    remove_decoder(store, name)
    click.echo(f"{store}: decoder {name} removed, {active_name(store)} is in use")


def decoder_text(decoder: StoreDecoder) -> str:
    """Describe a decoder in one line."""
    info = decoder.info
    if info is not None and not info.objects:
        return f"{decoder.name} ({f'from {info.base}' if info.base else 'made with the store'})"
    if info is None:
        return f"{ORIGINAL} (made with the store)"
    base = f" from {info.base}" if info.base else ""
    return f"{decoder.name} (tuned{base} on {info.objects} objects, {info.created})"


def decoder_json(decoder: StoreDecoder, active: str) -> dict[str, object]:
    """Describe a decoder as JSON."""
    info = decoder.info
    value: dict[str, object] = {"name": decoder.name, "active": decoder.name == active}
    if info is not None:
        value.update(base=info.base, objects=info.objects, created=info.created, summary=dict(info.summary))
    return value
