"""The whole plugin in a main window with a real canvas, used with mouse and keys."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from osgeo import gdal
from qgis.core import (
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsField,
    QgsGeometry,
    QgsLayerTreeModel,
    QgsMapThemeCollection,
    QgsPointXY,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsVector,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QEvent, Qt, QVariant
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import (
    QApplication,
    QCheckBox,
    QComboBox,
    QDialog,
    QDockWidget,
    QLineEdit,
    QListWidget,
    QMainWindow,
    QPushButton,
    QSpinBox,
    QToolBar,
    QToolButton,
)

from geosam_es.errors import NoTargetError
from geosam_es.gui.interaction import Interaction
from geosam_es.gui.plugin import GeoSamPlugin, help_page
from geosam_es.gui.stores.open_store import project_raster
from geosam_es.qgis_support import dependencies
from geosam_es.qgis_support.live_store import live_options
from geosam_es.qgis_support.settings import Settings
from geosam_es.store import StoreReader, store_path_for
from geosam_es.store.reader import TileState
from tests.helpers import BlobDecoder
from tests.qgis.support import (
    DISCS,
    LEFT,
    PIXEL,
    SIDE,
    TOP,
    TRANSFORM,
    Interface,
    click,
    drag,
    key,
    make_sheet,
    move,
    on_screen,
    place,
    settled,
    show_layer,
    wait_until,
    with_store,
)

NONE = Qt.KeyboardModifier.NoModifier
CONTROL = Qt.KeyboardModifier.ControlModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier


def tool_action(plugin: GeoSamPlugin) -> Any:
    return next(a for a in plugin._iface.group.actions() if a.objectName() == "geosamEsTool")


class TestLoading:
    def test_loading_adds_everything_and_unloading_removes_it(self, iface: Interface) -> None:
        actions, items = list(iface.group.actions()), len(iface.canvas.scene().items())
        for _ in range(3):
            plugin = GeoSamPlugin(iface)
            plugin.initGui()
            names = ["GeoSAM-ES: Segment by clicking", "GeoSAM-ES: Check coverage"]
            assert [action.text() for action in iface.raster_menu.actions()] == names
            assert len(iface.help_menu.actions()) == 1
            assert len(iface.options_factories) == 1
            assert QgsApplication.processingRegistry().providerById("geosam_es") is not None
            bar = iface.window.findChild(QToolBar, "GeoSamEsToolBar")
            assert bar.actions() == [tool_action(plugin)]
            assert not iface.window.findChild(QDockWidget, "GeoSamEsDock").isVisible()
            tool_action(plugin).trigger()
            assert iface.window.findChild(QDockWidget, "GeoSamEsDock").isVisible()
            plugin.unload()
            QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
            QApplication.processEvents()
            assert QgsApplication.processingRegistry().providerById("geosam_es") is None
            assert iface.raster_menu.actions() == iface.help_menu.actions() == []
            assert iface.options_factories == iface.shortcuts == []
            assert iface.group.actions() == actions
            assert iface.window.findChildren(QToolBar) == []
            assert [d for d in iface.window.findChildren(QDockWidget) if d.isVisible()] == []
            assert len(iface.canvas.scene().items()) == items

    def test_unloading_with_the_tool_active_and_something_drawn(
        self, iface: Interface, plugin: GeoSamPlugin, ready: Interaction
    ) -> None:
        click(iface.canvas, place("a"))
        plugin.unload()
        assert iface.canvas.mapTool() is None
        click(iface.canvas, place("b"))
        plugin.initGui()
        tool_action(plugin).trigger()
        assert iface.canvas.mapTool() is not None

    def test_shortcuts_have_distinct_names_and_keys(self, iface: Interface, plugin: GeoSamPlugin) -> None:
        names = [action.text() for action in iface.shortcuts]
        keys = [action.shortcut().toString() for action in iface.shortcuts if not action.shortcut().isEmpty()]
        assert len(set(names)) == len(names)
        assert len(set(keys)) == len(keys)
        assert all(action.toolTip() for action in iface.shortcuts)

    def test_without_onnxruntime_the_plugin_says_so_and_works_once_it_is_installed(
        self, iface: Interface, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        find = importlib.util.find_spec
        plugin = GeoSamPlugin(iface)
        with monkeypatch.context() as without:
            without.setattr(
                dependencies.importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name)
            )
            plugin.initGui()
            tool_action(plugin).trigger()
            assert len(iface.messages()) == 1
            assert iface.messages()[0].endswith("Missing Python packages: onnxruntime")
            assert not tool_action(plugin).isChecked()
            assert plugin.interaction is None
        tool_action(plugin).trigger()
        assert plugin.interaction is not None
        assert iface.canvas.mapTool() is plugin.interaction.tool
        plugin.unload()

    @pytest.mark.parametrize(
        ("reason", "remedy"),
        [("DLL load failed while importing x", "Visual C++"), ("undefined symbol: x", "press Install to replace it")],
    )
    def test_onnxruntime_that_does_not_load_gets_the_remedy_of_the_installation(
        self,
        iface: Interface,
        plugin: GeoSamPlugin,
        raster_with_store: QgsRasterLayer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        reason: str,
        remedy: str,
    ) -> None:
        """It is imported at the first click only."""
        (tmp_path / "onnxruntime.py").write_text(f"raise ImportError({reason!r})")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
        start(iface, plugin, raster_with_store)
        click(iface.canvas, place("a"))
        wait_until(iface.messages)
        assert len(iface.messages()) == 1 and remedy in iface.messages()[0] and "pip" not in iface.messages()[0]
        assert "Install" in [button.text() for button in iface.bar.findChildren(QPushButton)]

    @pytest.mark.parametrize("is_unloaded", [False, True])
    def test_installed_packages_are_loaded_in_the_background(
        self, iface: Interface, monkeypatch: pytest.MonkeyPatch, is_unloaded: bool
    ) -> None:
        plugin = GeoSamPlugin(iface)
        with monkeypatch.context() as without:
            without.setattr(dependencies.importlib.util, "find_spec", lambda _: None)
            plugin.initGui()
        assert plugin.interaction is None and plugin._install_message is not None
        plugin._install_message._installed()
        assert plugin.interaction is None
        if is_unloaded:
            plugin.unload()
        wait_until(lambda: QgsApplication.taskManager().countActiveTasks() == 0)
        wait_until(lambda: is_unloaded or plugin.interaction is not None)
        assert (plugin.interaction is None) == is_unloaded
        assert not is_unloaded or not iface.group.actions()
        plugin.unload()

    @pytest.mark.parametrize(
        ("language", "word"), [("es", "Gestos"), ("es_ES", "Gestos"), ("en_US", "Gestures"), ("eu", "Gestures")]
    )
    def test_help_comes_in_the_users_language(self, language: str, word: str) -> None:
        assert word in help_page(language).read_text(encoding="utf-8")

    def test_options_are_applied(self, iface: Interface, plugin: GeoSamPlugin, ready: Interaction) -> None:
        page = iface.options_factories[0].createWidget(iface.window)
        page.findChild(object, "fill_opacity")
        page._opacity.setValue(80)
        page._colour.setColor(Qt.GlobalColor.red)
        page.apply()
        band = ready.overlay.bands["proposal"]
        assert band.fillColor().alphaF() == pytest.approx(0.8, abs=0.01)
        assert band.strokeColor().name() == "#ff0000"


class TestGestures:
    def test_click_refine_accept(self, iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
        click(iface.canvas, place("a"))
        drawing = settled(ready)
        assert drawing.result.geometry.area == pytest.approx(3.1416 * (90 * PIXEL) ** 2, rel=0.05)
        click(iface.canvas, place("b"))
        click(iface.canvas, place("b", 10, 10), modifiers=SHIFT)
        assert [p.positive for p in settled(ready).prompts.points] == [True, True, False]
        key(iface, Qt.Key.Key_Backspace)
        key(iface, Qt.Key.Key_Z, CONTROL)
        assert len(settled(ready).prompts) == 1
        key(iface, Qt.Key.Key_Z, CONTROL | SHIFT)
        assert len(settled(ready).prompts) == 2
        click(iface.canvas, place("a"), Qt.MouseButton.RightButton)
        wait_until(lambda: target.featureCount() == 1)
        assert target.undoStack().count() == 1
        assert target.isEditable()
        assert ready.controller.drawing.result is None

    def test_box_tab_enter(self, iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
        drag(iface.canvas, place("c", -190, -190), place("c", 190, 190))
        first = settled(ready).result
        key(iface, Qt.Key.Key_Tab)
        second = settled(ready).result
        QTest.keyClick(iface.canvas, Qt.Key.Key_Backtab, SHIFT)
        back = settled(ready).result
        key(iface, Qt.Key.Key_Tab)
        assert (first.rank, second.rank, back.rank, settled(ready).result.rank) == (0, 1, 0, 1)
        assert iface.canvas.mapTool() is ready.tool
        key(iface, Qt.Key.Key_Enter)
        wait_until(lambda: target.featureCount() == 1)

    def test_escape_discards(self, iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
        click(iface.canvas, place("a"))
        settled(ready)
        key(iface, Qt.Key.Key_Escape)
        assert ready.controller.drawing.result is None
        click(iface.canvas, place("a"), Qt.MouseButton.RightButton)
        QApplication.processEvents()
        assert target.featureCount() == 0

    def test_a_key_switches_the_preview(self, iface: Interface, ready: Interaction) -> None:
        band = ready.overlay.bands["preview"]
        spot = on_screen(iface.canvas, place("b"))
        move(iface.canvas, spot, Qt.MouseButton.NoButton)
        key(iface, Qt.Key.Key_P)
        move(iface.canvas, spot, Qt.MouseButton.NoButton)
        wait_until(lambda: band.numberOfVertices() > 10)
        assert ready.controller.drawing.prompts.points == ()
        key(iface, Qt.Key.Key_P)
        assert band.numberOfVertices() == 0

    def test_clicks_work_after_zooming(self, iface: Interface, ready: Interaction) -> None:
        before = iface.canvas.mapUnitsPerPixel()
        iface.canvas.zoomIn()
        assert iface.canvas.mapUnitsPerPixel() < before
        click(iface.canvas, iface.canvas.center())
        assert len(settled(ready).prompts) == 1

    def test_with_nothing_drawn_ctrl_z_belongs_to_qgis(self, iface: Interface, ready: Interaction) -> None:
        assert not any(a.isEnabled() for a in (ready._actions.undo, ready._actions.undo_prompt))

    def test_with_nothing_drawn_ctrl_z_undoes_edits_of_the_layer(
        self, iface: Interface, ready: Interaction, target: QgsVectorLayer
    ) -> None:
        """In the target layer, also if another layer is active."""
        click(iface.canvas, place("a"))
        key(iface, Qt.Key.Key_Return)
        wait_until(lambda: target.featureCount() == 1)
        click(iface.canvas, place("b"))
        settled(ready)
        key(iface, Qt.Key.Key_Z, CONTROL)
        settled(ready)
        assert target.featureCount() == 1
        key(iface, Qt.Key.Key_Backspace)
        assert target.featureCount() == 1
        key(iface, Qt.Key.Key_Escape)
        key(iface, Qt.Key.Key_Z, CONTROL)
        assert target.featureCount() == 0
        key(iface, Qt.Key.Key_Z, CONTROL | SHIFT)
        assert target.featureCount() == 1

    def test_prompts_and_polygon_are_drawn(self, iface: Interface, ready: Interaction) -> None:
        bands = ready.overlay.bands
        click(iface.canvas, place("a"))
        click(iface.canvas, place("b"), modifiers=SHIFT)
        settled(ready)
        assert bands["positive"].numberOfVertices() == 1
        assert bands["negative"].numberOfVertices() == 1
        assert bands["proposal"].numberOfVertices() > 20
        assert " m² · sure (0.9" in iface.window.statusBar().currentMessage()
        assert iface.window.statusBar().currentMessage() == ready.dock._result.text()
        assert " ms" in ready.dock._result.toolTip()

    def test_buttons_do_what_the_keys_do(
        self, iface: Interface, plugin: GeoSamPlugin, ready: Interaction, target: QgsVectorLayer
    ) -> None:
        click(iface.canvas, place("a"))
        settled(ready)
        accept = next(b for b in ready.dock.findChildren(QToolButton) if b.text() == "Accept ⏎")
        QTest.mouseClick(accept, Qt.MouseButton.LeftButton)
        wait_until(lambda: target.featureCount() == 1)


class TestAccepting:
    def test_without_a_layer_the_polygon_stays(self, iface: Interface, ready: Interaction) -> None:
        ready.dock.layers.setLayer(None)
        click(iface.canvas, place("a"))
        settled(ready)
        key(iface, Qt.Key.Key_Return)
        assert "target layer" in iface.messages()[-1]
        assert ready.controller.drawing.has_polygon

    def test_a_layer_that_became_read_only(self, iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
        target.setReadOnly(True)
        click(iface.canvas, place("a"))
        settled(ready)
        key(iface, Qt.Key.Key_Return)
        assert "read-only" in iface.messages()[-1]
        assert ready.controller.drawing.has_polygon

    def test_a_layer_that_was_removed(self, iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
        click(iface.canvas, place("a"))
        settled(ready)
        QgsProject.instance().removeMapLayer(target.id())
        key(iface, Qt.Key.Key_Return)
        assert "target layer" in iface.messages()[-1]
        assert ready.controller.drawing.has_polygon

    def test_classes_by_number_stick_and_colour_the_polygon(
        self, iface: Interface, ready: Interaction, target: QgsVectorLayer, tmp_path: Path
    ) -> None:
        csv = tmp_path / "classes.csv"
        csv.write_text("code,name,color\nG1,Forest,#00aa00\nC1,Water,#0000ff\n")
        ready.dock.class_box.csv_chosen.emit(str(csv))
        key(iface, Qt.Key.Key_2)
        assert ready.overlay.bands["proposal"].strokeColor().name() == "#0000ff"
        for name in ("a", "b"):
            click(iface.canvas, place(name))
            key(iface, Qt.Key.Key_Return)
            wait_until(lambda: not ready.controller.drawing.can_undo)
        assert [feature["class"] for feature in target.getFeatures()] == ["C1", "C1"]

    def test_the_form_is_opened_where_wanted(
        self, iface: Interface, ready: Interaction, target: QgsVectorLayer
    ) -> None:
        ready._settings.open_form = True
        iface.form_answer = False
        click(iface.canvas, place("a"))
        settled(ready)
        key(iface, Qt.Key.Key_Return)
        assert len(iface.forms) == 1
        assert target.featureCount() == 0
        assert ready.controller.drawing.has_polygon

    def test_refining_restores_the_prompts_and_replaces_the_geometry(
        self, iface: Interface, ready: Interaction, tmp_path: Path
    ) -> None:
        ready.dock.new_layer_wanted.emit(str(tmp_path / "new.gpkg"))
        layer = ready.dock.layer
        assert layer is not None
        click(iface.canvas, place("a"))
        key(iface, Qt.Key.Key_Return)
        wait_until(lambda: layer.featureCount() == 1)
        before = next(layer.getFeatures())
        layer.selectAll()
        key(iface, Qt.Key.Key_R)
        assert len(settled(ready).prompts) == 1
        click(iface.canvas, place("b"))
        key(iface, Qt.Key.Key_Return)
        wait_until(lambda: not ready.controller.drawing.can_undo)
        after = next(layer.getFeatures())
        assert layer.featureCount() == 1
        assert after.id() == before.id()
        assert after.geometry().area() > 2 * before.geometry().area()
        assert layer.undoStack().count() == 2
        layer.undoStack().undo()
        assert next(layer.getFeatures()).geometry().equals(before.geometry())

    def test_refining_starts_from_the_same_polygon_at_any_scale(
        self, iface: Interface, ready: Interaction, tmp_path: Path
    ) -> None:
        """It uses the chosen candidate and the level that answered, not the level of the current view."""
        ready.dock.new_layer_wanted.emit(str(tmp_path / "new.gpkg"))
        layer = ready.dock.layer
        assert layer is not None
        click(iface.canvas, place("a"))
        settled(ready)
        key(iface, Qt.Key.Key_Tab)
        chosen = settled(ready).result
        assert chosen.rank == 1
        key(iface, Qt.Key.Key_Return)
        wait_until(lambda: layer.featureCount() == 1)
        iface.canvas.zoomByFactor(4)
        QApplication.processEvents()
        layer.selectAll()
        key(iface, Qt.Key.Key_R)
        again = settled(ready).result
        assert (again.rank, again.level) == (chosen.rank, chosen.level)
        assert again.geometry.symmetric_difference(chosen.geometry).area < 0.01 * chosen.geometry.area

    def test_refining_a_selected_polygon_without_prompts(
        self, iface: Interface, ready: Interaction, target: QgsVectorLayer
    ) -> None:
        click(iface.canvas, place("a"))
        key(iface, Qt.Key.Key_Return)
        wait_until(lambda: target.featureCount() == 1)
        target.selectAll()
        key(iface, Qt.Key.Key_R)
        (feature,) = target.getFeatures()
        assert settled(ready).result.geometry.area == pytest.approx(feature.geometry().area())
        assert ready._actions.refine.isChecked() and target.selectedFeatureCount() == 0


def load_classes(ready: Interaction, folder: Path) -> None:
    csv = folder / "clases.csv"
    csv.write_text("code;name;color\nG1;Encinar ibérico;#00aa00\nC1;Láminas de agua;#0000ff\n", encoding="utf-8")
    ready.dock.class_box.csv_chosen.emit(str(csv))


def type_key(code: Any, modifiers: Any = NONE) -> None:
    """Press a key where the focus is."""
    QTest.keyClick(QApplication.focusWidget(), code, modifiers)


class TestKeysAndFocus:
    @pytest.fixture
    def shown(self, iface: Interface, ready: Interaction, target: QgsVectorLayer, tmp_path: Path) -> Interaction:
        load_classes(ready, tmp_path)
        iface.window.activateWindow()
        QApplication.setActiveWindow(iface.window)
        iface.canvas.setFocus()
        QApplication.processEvents()
        return ready

    def test_keys_work_after_clicks_all_over_the_panel(self, iface: Interface, shown: Interaction) -> None:
        dock = shown.dock
        for number, spot in enumerate((dock.widget().rect().center(), dock.widget().rect().bottomLeft())):
            for widget in (dock, dock.widget(), dock.widget().widget(), dock.class_box):
                QTest.mouseClick(widget, Qt.MouseButton.LeftButton, NONE, spot)
            dock.class_box.choose(number)
            type_key((Qt.Key.Key_2, Qt.Key.Key_1)[number])
            assert dock.class_box.attributes() == {"class": ("C1", "G1")[number]}

    def test_the_pointer_brings_the_keys_to_the_map(
        self, iface: Interface, shown: Interaction, target: QgsVectorLayer
    ) -> None:
        """Whatever had the focus: the class box here, or a list of QGIS."""
        other = QListWidget()
        other.addItems(["2 two", "1 one"])
        iface.window.addToolBar("other").addWidget(other)
        spot = on_screen(iface.canvas, place("a"))
        for widget, wanted in ((shown.dock.class_box._search, Qt.Key.Key_2), (other, Qt.Key.Key_1)):
            widget.setFocus()
            type_key(wanted)
            move(iface.canvas, spot, Qt.MouseButton.NoButton)
            type_key(wanted)
            assert iface.canvas.hasFocus()
        assert shown.dock.class_box.attributes() == {"class": "G1"}
        click(iface.canvas, place("a"))
        type_key(Qt.Key.Key_Return)
        wait_until(lambda: target.featureCount() == 1)
        assert next(target.getFeatures())["class"] == "G1"

    def test_entering_the_map_is_enough(self, iface: Interface, shown: Interaction) -> None:
        shown.dock.class_box._search.setFocus()
        QApplication.sendEvent(iface.canvas.viewport(), QEvent(QEvent.Type.Enter))
        assert iface.canvas.hasFocus()

    def test_digits_are_typed_while_the_pointer_is_outside(self, iface: Interface, shown: Interaction) -> None:
        search = shown.dock.class_box._search
        QTest.mouseClick(search, Qt.MouseButton.LeftButton)
        assert search.hasFocus()
        type_key(Qt.Key.Key_2)
        assert search.text() == "2" and shown.dock.class_box.attributes() == {}

    def test_enter_in_the_class_box_goes_back_and_accepts_nothing(
        self, iface: Interface, shown: Interaction, target: QgsVectorLayer
    ) -> None:
        click(iface.canvas, place("a"))
        settled(shown)
        search = shown.dock.class_box._search
        QTest.mouseClick(search, Qt.MouseButton.LeftButton)
        QTest.keyClicks(search, "lamin")
        type_key(Qt.Key.Key_Return)
        assert iface.canvas.hasFocus() and target.featureCount() == 0
        assert shown.controller.drawing.has_polygon
        type_key(Qt.Key.Key_Return)
        wait_until(lambda: target.featureCount() == 1)
        assert next(target.getFeatures())["class"] == "C1"

    @pytest.mark.parametrize("kind", [QDialog, QMainWindow], ids=["dialog", "layout"])
    def test_another_window_in_use_keeps_the_keys(self, iface: Interface, shown: Interaction, kind: Any) -> None:
        dialog = kind(iface.window)
        line = QLineEdit(dialog)
        dialog.show()
        QApplication.setActiveWindow(dialog)
        line.setFocus()
        move(iface.canvas, on_screen(iface.canvas, place("a")), Qt.MouseButton.NoButton)
        assert line.hasFocus()
        dialog.close()
        dialog.deleteLater()

    def test_a_floating_panel_does_not_keep_the_keys(self, iface: Interface, shown: Interaction) -> None:
        shown.dock.setFloating(True)
        shown.dock.show()
        QApplication.setActiveWindow(shown.dock)
        shown.dock.class_box._search.setFocus()
        assert shown.dock.class_box._search.hasFocus()
        move(iface.canvas, on_screen(iface.canvas, place("a")), Qt.MouseButton.NoButton)
        wait_until(lambda: iface.window.isActiveWindow() and iface.canvas.hasFocus(), 5)

    def test_an_inactive_tool_leaves_the_focus_alone(self, iface: Interface, shown: Interaction) -> None:
        iface.canvas.unsetMapTool(shown.tool)
        shown.dock.class_box._search.setFocus()
        QApplication.sendEvent(iface.canvas.viewport(), QEvent(QEvent.Type.Enter))
        assert shown.dock.class_box._search.hasFocus()

    def test_the_class_is_beside_the_pointer(self, iface: Interface, shown: Interaction) -> None:
        label, canvas = shown.tool.label, iface.canvas
        move(canvas, on_screen(canvas, place("a")), Qt.MouseButton.NoButton)
        assert not label.isVisible()
        key(iface, Qt.Key.Key_2)
        for name in ("a", "b"):
            spot = on_screen(canvas, place(name))
            move(canvas, spot, Qt.MouseButton.NoButton)
            assert label.isVisible() and label.text() == "C1 Láminas de agua"
            assert label.geometry().adjusted(-30, -30, 30, 30).contains(spot)
            assert not label.geometry().contains(spot)
            assert canvas.viewport().rect().contains(label.geometry())
        corner = canvas.viewport().rect().bottomRight()
        move(canvas, corner, Qt.MouseButton.NoButton)
        assert canvas.viewport().rect().contains(label.geometry()) and not label.geometry().contains(corner)
        click(canvas, place("a"))
        assert len(settled(shown).prompts) == 1
        QApplication.sendEvent(canvas.viewport(), QEvent(QEvent.Type.Leave))
        assert not label.isVisible()
        canvas.unsetMapTool(shown.tool)
        move(canvas, on_screen(canvas, place("a")), Qt.MouseButton.NoButton)
        assert not label.isVisible()

    def test_composite_classes_are_written(self, iface: Interface, shown: Interaction, target: QgsVectorLayer) -> None:
        target.dataProvider().addAttributes(
            [QgsField(name, kind) for name, kind in zip(("h1", "p1", "h2", "p2"), (QVariant.String, QVariant.Int) * 2)]
        )
        target.updateFields()
        box = shown.dock.class_box
        box.mix_fields.choose(["h1", "p1", "h2", "p2"])
        box.choose(1)
        box.toggle(0)
        click(iface.canvas, place("a"))
        assert shown.tool.label.text() == "60 % C1, 40 % G1"
        key(iface, Qt.Key.Key_Return)
        wait_until(lambda: target.featureCount() == 1)
        written = next(target.getFeatures())
        assert [written[name] for name in ("class", "h1", "p1", "h2", "p2")] == ["C1", "C1", 60, "G1", 40]


def typed_class(interaction: Interaction) -> QLineEdit:
    lines = interaction.dock.class_box.findChildren(QLineEdit)
    return next(line for line in lines if line.placeholderText() == "Class of the next polygons")


class TestTypedWhileOpening:
    """An accepted polygon gets what was chosen when it was accepted, however long its image takes to open."""

    @pytest.fixture
    def opening(
        self,
        iface: Interface,
        plugin: GeoSamPlugin,
        blobs: BlobDecoder,
        target: QgsVectorLayer,
        raster_with_store: QgsRasterLayer,
    ) -> Interaction:
        interaction = start(iface, plugin, raster_with_store)
        interaction.dock.layers.setLayer(target)
        interaction.stores.close_all()
        return interaction

    def written(self, target: QgsVectorLayer, count: int, name: str) -> list[Any]:
        wait_until(lambda: target.featureCount() == count)
        return [feature[name] for feature in sorted(target.getFeatures(), key=lambda feature: -feature.id())]

    def test_a_typed_class(self, iface: Interface, opening: Interaction, target: QgsVectorLayer) -> None:
        line = typed_class(opening)
        line.setText("field")
        click(iface.canvas, place("a"))
        assert opening.stores.is_opening
        key(iface, Qt.Key.Key_Return)
        line.setText("")
        QTest.keyClicks(line, "wood")
        line.setText("field")
        line.setText("wood")
        click(iface.canvas, place("b"))
        key(iface, Qt.Key.Key_Return)
        assert self.written(target, 2, "class") == ["field", "wood"]

    def test_the_layer(self, iface: Interface, opening: Interaction, target: QgsVectorLayer) -> None:
        other = QgsVectorLayer(target.source(), "other", "memory")
        QgsProject.instance().addMapLayer(other)
        typed_class(opening).setText("field")
        click(iface.canvas, place("a"))
        key(iface, Qt.Key.Key_Return)
        opening.dock.layers.setLayer(other)
        wait_until(lambda: target.featureCount() + other.featureCount() == 1)
        assert self.written(target, 1, "class") == ["field"]
        assert opening.dock.layer is other
        click(iface.canvas, place("b"))
        key(iface, Qt.Key.Key_Return)
        assert len(self.written(other, 1, "class")) == 1

    def test_the_layer_after_a_polygon_that_failed(
        self, iface: Interface, opening: Interaction, target: QgsVectorLayer
    ) -> None:
        other = QgsVectorLayer(target.source(), "other", "memory")
        QgsProject.instance().addMapLayer(other)
        click(iface.canvas, place("a"))
        key(iface, Qt.Key.Key_Return)
        opening.dock.layers.setLayer(other)
        opening.controller.give_up(NoTargetError("lost"))
        # The panel shows the layer that counts.
        assert opening.dock.layer is opening.dock.layers.currentLayer() is target
        opening.dock.layers.setLayer(other)
        assert opening.dock.layer is other

    def test_the_layer_is_removed(self, iface: Interface, opening: Interaction, target: QgsVectorLayer) -> None:
        QgsProject.instance().addMapLayer(QgsVectorLayer(target.source(), "other", "memory"))
        click(iface.canvas, place("a"))
        key(iface, Qt.Key.Key_Return)
        QgsProject.instance().removeMapLayer(target)
        assert opening.dock.layer is None
        wait_until(lambda: any("no target layer" in text for text in iface.messages()))
        assert opening.dock.layer is None

    def test_a_percentage(self, iface: Interface, opening: Interaction, target: QgsVectorLayer, tmp_path: Path) -> None:
        box = opening.dock.class_box
        target.dataProvider().addAttributes(
            [QgsField(name, kind) for name, kind in zip(("h1", "p1", "h2", "p2"), (QVariant.String, QVariant.Int) * 2)]
        )
        target.updateFields()
        (tmp_path / "classes.csv").write_text("code;name\nG1;wood\nC1;water\n")
        box.csv_chosen.emit(str(tmp_path / "classes.csv"))
        box.mix_fields.choose(["h1", "p1", "h2", "p2"])
        box.choose(0)
        box.toggle(1)
        click(iface.canvas, place("a"))
        key(iface, Qt.Key.Key_Return)
        next(spin for spin in box.findChildren(QSpinBox) if spin.toolTip().startswith("G1")).setValue(80)
        click(iface.canvas, place("b"))
        key(iface, Qt.Key.Key_Return)
        assert self.written(target, 2, "p1") == [60, 80]

    def test_a_class_typed_before_a_polygon_that_failed_counts_for_the_next(
        self, iface: Interface, opening: Interaction, target: QgsVectorLayer
    ) -> None:
        line = typed_class(opening)
        click(iface.canvas, place("a"))
        key(iface, Qt.Key.Key_Return)
        line.setText("wood")
        opening.controller.give_up(NoTargetError("lost"))
        wait_until(lambda: not opening.stores.is_opening)
        click(iface.canvas, place("b"))
        key(iface, Qt.Key.Key_Return)
        assert self.written(target, 1, "class") == ["wood"]


class TestNoTargetLayer:
    @pytest.fixture
    def asked(self, iface: Interface, ready: Interaction) -> Interaction:
        """A polygon is drawn and accepted, and no layer is chosen."""
        ready.dock.layers.setLayer(None)
        click(iface.canvas, place("a"))
        settled(ready)
        key(iface, Qt.Key.Key_Return)
        key(iface, Qt.Key.Key_Return)
        return ready

    def buttons(self, iface: Interface) -> list[QPushButton]:
        return [button for item in iface.bar.items() for button in item.findChildren(QPushButton)]

    @pytest.mark.parametrize(("index", "provider"), [(0, "ogr"), (1, "memory")])
    def test_a_button_makes_one_and_writes_the_polygon(
        self, iface: Interface, asked: Interaction, tmp_path: Path, index: int, provider: str
    ) -> None:
        assert len(iface.messages()) == 1 and "no target layer" in iface.messages()[0]
        load_classes(asked, tmp_path)
        key(iface, Qt.Key.Key_1)
        before = set(QgsProject.instance().mapLayers())
        QTest.mouseClick(self.buttons(iface)[index], Qt.MouseButton.LeftButton)
        layer = asked.dock.layer
        assert layer is not None and layer.id() not in before
        assert (layer.providerType(), layer.crs().authid()) == (provider, "EPSG:25830")
        wait_until(lambda: layer.featureCount() == 1)
        assert next(layer.getFeatures())["class"] == "G1"
        assert not asked.controller.drawing.has_polygon
        assert iface.messages() == []

    def test_the_layer_lies_beside_the_image(self, iface: Interface, asked: Interaction) -> None:
        QTest.mouseClick(self.buttons(iface)[0], Qt.MouseButton.LeftButton)
        store = asked.stores.store
        assert store is not None and asked.dock.layer is not None
        path = Path(asked.dock.layer.source().partition("|")[0])
        assert path.parent == store.path.parent
        assert path.name.startswith(f"{Path(store.metadata.raster.file_name).stem}_polygons")

    def test_choosing_a_layer_closes_the_message(
        self, iface: Interface, asked: Interaction, target: QgsVectorLayer
    ) -> None:
        asked.dock.layers.setLayer(target)
        assert iface.messages() == []

    def test_a_new_project_or_unloading_closes_the_message(
        self, iface: Interface, plugin: GeoSamPlugin, asked: Interaction
    ) -> None:
        QgsProject.instance().clear()
        assert iface.messages() == []
        asked._on_not_written(NoTargetError("No layer"))
        assert len(iface.messages()) == 1
        plugin.unload()
        assert iface.messages() == []
        plugin.initGui()

    def test_layers_that_become_active_are_not_the_target(self, iface: Interface, ready: Interaction) -> None:
        """As results of Processing do."""
        ready.dock.layers.setLayer(None)
        result = QgsVectorLayer("Polygon?crs=EPSG:25830", "Buffered", "memory")
        QgsProject.instance().addMapLayer(result)
        iface.setActiveLayer(result)
        assert ready.dock.layer is None


class TestManyCrs:
    @pytest.mark.parametrize("rotation", [0.0, 33.0])
    def test_raster_canvas_and_layer_in_three_crs(self, iface: Interface, ready: Interaction, rotation: float) -> None:
        project = QgsProject.instance()
        layer = QgsVectorLayer("MultiPolygon?crs=EPSG:3857", "mercator", "memory")
        project.addMapLayer(layer)
        ready.dock.layers.setLayer(layer)
        raster, canvas = (QgsCoordinateReferenceSystem(crs) for crs in ("EPSG:25830", "EPSG:4326"))
        to_canvas = QgsCoordinateTransform(raster, canvas, project)
        iface.canvas.setDestinationCrs(canvas)
        iface.canvas.setRotation(rotation)
        iface.canvas.setExtent(to_canvas.transformBoundingBox(QgsRectangle(700000, 4399250, 700750, 4400000)))
        QApplication.processEvents()
        click(iface.canvas, to_canvas.transform(place("b")))
        settled(ready)
        assert iface.canvas.extent().contains(ready.overlay.bands["proposal"].asGeometry().boundingBox())
        key(iface, Qt.Key.Key_Return)
        wait_until(lambda: layer.featureCount() == 1)
        polygon = next(layer.getFeatures()).geometry()
        polygon.transform(QgsCoordinateTransform(layer.crs(), raster, project))
        assert polygon.area() == pytest.approx(3.1416 * (120 * PIXEL) ** 2, rel=0.05)
        assert polygon.centroid().asPoint().distance(place("b")) < 2


class TestStores:
    def test_a_click_works_on_a_raster_that_was_never_encoded(
        self, iface: Interface, plugin: GeoSamPlugin, raster_with_store: QgsRasterLayer, target: QgsVectorLayer
    ) -> None:
        Settings().store_place = "beside"
        store = store_path_for(Path(raster_with_store.source()))
        shutil.rmtree(store)
        QgsProject.instance().addMapLayer(raster_with_store)
        iface.setActiveLayer(raster_with_store)
        tool_action(plugin).trigger()
        interaction = plugin.interaction
        assert interaction is not None
        interaction.dock.layers.setLayer(target)
        click(iface.canvas, place("c"))
        click(iface.canvas, place("c"), Qt.MouseButton.RightButton)
        wait_until(lambda: target.featureCount() == 1)
        assert store.is_dir()
        assert iface.messages() == []
        # The embedded model sees real photographs; of three grey discs it need not see the one clicked on exactly.
        polygon = next(target.getFeatures()).geometry()
        assert polygon.contains(QgsGeometry.fromPointXY(place("c")))

    def test_a_click_and_a_refinement_on_an_enlarged_map(
        self, iface: Interface, plugin: GeoSamPlugin, raster_with_store: QgsRasterLayer, tmp_path: Path
    ) -> None:
        """Zoomed in to five pixels of the screen for one of the image."""
        shutil.rmtree(store_path_for(Path(raster_with_store.source())))
        QgsProject.instance().addMapLayer(raster_with_store)
        iface.setActiveLayer(raster_with_store)
        tool_action(plugin).trigger()
        interaction = plugin.interaction
        assert interaction is not None
        interaction.stores.open(None, [project_raster(raster_with_store)], live_options(Settings()))
        wait_until(lambda: interaction.controller.store is not None)
        interaction.dock.new_layer_wanted.emit(str(tmp_path / "new.gpkg"))
        layer = interaction.dock.layer
        assert layer is not None
        size = iface.canvas.size()
        enlarged = QgsRectangle.fromCenterAndSize(place("a"), size.width() * PIXEL / 5, size.height() * PIXEL / 5)
        iface.canvas.setExtent(enlarged)
        click(iface.canvas, place("a", 60, 0))
        wait_until(lambda: interaction.controller.drawing.has_polygon)
        first = settled(interaction).result
        assert first.level == -2
        assert "detail 400 %" in interaction.dock._result.text()
        key(iface, Qt.Key.Key_Return)
        wait_until(lambda: layer.featureCount() == 1)
        assert '"level":-2' in next(layer.getFeatures())["prompts"]
        iface.canvas.zoomByFactor(8)
        QApplication.processEvents()
        layer.selectAll()
        key(iface, Qt.Key.Key_R)
        again = settled(interaction).result
        assert again.level == -2
        # The click is kept to the millimetre.
        assert again.geometry.symmetric_difference(first.geometry).area < 0.01 * first.geometry.area

    def test_tiles_are_prepared_ahead_only_while_the_tool_is_active(
        self, iface: Interface, plugin: GeoSamPlugin, raster_with_store: QgsRasterLayer
    ) -> None:
        """Who only looks around in QGIS needs no space on the disk."""
        Settings().store_place = "beside"
        root = store_path_for(Path(raster_with_store.source()))
        shutil.rmtree(root)
        QgsProject.instance().addMapLayer(raster_with_store)
        iface.setActiveLayer(raster_with_store)
        interaction = plugin.interaction
        assert interaction is not None
        prepared: list[Any] = []
        interaction.stores.open(None, [project_raster(raster_with_store)], live_options(Settings()))
        wait_until(lambda: interaction.controller.store is not None)
        # What is prepared ahead runs between them.
        for count in (1, 2):
            interaction.stores.run(lambda: None, prepared.append)
            wait_until(lambda count=count: len(prepared) == count)
        reader = StoreReader(root)
        assert not any(reader.is_encoded(tile) for tile in reader.pyramid)
        tool_action(plugin).trigger()
        wait_until(lambda: any(reader.is_encoded(tile) for tile in reader.pyramid))

    def test_the_whole_layer_is_encoded_in_the_background(
        self, iface: Interface, plugin: GeoSamPlugin, raster_with_store: QgsRasterLayer
    ) -> None:
        shutil.rmtree(store_path_for(Path(raster_with_store.source())))
        show_layer(iface, raster_with_store)
        iface.setActiveLayer(raster_with_store)
        tool_action(plugin).trigger()
        interaction = plugin.interaction
        assert interaction is not None
        texts: list[str] = []
        ended: list[str] = []
        interaction.encoding.progressed.connect(lambda _percent, text: texts.append(text))
        interaction.encoding.ended.connect(ended.append)
        interaction.dock.encoding.layer_button.click()
        wait_until(lambda: ended, 60)
        store = interaction.controller.store
        assert store is not None
        reader = StoreReader(store.path)
        assert all(reader.state(tile) is not TileState.MISSING for tile in reader.pyramid)
        assert any("tiles" in text for text in texts)
        assert interaction.dock.encoding.layer_button.isVisibleTo(interaction.dock.encoding)

    def test_encoding_stops_when_cancelled_and_when_the_plugin_is_unloaded(
        self, iface: Interface, plugin: GeoSamPlugin, raster_with_store: QgsRasterLayer
    ) -> None:
        shutil.rmtree(store_path_for(Path(raster_with_store.source())))
        show_layer(iface, raster_with_store)
        iface.setActiveLayer(raster_with_store)
        interaction = plugin.interaction
        assert interaction is not None
        begun: list[str] = []
        ended: list[str] = []
        interaction.encoding.progressed.connect(lambda _percent, text: begun.append(text))
        interaction.encoding.ended.connect(ended.append)
        interaction.dock.encoding.layer_wanted.emit()
        wait_until(lambda: begun)
        interaction.dock.encoding.cancel_wanted.emit()
        wait_until(lambda: ended)
        interaction.dock.encoding.view_wanted.emit()
        plugin.unload()
        wait_until(lambda: QgsApplication.taskManager().countActiveTasks() == 0)
        assert iface.messages() == []

    def test_a_store_of_another_model_is_not_continued(self, iface: Interface, ready: Interaction) -> None:
        assert not ready.dock.encoding.view_button.isEnabled()
        assert "model chosen in the options" in ready.dock.encoding.view_button.toolTip()
        ready._encode(whole=True)
        assert "--resume" in iface.messages()[-1]

    @pytest.mark.parametrize("chosen", ["beside", "cache"])
    def test_a_store_made_by_clicking_is_continued(
        self, iface: Interface, plugin: GeoSamPlugin, raster_with_store: QgsRasterLayer, chosen: str
    ) -> None:
        Settings().store_place = chosen
        shutil.rmtree(store_path_for(Path(raster_with_store.source())))
        QgsProject.instance().addMapLayer(raster_with_store)
        iface.setActiveLayer(raster_with_store)
        tool_action(plugin).trigger()
        interaction = plugin.interaction
        assert interaction is not None
        click(iface.canvas, place("c"))
        wait_until(lambda: interaction.controller.drawing.has_polygon)
        plugin.unload()
        plugin.initGui()
        tool_action(plugin).trigger()
        again = plugin.interaction
        assert again is not None
        wait_until(lambda: again.controller.store is not None)
        assert again.controller.store is not None
        assert again.controller.store.live is not None

    def test_an_early_click_is_answered_by_the_store_beside_the_raster(
        self, iface: Interface, plugin: GeoSamPlugin, blobs: BlobDecoder, raster_with_store: QgsRasterLayer
    ) -> None:
        QgsProject.instance().addMapLayer(raster_with_store)
        iface.setActiveLayer(raster_with_store)
        tool_action(plugin).trigger()
        interaction = plugin.interaction
        assert interaction is not None
        assert not interaction.stores.is_opening
        click(iface.canvas, place("a"))
        assert interaction.stores.is_opening
        wait_until(lambda: settled(interaction).has_polygon)
        assert interaction.stores.store.path == store_path_for(Path(raster_with_store.source()))
        assert iface.messages() == []

    def test_a_store_chosen_early_is_kept(
        self,
        iface: Interface,
        plugin: GeoSamPlugin,
        blobs: BlobDecoder,
        raster_with_store: QgsRasterLayer,
        tmp_path: Path,
    ) -> None:
        beside = store_path_for(Path(raster_with_store.source()))
        chosen = Path(shutil.copytree(beside, tmp_path / "copies" / beside.name))
        QgsProject.instance().addMapLayer(raster_with_store)
        iface.setActiveLayer(raster_with_store)
        interaction = with_store(plugin, chosen)
        QTest.qWait(200)
        assert not interaction.stores.is_opening
        assert interaction.controller.store.path == chosen

    def test_the_store_beside_the_active_raster_is_opened(
        self, iface: Interface, plugin: GeoSamPlugin, blobs: BlobDecoder, raster_with_store: QgsRasterLayer
    ) -> None:
        QgsProject.instance().addMapLayer(raster_with_store)
        iface.setActiveLayer(raster_with_store)
        tool_action(plugin).trigger()
        interaction = plugin.interaction
        assert interaction is not None
        wait_until(lambda: interaction.controller.store is not None)
        assert interaction.controller.store.raster.layer_id == raster_with_store.id()
        assert plugin._settings.recent_stores == [str(interaction.controller.store.path)]
        assert iface.messages() == []

    def test_a_corrected_crs_of_the_layer_moves_what_is_drawn(
        self,
        iface: Interface,
        plugin: GeoSamPlugin,
        blobs: BlobDecoder,
        raster_with_store: QgsRasterLayer,
        target: QgsVectorLayer,
    ) -> None:
        project = QgsProject.instance()
        project.addMapLayer(raster_with_store)
        iface.setActiveLayer(raster_with_store)
        tool_action(plugin).trigger()
        interaction = plugin.interaction
        assert interaction is not None
        interaction.dock.layers.setLayer(target)
        wait_until(lambda: interaction.stores.store is not None)
        click(iface.canvas, place("a"))
        drawn = settled(interaction)
        corrected = QgsCoordinateReferenceSystem("EPSG:25829")
        raster_with_store.setCrs(corrected)
        wait_until(iface.messages)
        assert len(iface.messages()) == 1 and "25829" in iface.messages()[0]
        store = interaction.stores.store
        assert store is not None and store.crs == corrected
        assert "25829" in StoreReader(store.path).metadata.raster.crs_wkt
        assert interaction.controller.drawing.result is drawn.result
        to_canvas = QgsCoordinateTransform(corrected, iface.canvas.mapSettings().destinationCrs(), project)
        moved = to_canvas.transform(place("a"))
        shown = interaction.overlay.bands["proposal"].asGeometry()
        assert shown.centroid().asPoint().distance(moved) < 1
        iface.canvas.setExtent(QgsRectangle.fromCenterAndSize(moved, 400, 300))
        QApplication.processEvents()
        click(iface.canvas, moved)
        assert len(settled(interaction).prompts) == 2
        key(iface, Qt.Key.Key_Return)
        wait_until(lambda: target.featureCount() == 1)
        written = next(target.getFeatures()).geometry()
        assert written.centroid().asPoint().distance(moved) < 1
        assert len(iface.messages()) == 1

    def test_the_store_takes_the_crs_of_the_layer_under_the_pointer(
        self, iface: Interface, plugin: GeoSamPlugin, blobs: BlobDecoder, raster_with_store: QgsRasterLayer
    ) -> None:
        """Of two layers of one raster; one CRS was corrected."""
        other = QgsRasterLayer(raster_with_store.source(), "other")
        other.setCrs(QgsCoordinateReferenceSystem("EPSG:25829"))
        QgsProject.instance().addMapLayers([raster_with_store, other])
        tool_action(plugin).trigger()
        interaction = plugin.interaction
        assert interaction is not None
        wait_until(lambda: interaction.stores.store is not None)
        assert iface.messages() == []
        there = QgsCoordinateTransform(other.crs(), raster_with_store.crs(), QgsProject.instance())
        iface.canvas.setExtent(there.transformBoundingBox(other.extent()))
        QApplication.processEvents()
        click(iface.canvas, there.transform(place("a")))
        wait_until(lambda: interaction.controller.drawing.has_polygon)
        assert interaction.stores.store is not None and interaction.stores.store.crs == other.crs()
        assert [text for text in iface.messages() if "25829" in text] == iface.messages() != []
        shown = interaction.overlay.bands["proposal"].asGeometry().centroid().asPoint()
        assert shown.distance(there.transform(place("a"))) < 2
        other.setCrs(QgsCoordinateReferenceSystem("EPSG:25831"))
        wait_until(lambda: interaction.stores.store.crs == other.crs())

    def test_a_view_outside_the_rasters_crs_is_not_encoded(self, iface: Interface, ready: Interaction) -> None:
        iface.canvas.setDestinationCrs(QgsCoordinateReferenceSystem("EPSG:4326"))
        iface.canvas.setExtent(QgsRectangle(1e8, 1e8, 2e8, 2e8))
        ready.dock.encoding.view_wanted.emit()
        assert "The view cannot be transformed" in iface.messages()[-1]

    def test_a_store_of_another_raster_is_refused(
        self, iface: Interface, plugin: GeoSamPlugin, blobs: BlobDecoder, raster_with_store: QgsRasterLayer
    ) -> None:
        import numpy as np
        from osgeo import gdal

        dataset = gdal.Open(raster_with_store.source(), gdal.GA_Update)
        dataset.GetRasterBand(1).WriteArray(np.full((40, 40), 77, np.uint8))
        del dataset
        QgsProject.instance().addMapLayer(raster_with_store)
        iface.setActiveLayer(raster_with_store)
        tool_action(plugin).trigger()
        wait_until(iface.messages)
        assert "raster fingerprint" in iface.messages()[0]
        assert plugin.interaction is not None
        assert plugin.interaction.controller.store is None

    def test_a_half_copied_store_is_refused(self, iface: Interface, plugin: GeoSamPlugin, blob_store: Path) -> None:
        copy = blob_store.parent / "half.embeddings.zarr"
        shutil.copytree(blob_store, copy, dirs_exist_ok=True)
        (copy / "level0" / "image_embeddings" / "zarr.json").unlink()
        assert plugin.interaction is not None
        plugin.interaction.open_store(copy)
        wait_until(iface.messages)
        assert "missing or damaged" in iface.messages()[0]

    def test_a_deleted_store_is_no_longer_listed(
        self, iface: Interface, plugin: GeoSamPlugin, ready: Interaction, tmp_path: Path
    ) -> None:
        plugin._settings.remember_store(str(tmp_path / "gone.embeddings.zarr"))
        open_before = ready.controller.store
        ready.dock.store_chosen.emit(str(tmp_path / "gone.embeddings.zarr"))
        wait_until(iface.messages)
        assert "not an embedding store" in iface.messages()[0]
        assert ready.controller.store is open_before
        assert ready.dock.findChild(QComboBox, "prepared_image").count() == 1

    def test_clearing_the_project_closes_the_store(self, iface: Interface, ready: Interaction) -> None:
        click(iface.canvas, place("a"))
        QgsProject.instance().clear()
        assert ready.controller.store is None
        click(iface.canvas, place("a"))
        assert "nothing to segment" in iface.messages()[-1]

    def test_footprint_and_tiles_are_shown_on_demand(self, iface: Interface, ready: Interaction) -> None:
        bands = ready.overlay.bands
        assert bands["footprint"].numberOfVertices() == 5
        tiles, outline = (ready.dock.findChild(QCheckBox, name) for name in ("show_tiles", "show_footprint"))
        tiles.setChecked(True)
        wait_until(lambda: bands["encoded"].numberOfVertices() >= 5)
        tiles.setChecked(False)
        outline.setChecked(False)
        assert bands["encoded"].numberOfVertices() == bands["footprint"].numberOfVertices() == 0


class TestRobustness:
    def test_500_clicks_in_a_row(self, iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
        names = list(DISCS)
        for number in range(500):
            click(iface.canvas, place(names[number % 3], number % 7, number % 5))
            if number % 3 == 0:
                key(iface, Qt.Key.Key_Return)
            elif number % 7 == 0:
                key(iface, Qt.Key.Key_Escape)
            elif number % 11 == 0:
                key(iface, Qt.Key.Key_Tab)
            QApplication.processEvents()
        settled(ready)
        assert target.featureCount() == 167
        assert iface.messages() == []

    def test_a_decoder_that_fails_on_every_click_is_reported_once(
        self, iface: Interface, ready: Interaction, blobs: BlobDecoder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def crash(*_: Any) -> None:
            raise RuntimeError("the decoder broke")

        monkeypatch.setattr(blobs, "decode", crash)
        for _ in range(20):
            click(iface.canvas, place("a"))
            settled(ready)
        assert len(iface.messages()) == 1

    def test_clicks_work_after_the_raster_layer_is_removed(self, iface: Interface, ready: Interaction) -> None:
        for layer in QgsProject.instance().mapLayers().values():
            if isinstance(layer, QgsRasterLayer):
                QgsProject.instance().removeMapLayer(layer.id())
        click(iface.canvas, place("a"))
        assert settled(ready).has_polygon

    def test_zooming_while_prompts_are_answered(self, iface: Interface, ready: Interaction) -> None:
        for number in range(20):
            click(iface.canvas, place("a"))
            iface.canvas.setExtent(QgsRectangle.fromCenterAndSize(place("a"), 300 + number, 200))
        assert settled(ready).has_polygon


ZONE_31 = QgsCoordinateReferenceSystem("EPSG:25831")


@pytest.fixture
def left(tmp_path: Path) -> QgsRasterLayer:
    return make_sheet(tmp_path, "left")


@pytest.fixture
def right(tmp_path: Path) -> QgsRasterLayer:
    """The sheet beside it, with 100 columns without data on its left, which overlap the other sheet."""
    shifted = TRANSFORM._replace(c=LEFT + (SIDE - 100) * PIXEL)
    return make_sheet(tmp_path, "right", shifted, nodata_columns=100)


def on_right(name: str) -> QgsPointXY:
    spot = place(name)
    return QgsPointXY(spot.x() + (SIDE - 100) * PIXEL, spot.y())


def start(iface: Interface, plugin: GeoSamPlugin, *layers: Any) -> Interaction:
    """Show layers, the topmost first, and activate the tool while none of them is active."""
    project = QgsProject.instance()
    project.addMapLayers(list(layers))
    whole = QgsRectangle()
    for layer in layers:
        if isinstance(layer, QgsRasterLayer):
            there = QgsCoordinateTransform(layer.crs(), iface.canvas.mapSettings().destinationCrs(), project)
            whole.combineExtentWith(there.transformBoundingBox(layer.extent()))
    iface.canvas.setExtent(whole)
    tool_action(plugin).trigger()
    QApplication.processEvents()
    assert plugin.interaction is not None
    return plugin.interaction


def drawn(interaction: Interaction, name: str, centre: QgsPointXY) -> None:
    """Wait for the polygon of a disc, with its centre in the canvas's CRS."""
    wait_until(lambda: interaction.controller.drawing.has_polygon and not interaction.controller.drawing.busy)
    shown = interaction.overlay.bands["proposal"].asGeometry().centroid().asPoint()
    assert shown.distance(centre) < 3
    result = interaction.controller.drawing.result
    assert result is not None
    assert result.geometry.area == pytest.approx(3.1416 * (DISCS[name][2] * PIXEL) ** 2, rel=0.05)


class TestSheets:
    def test_a_click_goes_to_the_sheet_under_it_whatever_layer_is_active(
        self,
        iface: Interface,
        plugin: GeoSamPlugin,
        blobs: BlobDecoder,
        left: QgsRasterLayer,
        right: QgsRasterLayer,
        target: QgsVectorLayer,
    ) -> None:
        interaction = start(iface, plugin, right, left)
        interaction.dock.layers.setLayer(target)
        iface.setActiveLayer(target)
        for name, spot, sheet in (
            ("a", place("a"), "left"),
            ("b", on_right("b"), "right"),
            ("c", place("c"), "left"),
            ("c", on_right("c"), "right"),
        ):
            click(iface.canvas, spot)
            drawn(interaction, name, spot)
            assert interaction.controller.store.metadata.raster.file_name == f"{sheet}.tif"
            key(iface, Qt.Key.Key_Return)
            wait_until(lambda: not interaction.controller.drawing.can_undo)
        assert iface.messages() == []
        assert target.featureCount() == 4

    def test_fast_gestures_land_on_their_sheets_in_order(
        self,
        iface: Interface,
        plugin: GeoSamPlugin,
        blobs: BlobDecoder,
        left: QgsRasterLayer,
        right: QgsRasterLayer,
        target: QgsVectorLayer,
    ) -> None:
        """No store is open yet."""
        interaction = start(iface, plugin, right, left)
        interaction.dock.layers.setLayer(target)
        spots = [place("a"), on_right("b"), place("b"), on_right("c"), place("c")]
        for spot in spots:
            click(iface.canvas, spot)
            key(iface, Qt.Key.Key_Return)
        wait_until(lambda: target.featureCount() == 5)
        assert iface.messages() == []
        centres = [f.geometry().centroid().asPoint() for f in sorted(target.getFeatures(), key=lambda f: -f.id())]
        assert all(centre.distance(spot) < 3 for centre, spot in zip(centres, spots))

    def test_going_back_to_a_sheet_opens_nothing(
        self,
        iface: Interface,
        plugin: GeoSamPlugin,
        blobs: BlobDecoder,
        left: QgsRasterLayer,
        right: QgsRasterLayer,
    ) -> None:
        interaction = start(iface, plugin, right, left)
        for spot in (place("a"), on_right("a")):
            click(iface.canvas, spot)
            drawn(interaction, "a", spot)
            key(iface, Qt.Key.Key_Escape)
        prepared = blobs.prepared
        click(iface.canvas, place("a"))
        assert not interaction.stores.is_opening
        drawn(interaction, "a", place("a"))
        assert blobs.prepared == prepared

    @pytest.mark.parametrize("is_open", [True, False])
    def test_a_polygon_is_refined_on_the_sheet_it_was_drawn_on(
        self,
        iface: Interface,
        plugin: GeoSamPlugin,
        blobs: BlobDecoder,
        left: QgsRasterLayer,
        right: QgsRasterLayer,
        tmp_path: Path,
        is_open: bool,
    ) -> None:
        interaction = start(iface, plugin, right, left)
        wait_until(lambda: interaction.stores.store is not None)
        interaction.dock.new_layer_wanted.emit(str(tmp_path / "new.gpkg"))
        layer = interaction.dock.layer
        for spot in (on_right("a"), place("b")):
            click(iface.canvas, spot)
            drawn(interaction, "a" if spot.x() > LEFT + SIDE * PIXEL else "b", spot)
            key(iface, Qt.Key.Key_Return)
            wait_until(lambda: not interaction.controller.drawing.can_undo)
        if not is_open:
            interaction.stores.close_all()
        layer.select(max(layer.getFeatures(), key=lambda f: f.geometry().centroid().asPoint().x()).id())
        key(iface, Qt.Key.Key_R)
        drawn(interaction, "a", on_right("a"))
        assert interaction.controller.store.metadata.raster.file_name == "right.tif"
        assert iface.messages() == []

    def test_one_object_across_two_sheets_is_refused_and_nothing_is_lost(
        self,
        iface: Interface,
        plugin: GeoSamPlugin,
        blobs: BlobDecoder,
        left: QgsRasterLayer,
        right: QgsRasterLayer,
        target: QgsVectorLayer,
    ) -> None:
        interaction = start(iface, plugin, right, left)
        interaction.dock.layers.setLayer(target)
        click(iface.canvas, place("a"))
        click(iface.canvas, on_right("b"))
        drawn(interaction, "a", place("a"))
        wait_until(iface.messages)
        assert len(iface.messages()) == 1
        assert "left" in iface.messages()[0] and "right" in iface.messages()[0]
        assert "accept the polygon or discard it" in iface.messages()[0]
        drag(iface.canvas, QgsPointXY(on_right("c").x() - 80, on_right("c").y()), on_right("c") + QgsVector(80, 80))
        assert len(settled(interaction).prompts) == 1
        click(iface.canvas, place("b"))
        assert len(settled(interaction).prompts) == 2
        key(iface, Qt.Key.Key_Return)
        wait_until(lambda: target.featureCount() == 1)
        click(iface.canvas, on_right("b"))
        drawn(interaction, "b", on_right("b"))

    def test_sheets_and_canvas_in_three_crs(
        self, iface: Interface, plugin: GeoSamPlugin, blobs: BlobDecoder, left: QgsRasterLayer, tmp_path: Path
    ) -> None:
        project, canvas = QgsProject.instance(), QgsCoordinateReferenceSystem("EPSG:3857")
        there = QgsCoordinateTransform(QgsCoordinateReferenceSystem("EPSG:25830"), ZONE_31, project)
        corner = there.transform(QgsPointXY(LEFT + 900, TOP))
        beside = make_sheet(tmp_path, "zone31", TRANSFORM._replace(c=corner.x(), f=corner.y()), "EPSG:25831")
        iface.canvas.setDestinationCrs(canvas)
        interaction = start(iface, plugin, left, beside)
        own = TRANSFORM._replace(c=corner.x(), f=corner.y())
        for name in ("a", "b"):
            for crs, transform in ((left.crs(), TRANSFORM), (ZONE_31, own)):
                spot = QgsPointXY(*transform.apply(*DISCS[name][:2]))
                shown = QgsCoordinateTransform(crs, canvas, project).transform(spot)
                click(iface.canvas, shown)
                drawn(interaction, name, shown)
                assert interaction.controller.store.crs == crs
                key(iface, Qt.Key.Key_Escape)
        assert iface.messages() == []

    def test_a_hidden_sheet_does_not_answer(
        self, iface: Interface, plugin: GeoSamPlugin, blobs: BlobDecoder, left: QgsRasterLayer, right: QgsRasterLayer
    ) -> None:
        interaction = start(iface, plugin, right, left)
        click(iface.canvas, place("a"))
        drawn(interaction, "a", place("a"))
        key(iface, Qt.Key.Key_Escape)
        node = QgsProject.instance().layerTreeRoot().findLayer(left.id())
        node.setItemVisibilityChecked(False)
        wait_until(lambda: interaction.stores.store is None)
        click(iface.canvas, place("a"))
        assert "no raster layer is visible" in iface.messages()[-1]
        assert not interaction.controller.drawing.can_undo
        node.setItemVisibilityChecked(True)
        wait_until(lambda: left in iface.canvas.layers())
        click(iface.canvas, place("a"))
        drawn(interaction, "a", place("a"))
        assert len(iface.messages()) == 1

    def test_a_sheet_that_cannot_be_used_does_not_let_the_one_below_answer(
        self, iface: Interface, plugin: GeoSamPlugin, blobs: BlobDecoder, left: QgsRasterLayer, tmp_path: Path
    ) -> None:
        copied = tmp_path / "deleted.tif"
        shutil.copy(left.source(), copied)
        above = QgsRasterLayer(str(copied), "deleted")
        copied.unlink()
        interaction = start(iface, plugin, above, left)
        click(iface.canvas, place("a"))
        assert len(iface.messages()) == 1 and "deleted" in iface.messages()[0]
        assert not interaction.controller.drawing.can_undo
        interaction.dock.encoding.view_wanted.emit()
        assert all("deleted" in text for text in iface.messages()) and interaction.stores.store is None
        QgsProject.instance().removeMapLayer(above.id())
        wait_until(lambda: iface.canvas.layers() == [left])
        click(iface.canvas, place("a"))
        drawn(interaction, "a", place("a"))

    def test_a_click_where_gdal_cannot_read_the_only_raster_says_what_to_do(
        self, iface: Interface, plugin: GeoSamPlugin, blobs: BlobDecoder, left: QgsRasterLayer, tmp_path: Path
    ) -> None:
        (tmp_path / "photo.ecw").write_bytes(b"e\x02\x01\x02\x00")
        broken = QgsRasterLayer(str(tmp_path / "photo.ecw"), "photo")
        interaction = start(iface, plugin, broken)
        click(iface.canvas, place("a"))
        wait_until(iface.messages)
        assert len(iface.messages()) == 1 and "gdal_translate -of COG" in iface.messages()[0]
        assert not interaction.controller.is_waiting
        # It hides nothing.
        QgsProject.instance().addMapLayer(left)
        wait_until(lambda: left in iface.canvas.layers())
        click(iface.canvas, place("a"))
        drawn(interaction, "a", place("a"))

    def test_a_click_where_the_image_has_no_data_says_so(
        self, iface: Interface, plugin: GeoSamPlugin, blobs: BlobDecoder, tmp_path: Path
    ) -> None:
        """The tile has data elsewhere. What lies outside may be there."""
        interaction = start(iface, plugin, make_sheet(tmp_path, "edge", nodata_columns=250))
        edge = place("a", dx=-80)
        click(iface.canvas, edge)
        wait_until(iface.messages)
        assert len(iface.messages()) == 1 and "There is no image here: edge has no data" in iface.messages()[0]
        assert not interaction.controller.drawing.can_undo and not interaction.controller.is_waiting
        click(iface.canvas, place("a"))
        drawn(interaction, "a", place("a"))
        click(iface.canvas, edge, modifiers=SHIFT)
        wait_until(lambda: len(interaction.controller.drawing.prompts.points) == 2)
        assert len(iface.messages()) == 1

    def test_a_raster_without_crs_is_named(
        self, iface: Interface, plugin: GeoSamPlugin, raster_with_store: QgsRasterLayer, tmp_path: Path
    ) -> None:
        bare = tmp_path / "bare.tif"
        shutil.copy(raster_with_store.source(), bare)
        dataset = gdal.Open(str(bare), gdal.GA_Update)
        dataset.SetProjection("")
        del dataset
        layer = QgsRasterLayer(str(bare), "bare")
        layer.setCrs(QgsCoordinateReferenceSystem())
        interaction = start(iface, plugin, layer)
        click(iface.canvas, place("a"))
        wait_until(iface.messages)
        assert len(iface.messages()) == 1 and "bare" in iface.messages()[0] and "CRS" in iface.messages()[0]
        assert not interaction.controller.drawing.can_undo

    def test_removing_a_sheet_while_its_store_is_opened(
        self,
        iface: Interface,
        plugin: GeoSamPlugin,
        blobs: BlobDecoder,
        left: QgsRasterLayer,
        right: QgsRasterLayer,
        target: QgsVectorLayer,
    ) -> None:
        interaction = start(iface, plugin, right, left)
        interaction.dock.layers.setLayer(target)
        click(iface.canvas, place("a"))
        key(iface, Qt.Key.Key_Return)
        click(iface.canvas, on_right("b"))
        QgsProject.instance().removeMapLayer(left.id())
        drawn(interaction, "b", on_right("b"))
        assert target.featureCount() == 0
        QgsProject.instance().removeMapLayer(right.id())
        assert interaction.stores.store is None and not interaction.controller.drawing.can_undo
        click(iface.canvas, on_right("b"))
        wait_until(lambda: any("no raster layer is visible" in text for text in iface.messages()))

    def test_a_layer_with_another_source_is_another_image(
        self, iface: Interface, plugin: GeoSamPlugin, blobs: BlobDecoder, left: QgsRasterLayer, tmp_path: Path
    ) -> None:
        (tmp_path / "new").mkdir()
        shifted = TRANSFORM._replace(c=LEFT + 50)
        newer = make_sheet(tmp_path / "new", "newer", shifted)
        interaction = start(iface, plugin, left)
        click(iface.canvas, place("a"))
        drawn(interaction, "a", place("a"))
        left.setDataSource(newer.source(), "left", "gdal")
        click(iface.canvas, place("b"))
        assert len(settled(interaction).prompts) == 1 and "discard it" in iface.messages()[-1]
        key(iface, Qt.Key.Key_Escape)
        spot = QgsPointXY(*shifted.apply(*DISCS["a"][:2]))
        click(iface.canvas, spot)
        drawn(interaction, "a", spot)
        assert interaction.controller.store.metadata.raster.file_name == "newer.tif"

    def test_a_store_that_the_user_opens_counts_for_its_raster_and_without_any_layer(
        self,
        iface: Interface,
        plugin: GeoSamPlugin,
        blobs: BlobDecoder,
        left: QgsRasterLayer,
        right: QgsRasterLayer,
        tmp_path: Path,
    ) -> None:
        beside = store_path_for(Path(left.source()))
        chosen = Path(shutil.copytree(beside, tmp_path / "copies" / beside.name))
        interaction = start(iface, plugin, right, left)
        interaction.open_store(chosen)
        wait_until(lambda: interaction.controller.store is not None and not interaction.stores.is_opening)
        for spot, path in ((on_right("a"), None), (place("a"), chosen)):
            click(iface.canvas, spot)
            drawn(interaction, "a", spot)
            assert path in (None, interaction.controller.store.path)
            key(iface, Qt.Key.Key_Escape)
        QgsProject.instance().removeMapLayer(left.id())
        QApplication.processEvents()
        click(iface.canvas, place("b"))
        drawn(interaction, "b", place("b"))
        assert interaction.controller.store.path == chosen
        assert iface.messages() == []

    def test_a_damaged_store_beside_a_sheet_is_reported_and_the_click_is_answered(
        self, iface: Interface, plugin: GeoSamPlugin, tmp_path: Path
    ) -> None:
        damaged = make_sheet(tmp_path, "damaged")
        (store_path_for(Path(damaged.source())) / "zarr.json").write_text("{")
        interaction = start(iface, plugin, damaged)
        click(iface.canvas, place("a"))
        wait_until(lambda: interaction.controller.drawing.has_polygon)
        assert len(iface.messages()) == 1 and "damaged" in iface.messages()[0]
        assert interaction.controller.store.live is not None

    def test_the_panel_shows_the_image_under_the_pointer(
        self,
        iface: Interface,
        plugin: GeoSamPlugin,
        blobs: BlobDecoder,
        left: QgsRasterLayer,
        right: QgsRasterLayer,
    ) -> None:
        shutil.rmtree(store_path_for(Path(right.source())))
        interaction = start(iface, plugin, right, left)
        shown: list[Any] = []
        interaction.image.changed.connect(shown.append)
        for spot, name, state in ((place("b"), "left", "ready"), (on_right("b"), "right", "prepares as you click")):
            move(iface.canvas, on_screen(iface.canvas, spot), Qt.MouseButton.NoButton)
            wait_until(lambda name=name, state=state: shown and (shown[-1].name, shown[-1].text) == (name, state))
        # Looking writes nothing.
        assert not store_path_for(Path(right.source())).exists()

    def test_a_sheet_in_a_group_and_one_above_the_other(
        self,
        iface: Interface,
        plugin: GeoSamPlugin,
        blobs: BlobDecoder,
        left: QgsRasterLayer,
        right: QgsRasterLayer,
    ) -> None:
        """Where the upper sheet has no data, the lower one answers; in the order of the map, not of the project."""
        interaction = start(iface, plugin, right, left)
        root = QgsProject.instance().layerTreeRoot()
        group = root.insertGroup(0, "sheets")
        node = root.findLayer(right.id())
        group.addChildNode(node.clone())
        root.removeChildNode(node)
        QApplication.processEvents()
        margin = QgsPointXY(LEFT + (SIDE - 50) * PIXEL, TOP - 200)
        assert interaction.controller.layer_at(margin) is left
        assert interaction.controller.layer_at(on_right("a")) is right
        group.setItemVisibilityChecked(False)
        wait_until(lambda: iface.canvas.layers() == [left])
        assert interaction.controller.layer_at(on_right("a")) is None

    def test_a_map_theme_decides_what_answers(
        self, iface: Interface, plugin: GeoSamPlugin, blobs: BlobDecoder, left: QgsRasterLayer, right: QgsRasterLayer
    ) -> None:
        interaction = start(iface, plugin, right, left)
        project = QgsProject.instance()
        root, themes = project.layerTreeRoot(), project.mapThemeCollection()
        model = QgsLayerTreeModel(root)
        root.findLayer(right.id()).setItemVisibilityChecked(False)
        themes.insert("west", QgsMapThemeCollection.createThemeFromCurrentState(root, model))
        root.findLayer(right.id()).setItemVisibilityChecked(True)
        wait_until(lambda: right in iface.canvas.layers())
        click(iface.canvas, on_right("a"))
        drawn(interaction, "a", on_right("a"))
        key(iface, Qt.Key.Key_Escape)
        themes.applyTheme("west", root, model)
        wait_until(lambda: iface.canvas.layers() == [left])
        click(iface.canvas, on_right("a"))
        assert "no raster layer is visible" in iface.messages()[-1]

    def test_the_preview_follows_the_pointer_from_sheet_to_sheet(
        self, iface: Interface, plugin: GeoSamPlugin, blobs: BlobDecoder, left: QgsRasterLayer, right: QgsRasterLayer
    ) -> None:
        interaction = start(iface, plugin, right, left)
        key(iface, Qt.Key.Key_P)
        band = interaction.overlay.bands["preview"]
        for spot in (place("a"), on_right("b"), place("c")):
            move(iface.canvas, on_screen(iface.canvas, spot), Qt.MouseButton.NoButton)
            here = QgsGeometry.fromPointXY(spot)
            wait_until(lambda here=here: -1 < band.asGeometry().centroid().distance(here) < 5)
        assert not interaction.controller.drawing.can_undo

    def test_the_layer_under_the_pointer_is_prepared_and_the_view_in_the_middle(
        self, iface: Interface, plugin: GeoSamPlugin, left: QgsRasterLayer, right: QgsRasterLayer
    ) -> None:
        Settings().store_place = "beside"
        stores = {layer: store_path_for(Path(layer.source())) for layer in (left, right)}
        for root in stores.values():
            shutil.rmtree(root)
        interaction = start(iface, plugin, right, left)
        ended: list[str] = []
        interaction.encoding.ended.connect(ended.append)
        move(iface.canvas, on_screen(iface.canvas, on_right("a")), Qt.MouseButton.NoButton)
        wait_until(lambda: interaction.image.layer is right)
        interaction.dock.encoding.layer_wanted.emit()
        wait_until(lambda: ended, 60)
        reader = StoreReader(stores[right])
        assert all(reader.state(tile) is not TileState.MISSING for tile in reader.pyramid)
        assert not stores[left].exists()
        iface.canvas.setExtent(QgsRectangle.fromCenterAndSize(place("a"), 300, 200))
        interaction.dock.encoding.view_wanted.emit()
        wait_until(lambda: len(ended) == 2, 60)
        raster = project_raster(left)
        assert raster is not None
        opened = interaction.stores.find(raster)
        assert opened is not None
        reader = StoreReader(opened.path)
        assert any(reader.is_encoded(tile) for tile in reader.pyramid)

    @pytest.mark.parametrize("whole", [True, False])
    def test_what_is_prepared_is_what_the_user_saw_when_asking(
        self, iface: Interface, plugin: GeoSamPlugin, left: QgsRasterLayer, right: QgsRasterLayer, whole: bool
    ) -> None:
        """The store of the sheet opens while the pointer and the map go to the other one."""
        Settings().store_place = "beside"
        stores = {layer: store_path_for(Path(layer.source())) for layer in (left, right)}
        for root in stores.values():
            shutil.rmtree(root)
        interaction = start(iface, plugin, right, left)
        ended: list[str] = []
        interaction.encoding.ended.connect(ended.append)
        iface.canvas.setExtent(QgsRectangle.fromCenterAndSize(place("a"), 300, 200))
        move(iface.canvas, on_screen(iface.canvas, place("a")), Qt.MouseButton.NoButton)
        wait_until(lambda: interaction.image.layer is left)
        wanted = interaction.dock.encoding
        (wanted.layer_wanted if whole else wanted.view_wanted).emit()
        assert interaction.stores.is_opening
        iface.canvas.setExtent(QgsRectangle.fromCenterAndSize(on_right("a"), 300, 200))
        move(iface.canvas, on_screen(iface.canvas, on_right("a")), Qt.MouseButton.NoButton)
        interaction.image.look()
        wait_until(lambda: ended, 60)
        reader = StoreReader(stores[left])
        there = [reader.is_encoded(tile) for tile in reader.pyramid]
        assert all(there) if whole else any(there)
        assert not stores[right].exists() and iface.messages() == []

    def test_a_sheet_that_is_removed_while_it_opens_is_not_prepared(
        self, iface: Interface, plugin: GeoSamPlugin, blobs: BlobDecoder, left: QgsRasterLayer, right: QgsRasterLayer
    ) -> None:
        interaction = start(iface, plugin, right, left)
        move(iface.canvas, on_screen(iface.canvas, place("a")), Qt.MouseButton.NoButton)
        wait_until(lambda: interaction.image.layer is left)
        interaction.stores.close_all()
        begun: list[str] = []
        interaction.encoding.progressed.connect(lambda _percent, text: begun.append(text))
        interaction.dock.encoding.layer_wanted.emit()
        assert interaction.stores.is_opening
        QgsProject.instance().removeMapLayer(left.id())
        click(iface.canvas, on_right("a"))
        wait_until(lambda: interaction.controller.drawing.has_polygon)
        assert iface.messages() == [] and not begun and not interaction.stores.is_opening

    def test_a_store_that_fits_no_layer_is_opened_with_a_notice(
        self, iface: Interface, plugin: GeoSamPlugin, blobs: BlobDecoder, left: QgsRasterLayer, blob_store: Path
    ) -> None:
        left.setName("sheet")
        far = TRANSFORM._replace(c=LEFT + 10 * SIDE * PIXEL)
        elsewhere = blob_store.parent / "far"
        elsewhere.mkdir(exist_ok=True)
        store = store_path_for(Path(make_sheet(elsewhere, "far", far).source()))
        interaction = start(iface, plugin, left)
        interaction.open_store(store)
        wait_until(iface.messages)
        assert "No layer of the project shows far.tif" in iface.messages()[0]
        spot = QgsPointXY(*far.apply(*DISCS["a"][:2]))
        click(iface.canvas, place("a"))
        drawn(interaction, "a", place("a"))
        key(iface, Qt.Key.Key_Escape)
        iface.canvas.setExtent(QgsRectangle.fromCenterAndSize(spot, 400, 300))
        click(iface.canvas, spot)
        drawn(interaction, "a", spot)
        assert interaction.controller.store.path == store
