"""Image encoders: tiles in, named feature maps out.

`Encoder` is the interface of all encoders. `OnnxEncoder` runs an ONNX file, such as the embedded model's, on
onnxruntime; the PyTorch encoders are in `encoder_tools`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..store.decoder_files import file_sha256, unreadable
from ..store.metadata import EXACT, check_model
from ..store.schema import SchemaError, read_json
from .onnx_files import external_files
from .runtime import OnnxGraph, available_cores

__all__ = [
    "FILL_RGB",
    "TILE_SIZE",
    "Encoder",
    "ModelInfo",
    "OnnxEncoder",
    "SplittableEncoder",
    "read_model_info",
    "weights_sha256",
]

ENCODER_FILE = "encoder.onnx"
MODEL_FILE = "model.json"

TILE_SIZE = 1024
"""Height and width in pixels of the tiles that encoders take."""

MAX_COPIES = 4
"""Copies of a light model that encode tiles side by side."""

LIGHT_MODEL_BYTES = 64 << 20
"""Larger models are never loaded more than once."""

_EXTERNAL_LOCATION = re.compile(rb"\x0a\x08location\x12([\x80-\xff]?[\x01-\x7f])", re.DOTALL)
"""The key of an external tensor's file in the protobuf of ONNX, and the length of its name."""

FILL_RGB = (124, 116, 104)
"""Colour of padding and of pixels without data: SAM's pixel mean, zero after its normalisation."""

_PIXEL_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
_PIXEL_DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)
"""Of red, green and blue, for encoders that take normalised pixels: the same for SAM and SAM 2."""

SAM_FEATURES = {"image_embeddings": (256, 64, 64)}
SAM2_FEATURES = {**SAM_FEATURES, "high_res_feats_1": (64, 128, 128), "high_res_feats_0": (32, 256, 256)}

SAM2_NAMES = {"image_embeddings": "image_embed"}
"""What samexporter's files of SAM 2 call a feature map that has another name in a store."""


@dataclass(frozen=True)
class ModelInfo:
    """Description of a model, recorded in the stores made with it.

    Attributes
    ----------
    name : str
        ``mini``, ``vit_b``, ``vit_l``, ``vit_h`` or the name of the user's own model.
    encoder_sha256 : str
        SHA-256 of the file with the encoder's weights. Stores and decoders match if it is equal.
    licence : str
        SPDX expression of the weights' licence.
    features : Mapping[str, tuple of int]
        Name and shape (C, h, w) of each feature map of a tile.
    precision : str
        ``bfloat16`` if the encoder rounds more than a store does, which moves outlines slightly; else ``float32``.
    """

    name: str
    encoder_sha256: str
    licence: str
    features: Mapping[str, tuple[int, int, int]]
    precision: str = EXACT

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object for ``model.json`` and the store."""
        return {
            "name": self.name,
            "encoder_sha256": self.encoder_sha256,
            "licence": self.licence,
            "features": {name: list(shape) for name, shape in self.features.items()},
            "precision": self.precision,
        }


class Encoder(Protocol):
    """Turns tiles into feature maps."""

    @property
    def info(self) -> ModelInfo:
        """Name, hash, licence and feature shapes of the model."""
        ...

    @property
    def default_batch_size(self) -> int:
        """Batch size that suits the device."""
        ...

    def encode(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Encode a batch of tiles.

        Parameters
        ----------
        images : uint8 (B, 1024, 1024, 3)
            RGB tiles; padding and pixels without data hold `FILL_RGB`.

        Returns
        -------
        dict of str to float32 (B, C, h, w)
            The feature maps named in ``info.features``.
        """
        ...


@runtime_checkable
class SplittableEncoder(Protocol):
    """An encoder that is faster as several copies, each on some of the cores, than as one on all of them."""

    def split(self) -> Sequence[Encoder]:
        """Return equivalent encoders to run side by side, which share the cores of this one.

        Returns
        -------
        sequence of Encoder
            This encoder alone if copies would not be faster.
        """
        ...


class OnnxEncoder:
    """An encoder that runs an ONNX file on onnxruntime.

    Parameters
    ----------
    folder : Path
        Holds ``encoder.onnx`` (``images`` uint8 (B, 1024, 1024, 3) in, feature maps out) and ``model.json``. The files
        of samexporter for SAM, MobileSAM and SAM 2 are accepted too, without ``model.json`` as well: they take one tile
        as float32, normalised (1, 3, 1024, 1024) or not (1024, 1024, 3).
    threads : int, optional
        By default one for each core.

    Raises
    ------
    ModelError
        If a file is missing or damaged, or does not match ``model.json``.
    """

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        self._folder = folder
        self.threads = threads or available_cores()
        self._copies: list[Encoder] = []
        try:
            self._info = read_model_info(folder)
            self._graph = OnnxGraph(folder / ENCODER_FILE, self.threads)
        except ModelError as error:
            if not isinstance(error.__cause__, FileNotFoundError) or not (folder / ENCODER_FILE).is_file():
                raise
            self._graph = OnnxGraph(folder / ENCODER_FILE, self.threads)
            self._info = _recognise(folder, self._graph)
        given = self._graph.outputs
        self._outputs = [SAM2_NAMES.get(name, name) if name not in given else name for name in self._info.features]
        self._layout = _input_layout(self._graph)
        if self._layout is None or set(self._outputs) - set(given):
            raise ModelError(
                "{path} is not an encoder: it needs the input images and the outputs {outputs}",
                "export the model again with: geosam-es export MODEL -o DIR --encoder",
                path=self._graph.path,
                outputs=", ".join(self._info.features),
            )

    @property
    def info(self) -> ModelInfo:
        """Name, hash, licence and feature shapes of the model."""
        return self._info

    @property
    def default_batch_size(self) -> int:
        """One tile: larger batches are not faster on a CPU."""
        return 1

    def split(self) -> Sequence[Encoder]:
        """Return copies that share the cores if the model is light; see `SplittableEncoder`.

        A light model is fastest with one tile per thread. A heavy one keeps all cores busy with each matrix product,
        and every copy would take its weights and activations into memory again.
        """
        count = min(self.threads, MAX_COPIES)
        if count < 2 or _model_bytes(self._graph.path) > LIGHT_MODEL_BYTES:
            return [self]
        if not self._copies:
            # Kept because the first run of each copy allocates memory, which takes half as long as a tile.
            copy = OnnxEncoder(self._folder, self.threads // count)
            has_threads = self.threads // count > 1
            self._copies = [
                copy,
                *(OnnxEncoder(self._folder, copy.threads) if has_threads else copy for _ in range(count - 1)),
            ]
        return self._copies

    def encode(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Encode a batch of tiles; see `Encoder.encode`."""
        (name,) = self._graph.inputs
        tiles: Sequence[NDArray[Any]] = [images]
        if self._layout == _RAW:
            tiles = list(images.astype(np.float32))
        elif self._layout == _NORMALISED:
            tiles = [np.moveaxis((tile - _PIXEL_MEAN) / _PIXEL_DEVIATION, -1, 0)[None] for tile in images]
        answers = [list(self._graph.run({name: tile}, self._outputs).values()) for tile in tiles]
        maps = answers[0] if len(answers) == 1 else [np.concatenate(parts) for parts in zip(*answers)]
        return dict(zip(self._info.features, maps))


_OWN, _NORMALISED, _RAW = "own", "normalised", "raw"


def _input_layout(graph: OnnxGraph) -> str | None:
    """Return how an encoder takes its tiles; None if that is not known."""
    if len(graph.inputs) != 1:
        return None
    (item,) = graph.inputs.values()
    shape = [TILE_SIZE if not isinstance(side, int) else side for side in item.shape]
    if item.type == "tensor(uint8)":
        return _OWN if item.name == "images" else None
    layouts = {(3, TILE_SIZE, TILE_SIZE): _NORMALISED, (TILE_SIZE, 3): _RAW}
    return layouts.get(tuple(shape[1:])) if item.type == "tensor(float)" else None


def _recognise(folder: Path, graph: OnnxGraph) -> ModelInfo:
    """Describe an encoder without ``model.json`` by the contract that it keeps; its licence is not known."""
    for features, names in ((SAM_FEATURES, {}), (SAM2_FEATURES, SAM2_NAMES)):
        shapes = {names.get(name, name): shape for name, shape in features.items()}
        if _input_layout(graph) is None or graph.outputs.keys() != shapes.keys():
            continue
        sides = [pair for name, shape in shapes.items() for pair in zip(graph.outputs[name].shape[1:], shape)]
        # An axis of any length has a name in place of a number.
        if all(side == wanted or not isinstance(side, int) for side, wanted in sides):
            return ModelInfo(folder.resolve().name, weights_sha256(graph.path), "NOASSERTION", features)
    raise ModelError(
        "{folder} has no {name}, and its encoder.onnx is not one of segment-anything or samexporter: "
        "it takes {inputs} and gives {outputs}",
        "use an encoder with the output image_embeddings (SAM, MobileSAM), or image_embed, high_res_feats_0 and "
        "high_res_feats_1 (SAM 2), for tiles of 1024 pixels as float32",
        folder=folder,
        name=MODEL_FILE,
        inputs=_described(graph.inputs),
        outputs=_described(graph.outputs),
    )


def _described(items: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {item.shape}" for name, item in items.items())


def weights_sha256(path: Path) -> str:
    """Return a hash of an ONNX file and of the files with its weights."""
    names = sorted(external_files(path))
    hashes = [file_sha256(path), *(file_sha256(path.parent / name) for name in names)]
    return hashlib.sha256("".join(hashes).encode()).hexdigest() if names else hashes[0]


def _model_bytes(path: Path) -> int:
    """Return the size of an ONNX file and of the files with external weights that it refers to."""
    size = path.stat().st_size
    if size > LIGHT_MODEL_BYTES:
        return size
    content = path.read_bytes()
    names = set()
    for entry in _EXTERNAL_LOCATION.finditer(content):
        # A varint of one or two bytes, the lower one first.
        low, high = (*entry[1], 0)[:2]
        length = (low & 0x7F) + (high << 7)
        names.add(content[entry.end() : entry.end() + length].decode("utf-8", "replace"))
    files = [path.parent / name for name in names]
    return size + sum(file.stat().st_size for file in files if file.is_file())


def read_model_info(folder: Path) -> ModelInfo:
    """Read a model folder's ``model.json``.

    Raises
    ------
    ModelError
        If it is missing or damaged, or cannot be read.
    """
    try:
        value = check_model(read_json(folder / MODEL_FILE))
    except PermissionError as error:
        raise unreadable(folder / MODEL_FILE, error) from error
    except (OSError, SchemaError) as error:
        raise ModelError(
            "{folder} is not a model folder: its {name} is missing or damaged",
            "export the model again with: geosam-es export MODEL -o DIR --encoder",
            folder=folder,
            name=MODEL_FILE,
        ) from error
    features = {name: (c, h, w) for name, (c, h, w) in value["features"].items()}
    return ModelInfo(value["name"], value["encoder_sha256"], value["licence"], features, value.get("precision", EXACT))
