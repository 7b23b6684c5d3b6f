"""Reading JSON with checks: each value is read with its expected type and range, and errors name its place."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from .files import check_regular

__all__ = ["JsonValue", "SchemaError", "parse_json", "read_json"]

_MOST_SHOWN = 40
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, which upset terminals, and lone surrogates, which UTF-8 cannot encode."""

_SHA256 = re.compile(r"(sha256:)?[0-9a-f]{64}")


class SchemaError(ValueError):
    """Raised when JSON lacks a value, or has one of another type or out of range."""


def read_json(path: Path) -> JsonValue:
    """Read a JSON file.

    Raises
    ------
    OSError
        If it cannot be read, or is no regular file.
    SchemaError
        If it is not JSON in UTF-8.
    """
    check_regular(path)
    return parse_json(path.read_bytes())


def parse_json(text: str | bytes) -> JsonValue:
    """Parse JSON, without the NaN and Infinity that Python accepts by default.

    Raises
    ------
    SchemaError
        If it is not JSON.
    """
    try:
        return JsonValue(json.loads(text, parse_constant=_refuse_constant), "")
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"it is not JSON: {error}") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


@dataclass(frozen=True)
class JsonValue:
    """A value of a JSON document.

    Attributes
    ----------
    value : any
    place : str
        The keys that lead to it, such as ``raster.width``; empty for the whole document.

    Examples
    --------
    >>> document = parse_json('{"raster": {"width": -3}}')
    >>> document["raster"]["width"].integer(1, 10)
    Traceback (most recent call last):
    ...
    geosam_es.store.schema.SchemaError: raster.width is -3, not a whole number from 1 to 10
    """

    value: Any
    place: str

    def fail(self, expected: str) -> NoReturn:
        """Raise an error that says what was expected here."""
        # Not `repr`, which fails on arrays nested nearly as deep as JSON can be read.
        shown = reprlib.repr(self.value)
        shown = shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}..."
        raise SchemaError(f"{self.place or 'the file'} is {shown}, not {expected}")

    def __getitem__(self, key: str) -> JsonValue:
        value = self.mapping()
        if key not in value:
            raise SchemaError(f"{self._place_of(key)} is missing")
        return JsonValue(value[key], self._place_of(key))

    def get(self, key: str, default: Any) -> JsonValue:
        """Return the value of a key, or the default if the key is missing."""
        return JsonValue(self.mapping().get(key, default), self._place_of(key))

    def items(self) -> Iterator[tuple[str, JsonValue]]:
        """Return the keys and values of an object."""
        return ((key, JsonValue(value, self._place_of(key))) for key, value in self.mapping().items())

    def mapping(self) -> dict[str, Any]:
        """Return an object as a dict, unchecked inside."""
        if not isinstance(self.value, dict):
            self.fail("an object")
        return self.value

    def array(self, least: int, most: int) -> list[JsonValue]:
        """Return the values of an array with a length from ``least`` to ``most``."""
        if not isinstance(self.value, list) or not least <= len(self.value) <= most:
            self.fail(f"an array of {least} values" if least == most else f"an array of {least} to {most} values")
        return [JsonValue(value, f"{self.place}[{index}]") for index, value in enumerate(self.value)]

    def integer(self, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``."""
        if not isinstance(self.value, int) or isinstance(self.value, bool) or not low <= self.value <= high:
            self.fail(f"a whole number from {low} to {high}")
        return self.value

    def number(self, largest: float) -> float:
        """Return a finite number with an absolute value up to ``largest``."""
        is_number = isinstance(self.value, (int, float)) and not isinstance(self.value, bool)
        # Not `>`: NaN compares as false.
        if not is_number or not abs(self.value) <= largest:
            self.fail(f"a number up to {largest:g}")
        return float(self.value)

    def text(self) -> str:
        """Return one line of text."""
        if not isinstance(self.value, str) or _CONTROL.search(self.value):
            self.fail("text")
        return self.value

    def matching(self, pattern: re.Pattern[str], expected: str) -> str:
        """Return text that matches a pattern from start to end."""
        if not isinstance(self.value, str) or not pattern.fullmatch(self.value):
            self.fail(expected)
        return self.value

    def sha256(self) -> str:
        """Return a hash of 64 hexadecimal digits, with or without the prefix ``sha256:``."""
        return self.matching(_SHA256, "a SHA-256 hash")

    def _place_of(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key
