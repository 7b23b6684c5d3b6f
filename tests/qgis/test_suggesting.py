"""Suggested classes: from the polygons of the target layer to the panel and the key, in the real window."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
import shapely
import shapely.affinity
from qgis.core import QgsCoordinateReferenceSystem, QgsCoordinateTransform, QgsFeature, QgsProject, QgsVectorLayer
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import QApplication

from geosam_es.gui.editing.candidates import candidate_layer
from geosam_es.gui.interaction import Interaction
from geosam_es.inference.class_learner import ClassLearner
from geosam_es.qgis_support.classes import ClassItem, ClassList
from geosam_es.qgis_support.crs import to_qgs, transform_polygon
from tests.qgis.support import CRS, DISCS, PIXEL, Interface, click, key, place, settled, wait_until

HABITATS = ClassList("class", (ClassItem("G1.A", "Oak woodland"), ClassItem("I1.1", "Arable land")))


def bright(name: str, dx: float = 0.0) -> shapely.Polygon:
    return shapely.Point(place(name).x() + dx, place(name).y()).buffer(40 * PIXEL)


def dark(name: str) -> shapely.Polygon:
    """Return a polygon beside a disc."""
    return shapely.Point(place(name).x() + (DISCS[name][2] + 60) * PIXEL, place(name).y()).buffer(30 * PIXEL)


def add(layer: QgsVectorLayer, shape: shapely.Geometry, name: str) -> int:
    way = QgsCoordinateTransform(QgsCoordinateReferenceSystem(CRS), layer.crs(), QgsProject.instance())
    feature = QgsFeature(layer.fields())
    feature.setGeometry(to_qgs(transform_polygon(shape, way)))
    feature.setAttribute("class", name)
    layer.startEditing()
    layer.addFeature(feature)
    return int(feature.id())


def fill(layer: QgsVectorLayer) -> list[int]:
    """Add three polygons of each of two classes."""
    rows = [(bright(name, dx), "I1.1") for name, dx in (("a", -15), ("b", 15), ("b", 0))]
    return [add(layer, *row) for row in rows + [(dark(name), "G1.A") for name in "abc"]]


def draw(iface: Interface, interaction: Interaction) -> None:
    click(iface.canvas, place("c"))
    settled(interaction)


def listed(interaction: Interaction) -> list[str]:
    found = interaction.dock.class_box._list
    return [found.item(row).text() for row in range(found.count())]


@pytest.fixture
def box(ready: Interaction) -> Any:
    ready.dock.class_box.set_classes(HABITATS)
    return ready.dock.class_box


def test_the_class_of_the_proposal_is_shown_and_a_key_takes_it(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, box: Any
) -> None:
    fill(target)
    draw(iface, ready)
    wait_until(lambda: box.suggestion)
    assert re.fullmatch(r"I1.1 Arable land (5|6|7|8|9)\d %", box.suggestion)
    assert "◆" in listed(ready)[1] and "◆" not in listed(ready)[0] and box.suggestion in box._written.toolTip()
    # It writes and chooses nothing by itself.
    assert box.attributes() == {} and target.featureCount() == 6
    key(iface, Qt.Key.Key_0)
    assert box.attributes() == {"class": "I1.1"} and target.featureCount() == 6
    key(iface, Qt.Key.Key_Return)
    wait_until(lambda: target.featureCount() == 7)
    wait_until(lambda: not box.suggestion)
    assert "◆" not in "".join(listed(ready)) and not ready._actions.suggested.isEnabled()


def test_nothing_before_three_polygons_of_each_and_after_one_is_deleted(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, box: Any
) -> None:
    *ids, last = fill(target)
    target.deleteFeature(last)
    draw(iface, ready)
    add(target, dark("c"), "G1.A")
    wait_until(lambda: box.suggestion)
    target.deleteFeature(ids[0])
    wait_until(lambda: not box.suggestion)
    assert not ready._actions.suggested.isEnabled()


def test_the_class_of_a_polygon_changes_and_the_layer_is_saved(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, box: Any
) -> None:
    ids = fill(target)
    draw(iface, ready)
    wait_until(lambda: "Arable" in box.suggestion)
    target.commitChanges(False)
    for feature in list(target.getFeatures()):
        target.changeAttributeValue(feature.id(), 0, "G1.A" if feature["class"] == "I1.1" else "I1.1")
    wait_until(lambda: "Oak" in box.suggestion)
    assert len(ids) == target.featureCount()


def test_a_layer_in_another_crs_and_without_a_list_of_classes(iface: Interface, ready: Interaction) -> None:
    layer = QgsVectorLayer("Polygon?crs=EPSG:4326&field=class:string", "degrees", "memory")
    QgsProject.instance().addMapLayer(layer)
    fill(layer)
    ready.dock.layers.setLayer(layer)
    draw(iface, ready)
    box = ready.dock.class_box
    wait_until(lambda: box.suggestion)
    assert box._written.text().startswith("◆ I1.1 ")
    key(iface, Qt.Key.Key_0)
    assert box.attributes() == {"class": "I1.1"}
    # Without a class field there is nothing to learn from.
    box.choose_field("")
    wait_until(lambda: not box.suggestion)


def test_many_polygons_never_hold_the_window(iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
    draw(iface, ready)
    target.startEditing()
    features = []
    for number in range(400):
        feature = QgsFeature(target.fields())
        feature.setGeometry(to_qgs(bright("a", number / 8) if number % 2 else dark("b")))
        feature.setAttribute("class", "I1.1" if number % 2 else "G1.A")
        features.append(feature)
    target.addFeatures(features)
    worst, end = 0.0, time.monotonic() + 20
    while not ready.dock.class_box.suggestion and time.monotonic() < end:
        # The time of this thread alone, whatever else keeps the computer busy.
        started = time.thread_time()
        QApplication.processEvents()
        worst = max(worst, time.thread_time() - started)
    assert ready.dock.class_box.suggestion and worst < 0.05


def degrees(shapes: list[shapely.Geometry]) -> QgsVectorLayer:
    """Return a layer of polygons of a class, in another CRS than the image."""
    layer = QgsVectorLayer("Polygon?crs=EPSG:4326&field=class:string", "degrees", "memory")
    QgsProject.instance().addMapLayer(layer)
    for shape in shapes:
        add(layer, shape, "I1.1")
    return layer


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the numbers of polygons that were read at once."""
    counts: list[int] = []
    put = ClassLearner.put

    def counted(self: ClassLearner, polygons: Any, are_all: bool = False) -> None:
        counts.append(len(polygons))
        put(self, polygons, are_all)

    monkeypatch.setattr(ClassLearner, "put", counted)
    return counts


def test_polygons_beside_the_image_are_not_read(ready: Interaction, read: list[int]) -> None:
    layer = degrees([bright("a"), dark("b"), shapely.affinity.translate(bright("a"), 5000, 0)])
    ready.dock.layers.setLayer(layer)
    wait_until(lambda: any(read))
    assert read[-1] == 2


def test_the_plugin_is_unloaded_while_polygons_are_read(ready: Interaction, read: list[int]) -> None:
    layer = degrees([bright("a")])
    layer.commitChanges()
    layer.dataProvider().addFeatures([next(layer.getFeatures())] * 3000)
    ready.dock.layers.setLayer(layer)
    QApplication.processEvents()
    wait_until(lambda: ready.suggestions._worker.isRunning())
    time.sleep(0.02)
    ready.suggestions.release()
    assert sum(read) < 2000


def test_a_polygon_of_another_layer_while_nothing_is_drawn(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, box: Any
) -> None:
    fill(target)
    ready.suggestions.look_at(bright("c"), target)
    wait_until(lambda: "Arable" in box.suggestion)
    ready.suggestions.look_at(dark("a"), target)
    wait_until(lambda: "Oak" in box.suggestion)
    # What is drawn comes first, and the other polygon again after it.
    draw(iface, ready)
    wait_until(lambda: "Arable" in box.suggestion)
    key(iface, Qt.Key.Key_Escape)
    wait_until(lambda: "Oak" in box.suggestion)
    ready.suggestions.look_at(None, None)
    assert not box.suggestion


def test_in_the_review_the_key_accepts_with_the_suggested_class(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, box: Any
) -> None:
    fill(target)
    count = target.featureCount()
    QgsProject.instance().setCrs(QgsCoordinateReferenceSystem(CRS))
    ready.review.fill(candidate_layer("found", QgsCoordinateReferenceSystem(CRS), [bright("c")], score=[0.9]))
    key(iface, Qt.Key.Key_N)
    wait_until(lambda: "Arable" in box.suggestion)
    assert target.featureCount() == count
    key(iface, Qt.Key.Key_0)
    wait_until(lambda: target.featureCount() == count + 1)
    assert [str(item["class"]) for item in target.getFeatures()].count("I1.1") == 4
    # Nothing is under review any more.
    wait_until(lambda: not box.suggestion)
