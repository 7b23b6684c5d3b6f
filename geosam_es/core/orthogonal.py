"""Right angles for buildings: outlines that are nearly rectilinear become rectilinear.

The main direction of the building is found first. Relative to it, each edge runs along x, along y, or is slanted.
Consecutive edges along one axis form a wall at their mean position. A slanted edge is a rounded corner or the side of a
step. Walls shorter than the tolerance are removed. The remaining walls meet at right angles. Outlines that are not
rectilinear (round, oblique, triangular) are returned unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from .topology import Outline, polygon_parts

__all__ = ["square_angles"]

_SLOPE = math.tan(math.radians(25.0))
"""Edges that deviate more from the main direction are slanted."""

_STRAIGHT_SHARE = 0.6
"""Smallest part of the length of the outline that must follow the main direction."""

_RELATIVE_DISPLACEMENT = 0.4
"""Largest displacement relative to area over perimeter: a tenth of the side of a square. A circle would need more."""

_AREA_CHANGE = 0.15


def square_angles(outline: Outline, max_displacement: float) -> Outline:
    """Make the angles of an outline right angles where they nearly are.

    Parameters
    ----------
    outline : Polygon or MultiPolygon
        In a plane with true angles.
    max_displacement : float
        Largest displacement of the outline; less for small outlines, in proportion to their width.

    Returns
    -------
    Polygon or MultiPolygon
        Valid. Parts and holes that would move further are unchanged; every hole is kept.
    """
    squared = [_square_polygon(part, max_displacement) for part in polygon_parts(outline)]
    result = squared[0] if len(squared) == 1 else shapely.MultiPolygon(squared)
    return result if result.is_valid and not result.is_empty else outline


def _square_polygon(polygon: shapely.Polygon, max_displacement: float) -> shapely.Polygon:
    rings = [_open(polygon.exterior), *(_open(ring) for ring in polygon.interiors)]
    origin = rings[0].mean(axis=0)
    exterior = _simplified(rings[0] - origin, _allowed(rings[0], max_displacement) / 2)
    angle = _direction(exterior)
    if angle is None:
        return polygon
    squared = [_square_ring(ring - origin, angle, _allowed(ring, max_displacement)) for ring in rings]
    if squared[0] is None:
        return polygon
    chosen = [ring if square is None else square + origin for square, ring in zip(squared, rings)]
    for holes in (chosen[1:], rings[1:]):
        result = shapely.Polygon(chosen[0], holes)
        if result.is_valid:
            return result
    return polygon


def _open(ring: shapely.LinearRing) -> NDArray[np.float64]:
    coords: NDArray[np.float64] = shapely.get_coordinates(ring)[:-1]
    return coords


def _allowed(ring: NDArray[np.float64], max_displacement: float) -> float:
    polygon = shapely.Polygon(ring)
    return float(min(max_displacement, _RELATIVE_DISPLACEMENT * polygon.area / polygon.length))


def _simplified(ring: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
    # Starts at the point farthest from the middle, which is a corner: Douglas-Peucker keeps the first point.
    start = int(np.argmax(np.square(ring - ring.mean(axis=0)).sum(axis=1)))
    closed = np.vstack([np.roll(ring, -start, axis=0), ring[start]])
    simple = shapely.get_coordinates(shapely.LineString(closed).simplify(tolerance, preserve_topology=False))[:-1]
    return simple if len(simple) >= 4 else ring


def _edges(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    vectors: NDArray[np.float64] = np.roll(ring, -1, axis=0) - ring
    return vectors


def _direction(ring: NDArray[np.float64]) -> float | None:
    """Return the main direction of an outline, or None if it has none."""
    vectors = _edges(ring)
    lengths = np.hypot(vectors[:, 0], vectors[:, 1])
    angles = np.arctan2(vectors[:, 1], vectors[:, 0])
    # Four times the angle, so that perpendicular and opposite edges count as one direction. Long walls weigh more.
    near = np.ones(len(angles), bool)
    angle = 0.0
    for limit in (20.0, 10.0, 10.0):
        angle = float(np.angle(np.sum((lengths**2 * np.exp(4j * angles))[near]))) / 4
        off_axis = np.abs((angles - angle + math.pi / 4) % (math.pi / 2) - math.pi / 4)
        near = off_axis < math.radians(limit)
        if lengths[near].sum() < _STRAIGHT_SHARE * lengths.sum():
            return None
    return angle


@dataclass
class _Wall:
    """A wall along x or y.

    Attributes
    ----------
    along_x : bool
    place : float
        Its y if it runs along x, otherwise its x.
    weight : float
        Length of its edges.
    """

    along_x: bool
    place: float
    weight: float

    def joined(self, other: _Wall) -> _Wall:
        weight = self.weight + other.weight
        return _Wall(self.along_x, (self.place * self.weight + other.place * other.weight) / weight, weight)


def _square_ring(ring: NDArray[np.float64], angle: float, displacement: float) -> NDArray[np.float64] | None:
    """Return the ring with right angles, or None if it would move too far."""
    cos, sin = math.cos(angle), math.sin(angle)
    to_walls = np.array([[cos, -sin], [sin, cos]])
    walls = _walls(_simplified(ring, displacement / 2) @ to_walls)
    walls = _without_short(walls, displacement)
    if len(walls) < 4 or len(walls) % 2:
        return None
    walls = _settled(walls, ring @ to_walls, displacement)
    squared = np.array(list(_corners(walls))) @ to_walls.T
    before, after = shapely.Polygon(ring), shapely.Polygon(squared)
    if not after.is_valid or abs(after.area - before.area) > _AREA_CHANGE * before.area:
        return None
    moved = shapely.hausdorff_distance(before.exterior, after.exterior, densify=0.1)
    return squared if moved <= displacement else None


def _walls(ring: NDArray[np.float64]) -> list[_Wall]:
    """Convert the edges of a ring to walls that run along x and y in turn."""
    vectors = _edges(ring)
    sizes = np.abs(vectors)
    kinds = np.where(sizes[:, 1] <= _SLOPE * sizes[:, 0], 1, np.where(sizes[:, 0] <= _SLOPE * sizes[:, 1], -1, 0))
    if not kinds.any():
        return []
    first = int(np.argmax(kinds != 0))
    ring, kinds = np.roll(ring, -first, axis=0), np.roll(kinds, -first)
    ends = np.vstack([ring, ring[:1]])
    walls: list[_Wall] = []
    index = 0
    while index < len(kinds):
        stop = index + 1
        if kinds[index] == 0:
            while stop < len(kinds) and kinds[stop] == 0:
                stop += 1
            after = kinds[stop % len(kinds)]
            if kinds[index - 1] == after:
                # A step: slanted edges between two parallel walls become a perpendicular wall.
                walls.append(_wall(ends[index], ends[stop], after < 0))
        else:
            walls.append(_wall(ends[index], ends[stop], kinds[index] > 0))
        index = stop
    return _merged(walls)


def _wall(start: NDArray[np.float64], end: NDArray[np.float64], along_x: bool) -> _Wall:
    across = int(along_x)
    return _Wall(along_x, float(start[across] + end[across]) / 2, max(float(np.hypot(*(end - start))), 1e-12))


def _merged(walls: list[_Wall]) -> list[_Wall]:
    """Join consecutive parallel walls, including the last and the first."""
    merged: list[_Wall] = []
    for wall in walls:
        if merged and merged[-1].along_x == wall.along_x:
            merged[-1] = merged[-1].joined(wall)
        else:
            merged.append(wall)
    if len(merged) > 1 and merged[0].along_x == merged[-1].along_x:
        merged[0] = merged.pop().joined(merged[0])
    return merged


def _without_short(walls: list[_Wall], limit: float) -> list[_Wall]:
    """Remove walls shorter than the limit, shortest first, and join their neighbours."""
    while len(walls) > 4 and len(walls) % 2 == 0:
        places = np.array([wall.place for wall in walls])
        lengths = np.abs(np.roll(places, -1) - np.roll(places, 1))
        shortest = int(np.argmin(lengths))
        if lengths[shortest] >= limit:
            break
        walls = walls[shortest:] + walls[:shortest]
        walls = _merged([walls[-1].joined(walls[1]), *walls[2:-1]])
    return walls


def _settled(walls: list[_Wall], ring: NDArray[np.float64], reach: float) -> list[_Wall]:
    """Move each wall to the median position of the outline along it, without the rounded corners at its ends."""
    vectors = _edges(ring)
    middles = ring + vectors / 2
    settled = []
    for before, wall, after in zip(walls[-1:] + walls[:-1], walls, walls[1:] + walls[:1]):
        along, across = (0, 1) if wall.along_x else (1, 0)
        low, high = sorted((before.place, after.place))
        inset = min(reach, (high - low) / 4)
        inside = (middles[:, along] > low + inset) & (middles[:, along] < high - inset)
        near = np.flatnonzero(inside & (np.abs(middles[:, across] - wall.place) <= reach))
        places, weights = middles[near, across], np.abs(vectors[near, along])
        if weights.sum() > 0:
            order = np.argsort(places)
            middle = np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)
            wall = _Wall(wall.along_x, float(places[order][middle]), wall.weight)
        settled.append(wall)
    return settled


def _corners(walls: list[_Wall]) -> Iterator[tuple[float, float]]:
    for wall, following in zip(walls, walls[1:] + walls[:1]):
        yield (following.place, wall.place) if wall.along_x else (wall.place, following.place)
