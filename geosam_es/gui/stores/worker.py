"""The thread that decodes: prompts in order, and of comparisons and previews only the latest."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from qgis.PyQt.QtCore import QObject, QThread, pyqtSignal

from ...errors import GeoSamError, ModelError

__all__ = ["Job", "Worker"]


@dataclass(frozen=True, eq=False)
class Job:
    """Something to be done off the GUI thread.

    Attributes
    ----------
    run : callable
        Called in the worker's thread; what it returns comes back with `Worker.done`.
    kind : str
        Told apart by whoever receives the answer.
    info : Any
        Whatever the receiver needs besides.
    """

    run: Callable[[], Any]
    kind: str
    info: Any = field(default=None)


class Worker(QThread):
    """Runs jobs one after another.

    Four kinds, in this order of urgency: prompts and whatever else must not be lost; the comparison, and the preview,
    of which only the latest counts; and what is done ahead of time, of which only the latest list counts.

    Signals
    -------
    done : Job, object
    failed : Job, GeoSamError
    """

    done = pyqtSignal(object, object)
    failed = pyqtSignal(object, object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._ready = threading.Condition()
        self._prompts: deque[Job] = deque()
        self._beside: Job | None = None
        self._preview: Job | None = None
        self._ahead: deque[Job] = deque()
        self._stopping = False

    def post(self, job: Job) -> None:
        """Queue a prompt; a comparison or a preview that waits is out of date with it."""
        with self._ready:
            self._prompts.append(job)
            self._beside = self._preview = None
            self._ready.notify()

    def beside(self, job: Job | None) -> None:
        """Put a comparison in place of the one that waits, or take it away."""
        with self._ready:
            self._beside = job
            self._ready.notify()

    def preview(self, job: Job | None) -> None:
        """Put a preview in place of the one that waits, or take it away."""
        with self._ready:
            self._preview = job
            self._ready.notify()

    def ahead(self, jobs: list[Job]) -> None:
        """Set what to do while nothing else waits, in place of what was left of it."""
        with self._ready:
            self._ahead = deque(jobs)
            self._ready.notify()

    def clear(self) -> None:
        """Forget the prompts, the comparison and the preview that wait; what is no prompt is done all the same."""
        with self._ready:
            self._prompts = deque(job for job in self._prompts if job.kind != "prompt")
            self._beside = self._preview = None

    def stop(self) -> None:
        """Forget everything that waits, and return when the job at hand has ended."""
        with self._ready:
            self._stopping = True
            self._ready.notify()
        self.wait()

    def run(self) -> None:
        """Work until stopped; called by Qt in the new thread."""
        while True:
            job = self._next()
            if job is None:
                return
            try:
                value = job.run()
            except GeoSamError as error:
                self.failed.emit(job, error)
            # Whatever a decoder or a damaged store raises, QGIS goes on.
            except Exception as error:
                wrapped = ModelError(
                    "The prompt could not be answered ({reason})", "try another one", reason=repr(error)
                )
                self.failed.emit(job, wrapped)
            else:
                self.done.emit(job, value)

    def _next(self) -> Job | None:
        with self._ready:
            self._ready.wait_for(self._has_work)
            if self._stopping:
                return None
            if self._prompts:
                return self._prompts.popleft()
            if self._beside is not None:
                job, self._beside = self._beside, None
                return job
            if self._preview is not None:
                job, self._preview = self._preview, None
                return job
            return self._ahead.popleft()

    def _has_work(self) -> bool:
        return bool(self._stopping or self._prompts or self._beside or self._preview or self._ahead)
