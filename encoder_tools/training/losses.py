"""Losses on masks: focal, Dice, and the best of three candidates."""

from __future__ import annotations

from ..models.libraries import torch

__all__ = ["best_candidate_loss", "dice_loss", "focal_loss"]

_CANDIDATE_FLOOR = 0.04
"""Weight of the mean over the candidates beside the best one. Without it a candidate may never learn."""


def focal_loss(
    logits: torch.Tensor, truth: torch.Tensor, gamma: float, weight: torch.Tensor | float = 1.0
) -> torch.Tensor:
    """Return the focal loss of each mask, summed over its cells.

    Parameters
    ----------
    logits : float32 (B, K, H, W)
    truth : float32 (B, 1, H, W)
        1 inside the object.
    gamma : float
        Exponent of the error of a cell; 0 gives the binary cross-entropy.
    weight : float32 (B, 1, H, W) or float
        Weight of each cell.

    Returns
    -------
    float32 (B, K)
    """
    target = truth.expand_as(logits)
    cross = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    error = (torch.sigmoid(logits).detach() - target).abs()
    return (cross * (error**gamma * weight)).sum((2, 3))


def dice_loss(logits: torch.Tensor, truth: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Return the Dice loss (B, K) of each mask; for the shapes see `focal_loss`.

    Parameters
    ----------
    smoothing : float
        Cells added to the overlap (twice) and to the areas, so that an empty mask has a gradient.
    """
    probability = torch.sigmoid(logits)
    overlap = (probability * truth).sum((2, 3))
    return 1 - (2 * overlap + smoothing) / (probability.sum((2, 3)) + truth.sum((2, 3)) + smoothing)


def best_candidate_loss(each: torch.Tensor, ambiguous: torch.Tensor) -> torch.Tensor:
    """Combine the losses of the single mask and of the three candidates, of which the best counts.

    Parameters
    ----------
    each : float32 (B, 4)
        Loss of the single mask, then of the candidates.
    ambiguous : float32 (B,)
        1 for a single click, which the candidates answer; 0 for other prompts, which the single mask answers.

    Returns
    -------
    float32 (B,)
    """
    single, candidates = each[:, 0], each[:, 1:]
    best = candidates.amin(1) * (1 - _CANDIDATE_FLOOR) + candidates.mean(1) * _CANDIDATE_FLOOR
    # One mask cannot answer a click that may mean three things, and with a box the candidates are not shown.
    return single * (1 - 0.5 * ambiguous) + best * (0.25 + 0.75 * ambiguous)
