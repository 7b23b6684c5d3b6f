"""Image encoders: tiles in, named feature maps out.

`Encoder` is the interface of every encoder, whatever runs it. `OnnxEncoder` runs an ONNX file on onnxruntime
and is what the embedded model uses; the torch encoders live in `encoder_tools`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

TILE_SIZE = 1024
"""Height and width in pixels of every tile an encoder takes."""

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
    """

    name: str
    encoder_sha256: str
    licence: str
    features: Mapping[str, tuple[int, int, int]]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object kept in ``model.json`` and in the store."""
        return {
            "name": self.name,
            "encoder_sha256": self.encoder_sha256,
            "licence": self.licence,
            "features": {name: list(shape) for name, shape in self.features.items()},
        }


class Encoder(Protocol):
    """Anything that turns tiles into feature maps."""

    @property
    def info(self) -> ModelInfo:
        """Name, hash, licence and feature shapes of the model."""
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
