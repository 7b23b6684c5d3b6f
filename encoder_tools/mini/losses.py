"""Losses of `mini`: masks, coarse masks, scores, and the borders of all objects."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..training.answers import mask_iou
from ..training.losses import best_candidate_loss, dice_loss, focal_loss

NESTED_WEIGHT = 0.5
"""Weight of each other object that holds a click, beside the object that is meant."""

CHOICE_TEMPERATURE = 0.05
"""Temperature of the softmax over the scores of the candidates."""


def widen(mask: Tensor, cells: int) -> Tensor:
    """Grow a mask (B, 1, H, W) by a square of `cells` on every side."""
    size = 2 * cells + 1
    sideways = functional.max_pool2d(mask, (1, size), 1, (0, cells))
    return functional.max_pool2d(sideways, (size, 1), 1, (cells, 0))


class Target(NamedTuple):
    """True masks and the weights of their cells. They do not change between rounds of prompts.

    Attributes
    ----------
    mask : float (B, 1, H, W)
        1 inside the object.
    weight : float (B, 1, H, W)
        Higher near the object and on its border.
    near : float (B, 1)
        Sum of the weights near the object.
    """

    mask: Tensor
    weight: Tensor
    near: Tensor


@torch.no_grad()
def target_of(mask: Tensor) -> Target:
    """Compute the weights of the cells of masks (B, 1, H, W), which are 1 inside the object."""
    wide = widen(mask, 8)
    border = widen(mask, 1) + widen(-mask, 1)
    weight = 0.15 + 0.85 * wide + border
    return Target(mask, weight, (weight * wide).sum((2, 3)).clamp(min=32.0))


def mask_losses(logits: Tensor, target: Target) -> Tensor:
    """Return the loss (B, K) of each mask (B, K, H, W)."""
    focal = focal_loss(logits, target.mask, gamma=1.0, weight=target.weight) / target.near
    return focal.clamp(max=6.0) + dice_loss(logits, target.mask, smoothing=4.0)


def answer_loss(
    masks: Tensor,
    scores: Tensor,
    coarse: Tensor,
    target: Target,
    ambiguous: Tensor,
    others: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return the loss of one round of prompts.

    Parameters
    ----------
    masks, scores, coarse : float (B, 4, H, W), (B, 4), (B, 1, H / 4, W / 4)
        The decoder's answer.
    target : Target
        From `target_of`.
    ambiguous : float (B,)
        1 for a single click, which the three candidates answer.
    others : tuple of int64 (M,) and float (M, 1, H, W), optional
        Other objects that hold the click, such as the row of a tree, each with the index of its answer. Each is
        compared with the candidate that is closest to it, so that the three candidates span all meanings of a click.
    """
    mask = best_candidate_loss(mask_losses(masks, target), ambiguous)
    if others is not None and len(others[0]):
        owner, meant = others
        closest = mask_losses(masks[owner, 1:], target_of(meant)).amin(1)
        total = 1 + NESTED_WEIGHT * torch.bincount(owner, minlength=len(mask))
        mask = mask.index_add(0, owner, NESTED_WEIGHT * closest) / total
    score = score_loss(scores, mask_iou(masks, target.mask), ambiguous)
    small = functional.avg_pool2d(target.mask, 4)
    rough = functional.binary_cross_entropy_with_logits(coarse, small, reduction="none")
    rough = (rough * target_of((small > 0.5).float()).weight).mean((1, 2, 3))
    return (mask + 2.0 * score + 0.3 * rough).mean()


def change_loss(masks: Tensor, known: Tensor, ambiguous: Tensor) -> Tensor:
    """Return how far masks (B, 4, H, W) are from those of another network: float (B,).

    The candidates count for a single click, each compared with its own.
    """
    target = target_of((known > 0).any(1, keepdim=True).float())
    wanted = torch.sigmoid(known)
    cross = functional.binary_cross_entropy_with_logits
    divergence = cross(masks, wanted, reduction="none") - cross(known, wanted, reduction="none")
    each = (divergence * target.weight).sum((2, 3)) / target.near
    return each[:, 0] + ambiguous * each[:, 1:].mean(1)


def score_loss(scores: Tensor, reached: Tensor, ambiguous: Tensor) -> Tensor:
    """Return the loss (B,) of the predicted IoU (B, 4), with the `regret` added for a single click."""
    missed = scores - reached
    error = (missed.square() + 0.6 * missed.abs()).mean(1)
    return error + 0.5 * ambiguous * regret(scores[:, 1:], reached[:, 1:])


def regret(scores: Tensor, reached: Tensor) -> Tensor:
    """Return the expected loss of IoU (B,) if candidates are shown first with the softmax of their scores (B, K).

    It trains the order of the scores rather than their values.
    """
    shown = torch.softmax(scores / CHOICE_TEMPERATURE, dim=1)
    return reached.amax(1) - (shown * reached).sum(1)


def edge_loss(logits: Tensor, edges: Tensor, weight: Tensor) -> Tensor:
    """Return the loss of the auxiliary boundary map, where the labels are reliable."""
    cross = functional.binary_cross_entropy_with_logits(logits, edges, reduction="none", pos_weight=torch.tensor(3.0))
    return (cross * weight).sum() / weight.sum().clamp(min=1.0)
