"""The training loop: epochs, early stopping, and a checkpoint after each epoch.

The result is the weights of the best epoch, or their mean with the original weights. Such a mean keeps what the model
knew and is often better than both: Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geosam_es.errors import ModelError, OutputError
from geosam_es.store.files import put_in_place, temporary_name

from ..models.libraries import torch
from .feature_cache import FeatureCache
from .training_samples import Sample
from .training_step import accumulate_gradients
from .tunable_decoder import TunableDecoder, trainable
from .validation import mean_iou
from .window_batches import plan_epoch

__all__ = ["STATE_FILE", "EpochReport", "Trained", "TuneOptions", "train"]

STATE_FILE = "training.pt"
_WARM_UP_STEPS = 10
_LAST_RATE = 0.05
_DECAY = 0.98
_CLIP_NORM = 1.0
_WEIGHT_DECAY = 0.01
_FORMAT = 1
_SHARES = (0.75, 0.5, 0.25)


@dataclass(frozen=True)
class TuneOptions:
    """Options of the training.

    Attributes
    ----------
    epochs : int
        Largest number of epochs; each shows every object once.
    minutes : float, optional
        Time limit, over all runs of a resumed training; the learning rate schedule follows it.
    learning_rate : float, optional
        Default: that of the model.
    patience : int
        Training stops after this many epochs without a better validation, not counting the original decoder.
    objects_per_step : int
        Objects per optimizer step; their gradients are accumulated.
    seed : int
        Not negative.
    threads : int
        CPU threads. Small convolutions do not train faster with more than one.
    """

    epochs: int = 20
    minutes: float | None = None
    learning_rate: float | None = None
    patience: int = 6
    objects_per_step: int = 8
    seed: int = 0
    threads: int = 1


@dataclass(frozen=True)
class EpochReport:
    """State of the training after an epoch.

    Attributes
    ----------
    epoch : int
        0 before the first.
    seconds : float
        Time so far, over all runs of a resumed training.
    loss : float, optional
        Mean over the objects; None before the first epoch.
    validation : float, optional
        Mean IoU; None without validation objects.
    """

    epoch: int
    seconds: float
    loss: float | None
    validation: float | None


@dataclass(frozen=True)
class Trained:
    """Outcome of a training; the decoder holds the resulting weights.

    Attributes
    ----------
    history : list of EpochReport
    best_epoch : int
        Epoch with the best validation, or the last one without validation objects; 0 if no epoch was completed.
    share : float
        Share of the weights of that epoch in the mean with the original weights; 0 keeps the original decoder.
    validation : float, optional
        Mean IoU of the resulting weights.
    """

    history: list[EpochReport]
    best_epoch: int
    share: float
    validation: float | None

    @property
    def outcome(self) -> str:
        """Description of the resulting weights."""
        if not self.share:
            return "the original weights, since no epoch improved on them"
        if self.share == 1.0:
            return f"the weights of epoch {self.best_epoch}"
        return (
            f"{self.share:.0%} of the weights of epoch {self.best_epoch} and {1 - self.share:.0%} of the original ones"
        )


def train(
    decoder: TunableDecoder,
    cache: FeatureCache,
    samples: Sequence[Sample],
    validation: Sequence[Sample],
    options: TuneOptions,
    folder: Path,
    signature: Mapping[str, Any],
    report: Callable[[EpochReport], None] = lambda report: None,
) -> Trained:
    """Train a decoder; an existing checkpoint in ``folder`` is resumed.

    Parameters
    ----------
    decoder : TunableDecoder
    cache : FeatureCache
    samples : sequence of Sample
        Training objects.
    validation : sequence of Sample
        Objects for early stopping; without any, all epochs are run and the last weights are the result.
    options : TuneOptions
    folder : Path
        Folder for the checkpoint.
    signature : mapping
        Plain values that must equal those of a checkpoint to resume it.
    report : callable
        Called after each epoch.

    Returns
    -------
    Trained

    Raises
    ------
    ModelError
        If the checkpoint is damaged or belongs to another training.
    OutputError
        If it cannot be written.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        return _Training(decoder, cache, samples, validation, options, folder, signature).run(report)
    finally:
        torch.set_num_threads(threads)


class _Training:
    def __init__(
        self,
        decoder: TunableDecoder,
        cache: FeatureCache,
        samples: Sequence[Sample],
        validation: Sequence[Sample],
        options: TuneOptions,
        folder: Path,
        signature: Mapping[str, Any],
    ) -> None:
        self.decoder, self.cache, self.options = decoder, cache, options
        self.samples, self.validation = samples, validation
        self.path, self.signature = folder / STATE_FILE, dict(signature)
        self.rate = options.learning_rate or decoder.learning_rate
        self.parameters = trainable(decoder.module)
        self.optimizer = torch.optim.AdamW(self.parameters, lr=self.rate, weight_decay=_WEIGHT_DECAY)
        self.original = [parameter.detach().clone() for parameter in self.parameters]
        self.average = [value.clone() for value in self.original]
        self.best = self.average
        self.history: list[EpochReport] = []
        self.best_epoch = 0
        self.step = 0
        self.spent = 0.0
        if self.path.exists():
            self._load()
        self.begun = time.monotonic() - self.spent

    def run(self, report: Callable[[EpochReport], None]) -> Trained:
        if not self.history:
            self._close_epoch(0, None, report)
        while not self._is_over():
            epoch = len(self.history)
            self._close_epoch(epoch, self._epoch(epoch), report)
        share, validation = self._choose_share()
        self._put(self._mixed(share))
        return Trained(self.history, self.best_epoch, share, validation)

    def _choose_share(self) -> tuple[float, float | None]:
        """Return the share of the best epoch with the best validation, and that validation."""
        if not self.best_epoch:
            return 0.0, self.history[0].validation
        known = self.history[0].validation, self.history[self.best_epoch].validation
        if known[0] is None or known[1] is None:
            return 1.0, None
        found = {0.0: known[0], 1.0: known[1]} | {share: self._validate(self._mixed(share)) for share in _SHARES}
        best = max(found, key=lambda share: found[share])
        return best, found[best]

    def _mixed(self, share: float) -> list[torch.Tensor]:
        return [torch.lerp(before, after, share) for before, after in zip(self.original, self.best)]

    @torch.no_grad()
    def _put(self, values: Sequence[torch.Tensor]) -> None:
        for parameter, value in zip(self.parameters, values):
            parameter.copy_(value)

    def _is_over(self) -> bool:
        epoch = len(self.history) - 1
        waited = epoch - self.best_epoch if self.validation else 0
        return self._progress() >= 1.0 or waited >= self.options.patience

    def _progress(self) -> float:
        steps = max(1, len(self.samples) // self.options.objects_per_step) * self.options.epochs
        done = max(self.step / steps, (len(self.history) - 1) / self.options.epochs)
        if self.options.minutes is not None:
            done = max(done, (time.monotonic() - self.begun) / (60 * self.options.minutes))
        return min(1.0, done)

    def _epoch(self, epoch: int) -> float:
        """Train on every object once, and return the mean loss."""
        # Seeded by the epoch, so that a resumed training gives the same weights as one that ran through.
        rng = np.random.default_rng([self.options.seed, epoch])
        self.decoder.module.train()
        losses, gathered = [], 0
        self.optimizer.zero_grad()
        for batch in plan_epoch(self.samples, self.decoder, rng):
            loss = accumulate_gradients(self.decoder, self.cache, batch, rng, self.options.objects_per_step)
            losses += [loss] * len(batch.samples)
            gathered += len(batch.samples)
            if gathered >= self.options.objects_per_step:
                self._update()
                gathered = 0
                if self.options.minutes is not None and self._progress() >= 1.0:
                    break
        if gathered:
            self._update()
        return float(np.mean(losses))

    def _update(self) -> None:
        warm = min(1.0, (self.step + 1) / _WARM_UP_STEPS)
        fall = _LAST_RATE + (1 - _LAST_RATE) * (0.5 + 0.5 * float(np.cos(np.pi * self._progress())))
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * warm * fall
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, _CLIP_NORM)
        if torch.isfinite(norm):
            self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        decay = min(_DECAY, self.step / (self.step + 5))
        with torch.no_grad():
            for mean, parameter in zip(self.average, self.parameters):
                mean.lerp_(parameter, 1 - decay)

    def _close_epoch(self, epoch: int, loss: float | None, report: Callable[[EpochReport], None]) -> None:
        """Validate the averaged weights, keep the best ones, write the checkpoint and report."""
        validation = self._validate(self.average) if self.validation else None
        # The original decoder is only compared at the end: a training may be worse at first and better later.
        known = [found.validation for found in self.history[1:] if found.validation is not None]
        if validation is None or not known or validation > max(known):
            self.best_epoch = epoch
            self.best = [mean.clone() for mean in self.average]
        self.history.append(EpochReport(epoch, time.monotonic() - self.begun, loss, validation))
        self._save()
        report(self.history[-1])

    @torch.no_grad()
    def _validate(self, values: Sequence[torch.Tensor]) -> float:
        own = [parameter.detach().clone() for parameter in self.parameters]
        self._put(values)
        self.decoder.module.eval()
        score = mean_iou(self.decoder, self.cache, self.validation)
        self._put(own)
        return score

    def _save(self) -> None:
        state = {
            "format": _FORMAT,
            "signature": self.signature,
            "parameters": [parameter.detach() for parameter in self.parameters],
            "average": self.average,
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "history": [[r.epoch, r.seconds, r.loss, r.validation] for r in self.history],
            "best_epoch": self.best_epoch,
            "step": self.step,
        }
        partial = temporary_name(self.path.parent)
        try:
            # PyTorch derives the archive's name from a path, which this one does not give.
            with partial.open("wb") as file:
                torch.save(state, file)
            put_in_place(partial, self.path)
        except (OSError, RuntimeError) as error:
            partial.unlink(missing_ok=True)
            raise OutputError(f"{self.path} cannot be written ({error})", "check the free space") from error

    def _load(self) -> None:
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            signature = dict(state["signature"])
            parameters, average, best = (list(state[key]) for key in ("parameters", "average", "best"))
            history = [EpochReport(*values) for values in state["history"]]
            best_epoch, step, spent = int(state["best_epoch"]), int(state["step"]), float(history[-1].seconds)
            optimizer = state["optimizer"]
        # torch.load raises errors of many kinds for a damaged file.
        except Exception as error:
            raise ModelError(f"{self.path} is damaged", "start again with --overwrite") from error
        for key, value in self.signature.items():
            if signature.get(key) != value:
                raise ModelError(
                    f"The training in {self.path.parent} was started with another {key}",
                    "continue it with the same one, or start again with --overwrite",
                )
        self._put(parameters)
        self.average, self.best = average, best
        self.optimizer.load_state_dict(optimizer)
        self.history, self.best_epoch, self.step, self.spent = history, best_epoch, step, spent
