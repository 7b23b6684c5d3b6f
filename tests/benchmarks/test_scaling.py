"""The simulation of many workers."""

from __future__ import annotations

import pytest

from benchmarks.scaling import BLOCK, Costs, simulate


def test_workers_scale_until_a_queue_is_full() -> None:
    costs = Costs(encode=0.1, read=2.0, write=2.0, disk=1000.0, task=0.001)
    alone, queue = simulate(1, costs)
    assert alone == pytest.approx(10, rel=0.01) and queue == "worker"
    assert simulate(10, costs)[0] == pytest.approx(10 * alone, rel=0.05)
    # The storage moves 4 MB for each tile, and the scheduler hands out a thousand blocks a second.
    assert simulate(500, costs) == (pytest.approx(250, rel=0.05), "storage")
    assert simulate(2000, costs._replace(disk=1e9, task=0.01)) == (pytest.approx(BLOCK * 100, rel=0.05), "scheduler")
