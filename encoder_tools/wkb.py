"""Surfaces and curves in WKB that shapely does not read, as polygons and lines."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

import shapely
from shapely.geometry.base import BaseGeometry

__all__ = ["read_wkb"]

_POLYGON, _CURVE_POLYGON, _TRIANGLE = 3, 10, 17
_LINES = (2, 8, 13)
_COMPOUND_CURVE, _CIRCULAR_STRING = 9, 8
_SURFACES = (6, 12, 15, 16)
_ARC_STEPS = 32

XY = tuple[float, float]


def read_wkb(wkb: bytes) -> BaseGeometry | None:
    """Read a geometry with arcs, triangles or a surface of several polygons.

    Arcs become chords. Heights and measures are dropped.

    Returns
    -------
    BaseGeometry or None
        A polygon, a multipolygon or a line; None if it is of another type or damaged.

    Examples
    --------
    >>> triangle = struct.pack("<bIII8d", 1, 17, 1, 4, 0, 0, 4, 0, 0, 3, 0, 0)
    >>> read_wkb(triangle).wkt
    'POLYGON ((0 0, 4 0, 0 3, 0 0))'
    """
    try:
        return _Reader(wkb).geometry()
    except (struct.error, ValueError, shapely.GEOSException):
        return None


class _Reader:
    def __init__(self, wkb: bytes) -> None:
        self._wkb = wkb
        self._at = 0
        self._order = "<"

    def _take(self, layout: str) -> tuple[float, ...]:
        values = struct.unpack_from(self._order + layout, self._wkb, self._at)
        self._at += struct.calcsize(self._order + layout)
        return values

    def _header(self) -> tuple[int, int]:
        """Read byte order and type; return the type in two dimensions and the number of dimensions."""
        self._order = "<" if self._take("b")[0] else ">"
        code = int(self._take("I")[0])
        # ISO adds 1000, 2000 or 3000 to a type, and the older form sets its highest bits.
        dimensions = 2 + bin(code >> 30).count("1") + (0, 1, 1, 2)[(code & 0xFFFFFFF) // 1000 % 4]
        return (code & 0xFFFFFFF) % 1000, dimensions

    def _points(self, dimensions: int) -> list[XY]:
        (count,) = self._take("I")
        return [(p[0], p[1]) for p in (self._take(f"{dimensions}d") for _ in range(int(count)))]

    def _many(self, read: Callable[[], list[XY]]) -> list[list[XY]]:
        return [read() for _ in range(int(self._take("I")[0]))]

    def geometry(self) -> BaseGeometry:
        kind, dimensions = self._header()
        if kind in (_POLYGON, _TRIANGLE):
            return _polygon(self._many(lambda: self._points(dimensions)))
        if kind == _CURVE_POLYGON:
            return _polygon(self._many(self._curve))
        if kind in _SURFACES:
            parts = [self.geometry() for _ in range(int(self._take("I")[0]))]
            return shapely.MultiPolygon([part for part in parts if isinstance(part, shapely.Polygon)])
        return shapely.LineString(self._curve_of(kind, dimensions))

    def _curve(self) -> list[XY]:
        return self._curve_of(*self._header())

    def _curve_of(self, kind: int, dimensions: int) -> list[XY]:
        if kind == _COMPOUND_CURVE:
            return [xy for part in self._many(self._curve) for xy in part]
        if kind not in _LINES:
            raise ValueError(kind)
        points = self._points(dimensions)
        if kind != _CIRCULAR_STRING:
            return points
        arcs = [_arc(*points[start : start + 3]) for start in range(0, len(points) - 2, 2)]
        return [xy for arc in arcs for xy in arc]


def _polygon(rings: list[list[XY]]) -> shapely.Polygon:
    return shapely.Polygon(rings[0], rings[1:]) if rings else shapely.Polygon()


def _arc(start: XY, through: XY, end: XY) -> list[XY]:
    """Return points of a circular arc; a whole circle has its start as its end."""
    if start == end:
        centre = ((start[0] + through[0]) / 2, (start[1] + through[1]) / 2)
        sweep = 2 * math.pi
    else:
        (ax, ay), (bx, by) = (through[0] - start[0], through[1] - start[1]), (end[0] - start[0], end[1] - start[1])
        cross = 2 * (ax * by - ay * bx)
        if cross == 0:
            return [start, through, end]
        a2, b2 = ax * ax + ay * ay, bx * bx + by * by
        centre = (start[0] + (by * a2 - ay * b2) / cross, start[1] + (ax * b2 - bx * a2) / cross)
        turn = math.copysign(2 * math.pi, cross)
        first, last = (math.atan2(p[1] - centre[1], p[0] - centre[0]) for p in (start, end))
        sweep = math.fmod(last - first, 2 * math.pi)
        if sweep * turn < 0:
            sweep += turn
    radius = math.hypot(start[0] - centre[0], start[1] - centre[1])
    angle = math.atan2(start[1] - centre[1], start[0] - centre[0])
    inner = [angle + sweep * step / _ARC_STEPS for step in range(1, _ARC_STEPS)]
    chords = [(centre[0] + radius * math.cos(at), centre[1] + radius * math.sin(at)) for at in inner]
    return [start, *chords, end]
