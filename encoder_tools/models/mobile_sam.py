"""MobileSAM: SAM's decoder with `TinyViT` as its image encoder, twenty times faster on a CPU than SAM's smallest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from geosam_es.inference.encoder import Encoder

from .checkpoints import Checkpoint, checkpoint_path
from .libraries import torch
from .sam.segment_anything_import import import_segment_anything
from .sam.weights import (
    LoadedSam,
    check_architecture,
    checkpoint_info,
    fill,
    load_decoder_weights,
    read_state,
    sam_with,
)
from .tiny_vit import TinyViT, fold_batch_norms
from .torch_encoder import Precision, TorchEncoder, float32_device

__all__ = ["LoadedMobileSam", "load", "load_decoder_weights", "tiny_sam"]

_TILE_BYTES = 1 << 30
"""Peak memory of a tile on a GPU, rounded up."""


@dataclass
class LoadedMobileSam(LoadedSam):
    """A SAM whose image encoder runs in PyTorch on every device; see `LoadedSam`."""

    def encoder(self, device: str, precision: str, threads: int | None) -> Encoder:
        """Return the image encoder; see `Network.encoder`."""
        resolved = float32_device(device, precision, self.info.name)
        network = self.cpu_network(threads) if resolved.type == "cpu" else self.tile_network()
        return TorchEncoder(network, self.info, resolved, cast(Precision, precision), _TILE_BYTES)

    def cpu_network(self, threads: int | None) -> torch.nn.Module:
        """Return the fastest module like `tile_network` for a CPU."""
        return self.tile_network()


def tiny_sam() -> Any:
    """Build a SAM with `TinyViT`, the weights to be loaded."""
    import_segment_anything()
    from segment_anything.modeling.common import LayerNorm2d

    return sam_with(TinyViT(LayerNorm2d))


def load(model: Checkpoint, checkpoint: Path | None) -> LoadedMobileSam:
    """Load MobileSAM; see `Family.load`."""
    path = checkpoint or checkpoint_path(model.name)
    state = read_state(path)
    check_architecture(path, state, model.name)
    network = tiny_sam()
    fill(network, fold_batch_norms(state), path, "MobileSAM")
    return LoadedMobileSam(network, checkpoint_info(path))
