"""The report of an evaluation: ``report.html``, which needs no other file, ``objects.csv`` and ``summary.json``."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geosam_es.errors import OutputError
from geosam_es.store import StoreReader

from .evaluate import Evaluation, Outcome
from .pictures import RasterWindows
from .report_page import render
from .summary import CLICK_GOALS, METRICS, SIZES, clicks_to, differences, group_rows, size_of, summary_rows

__all__ = ["REPORT_FILE", "ReportInput", "check_report_folder", "summary_json", "write_report"]

REPORT_FILE = "report.html"
CSV_FILE = "objects.csv"
JSON_FILE = "summary.json"


@dataclass(frozen=True)
class ReportInput:
    """What a report is made of.

    Attributes
    ----------
    title : str
    facts : dict of str to str
        What was compared with what, in the order in which it is shown.
    evaluation : Evaluation
    readers : sequence of StoreReader
    rasters : sequence of Path or None
        The raster of each store, for the pictures.
    notes : sequence of str
        What a reader must know to take the figures for no more than they are.
    """

    title: str
    facts: dict[str, str]
    evaluation: Evaluation
    readers: Sequence[StoreReader]
    rasters: Sequence[Path | None]
    notes: Sequence[str] = ()


def check_report_folder(folder: Path, overwrite: bool) -> None:
    """See, before any work is done, that a report can be written.

    Raises
    ------
    OutputError
        If there is something there that may not be replaced, or the folder cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file", "choose a folder with -o")
    if not folder.resolve().parent.is_dir():
        raise OutputError(f"The folder of {folder} is not there", "make it, or choose another with -o")
    if (folder / REPORT_FILE).exists() and not overwrite:
        raise OutputError(f"{folder} has a report already", "choose another with -o, or replace it with --overwrite")


def write_report(folder: Path, report: ReportInput) -> dict[str, Any]:
    """Write a report; an earlier one in the folder is replaced when the new one is whole.

    Parameters
    ----------
    folder : Path
        Made where missing.
    report : ReportInput

    Returns
    -------
    dict
        What ``summary.json`` holds.

    Raises
    ------
    OutputError
        If it cannot be written; nothing half written is left.
    """
    summary = summary_json(report)
    is_new = not folder.exists()
    staging: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".report-", dir=folder))
        _write_csv(staging / CSV_FILE, report)
        (staging / JSON_FILE).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        windows = RasterWindows(report.readers, report.rasters)
        page = render(report.title, report.facts, report.notes, report.evaluation, windows)
        (staging / REPORT_FILE).write_text(page, encoding="utf-8")
        for name in (CSV_FILE, JSON_FILE, REPORT_FILE):
            (staging / name).replace(folder / name)
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written ({error.strerror or error})", "check the space left and the permissions"
        ) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        if is_new and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return summary


def summary_json(report: ReportInput) -> dict[str, Any]:
    """Return the figures of a report as plain values; every mean is [mean, low, high] at 95 %."""
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
