"""Attributes of vector layers in the types of their fields, and comparing them."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["as_text", "differs", "in_own_types", "split_time_zones"]

_EXACT_IN_FLOAT64 = 2**53
_UTC_FLAG = 100
_MINUTES_PER_FLAG = 15
"""GDAL's flag of a time zone: 0 for none, 100 for UTC, one more for each 15 minutes east of it."""

_TIME_ZONE = re.compile(r"Z$|[+-]\d\d:\d\d$")


def in_own_types(
    read: Callable[..., Any], meta: Mapping[str, Any], ids: NDArray[Any], columns: Sequence[NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Give columns that pyogrio has read the types of their fields.

    pyogrio reads integers and booleans with NULLs as reals, and drops time zones.

    Parameters
    ----------
    read : callable
        ``pyogrio.raw.read`` with the layer that was read, which is read again where values have been lost.
    meta : mapping
        As pyogrio returns it.
    ids : int (N,)
        Feature ids of the rows.
    columns : sequence of (N,)

    Returns
    -------
    dict of str to (N,)
        Integers and booleans with NULLs are masked arrays. A column of times with a time zone has ``datetime`` objects.
    """
    fields: dict[str, NDArray[Any]] = {}
    for name, column, dtype_name in zip(meta["fields"], columns, meta["dtypes"]):
        is_list = str(dtype_name).startswith("list")
        dtype = np.dtype(object if is_list else dtype_name)
        if dtype.kind in "iub" and column.dtype.kind == "f":
            column = _masked(read, str(name), ids, column, dtype)
        elif dtype.kind == "M" and dtype != np.dtype("datetime64[D]"):
            column = _with_time_zones(read, str(name), column)
        fields[str(name)] = column
    return fields


def _masked(
    read: Callable[..., Any], name: str, ids: NDArray[Any], column: NDArray[Any], dtype: np.dtype[Any]
) -> NDArray[Any]:
    missing = np.isnan(column)
    if dtype.itemsize < 8 or not (np.abs(column[~missing]) >= _EXACT_IN_FLOAT64).any():
        return np.ma.MaskedArray(np.where(missing, 0, column).astype(dtype), missing)
    # Without the NULLs, pyogrio reads integers as integers.
    present = ~missing
    exact = np.zeros(len(column), dtype=dtype)
    exact[present] = read(columns=[name], read_geometry=False, fids=ids[present])[3][0]
    return np.ma.MaskedArray(exact, missing)


def _with_time_zones(read: Callable[..., Any], name: str, column: NDArray[Any]) -> NDArray[Any]:
    if np.isnat(column).all():
        return column
    with warnings.catch_warnings():
        # GDAL warns of time zones in a GeoPackage, which it reads nevertheless.
        warnings.simplefilter("ignore")
        texts = read(columns=[name], read_geometry=False, datetime_as_string=True)[3][0]
    if not any(text is not None and _TIME_ZONE.search(text) for text in texts):
        return column
    return _objects([None if text is None else datetime.fromisoformat(text.replace("Z", "+00:00")) for text in texts])


def split_time_zones(column: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Turn ``datetime`` objects into local times and GDAL's flags of their time zones.

    Returns
    -------
    column : (N,)
        Unchanged, unless it has times with a time zone.
    flags : int (N,) or None
    """
    values = column.tolist()
    if column.dtype != object or not any(isinstance(value, datetime) for value in values):
        return column, None
    local = [None if value is None else value.replace(tzinfo=None) for value in values]
    shifts = [None if value is None else value.utcoffset() for value in values]
    step = timedelta(minutes=_MINUTES_PER_FLAG)
    flags = [0 if shift is None else _UTC_FLAG + shift // step for shift in shifts]
    return np.array(local, dtype="datetime64[ms]"), np.array(flags)


def as_text(column: NDArray[Any]) -> NDArray[Any]:
    """Return values as text: times as in ISO 8601, lists as JSON, bytes in hexadecimal."""
    return _objects([None if _is_missing(value) else _text(value) for value in _values(column)])


def _text(value: Any) -> str:
    if isinstance(value, (date, datetime, time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else str(value)


def differs(wanted: NDArray[Any], found: NDArray[Any]) -> bool:
    """Tell whether a column has other values than it should have.

    Formats cannot tell NULL from an empty text, change white space, have integers for booleans, and times for dates;
    that is no difference.
    """
    pairs = zip(_values(wanted), _values(found))
    return len(wanted) != len(found) or any(a != b and not _same(a, b) for a, b in pairs)


def _same(wanted: Any, found: Any) -> bool:
    if _is_missing(wanted) or _is_missing(found):
        return _is_missing(wanted) and _is_missing(found)
    if isinstance(wanted, float) and isinstance(found, (int, float)):
        return math.isclose(wanted, found, rel_tol=1e-9, abs_tol=1e-12)
    if type(wanted) is date and type(found) is datetime:
        return datetime(wanted.year, wanted.month, wanted.day) == found
    if isinstance(wanted, str) or isinstance(found, str):
        return _text(wanted).split() == _text(found).split()
    return False


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _values(column: NDArray[Any]) -> list[Any]:
    """Return Python values. Times are cut to milliseconds, as GDAL has them."""
    if column.dtype.kind == "M" and column.dtype != np.dtype("datetime64[D]"):
        column = column.astype("datetime64[ms]")
    return [value.tolist() if isinstance(value, np.ndarray) else value for value in column.tolist()]


def _objects(values: list[Any]) -> NDArray[Any]:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
