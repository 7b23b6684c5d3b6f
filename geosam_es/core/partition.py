"""Fitting a polygon to its neighbours: no overlaps, no slivers, and shared borders.

Shared borders have the vertices of the neighbours, which are never changed. Lengths are in the units of the plane.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Union

import shapely
from shapely.geometry.base import BaseGeometry

from .topology import polygon_parts

__all__ = ["SLIVER_WIDTH", "snap_to_neighbours", "trim_neighbours"]

Outline = Union[shapely.Polygon, shapely.MultiPolygon]

SLIVER_WIDTH = 0.02
"""Width of a sliver relative to the square root of the area of the polygon."""

_MITRE_LIMIT = 5.0
"""Corners down to about 23 degrees stay sharp when an outline is buffered outwards and inwards."""

_WEDGE_LIMIT = 1.5
"""Wedges of less than about 80 degrees between an outline and the border of a neighbour are filled."""

_HAIR = 1e-3
"""Part of the tolerance; anything thinner is due to rounding."""


def trim_neighbours(outline: Outline, neighbours: Iterable[BaseGeometry]) -> Outline:
    """Subtract the neighbours from an outline, and remove the slivers that remain: parts narrower than `SLIVER_WIDTH`.

    Parameters
    ----------
    outline : Polygon or MultiPolygon
        Valid.
    neighbours : iterable of geometry

    Returns
    -------
    Polygon or MultiPolygon
        Valid, perhaps empty.
    """
    width = SLIVER_WIDTH * outline.area**0.5
    around = [part for part in _nearby(outline, neighbours, width) if _overlaps(part, outline)]
    if not around:
        return outline
    cover = shapely.union_all(around)
    trimmed = _polygonal(shapely.difference(outline, cover))
    return _without_slivers(trimmed, cover, width)


def snap_to_neighbours(outline: Outline, neighbours: Iterable[BaseGeometry], tolerance: float) -> Outline:
    """Snap an outline to the borders of its neighbours: gaps and overlaps up to the tolerance are closed.

    Neighbours that overlap by more are ignored; use `trim_neighbours` first.

    Parameters
    ----------
    outline : Polygon or MultiPolygon
        Valid.
    neighbours : iterable of geometry
    tolerance : float

    Returns
    -------
    Polygon or MultiPolygon
        Valid; the unchanged outline if no neighbour is near.
    """
    near = [
        part
        for part in _nearby(outline, neighbours, 2 * tolerance)
        if part.distance(outline) <= tolerance and not _is_wide(part.intersection(outline), tolerance)
    ]
    if not near:
        return outline
    cover = shapely.union_all(near)
    filled = shapely.union(outline, _gaps(outline, cover, tolerance))
    beside = _without_slivers(_polygonal(shapely.difference(filled, cover)), cover, tolerance)
    # Replaces vertices that differ from those of the neighbours by rounding.
    shared = shapely.make_valid(shapely.snap(beside, cover, _HAIR * tolerance))
    result = _polygonal(shapely.difference(shared, cover))
    return outline if result.is_empty else result


def _nearby(outline: Outline, neighbours: Iterable[BaseGeometry], reach: float) -> list[shapely.Polygon]:
    """Return the parts of neighbours around an outline; large neighbours are clipped."""
    min_x, min_y, max_x, max_y = outline.buffer(4 * reach + 1e-9 * max(map(abs, outline.bounds))).bounds
    parts = []
    for neighbour in neighbours:
        valid = neighbour if neighbour.is_valid else shapely.make_valid(neighbour)
        clipped = shapely.clip_by_rect(valid, min_x, min_y, max_x, max_y)
        parts += polygon_parts(clipped if clipped.is_valid else shapely.make_valid(clipped))
    return parts


def _polygonal(geometry: BaseGeometry) -> Outline:
    """Return the polygons of the result of an overlay."""
    parts = polygon_parts(geometry)
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def _overlaps(one: BaseGeometry, other: BaseGeometry) -> bool:
    return bool(shapely.relate_pattern(one, other, "T********"))


def _is_wide(geometry: BaseGeometry, width: float) -> bool:
    return any(not part.buffer(-width / 2).is_empty for part in polygon_parts(geometry))


def _gaps(outline: Outline, cover: BaseGeometry, tolerance: float) -> BaseGeometry:
    """Return the gaps between an outline and its neighbours that are no wider than the tolerance.

    They overlap both by a rounding margin, so that an overlay leaves no slit.
    """
    joined = shapely.union(outline, cover)
    # Round outwards, for the same tolerance in all directions; mitred inwards, to restore the corners.
    closed = _grown(shapely.buffer(joined, tolerance / 2), -tolerance / 2, _WEDGE_LIMIT)
    # Gaps between two neighbours are not filled beyond the outline.
    closed = shapely.intersection(closed, outline.buffer(tolerance, quad_segs=4))
    hair = _HAIR * tolerance
    between = _grown(_grown(shapely.difference(closed, joined), -hair), hair)
    gaps = [gap for gap in polygon_parts(between) if max(gap.distance(outline), gap.distance(cover)) <= hair]
    return shapely.intersection(_grown(shapely.MultiPolygon(gaps), 2 * hair), closed)


def _grown(geometry: BaseGeometry, distance: float, mitre_limit: float = _MITRE_LIMIT) -> BaseGeometry:
    return shapely.buffer(geometry, distance, join_style="mitre", mitre_limit=mitre_limit)


def _without_slivers(outline: Outline, cover: BaseGeometry, width: float) -> Outline:
    """Remove parts that are narrower than the width and touch the neighbours; others belong to the object."""
    if width <= 0:
        return outline
    touching = cover.buffer(_HAIR * width)
    kept = []
    for part in polygon_parts(outline):
        # Grown by slightly more than shrunk, so that the remaining edges are inside.
        wide = _grown(_grown(part, -width / 2), width / 2 * 1.02)
        narrow = [piece for piece in polygon_parts(shapely.difference(part, wide)) if _extent(piece) > width]
        slivers = [piece for piece in narrow if piece.intersects(touching)]
        kept.append(shapely.difference(part, shapely.union_all(slivers)) if slivers else part)
    return _polygonal(shapely.GeometryCollection(kept))


def _extent(piece: shapely.Polygon) -> float:
    min_x, min_y, max_x, max_y = piece.bounds
    return float(max(max_x - min_x, max_y - min_y))
