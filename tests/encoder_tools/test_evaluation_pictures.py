"""Where the raster of a store is found."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from encoder_tools.evaluation.pictures import find_raster
from geosam_es.errors import RasterError


def reader(folder: Path, way: str = "") -> Any:
    root = folder / "town.embeddings.zarr"
    root.mkdir(parents=True)
    raster = SimpleNamespace(file_name="town.tif", path=way)
    return SimpleNamespace(root=root, metadata=SimpleNamespace(raster=raster), remote=None)


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_the_given_file_or_the_one_of_its_name_in_the_given_folder(tmp_path: Path) -> None:
    store = reader(tmp_path / "stores")
    other, same = touch(tmp_path / "images" / "other.tif"), touch(tmp_path / "images" / "town.tif")
    assert find_raster(store, other) == other
    assert find_raster(store, same.parent) == same
    for missing in (tmp_path / "none.tif", tmp_path):
        with pytest.raises(RasterError, match=r"\.tif does not exist: check --raster"):
            find_raster(store, missing)


def test_next_to_the_store_or_where_it_was(tmp_path: Path) -> None:
    store = reader(tmp_path / "stores", "../images/town.tif")
    assert find_raster(store) is None
    was = touch(tmp_path / "images" / "town.tif")
    found = find_raster(store)
    assert found is not None and found.samefile(was)
    beside = touch(tmp_path / "stores" / "town.tif")
    assert find_raster(store) == beside
    assert find_raster(reader(tmp_path / "alone")) is None
