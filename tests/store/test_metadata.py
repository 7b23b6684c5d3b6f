"""The metadata of a store: what is accepted, what is refused and how it is named."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from geosam_es.core.radiometry import Stretch
from geosam_es.errors import StoreError
from geosam_es.store import StoreMetadata
from geosam_es.store.metadata import read_metadata
from tests.helpers import make_metadata


def write_root(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "zarr.json").write_text(text, encoding="utf-8")
    return folder


def root_document(**changes: object) -> str:
    attributes = {**make_metadata(2000, 1000).to_json(), **changes}
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {"geosam_es": attributes}})


@pytest.mark.parametrize("nodata", [None, 0.0, -9999.0, -3.4e38, math.nan, math.inf, -math.inf])
def test_metadata_survive_json(nodata: float | None) -> None:
    metadata = replace(make_metadata(2000, 1000), nodata=nodata)
    text = json.dumps(metadata.to_json(), allow_nan=False)
    again = StoreMetadata.from_json(json.loads(text))
    assert json.dumps(again.to_json()) == text and str(again.nodata) == str(nodata)


@pytest.mark.parametrize("stretch", [Stretch(), Stretch(((0.0, 1.5), (2.0, 3.0), (4.0, 5.0)))])
def test_a_stretch_survives_json(stretch: Stretch) -> None:
    metadata = replace(make_metadata(2000, 1000), stretch=stretch)
    assert StoreMetadata.from_json(json.loads(json.dumps(metadata.to_json()))).stretch == stretch


def test_whole_store_is_read(tmp_path: Path) -> None:
    assert read_metadata(write_root(tmp_path / "a.zarr", root_document())).raster.width == 2000


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "NaN", '{"attributes": {}}', '{"attributes": {"geosam_es": 3}}', "[" * 99999]
)
def test_damaged_metadata_are_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(StoreError, match=r"zarr\.json is damaged"):
        read_metadata(write_root(tmp_path / "a.zarr", text))


def every_key(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(value, dict):
        return [path]
    return [found for key, item in value.items() for found in every_key(item, (*path, key))]


KEYS = [path for path in every_key(make_metadata(2000, 1000).to_json()) if path != ("format_version",)]


@pytest.mark.parametrize("path", KEYS, ids=".".join)
def test_every_key_is_needed_and_none_may_be_an_object(tmp_path: Path, path: tuple[str, ...]) -> None:
    document = json.loads(root_document())
    place = document["attributes"]["geosam_es"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = {"a": 1}
    with pytest.raises(StoreError, match=path[-1]):
        read_metadata(write_root(tmp_path / "a.zarr", json.dumps(document)))
    del place[path[-1]]
    with pytest.raises(StoreError, match=f"{path[-1]} is missing|model.features is"):
        read_metadata(write_root(tmp_path / "b.zarr", json.dumps(document)))


RASTER = make_metadata(2000, 1000).to_json()["raster"]
MODEL = make_metadata(2000, 1000).to_json()["model"]


def raster(**changes: object) -> dict[str, object]:
    return {"raster": {**RASTER, **changes}}


def features(**changes: object) -> dict[str, object]:
    return {"model": {**MODEL, "features": changes}}


@pytest.mark.parametrize(
    "changes",
    [
        *(raster(width=value) for value in (0, -1, 2.0, "2000", True, 2**31, math.inf)),
        *(raster(transform=value) for value in ([1, 0, 0, 0, 1], [1, 2, 0, 2, 4, 0], [math.nan, 0, 0, 0, 1, 0])),
        *(raster(transform=value) for value in ([1e300, 0, 0, 0, 1, 0], [1e11, 0, 0, 0, 1, 0], [1e-19, 0, 0, 0, 1, 0])),
        *(raster(crs_wkt=value) for value in (25830, "EPSG:25830", "PROJCS", 'PROJCS["a]', "GEOGCS[]]")),
        *(raster(crs_wkt=value) for value in ("GEOGCS][", "GEOGCS[](", "x[]")),
        *(raster(file_name=value) for value in ("", "..", "/etc/passwd", "../a.tif", "a\\b.tif", "a\nb")),
        *(raster(fingerprint=value) for value in ("f", "f" * 64 + " 3xuint8 nan", 7)),
        *({"bands": value} for value in ([1, 2], [0, 1, 2], [1, 2, None], "123", [1, 2, 3, 4])),
        *({"stretch": value} for value in ([[0, 1]], [[1, 0]] * 3, [[0, math.inf]] * 3, [[0, 1, 2]] * 3, 0)),
        *({"nodata": value} for value in ("none", [], True)),
        *({"dtype": value} for value in ("float64", "object", None, ["float16"])),
        *({"tiling": value} for value in ({"tile_size": 1024, "overlap": 1024}, {"tile_size": 0, "overlap": 0}, [])),
        *({"levels": value} for value in (0, 3, "1")),
        *({"aoi_sha256": value} for value in ("0", 0)),
        *({"software": value} for value in (None, "\x1b[2J")),
        *(features(**{name: [1, 2, 3]}) for name in ("../a", "/a", "a/b", "..", "", "Skipped", "con", "zarr.json")),
        *(features(a=value) for value in ([1, 2], [1, 2, 0], [2**14, 2**14, 1, 1], [2**20, 2**20, 1], None, "abc")),
        features(),
        features(a=[1, 2, 3], a_scale=[1, 2, 3]),
        features(a=[1, 2, 3], A=[1, 2, 3]),
        {"model": {**MODEL, "encoder_sha256": "0"}},
        {"model": {**MODEL, "name": ""}},
    ],
    ids=str,
)  # fmt: skip
def test_values_out_of_range_are_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(StoreError, match=r"zarr\.json is damaged"):
        read_metadata(write_root(tmp_path / "a.zarr", root_document(**changes)))


@pytest.mark.parametrize(
    "changes",
    [
        raster(crs_wkt=' PROJCRS["a (b] ""c""",\n ENGCRS("d")] '),
        raster(crs_wkt='LOCAL_CS["grid"]'),
        raster(transform=[1e-9, 0, -180, 0, -1e-9, 90]),
        raster(transform=[0.3, 0.4, 700000, 0.4, -0.3, 4400000]),
        raster(width=1_900_000_000),
        raster(fingerprint="f" * 64 + " 3xint16 -1.5,20,3.0"),
        {"model": {**MODEL, "encoder_sha256": "sha256:" + "a" * 64, "more": {"a": None}}},
        {"stretch": [[0, 4000.5]] * 3},
        {"nodata": -3.4028234663852886e38},
        {"more": 3},
    ],
    ids=str,
)
def test_unusual_values_are_read(tmp_path: Path, changes: dict[str, object]) -> None:
    assert read_metadata(write_root(tmp_path / "a.zarr", root_document(**changes))).bands == (1, 2, 3)


def test_a_raster_of_any_size_costs_no_memory(tmp_path: Path) -> None:
    tiling = {"tile_size": 1024, "overlap": 1008}
    text = root_document(**raster(width=2**31 - 1, height=2**31 - 1), tiling=tiling, levels=22)
    assert len(read_metadata(write_root(tmp_path / "a.zarr", text)).pyramid) > 10**16


@pytest.mark.parametrize("name", ["a\\b.tif", "a\nb.tif", "a\udce9.tif"])
def test_file_names_that_not_every_system_takes_can_be_stored(name: str) -> None:
    metadata = make_metadata(2000, 1000)
    stored = json.dumps(replace(metadata, raster=replace(metadata.raster, file_name=name)).to_json())
    assert StoreMetadata.from_json(json.loads(stored)).raster.file_name in ("a_b.tif", "a_.tif")


def test_other_format_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"format version 99.*reads version 1.*update"):
        read_metadata(write_root(tmp_path / "a.zarr", root_document(format_version=99)))


def test_what_is_not_a_store(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.zarr").touch()
    for name in ("empty", "file.zarr", "nothing"):
        with pytest.raises(StoreError, match="is not an embedding store"):
            read_metadata(tmp_path / name)
