"""Results of the benchmark: rows with goals, and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Union

__all__ = ["Agreement", "Goal", "Item", "Row", "Table", "Timing", "item_from_json"]

MET = "met"
NOT_MET = "not met"
REPORTED = "reported"
DOES_NOT_COUNT = "does not count: results differ"


@dataclass(frozen=True)
class Timing:
    """Times of one case.

    Attributes
    ----------
    median_ms, p95_ms : float
    runs : int
    """

    median_ms: float
    p95_ms: float
    runs: int


@dataclass(frozen=True)
class Goal:
    """An upper or lower bound of a row's value."""

    limit: float
    is_least: bool = False

    def is_met(self, value: float) -> bool:
        """Return whether a value is within the bound."""
        return value >= self.limit if self.is_least else value <= self.limit


@dataclass(frozen=True)
class Agreement:
    """Agreement of the results of both sides.

    Attributes
    ----------
    measure : str
        What was compared, ``smallest mask IoU`` for example.
    value, least : float
        Measured value, and the smallest accepted one.
    """

    measure: str
    value: float
    least: float

    @property
    def holds(self) -> bool:
        """Whether the results agree, so that the times are comparable."""
        return self.value >= self.least


@dataclass(frozen=True)
class Row:
    """One comparison or measurement.

    Attributes
    ----------
    key : str
    what, against : str
        Descriptions; ``against`` is empty without a reference.
    value : float, optional
        Value that the goal applies to; None if it could not be measured here, for the reason in ``note``.
    unit : str
        Unit of the value; ``x`` for a ratio.
    goal : Goal, optional
    ours, reference : Timing, optional
        Both are given if the value is their ratio.
    agreement : Agreement, optional
    note : str
    """

    key: str
    what: str
    against: str
    value: float | None
    unit: str = "x"
    goal: Goal | None = None
    ours: Timing | None = None
    reference: Timing | None = None
    agreement: Agreement | None = None
    note: str = ""

    @property
    def status(self) -> str:
        """Whether the goal is met."""
        if self.value is None:
            return "not measured"
        if self.agreement is not None and not self.agreement.holds:
            return DOES_NOT_COUNT
        if self.goal is None:
            return REPORTED
        return MET if self.goal.is_met(self.value) else NOT_MET

    def to_json(self) -> dict[str, Any]:
        """Return the object that `item_from_json` reads."""
        return {"kind": "row", **asdict(self), "status": self.status}


@dataclass(frozen=True)
class Table:
    """A table of related values.

    Attributes
    ----------
    key, title : str
    columns : sequence of str
    rows : sequence of sequences
        Texts and numbers, one for each column.
    note : str
    """

    key: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the object that `item_from_json` reads."""
        return {"kind": "table", **asdict(self)}


# A Union, because Python 3.9 evaluates it.
Item = Union[Row, Table]


def item_from_json(value: Mapping[str, Any]) -> Item:
    """Read what ``to_json`` wrote."""
    fields = {key: field for key, field in value.items() if key not in ("kind", "status")}
    if value["kind"] == "table":
        return Table(**fields)
    for name, kind in (("goal", Goal), ("ours", Timing), ("reference", Timing), ("agreement", Agreement)):
        if fields[name] is not None:
            fields[name] = kind(**fields[name])
    return Row(**fields)
