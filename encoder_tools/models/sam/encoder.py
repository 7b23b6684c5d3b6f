"""SAM's image encoder on PyTorch, on a CPU or a GPU."""

from __future__ import annotations

from typing import Any, cast

from ..family import Network
from ..libraries import torch
from ..malloc import tune_malloc
from ..torch_encoder import Precision, TorchEncoder, resolve_device
from .encoder_bfloat16 import Bfloat16ImageEncoder
from .encoder_onnx import OnnxImageEncoder

__all__ = ["SamTorchEncoder", "TileEncoder"]

_BYTES_PER_ATTENTION = 12
"""Peak bytes per element of a global attention's 4096 x 4096 maps: scores, positions, softmax, and copies."""


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


class SamTorchEncoder(TorchEncoder):
    """The `Encoder` of SAM's three sizes.

    On a CPU it runs in float32 with onnxruntime (see `encoder_onnx`). bfloat16 is several times as fast on CPUs with
    instructions for it, and changes outlines (see `encoder_bfloat16`).

    Parameters
    ----------
    sam : Network
        A SAM. A GPU encoder moves its image encoder to the device; a CPU encoder copies most of its weights.
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

    def __init__(self, sam: Network, device: str = "auto", precision: str = "auto", threads: int | None = None) -> None:
        resolved = resolve_device(device)
        plain = sam.network.image_encoder
        image_encoder: Any = None
        if resolved.type == "cpu":
            tune_malloc()
            is_exact = precision != "bfloat16"
            image_encoder = OnnxImageEncoder(plain, threads) if is_exact else Bfloat16ImageEncoder(plain)
        _, height, width = sam.info.features["image_embeddings"]
        tile_bytes = plain.blocks[0].attn.num_heads * (height * width) ** 2 * _BYTES_PER_ATTENTION
        network = TileEncoder(sam.network, image_encoder)
        super().__init__(network, sam.info, resolved, cast(Precision, precision), tile_bytes)
