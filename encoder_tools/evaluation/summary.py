"""Means of the results by prompts, decoder, class and size, and differences between decoders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from .evaluate import Outcome
from .metrics import Interval, MaskScores, bootstrap_mean, paired_difference

__all__ = [
    "CLICK_GOALS",
    "METRICS",
    "METRIC_NAMES",
    "SIZES",
    "Row",
    "clicks_to",
    "differences",
    "group_rows",
    "size_of",
    "summary_rows",
]

METRICS = MaskScores._fields
METRIC_NAMES = dict(zip(METRICS, ("IoU", "Dice", "Precision", "Recall", "Boundary F")))
CLICK_GOALS = (0.85, 0.90)
SIZES = ("small", "medium", "large")
_SIZE_LIMITS = (32.0, 96.0)
"""Limits between sizes, as COCO's: the side in pixels of a square with the area of the object."""

Key = Callable[[Outcome], str]


class Row(NamedTuple):
    """A row of a table.

    Attributes
    ----------
    decoder, prompts, group : str
        The group is a class or a size, empty for all objects.
    objects : int
    values : dict of str to Interval
        Mean of each metric.
    """

    decoder: str
    prompts: str
    group: str
    objects: int
    values: dict[str, Interval]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**self._asdict(), "values": {name: list(value) for name, value in self.values.items()}}


def size_of(outcome: Outcome) -> str:
    """Return the size class of an object."""
    side = float(outcome.truth.geometry.area) ** 0.5
    return SIZES[sum(side >= limit for limit in _SIZE_LIMITS)]


def clicks_to(outcome: Outcome, goal: float) -> int | None:
    """Return the number of clicks to reach an IoU, None if it was not reached."""
    return next((number for number, iou in enumerate(outcome.ious, start=1) if iou >= goal), None)


def summary_rows(outcomes: Sequence[Outcome]) -> list[Row]:
    """Return one row for each kind of prompts and decoder; with several clicks also the number of clicks needed."""
    rows = []
    for (prompts, decoder), found in _grouped(outcomes, lambda o: (o.prompts, o.decoder)):
        values = _means(found)
        if len(found[0].ious) > 1:
            values |= _click_values(found)
        rows.append(Row(decoder, prompts, "", len(found), values))
    return rows


def group_rows(outcomes: Sequence[Outcome], key: Key, order: Sequence[str] = ()) -> list[Row]:
    """Return one row for each group, kind of prompts and decoder.

    Parameters
    ----------
    outcomes : sequence of Outcome
    key : callable
        Returns the group of an outcome.
    order : sequence of str
        Order of the groups. Default: alphabetical.
    """
    grouped = _grouped(outcomes, lambda o: (key(o), o.prompts, o.decoder))
    rows = [Row(decoder, prompts, group, len(found), _means(found)) for (group, prompts, decoder), found in grouped]
    place = {name: index for index, name in enumerate(order)}
    return sorted(rows, key=lambda row: (place.get(row.group, len(place)), row.group))


def differences(outcomes: Sequence[Outcome]) -> list[Row]:
    """Return the difference of each decoder from the first one on the same objects, for each kind of prompts."""
    rows = []
    by_prompts: dict[str, dict[str, list[Outcome]]] = {}
    for (prompts, decoder), found in _grouped(outcomes, lambda o: (o.prompts, o.decoder)):
        by_prompts.setdefault(prompts, {})[decoder] = found
    for prompts, by_decoder in by_prompts.items():
        (_, before), *others = by_decoder.items()
        for decoder, after in others:
            values = {
                name: paired_difference(
                    [getattr(o.scores, name) for o in before], [getattr(o.scores, name) for o in after]
                )
                for name in METRICS
            }
            rows.append(Row(decoder, prompts, "", len(after), values))
    return rows


def _grouped(outcomes: Iterable[Outcome], key: Callable[[Outcome], tuple[str, ...]]) -> list[tuple[Any, list[Outcome]]]:
    groups: dict[tuple[str, ...], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(key(outcome), []).append(outcome)
    return list(groups.items())


def _means(outcomes: Sequence[Outcome]) -> dict[str, Interval]:
    return {name: bootstrap_mean([getattr(outcome.scores, name) for outcome in outcomes]) for name in METRICS}


def _click_values(outcomes: Sequence[Outcome]) -> dict[str, Interval]:
    """Return for each goal the number of clicks, all of them if it was not reached, and the share that reached it."""
    values = {}
    for goal in CLICK_GOALS:
        needed = [clicks_to(outcome, goal) for outcome in outcomes]
        most = len(outcomes[0].ious)
        name = f"{100 * goal:.0f}"
        values[f"clicks_to_{name}"] = bootstrap_mean([most if count is None else count for count in needed])
        values[f"reached_{name}"] = bootstrap_mean([count is not None for count in needed])
    return values
