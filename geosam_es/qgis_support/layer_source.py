"""Describes raster layers for other threads, which must not use layers themselves."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from pathlib import Path

from qgis.core import QgsDataSourceUri, QgsMapLayer, QgsRasterLayer

from ..encoding.raster_source import RasterSource
from ..encoding.unreadable import check_file
from ..errors import RasterError
from ..store.layout import store_path_for
from ..store.raster_name import GdalName, RasterPath, raster_path
from .gdal_raster import GdalRaster
from .messages import tr
from .online_raster import OnlineRaster
from .service import Service, ServiceName, service_of

__all__ = ["LayerSource", "open_raster", "source_of"]


@dataclass(frozen=True)
class LayerSource:
    """A raster layer as other threads see it.

    Attributes
    ----------
    path : Path or GdalName
        A GdalName if it is a raster inside a file, on a server or in a database, or a layer of a service.
    crs_wkt : str
        CRS of the layer, used if the file has none; may be empty.
    name : str
    service : Service, optional
        None unless it is a layer of an online service.
    layer_id : str
        Empty if it is no layer of the project.
    """

    path: RasterPath
    crs_wkt: str
    name: str
    service: Service | None = field(default=None, compare=False)
    layer_id: str = ""

    @property
    def key(self) -> Hashable:
        """What two layers of the same image have in common, whatever their names and CRSs."""
        return replace(self, crs_wkt="", name="", layer_id="")

    @property
    def cache_name(self) -> RasterPath:
        """What its store in the cache is named after."""
        return self.path if self.service is None else self.service.own_name

    @property
    def store_beside(self) -> Path | None:
        """Where the store beside the raster is or belongs; None if it is not in a local file."""
        is_local = not isinstance(self.path, GdalName) or self.path.file is not None
        return store_path_for(self.path) if is_local else None


def open_raster(source: LayerSource) -> RasterSource:
    """Open the raster of a layer, in the thread that reads it.

    Raises
    ------
    RasterError
        If it cannot be read.
    """
    if source.service is not None:
        return OnlineRaster(source.service)
    return GdalRaster(source.path, crs=source.crs_wkt or None)


def source_of(layer: QgsMapLayer) -> LayerSource:
    """Describe a layer. Call it on the GUI thread.

    Raises
    ------
    RasterError
        If it is not an image that can be read.
    """
    name = layer.name()
    if not isinstance(layer, QgsRasterLayer):
        raise RasterError(tr("{name} is not a raster layer").format(name=name), tr("choose an orthophoto"))
    crs_wkt = layer.crs().toWkt() if layer.crs().isValid() else ""
    provider = layer.providerType()
    if provider == "wms":
        service = service_of(layer)
        return LayerSource(service.name, crs_wkt, name, service, layer.id())
    if provider == "postgresraster":
        hidden = ServiceName(_postgis_text(layer.source()), None, name)
        return LayerSource(hidden, crs_wkt, name, layer_id=layer.id())
    if provider != "gdal":
        raise RasterError(
            tr("{name} comes from a service ({provider}) that cannot be read here").format(
                name=name, provider=provider
            ),
            tr("add it by WMS, WMTS or XYZ, or save it as a GeoTIFF with Export > Save As and use that file"),
        )
    # GDAL's open options may follow.
    path = raster_path(layer.source().partition("|option:")[0])
    check_file(path)
    if isinstance(path, GdalName) and path.file is None and any(mark in path.text for mark in "@?=<"):
        # It may hold a password or a key, so messages and stores name the layer instead.
        path = ServiceName(path.text, None, name)
    return LayerSource(path, crs_wkt, name, layer_id=layer.id())


def _postgis_text(text: str) -> str:
    """Return the name by which GDAL opens a raster of PostGIS."""
    uri = QgsDataSourceUri(text)
    column = uri.geometryColumn() or "rast"
    parts = [uri.connectionInfo(True), f"schema='{uri.schema()}'", f"table='{uri.table()}'", f"column='{column}'"]
    return f"PG:{' '.join(parts)} mode=2"
