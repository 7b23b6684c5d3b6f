"""Regularised linear classification in closed form: exact, and fast enough to learn from every click."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Hashable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LinearClassifier"]

_MOST_LEFT_OUT = 500
"""Rows that calibration predicts; more would not change one number, and take time."""

_SHARPNESS = np.geomspace(0.5, 64.0, 29)
"""Factors of the scores that calibration tries."""


class LinearClassifier:
    """Least squares on one-hot classes with a ridge penalty; every class has the same total weight.

    Scores equal those of scikit-learn's ``RidgeClassifier(alpha=ridge, class_weight="balanced")``, with targets of 0
    and 1 instead of -1 and 1. The sums of products of each class are kept, so that a new row costs its own product and
    one solution of D equations, however many rows there are.

    Parameters
    ----------
    ridge : float
        Penalty on the squared weights, positive. The intercept is not penalised.
    keeps_rows : bool
        Needed for `left_out` and `probabilities`. Without, memory does not grow with the rows.

    Examples
    --------
    >>> classifier = LinearClassifier(ridge=0.1)
    >>> classifier.add(np.array([[0.0], [1.0], [4.0], [5.0]]), ["low", "low", "high", "high"])
    >>> classifier.classes
    ('low', 'high')
    >>> classifier.scores(np.array([[2.5]])).round(3).tolist()
    [[0.5, 0.5]]
    """

    def __init__(self, ridge: float = 1.0, keeps_rows: bool = True) -> None:
        _use_one_blas_thread()
        self.ridge, self._keeps_rows = ridge, keeps_rows
        self._rows: dict[Hashable, list[NDArray[np.float64]]] = {}
        self._products: dict[Hashable, NDArray[np.float64]] = {}
        self._inverse: NDArray[np.float64] | None = None
        self._weights: NDArray[np.float64] | None = None
        self._sharpness: float | None = None

    @property
    def classes(self) -> tuple[Hashable, ...]:
        """The classes in the order in which they were first added."""
        return tuple(self._products)

    @property
    def counts(self) -> dict[Hashable, int]:
        """Number of rows of each class."""
        # Every row ends with 1.
        return {name: int(product[-1, -1]) for name, product in self._products.items()}

    def add(self, vectors: NDArray[np.floating[Any]], labels: Sequence[Hashable]) -> None:
        """Learn from rows.

        Parameters
        ----------
        vectors : float (N, D)
            Finite; columns should have similar spread.
        labels : sequence of hashable
            The class of each row.
        """
        rows = np.column_stack((np.asarray(vectors, np.float64), np.ones(len(labels))))
        for name in dict.fromkeys(labels):
            own = rows[[label == name for label in labels]]
            if self._keeps_rows:
                self._rows.setdefault(name, []).append(own)
            self._products[name] = self._products.get(name, 0.0) + own.T @ own
        self._inverse = self._weights = self._sharpness = None

    @property
    def weights(self) -> NDArray[np.float64]:
        """Weights (D + 1, K), the intercepts in the last row. At least one row must have been added."""
        if self._weights is None:
            counts, products = self.counts, self._products
            share = {name: sum(counts.values()) / (len(counts) * count) for name, count in counts.items()}
            system: NDArray[np.float64] = np.zeros_like(next(iter(products.values())))
            # In place: stacking the products would take three times as long.
            for name, product in products.items():
                system += share[name] * product
            # The last row of a product holds the sums of the columns.
            targets = np.column_stack([share[name] * product[-1] for name, product in products.items()])
            penalty = np.full(len(system), self.ridge)
            penalty[-1] = 0.0
            self._inverse = np.asarray(np.linalg.inv(system + np.diag(penalty)), dtype=np.float64)
            self._weights = self._inverse @ targets
        return self._weights

    def scores(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return the scores (N, K) of vectors (N, D); those of a row add up to 1."""
        weights = self.weights
        scores: NDArray[np.float64] = np.asarray(vectors, np.float64) @ weights[:-1] + weights[-1]
        return scores

    def left_out(self, most: int | None = None) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Predict each row from all the others, in closed form.

        Parameters
        ----------
        most : int, optional
            Predict only about this many rows, evenly spread.

        Returns
        -------
        (float64 (M, K), int (M,))
            Scores, and the index of each row's own class. Rows are grouped by class.
        """
        counts, weights = self.counts, self.weights
        total = sum(counts.values())
        step = 1 if most is None else max(1, total // most)
        rows = np.concatenate([block for blocks in self._rows.values() for block in blocks])[::step]
        own = np.repeat(np.arange(len(counts)), list(counts.values()))[::step]
        share = total / (len(counts) * np.array(list(counts.values())))
        leverage = share[own] * np.einsum("ij,ij->i", rows @ self._inverse, rows)
        residuals = np.eye(len(counts))[own] - rows @ weights
        # A row that alone decides its own prediction says nothing without itself.
        scores = np.eye(len(counts))[own] - residuals / np.maximum(1.0 - leverage, 1e-9)[:, None]
        return scores, own

    def probabilities(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return calibrated probabilities (N, K) of vectors (N, D).

        They are the softmax of the scores times one factor. It is the factor with the least log loss on rows left out
        in turn, with Platt's smoothed targets, so that few rows never give a probability of 1.
        """
        if self._sharpness is None:
            scores, own = self.left_out(_MOST_LEFT_OUT)
            classes = scores.shape[1]
            sure = (len(own) / classes + 1) / (len(own) / classes + 2)
            rest = (1 - sure) / max(classes - 1, 1)
            targets = np.where(np.eye(classes, dtype=bool)[own], sure, rest)
            losses = [-(targets * _log_softmax(factor * scores)).sum() for factor in _SHARPNESS]
            self._sharpness = float(_SHARPNESS[int(np.argmin(losses))])
        return np.asarray(np.exp(_log_softmax(self._sharpness * self.scores(vectors))))


@cache
def _use_one_blas_thread() -> None:
    """Let OpenBLAS compute without threads of its own, where NumPy uses it.

    OpenBLAS stops its threads when a process is started by a fork. A computation in another thread then waits for them
    for ever, and the program may wait too (seen with OpenBLAS 0.3.21 and with that of NumPy 2's wheels).
    """
    with suppress(OSError, KeyError):
        # The search includes the libraries that this one is linked to. Windows has no fork.
        library = ctypes.CDLL(sys.modules["numpy.linalg._umath_linalg"].__file__)
        for prefix, suffix in (("", ""), ("scipy_", "64_"), ("scipy_", ""), ("", "64_")):
            with suppress(AttributeError):
                getattr(library, f"{prefix}openblas_set_num_threads{suffix}")(1)


def _log_softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = values - values.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
