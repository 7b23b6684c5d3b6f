"""The review queue in the real window: judged by keys, taken back by undo, kept at once, read after a restart."""

from __future__ import annotations

import gc
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from osgeo import gdal
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsEditorWidgetSetup,
    QgsFeature,
    QgsFieldConstraints,
    QgsProject,
    QgsVectorFileWriter,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import Qt, QTimer
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QApplication, QDoubleSpinBox, QProgressDialog, QPushButton, QSlider

from geosam_es.core.coverage_check import Kind
from geosam_es.gui.editing import reviewing
from geosam_es.gui.editing.candidates import candidate_layer
from geosam_es.gui.editing.coverage import LayerCoverage
from geosam_es.gui.editing.layer_geometry import LayerFitting
from geosam_es.gui.interaction import Interaction
from geosam_es.gui.panel.actions import QAction
from geosam_es.gui.plugin import GeoSamPlugin
from geosam_es.qgis_support.classes import ClassItem, ClassList
from geosam_es.qgis_support.coverage_mode import CoverageMode
from geosam_es.qgis_support.crs import from_qgs, to_qgs, transform, transform_polygon
from tests.helpers import BlobDecoder
from tests.qgis.support import LEFT, TOP, Interface, click, place, saved_as, settled, wait_until, with_store

X, Y = LEFT + 20, TOP - 700
SHIFT = Qt.KeyboardModifier.ShiftModifier


def boxes(count: int, side: float = 10.0, per_row: int = 40) -> list[shapely.Polygon]:
    """Return squares beside each other, row by row."""
    corners = [(X + side * (n % per_row), Y + side * (n // per_row)) for n in range(count)]
    return [shapely.box(x, y, x + side, y + side) for x, y in corners]


def saved(folder: Path, shapes: list[Any], driver: str = "GPKG", **values: Any) -> QgsVectorLayer:
    """Return a layer of a file, by default a GeoPackage."""
    layer = candidate_layer("found", QgsProject.instance().crs(), shapes, **values)
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.layerName, options.driverName = "found", driver
    path = str(folder / f"found.{driver.lower()}")
    QgsVectorFileWriter.writeAsVectorFormatV3(layer, path, QgsProject.instance().transformContext(), options)
    return opened(path)


def opened(path: str) -> QgsVectorLayer:
    layer = QgsVectorLayer(f"{path.partition('|')[0]}|layername=found", "found", "ogr")
    QgsProject.instance().addMapLayer(layer)
    return layer


@pytest.fixture(autouse=True)
def project_crs(iface: Interface) -> None:
    QgsProject.instance().setCrs(iface.canvas.mapSettings().destinationCrs())


@pytest.fixture
def restart(iface: Interface, ready: Interaction, plugin: GeoSamPlugin) -> Callable[[], Interaction]:
    """Return a function that unloads the plugin and starts it again, with the same target layer."""

    def again() -> Interaction:
        target = ready.dock.layer
        plugin.unload()
        plugin.initGui()
        assert plugin.interaction is not None
        plugin.interaction.dock.layers.setLayer(target)
        return plugin.interaction

    return again


def key(iface: Interface, code: Any, modifiers: Any = Qt.KeyboardModifier.NoModifier) -> None:
    QTest.keyClick(iface.canvas, code, modifiers)
    QApplication.processEvents()


def score(ready: Interaction) -> float:
    """Return the confidence of the candidate at hand."""
    assert ready.review.candidates is not None
    return float(ready.review.candidates.confidence[ready.review.current])


def state(*layers: QgsVectorLayer) -> list[dict[int, tuple[bytes, list[Any]]]]:
    return [
        {feature.id(): (bytes(feature.geometry().asWkb()), feature.attributes()) for feature in layer.getFeatures()}
        for layer in layers
    ]


def test_keys_walk_in_order_of_doubt_and_judge(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, tmp_path: Path
) -> None:
    ready.dock.class_box.set_classes(ClassList("class", (ClassItem("oak", "Oak"), ClassItem("elm", "Elm"))))
    shapes = boxes(6)
    assert not ready._actions.next_finding.isEnabled()
    layer = saved(tmp_path, shapes, score=[0.9, 0.3, 0.6, 0.95, 0.4, np.nan], area=range(6))
    ready.dock.review_box.layers.setLayer(layer)
    assert ready.review.candidates.field == "score" and ready.dock.review_box.title() == "Find and review (6)"
    seen = []
    for _ in range(7):
        key(iface, Qt.Key.Key_N)
        seen.append(score(ready))
        assert from_qgs(ready.overlay.bands["proposal"].asGeometry()).equals(shapes[ready.review.current])
    # One of unknown confidence is not the most doubtful one.
    assert np.array_equal(seen[:6], [0.3, 0.4, 0.6, 0.9, 0.95, np.nan], equal_nan=True) and seen[6] == 0.3
    key(iface, Qt.Key.Key_N, SHIFT)
    key(iface, Qt.Key.Key_N, SHIFT)
    assert score(ready) == 0.95 and "5 of 6: found" in ready.dock._hint.text()
    assert "100 m² · score 0.95" in ready.dock._result.text()
    key(iface, Qt.Key.Key_Return)
    key(iface, Qt.Key.Key_Delete)
    key(iface, Qt.Key.Key_2)
    written = {str(feature["class"]): from_qgs(feature.geometry()) for feature in target.getFeatures()}
    assert written["elm"].equals(shapes[1]) and len(written) == 2
    accepted, rejected = ready.review.candidates.judged()
    assert [len(accepted), len(rejected)] == [2, 1] and rejected[0].equals(shapes[5])
    assert score(ready) == 0.4 and ready.dock.review_box.title() == "Find and review (3)"
    key(iface, Qt.Key.Key_Escape)
    assert ready.review.current is None and ready.overlay.bands["proposal"].asGeometry().isEmpty()
    count = target.featureCount()
    key(iface, Qt.Key.Key_Return)
    assert target.featureCount() == count


def test_undo_takes_back_each_judgement_in_one_story(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, tmp_path: Path
) -> None:
    layer = saved(tmp_path, boxes(5), score=np.arange(5) / 5)
    ready.review.fill(layer)
    states, scores = [], []
    key(iface, Qt.Key.Key_N)
    for code in (Qt.Key.Key_Return, Qt.Key.Key_Delete, Qt.Key.Key_Return, Qt.Key.Key_Delete, Qt.Key.Key_Return):
        states.append((state(target), ready.review.candidates.counts))
        scores.append(score(ready))
        key(iface, code)
    assert ready.review.candidates.counts == (3, 2) and ready.review.current is None
    after = state(target)
    for before, was in zip(reversed(states), reversed(scores)):
        key(iface, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
        assert (state(target), ready.review.candidates.counts) == before and score(ready) == was
    for _ in range(5):
        key(iface, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier | SHIFT)
    assert state(target) == after and ready.review.candidates.counts == (3, 2)
    # What is not saved is not accepted; what was rejected stays so.
    target.rollBack()
    QApplication.processEvents()
    assert ready.review.candidates.counts == (0, 2) and len(ready.review.items) == 3


def test_a_restart_knows_what_was_judged(
    iface: Interface, restart: Callable[[], Interaction], ready: Interaction, target: QgsVectorLayer, tmp_path: Path
) -> None:
    source = saved(tmp_path, boxes(6), score=np.arange(6) / 6).source()
    ready.review.fill(opened(source))
    key(iface, Qt.Key.Key_N)
    key(iface, Qt.Key.Key_Return)
    target.commitChanges(False)
    key(iface, Qt.Key.Key_Delete)
    key(iface, Qt.Key.Key_Return)
    # As after a crash: the file is all that is left, and the last polygon was not saved.
    again = restart()
    again.review.fill(opened(source))
    assert again.review.candidates.counts == (2, 1), "it is still in the layer"
    empty = QgsVectorLayer(target.source(), "empty", "memory")
    QgsProject.instance().addMapLayer(empty)
    again.dock.layers.setLayer(empty)
    again.review.fill(opened(source))
    assert again.review.candidates.counts == (1, 1) and len(again.review.items) == 4
    assert "1 of them were accepted before" in iface.messageBar().currentItem().text()


@pytest.mark.parametrize("suffix", ["shp", "geojson"])
def test_saving_gives_the_features_of_a_file_other_ids(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, tmp_path: Path, suffix: str
) -> None:
    """A candidate before the others was deleted, and QGIS packs the file."""
    shapes = boxes(6)
    layer = saved_as(tmp_path / f"packed.{suffix}", shapes, "abcdef")

    def left() -> str:
        ids = ready.review.candidates.ids[ready.review.items].tolist()
        return "".join(layer.getFeature(id_)["class"] for id_ in ids)

    ready.review.fill(layer)
    key(iface, Qt.Key.Key_N)
    key(iface, Qt.Key.Key_N)
    key(iface, Qt.Key.Key_Delete)
    key(iface, Qt.Key.Key_Return)
    assert left() == "adef" and ready.review.candidates.counts == (1, 1)
    layer.startEditing()
    layer.deleteFeature(0)
    assert layer.commitChanges(), layer.commitErrors()
    QApplication.processEvents()
    assert left() == "def" and ready.review.candidates.counts == (1, 1)
    # Its judgement has the former id.
    target.undoStack().undo()
    QApplication.processEvents()
    assert left() == "cdef" and ready.review.candidates.counts == (0, 1)
    key(iface, Qt.Key.Key_N)
    for _ in range(4):
        key(iface, Qt.Key.Key_Return)
    assert target.commitChanges(False), target.commitErrors()
    accepted = {from_qgs(feature.geometry()).centroid.x for feature in target.getFeatures()}
    assert accepted == {shape.centroid.x for shape in shapes[2:]} and ready.review.candidates.counts == (4, 1)


def test_a_file_that_is_rewritten_as_a_whole_is_not_written_at_every_key(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, tmp_path: Path
) -> None:
    layer = saved(tmp_path, boxes(5), "GeoJSON", score=np.arange(5) / 5)
    path = Path(layer.source().partition("|")[0])
    # As an earlier version has written it.
    document = json.loads(path.read_text())
    for number, feature in enumerate(document["features"]):
        feature["properties"]["review"] = "rejected" if number in (0, 1) else None
    path.write_text(json.dumps(document))
    layer = opened(str(path))
    before = path.read_bytes()
    ready.review.fill(layer)
    assert ready.review.candidates.counts == (0, 2)
    ids = ready.review.candidates.ids.tolist()
    for code in (Qt.Key.Key_N, Qt.Key.Key_Return, Qt.Key.Key_Delete):
        key(iface, code)
    # As undoing the rejection of an earlier session would.
    ready.review.candidates.mark({ids[0]: ""})
    target.commitChanges()
    ready.review.stop()
    assert path.read_bytes() == before
    ready.review.fill(layer)
    assert ready.review.candidates.counts == (1, 2) and len(ready.review.items) == 2


def test_a_project_opened_again_takes_each_judgement_once(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, blob_store: Path, tmp_path: Path
) -> None:
    project, path = QgsProject.instance(), str(tmp_path / "project.qgz")
    layer = saved(tmp_path, boxes(6), score=np.arange(6) / 6)
    ready.review.fill(layer)
    for code in (Qt.Key.Key_N, Qt.Key.Key_Delete, Qt.Key.Key_Return):
        key(iface, code)
    target.commitChanges()
    assert project.write(path)
    ids = layer.id(), target.id()
    project.clear()
    QApplication.processEvents()
    assert project.read(path)
    found, again = (project.mapLayer(layer_id) for layer_id in ids)
    ready.set_active(True)
    ready.open_store(blob_store)
    wait_until(lambda: ready.controller.store is not None)
    ready.dock.layers.setLayer(again)
    # What a layer in memory held is gone.
    assert again.featureCount() == 0
    ready.review.fill(found)
    assert ready.review.candidates.counts == (1, 1)
    for code in (Qt.Key.Key_N, Qt.Key.Key_Delete, Qt.Key.Key_Return, Qt.Key.Key_Return):
        key(iface, code)
    assert ready.review.candidates.counts == (3, 2) and len(ready.review.items) == 1
    assert again.featureCount() == 2 == len({feature.geometry().asWkt() for feature in again.getFeatures()})


def test_a_gesture_corrects_the_candidate_and_undo_brings_it_back(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, tmp_path: Path
) -> None:
    at, extent = place("b"), iface.canvas.extent()
    shapes = [shapely.Point(at.x() + 8, at.y()).buffer(50), *boxes(1)]
    ready.review.fill(saved(tmp_path, shapes, score=[0.1, 0.2]))
    key(iface, Qt.Key.Key_N)
    key(iface, Qt.Key.Key_N, SHIFT)
    key(iface, Qt.Key.Key_N)
    click(iface.canvas, at)
    drawing = settled(ready)
    assert not drawing.result.geometry.equals(shapes[0]) and drawing.can_undo
    corrected = drawing.result.geometry
    key(iface, Qt.Key.Key_N)
    assert "not written yet" in iface.messageBar().currentItem().text()
    key(iface, Qt.Key.Key_Escape)
    assert score(ready) == 0.1 and from_qgs(ready.overlay.bands["proposal"].asGeometry()).equals(shapes[0])
    click(iface.canvas, at)
    settled(ready)
    key(iface, Qt.Key.Key_Return)
    wait_until(lambda: target.featureCount() == 1)
    QApplication.processEvents()
    assert ready.review.candidates.counts == (1, 0) and score(ready) == 0.2
    assert from_qgs(next(target.getFeatures()).geometry()).equals(corrected)
    key(iface, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    settled(ready)
    assert target.featureCount() == 0 and ready.review.candidates.counts == (0, 0) and score(ready) == 0.1
    # An object elsewhere is one of its own.
    key(iface, Qt.Key.Key_Escape)
    iface.canvas.setExtent(extent)
    click(iface.canvas, place("a"))
    settled(ready)
    key(iface, Qt.Key.Key_Return)
    wait_until(lambda: target.featureCount() == 1)
    assert ready.review.candidates.counts == (0, 0) and score(ready) == 0.1


def test_all_above_a_confidence_keep_the_coverage(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, tmp_path: Path
) -> None:
    CoverageMode(True, tolerance_m=1.0, min_area_m2=50.0).remember(target)
    # One is below the minimum area, and the last overlaps its neighbour by half.
    shapes = [*boxes(4), shapely.box(X, Y - 20, X + 4, Y - 16), shapely.box(X + 35, Y, X + 55, Y + 10)]
    unknown = shapely.box(X - 30, Y, X - 20, Y + 9)
    layer = saved(tmp_path, [*shapes, unknown], score=[0.2, 0.95, 0.91, 0.99, 0.97, 0.92, np.nan])
    ready.review.fill(layer)
    box = ready.dock.review_box
    assert box.title() == "Find and review (7)"
    box.findChild(QSlider).setValue(90)
    assert box.title() == "Find and review (5)"
    count = target.undoStack().count()
    (button,) = (button for button in box.findChildren(QPushButton) if "all from 0.90" in button.text())
    button.click()
    wait_until(lambda: target.featureCount() == 4)
    QApplication.processEvents()
    assert target.undoStack().count() == count + 1 and len(ready.review.items) == 1
    assert "4 polygons in target. Left out: 1" in iface.messageBar().currentItem().text()
    found = [from_qgs(feature.geometry()) for feature in target.getFeatures()]
    assert sum(shape.area for shape in found) == pytest.approx(shapely.union_all(found).area) == pytest.approx(450)
    ready.check.start()
    wait_until(lambda: not ready.check.is_running)
    assert [finding.kind for finding in ready.check.findings if finding.kind is not Kind.SAME_CLASS] == []
    ready.undoing.undo()
    QApplication.processEvents()
    assert target.featureCount() == 0 and ready.review.candidates.counts == (0, 0) and len(ready.review.items) == 5


def test_a_coverage_is_computed_once_and_outside_the_window_thread(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    CoverageMode(True).remember(target)
    threads, place_one = [], LayerCoverage.place

    def watched(*arguments: Any) -> Any:
        threads.append(threading.get_ident())
        return place_one(*arguments)

    monkeypatch.setattr(LayerCoverage, "place", watched)
    ready.review.fill(saved(tmp_path, [shapely.box(X, Y, X + 20, Y + 10), *boxes(3)], score=np.arange(4) / 4))
    key(iface, Qt.Key.Key_N)
    wait_until(lambda: ready.review.fitted is not None)
    assert "200 m²" in ready.dock._result.text()
    assert len(threads) == 1 and threads[0] != threading.get_ident()
    key(iface, Qt.Key.Key_Return)
    assert target.featureCount() == 1 and ready.review.candidates.counts == (1, 0)
    # The next one lies on the polygon that was just accepted.
    for _ in range(3):
        key(iface, Qt.Key.Key_N)
    wait_until(lambda: ready.review.fitted is not None)
    assert ready.review.fitted.refusal is not None and threading.get_ident() not in threads
    # An edit of QGIS changes what fits.
    target.startEditing()
    target.deleteFeatures([feature.id() for feature in target.getFeatures()])
    key(iface, Qt.Key.Key_Return)
    wait_until(lambda: target.featureCount() == 1)
    (written,) = target.getFeatures()
    assert written.geometry().area() == pytest.approx(100) and threading.get_ident() not in threads


@pytest.fixture
def slow_fit(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[int], threading.Event]]:
    """Let polygons be fitted only while an event is set; also give the threads that they were fitted in."""
    threads, free, fit_one = list[int](), threading.Event(), LayerFitting.__call__

    def watched(*arguments: Any) -> Any:
        threads.append(threading.get_ident())
        assert free.wait(20)
        return fit_one(*arguments)

    monkeypatch.setattr(LayerFitting, "__call__", watched)
    yield threads, free
    free.set()


def add_box(layer: QgsVectorLayer, box: shapely.Polygon) -> None:
    feature = QgsFeature(layer.fields())
    feature.setGeometry(to_qgs(shapely.MultiPolygon([box])))
    layer.startEditing()
    layer.addFeature(feature)


@pytest.mark.parametrize("reason", ["trim_overlaps", "snap_m", "avoids", "coverage"])
def test_what_takes_long_is_fitted_outside_the_window_thread_and_keys_wait(
    iface: Interface,
    ready: Interaction,
    target: QgsVectorLayer,
    slow_fit: tuple[list[int], threading.Event],
    reason: str,
) -> None:
    threads, free = slow_fit
    box = ready.dock.class_box
    box.set_classes(ClassList("class", (ClassItem("oak", "Oak"), ClassItem("elm", "Elm"))))
    CoverageMode(reason == "coverage").remember(target)
    if reason in ("trim_overlaps", "snap_m"):
        setattr(ready._settings, reason, 1)
    else:
        mode = QgsProject.AvoidIntersectionsMode.AvoidIntersectionsCurrentLayer
        QgsProject.instance().setAvoidIntersectionsMode(mode)
    shapes = boxes(5, side=20.0)[::2]
    layer = candidate_layer("found", QgsProject.instance().crs(), shapes, score=np.arange(3) / 3)
    QgsProject.instance().addMapLayer(layer)
    ready.review.fill(layer)
    ready.review.step(1)
    # The class of the first polygon, which is accepted with it, the rejection of the second, and the third.
    for code in (Qt.Key.Key_1, Qt.Key.Key_Delete, Qt.Key.Key_2):
        key(iface, code)
    assert target.featureCount() == 0 and ready.review.candidates.counts == (0, 0)
    free.set()
    wait_until(lambda: ready.review.candidates.counts == (2, 1))
    assert [feature["class"] for feature in target.getFeatures()] == ["oak", "elm"]
    written = [from_qgs(feature.geometry()) for feature in target.getFeatures()]
    assert written[0].equals(shapes[0]) and written[1].equals(shapes[2])
    assert threading.get_ident() not in threads
    # What is on show is what is written: only another class makes it fit anew.
    assert len(threads) <= 5


def test_esc_gives_up_what_was_accepted_and_is_not_fitted_yet(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, slow_fit: tuple[list[int], threading.Event]
) -> None:
    ready._settings.trim_overlaps = True
    layer = candidate_layer("found", QgsProject.instance().crs(), boxes(2), score=[0.1, 0.2])
    QgsProject.instance().addMapLayer(layer)
    ready.review.fill(layer)
    for code in (Qt.Key.Key_N, Qt.Key.Key_Return, Qt.Key.Key_Escape):
        key(iface, code)
    slow_fit[1].set()
    wait_until(lambda: ready.review.fitted is not None)
    assert score(ready) == 0.1 and target.featureCount() == 0 and not ready.controller.is_waiting
    key(iface, Qt.Key.Key_Return)
    wait_until(lambda: target.featureCount() == 1)


def test_a_polygon_that_cannot_be_fitted_is_refused(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no memory")

    monkeypatch.setattr(LayerFitting, "fit", broken)
    CoverageMode(True).remember(target)
    layer = candidate_layer("found", QgsProject.instance().crs(), boxes(2), score=[0.1, 0.2])
    QgsProject.instance().addMapLayer(layer)
    ready.review.fill(layer)
    key(iface, Qt.Key.Key_N)
    wait_until(lambda: ready.review.fitted is not None)
    assert "no memory" in ready.dock._result.text()
    key(iface, Qt.Key.Key_Return)
    assert target.featureCount() == 0 and "no memory" in iface.messages()[0]
    key(iface, Qt.Key.Key_Delete)
    assert ready.review.candidates.counts == (0, 1)


@pytest.mark.parametrize("corrected", ["target", "found"])
@pytest.mark.parametrize("is_coverage", [False, True])
def test_a_crs_is_corrected_while_a_candidate_is_shown(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, corrected: str, is_coverage: bool
) -> None:
    CoverageMode(is_coverage).remember(target)
    layer = candidate_layer("found", QgsProject.instance().crs(), boxes(1), score=[0.5])
    QgsProject.instance().addMapLayer(layer)
    ready.review.fill(layer)
    key(iface, Qt.Key.Key_N)
    wait_until(lambda: ready.review.fitted is not None)
    (layer if corrected == "found" else target).setCrs(QgsCoordinateReferenceSystem("EPSG:25829"))
    key(iface, Qt.Key.Key_Return)
    wait_until(lambda: target.featureCount() == 1)
    (feature,) = target.getFeatures()
    expected = transform_polygon(boxes(1)[0], transform(layer.crs(), target.crs()))
    assert from_qgs(feature.geometry()).hausdorff_distance(expected) < 0.01


def test_what_is_shown_follows_options_and_edits(iface: Interface, ready: Interaction, target: QgsVectorLayer) -> None:
    neighbour, shape = shapely.box(X, Y, X + 10, Y + 10), shapely.box(X + 5, Y, X + 25, Y + 10)
    add_box(target, neighbour)
    layer = candidate_layer("found", QgsProject.instance().crs(), [shape], score=[0.5])
    QgsProject.instance().addMapLayer(layer)
    ready.review.fill(layer)
    key(iface, Qt.Key.Key_N)
    shown = ready.dock._result.text
    assert "200 m²" in shown()
    minimum = ready.dock.options_box.findChild(QDoubleSpinBox, "min_area_m2")
    minimum.setValue(500)
    wait_until(lambda: "less than the minimum" in shown())
    minimum.setValue(0)
    wait_until(lambda: "less than the minimum" not in shown() and "200 m²" in shown())
    CoverageMode(True, ground="fill").remember(target)
    ready.dock.options_box.coverage.set_layer(target)
    wait_until(lambda: "150 m²" in shown())
    key(iface, Qt.Key.Key_V)
    wait_until(lambda: "200 m²" in shown())
    key(iface, Qt.Key.Key_V)
    key(iface, Qt.Key.Key_V)
    wait_until(lambda: "150 m²" in shown())
    # An edit of QGIS, and discarding it.
    target.deleteFeatures([feature.id() for feature in target.getFeatures()])
    wait_until(lambda: "200 m²" in shown())
    target.undoStack().undo()
    wait_until(lambda: "150 m²" in shown())
    # A layer that QGIS's Avoid Overlap keeps free.
    CoverageMode(False).remember(target)
    other = QgsVectorLayer(target.source(), "other", "memory")
    project = QgsProject.instance()
    project.addMapLayer(other)
    project.setAvoidIntersectionsMode(QgsProject.AvoidIntersectionsMode.AvoidIntersectionsLayers)
    project.setAvoidIntersectionsLayers([other])
    ready.dock.options_box.coverage.set_layer(target)
    wait_until(lambda: "200 m²" in shown())
    add_box(other, neighbour)
    wait_until(lambda: "150 m²" in shown())
    key(iface, Qt.Key.Key_Return)
    wait_until(lambda: ready.review.candidates.counts == (1, 0))
    assert sorted(feature.geometry().area() for feature in target.getFeatures()) == pytest.approx([100, 150])


def test_all_but_one_without_its_class(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, tmp_path: Path
) -> None:
    kinds = QgsFieldConstraints.Constraint.ConstraintNotNull, QgsFieldConstraints.ConstraintStrength
    target.setFieldConstraint(0, kinds[0], kinds[1].ConstraintStrengthHard)
    layer = saved(tmp_path, boxes(3), score=np.arange(3) / 3)
    layer.dataProvider().addAttributes([target.fields().at(0)])
    layer.updateFields()
    index = layer.fields().lookupField("class")
    layer.dataProvider().changeAttributeValues({1: {index: "oak"}, 3: {index: "elm"}})
    ready.review.fill(layer)
    ready.review.accept_all()
    QApplication.processEvents()
    assert sorted(feature["class"] for feature in target.getFeatures()) == ["elm", "oak"]
    assert ready.review.candidates.counts == (2, 0) and len(ready.review.items) == 1
    assert target.undoStack().count() == 1
    assert "2 polygons in target. Left out: 1" in iface.messageBar().currentItem().text()


def with_classes(kind: str, classes: list[Any]) -> QgsVectorLayer:
    """Return candidates with a class field of a type, and a target layer with such a field of its own."""
    layer = candidate_layer("found", QgsProject.instance().crs(), boxes(len(classes)), score=np.arange(len(classes)))
    layer.dataProvider().addAttributes([QgsVectorLayer(f"None?field=class:{kind}", "", "memory").fields().at(0)])
    layer.updateFields()
    index = layer.fields().lookupField("class")
    layer.dataProvider().changeAttributeValues({row + 1: {index: code} for row, code in enumerate(classes)})
    QgsProject.instance().addMapLayer(layer)
    return layer


@pytest.mark.parametrize("all_at_once", [False, True])
@pytest.mark.parametrize(
    ("kind", "of_candidate", "code"),
    [("double", "double", 2.0), ("double", "string", "2"), ("integer", "double", 2.0), ("string", "integer", 2)],
)
def test_a_candidate_keeps_its_own_class(
    iface: Interface, ready: Interaction, kind: str, of_candidate: str, code: Any, all_at_once: bool
) -> None:
    target = QgsVectorLayer(f"MultiPolygon?crs=EPSG:25830&field=class:{kind}", "typed", "memory")
    target.setEditorWidgetSetup(0, QgsEditorWidgetSetup("ValueMap", {"map": [{"Oak": "1"}, {"Elm": "2"}]}))
    QgsProject.instance().addMapLayer(target)
    ready.dock.layers.setLayer(target)
    ready.dock.class_box.choose(0)
    ready.review.fill(with_classes(of_candidate, [code, code]))
    if all_at_once:
        ready.review.accept_all()
    else:
        key(iface, Qt.Key.Key_N)
        assert "Elm" in ready.dock.class_box.shown_text
        key(iface, Qt.Key.Key_Return)
        key(iface, Qt.Key.Key_Return)
    QApplication.processEvents()
    expected = {"double": 2.0, "integer": 2, "string": "2"}[kind]
    assert [feature["class"] for feature in target.getFeatures()] == [expected, expected]
    assert "Oak" in ready.dock.class_box.shown_text


@pytest.mark.parametrize("all_at_once", [False, True])
def test_a_candidate_without_a_class_gets_the_one_that_the_user_chose(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, all_at_once: bool
) -> None:
    box = ready.dock.class_box
    box.set_classes(ClassList("class", (ClassItem("oak", "Oak"), ClassItem("elm", "Elm"), ClassItem("fir", "Fir"))))
    box.choose(1)
    ready.review.fill(with_classes("string", ["oak", None, "", "oak", None]))
    key(iface, Qt.Key.Key_N)
    if all_at_once:
        ready.review.accept_all()
        QApplication.processEvents()
        assert [feature["class"] for feature in target.getFeatures()] == ["elm", "oak", "elm", "elm", "oak"]
        return
    for code in (Qt.Key.Key_Return, Qt.Key.Key_Return, Qt.Key.Key_Return, Qt.Key.Key_3, Qt.Key.Key_Return):
        key(iface, code)
    # A class that was chosen at a candidate with another one counts from there on.
    assert [feature["class"] for feature in target.getFeatures()] == ["oak", "elm", "elm", "fir", "fir"]


def test_leaving_the_review_shows_the_class_that_the_user_chose(
    iface: Interface, ready: Interaction, target: QgsVectorLayer
) -> None:
    box = ready.dock.class_box
    box.set_classes(ClassList("class", (ClassItem("oak", "Oak"), ClassItem("elm", "Elm"))))
    box.choose(1)
    ready.review.fill(with_classes("string", ["oak"]))
    key(iface, Qt.Key.Key_N)
    assert "Oak" in box.shown_text
    key(iface, Qt.Key.Key_Escape)
    assert "Elm" in box.shown_text


def test_all_go_into_a_layer_that_is_made_for_them(iface: Interface, ready: Interaction, tmp_path: Path) -> None:
    ready.review.fill(saved(tmp_path, boxes(3), score=np.arange(3) / 3))
    ready.dock.layers.setLayer(None)
    ready.dock.review_box._all.click()
    (button,) = (found for found in iface.bar.findChildren(QPushButton) if found.text() == "Temporary layer")
    button.click()
    QApplication.processEvents()
    assert ready.dock.layer.featureCount() == 3 and ready.review.candidates.counts == (3, 0)


def test_cancelling_all_leaves_the_layer_as_it_was(
    ready: Interaction, target: QgsVectorLayer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reviewing, "_TURN_SECONDS", 0.0)
    ready.review.fill(saved(tmp_path, boxes(3), score=np.arange(3) / 3))
    # The user presses Cancel as soon as the dialog is there.
    timer = QTimer()
    dialogs = ready._iface.mainWindow().findChildren
    timer.timeout.connect(lambda: [dialog.cancel() for dialog in dialogs(QProgressDialog)])
    timer.start(0)
    ready.review.accept_all()
    timer.stop()
    assert not target.isEditable() and target.featureCount() == 0
    assert ready.review.candidates.counts == (0, 0) and len(ready.review.items) == 3


def test_an_edit_that_the_layer_refuses_accepts_none(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready.review.fill(saved(tmp_path, boxes(3), score=np.arange(3) / 3))
    answers = iter([True, False, True])
    add = QgsVectorLayer.addFeature
    monkeypatch.setattr(QgsVectorLayer, "addFeature", lambda layer, feature: next(answers) and add(layer, feature))
    ready.review.accept_all()
    QApplication.processEvents()
    assert target.featureCount() == 0 and ready.review.candidates.counts == (0, 0)
    assert any("was not written to target" in text for text in iface.messages())


@pytest.mark.parametrize("has_edit", [False, True])
def test_rejections_outlive_edits_that_are_discarded(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, tmp_path: Path, has_edit: bool
) -> None:
    layer = saved(tmp_path, boxes(5), score=np.arange(5) / 5)
    ready.review.fill(layer)
    for code in (Qt.Key.Key_N, Qt.Key.Key_Delete, Qt.Key.Key_Delete, Qt.Key.Key_Return):
        key(iface, code)
    layer.startEditing()
    if has_edit:
        layer.changeAttributeValue(5, layer.fields().lookupField("score"), 0.5)
    layer.rollBack()
    QApplication.processEvents()
    assert ready.review.candidates.counts == (1, 2) and len(ready.review.items) == 2
    assert sorted(str(feature["review"]) for feature in layer.getFeatures())[1:] == [
        "NULL",
        "rejected",
        "rejected",
        "unsaved",
    ]
    key(iface, Qt.Key.Key_Delete)
    assert ready.review.candidates.counts == (1, 3)
    ready.undoing.undo()
    QApplication.processEvents()
    assert ready.review.candidates.counts == (1, 2)
    # What was accepted is an edit of the target layer.
    target.rollBack()
    QApplication.processEvents()
    assert ready.review.candidates.counts == (0, 2)


def test_edits_discarded_in_a_transaction_group_put_their_candidates_back(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, tmp_path: Path
) -> None:
    project, options = QgsProject.instance(), QgsVectorFileWriter.SaveVectorOptions()
    path = str(tmp_path / "target.gpkg")
    QgsVectorFileWriter.writeAsVectorFormatV3(target, path, project.transformContext(), options)
    project.setAutoTransaction(True)
    grouped = QgsVectorLayer(path, "grouped", "ogr")
    project.addMapLayer(grouped)
    ready.dock.layers.setLayer(grouped)
    ready.review.fill(saved(tmp_path, boxes(6), score=np.arange(6) / 6))
    for code in (Qt.Key.Key_N, Qt.Key.Key_Return, Qt.Key.Key_Return, Qt.Key.Key_Delete):
        key(iface, code)
    assert ready.review.candidates.counts == (2, 1) and grouped.featureCount() == 2
    grouped.rollBack()
    QApplication.processEvents()
    assert ready.review.candidates.counts == (0, 1) and len(ready.review.items) == 5
    assert not list(grouped.getFeatures())
    project.setAutoTransaction(False)


@pytest.mark.parametrize("first", ["accept", "reject"])
def test_a_transaction_group_of_candidates_and_target_keeps_rejections(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, tmp_path: Path, first: str
) -> None:
    project, options = QgsProject.instance(), QgsVectorFileWriter.SaveVectorOptions()
    path = saved(tmp_path, boxes(6), score=np.arange(6) / 6).source().partition("|")[0]
    options.layerName = "target"
    options.actionOnExistingFile = QgsVectorFileWriter.CreateOrOverwriteLayer
    QgsVectorFileWriter.writeAsVectorFormatV3(target, path, project.transformContext(), options)
    project.setAutoTransaction(True)
    grouped = QgsVectorLayer(f"{path}|layername=target", "grouped", "ogr")
    project.addMapLayer(grouped)
    ready.dock.layers.setLayer(grouped)
    layer = opened(path)
    ready.review.fill(layer)
    codes = [Qt.Key.Key_Return, Qt.Key.Key_Delete, Qt.Key.Key_Return, Qt.Key.Key_Delete]
    start = time.monotonic()
    for code in (Qt.Key.Key_N, *(codes if first == "accept" else reversed(codes))):
        key(iface, code)
    assert ready.review.candidates.counts == (2, 2)
    assert not any("cannot be written" in text for text in iface.messages())
    # A database that is locked is tried for 5 seconds.
    assert time.monotonic() - start < 5
    grouped.rollBack()
    QApplication.processEvents()
    assert ready.review.candidates.counts == (0, 2)
    ready.review.fill(layer)
    assert ready.review.candidates.counts == (0, 2) and len(ready.review.items) == 4
    project.setAutoTransaction(False)


@pytest.mark.parametrize("is_coverage", [False, True])
def test_many_are_read_and_accepted_while_qgis_goes_on(
    ready: Interaction, target: QgsVectorLayer, tmp_path: Path, is_coverage: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gdal.SetConfigOption("OGR_SQLITE_SYNCHRONOUS", "OFF")
    monkeypatch.setattr(reviewing, "_AT_ONCE", 100)
    CoverageMode(is_coverage).remember(target)
    many = 300
    layer = saved(tmp_path, boxes(many), score=np.linspace(0, 1, many))
    turns, last = [], time.thread_time()

    def watch() -> None:
        nonlocal last
        turns.append(time.thread_time() - last)
        last = time.thread_time()

    timer = QTimer()
    timer.timeout.connect(watch)
    timer.start(0)
    ready.review.fill(layer)
    assert ready.review.candidates is None, "it was read at once"
    wait_until(lambda: ready.review.candidates is not None)
    watch()
    ready.review.accept_all()
    wait_until(lambda: target.featureCount() == many)
    wait_until(lambda: len(ready.review.candidates._due) == 0)
    watch()
    assert ready.review.candidates.counts == (many, 0) and target.undoStack().count() == 1
    assert {feature["review"] for feature in layer.getFeatures()} == {"unsaved"}
    # One turn may be longer on a machine that is busy with other programs.
    *others, longest = sorted(turns)
    assert max(others) < 0.05 and longest < 0.15
    gdal.SetConfigOption("OGR_SQLITE_SYNCHRONOUS", None)


def test_what_is_under_review_does_not_cover_what_was_accepted(
    ready: Interaction, target: QgsVectorLayer, tmp_path: Path
) -> None:
    root = QgsProject.instance().layerTreeRoot()
    layer = saved(tmp_path, boxes(3), score=np.arange(3) / 3)
    assert root.layerOrder().index(layer) < root.layerOrder().index(target)
    ready.review.fill(layer)
    assert root.layerOrder().index(layer) == root.layerOrder().index(target) + 1
    root.setCustomLayerOrder([layer, target])
    root.setHasCustomLayerOrder(True)
    ready.review.fill(layer)
    assert root.layerOrder() == [target, layer]
    assert len(root.findLayers()) == len(QgsProject.instance().mapLayers())


def test_one_rejection_too_many_deletes_nothing_that_is_selected(
    iface: Interface, ready: Interaction, target: QgsVectorLayer
) -> None:
    deleted: list[int] = []
    of_qgis = QAction("Delete selected", iface.window)
    of_qgis.setShortcut("Delete")
    of_qgis.triggered.connect(lambda: deleted.append(1))
    iface.window.addAction(of_qgis)
    iface.window.activateWindow()
    layer = candidate_layer("found", QgsProject.instance().crs(), boxes(2), score=[0.1, 0.2])
    QgsProject.instance().addMapLayer(layer)
    ready.review.fill(layer)
    key(iface, Qt.Key.Key_N)
    for _ in range(3):
        key(iface, Qt.Key.Key_Delete)
    assert ready.review.candidates.counts == (0, 2) and not deleted
    ready.dock.review_box.layers.setLayer(None)
    key(iface, Qt.Key.Key_Delete)
    assert deleted == [1]


def test_polygons_without_an_area_are_no_candidates(
    iface: Interface, ready: Interaction, target: QgsVectorLayer
) -> None:
    spike = shapely.Polygon([(X, Y), (X + 10, Y), (X, Y)])
    # The areas of its halves cancel each other out.
    bow_tie = shapely.Polygon([(X, Y), (X + 10, Y + 10), (X + 10, Y), (X, Y + 10)])
    layer = candidate_layer("found", QgsProject.instance().crs(), [spike, bow_tie, *boxes(1)], score=[0.1, 0.2, 0.3])
    QgsProject.instance().addMapLayer(layer)
    ready.review.fill(layer)
    assert ready.review.candidates.ids.tolist() == [2, 3]
    # One may lose its area meanwhile.
    layer.dataProvider().changeGeometryValues({2: to_qgs(spike)})
    key(iface, Qt.Key.Key_N)
    assert score(ready) == 0.3 and len(ready.review.items) == 1


def test_what_waits_in_another_target_layer_is_not_lost(
    iface: Interface, ready: Interaction, target: QgsVectorLayer
) -> None:
    layer = candidate_layer("found", QgsProject.instance().crs(), boxes(4), score=np.arange(4) / 4)
    other = QgsVectorLayer(target.source(), "other", "memory")
    QgsProject.instance().addMapLayers([layer, other])
    ready.review.fill(layer)
    for code in (Qt.Key.Key_N, Qt.Key.Key_Return, Qt.Key.Key_Return):
        key(iface, code)
    ready.dock.layers.setLayer(other)
    ready.review.fill(layer)
    assert ready.review.candidates.counts == (2, 0) and not ready.review.candidates.lost
    target.commitChanges()
    assert [str(feature["review"]) for feature in layer.getFeatures()].count("accepted") == 2


def test_the_nearest_comes_next(iface: Interface, ready: Interaction) -> None:
    shapes = [boxes(30)[place] for place in (0, 20, 3, 9, 1)]
    layer = candidate_layer("found", QgsProject.instance().crs(), shapes, likeness=np.arange(5) / 5)
    ready.review.fill(layer)
    ready.review.set_by_space(True)
    extent = iface.canvas.extent()
    order = []
    for code in (Qt.Key.Key_N, Qt.Key.Key_N, Qt.Key.Key_Delete, Qt.Key.Key_N, Qt.Key.Key_N):
        key(iface, code)
        order.append(round(score(ready) * 5))
    assert order == [0, 4, 2, 3, 1]
    key(iface, Qt.Key.Key_N, SHIFT)
    assert round(score(ready) * 5) == 3
    assert iface.canvas.extent().width() <= extent.width()


def test_what_was_reviewed_goes_with_the_plugin(
    iface: Interface, target: QgsVectorLayer, blob_store: Path, blobs: BlobDecoder
) -> None:
    def judge_and_unload() -> None:
        plugin = GeoSamPlugin(iface)
        plugin.initGui()
        ready = with_store(plugin, blob_store)
        ready.dock.layers.setLayer(target)
        # A layer that is in no project goes with Python's last reference to it.
        ready.review.fill(candidate_layer("found", QgsProject.instance().crs(), boxes(2), score=[0.1, 0.2]))
        for code in (Qt.Key.Key_N, Qt.Key.Key_Delete):
            key(iface, code)
        assert ready.review.candidates.counts == (0, 1)
        plugin.unload()

    judge_and_unload()
    gc.collect()
    QApplication.processEvents()


def test_a_thousand_are_judged_without_waiting(
    iface: Interface, ready: Interaction, target: QgsVectorLayer, tmp_path: Path
) -> None:
    # The disk of a test machine is no part of it.
    gdal.SetConfigOption("OGR_SQLITE_SYNCHRONOUS", "OFF")
    source = saved(tmp_path, boxes(1000), score=np.random.default_rng(1).random(1000)).source()
    took, sizes = [], []
    for number in range(1000):
        if number in (0, 500):
            # The second time as after a restart: the file is all that is left.
            ready.review.fill(opened(source))
            wait_until(lambda left=1000 - number: len(ready.review.items) == left)
            key(iface, Qt.Key.Key_N)
        at, start = ready.review.current, time.perf_counter()
        QTest.keyClick(iface.canvas, (Qt.Key.Key_Return, Qt.Key.Key_Delete)[number % 3 == 0])
        took.append(time.perf_counter() - start)
        assert ready.review.current != at
        if number in (300, 999):
            sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    assert ready.review.candidates.counts == (666, 334) and ready.review.current is None
    assert np.percentile(took, 95) < 0.1
    assert sizes[1] - sizes[0] < 20e6
    gdal.SetConfigOption("OGR_SQLITE_SYNCHRONOUS", None)


def test_what_the_dialog_of_everything_finds_is_reviewed(
    ready: Interaction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = saved(tmp_path, boxes(3), predicted_iou=np.arange(3) / 3)
    box = ready.dock.review_box
    asked = []

    def dialog(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
        asked.append(name)
        return {"OUTPUT": layer.source()} if len(asked) == 2 else {}

    monkeypatch.setattr("processing.execAlgorithmDialog", dialog)
    # Closed without running, and run.
    for found in (0, 3):
        QTest.mouseClick(box._everything, Qt.MouseButton.LeftButton)
        assert len(ready.review.items) == found
    assert asked == ["geosam_es:automaticmasks"] * 2 and ready.review.layer is layer
