"""The classes in the panel: long lists, searching, several classes on one polygon, and the keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import shapely
from qgis.core import QgsField, QgsProject, QgsVectorLayer, QgsVectorLayerJoinInfo
from qgis.PyQt.QtCore import Qt, QVariant
from qgis.PyQt.QtGui import QColor
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QApplication, QComboBox, QListWidget, QSpinBox

from geosam_es.core.coverage import Changes
from geosam_es.errors import EditError
from geosam_es.gui.editing.edits import write_changes
from geosam_es.gui.panel.class_box import ClassBox
from geosam_es.gui.panel.class_mix import rebalanced
from geosam_es.gui.panel.fields_dialog import FieldsDialog
from geosam_es.qgis_support.classes import ClassItem, ClassList
from geosam_es.qgis_support.field_map import FieldMap

NAMES = ("Láminas de agua", "Pastos xéricos", "Encinar ibérico", "Mosaico de cultivos con una denominación larguísima")
HABITATS = ClassList("class", tuple(ClassItem(code, name) for code, name in zip(("4090", "9340", "10", "110"), NAMES)))
MANY = ClassList("class", tuple(ClassItem(f"H{n}", f"Hábitat número {n} de la leyenda completa") for n in range(1, 61)))
FIELDS = "&".join(
    f"field={name}"
    for name in ("class:string", "h1:string", "p1:integer", "h2:string", "p2:integer", "h3:string", "p3:double")
)
NONE = Qt.KeyboardModifier.NoModifier


@pytest.fixture
def layer() -> QgsVectorLayer:
    return QgsVectorLayer(f"Polygon?crs=EPSG:25830&{FIELDS}", "habitats", "memory")


@pytest.fixture
def box(qgis_app: Any, layer: QgsVectorLayer) -> Iterator[ClassBox]:
    box = ClassBox()
    box.resize(260, 600)
    box.set_layer(layer)
    box.show()
    QApplication.processEvents()
    yield box
    box.deleteLater()


def rows(box: ClassBox) -> QListWidget:
    return box.findChild(QListWidget)


def shown(box: ClassBox) -> list[str]:
    found = rows(box)
    return [found.item(row).text() for row in range(found.count()) if not found.isRowHidden(row)]


def click_row(box: ClassBox, row: int, modifiers: Any = NONE) -> None:
    found = rows(box)
    spot = found.visualItemRect(found.item(row)).center()
    QTest.mouseClick(found.viewport(), Qt.MouseButton.LeftButton, modifiers, spot)


def spins(box: ClassBox) -> list[QSpinBox]:
    return [spin for spin in box.findChildren(QSpinBox) if spin.isVisible()]


def visible_count(found: QListWidget) -> int:
    area = found.viewport().rect()
    return sum(area.contains(found.visualItemRect(found.item(row))) for row in range(found.count()))


@pytest.mark.parametrize("count", [1, 4, 9, 12, 60])
def test_up_to_nine_rows_are_whole_and_the_rest_scrolls(box: ClassBox, count: int) -> None:
    box.set_classes(ClassList("class", MANY.items[:count]))
    QApplication.processEvents()
    assert visible_count(rows(box)) == min(count, 9)
    assert rows(box).verticalScrollBar().maximum() == 0 or count > 9
    box.choose(count - 1)
    QApplication.processEvents()
    last = rows(box).visualItemRect(rows(box).item(count - 1))
    assert rows(box).viewport().rect().contains(last)


def test_long_names_are_cut_in_the_middle_and_whole_in_the_tooltip(box: ClassBox) -> None:
    box.set_classes(HABITATS)
    assert rows(box).textElideMode() == Qt.TextElideMode.ElideMiddle
    assert rows(box).item(3).toolTip() == f"110 {NAMES[3]}"
    assert not rows(box).horizontalScrollBar().isVisible()


def test_the_box_fits_into_280_pixels(box: ClassBox) -> None:
    box.set_classes(HABITATS)
    box.mix_fields.setCollapsed(False)
    box.mix_fields.choose(["h1", "p1", "h2", "p2", "h3", "p3"])
    for row in (0, 1, 3):
        box.toggle(row)
    QApplication.processEvents()
    assert box.minimumSizeHint().width() <= 250


class TestSearching:
    @pytest.mark.parametrize(
        ("typed", "codes"),
        [("LAMINAS", ["4090"]), ("iber", ["10"]), ("de culti", ["110"]), ("934", ["9340"]), ("10", ["10", "110"])],
    )
    def test_code_and_name_without_accents(self, box: ClassBox, typed: str, codes: list[str]) -> None:
        box.set_classes(HABITATS)
        box._search.setFocus()
        QTest.keyClicks(box._search, typed)
        assert [re.split(r"\s+", text)[1] for text in shown(box)] == codes

    def test_enter_takes_the_first_and_goes_back_to_the_map(self, box: ClassBox) -> None:
        box.set_classes(MANY)
        left: list[bool] = []
        box.finished.connect(lambda: left.append(True))
        QTest.keyClicks(box._search, "numero 57")
        QTest.keyClick(box._search, Qt.Key.Key_Return)
        assert box.attributes() == {"class": "H57"}
        assert left == [True] and box._search.text() == "" and len(shown(box)) == 60
        QApplication.processEvents()
        assert rows(box).viewport().rect().contains(rows(box).visualItemRect(rows(box).item(56)))

    def test_a_whole_code_comes_first(self, box: ClassBox) -> None:
        box.set_classes(ClassList("class", (HABITATS.items[3], HABITATS.items[2])))
        QTest.keyClicks(box._search, "10")
        QTest.keyClick(box._search, Qt.Key.Key_Enter)
        assert box.attributes() == {"class": "10"}

    def test_a_class_that_the_search_hides_is_seen_once_it_is_chosen(self, box: ClassBox) -> None:
        box.set_classes(HABITATS)
        QTest.keyClicks(box._search, "laminas")
        box.choose(0)
        assert len(shown(box)) == 1
        box.choose(1)
        assert len(shown(box)) == len(NAMES) and box._search.text() == ""

    def test_nothing_found_changes_nothing(self, box: ClassBox) -> None:
        box.set_classes(HABITATS)
        box.choose(1)
        left: list[bool] = []
        box.finished.connect(lambda: left.append(True))
        QTest.keyClicks(box._search, "zzz")
        QTest.keyClick(box._search, Qt.Key.Key_Return)
        assert left == [] and box.attributes() == {"class": "9340"}
        # What will be written stays in sight.
        assert shown(box) == [] and box._written.text().startswith("9340")

    def test_escape_clears_then_goes_back_to_the_map(self, box: ClassBox) -> None:
        box.set_classes(HABITATS)
        left: list[bool] = []
        box.finished.connect(lambda: left.append(True))
        QTest.keyClicks(box._search, "agua")
        QTest.keyClick(box._search, Qt.Key.Key_Escape)
        assert len(shown(box)) == 4 and left == []
        QTest.keyClick(box._search, Qt.Key.Key_Escape)
        assert left == [True]

    def test_digits_are_typed(self, box: ClassBox) -> None:
        box.set_classes(MANY)
        QTest.keyClicks(box._search, "12")
        assert box._search.text() == "12" and box.attributes() == {}

    def test_enter_in_the_line_for_other_classes_goes_back_too(self, box: ClassBox) -> None:
        box.set_classes(None)
        left: list[bool] = []
        box.finished.connect(lambda: left.append(True))
        QTest.keyClicks(box._text, "Maiz 2")
        QTest.keyClick(box._text, Qt.Key.Key_Return)
        assert left == [True] and box.attributes() == {"class": "Maiz 2"}


class TestWhatIsWritten:
    def test_it_is_always_said(self, box: ClassBox) -> None:
        said = box._written.toolTip
        box.set_classes(HABITATS)
        assert said() == "No class chosen"
        box.choose(1)
        assert said() == "9340 Pastos xéricos → class"
        box._field.setField("")
        box.choose(0)
        assert said() == "Not written: choose a class field" and box.attributes() == {}
        box.set_classes(None)
        box.set_field("class")
        box._text.setText("Maíz")
        assert said() == "Maíz → class"

    def test_a_class_that_the_new_list_lacks_is_forgotten(self, box: ClassBox) -> None:
        box.set_classes(HABITATS)
        box.choose(3)
        box.set_classes(ClassList("class", HABITATS.items[:2]))
        assert box.attributes() == {} and box.colour is None
        assert rows(box).selectedItems() == []

    def test_clicks_leave_the_focus_alone(self, box: ClassBox) -> None:
        box.set_classes(HABITATS)
        box._search.setFocus()
        click_row(box, 2)
        assert box.attributes() == {"class": "10"}
        assert not rows(box).hasFocus()


class TestMix:
    @pytest.fixture
    def mixed(self, box: ClassBox) -> ClassBox:
        box.set_classes(HABITATS)
        box.mix_fields.choose(["h1", "p1", "h2", "p2", "h3", "p3"])
        return box

    @pytest.mark.parametrize("modifier", [Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier])
    def test_ctrl_or_shift_adds_classes_up_to_three(self, mixed: ClassBox, modifier: Any) -> None:
        click_row(mixed, 0)
        click_row(mixed, 1, modifier)
        assert mixed.shown_text == "60 % 4090, 40 % 9340"
        assert mixed._written.text() == "60 % 4090, 40 % 9340"
        assert mixed._written.toolTip() == "60 % 4090, 40 % 9340 → class, h1, p1, h2, p2"
        assert mixed.attributes() == {
            **{"class": "4090", "h1": "4090", "p1": 60, "h2": "9340", "p2": 40},
            **{"h3": None, "p3": None},
        }
        assert len(rows(mixed).selectedItems()) == 2
        click_row(mixed, 2, modifier)
        assert mixed.shown_text == "50 % 4090, 30 % 9340, 20 % 10"
        click_row(mixed, 3, modifier)
        assert mixed.shown_text == "50 % 4090, 30 % 9340, 20 % 10"
        click_row(mixed, 0, modifier)
        assert mixed.shown_text == "60 % 9340, 40 % 10"

    def test_a_class_key_means_one_class(self, mixed: ClassBox) -> None:
        mixed.choose(0)
        mixed.toggle(1)
        mixed.choose(2)
        assert mixed.shown_text == "10 Encinar ibérico" and spins(mixed) == []
        values = mixed.attributes()
        assert (values["class"], values["h1"], values["p1"], values["h2"], values["p2"]) == (
            "10",
            "10",
            100,
            None,
            None,
        )

    def test_percentages_make_a_hundred(self, mixed: ClassBox) -> None:
        for row in (0, 1, 2):
            mixed.toggle(row)
        first, second, third = spins(mixed)
        third.setValue(60)
        assert [spin.value() for spin in (first, second, third)] == [39, 1, 60]
        first.setValue(99)
        assert sum(spin.value() for spin in spins(mixed)) == 100
        assert mixed.shown_text == f"{first.value()} % 4090, {second.value()} % 9340, {third.value()} % 10"

    def test_a_typed_percentage_counts_when_it_is_whole(self, mixed: ClassBox) -> None:
        for row in (0, 1, 2):
            mixed.toggle(row)
        left: list[bool] = []
        mixed.finished.connect(lambda: left.append(True))
        last = spins(mixed)[2]
        last.setFocus()
        last.selectAll()
        QTest.keyClicks(last, "50")
        assert mixed.shown_text == "50 % 4090, 30 % 9340, 20 % 10"
        QTest.keyClick(last, Qt.Key.Key_Return)
        assert mixed.shown_text == "49 % 4090, 1 % 9340, 50 % 10" and left == [True]

    def test_the_largest_gives_class_and_colour(self, mixed: ClassBox) -> None:
        mixed.choose(0)
        mixed.toggle(1)
        spins(mixed)[0].setValue(30)
        assert mixed.attributes()["class"] == "9340"
        assert mixed.colour == HABITATS.color(1)

    def test_without_fields_there_is_one_class(self, box: ClassBox) -> None:
        box.set_classes(HABITATS)
        box.choose(0)
        assert box.mix_fields.isCollapsed()
        click_row(box, 1, Qt.KeyboardModifier.ControlModifier)
        assert box.attributes() == {"class": "4090"}
        assert not box.mix_fields.isCollapsed()

    def test_one_field_names_the_others(self, box: ClassBox) -> None:
        for row, column, name in ((0, 0, "h1"), (0, 1, "p1")):
            combo = box.mix_fields._pairs[row][column]
            combo.setField(name)
            combo.activated.emit(combo.currentIndex())
        assert box.mix_fields.names == ["h1", "p1", "h2", "p2", "h3", "p3"]

    def test_the_fields_are_kept_with_the_project(self, mixed: ClassBox, layer: QgsVectorLayer, tmp_path: Path) -> None:
        project, layer_id = QgsProject.instance(), layer.id()
        project.addMapLayer(layer)
        assert project.write(str(tmp_path / "p.qgz"))
        mixed.set_layer(None)
        project.clear()
        assert project.read(str(tmp_path / "p.qgz"))
        box = ClassBox()
        box.set_layer(project.mapLayer(layer_id))
        assert box.mix_fields.names == ["h1", "p1", "h2", "p2", "h3", "p3"]
        project.clear()

    def test_another_layer_has_no_mix(self, mixed: ClassBox) -> None:
        mixed.choose(0)
        mixed.toggle(1)
        mixed.set_layer(QgsVectorLayer(f"Polygon?crs=EPSG:25830&{FIELDS}", "b", "memory"))
        mixed.set_classes(HABITATS)
        assert mixed.attributes() == {"class": "4090"}
        assert mixed.shown_text == f"4090 {NAMES[0]}"


def test_only_fields_of_the_layer_itself_are_offered(box: ClassBox) -> None:
    """A class in a joined or a virtual field would be lost."""
    legend = QgsVectorLayer("NoGeometry?field=code:string&field=class:string", "legend", "memory")
    layer = QgsVectorLayer("Polygon?crs=EPSG:25830&field=code:string&field=h1:string", "parcels", "memory")
    join = QgsVectorLayerJoinInfo()
    join.setJoinLayer(legend)
    join.setJoinFieldName("code")
    join.setTargetFieldName("code")
    join.setPrefix("")
    assert layer.addJoin(join)
    layer.addExpressionField("1", QgsField("habitat", QVariant.String))
    assert {"class", "habitat"} < set(layer.fields().names())
    box.set_layer(layer)
    assert box.field == "code"
    for name in ("class", "habitat"):
        box.set_field(name)
        box.choose_field(name)
        assert box.field != name
    combos = box.findChildren(QComboBox)
    assert len(combos) == 7 and all(combo.findText(name) < 0 for combo in combos for name in ("class", "habitat"))
    assert FieldsDialog(layer, "").findChild(QComboBox, "class").findText("class") < 0
    for name in ("class", "habitat"):
        with pytest.raises(EditError, match=f"field {name} of parcels is joined or computed"):
            FieldMap({"image": name}).apply(layer)
        with pytest.raises(EditError, match=f"field {name} of parcels is joined or computed"):
            write_changes(layer, Changes({}, [shapely.box(0, 0, 1, 1)]), "Add polygon", {name: "oak"})
    assert layer.featureCount() == 0
    layer.setCustomProperty("geosam_es/fields", '{"names": {"image": "habitat", "score": "h1"}, "expression": ""}')
    assert FieldMap.of(layer).names == {"score": "h1"}
    # A new field is offered at once.
    layer.dataProvider().addAttributes([QgsField("clase", QVariant.String)])
    layer.updateFields()
    box.show_fields()
    box.set_field("clase")
    assert box.field == "clase"


@pytest.mark.parametrize(
    ("percents", "index", "value", "wanted"),
    [
        ([60, 40], 0, 70, [70, 30]),
        ([60, 40], 1, 100, [1, 99]),
        ([50, 30, 20], 0, 60, [60, 30, 10]),
        ([50, 30, 20], 0, 90, [90, 9, 1]),
        ([50, 30, 20], 2, 5, [50, 45, 5]),
        ([50, 30, 20], 1, 0, [50, 1, 49]),
    ],
)
def test_rebalanced(percents: list[int], index: int, value: int, wanted: list[int]) -> None:
    assert rebalanced(percents, index, value) == wanted


def test_colours_of_the_list_are_those_of_the_style(box: ClassBox) -> None:
    classes = ClassList("class", (ClassItem("A", "a", QColor("#00aa00")), ClassItem("B", "b")))
    box.set_classes(classes)
    box.choose(1)
    assert box.colour == classes.color(1)
