"""Where a new prepared image goes: said with its size, asked without holding anything up, and remembered."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from qgis.core import QgsProject, QgsRasterLayer
from qgis.PyQt.QtWidgets import QCheckBox, QPushButton

from geosam_es.gui.interaction import Interaction
from geosam_es.gui.plugin import GeoSamPlugin
from geosam_es.qgis_support.settings import Settings
from geosam_es.store import store_path_for
from geosam_es.store.reader import TileState
from tests.qgis.support import Interface, click, place, wait_until


@pytest.fixture
def raster(raster_with_store: QgsRasterLayer) -> QgsRasterLayer:
    """The active layer, without a store."""
    shutil.rmtree(store_path_for(Path(raster_with_store.source())))
    QgsProject.instance().addMapLayer(raster_with_store)
    return raster_with_store


@pytest.fixture
def beside(raster: QgsRasterLayer) -> Path:
    return store_path_for(Path(raster.source()))


@pytest.fixture
def clicked(iface: Interface, raster: QgsRasterLayer) -> Iterator[Interaction]:
    """A polygon drawn on an image that has no store."""
    iface.active = raster
    plugin = GeoSamPlugin(iface)
    plugin.initGui()
    assert plugin.interaction is not None
    try:
        plugin.interaction.set_active(True)
        wait_until(iface.canvas.layers)
        click(iface.canvas, place("a", 60, 0))
        wait_until(lambda: plugin.interaction.controller.drawing.has_polygon or iface.messages()[1:])
        assert plugin.interaction.controller.drawing.has_polygon, iface.messages()
        yield plugin.interaction
    finally:
        plugin.unload()


def press(iface: Interface, text: str) -> None:
    next(button for button in iface.bar.findChildren(QPushButton) if button.text() == text).click()


def test_the_place_and_the_size_are_said(iface: Interface, clicked: Interaction, beside: Path, own_cache: Path) -> None:
    """A polygon is there already: nothing waits for the answer."""
    (text,) = iface.messages()
    # Levels of 4 and 1 tiles of 2 MiB and the decoder; the enlarged levels have 16 and 49.
    assert text.startswith("blobs.tif is being prepared in the cache, which takes at most 12 MB, or 1")
    assert not beside.exists() and clicked.stores.store.path.parent == own_cache
    assert [button.toolTip() for button in iface.bar.findChildren(QPushButton) if button.toolTip()][:2] == [
        str(beside),
        str(clicked.stores.store.path),
    ]


def test_beside_the_image_for_this_image(iface: Interface, clicked: Interaction, beside: Path) -> None:
    drawn, former = clicked.controller.drawing.result, clicked.stores.store.path
    press(iface, "Beside the image")
    wait_until(lambda: clicked.stores.store.path == beside)
    assert beside.is_dir() and iface.messages() == []
    assert clicked.controller.drawing.result == drawn
    reader = clicked.stores.store.segmenter.reader
    assert any(reader.state(tile) is TileState.ENCODED for tile in reader.pyramid)
    assert Settings().recent_stores[0] == str(beside) and str(former) not in Settings().recent_stores
    assert Settings().store_place == "ask"


def test_in_the_cache_for_all_images(iface: Interface, clicked: Interaction, beside: Path) -> None:
    iface.bar.findChild(QCheckBox).setChecked(True)
    press(iface, "In the cache")
    assert iface.messages() == [] and not beside.exists()
    assert Settings().store_place == "cache"


def test_who_does_not_answer_is_not_asked_again_for_the_same_image(
    iface: Interface, clicked: Interaction, raster: QgsRasterLayer
) -> None:
    former = clicked.stores.store.path
    clicked.stores.close_all()
    clicked.place.close()
    click(iface.canvas, place("a", 60, 0))
    wait_until(lambda: clicked.stores.store is not None)
    assert clicked.stores.store.path == former and iface.messages() == []


@pytest.mark.parametrize("chosen", ["beside", "cache"])
def test_who_has_chosen_is_not_asked(
    iface: Interface, raster: QgsRasterLayer, beside: Path, chosen: str, own_cache: Path
) -> None:
    Settings().store_place = chosen
    plugin = GeoSamPlugin(iface)
    plugin.initGui()
    iface.active = raster
    assert plugin.interaction is not None
    plugin.interaction.set_active(True)
    click(iface.canvas, place("a", 60, 0))
    wait_until(lambda: plugin.interaction.stores.store is not None)
    assert plugin.interaction.stores.store.path.parent == (beside.parent if chosen == "beside" else own_cache)
    assert iface.messages() == []
    plugin.unload()
