"""The language of the plugin, which is that of QGIS."""

from __future__ import annotations

from pathlib import Path

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QCoreApplication, QLocale, QTranslator

__all__ = ["Language"]

FOLDER = Path(__file__).resolve().parent.parent / "i18n"


class Language:
    """Translates the plugin's texts where there is a file for QGIS's language; otherwise they stay in English."""

    def __init__(self) -> None:
        self._translator: QTranslator | None = None

    @property
    def name(self) -> str:
        """What QGIS speaks, as ``es`` or ``en_US``."""
        # Given on the command line, or else from the settings: the user's own choice before the system's.
        return str(QgsApplication.instance().translation() or QgsApplication.locale())

    def install(self) -> None:
        """Translate from now on."""
        if self._translator is not None:
            return
        translator = QTranslator()
        if translator.load(QLocale(self.name), "geosam_es", "_", str(FOLDER), ".qm"):
            QCoreApplication.installTranslator(translator)
            self._translator = translator

    def remove(self) -> None:
        """Leave the application as it was."""
        if self._translator is not None:
            QCoreApplication.removeTranslator(self._translator)
            self._translator = None
