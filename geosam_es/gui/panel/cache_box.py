"""The size of the cache of prepared images, counted in the background, and the button that empties it."""

from __future__ import annotations

import sys
from pathlib import Path

from qgis.PyQt.QtCore import QLocale, pyqtSignal
from qgis.PyQt.QtWidgets import QHBoxLayout, QLabel, QPushButton, QWidget

from ...qgis_support import settings
from ...qgis_support.messages import tr
from ..stores.background_task import BackgroundTask

__all__ = ["CacheBox", "size_text"]


class CacheBox(QWidget):
    """Shows the size of the cache, and empties it."""

    def __init__(self) -> None:
        super().__init__()
        self._label = QLabel()
        self._clear = QPushButton(tr("Clear cache"))
        self._clear.setObjectName("clear_cache")
        self._clear.setToolTip(
            tr(
                "Deletes the prepared images in the cache, except those in use. They are prepared again when needed. "
                "Model variants that were added are kept."
            )
        )
        self._clear.clicked.connect(lambda: self._start(clears=True))
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._label, 1)
        layout.addWidget(self._clear)
        if "shapely" in sys.modules:
            self._start(clears=False)
        else:
            # Reading stores needs the packages that the plugin offers to install.
            self._clear.setEnabled(False)

    def _start(self, clears: bool) -> None:
        self._clear.setEnabled(False)
        self._label.setText(tr("counting …"))
        task = _CacheTask(settings.cache_folder(), clears)
        # A bound method, so that Qt disconnects it when the dialog is closed meanwhile.
        task.counted.connect(self._show_kept if clears else self._show)
        task.start()

    def _show(self, count: float) -> None:
        self._label.setText(size_text(count))
        self._clear.setEnabled(count > 0)

    def _show_kept(self, count: float) -> None:
        self._show(count)
        if count > 0:
            self._label.setText(tr("{size} kept: images in use, and model variants").format(size=size_text(count)))


class _CacheTask(BackgroundTask):
    """Counts the bytes in the cache, after emptying it if wanted.

    Signals
    -------
    counted : float
        Bytes.
    """

    counted = pyqtSignal(float)

    def __init__(self, folder: Path, clears: bool) -> None:
        super().__init__(tr("Clearing the cache") if clears else tr("Counting the cache"))
        self._folder = folder
        self._clears = clears
        self._bytes = 0

    def work(self) -> None:
        """Empty the cache if wanted, and count."""
        from ...store.cache import StoreCache

        cache = StoreCache(self._folder, 0)
        if self._clears:
            cache.clear()
        self._bytes = cache.size()

    def finished(self, result: bool) -> None:
        """Report; called by QGIS in the GUI thread."""
        super().finished(result)
        if result:
            self.counted.emit(float(self._bytes))


def size_text(count: float) -> str:
    """Return a number of bytes as a text in the user's language."""
    digits = 0 if count < 10**9 else 1
    return str(QLocale().formattedDataSize(int(count), digits, QLocale.DataSizeFormat.DataSizeSIFormat))
