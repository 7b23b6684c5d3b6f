"""The decoding thread: nothing lost, nothing stale, nothing left running."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from geosam_es.errors import GeoSamError, ModelError, PromptError
from geosam_es.gui.stores.worker import Job, Worker
from tests.qgis.support import wait_until


class Log:
    def __init__(self, worker: Worker) -> None:
        self.done: list[Any] = []
        self.failed: list[GeoSamError] = []
        worker.done.connect(lambda job, value: self.done.append((job.kind, value)))
        worker.failed.connect(lambda job, error: self.failed.append(error))


@pytest.fixture
def worker(qgis_app: Any) -> Iterator[Worker]:
    worker = Worker()
    worker.start()
    yield worker
    worker.stop()
    assert not worker.isRunning()


def _block(worker: Worker) -> threading.Event:
    """Keep the worker busy until the event is set."""
    release, started = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        release.wait(10)

    worker.post(Job(hold, "hold"))
    assert started.wait(10)
    return release


def test_prompts_are_answered_in_order_and_none_is_lost(worker: Worker) -> None:
    log = Log(worker)
    for number in range(50):
        worker.post(Job(lambda number=number: number, "prompt"))
    wait_until(lambda: len(log.done) == 50)
    assert [value for _, value in log.done] == list(range(50))


def test_jobs_run_outside_the_gui_thread_and_answers_arrive_in_it(worker: Worker) -> None:
    threads: list[Any] = []
    worker.done.connect(lambda job, value: threads.append((threading.get_ident(), value)))
    worker.post(Job(threading.get_ident, "prompt"))
    wait_until(lambda: threads)
    assert threads[0][0] == threading.get_ident() != threads[0][1]


def test_of_previews_only_the_latest_is_answered(worker: Worker) -> None:
    log = Log(worker)
    release = _block(worker)
    for number in range(20):
        worker.preview(Job(lambda number=number: number, "preview"))
    release.set()
    wait_until(lambda: len(log.done) == 2)
    assert log.done == [("hold", None), ("preview", 19)]


def test_a_prompt_makes_the_waiting_preview_out_of_date(worker: Worker) -> None:
    log = Log(worker)
    release = _block(worker)
    worker.preview(Job(lambda: "old", "preview"))
    worker.post(Job(lambda: "new", "prompt"))
    release.set()
    wait_until(lambda: len(log.done) == 2)
    time.sleep(0.05)
    assert log.done[1:] == [("prompt", "new")]


def test_what_is_done_ahead_comes_last(worker: Worker) -> None:
    log = Log(worker)
    release = _block(worker)
    worker.ahead([Job(lambda: 1, "ahead"), Job(lambda: 2, "ahead")])
    worker.preview(Job(lambda: 0, "preview"))
    release.set()
    wait_until(lambda: len(log.done) == 4)
    assert [value for _, value in log.done[1:]] == [0, 1, 2]


def test_cleared_prompts_are_not_run(worker: Worker) -> None:
    log = Log(worker)
    release = _block(worker)
    worker.post(Job(lambda: "cleared", "prompt"))
    worker.clear()
    worker.post(Job(lambda: "kept", "prompt"))
    release.set()
    wait_until(lambda: len(log.done) == 2)
    assert log.done[1] == ("prompt", "kept")


def test_a_comparison_comes_before_the_preview_and_only_the_latest_counts(worker: Worker) -> None:
    log = Log(worker)
    release = _block(worker)
    worker.preview(Job(lambda: "preview", "preview"))
    for number in range(3):
        worker.beside(Job(lambda number=number: number, "beside"))
    release.set()
    wait_until(lambda: len(log.done) == 3)
    assert log.done[1:] == [("beside", 2), ("preview", "preview")]


def test_a_prompt_or_clearing_takes_the_comparison_away_and_nothing_else(worker: Worker) -> None:
    log = Log(worker)
    release = _block(worker)
    worker.beside(Job(lambda: "old", "beside"))
    worker.post(Job(lambda: "prompt", "prompt"))
    worker.post(Job(lambda: "loaded", "decoder"))
    worker.beside(Job(lambda: "newer", "beside"))
    worker.clear()
    release.set()
    wait_until(lambda: len(log.done) == 2)
    worker.post(Job(lambda: "last", "prompt"))
    wait_until(lambda: len(log.done) == 3)
    assert log.done[1:] == [("decoder", "loaded"), ("prompt", "last")]


def test_errors_come_back_and_the_thread_goes_on(worker: Worker) -> None:
    log = Log(worker)

    def refuse() -> None:
        raise PromptError("no", "yes")

    def crash() -> None:
        raise ZeroDivisionError("boom")

    for run in (refuse, crash, lambda: "fine"):
        worker.post(Job(run, "prompt"))
    wait_until(lambda: log.done)
    assert isinstance(log.failed[0], PromptError)
    assert isinstance(log.failed[1], ModelError)
    assert "boom" in log.failed[1].user_message
    assert log.done == [("prompt", "fine")]


def test_stopping_forgets_what_waits(qgis_app: Any) -> None:
    worker = Worker()
    worker.start()
    ran: list[int] = []
    release = _block(worker)
    worker.post(Job(lambda: ran.append(1), "prompt"))
    threading.Timer(0.1, release.set).start()
    worker.stop()
    assert not worker.isRunning()
    assert ran == []
