"""The faces between outlines: one net of lines with a common node wherever two meet.

Polygons that are put together from faces share the vertices of their borders, and overlap nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar, Union

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from ..errors import EditError
from .topology import Outline, polygonal

__all__ = [
    "GRID_M",
    "OUTSIDE",
    "Faces",
    "Plane",
    "Sides",
    "complex_vertices",
    "lacking",
    "line_strings",
    "middle",
    "put_back",
    "segments",
]

Complex = NDArray[np.complex128]
Whole = NDArray[np.int64]

Geometry = TypeVar("Geometry", bound=Union[BaseGeometry, NDArray[np.object_]])

OUTSIDE = -1
"""Stands for the unbounded face."""

GRID_M = 2.0**-17
"""Grid of new nodes in metres, a power of two so that its multiples are exact; nodes that are closer are one."""

_THIN = 16 * GRID_M
"""Faces with a smaller mean width are due to rounding."""

_NEAR_M = 1e-4


_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)


class Faces:
    """The faces of some outlines and lines.

    Only lines in a window get nodes. Outside it every vertex stays as it is, so that polygons that have no line in the
    window need not be known.

    Parameters
    ----------
    outlines : sequence of Polygon or MultiPolygon
        Valid, in metres. Later ones may be new.
    lines : iterable of geometry
        More lines, and polygons of which only the lines count.
    window : (min_x, min_y, max_x, max_y)

    Attributes
    ----------
    polygons : object (N,)
        One for each bounded face.
    labels : list of frozenset of int
        The outlines around each face.
    is_thin : bool (N,)
        Whether a face is due to rounding, and its labels are uncertain.
    borders : dict of int to dict of int to float
        Length of the border that each face has with others and with `OUTSIDE`.

    Raises
    ------
    EditError
        If the lines cannot be given common nodes.
    """

    def __init__(
        self,
        outlines: Sequence[Outline],
        lines: Iterable[BaseGeometry],
        window: tuple[float, float, float, float],
    ) -> None:
        self.polygons = shapely.get_parts(shapely.polygonize(_noded(_lines([*outlines, *lines]), window)))
        self.is_thin = 2 * shapely.area(self.polygons) < _THIN * shapely.length(self.polygons)
        inside: list[set[int]] = [set() for _ in self.polygons]
        tree = shapely.STRtree(shapely.point_on_surface(self.polygons))
        for outline, face in zip(*tree.query(np.asarray(outlines, object), predicate="contains")):
            inside[face].add(int(outline))
        self.labels = list(map(frozenset, inside))
        self.borders: dict[int, dict[int, float]] = {face: {} for face in range(len(inside))}
        for one, other, length in zip(*Sides.of(self.polygons).border_lengths()):
            self.borders[int(one)][int(other)] = float(length)
            if other != OUTSIDE:
                self.borders[int(other)][int(one)] = float(length)

    def joined(self, faces: Iterable[int]) -> Outline:
        """Return the polygon that some faces form, with every node."""
        return polygonal(shapely.coverage_union_all(self.polygons[sorted(faces)]))

    def components(self, faces: Iterable[int]) -> list[frozenset[int]]:
        """Return groups of faces that have borders with each other."""
        rest, groups = set(faces), []
        while rest:
            group, front = set(), {rest.pop()}
            while front:
                group |= front
                front = {other for face in front for other in self.borders[face]} & rest
                rest -= front
            groups.append(frozenset(group))
        return groups


def middle(polygons: Iterable[BaseGeometry]) -> NDArray[np.float64]:
    """Return XY in the middle of a layer, which a few polygons that are far away do not move."""
    bounds = shapely.bounds(np.array(list(polygons), object)).reshape(-1, 2, 2)
    return np.asarray(np.nanmedian(bounds.mean(axis=1), axis=0), np.float64)


def complex_vertices(geometry: BaseGeometry | NDArray[np.object_]) -> Complex:
    """Return the vertices of geometries as complex numbers, which have an order and can be looked up."""
    return _as_complex(shapely.get_coordinates(geometry))


def put_back(outline: Outline, given: Sequence[BaseGeometry]) -> Outline:
    """Give the vertices of an outline on the grid the exact place of the given vertices that they come from."""
    known = complex_vertices(np.array(given, object))

    def exact(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.ascontiguousarray(_put_back(_as_complex(xy), known)).view(np.float64).reshape(-1, 2)

    result: Outline = shapely.transform(outline, exact)
    return result


def _as_complex(xy: NDArray[np.float64]) -> Complex:
    return np.ascontiguousarray(xy).view(np.complex128).ravel()


def segments(lines: NDArray[np.object_]) -> tuple[Complex, Whole]:
    """Return the segments (S, 2) of lines, and the line of each."""
    xy, owner = shapely.get_coordinates(lines, return_index=True)
    vertices = _as_complex(xy)
    is_one = (owner[1:] == owner[:-1]) & (vertices[1:] != vertices[:-1])
    return np.stack([vertices[:-1], vertices[1:]], axis=1)[is_one], owner[1:][is_one]


class Plane:
    """A plane in metres, and the way back to the exact coordinates of the given vertices.

    Parameters
    ----------
    geometries : object (N,)
        In units of their plane.
    metres_per_unit : tuple of float
        Along x and along y.
    """

    def __init__(self, geometries: NDArray[np.object_], metres_per_unit: tuple[float, float]) -> None:
        # On whole units the grid is the same for every change, so that later nodes fall on earlier ones.
        self._origin = np.round(shapely.total_bounds(geometries).reshape(2, 2).mean(axis=0))
        self._scale = np.array(metres_per_unit)
        self._geometries = geometries

    def flat(self, geometry: Geometry) -> Geometry:
        """Return a geometry, or an array of them, in metres."""
        result: Geometry = shapely.transform(geometry, lambda xy: (xy - self._origin) * self._scale)  # type: ignore[type-var]
        return result

    def exact(self, geometry: Geometry) -> Geometry:
        """Return a geometry in metres, or an array of them, in units."""
        given, known, first = self._known

        def to_units(xy: NDArray[np.float64]) -> NDArray[np.float64]:
            vertices = _as_complex(xy)
            place = np.minimum(np.searchsorted(known, vertices), len(known) - 1)
            units: NDArray[np.float64] = xy / self._scale + self._origin
            return np.where((known[place] == vertices)[:, None], given[first[place]], units)

        result: Geometry = shapely.transform(geometry, to_units)  # type: ignore[type-var]
        return result

    @cached_property
    def _known(self) -> tuple[NDArray[np.float64], Complex, Whole]:
        given = shapely.get_coordinates(self._geometries)
        return given, *np.unique(_as_complex((given - self._origin) * self._scale), return_index=True)


@dataclass(frozen=True)
class Sides:
    """The segments of outlines, and what is on their other side.

    Attributes
    ----------
    ends : complex (S, 2)
        In the order of the rings.
    ring, owner : int (S,)
        The ring and the polygon of each segment.
    partner : int (S,)
        The polygon that has the segment too, on its other side; `OUTSIDE` if there is not exactly one.
    """

    ends: Complex
    ring: Whole
    owner: Whole
    partner: Whole

    @classmethod
    def of(cls, polygons: NDArray[np.object_]) -> Sides:
        """Return the sides of polygons."""
        parts, part_owner = shapely.get_parts(polygons, return_index=True)
        rings, ring_part = shapely.get_rings(parts, return_index=True)
        ends, ring = segments(rings)
        owner = part_owner[ring_part[ring]]
        is_outer = np.append(True, ring_part[1:] != ring_part[:-1])[: len(rings)]
        is_turned = shapely.is_ccw(rings) != is_outer
        nodes, code = _codes(ends)
        is_forward = (nodes[code // max(len(nodes), 1)] == ends[:, 0]) != is_turned[ring]
        order = np.argsort(code, kind="stable")
        _, start, count = np.unique(code[order], return_index=True, return_counts=True)
        one, other = order[start[count == 2]], order[start[count == 2] + 1]
        is_matched = is_forward[one] != is_forward[other]
        one, other = one[is_matched], other[is_matched]
        partner = np.full(len(owner), OUTSIDE)
        partner[one], partner[other] = owner[other], owner[one]
        return cls(ends, ring, owner, partner)

    def border_lengths(self) -> tuple[Whole, Whole, NDArray[np.float64]]:
        """Return the pairs (P,) of polygons that have segments in common, or with `OUTSIDE`, and their length."""
        wanted = (self.owner < self.partner) | (self.partner == OUTSIDE)
        ends = self.ends[wanted]
        pair, place = np.unique(np.stack([self.owner, self.partner], axis=1)[wanted], axis=0, return_inverse=True)
        length = np.asarray(np.bincount(place.ravel(), np.abs(ends[:, 1] - ends[:, 0]), len(pair)), np.float64)
        return pair[:, 0].astype(np.int64), pair[:, 1].astype(np.int64), length

    def unmatched_lines(self) -> tuple[NDArray[np.object_], Whole]:
        """Return the parts of outlines with nothing, or more than one polygon, beside them, and the polygon of each."""
        chains, first = _chains(self.ends, self.ring, self.partner == OUTSIDE)
        return np.array(chains, object), self.owner[first]


def lacking(lines: NDArray[np.object_], owner: NDArray[np.int64]) -> Iterator[tuple[int, int, shapely.LineString]]:
    """Yield segments on which another polygon has a vertex, with both polygons."""
    ends, line = segments(lines)
    pieces = line_strings(ends)
    pairs = np.stack([ends.ravel(), owner[np.repeat(line, 2)]], axis=1)
    (vertices, vertex_owner) = np.unique(pairs, axis=0).T
    points = shapely.points(vertices.real, vertices.imag)
    vertex, piece = shapely.STRtree(pieces).query(points, predicate="dwithin", distance=2 * GRID_M)
    is_inside = (np.abs(vertices[vertex, None] - ends[piece]) > _NEAR_M).all(axis=1)
    wanted = is_inside & (vertex_owner[vertex].real != owner[line[piece]])
    for at, place in set(zip(vertex_owner[vertex[wanted]].real.astype(int).tolist(), piece[wanted].tolist())):
        yield int(owner[line[place]]), at, pieces[place]


def _codes(ends: Complex) -> tuple[Complex, Whole]:
    """Return the nodes of segments, and a number for each segment that is the same in both directions."""
    vertices = ends.ravel() + 0.0
    # Sorting whole numbers is much faster than sorting complex ones. Nodes with the same number are told apart below.
    bits = vertices.view(np.uint64).reshape(-1, 2)
    mixed = (bits[:, 0] * _MIX[0]) ^ ((bits[:, 1] * _MIX[1]) >> np.uint64(7)) ^ (bits[:, 1] * _MIX[1])
    _, first, place = np.unique(mixed, return_index=True, return_inverse=True)
    nodes = vertices[first]
    if (nodes[place.ravel()] != vertices).any():
        nodes, place = np.unique(vertices, return_inverse=True)
    place = np.sort(place.reshape(-1, 2).astype(np.int64), axis=1)
    return nodes, place[:, 0] * len(nodes) + place[:, 1]


def _lines(geometries: Sequence[BaseGeometry]) -> NDArray[np.object_]:
    parts = shapely.get_parts(np.asarray(geometries, object))
    is_area = shapely.get_dimensions(parts) == 2
    return np.concatenate([shapely.get_rings(parts[is_area]), parts[~is_area]])


def line_strings(ends: Complex) -> NDArray[np.object_]:
    """Return the lines (S,) of segments (S, 2)."""
    return np.asarray(shapely.linestrings(np.stack([ends.real, ends.imag], axis=-1)))


def _noded(lines: NDArray[np.object_], window: tuple[float, float, float, float]) -> NDArray[np.object_]:
    """Return the segments (S,) of lines, which have common nodes in a window, and cross nowhere."""
    ends, line = segments(lines)
    min_x, min_y, max_x, max_y = window
    x, y = ends.real, ends.imag
    is_near = (x.max(1) >= min_x) & (x.min(1) <= max_x) & (y.max(1) >= min_y) & (y.min(1) <= max_y)
    # If vertices that keep their place are crossed by a line, those in the window go to the grid. Where polygons far
    # from the window cross each other, all lines need nodes.
    for near in (is_near, np.ones_like(is_near)):
        nodes = segments(shapely.get_parts(shapely.union_all(_chains(ends, line, near)[0], grid_size=GRID_M)))[0]
        own = ends[near].ravel()
        is_outside = (own.real < min_x) | (own.real > max_x) | (own.imag < min_y) | (own.imag > max_y)
        for kept in (np.concatenate([own[is_outside], own[~is_outside]]), own[is_outside]):
            edges = np.concatenate([ends[~near], _put_back(nodes, kept)])
            known, code = _codes(edges)
            code = np.unique(code)
            edges = np.stack([known[code // len(known)], known[code % len(known)]], axis=1)
            edges = edges[edges[:, 0] != edges[:, 1]]
            pieces = line_strings(edges)
            if shapely.is_simple(shapely.multilinestrings(pieces)):
                return pieces
    raise EditError(
        "The neighbouring polygons cannot be given common vertices", "correct them first with Check coverage"
    )


def _chains(ends: Complex, line: Whole, wanted: NDArray[np.bool_]) -> tuple[list[shapely.LineString], Whole]:
    """Join consecutive segments, because GEOS needs much longer for single ones; return the first of each chain too."""
    places = np.flatnonzero(wanted)
    is_break = (np.diff(places) > 1) | (np.diff(line[places]) != 0) | (ends[places[:-1], 1] != ends[places[1:], 0])
    runs = np.split(places, np.flatnonzero(is_break) + 1) if len(places) else []
    chains = [np.append(ends[run, 0], ends[run[-1], 1]) for run in runs]
    lines = [shapely.LineString(np.stack([chain.real, chain.imag], axis=1)) for chain in chains]
    return lines, np.array([run[0] for run in runs], np.int64)


def _put_back(nodes: Complex, given: Complex) -> Complex:
    """Give nodes of the grid the exact place of the vertices that they come from; the first of several."""
    keys, first = np.unique(_cell(given), return_index=True)
    if not len(keys):
        return nodes
    cells = _cell(nodes)
    place = np.minimum(np.searchsorted(keys, cells), len(keys) - 1)
    put: Complex = np.where(keys[place] == cells, given[first[place]], nodes)
    return put


def _cell(places: Complex) -> Complex:
    return np.asarray(np.floor(places.real / GRID_M + 0.5) + 1j * np.floor(places.imag / GRID_M + 0.5), np.complex128)
