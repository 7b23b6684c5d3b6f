"""The decoding thread: priorities, order, errors, and its end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from geosam_es.errors import GeoSamError, ModelError, PromptError
from geosam_es.gui.stores.worker import Job, Worker
from tests.qgis.support import wait_until


class Log:
    """Jobs that return a value at once, and what came back."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self.failed: list[GeoSamError] = []

    def job(self, value: Any) -> Job[Any]:
        return Job(lambda: value, self.done.append, self.failed.append)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def worker(qgis_app: Any) -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.stop()
    assert not worker.isRunning()


def _block(worker: Worker) -> threading.Event:
    """Keep the worker busy until the event is set."""
    release, started = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        release.wait(10)

    worker.post(Job(hold))
    assert started.wait(10)
    return release


def test_queued_jobs_run_in_order_and_none_is_lost(worker: Worker, log: Log) -> None:
    for number in range(50):
        worker.post(log.job(number))
    wait_until(lambda: len(log.done) == 50)
    assert log.done == list(range(50))


def test_jobs_run_outside_the_gui_thread_and_call_back_in_it(worker: Worker) -> None:
    threads: list[Any] = []
    worker.post(Job(threading.get_ident, lambda value: threads.append((threading.get_ident(), value))))
    wait_until(lambda: threads)
    assert threads[0][0] == threading.get_ident() != threads[0][1]


def test_only_the_latest_preview_runs(worker: Worker, log: Log) -> None:
    release = _block(worker)
    for number in range(20):
        worker.set_preview(log.job(number))
    release.set()
    worker.set_look_ahead([log.job("last")])
    wait_until(lambda: "last" in log.done)
    assert log.done == [19, "last"]


def test_a_queued_job_drops_the_waiting_preview_and_comparison(worker: Worker, log: Log) -> None:
    release = _block(worker)
    worker.set_preview(log.job("preview"))
    worker.set_comparison(log.job("comparison"))
    worker.post(log.job("prompt"))
    worker.set_look_ahead([log.job("last")])
    release.set()
    wait_until(lambda: "last" in log.done)
    assert log.done == ["prompt", "last"]


def test_waiting_jobs_run_by_priority(worker: Worker, log: Log) -> None:
    release = _block(worker)
    worker.set_look_ahead([log.job("ahead 1"), log.job("ahead 2")])
    worker.set_preview(log.job("preview"))
    for number in range(3):
        worker.set_comparison(log.job(number))
    release.set()
    wait_until(lambda: len(log.done) == 4)
    assert log.done == [2, "preview", "ahead 1", "ahead 2"]


def test_preview_comparison_and_look_ahead_can_be_taken_back(worker: Worker, log: Log) -> None:
    release = _block(worker)
    worker.set_preview(log.job("preview"))
    worker.set_comparison(log.job("comparison"))
    worker.set_look_ahead([log.job("ahead")])
    worker.set_preview(None)
    worker.set_comparison(None)
    worker.set_look_ahead([])
    release.set()
    worker.post(log.job("prompt"))
    wait_until(lambda: log.done)
    assert log.done == ["prompt"]


def test_errors_come_back_and_the_thread_goes_on(worker: Worker, log: Log) -> None:
    def refuse() -> None:
        raise PromptError("no", "yes")

    def crash() -> None:
        raise ZeroDivisionError("boom")

    for run in (refuse, crash, lambda: "fine"):
        worker.post(Job(run, log.done.append, log.failed.append))
    wait_until(lambda: log.done)
    assert isinstance(log.failed[0], PromptError)
    assert isinstance(log.failed[1], ModelError)
    assert "boom" in log.failed[1].user_message
    assert log.done == ["fine"]


def test_stopping_drops_waiting_jobs(qgis_app: Any) -> None:
    worker = Worker()
    ran: list[int] = []
    release = _block(worker)
    worker.post(Job(lambda: ran.append(1)))
    threading.Timer(0.1, release.set).start()
    worker.stop()
    worker.post(Job(lambda: ran.append(2)))
    assert not worker.isRunning()
    assert ran == []


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_job_ahead_that_is_stopped_is_tried_again_unless_it_was_replaced(
    worker: Worker, log: Log, is_replaced: bool
) -> None:
    begun, stopped = threading.Semaphore(0), threading.Event()
    tries: list[bool] = []

    def ahead() -> None:
        tries.append(stopped.is_set())
        begun.release()
        stopped.wait()
        if len(tries) == 1:
            raise PromptError("stopped", "go on")

    worker.set_look_ahead([Job(ahead, log.done.append, log.failed.append)])
    assert begun.acquire(timeout=5)
    if is_replaced:
        worker.set_look_ahead([])
    worker.post(log.job("posted"))
    stopped.set()
    wait_until(lambda: log.done == (["posted"] if is_replaced else ["posted", None]))
    assert tries == ([False] if is_replaced else [False, True])
    wait_until(lambda: len(log.failed) == is_replaced)
