"""Translation of texts, and the message bar."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from qgis.core import Qgis, QgsMessageLog
from qgis.PyQt.QtCore import QCoreApplication, Qt, QTimer
from qgis.PyQt.QtGui import QPalette
from qgis.PyQt.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QPushButton, QTextBrowser, QVBoxLayout, QWidget

from ..errors import GeoSamError, PackageError, SignatureMismatchError

__all__ = ["PLUGIN_NAME", "BarMessage", "Messages", "duration", "log_error", "tr", "translated"]

PLUGIN_NAME = "GeoSAM-ES"
_REPEAT_SECONDS = 3.0
_SHOWN_SECONDS = 8


def tr(text: str) -> str:
    """Translate a text of the user interface."""
    return _translate(text)


def _translate(text: str) -> str:
    return str(QCoreApplication.translate("GeoSAM-ES", text))


def translated(error: GeoSamError | str) -> str:
    """Return the problem and remedy of an error, or a `marked` text, in the user's language, or else in English."""
    if isinstance(error, str):
        return _translate(error)
    problem, remedy = _parts(error)
    return f"{problem}: {remedy}" if remedy else problem


def _parts(error: GeoSamError) -> tuple[str, str]:
    values: dict[str, object] = {}
    if isinstance(error, PackageError):
        # No pip in a terminal: that click shows the button.
        remedy = tr("click on an image with the tool of GeoSAM-ES, press Install in the message, and restart QGIS")
        return error.fill(_translate(error.template)), remedy if error.remedy else ""
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


class BarMessage:
    """A message with buttons in the message bar of QGIS; a new one replaces it.

    QGIS's own messages scroll in a narrow window. This one wraps, with the buttons below it.
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
        column, row = QVBoxLayout(), QHBoxLayout()
        column.addWidget(self._label)
        for widget in widgets:
            # The map keeps the keys.
            widget.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            row.addWidget(widget)
        row.addStretch(1)
        column.addLayout(row)
        item.layout().addLayout(column, 1)
        _push(self._bar, item)
        # The bar is light in dark themes too, and colours only labels.
        self._label.ensurePolished()
        colour = self._label.palette().color(QPalette.ColorRole.WindowText).name()
        for widget in widgets:
            if isinstance(widget, QCheckBox):
                widget.setStyleSheet(f"color: {colour}")

    def button(self, text: str, tip: str, act: Callable[[], object]) -> QPushButton:
        """Return a button for `show` that closes the message and then acts."""

        def pressed() -> None:
            self.close()
            act()

        button = QPushButton(text)
        button.setToolTip(tip)
        button.clicked.connect(pressed)
        return button

    def set_text(self, text: str) -> None:
        """Change the text of the message that was shown last."""
        self._label.setText(f"<b>{PLUGIN_NAME}</b> {escape(text)}")

    def close(self) -> None:
        """Remove the message, unless the user has."""
        if self._item is not None and self._item in self._bar.items():
            self._bar.popWidget(self._item)
        self._item = None


class Messages:
    """Shows messages in the message bar of QGIS and writes them to its log.

    Parameters
    ----------
    bar : QgsMessageBar
    on_package : callable
        Shows an error that installing a package mends.
    """

    def __init__(self, bar: Any, on_package: Callable[[PackageError], None]) -> None:
        self._bar = bar
        self._on_package = on_package
        self._last: tuple[str, float, Any] = ("", 0.0, None)
        self._report, self._offer = BarMessage(bar), BarMessage(bar)

    def error(self, error: GeoSamError) -> None:
        """Show what is wrong and what to do about it."""
        if isinstance(error, PackageError):
            self._on_package(error)
            return
        text = translated(error)
        now = time.monotonic()
        # Repeated clicks where something fails need one message.
        last, when, item = self._last
        is_repeated = last == text and now - when < _REPEAT_SECONDS and item in self._bar.items()
        if not is_repeated:
            _log(text, Qgis.MessageLevel.Warning)
            item = self._bar.createMessage(PLUGIN_NAME, text)
            item.setLevel(Qgis.MessageLevel.Warning)
            item.setDuration(_SHOWN_SECONDS)
            _push(self._bar, item)
        self._last = (text, now, item)

    def warning(self, text: str) -> None:
        """Show a text until the user closes it."""
        _log(text, Qgis.MessageLevel.Warning)
        self._bar.pushMessage(PLUGIN_NAME, text, Qgis.MessageLevel.Warning, 0)

    def offer(self, error: GeoSamError, remedies: Sequence[tuple[str, str, Callable[[], object]]]) -> None:
        """Show what is wrong with a button for each remedy, until one is pressed or the user closes the message.

        Parameters
        ----------
        error : GeoSamError
        remedies : sequence of (str, str, callable)
            Text and tooltip of each button, and what it does.
        """
        _log(translated(error), Qgis.MessageLevel.Warning)
        # The buttons say what to do.
        buttons = [self._offer.button(*remedy) for remedy in remedies]
        self._offer.show(_parts(error)[0], Qgis.MessageLevel.Warning, *buttons)

    def report(self, text: str, button: str, act: Callable[[], object]) -> None:
        """Show what was done, with a button that does something about it, in place of the last such message."""
        _log(text, Qgis.MessageLevel.Info)
        shown = self._report.button(button, "", act)
        self._report.show(text, Qgis.MessageLevel.Info, shown, seconds=_SHOWN_SECONDS)

    def close_offer(self) -> None:
        """Remove the message of `offer`."""
        self._offer.close()

    def close_report(self) -> None:
        """Remove the message of `report`."""
        self._report.close()


def log_error(error: GeoSamError) -> None:
    """Log a failure that keeps nobody from going on."""
    _log(translated(error), Qgis.MessageLevel.Info)


def _push(bar: Any, item: Any) -> None:
    """Show a message for its time; QGIS stops the time of a message while it lies below another one."""
    bar.pushItem(item)
    if item.duration() > 0:
        timer = QTimer(item)
        timer.timeout.connect(lambda: bar.popWidget(item))
        timer.start(1000 * item.duration())


def _log(text: str, level: Qgis.MessageLevel) -> None:
    QgsMessageLog.logMessage(text, PLUGIN_NAME, level)
