"""Figures of an evaluation: means with bootstrap intervals, as a table, and in the model card."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geosam_es.errors import ModelError

RESAMPLES = 1000
METRICS = ("box itself", "click", "click oracle", "3 clicks", "5 clicks", "box", "box + 1", "box + 3")
CARD_BEGIN, CARD_END = "<!-- figures: begin -->", "<!-- figures: end -->"


def bootstrap(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the mean and its 95 % interval over resampled objects."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def summarise(rows: list[dict[str, float]]) -> dict[str, object]:
    """Return count, mean IoU with interval for each metric, and the error of the scores."""
    result: dict[str, object] = {"objects": len(rows)}
    for metric in METRICS:
        values = bootstrap(np.array([row[metric] for row in rows]))
        result[metric] = [round(value, 3) for value in values]
    for kind in ("click", "box"):
        error = np.mean([abs(row[kind] - row[f"{kind} score"]) for row in rows])
        result[f"{kind} score error"] = round(float(error), 3)
    return result


def table(results: dict[str, dict[str, object]]) -> str:
    """Return the results as a Markdown table."""
    lines = ["| mean IoU (95 % interval) | " + " | ".join(results) + " |", "|---" * (len(results) + 1) + "|"]
    lines.append("| objects | " + " | ".join(str(found["objects"]) for found in results.values()) + " |")
    for metric in METRICS:
        cells = []
        for found in results.values():
            values = found[metric]
            if isinstance(values, list):
                cells.append("{:.3f} ({:.3f} to {:.3f})".format(*values))
        lines.append(f"| {metric} | " + " | ".join(cells) + " |")
    for kind in ("click", "box"):
        name = f"{kind} score error"
        cells = [f"{found[name]:.3f}" for found in results.values()]
        lines.append(f"| mean absolute error of the score, {kind} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def machine() -> str:
    """Name the processor and its number of cores."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line for line in info.read_text(encoding="utf-8").splitlines() if line.startswith("model name")]
        name = names[0].split(":", 1)[1].strip() if names else name
    return f"{os.cpu_count()} x {name}"


def update_card(card: Path, results: dict[str, dict[str, object]], speed: dict[str, float], limit: int | None) -> None:
    """Replace the figures of a model card, between its two markers.

    Raises
    ------
    ModelError
        Where the card lacks the markers.
    """
    text = card.read_text(encoding="utf-8")
    before, begin, rest = text.partition(CARD_BEGIN)
    _, end, after = rest.partition(CARD_END)
    if not begin or not end:
        raise ModelError(f"'{card}' has no place for figures", f"add '{CARD_BEGIN}' and '{CARD_END}'")
    times = ", ".join(f"{name} {value:.1f}" for name, value in speed.items())
    note = "" if limit is None else f"A quick look at about {limit} objects of each set (--limit {limit}).\n\n"
    body = f"{note}{table(results)}\n\nMedian milliseconds on {machine()}, two threads: {times}."
    card.write_text(f"{before}{begin}\n{body}\n{end}{after}", encoding="utf-8")
