"""How good a decoder is between two epochs: one click in the middle and one box, on a few objects it does not learn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..mini.prompts import BOX_HIGH, BOX_LOW, POSITIVE, bounding_box, cell_to_xy, deepest_cell, depth
from ..models.libraries import torch
from .losses import mask_iou
from .tunable_decoder import PromptTensors, TunableDecoder
from .training_samples import CELL, FeatureCache, Sample

__all__ = ["mean_iou"]


@torch.no_grad()
def mean_iou(decoder: TunableDecoder, cache: FeatureCache, samples: Sequence[Sample]) -> float:
    """Return the mean IoU of the answers shown first, over samples and over a click and a box.

    Parameters
    ----------
    decoder : TunableDecoder
    cache : FeatureCache
    samples : sequence of Sample
    """
    ious = []
    by_place: dict[object, list[Sample]] = {}
    for sample in samples:
        by_place.setdefault(sample.place, []).append(sample)
    for members in by_place.values():
        context = decoder.prepare(torch.from_numpy(cache.read(members[0].place)))
        for sample in members:
            ious += _ious(decoder, context, sample)
    return float(np.mean(ious))


def _ious(decoder: TunableDecoder, context: tuple[torch.Tensor, ...], sample: Sample) -> list[float]:
    mask = sample.mask
    truth = torch.from_numpy(mask.astype(np.float32))[None, None]
    box = [float(value) for value in bounding_box(mask, CELL)]
    click = [(*cell_to_xy(deepest_cell(depth(mask)), CELL), POSITIVE)]
    sides = [(box[0], box[1], BOX_LOW), (box[2], box[3], BOX_HIGH)]
    ious = []
    for given in (click, sides):
        points = torch.tensor([given], dtype=torch.float32)
        nothing = torch.zeros_like(truth)
        answer = decoder.decode(context, PromptTensors(points[..., :2], points[..., 2], nothing, torch.zeros(1)))
        shown = int(answer.scores[0, 1:].argmax()) + 1 if given is click else 0
        ious.append(float(mask_iou(answer.masks[:, shown : shown + 1], truth)))
    return ious
