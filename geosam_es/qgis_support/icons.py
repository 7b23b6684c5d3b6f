"""The plugin's own icons."""

from __future__ import annotations

from pathlib import Path

from qgis.PyQt.QtGui import QIcon

__all__ = ["own_icon"]

ICONS = Path(__file__).resolve().parents[1] / "icons"


def own_icon(name: str) -> QIcon:
    """Return an icon of the plugin by its file name without ``.svg``."""
    return QIcon(str(ICONS / f"{name}.svg"))
