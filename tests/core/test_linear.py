"""Against scikit-learn, and against really leaving rows out."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from geosam_es.core.linear import LinearClassifier

RANDOM = np.random.default_rng(3)
CENTRES = RANDOM.normal(size=(3, 6))
OWN = np.repeat([0, 1, 2], [30, 12, 5])
ROWS = CENTRES[OWN] + RANDOM.normal(size=(len(OWN), 6))
LABELS = np.array(["road", "roof", "tree"])[OWN].tolist()


def learnt(rows: np.ndarray, labels: list[str], ridge: float = 2.0) -> LinearClassifier:
    classifier = LinearClassifier(ridge)
    classifier.add(rows, labels)
    return classifier


@pytest.mark.parametrize("ridge", [0.01, 2.0, 300.0])
def test_scores_are_those_of_scikit_learn(ridge: float) -> None:
    theirs = RidgeClassifier(alpha=ridge, class_weight="balanced").fit(ROWS, LABELS).decision_function(ROWS)
    assert learnt(ROWS, LABELS, ridge).scores(ROWS) == pytest.approx((theirs + 1) / 2, abs=1e-9)


def test_two_classes_are_those_of_scikit_learn() -> None:
    labels = np.where(OWN == 0, "road", "other").tolist()
    theirs = RidgeClassifier(alpha=2.0, class_weight="balanced").fit(ROWS, labels).decision_function(ROWS)
    ours = learnt(ROWS, labels)
    assert ours.classes == ("road", "other")
    assert ours.scores(ROWS)[:, 0] == pytest.approx((theirs + 1) / 2, abs=1e-9)


def test_rows_may_come_one_by_one() -> None:
    classifier = LinearClassifier(2.0)
    for row, label in zip(ROWS, LABELS):
        classifier.add(row[None], [label])
        classifier.scores(ROWS)
    assert classifier.scores(ROWS) == pytest.approx(learnt(ROWS, LABELS).scores(ROWS), abs=1e-9)


def test_memory_without_rows_does_not_grow() -> None:
    classifier = LinearClassifier(2.0, keeps_rows=False)
    tracemalloc.start()
    for start in range(0, 40000, 2000):
        rows = np.random.default_rng(start).normal(size=(2000, 6))
        classifier.add(rows, [LABELS[0], LABELS[-1]] * 1000)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert classifier.counts == {"road": 20000, "tree": 20000} and held < 500_000


def test_left_out_rows_are_as_if_they_were_never_added() -> None:
    scores, own = learnt(ROWS, LABELS).left_out()
    assert own.tolist() == OWN.tolist()
    counts = np.bincount(OWN)
    shares = len(OWN) / (3 * counts)
    for index in (0, 20, 35, 46):
        rest = np.delete(np.arange(len(OWN)), index)
        # The weight of a class stays as it was with the row.
        root = np.sqrt(shares[OWN[rest]])[:, None]
        design = np.column_stack((ROWS, np.ones(len(ROWS))))
        penalty = np.diag(np.sqrt([2.0] * 6 + [0.0]))
        system = np.vstack((root * design[rest], penalty))
        targets = np.vstack((root * np.eye(3)[OWN[rest]], np.zeros((7, 3))))
        weights = np.linalg.lstsq(system, targets, rcond=None)[0]
        assert scores[index] == pytest.approx(design[index] @ weights, abs=1e-9)


def test_probabilities_agree_with_how_often_a_class_is_right() -> None:
    random = np.random.default_rng(5)
    own = random.integers(0, 2, 2000)
    rows = random.normal(size=(2000, 3)) + own[:, None] * [1.0, 0.5, 0.0]
    classifier = learnt(rows[:500], own[:500].tolist())
    found = classifier.probabilities(rows[500:])
    assert found.sum(axis=1) == pytest.approx(np.ones(1500))
    ones = found[:, classifier.classes.index(1)]
    for low in (0.1, 0.3, 0.5, 0.7):
        group = (ones >= low) & (ones < low + 0.2)
        assert own[500:][group].mean() == pytest.approx(ones[group].mean(), abs=0.08)


def test_few_rows_never_give_certainty() -> None:
    classifier = learnt(np.array([[0.0], [0.1], [5.0], [5.1]]), ["a", "a", "b", "b"], 0.01)
    assert 0.6 < classifier.probabilities(np.array([[0.0]]))[0, 0] < 0.99


def test_a_single_class_is_certain() -> None:
    assert learnt(ROWS[:4], ["road"] * 4).probabilities(ROWS).tolist() == [[1.0]] * len(ROWS)


FORKING = """
import os, threading, time
import numpy as np
from geosam_es.core.linear import LinearClassifier

def learn():
    rows = np.random.default_rng(0).normal(size=(40, 700))
    for _ in range(8):
        classifier = LinearClassifier(2.0)
        classifier.add(rows, ["road", "roof"] * 20)
        classifier.scores(rows)

LinearClassifier()
learning = threading.Thread(target=learn)
learning.start()
while learning.is_alive():
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    time.sleep(0.02)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_learning_goes_on_while_other_processes_are_started() -> None:
    threads = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS"}
    environment = {name: value for name, value in os.environ.items() if name not in threads}
    subprocess.run([sys.executable, "-c", FORKING], env=environment, check=True, timeout=60)
