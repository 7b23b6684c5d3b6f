"""Stores of rasters beside which nothing can be written."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from geosam_es.errors import OutputError
from geosam_es.store.cache import StoreCache


def test_the_cache_removes_what_was_used_least_recently(tmp_path: Path) -> None:
    cache = StoreCache(tmp_path, 2500)
    roots = [cache.path_for(Path(f"{name}.tif"), {"pixels": name}) for name in "abcd"]
    for age, root in enumerate(roots):
        root.mkdir()
        (root / "zarr.json").write_text("{}")
        (root / "tile").write_bytes(bytes(1000))
        time.sleep(0.02)
        assert cache.stores()[-1] == roots[age]
    cache.acquire(roots[0])
    cache.trim()
    assert cache.stores() == [roots[3], roots[0]]
    cache.acquire(roots[3])
    (roots[0] / "more").write_bytes(bytes(1000))
    with pytest.raises(OutputError, match="is full"):
        cache.trim()
    assert len(cache.stores()) == 2
    cache.release(roots[3])
    cache.release(roots[0])
    cache.trim()
    assert cache.stores() == [roots[3]]


def test_rasters_of_one_name_have_places_of_their_own(tmp_path: Path) -> None:
    cache = StoreCache(tmp_path, 1)
    one, other, again = (cache.path_for(Path("maps/ortho.tif"), {"pixels": pixels}) for pixels in "aba")
    assert one == again != other
    assert one.name.startswith("ortho-") and one.name.endswith(".embeddings.zarr")


def test_only_stores_are_removed(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "half.embeddings.zarr").mkdir()
    StoreCache(tmp_path, 0).trim()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half.embeddings.zarr", "notes.txt"]
    StoreCache(tmp_path / "not made yet", 0).trim()
