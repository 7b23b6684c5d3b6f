"""The results as JSON and Markdown, and as tables in documents."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geosam_es.errors import OutputError
from geosam_es.store.files import write_text

from ..markdown import markdown_table
from .model import MET, NOT_MET, Item, Row, Table, Timing, item_from_json

__all__ = ["COMMAND", "Results", "fill_document", "read_results", "summary", "time_text", "write_results"]

JSON_FILE = "results.json"
MARKDOWN_FILE = "results.md"
PICTURE_FILE = "results.png"
COMMAND = "make bench"
_SECTION = re.compile(r"(<!-- bench: (?P<name>[a-z_0-9]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_SECONDS_FROM_MS = 1_000.0


@dataclass(frozen=True)
class Results:
    """The results of a run.

    Attributes
    ----------
    machine : mapping
        See `measure.machine`.
    date : str
        ISO 8601.
    items : tuple of Row or Table
    """

    machine: Mapping[str, Any]
    date: str
    items: tuple[Item, ...]

    @property
    def rows(self) -> list[Row]:
        """Rows with goals or values."""
        return [item for item in self.items if isinstance(item, Row)]

    @property
    def tables(self) -> list[Table]:
        """Tables."""
        return [item for item in self.items if isinstance(item, Table)]


def write_results(results: Results, folder: Path) -> None:
    """Write ``results.json`` and ``results.md``.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    document = {
        "machine": dict(results.machine),
        "date": results.date,
        "items": [item.to_json() for item in results.items],
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / JSON_FILE, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        write_text(folder / MARKDOWN_FILE, _markdown(results))
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror})", "choose another folder with -o") from error


def read_results(folder: Path) -> Results:
    """Read ``results.json``.

    Raises
    ------
    OutputError
        If it is missing or damaged.
    """
    path = folder / JSON_FILE
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return Results(value["machine"], value["date"], tuple(item_from_json(item) for item in value["items"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{path} is missing or damaged", f"make it again with: {COMMAND}") from error


def fill_document(path: Path, results: Results) -> None:
    """Rewrite the marked sections of a Markdown document from the results.

    A section is the text between ``<!-- bench: NAME -->`` and ``<!-- end -->``; the name is ``summary``, ``machine`` or
    the key of a table.

    Raises
    ------
    OutputError
        If the results have no section of a name.
    """
    texts = {"summary": summary(results.rows), "machine": _machine(results)}
    texts.update({table.key: _table(table) for table in results.tables})

    def section(match: re.Match[str]) -> str:
        if match["name"] not in texts:
            raise OutputError(f"{path} has a section {match['name']}, which the results lack", f"run {COMMAND}")
        return f"{match[1]}\n{texts[match['name']]}\n{match[3]}"

    write_text(path, _SECTION.sub(section, path.read_text(encoding="utf-8")))


def summary(rows: Iterable[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| what | compared with | ours | theirs | result | goal | |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (
            row.what,
            row.against or "-",
            _time(row.ours),
            _time(row.reference),
            "-" if row.value is None else f"**{_value(row.value, row)} {row.unit}**",
            _goal(row),
            _verdict(row),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _value(value: float, row: Row) -> str:
    """Format a row's value with enough digits to show whether the goal is met."""
    digits = 4 if row.unit == "IoU" else 3
    text = _number(value, digits)
    while row.goal is not None and row.goal.is_met(float(text)) != row.goal.is_met(value):
        digits += 1
        text = f"{value:.{digits}g}"
    return text


def _markdown(results: Results) -> str:
    rows = results.rows
    with_goal = [row for row in rows if row.status in (MET, NOT_MET)]
    met = sum(row.status == MET for row in with_goal)
    parts = [
        "# Speed, side by side\n",
        f"Written by `{COMMAND}`; do not edit. The alternatives took turns in one run, on the same threads and with the"
        " same weights. ViT-B has random weights, which take as long as trained ones. A ratio is the ratio of the"
        " medians; for whole pipelines, it is the median of the ratios of neighbouring runs. A row whose results"
        " differ does not count.\n",
        _machine(results),
        f"{met} of {len(with_goal)} goals met.\n",
        summary(rows),
        f"![The rows with a ratio, and their goals]({PICTURE_FILE})\n",
        "## Notes\n",
        *(f"- {row.what}: {_note(row)}" for row in rows if _note(row)),
        "",
    ]
    for table in results.tables:
        parts += [f"## {table.title}\n", _table(table)]
    return "\n".join(parts)


def _note(row: Row) -> str:
    found = row.agreement
    agreement = f"{found.measure} {found.value:.5f} (at least {found.least:.5g})" if found else ""
    return "; ".join(text for text in (agreement, row.note) if text)


def _machine(results: Results) -> str:
    machine = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}; "
        f"{machine['threads']} threads; Python {machine['python']}, {versions}; {results.date[:10]}.\n"
    )


def _table(table: Table) -> str:
    rows = [[_cell(cell, name) for cell, name in zip(row, table.columns)] for row in table.rows]
    return markdown_table(table.columns, rows) + "\n" + (f"\n{table.note}\n" if table.note else "")


def _cell(cell: Any, column: str) -> str:
    if isinstance(cell, float) and math.isnan(cell):
        return "-"
    if isinstance(cell, (int, float)) and (column == "share" or column.startswith("of the")):
        return f"{cell:.0%}"
    return _number(cell, 4 if "IoU" in column else 3) if isinstance(cell, (int, float)) else str(cell)


def _number(value: float, digits: int = 3) -> str:
    if abs(value) >= 10**digits:
        return f"{value:.0f}"
    # Values near 1 differ in their last digits.
    return f"{value:.{digits}f}" if digits > 3 and 0.9 <= abs(value) <= 1 else f"{value:.{digits}g}"


def time_text(timing: Timing, percentile: bool = False) -> str:
    """Return the median, or the 95th percentile, with its unit."""
    milliseconds = timing.p95_ms if percentile else timing.median_ms
    if timing.median_ms >= _SECONDS_FROM_MS:
        return f"{_number(milliseconds / 1e3)} s"
    return f"{_number(milliseconds)} ms"


def _time(timing: Timing | None) -> str:
    if timing is None:
        return "-"
    return f"{time_text(timing)} (95 %: {time_text(timing, percentile=True)})"


def _goal(row: Row) -> str:
    return "-" if row.goal is None else f"{'≥' if row.goal.is_least else '≤'} {row.goal.limit:g}"


def _verdict(row: Row) -> str:
    return row.note if row.value is None else row.status
