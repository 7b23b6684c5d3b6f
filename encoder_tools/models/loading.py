"""Loading a model by name: its encoder, and the decoder that goes into a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

from geosam_es.errors import ModelError
from geosam_es.inference.decoder import load_decoder
from geosam_es.inference.encoder import ENCODER_FILE, MODEL_FILE, Encoder, OnnxEncoder
from geosam_es.store.layout import DECODER_FILE, PREPARE_FILE

from .checkpoints import mini_folder

__all__ = ["SAM_NAMES", "LoadedModel", "load_model"]

SAM_NAMES = ("vit_b", "vit_l", "vit_h")

_SAM_DECODER_BYTES = 28 << 20
"""Upper bound of the size of SAM's prepare.onnx and decoder.onnx, which is the same for all three encoders."""


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to encode.

    Attributes
    ----------
    encoder : Encoder
    decoder_bytes : int
        Size of the decoder's files in a store, rounded up where they are not exported yet.
    export_decoder : callable
        Returns the decoder's files by their names in a store. The first call exports and verifies a SAM decoder, which
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
        ``mini``, ``vit_b``, ``vit_l``, ``vit_h``, or a folder that ``geosam-es export --encoder`` wrote.
    checkpoint : Path, optional
        For SAM models: weights to use in place of the downloaded ones.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:1``; ONNX encoders run on the CPU.
    work : Path
        Folder to export a SAM decoder to. It must exist until the store is made.
    threads : int, optional
        CPU threads; by default one for each core.
    precision : str
        For SAM models: ``auto``, ``float32`` or ``bfloat16``; see `SamTorchEncoder`.

    Returns
    -------
    LoadedModel

    Raises
    ------
    ModelError
        If the name is unknown, or the weights are missing, damaged or of another architecture.
    """
    if name in SAM_NAMES:
        return _load_sam(name, checkpoint, device, work, threads, precision)
    if precision != "auto":
        raise ModelError(
            f"{name} does not take --precision, which its ONNX file fixes",
            "leave out --precision, or use --model vit_b, vit_l or vit_h",
        )
    if checkpoint is not None:
        raise ModelError(
            f"{name} does not take --checkpoint", "leave out --checkpoint, or use --model vit_b, vit_l or vit_h"
        )
    folder = mini_folder() if name == "mini" else Path(name)
    if not (folder / MODEL_FILE).is_file() or not (folder / ENCODER_FILE).is_file():
        raise ModelError(
            f"unknown model {name}",
            "use mini, vit_b, vit_l, vit_h or a folder that geosam-es export --encoder wrote",
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


def _load_sam(
    name: str, checkpoint: Path | None, device: str, work: Path, threads: int | None, precision: str
) -> LoadedModel:
    # Imported here, because torch is not installed everywhere and takes seconds to import.
    from .libraries import torch
    from .sam.encoder import Precision, SamTorchEncoder
    from .sam.export import export_sam
    from .sam.weights import Architecture, load_checkpoint, load_sam

    sam = load_sam(name) if checkpoint is None else load_checkpoint(checkpoint, cast(Architecture, name))
    if threads is not None:
        torch.set_num_threads(threads)

    @cache
    def exported() -> Mapping[str, Path]:
        export_sam(sam, work)
        return {name: work / name for name in (PREPARE_FILE, DECODER_FILE)}

    encoder = SamTorchEncoder(sam, device, cast(Precision, precision), threads)
    # The encoder keeps what it needs. The later export of the decoder must not keep gigabytes of other weights.
    sam.drop_image_encoder()
    return LoadedModel(encoder, _SAM_DECODER_BYTES, exported)
