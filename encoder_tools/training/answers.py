"""What a decoder answers: the IoU of its masks, and the mask that a user sees and goes on with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..models.libraries import torch
from .simulated_user import BOX_HIGH, BOX_LOW, POSITIVE, bounding_box, cell_centre, middle_cell

__all__ = ["Decode", "continued_with", "first_answer_ious", "mask_iou", "shown_first"]

Decode = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Maps coordinates (B, N, 2), labels (B, N), earlier logits (B, 1, H, W) and whether they count (B,) to logits
(B, 4, H, W) and scores (B, 4)."""

_BY_SCORE = 0.6
"""Share of ambiguous answers of which the user takes the candidate shown first, in place of the best one."""


@torch.no_grad()
def mask_iou(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Return the IoU (B, K) of masks (B, K, H, W) with the truth (B, 1, H, W); logits above 0 are inside."""
    inside, target = logits > 0, truth > 0.5
    union = (inside | target).sum((2, 3)).clamp(min=1)
    return (inside & target).sum((2, 3)) / union


def shown_first(scores: torch.Tensor, ambiguous: torch.Tensor) -> torch.Tensor:
    """Return the index (B,) of the mask that users see first.

    It is the candidate with the best score (B, 4) for a single click, where ``ambiguous`` (B,) is 1, and the single
    mask for other prompts.
    """
    best = scores[:, 1:].argmax(1) + 1
    return torch.where(ambiguous > 0, best, torch.zeros_like(best))


@torch.no_grad()
def continued_with(
    masks: torch.Tensor, scores: torch.Tensor, truth: torch.Tensor, ambiguous: torch.Tensor, rng: np.random.Generator
) -> torch.Tensor:
    """Return the logits (B, 1, H, W) that a user goes on with in training.

    Of the answer to a single click it is sometimes the candidate closest to the truth, otherwise what `shown_first`
    says.

    Parameters
    ----------
    masks : float32 (B, 4, H, W)
    scores : float32 (B, 4)
    truth : float32 (B, 1, H, W)
    ambiguous : float32 (B,)
        1 for a single click.
    rng : Generator
    """
    closest = mask_iou(masks[:, 1:], truth).argmax(1) + 1
    by_score = torch.from_numpy(rng.random(len(masks)) < _BY_SCORE).to(masks.device)
    chosen = torch.where(by_score | (ambiguous == 0), shown_first(scores, ambiguous), closest)
    return masks[torch.arange(len(masks)), chosen][:, None].detach()


@torch.no_grad()
def first_answer_ious(
    decode: Decode, masks: NDArray[np.bool_], device: torch.device | str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompt objects once each and compare the mask that users see first with the truth.

    Parameters
    ----------
    decode : callable
    masks : bool (B, H, W)
        True masks, one cell for 4 x 4 pixels of the tile.
    device : torch.device
        Where the decoder runs.

    Returns
    -------
    float32 (B,), float32 (B,)
        IoU for a click in the middle, and for the bounding box.
    """
    truth = torch.from_numpy(masks).to(device, torch.float32)[:, None]
    none = torch.zeros(len(masks), device=device)
    clicks = np.array([[cell_centre(middle_cell(mask))] for mask in masks], dtype=np.float32)
    boxes = np.array([bounding_box(mask).reshape(2, 2) for mask in masks], dtype=np.float32)
    ious = []
    for coords, kinds in ((clicks, (POSITIVE,)), (boxes, (BOX_LOW, BOX_HIGH))):
        labels = torch.tensor(kinds, device=device).expand(len(masks), -1)
        answer, scores = decode(torch.from_numpy(coords).to(device), labels, torch.zeros_like(truth), none)
        shown = shown_first(scores, none + (len(kinds) == 1))
        ious.append(mask_iou(answer[torch.arange(len(masks)), shown][:, None], truth)[:, 0])
    return ious[0], ious[1]
