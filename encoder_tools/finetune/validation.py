"""Validation between epochs: one click and one box for each of a few objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..models.libraries import torch
from ..training.answers import first_answer_ious
from .feature_cache import FeatureCache
from .training_samples import Place, Sample
from .tunable_decoder import Answer, PromptTensors, TunableDecoder

__all__ = ["mean_iou"]


@torch.no_grad()
def mean_iou(decoder: TunableDecoder, cache: FeatureCache, samples: Sequence[Sample]) -> float:
    """Return the mean IoU of the masks that users see first, over all samples and both kinds of prompts.

    Parameters
    ----------
    decoder : TunableDecoder
    cache : FeatureCache
    samples : sequence of Sample
    """
    ious = []
    by_place: dict[Place, list[Sample]] = {}
    for sample in samples:
        by_place.setdefault(sample.place, []).append(sample)
    for place, members in by_place.items():
        context = decoder.prepare(torch.from_numpy(cache.read(place)))

        def decode(*prompts: torch.Tensor, context: tuple[torch.Tensor, ...] = context) -> Answer:
            return decoder.decode(context, PromptTensors(*prompts))

        for sample in members:
            ious += [float(iou) for iou in first_answer_ious(decode, sample.mask[None])]
    return float(np.mean(ious))
