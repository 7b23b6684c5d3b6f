"""Texts and messages: translation, and the message bar."""

from __future__ import annotations

import time
from typing import Any

from qgis.core import Qgis, QgsMessageLog
from qgis.PyQt.QtCore import QCoreApplication

from ..errors import GeoSamError

__all__ = ["PLUGIN_NAME", "Messages", "tr"]

PLUGIN_NAME = "GeoSAM-ES"
_REPEAT_SECONDS = 3.0
_SHOWN_SECONDS = 8


def tr(text: str) -> str:
    """Translate a text of the user interface."""
    return str(QCoreApplication.translate("GeoSAM-ES", text))


class Messages:
    """Shows messages in QGIS's message bar and keeps them in its log.

    Parameters
    ----------
    bar : QgsMessageBar
    """

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._last = ("", 0.0)

    def error(self, error: GeoSamError) -> None:
        """Show what is wrong and what to do."""
        self._push(error.user_message, Qgis.MessageLevel.Warning)

    def warning(self, text: str) -> None:
        """Show what the user should know."""
        self._push(text, Qgis.MessageLevel.Warning)

    def info(self, text: str) -> None:
        """Show what was done."""
        self._push(text, Qgis.MessageLevel.Info)

    def _push(self, text: str, level: Any) -> None:
        now = time.monotonic()
        # A user who goes on clicking where something fails needs to read it once.
        if self._last[0] == text and now - self._last[1] < _REPEAT_SECONDS:
            self._last = (text, now)
            return
        self._last = (text, now)
        QgsMessageLog.logMessage(text, PLUGIN_NAME, level)
        self._bar.pushMessage(PLUGIN_NAME, text, level, _SHOWN_SECONDS)
