"""What the training needs of a decoder, whichever model it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..models.libraries import torch

__all__ = ["Answer", "PromptTensors", "TunableDecoder"]


class PromptTensors(NamedTuple):
    """Prompts of several objects on one window of features.

    Attributes
    ----------
    coords : float32 (B, N, 2)
        XY in pixels of the window.
    labels : float32 (B, N)
        As SAM's; -1 for padding.
    mask_input : float32 (B, 1, H, W)
        Logits of earlier answers, at 1/4.
    has_mask : float32 (B,)
        1 where they count.
    """

    coords: torch.Tensor
    labels: torch.Tensor
    mask_input: torch.Tensor
    has_mask: torch.Tensor


class Answer(NamedTuple):
    """A decoder's answer.

    Attributes
    ----------
    masks : float32 (B, 4, H, W)
        Logits; mask 0 is the single one, 1 to 3 are the candidates.
    scores : float32 (B, 4)
        Predicted IoU.
    """

    masks: torch.Tensor
    scores: torch.Tensor


class TunableDecoder(Protocol):
    """A decoder in PyTorch that can be trained, and exported to the two graphs of a store."""

    @property
    def module(self) -> torch.nn.Module:
        """What is saved; those of its parameters that require a gradient are trained."""
        ...

    @property
    def window_cells(self) -> Sequence[int]:
        """Sides of the feature windows that it can be trained on, the last one a whole tile's."""
        ...

    @property
    def objects_at_once(self) -> int:
        """Objects of one window that fit into memory."""
        ...

    @property
    def learning_rate(self) -> float:
        """What suits it."""
        ...

    def prepare(self, embeddings: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute from features (1, C, h, w) what no prompt changes."""
        ...

    def decode(self, context: tuple[torch.Tensor, ...], prompts: PromptTensors) -> Answer:
        """Answer prompts."""
        ...

    def export(self, folder: Path) -> None:
        """Write ``prepare.onnx`` and ``decoder.onnx``; see the module for the errors."""
        ...


def trainable(module: torch.nn.Module) -> list[Any]:
    """Return the parameters that are trained."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
