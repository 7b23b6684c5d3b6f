"""What the left mouse button does on the canvas, from its press to its release."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsGeometry, QgsPointXY, QgsWkbTypes
from qgis.gui import QgsRubberBand
from qgis.PyQt.QtCore import QPoint
from qgis.PyQt.QtGui import QColor
from qgis.PyQt.QtWidgets import QApplication

__all__ = ["ClickOrBox"]

_BOX_COLOUR = QColor(255, 255, 255, 220)


class ClickOrBox:
    """A click, or a box once the pointer is far enough from where the button was pressed.

    Parameters
    ----------
    tool : SegmentMapTool
        Sends ``clicked`` or ``boxed``.
    start : QPoint
        Like all places, on the canvas's screen.
    """

    def __init__(self, tool: Any, start: QPoint) -> None:
        self._tool = tool
        self._start = start
        self._is_box = False
        self._band: QgsRubberBand | None = None

    def move(self, place: QPoint) -> None:
        """Follow the pointer."""
        self._is_box = self._is_box or (place - self._start).manhattanLength() >= QApplication.startDragDistance()
        if not self._is_box:
            return
        if self._band is None:
            self._band = QgsRubberBand(self._tool.canvas(), QgsWkbTypes.PolygonGeometry)
            self._band.setStrokeColor(_BOX_COLOUR)
            self._band.setSecondaryStrokeColor(QColor(0, 0, 0, 160))
            self._band.setFillColor(QColor(255, 255, 255, 25))
            self._band.setWidth(1)
        corners = self._corners(place)
        self._band.setToGeometry(QgsGeometry.fromPolygonXY([[*corners, corners[0]]]), None)

    def close(self) -> None:
        """Remove what is shown, because the button was released or the gesture is cancelled."""
        if self._band is not None:
            self._tool.canvas().scene().removeItem(self._band)

    def finish(self, place: QPoint, positive: bool) -> None:
        """Send what the gesture was, after the button was released at a place."""
        start = self._start
        is_far = (place - start).manhattanLength() >= QApplication.startDragDistance()
        if not (self._is_box or is_far):
            self._tool.clicked.emit(self._tool.toMapCoordinates(start), positive)
        elif start.x() != place.x() and start.y() != place.y():
            self._tool.boxed.emit(self._corners(place))

    def _corners(self, end: QPoint) -> list[QgsPointXY]:
        start = self._start
        screen = [start, QPoint(end.x(), start.y()), end, QPoint(start.x(), end.y())]
        return [self._tool.toMapCoordinates(point) for point in screen]
