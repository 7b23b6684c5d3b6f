"""The plugin in Spanish, and that unloading removes the translation."""

from __future__ import annotations

import os
import re
import shutil
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from qgis.core import (
    QgsApplication,
    QgsPointXY,
    QgsProcessingContext,
    QgsProcessingFeedback,
    QgsSettings,
    QgsVectorLayer,
)
from qgis.gui import QgsColorButton, QgsFieldComboBox, QgsFileWidget, QgsMapLayerComboBox
from qgis.PyQt.QtCore import QLocale
from qgis.PyQt.QtWidgets import QAbstractSpinBox, QComboBox, QDockWidget, QListWidget, QToolBar, QWidget

from encoder_tools.translations import FOLDER, read_translations
from geosam_es.errors import EditError, PromptError, SignatureMismatchError
from geosam_es.gui.plugin import GeoSamPlugin
from geosam_es.qgis_support.installation import packages_folder
from geosam_es.qgis_support.language import Language
from geosam_es.qgis_support.messages import tr, translated
from geosam_es.store import StoreReader
from geosam_es.store.signature import raster_signature
from tests.helpers import BlobDecoder
from tests.qgis.support import LEFT, TOP, Interface, click, place, wait_until

HELP = FOLDER.parent / "help"
SPANISH = read_translations(FOLDER / "geosam_es_es.ts")
OWN_OF_QGIS = (QgsColorButton, QgsFieldComboBox, QgsFileWidget, QgsMapLayerComboBox)
"""QGIS translates their inner parts, and has no translation in these tests."""
IN_EVERY_LANGUAGE = {"GeoSAM-ES", "CSV…", " GB", " m²", " px", "target", "class", "note"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = ("/usr/lib/qt5/bin/lrelease", "/usr/lib/qt6/bin/lrelease", "lrelease-qt5", "lrelease")
    program = next((name for name in names if shutil.which(name)), None)
    if program is None:
        pytest.skip("lrelease is not installed: sudo apt-get install qttools5-dev-tools")
    folder = tmp_path_factory.mktemp("i18n")
    subprocess.run(
        [program, "-silent", str(FOLDER / "geosam_es_es.ts"), "-qm", str(folder / "geosam_es_es.qm")], check=True
    )
    return folder


@pytest.fixture
def folder(built: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("geosam_es.qgis_support.language.FOLDER", built)
    return built


def set_locale(name: str) -> None:
    QgsSettings().setValue("locale/overrideFlag", True)
    QgsSettings().setValue("locale/userLocale", name)


@pytest.fixture
def spanish(folder: Path) -> None:
    set_locale("es")
    QLocale.setDefault(QLocale("es_ES"))


@pytest.fixture
def plugin(spanish: None, iface: Interface) -> Iterator[GeoSamPlugin]:
    plugin = GeoSamPlugin(iface)
    plugin.initGui()
    yield plugin
    plugin.unload()


def as_pattern(template: str) -> str:
    """Return a pattern for a text with any values in its placeholders."""
    parts = string.Formatter().parse(template)
    return "".join(re.escape(text) + (".+" if name is not None else "") for text, name, _, _ in parts)


SPANISH_TEXT = re.compile("|".join(as_pattern(text) for text in SPANISH.values()), re.DOTALL)
ENGLISH_TEXT = re.compile(
    "|".join(as_pattern(english) for english, spanish in SPANISH.items() if english != spanish), re.DOTALL
)


def texts_of(widget: QWidget) -> set[str]:
    """Return all texts of a widget and its children, with tool tips and placeholders."""
    found = set()
    for part in [widget, *widget.findChildren(QWidget)]:
        parent = part.parentWidget()
        # What stands in a spin box is a number with its suffix.
        if isinstance(parent, (*OWN_OF_QGIS, QAbstractSpinBox)):
            continue
        found.add(part.toolTip())
        if isinstance(part, OWN_OF_QGIS):
            continue
        if isinstance(part, QAbstractSpinBox):
            found.update((part.suffix(), part.prefix(), part.specialValueText()))
            continue
        for name in ("text", "title", "windowTitle", "placeholderText"):
            if hasattr(part, name):
                found.add(getattr(part, name)())
        if isinstance(part, QComboBox):
            found.update(part.itemText(index) for index in range(part.count()))
        if isinstance(part, QListWidget):
            found.update(part.item(index).text() for index in range(part.count()))
        for action in part.actions():
            found.update((action.text(), action.toolTip(), action.iconText()))
    return {text for text in found if re.search("[A-Za-z]{2}", text)} - IN_EVERY_LANGUAGE


def parts_of(text: str) -> list[str]:
    """Return the texts that the panel puts together on one line, without colours, marks, keys, counts and areas."""
    plain = re.sub(r"<[^>]*>|[●○⏎]|\(Ctrl\+[\w+]+\)$", "", text.removeprefix("GeoSAM-ES: ")).strip()
    if SPANISH_TEXT.fullmatch(plain):
        return [plain]
    plain = re.sub(r" \(\d+\)$", "", plain)
    return [part for part in plain.split(" · ") if not re.fullmatch(r"[\d.,]+ (m²|ha)", part)]


def check(texts: set[str]) -> None:
    own = {part for text in texts for part in parts_of(text)}
    assert {text for text in own if not SPANISH_TEXT.fullmatch(text)} == set()
    assert {text for text in own if ENGLISH_TEXT.fullmatch(text) and not SPANISH_TEXT.fullmatch(text)} == set()


def test_dock_and_toolbar(iface: Interface, plugin: GeoSamPlugin, target: QgsVectorLayer) -> None:
    assert plugin.interaction is not None
    plugin.interaction.dock.layers.setLayer(target)
    for kind, name in ((QDockWidget, "GeoSamEsDock"), (QToolBar, "GeoSamEsToolBar")):
        texts = texts_of(iface.window.findChild(kind, name))
        assert len(texts) > (1 if kind is QToolBar else 30)
        check(texts)
    assert iface.raster_menu.actions()[0].text() == "GeoSAM-ES: Segmentar haciendo clic"
    shortcuts = {action.text() for action in iface.shortcuts}
    assert "GeoSAM-ES: Elegir la clase 9" in shortcuts
    check(shortcuts)


def test_options_page(iface: Interface, plugin: GeoSamPlugin) -> None:
    page = iface.options_factories[0].createWidget(iface.window)
    texts = texts_of(page)
    assert {"Preparación de imágenes", "automático"} <= texts
    check(texts - {str(packages_folder())})


def test_texts_after_opening_a_store_and_clicking(
    iface: Interface, plugin: GeoSamPlugin, blob_store: Path, blobs: BlobDecoder
) -> None:
    interaction = plugin.interaction
    assert interaction is not None
    iface.group.actions()[0].trigger()
    interaction.open_store(blob_store)
    wait_until(lambda: interaction.controller.store is not None)
    names = {blob_store.name, str(blob_store), interaction.controller.store.metadata.raster.file_name}
    check(texts_of(interaction.dock) - names)
    click(iface.canvas, place("a"))
    wait_until(lambda: interaction.controller.drawing.result is not None and not interaction.controller.drawing.busy)
    assert " m² · seguro (0,9" in iface.window.statusBar().currentMessage()
    check(texts_of(interaction.dock) - names)


def test_errors_of_the_core_are_translated(
    iface: Interface, plugin: GeoSamPlugin, blob_store: Path, blobs: BlobDecoder
) -> None:
    interaction = plugin.interaction
    assert interaction is not None
    interaction.open_store(blob_store)
    wait_until(lambda: interaction.controller.store is not None)
    interaction.controller.add_point(QgsPointXY(LEFT - 50, TOP))
    wait_until(iface.messages)
    assert iface.messages() == [
        "El punto (699950, 4400000) está fuera del ráster, (700000, 4399250) - (700750, 4400000): moverlo dentro o "
        "comprobar el SRC de las indicaciones"
    ]
    iface.bar.clearWidgets()
    interaction.open_store(blob_store / "no {0} store")
    wait_until(iface.messages)
    (text,) = iface.messages()
    assert text.endswith("no {0} store no es una imagen preparada: preparar la imagen con: geosam-es encode IMAGEN")


def test_processing(plugin: GeoSamPlugin, tmp_path: Path) -> None:
    provider = QgsApplication.processingRegistry().providerById("geosam_es")
    assert len(provider.algorithms()) == 11
    for algorithm in provider.algorithms():
        definitions = [*algorithm.parameterDefinitions(), *algorithm.outputDefinitions()]
        texts = {algorithm.displayName(), algorithm.group(), algorithm.shortHelpString()}
        check(texts | {definition.description() for definition in definitions})
    store = tmp_path / "none.embeddings.zarr"
    parameters = {"STORE": str(store), "FOOTPRINT": "memory:", "TILES": "memory:"}
    feedback = QgsProcessingFeedback()
    _, fine = provider.algorithm("storefootprint").run(parameters, QgsProcessingContext(), feedback)
    assert not fine
    assert f"{store} no es una imagen preparada: preparar la imagen con:" in feedback.textLog()


def test_errors(spanish: None, blob_store: Path) -> None:
    language = Language()
    language.install()
    try:
        assert translated(PromptError("Not one of ours {0}", "nor {this}")) == "Not one of ours {0}: nor {this}"
        assert translated(EditError(tr("There is no target layer"))) == "No hay capa de destino"
        mismatch = SignatureMismatchError("/a{b}", "raster size", [1, 2], [3, 4], tr("choose another target layer"))
        wanted = "/a{b} se hizo con tamaño del ráster = [1, 2], no [3, 4]: elegir otra capa de destino"
        assert translated(mismatch) == wanted
        assert mismatch.user_message.startswith("/a{b} was made with raster size = [1, 2], not [3, 4]: ")
        for key in raster_signature(StoreReader(blob_store).metadata.raster):
            assert f"con {key} =" not in translated(SignatureMismatchError("s", key, 1, 2))
    finally:
        language.remove()
    assert translated(EditError("There is no target layer")) == "There is no target layer"


@pytest.mark.parametrize(
    ("locale", "text"),
    [("es", "Quitar la última indicación"), ("es_ES", "Quitar la última indicación"),
     ("es_MX", "Quitar la última indicación"), ("en_US", "Take back the last prompt"),
     ("fr", "Take back the last prompt"), ("C", "Take back the last prompt")],
)  # fmt: skip
def test_every_locale(spanish: None, locale: str, text: str) -> None:
    set_locale(locale)
    language = Language()
    language.install()
    language.install()
    assert tr("Take back the last prompt") == text
    language.remove()
    language.remove()
    assert tr("Take back the last prompt") == "Take back the last prompt"


def test_the_help_is_the_same_in_both_languages() -> None:
    english, own = ((HELP / name).read_text(encoding="utf-8") for name in ("index.html", "index.es.html"))
    for tag in ("tr", "li", "kbd", "code", "p", "h2"):
        assert own.count(f"<{tag}>") == english.count(f"<{tag}>") > 0, tag


def test_without_a_built_file_texts_are_english(spanish: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geosam_es.qgis_support.language.FOLDER", tmp_path)
    language = Language()
    language.install()
    assert tr("Take back the last prompt") == "Take back the last prompt"
    language.remove()


def test_with_processing_alone(spanish: None) -> None:
    """Without a window, as `qgis_process` starts it."""
    plugin = GeoSamPlugin(None)
    plugin.initProcessing()
    provider = QgsApplication.processingRegistry().providerById("geosam_es")
    assert provider.algorithm("segmentpoints").displayName() == "Segmentar a partir de puntos"
    plugin.unload()
    assert tr("Segment from points") == "Segment from points"


def test_qgis_process_in_spanish(built: Path, tmp_path: Path) -> None:
    program = shutil.which("qgis_process.bin") or shutil.which("qgis_process")
    if program is None:
        pytest.skip("qgis_process is not installed")
    root = FOLDER.parents[1]
    plugin = tmp_path / "plugins" / "geosam_es"
    shutil.copytree(root / "geosam_es", plugin / "geosam_es", ignore=shutil.ignore_patterns("__pycache__", "*.qm"))
    shutil.copy(built / "geosam_es_es.qm", plugin / "geosam_es" / "i18n")
    for name in ("__init__.py", "metadata.txt"):
        shutil.copy(root / name, plugin)
    environment = {
        **os.environ,
        "LANG": "es_ES.UTF-8",
        "LC_ALL": "es_ES.UTF-8",
        "QT_QPA_PLATFORM": "offscreen",
        "QGIS_CUSTOM_CONFIG_PATH": str(tmp_path / "profile"),
        "QGIS_PLUGINPATH": str(tmp_path / "plugins"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    for command in (["plugins", "enable", "geosam_es"], ["help", "geosam_es:segmentpoints"]):
        done = subprocess.run(
            [program, *command], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "Segmentar a partir de puntos" in done.stdout
    assert "Campo de objeto" in done.stdout
