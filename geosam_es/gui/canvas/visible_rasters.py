"""Finds the raster layer that the user sees at a place of the map."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urljoin

from qgis.core import (
    Qgis,
    QgsCoordinateReferenceSystem,
    QgsFeatureRequest,
    QgsGeometry,
    QgsMapLayer,
    QgsMapSettings,
    QgsPointXY,
    QgsRaster,
    QgsRasterDataProvider,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
)

from ...core.prompts import Bounds
from ...errors import EditError
from ...qgis_support.crs import points_in_world, transform_points
from ...store.raster_name import GdalName, raster_path
from ...store.remote import is_address
from ..stores.open_store import Place

__all__ = ["VisibleRasters"]

_MOST_BLOCK_PIXELS = 4_000_000
"""The most pixels that GDAL may decode to read one; more would take too long while a user waits."""

_FROM_THE_START = (".png", ".gif", ".jpg", ".jpeg", ".webp")
"""Formats that are decoded from the first line on, whatever their blocks are."""

_HALF_WORLD_DEGREES = 180.0
_HALF_WORLD_METRES = 20_037_508.0
"""Half the equator."""

_REACH_PIXELS = 2
"""How far around a click there is nothing where it is refused; single dark pixels may have the value of nodata."""

_CATALOG_FIELDS = {"store", "tiles_done"}
"""Fields of a catalogue that `geosam-es catalog` wrote."""

_TOUCHING = 1e-6
"""Distance of footprints that touch, as a part of their side."""

_FLOATS = (Qgis.DataType.Float32, Qgis.DataType.Float64)


class VisibleRasters:
    """The raster layers that a canvas shows.

    Parameters
    ----------
    map_settings : callable
        Returns the canvas's QgsMapSettings.
    """

    def __init__(self, map_settings: Callable[[], QgsMapSettings]) -> None:
        self._map_settings = map_settings

    def layers(self) -> list[QgsRasterLayer]:
        """Return the layers that are shown at the map's scale, the topmost first."""
        settings = self._map_settings()
        scale = settings.scale()
        return [layer for layer in _rasters(settings.layers()) if _is_drawn(layer, scale)]

    def at(self, point: QgsPointXY) -> QgsRasterLayer | None:
        """Return the topmost layer that has something to see at a point in the canvas's CRS.

        Pixels are read only to choose among several layers, one pixel of each, and only from local files.
        """
        covering = self._covering(point)
        for layer, place in covering[:-1]:
            if _has_pixel(layer, place):
                return layer
        return covering[-1][0] if covering else None

    def has_image(self, layer: QgsRasterLayer, point: QgsPointXY) -> bool:
        """Tell whether a layer draws something around a point in the canvas's CRS, or cannot quickly be asked."""
        return any(shown is layer and _has_pixel(shown, place, _REACH_PIXELS) for shown, place in self._covering(point))

    def catalogued(self, point: QgsPointXY) -> Place | None:
        """Return the store that a visible catalogue has for a point in the canvas's CRS.

        Where several images overlap, it is the one whose border is farthest, of those whose store is there; whether one
        on a server is there is not asked.
        """
        crs = self._map_settings().destinationCrs()
        for layer in self._catalogues():
            found = [
                (QgsGeometry(footprint.constGet().boundary()).distance(there), _place_of(str(feature["store"]), layer))
                for place in _places(point, crs, layer)
                for there in [QgsGeometry.fromPointXY(place)]
                for feature in layer.getFeatures(QgsFeatureRequest().setFilterRect(QgsRectangle(place, place)))
                for footprint in [feature.geometry()]
                if footprint.contains(place)
            ]
            found.sort(key=lambda item: (item[0], str(item[1])), reverse=True)
            stores = [place for _, place in found if isinstance(place, str) or place.is_dir()]
            if stores:
                return stores[0]
        return None

    def beside(self, store: Place, point: QgsPointXY) -> list[Path]:
        """Return the stores whose footprints touch that of a store, which `catalogued` has returned for a point.

        Those on servers are left out: opening one fetches its decoder.
        """
        crs = self._map_settings().destinationCrs()
        for layer in self._catalogues():
            for place in _places(point, crs, layer):
                for feature in layer.getFeatures(QgsFeatureRequest().setFilterRect(QgsRectangle(place, place))):
                    if _place_of(str(feature["store"]), layer) == store:
                        around = feature.geometry().boundingBox()
                        around.grow(_TOUCHING * max(around.width(), around.height()))
                        near = layer.getFeatures(QgsFeatureRequest().setFilterRect(around))
                        places = [_place_of(str(item["store"]), layer) for item in near]
                        return [other for other in places if isinstance(other, Path) and other != store]
        return []

    def _catalogues(self) -> Iterator[QgsVectorLayer]:
        """Return the visible catalogues, the topmost first."""
        for layer in self._map_settings().layers():
            if isinstance(layer, QgsVectorLayer) and _CATALOG_FIELDS.issubset(layer.fields().names()):
                yield layer

    def unreadable(self) -> QgsRasterLayer | None:
        """Return the topmost layer of a file that QGIS could not open; nobody knows where it is."""
        layers = _rasters(self._map_settings().layers())
        return next((layer for layer in layers if not layer.isValid() and layer.providerType() == "gdal"), None)

    def _covering(self, point: QgsPointXY) -> list[tuple[QgsRasterLayer, QgsPointXY]]:
        """Return the layers whose extent contains a point, with the point in the CRS of each."""
        crs = self._map_settings().destinationCrs()
        places = [(layer, _places(point, crs, layer)) for layer in self.layers()]
        moved = [(layer, _in_world(those, layer)) for layer, those in places if _leaves_world(layer)]
        for each in (places, moved):
            found = [(layer, place) for layer, those in each for place in those if layer.extent().contains(place)]
            if found:
                return found
        return []


def _place_of(store: str, catalogue: QgsVectorLayer) -> Place:
    """Return the folder or the address of a store that a catalogue names, which may lie on a server itself."""
    if is_address(store):
        return store
    source = catalogue.source().partition("|")[0]
    if source.startswith("/vsicurl/"):
        return urljoin(source[len("/vsicurl/") :], quote(store))
    if source.startswith("/vsis3/"):
        return "s3:/" + posixpath.normpath(posixpath.join(posixpath.dirname(source[len("/vsis3") :]), store))
    return Path(source).parent / store


def _places(point: QgsPointXY, crs: QgsCoordinateReferenceSystem, layer: QgsMapLayer) -> list[QgsPointXY]:
    """Return a point of the canvas in the CRS of a layer; an empty list if it does not exist there."""
    try:
        return transform_points([point], crs, layer.crs())
    except EditError:
        return []


def _in_world(places: list[QgsPointXY], layer: QgsMapLayer) -> list[QgsPointXY]:
    """Move places to the side of the antimeridian where a layer is."""
    box = layer.extent()
    bounds = Bounds(box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum())
    moved = points_in_world([(place.x(), place.y()) for place in places], layer.crs(), bounds) if places else []
    return [QgsPointXY(x, y) for x, y in moved]


def _rasters(layers: list[QgsMapLayer]) -> Iterator[QgsRasterLayer]:
    for layer in layers:
        if isinstance(layer, QgsRasterLayer):
            yield layer
        elif hasattr(layer, "childLayers"):
            # A group that QGIS draws as one layer lists its layers from the bottom.
            yield from _rasters(layer.childLayers()[::-1])


def _is_drawn(layer: QgsRasterLayer, scale: float) -> bool:
    return bool(
        layer.isValid() and layer.renderer() is not None and layer.opacity() > 0 and layer.isInScaleRange(scale)
    )


def _leaves_world(layer: QgsRasterLayer) -> bool:
    """Tell whether a layer continues beyond the antimeridian."""
    box = layer.extent()
    edge = _HALF_WORLD_DEGREES if layer.crs().isGeographic() else _HALF_WORLD_METRES
    return bool(box.xMaximum() > edge or box.xMinimum() < -edge)


def _has_pixel(layer: QgsRasterLayer, place: QgsPointXY, reach: int = 0) -> bool:
    """Tell whether a layer draws something at a place in its CRS, or within a reach in pixels.

    True where it would take long to know.
    """
    provider, renderer = layer.dataProvider(), layer.renderer()
    columns, rows, box = provider.xSize(), provider.ySize(), provider.extent()
    if not _is_quick(layer) or not _may_be_clear(layer) or columns <= 0 or rows <= 0:
        return True
    width, height = box.width() / columns, box.height() / rows
    column = min(max(math.floor((place.x() - box.xMinimum()) / width), 0), columns - 1)
    row = min(max(math.floor((box.yMaximum() - place.y()) / height), 0), rows - 1)
    left, top = box.xMinimum() + (column - reach) * width, box.yMaximum() - (row - reach) * height
    side = 2 * reach + 1
    block = renderer.block(1, QgsRectangle(left, top - side * height, left + side * width, top), side, side)
    return block is None or block.isEmpty() or any(block.color(cell) >> 24 & 0xFF > 0 for cell in range(side * side))


def _is_quick(layer: QgsRasterLayer) -> bool:
    """Tell whether one pixel can be read at once: from a local file with blocks of a moderate size."""
    if layer.providerType() != "gdal":
        return False
    path = raster_path(layer.source().partition("|option:")[0])
    if isinstance(path, GdalName) and path.file is None:
        return False
    provider = layer.dataProvider()
    if Path(path.name).suffix.lower() in _FROM_THE_START:
        return provider.xSize() * provider.ySize() <= _MOST_BLOCK_PIXELS
    return provider.xBlockSize() * provider.yBlockSize() <= _MOST_BLOCK_PIXELS


def _may_be_clear(layer: QgsRasterLayer) -> bool:
    """Tell whether a layer can have pixels that are not drawn."""
    provider, renderer = layer.dataProvider(), layer.renderer()
    if renderer.alphaBand() > 0 or (not renderer.nodataColor().isValid() and _has_nodata(provider)):
        return True
    transparency = renderer.rasterTransparency()
    return transparency is not None and not transparency.isEmpty()


def _has_nodata(provider: QgsRasterDataProvider | None) -> bool:
    if provider is None:
        return False
    for band in range(1, provider.bandCount() + 1):
        own = provider.sourceHasNoDataValue(band) and provider.useSourceNoDataValue(band)
        is_alpha = provider.colorInterpretation(band) == QgsRaster.AlphaBand
        if own or is_alpha or provider.userNoDataValues(band) or provider.dataType(band) in _FLOATS:
            return True
    return False
