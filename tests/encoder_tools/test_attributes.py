"""Attributes in the types of their fields, and their comparison."""

from __future__ import annotations

import json
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import shapely

from encoder_tools.attributes import as_text, differs, split_time_zones
from encoder_tools.vector import read_vector

BIG = 2**53 + 1


def objects(*values: Any) -> np.ndarray[Any, Any]:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def write_gaps(path: Path, driver: str) -> Path:
    """Write columns of integers and booleans with NULLs."""
    points = np.array([shapely.to_wkb(shapely.Point(n, n)) for n in range(3)], dtype=object)
    columns = [np.array([7, 0, 9], dtype=np.int32), np.array([True, False, False]), np.array([BIG, 0, -BIG])]
    gap = np.array([False, True, False])
    names = ["n", "flag", "big one ñ"]
    pyogrio.raw.write(
        path, points, columns, names, [gap] * 3, geometry_type="Point", crs="EPSG:25830", driver=driver
    )  # fmt: skip
    return path


@pytest.mark.parametrize(("name", "driver"), [("a.gpkg", "GPKG"), ("a.geojson", "GeoJSON"), ("a.sqlite", "SQLite")])
def test_columns_with_nulls_keep_their_type_and_values(tmp_path: Path, name: str, driver: str) -> None:
    n, flag, big = read_vector(write_gaps(tmp_path / name, driver)).fields.values()
    assert n.dtype == np.int32 and n.tolist() == [7, None, 9]
    assert flag.dtype == np.bool_ and flag.tolist() == [True, None, False]
    assert big.dtype == np.int64 and big.tolist() == [BIG, None, -BIG]


def test_times_keep_their_time_zone(tmp_path: Path) -> None:
    times = ["2020-01-02T10:20:30.5+02:00", None, "2020-01-02T10:20:30Z"]
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [1, 2]},
            "properties": {"zoned": zoned, "local": local},
        }
        for zoned, local in zip(times, ["2020-01-02T10:20:30", "2021-01-02T10:20:30", None])
    ]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    fields = read_vector(tmp_path / "a.geojson").fields
    east = timezone(timedelta(hours=2))
    zoned = [datetime(2020, 1, 2, 10, 20, 30, 500000, east), None, datetime(2020, 1, 2, 10, 20, 30, 0, timezone.utc)]
    assert fields["zoned"].tolist() == zoned
    assert fields["local"].dtype == np.dtype("datetime64[ms]")
    local, flags = split_time_zones(fields["zoned"])
    assert local.astype(str).tolist() == ["2020-01-02T10:20:30.500", "NaT", "2020-01-02T10:20:30.000"]
    assert flags is not None and flags.tolist() == [108, 0, 100]
    assert split_time_zones(fields["local"])[1] is None


def test_as_text() -> None:
    column = objects([1, "ñ"], None, b"\x01\xff", time(10, 20), np.array([1.5]), {"a": None}, "text")
    assert as_text(column).tolist() == ['[1, "ñ"]', None, "01ff", "10:20:00", "[1.5]", '{"a": null}', "text"]
    assert as_text(np.array(["2020-01-02", "NaT"], dtype="datetime64[D]")).tolist() == ["2020-01-02", None]


@pytest.mark.parametrize(
    ("wanted", "found", "expected"),
    [
        (np.array([1, 2]), np.array([1, 3]), True),
        (np.array([BIG]), np.array([float(BIG)]), True),
        (np.array([0.1, np.nan]), np.array([0.1 + 1e-13, np.nan]), False),
        (np.array([0.1]), np.array([0.1001]), True),
        (np.ma.masked_array([5, 1], [True, False]), objects(None, "1"), False),
        (objects("a  b", "", None), objects("a b ", None, ""), False),
        (objects("ab"), objects("a"), True),
        (objects("a"), objects(None), True),
        (np.array([True]), np.array([1]), False),
        (objects(date(2020, 1, 2)), np.array(["2020-01-02"], dtype="datetime64[ms]"), False),
        (objects(datetime(2020, 1, 2, tzinfo=timezone.utc)), np.array(["2020-01-02"], dtype="datetime64[ms]"), True),
        (np.array([1, 2]), np.array([1]), True),
    ],
)
def test_differs(wanted: Any, found: Any, expected: bool) -> None:
    assert differs(wanted, found) is expected
