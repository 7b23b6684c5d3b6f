"""The benchmark as a user runs it, on the rows that take seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from benchmarks.speed import run as bench_run
from benchmarks.speed.__main__ import bench

pytest.importorskip("torch")
pytest.importorskip("matplotlib")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(bench, [str(argument) for argument in arguments])


def test_a_quick_run(tmp_path: Path) -> None:
    result = run("--quick", "--only", "import", "--only", "gpu", "--threads", "1", "-o", tmp_path)
    assert result.exit_code == 0, result.stderr
    written = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    rows = {item["key"]: item for item in written["items"]}
    assert 0 < rows["import"]["value"] < 60
    assert rows["import"]["goal"]["limit"] == 0.5 and rows["import"]["status"] in ("met", "not met")
    assert len(rows) >= 3
    assert (tmp_path / "results.png").is_file()
    document = tmp_path / "page.md"
    document.write_text("<!-- bench: summary -->\n<!-- end -->\n")
    again = run("--no-run", "-o", tmp_path, "--fill", document)
    assert again.stdout == result.stdout
    assert "first import" in document.read_text(encoding="utf-8")


def test_missing_results_are_one_sentence(tmp_path: Path) -> None:
    assert run("--no-run").exit_code == 2
    missing = run("--no-run", "-o", tmp_path)
    assert missing.exit_code == 2 and "results.json is missing" in missing.stderr


def test_a_failed_case_is_a_row_and_the_others_are_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(bench_run.CASES, "no such case", "no such case")
    results = bench_run.run_benchmark(["no such case", "import"], threads=1, quick=True)
    failed, imported = results.rows
    assert failed.status == "not measured" and failed.note.startswith("failed: ")
    assert imported.value is not None
