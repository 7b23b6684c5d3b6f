"""The results as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from encoder_tools.evaluation.figures import new_figure, png

from .model import Row, Table
from .report import PICTURE_FILE, Results, time_text

__all__ = ["draw_results"]

_OURS, _THEIRS, _GOAL = "#1b7f79", "#b8b8b8", "#c0392b"
_WIDTH = 9.0
_ROW_HEIGHT = 0.42
_DPI = 90
_RIGHT_END = 1.35
"""End of the axis, beyond the reference's bar, for the longest text."""


def draw_results(results: Results, folder: Path) -> Path:
    """Plot the time of every row with a reference as a share of the reference's, with the goal; and the encoders.

    Returns
    -------
    Path
        ``results.png``.
    """
    rows = [row for row in results.rows if row.ours is not None and row.reference is not None]
    tables = {table.key: table for table in results.tables}
    encoders = tables.get("encoders")
    heights = [max(2, len(rows)), len(encoders.rows) + 1 if encoders else 0]
    figure = new_figure(_WIDTH, _ROW_HEIGHT * sum(heights) + 1.6)
    figure.set_dpi(_DPI)
    if encoders is None:
        _draw_shares(figure.subplots(), rows)
    else:
        upper, lower = figure.subplots(2, 1, height_ratios=heights)
        _draw_shares(upper, rows)
        _draw_encoders(lower, encoders)
    path = folder / PICTURE_FILE
    path.write_bytes(png(figure))
    return path


def _draw_shares(axes: Any, rows: Sequence[Row]) -> None:
    for index, row in enumerate(rows):
        if row.ours is None or row.reference is None:
            continue
        share = row.ours.median_ms / row.reference.median_ms
        axes.barh(index, 1.0, color=_THEIRS, height=0.7)
        axes.barh(index, share, color=_OURS, height=0.45)
        axes.text(share + 0.01, index, f"{time_text(row.ours)} of {time_text(row.reference)}", va="center")
        if row.goal is not None:
            limit = 1 / row.goal.limit if row.goal.is_least else row.goal.limit
            axes.plot([limit, limit], [index - 0.42, index + 0.42], color=_GOAL, linewidth=2)
    axes.set_yticks(range(len(rows)), [row.key.replace("_", " ") for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, _RIGHT_END)
    axes.set_xlabel("time as a share of the reference (grey); red: goal")
    axes.set_title("GeoSAM-ES compared with the reference of each row", loc="left")


def _draw_encoders(axes: Any, table: Table) -> None:
    for index, (_, seconds, *_) in enumerate(table.rows):
        is_ours = str(table.rows[index][0]).startswith("GeoSAM-ES")
        axes.barh(index, seconds, color=_OURS if is_ours else _THEIRS, height=0.7)
    axes.set_yticks(range(len(table.rows)), [str(row[0]) for row in table.rows])
    axes.invert_yaxis()
    axes.set_xlabel("seconds per tile")
    axes.set_title(table.title, loc="left")
