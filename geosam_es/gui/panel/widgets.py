"""Widgets that several parts of the panel use."""

from __future__ import annotations

import html
from typing import Any

from qgis.core import Qgis, QgsApplication
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtGui import QPalette
from qgis.PyQt.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QTextBrowser, QToolButton, QVBoxLayout, QWidget

from ...qgis_support.messages import PLUGIN_NAME

__all__ = ["BarMessage", "flat_button", "icon_button", "row_of"]


class BarMessage:
    """A message with buttons in the message bar of QGIS; a new one replaces it.

    QGIS's own messages scroll in a narrow window. This one wraps, with the buttons below it.

    Parameters
    ----------
    bar : QgsMessageBar
    """

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._item: Any = None

    def show(self, text: str, level: Qgis.MessageLevel, *widgets: QWidget, seconds: int = 0) -> None:
        """Show a text above a row of widgets."""
        self.close()
        item = self._item = self._bar.createMessage(PLUGIN_NAME, text)
        item.setLevel(level)
        item.setDuration(seconds)
        item.findChild(QTextBrowser).hide()
        self._label = QLabel()
        self._label.setWordWrap(True)
        self.set_text(text)
        column = QVBoxLayout()
        column.addWidget(self._label)
        if widgets:
            row = row_of(*widgets)
            row.addStretch(1)
            column.addLayout(row)
        item.layout().addLayout(column, 1)
        self._bar.pushItem(item)
        # The bar is light in dark themes too, and colours only labels.
        self._label.ensurePolished()
        colour = self._label.palette().color(QPalette.ColorRole.WindowText).name()
        for widget in widgets:
            if isinstance(widget, QCheckBox):
                widget.setStyleSheet(f"color: {colour}")

    def set_text(self, text: str) -> None:
        """Change the text of the message that was shown last."""
        self._label.setText(f"<b>{PLUGIN_NAME}</b> {html.escape(text)}")

    def close(self) -> None:
        """Remove the message, unless the user has."""
        if self._item is not None and self._item in self._bar.items():
            self._bar.popWidget(self._item)
        self._item = None


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
