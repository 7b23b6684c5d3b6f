from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from geosam_es.errors import StoreError
from geosam_es.store import StoreMetadata
from geosam_es.store.layout import read_metadata
from tests.helpers import make_metadata


def write_root(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "zarr.json").write_text(text, encoding="utf-8")
    return folder


def root_document(**changes: object) -> str:
    attributes = {**make_metadata(2000, 1000).to_json(), **changes}
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {"geosam_es": attributes}})


@pytest.mark.parametrize("nodata", [None, 0.0, -9999.0, math.nan])
def test_metadata_survive_json(nodata: float | None) -> None:
    metadata = StoreMetadata(**{**make_metadata(2000, 1000).__dict__, "nodata": nodata})
    text = json.dumps(metadata.to_json(), allow_nan=False)
    assert json.dumps(StoreMetadata.from_json(json.loads(text)).to_json()) == text


def test_whole_store_is_read(tmp_path: Path) -> None:
    assert read_metadata(write_root(tmp_path / "a.zarr", root_document())).raster.width == 2000


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"attributes": {}}', '{"attributes": {"geosam_es": 3}}'])
def test_damaged_metadata_are_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(StoreError, match=r"zarr\.json is damaged"):
        read_metadata(write_root(tmp_path / "a.zarr", text))


def test_missing_key_is_named(tmp_path: Path) -> None:
    document = json.loads(root_document())
    del document["attributes"]["geosam_es"]["tiling"]
    with pytest.raises(StoreError, match="tiling"):
        read_metadata(write_root(tmp_path / "a.zarr", json.dumps(document)))


def test_other_format_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"format version 99.*reads version 1.*update"):
        read_metadata(write_root(tmp_path / "a.zarr", root_document(format_version=99)))


def test_what_is_no_store_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.zarr").touch()
    for name in ("empty", "file.zarr", "nothing"):
        with pytest.raises(StoreError, match="is not an embedding store"):
            read_metadata(tmp_path / name)
