"""The targets of `mini`, and whether the results of an evaluation meet them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..markdown import markdown_table

__all__ = ["short_name", "targets_table"]

BUILDINGS, FIELDS = "buildings/val_kampala", "fields/val"
MAX_SCORE_ERRORS = {"click": 0.10, "box": 0.08, "all": 0.08}
MIN_MARGIN = 0.05
SPEED_MS = {"encoder": 300.0, "decoder": 15.0}
MAX_MEGABYTES = 12.0

Results = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class _Row:
    """One target.

    Attributes
    ----------
    name, wanted : str
    values : dict of str to str
        Text by data set.
    met : dict of str to bool
        By data set, for those with a target.
    """

    name: str
    wanted: str
    values: dict[str, str]
    met: dict[str, bool]


MEANS: tuple[tuple[str, str, dict[str, float]], ...] = (
    ("click in the middle, first candidate", "click", {BUILDINGS: 0.62, FIELDS: 0.65}),
    ("click in the middle, best candidate", "click oracle", {BUILDINGS: 0.72, FIELDS: 0.72}),
    ("box", "box", {BUILDINGS: 0.84, FIELDS: 0.80}),
    ("box and 3 corrective clicks", "box + 3", {BUILDINGS: 0.90, FIELDS: 0.88}),
    ("5 clicks", "5 clicks", {BUILDINGS: 0.87, FIELDS: 0.86}),
)


def targets_table(results: Results, speed_ms: Mapping[str, float], megabytes: float) -> str:
    """Return the targets as a Markdown table, with each data set's value and whether it meets the target."""
    rows = [_mean(results, *entry) for entry in MEANS]
    rows += [_never_lower(results, begin) for begin in ("click", "box")]
    rows += _baselines(results)
    rows += [_score_error(results, kind) for kind in ("click", "box", "all")]
    rows.append(_ranks_better(results))
    cells = []
    for row in rows:
        missed = [short_name(dataset) for dataset, is_met in row.met.items() if not is_met]
        met = f"no: {', '.join(missed)}" if missed else "yes"
        cells.append([row.name, row.wanted, *(row.values.get(dataset, "") for dataset in results), met])
    text = markdown_table(["target", "required", *results, "met"], cells)
    limits = [(f"{name}, ms", speed_ms[name], limit) for name, limit in SPEED_MS.items() if name in speed_ms]
    limits.append(("ONNX files together, MB", megabytes, MAX_MEGABYTES))
    small = [
        [name, f"<= {limit:g}", f"{value:.1f}", "yes" if value <= limit else "no"] for name, value, limit in limits
    ]
    return text + "\n\n" + markdown_table(["size and speed", "required", "measured", "met"], small)


def short_name(dataset: str) -> str:
    """Return the kind of objects of a data set in one word, as ``water`` of ``landcover/val_dubai water``."""
    return dataset.split("/")[0] if " " not in dataset else dataset.split()[-1]


def _mean(results: Results, name: str, metric: str, wanted: dict[str, float]) -> _Row:
    values = {dataset: f"{found[metric][0]:.3f}" for dataset, found in results.items()}
    met = {dataset: results[dataset][metric][0] >= least for dataset, least in wanted.items() if dataset in results}
    text = ", ".join(f">= {least:.2f} {short_name(dataset)}" for dataset, least in wanted.items())
    return _Row(name, text, values, met)


def _each(results: Results, name: str, wanted: str, value: Callable[[Mapping[str, Any]], float], least: float) -> _Row:
    """Return a row of values that must all be at least `least`, or positive if that is zero."""
    found = {dataset: value(summary) for dataset, summary in results.items()}
    met = {dataset: number >= least if least else number > 0 for dataset, number in found.items()}
    return _Row(name, wanted, {dataset: f"{number:+.3f}" for dataset, number in found.items()}, met)


def _never_lower(results: Results, begin: str) -> _Row:
    def worst_step(summary: Mapping[str, Any]) -> float:
        means = summary["rounds"][begin]
        return float(min(after - before for before, after in zip(means, means[1:])))

    found = {dataset: worst_step(summary) for dataset, summary in results.items()}
    values = {dataset: f"{step:+.4f}" for dataset, step in found.items()}
    met = {dataset: step >= 0 for dataset, step in found.items()}
    return _Row(f"smallest change of the mean with a corrective click, first prompt: {begin}", ">= 0", values, met)


def _baselines(results: Results) -> list[_Row]:
    names = dict.fromkeys(name for summary in results.values() for name in summary["margins"])
    rows = []
    for name in names:
        least = MIN_MARGIN if name.endswith("GrabCut") else 0.0
        wanted = f">= {least}" if least else "> 0"

        def margin(summary: Mapping[str, Any], name: str = name) -> float:
            return float(summary["margins"][name][0])

        known = {dataset: summary for dataset, summary in results.items() if name in summary["margins"]}
        rows.append(_each(known, name, wanted, margin, least))
    return rows


def _score_error(results: Results, kind: str) -> _Row:
    found = {dataset: summary[f"{kind} score error"] for dataset, summary in results.items()}
    names = {"click": "first click", "box": "box", "all": "every answer"}
    return _Row(
        f"mean absolute score error, {names[kind]}",
        f"<= {MAX_SCORE_ERRORS[kind]:.2f}",
        {dataset: f"{error:.3f}" for dataset, error in found.items()},
        {dataset: error <= MAX_SCORE_ERRORS[kind] for dataset, error in found.items()},
    )


def _ranks_better(results: Results) -> _Row:
    def lead(summary: Mapping[str, Any]) -> float:
        means = {choice: entry[0] for choice, entry in summary["ranking"].items()}
        return float(means.pop("score") - max(means.values()))

    return _each(results, "mean IoU of the choice by score minus the best choice by area", "> 0", lead, 0.0)
