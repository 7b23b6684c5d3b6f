from __future__ import annotations

import time

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geosam_es.core.coverage import Rules
from geosam_es.core.coverage_check import Finding, Kind, check, mend, remedy

X, Y = 725_000.0, 4_372_000.0
Polygons = dict[int, shapely.Geometry]
HAS_COVERAGE_FUNCTIONS = shapely.geos_version >= (3, 12, 0) and hasattr(shapely, "coverage_is_valid")


def box(min_x: float, min_y: float, max_x: float, max_y: float) -> shapely.Polygon:
    return shapely.box(X + min_x, Y + min_y, X + max_x, Y + max_y)


def ring(*points: tuple[float, float]) -> shapely.Polygon:
    return shapely.Polygon([(X + x, Y + y) for x, y in points])


def fields(rng: np.random.Generator, count: int) -> Polygons:
    whole = box(0, 0, 300, 300)
    sites = shapely.MultiPoint(np.array([X, Y]) + rng.uniform(0, 300, (count, 2)))
    cells = shapely.get_parts(shapely.voronoi_polygons(sites, extend_to=whole))
    lines = shapely.boundary(shapely.intersection(cells, whole, grid_size=1e-3))
    return dict(enumerate(shapely.get_parts(shapely.polygonize([shapely.union_all(lines, grid_size=1e-3)]))))


def kinds(found: list[Finding]) -> list[Kind]:
    return [finding.kind for finding in found]


WEST = ring((0, 0), (50, 0), (50, 50), (50, 100), (0, 100))
SOUTH, NORTH = box(50, 0, 100, 50), box(50, 50, 100, 100)
CLEAN = {1: WEST, 2: SOUTH, 3: NORTH}


def test_gaps_beside_an_outline_with_very_many_vertices() -> None:
    river = shapely.segmentize(box(0, -30, 6_000, 0), 1.0)
    parcels = {number: box(20 * number, 0.3, 20 * number + 20, 50) for number in range(300)}
    seen: list[int] = []
    found = check({**parcels, 300: river}, Rules(1.0), progress=lambda done, total: seen.append(done))
    pairs = sorted(finding.ids for finding in found if finding.kind is Kind.GAP)
    assert pairs == [(number, 300) for number in range(300)] and len(found) == 300
    assert all(finding.size == pytest.approx(6, rel=0.1) for finding in found)
    # While it looks for them, it can be cancelled.
    assert len({done for done in seen if 30 < done < 50}) >= 1 and len(set(seen)) > 30


def test_nothing_is_found_in_a_coverage() -> None:
    assert check(CLEAN, Rules(1.0, 100)) == [] == check({}, Rules())
    assert mend(CLEAN, Rules(1.0, 100)) == (CLEAN, [])


BOW_TIE = ring((200, 0), (220, 20), (220, 0), (200, 20))
NODED = ring((50, 50), (100, 50), (100, 100), (50, 100), (50, 60.5), (50, 60))
HOLE = shapely.difference(WEST, box(10, 10, 20, 20))
CASES: dict[Kind, tuple[Polygons, float, tuple[int, ...], Polygons]] = {
    Kind.INVALID: ({**CLEAN, 4: BOW_TIE}, 200, (4,), {**CLEAN, 4: shapely.make_valid(BOW_TIE)}),
    # The smaller one keeps it.
    Kind.OVERLAP: (
        {**CLEAN, 4: box(10, 10, 20, 20)},
        100,
        (1, 4),
        {1: HOLE, 2: SOUTH, 3: NORTH, 4: box(10, 10, 20, 20)},
    ),
    Kind.GAP: ({1: HOLE, 2: SOUTH, 3: NORTH}, 100, (1,), CLEAN),
    Kind.BORDER: ({**CLEAN, 1: box(0, 0, 50, 100)}, 100, (1, 2), CLEAN),
    Kind.SLIVER: (
        {**CLEAN, 1: shapely.difference(WEST, box(0, 60, 50, 60.5)), 4: box(0, 60, 50, 60.5), 3: NODED},
        25,
        (4,),
        CLEAN,
    ),
    Kind.SMALL: ({**CLEAN, 1: HOLE, 4: box(10, 10, 20, 20)}, 100, (4,), CLEAN),
}


@pytest.mark.parametrize("kind", CASES)
def test_a_finding_has_its_figure_and_a_remedy(kind: Kind) -> None:
    polygons, size, ids, wanted = CASES[kind]
    rules = Rules(1.0, 150 if kind is Kind.SMALL else 0)
    found = check(polygons, rules)
    assert set(kinds(found)) == {kind} and found[0].size == pytest.approx(size) and found[0].ids == ids
    assert found[0].remedy
    changes = remedy(found[0], polygons, rules)
    after = {key: polygon for key, polygon in {**polygons, **changes.changed}.items() if key not in changes.removed}
    assert after.keys() == wanted.keys() and all(after[key].equals(wanted[key]) for key in wanted)
    assert check(after, rules) == []


def test_a_gap_that_is_open_on_one_side_is_found_if_it_is_narrow() -> None:
    polygons = {1: box(0, 0, 50, 100), 2: box(50.3, 0, 100, 100)}
    (gap,) = check(polygons, Rules(0.5))
    assert gap.kind is Kind.GAP and gap.ids == (1, 2) and gap.size == pytest.approx(30, rel=0.02)
    assert check(polygons, Rules(0.2)) == []
    mended, rest = mend(polygons, Rules(0.5))
    assert rest == [] and shapely.union_all(list(mended.values())).area == pytest.approx(10_000, rel=1e-3)


def test_a_large_gap_is_no_fault_and_comes_last() -> None:
    polygons = {1: HOLE, 2: SOUTH, 3: NORTH, 4: BOW_TIE, 5: box(300, 0, 305, 5)}
    rules = Rules(0.5, 30, max_gap_m2=99)
    found = check(polygons, rules)
    assert kinds(found) == [Kind.INVALID, Kind.SMALL, Kind.LARGE_GAP]
    assert [finding.is_fault for finding in found] == [True, True, False] and found[2].size == pytest.approx(100)
    mended, rest = mend(polygons, rules)
    assert kinds(rest) == [Kind.SMALL, Kind.LARGE_GAP] and mended[1].equals(HOLE), (
        "it stays, unless the user wants it filled"
    )
    filled = remedy(found[2], polygons, rules)
    assert [shape.equals(found[2].place) for shape in filled.new] == [True] and not filled.changed
    assert check({1: HOLE, 2: SOUTH, 3: NORTH}, Rules(), skip=[Kind.GAP]) == []
    # A long slit is no lake, however large.
    slit = {1: box(0, 0, 1000, 50), 2: box(0, 50.4, 1000, 100), 3: box(-5, 0, 0, 100), 4: box(1000, 0, 1005, 100)}
    assert Kind.GAP in kinds(check(slit, rules))


@pytest.mark.parametrize("amplitude", [0.2, 2.0])
def test_a_long_border_whose_vertices_differ_is_mended_in_seconds(amplitude: float) -> None:
    """It once took minutes. Strips narrower than the tolerance, as many as there may be, are one finding."""
    rng = np.random.default_rng(0)
    y = np.linspace(0, 5_000, 2_500)
    west, east = (np.c_[50 + 5 * np.sin(y / 40) + rng.uniform(-amplitude, amplitude, len(y)), y] for _ in range(2))
    polygons = {1: ring((0, 0), *west, (0, 5_000)), 2: ring((200, 0), (200, 5_000), *east[::-1])}
    if amplitude < 0.5:
        assert kinds(check(polygons, Rules(0.5)))[:2] == [Kind.OVERLAP, Kind.GAP]
    started = time.process_time()
    mended, rest = mend(polygons, Rules(0.5))
    assert time.process_time() - started < 5 and rest == []
    assert not HAS_COVERAGE_FUNCTIONS or shapely.coverage_is_valid(list(mended.values()))


def test_neighbours_of_the_same_class_are_merged_into_the_larger_one() -> None:
    classes = {1: "oak", 2: "oak", 3: None}
    (found,) = check(CLEAN, Rules(), classes)
    assert (found.kind, found.size, found.unit, found.ids) == (Kind.SAME_CLASS, 50, "m", (1, 2))
    mended, rest = mend(CLEAN, Rules(), classes)
    assert rest == [] and mended.keys() == {1, 3} and mended[1].equals(shapely.union(WEST, SOUTH))
    assert check(CLEAN, Rules(), {1: None, 2: None, 3: "oak"}) == []


def test_the_minimum_area_may_depend_on_the_class() -> None:
    rules = Rules(min_area_m2=3000, min_area_by_class={"hedge": 100})
    found = check(CLEAN, rules, {1: "wood", 2: "hedge", 3: "field"})
    assert [finding.ids for finding in found] == [(3,)]


def test_what_has_no_remedy_is_left_and_said() -> None:
    lone = {1: box(0, 0, 5, 5)}
    mended, rest = mend(lone, Rules(min_area_m2=100))
    assert mended == lone and kinds(rest) == [Kind.SMALL]
    assert not remedy(rest[0], lone, Rules(min_area_m2=100)).changed


def test_identical_polygons_and_those_without_ground() -> None:
    flat = ring((0, 0), (10, 0), (5, 0))
    mended, rest = mend({**CLEAN, 4: NORTH, 5: flat}, Rules())
    assert rest == [] and len(mended) == 3 and shapely.union_all(list(mended.values())).area == pytest.approx(10_000)


def test_vertices_in_another_order_are_found() -> None:
    """35 micrometres apart, as a refined border once had them."""
    a, b = (50.0, 40.0), (50.00001, 40.000035)
    west = ring((0, 0), (50, 0), a, b, (50, 100), (0, 100))
    east = ring((100, 0), (100, 100), (50, 100), a, b, (50, 0))
    found = check({1: west, 2: east}, Rules())
    assert set(kinds(found)) == {Kind.BORDER}
    mended, rest = mend({1: west, 2: east}, Rules())
    assert rest == [] and (not HAS_COVERAGE_FUNCTIONS or shapely.coverage_is_valid(list(mended.values())))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_what_was_spoiled_is_mended(seed: int) -> None:
    """Clean as GEOS understands it after mending, and before where nothing is found."""
    rng = np.random.default_rng(seed)
    polygons = fields(rng, 20)
    rules = Rules(0.5)
    assert check(polygons, rules) == []
    for key in rng.choice(list(polygons), 3, replace=False):
        change = rng.choice(["grow", "shrink", "shift", "drop vertex", "copy"])
        polygon = polygons[int(key)]
        if change == "copy":
            polygons[len(polygons) + 100] = polygon
        elif change == "shift":
            polygons[int(key)] = shapely.transform(polygon, lambda xy: xy + rng.uniform(-3, 3, 2))
        elif change == "drop vertex" and len(polygon.exterior.coords) > 4:
            polygons[int(key)] = shapely.Polygon(polygon.exterior.coords[1:-1])
        else:
            polygons[int(key)] = polygon.buffer(
                rng.uniform(0.1, 3) * (1 if change == "grow" else -1), join_style="mitre"
            )
    polygons = {key: polygon for key, polygon in polygons.items() if not polygon.is_empty}
    if HAS_COVERAGE_FUNCTIONS and not check(polygons, rules):
        # Wide gaps that are open to the outside are no fault.
        assert shapely.coverage_is_valid(shapely.get_parts(list(polygons.values())))
    mended, rest = mend(polygons, rules)
    assert rest == []
    geometries = np.array(list(mended.values()), object)
    assert shapely.is_valid(geometries).all()
    assert not HAS_COVERAGE_FUNCTIONS or shapely.coverage_is_valid(shapely.get_parts(geometries))


def test_a_large_coverage_is_checked_in_seconds() -> None:
    """2,500 fields; the time grows with their number."""
    side, step = 50, 100.0
    corners = np.random.default_rng(0).uniform(-20, 20, (side + 1, side + 1, 2))
    corners += np.stack(np.meshgrid(np.arange(side + 1), np.arange(side + 1)), -1) * step + (X, Y)
    polygons: Polygons = {
        row * side + column: shapely.Polygon(
            [corners[row, column], corners[row, column + 1], corners[row + 1, column + 1], corners[row + 1, column]]
        )
        for row in range(side)
        for column in range(side)
    }
    assert check(polygons, Rules(1.0, 100)) == []
    polygons[1275] = polygons[1275].buffer(-2)
    assert kinds(check(polygons, Rules(1.0, 100))) == [Kind.GAP]


def test_mending_tells_how_far_it_is() -> None:
    shown: list[tuple[int, int]] = []
    _, rest = mend(
        {**CLEAN, 4: BOW_TIE, 5: box(10, 10, 20, 20)}, Rules(), progress=lambda *counts: shown.append(counts)
    )
    assert not rest and shown == [(1, 2), (2, 2)]


def test_checking_tells_how_far_it_is_and_can_be_stopped() -> None:
    shown: list[tuple[int, int]] = []
    polygons = {**CLEAN, 4: box(100.2, 0, 150, 100)}
    assert check(polygons, Rules(1.0), progress=lambda *counts: shown.append(counts))
    assert shown == sorted(shown) and len(set(shown)) > 2 and shown[-1] == (100, 100)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(polygons, Rules(1.0), progress=stop)
    with pytest.raises(KeyboardInterrupt):
        mend(polygons, Rules(1.0), checking=stop)
