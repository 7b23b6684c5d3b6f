"""Loading a model by name: its encoder, and the decoder that goes into a store."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np

from geosam_es.core.prompts import Point, Prompts
from geosam_es.errors import ModelError
from geosam_es.inference.decoder import MASK_SIDE, load_decoder
from geosam_es.inference.encoder import ENCODER_FILE, SAM2_FEATURES, Encoder, OnnxEncoder
from geosam_es.inference.onnx_files import external_files
from geosam_es.store.decoder_files import DecoderInfo, plain_sha256, prefixed_sha256
from geosam_es.store.layout import DECODER_FILE, DECODER_INFO_FILE, DECODERS, PREPARE_FILE
from geosam_es.store.metadata import StoreMetadata

from .checkpoints import Checkpoint, load_registry, mini_folder
from .family import load_network

__all__ = ["LoadedModel", "describe_ready_made", "load_model"]

_DECODER_BYTES = 32 << 20
"""Upper bound of the size of prepare.onnx and decoder.onnx, largest for SAM 3."""


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to encode.

    Attributes
    ----------
    encoder : Encoder
    decoder_bytes : int
        Size of the decoder's files in a store, rounded up where they are not exported yet.
    export_decoder : callable
        Returns the decoder's files by their names in a store. The first call exports and verifies the decoder, which
        takes seconds; later calls return the same files.
    """

    encoder: Encoder
    decoder_bytes: int
    export_decoder: Callable[[], Mapping[str, Path]]


def load_model(
    name: str,
    checkpoint: Path | None,
    device: str,
    work: Path,
    threads: int | None = None,
    precision: str = "auto",
) -> LoadedModel:
    """Load a model by its name.

    Parameters
    ----------
    name : str
        ``mini``, a name of ``models.json``, or a folder that ``geosam-es export --encoder`` wrote, or one with the
        ``encoder.onnx`` and ``decoder.onnx`` of another program (see `OnnxEncoder` and `SingleGraphDecoder`).
    checkpoint : Path, optional
        For the models of ``models.json``: weights to use in place of the downloaded ones.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:1``; ONNX encoders run on the CPU.
    work : Path
        Folder to export the decoder to. It must exist until the store is made.
    threads : int, optional
        CPU threads; by default one for each core.
    precision : str
        For the same models: ``auto``, ``float32`` or ``bfloat16``; see `TorchEncoder`.

    Returns
    -------
    LoadedModel

    Raises
    ------
    ModelError
        If the name is unknown, or the weights are missing, damaged or of another architecture.
    """
    registry = load_registry()
    if name in registry:
        return _load_network(registry[name], checkpoint, device, work, threads, precision)
    others = ", ".join(registry)
    if precision != "auto":
        raise ModelError(
            f"{name} does not take --precision, which its ONNX file fixes",
            f"leave out --precision, or use --model {others}",
        )
    if checkpoint is not None:
        raise ModelError(f"{name} does not take --checkpoint", f"leave out --checkpoint, or use --model {others}")
    folder = mini_folder() if name == "mini" else Path(name)
    if not (folder / ENCODER_FILE).is_file():
        raise ModelError(
            f"unknown model {name}",
            f"use mini, {others} or a folder with {ENCODER_FILE} and {DECODER_FILE}",
        )
    if device not in ("auto", "cpu"):
        raise ModelError(f"{name} runs on the CPU only, not on {device}", "leave out --device")
    files = {file: folder / file for file in (PREPARE_FILE, DECODER_FILE) if (folder / file).is_file()}
    if DECODER_FILE not in files:
        raise ModelError(f"{folder} has no {DECODER_FILE}", "export the model again")
    encoder = OnnxEncoder(folder, threads)
    # Loaded as a check: otherwise the first click in a store would find that its decoder is damaged.
    if PREPARE_FILE in files:
        load_decoder(files[PREPARE_FILE], files[DECODER_FILE], threads)
    else:
        _try_decoder(files[DECODER_FILE], encoder.info.features)
    return LoadedModel(encoder, sum(path.stat().st_size for path in files.values()), lambda: files)


def _load_network(
    model: Checkpoint, checkpoint: Path | None, device: str, work: Path, threads: int | None, precision: str
) -> LoadedModel:
    network = load_network(model, checkpoint)
    # Imported here, because torch is not installed everywhere and takes seconds to import.
    from .export import export_model
    from .libraries import torch

    if threads is not None:
        torch.set_num_threads(threads)

    @cache
    def exported() -> Mapping[str, Path]:
        files = {}
        for name, model in {"": network, **network.others()}.items():
            folder = Path(DECODERS, name) if name else Path()
            export_model(model, work / folder)
            if name:
                _describe_decoder(work / folder, name, network.info.name, network.info.encoder_sha256)
            made = (PREPARE_FILE, DECODER_FILE, *([DECODER_INFO_FILE] if name else []))
            files.update({(folder / file).as_posix(): work / folder / file for file in made})
        return files

    lock = threading.Lock()

    def export() -> Mapping[str, Path]:
        # Several images may be encoded at a time, and PyTorch exports one model at a time.
        with lock:
            return exported()

    encoder = network.encoder(device, precision, threads)
    # The encoder keeps what it needs. The later export of the decoder must not keep gigabytes of other weights.
    network.drop_image_encoder()
    return LoadedModel(encoder, _DECODER_BYTES, export)


def _try_decoder(path: Path, features: Mapping[str, tuple[int, ...]]) -> None:
    """Make sure that a single graph that another program wrote reads these features and gives masks."""
    decoder = load_decoder(None, path)
    if external_files(path):
        raise ModelError(f"{path} has its weights in another file", "export it with its weights inside")
    context = decoder.prepare({name: np.zeros((1, *shape), np.float32) for name, shape in features.items()})
    if features == SAM2_FEATURES and len(context) < len(features):
        raise ModelError(f"{path} is a decoder of SAM, but the encoder is a SAM 2", "give the decoder of SAM 2")
    masks = decoder.decode(context, Prompts((Point(0, 0),))).low_res_masks
    if masks.shape[1:] != (MASK_SIDE, MASK_SIDE):
        raise ModelError(f"{path} gives masks of {masks.shape}", f"use one that gives {MASK_SIDE} x {MASK_SIDE} logits")


def describe_ready_made(path: Path, metadata: StoreMetadata, work: Path) -> None:
    """Copy a decoder that another program wrote to a folder, with the ``decoder.json`` that a store needs.

    Parameters
    ----------
    path : Path
        The file (see `SingleGraphDecoder`), or its folder. An encoder in the folder must be that of the store.
        Otherwise only the shapes of the features are checked: the file does not tell which encoder it belongs to.
    metadata : StoreMetadata
        Of the store.
    work : Path
        The new folder, which exists.

    Raises
    ------
    ModelError
        If the file is no such decoder, or does not read the features of the store.
    """
    model, encoder = metadata.model, path / ENCODER_FILE
    decoder = path / DECODER_FILE if path.is_dir() else path
    if encoder.is_file() and OnnxEncoder(path).info.encoder_sha256 != plain_sha256(model["encoder_sha256"]):
        raise ModelError(
            f"the store was encoded with {model['name']}, not with {encoder}",
            f"encode again with --model {path}; or give {decoder} alone, if it belongs to {model['name']}",
        )
    _try_decoder(decoder, metadata.features)
    shutil.copyfile(decoder, work / DECODER_FILE)
    name = decoder.resolve().parent.name if decoder.name == DECODER_FILE else decoder.stem
    _describe_decoder(work, name, model["name"], model["encoder_sha256"], base=decoder.name)


def _describe_decoder(folder: Path, name: str, model: str, encoder_sha256: str, base: str = "") -> None:
    """Write ``decoder.json`` for a decoder that goes into a store beside its original one."""
    prepare = prefixed_sha256(folder / PREPARE_FILE) if (folder / PREPARE_FILE).is_file() else None
    info = DecoderInfo(name, model, encoder_sha256, prepare, prefixed_sha256(folder / DECODER_FILE), base)
    (folder / DECODER_INFO_FILE).write_text(json.dumps(asdict(info), indent=2), encoding="utf-8")
