"""The list of what is wrong in the target layer, in the real window: found in the background, mended by a key."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import shapely
from qgis.core import QgsFeature, QgsProject, QgsTask, QgsVectorLayer
from qgis.PyQt.QtCore import Qt, QThread
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QApplication, QCheckBox, QListWidget, QPushButton

from geosam_es.core.coverage_check import Kind
from geosam_es.gui.editing.coverage import LayerCoverage
from geosam_es.gui.editing.coverage_check import _CheckTask
from geosam_es.gui.interaction import Interaction
from geosam_es.gui.plugin import GeoSamPlugin
from geosam_es.gui.stores.background_task import BackgroundTask
from geosam_es.qgis_support.coverage_mode import CoverageMode
from geosam_es.qgis_support.crs import from_qgs, to_qgs
from tests.helpers import BlobDecoder
from tests.qgis.support import CRS, LEFT, TOP, Interface, click, place, saved_as, wait_until

X, Y = LEFT + 100, TOP - 600


def box(min_x: float, min_y: float, max_x: float, max_y: float) -> shapely.Polygon:
    return shapely.box(X + min_x, Y + min_y, X + max_x, Y + max_y)


POLYGONS = (
    # An overlap of 10 x 100 m with the second, which leaves a gap of 0.5 m to the third.
    ("a", box(0, 0, 110, 100)),
    ("b", box(100, 0, 230, 100)),
    # With the vertex of the last one.
    ("c", shapely.snap(box(230.5, 0, 300, 100), shapely.Point(X + 300, Y + 4), 1e-6)),
    # Below the minimum area.
    ("d", box(300, 0, 304, 4)),
)


@pytest.fixture
def layer(iface: Interface) -> QgsVectorLayer:
    layer = QgsVectorLayer(f"MultiPolygon?crs={CRS}&field=class:string", "habitats", "memory")
    QgsProject.instance().addMapLayer(layer)
    layer.startEditing()
    for name, shape in POLYGONS:
        feature = QgsFeature(layer.fields())
        feature.setGeometry(to_qgs(shape))
        feature.setAttribute("class", name)
        layer.addFeature(feature)
    CoverageMode(True, tolerance_m=1.0, min_area_m2=50.0).remember(layer)
    return layer


@pytest.fixture
def ready(iface: Interface, blob_store: Path, blobs: BlobDecoder, layer: QgsVectorLayer) -> Iterator[Interaction]:
    plugin = GeoSamPlugin(iface)
    plugin.initGui()
    interaction = plugin.interaction
    assert interaction is not None
    interaction.set_active(True)
    interaction.open_store(blob_store)
    wait_until(lambda: interaction.controller.store is not None)
    interaction.dock.layers.setLayer(layer)
    yield interaction
    plugin.unload()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Open it to let the remedies be computed."""
    gate, real = threading.Event(), LayerCoverage.remedy
    monkeypatch.setattr(LayerCoverage, "remedy", lambda *args: gate.wait(30) and real(*args))
    yield gate
    gate.set()


def settled(ready: Interaction) -> list[Any]:
    """Wait until what has changed has been checked, and return the kinds that are left."""
    wait_until(lambda: not ready.check.is_running)
    return [finding.kind for finding in ready.check.findings]


def checked(ready: Interaction) -> list[Any]:
    ready.dock.options_box.coverage.findChild(QPushButton).click()
    return settled(ready)


def key(iface: Interface, code: Any, modifiers: Any = Qt.KeyboardModifier.NoModifier) -> None:
    QTest.keyClick(iface.canvas, code, modifiers)
    QApplication.processEvents()


def hint(ready: Interaction) -> str:
    return str(ready.dock._hint.text())


def state(layer: QgsVectorLayer) -> dict[int, bytes]:
    return {feature.id(): bytes(feature.geometry().asWkb()) for feature in layer.getFeatures()}


def test_a_list_to_walk_through(iface: Interface, ready: Interaction) -> None:
    assert not ready._actions.next_finding.isEnabled()
    assert checked(ready) == [Kind.OVERLAP, Kind.GAP, Kind.SMALL]
    texts = ready.dock.options_box.coverage.findChild(QListWidget)
    assert [texts.item(row).text() for row in range(3)] == [
        "Overlap: 1000 m²",
        "Gap: 49.9 m²",
        "Below the minimum area: 16.0 m²",
    ]
    assert "Findings in habitats: 3." in iface.messageBar().currentItem().text()
    seen = []
    for _ in range(4):
        key(iface, Qt.Key.Key_N)
        assert ready.check.current is not None
        seen.append(ready.check.current.kind)
        extent = shapely.box(*[getattr(iface.canvas.extent(), side)() for side in SIDES])
        where = ready.check.current.place
        assert extent.contains(where) and not extent.contains(where.buffer(30 * where.length))
        assert from_qgs(ready.overlay.bands["finding"].asGeometry()).equals(where)
    assert seen == [Kind.OVERLAP, Kind.GAP, Kind.SMALL, Kind.OVERLAP]
    assert hint(ready).startswith("1 of 3: Overlap: 1000 m²\nEnter: leave it to the smallest")
    key(iface, Qt.Key.Key_N, Qt.KeyboardModifier.ShiftModifier)
    assert ready.check.current.kind is Kind.SMALL
    key(iface, Qt.Key.Key_Escape)
    assert ready.check.current is None and "Click: inside" in hint(ready)
    assert len(ready.check.findings) == 3


SIDES = ("xMinimum", "yMinimum", "xMaximum", "yMaximum")


def test_enter_mends_each_in_one_undo_step(iface: Interface, ready: Interaction, layer: QgsVectorLayer) -> None:
    checked(ready)
    states, stack = [state(layer)], layer.undoStack()
    count = stack.count()
    key(iface, Qt.Key.Key_N)
    for left in ([Kind.GAP, Kind.SMALL], [Kind.SMALL], []):
        key(iface, Qt.Key.Key_Return)
        assert settled(ready) == left
        count += 1
        assert stack.count() == count
        states.append(state(layer))
    assert ready.check.current is None
    found = [from_qgs(feature.geometry()) for feature in layer.getFeatures()]
    assert sum(shape.area for shape in found) == pytest.approx(shapely.union_all(found).area)
    assert len(found) == 3
    # Undo brings back what was, and the list says so.
    for left, before in zip(([Kind.SMALL], [Kind.GAP, Kind.SMALL], None), reversed(states[:-1])):
        ready.undoing.undo()
        assert state(layer) == before
        assert settled(ready) == (left or [Kind.OVERLAP, Kind.GAP, Kind.SMALL])
    assert "mending of Overlap" in ready.undoing.redo_text


def test_keys_are_not_lost_while_a_remedy_is_computed(
    iface: Interface, ready: Interaction, layer: QgsVectorLayer, gate: threading.Event
) -> None:
    checked(ready)
    count = layer.undoStack().count()
    key(iface, Qt.Key.Key_N)
    for _ in range(3):
        key(iface, Qt.Key.Key_Return)
    assert layer.undoStack().count() == count and ready.check.current.kind is Kind.OVERLAP
    gate.set()
    assert settled(ready) == [] and layer.undoStack().count() == count + 3


@pytest.mark.parametrize("way", ["next", "escape", "edited", "removed"])
def test_while_a_remedy_is_computed(
    iface: Interface, ready: Interaction, layer: QgsVectorLayer, gate: threading.Event, way: str
) -> None:
    checked(ready)
    count, before = layer.undoStack().count(), state(layer)
    key(iface, Qt.Key.Key_N)
    key(iface, Qt.Key.Key_Return)
    if way == "next":
        key(iface, Qt.Key.Key_N)
        gate.set()
        assert settled(ready) == [Kind.GAP, Kind.SMALL]
        assert ready.check.current.kind is Kind.GAP and layer.undoStack().count() == count + 1
        return
    if way == "escape":
        key(iface, Qt.Key.Key_Escape)
        assert ready.check.current.kind is Kind.OVERLAP, "it gives up the remedy alone"
    elif way == "edited":
        layer.deleteFeature(next(iter(before)))
        assert any("changed meanwhile" in text for text in iface.messages())
    else:
        QgsProject.instance().removeMapLayer(layer.id())
    gate.set()
    wait_until(lambda: not ready.controller.is_waiting)
    settled(ready)
    if way == "escape":
        assert state(layer) == before and layer.undoStack().count() == count
    elif way == "edited":
        assert layer.undoStack().count() == count + 1


def test_findings_that_touch_in_a_row_are_not_all_looked_for_again(
    iface: Interface, ready: Interaction, layer: QgsVectorLayer
) -> None:
    """For example, in a layer of parcels that share no vertices."""
    for feature_id in list(state(layer)):
        layer.deleteFeature(feature_id)
    for number in range(40):
        feature = QgsFeature(layer.fields())
        feature.setGeometry(to_qgs(box(20 * number, 0, 20 * number + 25, 100)))
        feature.setAttribute("class", str(number))
        layer.addFeature(feature)
    assert checked(ready) == [Kind.OVERLAP] * 39
    tasks = []
    wanted = ready.check._run
    ready.check._run = lambda touched: (wanted(touched), tasks.append(ready.check._task))
    ready.check.choose(20)
    key(iface, Qt.Key.Key_Return)
    assert settled(ready) == [Kind.OVERLAP] * 38
    assert len(tasks) == 1 and 2 <= len(tasks[0].envelopes) < 12


def test_what_others_change_is_checked_again(iface: Interface, ready: Interaction, layer: QgsVectorLayer) -> None:
    assert len(checked(ready)) == 3
    ids = {feature["class"]: feature.id() for feature in layer.getFeatures()}
    layer.changeGeometry(ids["a"], to_qgs(box(0, 0, 100, 100)).coerceToType(layer.wkbType())[0])
    assert settled(ready) == [Kind.GAP, Kind.SMALL]
    layer.deleteFeature(ids["d"])
    assert settled(ready) == [Kind.GAP]
    layer.changeAttributeValue(ids["b"], 0, "a")
    assert settled(ready) == [Kind.GAP, Kind.SAME_CLASS]
    # Saved features have other ids.
    assert layer.commitChanges(False)
    assert settled(ready) == [Kind.GAP, Kind.SAME_CLASS]
    known = {feature.id() for feature in layer.getFeatures()}
    assert all(known.issuperset(finding.ids) for finding in ready.check.findings)
    ready.check.choose(0)
    key(iface, Qt.Key.Key_Return)
    assert settled(ready) == [Kind.SAME_CLASS]
    layer.rollBack(False)
    assert settled(ready) == [Kind.GAP, Kind.SAME_CLASS]


@pytest.mark.parametrize("suffix", ["shp", "geojson"])
def test_saving_gives_the_features_of_a_file_other_ids(
    iface: Interface, ready: Interaction, tmp_path: Path, suffix: str
) -> None:
    """The merged polygon comes before the others in the file, so that saving moves these up."""
    shapes = [box(x, 0, x + 20, 20) for x in (0, 20, 40, 300, 320, 340)]
    layer = saved_as(tmp_path / f"packed.{suffix}", shapes, "aabccd")
    CoverageMode(is_on=True).remember(layer)
    ready.dock.layers.setLayer(layer)
    assert checked(ready) == [Kind.SAME_CLASS, Kind.SAME_CLASS]
    ready.check.choose([finding.ids for finding in ready.check.findings].index((0, 1)))
    key(iface, Qt.Key.Key_Return)
    assert settled(ready) == [Kind.SAME_CLASS]
    assert layer.commitChanges(False), layer.commitErrors()
    assert settled(ready) == [Kind.SAME_CLASS]
    key(iface, Qt.Key.Key_N)
    key(iface, Qt.Key.Key_Return)
    assert settled(ready) == [] and sorted(feature["class"] for feature in layer.getFeatures()) == list("abcd")
    # It ends with the layer.
    layer.deleteFeature(0)
    layer.commitChanges(False)
    QgsProject.instance().removeMapLayer(layer.id())
    assert settled(ready) == [] and ready.check.layer is None
    assert not any("no target" in text for text in iface.messages())


def test_neighbours_may_have_one_class(ready: Interaction, layer: QgsVectorLayer) -> None:
    layer.changeAttributeValue(next(feature.id() for feature in layer.getFeatures() if feature["class"] == "c"), 0, "d")
    assert checked(ready) == [Kind.OVERLAP, Kind.GAP, Kind.SMALL, Kind.SAME_CLASS]
    ready.dock.options_box.coverage.findChild(QCheckBox, "joins_class").setChecked(False)
    assert checked(ready) == [Kind.OVERLAP, Kind.GAP, Kind.SMALL]


def test_enter_and_escape_belong_to_what_is_drawn_first(
    iface: Interface, ready: Interaction, layer: QgsVectorLayer
) -> None:
    extent = iface.canvas.extent()
    checked(ready)
    ready.check.choose(0)
    iface.canvas.setExtent(extent)
    click(iface.canvas, place("b"))
    wait_until(lambda: not ready.controller.drawing.busy)
    key(iface, Qt.Key.Key_Escape)
    assert not ready.controller.drawing.has_polygon and ready.check.current.kind is Kind.OVERLAP
    click(iface.canvas, place("b"))
    wait_until(lambda: not ready.controller.drawing.busy)
    count = layer.featureCount()
    key(iface, Qt.Key.Key_Return)
    wait_until(lambda: layer.featureCount() > count)
    assert Kind.OVERLAP in settled(ready)


def test_a_read_only_layer_is_checked_and_not_mended(
    iface: Interface, ready: Interaction, layer: QgsVectorLayer
) -> None:
    layer.commitChanges()
    layer.setReadOnly(True)
    assert checked(ready) == [Kind.OVERLAP, Kind.GAP, Kind.SMALL]
    before = state(layer)
    ready.check.choose(0)
    key(iface, Qt.Key.Key_Return)
    assert "habitats is read-only" in iface.messageBar().currentItem().text()
    assert len(ready.check.findings) == 3 and state(layer) == before


def test_a_filter_is_said_once_and_in_each_check(iface: Interface, ready: Interaction, layer: QgsVectorLayer) -> None:
    layer.commitChanges()
    assert layer.setSubsetString("class <> 'c'")
    hidden = "The filter of habitats hides polygons from coverage mode"
    assert hidden in iface.messageBar().currentItem().text()
    ready.check.failed.connect(told := Mock())
    ready.dock.options_box.coverage._change(tolerance_m=0.5)
    told.assert_not_called()
    assert checked(ready) == [Kind.OVERLAP, Kind.SMALL]
    assert "that the filter of the layer hides were not checked" in iface.messageBar().currentItem().text()
    assert layer.setSubsetString("")
    assert settled(ready) == [Kind.OVERLAP, Kind.GAP, Kind.SMALL]
    told.assert_not_called()


def test_a_filter_is_said_in_a_project_that_is_opened_again(
    iface: Interface, ready: Interaction, layer: QgsVectorLayer, tmp_path: Path
) -> None:
    layer.commitChanges()
    project, path, layer_id = QgsProject.instance(), str(tmp_path / "project.qgz"), layer.id()
    assert project.write(path)
    project.clear()
    QApplication.processEvents()
    assert project.read(path)
    again = project.mapLayer(layer_id)
    ready.dock.layers.setLayer(again)
    assert again.setSubsetString("class <> 'c'")
    assert any("The filter of habitats hides polygons from coverage mode" in text for text in iface.messages())


def test_a_large_gap_is_the_last_of_the_list_and_no_fault(
    iface: Interface, ready: Interaction, layer: QgsVectorLayer
) -> None:
    ring = shapely.difference(box(400, 0, 600, 200), box(410, 10, 590, 190))
    feature = QgsFeature(layer.fields())
    feature.setGeometry(to_qgs(ring))
    layer.addFeature(feature)
    assert checked(ready) == [Kind.OVERLAP, Kind.GAP, Kind.SMALL, Kind.LARGE_GAP]
    text = iface.messageBar().currentItem().text()
    # The message bar has one line.
    assert "Findings in habitats: 3." in text and "first. Large gaps that may be intended: 1" in text
    # No neighbour gets it: it becomes a polygon of the class that is chosen.
    ready.dock.class_box.show_values({"class": "lake"})
    before = {feature.id(): feature.geometry().area() for feature in layer.getFeatures()}
    ready.check.choose(3)
    assert "Enter: fill it with a polygon of its own, or leave it" in ready.check.hint
    ready.check.mend()
    left = settled(ready)
    (new,) = (feature for feature in layer.getFeatures() if feature.id() not in before)
    assert new["class"] == "lake" and new.geometry().area() == pytest.approx(180**2)
    assert {key: layer.getGeometry(key).area() for key in before} == pytest.approx(before)
    assert left == [Kind.OVERLAP, Kind.GAP, Kind.SMALL]


def test_a_cancelled_check_reports_nothing(ready: Interaction) -> None:
    told: list[str] = []
    ready.check.checked.connect(told.append)
    ready.check.start()
    ready.check._task.cancel()
    assert settled(ready) == [] and not told
    assert checked(ready) and len(told) == 1


def test_a_check_that_is_stopped_computes_no_further(iface: Interface) -> None:
    layer = QgsVectorLayer(f"MultiPolygon?crs={CRS}", "parcels", "memory")
    feature = QgsFeature(layer.fields())
    feature.setGeometry(to_qgs(box(0, 0, 10, 10)))
    layer.dataProvider().addFeatures([feature] * 2000)
    task = _CheckTask("parcels", LayerCoverage(layer, CoverageMode()), None)
    ended: list[bool] = []
    task.ended.connect(lambda: ended.append(True))
    task.start()
    wait_until(lambda: task.status() == QgsTask.TaskStatus.Running)
    task.cancel()
    wait_until(lambda: ended)
    assert not task.envelopes and not task.found and task.error is None


def test_a_check_is_stopped_before_it_begins(ready: Interaction) -> None:
    gate = threading.Event()

    class Busy(BackgroundTask):
        def work(self) -> None:
            gate.wait(60)

    busy = [Busy("busy") for _ in range(max(4, QThread.idealThreadCount()) + 1)]
    ended: list[bool] = []
    for task in busy:
        task.taskCompleted.connect(lambda: ended.append(True))
        task.start()
    try:
        ready.check.start()
        assert ready.check._task is not None and ready.check._task.status() == QgsTask.TaskStatus.Queued
        ready.check.stop()
    finally:
        gate.set()
    assert settled(ready) == [] and ready.check.layer is None
    # QGIS deletes a task once it has ended: its status can't be asked for then.
    wait_until(lambda: len(ended) == len(busy))


def test_another_layer_ends_the_walk(iface: Interface, ready: Interaction, layer: QgsVectorLayer) -> None:
    checked(ready)
    ready.check.choose(0)
    QgsProject.instance().removeMapLayer(layer.id())
    assert ready.check.findings == [] and ready.overlay.bands["finding"].asGeometry().isEmpty()
    ready._actions.check.trigger()
    assert "There is no target layer" in iface.messageBar().currentItem().text()
    assert ready._actions.check in iface.raster_menu.actions()
