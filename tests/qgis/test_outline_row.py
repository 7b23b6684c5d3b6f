"""How outlines are drawn, chosen for each class."""

from __future__ import annotations

from typing import Any

import pytest
from qgis.PyQt.QtWidgets import QCheckBox, QComboBox

from geosam_es.gui.interaction import Interaction
from geosam_es.gui.panel.outline_row import OutlineRow
from geosam_es.qgis_support.classes import ClassItem, ClassList
from geosam_es.qgis_support.settings import Settings


@pytest.fixture
def row(qgis_app: Any) -> OutlineRow:
    return OutlineRow(Settings())


def choose(row: OutlineRow, outline: int, squares: bool) -> None:
    row.findChild(QComboBox).setCurrentIndex(outline)
    row.findChild(QCheckBox).setChecked(squares)


def test_each_class_has_its_own_also_in_the_next_session(row: OutlineRow) -> None:
    changes: list[int] = []
    row.changed.connect(lambda: changes.append(1))
    row.show_class("I1.1/a")
    choose(row, 1, squares=True)
    row.show_class("G1.A")
    assert (Settings().outline, Settings().right_angles) == ("", False) and len(changes) == 3
    choose(row, 2, squares=False)
    again = OutlineRow(Settings())
    again.show_class("I1.1/a")
    assert (Settings().outline, Settings().right_angles) == ("few", True)
    assert again.findChild(QComboBox).currentIndex() == 1 and again.findChild(QCheckBox).isChecked()


def test_a_class_of_another_list_with_the_same_code_is_another_one(ready: Interaction) -> None:
    box, settings = ready.dock.class_box, Settings()
    box.set_classes(ClassList("class", (ClassItem("1", "Building"), ClassItem("2", "Road"))))
    box.choose(0)
    ready.dock.findChild(QCheckBox, "right_angles").setChecked(True)
    box.set_classes(ClassList("class", (ClassItem("1", "Lake"), ClassItem("2", "River"))))
    box.choose(0)
    assert not settings.right_angles
    box.set_classes(ClassList("class", (ClassItem("1", "Building"),)))
    box.choose(0)
    assert settings.right_angles


def test_other_classes_have_what_was_chosen_without_one(row: OutlineRow) -> None:
    choose(row, 2, squares=False)
    row.show_class("I1.1")
    assert Settings().outline == "smooth"
    choose(row, 0, squares=False)
    row.show_class("E2.6")
    assert Settings().outline == "smooth"


def test_settings_that_cannot_be_read(row: OutlineRow) -> None:
    Settings().outlines = "[1, 2"
    row.show_class("I1.1")
    choose(row, 1, squares=False)
    assert Settings().outlines == '{"I1.1": ["few", false]}'
