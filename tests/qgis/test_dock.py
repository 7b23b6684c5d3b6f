"""The panel: what it shows, and the signals it emits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from qgis.core import QgsProject, QgsVectorLayer
from qgis.PyQt.QtCore import QCoreApplication, QMimeData, QPoint, QPointF, Qt, QTranslator, QUrl
from qgis.PyQt.QtGui import QColor, QDragEnterEvent, QDropEvent, QPalette, QWheelEvent
from qgis.PyQt.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QApplication,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QInputDialog,
    QLabel,
    QPushButton,
    QStyle,
    QStyleOptionComboBox,
    QToolButton,
)

from encoder_tools.translations import FOLDER, read_translations
from geosam_es.gui.panel.actions import Actions
from geosam_es.gui.panel.dock import SegmentDock
from geosam_es.qgis_support.classes import ClassItem, ClassList
from geosam_es.qgis_support.coverage_mode import CoverageMode
from geosam_es.qgis_support.settings import Settings
from tests.qgis.support import Interface

CLASSES = ClassList("class", (ClassItem("G1", "Forest", QColor("#00aa00")), ClassItem("C1", "C1 Water", None)))


@pytest.fixture
def dock(iface: Interface) -> Iterator[SegmentDock]:
    actions = Actions(iface)
    dock = SegmentDock(actions, Settings(), iface.window)
    iface.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, dock)
    yield dock
    actions.unload()
    iface.removeDockWidget(dock)
    dock.deleteLater()


def dragged(path: Path) -> QMimeData:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    return data


def enters(dock: SegmentDock, data: QMimeData) -> bool:
    event = QDragEnterEvent(
        QPoint(5, 5), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    )
    event.ignore()
    QApplication.sendEvent(dock, event)
    return event.isAccepted()


def test_a_folder_can_be_dropped_and_a_file_cannot(dock: SegmentDock, tmp_path: Path) -> None:
    chosen: list[str] = []
    dock.store_chosen.connect(chosen.append)
    store = tmp_path / "a.embeddings.zarr"
    store.mkdir()
    (tmp_path / "a.tif").write_bytes(b"")
    data, file_data = dragged(store), dragged(tmp_path / "a.tif")
    assert enters(dock, data)
    assert not enters(dock, file_data)
    drop = QDropEvent(
        QPointF(5, 5), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    )
    QApplication.sendEvent(dock, drop)
    assert chosen == [str(store)]


def test_recent_stores_are_listed_and_can_be_chosen_again(dock: SegmentDock) -> None:
    chosen: list[str] = []
    dock.store_chosen.connect(chosen.append)
    for name in ("first", "second"):
        Settings().remember_store(f"/data/{name}.embeddings.zarr")
    dock.image_box.show_recent("/data/second.embeddings.zarr")
    stores = dock.findChild(QComboBox, "prepared_image")
    assert stores.currentText() == "second.embeddings.zarr"
    stores.activated.emit(1)
    assert chosen == ["/data/first.embeddings.zarr"]
    dock.image_box.show_recent(None)
    stores.activated.emit(0)
    assert len(chosen) == 1


def test_only_polygon_layers_are_offered(dock: SegmentDock) -> None:
    for kind in ("Polygon", "MultiPolygon", "Point", "LineString"):
        QgsProject.instance().addMapLayer(QgsVectorLayer(f"{kind}?crs=EPSG:25830", kind, "memory"))
    offered = {dock.layers.layer(index).name() for index in range(dock.layers.count()) if dock.layers.layer(index)}
    assert offered == {"Polygon", "MultiPolygon"}


@pytest.mark.parametrize(
    ("typed", "kind", "path"),
    [
        ("/x/a", "GeoPackage (*.gpkg)", "/x/a.gpkg"),
        ("/x/a", "Shapefile (*.shp)", "/x/a.shp"),
        ("/x/b.shp", "", "/x/b.shp"),
    ],
)
def test_a_new_layer_gets_its_suffix(
    dock: SegmentDock, monkeypatch: pytest.MonkeyPatch, typed: str, kind: str, path: str
) -> None:
    wanted: list[str] = []
    dock.new_layer_wanted.connect(wanted.append)
    suggested: list[str] = []
    dock.suggest_layer = lambda: "/x/orto_polygons.gpkg"

    def ask(_dock: Any, _title: str, start: str, *_: Any) -> tuple[str, str]:
        suggested.append(start)
        return typed, kind

    monkeypatch.setattr(QFileDialog, "getSaveFileName", ask)
    dock._new_layer()
    assert (suggested, wanted) == (["/x/orto_polygons.gpkg"], [path])


def test_options_are_remembered(dock: SegmentDock) -> None:
    changed: list[bool] = []
    dock.options_box.changed.connect(lambda: changed.append(True))
    dock.options_box.findChild(QDoubleSpinBox, "min_area_m2").setValue(250)
    dock.options_box.findChild(QCheckBox, "right_angles").setChecked(True)
    assert (Settings().min_area_m2, Settings().right_angles) == (250.0, True)
    assert len(changed) == 2


def test_a_folded_group_shows_nothing_and_options_of_coverage_mode_stay_hidden(
    iface: Interface, dock: SegmentDock
) -> None:
    box, number = dock.options_box, dock.options_box.findChild(QDoubleSpinBox, "snap_m")
    dock.show()
    assert not number.isVisible()
    layer = QgsVectorLayer("Polygon?crs=EPSG:25830", "fields", "memory")
    replace(CoverageMode.of(layer), is_on=True).remember(layer)
    box.coverage.set_layer(layer)
    box.setCollapsed(False)
    assert not number.isVisible() and box.findChild(QCheckBox, "all_parts").isVisible()
    box.setCollapsed(True)
    box.coverage.set_layer(None)
    assert not number.isVisible()
    box.setCollapsed(False)
    assert number.isVisible()


def test_every_button_has_a_tooltip_and_a_name_and_leaves_the_focus_on_the_map(dock: SegmentDock) -> None:
    inner = ("QgsCollapsibleGroupBox", "QgsGroupBoxCollapseButton")
    found = [b for b in dock.widget().findChildren(QAbstractButton) if b.metaObject().className() not in inner]
    buttons = [b for b in found if not b.icon().isNull() or isinstance(b, (QCheckBox, QPushButton))]
    assert len(buttons) >= 18
    assert all(button.toolTip() for button in buttons)
    assert all(re.search("[a-z]{3}", button.accessibleName() or button.text()) for button in buttons)
    assert all(combo.accessibleName() for combo in (dock.layers, dock.findChild(QComboBox, "prepared_image")))
    typed_in = dock.findChildren(QAbstractSpinBox)
    no_focus = {*found, *dock.findChildren(QComboBox)}
    assert {widget.focusPolicy() for widget in no_focus} == {Qt.FocusPolicy.NoFocus}
    assert {widget.focusPolicy() for widget in typed_in} == {Qt.FocusPolicy.ClickFocus}


def test_what_drawing_needs_is_on_top_and_the_rest_is_folded_away(dock: SegmentDock) -> None:
    dock.show()
    dock.show_image("ortho.tif", "ready")
    dock.show_result("8.81 ha")
    QApplication.processEvents()
    accept = next(button for button in dock.findChildren(QToolButton) if button.text() == "Accept ⏎")
    parts = [dock._image, dock.layers, dock.class_box, dock._result, accept, dock._hint]
    parts += [dock.options_box, dock.image_box]
    tops = [part.mapTo(dock, QPoint(0, 0)).y() for part in parts]
    assert tops == sorted(tops) and len(set(tops)) == len(tops)
    assert dock.options_box.isCollapsed() and dock.image_box.isCollapsed()
    assert [box.title() for box in (dock.options_box, dock.image_box)] == ["Shape and borders", "Image and model"]


class Words(QTranslator):
    """The Spanish texts; those not translated yet are replaced by longer ones."""

    def __init__(self) -> None:
        super().__init__()
        self.texts = read_translations(FOLDER / "geosam_es_es.ts")

    def translate(self, _context: str, text: str, *_: Any) -> str:
        return self.texts.get(text) or f"{text} {'n' * (len(text) // 4)}"

    def isEmpty(self) -> bool:  # noqa: N802
        return False


@pytest.fixture
def spanish(qgis_app: Any) -> Iterator[None]:
    words = Words()
    QCoreApplication.installTranslator(words)
    yield
    QCoreApplication.removeTranslator(words)


@pytest.mark.parametrize("area", [Qt.DockWidgetArea.LeftDockWidgetArea, Qt.DockWidgetArea.RightDockWidgetArea, None])
def test_the_panel_is_narrow_in_spanish_whatever_it_shows(
    spanish: None, dock: SegmentDock, iface: Interface, area: Any
) -> None:
    long = "a_name_that_goes_on_" * 6
    layer = QgsVectorLayer(f"Polygon?crs=EPSG:25830&field=class:string&field={long}:string", long, "memory")
    QgsProject.instance().addMapLayer(layer)
    if area is None:
        dock.setFloating(True)
    else:
        iface.addDockWidget(area, dock)
    dock.show()
    assert dock.minimumSizeHint().width() <= 280
    dock.layers.setLayer(layer)
    dock.class_box.set_layer(layer)
    dock.options_box.coverage.set_layer(layer)
    dock.findChild(QCheckBox, "coverage").setChecked(True)
    dock.class_box.set_classes(ClassList(long, tuple(ClassItem(str(n), long, None) for n in range(12))))
    dock.show_image(f"{long}.tif", long, f"/data/{long}.tif")
    dock.image_box.show_state(long)
    dock.image_box.show_recent(f"/data/{long}.embeddings.zarr")
    dock.show_result(f"12,345.67 ha · {long}", uncertain=True, candidate="3/3")
    for box in (dock.options_box, dock.image_box):
        box.setCollapsed(False)
    dock.encoding.show_end()
    QApplication.processEvents()
    assert dock.minimumSizeHint().width() <= 280
    dock.encoding.show_progress(34, long)
    dock.show_hint(long)
    QApplication.processEvents()
    assert dock.minimumSizeHint().width() <= 280


@pytest.mark.parametrize("scale", [1.0, 1.6])
def test_nothing_is_cut_at_its_least_width(spanish: None, dock: SegmentDock, iface: Interface, scale: float) -> None:
    font = dock.font()
    font.setPointSizeF(font.pointSizeF() * scale)
    dock.setFont(font)
    dock.show()
    dock.show_image("an_orthophoto_with_a_name.tif", "prepares as you click")
    dock.show_result("8.81 ha · uncertain: draw a box (0.31) · sub-part", uncertain=True, candidate="3/3")
    for box in (dock.options_box, dock.image_box):
        box.setCollapsed(False)
    QApplication.processEvents()
    iface.window.resizeDocks([dock], [100], Qt.Orientation.Horizontal)
    QApplication.processEvents()
    viewport = dock.widget().viewport()
    parts = [*dock.findChildren(QAbstractButton), *dock.findChildren(QLabel), *dock.findChildren(QAbstractSpinBox)]
    shown = [part for part in parts if part.isVisible() and part.parent() is not dock]
    for part in shown:
        assert part.mapTo(viewport, QPoint(part.width(), 0)).x() <= viewport.width(), part
        if isinstance(part, QLabel) and part.hasHeightForWidth():
            assert part.height() >= part.heightForWidth(part.width()), part.text()
        elif isinstance(part, (QCheckBox, QPushButton, QToolButton)) and part.text().strip():
            assert part.width() >= part.minimumSizeHint().width(), part.text()


def test_every_choice_is_whole_in_spanish(spanish: None, dock: SegmentDock, iface: Interface) -> None:
    layer = QgsVectorLayer("Polygon?crs=EPSG:25830", "habitats", "memory")
    dock.options_box.coverage.set_layer(layer)
    dock.findChild(QCheckBox, "coverage").setChecked(True)
    dock.options_box.setCollapsed(False)
    dock.show()
    iface.window.resizeDocks([dock], [100], Qt.Orientation.Horizontal)
    QApplication.processEvents()
    for name in ("outline", "ground"):
        combo = dock.findChild(QComboBox, name)
        option = QStyleOptionComboBox()
        combo.initStyleOption(option)
        field = QStyle.SubControl.SC_ComboBoxEditField
        room = combo.style().subControlRect(QStyle.ComplexControl.CC_ComboBox, option, field, combo).width()
        for index in range(combo.count()):
            assert combo.fontMetrics().horizontalAdvance(combo.itemText(index)) <= room, combo.itemText(index)


class TestImageLine:
    def test_nothing_open(self, dock: SegmentDock) -> None:
        assert dock._image.text() == "Click on an image"
        assert "drop" in dock._image.toolTip()
        assert not dock._image_state.isVisibleTo(dock)

    def test_the_name_is_elided_in_the_middle_and_whole_in_the_tooltip(self, dock: SegmentDock) -> None:
        name = "PNOA_MA_OF_ETRS89_HU30_h50_0567_a_long_name.tif"
        dock.show()
        dock.show_image(name, "ready", f"/data/{name}")
        QApplication.processEvents()
        shown = QLabel.text(dock._image)
        assert dock._image.fontMetrics().horizontalAdvance(shown) <= dock._image.width()
        assert "…" in shown and shown.startswith("PNOA") and shown.endswith(".tif")
        assert (dock._image.text(), dock._image.toolTip(), dock._image.accessibleName()) == (
            name,
            f"/data/{name}",
            name,
        )


class TestResult:
    @pytest.mark.parametrize(
        ("window", "text"), [("#ffffff", "#000000"), ("#efefef", "#202020"), ("#323232", "#b9b9b9")]
    )
    def test_a_warning_can_be_read_in_every_theme(self, dock: SegmentDock, window: str, text: str) -> None:
        dock.show_result("uncertain <b>", uncertain=True)
        palette = dock.palette()
        palette.setColor(QPalette.ColorRole.Window, QColor(window))
        palette.setColor(QPalette.ColorRole.WindowText, QColor(text))
        dock.setPalette(palette)
        shown = QLabel.text(dock._result)
        assert contrast(QColor(re.findall("#[0-9a-f]{6}", shown)[0]), QColor(window)) >= 4.5
        assert "&lt;b&gt;" in shown and dock._result.text() == "uncertain <b>"
        dock.show_result("9 m²\nrefused", uncertain=True)
        assert "<br>refused" in QLabel.text(dock._result), "HTML would join the lines"
        dock.show_result("sure", "12 ms")
        assert QLabel.text(dock._result) == "sure"
        assert dock._result.toolTip() == "12 ms"

    def test_the_button_says_which_candidate(self, dock: SegmentDock) -> None:
        button = next(b for b in dock.findChildren(QToolButton) if "andidate" in b.accessibleName())
        width = button.sizeHint().expandedTo(button.minimumSize()).width()
        dock.show_result("8.81 ha", candidate="2/3")
        assert button.text() == "2/3"
        assert button.sizeHint().expandedTo(button.minimumSize()).width() == width
        dock.show_result("")
        assert not button.text().strip()

    def test_the_hint_changes_with_the_mode_and_is_not_grey(self, dock: SegmentDock) -> None:
        usual = dock._hint.text()
        assert "Shift: outside" in usual and "Drag: box" in usual
        dock.show_hint("Draw the cut")
        assert dock._hint.text() == "Draw the cut"
        dock.show_hint("")
        assert dock._hint.text() == usual
        assert dock._hint.isEnabled()


def contrast(first: QColor, second: QColor) -> float:
    """Return the contrast of two colours as WCAG defines it."""

    def luminance(colour: QColor) -> float:
        parts = (colour.redF(), colour.greenF(), colour.blueF())
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def test_the_wheel_scrolls_the_panel_and_changes_no_value(dock: SegmentDock) -> None:
    for name in ("one", "two"):
        QgsProject.instance().addMapLayer(QgsVectorLayer("Polygon?crs=EPSG:25830", name, "memory"))
    dock.show()
    area = dock.options_box.findChild(QDoubleSpinBox, "min_area_m2")
    before = dock.layers.currentIndex(), area.value()
    for widget in (dock.layers, area):
        wheel = QWheelEvent(
            QPointF(5, 5),
            QPointF(widget.mapToGlobal(QPoint(5, 5))),
            QPoint(),
            QPoint(0, -120),
            Qt.MouseButton.NoButton,
            Qt.KeyboardModifier.NoModifier,
            Qt.ScrollPhase.NoScrollPhase,
            False,
        )
        QApplication.sendEvent(widget, wheel)
    assert (dock.layers.currentIndex(), area.value()) == before


class TestClasses:
    @pytest.fixture
    def layer(self) -> QgsVectorLayer:
        return QgsVectorLayer("Polygon?crs=EPSG:25830&field=id:integer&field=class:string", "a", "memory")

    def test_the_code_goes_to_the_field(self, dock: SegmentDock, layer: QgsVectorLayer) -> None:
        box = dock.class_box
        box.set_layer(layer)
        box.set_classes(CLASSES)
        assert box.attributes() == {}
        box.choose(0)
        assert box.attributes() == {"class": "G1"}
        assert box.colour is not None
        assert box.colour.name() == "#00aa00"
        box.choose(7)
        assert box.attributes() == {"class": "G1"}

    def test_a_class_without_a_colour_gets_one(self, dock: SegmentDock) -> None:
        dock.class_box.set_classes(CLASSES)
        dock.class_box.choose(1)
        assert dock.class_box.colour is not None
        assert dock.class_box.colour.isValid()

    def test_numbers_and_codes_are_shown_once(self, dock: SegmentDock) -> None:
        dock.class_box.set_classes(CLASSES)
        texts = [dock.class_box._list.item(row).text() for row in range(2)]
        assert texts == ["1  G1  Forest", "2  C1 Water"]

    def test_the_class_stays_when_the_list_is_read_again(self, dock: SegmentDock) -> None:
        dock.class_box.set_classes(CLASSES)
        dock.class_box.choose(1)
        dock.class_box.set_classes(ClassList("class", CLASSES.items[::-1]))
        assert dock.class_box.current == CLASSES.items[1]

    def test_without_a_list_the_class_is_typed(self, dock: SegmentDock, layer: QgsVectorLayer) -> None:
        box = dock.class_box
        box.set_layer(layer)
        box.set_classes(None)
        box._text.setText(" Maize ")
        assert box.attributes() == {"class": "Maize"}
        box._text.clear()
        assert box.attributes() == {}

    def test_the_list_is_as_high_as_it_is_long(self, dock: SegmentDock) -> None:
        many: Any = ClassList("class", tuple(ClassItem(str(n), f"Class {n}", None) for n in range(40)))
        dock.class_box.set_classes(CLASSES)
        low = dock.class_box._list.height()
        dock.class_box.set_classes(many)
        assert low < dock.class_box._list.height() < 300


def test_snapping_is_bounded_and_says_that_it_is_in_metres(dock: SegmentDock) -> None:
    box = dock.options_box.findChild(QDoubleSpinBox, "snap_m")
    assert box.suffix() == " m" and (box.minimum(), box.maximum()) == (0.0, 50.0)
    box.setValue(1e5)
    assert Settings().snap_m == 50.0


def test_an_address_of_a_store_can_be_given(dock: SegmentDock, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[str] = []
    dock.store_chosen.connect(chosen.append)
    answers = [(" https://example.org/a.embeddings.zarr ", True), ("https://", False)]
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: answers.pop(0))
    for _ in range(2):
        dock.findChild(QToolButton, "remote_image").click()
    assert chosen == ["https://example.org/a.embeddings.zarr"] and answers == []
