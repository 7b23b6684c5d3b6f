"""Fitting a polygon to its neighbours: no overlaps, no slivers, and shared borders.

Shared borders have the vertices of the neighbours, which are never changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from .faces import GRID_M, Faces, Plane, complex_vertices, line_strings, segments
from .topology import Outline, polygon_parts, polygonal

__all__ = [
    "SLIVER_WIDTH",
    "Fit",
    "border_ends",
    "fit_to_neighbours",
    "gaps",
    "grown",
    "is_wide",
    "polygonal",
    "snap_to_neighbours",
    "trim_neighbours",
    "valid",
    "without_slivers",
]

SLIVER_WIDTH = 0.02
"""Width of a sliver relative to the square root of the area of the polygon."""

_MITRE_LIMIT = 5.0
"""Corners down to about 23 degrees stay sharp when an outline is buffered outwards and inwards."""

_WEDGE_LIMIT = 1.5
"""Wedges of less than about 80 degrees between an outline and the border of a neighbour are filled."""

_HAIR = 1e-3
"""Part of the tolerance; anything thinner is due to rounding."""

_REACH_M = 2 * GRID_M
"""How far rounding moves a vertex."""

_STEP_M = 1e-7
"""More than the last digit of a coordinate, in any unit."""


@dataclass(frozen=True)
class Fit:
    """A polygon fitted to its neighbours.

    Attributes
    ----------
    outline : Polygon or MultiPolygon
        Valid, perhaps empty.
    trimmed : Polygon or MultiPolygon
        What trimming alone would give; the polygon itself without trimming.
    """

    outline: Outline
    trimmed: Outline


def fit_to_neighbours(
    outline: Outline,
    neighbours: Iterable[BaseGeometry],
    *,
    trims: bool = False,
    tolerance_m: float = 0.0,
    min_width_m: float = 0.0,
    metres_per_unit: tuple[float, float] = (1.0, 1.0),
) -> Fit:
    """Trim an outline to its neighbours and snap it to their borders, with lengths that are true on the ground.

    Vertices of the outline and of the neighbours keep their coordinates; only new ones are on a fine grid.

    Parameters
    ----------
    outline : Polygon or MultiPolygon
        Valid.
    neighbours : iterable of geometry
        In the same plane.
    trims : bool
        Whether to subtract the neighbours.
    tolerance_m : float
        Gaps and overlaps up to this width are closed; 0 for none.
    min_width_m : float
        Parts that fitting leaves and that are narrower on average are dropped, and such holes filled.
    metres_per_unit : tuple of float
        Metres on the ground in one unit of the plane, along x and along y.

    Returns
    -------
    Fit
        With the same outline if no neighbour is near.

    Raises
    ------
    EditError
        If the outlines cannot be given common vertices.
    """
    given = [valid(neighbour) for neighbour in neighbours if not neighbour.is_empty]
    plane = Plane(np.array([*given, outline], object), metres_per_unit)
    flat = plane.flat(outline)
    around = _nearby(flat, map(plane.flat, given), max(2 * tolerance_m, 2 * min_width_m, 1.0))
    trimmed = trim_neighbours(flat, around) if trims else flat
    fitted = trimmed
    if tolerance_m > 0 and not trimmed.is_empty:
        fitted = snap_to_neighbours(trimmed, around, tolerance_m)
    if fitted is flat:
        return Fit(outline, outline)
    # Without trimming, neighbours that overlap by more than the tolerance stay as they are.
    near = [part for part in around if trims or not is_wide(part.intersection(fitted), max(tolerance_m, _REACH_M))]
    faces = Faces([*near, fitted], [], (-np.inf, -np.inf, np.inf, np.inf))
    mine = {face for face, labels in enumerate(faces.labels) if labels == {len(near)}}
    width = max(min_width_m, _REACH_M)
    fills = set()
    for face in [face for face, labels in enumerate(faces.labels) if not labels]:
        gap, beside = faces.polygons[face], faces.borders[face].keys()
        is_own_hole = beside <= mine and _mean_width(gap) < width
        if beside & mine and (
            faces.is_thin[face] or is_own_hole or (tolerance_m > 0 and not is_wide(gap, tolerance_m))
        ):
            fills.add(face)
    parts = [part for group in faces.components(mine | fills) for part in polygon_parts(faces.joined(group))]
    kept = polygonal(shapely.GeometryCollection([part for part in parts if _mean_width(part) >= width]))
    exact = plane.exact(_beside(kept, near))
    if not exact.is_valid:
        # In the units of the plane, rounding may let an outline cross itself between two vertices of nearly one place.
        repaired = polygon_parts(shapely.make_valid(exact))
        exact = polygonal(
            shapely.GeometryCollection([part for part in repaired if _mean_width(plane.flat(part)) >= width])
        )
    return Fit(exact, outline if trimmed is flat else plane.exact(trimmed))


def _beside(outline: Outline, neighbours: list[shapely.Polygon]) -> Outline:
    """Move new vertices on edges of neighbours, which come from the grid, to the outer side of these."""
    rings = shapely.get_rings([shapely.geometry.polygon.orient(part) for part in neighbours])
    ends, _ = segments(rings)
    edges = shapely.STRtree(line_strings(ends))
    known = complex_vertices(rings)

    def moved(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        points = complex_vertices(shapely.points(xy))
        news = np.flatnonzero(~np.isin(points, known))
        place, edge = edges.query(shapely.points(xy[news]), predicate="dwithin", distance=_REACH_M)
        along = ends[edge, 1] - ends[edge, 0]
        # The inside is on the left.
        outwards = -1j * along / np.abs(along)
        depth = ((ends[edge, 0] - points[news[place]]) * outwards.conj()).real
        points[news[place]] += (depth + _STEP_M) * outwards
        return np.stack([points.real, points.imag], axis=1)

    result: Outline = shapely.transform(outline, moved)
    return result


def _mean_width(polygon: shapely.Polygon) -> float:
    return float(2 * polygon.area / polygon.length)


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
    around = [
        part for part in _nearby(outline, neighbours, width) if shapely.relate_pattern(part, outline, "T********")
    ]
    if not around:
        return outline
    cover = shapely.union_all(around)
    trimmed = polygonal(shapely.difference(outline, cover))
    return without_slivers(trimmed, cover, width)


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
        if part.distance(outline) <= tolerance and not is_wide(part.intersection(outline), tolerance)
    ]
    if not near:
        return outline
    cover = shapely.union_all(near)
    filled = shapely.union(outline, gaps(outline, cover, tolerance))
    beside = without_slivers(polygonal(shapely.difference(filled, cover)), cover, tolerance)
    # Replaces vertices that differ from those of the neighbours by rounding.
    shared = shapely.make_valid(shapely.snap(beside, cover, _HAIR * tolerance))
    result = polygonal(shapely.difference(shared, cover))
    return outline if result.is_empty else result


def _nearby(outline: Outline, neighbours: Iterable[BaseGeometry], reach: float) -> list[shapely.Polygon]:
    """Return the parts of neighbours around an outline; large neighbours are clipped."""
    min_x, min_y, max_x, max_y = outline.buffer(4 * reach + 1e-9 * max(map(abs, outline.bounds))).bounds
    parts = []
    for neighbour in neighbours:
        clipped = shapely.clip_by_rect(valid(neighbour), min_x, min_y, max_x, max_y)
        parts += polygon_parts(valid(clipped))
    return parts


def valid(geometry: BaseGeometry) -> BaseGeometry:
    """Return a geometry, repaired if it is invalid."""
    return geometry if geometry.is_valid else shapely.make_valid(geometry)


def is_wide(geometry: BaseGeometry, width: float) -> bool:
    """Return whether a circle of this diameter fits into a geometry."""
    return any(not part.buffer(-width / 2).is_empty for part in polygon_parts(geometry))


def gaps(outline: Outline, cover: BaseGeometry, tolerance: float) -> Outline:
    """Return the gaps between an outline and its neighbours that are no wider than the tolerance.

    They overlap both by a rounding margin, so that an overlay leaves no slit.
    """
    joined = shapely.union(outline, cover)
    # Round outwards, for the same tolerance in all directions; mitred inwards, to restore the corners.
    closed = grown(shapely.buffer(joined, tolerance / 2), -tolerance / 2, _WEDGE_LIMIT)
    # Gaps between two neighbours are not filled beyond the outline.
    filled = shapely.intersection(closed, outline.buffer(tolerance, quad_segs=4))
    hair = _HAIR * tolerance
    between = grown(grown(shapely.difference(filled, joined), -hair), hair)
    parts = shapely.STRtree(polygon_parts(between))
    beside, at_cover = (parts.query(side, predicate="dwithin", distance=hair) for side in (outline, cover))
    near = np.intersect1d(beside, at_cover)
    return polygonal(shapely.intersection(grown(shapely.MultiPolygon(list(parts.geometries[near])), 2 * hair), filled))


def grown(geometry: BaseGeometry, distance: float, mitre_limit: float = _MITRE_LIMIT) -> Outline:
    """Return a geometry with a margin, or smaller by it; its corners stay sharp."""
    # With mitres, GEOS may return rings that cross themselves. Their repair may leave lines, which overlays refuse.
    return polygonal(valid(shapely.buffer(geometry, distance, join_style="mitre", mitre_limit=mitre_limit)))


def without_slivers(outline: Outline, cover: BaseGeometry, width: float) -> Outline:
    """Remove parts that are narrower than the width and touch the neighbours; others belong to the object."""
    if width <= 0:
        return outline
    touching = cover.buffer(_HAIR * width)
    kept = []
    for part in polygon_parts(outline):
        # Grown by slightly more than shrunk, so that the remaining edges are inside.
        wide = grown(grown(part, -width / 2), width / 2 * 1.02)
        rest = shapely.difference(part, wide)
        # Along nearly equal edges, GEOS may return a ring that crosses itself.
        rest = rest if rest.is_valid else shapely.difference(part, wide, grid_size=GRID_M)
        narrow = [piece for piece in polygon_parts(rest) if _extent(piece) > width]
        slivers = [piece for piece in narrow if piece.intersects(touching)]
        kept.append(shapely.difference(part, shapely.union_all(slivers)) if slivers else part)
    return polygonal(shapely.GeometryCollection(kept))


def _extent(piece: shapely.Polygon) -> float:
    min_x, min_y, max_x, max_y = piece.bounds
    return float(max(max_x - min_x, max_y - min_y))


def border_ends(outline: BaseGeometry, neighbour: BaseGeometry, tolerance: float) -> list[tuple[float, float]]:
    """Return the vertices of an outline on edges of a neighbour that has no vertex there, such as the ends of borders.

    A border is made of the same vertices on both sides only if the neighbour gets them too.
    """
    xy = shapely.get_coordinates(outline)
    low_x, low_y, high_x, high_y = neighbour.bounds
    inside = (xy >= (low_x - tolerance, low_y - tolerance)).all(1) & (
        xy <= (high_x + tolerance, high_y + tolerance)
    ).all(1)
    xy = xy[inside]
    boundary = neighbour.boundary
    shapely.prepare(boundary)
    near = shapely.dwithin(boundary, shapely.points(xy), tolerance)
    known = set(map(tuple, shapely.get_coordinates(neighbour).tolist()))
    return [point for point in dict.fromkeys(map(tuple, xy[near].tolist())) if point not in known]
