"""The key F: from an example to candidates in the review, and better ones after judging them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import shapely
from qgis.core import QgsFeature, QgsProject, QgsVectorFileWriter, QgsVectorLayer
from qgis.PyQt import sip
from qgis.PyQt.QtCore import Qt

from geosam_es.gui.editing import finding
from geosam_es.gui.editing.candidates import candidate_layer
from geosam_es.gui.editing.layer_geometry import LayerFitting
from geosam_es.gui.interaction import Interaction
from geosam_es.qgis_support.crs import from_qgs, to_qgs
from tests.qgis.support import DISCS, PIXEL, Interface, click, key, place, settled, wait_until

F = Qt.Key.Key_F


def circle(name: str) -> shapely.Polygon:
    return shapely.Point(place(name).x(), place(name).y()).buffer(DISCS[name][2] * PIXEL)


def add_circle(layer: QgsVectorLayer, name: str) -> None:
    feature = QgsFeature(layer.fields())
    feature.setGeometry(to_qgs(shapely.MultiPolygon([circle(name)])))
    layer.dataProvider().addFeature(feature)


def proposed(ready: Interaction) -> set[str]:
    """Return the discs in the queue; everything in it must be one."""
    found = ready.review.candidates
    assert found is not None
    names = set()
    for key_ in found.ids[ready.review.items]:
        polygon = from_qgs(found.layer.getGeometry(int(key_)))
        name = max(DISCS, key=lambda name: polygon.intersection(circle(name)).area)
        assert polygon.intersection(circle(name)).area / polygon.union(circle(name)).area > 0.8
        names.add(name)
    assert len(names) == len(ready.review.items)
    return names


def press(iface: Interface, ready: Interaction) -> None:
    """Press F, and wait for another result."""
    before = ready.review.layer
    key(iface, F)
    wait_until(lambda: ready.review.layer is not None and ready.review.layer is not before)


def test_what_looks_like_the_proposal_goes_to_the_review(iface: Interface, ready: Interaction) -> None:
    click(iface.canvas, place("a"))
    settled(ready)
    press(iface, ready)
    assert proposed(ready) == {"b", "c"}
    layer = ready.review.layer
    assert layer is not None and layer.name() == "Similar objects"
    assert layer.id() in QgsProject.instance().mapLayers()
    assert {"likeness", "score"} <= {field.name() for field in layer.fields()}


def test_selected_polygons_are_examples_and_those_of_the_layer_are_left_out(
    iface: Interface, ready: Interaction
) -> None:
    target = ready.dock.layer
    for name in ("a", "b"):
        add_circle(target, name)
    target.selectByExpression("$id = 1")
    press(iface, ready)
    assert proposed(ready) == {"c"}


def test_with_the_same_polygons_selected_the_search_goes_on(
    iface: Interface, ready: Interaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "_MOST_CLICKS", 1)
    target = ready.dock.layer
    add_circle(target, "a")
    target.selectAll()
    found: list[set[str]] = []
    while not found or found[-1] != {"b", "c"}:
        assert len(found) < 20
        press(iface, ready)
        assert any("F: keep searching" in text for text in iface.messages())
        found.append(proposed(ready))
    assert found[0] != {"b", "c"}


def test_what_was_rejected_does_not_come_back(iface: Interface, ready: Interaction) -> None:
    click(iface.canvas, place("a"))
    settled(ready)
    press(iface, ready)
    ready.controller.discard()
    key(iface, Qt.Key.Key_N)
    rejected = ready.review.place
    key(iface, Qt.Key.Key_Delete)
    wait_until(lambda: len(ready.review.items) == 1)
    press(iface, ready)
    assert len(proposed(ready)) == 1
    (left,) = ready.review.items
    again = from_qgs(ready.review.layer.getGeometry(int(ready.review.candidates.ids[left])))
    assert again.intersection(rejected).area == 0


@pytest.mark.parametrize("use", ["nothing", "unsaved edit", "saved edit", "name", "file", "target"])
def test_the_former_result_goes_unless_the_user_has_made_it_his_own(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, tmp_path: Path, use: str
) -> None:
    add_circle(target, "a")
    target.selectAll()
    press(iface, ready)
    layer = ready.review.layer
    if use in ("unsaved edit", "saved edit"):
        layer.startEditing()
        layer.deleteFeature(1)
        assert use == "unsaved edit" or layer.commitChanges()
    elif use == "name":
        layer.setName("Crowns")
    elif use == "file":
        # As QGIS makes a temporary layer permanent.
        path = str(tmp_path / "crowns.gpkg")
        options, context = QgsVectorFileWriter.SaveVectorOptions(), QgsProject.instance().transformContext()
        QgsVectorFileWriter.writeAsVectorFormatV3(layer, path, context, options)
        layer.setDataSource(path, layer.name(), "ogr")
    elif use == "target":
        click(iface.canvas, place("a"))
        settled(ready)
        ready.dock.layers.setLayer(layer)
    press(iface, ready)
    assert sip.isdeleted(layer) == (use == "nothing")


@pytest.mark.parametrize("is_second", [False, True])
def test_a_search_that_ends_while_all_are_accepted_waits(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, monkeypatch: pytest.MonkeyPatch, is_second: bool
) -> None:
    add_circle(target, "a")
    target.selectAll()
    if is_second:
        press(iface, ready)
    else:
        shapes = [circle(name) for name in ("b", "c")]
        layer = candidate_layer("everything", target.crs(), shapes)
        QgsProject.instance().addMapLayer(layer)
        ready.review.fill(layer)
    layer, ended = ready.review.layer, threading.Event()
    finished, fitted = finding._Search.finished, LayerFitting.__call__

    def note(task: finding._Search, result: bool) -> None:
        finished(task, result)
        ended.set()

    def wait(*arguments: Any) -> Any:
        assert ended.wait(20)
        return fitted(*arguments)

    monkeypatch.setattr(finding._Search, "finished", note)
    monkeypatch.setattr(LayerFitting, "__call__", wait)
    ready.similar.start()
    ready.review.accept_all()
    assert ended.is_set() and target.featureCount() == 3
    assert ready.review.layer is not layer and ready.review.layer.name() == "Similar objects"
    assert sip.isdeleted(layer) == is_second
    if not is_second:
        ready.review.fill(layer)
        assert ready.review.candidates.counts == (2, 0) and not len(ready.review.items)


def test_a_search_ends_with_its_project(iface: Interface, ready: Interaction, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[bool] = []
    finished = finding._Search.finished

    def note(task: finding._Search, result: bool) -> None:
        finished(task, result)
        ended.append(result)

    monkeypatch.setattr(finding._Search, "finished", note)
    click(iface.canvas, place("a"))
    settled(ready)
    key(iface, F)
    QgsProject.instance().clear()
    wait_until(lambda: ended)
    assert not QgsProject.instance().mapLayers()
    assert ready.review.layer is None
    assert not iface.messages()


def test_without_an_example_it_says_what_to_do(iface: Interface, ready: Interaction) -> None:
    key(iface, F)
    assert any("There is no example to search with" in text for text in iface.messages())
    assert ready.review.layer is None
