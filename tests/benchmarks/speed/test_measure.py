from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks.speed.measure import (
    Bench,
    machine,
    mask_agreement,
    mask_iou,
    mask_iou_but_one,
    take_turns,
    timing_of,
)


class Clock:
    """Time that passes only in what is measured."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_cases_take_turns_and_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("benchmarks.speed.measure.time", clock)
    calls: list[tuple[str, int]] = []

    def case(name: str, seconds: float, run: int) -> None:
        calls.append((name, run))
        clock.sleep(seconds)

    times = take_turns({"slow": partial(case, "slow", 0.02), "fast": partial(case, "fast", 0.001)}, runs=3, warm_up=1)
    assert [run for _, run in calls] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert times["slow"].runs == times["fast"].runs == 3
    assert times["slow"].median_ms == pytest.approx(20) and times["fast"].median_ms == pytest.approx(1)


def test_no_case_follows_itself_or_always_the_same_one() -> None:
    names: list[str] = []
    take_turns({name: lambda _, name=name: names.append(name) for name in "abcd"}, runs=30, warm_up=0)
    rounds = [names[start : start + 4] for start in range(0, len(names), 4)]
    assert len(rounds) == 30 and all(sorted(turn) == list("abcd") for turn in rounds)
    pairs = set(zip(names, names[1:]))
    assert len(pairs) == 12 and not [pair for pair in pairs if pair[0] == pair[1]]


def test_timing_is_median_and_95_percent() -> None:
    timing = timing_of([0.001 * value for value in range(1, 102)])
    assert timing.median_ms == pytest.approx(51) and timing.p95_ms == pytest.approx(96)


def test_mask_iou() -> None:
    logits = np.full((4, 4), -1.0)
    logits[:2] = 1
    half = np.where(np.arange(4) < 2, logits, -1.0)
    assert mask_iou(logits, logits * 9) == 1
    assert mask_iou(logits, half) == 0.5
    assert mask_iou(logits, -logits) == 0
    assert mask_iou(np.full(3, -1), np.full(3, -2)) == 1
    assert not mask_agreement([1.0, 0.5]).holds and mask_agreement([1.0, 0.9995]).holds


def test_one_pixel_by_rounding_is_left_out() -> None:
    logits = np.ones(500)
    logits[:2] = 1e-6
    other = logits.copy()
    other[0] = -1e-6
    assert mask_iou(logits, other) == 0.998 and mask_iou_but_one(logits, other) == 1
    other[1] = -1e-6
    assert mask_iou_but_one(logits, other) == 0.998
    assert mask_iou_but_one(-np.ones(3), -np.ones(3)) == 1


def test_a_pixel_that_really_differs_counts() -> None:
    logits = np.ones(500)
    other = logits.copy()
    other[0] = -1e-6
    assert mask_iou_but_one(logits, other) == mask_iou(logits, other) == 0.998


def test_quick_runs_are_few() -> None:
    assert [Bench(Path(), 1, quick).runs(60, 3) for quick in (False, True)] == [60, 3]


def test_the_machine_is_described() -> None:
    told = machine(2)
    assert told["threads"] == 2 and told["processor"] and told["versions"]["numpy"] == np.__version__
