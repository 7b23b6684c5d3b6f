"""SAM's image encoder on PyTorch, on a CPU or a GPU."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from geosam_es.errors import ModelError
from geosam_es.inference.encoder import ModelInfo

from ..libraries import torch
from ..malloc import tune_malloc
from .encoder_bfloat16 import Bfloat16ImageEncoder
from .encoder_onnx import OnnxImageEncoder
from .weights import FEATURES, LoadedSam

__all__ = ["Precision", "SamTorchEncoder", "TileEncoder", "resolve_device"]

Precision = Literal["auto", "float32", "bfloat16"]
"""Type of the matrix products. ``auto`` is float32 on a CPU, and float16 on a CUDA GPU unless it overflows."""

_LARGEST_BATCH = 16
_BYTES_PER_ATTENTION = 12
"""Peak bytes per element of a global attention's 4096 x 4096 maps: scores, positions, softmax, and copies."""
_SHARE_OF_FREE_MEMORY = 0.7
_CUDA_TYPES = {"auto": torch.float16, "float32": torch.float32, "bfloat16": torch.bfloat16}


class TileEncoder(torch.nn.Module):
    """SAM's normalisation and image encoder.

    Parameters
    ----------
    sam : segment_anything.modeling.Sam
        Its image encoder is shared, not copied.
    image_encoder : torch.nn.Module, optional
        Used in place of ``sam.image_encoder``.
    """

    mean: torch.Tensor
    deviation: torch.Tensor
    image_encoder: Any

    def __init__(self, sam: Any, image_encoder: Any = None) -> None:
        super().__init__()
        self.register_buffer("mean", sam.pixel_mean)
        self.register_buffer("deviation", sam.pixel_std)
        self.image_encoder = sam.image_encoder if image_encoder is None else image_encoder

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map uint8 (B, 1024, 1024, 3) to float (B, 256, 64, 64)."""
        pixels = (images.permute(0, 3, 1, 2).float() - self.mean) / self.deviation
        features: torch.Tensor = self.image_encoder(pixels)
        return features


def resolve_device(name: str) -> torch.device:
    """Return the device of a name.

    Parameters
    ----------
    name : str
        ``cpu``, ``cuda``, ``cuda:1``, ``mps``, or ``auto`` for the fastest of this machine.

    Raises
    ------
    ModelError
        If this machine has no such device.
    """
    mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"unknown device {name!r}", "use auto, cpu, cuda, cuda:N or mps") from error
    if device.type == "cuda":
        available = torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
    else:
        available = device.type == "cpu" or (device.type == "mps" and mps)
    if not available:
        raise ModelError(f"PyTorch has no device {name} here", "use auto or cpu")
    return device


class SamTorchEncoder:
    """The `Encoder` of SAM's three sizes.

    On a CPU it runs in float32 with onnxruntime (see `encoder_onnx`). bfloat16 is several times as fast on CPUs with
    instructions for it, and changes outlines (see `encoder_bfloat16`). On a CUDA GPU it runs in float16, which is
    closer to float32 than bfloat16 is, and which stores keep anyway. If a batch overflows, it and all later ones are
    computed in bfloat16. A batch that does not fit into the GPU's memory is halved until it does.

    Parameters
    ----------
    sam : LoadedSam
        A GPU encoder moves its image encoder to the device; a CPU encoder copies most of its weights.
    device : str
        As in `resolve_device`.
    precision : {"auto", "float32", "bfloat16"}
    threads : int, optional
        CPU threads of onnxruntime; by default one for each core.

    Raises
    ------
    ModelError
        If the device is not available, or does not support the precision.
    """

    def __init__(
        self, sam: LoadedSam, device: str = "auto", precision: Precision = "auto", threads: int | None = None
    ) -> None:
        self._device = resolve_device(device)
        if precision == "bfloat16" and self._device.type == "mps":
            raise ModelError("the device mps does not support bfloat16", "leave out --precision, or use --device cpu")
        image_encoder: Any = None
        if self._device.type == "cpu":
            tune_malloc()
            plain = sam.network.image_encoder
            is_exact = precision != "bfloat16"
            image_encoder = OnnxImageEncoder(plain, threads) if is_exact else Bfloat16ImageEncoder(plain)
        self._info = replace(sam.info, precision="bfloat16") if precision == "bfloat16" else sam.info
        self._heads: int = sam.network.image_encoder.blocks[0].attn.num_heads
        network = TileEncoder(sam.network, image_encoder).to(self._device)
        self._network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # On a CPU the image encoder chooses its types itself.
        self._dtype = torch.float32 if self._device.type != "cuda" else _CUDA_TYPES[precision]
        self._largest_batch = sys.maxsize

    @property
    def info(self) -> ModelInfo:
        """Name, hash, licence and feature shapes of the model."""
        return self._info

    @property
    def default_batch_size(self) -> int:
        """Tiles per batch that suit the device; 1 on a CPU, which gains nothing from larger batches."""
        if self._device.type != "cuda":
            return 1
        free, _ = torch.cuda.mem_get_info(self._device)
        _, height, width = FEATURES["image_embeddings"]
        tile = self._heads * (height * width) ** 2 * _BYTES_PER_ATTENTION
        return max(1, min(_LARGEST_BATCH, int(free * _SHARE_OF_FREE_MEMORY) // tile))

    def encode(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Encode a batch of tiles.

        Parameters
        ----------
        images : uint8 (B, 1024, 1024, 3)
            RGB tiles.

        Returns
        -------
        dict of str to float32 (B, 256, 64, 64)
            ``image_embeddings``.

        Raises
        ------
        ModelError
            If not even one tile fits into the GPU's memory.
        """
        features = np.empty((len(images), *FEATURES["image_embeddings"]), np.float32)
        start = 0
        while start < len(images):
            batch = images[start : start + self._largest_batch]
            encoded = self._encode_if_it_fits(batch)
            if encoded is not None:
                features[start : start + len(batch)] = encoded
                start += len(batch)
        return {"image_embeddings": features}

    def _encode_if_it_fits(self, batch: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        try:
            return self._encode_batch(batch)
        except torch.cuda.OutOfMemoryError as error:
            if len(batch) == 1:
                raise ModelError(
                    f"{self._device} has too little free memory for one tile of {self._info.name}",
                    "use --device cpu, or a smaller model",
                ) from error
        # After the handler, because the exception keeps the tensors that filled the memory alive.
        self._largest_batch = len(batch) // 2
        torch.cuda.empty_cache()
        return None

    def _encode_batch(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        tiles = torch.tensor(batch)
        if self._device.type == "cuda":
            tiles = tiles.pin_memory().to(self._device, non_blocking=True)
        else:
            tiles = tiles.to(self._device)
        features = self._forward(tiles)
        if self._dtype is torch.float16 and not bool(torch.isfinite(features).all()):
            self._dtype = torch.bfloat16
            features = self._forward(tiles)
        return features.float().cpu().numpy()

    def _forward(self, tiles: torch.Tensor) -> torch.Tensor:
        reduced = self._dtype is not torch.float32
        with torch.inference_mode(), torch.autocast(self._device.type, self._dtype, enabled=reduced):
            features: torch.Tensor = self._network(tiles)
        return features
