from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geosam_es.core.grid import LevelGrid, Pyramid, Tile, Tiling
from geosam_es.core.prompts import Bounds

sizes = st.integers(1, 6000)
overlaps = st.integers(0, 1000)


@given(sizes, sizes, overlaps)
def test_tiles_cover_the_level_and_are_full(width: int, height: int, overlap: int) -> None:
    grid = LevelGrid(0, width, height, Tiling(1024, overlap))
    cols = np.zeros(width, bool)
    rows = np.zeros(height, bool)
    for col in range(grid.cols):
        window = grid.window(0, col)
        assert window.width == min(1024, width)
        assert window.col_off >= 0 and window.col_off + window.width <= width
        cols[window.col_off : window.col_off + window.width] = True
    for row in range(grid.rows):
        window = grid.window(row, 0)
        assert window.height == min(1024, height)
        rows[window.row_off : window.row_off + window.height] = True
    assert cols.all() and rows.all()


@given(sizes, sizes, overlaps)
def test_neighbours_share_at_least_the_overlap(width: int, height: int, overlap: int) -> None:
    grid = LevelGrid(0, width, height, Tiling(1024, overlap))
    starts = [grid.window(0, col).col_off for col in range(grid.cols)]
    assert starts == sorted(set(starts))
    assert all(second - first <= 1024 - overlap for first, second in zip(starts, starts[1:]))


@given(st.integers(1, 40_000), st.integers(1, 40_000))
def test_last_level_is_one_tile(width: int, height: int) -> None:
    pyramid = Pyramid(width, height, Tiling())
    assert len(pyramid.grids[-1]) == 1
    assert all(len(grid) > 1 for grid in pyramid.grids[:-1])


@given(sizes, sizes, overlaps, st.data())
def test_any_point_has_a_tile_on_every_level(width: int, height: int, overlap: int, data: st.DataObject) -> None:
    pyramid = Pyramid(width, height, Tiling(1024, overlap))
    x, y = data.draw(st.floats(0, width)), data.draw(st.floats(0, height))
    for level in range(len(pyramid.grids)):
        tile = pyramid.choose(Bounds(x, y, x, y), is_box=False, level=level)
        assert tile is not None and tile.level == level
        assert pyramid.tile_bounds(tile).contains(Bounds(x, y, x, y))


@given(sizes, sizes, st.data())
def test_chosen_tile_has_the_widest_margin(width: int, height: int, data: st.DataObject) -> None:
    pyramid = Pyramid(width, height, Tiling())
    x, y = data.draw(st.floats(0, width)), data.draw(st.floats(0, height))
    tile = pyramid.choose(Bounds(x, y, x, y), is_box=False)
    assert tile is not None

    def margin(candidate: Tile) -> float:
        left, top, right, bottom = pyramid.tile_bounds(candidate)
        far = 1024.0
        return min(
            x - left if left > 0 else far,
            y - top if top > 0 else far,
            right - x if right < width else far,
            bottom - y if bottom < height else far,
        )

    best = max(margin(candidate) for candidate in pyramid.grids[0])
    assert margin(tile) == pytest.approx(best)
    # An overlap of 256 px keeps any point 128 px away from a border that cuts.
    assert best >= 128


def test_box_may_fill_four_fifths_of_a_tile() -> None:
    pyramid = Pyramid(4096, 4096, Tiling())
    small = pyramid.choose(Bounds(100, 100, 900, 500), is_box=True)
    large = pyramid.choose(Bounds(100, 100, 1000, 500), is_box=True)
    points = pyramid.choose(Bounds(100, 100, 1000, 500), is_box=False)
    assert small is not None and small.level == 0
    assert large is not None and large.level == 1
    assert points is not None and points.level == 0
    whole = pyramid.choose(Bounds(0, 0, 4096, 4096), is_box=True)
    assert whole == Tile(2, 0, 0)


def test_the_level_can_be_chosen_within_those_of_the_pyramid() -> None:
    pyramid = Pyramid(4096, 4096, Tiling())
    point = Bounds(5, 5, 5, 5)
    assert [pyramid.choose(point, is_box=False, level=level).level for level in (0, 1, 2, 9)] == [0, 1, 2, 2]


def test_tiles_without_embedding_are_passed_over() -> None:
    pyramid = Pyramid(3000, 1000, Tiling())
    point = Bounds(900, 500, 900, 500)
    assert pyramid.choose(point, is_box=False) == Tile(0, 0, 0) or pyramid.choose(point, is_box=False) == Tile(0, 0, 1)
    best = pyramid.choose(point, is_box=False)
    other = pyramid.choose(point, is_box=False, available=lambda tile: tile != best)
    assert other is not None and other != best
    assert pyramid.choose(point, is_box=False, available=lambda tile: False) is None


def test_point_on_the_cut_last_coarse_pixel_belongs_to_the_level() -> None:
    pyramid = Pyramid(2051, 2051, Tiling())
    assert pyramid.grids[1].width == 1025
    tile = pyramid.choose(Bounds(2050.9, 2050.9, 2050.9, 2050.9), is_box=False, level=1)
    assert tile is not None and tile.level == 1
    assert pyramid.tile_bounds(tile)[2:] == (2051, 2051)


def test_overlap_must_leave_a_stride() -> None:
    for overlap in (-1, 1009, 1024):
        with pytest.raises(ValueError, match="overlap must lie from 0 to 1008"):
            Tiling(1024, overlap)


@given(st.integers(0, 1008))
def test_strides_keep_objects_on_the_same_patches(overlap: int) -> None:
    stride = Tiling(1024, overlap).stride
    assert stride > 0 and stride % 16 == 0
    assert 0 <= 1024 - overlap - stride < 16


@given(sizes, sizes, overlaps, st.sampled_from([-2, -1]), st.data())
def test_enlarged_levels_lie_on_whole_native_pixels(
    width: int, height: int, overlap: int, level: int, data: st.DataObject
) -> None:
    pyramid = Pyramid(width, height, Tiling(1024, overlap))
    grid = pyramid.grid(level)
    assert (grid.level, grid.width, grid.height) == (level, width << -level, height << -level)
    row, col = data.draw(st.integers(0, grid.rows - 1)), data.draw(st.integers(0, grid.cols - 1))
    window = grid.window(row, col)
    native = window.scaled(grid.scale)
    assert native.scaled(2**-level) == window
    assert pyramid.tile_bounds(Tile(level, row, col)) == Bounds(*native.bounds)


@given(sizes, sizes, overlaps, st.integers(-2, 2), st.data())
def test_tiles_touching_a_rectangle(width: int, height: int, overlap: int, level: int, data: st.DataObject) -> None:
    pyramid = Pyramid(width, height, Tiling(1024, overlap))
    grid = pyramid.grids_from(level)[0]
    along_x, along_y = (st.integers(0, 8 * size).map(lambda eighths: eighths / 8) for size in (width, height))
    left, right = sorted(data.draw(st.tuples(along_x, along_x)))
    top, bottom = sorted(data.draw(st.tuples(along_y, along_y)))

    def touches(tile: Tile) -> bool:
        own = Bounds(*(value * grid.scale for value in grid.window(tile.row, tile.col).bounds))
        size = 1024 * grid.scale
        return own.min_x < right and own.min_y < bottom and left < own.min_x + size and top < own.min_y + size

    assert list(grid.touching(Bounds(left, top, right, bottom))) == [tile for tile in grid if touches(tile)]


@pytest.mark.parametrize(
    ("size", "level", "wanted"),
    [(20, 0, -2), (40, 0, -2), (60, 0, -1), (103, 0, 0), (800, 0, 0), (830, 0, 1), (300, 2, 1), (60, -2, -2)],
)
def test_a_box_gets_a_level_at_which_it_is_neither_small_nor_large(size: int, level: int, wanted: int) -> None:
    pyramid = Pyramid(8192, 8192, Tiling())
    box = Bounds(4000, 4000, 4000 + size, 4000 + size / 2)
    tile = pyramid.choose(box, is_box=True, level=level)
    assert tile is not None and tile.level == wanted
    coarser = pyramid.choose(box, is_box=True, level=level, available=lambda tile: tile.level >= 0)
    assert coarser is not None and coarser.level == max(wanted, 0)


@given(st.sets(st.integers(0, 900), min_size=1, max_size=5), st.integers(0, 1924), st.integers(1, 400))
def test_tiles_may_start_anywhere(chosen: set[int], low: int, size: int) -> None:
    starts = tuple(sorted(chosen))
    grid = LevelGrid(0, 2000, 500, Tiling(1024, 0, (starts, (0,))))
    assert [grid.window(0, col)[:3] for col in range(grid.cols)] == [(start, 0, 1024) for start in starts]
    bounds = Bounds(low, 100, low + size, 200)
    found = {tile.col for tile in grid.touching(bounds)}
    assert found == {col for col, start in enumerate(starts) if start < low + size and low < start + 1024}
    inside = {tile.col for _, tile in grid.tiles_around(bounds, 1.0)}
    whole = {col for col, start in enumerate(starts) if start <= low and low + size <= start + 1024}
    # A prompt beyond the raster's edge by up to the tolerance counts as inside.
    assert whole <= inside or low + size > 2000
    assert Pyramid(2000, 500, grid.tiling, 1).grid(-1).window(0, 1).col_off == 1024


def test_the_last_tile_of_another_program_may_end_before_the_raster() -> None:
    pyramid = Pyramid(3000, 1400, Tiling(1024, 0, ((0, 476), (0, 376))), 1)
    assert pyramid.tile_bounds(Tile(0, 1, 1)) == Bounds(476, 376, 1500, 1400)
