"""While one preview is computed, only the latest move waits."""

from __future__ import annotations

import threading
from typing import Any

from benchmarks.speed.hover import LatestWins
from geosam_es.core.prompts import Point


class SlowSession:
    """Answers when it is allowed to."""

    def __init__(self) -> None:
        self.is_asked, self.may_answer, self.is_asked_for_the_last = (threading.Event() for _ in range(3))
        self.seen: list[float] = []

    def preview(self, x: float, y: float) -> None:
        self.seen.append(x)
        self.is_asked.set()
        if x == 5:
            self.is_asked_for_the_last.set()
        assert self.may_answer.wait(10)


def test_moves_that_were_superseded_are_dropped() -> None:
    session: Any = SlowSession()
    worker = LatestWins(session)
    worker.move(0.0, Point(0, 0))
    assert session.is_asked.wait(10)
    for index in range(1, 6):
        worker.move(float(index), Point(index, 0))
    session.may_answer.set()
    assert session.is_asked_for_the_last.wait(10)
    worker.stop()
    assert session.seen == [0, 5]
    assert worker.shown.moved_at == 5.0
