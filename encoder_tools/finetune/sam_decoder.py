"""SAM's mask decoder for training, made of the modules of segment-anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geosam_es.core.prompts import BOX_LABELS, PADDING_LABEL

from ..models.export import export_model
from ..models.libraries import torch
from ..models.sam.weights import FEATURES, LoadedSam
from .losses import tuning_loss
from .tunable_decoder import Answer, PromptTensors

__all__ = ["FEATURE_CHANNELS", "SamDecoder"]

FEATURE_CHANNELS = FEATURES["image_embeddings"][0]


class SamDecoder:
    """SAM's prompt encoder and mask decoder; see `TunableDecoder`.

    Parameters
    ----------
    sam : LoadedSam
        Its image encoder is not used.
    train_prompt_encoder : bool
        Train the prompt encoder too.
    """

    window_cells = (64,)
    objects_at_once = 4
    learning_rate = 1e-4

    def __init__(self, sam: LoadedSam, train_prompt_encoder: bool = False) -> None:
        self._sam = sam
        self._prompt_encoder: Any = sam.network.prompt_encoder
        self._mask_decoder: Any = sam.network.mask_decoder
        self._prompt_encoder.requires_grad_(train_prompt_encoder)
        self._mask_decoder.requires_grad_(True)
        parts = {"prompt_encoder": self._prompt_encoder, "mask_decoder": self._mask_decoder}
        self.module: torch.nn.Module = torch.nn.ModuleDict(parts)

    def prepare(self, embeddings: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the features (1, 256, 64, 64) unchanged."""
        return (embeddings,)

    def decode(self, context: tuple[torch.Tensor, ...], prompts: PromptTensors) -> Answer:
        """Return the masks for prompts."""
        coords, labels = _padded(prompts.coords, prompts.labels)
        masks, scores = self._mask_decoder.predict_masks(
            image_embeddings=context[0],
            image_pe=self._prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=self._points(coords, labels),
            dense_prompt_embeddings=self._dense(prompts),
        )
        return Answer(masks, scores)

    def learn(
        self,
        context: tuple[torch.Tensor, ...],
        prompts: PromptTensors,
        truth: torch.Tensor,
        ambiguous: torch.Tensor,
    ) -> tuple[Answer, torch.Tensor]:
        """Return the masks for prompts and their mean loss."""
        answer = self.decode(context, prompts)
        return answer, tuning_loss(answer, truth, ambiguous).mean()

    def export(self, folder: Path) -> None:
        """Write ``prepare.onnx`` and ``decoder.onnx``; see `export_model` for the errors."""
        self.module.eval()
        export_model(self._sam, folder)

    def _points(self, coords: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Embed points and box corners together, as SAM's ONNX export does."""
        encoder = self._prompt_encoder
        place = encoder.pe_layer.forward_with_coords(coords + 0.5, encoder.input_image_size)
        kind = labels.unsqueeze(2)
        embedded = torch.where(kind == PADDING_LABEL, encoder.not_a_point_embed.weight, place)
        for number, embedding in enumerate(encoder.point_embeddings):
            embedded = embedded + embedding.weight * (kind == number)
        return embedded

    def _dense(self, prompts: PromptTensors) -> torch.Tensor:
        encoder = self._prompt_encoder
        has = prompts.has_mask.reshape(-1, 1, 1, 1)
        nothing = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        dense: torch.Tensor = has * encoder.mask_downscaling(prompts.mask_input) + (1 - has) * nothing
        return dense


def _padded(coords: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Add the padding point that SAM expects after prompts without a box."""
    complete = (labels == PADDING_LABEL).any(1) | (labels == BOX_LABELS[0]).any(1)
    if bool(complete.all()):
        return coords, labels
    return (
        torch.cat([coords, torch.zeros_like(coords[:, :1])], dim=1),
        torch.cat([labels, torch.full_like(labels[:, :1], PADDING_LABEL)], dim=1),
    )
