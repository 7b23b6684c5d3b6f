"""The choice of how outlines are drawn, which is remembered for each class."""

from __future__ import annotations

import json
from typing import Any

from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QCheckBox, QComboBox, QVBoxLayout, QWidget

from ...qgis_support.messages import tr
from ...qgis_support.settings import Settings
from .widgets import Caption, FlowLayout

__all__ = ["OutlineRow"]


class OutlineRow(QWidget):
    """Edits the settings ``outline`` and ``right_angles``, and brings back those of a class.

    Parameters
    ----------
    settings : Settings
    """

    changed = pyqtSignal()

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        self._class = ""
        self._outline = QComboBox()
        self._outline.setObjectName("outline")
        for value, text in (
            ("", tr("as traced")),
            ("few", tr("fewest vertices")),
            ("smooth", tr("smooth curves")),
        ):
            self._outline.addItem(text, value)
        tip = tr(
            "Fewest vertices: as few as keep the outline within one pixel of the image.\n"
            "Smooth curves: for woods, water and other natural borders.\nRemembered for each class."
        )
        self._outline.setToolTip(tip)
        label = Caption(tr("Outline"))
        label.setBuddy(self._outline)
        label.setToolTip(tip)
        self._squares = QCheckBox(tr("Right angles"))
        self._squares.setObjectName("right_angles")
        self._squares.setToolTip(tr("Square the corners of buildings. Remembered for each class."))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(FlowLayout(label, self._outline))
        layout.addWidget(self._squares)
        self._show()
        self._outline.currentIndexChanged.connect(self._on_choice)
        self._squares.toggled.connect(self._on_choice)

    def show_class(self, name: str) -> None:
        """Bring back what was chosen for a class; by default what was chosen without one."""
        if name == self._class:
            return
        self._class = name
        chosen = self._chosen()
        outline, squares = chosen.get(name) or chosen.get("") or ("", False)
        if (outline, squares) != (self._settings.outline, self._settings.right_angles):
            self._settings.outline, self._settings.right_angles = outline, squares
            self._show()
            self.changed.emit()

    def _chosen(self) -> dict[str, Any]:
        try:
            chosen = json.loads(self._settings.outlines)
        except ValueError:
            return {}
        return chosen if isinstance(chosen, dict) else {}

    def _show(self) -> None:
        for widget in (self._outline, self._squares):
            widget.blockSignals(True)
        self._outline.setCurrentIndex(max(0, self._outline.findData(self._settings.outline)))
        self._squares.setChecked(self._settings.right_angles)
        for widget in (self._outline, self._squares):
            widget.blockSignals(False)

    def _on_choice(self, *_: object) -> None:
        choice = self._outline.currentData(), self._squares.isChecked()
        self._settings.outline, self._settings.right_angles = choice
        self._settings.outlines = json.dumps({**self._chosen(), self._class: choice})
        self.changed.emit()
