"""The files of an evaluation report: ``report.html``, ``objects.csv`` and ``summary.json``."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geosam_es.store import StoreReader

from .evaluate import Evaluation, Outcome
from .pictures import RasterWindows
from .report_page import render
from .summary import CLICK_GOALS, METRICS, SIZES, clicks_to, differences, group_rows, size_of, summary_rows

__all__ = ["REPORT_FILE", "REPORT_FILES", "ReportInput", "summary_json", "write_report"]

REPORT_FILE = "report.html"
CSV_FILE = "objects.csv"
JSON_FILE = "summary.json"
REPORT_FILES = (REPORT_FILE, CSV_FILE, JSON_FILE)


@dataclass(frozen=True)
class ReportInput:
    """Content of a report.

    Attributes
    ----------
    title : str
    facts : dict of str to str
        What was compared, in the order to show it.
    evaluation : Evaluation
    readers : sequence of StoreReader
    rasters : sequence of Path or None
        The raster of each store, for the pictures.
    notes : sequence of str
        Limits of the measured figures.
    """

    title: str
    facts: dict[str, str]
    evaluation: Evaluation
    readers: Sequence[StoreReader]
    rasters: Sequence[Path | None]
    notes: Sequence[str] = ()


def write_report(folder: Path, report: ReportInput) -> dict[str, Any]:
    """Write the files of a report.

    Parameters
    ----------
    folder : Path
        Exists.
    report : ReportInput

    Returns
    -------
    dict
        The content of ``summary.json``.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    summary = summary_json(report)
    _write_csv(folder / CSV_FILE, report)
    (folder / JSON_FILE).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    windows = RasterWindows(report.readers, report.rasters)
    page = render(report.title, report.facts, report.notes, report.evaluation, windows)
    (folder / REPORT_FILE).write_text(page, encoding="utf-8")
    return summary


def summary_json(report: ReportInput) -> dict[str, Any]:
    """Return the figures of a report as plain values; means are [mean, low, high], with the 95 % interval."""
    outcomes = report.evaluation.outcomes
    return {
        "facts": report.facts,
        "notes": list(report.notes),
        "objects": len({(outcome.store, outcome.truth.object_id) for outcome in outcomes}),
        "left_out": report.evaluation.left_out,
        "all": [row.to_json() for row in summary_rows(outcomes)],
        "differences": [row.to_json() for row in differences(outcomes)],
        "by_class": [row.to_json() for row in group_rows(outcomes, lambda o: o.truth.class_name)],
        "by_size": [row.to_json() for row in group_rows(outcomes, size_of, SIZES)],
    }


def _write_csv(path: Path, report: ReportInput) -> None:
    most = max(len(outcome.ious) for outcome in report.evaluation.outcomes)
    goals = [f"clicks_to_{100 * goal:.0f}" for goal in CLICK_GOALS]
    head = ["store", "object", "class", "size", "area_pixels", "level", "decoder", "prompts", *METRICS]
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([*head, "predicted_iou", *goals, *(f"iou_{number + 1}" for number in range(most))])
        for outcome in report.evaluation.outcomes:
            writer.writerow(_csv_row(outcome, report.readers[outcome.store], most))


def _csv_row(outcome: Outcome, reader: StoreReader, most: int) -> list[object]:
    needed = [clicks_to(outcome, goal) if len(outcome.ious) > 1 else None for goal in CLICK_GOALS]
    return [
        reader.root.name,
        outcome.truth.object_id,
        outcome.truth.class_name,
        size_of(outcome),
        round(float(outcome.truth.geometry.area), 1),
        outcome.level,
        outcome.decoder,
        outcome.prompts,
        *(round(value, 4) for value in outcome.scores),
        round(outcome.predicted_iou, 4),
        *("" if count is None else count for count in needed),
        *(round(iou, 4) for iou in outcome.ious),
        *[""] * (most - len(outcome.ious)),
    ]
