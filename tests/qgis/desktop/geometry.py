"""The functions of shapely that the plugin uses, on some hundred geometries.

``run.sh`` runs them in a plain process, and in the QGIS window, where two versions of GEOS are loaded. Both must give
the same. The fault shows only in QGIS's program, whose libraries are global, not in a Python that imports qgis.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from typing import Any

import shapely
import shapely.ops
from shapely.geometry.base import BaseGeometry

__all__ = ["FUNCTIONS", "results"]

Pair = tuple[shapely.Polygon, shapely.Polygon]

COUNT = 200
DIGITS = 9


def _prepared(a: BaseGeometry, b: BaseGeometry) -> Any:
    shapely.prepare(a)
    return [shapely.contains_xy(a, *b.centroid.coords[0]), shapely.intersects(a, b), a.contains(b.centroid)]


def _nearest(a: BaseGeometry, b: BaseGeometry) -> Any:
    edges = shapely.linestrings([[start, end] for start, end in zip(a.exterior.coords, a.exterior.coords[1:])])
    return shapely.STRtree(edges).query_nearest(shapely.points(shapely.get_coordinates(b)), all_matches=False).tolist()


def _halves(a: BaseGeometry) -> list[BaseGeometry]:
    min_x, min_y, max_x, max_y = a.bounds
    x = (min_x + max_x) / 2
    sides = (shapely.box(min_x, min_y, x, max_y), shapely.box(x, min_y, max_x, max_y))
    return [part for side in sides for part in shapely.get_parts(shapely.intersection(a, side)) if part.area > 0]


def _lines(a: BaseGeometry, b: BaseGeometry) -> BaseGeometry:
    return shapely.union_all([shapely.boundary(a), shapely.boundary(b)])


FUNCTIONS: dict[str, Callable[[shapely.Polygon, shapely.Polygon], Any]] = {
    "area": lambda a, b: shapely.area(a),
    "boundary": lambda a, b: shapely.boundary(a),
    "bounds": lambda a, b: shapely.bounds(a).tolist(),
    "box": lambda a, b: shapely.box(*a.bounds),
    "buffer": lambda a, b: shapely.buffer(a, 0.5),
    "centroid": lambda a, b: shapely.centroid(a),
    "clip_by_rect": lambda a, b: shapely.clip_by_rect(a, *b.bounds),
    "contains_xy": _prepared,
    "convex_hull": lambda a, b: shapely.convex_hull(a),
    "coverage_simplify": lambda a, b: shapely.coverage_simplify(_halves(a), 0.5).tolist(),
    "coverage_union_all": lambda a, b: shapely.coverage_union_all(_halves(a)),
    "covered_by": lambda a, b: shapely.covered_by(shapely.point_on_surface(a), a),
    "covers": lambda a, b: shapely.covers(a, shapely.point_on_surface(a)),
    "difference": shapely.difference,
    "difference_on_a_grid": lambda a, b: shapely.difference(a, b, grid_size=0.01),
    "distance": shapely.distance,
    "dwithin": lambda a, b: shapely.dwithin(a.boundary, shapely.points(b.exterior.coords), 1.0).tolist(),
    "equals_exact": lambda a, b: shapely.equals_exact(a, shapely.normalize(a), 1e-9),
    "from_wkb": lambda a, b: shapely.from_wkb(shapely.to_wkb(a)),
    "get_coordinates": lambda a, b: shapely.get_coordinates(a).tolist(),
    "get_dimensions": lambda a, b: shapely.get_dimensions(shapely.intersection(a, b)),
    "get_num_coordinates": lambda a, b: shapely.get_num_coordinates(shapely.union(a, b)),
    "get_parts": lambda a, b: shapely.get_parts(shapely.union(a, b)).tolist(),
    "get_rings": lambda a, b: shapely.get_rings(a).tolist(),
    "get_type_id": lambda a, b: shapely.get_type_id(shapely.union(a, b)),
    "hausdorff_distance": lambda a, b: shapely.hausdorff_distance(a.exterior, b.exterior),
    "intersection": shapely.intersection,
    "intersection_all": lambda a, b: shapely.intersection_all([a, b]),
    "intersects": shapely.intersects,
    "intersects_xy": lambda a, b: shapely.intersects_xy(a, *b.centroid.coords[0]),
    "is_ccw": lambda a, b: shapely.is_ccw(a.exterior),
    "is_empty": lambda a, b: shapely.is_empty([a, shapely.Polygon()]).tolist(),
    "is_simple": lambda a, b: shapely.is_simple(_bow_tie(a).exterior),
    "is_valid": lambda a, b: shapely.is_valid(_bow_tie(a)),
    "length": lambda a, b: shapely.length(a),
    "line_interpolate_point": lambda a, b: shapely.line_interpolate_point(a.exterior, 0.3, normalized=True),
    "line_merge": lambda a, b: shapely.line_merge(shapely.multilinestrings(shapely.get_parts(_lines(a, b)))),
    "linestrings": _nearest,
    "make_valid": lambda a, b: shapely.make_valid(_bow_tie(a)),
    "multilinestrings": lambda a, b: shapely.multilinestrings([ring.coords for ring in a.interiors]),
    "normalize": lambda a, b: shapely.normalize(a),
    "point_on_surface": lambda a, b: shapely.point_on_surface(a),
    "prepare": _prepared,
    "points": _nearest,
    "polygonize": lambda a, b: shapely.polygonize(shapely.get_parts(_lines(a, b))),
    "relate_pattern": lambda a, b: shapely.relate_pattern(a, b, "T********"),
    "segmentize": lambda a, b: shapely.segmentize(a, 0.7),
    "set_precision": lambda a, b: shapely.set_precision(a, 0.01),
    "shortest_line": lambda a, b: shapely.shortest_line(a, b).length,
    "simplify": lambda a, b: shapely.simplify(a, 0.3),
    "snap": lambda a, b: shapely.snap(a, b, 0.5),
    "symmetric_difference": shapely.symmetric_difference,
    "split": lambda a, b: shapely.ops.split(a, shapely.LineString([a.bounds[:2], a.bounds[2:]])),
    "to_wkb": lambda a, b: shapely.to_wkb(a, hex=True),
    "total_bounds": lambda a, b: shapely.total_bounds([a, b]).tolist(),
    "transform": lambda a, b: shapely.transform(a, lambda xy: xy * 2 + 1),
    "union": shapely.union,
    "union_all": lambda a, b: shapely.union_all([a, b]),
    "union_all_on_a_grid": lambda a, b: shapely.union_all([a, b], grid_size=0.01),
    "measures": lambda a, b: [a.area, a.length, a.centroid, a.distance(b), a.exterior.is_ccw, list(a.bounds)],
}


def _bow_tie(polygon: shapely.Polygon) -> shapely.Polygon:
    first, second, third, *rest = polygon.exterior.coords
    return shapely.Polygon([second, first, third, *rest[:-1], second])


def _pairs() -> list[Pair]:
    numbers = random.Random(0)

    def star() -> shapely.Polygon:
        x, y, corners = numbers.uniform(0, 20), numbers.uniform(0, 20), numbers.randint(4, 40)
        steps = [2 * math.pi * step / corners for step in range(corners)]
        radii = [numbers.uniform(2, 10) for _ in steps]
        ring = [(x + r * math.cos(a), y + r * math.sin(a)) for r, a in zip(radii, steps)]
        hole = [(x + math.cos(a), y + math.sin(a)) for a in steps]
        return shapely.Polygon(ring, [hole])

    return [(star(), star()) for _ in range(COUNT)]


def _plain(value: Any) -> Any:
    """Return a result as JSON; the last digits may differ between builds."""
    if isinstance(value, BaseGeometry):
        return shapely.to_wkt(shapely.normalize(value), rounding_precision=6)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return round(value, DIGITS) if isinstance(value, float) else value


def results() -> dict[str, Any]:
    """Return the results of each function."""
    return {name: [_plain(function(a, b)) for a, b in _pairs()] for name, function in FUNCTIONS.items()}


if __name__ == "__main__":
    print(json.dumps(results()))
