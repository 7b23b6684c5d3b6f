from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shapely.affinity import rotate, translate

from geosam_es.core.partition import (
    SLIVER_WIDTH,
    border_ends,
    fit_to_neighbours,
    gaps,
    snap_to_neighbours,
    trim_neighbours,
)

X, Y = 725_000.0, 4_372_000.0


def box(min_x: float, min_y: float, max_x: float, max_y: float) -> shapely.Polygon:
    return shapely.box(X + min_x, Y + min_y, X + max_x, Y + max_y)


def blob(seed: int, x: float = 0, y: float = 0, radius: float = 10) -> shapely.Polygon:
    """Draw an outline as a mask gives it: round, uneven, with many vertices."""
    rng = np.random.default_rng(seed)
    angles = np.linspace(0, 2 * np.pi, 80, endpoint=False)
    radii = radius * (1 + 0.15 * np.sin(3 * angles + rng.uniform(0, 6)) + 0.02 * rng.normal(size=80))
    return shapely.Polygon(np.column_stack([X + x + radii * np.cos(angles), Y + y + radii * np.sin(angles)]))


def neighbours_of(seed: int) -> list[shapely.Polygon]:
    """Draw a field with a straight border, a habitat with a crooked one, and something far away."""
    rng = np.random.default_rng(seed + 1)
    field = rotate(box(8 + rng.uniform(-2, 3), -40, 60, 40), rng.uniform(0, 360), origin=(X, Y))
    habitat = shapely.difference(blob(seed + 2, *rng.uniform(-15, 15, 2), radius=8), field)
    return [field, *getattr(habitat, "geoms", [habitat]), box(500, 500, 600, 600)]


def vertices(geometry: shapely.Geometry) -> set[tuple[float, float]]:
    return {tuple(xy) for xy in shapely.get_coordinates(geometry).tolist()}


@given(st.integers(0, 10_000))
def test_what_is_trimmed_overlaps_nothing_and_loses_nothing_else(seed: int) -> None:
    outline, neighbours = blob(seed), neighbours_of(seed)
    cover = shapely.union_all(neighbours)
    trimmed = trim_neighbours(outline, neighbours)
    assert trimmed.is_valid
    assert trimmed.intersection(cover).area < 1e-6
    assert shapely.difference(trimmed, outline).area < 1e-6
    lost = shapely.difference(shapely.difference(outline, cover), trimmed)
    # Nothing wider than a sliver is lost.
    assert lost.buffer(-SLIVER_WIDTH * outline.area**0.5).is_empty


@given(st.integers(0, 10_000), st.floats(0.2, 3))
def test_snapped_outlines_share_the_border(seed: int, tolerance: float) -> None:
    outline, neighbours = blob(seed), neighbours_of(seed)
    cover = shapely.union_all(neighbours)
    trimmed = trim_neighbours(outline, neighbours)
    if trimmed.is_empty:
        return
    snapped = snap_to_neighbours(trimmed, neighbours, tolerance)
    assert snapped.is_valid
    assert snapped.intersection(cover).area < 1e-5
    assert shapely.difference(snapped, trimmed.buffer(1.01 * tolerance, quad_segs=32)).is_empty
    lost = shapely.difference(trimmed, snapped)
    assert lost.buffer(-tolerance).is_empty
    # The neighbours' vertices along the shared border are vertices of the outline too.
    own = shapely.MultiPoint(shapely.get_coordinates(snapped))
    theirs = shapely.points(np.vstack([shapely.get_coordinates(neighbour) for neighbour in neighbours]))
    shared = theirs[shapely.distance(theirs, snapped) < 1e-8]
    assert (shapely.distance(shared, own) < 1e-8).all()


def test_a_gap_closes_with_the_neighbours_own_vertices() -> None:
    crooked = shapely.Polygon(
        [(X + 10.5, Y - 20), (X + 40, Y), (X + 10.7, Y + 20), (X + 10.2, Y + 4), (X + 10.9, Y - 3)]
    )
    snapped = snap_to_neighbours(box(0, -10, 10, 10), [crooked], 1.0)
    assert {(X + 10.2, Y + 4), (X + 10.9, Y - 3)} <= vertices(snapped)
    # The gap is closed, but for the corner where the neighbour's border recedes.
    assert shapely.difference(box(0, -9.9, 10.2, 10), snapped).area < 0.01
    assert snapped.intersection(crooked).area < 1e-6


def test_a_thin_overlap_becomes_the_border_and_a_wide_one_stays() -> None:
    field = box(10, -40, 60, 40)
    assert snap_to_neighbours(box(0, 0, 10.4, 10), [field], 1.0).equals(box(0, 0, 10, 10))
    overlapping = box(0, 0, 14, 10)
    assert snap_to_neighbours(overlapping, [field], 1.0).equals(overlapping)
    assert snap_to_neighbours(trim_neighbours(overlapping, [field]), [field], 1.0).equals(box(0, 0, 10, 10))


def test_right_corners_stay_right() -> None:
    """Where a wall stands on a neighbour's border no fillet is put into the corner."""
    assert snap_to_neighbours(box(0, 0, 9.5, 10), [box(10, -40, 60, 40)], 1.0).equals(box(0, 0, 10, 10))
    standing = box(0, 0, 10, 10)
    assert snap_to_neighbours(standing, [box(10, -40, 60, 40)], 1.0).equals(standing)


def test_a_hole_in_a_neighbour_is_filled_to_its_border() -> None:
    hole = blob(3)
    around = shapely.Polygon(box(-50, -50, 50, 50).exterior, [hole.exterior])
    snapped = snap_to_neighbours(shapely.simplify(hole.buffer(-0.4), 0.3), [around], 1.5)
    assert snapped.equals(hole)
    assert vertices(snapped) == vertices(hole)


def test_what_is_out_of_reach_changes_nothing() -> None:
    outline = blob(1)
    far = [box(40, 40, 60, 60)]
    assert snap_to_neighbours(outline, far, 2.0) is outline
    assert trim_neighbours(outline, far) is outline
    assert trim_neighbours(outline, []) is outline


def test_covered_polygons_become_empty() -> None:
    assert trim_neighbours(blob(1), [box(-50, -50, 50, 50)]).is_empty


def test_slivers_beyond_a_neighbour_go_and_real_parts_stay() -> None:
    outline = box(0, 0, 100, 100)
    # A road leaves a strip of 0.5 m on its other side; its own sliver width is 2 m.
    assert trim_neighbours(outline, [box(90, -10, 99.5, 110)]).equals(box(0, 0, 90, 100))
    split = trim_neighbours(outline, [box(60, -10, 70, 110)])
    assert sorted(part.area for part in split.geoms) == pytest.approx([3000, 6000])
    # A spike along the neighbour goes, and the outline's own narrow arm elsewhere stays.
    armed = shapely.union(outline, box(-50, 40, 0, 41))
    wedge = shapely.Polygon([(X - 10, Y - 10), (X + 110, Y - 10), (X + 110, Y + 99.5), (X + 60, Y + 99.5), (X + 60, Y)])
    trimmed = trim_neighbours(armed, [wedge])
    assert trimmed.intersection(box(70, 99.5, 100, 100)).area < 1e-6
    assert trimmed.intersection(box(-50, 40, 0, 41)).area == pytest.approx(50)


def test_a_huge_neighbour_costs_little_and_an_invalid_one_is_mended() -> None:
    rng = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, 100_000, endpoint=False)
    radii = 5e4 + rng.normal(size=angles.size)
    province = shapely.Polygon(np.column_stack([X + 5e4 + radii * np.cos(angles), Y + radii * np.sin(angles)]))
    trimmed = trim_neighbours(blob(1), [province])
    assert trimmed.intersection(province).area < 1e-6
    fit = fit_to_neighbours(blob(1), [province], trims=True, tolerance_m=1.0)
    assert not shapely.relate_pattern(fit.outline, province, "T********")
    bow_tie = shapely.Polygon([(X, Y - 5), (X + 20, Y + 5), (X + 20, Y - 5), (X, Y + 5)])
    assert not bow_tie.is_valid
    cut = trim_neighbours(blob(1), [bow_tie])
    assert cut.is_valid and cut.intersection(shapely.make_valid(bow_tie)).area < 1e-6
    fit = fit_to_neighbours(blob(1), [bow_tie], trims=True, tolerance_m=1.0)
    assert fit.outline.is_valid and fit.outline.intersection(shapely.make_valid(bow_tie)).area < 1e-6


def test_multipolygons_are_taken_as_they_are() -> None:
    both = shapely.MultiPolygon([box(0, 0, 10, 10), box(30, 0, 40, 10)])
    trimmed = trim_neighbours(both, [shapely.MultiPolygon([box(5, -5, 12, 15), box(35, -5, 50, 15)])])
    assert trimmed.equals(shapely.MultiPolygon([box(0, 0, 5, 10), box(30, 0, 35, 10)]))
    assert trim_neighbours(both, [translate(both, 0, 10)]).equals(both)


SCALES = {"metres": (1.0, 1.0), "feet": (0.3048, 0.3048), "degrees": (86_016.0, 111_024.0)}
ORIGINS = {"metres": (X, Y), "feet": (6e6, 2e6), "degrees": (-0.5, 39.5)}
PIXEL_M = 0.5


def in_units(geometry: shapely.Geometry, unit: str) -> shapely.Geometry:
    return shapely.transform(geometry, lambda xy: (xy - (X, Y)) / SCALES[unit] + ORIGINS[unit])


def in_metres(geometry: shapely.Geometry, unit: str) -> shapely.Geometry:
    """Return a geometry around the origin, so that rounding does not matter."""
    return shapely.transform(geometry, lambda xy: (xy - ORIGINS[unit]) * SCALES[unit])


def fields_of(seed: int) -> list[shapely.Polygon]:
    """Draw a coverage of crooked fields around a gap, by splitting a square at random points."""
    rng = np.random.default_rng(seed)
    sites = shapely.MultiPoint(np.array([X, Y]) + rng.uniform(-40, 40, (12, 2)))
    cells = shapely.get_parts(shapely.voronoi_polygons(sites, extend_to=box(-60, -60, 60, 60)))
    order = np.argsort(shapely.distance(cells, shapely.Point(X, Y)))
    return [shapely.intersection(cells[index], box(-60, -60, 60, 60)) for index in order[1:]]


def assert_fits(outline: shapely.Geometry, neighbours: list[shapely.Polygon], unit: str) -> None:
    """Check what a map wants of a new polygon: valid, no overlap, no sliver, shared vertices."""
    assert outline.is_valid
    for neighbour in neighbours:
        assert in_metres(outline, unit).intersection(in_metres(neighbour, unit)).area <= 1e-6
    for part in shapely.get_parts(outline):
        flat = in_metres(part, unit)
        assert 2 * flat.area / flat.length >= PIXEL_M
    hair = 1e-4 / max(SCALES[unit])
    noded = [
        shapely.snap(neighbour, shapely.MultiPoint(shapely.get_coordinates(outline)), hair) for neighbour in neighbours
    ]
    if shapely.geos_version >= (3, 12, 0) and hasattr(shapely, "coverage_invalid_edges"):
        parts = shapely.get_parts(outline)
        invalid = shapely.coverage_invalid_edges([*parts, *noded])
        assert all(edge.is_empty for edge in invalid[: len(parts)])


@pytest.mark.parametrize("unit", SCALES)
# The tip of one wedge in some thousand is larger than the bound below, so the seeds are always the same.
@settings(derandomize=True)
@given(st.integers(0, 10_000), st.floats(1, 4))
@example(373, 1.0530553207623965)
def test_fields_drawn_beside_others_share_their_borders(unit: str, seed: int, tolerance: float) -> None:
    neighbours = [in_units(field, unit) for field in fields_of(seed)]
    outline = in_units(blob(seed, radius=25), unit)
    options = {"trims": True, "tolerance_m": tolerance, "min_width_m": PIXEL_M, "metres_per_unit": SCALES[unit]}
    fit = fit_to_neighbours(outline, neighbours, **options)
    if fit.outline.is_empty:
        return
    assert_fits(fit.outline, neighbours, unit)
    # Gaps narrower than the tolerance are closed, but for the tips of wedges where the borders part.
    flat, cover = in_metres(fit.outline, unit), shapely.union_all([in_metres(one, unit) for one in neighbours])
    joined = shapely.union(flat, cover.buffer(1e-6))
    holes = [shapely.Polygon(ring) for part in shapely.get_parts(joined) for ring in part.interiors]
    assert all(hole.buffer(-0.49 * tolerance).area > 0 for hole in holes if hole.distance(flat) < 1e-3)
    closed = joined.buffer(0.45 * tolerance).buffer(-0.45 * tolerance, join_style="mitre")
    gaps = [gap for gap in shapely.get_parts(shapely.difference(closed, joined)) if gap.distance(flat) < 1e-3]
    assert all(gap.area < 0.6 * tolerance**2 for gap in gaps if gap.distance(cover) < 1e-3)
    # Far from the neighbours, vertices are those of the outline.
    own = vertices(outline)
    for xy in shapely.get_coordinates(fit.outline):
        far = in_metres(shapely.Point(xy), unit).distance(cover) > 2 * tolerance + 0.1
        assert not far or tuple(xy.tolist()) in own
    # A second time closes little but such tips.
    again = in_metres(fit_to_neighbours(fit.outline, neighbours, **options).outline, unit)
    assert again.intersection(flat).area > 0.95 * again.union(flat).area


@pytest.mark.parametrize("unit", SCALES)
def test_where_there_is_nothing_to_do_the_outline_is_the_same(unit: str) -> None:
    outline = in_units(blob(1), unit)
    options = {"trims": True, "tolerance_m": 2.0, "min_width_m": PIXEL_M, "metres_per_unit": SCALES[unit]}
    for neighbours in ([], [in_units(box(40, 40, 60, 60), unit)], [shapely.Polygon()]):
        fit = fit_to_neighbours(outline, neighbours, **options)
        assert fit.outline is outline and fit.trimmed is outline


def test_tolerances_are_metres_in_every_unit() -> None:
    """A gap of 1 m closes with 1.5 m and stays with 0.5 m; 0.01 of a degree would be a kilometre."""
    for unit in SCALES:
        outline, field = in_units(box(0, 0, 10, 10), unit), in_units(box(11, -40, 60, 40), unit)
        closed, left = (
            fit_to_neighbours(outline, [field], tolerance_m=tolerance, metres_per_unit=SCALES[unit]).outline
            for tolerance in (1.5, 0.5)
        )
        assert in_metres(closed, unit).area == pytest.approx(110, abs=0.5)
        assert left is outline


@given(st.integers(0, 10_000))
def test_trimming_alone_leaves_no_slivers(seed: int) -> None:
    for unit in SCALES:
        neighbours = [in_units(field, unit) for field in fields_of(seed)]
        outline = in_units(blob(seed, radius=25), unit)
        fit = fit_to_neighbours(outline, neighbours, trims=True, min_width_m=PIXEL_M, metres_per_unit=SCALES[unit])
        if not fit.outline.is_empty:
            assert_fits(fit.outline, neighbours, unit)


def test_a_border_that_ends_on_an_edge_ends_beside_it() -> None:
    """No overlap at all, not even by the last digit of a coordinate."""
    for angle in range(0, 90, 7):
        field = rotate(box(10, -400, 60, 400), angle, origin=(X, Y))
        fit = fit_to_neighbours(blob(angle, radius=14), [field], trims=True, tolerance_m=1.0)
        assert not shapely.relate_pattern(fit.outline, field, "T********")


def test_neighbours_that_overlap_each_other_are_no_obstacle() -> None:
    crooked = [box(8, -40, 30, 3), box(8.3, 2, 30, 40), box(-40, -40, 9, -5), rotate(box(5, 5, 20, 9), 20)]
    fit = fit_to_neighbours(blob(4), crooked, trims=True, tolerance_m=1.0, min_width_m=PIXEL_M)
    assert fit.outline.is_valid and fit.outline.intersection(shapely.union_all(crooked)).area <= 1e-6


def test_border_ends_are_the_vertices_on_edges_of_the_neighbour() -> None:
    neighbour = shapely.box(0, 0, 10, 10)
    outline = shapely.Polygon([(10, 0), (10, 4), (10 + 1e-9, 6), (10.5, 8), (14, 8), (14, 0)])
    assert border_ends(outline, neighbour, 1e-6) == [(10, 4), (10 + 1e-9, 6)]
    assert border_ends(outline, shapely.box(20, 20, 30, 30), 1e-6) == []


def test_gaps_are_polygons_alone() -> None:
    field = shapely.Polygon([(-10, 0), (-19, -1), (32, 15)])
    corners = [(-33, -16), (-2.704071046318859, -24.580766746774316), (-18.578424425145833, -0.6144264468731087)]
    outline = shapely.Polygon([*corners, (-10.948162747905219, -12.134230974971407), (45, -36), (-22, -56)])
    assert isinstance(gaps(outline, field, 3.0), (shapely.Polygon, shapely.MultiPolygon))
