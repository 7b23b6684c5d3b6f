"""Features under polygons: against maps whose values are known at every place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely

from geosam_es.core.grid import Tile
from geosam_es.inference.features import SAMPLES, FeaturePool
from geosam_es.store import StoreReader, StoreWriter
from tests.helpers import disc, make_metadata, make_store

SHAPE = (1500, 2000)


def blobs(folder: Path, image: np.ndarray) -> FeaturePool:
    return FeaturePool(StoreReader(make_store(folder, image)))


def test_mean_under_a_polygon_and_contrast_with_its_ring(tmp_path: Path) -> None:
    image = np.zeros(SHAPE, np.float32)
    image[400:480, 600:700] = 1.0
    pool = blobs(tmp_path, image)
    inside, far, half = pool.vectors(
        [shapely.box(600, 400, 700, 480), shapely.box(1500, 1000, 1600, 1100), shapely.box(650, 400, 750, 480)]
    )
    assert inside.dtype == np.float32 and inside.shape == (2,)
    low, high = far[0], inside[0]
    assert far[1] == pytest.approx(0, abs=1e-6)
    assert inside[1] == pytest.approx(low - high)
    assert half[0] == pytest.approx((low + high) / 2, rel=1e-3)
    values = pool.maps(Tile(0, 0, 0))[0]
    assert [low, high] == pytest.approx([values.min(), values.max()], rel=1e-4)


def test_channels_are_standardised_without_padding(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random(SHAPE).astype(np.float32)
    pool = blobs(tmp_path, image[:800, :700])
    values = pool.maps(Tile(0, 0, 0))[0][:, :200, :175]
    assert (values.mean(), values.std()) == pytest.approx((0, 1), abs=1e-4)


def test_a_polygon_smaller_than_a_sample_and_one_without_tiles(tmp_path: Path) -> None:
    pool = blobs(tmp_path, disc(SHAPE, 500, 500, 100))
    vectors = pool.vectors([shapely.box(501.1, 501.1, 501.2, 501.2), shapely.Polygon(), shapely.Point(500, 500)])
    assert np.isfinite(vectors[0]).all() and np.isnan(vectors[1]).all()
    assert vectors[0] == pytest.approx(vectors[2], abs=1e-4)
    for path in tmp_path.glob("*/level*/image_embeddings/c"):
        path.rename(path.with_name("gone"))
    assert np.isnan(FeaturePool(pool.reader).vectors([shapely.box(0, 0, 9, 9)])).all()


def test_the_level_follows_the_size_and_polygons_larger_than_tiles_are_pooled_in_part(tmp_path: Path) -> None:
    pool = blobs(tmp_path, disc(SHAPE, 500, 500, 100))
    assert pool.tile_of(shapely.box(400, 400, 420, 420)) == Tile(0, 0, 0)
    large = pool.tile_of(shapely.box(100, 100, 1900, 1400))
    assert large is not None and large.level == 1
    one_level = FeaturePool(StoreReader(make_store(tmp_path, disc(SHAPE, 500, 500, 100), levels=1, name="one")))
    assert np.isfinite(one_level.vectors([shapely.box(100, 100, 1900, 1400)])).all()


def test_the_cache_is_bounded_and_the_spread_stays(tmp_path: Path) -> None:
    root = make_store(tmp_path, np.random.default_rng(0).random(SHAPE).astype(np.float32))
    pool = FeaturePool(StoreReader(root), tiles_kept=1)
    polygons = [shapely.box(x, 100, x + 90, 190) for x in (100, 1500)]
    first = pool.vectors(polygons)
    # New tiles change neither mean nor spread.
    StoreWriter(root, pool.reader.metadata).write(
        Tile(0, 1, 1), {"image_embeddings": np.full((1, 256, 256), 9.0, np.float32)}
    )
    assert pool.vectors(polygons).tolist() == first.tolist()


def packed(folder: Path) -> tuple[FeaturePool, list[np.ndarray]]:
    """Write a store of one tile in which three maps are packed, as `mini` packs them."""
    random = np.random.default_rng(1)
    maps = [random.random((count, side, side)).astype(np.float32) for count, side in ((16, 256), (32, 128), (128, 64))]
    stored = [
        values.reshape(len(values), 64, f, 64, f).transpose(0, 2, 4, 1, 3).reshape(-1, 64, 64)
        for values, f in zip(maps, (4, 2, 1))
    ]
    metadata = make_metadata(1024, 1024)
    model = {**metadata.model, "features": {"image_embeddings": (512, 64, 64)}}
    (folder / "decoder.bin").write_bytes(b"none")
    writer = StoreWriter.create(
        folder / "packed.embeddings.zarr", replace(metadata, model=model), {"decoder.onnx": folder / "decoder.bin"}
    )
    writer.write(Tile(0, 0, 0), {"image_embeddings": np.concatenate(stored)})
    means = [values.mean(axis=(1, 2), keepdims=True) for values in maps]
    spreads = [values.std(axis=(1, 2), keepdims=True) for values in maps]
    standard = [(values - mean) / spread for values, mean, spread in zip(maps, means, spreads)]
    return FeaturePool(StoreReader(writer.root)), standard


def test_packed_maps_are_read_at_their_own_resolution(tmp_path: Path) -> None:
    pool, maps = packed(tmp_path)
    tile = Tile(0, 0, 0)
    assert pool.channels == 176
    for found, wanted in zip(pool.maps(tile), maps):
        assert np.allclose(found, wanted, atol=1e-4)
    weights = np.random.default_rng(2).normal(size=176)
    samples = np.array([[0, 0], [101, 7], [255, 254]])
    parts = []
    for values in maps:
        row, col = (samples * values.shape[1] // SAMPLES).T
        parts.append(values[:, row, col].T)
    wanted = np.concatenate(parts, axis=1)
    assert pool.at(tile, samples) == pytest.approx(wanted, abs=1e-4)
    assert pool.linear_map(tile, weights)[samples[:, 0], samples[:, 1]] == pytest.approx(wanted @ weights, abs=1e-3)
    inside, _ = pool.samples(tile, shapely.box(10, 20, 51, 90))
    assert pool.vectors([shapely.box(10, 20, 51, 90)], [tile])[0, :176] == pytest.approx(
        pool.at(tile, inside).mean(axis=0), abs=1e-4
    )
