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


FUNCTIONS: dict[str, Callable[[shapely.Polygon, shapely.Polygon], Any]] = {
    "box": lambda a, b: shapely.box(*a.bounds),
    "buffer": lambda a, b: shapely.buffer(a, 0.5),
    "clip_by_rect": lambda a, b: shapely.clip_by_rect(a, *b.bounds),
    "contains_xy": _prepared,
    "covers": lambda a, b: shapely.covers(a, shapely.point_on_surface(a)),
    "difference": shapely.difference,
    "difference_on_a_grid": lambda a, b: shapely.difference(a, b, grid_size=0.01),
    "distance": shapely.distance,
    "from_wkb": lambda a, b: shapely.from_wkb(shapely.to_wkb(a)),
    "get_coordinates": lambda a, b: shapely.get_coordinates(a).tolist(),
    "get_parts": lambda a, b: shapely.get_parts(shapely.union(a, b)).tolist(),
    "hausdorff_distance": lambda a, b: shapely.hausdorff_distance(a.exterior, b.exterior),
    "intersection": shapely.intersection,
    "intersects": shapely.intersects,
    "is_valid": lambda a, b: shapely.is_valid(_bow_tie(a)),
    "linestrings": _nearest,
    "make_valid": lambda a, b: shapely.make_valid(_bow_tie(a)),
    "point_on_surface": lambda a, b: shapely.point_on_surface(a),
    "prepare": _prepared,
    "points": _nearest,
    "relate_pattern": lambda a, b: shapely.relate_pattern(a, b, "T********"),
    "segmentize": lambda a, b: shapely.segmentize(a, 0.7),
    "set_precision": lambda a, b: shapely.set_precision(a, 0.01),
    "simplify": lambda a, b: shapely.simplify(a, 0.3),
    "snap": lambda a, b: shapely.snap(a, b, 0.5),
    "symmetric_difference": shapely.symmetric_difference,
    "to_wkb": lambda a, b: shapely.to_wkb(a, hex=True),
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
