from __future__ import annotations

import numpy as np
import pytest
import shapely
import shapely.affinity
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.affinity import rotate

from geosam_es.core.topology import (
    clean,
    fewest_vertices,
    fill_holes,
    merge,
    middles,
    polygon_parts,
    prompted_parts,
    split_by_line,
    with_kept_borders,
)

SQUARE = shapely.box(0, 0, 100, 100)
WITH_HOLES = shapely.Polygon(
    SQUARE.exterior, [shapely.box(10, 10, 12, 12).exterior, shapely.box(50, 50, 80, 80).exterior]
)


def test_only_small_holes_are_filled() -> None:
    filled = fill_holes(WITH_HOLES, 100)
    assert len(filled.interiors) == 1
    assert filled.area == pytest.approx(10000 - 900)
    assert len(fill_holes(WITH_HOLES, 1e6).interiors) == 0
    assert len(fill_holes(WITH_HOLES, 0).interiors) == 2


def test_small_parts_are_left_out() -> None:
    cleaned = clean([SQUARE, shapely.box(200, 200, 201, 201)], min_area=2)
    assert cleaned.equals(SQUARE)
    assert clean([SQUARE], min_area=1e6).is_empty
    assert clean([]).is_empty


def test_prompted_parts() -> None:
    speck = shapely.box(200, 200, 205, 205)
    assert prompted_parts([SQUARE, speck], [(50, 50)]) == [SQUARE]
    assert prompted_parts([SQUARE, speck], [(202, 202)]) == [speck]
    assert prompted_parts([SQUARE, speck], [(50, 50), (202, 202)]) == [SQUARE, speck]
    # A click in a hole, or a box without a click, keeps the largest.
    assert prompted_parts([WITH_HOLES, speck], [(60, 60)]) == [WITH_HOLES]
    assert prompted_parts([SQUARE, speck], []) == [SQUARE]


def test_merge_joins_what_touches() -> None:
    joined = merge([SQUARE, shapely.box(100, 0, 200, 100)])
    assert joined.geom_type == "Polygon" and joined.area == 20000
    apart = merge([SQUARE, shapely.box(300, 0, 400, 100)])
    assert apart.geom_type == "MultiPolygon" and len(apart.geoms) == 2


def test_polygon_parts_drops_lines() -> None:
    mixed = shapely.GeometryCollection(
        [SQUARE, shapely.LineString([(0, 0), (1, 1)]), shapely.MultiPolygon([shapely.box(200, 0, 201, 1)])]
    )
    assert [part.area for part in polygon_parts(mixed)] == [10000, 1]
    assert polygon_parts(shapely.Polygon()) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 30))
def test_simplified_outlines_are_valid_near_and_lighter(seed: int, tolerance: float) -> None:
    rng = np.random.default_rng(seed)
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    radius = 100 + rng.normal(size=200).cumsum() % 20
    polygon = shapely.Polygon(np.column_stack([radius * np.cos(angles), radius * np.sin(angles)]))
    cleaned = clean([polygon], simplify_tolerance=tolerance)
    assert cleaned.is_valid
    assert shapely.get_num_coordinates(cleaned) <= shapely.get_num_coordinates(polygon)
    if not cleaned.is_empty:
        assert shapely.hausdorff_distance(cleaned.exterior, polygon.exterior) <= 2 * tolerance + 1e-6


def _lake(noise: float = 0.3) -> shapely.Polygon:
    """A round lake with an island, traced with a vertex every 4 units or so."""
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    rng = np.random.default_rng(5)
    radius = 250 + 40 * np.sin(3 * angles) + rng.normal(0, noise, len(angles))
    hole = 50 + rng.normal(0, noise, len(angles))
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return shapely.Polygon(circle * radius[:, None], [circle[::5] * hole[::5, None]])


@pytest.mark.parametrize("tolerance", [0.5, 1.0, 4.0])
def test_fewest_vertices_stay_within_the_tolerance_and_are_fewer_than_usual(tolerance: float) -> None:
    lake = _lake()
    sparse = fewest_vertices(lake, tolerance)
    assert sparse.is_valid and len(sparse.interiors) == 1
    assert shapely.hausdorff_distance(lake.boundary, sparse.boundary, densify=0.1) <= 1.001 * tolerance
    usual = shapely.simplify(lake, tolerance, preserve_topology=True)
    assert shapely.get_num_coordinates(sparse) < 0.95 * shapely.get_num_coordinates(usual)
    assert set(map(tuple, shapely.get_coordinates(sparse))) <= set(map(tuple, shapely.get_coordinates(lake)))


def test_fewest_vertices_of_simple_and_of_many_polygons() -> None:
    square = shapely.box(0, 0, 10, 10)
    assert fewest_vertices(shapely.segmentize(square, 0.7), 0.1).equals_exact(square, 1e-9, normalize=True)
    speck = shapely.box(20, 20, 20.5, 20.5)
    assert len(fewest_vertices(shapely.MultiPolygon([square, speck]), 1.0).geoms) == 2
    assert fewest_vertices(shapely.Polygon(), 1.0).is_empty


def test_parts_in_an_outline_are_kept() -> None:
    parts = [shapely.box(0, 0, 10, 10), shapely.box(20, 0, 28, 8), shapely.box(40, 0, 44, 4)]
    assert prompted_parts(parts, [], shapely.box(18, -2, 46, 10)) == parts[1:]
    assert prompted_parts(parts, [(5, 5)], shapely.box(18, -2, 30, 10)) == parts[:2]
    assert prompted_parts(parts, [], shapely.box(26, 0, 30, 8)) == parts[:1], "less than half of it is in the outline"


def test_a_line_splits_polygons_and_keeps_their_vertices() -> None:
    both = shapely.MultiPolygon([shapely.box(0, 0, 10, 10), shapely.box(20, 0, 30, 4)])
    pieces = split_by_line(both, shapely.LineString([(3, -1), (3, 5), (25, 5), (25, -1)]))
    assert [piece.area for piece in pieces] == [65, 35, 20, 20]
    assert shapely.union_all(pieces).equals(both)
    corners = {xy for piece in pieces for xy in piece.exterior.coords}
    assert {(0, 0), (10, 10), (20, 0), (30, 4)} <= corners
    assert split_by_line(both, shapely.LineString([(3, -1), (3, 5)])) == [shapely.box(0, 0, 10, 10), both.geoms[1]]
    ring = shapely.box(0, 0, 10, 10).difference(shapely.box(4, 4, 6, 6))
    halves = split_by_line(ring, shapely.LineString([(5, -1), (5, 11)]))
    assert [piece.area for piece in halves] == [48, 48]


def test_the_middles_of_large_parts() -> None:
    angle = shapely.Polygon([(0, 0), (100, 0), (100, 20), (20, 20), (20, 100), (0, 100)])
    ((x, y),) = middles(angle)
    assert shapely.Point(x, y).distance(angle.exterior) > 9
    assert len(middles(shapely.MultiPolygon([angle, shapely.box(200, 0, 240, 40), shapely.box(300, 0, 301, 1)]))) == 2


def test_the_middle_does_not_depend_on_the_crs() -> None:
    """Reprojecting moves vertices by less than a millimetre."""
    field = shapely.segmentize(shapely.box(0, 0, 300, 20), 9)
    for turn in (0, 30, 77):
        turned = rotate(field, turn)
        for wave in (1, 2, 3):
            ((x, y),) = middles(shapely.transform(turned, lambda xy, wave=wave: xy + 1e-4 * np.sin(wave * xy)))
            assert (x, y) == pytest.approx((150, 10), abs=0.01)


def test_borders_that_differ_little_keep_their_vertices() -> None:
    older = shapely.segmentize(shapely.box(0, 0, 100, 100), 7)
    jittered = shapely.box(0.8, -0.7, 99.5, 100.9)
    assert with_kept_borders(jittered, older, 2) is older
    grown = shapely.union(jittered, shapely.box(99, 30, 130, 60)).difference(shapely.box(-1, 80, 20, 101))
    kept = with_kept_borders(grown, older, 2)
    wanted = shapely.union(older, shapely.box(100, 30, 130, 60)).difference(shapely.box(0, 80, 20, 100))
    assert kept.is_valid and kept.geom_type == "Polygon"
    assert shapely.symmetric_difference(kept, wanted).area < 60
    along = [xy for xy in older.exterior.coords if xy[1] == 0]
    assert set(along) <= set(kept.exterior.coords)


def test_kept_borders_have_no_slits() -> None:
    older = shapely.Point(0, 0).buffer(50.3, quad_segs=37)
    grown = shapely.union(
        shapely.Point(0.3, 0.2).buffer(50.1), shapely.affinity.rotate(shapely.box(20, 20, 80, 60), 13)
    )
    kept = with_kept_borders(grown, older, 3)
    assert kept.geom_type == "Polygon" and not kept.interiors and kept.is_valid
