"""Widgets that several parts of the panel use."""

from __future__ import annotations

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtGui import QResizeEvent
from qgis.PyQt.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QToolButton, QWidget

__all__ = ["ElidedLabel", "flat_button", "icon_button", "row_of"]


def flat_button() -> QToolButton:
    """Return a button that leaves the focus to the map, so that keys reach the map tool."""
    button = QToolButton()
    button.setAutoRaise(True)
    button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return button


def icon_button(icon: str, tip: str) -> QToolButton:
    """Return a `flat_button` with an icon of QGIS, by its file name without ``.svg``."""
    button = flat_button()
    button.setIcon(QgsApplication.getThemeIcon(f"/{icon}.svg"))
    button.setToolTip(tip)
    return button


def row_of(*widgets: QWidget) -> QHBoxLayout:
    """Return a layout with widgets side by side."""
    row = QHBoxLayout()
    for widget in widgets:
        row.addWidget(widget)
    return row


class ElidedLabel(QLabel):
    """A line of text whose middle is left out where it does not fit; its tooltip is the whole text."""

    def __init__(self) -> None:
        super().__init__()
        self._text = ""
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def setText(self, text: str, tip: str = "") -> None:  # noqa: N802
        """Show a text, and another as its tooltip if there is one."""
        self._text = text
        self.setToolTip(tip or text)
        self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        """Show as much of the text as fits."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        super().setText(self.fontMetrics().elidedText(self._text, Qt.TextElideMode.ElideMiddle, self.width()))
