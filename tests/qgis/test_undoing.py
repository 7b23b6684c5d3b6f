"""Undo and redo as one story, with keys on the canvas and the real edit buffers of layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from qgis.core import QgsFeature, QgsGeometry, QgsProject, QgsRasterLayer, QgsVectorLayer
from qgis.PyQt.QtCore import QEvent, Qt
from qgis.PyQt.QtGui import QKeyEvent
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QApplication, QPushButton

from geosam_es.gui.editing.target_layer import create_target_layer
from geosam_es.gui.interaction import Interaction
from geosam_es.gui.panel.actions import QAction
from geosam_es.gui.plugin import GeoSamPlugin
from geosam_es.qgis_support.classes import ClassItem, ClassList, apply_classes
from tests.helpers import BlobDecoder
from tests.qgis.support import CRS, Interface, click, drag, key, place, settled, show_layer, wait_until

NONE = Qt.KeyboardModifier.NoModifier
CONTROL = Qt.KeyboardModifier.ControlModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier


def undo(iface: Interface) -> None:
    key(iface, Qt.Key.Key_Z, CONTROL)


def redo(iface: Interface) -> None:
    key(iface, Qt.Key.Key_Z, CONTROL | SHIFT)


def hold_on(iface: Interface, modifiers: Any = CONTROL) -> None:
    """Send what a held Ctrl+Z sends."""
    for kind in (QEvent.Type.ShortcutOverride, QEvent.Type.KeyPress):
        QApplication.sendEvent(iface.canvas, QKeyEvent(kind, int(Qt.Key.Key_Z), modifiers, "", True))


def draw(iface: Interface, ready: Interaction, *names: str) -> None:
    """Draw and accept an object for each disc."""
    for name in names:
        click(iface.canvas, place(name))
        settled(ready)
        key(iface, Qt.Key.Key_Return)
        assert not ready.controller.drawing.can_undo


def texts(ready: Interaction) -> tuple[str, str]:
    """Return what the buttons say that undo and redo would do."""
    actions = ready._actions
    assert all(action.toolTip().startswith(action.iconText()) for action in (actions.undo, actions.redo))
    return actions.undo.iconText(), actions.redo.iconText()


def button(iface: Interface, text: str) -> Any:
    """Return the button of the last message."""
    item = iface.bar.currentItem()
    assert item is not None
    return next((b for b in item.findChildren(QPushButton) if b.text() == text), None)


def layer_named(name: str, kind: str = "MultiPolygon") -> QgsVectorLayer:
    layer = QgsVectorLayer(f"{kind}?crs={CRS}&field=class:string", name, "memory")
    QgsProject.instance().addMapLayer(layer)
    return layer


def add_by_hand(layer: QgsVectorLayer, text: str = "Add feature") -> None:
    """Do what another tool does."""
    layer.startEditing()
    layer.beginEditCommand(text)
    feature = QgsFeature(layer.fields())
    feature.setGeometry(
        QgsGeometry.fromWkt("Polygon((700000 4399900, 700001 4399900, 700001 4399901, 700000 4399900))")
    )
    layer.addFeature(feature)
    layer.endEditCommand()


class TestStory:
    def test_back_and_forth(self, iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
        """The prompts of the next object, the polygon, its own prompts; and all of it again."""
        click(iface.canvas, place("a"))
        click(iface.canvas, place("a", 10))
        first = settled(ready).result.geometry
        key(iface, Qt.Key.Key_Return)
        click(iface.canvas, place("b"))
        settled(ready)
        undo(iface)
        settled(ready)
        assert target.featureCount() == 1
        undo(iface)
        assert target.featureCount() == 0
        drawing = settled(ready)
        assert len(drawing.prompts) == 2 and drawing.result.geometry.equals(first)
        undo(iface)
        assert len(settled(ready).prompts) == 1
        undo(iface)
        assert len(settled(ready).prompts) == 0
        assert texts(ready) == ("Undo", "Redo: point")
        for count in (1, 2):
            redo(iface)
            assert len(settled(ready).prompts) == count and target.featureCount() == 0
        redo(iface)
        assert target.featureCount() == 1 and not settled(ready).can_undo
        redo(iface)
        assert [(p.x, p.y) for p in settled(ready).prompts.points] == [
            pytest.approx((place("b").x(), place("b").y()), abs=2)
        ]
        assert texts(ready) == ("Undo: point", "Redo")

    def test_what_it_would_do(self, iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
        ready.dock.class_box.show_values({"class": "I1.1"})
        names = ready._actions.undo.text(), ready._actions.redo.text()
        assert texts(ready) == ("Undo", "Redo")
        drag(iface.canvas, place("c", -190, -190), place("c", 190, 190))
        settled(ready)
        assert texts(ready) == ("Undo: box", "Redo")
        click(iface.canvas, place("c"))
        settled(ready)
        assert texts(ready) == ("Undo: point", "Redo")
        click(iface.canvas, place("a"), modifiers=SHIFT)
        settled(ready)
        assert texts(ready) == ("Undo: point outside", "Redo")
        undo(iface)
        settled(ready)
        assert texts(ready) == ("Undo: point", "Redo: point outside")
        key(iface, Qt.Key.Key_Return)
        assert texts(ready) == ("Undo: polygon I1.1 in target", "Redo")
        undo(iface)
        settled(ready)
        assert texts(ready) == ("Undo: point", "Redo: polygon I1.1 in target")
        # The shortcut dialog of QGIS knows them by these names.
        assert (ready._actions.undo.text(), ready._actions.redo.text()) == names
        assert "Ctrl+Z" in ready._actions.undo.toolTip()

    def test_without_a_class(self, iface: Interface, ready: Interaction) -> None:
        draw(iface, ready, "a")
        assert texts(ready)[0] == "Undo: polygon in target"

    def test_a_message_with_a_button(self, iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
        draw(iface, ready, "a")
        undo(iface)
        assert iface.messages()[-1] == "Undone: polygon in target"
        QTest.mouseClick(button(iface, "Redo"), Qt.MouseButton.LeftButton)
        assert target.featureCount() == 1 and not ready.controller.drawing.can_undo
        assert iface.messages() == ["Redone: polygon in target"]
        QTest.mouseClick(button(iface, "Undo"), Qt.MouseButton.LeftButton)
        assert target.featureCount() == 0 and ready.controller.drawing.can_undo

    def test_the_button_goes_when_it_is_out_of_date(
        self, iface: Interface, ready: Interaction, target: QgsVectorLayer
    ) -> None:
        draw(iface, ready, "a")
        undo(iface)
        click(iface.canvas, place("b"))
        assert iface.messages() == []
        drawing = settled(ready)
        assert len(drawing.prompts) == 2
        # Nothing of what was drawn since is lost by a redo.
        assert texts(ready)[1] == "Redo"
        redo(iface)
        assert ready.controller.drawing == drawing and target.featureCount() == 0
        key(iface, Qt.Key.Key_Escape)
        redo(iface)
        assert target.featureCount() == 1

    def test_backspace_takes_back_prompts_only(
        self, iface: Interface, ready: Interaction, target: QgsVectorLayer
    ) -> None:
        draw(iface, ready, "a")
        click(iface.canvas, place("b"))
        settled(ready)
        for _ in range(3):
            key(iface, Qt.Key.Key_Backspace)
            settled(ready)
        assert target.featureCount() == 1

    def test_a_refined_polygon(self, iface: Interface, ready: Interaction, tmp_path: Path) -> None:
        """Its undo goes back to the refining, and from there to the polygon as it was drawn."""
        layer = create_target_layer(tmp_path / "h.gpkg", ready.controller.store.crs)
        QgsProject.instance().addMapLayer(layer)
        ready.dock.layers.setLayer(layer)
        draw(iface, ready, "a")
        layer.selectAll()
        key(iface, Qt.Key.Key_R)
        settled(ready)
        click(iface.canvas, place("b"))
        settled(ready)
        key(iface, Qt.Key.Key_Return)
        assert texts(ready)[0] == "Undo: refined polygon in h"
        undo(iface)
        assert ready.refining.current is not None and len(settled(ready).prompts) == 2
        for _ in range(2):
            undo(iface)
            settled(ready)
        assert texts(ready)[0] == "Undo: polygon in h" and layer.featureCount() == 1
        undo(iface)
        assert layer.featureCount() == 0 and len(settled(ready).prompts) == 1 and ready.refining.current is None
        redo(iface)
        assert layer.featureCount() == 1 and texts(ready) == ("Undo: polygon in h", "Redo: refined polygon in h")
        small = next(layer.getFeatures()).geometry().area()
        redo(iface)
        assert layer.featureCount() == 1 and next(layer.getFeatures()).geometry().area() > 2 * small
        assert not ready.controller.drawing.can_undo and texts(ready)[1] == "Redo"


class TestHeldKey:
    def test_it_takes_back_one_prompt_or_one_polygon(
        self, iface: Interface, ready: Interaction, target: QgsVectorLayer
    ) -> None:
        draw(iface, ready, "a", "b")
        for dx in (0, 10):
            click(iface.canvas, place("c", dx))
        settled(ready)
        for prompts, polygons in ((1, 2), (0, 2), (1, 1)):
            undo(iface)
            for _ in range(5):
                settled(ready)
                hold_on(iface)
            assert len(settled(ready).prompts) == prompts and target.featureCount() == polygons

    def test_it_never_reaches_the_undo_of_qgis(self, iface: Interface, ready: Interaction) -> None:
        taken: list[int] = []
        of_qgis = QAction("Undo of QGIS", iface.window)
        of_qgis.setShortcut("Ctrl+Z")
        of_qgis.triggered.connect(lambda: taken.append(1))
        iface.window.addAction(of_qgis)
        iface.window.activateWindow()
        iface.canvas.setFocus()
        click(iface.canvas, place("a"))
        settled(ready)
        undo(iface)
        settled(ready)
        assert not ready._actions.undo.isEnabled()
        for kind in (QEvent.Type.ShortcutOverride, QEvent.Type.KeyPress):
            event = QKeyEvent(kind, int(Qt.Key.Key_Z), CONTROL, "", True)
            event.ignore()
            QApplication.sendEvent(iface.canvas, event)
            assert event.isAccepted()
        assert taken == []
        undo(iface)
        assert taken == [1]

    def test_redo(self, iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
        draw(iface, ready, "a")
        undo(iface)
        undo(iface)
        settled(ready)
        redo(iface)
        for _ in range(5):
            settled(ready)
            hold_on(iface, CONTROL | SHIFT)
        assert settled(ready).can_undo and target.featureCount() == 0
        redo(iface)
        assert target.featureCount() == 1


class TestLayers:
    def test_a_file(self, iface: Interface, ready: Interaction, tmp_path: Path) -> None:
        for suffix in ("gpkg", "shp"):
            layer = create_target_layer(tmp_path / f"parcels.{suffix}", ready.controller.store.crs)
            QgsProject.instance().addMapLayer(layer)
            ready.dock.layers.setLayer(layer)
            draw(iface, ready, "a", "b")
            undo(iface)
            assert layer.featureCount() == 1
            key(iface, Qt.Key.Key_Escape)
            undo(iface)
            assert layer.featureCount() == 0
            key(iface, Qt.Key.Key_Escape)
            redo(iface)
            redo(iface)
            assert layer.featureCount() == 2
            assert layer.commitChanges(), layer.commitErrors()
            assert layer.featureCount() == 2

    def test_all_parts_at_once(self, iface: Interface, ready: Interaction) -> None:
        layer = layer_named("single", "Polygon")
        ready.dock.layers.setLayer(layer)
        click(iface.canvas, place("a"))
        click(iface.canvas, place("b"))
        settled(ready)
        key(iface, Qt.Key.Key_Return)
        assert layer.featureCount() == 2
        undo(iface)
        assert layer.featureCount() == 0 and len(settled(ready).prompts) == 2
        redo(iface)
        assert layer.featureCount() == 2

    def test_the_layer_that_got_the_polygon(self, iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
        other = layer_named("other")
        draw(iface, ready, "a")
        ready.dock.layers.setLayer(other)
        assert texts(ready)[0] == "Undo: polygon in target"
        draw(iface, ready, "b")
        ready.dock.layers.setLayer(target)
        draw(iface, ready, "c")
        ready.dock.layers.setLayer(None)
        for name, counts in (("target", (1, 1)), ("other", (1, 0)), ("target", (0, 0))):
            assert texts(ready)[0] == f"Undo: polygon in {name}"
            undo(iface)
            assert (target.featureCount(), other.featureCount()) == counts
            key(iface, Qt.Key.Key_Escape)
        for counts in ((1, 0), (1, 1), (2, 1)):
            redo(iface)
            assert (target.featureCount(), other.featureCount()) == counts

    def test_edits_of_other_tools_have_their_own_names(
        self, iface: Interface, ready: Interaction, target: QgsVectorLayer
    ) -> None:
        draw(iface, ready, "a")
        target.beginEditCommand("Move vertex")
        feature = next(target.getFeatures())
        target.moveVertex(700001, 4399999, feature.id(), 0)
        target.endEditCommand()
        assert texts(ready)[0] == "Undo in target: Move vertex"
        undo(iface)
        assert iface.messages()[-1] == "Undone in target: Move vertex"
        assert target.featureCount() == 1 and not ready.controller.drawing.can_undo
        assert texts(ready) == ("Undo: polygon in target", "Redo in target: Move vertex")
        # The same text as ours is no reason to take it for ours.
        add_by_hand(target, "Add polygon")
        assert texts(ready) == ("Undo in target: Add polygon", "Redo")
        undo(iface)
        assert texts(ready)[0] == "Undo: polygon in target"

    def test_another_edit_in_place_of_an_undone_polygon(
        self, iface: Interface, ready: Interaction, target: QgsVectorLayer
    ) -> None:
        draw(iface, ready, "a")
        undo(iface)
        key(iface, Qt.Key.Key_Escape)
        add_by_hand(target, "Add polygon")
        assert texts(ready) == ("Undo in target: Add polygon", "Redo")

    def test_undo_in_qgis_itself(self, iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
        draw(iface, ready, "a", "b")
        target.undoStack().undo()
        assert texts(ready) == ("Undo: polygon in target", "Redo: polygon in target")
        redo(iface)
        assert target.featureCount() == 2
        target.undoStack().setIndex(0)
        redo(iface)
        redo(iface)
        assert target.featureCount() == 2

    def test_edits_from_before_are_older(self, iface: Interface, ready: Interaction) -> None:
        other = layer_named("other")
        add_by_hand(other)
        draw(iface, ready, "a")
        ready.dock.layers.setLayer(other)
        assert texts(ready)[0] == "Undo: polygon in target"
        undo(iface)
        key(iface, Qt.Key.Key_Escape)
        assert texts(ready)[0] == "Undo in other: Add feature"

    def test_a_layer_that_was_removed(self, iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
        other = layer_named("other")
        draw(iface, ready, "a")
        ready.dock.layers.setLayer(other)
        draw(iface, ready, "b")
        undo(iface)
        QgsProject.instance().removeMapLayer(other.id())
        QApplication.processEvents()
        # The polygon is still on the map, with its prompts.
        assert settled(ready).has_polygon
        key(iface, Qt.Key.Key_Escape)
        assert texts(ready) == ("Undo: polygon in target", "Redo")
        undo(iface)
        assert target.featureCount() == 0

    @pytest.mark.parametrize("stops", [True, False])
    def test_saved_edits_are_not_undone(
        self, iface: Interface, ready: Interaction, target: QgsVectorLayer, stops: bool
    ) -> None:
        draw(iface, ready, "a", "b")
        undo(iface)
        assert target.commitChanges(stops), target.commitErrors()
        assert texts(ready) == ("Undo: point", "Redo")
        assert iface.messages() == []
        key(iface, Qt.Key.Key_Return)
        wait_until(lambda: target.featureCount() == 2)
        assert texts(ready)[0] == "Undo: polygon in target"
        for _ in range(3):
            undo(iface)
            settled(ready)
        assert target.featureCount() == 1

    def test_edits_that_were_rolled_back(self, iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
        draw(iface, ready, "a")
        target.rollBack()
        assert texts(ready) == ("Undo", "Redo")

    def test_a_layer_that_writes_through_a_transaction(
        self, iface: Interface, ready: Interaction, tmp_path: Path
    ) -> None:
        layer = create_target_layer(tmp_path / "h.gpkg", ready.controller.store.crs)
        QgsProject.instance().setAutoTransaction(True)
        QgsProject.instance().addMapLayer(layer)
        ready.dock.layers.setLayer(layer)
        draw(iface, ready, "a", "b")
        undo(iface)
        assert len(list(layer.getFeatures())) == 1 and settled(ready).has_polygon
        redo(iface)
        assert len(list(layer.getFeatures())) == 2
        layer.rollBack()
        QgsProject.instance().setAutoTransaction(False)


def test_the_prompts_come_back_with_another_store_object(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, blob_store: Path
) -> None:
    draw(iface, ready, "a")
    before = ready.controller.store
    ready.open_store(blob_store)
    wait_until(lambda: ready.controller.store is not before)
    undo(iface)
    assert settled(ready).has_polygon and target.featureCount() == 0
    redo(iface)
    assert target.featureCount() == 1 and not ready.controller.drawing.can_undo


def test_options_changed_since_apply_to_what_comes_back(
    iface: Interface, ready: Interaction, target: QgsVectorLayer
) -> None:
    draw(iface, ready, "a")
    ready._settings.simplify_pixels = 20.0
    ready.apply_settings()
    undo(iface)
    coarse = settled(ready).result.geometry
    redo(iface)
    fine = next(target.getFeatures()).geometry()
    assert fine.constGet().nCoordinates() > 2 * len(coarse.exterior.coords)


class TestKeysAreFast:
    """Keys that come before an answer belong to what is on the map once it is there."""

    def test_undo_right_after_accepting(self, iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
        draw(iface, ready, "a")
        click(iface.canvas, place("b"))
        key(iface, Qt.Key.Key_Return)
        undo(iface)
        wait_until(lambda: not ready.controller.is_busy or ready.controller.drawing.can_undo)
        drawing = settled(ready)
        # The polygon that was accepted last is drawn again.
        assert target.featureCount() == 1 and len(drawing.prompts.points) == 1
        undo(iface)
        redo(iface)
        redo(iface)
        settled(ready)
        assert target.featureCount() == 2

    def test_undo_while_the_image_opens(
        self,
        iface: Interface,
        plugin: GeoSamPlugin,
        raster_with_store: QgsRasterLayer,
        blobs: BlobDecoder,
        target: QgsVectorLayer,
    ) -> None:
        interaction = plugin.interaction
        assert interaction is not None
        interaction.set_active(True)
        interaction.dock.layers.setLayer(target)
        add_by_hand(target)
        show_layer(iface, raster_with_store)
        click(iface.canvas, place("a"))
        assert interaction.controller.is_waiting
        undo(iface)
        wait_until(lambda: interaction.controller.drawing.can_redo)
        assert not settled(interaction).can_undo and target.featureCount() == 1

    def test_redo_keeps_out_what_was_undone_before_a_new_prompt(
        self, iface: Interface, ready: Interaction, target: QgsVectorLayer
    ) -> None:
        draw(iface, ready, "a")
        undo(iface)
        click(iface.canvas, place("a", 10))
        settled(ready)
        # QGIS would redo the edit of the active layer.
        assert ready._actions.redo.isEnabled()
        redo(iface)
        assert settled(ready).can_undo and target.featureCount() == 0

    def test_a_class_after_accepting_is_for_the_next_polygon(
        self, iface: Interface, ready: Interaction, target: QgsVectorLayer
    ) -> None:
        items = ClassItem("I1.1", "Arable"), ClassItem("E2.6", "Grassland")
        apply_classes(target, "class", ClassList("class", items))
        for number, name in enumerate("ab"):
            key(iface, Qt.Key.Key_1 + number)
            click(iface.canvas, place(name))
            key(iface, Qt.Key.Key_Return)
        assert ready.controller.is_busy
        wait_until(lambda: target.featureCount() == 2)
        assert [feature["class"] for feature in sorted(target.getFeatures(), key=lambda f: -f.id())] == ["I1.1", "E2.6"]
