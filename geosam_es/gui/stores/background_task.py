"""Tasks that QGIS runs in another thread."""

from __future__ import annotations

from typing import ClassVar

from qgis.core import QgsApplication, QgsTask

from ...errors import GeoSamError, StoreError
from ...qgis_support.messages import tr

__all__ = ["BackgroundTask"]


class BackgroundTask(QgsTask):
    """A task that always gets its `finished` call, also if it is cancelled and nobody holds it any more.

    Subclasses implement `work`.

    Attributes
    ----------
    error : GeoSamError, optional
        Why the task failed; None if it was cancelled.
    """

    # QGIS deletes a task that Python has forgotten, without calling `finished`.
    _kept: ClassVar[set[BackgroundTask]] = set()

    def __init__(self, description: str) -> None:
        super().__init__(description, QgsTask.Flag.CanCancel)
        self.error: GeoSamError | None = None

    def start(self) -> None:
        """Hand the task to QGIS's task manager."""
        self._kept.add(self)
        QgsApplication.taskManager().addTask(self)

    def work(self) -> None:
        """Do the task in another thread."""
        raise NotImplementedError

    def run(self) -> bool:
        """Do the work, and keep its error; called by QGIS in another thread."""
        try:
            self.work()
        except GeoSamError as error:
            self.error = error
        # QGIS would end with an exception that leaves run().
        except Exception as error:
            problem = f"{self.description()}: {error!r}"
            self.error = StoreError(problem, tr("see QGIS's log, and try again"))
        if self.isCanceled():
            self.error = None
        return self.error is None and not self.isCanceled()

    def finished(self, _result: bool) -> None:
        """Release what the task holds; called by QGIS in the GUI thread."""
        self._kept.discard(self)
