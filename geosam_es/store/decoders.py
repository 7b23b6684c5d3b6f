"""The decoders of a store: the one it was made with, and those tuned on its features.

The first one is at the root of the store and is named `ORIGINAL`. Each other one has a folder with ``decoder.json``,
its `DecoderInfo`. A small file names the decoder in use (see `layout`).
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Union

from ..errors import GeoSamError, ModelError, OutputError, StoreError
from . import layout
from .decoder_files import DecoderInfo, StoreDecoder, check_decoder, file_sha256, plain_sha256, read_info
from .files import copy_missing, flush, flush_tree, is_portable_name, put_in_place, temporary_name, write_text
from .metadata import read_metadata
from .schema import SchemaError, read_json

__all__ = [
    "ORIGINAL",
    "DecoderInfo",
    "StoreDecoder",
    "active_decoder",
    "added_decoders",
    "check_decoder",
    "copy_decoders",
    "file_sha256",
    "find_decoder",
    "has_added_decoders",
    "install_decoder",
    "list_decoders",
    "read_info",
    "remove_decoder",
    "use_decoder",
]

Load = Callable[[Union[Path, None], Path, int], object]

ORIGINAL = "original"
"""Name of the decoder that the store was made with."""

_MOST_CHARACTERS = 64
_NAME = re.compile(rf"\w[\w .+()-]{{0,{_MOST_CHARACTERS - 1}}}(?<![ .])")


def list_decoders(root: Path) -> list[StoreDecoder]:
    """Return the decoders of a store: the original one, then the others by name.

    Folders without a valid ``decoder.json`` are omitted.
    """
    found = []
    with_info = sorted((root / layout.DECODERS).glob(f"*/{layout.DECODER_INFO_FILE}"))
    for path in with_info:
        # Names with a leading dot are being written or removed.
        if _is_name(path.parent.name):
            try:
                found.append(_named(path.parent))
            except ModelError:
                continue
    return [StoreDecoder(ORIGINAL, root), *found]


def _is_name(name: str) -> bool:
    """Tell whether a decoder in a store may have this name."""
    return bool(_NAME.fullmatch(name)) and is_portable_name(name) and name.casefold() != ORIGINAL


def _named(folder: Path) -> StoreDecoder:
    return StoreDecoder(folder.name, folder, read_info(folder))


def find_decoder(root: Path, name: str) -> StoreDecoder:
    """Return a decoder of a store by its name.

    Raises
    ------
    ModelError
        If the store has none of this name, or it is damaged.
    """
    if name == ORIGINAL:
        return StoreDecoder(ORIGINAL, root)
    folder = root / layout.DECODERS / name
    if not _is_name(name) or not folder.is_dir():
        raise ModelError(
            "{root} has no decoder {name}",
            "choose one of: {names}",
            root=root,
            name=name,
            names=", ".join(decoder.name for decoder in list_decoders(root)),
        )
    return _named(folder)


def active_name(root: Path) -> str:
    """Return the name of the decoder in use, even if the decoder is missing.

    Raises
    ------
    StoreError
        If the file that names it is damaged or cannot be read.
    """
    path = root / layout.DECODERS / layout.ACTIVE_FILE
    try:
        return read_json(path)["name"].text()
    except FileNotFoundError:
        return ORIGINAL
    except OSError as error:
        raise layout.unreadable(path, error) from error
    except SchemaError as error:
        raise StoreError("{path} is damaged", "choose a decoder with: geosam-es decoder use", path=path) from error


def active_decoder(root: Path) -> StoreDecoder:
    """Return the decoder in use, and check its files.

    Raises
    ------
    StoreError
        If it is missing or damaged.
    """
    name = active_name(root)
    try:
        decoder = find_decoder(root, name)
        check_decoder(decoder)
    except ModelError as error:
        if isinstance(error.__cause__, OSError):
            raise StoreError(error.template, error.remedy_template, **error.values) from error
        if name == ORIGINAL:
            raise StoreError(
                "{root} has no {name}",
                "copy the store again, or put the file back with: geosam-es repair STORE",
                root=root,
                name=layout.DECODER_FILE,
            ) from error
        raise StoreError(
            "The decoder {name} of {root} is damaged or incomplete",
            "copy the store again, or use the original decoder with: geosam-es decoder use STORE original",
            name=name,
            root=root,
        ) from error
    return decoder


def install_decoder(root: Path, folder: Path, load: Load, name: str | None = None, use: bool = True) -> StoreDecoder:
    """Copy a tuned decoder into a store and put it in use, after making sure that it can be loaded.

    The same decoder under the same name is not copied twice. If another decoder has that name, a number is added.

    Parameters
    ----------
    root : Path
        The store.
    folder : Path
        With ``decoder.json``, ``decoder.onnx`` and ``prepare.onnx``.
    load : callable
        `inference.decoder.load_decoder`, which this package cannot import. It raises an error for a decoder that
        cannot be loaded.
    name : str, optional
        Its name in the store; by default the name in ``decoder.json``.
    use : bool
        Whether it is put in use.

    Returns
    -------
    StoreDecoder
        The copy in the store.

    Raises
    ------
    StoreError
        If ``root`` is not a store.
    ModelError
        If the decoder is incomplete or belongs to another encoder, or the name is not allowed.
    OutputError
        If the store cannot be written. Nothing of the decoder remains in it then.
    """
    layout.check_own(root)
    model = read_metadata(root).model
    info = read_info(folder)
    decoder = StoreDecoder(info.name, folder, info)
    if plain_sha256(info.encoder_sha256) != plain_sha256(str(model["encoder_sha256"])):
        raise _other_encoder(root, folder, model, info)
    wanted = info.name if name is None else name
    if not _is_name(wanted):
        raise ModelError(
            "{name!r} cannot be the name of a decoder in a store",
            "choose another name of letters, digits, spaces and - . _ with --name",
            name=wanted,
        )
    check_decoder(decoder)
    for path in (decoder.decoder_path, decoder.prepare_path):
        if path is not None and path.with_name(path.name + layout.EXTERNAL_SUFFIX).exists():
            raise ModelError("{path} has its weights in another file", "export it with its weights inside", path=path)
    load(decoder.prepare_path, decoder.decoder_path, 1)
    try:
        added = _copy(root, decoder, info, wanted)
    except OSError as error:
        raise _not_writable(root, error) from error
    return use_decoder(root, added.name) if use else added


def _other_encoder(root: Path, folder: Path, model: Mapping[str, Any], info: DecoderInfo) -> ModelError:
    other = info.model
    if other == model["name"]:
        other = f"{other} ({plain_sha256(info.encoder_sha256)[:12]})"
    return ModelError(
        "{folder} is a decoder for the encoder {other}, but {root} was made with the encoder {own}",
        "use a store made with the same encoder, or tune a decoder on this store",
        folder=folder,
        other=other,
        root=root,
        own=model["name"],
    )


def _copy(root: Path, decoder: StoreDecoder, info: DecoderInfo, wanted: str) -> StoreDecoder:
    """Copy to a temporary folder, check the copy, and rename it to the first free name."""
    decoders = root / layout.DECODERS
    known = {other.name.casefold(): other for other in list_decoders(root)}
    same = known.get(wanted.casefold())
    if same is not None and same.info is not None and _files(same.info) == _files(info):
        check_decoder(same)
        return same
    decoders.mkdir(exist_ok=True)
    fresh = temporary_name(decoders)
    try:
        fresh.mkdir()
        for path in (decoder.prepare_path, decoder.decoder_path, decoder.folder / layout.DECODER_INFO_FILE):
            if path is not None:
                shutil.copyfile(path, fresh / path.name)
        check_decoder(StoreDecoder(wanted, fresh, info))
        number, name = 1, wanted
        while name.casefold() in known or (decoders / name).exists():
            number += 1
            name = f"{wanted[: _MOST_CHARACTERS - 5].rstrip(' .')}-{number}"
        flush_tree(fresh)
        put_in_place(fresh, decoders / name)
        flush(decoders)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return StoreDecoder(name, decoders / name, info)


def _files(info: DecoderInfo) -> tuple[str | None, str]:
    prepare = info.prepare_sha256
    return None if prepare is None else plain_sha256(prepare), plain_sha256(info.decoder_sha256)


def use_decoder(root: Path, name: str) -> StoreDecoder:
    """Put a decoder of a store in use.

    Raises
    ------
    ModelError
        If the store has none of this name, or it is damaged.
    OutputError
        If the store cannot be written.
    """
    layout.check_own(root)
    read_metadata(root)
    decoder = find_decoder(root, name)
    check_decoder(decoder)
    path = root / layout.DECODERS / layout.ACTIVE_FILE
    try:
        path.parent.mkdir(exist_ok=True)
        write_text(path, json.dumps({"name": name}) + "\n")
    except OSError as error:
        raise _not_writable(root, error) from error
    return decoder


def remove_decoder(root: Path, name: str) -> None:
    """Remove a tuned decoder from a store. If it was in use, the original one is used afterwards.

    Raises
    ------
    ModelError
        If the store has none of this name, or it is the original one.
    OutputError
        If the store cannot be written.
    """
    layout.check_own(root)
    read_metadata(root)
    if name == ORIGINAL:
        raise ModelError(
            "The original decoder of {root} cannot be removed", "choose a decoder that was added", root=root
        )
    folder = root / layout.DECODERS / name
    # Not `find_decoder` alone: a damaged decoder can be removed too.
    if not _is_name(name) or not folder.is_dir():
        find_decoder(root, name)
    if active_name(root) == name:
        use_decoder(root, ORIGINAL)
    aside = temporary_name(folder.parent)
    try:
        put_in_place(folder, aside)
    except OSError as error:
        raise _not_writable(root, error) from error
    shutil.rmtree(aside, ignore_errors=True)


def has_added_decoders(store: Path) -> bool:
    """Tell whether a store has added decoders. Damaged ones count too."""
    return any(path.is_dir() for path in (store / layout.DECODERS).glob("[!.]*"))


def added_decoders(store: Path, encoder_sha256: str) -> dict[str, Path]:
    """Return the files of the added decoders of a store by their names in it; none if they are for another encoder."""
    try:
        own = str(read_metadata(store).model["encoder_sha256"])
    except StoreError:
        return {}
    if plain_sha256(own) != plain_sha256(encoder_sha256):
        return {}
    # What has a leading dot is being written or removed.
    paths = [*(store / layout.DECODERS).glob("[!.]*"), *(store / layout.DECODERS).glob("[!.]*/*")]
    return {path.relative_to(store).as_posix(): path for path in paths if path.is_file()}


def copy_decoders(store: Path, beside: Path | None = None) -> Path | None:
    """Copy the added decoders of a store to a new folder next to it, or next to ``beside``.

    Returns
    -------
    Path or None
        The folder; None if there are none.
    """
    if not has_added_decoders(store):
        return None
    root, number = (beside or store).absolute(), 1
    name = f"{root.name.removesuffix(layout.SUFFIX)}.old-decoders"
    kept = root.with_name(name)
    while kept.exists():
        number += 1
        kept = root.with_name(f"{name}-{number}")
    try:
        copy_missing(store / layout.DECODERS, kept)
    except BaseException:
        shutil.rmtree(kept, ignore_errors=True)
        raise
    return kept


def _not_writable(root: Path, error: OSError) -> GeoSamError:
    return OutputError(
        "{root} cannot be written ({reason})",
        "copy it to a folder that can be written, or change its permissions",
        root=root,
        reason=error.strerror or str(error),
    )
