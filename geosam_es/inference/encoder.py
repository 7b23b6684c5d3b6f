"""Image encoders: tiles in, named feature maps out.

`Encoder` is the interface of every encoder, whatever runs it. `OnnxEncoder` runs an ONNX file on onnxruntime
and is what the embedded model uses; the torch encoders live in `encoder_tools`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..store.layout import EXACT, check_model
from ..store.schema import SchemaError, read_json
from .runtime import OnnxGraph, available_cores

__all__ = ["FILL_RGB", "TILE_SIZE", "Encoder", "ModelInfo", "OnnxEncoder", "SplittableEncoder", "read_model_info"]

ENCODER_FILE = "encoder.onnx"
MODEL_FILE = "model.json"

TILE_SIZE = 1024
"""Height and width in pixels of every tile an encoder takes."""

_MOST_SIDE_BY_SIDE = 4
_LIGHT_BYTES = 64 << 20

FILL_RGB = (124, 116, 104)
"""Colour of padding and of pixels without data: SAM's pixel mean, zero after its normalisation."""


@dataclass(frozen=True)
class ModelInfo:
    """What a store records of the model that made it.

    Attributes
    ----------
    name : str
        ``mini``, ``vit_b``, ``vit_l``, ``vit_h`` or a user's own name.
    encoder_sha256 : str
        SHA-256 of the file that holds the encoder's weights: stores and decoders of one encoder share it.
    licence : str
        SPDX expression of the weights' licence.
    features : Mapping[str, tuple of int]
        Name and (C, h, w) shape of each feature map of one tile.
    precision : str
        ``bfloat16`` where the encoder rounds more than a store does, which moves outlines; else ``float32``.
    """

    name: str
    encoder_sha256: str
    licence: str
    features: Mapping[str, tuple[int, int, int]]
    precision: str = EXACT

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object kept in ``model.json`` and in the store."""
        return {
            "name": self.name,
            "encoder_sha256": self.encoder_sha256,
            "licence": self.licence,
            "features": {name: list(shape) for name, shape in self.features.items()},
            "precision": self.precision,
        }


class Encoder(Protocol):
    """Anything that turns tiles into feature maps."""

    @property
    def info(self) -> ModelInfo:
        """Name, hash, licence and feature shapes of the model."""
        ...

    @property
    def default_batch_size(self) -> int:
        """Tiles at a time that suit the device."""
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
    """An encoder that gets more tiles done by several of it, each on some of the cores, than by one on all."""

    def split(self) -> Sequence[Encoder]:
        """Return encoders that give what this one gives, to be run side by side; alone where there is nothing to gain.

        The cores of this one are shared out among them.
        """
        ...


class OnnxEncoder:
    """An encoder that runs an ONNX file on onnxruntime.

    Parameters
    ----------
    folder : Path
        Holds ``encoder.onnx`` (``images`` uint8 (B, 1024, 1024, 3) in, feature maps out) and ``model.json``.
    threads : int, optional
        By default one for each core.

    Raises
    ------
    ModelError
        If a file is missing, damaged, or is not the one that ``model.json`` describes.
    """

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        self._folder = folder
        self._threads = threads or available_cores()
        self._parts: list[Encoder] = []
        self._info = read_model_info(folder)
        self._graph = OnnxGraph(folder / ENCODER_FILE, self._threads)
        missing = set(self._info.features) - set(self._graph.outputs)
        if missing or list(self._graph.inputs) != ["images"]:
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
        """Tiles at a time: batches bring nothing on a CPU."""
        return 1

    def split(self) -> Sequence[Encoder]:
        """Share the cores out, if the model is a light one; see `SplittableEncoder`.

        A thread of its own for each tile waits for no other, so reading and writing beside it cost no more than the
        time they take. A heavy model fills all cores with each product, and the memory with each tile.
        """
        count = min(self._threads, _MOST_SIDE_BY_SIDE)
        if count < 2 or self._graph.path.stat().st_size > _LIGHT_BYTES:
            return [self]
        if not self._parts:
            # Kept, because the first run of each takes memory from the system, which costs as much as half a tile.
            part = OnnxEncoder(self._folder, self._threads // count)
            more = self._threads // count > 1
            self._parts = [
                part,
                *(OnnxEncoder(self._folder, part._threads) if more else part for _ in range(count - 1)),
            ]
        return self._parts

    def encode(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Encode a batch of tiles; see `Encoder.encode`."""
        return self._graph.run({"images": images}, list(self._info.features))


def read_model_info(folder: Path) -> ModelInfo:
    """Read a model folder's ``model.json``.

    Raises
    ------
    ModelError
        If it is missing or damaged.
    """
    try:
        value = check_model(read_json(folder / MODEL_FILE))
    except (OSError, SchemaError) as error:
        raise ModelError(
            "{folder} is not a model folder: its {name} is missing or damaged",
            "export the model again with: geosam-es export MODEL -o DIR --encoder",
            folder=folder,
            name=MODEL_FILE,
        ) from error
    features = {name: (c, h, w) for name, (c, h, w) in value["features"].items()}
    return ModelInfo(
        value["name"], value["encoder_sha256"], value["licence"], features, value.get("precision", EXACT)
    )
