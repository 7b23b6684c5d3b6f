"""The mask decoder of SAM or a model like it for training, made of the modules of its authors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geosam_es.core.prompts import BOX_LABELS, PADDING_LABEL
from geosam_es.inference.encoder import MODEL_FILE

from ..models.export import export_model
from ..models.family import Network
from ..models.libraries import torch
from .losses import tuning_loss
from .tunable_decoder import Answer, PromptTensors

__all__ = ["SamDecoder"]


class SamDecoder:
    """Prompt encoder and mask decoder of a model; see `TunableDecoder`.

    Parameters
    ----------
    sam : Network
        Its image encoder is not used.
    train_prompt_encoder : bool
        Train the prompt encoder too.
    """

    window_cells = (64,)
    objects_at_once = 4
    learning_rate = 1e-4

    def __init__(self, sam: Network, train_prompt_encoder: bool = False) -> None:
        self._sam = sam
        self.module: Any = torch.nn.ModuleDict(sam.decoder_parts()).requires_grad_(True)
        self.module["prompt_encoder"].requires_grad_(train_prompt_encoder)

    def prepare(self, *features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the features unchanged."""
        return features

    def decode(self, context: tuple[torch.Tensor, ...], prompts: PromptTensors) -> Answer:
        """Return the masks for prompts."""
        return self._answer(context, prompts, is_learning=False)

    def _answer(self, context: tuple[torch.Tensor, ...], prompts: PromptTensors, is_learning: bool) -> Answer:
        coords, labels = _padded(prompts.coords, prompts.labels)
        return Answer(*self._sam.answer(context, (coords, labels, *prompts[2:]), is_learning))

    def learn(
        self,
        context: tuple[torch.Tensor, ...],
        prompts: PromptTensors,
        truth: torch.Tensor,
        ambiguous: torch.Tensor,
    ) -> tuple[Answer, torch.Tensor]:
        """Return the masks for prompts and their mean loss."""
        answer = self._answer(context, prompts, is_learning=True)
        return answer, tuning_loss(answer, truth, ambiguous).mean()

    def export(self, folder: Path) -> None:
        """Write ``prepare.onnx`` and ``decoder.onnx``; see `export_model` for the errors."""
        self.module.eval()
        export_model(self._sam, folder)
        # ``decoder.json`` describes the decoder. A card is for a folder with an encoder.
        (folder / MODEL_FILE).unlink()


def _padded(coords: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Add the padding point that SAM expects after prompts without a box."""
    complete = (labels == PADDING_LABEL).any(1) | (labels == BOX_LABELS[0]).any(1)
    if bool(complete.all()):
        return coords, labels
    return (
        torch.cat([coords, torch.zeros_like(coords[:, :1])], dim=1),
        torch.cat([labels, torch.full_like(labels[:, :1], PADDING_LABEL)], dim=1),
    )
