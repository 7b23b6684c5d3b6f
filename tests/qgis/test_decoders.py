"""Choosing, comparing and adding decoders, in a window with a real canvas."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from qgis.core import QgsVectorLayer
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtTest import QTest
from qgis.PyQt.QtWidgets import QComboBox, QFileDialog, QToolButton
from scipy import ndimage

from geosam_es.core.prompts import Prompts
from geosam_es.errors import ModelError
from geosam_es.gui.interaction import Interaction
from geosam_es.gui.plugin import GeoSamPlugin
from geosam_es.gui.stores.decoder_choice import Comparison
from geosam_es.inference.decoder import Context, DecodedMasks
from geosam_es.qgis_support.store_news import store_news
from geosam_es.store.decoders import ORIGINAL, active_name, list_decoders, use_decoder
from tests.helpers import BlobDecoder, add_decoder, make_decoder
from tests.qgis.support import Interface, click, place, wait_until

SMALLER = 0.94
"""Score of the second decoder for a click."""


class SmallerDecoder(BlobDecoder):
    """Answers with the blob without its rim."""

    def decode(self, context: Context, prompts: Prompts, mask_input: NDArray[np.float32] | None = None) -> DecodedMasks:
        masks, scores = super().decode(context, prompts, mask_input)
        inner = [np.where(ndimage.binary_erosion(mask > 0, iterations=6), 10.0, -10.0) for mask in masks]
        return DecodedMasks(np.stack(inner).astype(np.float32), scores + np.float32(SMALLER - 0.9))


class Loader:
    """Replaces the loading of decoders; can be made slow."""

    def __init__(self) -> None:
        self.decoders: dict[str, BlobDecoder] = {"fields": SmallerDecoder(), "trees": SmallerDecoder()}
        self.original = BlobDecoder()
        self.loaded: list[str] = []
        self.ready = threading.Event()
        self.ready.set()
        self.threads: set[int] = set()

    def __call__(self, _prepare: Path | None, path: Path, threads: int | None = None) -> BlobDecoder:
        self.threads.add(threading.get_ident())
        name = path.parent.name
        if name in self.decoders:
            assert self.ready.wait(20)
            self.loaded.append(name)
        return self.decoders.get(name, self.original)


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loader]:
    loader = Loader()
    for module in ("inference.session", "gui.stores.decoder_choice"):
        monkeypatch.setattr(f"geosam_es.{module}.load_decoder", loader)
    yield loader
    loader.ready.set()


@pytest.fixture
def store(blob_store: Path, tmp_path: Path) -> Path:
    """A store with a second decoder."""
    copy = Path(shutil.copytree(blob_store, tmp_path / blob_store.name))
    add_decoder(copy, make_decoder(tmp_path / "tuned", "fields"))
    return copy


@pytest.fixture
def plugin(iface: Interface) -> Iterator[GeoSamPlugin]:
    plugin = GeoSamPlugin(iface)
    plugin.initGui()
    yield plugin
    plugin.unload()


def opened(plugin: GeoSamPlugin, store: Path) -> Interaction:
    interaction = plugin.interaction
    assert interaction is not None and plugin._actions is not None
    if not plugin._actions.tool.isChecked():
        plugin._actions.tool.trigger()
    interaction.open_store(store)
    wait_until(lambda: interaction.decoders.state.decoders and interaction.controller.store.path == store)
    return interaction


@pytest.fixture
def ready(plugin: GeoSamPlugin, store: Path, loader: Loader, target: QgsVectorLayer) -> Interaction:
    interaction = opened(plugin, store)
    interaction.dock.layers.setLayer(target)
    return interaction


class Compared:
    """Keeps the latest comparison."""

    def __init__(self, interaction: Interaction) -> None:
        self.last: Comparison | None = None
        interaction.comparison.compared.connect(self._take)

    def _take(self, comparison: Comparison | None) -> None:
        self.last = comparison


def names(interaction: Interaction) -> QComboBox:
    return interaction.dock.decoders._names


def choose(interaction: Interaction, name: str) -> None:
    box = names(interaction)
    index = box.findData(name)
    assert index >= 0
    box.setCurrentIndex(index)
    box.activated.emit(index)


def settled(interaction: Interaction) -> Any:
    wait_until(lambda: not interaction.controller.drawing.busy and not interaction.controller._switching)
    return interaction.controller.drawing


def area(interaction: Interaction) -> float:
    return float(settled(interaction).result.geometry.area)


def key(iface: Interface, code: Any) -> None:
    QTest.keyClick(iface.canvas, code)


class TestChoosing:
    def test_the_panel_lists_the_decoders_and_the_one_in_use(self, ready: Interaction) -> None:
        box = names(ready)
        assert [box.itemText(index) for index in range(box.count())] == ["original", "fields"]
        assert box.currentData() == ORIGINAL and box.isEnabled()
        tip = box.itemData(1, Qt.ItemDataRole.ToolTipRole)
        assert tip == "Tuned on 12 objects, 2026-11-20"

    def test_a_store_opens_with_its_active_decoder(self, plugin: GeoSamPlugin, store: Path, loader: Loader) -> None:
        use_decoder(store, "fields")
        interaction = opened(plugin, store)
        assert names(interaction).currentData() == "fields"
        click(interaction._canvas, place("a"))
        assert settled(interaction).result.score == pytest.approx(SMALLER)

    def test_a_single_decoder_disables_the_choice(
        self, plugin: GeoSamPlugin, blob_store: Path, loader: Loader, iface: Interface
    ) -> None:
        interaction = opened(plugin, blob_store)
        assert names(interaction).count() == 1 and not names(interaction).isEnabled()
        actions = interaction._actions
        assert not actions.compare.isEnabled() and not actions.swap.isEnabled()
        key(iface, Qt.Key.Key_C)
        click(iface.canvas, place("a"))
        assert settled(interaction).has_polygon
        assert interaction.overlay.bands["compared"].asGeometry().isEmpty()

    def test_the_current_object_is_answered_again(self, ready: Interaction, iface: Interface) -> None:
        click(iface.canvas, place("a"))
        click(iface.canvas, place("a", 20))
        before, result = area(ready), settled(ready).result
        choose(ready, "fields")
        after = settled(ready)
        assert area(ready) < before and len(after.prompts) == 2
        assert after.result.level == result.level
        key(iface, Qt.Key.Key_Backspace)
        assert len(settled(ready).prompts) == 1 and settled(ready).result.score == pytest.approx(SMALLER)
        choose(ready, ORIGINAL)
        assert settled(ready).result.score == pytest.approx(0.9)

    def test_the_chosen_candidate_is_kept(self, ready: Interaction, iface: Interface) -> None:
        click(iface.canvas, place("a"))
        key(iface, Qt.Key.Key_Tab)
        assert settled(ready).result.rank == 1
        choose(ready, "fields")
        assert settled(ready).result.rank == 1
        key(iface, Qt.Key.Key_Tab)
        assert settled(ready).result.rank == 2

    def test_gestures_wait_while_a_decoder_loads_and_the_window_stays_responsive(
        self, ready: Interaction, iface: Interface, loader: Loader, target: QgsVectorLayer
    ) -> None:
        loader.ready.clear()
        choose(ready, "fields")
        click(iface.canvas, place("a"))
        click(iface.canvas, place("a", 20))
        key(iface, Qt.Key.Key_Backspace)
        QTest.mouseClick(iface.canvas.viewport(), Qt.MouseButton.RightButton)
        click(iface.canvas, place("b"))
        assert not ready.controller.drawing.prompts.points and loader.loaded == []
        loader.ready.set()
        wait_until(lambda: target.featureCount() == 1)
        assert len(settled(ready).prompts) == 1
        assert settled(ready).result.score == pytest.approx(SMALLER)
        assert threading.get_ident() not in loader.threads

    def test_discarding_while_a_decoder_loads(self, ready: Interaction, iface: Interface, loader: Loader) -> None:
        click(iface.canvas, place("a"))
        settled(ready)
        loader.ready.clear()
        choose(ready, "fields")
        ready.controller.discard()
        loader.ready.set()
        click(iface.canvas, place("b"))
        assert settled(ready).result.score == pytest.approx(SMALLER)

    def test_opening_another_store_while_a_decoder_loads(
        self, ready: Interaction, iface: Interface, loader: Loader, blob_store: Path
    ) -> None:
        loader.ready.clear()
        choose(ready, "fields")
        ready.open_store(blob_store)
        wait_until(lambda: ready.controller.store.path == blob_store)
        loader.ready.set()
        click(iface.canvas, place("a"))
        assert settled(ready).result.score == pytest.approx(0.9)
        assert ready.controller.store.decoder == ORIGINAL

    def test_a_decoder_that_cannot_be_loaded_is_reported_and_the_old_one_stays(
        self, ready: Interaction, iface: Interface, store: Path
    ) -> None:
        click(iface.canvas, place("a"))
        settled(ready)
        (store / "decoders" / "fields" / "decoder.onnx").write_bytes(b"half")
        choose(ready, "fields")
        wait_until(lambda: iface.messages())
        assert "changed or copied in part" in iface.messages()[0]
        assert names(ready).currentData() == ORIGINAL
        click(iface.canvas, place("a", 20))
        assert len(settled(ready).prompts) == 2

    def test_keep_writes_the_choice_into_the_store(self, ready: Interaction, store: Path) -> None:
        choose(ready, "fields")
        settled(ready)
        assert active_name(store) == ORIGINAL
        ready.dock.decoders.keep_wanted.emit()
        wait_until(lambda: active_name(store) == "fields")


class TestAdding:
    def test_an_added_decoder_is_copied_and_answers(
        self, ready: Interaction, iface: Interface, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        click(iface.canvas, place("a"))
        folder = make_decoder(tmp_path / "more", "trees", weights=b"other")
        monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(folder))
        ready.dock.decoders._browse()
        wait_until(lambda: names(ready).currentData() == "trees")
        assert settled(ready).result.score == pytest.approx(SMALLER)
        assert active_name(store) == "trees" and names(ready).count() == 3

    def test_a_decoder_of_another_encoder_is_refused(
        self, ready: Interaction, iface: Interface, store: Path, tmp_path: Path
    ) -> None:
        folder = make_decoder(tmp_path / "other", "other", model="vit_b", encoder_sha256="1" * 64)
        ready.dock.decoders.folder_chosen.emit(str(folder))
        wait_until(lambda: iface.messages())
        assert "vit_b" in iface.messages()[0] and "blobs" in iface.messages()[0]
        assert len(list_decoders(store)) == 2

    def test_a_decoder_added_by_processing_is_chosen(self, ready: Interaction, store: Path, tmp_path: Path) -> None:
        added = add_decoder(store, make_decoder(tmp_path / "more", "trees", weights=b"other"))
        store_news.decoders_changed.emit(str(tmp_path / "elsewhere"), added.name)
        store_news.decoders_changed.emit(str(store), added.name)
        wait_until(lambda: names(ready).currentData() == "trees")
        assert ready.controller.store.decoder == "trees"


class TestComparing:
    def test_the_other_decoder_answers_the_same_click(self, ready: Interaction, iface: Interface) -> None:
        compared = Compared(ready)
        key(iface, Qt.Key.Key_C)
        assert ready._actions.compare.isChecked()
        click(iface.canvas, place("a"))
        wait_until(lambda: compared.last)
        own = settled(ready).result
        assert compared.last.decoder == "fields" and compared.last.result.score == pytest.approx(SMALLER)
        bands = ("proposal", "compared", "difference")
        shown = {name: ready.overlay.bands[name].asGeometry().area() for name in bands}
        assert shown["proposal"] == pytest.approx(own.geometry.area, rel=0.01)
        assert shown["compared"] == pytest.approx(compared.last.result.geometry.area, rel=0.01)
        assert shown["difference"] == pytest.approx(shown["proposal"] - shown["compared"], rel=0.01)
        assert compared.last.agreement == pytest.approx(shown["compared"] / shown["proposal"], rel=0.01)
        text = ready.dock._result.text()
        assert "original" in text and "fields" in text and "0.90" in text and "0.94" in text
        assert ready.overlay.colour.name() in text and ready.overlay.compared_colour.name() in text
        assert ready.overlay.colour != ready.overlay.compared_colour

    def test_the_comparison_can_be_switched_while_drawing(self, ready: Interaction, iface: Interface) -> None:
        compared = Compared(ready)
        click(iface.canvas, place("a"))
        settled(ready)
        key(iface, Qt.Key.Key_C)
        wait_until(lambda: compared.last)
        key(iface, Qt.Key.Key_C)
        assert compared.last is None
        assert ready.overlay.bands["compared"].asGeometry().isEmpty()
        assert "fields" not in ready.dock._result.text() and "0.90" in ready.dock._result.text()

    def test_the_comparison_follows_prompts_candidates_and_undo(self, ready: Interaction, iface: Interface) -> None:
        compared = Compared(ready)
        key(iface, Qt.Key.Key_C)
        click(iface.canvas, place("a"))
        wait_until(lambda: compared.last)
        whole = compared.last.result.geometry.area
        key(iface, Qt.Key.Key_Tab)
        wait_until(lambda: compared.last.result.rank == 1)
        assert settled(ready).result.rank == 1
        key(iface, Qt.Key.Key_Tab)
        key(iface, Qt.Key.Key_Tab)
        click(iface.canvas, place("b"))
        wait_until(lambda: compared.last.result.geometry.area > 1.5 * whole)
        key(iface, Qt.Key.Key_Backspace)
        wait_until(lambda: compared.last.result.geometry.area == pytest.approx(whole))
        key(iface, Qt.Key.Key_Escape)
        assert compared.last is None and ready.overlay.bands["compared"].asGeometry().isEmpty()

    def test_accepting_writes_the_answer_of_the_chosen_decoder(
        self, ready: Interaction, iface: Interface, target: QgsVectorLayer
    ) -> None:
        compared = Compared(ready)
        key(iface, Qt.Key.Key_C)
        click(iface.canvas, place("a"))
        wait_until(lambda: compared.last)
        other = compared.last.result.geometry.area
        key(iface, Qt.Key.Key_X)
        wait_until(lambda: names(ready).currentData() == "fields" and compared.last is not None)
        assert compared.last.decoder == ORIGINAL
        assert area(ready) == pytest.approx(other)
        QTest.mouseClick(iface.canvas.viewport(), Qt.MouseButton.RightButton)
        wait_until(lambda: target.featureCount() == 1)
        assert next(target.getFeatures()).geometry().area() == pytest.approx(other, rel=0.01)
        assert compared.last is None

    def test_the_menu_chooses_the_decoder_to_compare_with(
        self, plugin: GeoSamPlugin, store: Path, loader: Loader, tmp_path: Path, iface: Interface
    ) -> None:
        add_decoder(store, make_decoder(tmp_path / "more", "trees", weights=b"other"))
        interaction = opened(plugin, store)
        compared = Compared(interaction)
        click(iface.canvas, place("a"))
        settled(interaction)
        actions = interaction.dock.decoders._others.actions()
        assert [(a.text(), a.isChecked()) for a in actions] == [
            ("Compare with fields", True),
            ("Compare with trees", False),
        ]
        actions[1].trigger()
        wait_until(lambda: compared.last)
        assert compared.last.decoder == "trees" and interaction._actions.compare.isChecked()

    def test_the_outline_has_another_hue_than_the_class(self, ready: Interaction) -> None:
        from qgis.PyQt.QtGui import QColor

        seen = []
        for colour in ("#ffd400", "#20c0ff", "#808080", "#ff20c0"):
            ready.overlay.set_colour(QColor(colour))
            seen.append(ready.overlay.compared_colour.name())
            assert ready.overlay.bands["compared"].strokeColor() == ready.overlay.compared_colour
            assert ready.overlay.bands["difference"].fillColor().rgb() == ready.overlay.compared_colour.rgb()
        assert seen[0] == seen[1] == seen[2] != seen[3]

    def test_an_error_of_the_second_decoder_leaves_the_first(
        self, ready: Interaction, iface: Interface, loader: Loader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_args: Any) -> DecodedMasks:
            raise ModelError("broken", "none")

        monkeypatch.setattr(loader.decoders["fields"], "decode", fail)
        key(iface, Qt.Key.Key_C)
        for dx in (0, 20):
            click(iface.canvas, place("a", dx))
            assert settled(ready).has_polygon
        wait_until(lambda: "broken" in "".join(iface.messages()))
        failed: list[Any] = []
        ready.controller.failed.connect(failed.append)
        key(iface, Qt.Key.Key_X)
        wait_until(lambda: failed)
        assert settled(ready).has_polygon and names(ready).currentData() == ORIGINAL


class TestProvenance:
    def test_refining_uses_the_decoder_that_drew_the_polygon(
        self, ready: Interaction, iface: Interface, tmp_path: Path
    ) -> None:
        ready.dock.new_layer_wanted.emit(str(tmp_path / "polygons.gpkg"))
        layer = ready.dock.layer
        choose(ready, "fields")
        click(iface.canvas, place("a"))
        drawn = area(ready)
        QTest.mouseClick(iface.canvas.viewport(), Qt.MouseButton.RightButton)
        wait_until(lambda: layer.featureCount() == 1)
        choose(ready, ORIGINAL)
        click(iface.canvas, place("b"))
        settled(ready)
        QTest.mouseClick(iface.canvas.viewport(), Qt.MouseButton.RightButton)
        wait_until(lambda: layer.featureCount() == 2)
        kept = [json.loads(feature["prompts"]).get("decoder") for feature in layer.getFeatures()]
        assert sorted(kept, key=str) == [None, "fields"]
        first = next(f for f in layer.getFeatures() if "decoder" in f["prompts"])
        layer.selectByIds([first.id()])
        key(iface, Qt.Key.Key_R)
        wait_until(lambda: names(ready).currentData() == "fields")
        assert area(ready) == pytest.approx(drawn)
        click(iface.canvas, place("a", 20))
        settled(ready)
        QTest.mouseClick(iface.canvas.viewport(), Qt.MouseButton.RightButton)
        wait_until(lambda: not ready.controller.drawing.can_undo)
        assert layer.featureCount() == 2


def test_every_part_of_the_row_has_a_name_and_leaves_the_focus_on_the_map(ready: Interaction) -> None:
    row = ready.dock.decoders
    for widget in (*row.findChildren(QToolButton), names(ready)):
        assert widget.accessibleName() and widget.toolTip()
        assert widget.focusPolicy() == Qt.FocusPolicy.NoFocus


def test_a_decoder_is_loaded_once(ready: Interaction, iface: Interface, loader: Loader) -> None:
    key(iface, Qt.Key.Key_C)
    compared = Compared(ready)
    click(iface.canvas, place("a"))
    wait_until(lambda: compared.last)
    for _ in range(3):
        key(iface, Qt.Key.Key_X)
        settled(ready)
    assert loader.loaded == ["fields"]
