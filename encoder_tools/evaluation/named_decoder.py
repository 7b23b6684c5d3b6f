"""Finding the decoder that a user names: a folder, an ONNX file, or a decoder of the store."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from geosam_es.errors import ModelError
from geosam_es.inference.decoder import MaskDecoder, load_decoder
from geosam_es.inference.encoder import MODEL_FILE
from geosam_es.store import StoreReader
from geosam_es.store.decoder_files import plain_sha256
from geosam_es.store.decoders import StoreDecoder, active_decoder, check_decoder, find_decoder, read_info
from geosam_es.store.layout import DECODER_FILE, DECODER_INFO_FILE, PREPARE_FILE

__all__ = ["NamedDecoder", "find_named_decoder"]


@dataclass(frozen=True)
class NamedDecoder:
    """A decoder and its name in a report.

    Attributes
    ----------
    name : str
    prepare_path : Path, optional
        None for a decoder of a single graph.
    decoder_path : Path
    objects : int
        Number of objects that it was tuned on, 0 for one that was not.
    """

    name: str
    prepare_path: Path | None
    decoder_path: Path
    objects: int = 0

    @classmethod
    def of(cls, decoder: StoreDecoder) -> NamedDecoder:
        """Make one from a decoder in a folder."""
        objects = 0 if decoder.info is None else decoder.info.objects
        return cls(decoder.name, decoder.prepare_path, decoder.decoder_path, objects)

    def load(self, threads: int | None = None) -> MaskDecoder:
        """Load the decoder; see `load_decoder` for the errors."""
        return load_decoder(self.prepare_path, self.decoder_path, threads)


def find_named_decoder(text: str | None, reader: StoreReader) -> NamedDecoder:
    """Return the decoder that a user names.

    Parameters
    ----------
    text : str or None
        A folder, an ONNX file, or the name of a decoder of the store; None for the active decoder of the store.
    reader : StoreReader

    Raises
    ------
    ModelError
        If there is no such decoder, it is damaged, or it belongs to another encoder.
    StoreError
        If the active decoder of the store is damaged.
    """
    if text is None:
        return NamedDecoder.of(active_decoder(reader.root))
    path = Path(text)
    if path.is_dir():
        return _from_folder(path, reader)
    if path.is_file():
        # The folder of this file may describe it.
        return _from_folder(path.parent, reader) if path.name == DECODER_FILE else NamedDecoder(path.stem, None, path)
    try:
        decoder = find_decoder(reader.root, text)
    except ModelError as error:
        raise ModelError(
            f"{text} is neither a folder or file nor a decoder of {reader.root}",
            "choose a folder that geosam-es finetune wrote, or a name from: geosam-es decoder list STORE",
        ) from error
    check_decoder(decoder)
    return NamedDecoder.of(decoder)


def _from_folder(folder: Path, reader: StoreReader) -> NamedDecoder:
    if not (folder / DECODER_FILE).is_file():
        raise ModelError(f"{folder} has no {DECODER_FILE}", "choose a folder that geosam-es finetune wrote")
    _check_encoder(folder, reader)
    name = folder.resolve().name
    if (folder / DECODER_INFO_FILE).is_file():
        decoder = StoreDecoder(name, folder, read_info(folder))
        check_decoder(decoder)
        return NamedDecoder.of(decoder)
    prepare = folder / PREPARE_FILE
    return NamedDecoder(name, prepare if prepare.is_file() else None, folder / DECODER_FILE)


def _check_encoder(folder: Path, reader: StoreReader) -> None:
    """Raise an error if a folder describes a decoder of another encoder."""
    own = reader.metadata.model
    for name in (DECODER_INFO_FILE, MODEL_FILE):
        path = folder / name
        if not path.is_file():
            continue
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            sha256, model = str(value["encoder_sha256"]), str(value.get("model", value.get("name", "another")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{path} is damaged", "copy or export the decoder again") from error
        if plain_sha256(sha256) != plain_sha256(str(own["encoder_sha256"])):
            raise ModelError(
                f"{folder} is a decoder for {model}, but {reader.root} was encoded with another encoder, {own['name']}",
                "use a decoder that was tuned on a store of the same encoder, or encode the raster with that model",
            )
        return
