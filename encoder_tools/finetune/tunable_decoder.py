"""The interface between the training and the decoders of different models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..models.libraries import torch

__all__ = ["Answer", "PromptTensors", "TunableDecoder", "trainable"]


class PromptTensors(NamedTuple):
    """Prompts of several objects in one window of features.

    Attributes
    ----------
    coords : float32 (B, N, 2)
        XY in pixels of the window.
    labels : float32 (B, N)
        SAM's labels; -1 for padding.
    mask_input : float32 (B, 1, H, W)
        Logits of the previous answers; H and W are 1/4 of the window in pixels.
    has_mask : float32 (B,)
        1 where ``mask_input`` is used.
    """

    coords: torch.Tensor
    labels: torch.Tensor
    mask_input: torch.Tensor
    has_mask: torch.Tensor


class Answer(NamedTuple):
    """The output of a decoder.

    Attributes
    ----------
    masks : float32 (B, 4, H, W)
        Logits: mask 0 is the single mask, 1 to 3 are the candidates.
    scores : float32 (B, 4)
        Predicted IoU.
    """

    masks: torch.Tensor
    scores: torch.Tensor


class TunableDecoder(Protocol):
    """A decoder in PyTorch that can be trained and exported to the two graphs of a store."""

    @property
    def module(self) -> torch.nn.Module:
        """The module; its parameters that require a gradient are trained."""
        ...

    @property
    def window_cells(self) -> Sequence[int]:
        """Sides of feature windows for training, in ascending order; the last one is that of a whole tile."""
        ...

    @property
    def objects_at_once(self) -> int:
        """Number of objects in one window that fit into memory."""
        ...

    @property
    def learning_rate(self) -> float:
        """Default learning rate."""
        ...

    def prepare(self, *features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the context of feature maps (1, C, h, w), which does not depend on prompts."""
        ...

    def decode(self, context: tuple[torch.Tensor, ...], prompts: PromptTensors) -> Answer:
        """Return the masks for prompts."""
        ...

    def learn(
        self,
        context: tuple[torch.Tensor, ...],
        prompts: PromptTensors,
        truth: torch.Tensor,
        ambiguous: torch.Tensor,
    ) -> tuple[Answer, torch.Tensor]:
        """Return the masks for prompts and their mean loss.

        Parameters
        ----------
        context : tuple of tensors
        prompts : PromptTensors
        truth : float32 (B, 1, H, W)
            1 inside the object.
        ambiguous : float32 (B,)
            1 for a single click, which the three candidates answer; 0 for other prompts.
        """
        ...

    def export(self, folder: Path) -> None:
        """Write ``prepare.onnx`` and ``decoder.onnx``."""
        ...


def trainable(module: torch.nn.Module) -> list[Any]:
    """Return the parameters to train."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
