from __future__ import annotations

import os

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st

from geosam_es.core.coverage import Changes, Ground, Rules, cut, give, merge, place, reshape, simplify
from geosam_es.errors import EditError

X, Y = 725_000.0, 4_372_000.0
SIDE = 300.0
SCALES = {"metres": (1.0, 1.0), "feet": (0.3048, 0.3048), "degrees": (86_016.0, 111_024.0)}
ORIGINS = {"metres": (X, Y), "feet": (6e6, 2e6), "degrees": (-0.5, 39.5)}
SEQUENCES = int(os.environ.get("GEOSAM_ES_COVERAGE_SEQUENCES", "50"))
"""Sequences of 30 steps; 300 take 100 s of one core."""

Polygons = dict[int, shapely.Geometry]
HAS_COVERAGE_FUNCTIONS = shapely.geos_version >= (3, 12, 0) and hasattr(shapely, "coverage_is_valid")


def box(min_x: float, min_y: float, max_x: float, max_y: float) -> shapely.Polygon:
    return shapely.box(X + min_x, Y + min_y, X + max_x, Y + max_y)


def in_units(geometry: shapely.Geometry, unit: str) -> shapely.Geometry:
    return shapely.transform(geometry, lambda xy: (xy - (X, Y)) / SCALES[unit] + ORIGINS[unit])


def in_metres(geometry: shapely.Geometry, unit: str = "metres") -> shapely.Geometry:
    """Return a geometry around the origin, so that rounding does not matter."""
    return shapely.transform(geometry, lambda xy: (xy - ORIGINS[unit]) * SCALES[unit])


def fields(rng: np.random.Generator, count: int = 12) -> Polygons:
    """Draw a coverage of a square with one field of free ground, by splitting it at random points."""
    whole = box(0, 0, SIDE, SIDE)
    sites = shapely.MultiPoint(np.array([X, Y]) + rng.uniform(0, SIDE, (count, 2)))
    cells = shapely.get_parts(shapely.voronoi_polygons(sites, extend_to=whole))
    lines = shapely.boundary(shapely.intersection(cells, whole, grid_size=1e-3))
    faces = shapely.get_parts(shapely.polygonize([shapely.union_all(lines, grid_size=1e-3)]))
    return dict(enumerate(faces[1:]))


def blob(rng: np.random.Generator, x: float, y: float, radius: float) -> shapely.Polygon:
    """Draw an outline as a mask gives it: round, uneven."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radii = radius * (1 + 0.2 * np.sin(3 * angles + rng.uniform(0, 6)) + 0.03 * rng.normal(size=40))
    return shapely.Polygon(np.column_stack([X + x + radii * np.cos(angles), Y + y + radii * np.sin(angles)]))


def vertices(geometry: shapely.Geometry) -> set[tuple[float, float]]:
    return {tuple(xy) for xy in shapely.get_coordinates(geometry).tolist()}


def assert_coverage(polygons: Polygons, unit: str = "metres") -> None:
    geometries = np.array(list(polygons.values()), object)
    assert shapely.is_valid(geometries).all() and not shapely.is_empty(geometries).any()
    flat = in_metres(geometries, unit)
    assert shapely.area(flat).sum() == pytest.approx(shapely.union_all(flat, grid_size=1e-7).area, abs=1e-4)
    if HAS_COVERAGE_FUNCTIONS:
        parts = shapely.get_parts(geometries)
        # GEOS also names edges that no other polygon meets, beside a vertex where a hole touches the outline around it.
        edges = shapely.get_parts(shapely.coverage_invalid_edges(parts))
        met = [shapely.length(shapely.intersection(parts, edge)) > 1e-9 for edge in edges if not edge.is_empty]
        assert all(np.count_nonzero(polygons) == 1 for polygons in met)


class Layer:
    """Polygons with an undo stack of the changes, as an edit buffer has one."""

    def __init__(self, polygons: Polygons) -> None:
        self.polygons = dict(polygons)
        self.undo_stack: list[tuple[Polygons, list[int], Polygons]] = []
        self._next = max(polygons) + 1

    def apply(self, changes: Changes) -> list[int]:
        assert not set(changes.removed) & set(changes.changed)
        before = dict(self.polygons)
        olds = {key: self.polygons[key] for key in (*changes.changed, *changes.removed)}
        for key in changes.removed:
            del self.polygons[key]
        self.polygons.update(changes.changed)
        news = list(range(self._next, self._next + len(changes.new)))
        self._next += len(news)
        self.polygons.update(zip(news, changes.new))
        self.undo_stack.append((olds, news, before))
        return news

    def undo(self) -> None:
        olds, news, before = self.undo_stack.pop()
        for key in news:
            del self.polygons[key]
        self.polygons.update(olds)
        assert self.polygons.keys() == before.keys()
        assert all(shapely.equals_exact(self.polygons[key], before[key]) for key in before)


class Walk:
    """Random edits of a coverage."""

    def __init__(self, seed: int, rules: Rules, unit: str) -> None:
        self.rng = np.random.default_rng(seed)
        self.unit = unit
        self.rules = rules
        self.layer = Layer({key: in_units(field, unit) for key, field in fields(self.rng).items()})

    @property
    def area(self) -> float:
        return float(shapely.area([in_metres(one, self.unit) for one in self.layer.polygons.values()]).sum())

    def step(self) -> None:
        """Do something, and check what it does to the area."""
        rng, polygons, rules = self.rng, self.layer.polygons, self.rules
        before, kept = self.area, False
        kind = rng.choice(["fill", "carve", "split", "cut", "merge", "refine", "undo"])
        key = int(rng.choice(list(polygons)))
        flat = in_metres(polygons[key], self.unit)
        radius = np.sqrt(flat.area / np.pi)
        x, y = flat.point_on_surface().coords[0]
        try:
            if kind == "undo":
                if self.layer.undo_stack:
                    self.layer.undo()
                return
            if kind == "cut":
                angle = rng.uniform(0, np.pi)
                way = 2 * SIDE * np.array([np.cos(angle), np.sin(angle)])
                middle = np.array([X + x, Y + y])
                line = shapely.LineString([middle - way, middle + way])
                (changes,), kept = cut([key], in_units(line, self.unit), polygons, rules), True
            elif kind == "merge":
                others = [other for other in polygons if other != key and polygons[other].touches(polygons[key])]
                if not others:
                    return
                changes = merge(key, int(rng.choice(others)), polygons, rules)
            elif kind == "refine":
                moves = bool(rng.integers(2))
                drawn = blob(rng, x, y, radius * rng.uniform(0.5, 1.2))
                outline = in_units(drawn, self.unit)
                covered = shapely.union_all([in_metres(one, self.unit) for one in polygons.values()], grid_size=1e-6)
                if rng.integers(2):
                    outline = shapely.union(outline, polygons[key])
                changes = reshape(key, outline, polygons, rules, moves_borders=moves)
                both = shapely.union(in_metres(outline, self.unit), flat)
                kept = moves and shapely.covers(covered.buffer(-2 * rules.tolerance_m - 0.1), both)
            else:
                new = blob(rng, x + rng.uniform(-20, 20), y + rng.uniform(-20, 20), rng.uniform(5, 40))
                changes = place(in_units(new, self.unit), polygons, rules, Ground(kind))
                kept = kind == "split"
        except EditError:
            assert self.area == before
            return
        self.layer.apply(changes)
        if kept:
            assert self.area == pytest.approx(before, abs=1e-2)
        elif kind != "refine":
            assert self.area >= before - 1e-2


@settings(max_examples=SEQUENCES, deadline=None)
@example(249616887, 2.0, 60.0, "metres")
@given(
    st.integers(0, 10**9), st.sampled_from([0.0, 0.5, 2.0]), st.sampled_from([0.0, 60.0]), st.sampled_from(list(SCALES))
)
def test_a_coverage_stays_one(seed: int, tolerance: float, min_area: float, unit: str) -> None:
    walk = Walk(seed, Rules(tolerance, min_area, metres_per_unit=SCALES[unit]), unit)
    first = dict(walk.layer.polygons)
    assert_coverage(first, unit)
    for _ in range(30):
        walk.step()
        assert_coverage(walk.layer.polygons, unit)
    while walk.layer.undo_stack:
        walk.layer.undo()
    assert walk.layer.polygons == first


@pytest.mark.parametrize("ground", [Ground.FILL, Ground.CARVE])
@given(st.integers(0, 10**6), st.floats(0.5, 3))
def test_no_narrow_gap_stays_beside_a_new_polygon(ground: Ground, seed: int, tolerance: float) -> None:
    rng = np.random.default_rng(seed)
    layer = Layer(fields(rng))
    free = shapely.difference(box(0, 0, SIDE, SIDE), shapely.union_all(list(layer.polygons.values())))
    middle = free.point_on_surface()
    outline = blob(rng, middle.x - X, middle.y - Y, rng.uniform(0.4, 1.1) * np.sqrt(free.area / np.pi))
    (key,) = layer.apply(place(outline, layer.polygons, Rules(tolerance), ground))
    assert_coverage(layer.polygons)
    new = in_metres(layer.polygons.pop(key))
    cover = shapely.union_all([in_metres(one) for one in layer.polygons.values()])
    joined = shapely.union(new, cover.buffer(1e-6))
    holes = [shapely.Polygon(ring) for part in shapely.get_parts(joined) for ring in part.interiors]
    assert all(hole.buffer(-0.49 * tolerance).area > 0 for hole in holes if hole.distance(new) < 1e-3)
    closed = joined.buffer(0.45 * tolerance).buffer(-0.45 * tolerance, join_style="mitre")
    gaps = [gap for gap in shapely.get_parts(shapely.difference(closed, joined)) if gap.distance(new) < 1e-3]
    # But for the tips of wedges where the borders part.
    assert all(gap.area < 0.6 * tolerance**2 for gap in gaps if gap.distance(cover) < 1e-3)


WEST, EAST = box(0, 0, 50, 100), box(50, 0, 100, 100)
PAIR = {1: WEST, 2: EAST}


def test_fill_takes_what_is_free_and_gives_the_neighbours_its_vertices() -> None:
    changes = place(box(40, 90, 60, 120), PAIR, Rules())
    assert changes.new[0].equals(box(40, 100, 60, 120)) and not changes.removed and changes.source is None
    # The ends of the borders are vertices of the neighbours too, which are the same otherwise.
    assert changes.changed[1].equals(WEST) and vertices(changes.changed[1]) - vertices(WEST) == {(X + 40, Y + 100)}
    assert (X + 50, Y + 100) in vertices(changes.new[0])
    with pytest.raises(EditError, match="cover the whole polygon"):
        place(box(10, 10, 20, 20), PAIR, Rules())


def test_carve_takes_it_from_the_neighbours() -> None:
    changes = place(box(40, 90, 60, 120), PAIR, Rules(), Ground.CARVE)
    assert changes.new[0].equals(box(40, 90, 60, 120))
    assert changes.changed[1].area == changes.changed[2].area == pytest.approx(4900)
    assert place(box(-1, -1, 51, 101), PAIR, Rules(), Ground.CARVE).removed == [1]


def test_split_changes_one_polygon_only() -> None:
    changes = place(box(30, 40, 60, 60), PAIR, Rules(), Ground.SPLIT)
    assert changes.source == 1 and changes.new[0].equals(box(30, 40, 50, 60))
    assert changes.changed[1].area == pytest.approx(4600)
    assert changes.changed[2].equals(EAST) and len(vertices(changes.changed[2])) == 6
    with pytest.raises(EditError, match="no polygon to split"):
        place(box(200, 0, 210, 10), PAIR, Rules(), Ground.SPLIT)
    with pytest.raises(EditError, match="Nothing is left"):
        place(box(-1, -1, 51, 101), PAIR, Rules(), Ground.SPLIT)


@pytest.mark.parametrize("ground", [Ground.CARVE, Ground.SPLIT])
def test_a_strip_narrower_than_the_tolerance_is_not_left(ground: Ground) -> None:
    changes = place(box(30, 0.4, 49.7, 99.6), PAIR, Rules(0.5), ground)
    assert changes.new[0].equals(box(30, 0, 50, 100))
    assert changes.changed[1].equals(box(0, 0, 30, 100)) and 2 not in changes.changed


def test_a_gap_with_a_line_at_its_end_is_filled() -> None:
    corners = [(38, 102), (-4.9237521077739075, 97.30774), (-1, 102.20357155054808), (-17, 114.14245252124965)]
    outline = shapely.Polygon([*corners, (-17.1, 117), (2, 137)])
    fields = shapely.Polygon([(67, 27), (0, 50), (0, 111)]), shapely.Polygon([(101, 144), (45, 200), (142, 200)])
    (new,) = place(outline, dict(enumerate(fields)), Rules(3.0)).new
    assert new.area == pytest.approx(1024, abs=1)


def test_a_thin_overlap_is_not_taken() -> None:
    changes = place(box(99.8, 0, 120, 100), PAIR, Rules(0.5), Ground.CARVE)
    assert changes.new[0].equals(box(100, 0, 120, 100)) and not changes.changed


def test_refining_moves_the_shared_border_on_both_sides() -> None:
    polygons = {**PAIR, 3: box(0, 100, 50, 150)}
    crooked = shapely.Polygon(
        [(X, Y), (X + 50, Y), (X + 45, Y + 30), (X + 55, Y + 70), (X + 50, Y + 100), (X, Y + 100)]
    )
    changes = reshape(1, crooked, polygons, Rules())
    assert changes.changed[1].equals(crooked)
    assert changes.changed[2].equals(shapely.difference(box(0, 0, 100, 100), crooked))
    assert 3 not in changes.changed and not changes.new and not changes.removed
    alone = reshape(1, crooked, polygons, Rules(), moves_borders=False)
    assert alone.changed[1].equals(shapely.intersection(crooked, WEST)) and alone.changed[2].equals(EAST)
    assert reshape(1, WEST, polygons, Rules()).changed == {}


def test_ground_that_a_refined_polygon_leaves_goes_to_those_beside_it() -> None:
    """The corner where three polygons meet moves to the new outline, and the free side stays free."""
    polygons = {1: box(0, 0, 50, 100), 2: box(50, 0, 100, 50), 3: box(50, 50, 100, 100)}
    changes = reshape(1, box(0, 0, 40, 100), polygons, Rules())
    assert changes.changed[2].equals(box(40, 0, 100, 50)) and changes.changed[3].equals(box(40, 50, 100, 100))
    inner = reshape(1, box(10, 0, 50, 100), polygons, Rules())
    assert inner.changed.keys() == {1} and inner.changed[1].equals(box(10, 0, 50, 100))


def test_a_refined_polygon_gets_no_hole_below_the_minimum_area() -> None:
    polygons = {1: box(0, 0, 100, 100), 2: box(100, 0, 200, 100)}
    holed = shapely.difference(box(0, 0, 95, 100), shapely.union(box(40, 40, 45, 45), box(60, 40, 80, 60)))
    changes = reshape(1, holed, polygons, Rules(1.0, 200.0))
    assert changes.changed[1].area == pytest.approx(95 * 100 - 400)
    assert changes.changed[2].area == pytest.approx(105 * 100)


def test_cut_and_merge() -> None:
    line = shapely.LineString([(X + 25, Y - 10), (X + 30, Y + 50), (X + 25, Y + 110)])
    (changes,) = cut([1], line, PAIR, Rules())
    assert changes.source == 1 and len(changes.new) == 1 and 2 not in changes.changed
    assert changes.changed[1].area + changes.new[0].area == pytest.approx(5000)
    assert (X + 30, Y + 50) in vertices(changes.changed[1]) & vertices(changes.new[0])
    joined = merge(1, 3, {1: changes.changed[1], 2: EAST, 3: changes.new[0]}, Rules())
    assert joined.changed[1].equals(WEST) and joined.removed == [3]
    with pytest.raises(EditError, match="does not cut"):
        cut([1], shapely.LineString([(X + 25, Y - 10), (X + 25, Y + 50)]), PAIR, Rules())
    with pytest.raises(EditError, match=r"1\.00 m apart"):
        merge(1, 2, {1: WEST, 2: box(51, 0, 100, 100)}, Rules(0.5))
    assert merge(1, 2, {1: WEST, 2: box(51, 0, 100, 100)}, Rules(1.5)).changed[1].equals(box(0, 0, 100, 100))


def test_cut_of_several_leaves_the_others_and_what_they_share() -> None:
    polygons = {1: box(0, 0, 10, 10), 2: box(10, 0, 20, 10), 3: box(8, 0, 12, 10), 4: box(20, 0, 30, 10)}
    line = shapely.LineString([(X - 1, Y + 4), (X + 25, Y + 4)])
    first, second = cut([1, 2, 4], line, polygons, Rules())
    assert (first.source, second.source) == (1, 2) and not first.changed
    assert [part.area for changes in (first, second) for part in changes.new] == [40, 40]
    assert {key: second.changed[key].area for key in (1, 2)} == {1: 60, 2: 60}
    assert {key: second.changed[key].area for key in (3, 4)} == {3: 40, 4: 100}
    assert not first.removed and not second.removed


@pytest.mark.parametrize("first", [1, 0, -1])
def test_polygons_may_have_any_numbers(first: int) -> None:
    polygons = {first: box(0, 0, 10, 10), first - 1: box(12, 0, 22, 4)}
    changes = give(box(10, 0, 12, 4), polygons, Rules())
    assert sum(outline.area for outline in changes.changed.values()) == 148
    changes = give(box(8, 0, 10, 10), {**polygons, first - 1: box(10, 0, 20, 10)}, Rules(), instead_of=first)
    assert {key: outline.area for key, outline in changes.changed.items()} == {first: 80, first - 1: 120}
    changes = place(box(4, 4, 6, 6), polygons, Rules(), Ground.SPLIT)
    assert changes.source == first and {key: part.area for key, part in changes.changed.items()} == {first: 96}
    (changes,) = cut([first], shapely.LineString([(X + 5, Y - 1), (X + 5, Y + 11)]), polygons, Rules())
    assert changes.changed[first].area == changes.new[0].area == 50


def test_small_parts_go_to_the_neighbour_with_the_longest_border_or_are_refused() -> None:
    polygons = {**PAIR, 3: box(0, 100, 100, 150)}
    # It cuts off a part of 50 m2 in the south, beside nothing else.
    outline = box(-5, 1, 60, 60)
    changes = place(outline, polygons, Rules(min_area_m2=100), Ground.CARVE)
    assert changes.new[0].equals(box(-5, 1, 60, 60).union(box(0, 0, 50, 1)))
    with pytest.raises(EditError, match=r"50 m², less than the minimum of 100 m²"):
        place(outline, polygons, Rules(min_area_m2=100, refuses_small=True), Ground.CARVE)
    by_class = Rules(min_area_m2=100, min_area_by_class={"meadow": 40})
    kept = place(outline, polygons, by_class, Ground.CARVE, {1: "meadow"})
    assert shapely.get_num_geometries(kept.changed[1]) == 2
    with pytest.raises(EditError, match=r"25 m², less than the minimum of 40 m²"):
        place(box(10, 10, 15, 15), polygons, by_class, Ground.SPLIT, class_name="meadow")


@pytest.mark.parametrize("seed", [0, 33, 69, 101])
@pytest.mark.parametrize("ground", [Ground.CARVE, Ground.SPLIT])
def test_slivers_narrower_than_the_tolerance_are_no_small_parts(seed: int, ground: Ground) -> None:
    """They once were parts of a square millimetre, below every minimum area."""
    angles = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    radii = 20 + np.cumsum(np.random.default_rng(seed).normal(size=120)) / 3
    outline = shapely.Polygon(np.c_[X + 71 + radii * np.cos(angles), Y + 50 + radii * np.sin(angles)])
    changes = place(outline, PAIR, Rules(1.0, 400.0, refuses_small=True), ground)
    after = [*{**PAIR, **changes.changed}.values(), *changes.new]
    assert sum(shapely.area(after)) == pytest.approx(shapely.union_all(after).area) == pytest.approx(10000)
    assert min(shapely.area(after)) > 400


def test_vertices_outside_a_change_are_exact() -> None:
    """An outline with vertices everywhere, far from the change too, keeps them to the last digit."""
    rng = np.random.default_rng(1)
    field = blob(rng, 0, 0, 500)
    around = shapely.difference(box(-1000, -1000, 1000, 1000), field)
    new = blob(rng, 500, 0, 30)
    changes = place(new, {1: field, 2: around}, Rules(0.5), Ground.CARVE)
    far = {xy for xy in vertices(field) if shapely.Point(xy).distance(new) > 5}
    assert far <= vertices(changes.changed[1]) and far <= vertices(changes.changed[2])
    inner = {xy for xy in vertices(new) if shapely.Point(xy).distance(field.boundary) > 5}
    assert inner <= vertices(changes.new[0])


def test_neighbours_that_are_no_coverage_do_no_harm() -> None:
    """Overlaps and invalid polygons around a change: what is written is valid, and overlaps nothing."""
    bow_tie = shapely.Polygon([(X, Y - 5), (X + 20, Y + 5), (X + 20, Y - 5), (X, Y + 5)])
    polygons = {1: box(8, -40, 30, 3), 2: box(8.3, 2, 30, 40), 3: box(-40, -40, 9, -5), 4: bow_tie}
    for ground in Ground:
        changes = place(blob(np.random.default_rng(4), 0, 0, 20), polygons, Rules(1.0), ground)
        after = {**polygons, **changes.changed}
        for key in set(after) - set(changes.removed):
            assert not (key in changes.changed and not after[key].is_valid)
            assert shapely.intersection(changes.new[0], shapely.make_valid(after[key])).area < 1e-6


def test_borders_with_nearly_the_same_vertices_become_one() -> None:
    """Two vertices 35 micrometres apart, in another order on each side."""
    a, b = (X + 50, Y + 40), (X + 50.00001, Y + 40.000035)
    west = shapely.Polygon([(X, Y), (X + 50, Y), a, b, (X + 50, Y + 100), (X, Y + 100)])
    east = shapely.Polygon([(X + 100, Y), (X + 100, Y + 100), (X + 50, Y + 100), a, b, (X + 50, Y)])
    changes = give(shapely.MultiPoint([a, b]).envelope, {1: west, 2: east}, Rules())
    assert_coverage({1: west, 2: east, **changes.changed})


@pytest.mark.skipif(not HAS_COVERAGE_FUNCTIONS, reason="needs shapely 2.1")
@given(st.integers(0, 1000))
def test_a_simplified_coverage_is_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layer = Layer(fields(rng))
    for ground in (Ground.CARVE, Ground.SPLIT):
        layer.apply(place(blob(rng, *rng.uniform(50, 250, 2), 40), layer.polygons, Rules(), ground))
    simple = simplify(layer.polygons, 5.0, Rules())
    assert_coverage(simple)
    count = shapely.get_num_coordinates(list(layer.polygons.values())).sum()
    assert shapely.get_num_coordinates(list(simple.values())).sum() < 0.8 * count
    assert set().union(*map(vertices, simple.values())) <= set().union(*map(vertices, layer.polygons.values()))
