"""Loading a model by name: its encoder, and the decoder that goes into a store."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from geosam_es.errors import ModelError
from geosam_es.inference.decoder import load_decoder
from geosam_es.inference.encoder import ENCODER_FILE, MODEL_FILE, Encoder, ModelInfo, OnnxEncoder
from geosam_es.store.decoder_files import DecoderInfo, prefixed_sha256
from geosam_es.store.layout import DECODER_FILE, DECODER_INFO_FILE, DECODERS, PREPARE_FILE

from .checkpoints import Checkpoint, load_registry, mini_folder
from .family import load_network

__all__ = ["LoadedModel", "load_model"]

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
        ``mini``, a name of ``models.json``, or a folder that ``geosam-es export --encoder`` wrote.
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
    if not (folder / MODEL_FILE).is_file() or not (folder / ENCODER_FILE).is_file():
        raise ModelError(
            f"unknown model {name}",
            f"use mini, {others} or a folder that geosam-es export --encoder wrote",
        )
    if device not in ("auto", "cpu"):
        raise ModelError(f"{name} runs on the CPU only, not on {device}", "leave out --device")
    files = {file: folder / file for file in (PREPARE_FILE, DECODER_FILE) if (folder / file).is_file()}
    if DECODER_FILE not in files:
        raise ModelError(f"{folder} has no {DECODER_FILE}", "export the model again")
    encoder = OnnxEncoder(folder, threads)
    # Loaded as a check: otherwise the first click in a store would find that its decoder is damaged.
    load_decoder(files.get(PREPARE_FILE), files[DECODER_FILE], threads)
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
                _describe_decoder(work / folder, name, network.info)
            made = (PREPARE_FILE, DECODER_FILE, *([DECODER_INFO_FILE] if name else []))
            files.update({(folder / file).as_posix(): work / folder / file for file in made})
        return files

    encoder = network.encoder(device, precision, threads)
    # The encoder keeps what it needs. The later export of the decoder must not keep gigabytes of other weights.
    network.drop_image_encoder()
    return LoadedModel(encoder, _DECODER_BYTES, exported)


def _describe_decoder(folder: Path, name: str, model: ModelInfo) -> None:
    """Write ``decoder.json`` for a decoder that goes into a store beside its original one."""
    prepare, decoder = (prefixed_sha256(folder / file) for file in (PREPARE_FILE, DECODER_FILE))
    info = DecoderInfo(name, model.name, model.encoder_sha256, prepare, decoder)
    (folder / DECODER_INFO_FILE).write_text(json.dumps(asdict(info), indent=2), encoding="utf-8")
