from __future__ import annotations

import os

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geosam_es.core.coverage import Changes, Ground, Rules, cut, merge, place, reshape
from geosam_es.errors import EditError

X, Y = 725_000.0, 4_372_000.0
SIDE = 300.0
SEQUENCES = int(os.environ.get("GEOSAM_ES_COVERAGE_SEQUENCES", "25"))


def box(min_x: float, min_y: float, max_x: float, max_y: float) -> shapely.Polygon:
    return shapely.box(X + min_x, Y + min_y, X + max_x, Y + max_y)


def fields(rng: np.random.Generator, count: int) -> dict[int, shapely.Polygon]:
    """Draw a coverage of a square with a lake of free ground."""
    whole = box(0, 0, SIDE, SIDE)
    sites = shapely.MultiPoint(np.array([X, Y]) + rng.uniform(0, SIDE, (count, 2)))
    cells = shapely.get_parts(shapely.voronoi_polygons(sites, extend_to=whole))
    clipped = shapely.set_precision(shapely.intersection(cells, whole, grid_size=1e-3), 1e-3)
    # With the nodes of all neighbours.
    faces = shapely.get_parts(shapely.polygonize([shapely.union_all(shapely.boundary(clipped), grid_size=1e-3)]))
    return dict(enumerate(faces[1:]))


def blob(rng: np.random.Generator, x: float, y: float, radius: float) -> shapely.Polygon:
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radii = radius * (1 + 0.2 * np.sin(3 * angles + rng.uniform(0, 6)) + 0.03 * rng.normal(size=40))
    return shapely.Polygon(np.column_stack([X + x + radii * np.cos(angles), Y + y + radii * np.sin(angles)]))


class Layer:
    """Polygons with an undo stack, as an edit buffer has them."""

    def __init__(self, polygons: dict[int, shapely.Geometry]) -> None:
        self.polygons = dict(polygons)
        self.stack: list[dict[int, shapely.Geometry]] = []
        self.next = max(polygons) + 1

    def apply(self, changes: Changes) -> list[int]:
        self.stack.append(dict(self.polygons))
        assert not set(changes.removed) & set(changes.changed)
        assert set(changes.removed) | set(changes.changed) <= set(self.polygons)
        for key in changes.removed:
            del self.polygons[key]
        self.polygons.update(changes.changed)
        keys = list(range(self.next, self.next + len(changes.new)))
        self.next += len(keys)
        self.polygons.update(zip(keys, changes.new))
        return keys

    @property
    def area(self) -> float:
        return float(sum(polygon.area for polygon in self.polygons.values()))


def in_metres(polygon: shapely.Geometry) -> shapely.Geometry:
    return shapely.transform(polygon, lambda xy: xy - (X, Y))


def assert_coverage(polygons: dict[int, shapely.Geometry]) -> None:
    geometries = np.array([in_metres(polygon) for polygon in polygons.values()], object)
    assert shapely.is_valid(geometries).all()
    assert shapely.area(geometries).sum() == pytest.approx(shapely.union_all(geometries).area, abs=1e-5)
    parts = shapely.get_parts(geometries)
    if shapely.geos_version >= (3, 12, 0) and hasattr(shapely, "coverage_invalid_edges"):
        wrong = shapely.coverage_invalid_edges(parts)
        assert shapely.coverage_is_valid(parts), wrong[~shapely.is_empty(wrong)]


def step(rng: np.random.Generator, layer: Layer, rules: Rules) -> None:
    """Do something, and check what it does to the area."""
    before, keys = layer.area, list(layer.polygons)
    kind = rng.choice(["fill", "carve", "split", "cut", "merge", "refine", "undo"])
    key = int(rng.choice(keys))
    polygon = layer.polygons[key]
    middle = polygon.point_on_surface()
    new = blob(rng, middle.x - X + rng.uniform(-20, 20), middle.y - Y + rng.uniform(-20, 20), rng.uniform(5, 40))
    covered = shapely.union_all(list(layer.polygons.values()))
    try:
        if kind == "undo":
            if layer.stack:
                layer.polygons = layer.stack.pop()
            return
        if kind == "cut":
            xs, ys = zip(*(middle.coords[0], middle.coords[0]))
            angle = rng.uniform(0, np.pi)
            far = 2 * SIDE * np.array([np.cos(angle), np.sin(angle)])
            line = shapely.LineString([np.array(middle.coords[0]) - far, np.array(middle.coords[0]) + far])
            layer.apply(cut(key, line, layer.polygons, rules))
            assert layer.area == pytest.approx(before, abs=1e-2)
        elif kind == "merge":
            others = [k for k in keys if k != key and layer.polygons[k].distance(polygon) == 0]
            if not others:
                return
            layer.apply(merge(key, int(rng.choice(others)), layer.polygons, rules))
            assert layer.area >= before - 1e-2
        elif kind == "refine":
            moves = bool(rng.integers(2))
            outline = blob(rng, middle.x - X, middle.y - Y, np.sqrt(polygon.area / np.pi))
            if rng.integers(2):
                outline = shapely.union(polygon, blob(rng, middle.x - X, middle.y - Y, 0.4 * np.sqrt(polygon.area)))
            layer.apply(reshape(key, outline, layer.polygons, rules, moves_borders=moves))
            if moves and covered.buffer(-5).contains(shapely.union(outline, polygon)):
                assert layer.area == pytest.approx(before, abs=1e-2)
        else:
            ground = Ground(kind)
            layer.apply(place(new, layer.polygons, rules, ground))
            if kind == "split" or covered.contains(new):
                assert layer.area == pytest.approx(before, abs=1e-2)
            else:
                assert layer.area >= before - 1e-2
    except EditError:
        assert layer.area == before


@settings(max_examples=SEQUENCES, deadline=None)
@given(st.integers(0, 10**9), st.sampled_from([0.0, 0.5, 2.0]), st.sampled_from([0.0, 60.0]))
def test_a_coverage_stays_one(seed: int, tolerance: float, min_area: float) -> None:
    rng = np.random.default_rng(seed)
    layer = Layer(fields(rng, 12))
    start = dict(layer.polygons)
    assert_coverage(start)
    rules = Rules(tolerance_m=tolerance, min_area_m2=min_area)
    for _ in range(30):
        step(rng, layer, rules)
        assert_coverage(layer.polygons)
