"""A decoder in a folder: its description, and whether its files are complete."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ModelError
from . import layout
from .files import check_regular
from .schema import JsonValue, SchemaError, read_json

__all__ = [
    "DecoderInfo",
    "StoreDecoder",
    "check_decoder",
    "check_file",
    "file_sha256",
    "plain_sha256",
    "prefixed_sha256",
    "read_info",
    "unreadable",
]

_HASH_PREFIX = "sha256:"
_BLOCK_BYTES = 1 << 20
_MOST_OBJECTS = 2**53


@dataclass(frozen=True)
class DecoderInfo:
    """The description of a tuned decoder, in ``decoder.json``.

    Attributes
    ----------
    name : str
    model : str
        Name of the model whose features it reads.
    encoder_sha256 : str
        Hash of that model's encoder, as in a store's metadata. The decoder works with the stores of this encoder.
    prepare_sha256 : str, optional
        Hash of ``prepare.onnx``; None if the decoder is a single graph.
    decoder_sha256 : str
        Hash of ``decoder.onnx``.
    base : str
        Decoder that it was tuned from.
    objects : int
        Number of objects it was tuned on.
    created, software : str
        When (ISO 8601) and by what.
    summary : mapping
        Scores before and after tuning.
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
    def from_json(cls, value: JsonValue) -> DecoderInfo:
        """Read ``decoder.json``.

        Raises
        ------
        SchemaError
            If something is missing, of the wrong type or out of range.
        """
        prepare = value["prepare_sha256"]
        return cls(
            name=value["name"].text(),
            model=value["model"].text(),
            encoder_sha256=value["encoder_sha256"].sha256(),
            prepare_sha256=None if prepare.value is None else prepare.sha256(),
            decoder_sha256=value["decoder_sha256"].sha256(),
            base=value.get("base", "").text(),
            objects=value.get("objects", 0).integer(0, _MOST_OBJECTS),
            created=value.get("created", "").text(),
            software=value.get("software", "").text(),
            summary=value.get("summary", {}).mapping(),
        )


@dataclass(frozen=True)
class StoreDecoder:
    """A decoder in a folder, inside a store or elsewhere.

    Attributes
    ----------
    name : str
        In a store the name of the folder, which may differ from the name in ``decoder.json``.
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
        """The ONNX file that prepares a tile, or None if the decoder is a single graph."""
        path = self.folder / layout.PREPARE_FILE
        is_single = self.info.prepare_sha256 is None if self.info is not None else not path.is_file()
        return None if is_single else path


def read_info(folder: Path) -> DecoderInfo:
    """Read the description of a tuned decoder; `check_decoder` checks its files.

    Raises
    ------
    ModelError
        If the folder has no ``decoder.json``, or a damaged one.
    """
    path = folder / layout.DECODER_INFO_FILE
    try:
        return DecoderInfo.from_json(read_json(path))
    except FileNotFoundError:
        raise ModelError(
            "{folder} is not a decoder: it has no {name}",
            "choose a folder that geosam-es finetune wrote",
            folder=folder,
            name=path.name,
        ) from None
    except OSError as error:
        raise unreadable(path, error) from error
    except SchemaError as error:
        raise ModelError(
            "{path} is damaged ({reason})", "copy the decoder again", path=path, reason=str(error)
        ) from error


def unreadable(path: Path, error: OSError) -> ModelError:
    """Return the error for a file of a decoder or a model that exists but cannot be read."""
    return ModelError(
        "{path} cannot be read ({reason})", "check the file and its permissions", path=path, reason=error.strerror
    )


def check_decoder(decoder: StoreDecoder) -> None:
    """Check that the files of a decoder exist and have the hashes in ``decoder.json``.

    Raises
    ------
    ModelError
        With the first file that is missing or differs.
    """
    info = decoder.info
    wanted = {decoder.decoder_path: info.decoder_sha256 if info is not None else None}
    if decoder.prepare_path is not None:
        wanted[decoder.prepare_path] = info.prepare_sha256 if info is not None else None
    for path, sha256 in wanted.items():
        check_file(path, sha256)


def check_file(path: Path, sha256: str | None, document: str = layout.DECODER_INFO_FILE) -> None:
    """Check that a file exists, and that it has the hash in a document if there is one; see `check_decoder`."""
    try:
        check_regular(path)
        is_whole = sha256 is None or file_sha256(path) == plain_sha256(sha256)
    except FileNotFoundError:
        raise ModelError("{path} does not exist", "copy the decoder again", path=path) from None
    except OSError as error:
        raise unreadable(path, error) from error
    if not is_whole:
        raise ModelError(
            "{path} does not have the hash in {document}: it was changed or copied in part",
            "copy the decoder again",
            path=path,
            document=document,
        )


def file_sha256(path: Path) -> str:
    """Return the hash of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def prefixed_sha256(path: Path) -> str:
    """Return the hash of a file with the prefix ``sha256:``: secret scanners take bare digits for a password."""
    return _HASH_PREFIX + file_sha256(path)


def plain_sha256(sha256: str) -> str:
    """Return a hash without the prefix ``sha256:``."""
    return sha256[len(_HASH_PREFIX) :] if sha256.startswith(_HASH_PREFIX) else sha256
