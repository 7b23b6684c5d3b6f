"""Rows, their status, and the way through JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks.speed.model import Agreement, Goal, Row, Table, Timing, item_from_json

ROW = Row("click", "a click", "another", 0.4, goal=Goal(0.42), ours=Timing(4, 5, 9), reference=Timing(10, 11, 9))


@pytest.mark.parametrize(
    ("row", "status"),
    [
        (ROW, "met"),
        (replace(ROW, value=0.43), "not met"),
        (replace(ROW, value=0.43, goal=Goal(0.42, is_least=True)), "met"),
        (replace(ROW, value=0.41, goal=Goal(0.42, is_least=True)), "not met"),
        (replace(ROW, goal=None), "reported"),
        (replace(ROW, value=None), "not measured"),
        (replace(ROW, agreement=Agreement("IoU", 0.9989, 0.999)), "does not count: results differ"),
        (replace(ROW, agreement=Agreement("IoU", float("nan"), 0.999)), "does not count: results differ"),
        (replace(ROW, agreement=Agreement("IoU", 0.999, 0.999)), "met"),
    ],
)
def test_status_is_computed(row: Row, status: str) -> None:
    assert row.status == status


@pytest.mark.parametrize(
    "item",
    [
        ROW,
        replace(ROW, agreement=Agreement("IoU", 1.0, 0.999), note="ñ"),
        Row("gpu", "what", "against", None, note="no GPU"),
        Table("a", "A", ("x", "y"), [["text", 1.5]], "note"),
    ],
)
def test_items_survive_json(item: Row | Table) -> None:
    text = json.dumps(item.to_json())
    assert json.dumps(item_from_json(json.loads(text)).to_json()) == text
