"""Tasks that QGIS runs in another thread."""

from __future__ import annotations

from typing import ClassVar

from qgis.core import QgsApplication, QgsTask

__all__ = ["BackgroundTask"]


class BackgroundTask(QgsTask):
    """A task that always gets its `finished` call, also if it is cancelled and nobody holds it any more."""

    # QGIS deletes a task that Python has forgotten, without calling `finished`.
    _kept: ClassVar[set[BackgroundTask]] = set()

    def start(self) -> None:
        """Hand the task to QGIS's task manager."""
        self._kept.add(self)
        QgsApplication.taskManager().addTask(self)

    def finished(self, _result: bool) -> None:
        """Release what the task holds; called by QGIS in the GUI thread."""
        self._kept.discard(self)
