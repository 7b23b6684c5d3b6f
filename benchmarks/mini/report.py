"""Results of an evaluation: means with bootstrap intervals, and the tables of the model card and the page."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from encoder_tools.evaluation.metrics import Interval, bootstrap_mean, paired_difference
from geosam_es.errors import OutputError

from ..markdown import markdown_table, replace_sections
from ..speed.measure import processor_name
from .baselines import BASELINES
from .calibration import reliability, score_errors
from .measuring import ROUNDS, Measured

__all__ = ["METRICS", "Summary", "machine", "sections", "summarise", "table", "update_card", "write_json"]

Summary = dict[str, Any]
"""What `summarise` returns; it is written as JSON."""

IOU_METRICS = (
    "box itself",
    *BASELINES,
    "click",
    "click oracle",
    "jittered click",
    "random click",
    "3 clicks",
    "5 clicks",
    "box",
    "loose box",
    "box + 1",
    "box + 3",
)
SHAPE_METRICS = tuple(
    f"{name} {kind}" for kind in ("Dice", "boundary F") for name in ("click", "5 clicks", "box", "box + 3")
)
CLICK_METRICS = ("clicks to 85 %", "85 % reached")
METRICS = (*IOU_METRICS, *SHAPE_METRICS, *CLICK_METRICS)

MARGINS = (
    ("box", "box itself"),
    ("box", "GrabCut"),
    ("click", "flood fill"),
    ("click", "Felzenszwalb"),
    ("click", "SLIC"),
)
"""Answers of the model, and the baseline each is compared with for the same prompts."""

CHOICES = ("score", "largest", "middle", "smallest")


def summarise(objects: Sequence[Measured]) -> Summary:
    """Return all results for one data set.

    Returns
    -------
    dict
        ``objects``; for each of `METRICS` that was measured the mean and its 95 % interval; ``margins`` the same for
        each of `MARGINS`; ``rounds`` the mean IoU after 0 to 5 corrective clicks; ``ranking`` mean IoU and share of
        best picks for each of `CHOICES`; score errors and reliability.
    """
    result: Summary = {"objects": len(objects)}
    for metric in METRICS:
        if all(metric in measured.values for measured in objects):
            result[metric] = _rounded(bootstrap_mean([measured.values[metric] for measured in objects]))
    result["margins"] = {
        f"{ours} - {theirs}": _rounded(
            paired_difference(
                [measured.values[theirs] for measured in objects], [measured.values[ours] for measured in objects]
            )
        )
        for ours, theirs in MARGINS
        if theirs in result
    }
    result["rounds"] = {
        begin: [round(float(np.mean([m.ious[begin][turn] for m in objects])), 4) for turn in range(ROUNDS + 1)]
        for begin in ("click", "box")
    }
    result["ranking"] = _ranking(objects)
    result |= score_errors(objects)
    result["reliability"] = reliability(objects)
    return result


def _rounded(interval: Interval) -> list[float]:
    return [round(value, 3) for value in interval]


def _ranking(objects: Sequence[Measured]) -> dict[str, list[float]]:
    """Return mean IoU and share of best choices of each way to choose among the candidates of a click."""
    picks: dict[str, list[tuple[float, bool]]] = {choice: [] for choice in CHOICES}
    for measured in objects:
        ious = [iou for _, _, iou in measured.candidates]
        by_area = sorted(range(len(ious)), key=lambda index: -measured.candidates[index][1])
        # The candidates are in the order of their scores, as the product shows them.
        chosen = {"score": 0, "largest": by_area[0], "middle": by_area[len(by_area) // 2], "smallest": by_area[-1]}
        for choice, index in chosen.items():
            picks[choice].append((ious[index], ious[index] >= max(ious)))
    return {choice: [round(float(value), 3) for value in np.mean(found, axis=0)] for choice, found in picks.items()}


def table(results: dict[str, Summary]) -> str:
    """Return means and intervals as a Markdown table, a column for each data set."""
    rows = [["objects", *(str(found["objects"]) for found in results.values())]]
    known = [metric for metric in METRICS if any(metric in found for found in results.values())]
    rows += [[metric, *(_interval(found.get(metric)) for found in results.values())] for metric in known]
    for begin in ("click", "box", "all"):
        name = f"{begin} score error"
        rows.append([name, *(f"{found[name]:.3f}" for found in results.values())])
    return markdown_table(["mean (95 % interval)", *results], rows)


def _interval(values: Sequence[float] | None) -> str:
    return "" if values is None else "{:.3f} ({:.3f} to {:.3f})".format(*values)


def rounds_table(results: dict[str, Summary]) -> str:
    """Return the mean IoU after 0 to 5 corrective clicks as a Markdown table."""
    rows = []
    for dataset, found in results.items():
        for begin, means in found["rounds"].items():
            falls = [f"{turn}" for turn in range(1, len(means)) if means[turn] < means[turn - 1]]
            rows.append([dataset, begin, *(f"{mean:.3f}" for mean in means), ", ".join(falls) or "never"])
    header = ["data set", "first prompt", *(f"+ {turn}" for turn in range(ROUNDS + 1)), "falls at click"]
    return markdown_table(header, rows)


def ranking_table(results: dict[str, Summary]) -> str:
    """Return the results of each way to choose a candidate as a Markdown table."""
    rows = [
        [dataset, *("{:.3f} ({:.0%})".format(*found["ranking"][choice]) for choice in CHOICES)]
        for dataset, found in results.items()
    ]
    return markdown_table(["mean IoU (best of the three)", "score", *(f"{c} area" for c in CHOICES[1:])], rows)


def margins_table(results: dict[str, Summary]) -> str:
    """Return the differences between the model and each baseline on the same objects as a Markdown table."""
    names = dict.fromkeys(name for found in results.values() for name in found["margins"])
    rows = [[name, *(_interval(found["margins"].get(name)) for found in results.values())] for name in names]
    return markdown_table(["difference (95 % interval)", *results], rows)


def calibration_table(results: dict[str, Summary]) -> str:
    """Return the errors, bias and correlation of the score as a Markdown table."""
    names = ("click score error", "box score error", "all score error", "score bias", "score correlation")
    rows = [[dataset, *(f"{found[name]:.3f}" for name in names)] for dataset, found in results.items()]
    return markdown_table(["data set", "first click", "box", "every answer", "predicted - true", "correlation"], rows)


def sections(results: dict[str, Summary]) -> dict[str, str]:
    """Return the tables of the page by the names of its sections."""
    return {
        "rounds": rounds_table(results),
        "baselines": margins_table(results),
        "calibration": calibration_table(results),
        "ranking": ranking_table(results),
    }


def machine() -> str:
    """Name the processor and its number of cores."""
    return f"{os.cpu_count()} x {processor_name()}"


def write_json(path: Path, figures: Any) -> None:
    """Write figures as a JSON file.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    try:
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write '{path}' ({error.strerror})", "choose another file") from error


def update_card(
    card: Path, results: dict[str, Summary], speed: dict[str, float], targets: str, limit: int | None
) -> None:
    """Replace the results and the targets of a model card.

    Raises
    ------
    ModelError
        If the card lacks the markers.
    """
    times = ", ".join(f"{name} {value:.1f}" for name, value in speed.items())
    note = "" if limit is None else f"About {limit} objects of each set only (--limit {limit}).\n\n"
    body = f"{note}{table(results)}\n\nMedian times in milliseconds on {machine()}, two threads: {times}."
    replace_sections(card, {"figures": body, "targets": targets})
