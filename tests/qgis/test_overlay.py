"""Items over the map, read from the canvas and from its pixels."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import shapely
from qgis.core import QgsCoordinateReferenceSystem, QgsPointXY
from qgis.PyQt.QtGui import QColor
from qgis.PyQt.QtWidgets import QApplication

from geosam_es.core.prompts import Bounds, Point, Prompts
from geosam_es.gui.canvas.overlay import Overlay
from tests.qgis.support import CRS, Interface, on_screen, place


@pytest.fixture
def overlay(iface: Interface) -> Iterator[Overlay]:
    overlay = Overlay(iface.canvas)
    overlay.set_crs(QgsCoordinateReferenceSystem(CRS))
    yield overlay
    overlay.remove()


def square(hole: bool = False) -> Any:
    """A square of 200 m around disc a, with a hole of 100 m."""
    x, y = place("a").x(), place("a").y()
    outline = shapely.box(x - 100, y - 100, x + 100, y + 100)
    return outline.difference(shapely.box(x - 50, y - 50, x + 50, y + 50)) if hole else outline


def result(geometry: Any) -> Any:
    return SimpleNamespace(geometry=geometry)


def colour_at(iface: Interface, dx: float, dy: float) -> QColor:
    QApplication.processEvents()
    spot = on_screen(iface.canvas, QgsPointXY(place("a").x() + dx, place("a").y() + dy))
    return QColor(iface.canvas.grab().toImage().pixel(spot))


def test_holes_are_not_filled(iface: Interface, overlay: Overlay) -> None:
    overlay.set_colour(QColor("#ff0000"), 1.0)
    overlay.show_drawing(Prompts(), result(square(hole=True)))
    assert colour_at(iface, 75, 75).name() == "#ff0000"
    assert colour_at(iface, 0, 0).name() == "#ffffff"
    overlay.show_drawing(Prompts(), result(square()))
    assert colour_at(iface, 0, 0).name() == "#ff0000"


def test_the_preview_is_lighter(iface: Interface, overlay: Overlay) -> None:
    overlay.set_colour(QColor("#ff0000"), 0.5)
    overlay.show_preview(result(square()))
    light = colour_at(iface, 40, 40)
    overlay.show_preview(None)
    overlay.show_drawing(Prompts(), result(square()))
    assert colour_at(iface, 40, 40).green() < light.green() < 255


def test_prompts_are_drawn_where_they_are(iface: Interface, overlay: Overlay) -> None:
    x, y = place("a").x(), place("a").y()
    prompts = Prompts((Point(x, y), Point(x + 50, y, False)), Bounds(x - 80, y - 80, x + 80, y + 80))
    overlay.show_drawing(prompts, None)
    bands = overlay.bands
    assert bands["positive"].asGeometry().asMultiPoint() == [QgsPointXY(x, y)]
    assert bands["negative"].asGeometry().asMultiPoint() == [QgsPointXY(x + 50, y)]
    assert bands["box"].asGeometry().area() == pytest.approx(160 * 160)
    overlay.show_drawing(Prompts(), None)
    assert all(bands[name].numberOfVertices() == 0 for name in ("positive", "negative", "box", "proposal"))


def test_items_follow_a_change_of_the_canvas_crs(iface: Interface, overlay: Overlay) -> None:
    x, y = place("a").x(), place("a").y()
    overlay.show_drawing(Prompts((Point(x, y),)), result(square()))
    iface.canvas.setDestinationCrs(QgsCoordinateReferenceSystem("EPSG:4326"))
    point = overlay.bands["positive"].asGeometry().asMultiPoint()[0]
    assert (point.x(), point.y()) == pytest.approx((-0.66, 39.71), abs=0.05)
    assert overlay.bands["proposal"].asGeometry().boundingBox().width() < 0.01


def test_tiles_with_and_without_embeddings_differ(iface: Interface, overlay: Overlay) -> None:
    overlay.show_tiles([square()], [])
    assert overlay.bands["encoded"].numberOfVertices() == 5
    assert overlay.bands["missing"].numberOfVertices() == 0
    assert overlay.bands["encoded"].strokeColor() != overlay.bands["missing"].strokeColor()


def test_nothing_stays_on_the_canvas(iface: Interface) -> None:
    before = len(iface.canvas.scene().items())
    overlay = Overlay(iface.canvas)
    overlay.show_drawing(Prompts(), result(square()))
    overlay.remove()
    assert len(iface.canvas.scene().items()) == before
