from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.affinity import rotate, scale, translate

from geosam_es.core.orthogonal import square_angles

BOX = shapely.box(0, 0, 30, 20)
L_SHAPE = shapely.Polygon([(0, 0), (30, 0), (30, 12), (14, 12), (14, 25), (0, 25)])
U_SHAPE = shapely.Polygon([(0, 0), (40, 0), (40, 30), (28, 30), (28, 12), (12, 12), (12, 30), (0, 30)])
COURT = shapely.Polygon(shapely.box(0, 0, 40, 30).exterior, [shapely.box(12, 8, 28, 22).exterior])
SHAPES = [BOX, L_SHAPE, U_SHAPE, COURT]


def traced(polygon: shapely.Polygon, noise: float, seed: int, step: float = 1.0, worn: float = 1.0) -> shapely.Polygon:
    """Make a building look like the outline of a mask: worn corners, vertices every pixel, noise."""
    rng = np.random.default_rng(seed)
    round_corners = polygon.buffer(-worn).buffer(2 * worn).buffer(-worn)

    def shake(xy: np.ndarray) -> np.ndarray:
        moved = xy + rng.uniform(-noise, noise, xy.shape)
        moved[-1] = moved[0]
        return moved

    rings = [
        shake(shapely.get_coordinates(shapely.segmentize(ring, step)))
        for ring in (round_corners.exterior, *round_corners.interiors)
    ]
    return shapely.Polygon(rings[0], rings[1:])


def right_angles(polygon: shapely.Polygon) -> bool:
    for ring in (polygon.exterior, *polygon.interiors):
        xy = shapely.get_coordinates(ring)[:-1]
        edges = np.roll(xy, -1, axis=0) - xy
        edges /= np.hypot(*edges.T)[:, None]
        following = np.roll(edges, -1, axis=0)
        if np.abs((edges * following).sum(axis=1)).max() > 1e-6:
            return False
    return True


@given(st.sampled_from(range(len(SHAPES))), st.floats(0, 360), st.integers(0, 10_000), st.floats(0, 0.3))
def test_traced_buildings_get_their_corners_back(shape: int, angle: float, seed: int, noise: float) -> None:
    building = translate(rotate(SHAPES[shape], angle, origin=(0, 0)), 725_000, 4_372_000)
    outline = traced(building, noise, seed)
    squared = square_angles(outline, 2.0)
    assert squared.is_valid and right_angles(squared)
    assert shapely.get_num_coordinates(squared) == shapely.get_num_coordinates(SHAPES[shape])
    assert len(squared.interiors) == len(building.interiors)
    iou = squared.intersection(building).area / squared.union(building).area
    assert iou > 0.96
    assert shapely.hausdorff_distance(squared, outline, densify=0.1) <= 2.0


@given(st.integers(0, 10_000), st.floats(0.5, 50), st.integers(3, 40))
def test_any_polygon_stays_valid_and_near(seed: int, displacement: float, count: int) -> None:
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * math.pi, count))
    radius = rng.uniform(20, 60, count)
    outline = shapely.make_valid(shapely.Polygon(np.column_stack([radius * np.cos(angles), radius * np.sin(angles)])))
    if outline.geom_type not in ("Polygon", "MultiPolygon") or outline.area < 1:
        return
    squared = square_angles(outline, displacement)
    assert squared.is_valid and not squared.is_empty
    assert shapely.hausdorff_distance(squared.boundary, outline.boundary, densify=0.1) <= displacement + 1e-6


@pytest.mark.parametrize(
    "outline",
    [
        shapely.Point(0, 0).buffer(20),
        scale(shapely.Point(0, 0).buffer(20), 2, 1),
        shapely.Polygon([(0, 0), (30, 0), (15, 26)]),
        shapely.Polygon([(0, 0), (40, 0), (28, 20), (12, 20)]),
        rotate(shapely.Point(0, 0).buffer(20, quad_segs=2), 10),
    ],
    ids=["circle", "ellipse", "triangle", "trapezium", "octagon"],
)
def test_what_is_not_rectilinear_stays_as_it_is(outline: shapely.Polygon) -> None:
    assert square_angles(outline, 5.0).equals_exact(outline, 0)


def test_squaring_again_changes_nothing() -> None:
    once = square_angles(traced(rotate(L_SHAPE, 33), 0.3, 1), 2.0)
    assert square_angles(once, 2.0).normalize().equals_exact(once.normalize(), 1e-6)


def test_the_displacement_is_a_bound() -> None:
    outline = traced(BOX, 0.3, 3, worn=3.0)
    # The worn corners are more than a metre away from true ones.
    assert square_angles(outline, 0.5).equals_exact(outline, 0)
    assert right_angles(square_angles(outline, 2.0))


def test_a_round_pool_in_a_court_is_kept_beside_square_walls() -> None:
    pool = shapely.Point(20, 15).buffer(6)
    squared = square_angles(shapely.Polygon(traced(shapely.box(0, 0, 40, 30), 0.3, 5).exterior, [pool.exterior]), 2.0)
    assert len(squared.interiors) == 1
    assert shapely.Polygon(squared.interiors[0]).equals(pool)
    assert right_angles(shapely.Polygon(squared.exterior))


def test_parts_are_squared_each_in_its_own_direction() -> None:
    parts = [traced(BOX, 0.3, 1), traced(translate(rotate(L_SHAPE, 40), 100, 0), 0.3, 2)]
    squared = square_angles(shapely.MultiPolygon(parts), 2.0)
    assert squared.geom_type == "MultiPolygon"
    assert all(right_angles(part) for part in squared.geoms)


def test_parts_that_would_come_to_overlap_stay_apart() -> None:
    """Corners worn off on a diagonal leave room for the neighbour that square corners would take."""
    building = shapely.box(0, 0, 20, 20).buffer(-2).buffer(2)
    both = shapely.MultiPolygon([building, translate(building, 19.5, 19.5)])
    assert both.is_valid and right_angles(square_angles(building, 2.0))
    assert square_angles(both, 2.0).equals_exact(both, 0)
