"""How good a decoder is between two epochs: one click in the middle and one box, on a few objects it does not learn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..models.libraries import torch
from ..training.answers import first_answer_ious
from .training_samples import FeatureCache, Sample
from .tunable_decoder import Answer, PromptTensors, TunableDecoder

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

        def decode(*prompts: torch.Tensor, context: tuple[torch.Tensor, ...] = context) -> Answer:
            return decoder.decode(context, PromptTensors(*prompts))

        for sample in members:
            ious += [float(iou) for iou in first_answer_ious(decode, sample.mask[None])]
    return float(np.mean(ious))
