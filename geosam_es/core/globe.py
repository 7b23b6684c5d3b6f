"""Geometries on the globe: the antimeridian, the poles and other places where a map is torn.

The plane of longitude and latitude has a seam: one meridian is both its left and its right edge. So do the planes of
most projections of the whole world. Functions that know a projection get it as a callable, see `Project`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from .prompts import Bounds
from .topology import merge, polygon_parts

__all__ = [
    "DEGREES",
    "Project",
    "Seam",
    "are_degrees",
    "crosses",
    "densified",
    "find_seam",
    "globe_rings",
    "placed",
    "split_at_seam",
    "untorn",
]

Geometry = TypeVar("Geometry", bound=BaseGeometry)

Project = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Maps positions (N, 2) to positions (N, 2) in another CRS, infinite or NaN where that is not defined."""

DEGREES = 360.0
"""A full turn. A geographic CRS may have another angular unit, so functions take the turn in its unit."""

_EDGES = 32
"""Edges longer than this share of an outline are divided, because a straight line of one CRS is curved in another."""

_WIDEST_STEP = 1 / 180
"""Largest step of longitude between vertices of an outline, in turns."""

_MAX_HALVINGS = 12

_AT_POLE = 1e-12
"""Distance from a pole, in turns, below which a vertex has no longitude."""

_INSET = 1e-11
"""Distance from the seam, in turns, at which a projection is unambiguous. On the ground it is 0.4 mm."""

_TEAR = 20
"""A step along the equator this many times longer than the others is a tear."""

_SLIVER = 1e-9
"""Pieces below this share of a polygon are due to rounding."""

_TORN = 0.75
"""A single edge of a prompt longer than this share of the world crosses the antimeridian. RFC 7946 asks for a split,
but many programs do not make it."""


class Seam(NamedTuple):
    """Where the plane of a CRS is torn.

    Attributes
    ----------
    longitude : float
        Meridian that lies at both edges, in the unit of the geographic CRS.
    period : float, optional
        Width of the plane if it repeats along x, in its own unit: the CRS is geographic or cylindrical.
    """

    longitude: float
    period: float | None = None


def find_seam(project: Project, turn: float = DEGREES) -> Seam | None:
    """Find the seam of a projection along the equator.

    Parameters
    ----------
    project : Project
        From longitude and latitude.
    turn : float

    Returns
    -------
    Seam or None
        None if the map is whole around the pole, as a polar one is.

    Examples
    --------
    >>> find_seam(lambda xy: (xy + (30, 0)) % 360 * 1000)
    Seam(longitude=-30.0, period=360000.0)
    """

    def at(*longitudes: float, latitude: float = 0.0) -> NDArray[np.float64]:
        return project(np.column_stack((longitudes, np.full(len(longitudes), latitude))))

    samples = np.linspace(-turn / 2, turn / 2, 181)
    places = at(*samples)
    places[~np.isfinite(places).all(axis=1)] = np.nan
    # The last step goes from one end to the other, which are one meridian.
    steps = np.hypot(*(np.roll(places, -1, axis=0) - places).T)
    steps = np.nan_to_num(steps)
    widest = int(steps.argmax())
    if not steps.any() or steps[widest] <= _TEAR * np.median(steps[steps > 0]):
        return None
    left, right = samples[widest], samples[(widest + 1) % len(samples)]
    if widest + 1 == len(samples):
        seam = turn / 2
    else:
        (first, last) = places[widest : widest + 2]
        for _ in range(60):
            middle = (left + right) / 2
            (place,) = at(middle)
            if np.hypot(*(place - first)) < np.hypot(*(place - last)):
                left = middle
            else:
                right = middle
        seam = round(float(left + right) / 2, 9)
    return Seam(seam, _period(at, seam, turn))


def _period(at: Callable[..., NDArray[np.float64]], seam: float, turn: float) -> float | None:
    """Return the width of a plane that repeats along x: it is the same at every latitude."""
    step = turn * 1e-6
    widths = []
    for latitude in (0.0, turn / 12):
        before, last, first = at(seam - 2 * step, seam - step, _wrapped(seam + step, turn), latitude=latitude)
        widths.append(last - first + 2 * (last - before))
    width, other = widths
    tolerance = 1e-9 * abs(width[0])
    if not np.allclose(width, other, rtol=0, atol=tolerance) or abs(width[1]) > tolerance:
        return None
    return abs(float(np.round(width[0], 6)))


def _wrapped(longitude: float, turn: float) -> float:
    """Return a longitude between minus and plus half a turn."""
    return longitude - turn * round(longitude / turn)


def crosses(longitudes: NDArray[np.float64], seam: float, turn: float = DEGREES) -> bool:
    """Tell whether an outline touches or crosses a meridian, goes around a pole, or is wider than half the globe."""
    return bool(np.ptp((longitudes - seam) % turn) > turn / 2)


def are_degrees(bounds: NDArray[np.float64], turn: float = DEGREES) -> NDArray[np.bool_]:
    """Tell which bounds (N, 4) of geometries may be longitudes and latitudes, with longitudes of up to two turns."""
    limits = np.array([2 * turn, turn / 4, 2 * turn, turn / 4]) * (1 + _SLIVER)
    return np.asarray((np.abs(bounds) <= limits).all(axis=1) | np.isnan(bounds).any(axis=1))


def densified(geometry: Geometry) -> Geometry:
    """Return a geometry with vertices on its long edges."""
    left, bottom, right, top = geometry.bounds
    longest = max(right - left, top - bottom) / _EDGES
    if not 0 < longest < np.inf:
        return geometry
    divided: Geometry = shapely.segmentize(geometry, longest)
    return divided


def globe_rings(polygon: shapely.Polygon, to_lonlat: Project, turn: float = DEGREES) -> list[NDArray[np.float64]]:
    """Return the rings of a polygon in longitude and latitude, the outer one first.

    Longitudes are continuous along a ring and may exceed half a turn. A ring around a pole ends a turn away from
    where it starts.
    """
    even = densified(polygon)
    rings = [even.exterior, *even.interiors]
    return [_unwrapped(_lonlat_ring(shapely.get_coordinates(ring), to_lonlat, turn), turn) for ring in rings]


def _lonlat_ring(xy: NDArray[np.float64], to_lonlat: Project, turn: float) -> NDArray[np.float64]:
    """Transform a ring, with more vertices where the longitude changes fast, as it does around a pole."""
    lonlat = to_lonlat(xy)
    if not np.isfinite(lonlat).all():
        return np.full_like(lonlat, np.nan)
    for _ in range(_MAX_HALVINGS):
        steps = np.abs(_shortest(np.diff(lonlat[:, 0]), turn))
        (wide,) = np.nonzero(steps > turn * _WIDEST_STEP)
        if not wide.size:
            break
        middles = (xy[wide] + xy[wide + 1]) / 2
        xy = np.insert(xy, wide + 1, middles, axis=0)
        lonlat = np.insert(lonlat, wide + 1, to_lonlat(middles), axis=0)
    return _without_poles(lonlat, turn)


def _without_poles(lonlat: NDArray[np.float64], turn: float) -> NDArray[np.float64]:
    """Replace each vertex at a pole, which has any longitude, by two at the longitudes of its neighbours."""
    at_pole = np.abs(lonlat[:, 1]) >= turn * (0.25 - _AT_POLE)
    if not at_pole.any() or at_pole.all():
        return lonlat
    # The ring starts at a vertex with a longitude.
    start = int(np.argmin(at_pole))
    order = np.roll(np.arange(len(lonlat) - 1), -start) if start else np.arange(len(lonlat) - 1)
    order = np.append(order, order[0])
    lonlat, at_pole = lonlat[order], at_pole[order]
    (known,) = np.nonzero(~at_pole)
    places = np.arange(len(lonlat))
    before = known[np.searchsorted(known, places, side="right") - 1]
    after = known[np.searchsorted(known, places)]
    first, second = lonlat.copy(), lonlat[at_pole]
    first[at_pole, 0] = lonlat[before[at_pole], 0]
    second[:, 0] = lonlat[after[at_pole], 0]
    return np.insert(first, np.nonzero(at_pole)[0] + 1, second, axis=0)


def _shortest(steps: NDArray[np.float64], turn: float) -> NDArray[np.float64]:
    shortest: NDArray[np.float64] = steps - turn * np.round(steps / turn)
    return shortest


def _unwrapped(ring: NDArray[np.float64], turn: float) -> NDArray[np.float64]:
    """Return a ring without jumps of more than half a turn."""
    steps = _shortest(np.diff(ring[:, 0]), turn)
    return np.column_stack((ring[0, 0] + np.concatenate(([0.0], np.cumsum(steps))), ring[:, 1]))


def split_at_seam(
    geometry: BaseGeometry,
    to_lonlat: Project,
    seam: float,
    from_lonlat: Project | None = None,
    turn: float = DEGREES,
) -> shapely.Polygon | shapely.MultiPolygon:
    """Transform polygons to a plane with a seam, and split those that cross it.

    A polygon that contains a pole gets an edge along the pole.

    Parameters
    ----------
    geometry : Polygon or MultiPolygon
    to_lonlat : Project
        From the plane of the geometry to longitude and latitude.
    seam : float
        Longitude of the seam.
    from_lonlat : Project, optional
        From longitude and latitude to the other plane. By default, that is the plane of longitude and latitude.
    turn : float

    Returns
    -------
    Polygon or MultiPolygon
        Valid. Its coordinates are not finite where the transformation is not defined.
    """
    pieces: list[BaseGeometry] = []
    for polygon in polygon_parts(geometry):
        outer, *holes = globe_rings(polygon, to_lonlat, turn)
        if not np.isfinite(outer).all() or not all(np.isfinite(hole).all() for hole in holes):
            return shapely.Polygon(np.full((4, 2), np.inf))
        piece = _split_ring(outer, seam, turn)
        if holes:
            piece = shapely.difference(piece, shapely.union_all([_split_ring(hole, seam, turn) for hole in holes]))
        pieces.append(piece)
    parts = polygon_parts(shapely.union_all(pieces))
    least = _SLIVER * sum(part.area for part in parts)
    split = merge(part for part in parts if part.area > least)
    if from_lonlat is None:
        return split

    def inset(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        margin = turn * _INSET
        x = np.clip(xy[:, 0], seam - turn + margin, seam - margin)
        return from_lonlat(np.column_stack((x, xy[:, 1])))

    at_pole = np.abs(shapely.get_coordinates(split)[:, 1]) >= turn * (0.25 - _AT_POLE)
    if at_pole.any() and not _has_poles(from_lonlat, turn):
        return shapely.Polygon(np.full((4, 2), np.inf))
    return shapely.transform(densified(split), inset)


def _has_poles(from_lonlat: Project, turn: float) -> bool:
    """Tell whether a projection shows the poles, which the Mercator projection does not."""
    near, pole = from_lonlat(np.array([(0.0, turn * (0.25 - 1e-6)), (0.0, turn / 4)]))
    distance, size = np.hypot(*(pole - near)), np.hypot(*pole)
    return bool(np.isfinite(size) and distance < 0.1 * max(size, np.hypot(*near)))


def _split_ring(ring: NDArray[np.float64], seam: float, turn: float) -> BaseGeometry:
    """Return the area inside a continuous ring, within the turn that ends at the seam."""
    around = ring[-1, 0] - ring[0, 0]
    if abs(around) > turn / 2:
        # Three times around the pole, so that the turn that is kept has no joint.
        ring = np.vstack([ring + np.array([number * around, 0.0]) for number in (-1, 0, 1)])
        pole = np.copysign(turn / 4, ring[:, 1].mean())
        ring = np.vstack((ring, (ring[-1, 0], pole), (ring[0, 0], pole)))
        middle = ring[:, 0].min() + 1.5 * turn
        ring[:, 0] += turn * np.round((seam - turn / 2 - middle) / turn)
    area = shapely.make_valid(shapely.Polygon(ring))
    left, bottom, right, top = area.bounds
    numbers = range(int(np.floor((left - seam) / turn)), int(np.ceil((right - seam) / turn)))
    pieces = []
    for number in numbers if abs(around) <= turn / 2 else (-1,):
        window = shapely.box(seam + number * turn, bottom - 1, seam + (number + 1) * turn, top + 1)
        pieces.append(shapely.transform(shapely.intersection(area, window), _shift(-(number + 1) * turn)))
    return shapely.union_all(pieces)


def _shift(distance: float) -> Project:
    return lambda xy: xy + np.array([distance, 0.0])


def untorn(geometry: BaseGeometry, period: float | None) -> BaseGeometry:
    """Mend a polygon drawn across the antimeridian whose edges go around the world the other way.

    Parameters
    ----------
    geometry : BaseGeometry
    period : float, optional
        Width of the world in its plane.
    """
    left, _, right, _ = geometry.bounds
    if period is None or geometry.geom_type not in ("Polygon", "MultiPolygon") or not right - left > _TORN * period:
        return geometry

    def mended(polygon: shapely.Polygon) -> shapely.Polygon:
        xy = shapely.get_coordinates(polygon.exterior)
        steps = np.abs(np.diff(xy[:, 0]))
        is_torn = ((steps > _TORN * period) & (steps < period * (1 - _SLIVER))).any()
        return _continuous(polygon, period) if is_torn else polygon

    return shapely.MultiPolygon([mended(part) for part in polygon_parts(geometry)])


def placed(geometry: BaseGeometry, period: float, extent: Bounds) -> BaseGeometry:
    """Move prompts by whole worlds along x to where the raster is.

    A raster may reach beyond the antimeridian, or count longitudes from 0 to 360.

    Parameters
    ----------
    geometry : Point, MultiPoint, Polygon or MultiPolygon
        In the CRS of the raster. A polygon may jump by a world where it crosses the antimeridian.
    period : float
        Width of the world in that CRS.
    extent : Bounds
        Extent of the raster.

    Returns
    -------
    BaseGeometry
        Points that are not on the raster anyhow stay where they are.
    """
    middle = (extent.min_x + extent.max_x) / 2
    if geometry.geom_type in ("Point", "MultiPoint"):

        def move(xy: NDArray[np.float64]) -> NDArray[np.float64]:
            worlds = np.round((middle - xy[:, 0]) / period)
            x = xy[:, 0] + worlds * period
            is_on = np.abs(x - middle) <= extent.width / 2 + _SLIVER * period
            was_on = (xy[:, 0] >= extent.min_x) & (xy[:, 0] <= extent.max_x)
            return np.column_stack((np.where(is_on & ~was_on, x, xy[:, 0]), xy[:, 1]))

        return shapely.transform(geometry, move)
    parts = [_continuous(part, period) for part in polygon_parts(geometry)]
    if not parts:
        return geometry
    # Parts on both sides of a seam are one polygon that was split there.
    right = max(part.bounds[2] for part in parts)
    is_split = [abs(part.bounds[0] + period - right) < 1e-6 * period for part in parts]
    joined = shapely.MultiPolygon(
        [shapely.transform(part, _shift(period)) if is_left else part for part, is_left in zip(parts, is_split)]
    )
    left, _, right, _ = joined.bounds
    worlds = np.round((middle - (left + right) / 2) / period)
    return shapely.transform(joined, _shift(worlds * period))


def _continuous(polygon: shapely.Polygon, period: float) -> shapely.Polygon:
    """Return a polygon whose rings do not jump along x, with the holes in the same world as the outline."""
    outline, *holes = (
        _unwrapped(shapely.get_coordinates(ring), period) for ring in (polygon.exterior, *polygon.interiors)
    )
    left = outline[:, 0].min()
    for hole in holes:
        hole[:, 0] += period * np.ceil((left - hole[:, 0].min()) / period - _SLIVER)
    return shapely.Polygon(outline, holes)
