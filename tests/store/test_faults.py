"""Stores that are written, moved, deleted or repaired while they are read, and a clock that goes back."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from operator import eq
from pathlib import Path

import numpy as np
import pytest

from geosam_es.core.grid import Tile
from geosam_es.errors import GeoSamError, OutputError, StoreError
from geosam_es.store import StoreReader, StoreWriter
from geosam_es.store.cache import StoreCache
from geosam_es.store.reader import TileState
from tests.helpers import SIDE, disc, make_metadata, make_store, open_blobs


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path, disc((1400, 1400), 700, 700, 100))


def features(value: float) -> dict[str, np.ndarray]:
    return {"image_embeddings": np.full((1, SIDE, SIDE), value, np.float32)}


def test_a_reader_never_sees_half_a_tile(store: Path) -> None:
    """One thread writes a tile over and over, and removes it, as repair does; another one reads it."""
    reader, writer, tile = StoreReader(store), StoreWriter(store, StoreReader(store).metadata), Tile(0, 0, 0)
    writer.write(tile, features(0))
    stop, written = threading.Event(), count(1)
    wrong: list[object] = []

    def write() -> None:
        while not stop.is_set():
            number = next(written)
            writer.write(tile, features(number))
            if number % 3 == 0:
                writer.forget(tile)

    thread = threading.Thread(target=write)
    thread.start()
    read = missed = 0
    while read < 60:
        try:
            values = reader.read(tile)["image_embeddings"]
        except StoreError:
            missed += 1
            continue
        read += 1
        if values.min() != values.max():
            wrong.append(values)
    stop.set()
    thread.join()
    assert not wrong
    writer.write(tile, features(1))
    assert not [problem for _, problem in reader.problems(2) if problem]


@pytest.mark.parametrize("how", ["moved", "deleted", "replaced"])
def test_a_store_that_goes_under_a_reader(store: Path, tmp_path: Path, how: str) -> None:
    segmenter = open_blobs(store)
    reader, tile = segmenter.reader, Tile(0, 0, 0)
    before = reader.read(tile)["image_embeddings"]
    if how == "deleted":
        shutil.rmtree(store)
    else:
        store.rename(tmp_path / "elsewhere")
    if how == "replaced":
        shutil.copytree(tmp_path / "elsewhere", store)
        assert np.array_equal(reader.read(tile)["image_embeddings"], before)
        return
    assert reader.state(tile) is TileState.MISSING
    with pytest.raises(StoreError, match="cannot be read"):
        reader.read(tile)
    assert {problem for _, problem in reader.problems()} == {"missing"}
    with pytest.raises(StoreError, match="was removed or replaced while"):
        StoreWriter(store, reader.metadata).write(tile, features(1))
    assert not store.exists()
    if how == "moved":
        (tmp_path / "elsewhere").rename(store)
        assert np.array_equal(reader.read(tile)["image_embeddings"], before)


@pytest.fixture(params=["back", "forward"])
def wrong_clock(request: pytest.FixtureRequest, store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The clock jumps by years after the store was written."""
    now = time.time() + (-1 if request.param == "back" else 1) * 20 * 365 * 86400
    monkeypatch.setattr(time, "time", lambda: now)
    real = os.utime
    monkeypatch.setattr(
        os, "utime", lambda path, times=None, **more: real(path, times if times or more else (now, now), **more)
    )
    return iter(())


def test_tiles_do_not_depend_on_the_clock(store: Path, wrong_clock: None) -> None:
    reader = StoreReader(store)
    writer = StoreWriter.resume(store, reader.metadata, eq)
    assert all(map(writer.is_done, reader.pyramid))
    writer.forget(Tile(0, 0, 0))
    assert [tile for tile in reader.pyramid if not writer.is_done(tile)] == [Tile(0, 0, 0)]
    writer.write(Tile(0, 0, 0), features(1))
    assert not [problem for _, problem in reader.problems() if problem]


def test_the_cache_keeps_what_is_in_use_with_a_wrong_clock(store: Path, tmp_path: Path, wrong_clock: None) -> None:
    cache = StoreCache(tmp_path, 1)
    other = Path(shutil.copytree(store, tmp_path / "other.embeddings.zarr"))
    cache.acquire(store)
    with pytest.raises(OutputError, match="is full"):
        cache.trim()
    assert store.is_dir() and not other.exists()
    cache.release(store)


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
@pytest.mark.parametrize("link", ["level0", "level0/image_embeddings", "level0/image_embeddings/c", "decoders"])
def test_nothing_is_written_through_a_link(store: Path, tmp_path: Path, link: str) -> None:
    outside = tmp_path / "outside"
    if (store / link).exists():
        (store / link).rename(outside)
    else:
        outside.mkdir()
    (store / link).symlink_to(outside)
    before = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
    with pytest.raises(GeoSamError, match="link"):
        StoreWriter.resume(store, StoreReader(store).metadata, eq).write(Tile(0, 0, 0), features(1))
    assert {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()} == before


def test_a_store_behind_a_link_can_be_written(store: Path, tmp_path: Path) -> None:
    (tmp_path / "link.embeddings.zarr").symlink_to(store)
    StoreWriter.resume(tmp_path / "link.embeddings.zarr", StoreReader(store).metadata, eq).write(
        Tile(0, 0, 0), features(1)
    )
    assert StoreReader(store).read(Tile(0, 0, 0))["image_embeddings"].min() == 1


def test_a_huge_store_is_checked_without_listing_it(tmp_path: Path) -> None:
    """The first problems come at once, though there are millions of tiles."""
    metadata = replace(make_metadata(2_000_000, 2_000_000, overlap=0), levels=1)
    (tmp_path / "decoder.bin").write_bytes(b"")
    StoreWriter.create(tmp_path / "huge.embeddings.zarr", metadata, {"decoder.onnx": tmp_path / "decoder.bin"})
    assert next(StoreReader(tmp_path / "huge.embeddings.zarr").problems(2)) == (Tile(0, 0, 0), "missing")
