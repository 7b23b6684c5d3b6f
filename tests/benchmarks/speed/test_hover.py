"""Latest wins, whatever the moves."""

from __future__ import annotations

import threading
import time
from typing import Any

from benchmarks.speed.hover import _LatestWins
from geosam_es.core.prompts import Point


class SlowSession:
    """Answers when it is allowed to."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.seen: list[float] = []

    def preview(self, x: float, y: float) -> None:
        self.seen.append(x)
        assert self.may_answer.wait(10)


def test_moves_that_were_superseded_are_dropped() -> None:
    session: Any = SlowSession()
    worker = _LatestWins(session)
    worker.move(0.0, Point(0, 0))
    while not session.seen:
        time.sleep(0.001)
    for index in range(1, 6):
        worker.move(float(index), Point(index, 0))
    session.may_answer.set()
    while len(worker.shown.latencies) < 2:
        time.sleep(0.001)
    worker.stop()
    assert session.seen == [0, 5]
    assert worker.shown.moved_at == 5.0
