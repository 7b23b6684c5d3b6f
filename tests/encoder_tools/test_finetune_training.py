"""Which weights a training returns, on a network with one parameter that grows with every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from encoder_tools.evaluation.figures import png
from encoder_tools.finetune import model_card
from encoder_tools.finetune.checkpoint import Checkpoint
from encoder_tools.finetune.model_card import training_curves
from encoder_tools.finetune.training import (
    Choice,
    Fit,
    TuneOptions,
    choose,
    cross_fit,
    put_weights,
)

OPTIONS = TuneOptions(epochs=8, minutes=None, learning_rate=0.1, threads=1)
FIRST: Any = list(range(4))
SECOND: Any = list(range(10, 14))
QUARTERS: Any = [[start, start + 1] for start in (0, 10, 20, 30)]
FEW = 12


class OneNumber:
    """A network with one parameter that starts at 1; ``quality`` maps it to the IoU of all prompts."""

    learning_rate = 0.1

    def __init__(self, quality: Callable[[float], float]) -> None:
        self.quality = quality
        self.module = torch.nn.Linear(1, 1, bias=False)
        self.module.weight.data.fill_(1.0)
        self.seen: list[Any] = []

    def __deepcopy__(self, memo: dict[int, object]) -> OneNumber:
        other = OneNumber(self.quality)
        other.module.weight.data.copy_(self.module.weight.data)
        other.seen = self.seen
        return other

    @property
    def number(self) -> float:
        return self.module.weight.item()

    def steps(self, samples: Sequence[Any], rng: np.random.Generator) -> Iterator[float]:
        for _ in range(4):
            self.module.weight.grad = -torch.ones(1, 1)
            yield 1.0

    def answers(self, samples: Sequence[Any], stopped: Event) -> NDArray[np.float64]:
        self.seen.append(list(samples))
        return np.full((len(samples), 3), self.quality(self.number))


def fitted(learner: OneNumber, folder: Path, options: TuneOptions = OPTIONS) -> Fit:
    return cross_fit(learner, (FIRST, SECOND), options, Checkpoint(folder, {}), "x")


def test_the_best_share_is_the_result(tmp_path: Path) -> None:
    learner = OneNumber(lambda value: value)
    fit = fitted(learner, tmp_path)
    assert learner.number == 1.0, "the network itself is not changed"
    assert fit.epochs == 8 and len(fit.losses) == 8
    choice = choose({"x": fit})
    assert choice.share == 1.0 and choice.outcome == "the weights of the depth x"
    put_weights(learner.module, fit, choice.share)
    assert learner.number > 1.5


def test_every_object_is_checked_by_the_copy_that_did_not_learn_from_it(tmp_path: Path) -> None:
    learner = OneNumber(lambda value: value)
    fit = fitted(learner, tmp_path)
    assert [seen for seen in learner.seen if seen == SECOND] and [seen for seen in learner.seen if seen == FIRST]
    assert all(len(ious) == len(FIRST) + len(SECOND) for ious in fit.ious.values())


class Part(OneNumber):
    """A network that learns in one step: its parameter becomes 100 times the first sample."""

    def __deepcopy__(self, memo: dict[int, object]) -> Part:
        other = Part(self.quality)
        other.module.weight.data.copy_(self.module.weight.data)
        return other

    def steps(self, samples: Sequence[Any], rng: np.random.Generator) -> Iterator[float]:
        self.module.weight.data.fill_(100.0 * samples[0])
        self.module.weight.grad = torch.zeros(1, 1)
        yield 1.0


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_each_part_is_checked_by_the_mean_of_the_copies_that_have_not_seen_it(tmp_path: Path, threads: int) -> None:
    options = TuneOptions(epochs=1, minutes=None, learning_rate=0.1, threads=threads)
    fit = cross_fit(Part(lambda value: value), QUARTERS, options, Checkpoint(tmp_path, {}), "x")
    averages = [1.0 + (100.0 * part[0] - 1.0) * 10 / 11 for part in QUARTERS]
    wanted = [(sum(averages) - own) / 3 for own in averages for _ in range(2)]
    assert fit.ious[1.0][:, 0].tolist() == pytest.approx(wanted)
    assert fit.mean[0].item() == pytest.approx(sum(averages) / 4)


@pytest.mark.parametrize("threads", [1, 2])
def test_both_halves_are_trained_alone_or_at_the_same_time(tmp_path: Path, threads: int) -> None:
    options = TuneOptions(epochs=3, minutes=None, learning_rate=0.1, threads=threads)
    fit = fitted(OneNumber(lambda value: value), tmp_path, options)
    assert [weight.item() for weight in fit.mean] == pytest.approx([fit.ious[1.0][0, 0]])


@pytest.mark.parametrize("threads", [1, 2])
def test_two_copies_go_on_with_all_polygons_from_the_mean_of_the_halves(tmp_path: Path, threads: int) -> None:
    options = TuneOptions(epochs=3, minutes=None, learning_rate=0.1, threads=threads)
    learner = OneNumber(lambda value: value)
    checkpoint, told = Checkpoint(tmp_path, {}), [0.0]
    half = cross_fit(learner, (FIRST, SECOND), options, checkpoint, "x", told.append)
    assert told == sorted(told) and told[-1] == 1.0
    fit = cross_fit(learner, (FIRST, SECOND), options, checkpoint, "x", trial=half)
    # As many steps as before, from the mean of the halves on.
    assert fit.mean[0].item() - half.mean[0].item() == pytest.approx(half.mean[0].item() - 1.0)
    assert learner.number == 1.0 and fit.original[0].item() == 1.0 and fit.ious is half.ious
    assert fit.epochs == 6 and len(fit.losses) == 6
    again = cross_fit(learner, (FIRST, SECOND), options, Checkpoint(tmp_path, {}), "x", trial=half)
    assert again.mean[0].item() == fit.mean[0].item(), "a complete training is not repeated"


class Interrupted(OneNumber):
    """The user presses Ctrl+C while both parts are being checked."""

    def __init__(self, quality: Callable[[float], float]) -> None:
        super().__init__(quality)
        self.begun = Event()

    def __deepcopy__(self, memo: dict[int, object]) -> Interrupted:
        other = Interrupted(self.quality)
        other.seen, other.begun = self.seen, self.begun
        return other

    def answers(self, samples: Sequence[Any], stopped: Event) -> NDArray[np.float64]:
        if samples == SECOND:
            assert self.begun.wait(10), "the other part is checked too"
            raise KeyboardInterrupt
        self.begun.set()
        assert stopped.wait(10), "the check is told to stop"
        return super().answers(samples, stopped)


def test_an_interrupted_check_does_not_go_on(tmp_path: Path) -> None:
    options = TuneOptions(epochs=1, minutes=None, learning_rate=0.1, threads=2)
    learner = Interrupted(lambda value: value)
    with pytest.raises(KeyboardInterrupt):
        fitted(learner, tmp_path, options)
    assert learner.seen == [FIRST], "not once for each share"


def test_a_resumed_training_does_not_check_again(tmp_path: Path) -> None:
    first = fitted(OneNumber(lambda value: value), tmp_path)
    learner = OneNumber(lambda value: value)
    again = fitted(learner, tmp_path)
    assert not learner.seen and all((again.ious[share] == ious).all() for share, ious in first.ious.items())
    fitted(learner, tmp_path, TuneOptions(epochs=9, minutes=None, learning_rate=0.1, threads=1))
    assert learner.seen, "it learned more"


def test_a_mean_with_the_original_weights_may_be_better_than_both(tmp_path: Path) -> None:
    far = fitted(OneNumber(lambda value: value), tmp_path).mean[0].item()
    middle = 1 + 0.5 * (far - 1)
    learner = OneNumber(lambda value: 1 - abs(value - middle))
    (tmp_path / "training.pt").unlink()
    fit = fitted(learner, tmp_path)
    choice = choose({"x": fit})
    put_weights(learner.module, fit, choice.share)
    assert choice.share == 0.5 and learner.number == pytest.approx(middle)
    assert choice.outcome == "50% of the weights of the depth x and 50% of the original ones"


def test_the_original_weights_are_kept_if_no_others_are_better(tmp_path: Path) -> None:
    learner = OneNumber(lambda value: -value)
    fit = fitted(learner, tmp_path)
    choice = choose({"x": fit})
    put_weights(learner.module, fit, choice.share)
    assert choice.share == 0.0 and learner.number == 1.0
    assert choice.outcome == "the original weights, since no others were better beyond the noise"


def fit_of(gains: NDArray[np.float64]) -> Fit:
    """Return a fit with these gains (N, 3) at every share."""
    before = np.full(gains.shape, 0.5)
    ious = {share: before + gains * (share > 0) for share in (0.0, 0.5, 1.0)}
    return Fit([], [], ious, [], 1, 1.0)


def test_a_gain_within_the_noise_does_not_count() -> None:
    noise = np.random.default_rng(0).normal(0, 0.2, (FEW, 1)) * np.ones((1, 3))
    noise -= noise.mean()
    assert choose({"x": fit_of(noise + 0.01)}).share == 0.0
    assert choose({"x": fit_of(noise + 0.2)}).share > 0.0


def test_no_kind_of_prompts_may_become_worse() -> None:
    gains = np.full((FEW, 3), 0.1) + np.random.default_rng(0).normal(0, 0.01, (FEW, 3))
    assert choose({"x": fit_of(gains)}).share > 0.0
    gains[:, 2] = -0.05
    assert choose({"x": fit_of(gains)}).share == 0.0


def test_the_depth_with_the_greatest_gain_is_the_result() -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, (FEW, 3))
    fits = {"decoder": fit_of(noise + 0.02), "all": fit_of(noise + 0.05), "adapter": fit_of(noise + 0.04)}
    assert choose(fits).name == "all"


def test_a_time_limit_shorter_than_an_epoch(tmp_path: Path) -> None:
    fit = fitted(OneNumber(lambda value: 0.4), tmp_path, TuneOptions(minutes=1e-9))
    assert fit.epochs <= 1 and choose({"x": fit}).share == 0.0


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_curves_name_the_result(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = Choice("all", share, {"all": fit_of(np.full((FEW, 3), 0.1))})
    legend: list[str] = []

    def drawn(figure: Any) -> bytes:
        legend.extend(text.get_text() for text in figure.axes[1].get_legend().get_texts())
        return png(figure)

    monkeypatch.setattr(model_card, "png", drawn)
    assert training_curves(choice).startswith(b"\x89PNG")
    assert legend == ["all", f"result: {choice.outcome}"]
