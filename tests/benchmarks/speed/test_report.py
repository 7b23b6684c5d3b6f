"""The files of results, and the sections of documents filled from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.speed.model import Agreement, Goal, Row, Table, Timing
from benchmarks.speed.report import Results, fill_document, read_results, summary, write_results
from geosam_es.errors import OutputError

FAST = Row(
    "click",
    "a click",
    "the official one",
    0.4,
    goal=Goal(0.42),
    ours=Timing(8.0, 9.0, 60),
    reference=Timing(20.0, 22.0, 60),
    agreement=Agreement("smallest mask IoU of 5", 0.99991, 0.999),
)
GPU = Row("gpu", "a tile on a GPU", "another way", None, goal=Goal(5.0, is_least=True), note="no GPU on this machine")
TABLE = Table("encoders", "Encoders", ("how", "s", "share"), [["plain", 5.5, 1.0], ["GeoSAM-ES", 1.8, 0.33]], "A note.")
MACHINE = {
    "processor": "a processor",
    "cores": 2,
    "threads": 2,
    "memory_gib": 8.0,
    "system": "Linux",
    "python": "3.11",
    "versions": {"numpy": "2.0"},
}
RESULTS = Results(MACHINE, "2026-01-02T03:04:05+00:00", (FAST, GPU, TABLE))


def test_results_are_written_and_read(tmp_path: Path) -> None:
    write_results(RESULTS, tmp_path / "new")
    again = read_results(tmp_path / "new")
    assert again.rows == RESULTS.rows
    assert (again.tables[0].key, again.tables[0].rows[1][1], again.date) == ("encoders", 1.8, RESULTS.date)
    text = (tmp_path / "new" / "results.md").read_text(encoding="utf-8")
    assert "1 of 1 goals met" in text
    assert "| a click | the official one | 8 ms (95 %: 9 ms) | 20 ms (95 %: 22 ms) | **0.4 x** | ≤ 0.42 | met |" in text
    assert "| - | ≥ 5 | no GPU on this machine |" in text
    assert "| GeoSAM-ES | 1.8 | 33% |" in text
    assert "smallest mask IoU of 5 0.99991" in text
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["results.json", "results.md"]


def test_rows_whose_results_differ_meet_no_goal() -> None:
    differs = replace(FAST, agreement=Agreement("IoU", 0.5, 0.999))
    assert "does not count" in summary([differs])
    assert "| met |" not in summary([differs])


@pytest.mark.parametrize(
    ("value", "text"), [(1.4981, "**1.498 x** | ≥ 1.5 | not met"), (1.5004, "**1.5 x** | ≥ 1.5 | met")]
)
def test_a_near_miss_is_not_rounded_to_the_goal(value: float, text: str) -> None:
    assert text in summary([replace(FAST, value=value, goal=Goal(1.5, is_least=True))])


def test_documents_quote_results(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text(
        "Before\n<!-- bench: encoders -->\nold\n<!-- end -->\nAfter <!-- bench: machine -->\n<!-- end -->\n"
    )
    for _ in range(2):
        fill_document(document, RESULTS)
        text = document.read_text(encoding="utf-8")
        assert text.startswith("Before\n<!-- bench: encoders -->\n\n| how | s | share |")
        assert "old" not in text and "a processor" in text and text.count("| plain | 5.5 |") == 1
    document.write_text("<!-- bench: missing -->\n<!-- end -->")
    with pytest.raises(OutputError, match="missing"):
        fill_document(document, RESULTS)


def test_missing_results_are_reported(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="missing or damaged"):
        read_results(tmp_path)
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(OutputError, match="make bench"):
        read_results(tmp_path)
    with pytest.raises(OutputError, match="cannot be written"):
        write_results(RESULTS, tmp_path / "results.json")


def test_the_documents_are_in_step_with_the_results(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    if not (root / "benchmarks" / "results.json").is_file():
        pytest.skip("make bench was not run yet")
    results = read_results(root / "benchmarks")
    for name in ("benchmarks/README.md", "docs/performance.md"):
        text = (root / name).read_text(encoding="utf-8")
        copy = tmp_path / Path(name).name
        copy.write_text(text, encoding="utf-8")
        fill_document(copy, results)
        assert copy.read_text(encoding="utf-8") == text
