"""Of the moves that wait, only the latest is answered."""

from __future__ import annotations

import threading
from typing import Any

from benchmarks.speed.hover import _LatestWins
from geosam_es.core.prompts import Point


class SlowSession:
    """Answers once the test allows it."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.asked = threading.Semaphore(0)
        self.seen: list[float] = []

    def preview(self, x: float, y: float) -> None:
        self.seen.append(x)
        self.asked.release()
        assert self.may_answer.wait(10)


def test_moves_that_were_superseded_are_dropped() -> None:
    session: Any = SlowSession()
    worker = _LatestWins(session)
    worker.move(0.0, Point(0, 0))
    assert session.asked.acquire(timeout=10)
    for index in range(1, 6):
        worker.move(float(index), Point(index, 0))
    session.may_answer.set()
    assert session.asked.acquire(timeout=10)
    worker.stop()
    assert session.seen == [0, 5] and len(worker.shown.latencies) == 2
    assert worker.shown.moved_at == 5.0
