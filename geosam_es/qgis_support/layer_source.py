"""Describes raster layers for other threads, which must not use layers themselves."""

from __future__ import annotations

from dataclasses import dataclass

from qgis.core import QgsMapLayer, QgsRasterLayer

from ..errors import RasterError
from ..store.raster_name import GdalName, RasterPath, raster_path
from .messages import tr

__all__ = ["LayerSource", "source_of"]


@dataclass(frozen=True)
class LayerSource:
    """A raster layer as other threads see it.

    Attributes
    ----------
    path : Path or GdalName
        A GdalName if it is a raster inside a file.
    crs_wkt : str
        CRS of the layer, used if the file has none; may be empty.
    name : str
    """

    path: RasterPath
    crs_wkt: str
    name: str


def source_of(layer: QgsMapLayer) -> LayerSource:
    """Describe a layer. Call it on the GUI thread.

    Raises
    ------
    RasterError
        If it is not a raster layer on a local file.
    """
    name = layer.name()
    if not isinstance(layer, QgsRasterLayer):
        raise RasterError(tr("{name} is not a raster layer").format(name=name), tr("choose an orthophoto"))
    if layer.providerType() != "gdal":
        raise RasterError(
            tr("{name} comes from a service ({provider}); only local files can be prepared").format(
                name=name, provider=layer.providerType()
            ),
            tr("save it as a GeoTIFF with Export > Save As and use that file"),
        )
    # GDAL's open options may follow.
    path = raster_path(layer.source().partition("|option:")[0])
    file = path.file if isinstance(path, GdalName) else path
    if file is None or not file.is_file():
        raise RasterError(
            tr("{name} is not a local file").format(name=name),
            tr("save it as a GeoTIFF with Export > Save As and use that file"),
        )
    return LayerSource(path, layer.crs().toWkt() if layer.crs().isValid() else "", name)
