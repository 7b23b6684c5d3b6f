"""Calibration of the score: predicted against true IoU of all masks that users see."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder_tools.evaluation.figures import new_figure, png
from geosam_es.errors import OutputError

from .measuring import ROUNDS, Measured

__all__ = ["draw_reliability", "reliability", "score_errors"]

BINS = 10
BEGINNINGS = ("click", "box")


def _shown(objects: Sequence[Measured]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return predicted and true IoU (N,) of the first masks and of those after 1 to 5 corrective clicks."""
    pairs = [
        pair
        for measured in objects
        for begin in BEGINNINGS
        for pair in list(zip(measured.scores[begin], measured.ious[begin]))[: ROUNDS + 1]
    ]
    predicted, true = np.asarray(pairs, dtype=np.float64).T
    return predicted, true


def score_errors(objects: Sequence[Measured]) -> dict[str, float]:
    """Return the score's mean absolute error for first clicks, boxes and all answers, its bias and correlation."""
    errors = {
        f"{begin} score error": float(np.mean([abs(m.scores[begin][0] - m.ious[begin][0]) for m in objects]))
        for begin in BEGINNINGS
    }
    predicted, true = _shown(objects)
    varied = predicted.std() > 0 and true.std() > 0
    errors["all score error"] = float(np.abs(predicted - true).mean())
    errors["score bias"] = float((predicted - true).mean())
    errors["score correlation"] = float(np.corrcoef(predicted, true)[0, 1]) if varied else 0.0
    return {name: round(value, 3) for name, value in errors.items()}


def reliability(objects: Sequence[Measured]) -> list[list[float]]:
    """Return count, mean predicted and mean true IoU of each interval of 0.1 of the scores that occurs."""
    predicted, true = _shown(objects)
    places = np.minimum((predicted * BINS).astype(int), BINS - 1)
    found = []
    for place in np.unique(places):
        inside = places == place
        means = float(predicted[inside].mean()), float(true[inside].mean())
        found.append([int(inside.sum()), round(means[0], 3), round(means[1], 3)])
    return found


def draw_reliability(results: dict[str, dict[str, Any]], picture: Path) -> None:
    """Draw mean true over mean predicted IoU for each data set; larger dots stand for more answers.

    Raises
    ------
    ModelError
        If matplotlib is not installed.
    OutputError
        If the picture cannot be written.
    """
    figure = new_figure(5.0, 4.4)
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--")
    for dataset, found in results.items():
        counts, predicted, true = np.asarray(found["reliability"], dtype=np.float64).T
        (line,) = axis.plot(predicted, true, linewidth=1, label=dataset)
        axis.scatter(predicted, true, s=8 + 250 * counts / counts.sum(), color=line.get_color(), alpha=0.7)
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    axis.set_xlabel("predicted IoU")
    axis.set_ylabel("true IoU")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    try:
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(png(figure))
    except OSError as error:
        raise OutputError(f"cannot write '{picture}' ({error.strerror})", "choose another folder") from error
