"""Which file a raster layer is: no layer may be touched off the GUI thread."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qgis.core import QgsMapLayer, QgsProviderRegistry, QgsRasterLayer

from ..errors import RasterError
from .messages import tr

__all__ = ["LayerSource", "source_of"]


@dataclass(frozen=True)
class LayerSource:
    """What is needed of a raster layer off the GUI thread.

    Attributes
    ----------
    path : Path
    crs_wkt : str
        Of the layer, for files that say none; may be empty.
    name : str
    """

    path: Path
    crs_wkt: str
    name: str


def source_of(layer: QgsMapLayer) -> LayerSource:
    """Describe a layer; on the GUI thread.

    Raises
    ------
    RasterError
        If it is not a raster, or not a local file of its own.
    """
    name = layer.name()
    if not isinstance(layer, QgsRasterLayer):
        raise RasterError(tr("{name} is not a raster").format(name=name), tr("choose an orthophoto"))
    if layer.providerType() != "gdal":
        raise RasterError(
            tr("{name} comes from a service ({provider}), and only local files can be encoded").format(
                name=name, provider=layer.providerType()
            ),
            tr("save it as a GeoTIFF with Export > Save As, and use that"),
        )
    parts = QgsProviderRegistry.instance().decodeUri("gdal", layer.source())
    path = Path(str(parts.get("path") or ""))
    if parts.get("layerName") or parts.get("vsiPrefix") or not path.is_file():
        raise RasterError(
            tr("{name} is not a local file of its own").format(name=name),
            tr("save it as a GeoTIFF with Export > Save As, and use that"),
        )
    return LayerSource(path, layer.crs().toWkt() if layer.crs().isValid() else "", name)
