"""Everything drawn over the map: prompts, polygon, comparison, preview, and the store's footprint and tiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import shapely
from qgis.core import QgsCoordinateReferenceSystem, QgsWkbTypes
from qgis.gui import QgsMapCanvas, QgsRubberBand
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtGui import QColor
from shapely.geometry.base import BaseGeometry

from ...core.prompts import Prompts
from ...core.topology import polygon_parts
from ...inference.session import Result
from ...qgis_support.crs import to_qgs
from ..stores.open_store import OpenStore
from .drawing import Fitted

__all__ = ["Overlay"]

_POLYGON = QgsWkbTypes.PolygonGeometry
_POINT = QgsWkbTypes.PointGeometry
_HALO = QColor(255, 255, 255, 200)
_NO_HALO = QColor(0, 0, 0, 0)
_POSITIVE = QColor("#12b24a")
_NEGATIVE = QColor("#e02424")
_BOX = QColor("#ffffff")
_FOOTPRINT = QColor("#2b6cb0")
_MISSING = QColor("#c05621")
_NEIGHBOURS = QColor("#00d5ff")
_FINDING = QColor("#ff1fc7")
_PREVIEW_FACTOR = 0.4
_COMPARED = (QColor("#ff1fc7"), QColor("#00d5ff"))
_DIFFERENCE_OPACITY = 0.5
_LEAST_HUE_DISTANCE = 60


class Overlay:
    """The plugin's items on a canvas. Geometries are in the raster's CRS; they are shown in the canvas's."""

    def __init__(self, canvas: QgsMapCanvas) -> None:
        self._canvas = canvas
        self._colour = QColor("#ffd400")
        self._opacity = 0.35
        self._crs = QgsCoordinateReferenceSystem()
        self.bands: dict[str, QgsRubberBand] = {}
        self._encoded = self._band("encoded", _POLYGON, _FOOTPRINT, 2, Qt.PenStyle.DotLine, _NO_HALO)
        self._missing = self._band("missing", _POLYGON, _MISSING, 2, Qt.PenStyle.DotLine, _NO_HALO)
        self._footprint = self._band("footprint", _POLYGON, _FOOTPRINT, 2, Qt.PenStyle.DashLine)
        self._preview = self._band("preview", _POLYGON, self._colour, 1, Qt.PenStyle.DashLine)
        self._neighbours = self._band("neighbours", _POLYGON, _NEIGHBOURS, 2, Qt.PenStyle.DashLine, _NO_HALO)
        self._finding = self._band("finding", _POLYGON, _FINDING, 3)
        self._proposal = self._band("proposal", _POLYGON, self._colour, 2)
        self._difference = self._band("difference", _POLYGON, _NO_HALO, 0, Qt.PenStyle.NoPen, _NO_HALO)
        # Dashed and without a halo, so that the polygon's outline shows through where both are the same.
        self._compared = self._band("compared", _POLYGON, self._colour, 2, Qt.PenStyle.DashLine, _NO_HALO)
        self._box = self._band("box", _POLYGON, _BOX, 1, Qt.PenStyle.DashLine, QColor(0, 0, 0, 160))
        self._positive = self._markers("positive", _POSITIVE, QgsRubberBand.IconType.ICON_CIRCLE)
        self._negative = self._markers("negative", _NEGATIVE, QgsRubberBand.IconType.ICON_X)
        self._shown: dict[int, tuple[BaseGeometry | None, QgsCoordinateReferenceSystem | None]] = {}
        self._canvas.destinationCrsChanged.connect(self._show_again)
        self.set_colour(self._colour)

    def remove(self) -> None:
        """Remove all items from the canvas for good."""
        self._canvas.destinationCrsChanged.disconnect(self._show_again)
        for band in self.bands.values():
            self._canvas.scene().removeItem(band)

    def set_colour(self, colour: QColor, opacity: float | None = None) -> None:
        """Set the colour of polygons, and the opacity of their fill from 0 to 1."""
        self._colour = colour
        self._opacity = self._opacity if opacity is None else opacity
        for band, factor in ((self._proposal, 1.0), (self._preview, _PREVIEW_FACTOR)):
            fill = QColor(colour)
            fill.setAlphaF(self._opacity * factor)
            band.setFillColor(fill)
            band.setStrokeColor(colour)
            band.update()
        compared = self.compared_colour
        self._compared.setStrokeColor(compared)
        self._compared.update()
        compared.setAlphaF(_DIFFERENCE_OPACITY)
        self._difference.setFillColor(compared)
        self._difference.update()

    @property
    def colour(self) -> QColor:
        """The colour of the polygon being drawn."""
        return self._colour

    @property
    def compared_colour(self) -> QColor:
        """The colour of the outline it is compared with: rare in landscapes, and unlike the polygon's."""
        first, other = _COMPARED
        return QColor(first if _hue_distance(first, self._colour) >= _LEAST_HUE_DISTANCE else other)

    def set_crs(self, crs: QgsCoordinateReferenceSystem) -> None:
        """Set the CRS of all geometries, including those on show."""
        if crs != self._crs:
            self._crs = crs
            self._show_again()

    def show_drawing(self, prompts: Prompts, result: Result | None, fitted: Fitted | None = None) -> None:
        """Show prompts and their polygon, as it will be written if that is known."""
        if fitted is not None and fitted.outline is not None:
            self._set(self._proposal, fitted.outline, fitted.crs)
        else:
            self._set(self._proposal, result.geometry if result else None)
        neighbours = polygon_parts(shapely.GeometryCollection(list(fitted.neighbours))) if fitted is not None else []
        self._set(self._neighbours, shapely.MultiPolygon(neighbours), fitted.crs if fitted is not None else None)
        for band, positive in ((self._positive, True), (self._negative, False)):
            places = [(point.x, point.y) for point in prompts.points if point.positive is positive]
            self._set(band, shapely.MultiPoint(places))
        self._set(self._box, shapely.Polygon(prompts.box_corners) if prompts.box else None)

    def show_preview(self, result: Result | None) -> None:
        """Show the polygon that a click would give, in a lighter colour."""
        self._set(self._preview, result.geometry if result else None)

    def show_compared(self, outline: BaseGeometry | None, difference: BaseGeometry | None) -> None:
        """Show the outline of another decoder's answer, and fill the area where the two differ."""
        self._set(self._compared, outline)
        self._set(self._difference, difference)

    def show_finding(self, place: BaseGeometry | None, crs: QgsCoordinateReferenceSystem | None = None) -> None:
        """Show where something is wrong in a layer."""
        self._set(self._finding, place, crs)

    def show_footprint(self, store: OpenStore | None) -> None:
        """Show the outline of a store's raster; a layer of a service, which may be the whole world, has none."""
        outline = None
        if store is not None and not store.metadata.raster.attribution:
            raster = store.metadata.raster
            outline = raster.transform.apply_geometry(shapely.box(0, 0, raster.width, raster.height))
        self._set(self._footprint, outline)

    def show_tiles(self, encoded: Sequence[shapely.Polygon], missing: Sequence[shapely.Polygon]) -> None:
        """Show the outlines of encoded and of missing tiles."""
        self._set(self._encoded, shapely.MultiPolygon(list(encoded)))
        self._set(self._missing, shapely.MultiPolygon(list(missing)))

    def _band(
        self, name: str, kind: Any, colour: QColor, width: int, style: Any = Qt.PenStyle.SolidLine, halo: QColor = _HALO
    ) -> QgsRubberBand:
        band = self.bands[name] = QgsRubberBand(self._canvas, kind)
        band.setStrokeColor(colour)
        band.setSecondaryStrokeColor(halo)
        band.setFillColor(QColor(0, 0, 0, 0))
        band.setWidth(width)
        band.setLineStyle(style)
        return band

    def _markers(self, name: str, colour: QColor, icon: Any) -> QgsRubberBand:
        band = self._band(name, _POINT, colour, 3)
        band.setIcon(icon)
        band.setIconSize(11)
        return band

    def _set(
        self, band: QgsRubberBand, geometry: BaseGeometry | None, crs: QgsCoordinateReferenceSystem | None = None
    ) -> None:
        shown = self._shown.get(id(band))
        if shown is not None and shown[0] is geometry and shown[1] is crs:
            return
        self._shown[id(band)] = geometry, crs
        if geometry is None or geometry.is_empty:
            # Without a type, reset() would turn the band of the markers into one of polygons.
            band.reset(_POINT if band in (self._positive, self._negative) else _POLYGON)
        else:
            band.setToGeometry(to_qgs(geometry), crs or self._crs)

    def _show_again(self) -> None:
        shown, self._shown = self._shown, {}
        for band in self.bands.values():
            self._set(band, *shown.get(id(band), (None, None)))


def _hue_distance(first: QColor, second: QColor) -> int:
    """Return the angle between two hues, 0 to 180; 180 for greys, which have no hue."""
    if second.hue() < 0:
        return 180
    angle = abs(int(first.hue()) - int(second.hue()))
    return min(angle, 360 - angle)
