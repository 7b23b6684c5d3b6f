"""Gives stores the CRS of their layers."""

from __future__ import annotations

from pathlib import Path

from osgeo import osr
from qgis.core import QgsCoordinateReferenceSystem

from ..encoding.placement import check_placement
from ..store import set_crs
from ..store.metadata import RasterInfo
from .crs import crs_from_wkt
from .gdal_raster import describe_crs
from .layer_source import LayerSource
from .messages import tr

__all__ = ["are_same_crs", "correct_crs", "differing_crs"]


def differing_crs(source: LayerSource, stored: QgsCoordinateReferenceSystem) -> QgsCoordinateReferenceSystem | None:
    """Return the CRS of a layer if its store has another one, or else None."""
    crs = crs_from_wkt(source.crs_wkt)
    return None if not crs.isValid() or _is_same_crs(crs, stored) else crs


def correct_crs(store: Path, raster: RasterInfo, stored: QgsCoordinateReferenceSystem, source: LayerSource) -> str:
    """Give a store the CRS of its layer, which the user may have corrected since it was encoded.

    Returns
    -------
    str
        What was changed, for the user; empty if nothing was.

    Raises
    ------
    StoreError
        If the store is no longer there.
    RasterError
        If the coordinates of the raster cannot be in that CRS.
    OutputError
        If the store cannot be written.
    """
    crs = differing_crs(source, stored)
    if crs is None:
        return ""
    check_placement(source.path, describe_crs(source.crs_wkt), raster.transform, raster.width, raster.height)
    set_crs(store, source.crs_wkt)
    notice = tr("The prepared image of {name} had the CRS {stored}. It now has the CRS of the layer, {crs}.")
    return notice.format(name=source.name, stored=stored.userFriendlyIdentifier(), crs=crs.userFriendlyIdentifier())


def _is_same_crs(first: QgsCoordinateReferenceSystem, second: QgsCoordinateReferenceSystem) -> bool:
    if first == second:
        return True
    if not (first.isValid() and second.isValid()):
        return False
    # QGIS compares a CRS without a code by its text, which GDAL and rasterio write differently.
    references = []
    for crs in (first, second):
        reference = osr.SpatialReference()
        reference.ImportFromWkt(crs.toWkt())
        references.append(reference)
    return bool(references[0].IsSame(references[1]))


def are_same_crs(first: str, second: str) -> bool:
    """Tell whether two WKT texts describe one CRS."""
    return first == second or _is_same_crs(crs_from_wkt(first), crs_from_wkt(second))
