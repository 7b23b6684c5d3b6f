"""JSON read with types and ranges."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from geosam_es.store.schema import JsonValue, SchemaError, parse_json, read_json


def value_of(text: str) -> JsonValue:
    return parse_json(f'{{"a": {{"b": {text}}}}}')["a"]["b"]


@pytest.mark.parametrize(
    ("text", "read", "expected"),
    [
        ("3", lambda v: v.integer(0, 3), 3),
        ("3", lambda v: v.number(5), 3.0),
        ("-2.5e0", lambda v: v.number(5), -2.5),
        ('"año"', JsonValue.text, "año"),
        ("[1, 2]", lambda v: [item.integer(0, 9) for item in v.array(1, 2)], [1, 2]),
        ('{"c": null}', JsonValue.mapping, {"c": None}),
        ('"x1"', lambda v: v.matching(re.compile(r"x\d"), "an x"), "x1"),
        ('{"c": 1}', lambda v: v.get("d", 7).integer(0, 9), 7),
    ],
)
def test_valid_values_are_read(text: str, read: Callable[[JsonValue], Any], expected: Any) -> None:
    assert read(value_of(text)) == expected


@pytest.mark.parametrize(
    ("text", "read", "message"),
    [
        ("true", lambda v: v.integer(0, 3), "a.b is True, not a whole number from 0 to 3"),
        ("3.0", lambda v: v.integer(0, 3), "a.b is 3.0, not"),
        ("4", lambda v: v.integer(0, 3), "a.b is 4, not"),
        ("false", lambda v: v.number(5), "a.b is False, not a number up to 5"),
        ("1e999", lambda v: v.number(5), "a.b is inf, not"),
        ("1" + "0" * 400, lambda v: v.number(5), r"a.b is 1000.*\.\.\.0+, not"),
        ('"a\\u001bb"', JsonValue.text, "not text"),
        ('"\\ud800"', JsonValue.text, "not text"),
        ("null", JsonValue.text, "a.b is None, not text"),
        ("[]", lambda v: v.array(1, 2), "not an array of 1 to 2 values"),
        ("[null]", lambda v: v.array(1, 1)[0].text(), r"a\.b\[0\] is None"),
        ("[]", JsonValue.mapping, r"a\.b is \[\], not an object"),
        ("{}", lambda v: v["c"], "a.b.c is missing"),
        ("3", lambda v: v["c"], "a.b is 3, not an object"),
        ('"sha256:0"', JsonValue.sha256, "not a SHA-256 hash"),
    ],
)
def test_invalid_values_are_named(text: str, read: Callable[[JsonValue], Any], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        read(value_of(text))


def test_arrays_nested_as_deeply_as_they_can_be_read_are_refused() -> None:
    def refuse(value: JsonValue, calls: int) -> None:
        if calls:
            refuse(value, calls - 1)
        value.text()

    with suppress(SchemaError):
        for depth in range(1, 1500):
            deepest = parse_json("[" * depth + "]" * depth)
    with pytest.raises(SchemaError, match="not text"):
        refuse(deepest, 10)


@pytest.mark.parametrize("text", ["", "{", '{"a": NaN}', "[Infinity]", "[" * 100_000, b"\xff\xfe\x00", b'"\xe9"'])
def test_text_that_is_not_json(text: str | bytes, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="it is not JSON"):
        parse_json(text)
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SchemaError, match="it is not JSON"):
        read_json(path)
