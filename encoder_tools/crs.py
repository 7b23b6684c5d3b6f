"""Comparison of coordinate reference systems, with pyproj."""

from __future__ import annotations

import pyproj
from pyproj.exceptions import CRSError

__all__ = ["is_horizontal", "same_crs"]


def same_crs(first_wkt: str, second_wkt: str) -> bool:
    """Tell whether two WKT texts describe one CRS; versions of WKT and libraries differ in names and axis order.

    Examples
    --------
    >>> texts = [pyproj.CRS("EPSG:4326").to_wkt(version) for version in ("WKT1_GDAL", "WKT2_2019")]
    >>> texts[0] == texts[1], same_crs(*texts), same_crs(texts[0], pyproj.CRS("EPSG:4258").to_wkt())
    (False, True, False)
    """
    if first_wkt == second_wkt:
        return True
    try:
        first, second = pyproj.CRS.from_wkt(first_wkt), pyproj.CRS.from_wkt(second_wkt)
    except CRSError:
        return False
    code = first.to_epsg()
    return first.equals(second, ignore_axis_order=True) or (code is not None and code == second.to_epsg())


def is_horizontal(crs: pyproj.CRS) -> bool:
    """Tell whether coordinates in a CRS give a place on a map, which heights, times and geocentric ones do not.

    Examples
    --------
    >>> [is_horizontal(pyproj.CRS(code)) for code in ("EPSG:25830", "EPSG:25830+5782", "EPSG:5782", "EPSG:4978")]
    [True, True, False, False]
    """
    return len(crs.axis_info) > 1 and not crs.is_geocentric
