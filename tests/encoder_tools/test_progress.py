"""Progress on a terminal and off it."""

from __future__ import annotations

import io
import sys

import pytest

from encoder_tools import progress as module
from encoder_tools.progress import BYTES, PERCENT, Progress


class Clock:
    """A clock that the test sets."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", clock.monotonic)
    return clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_come_every_ten_seconds_and_at_the_end(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("a.tif", "tiles") as progress:
        for done in range(31):
            progress(done, 30)
            clock.now += 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "a.tif: 10/30 tiles (1.0/s, 20 s left)",
        "a.tif: 20/30 tiles (1.0/s, 10 s left)",
        "a.tif: 30/30 tiles (1.0/s)",
    ]


def test_what_was_done_before_does_not_count_as_speed(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("a.tif", "tiles") as progress:
        progress(1000, 1040)
        clock.now = 10
        progress(1020, 1040)
    assert capsys.readouterr().err == "a.tif: 1020/1040 tiles (2.0/s, 10 s left)\n"


def test_the_speed_is_that_of_the_task_and_not_of_what_came_before(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("encoding", "tiles") as progress:
        for start in (1000, 3000):
            clock.now = start
            progress(0, 30)
            clock.now += 10
            progress(20, 30)
    assert capsys.readouterr().err.splitlines() == [
        "encoding: 0/30 tiles",
        "encoding: 20/30 tiles (2.0/s, 5 s left)",
        "encoding: 0/30 tiles",
        "encoding: 20/30 tiles (2.0/s, 5 s left)",
    ]


def test_slow_work_has_a_speed_too(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("a.tif", "tiles") as progress:
        progress(0, 3)
        clock.now = 50
        progress(2, 3)
    assert capsys.readouterr().err == "a.tif: 2/3 tiles (0.04/s, 25 s left)\n"


def test_nothing_to_do(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("a.tif", "tiles") as progress:
        progress(7, 7)
        progress(7, 7)
    assert capsys.readouterr().err == "a.tif: 7/7 tiles\n"


def test_bytes_are_shown_in_megabytes(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("vit_b", BYTES) as progress:
        progress(0, 375_042_383)
        clock.now = 20
        progress(100_000_000, 375_042_383)
    assert capsys.readouterr().err == "vit_b: 100/375 MB (5.0 MB/s, 55 s left)\n"


def test_shares_have_no_speed(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("training", PERCENT) as progress:
        for done, seconds in ((0, 0.0), (40, 20.0), (100, 50.0)):
            clock.now = seconds
            progress(done, 100)
    assert capsys.readouterr().err == "training: 40/100 % (30 s left)\ntraining: 100/100 %\n"


def test_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("a.tif", "tiles") as progress:
        progress(5, 10)
        progress(7, 10)
        progress(10, 10)
    shown = terminal.getvalue()
    assert "a.tif:  50%" in shown and "5/10" in shown and "100%" in shown and "10/10" in shown
    assert "a.tif: 10/10 tiles" not in shown and shown.endswith("\n")


def test_a_second_task_gets_a_bar_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("encoding", "tiles") as progress:
        for total in (2, 8):
            for done in range(total + 1):
                progress(done, total)
    assert "2/2" in terminal.getvalue() and "8/8" in terminal.getvalue()


def test_a_failure_leaves_the_cursor_on_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with pytest.raises(ValueError, match="broken"), Progress("a.tif", "tiles") as progress:
        progress(3, 10)
        raise ValueError("broken")
    assert terminal.getvalue().endswith("\n")


@pytest.mark.parametrize(("seconds", "lines"), [("1", 30), ("15", 2), ("often", 3)])
def test_the_interval_between_lines_can_be_set(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, seconds: str, lines: int
) -> None:
    monkeypatch.setenv(module.SECONDS_VARIABLE, seconds)
    with Progress("a.tif", "tiles") as progress:
        for done in range(31):
            progress(done, 30)
            clock.now += 1
    assert len(capsys.readouterr().err.splitlines()) == lines
