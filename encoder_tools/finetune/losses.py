"""Focal and Dice loss on masks, the best of three candidates, and the predicted IoU."""

from __future__ import annotations

from ..models.libraries import torch
from .tunable_decoder import Answer

__all__ = ["mask_iou", "tuning_loss"]

_GAMMA = 2.0
_MOST_AREAS = 4.0
_CANDIDATE_FLOOR = 0.04
"""Weight of the mean over the candidates beside their best, so that none of them dies."""


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
    each = _focal(answer.masks, truth) + _dice(answer.masks, truth)
    single, candidates = each[:, 0], each[:, 1:]
    best = candidates.amin(1) * (1 - _CANDIDATE_FLOOR) + candidates.mean(1) * _CANDIDATE_FLOOR
    # A click that means one of three things is hopeless for one mask; with a box the candidates are not shown.
    mask = single * (1 - 0.5 * ambiguous) + best * (0.25 + 0.75 * ambiguous)
    score = (answer.scores - mask_iou(answer.masks, truth)).square().mean(1)
    return mask + score


def _focal(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the focal loss (B, K) in areas of the object.

    SAM averages over the tile, where an object of one hundredth of it would count for next to nothing. A mask that ran
    away over the tile counts for a few areas at most, or it alone would be learnt from.
    """
    target = truth.expand_as(logits)
    cross = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    missed = (torch.sigmoid(logits).detach() - target).abs()
    areas = (cross * missed**_GAMMA).sum((2, 3)) / truth.sum((2, 3)).clamp(min=16.0)
    return areas / (1 + areas / _MOST_AREAS)


def _dice(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    probability = torch.sigmoid(logits)
    common = (probability * truth).sum((2, 3))
    return 1 - (2 * common + 1) / (probability.sum((2, 3)) + truth.sum((2, 3)) + 1)


@torch.no_grad()
def mask_iou(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the IoU (B, K) of each mask."""
    inside, target = logits > 0, truth > 0.5
    union = (inside | target).sum((2, 3)).clamp(min=1)
    return (inside & target).sum((2, 3)) / union
