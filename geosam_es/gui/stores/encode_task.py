"""The QGIS task that encodes a part of a raster, or all of it."""

from __future__ import annotations

import threading
import time

from qgis.core import QgsTask
from qgis.PyQt.QtCore import pyqtSignal
from shapely.geometry.base import BaseGeometry

from ...errors import GeoSamError
from ...qgis_support.live_store import LiveStore
from ...qgis_support.messages import tr
from ...qgis_support.service_request import interrupt
from .background_task import BackgroundTask

__all__ = ["EncodeTask"]


class _CancelledError(Exception):
    """Raised when the user has cancelled the task."""


class EncodeTask(BackgroundTask):
    """Encodes a part of a raster, or all of it.

    The task keeps the store open until it ends, whoever else closes it meanwhile.

    Parameters
    ----------
    live : LiveStore
    description : str
        Shown in QGIS's task manager.
    area : shapely geometry, optional
        In the raster's CRS; the whole raster by default.
    finest_level : int
        The finest level to encode.

    Attributes
    ----------
    error : GeoSamError, optional
        Why the task failed; None if it was cancelled. The tiles encoded so far are kept.

    Signals
    -------
    progressed : int, int, float
        Tiles done, tiles in total, and seconds left; sent from the task's thread.
    """

    progressed = pyqtSignal(int, int, float)

    def __init__(
        self, live: LiveStore, description: str, area: BaseGeometry | None = None, finest_level: int = 0
    ) -> None:
        super().__init__(description, QgsTask.Flag.CanCancel)
        self.live = live.share()
        self.error: GeoSamError | None = None
        self._area = area
        self._finest_level = finest_level
        self._started = 0.0
        self._thread: int | None = None

    def run(self) -> bool:
        """Encode; called by QGIS in another thread."""
        self._started = time.monotonic()
        self._thread = threading.get_ident()
        try:
            self.live.encode(self.live.tiles_in(self._area, self._finest_level), self._on_progress)
        except _CancelledError:
            return False
        except GeoSamError as error:
            self.error = None if self.isCanceled() else error
            return False
        # QGIS would end with an exception that leaves run().
        except Exception as error:
            problem = f"{self.description()}: {error!r}"
            self.error = GeoSamError(problem, tr("see QGIS's log, and try again"))
            return False
        finally:
            self._thread = None
        return True

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
            raise _CancelledError
        seconds = time.monotonic() - self._started
        self.setProgress(100.0 * done / max(total, 1))
        self.progressed.emit(done, total, seconds / done * (total - done) if done else 0.0)
