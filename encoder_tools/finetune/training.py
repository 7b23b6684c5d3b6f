"""Training, with a check on polygons that it did not see.

First, a copy of the network learns from each half of the polygons, and the polygons of the other half tell how well it
does. If that is better than before, two copies go on from the mean of their weights, both with all polygons. The result
is the mean of the weights of these copies, mixed with the original weights in the share that served best in the check:
such means forget less and are often better than their parts (Wortsman et al., Robust fine-tuning of zero-shot models,
CVPR 2022).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Event, Lock
from typing import Protocol

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

OBJECTS_PER_STEP = 10
_WARM_UP_STEPS = 20
_LAST_RATE = 0.02
_DECAY = 0.99
_CLIP_NORM = 1.0
_SHARES = (0.0, 0.5, 1.0)
_SECONDS_BETWEEN_CHECKPOINTS = 20.0
TRIAL_SHARE = 0.45
"""Share of the time limit for the halves and their check; the rest is for all polygons."""

_CHECK = 0.25
"""Share of that time for the check."""

_MOST_CHECKED = 40
"""Largest number of objects of a half that are checked."""

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
        Largest number of passes through the halves, and then through all polygons.
    minutes : float, optional
        Time limit, over all runs of a resumed training; the learning rate schedule follows it.
    learning_rate : float, optional
        Default: that of the network.
    seed : int
        Not negative.
    threads : int
        CPU threads; two train both copies at the same time.
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
        Weights before, and the mean of both copies.
    ious : dict of float to float64 (N, 3)
        For each share of the trained weights, the IoU of the objects that were checked, for each of `PROMPTS`.
    losses : list of float
        Mean loss of both copies in each epoch.
    epochs, seconds : float
        Of the longer training.
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
    halves: tuple[Sequence[Sample], Sequence[Sample]],
    options: TuneOptions,
    checkpoint: Checkpoint,
    name: str,
    report: Callable[[float], None] = lambda progress: None,
    trial: Fit | None = None,
) -> Fit:
    """Train a copy on each half, and check it on the other one; after such a trial, train two copies on all polygons.

    Parameters
    ----------
    learner : Learner
        Is not changed.
    halves : tuple of sequences of Sample
    options : TuneOptions
    checkpoint : Checkpoint
    name : str
        Name of this training in the checkpoint.
    report : callable
        Called with the progress of both trainings and their checks, 0 to 1.
    trial : Fit, optional
        An earlier result. Both copies go on from its mean weights with both halves, each in its own order, and are not
        checked: its IoUs stay.

    Raises
    ------
    OutputError
        If the checkpoint cannot be written.
    """
    stopped, lock = Event(), Lock()
    progress = [0.0, 0.0]
    workers = min(len(halves), options.threads)
    share, part = (TRIAL_SHARE, 1 - _CHECK) if trial is None else (1 - TRIAL_SHARE, 1.0)
    minutes = None if options.minutes is None else options.minutes * share * part * workers / len(halves)
    if trial is not None:
        learner, name = copy.deepcopy(learner), f"{name} all"
        put_weights(learner.module, trial, 1.0)

    def work(half: int) -> tuple[_Training, dict[float, NDArray[np.float64]]]:
        def told(done: float) -> None:
            with lock:
                progress[half] = done
                report(float(np.mean(progress)))

        threads = torch.get_num_threads()
        # Small convolutions do not train faster with more. The number belongs to the thread.
        torch.set_num_threads(1)
        try:
            training = _Training(copy.deepcopy(learner), options, half, minutes, checkpoint, f"{name} {half}", stopped)
            training.run(halves[half] if trial is None else [*halves[0], *halves[1]], lambda done: told(done * part))
            if trial is not None or stopped.is_set():
                return training, {}
            return training, training.check(halves[1 - half], lambda done: told(part + done * (1 - part)))
        finally:
            torch.set_num_threads(threads)

    if workers == 1:
        done = [work(half) for half in range(len(halves))]
    else:
        with ThreadPoolExecutor(workers) as pool:
            try:
                done = list(pool.map(work, range(len(halves))))
            finally:
                stopped.set()
    trainings = [training for training, _ in done]
    mean = [sum(parts) / len(trainings) for parts in zip(*(training.average for training in trainings))]
    losses = [float(np.mean(values)) for values in zip(*(training.losses for training in trainings))]
    epochs, seconds = (max(getattr(training, key) for training in trainings) for key in ("epoch", "spent"))
    if trial is None:
        ious = {share: np.concatenate([checked[share] for _, checked in done]) for share in _SHARES}
        return Fit(trainings[0].original, mean, ious, losses, epochs, seconds)
    return replace(
        trial,
        mean=mean,
        losses=trial.losses + losses,
        epochs=trial.epochs + epochs,
        seconds=trial.seconds + seconds,
    )


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
        self.original = [parameter.detach().clone() for parameter in self.parameters]
        self.average = [value.clone() for value in self.original]
        state = self.checkpoint.get(self.key)
        if state is not None:
            self._put(state["parameters"])
            self.average = state["average"]
            if state["optimizer"] is not None:
                self.optimizer.load_state_dict(state["optimizer"])
            self.epoch, self.step, self.spent, self.losses = (state[k] for k in ("epoch", "step", "spent", "losses"))
        self.begun = time.monotonic() - self.spent

    def run(self, samples: Sequence[Sample], told: Callable[[float], None]) -> None:
        saved = time.monotonic()
        steps = max(1, len(samples) / OBJECTS_PER_STEP) * self.options.epochs
        self.learner.module.train()
        while self._progress(steps) < 1.0:
            # Seeded by the epoch, so that a resumed training gives the same weights as one that ran through.
            rng = np.random.default_rng([self.options.seed, self.epoch, self.number])
            losses = []
            for loss in self.learner.steps(samples, rng):
                if self.stopped.is_set():
                    return
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

    def check(self, samples: Sequence[Sample], told: Callable[[float], None]) -> dict[float, NDArray[np.float64]]:
        """Return the IoU of samples for each share of the averaged weights, from the checkpoint if they are there."""
        key = f"{self.key} checked"
        state = self.checkpoint.get(key)
        if state is not None and state["step"] == self.step:
            return {share: ious.numpy() for share, ious in state["ious"].items()}
        some = samples[:: -(-len(samples) // _MOST_CHECKED)] if samples else []
        self.learner.module.eval()
        found = {}
        for number, share in enumerate(_SHARES, start=1):
            self._put([torch.lerp(before, after, share) for before, after in zip(self.original, self.average)])
            found[share] = self.learner.answers(some, self.stopped) if some else np.zeros((0, len(PROMPTS)))
            if self.stopped.is_set():
                return found
            told(number / len(_SHARES))
        ious = {share: torch.from_numpy(values) for share, values in found.items()}
        self.checkpoint.put(key, {"step": self.step, "ious": ious})
        return found
