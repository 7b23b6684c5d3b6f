"""Splitting objects by space: held-out objects share no tile with training objects."""

from __future__ import annotations

from time import process_time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st

from encoder_tools.evaluation.ground_truth import TruthObject
from encoder_tools.finetune.spatial_split import (
    Split,
    divide,
    footprints,
    overlaps,
    split_by_space,
    split_from_layer,
)
from encoder_tools.finetune.training_samples import Place, Sample
from geosam_es.core.geotransform import GeoTransform
from geosam_es.core.grid import Pyramid, Tiling
from geosam_es.core.prompts import Bounds

UTM30, UTM31 = 25830, 25831


def make_reader(width: int, height: int, x: float = 0.0, y: float = 0.0, epsg: int = UTM30) -> Any:
    import pyproj

    raster = SimpleNamespace(
        transform=GeoTransform(1.0, 0.0, 600_000 + x, 0.0, -1.0, 4_400_000 + y),
        crs_wkt=pyproj.CRS.from_epsg(epsg).to_wkt(),
    )
    return SimpleNamespace(pyramid=Pyramid(width, height, Tiling()), metadata=SimpleNamespace(raster=raster))


def make_sample(readers: list[Any], store: int, x: float, y: float, size: float = 30.0) -> Sample:
    box = shapely.box(x, y, x + size, y + size)
    pyramid = readers[store].pyramid
    tile = pyramid.choose(Bounds(*box.bounds), is_box=True, available=lambda tile: tile.level >= 0)
    return Sample(
        TruthObject(f"{store} {x} {y}", box), Place(store, tile), np.zeros(8192, np.uint8), (0, 8, 0, 8), None
    )


def scattered(readers: list[Any], store: int, count: int, seed: int) -> list[Sample]:
    rng = np.random.default_rng(seed)
    grid = readers[store].pyramid
    xs, ys = rng.uniform(0, grid.width - 40, count), rng.uniform(0, grid.height - 40, count)
    return [make_sample(readers, store, float(x), float(y)) for x, y in zip(xs, ys)]


def share_no_pixels(readers: list[Any], samples: list[Sample], first: list[int], second: list[int]) -> bool:
    """Tell whether the tiles of both parts share no pixels."""
    outlines = footprints(readers, samples)
    return all(
        outlines[samples[a].place].intersection(outlines[samples[b].place]).area < 1.0 for a in first for b in second
    )


def test_separate_rasters_are_held_out_as_a_whole() -> None:
    readers = [make_reader(1000, 1000, x=3000 * number) for number in range(10)]
    samples = [sample for store in range(10) for sample in scattered(readers, store, 10, store)]
    split = split_by_space(readers, samples, 0.2, seed=1)
    assert not split.lost and not split.shares_tiles
    assert len(split.held) == 20 and len(split.train) == 80
    assert {samples[i].place.store for i in split.held}.isdisjoint({samples[i].place.store for i in split.train})
    assert split == split_by_space(readers, samples, 0.2, seed=1)
    assert split != split_by_space(readers, samples, 0.2, seed=2)


@example(3000, 4351, 40, 0)  # An odd height: tiles of two levels overlap by half a pixel.
@settings(max_examples=15)
@given(st.integers(3000, 7000), st.integers(900, 5000), st.integers(40, 300), st.integers(0, 99))
def test_one_large_raster_is_cut(width: int, height: int, count: int, seed: int) -> None:
    readers = [make_reader(width, height)]
    samples = scattered(readers, 0, count, seed)
    split = split_by_space(readers, samples, 0.2, seed)
    assert sorted([*split.train, *split.held, *split.lost]) == list(range(count))
    assert len(split.train) >= 5 and len(split.held) >= 2
    if not split.shares_tiles:
        assert share_no_pixels(readers, samples, split.train, split.held)


def test_a_raster_of_one_tile_is_split_by_a_line() -> None:
    readers = [make_reader(1000, 1000)]
    samples = scattered(readers, 0, 50, 0)
    split = split_by_space(readers, samples, 0.2, 0)
    assert split.shares_tiles and len(split.held) == 10 and len(split.train) >= 25
    distances = [samples[a].truth.geometry.distance(samples[b].truth.geometry) for a in split.train for b in split.held]
    assert min(distances) >= 15
    # A line separates them, so their hulls hardly overlap.
    hulls = [
        shapely.union_all([samples[i].truth.geometry for i in part]).convex_hull
        for part in split.__dict__.values()
        if isinstance(part, list) and part
    ]
    assert hulls[0].intersection(hulls[1]).area < 0.2 * hulls[1].area


def test_rasters_of_two_zones_over_one_place_are_one_place() -> None:
    """The second raster is of the same place in another zone, so both are in the same part."""
    import pyproj

    x, y = pyproj.Transformer.from_crs(UTM30, UTM31, always_xy=True).transform(600_000, 4_400_000)
    readers = [
        make_reader(1000, 1000),
        make_reader(1000, 1000, x=x - 600_000, y=y - 4_400_000, epsg=UTM31),
        make_reader(1000, 1000, x=9000),
        make_reader(1000, 1000, x=18000),
    ]
    samples = [sample for store in range(4) for sample in scattered(readers, store, 12, store)]
    for seed in range(5):
        split = split_by_space(readers, samples, 0.3, seed)
        stores = [{samples[i].place.store for i in part} for part in (split.train, split.held)]
        assert not ({0, 1} & stores[0] and {0, 1} & stores[1])


def test_too_few_objects_for_two_parts() -> None:
    readers = [make_reader(1000, 1000)]
    assert split_by_space(readers, scattered(readers, 0, 6, 0), 0.2, 0) == Split(list(range(6)), [], [])
    assert split_by_space(readers, scattered(readers, 0, 50, 0), 0.0, 0) == Split(list(range(50)), [], [])


def test_objects_near_a_held_out_layer_are_not_used() -> None:
    readers = [make_reader(4000, 1000)]
    samples = [make_sample(readers, 0, x, 300.0) for x in np.linspace(50, 3900, 40)]
    held = [make_sample(readers, 0, 3800.0, 600.0)]
    split = split_from_layer(readers, samples, held)
    assert not split.shares_tiles and split.lost and not split.held
    assert share_no_pixels(readers, [*samples, *held], split.train, [len(samples)])
    # On a single tile, objects at a distance are used.
    small = [make_reader(1000, 1000)]
    samples = scattered(small, 0, 30, 1)
    split = split_from_layer(small, samples, [make_sample(small, 0, 500.0, 500.0)])
    assert split.shares_tiles and len(split.train) >= 20


def near_any(samples: list[Sample], indices: list[int], others: list[Sample], gap: float) -> list[int]:
    """Return which samples are closer than a gap to any other one of their store, pair by pair."""
    return [
        index
        for index in indices
        if any(
            samples[index].place.store == other.place.store
            and samples[index].truth.geometry.distance(other.truth.geometry) < gap
            for other in others
        )
    ]


@settings(max_examples=25)
@given(st.integers(12, 60), st.integers(0, 999))
def test_exactly_the_objects_within_the_gap_are_lost(count: int, seed: int) -> None:
    readers = [make_reader(1000, 1000), make_reader(1000, 1000)]
    samples = scattered(readers[:1], 0, count, seed)
    split = split_by_space(readers[:1], samples, 0.2, seed)
    assert split.shares_tiles
    others = sorted({*range(count)} - {*split.held})
    assert split.lost == near_any(samples, others, [samples[index] for index in split.held], 15.0)

    # Both stores have the same coordinates, but objects of different stores are not near each other.
    samples += scattered(readers, 1, count, seed + 1)
    held = [make_sample(readers, store, 500.0, 500.0 + 200 * store) for store in (0, 1)]
    split = split_from_layer(readers, samples, held)
    assert split.shares_tiles and split.lost == near_any(samples, list(range(len(samples))), held, 15.0)


def test_thousands_of_objects_are_split_in_seconds() -> None:
    readers = [make_reader(1000, 1000)]
    samples = [make_sample(readers, 0, 10.0 * (n % 98), 10.0 * (n // 98), 6.0) for n in range(9000)]
    begun = process_time()
    assert split_by_space(readers, samples, 0.2, 0).shares_tiles
    split_from_layer(readers, samples, samples[::5])
    assert process_time() - begun < 30


def test_a_common_border_is_no_overlap() -> None:
    left, right, over = shapely.box(0, 0, 10, 10), shapely.box(10, 0, 20, 10), shapely.box(9, 0, 19, 10)
    assert overlaps([left, right, over], [left]).toarray()[:, 0].tolist() == [True, False, True]


def test_stores_of_one_crs_are_compared_in_it() -> None:
    readers = [make_reader(1000, 1000), make_reader(1000, 1000, x=5000)]
    samples = [make_sample(readers, 0, 10.0, 10.0), make_sample(readers, 1, 10.0, 10.0)]
    first, second = footprints(readers, samples).values()
    assert first.bounds == pytest.approx((600_000, 4_399_000, 601_000, 4_400_000))
    assert second.bounds[0] == pytest.approx(605_000)


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(5, 110),
    rasters=st.integers(1, 4),
    side=st.sampled_from([900, 3000, 6000]),
    seed=st.integers(0, 9),
)
@example(count=5, rasters=1, side=900, seed=0)
@example(count=99, rasters=4, side=3000, seed=0)
@example(count=100, rasters=4, side=3000, seed=0)
def test_each_training_object_is_in_one_of_four_parts_or_of_two(count: int, rasters: int, side: int, seed: int) -> None:
    readers = [make_reader(side, side, x=2.0 * side * number) for number in range(rasters)]
    samples = [sample for store in range(rasters) for sample in scattered(readers, store, count, seed + store)][
        ::rasters
    ]
    parts = divide(readers, samples, seed)
    assert len(parts) == (2 if len(samples) >= 100 else 4) and all(parts)
    assert sorted(map(id, samples)) == sorted(id(sample) for part in parts for sample in part)
