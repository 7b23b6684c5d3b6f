"""The proposal as it will be written: fitted to the target layer while it is drawn, in the real window."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import shapely
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsFeature,
    QgsProject,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QApplication, QCheckBox, QComboBox, QDoubleSpinBox, QPushButton, QWidget

from geosam_es.gui.editing.layer_geometry import AcceptOptions, LayerFitting
from geosam_es.gui.editing.target_layer import create_target_layer
from geosam_es.gui.interaction import Interaction
from geosam_es.gui.panel.fields_dialog import FieldsDialog
from geosam_es.qgis_support.crs import EllipsoidArea, from_qgs, to_qgs, transform_polygon
from geosam_es.qgis_support.settings import Settings
from tests.qgis.support import CRS, DISCS, PIXEL, Interface, click, place, settled, wait_until

UTM = QgsCoordinateReferenceSystem(CRS)
RIGHT = Qt.MouseButton.RightButton
RADIUS = DISCS["a"][2] * PIXEL


def disc(name: str, radius: float = 1.0) -> shapely.Polygon:
    return shapely.Point(place(name).x(), place(name).y()).buffer(radius * DISCS[name][2] * PIXEL)


def east_of(name: str, shift: float) -> shapely.Polygon:
    """Return a field whose western border runs through a disc, or beside it, so many metres east of its centre."""
    x, y = place(name).x(), place(name).y()
    return shapely.box(x + shift, y - 200, x + 300, y + 200)


def add(layer: QgsVectorLayer, shape: shapely.Geometry) -> int:
    """Add a polygon in metres to the edit buffer of a layer in any CRS."""
    to_layer = QgsCoordinateTransform(UTM, layer.crs(), QgsProject.instance())
    layer.startEditing()
    feature = QgsFeature(layer.fields())
    feature.setGeometry(to_qgs(transform_polygon(shape, to_layer)))
    layer.addFeature(feature)
    return int(feature.id())


def in_metres(shape: shapely.Geometry, crs: QgsCoordinateReferenceSystem) -> shapely.Geometry:
    return transform_polygon(shape, QgsCoordinateTransform(crs, UTM, QgsProject.instance()))


def drawn(interaction: Interaction) -> Any:
    QApplication.processEvents()
    return settled(interaction)


def shown(interaction: Interaction) -> shapely.Geometry:
    """Return what the canvas shows, in its CRS."""
    return from_qgs(interaction.overlay.bands["proposal"].asGeometry())


def written(layer: QgsVectorLayer) -> list[shapely.Geometry]:
    return [from_qgs(feature.geometry()) for feature in layer.getFeatures()]


def set_options(interaction: Interaction, **options: Any) -> None:
    for name, value in options.items():
        setattr(Settings(), name, value)
    interaction.dock.options_box.changed.emit()


def test_without_options_nothing_is_fitted(iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
    add(target, east_of("a", 0))
    click(iface.canvas, place("a", -20))
    assert drawn(ready).fitted is None
    assert ready.fitter.fitting() is None


FEET = "PROJ:+proj=utm +zone=30 +ellps=GRS80 +units=us-ft +no_defs"
LAYERS = ["EPSG:25830", "EPSG:4258", "EPSG:3857", FEET]


@pytest.mark.parametrize("crs", LAYERS)
def test_what_is_shown_is_what_is_written(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, crs: str
) -> None:
    target.setCrs(QgsCoordinateReferenceSystem(crs))
    add(target, east_of("a", 10))
    set_options(ready, trim_overlaps=True, snap_m=1.0)
    click(iface.canvas, place("a", -20))
    drawing = drawn(ready)
    on_show = in_metres(drawing.fitted.outline, target.crs())
    # It ends at the neighbour's border, in the proposal already.
    assert on_show.intersection(east_of("a", 11)).area < 0.01
    assert on_show.bounds[2] == pytest.approx(place("a").x() + 10, abs=0.02)
    assert shown(ready).symmetric_difference(on_show).area < 1e-3
    area = EllipsoidArea(target.crs()).area_m2(drawing.fitted.outline)
    assert f"{area:.0f} m²" in iface.window.statusBar().currentMessage().replace(",", "")
    click(iface.canvas, place("a", -20), RIGHT)
    before, after = written(target)
    # Coordinate by coordinate.
    assert shapely.get_parts(after)[0].equals_exact(drawing.fitted.outline, 0)
    # The neighbour has got the ends of the border, which moves its edge by rounding.
    unit = 1e-5 if target.crs().isGeographic() else 1.0
    assert after.intersection(before).area < 1e-6 * unit**2
    assert target.undoStack().count() == 2


@pytest.mark.parametrize("suffix", ["gpkg", "shp"])
def test_saved_and_unsaved_neighbours_of_a_file_count(
    iface: Interface, ready: Interaction, tmp_path: Path, suffix: str
) -> None:
    layer = create_target_layer(tmp_path / f"fields.{suffix}", UTM)
    QgsProject.instance().addMapLayer(layer)
    add(layer, east_of("a", 10))
    assert layer.commitChanges()
    ready.dock.layers.setLayer(layer)
    set_options(ready, trim_overlaps=True, snap_m=1.0)
    click(iface.canvas, place("a", -20))
    assert drawn(ready).fitted.outline.bounds[2] == pytest.approx(place("a").x() + 10, abs=1e-6)
    # The polygon follows an edit of the layer, its undo, and saving.
    add(layer, east_of("a", 5))
    assert drawn(ready).fitted.outline.bounds[2] == pytest.approx(place("a").x() + 5, abs=1e-6)
    layer.undoStack().undo()
    assert drawn(ready).fitted.outline.bounds[2] == pytest.approx(place("a").x() + 10, abs=1e-6)
    assert layer.commitChanges()
    fitted = drawn(ready).fitted
    click(iface.canvas, place("a", -20), RIGHT)
    assert any(shapely.get_parts(shape)[0].equals_exact(fitted.outline, 0) for shape in written(layer))


def test_an_edit_and_accepting_at_once(iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
    set_options(ready, trim_overlaps=True)
    click(iface.canvas, place("a", -20))
    drawn(ready)
    add(target, east_of("a", 5))
    ready.controller.accept()
    drawn(ready)
    assert len(written(target)) == 2
    assert written(target)[1].bounds[2] == pytest.approx(place("a").x() + 5, abs=1e-6)


def test_options_change_what_is_shown(iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
    add(target, east_of("a", 10))
    click(iface.canvas, place("a", -20))
    raw = drawn(ready).result.geometry
    assert shown(ready).equals(raw)
    set_options(ready, trim_overlaps=True)
    assert drawn(ready).fitted is not None
    assert shown(ready).area < 0.9 * raw.area
    set_options(ready, trim_overlaps=False)
    assert drawn(ready).fitted is None
    assert shown(ready).equals(raw)


def test_every_prompt_is_fitted_and_undone(iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
    add(target, east_of("a", 10))
    set_options(ready, trim_overlaps=True)
    click(iface.canvas, place("a", -20))
    one = drawn(ready).fitted.outline
    click(iface.canvas, place("c"))
    assert drawn(ready).fitted.outline.area > 1.5 * one.area
    ready.controller.undo()
    assert drawn(ready).fitted.outline.equals_exact(one, 0)
    # Many at once: only the last one need be fitted.
    for _ in range(3):
        ready.controller.next_candidate()
    assert drawn(ready).fitted.outline.equals_exact(one, 0)
    ready.controller.undo()
    assert drawn(ready).fitted is None


def test_a_prompt_that_fails_leaves_the_fitted_polygon(
    iface: Interface, ready: Interaction, target: QgsVectorLayer
) -> None:
    add(target, east_of("a", 10))
    set_options(ready, trim_overlaps=True)
    click(iface.canvas, place("a", -20))
    one = drawn(ready).fitted.outline
    outside = place("a", -2000)
    ready.controller.add_point(outside)
    assert drawn(ready).fitted.outline.equals_exact(one, 0)


@pytest.mark.parametrize(
    ("options", "neighbour", "sentence"),
    [
        ({"trim_overlaps": True}, -200.0, "cover the whole polygon"),
        ({"min_area_m2": 1e6}, 500.0, "less than the minimum"),
    ],
)
def test_what_will_not_be_written_says_so_while_it_is_drawn(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, options: Any, neighbour: float, sentence: str
) -> None:
    x, y = place("a").x(), place("a").y()
    add(target, shapely.box(x + neighbour, y - 200, x + 900, y + 200))
    set_options(ready, **options)
    click(iface.canvas, place("a", -20))
    drawing = drawn(ready)
    assert drawing.fitted.outline is None
    # The polygon stays on show.
    assert shown(ready).equals(drawing.result.geometry)
    assert sentence in iface.window.statusBar().currentMessage()
    click(iface.canvas, place("a", -20), RIGHT)
    assert len(written(target)) == 1 and sentence in iface.messages()[-1]
    assert drawn(ready).has_polygon


def test_a_polygon_whose_form_is_open_is_not_its_own_neighbour(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_options(ready, trim_overlaps=True, open_form=True)
    click(iface.canvas, place("a", -20))
    drawn(ready)
    seen = []

    def form(_layer: Any, _feature: Any, *_flags: bool) -> bool:
        seen.append(drawn(ready).fitted.refusal)
        return False

    monkeypatch.setattr(iface, "openFeatureForm", form)
    click(iface.canvas, place("a", -20), RIGHT)
    assert seen == [None] and drawn(ready).fitted.refusal is None
    add(target, east_of("a", 10))
    assert drawn(ready).fitted.outline.bounds[2] == pytest.approx(place("a").x() + 10, abs=0.02)


def test_a_refined_polygon_is_not_its_own_neighbour(iface: Interface, ready: Interaction, tmp_path: Path) -> None:
    layer = create_target_layer(tmp_path / "fields.gpkg", UTM)
    QgsProject.instance().addMapLayer(layer)
    ready.dock.layers.setLayer(layer)
    set_options(ready, trim_overlaps=True, snap_m=1.0)
    click(iface.canvas, place("a"))
    drawn(ready)
    click(iface.canvas, place("a"), RIGHT)
    (first,) = written(layer)
    layer.selectAll()
    ready.refining.start()
    fitted = drawn(ready).fitted
    assert fitted.outline is not None and fitted.outline.symmetric_difference(first).area < 1e-6


def test_right_angles_are_shown_without_a_layer(iface: Interface, ready: Interaction) -> None:
    ready.dock.layers.setLayer(None)
    set_options(ready, right_angles=True)
    click(iface.canvas, place("a"))
    drawing = drawn(ready)
    # A disc has none; it is fitted all the same, in the raster's CRS.
    assert drawing.fitted.crs == UTM and drawing.fitted.outline is not None
    click(iface.canvas, place("a"), RIGHT)
    assert "There is no target layer" in iface.messages()[-1]


def test_a_layer_of_20000_polygons_costs_the_window_little(qgis_app: Any) -> None:
    """The snapshot is made in the GUI thread; in the other one, only what is near is read."""
    layer = QgsVectorLayer(f"MultiPolygon?crs={CRS}&index=yes", "many", "memory")
    x, y = place("a").x() - 1500, place("a").y() - 1500
    features = []
    for index in range(20_000):
        feature = QgsFeature()
        col, row = index % 141, index // 141
        feature.setGeometry(to_qgs(shapely.box(x + 21 * col, y + 21 * row, x + 21 * col + 20, y + 21 * row + 20)))
        features.append(feature)
    layer.dataProvider().addFeatures(features)
    options = AcceptOptions(trim_overlaps=True, snap_m=2.0)

    def seconds(work: Any) -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    assert min(seconds(lambda: LayerFitting(layer, UTM, options)) for _ in range(5)) < 0.01
    fitting = LayerFitting(layer, UTM, options)
    outline = shapely.box(x + 1000, y + 1000, x + 1015, y + 1015)
    assert min(seconds(lambda: fitting(outline)) for _ in range(5)) < 0.1
    # Half of them in the edit buffer.
    layer.startEditing()
    layer.addFeatures(features[:10_000])
    assert min(seconds(lambda: LayerFitting(layer, UTM, options)) for _ in range(5)) < 0.01


def test_another_decoder_is_fitted_too(iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
    add(target, east_of("a", 10))
    set_options(ready, trim_overlaps=True)
    click(iface.canvas, place("a", -20))
    one = drawn(ready).fitted.outline
    store = ready.controller.store
    assert store is not None
    # While the first answer is still being fitted.
    ready.controller.next_candidate()
    ready.controller.answer_with("other", lambda: store.segmenter)
    wait_until(lambda: ready.controller.store.decoder == "other")
    assert drawn(ready).fitted.outline.area != one.area
    # Turned off while it is switched: nothing is left to wait for.
    ready.controller.answer_with("original", lambda: store.segmenter)
    set_options(ready, trim_overlaps=False)
    wait_until(lambda: ready.controller.store.decoder == "original")
    assert drawn(ready).fitted is None


def test_the_answer_is_painted_before_it_is_fitted(
    iface: Interface, ready: Interaction, target: QgsVectorLayer
) -> None:
    add(target, east_of("a", 10))
    set_options(ready, trim_overlaps=True)
    seen: list[Any] = []
    ready.controller.drawing_changed.connect(seen.append)
    click(iface.canvas, place("a", -20))
    drawn(ready)
    answered = [drawing for drawing in seen if drawing.result is not None]
    assert answered[0].fitted is None and answered[-1].fitted is not None
    # Busy until it is shown as it will be written: accepting waits.
    assert all(drawing.busy for drawing in answered[:-1]) and not answered[-1].busy


@pytest.fixture
def covered(ready: Interaction, target: QgsVectorLayer) -> QgsVectorLayer:
    """Return the target layer in coverage mode, with a field east of the disc's centre."""
    add(target, east_of("a", 10))
    box = ready.dock.options_box.coverage
    box.findChild(QCheckBox, "coverage").setChecked(True)
    box.findChild(QDoubleSpinBox, "coverage_tolerance_m").setValue(0.5)
    return target


def parts(layer: QgsVectorLayer) -> list[shapely.Geometry]:
    return [part for shape in written(layer) for part in shapely.get_parts(shape)]


def neighbours_shown(interaction: Interaction) -> float:
    return float(interaction.overlay.bands["neighbours"].asGeometry().area())


def test_coverage_mode_shows_and_writes_what_a_key_chooses(
    iface: Interface, ready: Interaction, covered: QgsVectorLayer
) -> None:
    east = place("a").x() + 10
    field = east_of("a", 10)
    click(iface.canvas, place("a", -20))
    whole = drawn(ready).result.geometry
    assert drawn(ready).fitted.outline.bounds[2] == pytest.approx(east, abs=1e-6)
    assert neighbours_shown(ready) == 0
    QTest.keyClick(iface.canvas, Qt.Key.Key_V)
    assert "neighbours give way" in iface.window.statusBar().currentMessage()
    assert drawn(ready).fitted.outline.symmetric_difference(whole).area < 1
    # The neighbour is outlined as it will be.
    assert neighbours_shown(ready) == pytest.approx(field.difference(whole).area, abs=1)
    QTest.keyClick(iface.canvas, Qt.Key.Key_V)
    assert drawn(ready).fitted.outline.bounds[0] == pytest.approx(east, abs=1e-6)
    fitted = drawn(ready).fitted
    before = [shape.wkb for shape in written(covered)]
    click(iface.canvas, place("a", -20), RIGHT)
    assert any(part.equals(fitted.outline) for part in parts(covered))
    assert sum(part.area for part in parts(covered)) == pytest.approx(field.area)
    assert neighbours_shown(ready) == 0
    ready.undoing.undo()
    assert [shape.wkb for shape in written(covered)] == before
    QTest.keyClick(iface.canvas, Qt.Key.Key_V)
    assert ready.dock.options_box.coverage.mode.ground == "fill"


@pytest.mark.parametrize("moves", [False, True])
def test_refining_moves_the_borders_it_shares_if_wanted(
    iface: Interface, ready: Interaction, tmp_path: Path, moves: bool
) -> None:
    layer = create_target_layer(tmp_path / "fields.gpkg", UTM)
    QgsProject.instance().addMapLayer(layer)
    ready.dock.layers.setLayer(layer)
    x, y = place("a").x(), place("a").y()
    around = add(layer, shapely.box(x + 10, y - 600, x + 300, y + 200))
    box = ready.dock.options_box.coverage
    box.findChild(QCheckBox, "coverage").setChecked(True)
    box.findChild(QCheckBox, "moves_borders").setChecked(moves)
    click(iface.canvas, place("a", -20))
    drawn(ready)
    click(iface.canvas, place("a", -20), RIGHT)
    new = next(feature.id() for feature in layer.getFeatures() if feature.id() != around)
    before = {feature.id(): from_qgs(feature.geometry()) for feature in layer.getFeatures()}
    layer.selectByIds([new])
    ready.refining.start()
    drawn(ready)
    # Disc c lies within the other polygon.
    click(iface.canvas, place("c"))
    drawn(ready)
    click(iface.canvas, place("c"), RIGHT)
    after = {feature.id(): from_qgs(feature.geometry()) for feature in layer.getFeatures()}
    taken = before[around].area - after[around].area
    assert taken == pytest.approx(disc("c").area + disc("a").intersection(before[around]).area if moves else 0, abs=500)
    assert after[new].intersection(after[around]).area < 1e-3
    ready.undoing.undo()
    assert [from_qgs(feature.geometry()).wkb for feature in layer.getFeatures()] == [
        shape.wkb for shape in before.values()
    ]


def test_a_part_below_the_minimum_is_refused_with_its_size(
    iface: Interface, ready: Interaction, covered: QgsVectorLayer
) -> None:
    ready.dock.options_box.coverage.findChild(QDoubleSpinBox, "coverage_min_area_m2").setValue(1e5)
    click(iface.canvas, place("a", -20))
    refusal = drawn(ready).fitted.refusal
    assert "less than the minimum of 100000 m²" in refusal.problem
    click(iface.canvas, place("a", -20), RIGHT)
    assert len(written(covered)) == 1 and "100000 m²" in iface.messages()[-1]


def test_the_mode_is_remembered_with_the_layer(ready: Interaction, covered: QgsVectorLayer) -> None:
    other = QgsVectorLayer(f"Polygon?crs={CRS}", "other", "memory")
    QgsProject.instance().addMapLayer(other)
    box, options = ready.dock.options_box.coverage, ready.dock.options_box
    ground = ready._actions.ground
    assert ground.isEnabled() and options.findChild(QWidget, "snap_m").isHidden()
    ready.dock.layers.setLayer(other)
    assert not box.mode.is_on and not ground.isEnabled()
    assert not options.findChild(QWidget, "snap_m").isHidden()
    ready.dock.layers.setLayer(covered)
    assert box.mode.is_on and box.mode.tolerance_m == 0.5


def test_the_projects_avoid_overlap_is_respected(iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
    other = QgsVectorLayer("Polygon?crs=EPSG:4326", "lakes", "memory")
    QgsProject.instance().addMapLayer(other)
    add(target, east_of("a", 10))
    to_degrees = QgsCoordinateTransform(UTM, other.crs(), QgsProject.instance())
    lake = east_of("a", 0).difference(east_of("a", 5))
    other.startEditing()
    feature = QgsFeature()
    feature.setGeometry(to_qgs(transform_polygon(lake, to_degrees)))
    other.addFeature(feature)
    click(iface.canvas, place("a", -20))
    assert drawn(ready).fitted is None
    project, modes = QgsProject.instance(), QgsProject.AvoidIntersectionsMode
    project.setAvoidIntersectionsMode(modes.AvoidIntersectionsCurrentLayer)
    ready.controller.refit()
    assert drawn(ready).fitted.outline.bounds[2] == pytest.approx(place("a").x() + 10, abs=1e-6)
    project.setAvoidIntersectionsMode(modes.AvoidIntersectionsLayers)
    project.setAvoidIntersectionsLayers([other])
    click(iface.canvas, place("a", -20), RIGHT)
    drawn(ready)
    new = written(target)[1]
    assert new.intersection(lake.buffer(-0.01)).area == 0 and new.intersection(east_of("a", 10)).area > 100
    project.setAvoidIntersectionsMode(modes.AllowIntersections)


def test_what_changes_in_a_layer_to_avoid_counts(iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
    other = QgsVectorLayer(f"Polygon?crs={CRS}", "lakes", "memory")
    QgsProject.instance().addMapLayer(other)
    project, modes = QgsProject.instance(), QgsProject.AvoidIntersectionsMode
    project.setAvoidIntersectionsMode(modes.AvoidIntersectionsLayers)
    project.setAvoidIntersectionsLayers([other])
    click(iface.canvas, place("a"))
    drawn(ready)
    ready.controller.discard()
    other.startEditing()
    feature = QgsFeature()
    feature.setGeometry(to_qgs(east_of("b", 0)))
    other.addFeature(feature)
    click(iface.canvas, place("b", -20))
    click(iface.canvas, place("b", -20), RIGHT)
    drawn(ready)
    (new,) = written(target)
    assert new.intersection(east_of("b", 0.01)).area == 0 and new.area > 100
    project.setAvoidIntersectionsMode(modes.AllowIntersections)


def test_the_fields_are_chosen_in_a_dialog_and_written_without_a_form(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(dialog: FieldsDialog) -> bool:
        area = dialog.findChild(QComboBox, "area")
        if area.currentText() == "":
            dialog.findChild(QComboBox, "class").setCurrentText("note")
            area.setCurrentText("note")
        else:
            # What was typed is still there.
            assert "more than once" in iface.messages()[-1] and area.currentText() == "note"
            area.setCurrentText("ha")
        return True

    monkeypatch.setattr(FieldsDialog, "exec", choose)
    buttons = ready.dock.options_box.coverage.findChildren(QPushButton)
    next(button for button in buttons if button.text() == "Fields…").click()
    assert ready.dock.class_box.field == "note"
    click(iface.canvas, place("a"))
    drawn(ready)
    click(iface.canvas, place("a"), RIGHT)
    (feature,) = target.getFeatures()
    assert feature["ha"] == pytest.approx(disc("a").area / 1e4, rel=0.05) and iface.forms == []
