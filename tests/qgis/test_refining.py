"""Refining polygons of a layer with keys on the canvas and the real edit buffer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import shapely
from qgis.core import (
    NULL,
    QgsFeature,
    QgsField,
    QgsFieldConstraints,
    QgsGeometry,
    QgsProject,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QEvent, Qt, QVariant
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QApplication, QCheckBox, QComboBox, QPushButton

from geosam_es.gui.editing.target_layer import create_target_layer
from geosam_es.gui.interaction import Interaction
from geosam_es.gui.panel.actions import QAction
from geosam_es.gui.plugin import GeoSamPlugin
from geosam_es.qgis_support.classes import read_class_csv
from geosam_es.qgis_support.crs import from_qgs
from geosam_es.qgis_support.settings import Settings
from tests.helpers import BlobDecoder
from tests.qgis.support import (
    CRS,
    PIXEL,
    Interface,
    click,
    key,
    move,
    on_screen,
    place,
    saved_as,
    settled,
    wait_until,
    with_store,
)

CONTROL = Qt.KeyboardModifier.ControlModifier
FIELDS_OF_A_MIX = (("kind", QVariant.String), ("part", QVariant.Int))


@pytest.fixture
def layer(iface: Interface, tmp_path: Path) -> QgsVectorLayer:
    csv = tmp_path / "classes.csv"
    csv.write_text("code,name,color\nI1.1,Arable land,#aa5500\nE2.6,Grassland,#00aa00\nG1.A,Oak wood,#005500\n")
    path = tmp_path / "habitats.gpkg"
    layer = create_target_layer(path, iface.canvas.mapSettings().destinationCrs(), read_class_csv(csv))
    QgsProject.instance().addMapLayer(layer)
    return layer


@pytest.fixture
def ready(
    plugin: GeoSamPlugin, blob_store: Path, blobs: BlobDecoder, layer: QgsVectorLayer, tmp_path: Path
) -> Interaction:
    """The tool active, a store open, a layer with classes chosen."""
    shutil.copytree(blob_store, tmp_path / "sheet.embeddings.zarr")
    document = tmp_path / "sheet.embeddings.zarr" / "zarr.json"
    document.write_text(document.read_text().replace("blobs.tif", "sheet.tif"))
    interaction = with_store(plugin, document.parent)
    interaction.dock.layers.setLayer(layer)
    return interaction


@pytest.fixture
def drawn(iface: Interface, ready: Interaction, layer: QgsVectorLayer) -> Interaction:
    """An arable field at a and a wood at b; the next polygons are grassland."""
    for name, number in (("a", 1), ("b", 3)):
        key(iface, getattr(Qt.Key, f"Key_{number}"))
        click(iface.canvas, place(name))
        settled(ready)
        key(iface, Qt.Key.Key_Return)
    key(iface, Qt.Key.Key_2)
    assert classes(layer) == ["G1.A", "I1.1"]
    return ready


def point_at(iface: Interface, name: str, dx: float = 0.0) -> None:
    move(iface.canvas, on_screen(iface.canvas, place(name, dx)), Qt.MouseButton.NoButton)


def refine(iface: Interface, ready: Interaction, name: str) -> Any:
    """Press R over a disc."""
    point_at(iface, name)
    key(iface, Qt.Key.Key_R)
    assert ready.refining.current is not None
    return settled(ready)


def classes(layer: QgsVectorLayer) -> list[str]:
    return sorted(feature["class"] for feature in layer.getFeatures())


def chosen(ready: Interaction) -> Any:
    return ready.dock.class_box.current.code


class TestPicking:
    def test_under_the_pointer(self, iface: Interface, drawn: Interaction, layer: QgsVectorLayer) -> None:
        drawing = refine(iface, drawn, "a")
        assert [(p.x, p.y) for p in drawing.prompts.points] == [pytest.approx((place("a").x(), place("a").y()), abs=2)]
        assert drawn._actions.refine.isChecked()
        assert "polygon I1.1 in habitats" in drawn.refining.hint
        click(iface.canvas, place("c"))
        settled(drawn)
        key(iface, Qt.Key.Key_Return)
        assert layer.featureCount() == 2 and classes(layer) == ["G1.A", "I1.1"]
        assert not drawn._actions.refine.isChecked() and drawn.refining.hint == ""

    def test_the_next_click(self, iface: Interface, drawn: Interaction, layer: QgsVectorLayer) -> None:
        point_at(iface, "c")
        key(iface, Qt.Key.Key_R)
        assert drawn.refining.picks and drawn._actions.refine.isChecked()
        click(iface.canvas, place("c"))
        assert "no polygon here" in iface.messages()[-1]
        assert not drawn.controller.drawing.can_undo
        click(iface.canvas, place("b"))
        assert drawn.refining.current is not None and not drawn.refining.picks
        assert chosen(drawn) == "G1.A" and settled(drawn).has_polygon

    @pytest.mark.parametrize("way", [Qt.Key.Key_Escape, Qt.Key.Key_R])
    def test_no_next_click(self, iface: Interface, drawn: Interaction, way: Any) -> None:
        key(iface, Qt.Key.Key_R)
        key(iface, way)
        assert not drawn.refining.picks and not drawn._actions.refine.isChecked()
        click(iface.canvas, place("b"))
        assert drawn.refining.current is None and len(settled(drawn).prompts) == 1

    def test_the_button_makes_the_tool_active(self, iface: Interface, drawn: Interaction) -> None:
        point_at(iface, "a")
        QApplication.sendEvent(iface.canvas.viewport(), QEvent(QEvent.Type.Leave))
        drawn.set_active(False)
        drawn._actions.refine.trigger()
        assert iface.canvas.mapTool() is drawn.tool
        click(iface.canvas, place("b"))
        assert chosen(drawn) == "G1.A" and settled(drawn).has_polygon

    def test_the_selected_polygon(self, iface: Interface, drawn: Interaction, layer: QgsVectorLayer) -> None:
        first = next(feature for feature in layer.getFeatures() if feature["class"] == "I1.1")
        layer.selectByIds([first.id()])
        key(iface, Qt.Key.Key_R)
        assert drawn.refining.current.feature_id == first.id()
        assert layer.selectedFeatureCount() == 0

    def test_the_smallest_of_several(self, iface: Interface, drawn: Interaction, layer: QgsVectorLayer) -> None:
        for name in ("a", "b", "c"):
            click(iface.canvas, place(name))
        settled(drawn)
        key(iface, Qt.Key.Key_Return)
        refine(iface, drawn, "b")
        assert chosen(drawn) == "G1.A"

    def test_a_map_in_another_crs(self, iface: Interface, drawn: Interaction) -> None:
        from qgis.core import QgsCoordinateReferenceSystem, QgsCoordinateTransform, QgsRectangle

        canvas = QgsCoordinateReferenceSystem("EPSG:4326")
        to_canvas = QgsCoordinateTransform(QgsCoordinateReferenceSystem(CRS), canvas, QgsProject.instance())
        iface.canvas.setDestinationCrs(canvas)
        extent = QgsRectangle(700000, 4399250, 700750, 4400000)
        iface.canvas.setExtent(to_canvas.transformBoundingBox(extent))
        spot = on_screen(iface.canvas, to_canvas.transform(place("b")))
        move(iface.canvas, spot, Qt.MouseButton.NoButton)
        key(iface, Qt.Key.Key_R)
        assert chosen(drawn) == "G1.A"

    def test_what_is_drawn_is_not_lost(self, iface: Interface, drawn: Interaction) -> None:
        click(iface.canvas, place("c"))
        drawing = settled(drawn)
        point_at(iface, "a")
        key(iface, Qt.Key.Key_R)
        assert "not written yet" in iface.messages()[-1]
        assert drawn.controller.drawing == drawing and drawn.refining.current is None
        key(iface, Qt.Key.Key_Escape)
        refine(iface, drawn, "a")
        # It is as it was in the layer, so that another one may be taken.
        refine(iface, drawn, "b")
        assert chosen(drawn) == "G1.A"
        key(iface, Qt.Key.Key_1)
        point_at(iface, "a")
        key(iface, Qt.Key.Key_R)
        assert "not written yet" in iface.messages()[-1] and "G1.A" in drawn.refining.hint

    def test_a_polygon_without_prompts(self, iface: Interface, drawn: Interaction, layer: QgsVectorLayer) -> None:
        for feature in layer.getFeatures():
            layer.changeAttributeValue(feature.id(), layer.fields().indexOf("prompts"), None)
        drawing = refine(iface, drawn, "a")
        (shape,) = (feature.geometry() for feature in layer.getFeatures() if feature["class"] == "I1.1")
        assert drawing.result.geometry.equals(from_qgs(shape)) and chosen(drawn) == "I1.1"
        key(iface, Qt.Key.Key_3)
        key(iface, Qt.Key.Key_Return)
        assert classes(layer) == ["G1.A", "G1.A"]

    def test_a_layer_that_cannot_be_edited(self, iface: Interface, drawn: Interaction, layer: QgsVectorLayer) -> None:
        assert layer.commitChanges()
        layer.setReadOnly(True)
        point_at(iface, "a")
        key(iface, Qt.Key.Key_R)
        assert "read-only" in iface.messages()[-1]


class TestImage:
    def test_the_one_it_was_drawn_on_is_opened(
        self, iface: Interface, drawn: Interaction, raster_with_store: QgsRasterLayer, layer: QgsVectorLayer
    ) -> None:
        raster = layer.fields().indexOf("raster")
        for feature in layer.getFeatures():
            layer.changeAttributeValue(feature.id(), raster, "blobs.tif")
        point_at(iface, "a")
        key(iface, Qt.Key.Key_R)
        assert "was drawn on blobs.tif" in iface.messages()[-1]
        QgsProject.instance().addMapLayer(raster_with_store)
        key(iface, Qt.Key.Key_R)
        wait_until(lambda: drawn.refining.current is not None)
        store = drawn.controller.store
        assert store.metadata.raster.file_name == "blobs.tif"
        assert store.path.parent == Path(raster_with_store.source()).parent
        assert settled(drawn).has_polygon

    def test_of_two_with_one_name_the_one_under_the_polygon(
        self,
        iface: Interface,
        drawn: Interaction,
        raster_with_store: QgsRasterLayer,
        layer: QgsVectorLayer,
        tmp_path: Path,
    ) -> None:
        from osgeo import gdal

        (tmp_path / "north").mkdir()
        path = tmp_path / "north" / "blobs.tif"
        shutil.copy(raster_with_store.source(), path)
        dataset = gdal.Open(str(path), gdal.GA_Update)
        dataset.SetGeoTransform((700000.0, PIXEL, 0.0, 4500000.0, 0.0, -PIXEL))
        del dataset
        QgsProject.instance().addMapLayers([QgsRasterLayer(str(path), "north"), raster_with_store])
        for feature in layer.getFeatures():
            layer.changeAttributeValue(feature.id(), layer.fields().indexOf("raster"), "blobs.tif")
        point_at(iface, "a")
        key(iface, Qt.Key.Key_R)
        wait_until(lambda: drawn.refining.current is not None)
        assert drawn.controller.store.path.parent == Path(raster_with_store.source()).parent


class TestClass:
    def test_a_key_changes_it_in_the_same_undo_step(
        self, iface: Interface, drawn: Interaction, layer: QgsVectorLayer
    ) -> None:
        before = layer.undoStack().count()
        refine(iface, drawn, "a")
        assert chosen(drawn) == "I1.1"
        key(iface, Qt.Key.Key_3)
        assert "polygon I1.1 in habitats, now G1.A" in drawn.refining.hint
        assert drawn.overlay.bands["proposal"].strokeColor().name() == "#005500"
        assert classes(layer) == ["G1.A", "I1.1"]
        click(iface.canvas, place("a", 20))
        settled(drawn)
        key(iface, Qt.Key.Key_Return)
        assert classes(layer) == ["G1.A", "G1.A"] and layer.undoStack().count() == before + 1
        # The class of the next polygons is the one from before.
        assert chosen(drawn) == "E2.6"
        assert drawn._actions.undo.iconText() == "Undo: refined polygon G1.A in habitats"
        key(iface, Qt.Key.Key_Z, CONTROL)
        assert classes(layer) == ["G1.A", "I1.1"]
        # It goes on as it was before Enter.
        assert len(settled(drawn).prompts) == 2 and chosen(drawn) == "G1.A"
        key(iface, Qt.Key.Key_Return)
        assert classes(layer) == ["G1.A", "G1.A"] and layer.featureCount() == 2
        assert chosen(drawn) == "E2.6"

    def test_escape_changes_nothing(self, iface: Interface, drawn: Interaction, layer: QgsVectorLayer) -> None:
        shapes = sorted(feature.geometry().asWkt() for feature in layer.getFeatures())
        steps = layer.undoStack().count()
        refine(iface, drawn, "a")
        key(iface, Qt.Key.Key_3)
        click(iface.canvas, place("b"))
        settled(drawn)
        key(iface, Qt.Key.Key_Escape)
        assert drawn.refining.current is None and chosen(drawn) == "E2.6"
        assert sorted(feature.geometry().asWkt() for feature in layer.getFeatures()) == shapes
        assert classes(layer) == ["G1.A", "I1.1"] and layer.undoStack().count() == steps
        # The next polygon is a new one.
        click(iface.canvas, place("c"))
        settled(drawn)
        key(iface, Qt.Key.Key_Return)
        assert classes(layer) == ["E2.6", "G1.A", "I1.1"]

    def test_a_class_that_the_list_lacks_is_kept(
        self, iface: Interface, drawn: Interaction, layer: QgsVectorLayer
    ) -> None:
        for feature in layer.getFeatures():
            layer.changeAttributeValue(feature.id(), layer.fields().indexOf("class"), "X9")
        refine(iface, drawn, "a")
        assert drawn.dock.class_box.current is None
        key(iface, Qt.Key.Key_Return)
        assert classes(layer) == ["X9", "X9"] and chosen(drawn) == "E2.6"

    def test_a_mix(self, iface: Interface, ready: Interaction, layer: QgsVectorLayer) -> None:
        """Both classes and percentages come back, and so does the mix of the next polygons."""
        box = ready.dock.class_box
        assert layer.dataProvider().addAttributes(
            [QgsField(f"{name}{number}", kind) for number in (1, 2) for name, kind in FIELDS_OF_A_MIX]
        )
        layer.updateFields()
        box.mix_fields.choose(["kind1", "part1", "kind2", "part2"])
        box.show_values({"kind1": "I1.1", "part1": 70, "kind2": "G1.A", "part2": 30})
        drawn = dict(box.attributes())
        assert drawn["class"] == "I1.1" and drawn["part2"] == 30
        click(iface.canvas, place("a"))
        settled(ready)
        key(iface, Qt.Key.Key_Return)
        box.show_values({"kind1": "E2.6", "part1": 55, "kind2": "G1.A", "part2": 45})
        following = dict(box.attributes())
        refine(iface, ready, "a")
        assert dict(box.attributes()) == drawn
        key(iface, Qt.Key.Key_Escape)
        assert dict(box.attributes()) == following
        refine(iface, ready, "a")
        key(iface, Qt.Key.Key_2)
        key(iface, Qt.Key.Key_Return)
        (feature,) = layer.getFeatures()
        assert [feature[name] for name in ("class", "kind1", "part1")] == ["E2.6", "E2.6", 100]
        assert feature["kind2"] == NULL and dict(box.attributes()) == following

    def test_a_layer_without_classes(self, iface: Interface, ready: Interaction, layer: QgsVectorLayer) -> None:
        plain = QgsVectorLayer(
            f"MultiPolygon?crs={CRS}&field=class:string&field=prompts:string(0)&field=raster:string", "plain", "memory"
        )
        QgsProject.instance().addMapLayer(plain)
        ready.dock.layers.setLayer(plain)
        click(iface.canvas, place("a"))
        settled(ready)
        key(iface, Qt.Key.Key_Return)
        refine(iface, ready, "a")
        key(iface, Qt.Key.Key_Return)
        assert plain.featureCount() == 1 and ready.refining.current is None


class TestOutline:
    def test_is_remembered_for_each_class_and_shown_before_accepting(
        self, iface: Interface, ready: Interaction, layer: QgsVectorLayer
    ) -> None:
        box = ready.dock.options_box

        def shown() -> Any:
            wait_until(lambda: not ready.controller.drawing.busy)
            wait_until(lambda: ready.controller.drawing.fitted is not None)
            return ready.overlay.bands["proposal"].asGeometry()

        def vertices(geometry: Any) -> int:
            return int(geometry.constGet().nCoordinates())

        key(iface, Qt.Key.Key_1)
        click(iface.canvas, place("b"))
        settled(ready)
        box.findChild(QComboBox, "outline").setCurrentIndex(1)
        few = shown()
        traced = vertices(QgsGeometry.fromWkt(ready.controller.drawing.result.geometry.wkt))
        assert vertices(few) < traced
        key(iface, Qt.Key.Key_3)
        assert Settings().outline == ""
        box.findChild(QComboBox, "outline").setCurrentIndex(2)
        smooth = shown()
        assert vertices(smooth) > 2 * vertices(few)
        key(iface, Qt.Key.Key_Return)
        assert vertices(next(layer.getFeatures()).geometry()) == vertices(smooth)
        key(iface, Qt.Key.Key_1)
        assert Settings().outline == "few" and box.findChild(QComboBox, "outline").currentIndex() == 1
        key(iface, Qt.Key.Key_2)
        assert Settings().outline == "" and not box.findChild(QCheckBox, "right_angles").isChecked()
        # Refining brings back the choice for the polygon's class; as it is in the layer, it is not smoothed again.
        layer.changeAttributeValue(next(layer.getFeatures()).id(), layer.fields().indexOf("prompts"), None)
        before = next(layer.getFeatures()).geometry()
        refine(iface, ready, "b")
        assert Settings().outline == "smooth" and shown().isGeosEqual(before)
        key(iface, Qt.Key.Key_Return)
        assert next(layer.getFeatures()).geometry().isGeosEqual(before)
        assert Settings().outline == ""


class TestDeleting:
    def test_one_undo_step_with_a_message(self, iface: Interface, drawn: Interaction, layer: QgsVectorLayer) -> None:
        steps = layer.undoStack().count()
        refine(iface, drawn, "a")
        assert drawn._actions.delete.isEnabled()
        key(iface, Qt.Key.Key_Delete)
        assert classes(layer) == ["G1.A"] and layer.undoStack().count() == steps + 1
        assert drawn.refining.current is None and not drawn.controller.drawing.can_undo
        assert chosen(drawn) == "E2.6"
        assert iface.messages()[-1] == "Deleted: polygon I1.1 in habitats"
        assert drawn._actions.undo.iconText() == "Undo: deletion of polygon I1.1 in habitats"
        (undo,) = (b for b in iface.bar.currentItem().findChildren(QPushButton) if b.text() == "Undo")
        QTest.mouseClick(undo, Qt.MouseButton.LeftButton)
        assert classes(layer) == ["G1.A", "I1.1"]
        assert layer.commitChanges(), layer.commitErrors()
        assert classes(layer) == ["G1.A", "I1.1"]

    def test_otherwise_the_key_belongs_to_qgis(self, iface: Interface, drawn: Interaction) -> None:
        taken: list[int] = []
        of_qgis = QAction("Delete selected", iface.window)
        of_qgis.setShortcut("Delete")
        of_qgis.triggered.connect(lambda: taken.append(1))
        iface.window.addAction(of_qgis)
        iface.window.activateWindow()
        iface.canvas.setFocus()
        click(iface.canvas, place("c"))
        settled(drawn)
        assert not drawn._actions.delete.isEnabled()
        key(iface, Qt.Key.Key_Delete)
        assert taken == [1]
        key(iface, Qt.Key.Key_Escape)
        refine(iface, drawn, "a")
        key(iface, Qt.Key.Key_Delete)
        assert taken == [1]


class TestMissingValues:
    @pytest.fixture
    def strict(self, iface: Interface, ready: Interaction) -> QgsVectorLayer:
        strict = QgsVectorLayer(
            f"MultiPolygon?crs={CRS}&field=class:string&field=author:string&field=prompts:string(0)"
            "&field=raster:string",
            "strict",
            "memory",
        )
        hard = QgsFieldConstraints.ConstraintStrengthHard
        strict.setFieldConstraint(1, QgsFieldConstraints.ConstraintNotNull, hard)
        QgsProject.instance().addMapLayer(strict)
        ready.dock.layers.setLayer(strict)
        return strict

    def fill_in(self, iface: Interface, monkeypatch: pytest.MonkeyPatch, value: str | None) -> list[Any]:
        """Fill in the form when it is shown, or cancel it."""
        shown: list[Any] = []

        def form(layer: QgsVectorLayer, feature: Any, *_: bool) -> bool:
            shown.append(feature.id())
            assert layer.getFeature(feature.id()).isValid()
            if value is not None:
                layer.changeAttributeValue(feature.id(), 1, value)
            return value is not None

        monkeypatch.setattr(iface, "openFeatureForm", form)
        return shown

    def test_the_form_asks_for_them(
        self, iface: Interface, ready: Interaction, strict: QgsVectorLayer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shown = self.fill_in(iface, monkeypatch, "me")
        click(iface.canvas, place("a"))
        settled(ready)
        key(iface, Qt.Key.Key_Return)
        assert len(shown) == 1 and iface.messages() == []
        assert [feature["author"] for feature in strict.getFeatures()] == ["me"]
        assert strict.undoStack().count() == 1

    def test_a_cancelled_form_keeps_the_drawing(
        self, iface: Interface, ready: Interaction, strict: QgsVectorLayer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shown = self.fill_in(iface, monkeypatch, None)
        click(iface.canvas, place("a"))
        settled(ready)
        key(iface, Qt.Key.Key_Return)
        assert len(shown) == 1 and iface.messages() == []
        assert settled(ready).has_polygon
        assert strict.featureCount() == 0 and not strict.isEditable()
        assert ready._actions.undo.iconText() == "Undo: point"

    @pytest.mark.parametrize("value", ["you", None])
    def test_refining(
        self,
        iface: Interface,
        ready: Interaction,
        strict: QgsVectorLayer,
        monkeypatch: pytest.MonkeyPatch,
        value: str | None,
    ) -> None:
        self.fill_in(iface, monkeypatch, "me")
        click(iface.canvas, place("a"))
        settled(ready)
        key(iface, Qt.Key.Key_Return)
        (feature,) = strict.getFeatures()
        before = feature.geometry()
        strict.changeAttributeValue(feature.id(), 1, None)
        steps = strict.undoStack().count()
        shown = self.fill_in(iface, monkeypatch, value)
        refine(iface, ready, "a")
        click(iface.canvas, place("b"))
        settled(ready)
        key(iface, Qt.Key.Key_Return)
        (feature,) = strict.getFeatures()
        assert shown == [feature.id()] and iface.messages() == []
        if value is None:
            assert feature.geometry().equals(before) and strict.undoStack().count() == steps
            assert ready.refining.current is not None and len(settled(ready).prompts) == 2
        else:
            assert feature["author"] == "you" and not feature.geometry().equals(before)
            assert strict.undoStack().count() == steps + 1 and ready.refining.current is None


@pytest.mark.parametrize("suffix", ["gpkg", "shp"])
def test_the_edits_are_saved_meanwhile(iface: Interface, ready: Interaction, tmp_path: Path, suffix: str) -> None:
    """A new feature gets its final id then."""
    layer = create_target_layer(tmp_path / f"saved.{suffix}", iface.canvas.mapSettings().destinationCrs())
    QgsProject.instance().addMapLayer(layer)
    ready.dock.layers.setLayer(layer)
    for name in ("a", "b"):
        click(iface.canvas, place(name))
        settled(ready)
        key(iface, Qt.Key.Key_Return)
    refine(iface, ready, "a")
    before = ready.refining.current.feature_id
    assert layer.commitChanges(False), layer.commitErrors()
    click(iface.canvas, place("c"))
    settled(ready)
    key(iface, Qt.Key.Key_Return)
    assert layer.featureCount() == 2 and ready.refining.current is None
    assert before not in [feature.id() for feature in layer.getFeatures()]
    refine(iface, ready, "b")
    assert layer.commitChanges(False), layer.commitErrors()
    key(iface, Qt.Key.Key_Delete)
    assert layer.featureCount() == 1


@pytest.mark.parametrize("stops", [True, False])
@pytest.mark.parametrize("suffix", ["shp", "geojson"])
@pytest.mark.parametrize("moved", [False, True])
def test_saving_gives_the_features_of_a_file_other_ids(
    iface: Interface, ready: Interaction, tmp_path: Path, suffix: str, stops: bool, moved: bool
) -> None:
    """A polygon before it was deleted, and QGIS packs the file."""
    discs = {name: shapely.Point(place(name).x(), place(name).y()).buffer(20) for name in ("c", "a", "b")}
    layer = saved_as(tmp_path / f"packed.{suffix}", list(discs.values()), list(discs))
    ready.dock.layers.setLayer(layer)
    refine(iface, ready, "a")
    layer.startEditing()
    layer.deleteFeature(0)
    if moved:
        # By the vertex tool of QGIS.
        geometry = layer.getGeometry(ready.refining.current.feature_id)
        geometry.translate(1, 1)
        layer.changeGeometry(ready.refining.current.feature_id, geometry)
    assert layer.commitChanges(stops), layer.commitErrors()
    QApplication.processEvents()
    before = {feature["class"]: feature.geometry().area() for feature in layer.getFeatures()}
    assert list(before) == ["a", "b"]
    ready.controller.reshape(shapely.Point(place("a").x(), place("a").y()).buffer(30))
    settled(ready)
    key(iface, Qt.Key.Key_Return)
    wait_until(lambda: ready.refining.current is None)
    after = {feature["class"]: feature.geometry().area() for feature in layer.getFeatures()}
    assert list(after) == ["a", "b"] and after["a"] > 2 * before["a"] and after["b"] == before["b"]


def test_the_layer_of_the_refined_polygon_is_removed(
    iface: Interface, drawn: Interaction, layer: QgsVectorLayer
) -> None:
    refine(iface, drawn, "a")
    click(iface.canvas, place("c"))
    settled(drawn)
    QgsProject.instance().removeMapLayer(layer.id())
    QApplication.processEvents()
    assert drawn.refining.current is None and drawn.refining.hint == "" and settled(drawn).has_polygon
    # It is a new polygon of the layer chosen next.
    other = QgsVectorLayer(f"MultiPolygon?crs={CRS}&field=class:string", "other", "memory")
    QgsProject.instance().addMapLayer(other)
    drawn.dock.layers.setLayer(other)
    key(iface, Qt.Key.Key_Return)
    assert other.featureCount() == 1 and not settled(drawn).has_polygon


@pytest.mark.parametrize("is_changed", [True, False])
@pytest.mark.parametrize("way", ["discarded", "deleted"])
def test_the_refined_polygon_goes(
    iface: Interface, drawn: Interaction, layer: QgsVectorLayer, is_changed: bool, way: str
) -> None:
    refine(iface, drawn, "a")
    if is_changed:
        click(iface.canvas, place("c"))
        settled(drawn)
    if way == "discarded":
        layer.rollBack()
    else:
        layer.deleteFeature(drawn.refining.current.feature_id)
    QApplication.processEvents()
    assert drawn.refining.current is None and drawn.refining.hint == ""
    # What was drawn is a new polygon.
    assert settled(drawn).has_polygon == is_changed
    before = classes(layer)
    key(iface, Qt.Key.Key_Return)
    assert classes(layer) == sorted([*before, *["I1.1"] * is_changed]) and not iface.messages()


def test_prompts_of_somebody_else_are_none(iface: Interface, ready: Interaction) -> None:
    """A field may have that name by chance."""
    other = QgsVectorLayer(f"MultiPolygon?crs={CRS}&field=prompts:string&field=score:double", "trees", "memory")
    feature = QgsFeature(other.fields())
    feature.setAttributes(["tree", 0.4])
    feature.setGeometry(QgsGeometry.fromPointXY(place("a")).buffer(20, 8))
    other.dataProvider().addFeatures([feature])
    QgsProject.instance().addMapLayer(other)
    target = ready.dock.layer
    ready.review.fill(other)
    key(iface, Qt.Key.Key_N)
    key(iface, Qt.Key.Key_Return)
    assert target.featureCount() == 1 and ready.review.candidates.counts == (1, 0)
    ready.dock.layers.setLayer(other)
    refine(iface, ready, "a")
    assert ready.refining.current.layer is other
