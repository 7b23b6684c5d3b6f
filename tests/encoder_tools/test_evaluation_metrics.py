"""Metrics compared with those of scikit-learn, and intervals with theory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from encoder_tools.evaluation.metrics import (
    bootstrap_mean,
    boundary_f_score,
    mask_scores,
    paired_difference,
)

MASKS = arrays(bool, (7, 9))


@given(MASKS, MASKS)
def test_scores_equal_those_of_scikit_learn(truth: np.ndarray, predicted: np.ndarray) -> None:
    scores = mask_scores(truth, predicted)
    both_empty = 1.0 if not truth.any() and not predicted.any() else 0.0
    for name, reference in (
        ("iou", jaccard_score),
        ("dice", f1_score),
        ("precision", precision_score),
        ("recall", recall_score),
    ):
        wanted = reference(truth.ravel(), predicted.ravel(), zero_division=both_empty)
        assert getattr(scores, name) == pytest.approx(wanted), name


def square(low: int, high: int, size: int = 64) -> np.ndarray:
    mask = np.zeros((size, size), dtype=bool)
    mask[low:high, low:high] = True
    return mask


def test_a_boundary_within_the_tolerance_matches() -> None:
    truth = square(20, 40)
    assert boundary_f_score(truth, truth) == 1.0
    assert boundary_f_score(truth, np.roll(truth, 2, axis=1)) == 1.0
    # Corners are farther apart than sides.
    assert 0.85 < boundary_f_score(truth, square(22, 38)) < 1.0
    assert boundary_f_score(truth, square(24, 36)) == 0.0
    assert boundary_f_score(truth, square(24, 36), tolerance=6) == 1.0
    # Two sides fit and two do not.
    moved = np.zeros_like(truth)
    moved[20:40, 20:50] = True
    assert 0.6 < boundary_f_score(truth, moved) < 0.9


def test_the_boundary_of_a_hole_counts() -> None:
    filled, ring = square(10, 50), square(10, 50) & ~square(20, 40)
    assert boundary_f_score(ring, filled) < 0.8
    assert boundary_f_score(ring, ring) == 1.0


def test_the_edge_of_the_array_is_no_boundary() -> None:
    truth, predicted = np.zeros((64, 64), bool), np.zeros((64, 64), bool)
    truth[:, :30], predicted[:, :40] = True, True
    assert boundary_f_score(truth, predicted) == 0.0
    predicted[:] = truth
    assert boundary_f_score(truth, predicted) == 1.0
    assert boundary_f_score(np.ones((8, 8), bool), np.ones((8, 8), bool)) == 1.0
    assert boundary_f_score(np.ones((8, 8), bool), truth[:8, :8]) == 1.0
    assert boundary_f_score(truth, np.zeros_like(truth)) == 0.0


@given(MASKS, MASKS, st.floats(0.5, 4.0))
def test_the_boundary_score_is_symmetric(truth: np.ndarray, predicted: np.ndarray, tolerance: float) -> None:
    score = boundary_f_score(truth, predicted, tolerance)
    assert 0.0 <= score <= 1.0
    assert score == pytest.approx(boundary_f_score(predicted, truth, tolerance))


def test_masks_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="one shape"):
        mask_scores(np.zeros((4, 4), bool), np.zeros((4, 5), bool))


def test_the_interval_is_reproducible_and_has_the_expected_width() -> None:
    values = np.random.default_rng(3).normal(0.7, 0.2, 400)
    found = bootstrap_mean(values, seed=5)
    assert found == bootstrap_mean(values, seed=5) != bootstrap_mean(values, seed=6)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.high - found.mean == pytest.approx(half, rel=0.1)
    assert found.mean - found.low == pytest.approx(half, rel=0.1)


def test_the_interval_covers_the_mean_in_95_percent() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        interval = bootstrap_mean(rng.normal(0.5, 0.2, 50), seed=seed, draws=400)
        held += interval.low <= 0.5 <= interval.high
    assert 0.88 <= held / 200 <= 0.99


def test_pairs_detect_what_separate_means_do_not() -> None:
    rng = np.random.default_rng(1)
    before = rng.uniform(0.2, 0.9, 60)
    after = before + 0.03 + rng.normal(0.0, 0.02, 60)
    gain = paired_difference(before, after)
    assert gain.excludes_zero and 0.02 < gain.low < gain.mean < gain.high < 0.04
    # Without pairing, the intervals overlap.
    assert bootstrap_mean(before).high > bootstrap_mean(after).low
    assert not paired_difference(before, before + rng.normal(0.0, 0.1, 60) - 0.001).excludes_zero
    assert paired_difference(after, before).high < 0


@pytest.mark.parametrize("values", [[], [[0.1], [0.2]]])
def test_invalid_values_are_refused(values: list) -> None:
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_mean(values)
    with pytest.raises(ValueError, match="same objects"):
        paired_difference([0.1], [0.1, 0.2])


def test_many_values_are_resampled_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).uniform(size=300)
    whole = bootstrap_mean(values)
    monkeypatch.setattr("encoder_tools.evaluation.metrics.VALUES_PER_CHUNK", 1000)
    parts = bootstrap_mean(values)
    assert parts.mean == whole.mean
    assert parts.low == pytest.approx(whole.low, abs=0.005) and parts.high == pytest.approx(whole.high, abs=0.005)
