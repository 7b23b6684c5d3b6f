"""Focal and Dice loss on masks, the best of three candidates, and the predicted IoU."""

from __future__ import annotations

from ..models.libraries import torch
from ..training.answers import mask_iou
from ..training.losses import best_candidate_loss, dice_loss, focal_loss
from .tunable_decoder import Answer

__all__ = ["mask_iou", "tuning_loss"]

_GAMMA = 2.0
_MOST_AREAS = 4.0


def tuning_loss(answer: Answer, truth: torch.Tensor, ambiguous: torch.Tensor) -> torch.Tensor:
    """Return the loss of each object.

    Parameters
    ----------
    answer : Answer
    truth : float32 (B, 1, H, W)
        1 inside the object.
    ambiguous : float32 (B,)
        1 for a single click, which the three candidates answer; 0 where the single mask does.

    Returns
    -------
    float32 (B,)
    """
    areas = focal_loss(answer.masks, truth, gamma=_GAMMA) / truth.sum((2, 3)).clamp(min=16.0)
    # SAM averages over the tile, where an object of one hundredth of it would count for next to nothing. Here a cell
    # counts by the object's area. A mask that ran away over the tile counts for a few areas at most.
    focal = areas / (1 + areas / _MOST_AREAS)
    mask = best_candidate_loss(focal + dice_loss(answer.masks, truth, smoothing=1.0), ambiguous)
    score = (answer.scores - mask_iou(answer.masks, truth)).square().mean(1)
    return mask + score
