"""What a family of models provides, and the list of families. Needs no PyTorch.

A family is a module with a function `load`, which returns a `Network`. To add a family, write that module, add it to
`FAMILIES`, and add its models to ``models.json``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from numpy.typing import NDArray

from geosam_es.inference.encoder import Encoder, ModelInfo

from .checkpoints import Checkpoint

__all__ = ["Feeds", "Network", "load_decoder_weights", "load_network"]

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
    info : ModelInfo
        Name, hash, licence and feature maps, as stores record them.
    """

    info: ModelInfo

    @property
    def network(self) -> Any:
        """Has a ``prompt_encoder`` and a ``mask_decoder``, whose parts have segment_anything's names."""
        ...

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

    def answer(self, features: Sequence[Any], prompts: Sequence[Any], is_learning: bool = False) -> tuple[Any, Any]:
        """Answer prompts with the family's own code, to check the export and to train the decoder.

        Parameters
        ----------
        features : sequence of float32 (1, C, h, w)
            The feature maps of ``info``, in that order, as tensors.
        prompts : sequence of float32
            As ``decoder.onnx`` takes them, in the order of `export.DECODER_INPUTS`, as tensors.
        is_learning : bool
            Give the mask of each token, although users see another one in its place.

        Returns
        -------
        masks : float32 (B, 4, 256, 256)
        scores : float32 (B, 4)
        """
        ...

    def decoder_parts(self) -> dict[str, Any]:
        """Return the modules with the weights of `answer` and `decoder`, among them the ``prompt_encoder``."""
        ...

    def drop_image_encoder(self) -> None:
        """Free the image encoder, and keep what the decoder's training and export need."""
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

    def load_decoder_weights(self, checkpoint: Path) -> Network:
        """Load what the decoder's training and export need, from weights of any size of the family; errors as above."""
        ...


def load_network(model: Checkpoint, checkpoint: Path | None) -> Network:
    """Load a model with the module of its family; see `Family.load`."""
    return _family(model.family).load(model, checkpoint)


def load_decoder_weights(family: str, checkpoint: Path) -> Network:
    """Load a decoder with the module of a family; see `Family.load_decoder_weights`."""
    return _family(family).load_decoder_weights(checkpoint)


def _family(name: str) -> Family:
    return cast(Family, importlib.import_module(FAMILIES[name], __package__))
