"""Stores are Zarr v3: zarr-python reads ours, and we read what it writes."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from geosam_es.core.grid import Tile
from geosam_es.store import StoreReader
from tests.helpers import disc, make_store

zarr = pytest.importorskip("zarr", minversion="3")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path, disc((1500, 2000), 900, 700, 300))


def test_zarr_python_reads_our_store(store: Path) -> None:
    group = zarr.open_group(store, mode="r")
    reader = StoreReader(store)
    assert group.attrs["geosam_es"]["raster"]["width"] == 2000
    for tile in reader.pyramid:
        array = group[f"level{tile.level}/image_embeddings"]
        np.testing.assert_array_equal(array[tile.row, tile.col], reader.read(tile)["image_embeddings"][0])
        crc = zlib.crc32(array[tile.row, tile.col].tobytes())
        assert group[f"level{tile.level}/image_embeddings_crc32"][tile.row, tile.col] == crc
    assert not group["level0/skipped"][:].any()
    assert sorted(name for name, _ in group.groups()) == ["level0", "level1"]


def test_tiles_without_data_read_as_nan_and_skipped(store: Path) -> None:
    (store / "level0/image_embeddings/c/0/1/0/0/0").unlink()
    skipped = zarr.open_array(store / "level0/skipped", mode="r+")
    skipped[0, 1] = True
    array = zarr.open_array(store / "level0/image_embeddings", mode="r")
    assert np.isnan(array[0, 1]).all()
    assert StoreReader(store).state(Tile(0, 0, 1)).value == "skipped"


def test_we_read_what_zarr_python_writes(store: Path) -> None:
    values = np.random.default_rng(0).normal(size=(1, 256, 256)).astype(np.float32)
    chunk = store / "level0/image_embeddings/c/1/0/0/0/0"
    chunk.unlink()
    zarr.open_array(store / "level0/image_embeddings", mode="r+")[1, 0] = values
    assert chunk.stat().st_size == values.nbytes
    np.testing.assert_array_equal(StoreReader(store).read(Tile(0, 1, 0))["image_embeddings"][0], values)


def test_store_created_by_zarr_python_is_read(store: Path, tmp_path: Path) -> None:
    """A whole hierarchy made by zarr-python, from the same metadata and values."""
    reader = StoreReader(store)
    other = tmp_path / "other.embeddings.zarr"
    group = zarr.create_group(other, attributes={"geosam_es": reader.metadata.to_json()})
    for grid in reader.pyramid.grids:
        level = group.create_group(f"level{grid.level}")
        array = level.create_array(
            "image_embeddings",
            shape=(grid.rows, grid.cols, 1, 256, 256),
            chunks=(1, 1, 1, 256, 256),
            dtype="float32",
            compressors=None,
            fill_value=np.nan,
        )
        for tile in grid:
            array[tile.row, tile.col] = reader.read(tile)["image_embeddings"][0]
    (other / "decoder.onnx").write_bytes(b"decoder")
    copy = StoreReader(other)
    assert not [problem for _, problem in copy.problems() if problem]
    for tile in reader.pyramid:
        np.testing.assert_array_equal(copy.read(tile)["image_embeddings"], reader.read(tile)["image_embeddings"])
