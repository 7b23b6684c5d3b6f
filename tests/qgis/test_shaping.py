"""Brush, eraser, cut, merge and lasso with the mouse and the keys on a real canvas, and any polygon as a start."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import shapely
from qgis.core import QgsCoordinateTransform, QgsFeature, QgsGeometry, QgsPointXY, QgsProject, QgsVectorLayer
from qgis.PyQt.QtCore import QPoint, QPointF, Qt
from qgis.PyQt.QtGui import QWheelEvent
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QApplication, QCheckBox

from geosam_es.core.topology import polygon_parts
from geosam_es.gui.editing.coverage import LayerCoverage
from geosam_es.gui.interaction import Interaction
from geosam_es.gui.panel.actions import QAction
from geosam_es.gui.plugin import GeoSamPlugin
from geosam_es.qgis_support.classes import ClassItem, ClassList, apply_classes
from geosam_es.qgis_support.coverage_mode import CoverageMode
from geosam_es.qgis_support.crs import from_qgs
from geosam_es.qgis_support.settings import Settings
from tests.helpers import BlobDecoder
from tests.qgis.support import (
    CRS,
    DISCS,
    PIXEL,
    TRANSFORM,
    Interface,
    click,
    drag,
    move,
    on_screen,
    place,
    show_layer,
    wait_until,
)

NONE, ALT = Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.AltModifier
CONTROL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier
RADIUS = DISCS["a"][2]


@pytest.fixture
def plugin(iface: Interface) -> Iterator[GeoSamPlugin]:
    plugin = GeoSamPlugin(iface)
    plugin.initGui()
    yield plugin
    plugin.unload()


@pytest.fixture
def ready(
    plugin: GeoSamPlugin, blob_store: Path, blobs: BlobDecoder, target: QgsVectorLayer, tmp_path: Path
) -> Interaction:
    """The tool active, a store open, a layer without fields for prompts."""
    interaction = plugin.interaction
    assert interaction is not None
    interaction.set_active(True)
    shutil.copytree(blob_store, tmp_path / "sheet.embeddings.zarr")
    interaction.open_store(tmp_path / "sheet.embeddings.zarr")
    wait_until(lambda: interaction.controller.store is not None)
    interaction.dock.layers.setLayer(target)
    return interaction


def square(name: str, dx: float = 0.0, half: float = RADIUS) -> shapely.Polygon:
    """Return a square around a disc, in map coordinates."""
    col, row, _ = DISCS[name]
    return TRANSFORM.apply_geometry(shapely.box(col + dx - half, row - half, col + dx + half, row + half))


def disc(name: str) -> shapely.Polygon:
    col, row, radius = DISCS[name]
    return TRANSFORM.apply_geometry(shapely.Point(col, row).buffer(radius, quad_segs=32))


def add(layer: QgsVectorLayer, *outlines: shapely.Polygon) -> None:
    """Add polygons that the plugin knows nothing of."""
    features = []
    for number, outline in enumerate(outlines, 1):
        feature = QgsFeature(layer.fields())
        feature.setGeometry(QgsGeometry.fromWkt(outline.wkt))
        feature.setAttributes(["field", f"parcel {number}"])
        features.append(feature)
    assert layer.dataProvider().addFeatures(features)
    layer.updateExtents()


def shapes(layer: QgsVectorLayer) -> list[Any]:
    return sorted((from_qgs(feature.geometry()) for feature in layer.getFeatures()), key=lambda shape: shape.bounds)


def same(first: Any, second: Any) -> float:
    return first.intersection(second).area / first.union(second).area


def settled(ready: Interaction) -> Any:
    wait_until(lambda: not (ready.controller.drawing.busy or ready.controller.is_waiting))
    return ready.controller.drawing


def key(iface: Interface, code: Any, modifiers: Any = NONE) -> None:
    QTest.keyClick(iface.canvas, code, modifiers)


def point_at(iface: Interface, point: QgsPointXY) -> None:
    move(iface.canvas, on_screen(iface.canvas, point), Qt.MouseButton.NoButton)


def refine(iface: Interface, ready: Interaction, name: str) -> Any:
    point_at(iface, place(name))
    key(iface, Qt.Key.Key_R)
    assert ready.refining.current is not None
    return settled(ready)


def stroke(iface: Interface, *points: QgsPointXY, modifiers: Any = NONE) -> None:
    """Drag along points with the left button."""
    canvas, spots = iface.canvas, [on_screen(iface.canvas, point) for point in points]
    QTest.mousePress(canvas.viewport(), Qt.MouseButton.LeftButton, modifiers, spots[0])
    for first, last in zip(spots, spots[1:]):
        for step in range(1, 9):
            move(canvas, first + (last - first) * step / 8)
    QTest.mouseRelease(canvas.viewport(), Qt.MouseButton.LeftButton, modifiers, spots[-1])


class TestAnyPolygon:
    def test_becomes_the_proposal_and_accepting_replaces_its_geometry(
        self, iface: Interface, ready: Interaction, target: QgsVectorLayer
    ) -> None:
        add(target, square("a"))
        drawing = refine(iface, ready, "a")
        assert drawing.result.geometry.equals(square("a"))
        assert "shaped by hand" in ready.dock._result.text()
        assert ready._actions.undo.iconText() == "Undo: polygon of the layer"
        click(iface.canvas, place("a"))
        assert same(settled(ready).result.geometry, disc("a")) > 0.95
        key(iface, Qt.Key.Key_Return)
        (feature,) = target.getFeatures()
        assert same(from_qgs(feature.geometry()), disc("a")) > 0.95 and feature["note"] == "parcel 1"
        assert target.undoStack().count() == 1 and ready.refining.current is None
        assert ready.dock._result.text() == "Replaced in target · Ctrl+Z: undo"
        key(iface, Qt.Key.Key_Z, CONTROL)
        assert shapes(target)[0].equals(square("a"))
        # It goes on as it was before Enter.
        assert ready.refining.current is not None and same(settled(ready).result.geometry, disc("a")) > 0.95
        key(iface, Qt.Key.Key_Return)
        assert target.featureCount() == 1 and same(shapes(target)[0], disc("a")) > 0.95

    def test_is_brushed_and_keeps_its_attributes(
        self, iface: Interface, ready: Interaction, target: QgsVectorLayer
    ) -> None:
        add(target, square("a"))
        refine(iface, ready, "a")
        key(iface, Qt.Key.Key_E)
        stroke(iface, place("a", -RADIUS, -RADIUS), place("a", RADIUS, -RADIUS))
        erased = settled(ready).result.geometry
        assert erased.area < square("a").area
        key(iface, Qt.Key.Key_Return)
        (feature,) = target.getFeatures()
        assert from_qgs(feature.geometry()).equals(erased) and feature["note"] == "parcel 1"
        assert target.undoStack().count() == 1 and not ready.tool.mode

    def test_can_be_deleted(self, iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
        add(target, square("a"), square("b"))
        refine(iface, ready, "a")
        refine(iface, ready, "b")
        key(iface, Qt.Key.Key_Delete)
        assert shapes(target)[0].equals(square("a")) and target.featureCount() == 1

    def test_of_ours_comes_as_it_was_changed_since(
        self, iface: Interface, ready: Interaction, target: QgsVectorLayer
    ) -> None:
        ready._settings.provenance_table = True
        fields = f"MultiPolygon?crs={CRS}&field=prompts:string(0)&field=raster:string"
        layer = QgsVectorLayer(fields, "ours", "memory")
        QgsProject.instance().addMapLayer(layer)
        ready.dock.layers.setLayer(layer)
        click(iface.canvas, place("a"))
        settled(ready)
        key(iface, Qt.Key.Key_Return)
        (feature,) = layer.getFeatures()
        half = TRANSFORM.apply_geometry(shapely.box(0, 0, 300, 1500)).intersection(from_qgs(feature.geometry()))
        layer.changeGeometry(feature.id(), QgsGeometry.fromWkt(half.wkt))
        point_at(iface, place("a", -20))
        key(iface, Qt.Key.Key_R)
        assert settled(ready).result.geometry.equals(half)

    def test_of_another_crs_on_the_visible_image(
        self, iface: Interface, ready: Interaction, raster_with_store: Any
    ) -> None:
        ready.stores.close_all()
        show_layer(iface, raster_with_store)
        degrees = QgsVectorLayer("MultiPolygon?crs=EPSG:4258&field=a:string&field=b:string", "degrees", "memory")
        QgsProject.instance().addMapLayer(degrees)
        ready.dock.layers.setLayer(degrees)
        moved = QgsGeometry.fromWkt(square("a").wkt)
        crs = iface.canvas.mapSettings().destinationCrs()
        moved.transform(QgsCoordinateTransform(crs, degrees.crs(), QgsProject()))
        add(degrees, from_qgs(moved))
        iface.canvas.waitWhileRendering()
        point_at(iface, place("a"))
        key(iface, Qt.Key.Key_R)
        wait_until(lambda: ready.refining.current is not None)
        assert same(settled(ready).result.geometry, square("a")) > 0.999

    @pytest.mark.parametrize("way", ["key", "click", "selected"])
    def test_mostly_beside_the_image(
        self, iface: Interface, ready: Interaction, target: QgsVectorLayer, raster_with_store: Any, way: str
    ) -> None:
        ready.stores.close_all()
        show_layer(iface, raster_with_store)
        box = square("a")
        add(target, shapely.box(box.bounds[0] - 20 * (box.bounds[2] - box.bounds[0]), *box.bounds[1:]))
        iface.canvas.waitWhileRendering()
        if way == "selected":
            target.selectAll()
        elif way == "key":
            point_at(iface, place("a"))
        key(iface, Qt.Key.Key_R)
        if way == "click":
            click(iface.canvas, place("a"))
        wait_until(lambda: ready.refining.current is not None or bool(iface.messages()))
        assert ready.refining.current is not None, iface.messages()


class TestBrush:
    def test_strokes_are_steps_and_clicks_go_on_from_them(self, iface: Interface, ready: Interaction) -> None:
        Settings().brush_pixels = 60.0
        click(iface.canvas, place("a"))
        before = settled(ready).result.geometry
        key(iface, Qt.Key.Key_B)
        stroke(iface, place("a", RADIUS), place("a", RADIUS + 80))
        added = shapely.LineString([(place("a", d).x(), place("a").y()) for d in (RADIUS, RADIUS + 80)])
        painted = before.union(added.buffer(30 * PIXEL))
        brushed = settled(ready).result.geometry
        assert same(brushed, painted) > 0.98 and same(before, painted) < 0.9
        assert ready._actions.undo.iconText() == "Undo: brush stroke"
        key(iface, Qt.Key.Key_E)
        assert ready._actions.eraser.isChecked() and not ready._actions.brush.isChecked()
        click(iface.canvas, place("a"))
        hole = settled(ready).result.geometry
        assert same(hole, brushed.difference(shapely.Point(place("a").x(), place("a").y()).buffer(30 * PIXEL))) > 0.98
        # Shift turns one into the other.
        stroke(iface, place("a", -5), place("a", 5), modifiers=SHIFT)
        assert settled(ready).result.geometry.area > hole.area
        key(iface, Qt.Key.Key_Escape)
        assert ready.controller.drawing.has_polygon and not ready._actions.eraser.isChecked()
        click(iface.canvas, place("a", -20))
        drawing = settled(ready)
        assert not drawing.result.is_shaped and drawing.prompts.outline is not None
        for _ in range(3):
            key(iface, Qt.Key.Key_Z, CONTROL)
        assert settled(ready).result.geometry.equals(brushed)

    def test_an_accepted_one_is_exactly_the_same_when_refined_or_undone(
        self, iface: Interface, ready: Interaction, target: QgsVectorLayer
    ) -> None:
        click(iface.canvas, place("a"))
        settled(ready)
        key(iface, Qt.Key.Key_B)
        stroke(iface, place("a", RADIUS), place("a", RADIUS + 80))
        brushed = settled(ready).result.geometry
        key(iface, Qt.Key.Key_Return)
        assert ready.dock._result.text() == "Added to target · Ctrl+Z: undo"
        assert not ready._actions.brush.isChecked()
        assert shapes(target)[0].equals(brushed)
        key(iface, Qt.Key.Key_Z, CONTROL)
        assert target.featureCount() == 0 and settled(ready).result.geometry.equals(brushed)
        key(iface, Qt.Key.Key_Z, CONTROL | SHIFT)
        assert target.featureCount() == 1 and not ready.controller.drawing.can_undo
        assert refine(iface, ready, "a").result.geometry.equals(brushed)

    def test_a_polygon_may_begin_with_the_brush_but_not_with_the_eraser(
        self, iface: Interface, ready: Interaction
    ) -> None:
        key(iface, Qt.Key.Key_E)
        click(iface.canvas, place("a"))
        wait_until(lambda: iface.messages())
        assert "Nothing is left" in iface.messages()[-1] and not ready.controller.drawing.can_undo
        key(iface, Qt.Key.Key_B)
        click(iface.canvas, place("a"))
        area = settled(ready).result.geometry.area
        assert area == pytest.approx(3.14159 * (Settings().brush_pixels / 2 * PIXEL) ** 2, rel=0.02)
        assert ready._actions.brush.isChecked()

    def test_a_stroke_cancelled_or_left_on_the_way_changes_nothing(self, iface: Interface, ready: Interaction) -> None:
        click(iface.canvas, place("a"))
        before = settled(ready).result
        items = len(iface.canvas.scene().items())
        key(iface, Qt.Key.Key_B)
        viewport, spot = iface.canvas.viewport(), on_screen(iface.canvas, place("a", RADIUS))
        QTest.mousePress(viewport, Qt.MouseButton.LeftButton, NONE, spot)
        move(iface.canvas, spot + QPoint(40, 0))
        key(iface, Qt.Key.Key_Escape)
        QTest.mouseRelease(viewport, Qt.MouseButton.LeftButton, NONE, spot)
        assert settled(ready).result is before and ready.tool.mode == "brush"
        QTest.mousePress(viewport, Qt.MouseButton.LeftButton, NONE, spot)
        ready.set_active(False)
        assert len(iface.canvas.scene().items()) == items and ready.controller.drawing.result is before

    def test_size_by_wheel_and_keys(self, iface: Interface, ready: Interaction) -> None:
        canvas, viewport = iface.canvas, iface.canvas.viewport()
        spot = on_screen(canvas, place("a"))
        scale = canvas.scale()

        def wheel(up: int, modifiers: Any) -> None:
            where = QPointF(spot), QPointF(viewport.mapToGlobal(spot))
            event = QWheelEvent(
                *where, QPoint(), QPoint(0, up), Qt.MouseButton.NoButton, modifiers, Qt.ScrollPhase.NoScrollPhase, False
            )
            QApplication.sendEvent(viewport, event)

        assert not ready._actions.larger.isEnabled(), "the key belongs to QGIS"
        key(iface, Qt.Key.Key_B)
        size = Settings().brush_pixels
        point_at(iface, place("a"))
        wheel(120, CONTROL)
        larger = Settings().brush_pixels
        assert larger > size and canvas.scale() == scale and f"({larger:.0f} px)" in ready.dock._hint.text()
        key(iface, Qt.Key.Key_BracketLeft, Qt.KeyboardModifier.GroupSwitchModifier)
        assert Settings().brush_pixels == pytest.approx(size)
        key(iface, Qt.Key.Key_BracketRight)
        assert Settings().brush_pixels == pytest.approx(larger)
        circle = max(item.rect().width() for item in ready.tool._circle._items)
        assert circle == pytest.approx(larger * PIXEL / canvas.mapUnitsPerPixel(), rel=0.05)
        key(iface, Qt.Key.Key_Escape)
        assert ready.tool._circle._items == []
        wheel(120, CONTROL)
        assert canvas.scale() != scale and Settings().brush_pixels == pytest.approx(larger)


class TestCut:
    def test_the_proposal_keeps_the_piece_with_the_click(self, iface: Interface, ready: Interaction) -> None:
        click(iface.canvas, place("a", -40))
        whole = settled(ready).result.geometry
        key(iface, Qt.Key.Key_K)
        click(iface.canvas, place("a", 0, -120))
        key(iface, Qt.Key.Key_Return)
        assert ready.controller.drawing.result.geometry is whole, "one vertex is no line"
        click(iface.canvas, place("a", 0, 120))
        key(iface, Qt.Key.Key_Return)
        left = settled(ready).result.geometry
        west = TRANSFORM.apply_geometry(shapely.box(0, 0, DISCS["a"][0], 1500))
        assert same(left, whole.intersection(west)) > 0.97
        assert ready._actions.undo.iconText() == "Undo: cut" and not ready._actions.cut.isChecked()

    @pytest.mark.parametrize("way", ["drag", "clicks"])
    def test_a_polygon_of_the_layer_becomes_two(
        self, iface: Interface, ready: Interaction, target: QgsVectorLayer, way: str
    ) -> None:
        add(target, square("a"), square("b"))
        key(iface, Qt.Key.Key_K)
        assert "line across" in ready.dock._hint.text()
        if way == "drag":
            stroke(iface, place("a", 0, -120), place("a", 0, 120))
        else:
            click(iface.canvas, place("a", 0, -120))
            click(iface.canvas, place("a", 0, 120))
            click(iface.canvas, place("a"), Qt.MouseButton.RightButton)
        settled(ready)
        halves = shapes(target)[:2]
        assert target.featureCount() == 3 and target.undoStack().count() == 1
        assert same(halves[0].union(halves[1]), square("a")) > 0.9999999
        assert halves[0].area == pytest.approx(halves[1].area, rel=0.1)
        assert sorted(feature["note"] for feature in target.getFeatures()) == ["parcel 1", "parcel 1", "parcel 2"]
        assert ready._actions.undo.iconText() == "Undo: cut of polygon field in target"
        key(iface, Qt.Key.Key_Z, CONTROL)
        assert [shape.equals(square(name)) for shape, name in zip(shapes(target), "ab")] == [True, True]

    def test_minimum_areas_of_classes_count_in_coverage_mode_only(
        self, iface: Interface, ready: Interaction, target: QgsVectorLayer
    ) -> None:
        add(target, square("a"))
        apply_classes(target, "class", ClassList(None, (ClassItem("field", "Field", None, 1e6),)))
        for mode, count in ((CoverageMode(is_on=True, refuses_small=True), 1), (CoverageMode(), 2)):
            mode.remember(target)
            key(iface, Qt.Key.Key_K)
            stroke(iface, place("a", 0, -120), place("a", 0, 120))
            settled(ready)
            assert target.featureCount() == count, iface.messages()
            key(iface, Qt.Key.Key_Escape)

    @pytest.mark.parametrize("mode", [CoverageMode(), CoverageMode(is_on=True)])
    @pytest.mark.parametrize("selected", [[], [1]])
    def test_all_polygons_or_the_selected_ones_in_one_step(
        self, iface: Interface, ready: Interaction, target: QgsVectorLayer, selected: list[int], mode: CoverageMode
    ) -> None:
        outlines = square("a"), square("a", 2 * RADIUS), square("a", 4 * RADIUS)
        add(target, *outlines)
        mode.remember(target)
        ids = sorted(target.allFeatureIds())
        target.selectByIds([ids[place] for place in selected])
        key(iface, Qt.Key.Key_K)
        # The line ends inside the last one, which stays whole.
        stroke(iface, place("a", -120), place("a", 4 * RADIUS))
        settled(ready)
        whole = [2] if not selected else [0, 2]
        notes = [f"parcel {number + 1}" for number in range(3) for _ in range(1 if number in whole else 2)]
        assert sorted(feature["note"] for feature in target.getFeatures()) == notes
        assert target.undoStack().count() == 1 and target.undoStack().text(0) == "Cut polygon"
        assert shapely.coverage_is_valid(shapes(target))
        done = "polygon field" if selected else "2 polygons"
        assert ready._actions.undo.iconText() == f"Undo: cut of {done} in target"
        key(iface, Qt.Key.Key_Z, CONTROL)
        assert [shape.equals_exact(outline) for shape, outline in zip(shapes(target), outlines)] == [True] * 3
        key(iface, Qt.Key.Key_Z, CONTROL | SHIFT)
        assert sorted(feature["note"] for feature in target.getFeatures()) == notes

    @pytest.mark.parametrize("is_changed", [False, True])
    def test_a_refined_polygon_becomes_two_unless_it_was_changed(
        self, iface: Interface, ready: Interaction, target: QgsVectorLayer, is_changed: bool
    ) -> None:
        add(target, square("a"))
        refine(iface, ready, "a")
        if is_changed:
            key(iface, Qt.Key.Key_B)
            stroke(iface, place("a"), place("a", 30))
            settled(ready)
        key(iface, Qt.Key.Key_K)
        stroke(iface, place("a", 0, -120), place("a", 0, 120))
        assert settled(ready).has_polygon == is_changed and (ready.refining.current is not None) == is_changed
        assert target.featureCount() == (1 if is_changed else 2)
        assert same(shapely.union_all(shapes(target)), square("a")) > 0.9999999

    def test_escape_leaves_it(self, iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
        add(target, square("a"))
        key(iface, Qt.Key.Key_K)
        click(iface.canvas, place("a", 0, -120))
        click(iface.canvas, place("a", 0, 120))
        key(iface, Qt.Key.Key_Escape)
        key(iface, Qt.Key.Key_Return)
        assert target.featureCount() == 1 and not ready.tool.mode

    def test_a_line_beside_all_polygons(self, iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
        key(iface, Qt.Key.Key_K)
        stroke(iface, place("a", 0, -120), place("a", 0, 120))
        settled(ready)
        assert "crosses no polygon" in iface.messages()[-1]


class TestMerge:
    def test_two_of_the_layer(self, iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
        add(target, square("a"), square("a", 2 * RADIUS))
        point_at(iface, place("a", 2 * RADIUS))
        key(iface, Qt.Key.Key_M)
        assert "No polygon is chosen" in iface.messages()[-1]
        refine(iface, ready, "a")
        point_at(iface, place("a", 2 * RADIUS))
        key(iface, Qt.Key.Key_M)
        settled(ready)
        (feature,) = target.getFeatures()
        assert from_qgs(feature.geometry()).equals(square("a").union(square("a", 2 * RADIUS)))
        assert feature["note"] == "parcel 1" and target.undoStack().count() == 1
        assert not ready.controller.drawing.can_undo and ready.refining.current is None
        key(iface, Qt.Key.Key_Z, CONTROL)
        assert target.featureCount() == 2

    def test_the_proposal_with_one_of_the_layer(
        self, iface: Interface, ready: Interaction, target: QgsVectorLayer
    ) -> None:
        add(target, square("a", 2 * RADIUS - 20))
        click(iface.canvas, place("a"))
        drawn = settled(ready).result.geometry
        point_at(iface, place("a", 2 * RADIUS))
        key(iface, Qt.Key.Key_M)
        both = drawn.union(square("a", 2 * RADIUS - 20))
        assert same(settled(ready).result.geometry, both) > 0.999
        key(iface, Qt.Key.Key_Return)
        (feature,) = target.getFeatures()
        assert same(from_qgs(feature.geometry()), both) > 0.999 and feature["note"] == "parcel 1"


class TestMeanwhile:
    """A cut or a merge is still being computed."""

    @pytest.fixture
    def gate(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
        """Open it to let the computation end."""
        gate = threading.Event()
        for name in ("cut", "merge"):
            real = getattr(LayerCoverage, name)
            monkeypatch.setattr(LayerCoverage, name, lambda *args, real=real: gate.wait(30) and real(*args))
        yield gate
        gate.set()

    @pytest.fixture
    def begun(self, iface: Interface, ready: Interaction, target: QgsVectorLayer, gate: threading.Event) -> int:
        """A cut through the first of two polygons has begun; return the number of items on the canvas before."""
        add(target, square("a"), square("a", 2 * RADIUS))
        items = len(iface.canvas.scene().items())
        key(iface, Qt.Key.Key_K)
        stroke(iface, place("a", 0, -120), place("a", 0, 120))
        assert target.featureCount() == 2 and len(iface.canvas.scene().items()) == items + 1, "the line"
        return items

    def test_gestures_wait(
        self, iface: Interface, ready: Interaction, target: QgsVectorLayer, gate: threading.Event, begun: int
    ) -> None:
        key(iface, Qt.Key.Key_K)
        stroke(iface, place("a", 2 * RADIUS, -120), place("a", 2 * RADIUS, 120))
        point_at(iface, place("a", 2 * RADIUS))
        key(iface, Qt.Key.Key_R)
        assert target.featureCount() == 2 and ready.refining.current is None
        gate.set()
        wait_until(lambda: ready.refining.current is not None)
        assert target.featureCount() == 4 and target.undoStack().count() == 2

    def test_escape_gives_it_up(
        self, iface: Interface, ready: Interaction, target: QgsVectorLayer, gate: threading.Event, begun: int
    ) -> None:
        key(iface, Qt.Key.Key_Return)
        key(iface, Qt.Key.Key_Escape)
        assert not ready.controller.is_waiting and len(iface.canvas.scene().items()) == begun
        # The next one is another one.
        key(iface, Qt.Key.Key_K)
        stroke(iface, place("a", 2 * RADIUS, -120), place("a", 2 * RADIUS, 120))
        gate.set()
        settled(ready)
        whole, *halves = shapes(target)
        assert whole.equals(square("a")) and len(halves) == 2 and target.undoStack().count() == 1

    @pytest.mark.parametrize("way", ["edited", "removed", "left"])
    def test_the_layer_changes_or_the_tool(
        self,
        iface: Interface,
        ready: Interaction,
        target: QgsVectorLayer,
        gate: threading.Event,
        begun: int,
        way: str,
    ) -> None:
        if way == "edited":
            target.startEditing()
            first = min(target.allFeatureIds())
            target.changeGeometry(first, QgsGeometry.fromWkt(square("a", 0, 20).wkt))
            gate.set()
            settled(ready)
            assert "changed meanwhile" in iface.messages()[-1]
            assert target.featureCount() == 2 and shapes(target)[0].equals(square("a", 0, 20))
        elif way == "removed":
            QgsProject.instance().removeMapLayer(target.id())
            gate.set()
            settled(ready)
            assert "was removed" in iface.messages()[-1]
        else:
            gate.set()
            ready.set_active(False)
            settled(ready)
            assert target.featureCount() == 3, "another tool does not give it up"


class TestLasso:
    def loop(self) -> list[QgsPointXY]:
        return [place("a", *offset) for offset in ((-40, -40), (40, -40), (40, 40), (-40, 40), (-40, -35))]

    @pytest.mark.parametrize("way", [ALT, Qt.Key.Key_L])
    def test_a_loop_and_a_scribble(self, iface: Interface, ready: Interaction, way: Any) -> None:
        modifiers = way if way == ALT else NONE
        if way != ALT:
            key(iface, way)
        stroke(iface, *self.loop(), modifiers=modifiers)
        drawing = settled(ready)
        assert same(drawing.result.geometry, disc("a")) > 0.95 and drawing.last == "lasso"
        assert ready._actions.undo.iconText() == "Undo: lasso"
        key(iface, Qt.Key.Key_Z, CONTROL)
        stroke(iface, place("a", -50), place("a", 50), modifiers=modifiers)
        drawing = settled(ready)
        assert same(drawing.result.geometry, disc("a")) > 0.95 and len(drawing.prompts.points) == 5
        stroke(iface, place("a", -50, 110), place("a", 50, 110), modifiers=modifiers | SHIFT)
        assert [point.positive for point in settled(ready).prompts.points] == [True] * 5 + [False] * 5
        assert ready._actions.undo.iconText() == "Undo: scribble"


def test_keys_of_the_modes_belong_to_qgis_while_the_tool_is_not_active(iface: Interface, ready: Interaction) -> None:
    taken = []
    keys = {"B": "brush", "E": "eraser", "K": "cut", "L": "lasso", "M": "merge", "[": "smaller", "]": "larger"}
    for letter, name in keys.items():
        action = getattr(ready._actions, name)
        assert action in iface.shortcuts and action.shortcut().toString() == letter
        of_qgis = QAction(letter, iface.window)
        of_qgis.setShortcut(letter)
        of_qgis.triggered.connect(lambda _checked=False, letter=letter: taken.append(letter))
        iface.window.addAction(of_qgis)
    key(iface, Qt.Key.Key_B)
    assert ready.tool.mode == "brush" and iface.canvas.viewport().cursor().shape() == Qt.CursorShape.BlankCursor
    ready.set_active(False)
    assert not ready._actions.brush.isChecked()
    iface.window.activateWindow()
    for letter in "BEKLM":
        QTest.keyClick(iface.window, letter.lower())
    assert taken == list("BEKLM") and not any(getattr(ready._actions, keys[k]).isChecked() for k in "BEKL")
    ready.set_active(True)
    assert ready.tool.mode == "" and iface.canvas.viewport().cursor().shape() == Qt.CursorShape.CrossCursor


def test_specks_are_dropped_unless_all_pieces_are_kept(iface: Interface, ready: Interaction) -> None:
    drag(iface.canvas, place("a", -120, -120), place("b", 130, 130))
    assert len(polygon_parts(settled(ready).result.geometry)) == 1
    ready.dock.options_box.findChild(QCheckBox, "all_parts").setChecked(True)
    wait_until(lambda: len(polygon_parts(settled(ready).result.geometry)) == 2)
