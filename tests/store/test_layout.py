"""The names of stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from geosam_es.store import store_path_for


def test_the_store_of_a_raster_has_a_name_that_windows_takes() -> None:
    names = [store_path_for(Path(f"maps/{name}.tif")).name for name in ("con", "COM1", "ortho.2026", "año")]
    assert names == [f"{name}.embeddings.zarr" for name in ("con_", "COM1_", "ortho.2026", "año")]


@pytest.mark.parametrize("letter", ["L", "é"])
def test_a_store_of_a_raster_with_a_long_name_can_be_written(tmp_path: Path, letter: str) -> None:
    long = letter * (250 // len(letter.encode()))
    stores = {store_path_for(Path(f"{long[:-1]}{end}.tif"), tmp_path) for end in "ab"}
    assert len(stores) == 2
    for store in stores:
        store.mkdir()
        assert store.name.endswith(".embeddings.zarr")
