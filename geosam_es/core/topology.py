"""Cleaning of polygons for a map: parts, holes, small areas, simplification.

Every function takes and returns geometries in a plane; lengths and areas are in the units of that plane.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import shapely

__all__ = ["clean", "fill_holes", "merge", "polygon_parts", "prompted_parts"]


def polygon_parts(geometry: shapely.Geometry) -> list[shapely.Polygon]:
    """Return the polygons in a geometry of any type; lines and points are left out."""
    if geometry.geom_type == "Polygon":
        return [] if geometry.is_empty else [geometry]
    return [polygon for part in getattr(geometry, "geoms", ()) for polygon in polygon_parts(part)]


def merge(polygons: Iterable[shapely.Polygon]) -> shapely.Polygon | shapely.MultiPolygon:
    """Join polygons into one valid geometry, empty where there are none."""
    parts = polygon_parts(shapely.union_all(list(polygons)))
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def fill_holes(polygon: shapely.Polygon, min_area: float) -> shapely.Polygon:
    """Fill the holes smaller than ``min_area``."""
    kept = [ring for ring in polygon.interiors if shapely.Polygon(ring).area >= min_area]
    return polygon if len(kept) == len(polygon.interiors) else shapely.Polygon(polygon.exterior, kept)


def prompted_parts(
    polygons: Sequence[shapely.Polygon], positives: Sequence[tuple[float, float]]
) -> list[shapely.Polygon]:
    """Keep the parts of a mask that were asked for: those under a positive point, and the largest if none is.

    SAM's masks carry specks far from the object; a part that was not clicked is not meant.

    Parameters
    ----------
    polygons : sequence of Polygon
        The largest first.
    positives : sequence of (x, y)
        The positive points, in the same plane.

    Returns
    -------
    list of Polygon
    """
    if len(polygons) <= 1:
        return list(polygons)
    points = shapely.points(positives) if len(positives) else []
    kept = [p for p in polygons if any(shapely.covers(p, point) for point in points)]
    return kept or [polygons[0]]


def clean(
    polygons: Iterable[shapely.Polygon],
    *,
    simplify_tolerance: float = 0.0,
    min_area: float = 0.0,
    fill_holes_area: float = 0.0,
) -> shapely.Polygon | shapely.MultiPolygon:
    """Make polygons fit for a map.

    Simplification is Douglas and Peucker's with the topology kept (GEOS); where several parts come to overlap by
    it, they are joined.

    Parameters
    ----------
    polygons : iterable of Polygon
    simplify_tolerance : float
        Largest distance by which an outline may move.
    min_area : float
        The minimum mapping unit: smaller parts are left out.
    fill_holes_area : float
        Smaller holes are filled.

    Returns
    -------
    Polygon or MultiPolygon
        Valid; empty where nothing is left.
    """
    parts = [fill_holes(p, fill_holes_area) for p in polygons] if fill_holes_area > 0 else list(polygons)
    if simplify_tolerance > 0:
        simplified = [shapely.simplify(p, simplify_tolerance, preserve_topology=True) for p in parts]
        parts = [part for s in simplified for part in polygon_parts(shapely.make_valid(s))]
    return merge(part for part in parts if part.area >= min_area and part.area > 0)
