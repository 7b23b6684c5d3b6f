"""The table of gains from fine-tuning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from benchmarks.finetuning import PROMPTS, grouped, table


def write_run(work: Path, kind: str, count: int, depth: str, draw: int, gain: float) -> None:
    ious = {prompts: {"before": [0.4, 0.6], "tuned": [0.4 + gain, 0.6 + gain]} for prompts in PROMPTS}
    run = {"kind": kind, "count": count, "depth": depth, "ious": ious, "cpu_minutes": 12.4, "peak_gb": 1.26}
    (work / "runs").mkdir(exist_ok=True)
    (work / "runs" / f"{kind}-{count}-{depth}-{draw}.json").write_text(json.dumps(run), encoding="utf-8")


def test_draws_are_averaged_and_ordered_by_number_and_depth(tmp_path: Path) -> None:
    write_run(tmp_path, "coast", 200, "all", 0, 0.3)
    write_run(tmp_path, "coast", 50, "all", 0, 0.0)
    write_run(tmp_path, "coast", 50, "all", 1, 0.2)
    write_run(tmp_path, "coast", 50, "decoder", 0, 0.0)
    header, _, before, *rows = table(grouped(tmp_path)).splitlines()
    assert header.startswith("| polygons | depth | draws | point | box |")
    assert before.startswith("| coast, before |  |  | 0.500 | 0.500 |")
    assert [row.split(" | ")[:3] for row in rows] == [
        ["| 50", "decoder", "1"],
        ["| 50", "all", "2"],
        ["| 200", "all", "1"],
    ]
    assert "**+0.100** (+0.100 to +0.100)" in rows[1] and rows[1].endswith("| 12 | 1.3 |")
