"""Surfaces of several polygons in WKB, which GEOS does not read: TINs, polyhedral surfaces and triangles."""

from __future__ import annotations

import struct

import shapely

from geosam_es.core.topology import polygon_parts

__all__ = ["read_surface"]

_POLYGONS = (3, 17)
"""Polygon and triangle."""

_SURFACES = (6, 15, 16)
"""Multipolygon, polyhedral surface and TIN."""

_FLAGS_Z_M = 30
"""The highest bits of the older form of a type; ISO adds thousands instead."""


def read_surface(wkb: bytes) -> shapely.Polygon | shapely.MultiPolygon | None:
    """Read a surface in two dimensions.

    Returns
    -------
    Polygon, MultiPolygon or None
        None if it is another geometry, or damaged.

    Examples
    --------
    >>> triangle = struct.pack("<bIII8d", 1, 17, 1, 4, 0, 0, 4, 0, 0, 3, 0, 0)
    >>> read_surface(triangle).wkt
    'POLYGON ((0 0, 4 0, 0 3, 0 0))'
    """
    try:
        return _read(wkb, 0)[0]
    except (struct.error, ValueError, shapely.GEOSException):
        return None


def _read(wkb: bytes, at: int) -> tuple[shapely.Polygon | shapely.MultiPolygon, int]:
    """Read the geometry at a position, and return the position behind it."""
    order = "<" if wkb[at : at + 1] == b"\x01" else ">"
    code, count = struct.unpack_from(f"{order}II", wkb, at + 1)
    kind, thousands = (code & 0xFFFFFF) % 1000, (code & 0xFFFFFF) // 1000
    dimensions = 2 + bin(code >> _FLAGS_Z_M).count("1") + bin(thousands).count("1")
    at += 9
    if kind in _SURFACES:
        parts = []
        for _ in range(count):
            part, at = _read(wkb, at)
            parts.append(part)
        return shapely.MultiPolygon(polygon_parts(shapely.GeometryCollection(parts))), at
    if kind not in _POLYGONS:
        raise ValueError(kind)
    rings = []
    for _ in range(count):
        (size,) = struct.unpack_from(f"{order}I", wkb, at)
        values = struct.unpack_from(f"{order}{size * dimensions}d", wkb, at + 4)
        rings.append(list(zip(values[::dimensions], values[1::dimensions])))
        at += 4 + 8 * len(values)
    return (shapely.Polygon(rings[0], rings[1:]) if rings else shapely.Polygon()), at
