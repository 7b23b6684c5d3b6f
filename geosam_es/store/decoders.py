"""The decoders of a store: the one it was made with, and those that were tuned on its features.

The first lies at the root of the store under the name `ORIGINAL`, where every reader finds it. Each other is a folder
of its own with ``decoder.json``, its `DecoderInfo`, and a small file says which one answers prompts (see `layout`).
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import GeoSamError, ModelError, OutputError, StoreError
from . import layout
from .decoder_files import DecoderInfo, StoreDecoder, check_decoder, file_sha256, plain_sha256, read_decoder

__all__ = [
    "ORIGINAL",
    "DecoderInfo",
    "StoreDecoder",
    "active_decoder",
    "add_decoder",
    "check_decoder",
    "file_sha256",
    "find_decoder",
    "list_decoders",
    "read_decoder",
    "remove_decoder",
    "use_decoder",
]

ORIGINAL = "original"
"""Name of the decoder that a store was made with."""

_MOST_CHARACTERS = 64
_NAME = re.compile(rf"\w[\w .+()-]{{0,{_MOST_CHARACTERS - 1}}}(?<![ .])")
"""Of folders that every system can have, none of them hidden."""


def list_decoders(root: Path) -> list[StoreDecoder]:
    """Return the decoders of a store, the one it was made with first, the others by name.

    Folders whose ``decoder.json`` cannot be read are left out.
    """
    found = []
    with_info = sorted((root / layout.DECODERS).glob(f"*/{layout.DECODER_INFO_FILE}"))
    for path in with_info:
        # What is half written or half removed has a name with a dot in front.
        if not path.parent.name.startswith("."):
            try:
                found.append(_named(path.parent))
            except ModelError:
                continue
    return [StoreDecoder(ORIGINAL, root), *found]


def _named(folder: Path) -> StoreDecoder:
    return StoreDecoder(folder.name, folder, read_decoder(folder).info)


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
    if not _NAME.fullmatch(name) or not folder.is_dir():
        raise ModelError(
            "{root} has no decoder {name}",
            "choose one of: {names}",
            root=root,
            name=name,
            names=", ".join(decoder.name for decoder in list_decoders(root)),
        )
    return _named(folder)


def active_name(root: Path) -> str:
    """Return the name of the decoder that answers prompts, whether it is there or not."""
    path = root / layout.DECODERS / layout.ACTIVE_FILE
    try:
        name = json.loads(path.read_text(encoding="utf-8"))["name"]
    except FileNotFoundError:
        return ORIGINAL
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError("{path} is damaged", "choose a decoder with: geosam-es decoder use", path=path) from error
    return str(name)


def active_decoder(root: Path) -> StoreDecoder:
    """Return the decoder that answers prompts, seen to be whole.

    Raises
    ------
    StoreError
        If it is not there, or damaged.
    """
    name = active_name(root)
    try:
        decoder = find_decoder(root, name)
        check_decoder(decoder)
    except ModelError as error:
        if name == ORIGINAL:
            raise StoreError(
                "{root} has no {name}",
                "copy the store again, or encode again",
                root=root,
                name=layout.DECODER_FILE,
            ) from error
        raise StoreError(
            "The decoder {name} of {root} is not whole",
            "copy the store again, or go back with: geosam-es decoder use STORE original",
            name=name,
            root=root,
        ) from error
    return decoder


def add_decoder(root: Path, folder: Path, name: str | None = None) -> StoreDecoder:
    """Copy a decoder into a store, beside those that are there; `use_decoder` makes it the one that answers.

    The same decoder under the same name is not copied twice. Another one of that name gets a number behind it, so that
    none is ever lost.

    Parameters
    ----------
    root : Path
        The store.
    folder : Path
        With ``decoder.json``, ``decoder.onnx`` and ``prepare.onnx``.
    name : str, optional
        Its name in the store; by default the one it was made under.

    Returns
    -------
    StoreDecoder
        As it is in the store now.

    Raises
    ------
    StoreError
        If ``root`` is no store.
    ModelError
        If ``folder`` is no whole decoder, or one of another encoder; or the name cannot be one.
    OutputError
        If the store cannot be written. Nothing of the decoder is left in it then.
    """
    model = layout.read_metadata(root).model
    decoder = read_decoder(folder)
    info = decoder.info
    if info is None or plain_sha256(info.encoder_sha256) != plain_sha256(str(model["encoder_sha256"])):
        raise _other_encoder(root, folder, model, info)
    wanted = info.name if name is None else name
    if not _NAME.fullmatch(wanted) or wanted.casefold() == ORIGINAL:
        raise ModelError(
            "{name!r} cannot be the name of a decoder in a store",
            "give another one of letters, digits, spaces and - . _ with --name",
            name=wanted,
        )
    check_decoder(decoder)
    try:
        return _copy(root, decoder, info, wanted)
    except OSError as error:
        raise _not_writable(root, error) from error


def _other_encoder(root: Path, folder: Path, model: Mapping[str, Any], info: DecoderInfo | None) -> ModelError:
    other = info.model if info is not None else ""
    if other == model["name"]:
        other = f"{other} ({plain_sha256(info.encoder_sha256)[:12]})" if info is not None else other
    return ModelError(
        "{folder} is a decoder of the encoder {other}, and {root} was made with the encoder {own}",
        "use a store of its own encoder, or tune a decoder on this one",
        folder=folder,
        other=other,
        root=root,
        own=model["name"],
    )


def _copy(root: Path, decoder: StoreDecoder, info: DecoderInfo, wanted: str) -> StoreDecoder:
    """Copy under a passing name, look at the copy, and rename it to the first name that is free."""
    decoders = root / layout.DECODERS
    known = {other.name.casefold(): other for other in list_decoders(root)}
    same = known.get(wanted.casefold())
    if same is not None and same.info is not None and _files(same.info) == _files(info):
        check_decoder(same)
        return same
    decoders.mkdir(exist_ok=True)
    fresh = decoders / f".{uuid.uuid4().hex}.new"
    try:
        fresh.mkdir()
        for path in (decoder.prepare_path, decoder.decoder_path, decoder.folder / layout.DECODER_INFO_FILE):
            if path is not None:
                shutil.copyfile(path, fresh / path.name)
        check_decoder(read_decoder(fresh))
        number, name = 1, wanted
        while name.casefold() in known or (decoders / name).exists():
            number += 1
            name = f"{wanted[: _MOST_CHARACTERS - 5].rstrip(' .')}-{number}"
        fresh.rename(decoders / name)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    return _named(decoders / name)


def _files(info: DecoderInfo) -> tuple[str | None, str]:
    prepare = info.prepare_sha256
    return None if prepare is None else plain_sha256(prepare), plain_sha256(info.decoder_sha256)


def use_decoder(root: Path, name: str) -> StoreDecoder:
    """Let a decoder of a store answer prompts from now on.

    Raises
    ------
    ModelError
        If the store has none of this name, or it is not whole.
    OutputError
        If the store cannot be written.
    """
    layout.read_metadata(root)
    decoder = find_decoder(root, name)
    check_decoder(decoder)
    path = root / layout.DECODERS / layout.ACTIVE_FILE
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(exist_ok=True)
        try:
            temporary.write_text(json.dumps({"name": name}) + "\n", encoding="utf-8")
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _not_writable(root, error) from error
    return decoder


def remove_decoder(root: Path, name: str) -> None:
    """Remove a tuned decoder from a store; where it was the one that answers, the original does from now on.

    Raises
    ------
    ModelError
        If the store has none of this name, or it is the one that the store was made with.
    OutputError
        If the store cannot be written.
    """
    layout.read_metadata(root)
    if name == ORIGINAL:
        raise ModelError(
            "{root} cannot be without the decoder it was made with", "remove only decoders that were added", root=root
        )
    folder = root / layout.DECODERS / name
    # A damaged one is removed as well.
    if not _NAME.fullmatch(name) or not folder.is_dir():
        find_decoder(root, name)
    if active_name(root) == name:
        use_decoder(root, ORIGINAL)
    doomed = folder.with_name(f".{uuid.uuid4().hex}.old")
    try:
        folder.rename(doomed)
    except OSError as error:
        raise _not_writable(root, error) from error
    shutil.rmtree(doomed, ignore_errors=True)


def _not_writable(root: Path, error: OSError) -> GeoSamError:
    return OutputError(
        "{root} cannot be written ({reason})",
        "copy it to a folder that can be written, or ask for the permission",
        root=root,
        reason=error.strerror or str(error),
    )
