"""Seams, poles and wrapped longitudes. The sphere stands for the globe, so that areas and positions are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from geosam_es.core.globe import (
    Project,
    Seam,
    are_degrees,
    crosses,
    find_seam,
    globe_rings,
    placed,
    split_at_seam,
    untorn,
)
from geosam_es.core.prompts import Bounds

Array = NDArray[np.float64]


def cylindrical(central: float, inverse: bool = False) -> Project:
    """An equal-area cylinder: one unit of x is a degree, and areas are those of the sphere."""

    def forth(xy: Array) -> Array:
        lon = (xy[:, 0] - central + 180) % 360 - 180
        return np.column_stack((lon, np.degrees(np.sin(np.radians(xy[:, 1])))))

    def back(xy: Array) -> Array:
        lon = (xy[:, 0] + central + 180) % 360 - 180
        return np.column_stack((lon, np.degrees(np.arcsin(np.clip(np.radians(xy[:, 1]), -1, 1)))))

    return back if inverse else forth


def from_polar(xy: Array) -> Array:
    """Lambert's azimuthal plane around the north pole, in radii; areas are those of the unit sphere."""
    radius = np.hypot(*xy.T)
    return np.column_stack((np.degrees(np.arctan2(xy[:, 1], xy[:, 0])), 90 - np.degrees(2 * np.arcsin(radius / 2))))


def to_polar(lonlat: Array) -> Array:
    radius = 2 * np.sin(np.radians(90 - lonlat[:, 1]) / 2)
    angle = np.radians(lonlat[:, 0])
    return np.column_stack((radius * np.cos(angle), radius * np.sin(angle)))


def sphere_area(lonlat: shapely.Geometry) -> float:
    """Area on the unit sphere, by the equal-area cylinder."""
    fine = shapely.segmentize(lonlat, 0.05)
    return shapely.transform(
        fine, lambda xy: np.column_stack((np.radians(xy[:, 0]), np.sin(np.radians(xy[:, 1]))))
    ).area


@pytest.mark.parametrize("central", [0.0, 150.0, -120.5, 99.123])
def test_the_seam_of_a_cylinder(central: float) -> None:
    seam = find_seam(cylindrical(central))
    assert seam is not None and seam.period == pytest.approx(360)
    assert (seam.longitude - central) % 360 == pytest.approx(180)


def test_a_polar_map_has_no_seam_and_a_cone_no_period() -> None:
    assert find_seam(to_polar) is None

    def cone(xy: Array) -> Array:
        angle, radius = np.radians((xy[:, 0] + 180) % 360 - 180) * 0.6, 3 - np.radians(xy[:, 1])
        return np.column_stack((radius * np.sin(angle), -radius * np.cos(angle)))

    assert find_seam(cone) == Seam(180.0, None)


def test_a_map_that_is_nowhere_defined_has_no_seam() -> None:
    assert find_seam(lambda xy: np.full_like(xy, np.inf)) is None


@given(st.floats(-400, 400), st.floats(-60, 60), st.floats(0.001, 20), st.sampled_from([180.0, -30.0, 75.5]))
def test_split_polygons_keep_their_area_and_stay_inside(x: float, y: float, radius: float, seam: float) -> None:
    hole = shapely.Point(x, y).buffer(radius / 3)
    disc = shapely.Point(x, y).buffer(radius).difference(hole)
    split = split_at_seam(disc, lambda xy: xy, seam)
    assert split.is_valid and split.area == pytest.approx(disc.area, rel=1e-6)
    left, _, right, _ = split.bounds
    assert seam - 360 - 1e-9 <= left and right <= seam + 1e-9
    assert all(part.bounds[2] - part.bounds[0] <= 2 * radius + 1e-9 for part in shapely.get_parts(split))


@given(st.floats(0, 0.3), st.floats(0, 2 * math.pi), st.floats(0.001, 0.25))
def test_polygons_around_a_pole_keep_their_area(distance: float, angle: float, radius: float) -> None:
    disc = shapely.Point(distance * math.cos(angle), distance * math.sin(angle)).buffer(radius, 32)
    split = split_at_seam(disc, from_polar, 180.0)
    assert split.is_valid
    # At worst, the pole lies on the outline.
    assert sphere_area(split) == pytest.approx(disc.area, rel=3e-3 if abs(distance - radius) > 1e-3 * radius else 0.1)
    if distance < 0.9 * radius:
        assert split.bounds[0] == -180 and split.bounds[2::1] == (180, 90)


def test_a_hole_around_a_pole() -> None:
    ring = shapely.Point(0.01, 0).buffer(0.2, 32).difference(shapely.Point(0, 0).buffer(0.1, 32))
    split = split_at_seam(ring, from_polar, 75.0)
    assert split.is_valid and split.bounds[3] < 85
    assert sphere_area(split) == pytest.approx(ring.area, rel=1e-3)


def test_a_vertex_at_the_pole() -> None:
    square = shapely.box(0, 0, 0.1, 0.1)
    assert sphere_area(split_at_seam(square, from_polar, 180.0)) == pytest.approx(0.01, rel=1e-3)


def test_a_split_polygon_in_a_projection() -> None:
    disc = shapely.Point(180, 20).buffer(5)
    split = split_at_seam(disc, lambda xy: xy, 180.0, cylindrical(0.0))
    assert split.is_valid and len(shapely.get_parts(split)) == 2 and max(map(abs, split.bounds)) <= 180
    assert math.radians(1) ** 2 * split.area == pytest.approx(sphere_area(disc), rel=1e-3)


def test_a_projection_without_poles_refuses_polygons_around_them() -> None:
    def mercator(xy: Array) -> Array:
        latitudes = np.clip(xy[:, 1], -89.9999, 89.9999)
        y = np.where(np.abs(xy[:, 1]) < 89.9999, np.arctanh(np.sin(np.radians(latitudes))), np.inf)
        return np.column_stack((xy[:, 0], y))

    cap = shapely.Point(0, 0).buffer(0.1)
    assert not np.isfinite(shapely.get_coordinates(split_at_seam(cap, from_polar, 180.0, mercator))).any()


def test_places_that_are_not_on_the_globe() -> None:
    split = split_at_seam(shapely.box(0, 0, 1, 1), lambda xy: np.full_like(xy, np.nan), 180.0)
    assert not np.isfinite(shapely.get_coordinates(split)).any()


def test_rings_are_continuous() -> None:
    disc = shapely.Point(180, 0).buffer(2)
    (ring,) = globe_rings(disc, lambda xy: np.column_stack(((xy[:, 0] + 180) % 360 - 180, xy[:, 1])))
    assert np.ptp(ring[:, 0]) == pytest.approx(4)


def test_longitudes_that_cross() -> None:
    assert crosses(np.array([179.0, -179.0]), 180.0) and not crosses(np.array([179.0, -179.0]), 0.0)
    assert crosses(np.array([-1.0, 1.0]), 0.0) and not crosses(np.array([1.0, 2.0]), 0.0)


@given(st.floats(-179, 179), st.integers(-2, 2), st.sampled_from([360.0, 400.0, 40075016.685578]))
def test_points_are_found_in_every_world(place: float, worlds: int, period: float) -> None:
    x = place / 360 * period
    extent = Bounds(x - 1, -5, x + 1, 5)
    moved = placed(shapely.MultiPoint([(x + worlds * period, 1.0)]), period, extent)
    assert moved.geoms[0].x == pytest.approx(x, abs=1e-6)


def test_points_elsewhere_stay_where_they_are() -> None:
    assert placed(shapely.Point(-50, 3), 360.0, Bounds(179, 0, 181, 5)) == shapely.Point(-50, 3)


BEYOND = Bounds(178, -5, 182, 5)


@pytest.mark.parametrize(
    "polygon",
    [
        shapely.box(179, 0, 181, 1),
        shapely.box(-181, 0, -179, 1),
        shapely.MultiPolygon([shapely.box(179, 0, 180, 1), shapely.box(-180, 0, -179, 1)]),
        shapely.MultiPolygon([shapely.box(-180, 0, -179, 1), shapely.box(179, 0, 180, 1)]),
        shapely.Polygon([(179, 0), (-179, 0), (-179, 1), (179, 1)]),
    ],
    ids=["east", "west", "split", "split west first", "torn"],
)
@pytest.mark.parametrize("raster", [BEYOND, Bounds(-182, -5, -178, 5)], ids=["east", "west"])
def test_every_way_to_draw_a_box_across_the_antimeridian(polygon: shapely.Geometry, raster: Bounds) -> None:
    left, _, right, _ = placed(untorn(polygon, 360.0), 360.0, raster).bounds
    assert (left, right) == (raster.min_x + 1, raster.max_x - 1)


@pytest.mark.parametrize("hole", [shapely.box(179.2, 0.2, 179.8, 0.8), shapely.box(179.5, 0.2, 180.5, 0.8)])
@pytest.mark.parametrize("raster", [BEYOND, Bounds(-182, -5, -178, 5)], ids=["east", "west"])
@pytest.mark.parametrize("is_torn", [False, True])
def test_a_polygon_across_the_antimeridian_keeps_its_holes(
    hole: shapely.Polygon, raster: Bounds, is_torn: bool
) -> None:
    ring = shapely.box(179, 0, 181, 1).difference(hole)
    # As many programs draw it, each vertex within half a turn.
    torn = shapely.transform(ring, lambda xy: np.column_stack(((xy[:, 0] + 180) % 360 - 180, xy[:, 1])))
    moved = placed(untorn(torn if is_torn else ring, 360.0), 360.0, raster)
    wanted = shapely.transform(ring, lambda xy: xy + np.array([raster.min_x - BEYOND.min_x, 0]))
    assert shapely.symmetric_difference(moved, wanted).area < 1e-9


def test_a_polygon_that_reaches_over_the_border_of_a_raster_keeps_its_holes() -> None:
    ring = shapely.box(2, 1, 8, 5).difference(shapely.box(3, 2, 7, 4))
    assert placed(ring, 360.0, Bounds(-5, -5, 5, 5)).equals(ring)


def test_a_box_across_the_edge_of_a_raster_of_the_world_does_not_span_it() -> None:
    left, _, right, _ = placed(untorn(shapely.box(170, 0, 185, 1), 360.0), 360.0, Bounds(-180, -90, 180, 90)).bounds
    assert right - left == pytest.approx(15)


def test_wide_polygons_are_not_torn() -> None:
    wide = shapely.box(-100, 0, 100, 1)
    assert untorn(wide, 360.0).equals(wide) and untorn(shapely.box(-180, 89, 180, 90), 360.0).bounds[2] == 180
    assert untorn(wide, None) is wide


def test_metres_are_not_degrees() -> None:
    bounds = np.array([(-180, -90, 360, 90), (500000, 40, 500000, 40), (0, 4.2e6, 0, 4.2e6), (np.nan,) * 4])
    assert are_degrees(bounds).tolist() == [True, False, False, True]
    assert are_degrees(np.array([(390.0, 100.0, 390.0, 100.0)]), 400.0).tolist() == [True]
