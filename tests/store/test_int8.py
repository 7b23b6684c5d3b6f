"""Features as 8-bit integers: how far they may move, and stores of them."""

from __future__ import annotations

from dataclasses import replace
from operator import eq
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from geosam_es.core.grid import Tile
from geosam_es.errors import SignatureMismatchError, StoreError
from geosam_es.store import StoreMetadata, StoreReader, StoreWriter
from geosam_es.store.int8 import from_int8, to_int8
from tests.helpers import make_metadata

SHAPES = {"image_embeddings": (4, 8, 8), "fine": (2, 16, 16)}
MODEL = {"name": "m", "encoder_sha256": "1" * 64, "licence": "CC0-1.0", "features": SHAPES}
TILE = Tile(0, 1, 2)


@given(arrays(np.float32, (3, 4, 5), elements=st.floats(-(2.0**99), 2.0**99, width=32)))
def test_no_value_moves_by_more_than_half_a_scale(features: np.ndarray) -> None:
    values, scales = to_int8(features)
    assert values.dtype == np.int8 and scales.dtype == np.float32
    back = from_int8(values, scales)
    assert back.dtype == np.float32
    peak = np.abs(features).max(axis=(1, 2), keepdims=True)
    largest = np.where(peak >= 127 * np.finfo(np.float32).tiny, peak / 127, 127 * np.finfo(np.float32).tiny)
    assert (np.abs(back - features) <= largest * 0.5001).all()


def test_a_channel_of_zeros_stays_zero() -> None:
    features = np.zeros((2, 3, 3), np.float32)
    features[1] = 5.0
    back = from_int8(*to_int8(features))
    np.testing.assert_allclose(back, features, rtol=1e-6)


def metadata() -> StoreMetadata:
    return replace(make_metadata(3000, 2000), model=MODEL, dtype="int8")


def features() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    # Channels of very different size, as they are in real features.
    return {
        name: (random.normal(size=shape) * 10.0 ** np.arange(shape[0])[:, None, None]).astype(np.float32)
        for name, shape in SHAPES.items()
    }


@pytest.fixture
def store(tmp_path: Path) -> Path:
    decoder = tmp_path / "decoder"
    decoder.write_bytes(b"decoder")
    root = tmp_path / "a.embeddings.zarr"
    StoreWriter.create(root, metadata(), {"decoder.onnx": decoder}).write(TILE, features())
    return root


def test_a_tile_takes_a_quarter_and_is_read_as_float32(store: Path) -> None:
    reader = StoreReader(store)
    got = reader.read(TILE)
    for name, wanted in features().items():
        assert got[name].dtype == np.float32 and got[name].shape == (1, *SHAPES[name])
        peak = np.abs(wanted).max(axis=(1, 2), keepdims=True)
        assert (np.abs(got[name][0] - wanted) <= peak / 127 * 0.5001).all()
    size = sum(path.stat().st_size for path in (store / "level0").rglob("c/**/*") if path.is_file())
    values = sum(int(np.prod(shape)) for shape in SHAPES.values())
    channels = sum(shape[0] for shape in SHAPES.values())
    checksums = 4 * (len(SHAPES) + 1)
    assert size == metadata().tile_bytes == values + 4 * channels + checksums
    assert replace(metadata(), dtype="float32").tile_bytes == 4 * values + checksums


def test_a_tile_without_its_scales_is_a_problem(store: Path) -> None:
    reader = StoreReader(store)
    assert dict(reader.problems())[TILE] == ""
    scales = store / "level0/fine_scale/c/1/2/0"
    np.full(2, np.nan, np.float32).tofile(scales)
    assert dict(reader.problems())[TILE] == "fine not finite"
    scales.write_bytes(b"\0" * 4)
    with pytest.raises(StoreError, match="has 1 values instead of 2"):
        reader.read(TILE)
    scales.unlink()
    assert dict(reader.problems())[TILE] == "missing" and not StoreWriter(store, metadata()).is_done(TILE)


def test_arrays_that_do_not_fit_are_refused(store: Path) -> None:
    path = store / "level0/fine_scale/zarr.json"
    path.write_text(path.read_text().replace("float32", "float64"))
    with pytest.raises(StoreError, match=r"fine_scale.*does not match"):
        StoreReader(store)
    path.unlink()
    with pytest.raises(StoreError, match="missing or damaged"):
        StoreReader(store)


def test_the_type_is_part_of_the_signature(store: Path) -> None:
    with pytest.raises(SignatureMismatchError, match="dtype = 'int8', not 'float16'"):
        StoreWriter.resume(store, replace(metadata(), dtype="float16"), eq)
    writer = StoreWriter.resume(store, metadata(), eq)
    assert writer.is_done(TILE)
    writer.write(Tile(0, 0, 0), features())
    assert StoreReader(store).is_encoded(Tile(0, 0, 0))


def test_values_that_are_not_finite_are_refused(store: Path) -> None:
    bad = features()
    bad["fine"][0, 0, 0] = np.inf
    with pytest.raises(StoreError, match="not finite"):
        StoreWriter.resume(store, metadata(), eq).write(Tile(0, 0, 0), bad)


def test_zarr_python_reads_it(store: Path) -> None:
    zarr = pytest.importorskip("zarr", minversion="3")
    level = zarr.open_group(store, mode="r")["level0"]
    assert {name for name, _ in level.arrays()} == {
        *(f"{name}{suffix}" for name in SHAPES for suffix in ("", "_scale", "_crc32")),
        "origin",
        "skipped",
    }
    for name, got in StoreReader(store).read(TILE).items():
        values, scales = level[name][TILE.row, TILE.col], level[f"{name}_scale"][TILE.row, TILE.col]
        assert values.dtype == np.int8 and scales.dtype == np.float32
        np.testing.assert_array_equal(values * scales[:, None, None], got[0])
    assert np.isnan(level["fine_scale"][0, 0]).all()


def test_we_read_what_zarr_python_writes(store: Path) -> None:
    zarr = pytest.importorskip("zarr", minversion="3")
    level = zarr.open_group(store, mode="r+")["level0"]
    for name, shape in SHAPES.items():
        level[name][0, 1] = np.full(shape, 3, np.int8)
        level[f"{name}_scale"][0, 1] = np.arange(shape[0], dtype=np.float32)
    got = StoreReader(store).read(Tile(0, 0, 1))["fine"]
    assert got[0, :, 0, 0].tolist() == [0.0, 3.0]
