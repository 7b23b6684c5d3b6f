"""A decoder in a folder of its own: what it says of itself, and whether its files are whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ModelError
from . import layout

__all__ = ["DecoderInfo", "StoreDecoder", "check_decoder", "file_sha256", "plain_sha256", "read_decoder"]

_HASH_PREFIX = "sha256:"
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class DecoderInfo:
    """What a tuned decoder says of itself, in ``decoder.json``.

    Attributes
    ----------
    name : str
    model : str
        Name of the model whose features it reads.
    encoder_sha256 : str
        Hash of that model's encoder, as in a store's metadata: what decides which stores it answers from.
    prepare_sha256 : str, optional
        Hash of ``prepare.onnx``; None where the decoder is a single graph.
    decoder_sha256 : str
        Hash of ``decoder.onnx``.
    base : str
        What it was tuned from.
    objects : int
        Number of objects it was tuned on.
    created, software : str
        When (ISO 8601) and by what.
    summary : mapping
        Figures before and after, for whoever wants to show them.
    """

    name: str
    model: str
    encoder_sha256: str
    prepare_sha256: str | None
    decoder_sha256: str
    base: str = ""
    objects: int = 0
    created: str = ""
    software: str = ""
    summary: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> DecoderInfo:
        """Read ``decoder.json``.

        Raises
        ------
        KeyError, TypeError, ValueError
            Where something that is needed is missing or of the wrong type.
        """
        prepare = value["prepare_sha256"]
        return cls(
            name=str(value["name"]),
            model=str(value["model"]),
            encoder_sha256=str(value["encoder_sha256"]),
            prepare_sha256=None if prepare is None else str(prepare),
            decoder_sha256=str(value["decoder_sha256"]),
            base=str(value.get("base", "")),
            objects=int(value.get("objects", 0)),
            created=str(value.get("created", "")),
            software=str(value.get("software", "")),
            summary=dict(value.get("summary") or {}),
        )


@dataclass(frozen=True)
class StoreDecoder:
    """A decoder in a folder: of a store, or not yet in any.

    Attributes
    ----------
    name : str
        In a store the folder's name, which may differ from the one it was made under.
    folder : Path
    info : DecoderInfo, optional
        None for the decoder that a store was made with.
    """

    name: str
    folder: Path
    info: DecoderInfo | None = None

    @property
    def decoder_path(self) -> Path:
        """The decoder's ONNX file."""
        return self.folder / layout.DECODER_FILE

    @property
    def prepare_path(self) -> Path | None:
        """The ONNX file that prepares a tile, or None where the decoder is a single graph."""
        path = self.folder / layout.PREPARE_FILE
        is_single = self.info.prepare_sha256 is None if self.info is not None else not path.is_file()
        return None if is_single else path


def read_decoder(folder: Path) -> StoreDecoder:
    """Read the folder of a tuned decoder; its files are not looked into, see `check_decoder`.

    Raises
    ------
    ModelError
        If it is none.
    """
    path = folder / layout.DECODER_INFO_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(
            "{folder} is not a decoder: it has no {name}",
            "choose a folder that geosam-es finetune wrote",
            folder=folder,
            name=path.name,
        ) from None
    except OSError as error:
        raise ModelError(
            "{path} cannot be read ({reason})", "check its permissions", path=path, reason=error.strerror
        ) from error
    except ValueError as error:
        raise ModelError("{path} is damaged", "copy the decoder again", path=path) from error
    try:
        info = DecoderInfo.from_json(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            "{path} is damaged ({reason})", "copy the decoder again", path=path, reason=repr(error)
        ) from error
    return StoreDecoder(info.name, folder, info)


def check_decoder(decoder: StoreDecoder) -> None:
    """See that a decoder's files are there, and whole where their hashes are known.

    Raises
    ------
    ModelError
        With the first file that is not.
    """
    info = decoder.info
    wanted = {decoder.decoder_path: info.decoder_sha256 if info is not None else None}
    if decoder.prepare_path is not None:
        wanted[decoder.prepare_path] = info.prepare_sha256 if info is not None else None
    for path, sha256 in wanted.items():
        if not path.is_file():
            raise ModelError("{path} is not there", "copy the decoder again", path=path)
        try:
            is_whole = sha256 is None or file_sha256(path) == plain_sha256(sha256)
        except OSError as error:
            raise ModelError(
                "{path} cannot be read ({reason})", "check its permissions", path=path, reason=error.strerror
            ) from error
        if not is_whole:
            raise ModelError(
                "{path} is not the file that decoder.json tells of: it was changed or copied in part",
                "copy the decoder again",
                path=path,
            )


def file_sha256(path: Path) -> str:
    """Return the hash of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def plain_sha256(sha256: str) -> str:
    """Return a hash without the prefix that some carry."""
    return sha256[len(_HASH_PREFIX) :] if sha256.startswith(_HASH_PREFIX) else sha256
