"""The image under the pointer and its state."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from qgis.core import QgsPointXY, QgsProject, QgsRectangle
from qgis.PyQt.QtWidgets import QApplication

from geosam_es.core.grid import Pyramid, Tile
from geosam_es.gui.canvas.controller import SegmentationController
from geosam_es.gui.canvas.pointed_image import ImageState, PointedImage
from geosam_es.gui.stores.current_store import CurrentStore
from geosam_es.qgis_support.layer_source import source_of
from geosam_es.qgis_support.live_store import LiveOptions
from geosam_es.store import store_path_for
from tests.helpers import BlobDecoder
from tests.qgis.support import (
    LEFT,
    PIXEL,
    SIDE,
    TOP,
    TRANSFORM,
    Interface,
    make_sheet,
    place,
    show_catalogue,
    wait_until,
)

BESIDE = QgsPointXY(LEFT - 50, TOP - 50)


class Scene:
    """Two sheets side by side, with the states that the panel is told."""

    def __init__(self, iface: Interface, folder: Path) -> None:
        self.left = make_sheet(folder, "left")
        self.right = make_sheet(folder, "right", TRANSFORM._replace(c=LEFT + SIDE * PIXEL))
        QgsProject.instance().addMapLayers([self.left, self.right])
        iface.canvas.setExtent(QgsRectangle(LEFT - 100, TOP - SIDE * PIXEL, LEFT + 2 * SIDE * PIXEL, TOP))
        wait_until(lambda: len(iface.canvas.layers()) == 2)
        self.stores = CurrentStore()
        self.controller = SegmentationController(self.stores, iface.canvas.mapSettings)
        self.image = PointedImage(self.controller, self.stores)
        self.states: list[ImageState] = []
        self.image.changed.connect(self.states.append)
        self.image.store_wanted.connect(self.stores.request)
        self.stores.opened.connect(self.image.look)

    def rest_on(self, point: QgsPointXY) -> None:
        self.image.move_to(point)

    def shows(self, name: str, text: str) -> bool:
        return bool(self.states) and (self.states[-1].name, self.states[-1].text) == (name, text)


def on_right(name: str) -> QgsPointXY:
    return QgsPointXY(place(name).x() + SIDE * PIXEL, place(name).y())


@pytest.fixture
def scene(iface: Interface, blobs: BlobDecoder, tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(iface, tmp_path)
    yield scene
    scene.image.stop()
    scene.stores.shutdown()


def test_the_store_under_the_pointer_is_opened_and_becomes_the_current_one(scene: Scene) -> None:
    scene.rest_on(place("a"))
    wait_until(lambda: scene.shows("left", "ready"))
    assert "opening" in [state.text for state in scene.states]
    scene.rest_on(on_right("a"))
    wait_until(lambda: scene.shows("right", "ready"))
    assert scene.stores.store is not None and scene.stores.store.metadata.raster.file_name == "right.tif"
    before = list(scene.states)
    scene.rest_on(on_right("b"))
    scene.image.look()
    assert scene.states == before
    assert [state.text for state in before[-1:]] == ["ready"]


def test_a_sheet_of_a_catalogue_is_shown_and_not_the_layer_over_it(
    scene: Scene, iface: Interface, blob_store: Path, tmp_path: Path
) -> None:
    shutil.rmtree(store_path_for(Path(scene.left.source())))
    store = Path(shutil.copytree(blob_store, tmp_path / "stores" / blob_store.name))
    iface.canvas.setLayers([scene.left, show_catalogue(tmp_path, iface)])
    scene.rest_on(place("a"))
    wait_until(lambda: scene.shows("blobs", "ready"))
    scene.controller.add_point(place("a"))
    wait_until(lambda: scene.controller.drawing.result is not None)
    scene.image.look()
    assert scene.stores.store is not None and scene.stores.store.path == store
    assert scene.shows("blobs.tif", "ready")


def test_beside_all_images_the_last_one_stays(scene: Scene) -> None:
    scene.rest_on(place("a"))
    wait_until(lambda: scene.shows("left", "ready"))
    scene.rest_on(BESIDE)
    scene.image.look()
    assert scene.shows("left", "ready") and scene.stores.store is not None


def test_while_something_is_drawn_its_store_stays(scene: Scene) -> None:
    scene.rest_on(place("a"))
    wait_until(lambda: scene.shows("left", "ready"))
    scene.controller.add_point(place("a"))
    scene.rest_on(on_right("a"))
    scene.image.look()
    store = scene.stores.store
    assert store is not None and store.metadata.raster.file_name == "left.tif"
    assert scene.states[-1].name == "right"
    scene.controller.discard()
    scene.image.look()
    wait_until(lambda: scene.shows("right", "ready"))


def test_the_percent_of_an_encoding_is_shown_on_its_image(scene: Scene) -> None:
    scene.rest_on(place("a"))
    wait_until(lambda: scene.shows("left", "ready"))
    scene.image.show_encoding(scene.stores.store, 34)
    state = scene.states[-1]
    assert (state.name, state.text, Path(state.path).name) == ("left", "34 %", "left.tif")
    scene.image.show_encoding(None)
    assert scene.shows("left", "ready")


def test_an_image_is_ready_once_all_its_tiles_are_there(scene: Scene) -> None:
    """With the embedded model, which fills the store on demand."""
    Path(scene.left.source()).with_name("left.embeddings.zarr").rename(Path(scene.left.source()).with_name("other"))
    scene.stores.open(None, [source_of(scene.left)], LiveOptions(threads=1))
    scene.rest_on(place("a"))
    wait_until(lambda: scene.stores.store is not None)
    store = scene.stores.store
    assert store is not None and store.live is not None
    live = store.live
    scene.image.look()
    assert scene.shows("left", "prepares as you click")
    tiles = live.tiles_in()
    for tile in tiles[:-1]:
        live.ensure_tile(tile)
    scene.image.look()
    assert scene.shows("left", "prepares as you click")
    live.ensure_tile(tiles[-1])
    scene.image.look()
    wait_until(lambda: scene.shows("left", "ready"))


def test_an_image_of_any_size_is_described_at_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A tile service of the whole world has 1e11 tiles."""
    Path(scene.left.source()).with_name("left.embeddings.zarr").rename(tmp_path / "other")
    asked: list[Tile] = []

    def endless(_: Pyramid) -> Iterator[Tile]:
        for number in count():
            asked.append(Tile(0, number, 0))
            yield asked[-1]

    monkeypatch.setattr(Pyramid, "__iter__", endless)
    scene.stores.open(None, [source_of(scene.left)], LiveOptions(threads=1))
    scene.rest_on(place("a"))
    wait_until(lambda: scene.stores.store is not None)
    scene.image.look()
    wait_until(lambda: scene.shows("left", "prepares as you click"))
    assert len(asked) == 1


def test_an_image_that_cannot_be_used_says_so(iface: Interface, scene: Scene, tmp_path: Path) -> None:
    moved = tmp_path / "moved.tif"
    Path(scene.left.source()).rename(moved)
    scene.rest_on(place("a"))
    wait_until(lambda: scene.shows("left", "cannot be used"))
    assert scene.stores.store is None


def test_a_removed_layer_is_forgotten(scene: Scene) -> None:
    scene.rest_on(place("a"))
    wait_until(lambda: scene.shows("left", "ready"))
    QgsProject.instance().removeMapLayer(scene.left.id())
    assert scene.image.layer is None
    wait_until(lambda: scene.states[-1] == ImageState())


def test_a_move_costs_next_to_nothing(scene: Scene) -> None:
    times = []
    for number in range(200):
        begun = time.perf_counter()
        scene.rest_on(QgsPointXY(LEFT + number, TOP - 10))
        times.append(time.perf_counter() - begun)
    assert sorted(times)[100] < 0.0002
    QApplication.processEvents()


def test_a_look_is_quick(scene: Scene) -> None:
    scene.rest_on(place("a"))
    wait_until(lambda: scene.shows("left", "ready"))
    times = []
    for _ in range(20):
        begun = time.perf_counter()
        scene.image.look()
        times.append(time.perf_counter() - begun)
    assert min(times) < 0.005
