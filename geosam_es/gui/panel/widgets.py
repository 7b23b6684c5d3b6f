"""Widgets that several parts of the panel use."""

from __future__ import annotations

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import Qt
from qgis.PyQt.QtWidgets import QHBoxLayout, QToolButton, QWidget

__all__ = ["flat_button", "icon_button", "row_of"]


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
