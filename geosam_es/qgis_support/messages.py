"""Translation of texts, and the message bar."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from qgis.core import Qgis, QgsMessageLog
from qgis.PyQt.QtCore import QCoreApplication, Qt
from qgis.PyQt.QtWidgets import QPushButton

from ..errors import GeoSamError, SignatureMismatchError

__all__ = ["PLUGIN_NAME", "Messages", "duration", "tr", "translated"]

PLUGIN_NAME = "GeoSAM-ES"
_REPEAT_SECONDS = 3.0
_SHOWN_SECONDS = 8


def tr(text: str) -> str:
    """Translate a text of the user interface."""
    return _translate(text)


def _translate(text: str) -> str:
    return str(QCoreApplication.translate("GeoSAM-ES", text))


def translated(error: GeoSamError) -> str:
    """Return the problem and remedy of an error in the user's language, or in English if there is no translation."""
    problem, remedy = _parts(error)
    return f"{problem}: {remedy}" if remedy else problem


def _parts(error: GeoSamError) -> tuple[str, str]:
    values: dict[str, object] = {}
    if isinstance(error, SignatureMismatchError):
        values["key"] = _signature_keys().get(error.key, error.key)
    problem, remedy = (
        error.fill(_translate(template), **values) if template else ""
        for template in (error.template, error.remedy_template)
    )
    return problem, remedy


def _signature_keys() -> dict[str, str]:
    """Return the translated names of what must agree between a store and a raster."""
    return {
        "raster size": tr("raster size"),
        "raster fingerprint": tr("raster fingerprint"),
        "raster transform": tr("raster transform"),
        "model": tr("model"),
    }


def duration(seconds: float) -> str:
    """Return a time in hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class Messages:
    """Shows messages in the message bar of QGIS and writes them to its log.

    Parameters
    ----------
    bar : QgsMessageBar, optional
        Without it messages go to the log only.
    """

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._last = ("", 0.0)
        self._report: Any = None
        self._offer: Any = None

    def error(self, error: GeoSamError) -> None:
        """Show what is wrong and what to do about it."""
        text = translated(error)
        now = time.monotonic()
        # Repeated clicks where something fails need one message.
        is_repeated = self._last[0] == text and now - self._last[1] < _REPEAT_SECONDS
        self._last = (text, now)
        if not is_repeated:
            QgsMessageLog.logMessage(text, PLUGIN_NAME, Qgis.MessageLevel.Warning)
            if self._bar is not None:
                self._bar.pushMessage(PLUGIN_NAME, text, Qgis.MessageLevel.Warning, _SHOWN_SECONDS)

    def offer(self, error: GeoSamError, remedies: Sequence[tuple[str, str, Callable[[], object]]]) -> None:
        """Show what is wrong with a button for each remedy, until one is pressed or the user closes the message.

        Parameters
        ----------
        error : GeoSamError
        remedies : sequence of (str, str, callable)
            Text and tooltip of each button, and what it does.
        """
        QgsMessageLog.logMessage(translated(error), PLUGIN_NAME, Qgis.MessageLevel.Warning)
        if self._bar is None:
            return
        self.close_offer()
        # The buttons say what to do.
        self._offer = self._bar.createMessage(PLUGIN_NAME, _parts(error)[0])
        self._offer.setLevel(Qgis.MessageLevel.Warning)
        for name, tip, remedy in remedies:
            button = QPushButton(name)
            button.setToolTip(tip)
            # The map keeps the keys.
            button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            button.clicked.connect(lambda _checked=False, remedy=remedy: self._take(remedy))
            self._offer.layout().addWidget(button)
        self._bar.pushItem(self._offer)

    def close_offer(self) -> None:
        """Remove the message with buttons."""
        # The user may have closed it.
        if self._offer is not None and self._offer in self._bar.items():
            self._bar.popWidget(self._offer)
        self._offer = None

    def _take(self, remedy: Callable[[], object]) -> None:
        self.close_offer()
        remedy()

    def warning(self, text: str, details: str = "") -> None:
        """Show a text, with details behind a button, until the user closes it."""
        QgsMessageLog.logMessage(f"{text}\n{details}", PLUGIN_NAME, Qgis.MessageLevel.Warning)
        if self._bar is not None:
            self._bar.pushMessage(PLUGIN_NAME, text, details, Qgis.MessageLevel.Warning, 0)

    def report(self, text: str, button: str, act: Callable[[], None]) -> None:
        """Show what was done, with a button that does something about it, in place of the last such message."""
        QgsMessageLog.logMessage(text, PLUGIN_NAME, Qgis.MessageLevel.Info)
        self.close_report()
        if self._bar is None:
            return

        def pressed() -> None:
            self.close_report()
            act()

        item = self._report = self._bar.createMessage(PLUGIN_NAME, text)
        push = QPushButton(button)
        # The map keeps the keys.
        push.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        push.clicked.connect(pressed)
        item.layout().addWidget(push)
        item.setLevel(Qgis.MessageLevel.Info)
        item.setDuration(_SHOWN_SECONDS)
        self._bar.pushItem(item)

    def close_report(self) -> None:
        """Remove the message of `report`."""
        # The user or the clock may have closed it.
        if self._report is not None and self._report in self._bar.items():
            self._bar.popWidget(self._report)
        self._report = None
