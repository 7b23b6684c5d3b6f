"""Learning from the target layer: the button, the dialog, the training in the background, using the result."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from qgis.core import (
    QgsApplication,
    QgsFeature,
    QgsGeometry,
    QgsProject,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtGui import QDesktopServices
from qgis.PyQt.QtWidgets import QCheckBox, QComboBox, QLabel, QProgressBar, QPushButton

from geosam_es.gui.interaction import Interaction
from geosam_es.gui.panel.learning import LearnDialog
from geosam_es.gui.plugin import GeoSamPlugin
from geosam_es.qgis_support.live_store import EMBEDDED_MODEL
from geosam_es.qgis_support.settings import Settings
from geosam_es.store import store_path_for
from geosam_es.store.decoders import ORIGINAL, active_name, list_decoders
from tests.helpers import BlobDecoder, make_decoder
from tests.qgis.support import LEFT, TOP, Interface, click, place, settled, wait_until, with_store

TOOL = '''#!{python}
"""A stand-in for geosam-es that follows plan.json."""
import json, os, pathlib, shutil, sys, time
here = pathlib.Path(__file__).parent
plan = json.loads((here / "plan.json").read_text())
arguments = sys.argv[1:]
shutil.copyfile(arguments[2], here / "truth.gpkg")
print("training: 45/100 % (15 s left)", file=sys.stderr, flush=True)
called = here / "called.tmp"
called.write_text(json.dumps({{"arguments": arguments, "pid": os.getpid()}}))
called.rename(here / "called.json")
if plan.get("hangs"):
    time.sleep(100)
while plan.get("waits") and not (here / "go").exists():
    time.sleep(0.01)
if not pathlib.Path(arguments[1]).is_dir():
    plan["error"] = "Error: the store is gone"
if plan.get("error"):
    print(plan["error"], file=sys.stderr)
    sys.exit(2)
out = pathlib.Path(arguments[arguments.index("-o") + 1])
shutil.copytree(plan["decoder"], out)
info = json.loads((out / "decoder.json").read_text())
(out / "decoder.json").write_text(json.dumps(dict(info, name=out.name)))
'''


def summary(point: float = 0.504, box: float = 0.72, held_out: int = 12) -> dict[str, Any]:
    figures = {"point": (0.461, point), "box": (0.7, box), "clicks:5": (0.8, 0.7)}
    prompts = {name: {"before": {"iou": a}, "tuned": {"iou": b}} for name, (a, b) in figures.items()}
    return {"held_out": held_out, "prompts": prompts}


class Tool:
    """A command that follows the plan of a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "geosam-es"
        self.path.write_text(TOOL.format(python=sys.executable), encoding="utf-8")
        self.path.chmod(0o755)
        self.decoder(summary())

    def plan(self, **plan: Any) -> None:
        (self.folder / "plan.json").write_text(json.dumps(plan))

    def decoder(self, figures: dict[str, Any]) -> None:
        """Let it make a decoder with these figures."""
        shutil.rmtree(self.folder / "made", ignore_errors=True)
        self.plan(decoder=str(make_decoder(self.folder / "made", "made", summary=figures)))

    @property
    def called(self) -> dict[str, Any]:
        path = self.folder / "called.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def option(self, name: str) -> str:
        arguments = self.called["arguments"]
        return arguments[arguments.index(name) + 1]

    def truth(self) -> list[QgsFeature]:
        layer = QgsVectorLayer(str(self.folder / "truth.gpkg"), "truth", "ogr")
        assert layer.isValid()
        return list(layer.getFeatures())

    def is_running(self) -> bool:
        try:
            return Path(f"/proc/{self.called['pid']}/stat").read_text().split(") ")[1][0] != "Z"
        except FileNotFoundError:
            return False


@pytest.fixture
def tool(tmp_path: Path) -> Tool:
    folder = tmp_path / "tool with a space"
    folder.mkdir()
    tool = Tool(folder)
    Settings().command_line = str(tool.path)
    return tool


def draw(layer: QgsVectorLayer, count: int, kind: str = "", left: float = LEFT) -> None:
    """Add polygons to a layer; they are uncommitted if it is being edited."""
    features = []
    for number in range(count):
        feature = QgsFeature(layer.fields())
        x, y = left + 10 + 20 * number, TOP - 50
        feature.setGeometry(QgsGeometry.fromRect(QgsRectangle(x, y, x + 10, y + 10)))
        feature.setAttributes([kind, ""])
        features.append(feature)
    (layer if layer.isEditable() else layer.dataProvider()).addFeatures(features)


@pytest.fixture
def store(blob_store: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(blob_store, tmp_path / blob_store.name))


@pytest.fixture
def ready(
    plugin: GeoSamPlugin,
    tool: Tool,
    store: Path,
    blobs: BlobDecoder,
    target: QgsVectorLayer,
    monkeypatch: pytest.MonkeyPatch,
) -> Interaction:
    """A scene with the tool active, a store open, and eleven uncommitted polygons on it."""
    monkeypatch.setattr("geosam_es.gui.stores.decoder_choice.load_decoder", lambda *_: blobs)
    interaction = with_store(plugin, store)
    interaction.dock.layers.setLayer(target)
    interaction.dock.image_box.setCollapsed(False)
    target.startEditing()
    draw(target, 11)
    return interaction


@pytest.fixture(autouse=True)
def nothing_is_left() -> Any:
    yield
    for layer in QgsProject.instance().mapLayers().values():
        if isinstance(layer, QgsVectorLayer) and layer.isEditable():
            layer.rollBack()


def button(interaction: Interaction) -> QPushButton:
    return interaction.dock.image_box.learn


def ask(interaction: Interaction) -> LearnDialog:
    button(interaction).click()
    # Those before may not be deleted yet.
    return interaction.dock.findChildren(LearnDialog)[-1]


def item_button(iface: Interface, text: str) -> QPushButton | None:
    return next((b for item in iface.bar.items() for b in item.findChildren(QPushButton) if b.text() == text), None)


def shown(iface: Interface) -> str:
    """Return the text of the newest message."""
    items = iface.bar.items()
    return " ".join(label.text() for label in items[0].findChildren(QLabel)) if items else ""


def learn(interaction: Interaction, iface: Interface) -> str:
    """Learn quickly, and return the message at the end."""
    ask(interaction).accept()
    wait_until(lambda: item_button(iface, "Report"))
    return shown(iface)


def chosen(interaction: Interaction) -> str:
    return interaction.dock.decoders.findChild(QComboBox).currentData()


class TestButton:
    def test_only_where_the_command_line_is_found(self, ready: Interaction, tool: Tool) -> None:
        assert button(ready).isVisible()
        Settings().command_line = str(tool.folder / "elsewhere")
        ready.apply_settings()
        assert not button(ready).isVisible()
        for collapsed in (True, False):
            ready.dock.image_box.setCollapsed(collapsed)
            assert not button(ready).isVisible()
        Settings().command_line = str(tool.path)
        ready.apply_settings()
        assert button(ready).isVisible()

    def test_it_says_why_it_is_disabled(self, ready: Interaction, target: QgsVectorLayer) -> None:
        assert button(ready).isEnabled() and "current model is kept" in button(ready).toolTip()
        target.deleteFeatures([feature.id() for feature in target.getFeatures()][:2])
        draw(target, 5, left=LEFT + 1e5)
        assert not button(ready).isEnabled()
        assert button(ready).toolTip() == ("target has 9 polygons on this image; at least 10 are needed, 50 are better")
        draw(target, 1)
        assert button(ready).isEnabled()
        ready.dock.layers.setLayer(None)
        assert button(ready).toolTip() == "Choose a layer with polygons of this image"
        ready.dock.layers.setLayer(target)
        assert button(ready).isEnabled()
        ready.stores.close_all()
        assert button(ready).toolTip() == "Click on an image first"


class TestDialog:
    def test_quick_with_uncommitted_polygons(
        self, ready: Interaction, iface: Interface, tool: Tool, store: Path, target: QgsVectorLayer
    ) -> None:
        learn(ready, iface)
        assert tool.called["arguments"][:2] == ["finetune", str(store)]
        assert tool.option("--minutes") == "2" and tool.option("--depth") == "adapter"
        assert "--class" not in tool.called["arguments"]
        assert len(tool.truth()) == 11 and target.isEditable() and target.featureCount() == 11

    def test_thorough_with_one_class_of_the_selected_polygons(
        self, ready: Interaction, iface: Interface, tool: Tool, target: QgsVectorLayer
    ) -> None:
        draw(target, 10, "wheat")
        draw(target, 1, "maize")
        target.selectByExpression("\"class\" in ('wheat', 'maize')")
        dialog = ask(ready)
        effort, field, value = dialog.findChildren(QComboBox)
        effort.setCurrentIndex(1)
        field.setField("class")
        assert [value.itemText(index) for index in range(value.count())] == ["maize", "wheat"]
        value.setCurrentText("wheat")
        dialog.findChild(QCheckBox).setChecked(True)
        dialog.accept()
        wait_until(lambda: item_button(iface, "Report"))
        assert tool.option("--minutes") == "8" and tool.option("--class") == "class=wheat"
        assert len(tool.truth()) == 11

    def test_classes_that_are_numbers(self, qgis_app: Any) -> None:
        layer = QgsVectorLayer("Polygon?field=code:integer&field=share:double", "codes", "memory")
        for code, share in ((0, 3111001.0), (31, 0.25), (32, 3111002.0), (None, None)):
            feature = QgsFeature(layer.fields())
            feature.setAttributes([code, share])
            layer.dataProvider().addFeature(feature)
        dialog = LearnDialog(layer)
        _, field, value = dialog.findChildren(QComboBox)
        for name, texts in (
            ("code", ["0", "31", "32"]),
            ("share", ["0.25", "3111001", "3111002"]),
            ("", ["all"]),
        ):
            field.setField(name)
            assert [value.itemText(index) for index in range(value.count())] == texts
        assert "CLASS_FIELD" not in dialog.parameters and not value.isEnabled()

    def test_few_selected_polygons_cannot_be_learned_from_alone(
        self, ready: Interaction, target: QgsVectorLayer
    ) -> None:
        target.selectByIds([feature.id() for feature in target.getFeatures()][:9])
        dialog = ask(ready)
        assert not dialog.findChild(QCheckBox).isEnabled()
        dialog.reject()

    def test_nothing_happens_without_consent(self, ready: Interaction, iface: Interface, tool: Tool) -> None:
        ask(ready).reject()
        assert not tool.called and not iface.bar.items() and button(ready).isEnabled()


class TestResult:
    def test_use_it(
        self, ready: Interaction, iface: Interface, store: Path, blobs: BlobDecoder, target: QgsVectorLayer
    ) -> None:
        text = learn(ready, iface)
        assert "The model learned from target: click 0.46 → 0.50, box 0.70 → 0.72 on 12 test polygons." in text
        assert active_name(store) == ORIGINAL == chosen(ready)
        item_button(iface, "Use it").click()
        wait_until(lambda: chosen(ready) != ORIGINAL)
        assert chosen(ready).endswith(" target") and active_name(store) == chosen(ready)
        assert ORIGINAL in [decoder.name for decoder in list_decoders(store)]
        assert not iface.bar.items()
        click(iface.canvas, place("a"))
        assert settled(ready).has_polygon
        assert ready.stores.store.decoder == chosen(ready)

    def test_the_report_leaves_the_question_open(
        self, ready: Interaction, iface: Interface, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened: list[str] = []
        monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
        learn(ready, iface)
        item_button(iface, "Report").click()
        assert Path(opened[0]).parts[-2:] == ("report", "report.html") and item_button(iface, "Use it")
        # Closing the message is a no.
        iface.bar.clearWidgets()
        assert active_name(store) == ORIGINAL == chosen(ready)

    def test_what_did_not_get_better_is_not_offered(self, ready: Interaction, iface: Interface, tool: Tool) -> None:
        tool.decoder(summary(point=0.464, box=0.7))
        text = learn(ready, iface)
        assert "did not get better with target and stays as it is: click 0.46 → 0.46, box 0.70 → 0.70" in text
        assert item_button(iface, "Use it") is None

    def test_a_better_one_outlives_a_later_one_that_is_worse(
        self, ready: Interaction, iface: Interface, tool: Tool, store: Path
    ) -> None:
        learn(ready, iface)
        tool.decoder(summary(point=0.464, box=0.7))
        assert "did not get better" in learn(ready, iface) and item_button(iface, "Use it") is None
        item_button(iface, "Last result").click()
        assert "click 0.46 → 0.50" in shown(iface)
        item_button(iface, "Use it").click()
        wait_until(lambda: chosen(ready) != ORIGINAL)
        assert active_name(store) == chosen(ready)

    def test_without_spared_polygons_it_says_so(self, ready: Interaction, iface: Interface, tool: Tool) -> None:
        tool.decoder(summary(held_out=0))
        assert "on the 12 polygons it learned from" in learn(ready, iface)

    def test_used_for_its_image_after_the_user_has_gone_to_another(
        self, plugin: GeoSamPlugin, ready: Interaction, iface: Interface, store: Path, tmp_path: Path
    ) -> None:
        other = Path(shutil.copytree(store, tmp_path / "other" / store.name))
        learn(ready, iface)
        former = ready.stores.store
        ready.open_store(other)
        wait_until(lambda: ready.stores.store.path == other and chosen(ready))
        item_button(iface, "Use it").click()
        wait_until(lambda: active_name(store) != ORIGINAL)
        assert active_name(other) == ORIGINAL == chosen(ready)
        if former in ready.stores.chosen:
            ready.stores.select(former)
        else:
            ready.open_store(store)
        wait_until(lambda: chosen(ready) == active_name(store))

    def test_one_that_cannot_be_read_is_one_message(self, ready: Interaction, iface: Interface, tool: Tool) -> None:
        tool.decoder({})
        ask(ready).accept()
        wait_until(lambda: "The model learns from target: KeyError" in "".join(iface.messages()))
        assert button(ready).isEnabled()


class TestWholeModel:
    def test_images_are_prepared_with_a_tuned_encoder_if_the_user_says_so(
        self,
        plugin: GeoSamPlugin,
        iface: Interface,
        tool: Tool,
        target: QgsVectorLayer,
        raster_with_store: QgsRasterLayer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(QgsApplication, "qgisSettingsDirPath", lambda: str(tmp_path / "profile"))
        Settings().store_place = "cache"
        shutil.rmtree(store_path_for(Path(raster_with_store.source())))
        QgsProject.instance().addMapLayer(raster_with_store)
        interaction = plugin.interaction
        assert interaction is not None
        interaction.set_active(True)
        interaction.dock.layers.setLayer(target)
        interaction.dock.image_box.setCollapsed(False)
        draw(target, 11)
        click(iface.canvas, place("c"))
        wait_until(lambda: interaction.controller.drawing.has_polygon)
        shutil.copytree(EMBEDDED_MODEL, tool.folder / "made", dirs_exist_ok=True)

        dialog = ask(interaction)
        effort = dialog.findChildren(QComboBox)[0]
        effort.setCurrentIndex(1)
        assert "images are prepared again" in effort.currentText()
        dialog.accept()
        wait_until(lambda: item_button(iface, "Use it"))
        assert tool.option("--depth") == "all" and "--keep-stores" in tool.called["arguments"]
        assert tool.option("--raster") == raster_with_store.source()

        # It would discard what is drawn.
        item_button(iface, "Use it").click()
        assert "not written yet" in "".join(iface.messages()) and not Settings().encoder_folder
        assert interaction.controller.drawing.has_polygon
        interaction.controller.discard()
        item_button(iface, "Use it").click()
        kept = Path(Settings().encoder_folder)
        assert kept.parent == tmp_path / "profile" / "geosam_es" / "models" and (kept / "encoder.onnx").is_file()
        assert f"Images are prepared with {kept.name} now" in shown(iface)
        assert interaction.stores.store is None
        click(iface.canvas, place("a"))
        wait_until(lambda: interaction.controller.drawing.has_polygon)
        assert interaction.stores.store.live is not None
        button(interaction).click()
        again = interaction.dock.findChildren(LearnDialog)[-1]
        # Another model may be too large.
        assert "prepared again" not in again.findChildren(QComboBox)[0].itemText(1)
        again.reject()

    def test_the_image_moves_meanwhile_and_the_message_is_closed(
        self,
        plugin: GeoSamPlugin,
        iface: Interface,
        tool: Tool,
        target: QgsVectorLayer,
        raster_with_store: QgsRasterLayer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(QgsApplication, "qgisSettingsDirPath", lambda: str(tmp_path / "profile"))
        beside = store_path_for(Path(raster_with_store.source()))
        shutil.rmtree(beside)
        QgsProject.instance().addMapLayer(raster_with_store)
        interaction = plugin.interaction
        assert interaction is not None
        interaction.set_active(True)
        interaction.dock.layers.setLayer(target)
        interaction.dock.image_box.setCollapsed(False)
        draw(target, 11)
        click(iface.canvas, place("c"))
        wait_until(lambda: interaction.controller.drawing.has_polygon)
        cached = interaction.stores.store
        made = tool.folder / "made"
        encoder = cached.metadata.model["encoder_sha256"]
        shutil.rmtree(made)
        tool.plan(decoder=str(make_decoder(made, "made", summary=summary(), encoder_sha256=encoder)), waits=True)
        ask(interaction).accept()
        wait_until(lambda: tool.called)
        assert tool.called["arguments"][1] == str(cached.path)
        item_button(iface, "Beside the image").click()
        wait_until(lambda: interaction.stores.store.path == beside)
        (tool.folder / "go").touch()
        wait_until(lambda: item_button(iface, "Use it"))

        # Closing the message by accident loses nothing, and nor does an image that cannot be written.
        iface.bar.clearWidgets()
        dialog = ask(interaction)
        (last,) = (found for found in dialog.findChildren(QPushButton) if found.text() == "Last result")
        last.click()
        metadata = beside / "zarr.json"
        metadata.rename(tmp_path / "kept.json")
        item_button(iface, "Use it").click()
        wait_until(lambda: item_button(iface, "Use it"))
        assert len(iface.messages()) == 2
        (tmp_path / "kept.json").rename(metadata)
        monkeypatch.setattr("geosam_es.gui.stores.decoder_choice.load_decoder", lambda *_: None)
        monkeypatch.setattr(interaction.decoders, "choose", lambda _name: None)
        item_button(iface, "Use it").click()
        wait_until(lambda: active_name(beside) != ORIGINAL)
        wait_until(lambda: not interaction.controller.drawing.busy)
        again = ask(interaction)
        assert "Last result" not in [found.text() for found in again.findChildren(QPushButton)]
        again.reject()


class TestRunning:
    def test_progress_and_cancel(self, ready: Interaction, iface: Interface, tool: Tool, store: Path) -> None:
        tool.plan(hangs=True)
        ask(ready).accept()
        wait_until(lambda: tool.called)
        (task,) = QgsApplication.taskManager().activeTasks()
        assert task.description() == "The model learns from target"
        (bar,) = iface.bar.items()[-1].findChildren(QProgressBar)
        wait_until(lambda: bar.value() == 45)
        assert not button(ready).isEnabled() and button(ready).toolTip() == "The model is learning already"
        item_button(iface, "Cancel").click()
        wait_until(lambda: button(ready).isEnabled())
        assert not tool.is_running() and not iface.bar.items()
        assert [decoder.name for decoder in list_decoders(store)] == [ORIGINAL]

    def test_cancel_in_the_task_manager_after_the_message_was_closed(
        self, ready: Interaction, iface: Interface, tool: Tool
    ) -> None:
        tool.plan(hangs=True)
        ask(ready).accept()
        iface.bar.clearWidgets()
        wait_until(lambda: tool.called)
        QgsApplication.taskManager().activeTasks()[0].cancel()
        wait_until(lambda: button(ready).isEnabled())
        assert not tool.is_running() and not iface.bar.items()

    def test_a_failure_is_one_sentence(self, ready: Interaction, iface: Interface, tool: Tool) -> None:
        tool.plan(error="Error: truth.gpkg has 4 usable objects, and fine-tuning needs at least 5: draw more")
        ask(ready).accept()
        wait_until(lambda: iface.messages() and button(ready).isEnabled())
        assert iface.messages() == ["truth.gpkg has 4 usable objects, and fine-tuning needs at least 5: draw more"]

    def test_unloading_ends_it(self, iface: Interface, plugin: GeoSamPlugin, ready: Interaction, tool: Tool) -> None:
        tool.plan(hangs=True)
        ask(ready).accept()
        wait_until(lambda: tool.called)
        plugin.unload()
        wait_until(lambda: not tool.is_running())
        wait_until(lambda: not QgsApplication.taskManager().activeTasks())
        assert not iface.bar.items()
        plugin.initGui()


def test_the_button_takes_no_keys_from_the_map(ready: Interaction) -> None:
    assert button(ready).focusPolicy() == Qt.FocusPolicy.NoFocus
