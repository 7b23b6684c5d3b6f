"""Gestures to polygons, through the worker's thread."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsPointXY,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.PyQt.QtWidgets import QApplication

from geosam_es.core.geotransform import GeoTransform
from geosam_es.core.prompts import Bounds, Point, Prompts
from geosam_es.gui.canvas.controller import SegmentationController
from geosam_es.gui.canvas.drawing import Drawing
from geosam_es.gui.canvas.visible_rasters import VisibleRasters
from geosam_es.gui.stores.current_store import CurrentStore
from geosam_es.gui.stores.open_store import project_raster
from geosam_es.inference.session import CleanOptions
from geosam_es.store import StoreWriter, set_crs
from tests.helpers import BlobDecoder, add_enlarged, disc, make_store
from tests.qgis.support import DISCS, LEFT, PIXEL, TOP, Interface, make_sheet, place, scene, show_catalogue, wait_until

DISC_AREA = {name: 3.14159 * (radius * PIXEL) ** 2 for name, (_, _, radius) in DISCS.items()}


class Log:
    """Everything a controller sends."""

    def __init__(self, controller: SegmentationController) -> None:
        self.drawings: list[Drawing] = []
        self.previews: list[Any] = []
        self.accepted: list[Drawing] = []
        self.errors: list[Any] = []
        controller.drawing_changed.connect(self.drawings.append)
        controller.preview_changed.connect(self.previews.append)
        controller.accept_ready.connect(self.accepted.append)
        controller.failed.connect(self.errors.append)


@pytest.fixture
def stores(qgis_app: Any) -> Iterator[CurrentStore]:
    stores = CurrentStore()
    yield stores
    stores.shutdown()


@pytest.fixture
def without_store(iface: Interface, stores: CurrentStore) -> SegmentationController:
    return SegmentationController(stores, iface.canvas.mapSettings)


@pytest.fixture
def controller(
    without_store: SegmentationController, stores: CurrentStore, blob_store: Path, blobs: BlobDecoder
) -> SegmentationController:
    stores.open(blob_store, [])
    wait_until(lambda: stores.store is not None)
    return without_store


@pytest.fixture
def log(controller: SegmentationController) -> Log:
    return Log(controller)


def settled(controller: SegmentationController) -> Drawing:
    wait_until(lambda: not controller.drawing.busy)
    return controller.drawing


def area(drawing: Drawing) -> float:
    assert drawing.result is not None
    return float(drawing.result.geometry.area)


def test_a_click_gives_the_object_under_it(controller: SegmentationController) -> None:
    controller.add_point(place("a"))
    assert controller.drawing.busy
    assert controller.drawing.prompts.points[0].x == pytest.approx(place("a").x())
    assert area(settled(controller)) == pytest.approx(DISC_AREA["a"], rel=0.05)


def test_a_box_gives_the_object_in_it(controller: SegmentationController) -> None:
    controller.set_box([place("b", dx, dy) for dx, dy in ((-140, -140), (140, -140), (140, 140), (-140, 140))])
    assert area(settled(controller)) == pytest.approx(DISC_AREA["b"], rel=0.05)
    assert controller.drawing.prompts.box is not None


def test_a_box_turned_like_the_raster_does_not_grow(
    without_store: SegmentationController, stores: CurrentStore, tmp_path: Path, blobs: BlobDecoder
) -> None:
    turned = GeoTransform(0.4, 0.3, LEFT, 0.3, -0.4, TOP)
    make_sheet(tmp_path, "turned", turned)
    stores.open(tmp_path / "turned.embeddings.zarr", [])
    wait_until(lambda: stores.store is not None)
    native = Bounds(200, 300, 700, 900)
    without_store.set_box([QgsPointXY(*turned.apply(x, y)) for x, y in native.corners])
    drawn = settled(without_store)
    assert drawn.prompts.box_corners == [pytest.approx(turned.apply(x, y)) for x, y in native.corners]
    kept = Prompts.from_json(drawn.prompts.to_json())
    without_store.start_from(kept)
    again = settled(without_store)
    assert np.allclose(again.prompts.box_corners, drawn.prompts.box_corners, atol=0.01)
    assert area(again) == pytest.approx(area(drawn), rel=0.01)


def test_the_brush_is_round_on_the_screen(
    iface: Interface,
    without_store: SegmentationController,
    stores: CurrentStore,
    tmp_path: Path,
    blobs: BlobDecoder,
) -> None:
    degrees, radius = GeoTransform(1e-5, 0.0, -0.6, 0.0, -1e-5, 39.7), 40
    make_sheet(tmp_path, "degrees", degrees, "EPSG:4326")
    stores.open(tmp_path / "degrees.embeddings.zarr", [])
    wait_until(lambda: stores.store is not None)
    metres = QgsCoordinateReferenceSystem("EPSG:25830")
    iface.canvas.setDestinationCrs(metres)
    to_metres = QgsCoordinateTransform(QgsCoordinateReferenceSystem("EPSG:4326"), metres, QgsProject.instance())
    middle = to_metres.transform(QgsPointXY(*degrees.apply(600, 600)))
    iface.canvas.setExtent(QgsRectangle(middle.x() - 300, middle.y() - 300, middle.x() + 300, middle.y() + 300))
    QApplication.processEvents()
    without_store.draw("brush", [middle], radius=radius)
    result = settled(without_store).result
    assert result is not None
    assert result.geometry.area / 1e-10 == pytest.approx(3.14159 * radius**2, rel=0.02)
    drawn = shapely.transform(
        result.geometry, lambda xy: np.array([to_metres.transform(QgsPointXY(x, y)) for x, y in xy.tolist()])
    )
    distances = shapely.distance(shapely.points(shapely.get_coordinates(drawn)), shapely.Point(middle.x(), middle.y()))
    assert distances.max() == pytest.approx(distances.min(), rel=0.01)


def test_undo_and_redo_go_prompt_by_prompt(controller: SegmentationController) -> None:
    controller.add_point(place("a"))
    one = area(settled(controller))
    controller.add_point(place("b"))
    two = area(settled(controller))
    assert two > one
    controller.undo()
    assert area(settled(controller)) == one
    assert len(controller.drawing.prompts) == 1
    controller.redo()
    assert area(settled(controller)) == two
    controller.undo()
    controller.undo()
    assert settled(controller).result is None
    assert not controller.drawing.can_undo
    assert controller.drawing.can_redo


def test_candidates_cycle(controller: SegmentationController) -> None:
    controller.add_point(place("a"))
    first = settled(controller)
    assert first.result is not None
    seen = [first.result.rank]
    for _ in range(first.result.candidates):
        controller.next_candidate()
        result = settled(controller).result
        assert result is not None
        seen.append(result.rank)
    assert seen == [0, 1, 2, 0]


def test_fast_prompts_all_count(controller: SegmentationController, log: Log) -> None:
    for name in DISCS:
        controller.add_point(place(name))
    controller.undo()
    assert area(settled(controller)) == pytest.approx(DISC_AREA["a"] + DISC_AREA["b"], rel=0.05)
    assert log.errors == []


def test_accept_waits_for_the_answer_and_holds_later_gestures(controller: SegmentationController, log: Log) -> None:
    controller.accept_ready.connect(lambda _drawing: controller.discard())
    controller.add_point(place("a"))
    controller.accept()
    controller.add_point(place("b"))
    wait_until(lambda: log.accepted)
    assert area(log.accepted[0]) == pytest.approx(DISC_AREA["a"], rel=0.05)
    assert area(settled(controller)) == pytest.approx(DISC_AREA["b"], rel=0.05)
    assert len(controller.drawing.prompts) == 1


def test_a_click_after_accept_begins_the_next_object(controller: SegmentationController, log: Log) -> None:
    controller.add_point(place("a"))
    settled(controller)
    controller.accept()
    controller.discard()
    controller.add_point(place("b"))
    assert area(settled(controller)) == pytest.approx(DISC_AREA["b"], rel=0.05)


def test_discard_drops_prompts_that_are_being_answered(controller: SegmentationController) -> None:
    controller.add_point(place("a"))
    controller.discard()
    assert controller.drawing == Drawing()
    controller.add_point(place("b"))
    assert area(settled(controller)) == pytest.approx(DISC_AREA["b"], rel=0.05)
    assert len(controller.drawing.prompts) == 1


def test_a_preview_changes_nothing(controller: SegmentationController, log: Log) -> None:
    controller.preview(place("a"))
    wait_until(lambda: any(log.previews))
    assert log.previews[-1].geometry.area == pytest.approx(DISC_AREA["a"], rel=0.05)
    assert controller.drawing == Drawing()


def test_a_preview_outside_the_raster_is_no_error(controller: SegmentationController, log: Log) -> None:
    controller.preview(QgsPointXY(0, 0))
    wait_until(lambda: log.previews)
    assert log.previews == [None]
    assert log.errors == []


def test_a_click_outside_the_raster_is_an_error(controller: SegmentationController, log: Log) -> None:
    controller.add_point(place("a"))
    before = settled(controller)
    controller.add_point(QgsPointXY(0, 0))
    assert settled(controller) == before
    assert "outside the raster" in log.errors[0].user_message


def test_a_click_without_a_store_waits_for_one(
    without_store: SegmentationController, stores: CurrentStore, blob_store: Path, blobs: BlobDecoder
) -> None:
    controller, log = without_store, Log(without_store)
    wanted: list[bool] = []
    controller.store_wanted.connect(lambda: wanted.append(True))
    controller.add_point(place("a"))
    assert wanted == [True]
    controller.accept()
    stores.open(blob_store, [])
    wait_until(lambda: log.accepted)
    assert area(log.accepted[0]) == pytest.approx(DISC_AREA["a"], rel=0.05)


def test_a_store_that_cannot_be_opened_drops_waiting_gestures(
    without_store: SegmentationController, stores: CurrentStore, tmp_path: Path
) -> None:
    controller, log = without_store, Log(without_store)
    controller.add_point(place("a"))
    stores.open(tmp_path, [])
    wait_until(lambda: log.errors)
    assert "not an embedding store" in log.errors[0].user_message
    assert controller.drawing == Drawing()


@pytest.fixture
def catalogue(blob_store: Path, iface: Interface, tmp_path: Path) -> QgsVectorLayer:
    """Show a catalogue of two sheets that overlap by a third, and no image."""
    for number, name in enumerate(("west", "east")):
        copy = Path(shutil.copytree(blob_store, tmp_path / "stores" / f"{name}.embeddings.zarr"))
        document = json.loads((copy / "zarr.json").read_text())
        raster = document["attributes"]["geosam_es"]["raster"]
        raster["transform"][2] += number * 1000 * PIXEL
        (copy / "zarr.json").write_text(json.dumps(document))
    return show_catalogue(tmp_path, iface)


def test_a_catalogue_has_the_store_of_each_place(
    without_store: SegmentationController,
    stores: CurrentStore,
    iface: Interface,
    blobs: BlobDecoder,
    catalogue: QgsVectorLayer,
) -> None:
    controller, log = without_store, Log(without_store)
    wanted: list[Any] = []
    controller.store_wanted.connect(wanted.append)

    def answered() -> float:
        wait_until(lambda: not controller.is_waiting and not controller.drawing.busy)
        return area(controller.drawing)

    assert controller.store_at(place("a")) is None
    controller.add_point(place("a"))
    assert answered() == pytest.approx(DISC_AREA["a"], rel=0.05)
    assert stores.store is not None and stores.store.path.name == "west.embeddings.zarr"
    assert controller.store_at(place("a")) is stores.store
    east = place("b", 1000)
    controller.discard()
    controller.add_point(east)
    assert answered() == pytest.approx(DISC_AREA["b"], rel=0.05)
    assert stores.store.path.name == "east.embeddings.zarr" and not wanted and not log.errors
    controller.discard()
    iface.canvas.setLayers([])
    controller.add_point(place("a", 5000))
    assert wanted == [] and controller.store is not None


@pytest.mark.parametrize("is_absolute", [False, True])
def test_a_catalogue_on_a_server_has_stores_on_servers(
    without_store: SegmentationController,
    stores: CurrentStore,
    iface: Interface,
    blobs: BlobDecoder,
    catalogue: QgsVectorLayer,
    tmp_path: Path,
    is_absolute: bool,
) -> None:
    """Its stores are given by their ways from the catalogue, or by their addresses, which a local one may have too."""
    controller, log = without_store, Log(without_store)
    command = [sys.executable, str(Path(__file__).with_name("range_server.py")), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        address = f"http://127.0.0.1:{server.stdout.readline().strip()}"
        if is_absolute:
            catalogue.startEditing()
            for feature in catalogue.getFeatures():
                field = catalogue.fields().indexOf("store")
                catalogue.changeAttributeValue(feature.id(), field, f"{address}/{feature['store']}")
            assert catalogue.commitChanges()
            layer = catalogue
        else:
            layer = QgsVectorLayer(f"/vsicurl/{address}/catalog.gpkg", "catalogue on a server")
            QgsProject.instance().addMapLayer(layer)
            iface.canvas.setLayers([layer])
        for name, where in (("west", place("a")), ("east", place("b", 1000))):
            controller.add_point(where)
            wait_until(lambda: not controller.is_waiting and not controller.drawing.busy)
            assert not log.errors and stores.store.place == f"{address}/stores/{name}.embeddings.zarr"
            assert area(controller.drawing) == pytest.approx(DISC_AREA["a" if name == "west" else "b"], rel=0.05)
            assert controller.store_at(where) is stores.store
            controller.discard()
        server.kill()


@pytest.mark.parametrize("overlap", [0, 200])
def test_an_object_across_two_sheets_is_one(
    without_store: SegmentationController,
    stores: CurrentStore,
    iface: Interface,
    blobs: BlobDecoder,
    tmp_path: Path,
    overlap: int,
) -> None:
    controller, log = without_store, Log(without_store)
    image, folder = disc((1100, 2000), 1020, 600, 300), tmp_path / "stores"
    folder.mkdir()
    for name, part, left in (("east", image[:, 1000 - overlap :], 1000 - overlap), ("west", image[:, :1000], 0)):
        transform = GeoTransform(PIXEL, 0.0, LEFT + left * PIXEL, 0.0, -PIXEL, TOP)
        store = make_store(folder, part, transform=transform, name=name)
        document = json.loads((store / "zarr.json").read_text())
        crs = "EPSG:25829" if name == "east" else "EPSG:25830"
        document["attributes"]["geosam_es"]["raster"]["crs_wkt"] = QgsCoordinateReferenceSystem(crs).toWkt()
        (store / "zarr.json").write_text(json.dumps(document))
    show_catalogue(tmp_path, iface)

    def drawn(*clicks: int) -> shapely.Geometry:
        controller.discard()
        for col in clicks:
            controller.add_point(QgsPointXY(LEFT + col * PIXEL, TOP - 600 * PIXEL))
            wait_until(lambda: not controller.is_waiting and not controller.drawing.busy)
        assert controller.drawing.result is not None
        return controller.drawing.result.geometry

    west, east = 760, 1290
    assert drawn(west).bounds[2] == pytest.approx(LEFT + 1000 * PIXEL), "their CRSs differ"
    stores.close_all()
    set_crs(folder / "east.embeddings.zarr", QgsCoordinateReferenceSystem("EPSG:25830").toWkt())
    truth = shapely.Point(LEFT + 1020 * PIXEL, TOP - 600 * PIXEL).buffer(300 * PIXEL)
    for clicks in ((west,), (east,), (west, east)):
        found = drawn(*clicks)
        assert found.geom_type == "Polygon" and found.symmetric_difference(truth).area < 0.03 * truth.area
        assert stores.store is not None and stores.store.path.name[:4] == ("east" if clicks[0] == east else "west")
    assert not log.errors
    controller.add_point(QgsPointXY(LEFT + 5000 * PIXEL, TOP))
    wait_until(lambda: log.errors)
    assert "outside the raster" in log.errors[0].user_message


def test_the_farthest_border_decides_where_sheets_overlap(
    without_store: SegmentationController, iface: Interface, catalogue: QgsVectorLayer
) -> None:
    visible = VisibleRasters(iface.canvas.mapSettings)
    found = [visible.catalogued(place("a", dx)) for dx in (-400, 0, 900, 950, 1000, 3000)]
    names = [path.name[:4] if path is not None else None for path in found]
    assert names == [None, "west", "west", "west", "east", None]
    iface.canvas.setDestinationCrs(QgsCoordinateReferenceSystem("EPSG:4326"))
    to_map = QgsCoordinateTransform(catalogue.crs(), iface.canvas.mapSettings().destinationCrs(), QgsProject.instance())
    assert visible.catalogued(to_map.transform(place("a"))) == found[1]
    iface.canvas.setDestinationCrs(catalogue.crs())
    shutil.rmtree(found[1])
    assert visible.catalogued(place("a", 900)) == found[4], "the store of the nearer image is gone"


def test_options_apply_to_the_current_object(controller: SegmentationController) -> None:
    controller.add_point(place("a"))
    fine = settled(controller)
    controller.set_options(CleanOptions(simplify_tolerance=20.0))
    coarse = settled(controller)
    assert fine.result is not None
    assert coarse.result is not None
    assert len(coarse.result.geometry.exterior.coords) < len(fine.result.geometry.exterior.coords)


def look_at(iface: Interface, centre: QgsPointXY, factor: float) -> None:
    """Show a place with so many native pixels to a pixel of the screen."""
    width, height = iface.canvas.width() * PIXEL * factor, iface.canvas.height() * PIXEL * factor
    iface.canvas.setExtent(QgsRectangle.fromCenterAndSize(centre, width, height))
    QApplication.processEvents()


@pytest.mark.parametrize(("factor", "level"), [(0.3, 0), (1.0, 0), (1.99, 0), (2.0, 1), (50.0, 1)])
def test_the_scale_chooses_the_level(
    iface: Interface, controller: SegmentationController, factor: float, level: int
) -> None:
    """A raster of 1500 pixels has two levels."""
    look_at(iface, place("a"), factor)
    controller.add_point(place("a"))
    result = settled(controller).result
    assert result is not None
    assert result.level == level


@pytest.fixture(scope="module")
def enlarged_store(blob_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that has the levels -1 and -2 around the disc a."""
    root = Path(shutil.copytree(blob_store, tmp_path_factory.mktemp("enlarged") / blob_store.name))
    for level in (-1, -2):
        add_enlarged(root, scene(), level, Bounds(200, 200, 400, 400))
    return root


@pytest.fixture
def enlarged(
    without_store: SegmentationController,
    stores: CurrentStore,
    enlarged_store: Path,
    blobs: BlobDecoder,
    tmp_path: Path,
) -> SegmentationController:
    stores.open(Path(shutil.copytree(enlarged_store, tmp_path / enlarged_store.name)), [])
    wait_until(lambda: stores.store is not None)
    return without_store


@pytest.mark.parametrize(("factor", "level"), [(1.0, 0), (0.6, 0), (0.49, -1), (0.3, -1), (0.24, -2), (0.02, -2)])
def test_a_map_that_enlarges_the_image_chooses_an_enlarged_level(
    iface: Interface, enlarged: SegmentationController, factor: float, level: int
) -> None:
    look_at(iface, place("a"), factor)
    enlarged.add_point(place("a"))
    result = settled(enlarged).result
    assert result is not None and result.level == level
    assert area(enlarged.drawing) == pytest.approx(DISC_AREA["a"], rel=0.05)


def test_a_place_without_enlarged_tiles_is_answered_at_the_finest_level_there(
    iface: Interface, enlarged: SegmentationController
) -> None:
    look_at(iface, place("c"), 0.2)
    enlarged.add_point(place("c"))
    result = settled(enlarged).result
    assert result is not None and result.level == 0
    assert area(enlarged.drawing) == pytest.approx(DISC_AREA["c"], rel=0.05)


@pytest.mark.parametrize(("first", "then", "level"), [(0.2, 2.0, -2), (1.0, 0.2, 0)])
def test_an_object_stays_at_the_level_that_answered_first(
    iface: Interface, enlarged: SegmentationController, first: float, then: float, level: int
) -> None:
    def levels() -> int:
        result = settled(enlarged).result
        assert result is not None
        return result.level

    look_at(iface, place("a"), first)
    enlarged.add_point(place("a"))
    assert levels() == level
    look_at(iface, place("a"), then)
    enlarged.add_point(place("a", 20, 20))
    assert levels() == level
    enlarged.next_candidate()
    assert levels() == level
    enlarged.undo()
    enlarged.undo()
    settled(enlarged)
    enlarged.redo()
    assert levels() == level


def test_an_object_drawn_again_uses_its_own_level(iface: Interface, enlarged: SegmentationController) -> None:
    look_at(iface, place("a"), 0.2)
    enlarged.add_point(place("a"))
    before = settled(enlarged)
    look_at(iface, place("a"), 2.0)
    assert before.result is not None
    enlarged.start_from(before.prompts, before.result.level)
    after = settled(enlarged)
    assert after.result is not None and after.result.level == -2
    assert after.result.geometry.equals_exact(before.result.geometry, 0)


@pytest.mark.parametrize("factor", [0.4, 0.2])
def test_the_same_click_gives_the_same_polygon_wherever_the_map_was_moved(
    iface: Interface, enlarged: SegmentationController, factor: float
) -> None:
    geometries = []
    for dx, dy in ((0, 0), (37, -11), (-60, 45)):
        look_at(iface, place("a", dx, dy), factor)
        enlarged.add_point(place("a", 5, 5))
        result = settled(enlarged).result
        assert result is not None
        geometries.append(result.geometry)
        enlarged.discard()
    assert all(geometry.equals_exact(geometries[0], 0) for geometry in geometries)


def test_a_box_gives_the_same_polygon_at_all_scales_of_a_level(
    iface: Interface, enlarged: SegmentationController
) -> None:
    corners = [place("a", dx, dy) for dx, dy in ((-100, -100), (100, -100), (100, 100), (-100, 100))]
    found = []
    for factor in (0.26, 0.4, 0.49):
        look_at(iface, place("a", 30, 30), factor)
        enlarged.set_box(corners)
        result = settled(enlarged).result
        assert result is not None and result.level == -1
        found.append(result.geometry)
        enlarged.discard()
    assert all(geometry.equals_exact(found[0], 0) for geometry in found)


@pytest.mark.parametrize("factor", [0.2, 1.0, 2.0])
def test_a_preview_shows_what_a_click_gives(iface: Interface, enlarged: SegmentationController, factor: float) -> None:
    log = Log(enlarged)
    look_at(iface, place("a"), factor)
    enlarged.preview(place("a"))
    wait_until(lambda: any(log.previews))
    preview = log.previews[-1]
    enlarged.add_point(place("a"))
    result = settled(enlarged).result
    assert result is not None and preview.level == result.level
    assert preview.geometry.equals_exact(result.geometry, 0)


@pytest.mark.parametrize("rotation", [0.0, 37.0])
@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857", "EPSG:32630"])
def test_canvas_and_raster_may_have_different_crs(
    iface: Interface, controller: SegmentationController, crs: str, rotation: float
) -> None:
    project = QgsProject.instance()
    assert controller.store is not None
    there = QgsCoordinateTransform(controller.store.crs, QgsCoordinateReferenceSystem(crs), project)
    iface.canvas.setDestinationCrs(QgsCoordinateReferenceSystem(crs))
    iface.canvas.setRotation(rotation)
    iface.canvas.setExtent(there.transformBoundingBox(QgsRectangle(700000, 4399250, 700750, 4400000)))
    QApplication.processEvents()
    controller.add_point(there.transform(place("a")))
    assert area(settled(controller)) == pytest.approx(DISC_AREA["a"], rel=0.05)
    controller.discard()
    corners = [place("b", dx, dy) for dx, dy in ((-140, -140), (140, -140), (140, 140), (-140, 140))]
    controller.set_box([there.transform(corner) for corner in corners])
    assert area(settled(controller)) == pytest.approx(DISC_AREA["b"], rel=0.05)


def test_a_click_outside_the_rasters_crs_is_an_error(
    iface: Interface, controller: SegmentationController, log: Log
) -> None:
    iface.canvas.setDestinationCrs(QgsCoordinateReferenceSystem("EPSG:4326"))
    controller.add_point(QgsPointXY(1e9, 1e9))
    settled(controller)
    assert len(log.errors) == 1


def test_an_object_drawn_again_gives_the_same_polygon(controller: SegmentationController) -> None:
    controller.add_point(place("a"))
    controller.add_point(place("b"))
    before = settled(controller)
    controller.start_from(before.prompts)
    after = settled(controller)
    assert after.result is not None
    assert before.result is not None
    assert after.result.geometry.equals(before.result.geometry)
    controller.undo()
    assert len(settled(controller).prompts) == 1


def test_prompts_are_kept_in_map_coordinates(controller: SegmentationController) -> None:
    controller.add_point(place("a"))
    controller.add_point(place("b"), positive=False)
    points = settled(controller).prompts.points
    assert [point.positive for point in points] == [True, False]
    assert (points[1].x, points[1].y) == pytest.approx((place("b").x(), place("b").y()))


def test_a_store_deleted_while_in_use_gives_one_message(
    without_store: SegmentationController, stores: CurrentStore, blob_store: Path, blobs: BlobDecoder, tmp_path: Path
) -> None:
    controller, log = without_store, Log(without_store)
    copy = Path(shutil.copytree(blob_store, tmp_path / blob_store.name))
    stores.open(copy, [])
    wait_until(lambda: stores.store is not None)
    shutil.rmtree(copy)
    controller.add_point(place("a"))
    settled(controller)
    assert len(log.errors) == 1
    assert controller.drawing.result is None


def test_an_object_is_kept_when_its_store_is_replaced(
    without_store: SegmentationController,
    stores: CurrentStore,
    iface: Interface,
    raster_with_store: QgsRasterLayer,
    blobs: BlobDecoder,
) -> None:
    """The user can still accept it, but not correct it."""
    controller, log = without_store, Log(without_store)
    QgsProject.instance().addMapLayer(raster_with_store)
    wait_until(lambda: iface.canvas.layers())
    stores.request(project_raster(raster_with_store))
    wait_until(lambda: stores.store is not None)
    former = stores.store
    controller.add_point(place("a"))
    before = settled(controller)
    other = replace(former.metadata, model={**former.metadata.model, "encoder_sha256": "e" * 64})
    StoreWriter.create(former.path, other, {"decoder.onnx": former.path / "decoder.onnx"}, overwrite=True)
    controller.add_point(place("a", 5))
    assert settled(controller).prompts == before.prompts
    assert "blobs was deleted or replaced: accept the polygon or discard it" in log.errors[0].user_message


def test_a_decoder_that_raises_does_not_end_the_thread(
    controller: SegmentationController, log: Log, blobs: BlobDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller.add_point(place("a"))
    before = settled(controller)

    def crash(*_: Any) -> None:
        raise RuntimeError("the decoder broke")

    with monkeypatch.context() as broken:
        broken.setattr(blobs, "decode", crash)
        controller.add_point(place("b"))
        assert settled(controller) == before
    assert "the decoder broke" in log.errors[0].user_message
    controller.add_point(place("b"))
    assert area(settled(controller)) > area(before)


def test_tiles_in_view_are_prepared_before_the_first_click(
    controller: SegmentationController, blobs: BlobDecoder
) -> None:
    controller.look_ahead()
    wait_until(lambda: blobs.prepared > 0)
    prepared = blobs.prepared
    wait_until(lambda: not controller.drawing.busy)
    controller.add_point(place("a"))
    settled(controller)
    assert blobs.prepared <= prepared + 1


def test_the_tiles_in_view_are_reported(controller: SegmentationController) -> None:
    reported: list[Any] = []
    controller.tiles_changed.connect(reported.append)
    controller.look_ahead(with_tiles=True)
    wait_until(lambda: reported)
    assert len(reported[0].encoded) == 1
    assert reported[0].missing == []


def test_outlines_alone_prepare_nothing(
    controller: SegmentationController, stores: CurrentStore, blobs: BlobDecoder
) -> None:
    reported: list[Any] = []
    controller.tiles_changed.connect(reported.append)
    controller.look_ahead(with_tiles=True, prepares=False)
    wait_until(lambda: reported)
    stores.run(lambda: None, lambda _: reported.append("idle"))
    wait_until(lambda: reported[-1] == "idle")
    assert blobs.prepared == 0


def test_the_enlarged_tiles_in_view_are_reported(iface: Interface, enlarged: SegmentationController) -> None:
    reported: list[Any] = []
    enlarged.tiles_changed.connect(reported.append)
    look_at(iface, place("a"), 0.2)
    enlarged.look_ahead(with_tiles=True)
    wait_until(lambda: reported)
    shown = reported[0].encoded
    assert shown and {round(outline.area) for outline in shown} == {round((256 * PIXEL) ** 2)}
    look_at(iface, place("c"), 0.2)
    enlarged.look_ahead(with_tiles=True)
    wait_until(lambda: len(reported) > 1)
    assert not reported[1].encoded and reported[1].missing


def test_closing_the_project_drops_waiting_gestures(
    without_store: SegmentationController, stores: CurrentStore, blob_store: Path, blobs: BlobDecoder
) -> None:
    """A click on a raster of the old project is no click on one of the new project."""
    without_store.add_point(place("a"))
    stores.close_all()
    stores.open(blob_store, [])
    wait_until(lambda: stores.store is not None)
    assert settled(without_store) == Drawing()


def test_closing_the_store_forgets_the_object(controller: SegmentationController, stores: CurrentStore) -> None:
    controller.add_point(place("a"))
    settled(controller)
    stores.close_all()
    assert controller.drawing == Drawing()


def test_start_from_a_single_point(controller: SegmentationController) -> None:
    spot = place("c")
    controller.start_from(Prompts((Point(spot.x(), spot.y()),)))
    assert area(settled(controller)) == pytest.approx(DISC_AREA["c"], rel=0.05)


def test_prompts_of_a_discarded_object_are_not_decoded(
    controller: SegmentationController, stores: CurrentStore, blobs: BlobDecoder
) -> None:
    release = threading.Event()
    stores.run(partial(release.wait, 10), lambda _: None)
    for _ in range(5):
        controller.add_point(place("a"))
    controller.discard()
    controller.add_point(place("b"))
    release.set()
    settled(controller)
    assert len(blobs.calls) == 1


def test_a_question_gets_an_answer_only_while_the_object_is_the_same(
    controller: SegmentationController, stores: CurrentStore
) -> None:
    answers: list[Any] = []
    controller.ask(lambda session: session.level, answers.append)
    assert answers == []
    controller.add_point(place("a"))
    settled(controller)
    controller.ask(lambda session: len(session.prompts), answers.append)
    wait_until(lambda: answers == [1])
    release = threading.Event()
    controller.ask(lambda session: release.wait(10), answers.append)
    controller.discard()
    release.set()
    controller.add_point(place("b"))
    settled(controller)
    assert answers == [1]
