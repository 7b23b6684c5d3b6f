"""How well a decoder answers: one click, a box, and a click with two corrections for each object."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..models.libraries import torch
from ..training.answers import first_answer_ious, mask_iou, shown_first
from ..training.simulated_user import NEGATIVE, POSITIVE, cell_centre, corrective_click, middle_cell
from .tunable_decoder import Answer, PromptTensors, TunableDecoder

__all__ = ["PROMPTS", "answer_ious"]

PROMPTS = ("point", "box", "3 clicks")

_CLICKS = 3


@torch.no_grad()
def answer_ious(
    decoder: TunableDecoder, context: tuple[torch.Tensor, ...], masks: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the IoU (N, 3) of the masks that users see, for each of `PROMPTS`.

    Parameters
    ----------
    decoder : TunableDecoder
    context : tuple of tensors
        Of one tile.
    masks : bool (N, H, W)
        True masks of objects on the tile, at most `TunableDecoder.objects_at_once`.
    """

    def decode(*prompts: torch.Tensor) -> Answer:
        return decoder.decode(context, PromptTensors(*prompts))

    point, box = first_answer_ious(decode, masks)
    return np.stack([point, box, _after_corrections(decoder, context, masks)], axis=1)


def _after_corrections(
    decoder: TunableDecoder, context: tuple[torch.Tensor, ...], masks: NDArray[np.bool_]
) -> NDArray[np.float64]:
    truth = torch.from_numpy(masks.astype(np.float32))[:, None]
    previous, has_mask, ambiguous = torch.zeros_like(truth), torch.zeros(len(masks)), torch.ones(len(masks))
    clicks = [[(*cell_centre(middle_cell(mask)), POSITIVE)] for mask in masks]
    for turn in range(_CLICKS):
        given = torch.tensor(clicks, dtype=torch.float32)
        prompts = PromptTensors(given[..., :2], given[..., 2], previous, has_mask)
        logits, scores = decoder.decode(context, prompts)
        previous = logits[torch.arange(len(masks)), shown_first(scores, ambiguous)][:, None].float()
        has_mask, ambiguous = torch.ones(len(masks)), torch.zeros(len(masks))
        if turn + 1 < _CLICKS:
            for given_before, mask, answer in zip(clicks, masks, (previous[:, 0] > 0).numpy()):
                # A user confirms a perfect mask.
                cell, positive = corrective_click(mask, answer) or (middle_cell(mask), True)
                given_before.append((*cell_centre(cell), POSITIVE if positive else NEGATIVE))
    ious: NDArray[np.float64] = mask_iou(previous, truth)[:, 0].numpy().astype(np.float64)
    return ious
