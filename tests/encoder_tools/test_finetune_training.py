"""When a training stops and which weights it returns, on a decoder with one parameter that grows with every step."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from encoder_tools.evaluation.figures import png
from encoder_tools.finetune import model_card, training
from encoder_tools.finetune.model_card import training_curves
from encoder_tools.finetune.training import EpochReport, Trained, TuneOptions, train

OPTIONS = TuneOptions(epochs=8, learning_rate=0.1, objects_per_step=1, patience=8)

Train = Callable[..., "tuple[Trained, float]"]


class OneNumber:
    """A decoder with one parameter."""

    learning_rate = 0.1

    def __init__(self) -> None:
        self.module = torch.nn.Linear(1, 1, bias=False)
        self.module.weight.data.fill_(1.0)

    @property
    def number(self) -> float:
        return self.module.weight.item()


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Train:
    """Return a function that trains; validation is a function of the parameter, or a list of values."""

    def gradients(decoder: OneNumber, *_: object) -> float:
        decoder.module.weight.grad = -torch.ones(1, 1)
        return 1.0

    def run(quality: Any, options: TuneOptions = OPTIONS, validation: int = 1) -> tuple[Trained, float]:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        (tmp_path / "run").mkdir()
        decoder = OneNumber()
        script: Iterator[float] | None = None if callable(quality) else iter(quality)
        monkeypatch.setattr(
            training, "mean_iou", lambda *_: quality(decoder.number) if script is None else next(script, 0.0)
        )
        monkeypatch.setattr(training, "plan_epoch", lambda *_: [SimpleNamespace(samples=[0])] * 4)
        monkeypatch.setattr(training, "accumulate_gradients", gradients)
        # Only the functions replaced above use these.
        given: Any = decoder
        cache: Any = None
        samples: Any = [0] * 4
        done = train(given, cache, samples, samples[:validation], options, tmp_path / "run", {})
        return done, decoder.number

    return run


def test_the_best_weights_are_the_result(trained: Train) -> None:
    done, number = trained(lambda value: value)
    assert done.best_epoch == 8 and done.share == 1.0 and done.validation == number > 1.5
    assert done.outcome == "the weights of epoch 8"


def test_a_mean_with_the_original_weights_may_be_better_than_both(trained: Train) -> None:
    once = TuneOptions(epochs=1, learning_rate=0.1, objects_per_step=1)
    _, far = trained(lambda value: value, once)
    middle = (1 + far) / 2
    done, number = trained(lambda value: 1 - abs(value - middle), once)
    assert far > 1.01 and number == pytest.approx(middle)
    assert done.best_epoch == 1 and done.share == 0.5 and done.validation == pytest.approx(1.0)
    assert done.outcome == "50% of the weights of epoch 1 and 50% of the original ones"


def test_the_original_weights_are_kept_if_no_epoch_is_better(trained: Train) -> None:
    done, number = trained(lambda value: -value)
    assert done.share == 0.0 and number == 1.0 and done.validation == -1.0
    assert done.outcome == "the original weights, since no epoch improved on them"
    assert len(done.history) == 9, "all epochs were run"


def test_a_worse_start_does_not_stop_the_training(trained: Train) -> None:
    done, _ = trained(
        [0.8, 0.5, 0.55, 0.6, 0.7, 0.75, 0.79, 0.82, 0.83], TuneOptions(8, patience=2, objects_per_step=1)
    )
    assert [report.validation for report in done.history][-1] == 0.83
    assert done.best_epoch == 8 and done.share == 1.0


def test_no_gain_stops_the_training(trained: Train) -> None:
    done, _ = trained([0.1, 0.5, 0.4, 0.4, 0.9], TuneOptions(8, patience=2, objects_per_step=1))
    assert len(done.history) == 4 and done.best_epoch == 1


def test_without_validation_the_last_weights_are_the_result(trained: Train) -> None:
    done, number = trained(lambda _: 0.0, validation=0)
    assert done.best_epoch == 8 and done.share == 1.0 and done.validation is None and number > 1.5


def test_a_time_limit_shorter_than_an_epoch(trained: Train) -> None:
    done, number = trained(lambda _: 0.4, TuneOptions(minutes=1e-9))
    assert len(done.history) == 1 and done.share == 0.0 and number == 1.0 and done.validation == 0.4


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_curves_name_the_result(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    history = [EpochReport(0, 0.0, None, 0.5), EpochReport(1, 1.0, 0.3, 0.6)]
    trained = Trained(history, 1, share, 0.6)
    legend: list[str] = []

    def drawn(figure: Any) -> bytes:
        legend.extend(text.get_text() for text in figure.axes[1].get_legend().get_texts())
        return png(figure)

    monkeypatch.setattr(model_card, "png", drawn)
    assert training_curves(trained).startswith(b"\x89PNG")
    assert legend == [f"result: {trained.outcome}"]
