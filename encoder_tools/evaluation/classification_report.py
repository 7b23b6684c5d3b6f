"""The files of a classification report: ``report.html`` and ``summary.json``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .classification import Classified
from .metrics import CONFIDENCE, Interval
from .report_page import html_page, left_out_list

__all__ = ["REPORT_FILES", "f1_scores", "write_report"]

REPORT_FILE = "report.html"
REPORT_FILES = (REPORT_FILE, "summary.json")
_DRAWS = 1000
_MOST_SHOWN = 200


def f1_scores(truth: NDArray[Any], predicted: NDArray[Any], seed: int = 0) -> dict[str, Interval]:
    """Return the F1 of each class with its 95 % bootstrap interval over polygons, and their mean by the name "".

    Parameters
    ----------
    truth, predicted : str (N,)
        At least one polygon.

    Examples
    --------
    >>> scores = f1_scores(np.array(["a", "a", "b", "b"]), np.array(["a", "b", "b", "b"]))
    >>> {name: round(score.mean, 3) for name, score in scores.items()}
    {'': 0.733, 'a': 0.667, 'b': 0.8}
    """
    names = np.unique(truth)
    known = np.append(names, predicted)
    places = {name: index for index, name in enumerate(dict.fromkeys(known.tolist()))}
    pairs = np.array([places[name] for name in truth]) * len(places) + [places[name] for name in predicted]

    def scores(drawn: NDArray[np.intp]) -> NDArray[np.float64]:
        table = np.bincount(drawn, minlength=len(places) ** 2).reshape(len(places), -1)
        f1 = 2 * np.diag(table) / np.maximum(table.sum(axis=0) + table.sum(axis=1), 1)
        return np.append(f1[: len(names)].mean(), f1[: len(names)])

    rng = np.random.default_rng(seed)
    drawn = np.array([scores(pairs[rng.integers(len(pairs), size=len(pairs))]) for _ in range(_DRAWS)])
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(drawn, [tail, 100 - tail], axis=0)
    columns = zip(["", *names.tolist()], scores(pairs), low, high)
    return {name: Interval(float(mean), float(least), float(most)) for name, mean, least, most in columns}


def write_report(
    folder: Path,
    facts: Mapping[str, str],
    notes: Sequence[str],
    classes: Sequence[str],
    checked: Classified | None,
    rows: Sequence[tuple[str, str, float, str]],
    left_out: Mapping[str, str],
) -> dict[str, Any]:
    """Write the files of a report.

    Parameters
    ----------
    folder : Path
    facts, notes
        See `html_page`.
    classes : sequence of str
        Classes of the training polygons.
    checked : Classified, optional
        What they got when they were not learned from.
    rows : sequence of (str, str, float, str)
        Number, class, probability and second class of the polygons that were classified.
    left_out : mapping of str to str
        Polygons without a class, and why.

    Returns
    -------
    dict
        The content of ``summary.json``; F1 is [value, low, high], with the 95 % interval.
    """
    summary: dict[str, Any] = {"facts": dict(facts), "notes": list(notes), "left_out": dict(left_out)}
    parts = [left_out_list(left_out)]
    answered = np.empty((0, 1)) if checked is None else checked.probabilities
    measured = np.flatnonzero(np.isfinite(answered).all(axis=1))
    if checked is not None and len(measured):
        truth, given = np.array(classes)[measured], checked.ranked[measured, 0]
        scores = f1_scores(truth, given)
        table = [[int(np.sum((truth == row) & (given == column))) for column in checked.names] for row in checked.names]
        summary["macro_f1"] = list(scores.pop(""))
        summary["f1"] = {name: list(score) for name, score in scores.items()}
        summary["confusion"] = {"classes": list(checked.names), "table": table}
        shown = [("mean of all", *summary["macro_f1"]), *((name, *score) for name, score in summary["f1"].items())]
        parts += [
            "<h2>Cross-validation by space</h2><p>Each training polygon got a class from polygons in other parts of the"
            f" raster: {np.trace(table)} of {len(measured)} got their own.</p>",
            _table(
                ["Class", "F1", "95 % bootstrap interval"],
                [(n, f"{f:.3f}", f"{a:.3f} to {b:.3f}") for n, f, a, b in shown],
            ),
            "<p>Rows are the classes of the polygons, columns those that they got:</p>",
            _table(["Class", *checked.names], [(name, *row) for name, row in zip(checked.names, table)]),
        ]
    doubtful = sorted(rows, key=lambda row: row[2])[:_MOST_SHOWN]
    parts.append("<h2>Classified polygons, doubtful ones first</h2>")
    parts.append(_table(["Polygon", "Class", "Probability", "Second class"], doubtful))
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    (folder / REPORT_FILE).write_text(html_page("Classes of polygons", facts, notes, parts), encoding="utf-8")
    return summary


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [f'<th class="text">{escape(head)}</th>' for head in heads]
    body = ("".join(f'<td class="text">{escape(str(value))}</td>' for value in row) for row in rows)
    return f"<table><tr>{''.join(lines)}</tr><tr>{'</tr><tr>'.join(body)}</tr></table>"
