"""The QGIS task that encodes a part of a raster, or all of it."""

from __future__ import annotations

import threading
import time

from qgis.PyQt.QtCore import pyqtSignal
from shapely.geometry.base import BaseGeometry

from ...qgis_support.live_store import LiveStore
from ...qgis_support.service_request import interrupt
from .background_task import BackgroundTask

__all__ = ["EncodeTask"]


class EncodeTask(BackgroundTask):
    """Encodes a part of a raster, or all of it.

    The task keeps the store open until it ends, whoever else closes it meanwhile. If it fails or is
    cancelled, the tiles encoded so far are kept.

    Parameters
    ----------
    live : LiveStore
    description : str
        Shown in QGIS's task manager.
    area : shapely geometry, optional
        In the raster's CRS; the whole raster by default.
    finest_level : int
        The finest level to encode.

    Signals
    -------
    progressed : int, int, float
        Tiles done, tiles in total, and seconds left; sent from the task's thread.
    """

    progressed = pyqtSignal(int, int, float)

    def __init__(
        self, live: LiveStore, description: str, area: BaseGeometry | None = None, finest_level: int = 0
    ) -> None:
        super().__init__(description)
        self.live = live.share()
        self._area = area
        self._finest_level = finest_level
        self._started = 0.0
        self._thread: int | None = None

    def work(self) -> None:
        """Encode the missing tiles."""
        self._started = time.monotonic()
        self._thread = threading.get_ident()
        try:
            self.live.encode(self.live.tiles_in(self._area, self._finest_level), self._on_progress)
        finally:
            self._thread = None

    def cancel(self) -> None:
        """Stop after the current tile, or at once if an online service is being asked for it."""
        super().cancel()
        if self._thread is not None:
            interrupt(self._thread)

    def finished(self, result: bool) -> None:
        """End the task's use of the store; called by QGIS in the GUI thread."""
        super().finished(result)
        self.live.close()

    def _on_progress(self, done: int, total: int) -> None:
        if self.isCanceled():
            raise InterruptedError
        seconds = time.monotonic() - self._started
        self.setProgress(100.0 * done / max(total, 1))
        self.progressed.emit(done, total, seconds / done * (total - done) if done else 0.0)
