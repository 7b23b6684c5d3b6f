"""What the left mouse button does on the canvas, from its press to its release."""

from __future__ import annotations

from typing import Any

from qgis.core import QgsGeometry, QgsPointXY, QgsWkbTypes
from qgis.gui import QgsMapCanvas, QgsRubberBand
from qgis.PyQt.QtCore import QPoint, QPointF, QRectF, Qt
from qgis.PyQt.QtGui import QColor, QPainterPath, QPen
from qgis.PyQt.QtWidgets import QApplication

__all__ = ["BRUSHES", "Circle", "ClickOrBox", "Line", "Stroke"]

BRUSHES = ("brush", "eraser")
"""Modes in which a drag paints."""

_BOX_COLOUR = QColor(255, 255, 255, 220)
_DARK = QColor(0, 0, 0, 160)
_STROKE_COLOURS = {"brush": QColor(255, 255, 255, 120), "eraser": QColor(0, 0, 0, 120)}
_ABOVE_ALL = 1e6
_LEAST_STEP = 2
"""Shortest part of a stroke on the screen, in pixels."""


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
        # The wheel may zoom the map under a gesture.
        self._origin = tool.toMapCoordinates(start)
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
            self._band.setSecondaryStrokeColor(_DARK)
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
        is_far = (place - self._start).manhattanLength() >= QApplication.startDragDistance()
        start = self._tool.toCanvasCoordinates(self._origin)
        if not (self._is_box or is_far):
            self._tool.clicked.emit(self._origin, positive)
        elif start.x() != place.x() and start.y() != place.y():
            self._tool.boxed.emit(self._corners(place))

    def _corners(self, end: QPoint) -> list[QgsPointXY]:
        start = self._tool.toCanvasCoordinates(self._origin)
        screen = [QPoint(end.x(), start.y()), end, QPoint(start.x(), end.y())]
        return [self._origin, *(self._tool.toMapCoordinates(point) for point in screen)]


class Stroke:
    """A line along the way of the pointer, or a click.

    Parameters
    ----------
    tool : SegmentMapTool
        Sends ``stroked``; a click is a point of a line that is cut, a dab of the brush, or ``clicked``.
    start : QPoint
        Like all places, on the canvas's screen.
    name : str
        ``brush``, ``eraser``, ``cut`` or ``lasso``.
    width : float
        In pixels of the screen.
    """

    def __init__(self, tool: Any, start: QPoint, name: str, width: float = 2.0) -> None:
        self._tool = tool
        self._name = name
        self._start = self._last = start
        # The wheel may zoom the map under a gesture.
        self._points = [tool.toMapCoordinates(start)]
        self._view = tool.canvas().extent()
        self._is_line = False
        # On the screen, because a path is painted much faster than a rubber band.
        self._path = QPainterPath(QPointF(start))
        self._items = []
        colour = _STROKE_COLOURS.get(name)
        for line, thickness in ((colour, width),) if colour else ((_DARK, width + 2), (_BOX_COLOUR, width)):
            pen = QPen(line, thickness, Qt.PenStyle.SolidLine, Qt.PenCapStyle.RoundCap, Qt.PenJoinStyle.RoundJoin)
            item = tool.canvas().scene().addPath(self._path, pen)
            item.setZValue(_ABOVE_ALL)
            self._items.append(item)

    def move(self, place: QPoint) -> None:
        """Follow the pointer."""
        far = (place - self._start).manhattanLength() >= QApplication.startDragDistance()
        self._is_line = self._is_line or far
        if (place - self._last).manhattanLength() >= _LEAST_STEP:
            view, self._last = self._tool.canvas().extent(), place
            if view != self._view:
                self._view = view
                first, *others = (QPointF(self._tool.toCanvasCoordinates(point)) for point in self._points)
                self._path = QPainterPath(first)
                for passed in others:
                    self._path.lineTo(passed)
            self._points.append(self._tool.toMapCoordinates(place))
            self._path.lineTo(QPointF(place))
            for item in self._items:
                item.setPath(self._path)

    def close(self) -> None:
        """Remove what is shown, because the button was released or the gesture is cancelled."""
        for item in self._items:
            self._tool.canvas().scene().removeItem(item)

    def finish(self, place: QPoint, positive: bool) -> None:
        """Send what the gesture was, after the button was released at a place."""
        self.move(place)
        points = self._points
        if self._is_line or self._name in BRUSHES:
            self._tool.stroked.emit(self._name, points, positive)
        elif self._name == "cut":
            self._tool.line.add(points[0])
        else:
            self._tool.clicked.emit(points[0], positive)


class Line:
    """A line that is clicked, vertex by vertex; it ends at the pointer until it is taken."""

    def __init__(self, canvas: Any) -> None:
        self._canvas = canvas
        self._band: QgsRubberBand | None = None
        self.points: list[QgsPointXY] = []

    def add(self, point: QgsPointXY) -> None:
        """Add a vertex."""
        self.points.append(point)
        self.follow(point)

    def follow(self, point: QgsPointXY) -> None:
        """Draw the line on to the pointer."""
        if not self.points:
            return
        if self._band is None:
            self._band = QgsRubberBand(self._canvas, QgsWkbTypes.LineGeometry)
            self._band.setStrokeColor(_BOX_COLOUR)
            self._band.setSecondaryStrokeColor(_DARK)
            self._band.setWidth(2)
        self._band.setToGeometry(QgsGeometry.fromPolylineXY([*self.points, point]), None)

    def take(self) -> list[QgsPointXY]:
        """Return the vertices, and begin again."""
        points, self.points = self.points, []
        if self._band is not None:
            self._canvas.scene().removeItem(self._band)
            self._band = None
        return points


class Circle:
    """The size of the brush around the pointer."""

    def __init__(self, canvas: QgsMapCanvas) -> None:
        self._canvas = canvas
        self._items: list[Any] = []

    def show(self, middle: QPoint, radius: float) -> None:
        """Show it around a place on the canvas's screen; the radius is in pixels of the screen."""
        if not self._items:
            pens = QPen(_DARK, 3), QPen(_BOX_COLOUR, 1)
            self._items = [self._canvas.scene().addEllipse(QRectF(), pen) for pen in pens]
        for item in self._items:
            item.setZValue(_ABOVE_ALL)
            item.setRect(QRectF(middle.x() - radius, middle.y() - radius, 2 * radius, 2 * radius))

    def hide(self) -> None:
        """Remove it."""
        for item in self._items:
            self._canvas.scene().removeItem(item)
        self._items = []
