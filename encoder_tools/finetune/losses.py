"""The loss of fine-tuning."""

from __future__ import annotations

from ..models.libraries import torch
from ..training.answers import mask_iou
from ..training.losses import best_candidate_loss, dice_loss, focal_loss
from .tunable_decoder import Answer

__all__ = ["tuning_loss"]

_GAMMA = 2.0
_MIN_AREA_CELLS = 16.0
_MOST_AREAS = 4.0
"""Limit of the focal loss in areas of the object."""


def tuning_loss(answer: Answer, truth: torch.Tensor, ambiguous: torch.Tensor) -> torch.Tensor:
    """Return the loss of each object: focal and Dice loss, and the error of the predicted IoU.

    Parameters
    ----------
    answer : Answer
    truth : float32 (B, 1, H, W)
        1 inside the object.
    ambiguous : float32 (B,)
        1 for a single click, which the three candidates answer; 0 for other prompts, which the single mask answers.

    Returns
    -------
    float32 (B,)
    """
    # SAM averages over the tile, where small objects would hardly count. Here the unit is the object's area, and a mask
    # that covers the whole tile counts for a few areas only.
    areas = focal_loss(answer.masks, truth, gamma=_GAMMA) / truth.sum((2, 3)).clamp(min=_MIN_AREA_CELLS)
    focal = areas / (1 + areas / _MOST_AREAS)
    mask = best_candidate_loss(focal + dice_loss(answer.masks, truth, smoothing=1.0), ambiguous)
    score = (answer.scores - mask_iou(answer.masks, truth)).square().mean(1)
    return mask + score
