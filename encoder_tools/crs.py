"""Coordinate reference systems, with pyproj."""

from __future__ import annotations

from pathlib import Path

import pyproj
from pyproj.exceptions import CRSError

from geosam_es.errors import StoreError
from geosam_es.store import StoreMetadata

__all__ = ["crs_of_store", "same_crs"]


def crs_of_store(store: Path, metadata: StoreMetadata) -> pyproj.CRS:
    """Return the CRS of the raster of a store.

    Raises
    ------
    StoreError
        If the store has none, or PROJ does not know it.
    """
    try:
        return pyproj.CRS.from_wkt(metadata.raster.crs_wkt)
    except CRSError as error:
        raise StoreError(
            f"{store} has no valid CRS", f"set it with: geosam-es info {store} --set-crs EPSG:25830, or another code"
        ) from error


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
