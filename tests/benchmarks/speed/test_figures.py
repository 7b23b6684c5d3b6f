from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.speed.report import Results
from tests.benchmarks.speed.test_report import FAST, GPU, MACHINE, TABLE

pytest.importorskip("matplotlib")

from benchmarks.speed.figures import draw_results


@pytest.mark.parametrize("items", [(), (FAST,), (FAST, GPU, TABLE)])
def test_any_results_give_a_picture(tmp_path: Path, items: tuple[object, ...]) -> None:
    path = draw_results(Results(MACHINE, "2026-01-02", items), tmp_path)  # type: ignore[arg-type]
    first = path.read_bytes()
    assert first.startswith(b"\x89PNG") and len(first) < 200_000
    assert draw_results(Results(MACHINE, "2026-01-02", items), tmp_path).read_bytes() == first  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["results.png"]
