"""Translates the plugin to the language of QGIS."""

from __future__ import annotations

from pathlib import Path

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QCoreApplication, QLocale, QTranslator

__all__ = ["Language"]

FOLDER = Path(__file__).resolve().parent.parent / "i18n"


class Language:
    """Installs the translation for the language of QGIS; without one the texts stay in English."""

    def __init__(self) -> None:
        self._translator: QTranslator | None = None

    @property
    def name(self) -> str:
        """The language of QGIS, such as ``es`` or ``en_US``."""
        # From the command line, or else from the settings, where the user's choice overrides the system's.
        return str(QgsApplication.instance().translation() or QgsApplication.locale())

    def install(self) -> None:
        """Install the translation."""
        if self._translator is not None:
            return
        translator = QTranslator()
        if translator.load(QLocale(self.name), "geosam_es", "_", str(FOLDER), ".qm"):
            QCoreApplication.installTranslator(translator)
            self._translator = translator

    def remove(self) -> None:
        """Remove the translation."""
        if self._translator is not None:
            QCoreApplication.removeTranslator(self._translator)
            self._translator = None
