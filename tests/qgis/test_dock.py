"""The panel: what it shows, and the signals it emits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qgis.core import QgsProject, QgsVectorLayer
from qgis.PyQt.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qgis.PyQt.QtGui import QColor, QDragEnterEvent, QDropEvent
from qgis.PyQt.QtWidgets import QApplication, QCheckBox, QDoubleSpinBox, QFileDialog, QToolButton

from geosam_es.gui.panel.actions import Actions
from geosam_es.gui.panel.dock import SegmentDock
from geosam_es.qgis_support.classes import ClassItem, ClassList
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
    dock.show_recent("/data/second.embeddings.zarr")
    assert dock._stores.currentText() == "second.embeddings.zarr"
    dock._stores.activated.emit(1)
    assert chosen == ["/data/first.embeddings.zarr"]
    dock.show_recent(None)
    dock._stores.activated.emit(0)
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


def test_every_button_has_a_tooltip_and_leaves_the_focus_on_the_map(dock: SegmentDock) -> None:
    inner = ("QgsCollapsibleGroupBox", "QgsGroupBoxCollapseButton", "QToolBarExtension")
    found = [b for b in dock.widget().findChildren(QToolButton) if b.metaObject().className() not in inner]
    buttons = [b for b in found if not b.icon().isNull()]
    assert len(buttons) >= 9
    assert all(button.toolTip() for button in buttons)
    assert all(button.focusPolicy() == Qt.FocusPolicy.NoFocus for button in buttons)


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
