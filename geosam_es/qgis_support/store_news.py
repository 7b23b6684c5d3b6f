"""Signals about changes in stores, for the other parts of the plugin."""

from __future__ import annotations

from qgis.PyQt.QtCore import QObject, pyqtSignal

__all__ = ["StoreNews", "store_news"]


class StoreNews(QObject):
    """Signals changes in stores, from any thread.

    Signals
    -------
    decoders_changed : str, str
        Path of the store, and the name of the decoder now in use.
    """

    decoders_changed = pyqtSignal(str, str)


store_news = StoreNews()
