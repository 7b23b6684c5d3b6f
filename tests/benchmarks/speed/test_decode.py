"""The table made from onnxruntime's profile."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
if importlib.util.find_spec("segment_anything") is None:  # it imports only with torchvision or its placeholders
    pytest.skip("segment_anything is not installed", allow_module_level=True)

from benchmarks.speed.decode import operator_table


def event(operator: str, duration_us: int, name: str = "node_kernel_time", kind: str = "Node") -> dict[str, object]:
    return {"cat": kind, "name": name, "dur": duration_us, "args": {"op_name": operator}}


def test_operators_are_ranked_and_add_up(tmp_path: Path) -> None:
    events = [event(f"Small{index}", 100 - index) for index in range(10)]
    events += [event("MatMul", 3000), event("MatMul", 1000), event("If", 9000)]
    events += [event("MatMul", 500, name="node_fence_before"), {"cat": "Session", "name": "run", "dur": 1}]
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(events), encoding="utf-8")
    table = operator_table(path, runs=2)
    assert table.rows[0][:2] == ("MatMul", pytest.approx(2.0))
    assert [row[0] for row in table.rows[1:3]] == ["Small0", "Small1"] and table.rows[-1][0] == "all others"
    assert sum(row[2] for row in table.rows) == pytest.approx(1)
    assert sum(row[1] for row in table.rows) == pytest.approx((4000 + sum(range(91, 101))) / 2000)
