"""Cleaning of polygons: parts, holes, small areas, simplification.

All geometries are planar; lengths and areas are in the units of their plane.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Union

import numpy as np
import shapely
import shapely.ops
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

__all__ = [
    "Outline",
    "clean",
    "fewest_vertices",
    "fill_holes",
    "merge",
    "middles",
    "polygon_parts",
    "polygonal",
    "prompted_parts",
    "split_by_line",
    "valid_polygon",
    "with_kept_borders",
]

Outline = Union[shapely.Polygon, shapely.MultiPolygon]

_MOST_MIDDLES = 4
_LARGE_PART = 0.1
"""Area of a large part relative to the largest one."""


def polygon_parts(geometry: BaseGeometry) -> list[shapely.Polygon]:
    """Return the polygons in a geometry of any type; lines and points are dropped."""
    if isinstance(geometry, shapely.Polygon):
        return [] if geometry.is_empty else [geometry]
    return [polygon for part in getattr(geometry, "geoms", ()) for polygon in polygon_parts(part)]


def polygonal(geometry: BaseGeometry) -> Outline:
    """Return the polygons of the result of an overlay."""
    parts = polygon_parts(geometry)
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def merge(polygons: Iterable[shapely.Polygon]) -> Outline:
    """Join polygons into one valid geometry, which may be empty."""
    return polygonal(shapely.union_all(list(polygons)))


def valid_polygon(geometry: BaseGeometry) -> shapely.Polygon | shapely.MultiPolygon:
    """Return the polygons of a geometry, repaired if need be; valid ones are returned as they are."""
    if isinstance(geometry, (shapely.Polygon, shapely.MultiPolygon)) and geometry.is_valid:
        return geometry
    return merge(polygon_parts(shapely.make_valid(geometry)))


def fill_holes(
    polygon: shapely.Polygon, min_area: float, area: Callable[[shapely.Polygon], float] = shapely.area
) -> shapely.Polygon:
    """Fill the holes smaller than ``min_area``, by default in the units of the plane."""
    kept = [ring for ring in polygon.interiors if area(shapely.Polygon(ring)) >= min_area]
    return polygon if len(kept) == len(polygon.interiors) else shapely.Polygon(polygon.exterior, kept)


@lru_cache(maxsize=4)
def middles(outline: BaseGeometry) -> tuple[tuple[float, float], ...]:
    """Return XY in the middle of each large part of a valid polygon, far from its outline."""
    parts = sorted(polygon_parts(outline), key=lambda part: -part.area)
    found = []
    for part in parts[:_MOST_MIDDLES]:
        if part.area > _LARGE_PART * parts[0].area:
            detail = math.sqrt(part.area) / 50
            middle = shapely.ops.polylabel(shapely.simplify(part, detail), detail)
            # Many points are equally far from the outline of a long rectangle; rounding must not choose among them.
            if shapely.covers(part, part.centroid) and _depth(part, part.centroid) > 0.9 * _depth(part, middle):
                middle = part.centroid
            found.append((middle.x, middle.y))
    return tuple(found)


def _depth(part: shapely.Polygon, point: shapely.Point) -> float:
    return float(shapely.distance(part.boundary, point))


def prompted_parts(
    polygons: Sequence[shapely.Polygon],
    positives: Sequence[tuple[float, float]],
    outline: BaseGeometry | None = None,
) -> list[shapely.Polygon]:
    """Return the parts of a mask under a positive point or mostly in an outline, or the largest part if there is none.

    SAM's masks may contain specks far from the object.

    Parameters
    ----------
    polygons : sequence of Polygon
        Largest first.
    positives : sequence of (x, y)
        Positive points in the same plane.
    outline : Polygon or MultiPolygon, optional
        A first outline of the object in the same plane.

    Returns
    -------
    list of Polygon
    """
    if len(polygons) <= 1:
        return list(polygons)
    points = [shapely.Point(xy) for xy in positives]
    kept = [
        p
        for p in polygons
        if any(shapely.covers(p, point) for point in points)
        or (outline is not None and 2 * shapely.intersection(p, outline).area > p.area)
    ]
    return kept or [polygons[0]]


def split_by_line(polygons: BaseGeometry, line: shapely.LineString) -> list[shapely.Polygon]:
    """Cut polygons along a line.

    Parameters
    ----------
    polygons : Polygon or MultiPolygon
    line : LineString
        It may cross a polygon several times. Where it ends inside, it cuts nothing.

    Returns
    -------
    list of Polygon
        Largest first. The vertices of the outlines are kept.
    """
    pieces: list[shapely.Polygon] = []
    for part in polygon_parts(polygons):
        cut = polygon_parts(shapely.ops.split(part, line))
        # A line that ends inside would leave a vertex.
        pieces += cut if len(cut) > 1 else [part]
    return sorted(pieces, key=lambda piece: -piece.area)


def clean(
    polygons: Iterable[shapely.Polygon],
    *,
    simplify_tolerance: float = 0.0,
    min_area: float = 0.0,
    fill_holes_area: float = 0.0,
) -> shapely.Polygon | shapely.MultiPolygon:
    """Simplify polygons and remove small parts and holes.

    Simplification is that of Douglas and Peucker with topology preserved (GEOS). Parts that overlap afterwards are
    joined.

    Parameters
    ----------
    polygons : iterable of Polygon
    simplify_tolerance : float
        Largest displacement of an outline.
    min_area : float
        Minimum mapping unit; smaller parts are removed.
    fill_holes_area : float
        Holes below this area are filled.

    Returns
    -------
    Polygon or MultiPolygon
        Valid, perhaps empty.
    """
    parts = [fill_holes(p, fill_holes_area) for p in polygons] if fill_holes_area > 0 else list(polygons)
    if simplify_tolerance > 0:
        simplified = [shapely.simplify(p, simplify_tolerance, preserve_topology=True) for p in parts]
        parts = [part for s in simplified for part in polygon_parts(shapely.make_valid(s))]
    return merge(part for part in parts if part.area >= min_area and part.area > 0)


def fewest_vertices(outline: BaseGeometry, tolerance: float) -> shapely.Polygon | shapely.MultiPolygon:
    """Return polygons with as few of their vertices as keep the outline within a tolerance.

    Each edge reaches as far as it can, so there are fewer vertices than Douglas and Peucker's method leaves.

    Parameters
    ----------
    outline : Polygon or MultiPolygon
        Valid.
    tolerance : float
        Largest displacement.
    """
    parts = []
    for part in polygon_parts(outline):
        rings = [_sparse(shapely.get_coordinates(ring)[:-1], tolerance) for ring in (part.exterior, *part.interiors)]
        sparse = shapely.Polygon(rings[0], rings[1:])
        usual = shapely.simplify(part, tolerance, preserve_topology=True)
        is_better = sparse.is_valid and shapely.get_num_coordinates(sparse) < shapely.get_num_coordinates(usual)
        parts.append(sparse if is_better else usual)
    return merge(parts)


def _sparse(ring: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
    # The vertex farthest from the middle is a corner. The edges begin and end there.
    first = int(np.argmax(((ring - ring.mean(axis=0)) ** 2).sum(axis=1)))
    line = np.vstack([np.roll(ring, -first, axis=0), ring[first]])

    def fits(start: int, end: int) -> bool:
        edge, offsets = line[end] - line[start], line[start + 1 : end] - line[start]
        along = np.clip(offsets @ edge / max(edge @ edge, 1e-300), 0.0, 1.0)
        return bool((((offsets - along[:, None] * edge) ** 2).sum(axis=1) <= tolerance**2).all())

    kept = [0]
    while kept[-1] < len(line) - 1:
        start, end, step = kept[-1], kept[-1] + 1, 1
        while end + step < len(line) and fits(start, end + step):
            end += step
            step *= 2
        while step > 1:
            step //= 2
            if end + step < len(line) and fits(start, end + step):
                end += step
        kept.append(end)
    return line[kept[:-1]] if len(kept) > 3 else ring


def with_kept_borders(
    polygon: BaseGeometry, older: shapely.Polygon | shapely.MultiPolygon, tolerance: float
) -> shapely.Polygon | shapely.MultiPolygon:
    """Return a polygon with the vertices of an older one wherever the two differ by less than a tolerance.

    Parameters
    ----------
    polygon, older : Polygon or MultiPolygon
        Valid.
    tolerance : float
        Width of the differences that are ignored.
    """
    half = tolerance / 2

    def wide(difference: BaseGeometry) -> BaseGeometry:
        core = shapely.buffer(difference, -half, join_style="mitre")
        return shapely.intersection(difference, shapely.buffer(core, 1.01 * half, join_style="mitre"))

    gained, lost = wide(shapely.difference(polygon, older)), wide(shapely.difference(older, polygon))
    if gained.is_empty and lost.is_empty:
        return older
    parts = polygon_parts(shapely.union(shapely.difference(older, lost), gained))
    # Rounding may leave a slit where a gained part touches the older polygon.
    return merge(fill_holes(part, 0.01 * tolerance**2) for part in parts)
