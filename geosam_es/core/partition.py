"""Fitting a polygon to its neighbours: no overlaps, no slivers, and shared borders.

Shared borders have the vertices of the neighbours, which are never changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar, Union

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from .topology import polygon_parts

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

Outline = Union[shapely.Polygon, shapely.MultiPolygon]

Geometry = TypeVar("Geometry", bound=BaseGeometry)

SLIVER_WIDTH = 0.02
"""Width of a sliver relative to the square root of the area of the polygon."""

_MITRE_LIMIT = 5.0
"""Corners down to about 23 degrees stay sharp when an outline is buffered outwards and inwards."""

_WEDGE_LIMIT = 1.5
"""Wedges of less than about 80 degrees between an outline and the border of a neighbour are filled."""

_HAIR = 1e-3
"""Part of the tolerance; anything thinner is due to rounding."""

_GRID_M = 1e-5
"""Grid of the overlays: vertices that are closer are one."""

_REACH_M = 2 * _GRID_M

_MERGE_M = 1e-3
"""New vertices that are closer to one of a neighbour become that one."""

_OVERLAP_M2 = 1e-6
"""Overlaps below it are due to rounding."""

_NUDGE_STEPS = 64


@dataclass(frozen=True)
class Fit:
    """A polygon fitted to its neighbours.

    Attributes
    ----------
    outline : Polygon or MultiPolygon
        Valid, perhaps empty.
    trimmed : Polygon or MultiPolygon
        What trimming alone would give; the polygon itself without trimming.
    is_clean : bool
        Whether it is valid and shares its borders with the neighbours without an overlap.
    """

    outline: Outline
    trimmed: Outline
    is_clean: bool = True


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

    The overlays run on a fine grid. Afterwards, vertices of the outline and of the neighbours have their own
    coordinates again, so that only new vertices differ from both.

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
    """
    given = [valid(neighbour) for neighbour in neighbours if not neighbour.is_empty]
    plane = _Plane(outline, given, metres_per_unit)
    flat = plane.flat(outline)
    around = _nearby(flat, map(plane.flat, given), max(2 * tolerance_m, 2 * min_width_m, 1.0))
    trimmed = trim_neighbours(flat, around) if trims else flat
    fitted = trimmed
    if tolerance_m > 0 and not trimmed.is_empty:
        fitted = snap_to_neighbours(trimmed, around, tolerance_m)
    if fitted is flat:
        return Fit(outline, outline)
    asked = outline if trimmed is flat else plane.unflat(trimmed)
    # Without trimming, neighbours that overlap by more than the tolerance stay as they are.
    near = [part for part in around if trims or not is_wide(part.intersection(fitted), max(tolerance_m, _REACH_M))]
    cover = shapely.union_all(near, grid_size=_GRID_M)
    fitted = polygonal(shapely.difference(fitted, cover, grid_size=_GRID_M))
    fitted = _with_narrow_holes(fitted, cover, tolerance_m)
    width = max(min_width_m, _REACH_M)
    result = plane.restored(_without_thin_parts(fitted, cover, width))
    if not result.is_valid:
        repaired = polygonal(shapely.make_valid(plane.flat(result)))
        result = plane.restored(_without_thin_parts(repaired, cover, width))
    return Fit(result, asked, result.is_valid and _shares_borders(plane.flat(result), near))


class _Plane:
    """The surroundings of an outline in metres, with the way back to the exact coordinates."""

    def __init__(self, outline: Outline, neighbours: Iterable[BaseGeometry], scale: tuple[float, float]) -> None:
        min_x, min_y, max_x, max_y = outline.bounds
        self._origin = np.array([(min_x + max_x) / 2, (min_y + max_y) / 2])
        self._scale = np.array(scale)
        self._outline = outline
        self._given = list(neighbours)

    def flat(self, geometry: Geometry) -> Geometry:
        """Return a geometry in metres."""
        flat: Geometry = shapely.transform(geometry, self._to_metres)
        return flat

    def unflat(self, geometry: Geometry) -> Geometry:
        """Return a geometry in the units of the plane."""
        result: Geometry = shapely.transform(geometry, self._to_units)
        return result

    def restored(self, geometry: Outline) -> Outline:
        """Return a polygon with exact coordinates: those given, where a vertex is one of them."""
        if geometry.is_empty:
            return geometry
        box = np.array(geometry.bounds).reshape(2, 2) + np.array([[-1.0], [1.0]])
        rings = [ring for given in self._given for ring in _rings(given)]
        # First the neighbours', which take precedence.
        own = shapely.get_coordinates(self._outline)
        theirs = np.concatenate([*rings, np.empty((0, 2))])
        known = [(*self._known(theirs, box), _MERGE_M), (*self._known(own, box), _REACH_M)]
        edges = np.concatenate([np.hstack([ring[:-1], ring[1:]]) for ring in rings])
        ends = self._to_metres(edges.reshape(-1, 2)).reshape(-1, 2, 2)
        near = ((ends.min(axis=1) <= box[1]) & (ends.max(axis=1) >= box[0])).all(axis=1)
        edges = edges[near]
        edges_around = shapely.STRtree(list(np.asarray(shapely.linestrings(ends[near]))))

        def restore(xy: NDArray[np.float64]) -> NDArray[np.float64]:
            points = np.asarray(shapely.points(xy))
            result = self._to_units(xy)
            is_new = np.ones(len(xy), bool)
            for tree, exact, reach in known:
                places, found = tree.query_nearest(points, max_distance=reach, all_matches=False)
                wanted = is_new[places]
                result[places[wanted]] = exact[found[wanted]]
                is_new[places] = False
            news = np.flatnonzero(is_new)
            places, found = edges_around.query_nearest(points[news], max_distance=_REACH_M)
            for place in np.unique(places):
                result[news[place]] = _beside(result[news[place]], edges[found[places == place]])
            return result

        restored: Outline = shapely.transform(geometry, restore)
        return restored

    def _to_metres(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        flat: NDArray[np.float64] = (xy - self._origin) * self._scale
        return flat

    def _to_units(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        units: NDArray[np.float64] = xy / self._scale + self._origin
        return units

    def _known(
        self, exact: NDArray[np.float64], box: NDArray[np.float64]
    ) -> tuple[shapely.STRtree, NDArray[np.float64]]:
        flat = self._to_metres(exact)
        inside = ((flat >= box[0]) & (flat <= box[1])).all(axis=1)
        return shapely.STRtree(shapely.points(flat[inside])), exact[inside]


def _rings(geometry: BaseGeometry) -> list[NDArray[np.float64]]:
    """Return the rings of a geometry, with its inside on the left."""
    parts = [shapely.geometry.polygon.orient(part) for part in polygon_parts(geometry)]
    return [shapely.get_coordinates(ring) for part in parts for ring in (part.exterior, *part.interiors)]


def _beside(point: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move a point on edges (N, 4) to their right side: rounding may have put it inside by a last digit."""
    for x1, y1, x2, y2 in edges:
        along = np.array([x2 - x1, y2 - y1]) / max(np.hypot(x2 - x1, y2 - y1), 1e-300)
        # On the edge first, because the point comes from the grid.
        start = np.array([x1, y1])
        moved = start + along * np.dot(point - start, along)
        step = np.array([along[1], -along[0]]) * np.spacing(np.abs(moved).max())
        for count in range(_NUDGE_STEPS):
            point = moved + count * step
            if not _is_left(point, (x1, y1), (x2, y2)):
                break
    return point


def _is_left(point: NDArray[np.float64], start: tuple[float, float], end: tuple[float, float]) -> bool:
    """Return whether a point is on the left of an edge, without rounding."""
    (px, py), (x1, y1), (x2, y2) = (tuple(map(Fraction, map(float, xy))) for xy in (point, start, end))
    return (x2 - x1) * (py - y1) > (y2 - y1) * (px - x1)


def _shares_borders(outline: Outline, neighbours: list[shapely.Polygon]) -> bool:
    """Return whether an outline overlaps no neighbour, and has the vertices that these have on its border.

    As `shapely.coverage_is_valid`, but for vertices of the outline on an edge of a neighbour; for all versions of GEOS.
    """
    if any(shapely.intersection(outline, neighbour).area > _OVERLAP_M2 for neighbour in neighbours):
        return False
    own = shapely.STRtree(list(np.asarray(shapely.points(shapely.get_coordinates(outline)))))
    vertices = np.concatenate([np.empty((0, 2)), *(shapely.get_coordinates(part) for part in neighbours)])
    theirs = np.asarray(shapely.points(vertices))
    shared = theirs[shapely.distance(theirs, outline.boundary) <= _REACH_M]
    places, _ = own.query_nearest(shared, max_distance=_MERGE_M, all_matches=False)
    return len(places) == len(shared)


def _with_narrow_holes(outline: Outline, cover: BaseGeometry, tolerance: float) -> Outline:
    """Fill the holes between an outline and its neighbours that are no wider than the tolerance, however long."""
    if tolerance <= 0:
        return outline
    joined = polygon_parts(shapely.union(outline, cover, grid_size=_GRID_M))
    holes = [shapely.Polygon(ring) for part in joined for ring in part.interiors]
    narrow = [hole for hole in holes if hole.distance(outline) <= 0 and not is_wide(hole, tolerance)]
    return polygonal(shapely.union_all([outline, *narrow], grid_size=_GRID_M)) if narrow else outline


def _without_thin_parts(outline: Outline, cover: BaseGeometry, width: float) -> Outline:
    """Drop parts that are narrower than the width on average, and fill such holes but those with neighbours."""
    parts = []
    for part in polygon_parts(outline):
        if _mean_width(part) >= width:
            holes = [shapely.Polygon(ring) for ring in part.interiors]
            kept = [hole.exterior for hole in holes if _mean_width(hole) >= width or _overlaps(hole, cover)]
            parts.append(shapely.Polygon(part.exterior, kept))
    return polygonal(shapely.GeometryCollection(parts))


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
    around = [part for part in _nearby(outline, neighbours, width) if _overlaps(part, outline)]
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


def polygonal(geometry: BaseGeometry) -> Outline:
    """Return the polygons of the result of an overlay."""
    parts = polygon_parts(geometry)
    return parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts)


def _overlaps(one: BaseGeometry, other: BaseGeometry) -> bool:
    return bool(shapely.relate_pattern(one, other, "T********"))


def is_wide(geometry: BaseGeometry, width: float) -> bool:
    """Return whether a circle of this diameter fits into a geometry."""
    return any(not part.buffer(-width / 2).is_empty for part in polygon_parts(geometry))


def gaps(outline: Outline, cover: BaseGeometry, tolerance: float) -> BaseGeometry:
    """Return the gaps between an outline and its neighbours that are no wider than the tolerance.

    They overlap both by a rounding margin, so that an overlay leaves no slit.
    """
    joined = shapely.union(outline, cover)
    # Round outwards, for the same tolerance in all directions; mitred inwards, to restore the corners.
    closed = grown(shapely.buffer(joined, tolerance / 2), -tolerance / 2, _WEDGE_LIMIT)
    # Gaps between two neighbours are not filled beyond the outline.
    closed = shapely.intersection(closed, outline.buffer(tolerance, quad_segs=4))
    hair = _HAIR * tolerance
    between = grown(grown(shapely.difference(closed, joined), -hair), hair)
    narrow = [gap for gap in polygon_parts(between) if max(gap.distance(outline), gap.distance(cover)) <= hair]
    return shapely.intersection(grown(shapely.MultiPolygon(narrow), 2 * hair), closed)


def grown(geometry: BaseGeometry, distance: float, mitre_limit: float = _MITRE_LIMIT) -> BaseGeometry:
    """Return a geometry with a margin, or smaller by it; its corners stay sharp."""
    # With mitres, GEOS may return rings that cross themselves.
    return valid(shapely.buffer(geometry, distance, join_style="mitre", mitre_limit=mitre_limit))


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
        rest = rest if rest.is_valid else shapely.difference(part, wide, grid_size=_GRID_M)
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
    near = shapely.distance(shapely.points(xy), neighbour.boundary) <= tolerance
    known = set(map(tuple, shapely.get_coordinates(neighbour).tolist()))
    return [point for point in dict.fromkeys(map(tuple, xy[near].tolist())) if point not in known]
