"""Long work on a layer in the GUI thread, which alone may edit layers: in steps, between which QGIS stays alive."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from qgis.PyQt.QtCore import Qt, QTimer
from qgis.PyQt.QtWidgets import QProgressDialog, QWidget

from ...errors import GeoSamError
from ...qgis_support.messages import PLUGIN_NAME, tr

__all__ = ["Steps"]

_AT_ONCE_S, _BETWEEN_S = 0.3, 0.05
"""How long the work may take before the dialog is shown, and then between two events."""


class Steps(QProgressDialog):
    """Shows the progress of work that takes long, and lets the user cancel it; nothing else can be clicked meanwhile.

    Parameters
    ----------
    steps : iterator
        Does a step each time. It is closed if the user cancels.
    count : int
        Number of steps.
    text : str
        What is being done, for people.
    failed : callable
        Is told why the work failed.
    window : QWidget, optional
    """

    def __init__(
        self,
        steps: Iterator[None],
        count: int,
        text: str,
        failed: Callable[[GeoSamError], object],
        window: QWidget | None = None,
    ) -> None:
        super().__init__(text, tr("Cancel"), 0, count, window)
        self._steps = steps
        self._done = 0
        self._failed = failed
        self.setWindowTitle(PLUGIN_NAME)
        self.setWindowModality(Qt.WindowModality.ApplicationModal)
        self.setAutoReset(False)
        # It is shown by hand.
        self.setMinimumDuration(1 << 30)
        self._timer = QTimer(self)
        self._timer.timeout.connect(lambda: self._work(_BETWEEN_S))
        self.canceled.connect(self._cancel)

    def start(self) -> None:
        """Do the work; this returns before it is done if it takes long."""
        if self._work(_AT_ONCE_S):
            self.show()
            self._timer.start(0)

    def _work(self, seconds: float) -> bool:
        """Work for a while, and return whether there is more to do."""
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                next(self._steps)
                self._done += 1
        except StopIteration:
            self._end()
            return False
        except GeoSamError as error:
            self._end()
            self._failed(error)
            return False
        self.setValue(self._done)
        return True

    def _cancel(self) -> None:
        # The edits are taken back.
        self._steps.close()  # type: ignore[attr-defined]
        self._end()

    def _end(self) -> None:
        self._timer.stop()
        self.hide()
        self.deleteLater()
