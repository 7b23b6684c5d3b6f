"""Image encoders on PyTorch, on a CPU or a GPU."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geosam_es.errors import ModelError
from geosam_es.inference.encoder import ModelInfo

from .libraries import torch
from .malloc import tune_malloc

__all__ = ["Precision", "TorchEncoder", "float32_device", "resolve_device"]

Precision = Literal["auto", "float32", "bfloat16"]
"""Type of the matrix products. ``auto`` is float32 on a CPU, and float16 on a CUDA GPU unless it overflows."""

_LARGEST_BATCH = 16
_SHARE_OF_FREE_MEMORY = 0.7
_CUDA_TYPES = {"auto": torch.float16, "float32": torch.float32, "bfloat16": torch.bfloat16}


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


def float32_device(name: str, precision: str, model: str) -> torch.device:
    """Return the device of a name for a model that runs in float32 on a CPU; see `resolve_device` for the errors."""
    device = resolve_device(name)
    if device.type == "cpu":
        if precision == "bfloat16":
            raise ModelError(f"{model} runs in float32 on a CPU", "leave out --precision")
        tune_malloc()
    return device


class TorchEncoder:
    """An `Encoder` that runs a PyTorch module.

    On a CUDA GPU it runs in float16, which is closer to float32 than bfloat16 is, and which stores keep anyway. If a
    batch overflows, it and all later ones are computed in bfloat16. A batch that does not fit into the GPU's memory is
    halved until it does.

    Parameters
    ----------
    network : torch.nn.Module
        Maps uint8 (B, 1024, 1024, 3) to the feature maps of ``info`` in that order, float (B, C, h, w), or to the only
        one. It moves to the device.
    info : ModelInfo
    device : torch.device
        From `resolve_device`. On a CPU the module chooses its types itself.
    precision : {"auto", "float32", "bfloat16"}
    tile_bytes : int
        Peak memory of one tile on a GPU.

    Raises
    ------
    ModelError
        If the device does not support the precision.
    """

    def __init__(
        self, network: torch.nn.Module, info: ModelInfo, device: torch.device, precision: Precision, tile_bytes: int
    ) -> None:
        if precision == "bfloat16" and device.type == "mps":
            raise ModelError("the device mps does not support bfloat16", "leave out --precision, or use --device cpu")
        self._device = device
        self._info = replace(info, precision="bfloat16") if precision == "bfloat16" else info
        self._tile_bytes = tile_bytes
        self._network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._dtype = torch.float32 if device.type != "cuda" else _CUDA_TYPES[precision]
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
        return max(1, min(_LARGEST_BATCH, int(free * _SHARE_OF_FREE_MEMORY) // self._tile_bytes))

    def encode(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Encode a batch of tiles.

        Parameters
        ----------
        images : uint8 (B, 1024, 1024, 3)
            RGB tiles.

        Returns
        -------
        dict of str to float32 (B, C, h, w)
            The feature maps named in ``info.features``.

        Raises
        ------
        ModelError
            If not even one tile fits into the GPU's memory.
        """
        features = {name: np.empty((len(images), *shape), np.float32) for name, shape in self._info.features.items()}
        start = 0
        while start < len(images):
            batch = images[start : start + self._largest_batch]
            encoded = self._encode_if_it_fits(batch)
            if encoded is not None:
                for maps, part in zip(features.values(), encoded):
                    maps[start : start + len(batch)] = part
                start += len(batch)
        return features

    def _encode_if_it_fits(self, batch: NDArray[np.uint8]) -> list[NDArray[np.float32]] | None:
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

    def _encode_batch(self, batch: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        tiles = torch.tensor(batch)
        if self._device.type == "cuda":
            tiles = tiles.pin_memory().to(self._device, non_blocking=True)
        else:
            tiles = tiles.to(self._device)
        features = self._forward(tiles)
        if self._dtype is torch.float16 and not all(bool(torch.isfinite(maps).all()) for maps in features):
            self._dtype = torch.bfloat16
            features = self._forward(tiles)
        return [maps.float().cpu().numpy() for maps in features]

    def _forward(self, tiles: torch.Tensor) -> Sequence[torch.Tensor]:
        reduced = self._dtype is not torch.float32
        with torch.inference_mode(), torch.autocast(self._device.type, self._dtype, enabled=reduced):
            features = self._network(tiles)
        return (features,) if isinstance(features, torch.Tensor) else features
