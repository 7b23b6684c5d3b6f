"""Metrics of masks, and confidence intervals of their means.

Names and conventions are those of scikit-learn; the tests compare with it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "BOUNDARY_TOLERANCE",
    "CONFIDENCE",
    "Interval",
    "MaskScores",
    "bootstrap_mean",
    "boundary_f_score",
    "intersection_over_union",
    "mask_scores",
    "paired_difference",
]

BOUNDARY_TOLERANCE = 2.0
"""Largest distance in pixels between matching boundaries."""

CONFIDENCE = 0.95
DRAWS = 2000
VALUES_PER_CHUNK = 4_000_000

Mask = NDArray[np.bool_]


class MaskScores(NamedTuple):
    """Agreement of a mask with the truth; all values are from 0 to 1.

    Attributes
    ----------
    iou : float
        Intersection over union, scikit-learn's ``jaccard_score``.
    dice : float
        Twice the intersection over the sum of both areas, scikit-learn's ``f1_score``.
    precision : float
        Share of the mask that is correct.
    recall : float
        Share of the truth that the mask covers.
    boundary_f : float
        See `boundary_f_score`.
    """

    iou: float
    dice: float
    precision: float
    recall: float
    boundary_f: float


class Interval(NamedTuple):
    """A mean with its bootstrap confidence interval."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is significant."""
        return self.low > 0 or self.high < 0


def intersection_over_union(truth: Mask, predicted: Mask) -> float:
    """Return the IoU of two masks (H, W), 1 where both are empty."""
    union = np.count_nonzero(truth | predicted)
    return float(np.count_nonzero(truth & predicted) / union) if union else 1.0


def mask_scores(truth: Mask, predicted: Mask) -> MaskScores:
    """Compare a mask with the truth.

    Parameters
    ----------
    truth, predicted : bool (H, W)

    Returns
    -------
    MaskScores
        All 1 if both masks are empty, all 0 if one is.

    Examples
    --------
    >>> truth, predicted = np.zeros((2, 8, 8), dtype=bool)
    >>> truth[:, :4], predicted[:, 2:6] = True, True
    >>> scores = mask_scores(truth, predicted)
    >>> round(scores.iou, 3), scores.dice, scores.precision, scores.recall
    (0.333, 0.5, 0.5, 0.5)
    """
    _check_shapes(truth, predicted)
    common = int(np.count_nonzero(truth & predicted))
    areas = int(np.count_nonzero(truth)), int(np.count_nonzero(predicted))
    if not any(areas):
        return MaskScores(1.0, 1.0, 1.0, 1.0, 1.0)
    if not all(areas):
        return MaskScores(0.0, 0.0, 0.0, 0.0, 0.0)
    return MaskScores(
        iou=common / (sum(areas) - common),
        dice=2 * common / sum(areas),
        precision=common / areas[1],
        recall=common / areas[0],
        boundary_f=boundary_f_score(truth, predicted),
    )


def boundary_f_score(truth: Mask, predicted: Mask, tolerance: float = BOUNDARY_TOLERANCE) -> float:
    """Return the F-score of the boundary.

    Precision is the share of the mask's boundary within ``tolerance`` of the truth's boundary, recall the share of the
    truth's boundary within ``tolerance`` of the mask's. The boundary consists of the outermost pixels of a mask and of
    those around its holes. There is no boundary along the edge of the array.

    Parameters
    ----------
    truth, predicted : bool (H, W)
    tolerance : float
        In pixels, between pixel centres.

    Returns
    -------
    float
        0 to 1; 1 if neither mask has a boundary, 0 if one has none.
    """
    _check_shapes(truth, predicted)
    window = _window_around(truth | predicted, margin=int(np.ceil(tolerance)) + 1)
    outlines = [_outline(mask[window]) for mask in (truth, predicted)]
    if not any(outline.any() for outline in outlines):
        return 1.0
    if not all(outline.any() for outline in outlines):
        return 0.0
    truth_line, predicted_line = outlines
    precision = _share_near(predicted_line, truth_line, tolerance)
    recall = _share_near(truth_line, predicted_line, tolerance)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def bootstrap_mean(values: ArrayLike, seed: int = 0, draws: int = DRAWS) -> Interval:
    """Return the mean of one value per object, with its 95 % bootstrap interval.

    Parameters
    ----------
    values : float (N,)
    seed : int
        The same seed gives the same interval.
    draws : int
        Number of resamples.

    Raises
    ------
    ValueError
        If there are no values.

    Examples
    --------
    >>> bootstrap_mean([0.5, 0.5, 0.5])
    Interval(mean=0.5, low=0.5, high=0.5)
    """
    known = np.asarray(values, dtype=np.float64)
    if known.ndim != 1 or not known.size:
        raise ValueError(f"values must be a list of at least one number, not of shape {known.shape}")
    rng = np.random.default_rng(seed)
    means = []
    left = draws
    while left:
        rows = min(left, max(1, VALUES_PER_CHUNK // known.size))
        means.append(known[rng.integers(known.size, size=(rows, known.size))].mean(axis=1))
        left -= rows
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(np.concatenate(means), [tail, 100 - tail])
    return Interval(float(known.mean()), float(low), float(high))


def paired_difference(before: ArrayLike, after: ArrayLike) -> Interval:
    """Return the mean of ``after - before`` on the same objects, with its 95 % bootstrap interval.

    Parameters
    ----------
    before, after : float (N,)
        Values of the same objects in the same order.

    Raises
    ------
    ValueError
        If there are no values, or their numbers differ.
    """
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"before and after must be of the same objects, not of {first.shape} and {second.shape}")
    return bootstrap_mean(second - first)


def _check_shapes(truth: Mask, predicted: Mask) -> None:
    if truth.shape != predicted.shape or truth.ndim != 2:
        raise ValueError(f"masks must be of one shape (H, W), not {truth.shape} and {predicted.shape}")


def _window_around(mask: Mask, margin: int) -> tuple[slice, slice]:
    """Return the part of the array around the mask, so that small objects take little time in large arrays."""
    spans = []
    for axis in (1, 0):
        filled = np.flatnonzero(mask.any(axis=axis))
        low, high = (int(filled[0]), int(filled[-1]) + 1) if filled.size else (0, 0)
        spans.append(slice(max(0, low - margin), high + margin))
    return spans[0], spans[1]


def _outline(mask: Mask) -> Mask:
    # Imported here, because every command imports this module.
    from scipy import ndimage

    inner: Mask = ndimage.binary_erosion(mask, border_value=1)
    return mask & ~inner


def _share_near(line: Mask, other: Mask, tolerance: float) -> float:
    """Return the share of a line's pixels with another line's pixel within a distance."""
    reach = int(tolerance)
    rows, columns = np.nonzero(line)
    around = np.pad(other, reach)
    near = np.zeros(rows.size, dtype=bool)
    # Lines have few pixels: it is faster to look around each than to compute the distance of every pixel.
    for down, right in np.ndindex(2 * reach + 1, 2 * reach + 1):
        if np.hypot(down - reach, right - reach) <= tolerance:
            near |= around[rows + down, columns + right]
    return float(np.mean(near))
