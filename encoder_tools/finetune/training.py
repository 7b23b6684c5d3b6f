"""Training, with a check on polygons that it did not see.

First, a copy of the network learns from each part of the polygons. Each part is then checked by the mean of the weights
of the copies that have not seen it. If that is better than before, two copies go on from the mean of all, both with all
polygons. The result is the mean of the weights of these two, mixed with the original weights in the share that served
best in the check. Such means forget less and are often better than their parts (Wortsman et al., Robust fine-tuning of
zero-shot models, CVPR 2022; Model soups, ICML 2022). A single copy that learned from few polygons answers others worse
than before, so few polygons are divided into four parts: a mean of three copies is checked then.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Event, Lock
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..models.libraries import torch
from .checkpoint import Checkpoint
from .training_samples import Sample
from .tunable_decoder import trainable
from .validation import PROMPTS

__all__ = [
    "TRIAL_SHARE",
    "Choice",
    "Fit",
    "Learner",
    "TuneOptions",
    "choose",
    "cross_fit",
    "put_weights",
]

_Result = TypeVar("_Result")

OBJECTS_PER_STEP = 10
_WARM_UP_STEPS = 20
_LAST_RATE = 0.02
_DECAY = 0.99
_CLIP_NORM = 1.0
_SHARES = (0.0, 0.5, 1.0)
_SECONDS_BETWEEN_CHECKPOINTS = 20.0
TRIAL_SHARE = 0.45
"""Share of the time limit for training on the parts and checking. The rest is for training on all polygons."""

_CHECK = 0.25
"""Share of that time for the check."""

_MOST_CHECKED = 80
"""Maximum number of objects in the check."""

_LAST_COPIES = 2
"""Number of copies that are trained on all polygons at the end."""

_CLEAR, _FEW = 0.5, 10
"""Least gain that counts, in standard errors, with many objects; twice as much with so few."""

_WORSE = 1.0
"""Greatest loss of one kind of prompts, in standard errors."""


class Learner(Protocol):
    """A network, or a part of one, that learns from polygons."""

    @property
    def module(self) -> torch.nn.Module:
        """The module; its parameters that require a gradient are trained."""
        ...

    @property
    def learning_rate(self) -> float:
        """Default learning rate."""
        ...

    def steps(self, samples: Sequence[Sample], rng: np.random.Generator) -> Iterator[float]:
        """Go through the samples once; add the gradients of about `OBJECTS_PER_STEP` objects and yield their loss."""
        ...

    def answers(self, samples: Sequence[Sample], stopped: Event) -> NDArray[np.float64]:
        """Return the IoU (N, 3) of the masks for each of `PROMPTS`, in the order of the samples.

        Once it is stopped, the rest is arbitrary.
        """
        ...


@dataclass(frozen=True)
class TuneOptions:
    """Options of the training.

    Attributes
    ----------
    epochs : int
        Maximum number of passes through each part, and then through all polygons.
    minutes : float, optional
        Time limit, over all runs of a resumed training; the learning rate schedule follows it.
    learning_rate : float, optional
        Default: that of the network.
    seed : int
        Not negative.
    threads : int
        CPU threads; each trains one copy at a time.
    """

    epochs: int = 30
    minutes: float | None = 10.0
    learning_rate: float | None = None
    seed: int = 0
    threads: int = 2


@dataclass(frozen=True)
class Fit:
    """A trained network, before its share is chosen.

    Attributes
    ----------
    original, mean : list of tensors
        Weights before, and the mean of the copies.
    ious : dict of float to float64 (N, 3)
        For each share of the trained weights, the IoU of the objects that were checked, for each of `PROMPTS`.
    losses : list of float
        Mean loss of the copies in each epoch.
    epochs, seconds : float
        Of the longest training.
    """

    original: list[torch.Tensor]
    mean: list[torch.Tensor]
    ious: dict[float, NDArray[np.float64]]
    losses: list[float]
    epochs: int
    seconds: float


@dataclass(frozen=True)
class Choice:
    """What serves best on the objects that were not trained on.

    Attributes
    ----------
    name : str
        Key of the fit.
    share : float
        Share of its weights in the mean with the original ones; 0 keeps the original ones.
    fits : mapping of str to Fit
        All that were compared.
    """

    name: str
    share: float
    fits: Mapping[str, Fit]

    @property
    def fit(self) -> Fit:
        """The chosen fit."""
        return self.fits[self.name]

    @property
    def outcome(self) -> str:
        """Description of the resulting weights."""
        if not self.share:
            return "the original weights, since no others were better beyond the noise"
        if self.share == 1.0:
            return f"the weights of the depth {self.name}"
        return f"{self.share:.0%} of the weights of the depth {self.name} and {1 - self.share:.0%} of the original ones"


def cross_fit(
    learner: Learner,
    parts: Sequence[Sequence[Sample]],
    options: TuneOptions,
    checkpoint: Checkpoint,
    name: str,
    report: Callable[[float], None] = lambda progress: None,
    trial: Fit | None = None,
) -> Fit:
    """Train one copy on each part and check the results, or continue from such a trial with all parts.

    Each part is checked with the mean of the copies that have not seen it.

    Parameters
    ----------
    learner : Learner
        Is not changed.
    parts : sequence of sequences of Sample
        At least two.
    options : TuneOptions
    checkpoint : Checkpoint
    name : str
        Name of this training in the checkpoint.
    report : callable
        Called with the progress of all trainings and their checks, 0 to 1.
    trial : Fit, optional
        An earlier result. Two copies go on from its mean weights with all parts, each in its own order, and are not
        checked: its IoUs stay.

    Raises
    ------
    OutputError
        If the checkpoint cannot be written.
    """
    stopped = Event()
    if trial is None:
        lessons, share, part = [list(samples) for samples in parts], TRIAL_SHARE, 1 - _CHECK
    else:
        lessons, share, part = [[*itertools.chain(*parts)]] * _LAST_COPIES, 1 - TRIAL_SHARE, 1.0
        learner, name = copy.deepcopy(learner), f"{name} all"
        put_weights(learner.module, trial, 1.0)
    workers = min(len(lessons), options.threads)
    minutes = None if options.minutes is None else options.minutes * share * part * workers / len(lessons)

    def train(number: int, told: Callable[[float], None]) -> _Copy:
        training = _Training(copy.deepcopy(learner), options, number, minutes, checkpoint, f"{name} {number}", stopped)
        return training.run(lessons[number], told)

    copies = _spread(train, len(lessons), workers, stopped, lambda done: report(done * part))
    mean = _mean([one.average for one in copies])
    losses = [float(np.mean(values)) for values in zip(*(one.losses for one in copies))]
    epochs, seconds = (max(getattr(one, key) for one in copies) for key in ("epochs", "seconds"))
    if trial is not None:
        return replace(
            trial,
            mean=mean,
            losses=trial.losses + losses,
            epochs=trial.epochs + epochs,
            seconds=trial.seconds + seconds,
        )
    original = [parameter.detach().clone() for parameter in trainable(learner.module)]
    steps = [one.steps for one in copies]

    def check(number: int, told: Callable[[float], None]) -> dict[float, NDArray[np.float64]]:
        key = f"{name} {number} checked"
        state = checkpoint.get(key)
        if state is not None and state["steps"] == steps:
            return {share: ious.numpy() for share, ious in state["ious"].items()}
        others = _mean([one.average for index, one in enumerate(copies) if index != number])
        some = lessons[number][:: -(-len(lessons[number]) * len(lessons) // _MOST_CHECKED) or 1]
        found = _check(copy.deepcopy(learner), Fit(original, others, {}, [], 0, 0.0), some, stopped, told)
        if not stopped.is_set():
            ious = {share: torch.from_numpy(values) for share, values in found.items()}
            checkpoint.put(key, {"steps": steps, "ious": ious})
        return found

    checks = _spread(check, len(lessons), workers, stopped, lambda done: report(part + done * (1 - part)))
    ious = {share: np.concatenate([checked[share] for checked in checks]) for share in _SHARES}
    return Fit(original, mean, ious, losses, epochs, seconds)


def _spread(
    work: Callable[[int, Callable[[float], None]], _Result],
    count: int,
    workers: int,
    stopped: Event,
    report: Callable[[float], None],
) -> list[_Result]:
    """Run ``work`` for the numbers 0 to ``count - 1`` on several threads. If one run fails, stop the others."""
    lock, progress = Lock(), [0.0] * count

    def one(number: int) -> _Result:
        def told(done: float) -> None:
            with lock:
                progress[number] = done
                report(float(np.mean(progress)))

        threads = torch.get_num_threads()
        # Small convolutions do not train faster with more. The number belongs to the thread.
        torch.set_num_threads(1)
        try:
            return work(number, told)
        except BaseException:
            stopped.set()
            raise
        finally:
            torch.set_num_threads(threads)

    if workers == 1:
        return [one(number) for number in range(count)]
    with ThreadPoolExecutor(workers) as pool:
        try:
            return list(pool.map(one, range(count)))
        except BaseException:
            stopped.set()
            raise


def _mean(weights: Sequence[Sequence[torch.Tensor]]) -> list[torch.Tensor]:
    return [torch.stack(parts).mean(0) for parts in zip(*weights)]


def _check(
    learner: Learner, fit: Fit, samples: Sequence[Sample], stopped: Event, told: Callable[[float], None]
) -> dict[float, NDArray[np.float64]]:
    """Return the IoU of the samples for each share of the trained weights. The weights of the learner change."""
    found = {}
    for number, share in enumerate(_SHARES, start=1):
        put_weights(learner.module, fit, share)
        learner.module.eval()
        found[share] = learner.answers(samples, stopped) if samples else np.zeros((0, len(PROMPTS)))
        if stopped.is_set():
            break
        told(number / len(_SHARES))
    return found


def choose(fits: Mapping[str, Fit]) -> Choice:
    """Choose the network and the share with the greatest gain in the mean over objects and prompts.

    A gain within the noise does not count, and no kind of prompts may become worse beyond the noise.
    """
    best = Choice(next(iter(fits)), 0.0, fits)
    most = 0.0
    for name, fit in fits.items():
        for share in _SHARES[1:]:
            gains = fit.ious[share] - fit.ious[0.0]
            if len(gains) < 2:
                continue
            clear = _CLEAR * (1 + _FEW / len(gains)) / np.sqrt(len(gains))
            gain = float(gains.mean())
            is_safe = (gains.mean(0) >= -_WORSE * gains.std(0, ddof=1) / np.sqrt(len(gains))).all()
            if is_safe and gain > max(most, clear * gains.mean(1).std(ddof=1)):
                best, most = Choice(name, share, fits), gain
    return best


@torch.no_grad()
def put_weights(module: torch.nn.Module, fit: Fit, share: float) -> None:
    """Give a module the mean of original and trained weights."""
    for parameter, before, after in zip(trainable(module), fit.original, fit.mean):
        parameter.copy_(torch.lerp(before, after, share))


@dataclass(frozen=True)
class _Copy:
    """What a copy has learned."""

    average: list[torch.Tensor]
    losses: list[float]
    epochs: int
    steps: int
    seconds: float


@dataclass
class _Training:
    """The training of one copy."""

    learner: Learner
    options: TuneOptions
    number: int
    minutes: float | None
    checkpoint: Checkpoint
    key: str
    stopped: Event
    epoch: int = 0
    step: int = 0
    spent: float = 0.0
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.parameters = trainable(self.learner.module)
        self.rate = self.options.learning_rate or self.learner.learning_rate
        self.optimizer = torch.optim.AdamW(self.parameters, lr=self.rate, weight_decay=0.0, betas=(0.9, 0.98))
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        state = self.checkpoint.get(self.key)
        if state is not None:
            self._put(state["parameters"])
            self.average = state["average"]
            if state["optimizer"] is not None:
                self.optimizer.load_state_dict(state["optimizer"])
            self.epoch, self.step, self.spent, self.losses = (state[k] for k in ("epoch", "step", "spent", "losses"))
        self.begun = time.monotonic() - self.spent

    def run(self, samples: Sequence[Sample], told: Callable[[float], None]) -> _Copy:
        saved = time.monotonic()
        steps = max(1, len(samples) / OBJECTS_PER_STEP) * self.options.epochs
        self.learner.module.train()
        while self._progress(steps) < 1.0:
            # Seeded by the epoch, so that a resumed training gives the same weights as one that ran through.
            rng = np.random.default_rng([self.options.seed, self.epoch, self.number])
            losses = []
            for loss in self.learner.steps(samples, rng):
                if self.stopped.is_set():
                    return self._copy()
                losses.append(loss)
                self._update(self._progress(steps))
                told(min(1.0, self._progress(steps)))
                if self.minutes is not None and self._progress(steps) >= 1.0:
                    break
            self.losses.append(float(np.mean(losses)))
            self.epoch += 1
            is_over = self._progress(steps) >= 1.0
            if is_over or time.monotonic() - saved >= _SECONDS_BETWEEN_CHECKPOINTS:
                saved = time.monotonic()
                self._save(is_over)
        return self._copy()

    def _copy(self) -> _Copy:
        return _Copy(self.average, self.losses, self.epoch, self.step, self.spent)

    def _progress(self, steps: float) -> float:
        self.spent = time.monotonic() - self.begun
        epochs = self.options.epochs
        done = max(self.epoch / epochs, min(self.step / steps, (self.epoch + 0.99) / epochs))
        return done if self.minutes is None else max(done, self.spent / (60 * self.minutes))

    def _update(self, progress: float) -> None:
        warm = min(1.0, (self.step + 1) / _WARM_UP_STEPS)
        fall = _LAST_RATE + (1 - _LAST_RATE) * (0.5 + 0.5 * float(np.cos(np.pi * min(1.0, progress))))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * warm * fall
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, _CLIP_NORM)
        if torch.isfinite(norm):
            self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        decay = min(_DECAY, self.step / (self.step + 10))
        with torch.no_grad():
            for mean, parameter in zip(self.average, self.parameters):
                mean.lerp_(parameter, 1 - decay)

    def _save(self, is_over: bool) -> None:
        state = {
            "parameters": [parameter.detach().clone() for parameter in self.parameters],
            "average": [value.clone() for value in self.average],
            "optimizer": None if is_over else copy.deepcopy(self.optimizer.state_dict()),
            "epoch": self.epoch,
            "step": self.step,
            "spent": self.spent,
            "losses": list(self.losses),
        }
        self.checkpoint.put(self.key, state)

    @torch.no_grad()
    def _put(self, values: Sequence[torch.Tensor]) -> None:
        for parameter, value in zip(self.parameters, values):
            parameter.copy_(value)
