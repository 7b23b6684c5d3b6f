"""What learns from the stored features: a decoder, alone or behind an adapter."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Event

import numpy as np
from numpy.typing import NDArray

from ..models.libraries import torch
from .feature_cache import FeatureCache
from .training import OBJECTS_PER_STEP
from .training_samples import Place, Sample
from .training_step import accumulate_gradients
from .tunable_decoder import TunableDecoder
from .validation import PROMPTS, answer_ious
from .window_batches import plan_epoch

__all__ = ["StoredLearner", "ious_by_place"]


def ious_by_place(
    decoder: TunableDecoder,
    samples: Sequence[Sample],
    context: Callable[[Place], tuple[torch.Tensor, ...]],
    stopped: Event,
) -> NDArray[np.float64]:
    """Return the IoU (N, 3) of samples for each of `PROMPTS`; ``context`` prepares a tile.

    Once it is stopped, the rest is zero.
    """
    places: dict[Place, list[int]] = {}
    for number, sample in enumerate(samples):
        places.setdefault(sample.place, []).append(number)
    ious = np.zeros((len(samples), len(PROMPTS)))
    for place, numbers in places.items():
        prepared = None
        for start in range(0, len(numbers), decoder.objects_at_once):
            if stopped.is_set():
                return ious
            prepared = prepared or context(place)
            some = numbers[start : start + decoder.objects_at_once]
            ious[some] = answer_ious(decoder, prepared, np.stack([samples[number].mask for number in some]))
    return ious


@dataclass
class StoredLearner:
    """A decoder that learns from the features in the stores; see `Learner`.

    Attributes
    ----------
    decoder : TunableDecoder
    cache : FeatureCache
    """

    decoder: TunableDecoder
    cache: FeatureCache

    def __deepcopy__(self, memo: dict[int, object]) -> StoredLearner:
        return StoredLearner(copy.deepcopy(self.decoder, memo), self.cache)

    @property
    def module(self) -> torch.nn.Module:
        """That of the decoder."""
        return self.decoder.module

    @property
    def learning_rate(self) -> float:
        """That of the decoder."""
        return self.decoder.learning_rate

    def steps(self, samples: Sequence[Sample], rng: np.random.Generator) -> Iterator[float]:
        """Go through windows of the tiles that hold each sample once."""
        losses: list[float] = []
        for batch in plan_epoch(samples, self.decoder, rng):
            loss = accumulate_gradients(self.decoder, self.cache, batch, rng, OBJECTS_PER_STEP)
            losses += [loss] * len(batch.samples)
            if len(losses) >= OBJECTS_PER_STEP:
                yield float(np.mean(losses))
                losses = []
        if losses:
            yield float(np.mean(losses))

    def answers(self, samples: Sequence[Sample], stopped: Event) -> NDArray[np.float64]:
        """Return the IoU (N, 3) of the masks; see `Learner.answers`."""

        def context(place: Place) -> tuple[torch.Tensor, ...]:
            with torch.no_grad():
                return self.decoder.prepare(*map(torch.from_numpy, self.cache.read(place)))

        return ious_by_place(self.decoder, samples, context, stopped)
