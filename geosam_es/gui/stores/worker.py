"""The thread that decodes: prompts in order; of comparisons and previews, only the latest."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from qgis.PyQt.QtCore import QObject, QThread, pyqtSignal

from ...errors import GeoSamError, ModelError
from ...qgis_support.service_request import interrupt, interruptible

__all__ = ["Job", "Worker", "ignore"]

Value = TypeVar("Value")


def ignore(_: object) -> None:
    """Do nothing with the value or the error of a job."""


@dataclass(frozen=True, eq=False)
class Job(Generic[Value]):
    """Work to do outside the GUI thread.

    Attributes
    ----------
    run : callable
        Called in the worker's thread.
    done : callable
        Called in the GUI thread with the value of ``run``.
    failed : callable
        Called in the GUI thread with the GeoSamError that ``run`` raised.
    """

    run: Callable[[], Value]
    done: Callable[[Value], None] = ignore
    failed: Callable[[GeoSamError], None] = ignore


class Worker(QThread):
    """Runs jobs one after another; starts with the first one.

    There are four priorities: the queue (`post`), the comparison, the preview, and the look-ahead. The queue keeps
    every job. Each of the others keeps only what was set last.
    """

    _ended = pyqtSignal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._ready = threading.Condition()
        self._queue: deque[Job[Any]] = deque()
        self._comparison: deque[Job[Any]] = deque()
        self._preview: deque[Job[Any]] = deque()
        self._look_ahead: deque[Job[Any]] = deque()
        self._by_priority = (self._queue, self._comparison, self._preview, self._look_ahead)
        self._stopping = False
        self._thread: int | None = None
        # Whether the current job is one of the look-ahead, and that job as long as it is wanted.
        self._is_ahead = False
        self._ahead: Job[Any] | None = None
        self._ended.connect(self._call_back)

    def post(self, job: Job[Any]) -> None:
        """Queue a job; it makes a waiting comparison or preview out of date."""
        with self._ready:
            self._queue.append(job)
            self._comparison.clear()
            self._preview.clear()
            # A job must not wait for the images that are fetched ahead. With the lock, it is not stopped itself.
            if self._is_ahead:
                self._is_ahead = False
                if self._ahead is not None:
                    self._look_ahead.appendleft(self._ahead)
                self.interrupt()
            self._wake()

    def set_comparison(self, job: Job[Any] | None) -> None:
        """Replace the comparison that waits."""
        self._replace(self._comparison, [job] if job is not None else [])

    def set_preview(self, job: Job[Any] | None) -> None:
        """Replace the preview that waits."""
        self._replace(self._preview, [job] if job is not None else [])

    def set_look_ahead(self, jobs: Sequence[Job[Any]]) -> None:
        """Replace the jobs to run while nothing else waits."""
        with self._ready:
            self._ahead = None
            self._replace(self._look_ahead, jobs)

    def stop(self) -> None:
        """Drop all waiting jobs, and return when the current one has ended."""
        with self._ready:
            self._stopping = True
            self._ready.notify()
        self.interrupt()
        self.wait()

    def interrupt(self) -> None:
        """Stop the current job if it waits for an online service; the job fails then."""
        if self._thread is not None:
            interrupt(self._thread)

    def run(self) -> None:
        """Work until stopped; called by Qt in the new thread."""
        self._thread = threading.get_ident()
        while True:
            job = self._next()
            if job is None:
                return
            try:
                with interruptible():
                    value = job.run()
            except GeoSamError as error:
                with self._ready:
                    is_put_off = job in self._look_ahead
                if is_put_off:
                    continue
                self._ended.emit(partial(job.failed, error))
            # Whatever a decoder or a damaged store raises, QGIS goes on.
            except Exception as error:
                wrapped = ModelError(
                    "The model could not process the prompt ({reason})", "try another one", reason=repr(error)
                )
                self._ended.emit(partial(job.failed, wrapped))
            else:
                self._ended.emit(partial(job.done, value))

    def _replace(self, waiting: deque[Job[Any]], jobs: Sequence[Job[Any]]) -> None:
        with self._ready:
            waiting.clear()
            waiting.extend(jobs)
            self._wake()

    def _wake(self) -> None:
        self._ready.notify()
        if any(self._by_priority) and not self._stopping and not self.isRunning():
            self.start()

    def _call_back(self, callback: Callable[[], None]) -> None:
        callback()

    def _next(self) -> Job[Any] | None:
        with self._ready:
            self._is_ahead = False
            self._ready.wait_for(lambda: self._stopping or any(self._by_priority))
            if self._stopping:
                return None
            jobs = next(jobs for jobs in self._by_priority if jobs)
            job = jobs.popleft()
            self._is_ahead = jobs is self._look_ahead
            self._ahead = job if self._is_ahead else None
            return job
