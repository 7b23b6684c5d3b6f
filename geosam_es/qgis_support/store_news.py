"""What one part of the plugin changes in a store, and another should know of."""

from __future__ import annotations

from qgis.PyQt.QtCore import QObject, pyqtSignal

__all__ = ["StoreNews", "store_news"]


class StoreNews(QObject):
    """Tells what was changed in stores, whichever thread did it.

    Signals
    -------
    decoders_changed : str, str
        Path of the store, and the name of the decoder that answers in it from now on.
    """

    decoders_changed = pyqtSignal(str, str)


store_news = StoreNews()
