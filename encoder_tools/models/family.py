"""What a family of models provides, and the list of families. Needs no PyTorch.

A family is a module with a function `load`, which returns a `Network`. To add a family, write that module, add it to
`FAMILIES`, and add its models to ``models.json``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from geosam_es.inference.encoder import Encoder, ModelInfo

from .checkpoints import Checkpoint

__all__ = ["Feeds", "Network", "load_network"]

FAMILIES = {
    "sam": ".sam.weights",
    "mobile_sam": ".mobile_sam",
    "hq_sam": ".hq_sam",
    "sam2": ".sam2",
    "edgetam": ".edgetam",
    "sam3": ".sam2",
}
"""Module of each family, by its name in ``models.json``. It is imported when a model is loaded."""

Feeds = dict[str, NDArray[Any]]


class Network(Protocol):
    """A model with its weights, in evaluation mode and on the CPU.

    Attributes
    ----------
    network : Any
        Has a ``prompt_encoder`` and a ``mask_decoder``, whose parts have segment_anything's names.
    info : ModelInfo
        Name, hash, licence and feature maps, as stores record them.
    """

    network: Any
    info: ModelInfo

    def encoder(self, device: str, precision: str, threads: int | None) -> Encoder:
        """Return the image encoder, which normalises, pads and encodes batches of tiles.

        Parameters
        ----------
        device : str
            As in `torch_encoder.resolve_device`.
        precision : str
            ``auto``, ``float32`` or ``bfloat16``.
        threads : int, optional
            CPU threads; by default one for each core.

        Raises
        ------
        ModelError
            If the device is not available, or does not support the precision.
        """
        ...

    def tile_network(self) -> Any:
        """Return a PyTorch module from uint8 tiles (B, 1024, 1024, 3) to the feature maps of ``info`` in order."""
        ...

    def decoder(self) -> tuple[Any, Any]:
        """Return the decoder as two modules, like `fast_decoder.networks.Prepare` and `Decode`.

        The first maps the feature maps of ``info``, in that order, to its ``context_names``.
        """
        ...

    def others(self) -> Mapping[str, Network]:
        """Return models whose decoders read the same features, by the names of these decoders in a store."""
        ...

    def reference(self, feeds: Feeds) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Answer with the family's own code, to check the export.

        Parameters
        ----------
        feeds : dict of str to array
            The feature maps, and the prompts as ``decoder.onnx`` takes them.

        Returns
        -------
        masks : float32 (B, 4, 256, 256)
        scores : float32 (B, 4)
        """
        ...

    def drop_image_encoder(self) -> None:
        """Free the image encoder, and keep what the decoder's export needs."""
        ...


class Family(Protocol):
    """The module of a family."""

    def load(self, model: Checkpoint, checkpoint: Path | None) -> Network:
        """Load a model.

        Parameters
        ----------
        model : Checkpoint
            An entry of ``models.json``.
        checkpoint : Path, optional
            Weights to use in place of the downloaded ones.

        Raises
        ------
        ModelError
            If the weights are missing, damaged or of another architecture, or a package is missing.
        """
        ...


def load_network(model: Checkpoint, checkpoint: Path | None) -> Network:
    """Load a model with the module of its family; see `Family.load`."""
    family = cast(Family, importlib.import_module(FAMILIES[model.family], __package__))
    return family.load(model, checkpoint)
