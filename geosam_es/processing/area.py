"""Reads areas of interest."""

from __future__ import annotations

import shapely
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeatureRequest,
    QgsProcessingContext,
    QgsProcessingFeatureSource,
)
from shapely.geometry.base import BaseGeometry

from ..core.prompts import Bounds
from ..core.topology import Outline, valid_polygon
from ..errors import VectorError
from ..qgis_support.crs import from_qgs, prompt_to_raster, transform
from ..store.metadata import RasterInfo

__all__ = ["check_crs", "read_area", "read_polygons"]


def check_crs(source: QgsProcessingFeatureSource) -> None:
    """Refuse a layer without CRS."""
    if not source.sourceCrs().isValid():
        raise VectorError(
            "{source} has no coordinate reference system",
            "set it in the properties of the layer",
            source=source.sourceName(),
        )


def read_area(
    source: QgsProcessingFeatureSource,
    crs: QgsCoordinateReferenceSystem,
    raster: RasterInfo,
    context: QgsProcessingContext,
) -> BaseGeometry:
    """Return the union of the features of a layer, in the CRS of a raster.

    Parameters
    ----------
    source : QgsProcessingFeatureSource
    crs : QgsCoordinateReferenceSystem
        CRS of the raster.
    raster : RasterInfo
    context : QgsProcessingContext

    Raises
    ------
    VectorError
        If the layer has no CRS or no polygons, or lies outside the raster.
    EditError
        If it cannot be transformed.
    """
    extent = raster.transform.apply_geometry(shapely.box(0, 0, raster.width, raster.height))
    area = shapely.union_all(read_polygons(source, crs, raster, context))
    if not area.intersects(extent):
        raise VectorError(
            "{source} lies outside the raster {raster}",
            "check the layer and its CRS",
            source=source.sourceName(),
            raster=raster.file_name,
        )
    return area


def read_polygons(
    source: QgsProcessingFeatureSource,
    crs: QgsCoordinateReferenceSystem,
    raster: RasterInfo,
    context: QgsProcessingContext,
) -> list[Outline]:
    """Return the polygons of a layer, made valid, in the CRS of a raster; lines, points and spikes are left out.

    Parameters and errors are those of `read_area`, but the features may lie outside the raster.
    """
    check_crs(source)
    extent = raster.transform.apply_geometry(shapely.box(0, 0, raster.width, raster.height))
    to_raster = transform(source.sourceCrs(), crs, context.project())
    request = QgsFeatureRequest().setNoAttributes()
    # Invalid geometries are repaired here.
    skip_checks = QgsProcessingFeatureSource.Flag.FlagSkipGeometryValidityChecks  # type: ignore[attr-defined]
    geometries = [
        prompt_to_raster(from_qgs(feature.geometry()), to_raster, Bounds(*extent.bounds))
        for feature in source.getFeatures(request, skip_checks)
        if not feature.geometry().isEmpty()
    ]
    polygons = [polygon for polygon in map(valid_polygon, geometries) if not polygon.is_empty]
    if not polygons:
        raise VectorError("{source} has no polygons", "draw some, or choose another layer", source=source.sourceName())
    return polygons
