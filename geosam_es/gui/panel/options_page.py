"""The page of the plugin in the options dialog of QGIS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qgis.gui import QgsColorButton, QgsFileWidget, QgsOptionsPageWidget, QgsOptionsWidgetFactory
from qgis.PyQt.QtGui import QColor
from qgis.PyQt.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QGroupBox,
    QLineEdit,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from ...qgis_support.command_line import CommandLineError, find_command_line
from ...qgis_support.icons import own_icon
from ...qgis_support.installation import packages_folder
from ...qgis_support.messages import PLUGIN_NAME, tr
from ...qgis_support.settings import Settings
from .cache_box import CacheBox

__all__ = ["OptionsPage", "OptionsPageFactory"]

_MAX_THREADS = 64


class OptionsPage(QgsOptionsPageWidget):
    """Edits the settings that rarely change. QGIS calls `apply` when the user confirms the dialog.

    Parameters
    ----------
    settings : Settings
    applied : callable
        Called after the settings have changed.
    parent : QWidget, optional
    """

    def __init__(self, settings: Settings, applied: Callable[[], None], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._settings = settings
        self._applied = applied
        self._colour = QgsColorButton()
        self._colour.setColor(QColor(settings.outline_colour))
        self._colour.setToolTip(tr("Colour of polygons without a class"))
        self._opacity = self._number("fill_opacity", 0, 100, " %", tr("Opacity of the polygon being drawn"))
        self._threads = self._number(
            "decoder_threads",
            0,
            _MAX_THREADS,
            "",
            tr("Applies to images opened from now on; automatic: one thread per core"),
        )
        self._threads.setSpecialValueText(tr("automatic"))
        self._folder = QgsFileWidget()
        self._folder.setStorageMode(QgsFileWidget.StorageMode.GetDirectory)
        self._folder.setFilePath(settings.encoder_folder)
        self._folder.lineEdit().setPlaceholderText(tr("the built-in model"))
        self._folder.setToolTip(tr("Folder written by geosam-es export --encoder; this model prepares the images"))
        self._enlarges = QCheckBox(tr("Enlarge the image for small objects, even with a slow model"))
        self._enlarges.setObjectName("enlarges")
        self._enlarges.setChecked(settings.enlarges)
        self._enlarges.setToolTip(
            tr(
                "If you zoom in beyond the pixels of the image or draw a small box, the image is prepared again there, "
                "enlarged 2 or 4 times. The built-in model always does this. Applies to images opened from now on."
            )
        )
        self._cache = QDoubleSpinBox()
        self._cache.setRange(0.1, 10000.0)
        self._cache.setDecimals(1)
        self._cache.setSuffix(" GB")
        self._cache.setValue(settings.cache_gigabytes)
        self._cache.setToolTip(tr("When the cache is full, the prepared images used least recently are deleted first"))
        self._cache_box = CacheBox()
        self._place = QComboBox()
        self._place.setObjectName("store_place")
        for place, text in (
            ("ask", tr("In the cache; ask for each new image")),
            ("cache", tr("In the cache")),
            ("beside", tr("Beside the image")),
        ):
            self._place.addItem(text, place)
        self._place.setCurrentIndex(max(0, self._place.findData(settings.store_place)))
        self._place.setToolTip(
            tr("Where new prepared images go. One beside its image is always used. The cache takes half the space.")
        )
        self._command = QgsFileWidget()
        self._command.setFilePath(settings.command_line)
        self._command.lineEdit().setPlaceholderText(_found_command_line())
        self._command.setToolTip(tr("The geosam-es command, or the Python in which it is installed, outside QGIS"))
        layout = QVBoxLayout(self)
        layout.addWidget(_group(tr("On the map"), [(tr("Colour"), self._colour), (tr("Fill"), self._opacity)]))
        layout.addWidget(_group(tr("Model"), [(tr("Threads"), self._threads)]))
        encoding = [
            (tr("Model folder"), self._folder),
            ("", self._enlarges),
            (tr("Prepared images"), self._place),
            (tr("Cache limit"), self._cache),
            (tr("Cache now"), self._cache_box),
        ]
        layout.addWidget(_group(tr("Preparing images"), encoding))
        layout.addWidget(_group(tr("Evaluating and tuning model variants"), [(tr("Command line"), self._command)]))
        packages = QLineEdit(str(packages_folder()))
        packages.setReadOnly(True)
        packages.setToolTip(tr("What the Install button installs; delete the folder to uninstall it"))
        layout.addWidget(_group(tr("Python packages"), [(tr("Folder"), packages)]))
        layout.addStretch(1)

    def apply(self) -> None:
        """Save the values; called by QGIS."""
        self._settings.outline_colour = self._colour.color().name()
        self._settings.fill_opacity = self._opacity.value()
        self._settings.decoder_threads = self._threads.value()
        self._settings.encoder_folder = self._folder.filePath()
        self._settings.enlarges = self._enlarges.isChecked()
        self._settings.cache_gigabytes = self._cache.value()
        self._settings.store_place = self._place.currentData()
        self._settings.command_line = self._command.filePath()
        self._applied()

    def _number(self, setting: str, minimum: int, maximum: int, suffix: str, tip: str) -> QSpinBox:
        box = QSpinBox()
        box.setObjectName(setting)
        box.setRange(minimum, maximum)
        box.setSuffix(suffix)
        box.setToolTip(tip)
        box.setValue(getattr(self._settings, setting))
        return box


def _found_command_line() -> str:
    """Return where the command is found by default."""
    try:
        return find_command_line("").program
    except CommandLineError:
        return tr("not found")


def _group(title: str, rows: list[tuple[str, QWidget]]) -> QGroupBox:
    group = QGroupBox(title)
    form = QFormLayout(group)
    for label, widget in rows:
        form.addRow(label, widget)
    return group


class OptionsPageFactory(QgsOptionsWidgetFactory):
    """Creates the page whenever QGIS opens its options dialog."""

    def __init__(self, settings: Settings, applied: Callable[[], None]) -> None:
        super().__init__()
        self.setTitle(PLUGIN_NAME)
        self._settings = settings
        self._applied = applied

    def icon(self) -> Any:
        """Return the icon of the page; called by QGIS."""
        return own_icon("geosam_es")

    def createWidget(self, parent: QWidget | None = None) -> OptionsPage:  # noqa: N802
        """Return a new page; called by QGIS."""
        return OptionsPage(self._settings, self._applied, parent)
