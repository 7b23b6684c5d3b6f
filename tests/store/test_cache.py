"""Stores of rasters in folders that cannot be written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from geosam_es.errors import OutputError, StoreError
from geosam_es.store import StoreReader
from geosam_es.store.cache import StoreCache
from geosam_es.store.decoders import list_decoders
from tests.helpers import add_decoder, disc, make_decoder, make_store


def add(cache: StoreCache, name: str, age: int) -> Path:
    """Write a store of 1 kB that was used ``age`` seconds ago."""
    root = cache.path_for(Path(f"{name}.tif"), {"pixels": name})
    root.mkdir(parents=True)
    (root / "tile").write_bytes(bytes(1000))
    (root / "zarr.json").write_text("{}")
    os.utime(root / "zarr.json", (1e9 - age, 1e9 - age))
    return root


def test_the_cache_removes_what_was_used_least_recently(tmp_path: Path) -> None:
    cache = StoreCache(tmp_path, 2500)
    roots = [add(cache, name, age) for name, age in zip("abcd", (4, 3, 2, 1))]
    assert cache.stores() == roots
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
    assert list(tmp_path.iterdir()) == [roots[3]]


def test_a_store_with_two_users_stays_until_both_have_released_it(tmp_path: Path) -> None:
    """As one that is being encoded while the user closes its layer."""
    cache, other = StoreCache(tmp_path, 0), StoreCache(tmp_path, 0)
    root = add(cache, "a", 1)
    cache.acquire(root)
    other.acquire(root)
    cache.release(root)
    for one in (cache, other):
        with pytest.raises(OutputError, match="is full"):
            one.trim()
    assert cache.stores() == [root]
    other.release(root)
    cache.trim()
    assert cache.stores() == []


def test_clearing_the_cache_keeps_what_is_in_use(tmp_path: Path) -> None:
    cache = StoreCache(tmp_path, 10**9)
    roots = [add(cache, name, age) for name, age in zip("abc", (3, 2, 1))]
    assert cache.size() == 3 * 1002
    cache.acquire(roots[1])
    cache.clear()
    assert list(tmp_path.iterdir()) == [roots[1]]
    cache.release(roots[1])
    assert cache.remove(roots[1]) and cache.size() == 0


@pytest.mark.parametrize("act", [StoreCache.clear, StoreCache.trim])
def test_added_decoders_stay_in_the_cache(tmp_path: Path, act: Callable[[StoreCache], None]) -> None:
    """The user trained them; tiles can be encoded again."""
    cache = StoreCache(tmp_path / "cache", 10_000)
    cache.folder.mkdir()
    made = make_store(tmp_path, disc((300, 300), 150, 150, 60))
    add_decoder(made, make_decoder(tmp_path / "tuned", "fields"))
    store = made.rename(cache.path_for(Path("blobs.tif"), {}))
    other = add(cache, "other", 0)
    cache.max_bytes = 10**9
    cache.trim()
    assert any(count.encoded for count in StoreReader(store).counts()) and other.exists()
    cache.acquire(store)
    cache.clear()
    assert any(count.encoded for count in StoreReader(store).counts())
    cache.release(store)
    cache.max_bytes = cache.size() - 2000
    os.utime(store / "zarr.json", (1, 1))
    other = add(cache, "other", 0)
    act(cache)
    assert not any(count.encoded for count in StoreReader(store).counts())
    assert [decoder.name for decoder in list_decoders(store)] == ["original", "fields"]
    # A second time it has nothing to give.
    act(cache)
    assert other.exists() == (act is StoreCache.trim)


def test_a_copy_of_a_store_on_a_server_goes_with_its_decoders(tmp_path: Path) -> None:
    """The server has them."""
    cache = StoreCache(tmp_path, 0)
    root = add(cache, "a", 1)
    (root / "decoders" / "fields").mkdir(parents=True)
    (root / "remote.json").write_text("{}")
    cache.trim()
    assert cache.stores() == []


def test_a_store_that_another_program_removed_cannot_be_used(tmp_path: Path) -> None:
    cache = StoreCache(tmp_path, 0)
    root = add(cache, "a", 1)
    shutil.rmtree(root)
    with pytest.raises(StoreError, match="is no longer there"):
        cache.acquire(root)
    # And nobody uses it afterwards.
    assert add(cache, "a", 1) == root
    cache.trim()
    assert not root.exists()


def test_a_store_that_cannot_be_renamed_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows refuses while another QGIS has one of its files open."""
    cache = StoreCache(tmp_path, 0)
    root = add(cache, "a", 1)

    def refuse(made: Path, target: Path) -> None:
        raise PermissionError(13, "The process cannot access the file")

    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr("geosam_es.store.files.time.sleep", lambda seconds: None)
    with pytest.raises(OutputError, match="is full"):
        cache.trim()
    assert cache.stores() == [root]


def test_rasters_of_one_name_have_places_of_their_own(tmp_path: Path) -> None:
    cache = StoreCache(tmp_path, 1)
    one, other, again = (cache.path_for(Path("maps/ortho.tif"), {"pixels": pixels}) for pixels in "aba")
    assert one == again != other
    assert one.name.startswith("ortho-") and one.name.endswith(".embeddings.zarr")


def test_whether_a_raster_may_have_a_store(tmp_path: Path) -> None:
    cache = StoreCache(tmp_path, 1)
    add(cache, "sheet [1]", 0)
    found = {name: cache.may_have(Path(f"maps/{name}.tif")) for name in ("sheet [1]", "sheet", "sheet 1")}
    assert found == {"sheet [1]": True, "sheet": False, "sheet 1": False}
    assert not StoreCache(tmp_path / "none", 1).may_have(Path("a.tif"))


def test_only_stores_are_removed(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "half.embeddings.zarr").mkdir()
    StoreCache(tmp_path, 0).trim()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half.embeddings.zarr", "notes.txt"]
    StoreCache(tmp_path / "not made yet", 0).trim()


def test_a_raster_with_a_long_name_gets_a_store_that_can_be_made(tmp_path: Path) -> None:
    cache = StoreCache(tmp_path, 10**9)
    long, other = (cache.path_for(Path("ñ" * 120 + end + ".tif"), {}) for end in "ab")
    long.mkdir()
    assert long != other
