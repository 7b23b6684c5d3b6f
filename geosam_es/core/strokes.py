"""Strokes drawn by hand: a closed loop is a region, an open stroke a scribble along an object, a wide one a brush.

Strokes are lines as the pointer gave them, in native pixels of the raster unless stated otherwise.
"""

from __future__ import annotations

import shapely

from .prompts import Point
from .topology import merge, polygon_parts

__all__ = ["SCRIBBLE_POINTS", "brushed_area", "is_loop", "looped_area", "scribble_points"]

SCRIBBLE_POINTS = 5
"""Points that stand for a scribble."""

_LOOP_GAP = 0.2
"""Largest distance between the ends of a closed loop, relative to its length."""

_JITTER = 0.5
"""Detail in pixels that a pointer gives by accident."""


def is_loop(stroke: shapely.LineString) -> bool:
    """Tell whether a stroke comes back to where it began, and so surrounds a region."""
    gap = shapely.Point(stroke.coords[0]).distance(shapely.Point(stroke.coords[-1]))
    return bool(gap <= _LOOP_GAP * stroke.length and not looped_area(stroke).is_empty)


def looped_area(stroke: shapely.LineString) -> shapely.Polygon | shapely.MultiPolygon:
    """Return the region that a loop surrounds; empty if there is none."""
    ring = [*stroke.coords, stroke.coords[0]]
    if len(ring) < 4:
        return shapely.Polygon()
    return merge(polygon_parts(shapely.make_valid(shapely.Polygon(ring))))


def scribble_points(stroke: shapely.LineString, positive: bool = True) -> list[Point]:
    """Return points spread evenly along a stroke, as prompts."""
    places = [(index + 0.5) / SCRIBBLE_POINTS for index in range(SCRIBBLE_POINTS)]
    points = [shapely.line_interpolate_point(stroke, place, normalized=True) for place in places]
    return [Point(point.x, point.y, positive) for point in points]


def brushed_area(
    stroke: shapely.LineString, radius: float, pixel: float = 1.0
) -> shapely.Polygon | shapely.MultiPolygon:
    """Return the area that a round brush covers; ``pixel`` is the size of a pixel in the units of stroke and radius."""
    return merge(polygon_parts(shapely.buffer(shapely.simplify(stroke, _JITTER * pixel), radius)))
