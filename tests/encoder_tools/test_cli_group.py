"""Errors as messages and exit codes."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from encoder_tools.cli import group as module
from encoder_tools.cli.app import cli
from encoder_tools.cli.group import CommandGroup, report_fault
from geosam_es.errors import StoreError
from tests.encoder_tools.conftest import Spawn


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("platformdirs.user_log_path", lambda *args, **options: tmp_path / "logs")
    return tmp_path / "logs" / "geosam-es.log"


def run(error: BaseException, *arguments: str, name: str = "command", options: Sequence[str] = ()) -> Result:
    @click.group(cls=CommandGroup)
    def cli() -> None:
        pass

    def command(**given: object) -> None:
        raise error

    cli.add_command(click.Command(name, callback=command, params=[click.Option([option]) for option in options]))

    result = CliRunner().invoke(cli, list(arguments) or ["command"])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_errors_of_the_user_are_one_sentence(log: Path) -> None:
    result = run(StoreError("a.zarr is damaged", "copy it again"))
    assert (result.exit_code, result.stderr) == (2, "Error: a.zarr is damaged: copy it again\n")
    assert not log.exists()


def test_errors_of_the_file_system_name_the_file_and_a_remedy(log: Path) -> None:
    for number, remedy in ((errno.EACCES, "check its name and its permissions"), (errno.ENOSPC, "free some space")):
        result = run(OSError(number, "why", "a.onnx"))
        assert (result.exit_code, result.stderr) == (2, f"Error: a.onnx cannot be used (why): {remedy}\n")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_without_a_file(log: Path, number: int) -> None:
    result = run(OSError(number, "why"))
    assert (result.exit_code, result.stderr) == (2, "Error: The disk is full (why): free some space\n")


@pytest.mark.parametrize("error", [KeyError("model"), ValueError("two\nlines"), RecursionError(), MemoryError()])
def test_any_other_error_is_one_sentence_with_a_log_file(log: Path, error: Exception) -> None:
    result = run(error)
    assert result.exit_code == 1 and result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Error: An unexpected error occurred ({type(error).__name__}: ")
    assert line.endswith(f": please report it with the log file {log}")
    text = log.read_text()
    assert "Traceback" in text and type(error).__name__ in text and "in command" in text


def test_a_log_that_cannot_be_written_hides_no_error(log: Path) -> None:
    log.parent.parent.joinpath("logs").touch()
    result = run(KeyError("model"))
    assert result.exit_code == 1 and result.stderr.splitlines()[0].endswith("please report it")


def test_the_log_stays_small(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_LOG_BYTES", 100)
    for name in ("first", "second", "third"):
        report_fault(ValueError(name * 50))
    assert "third" in log.read_text() and "first" not in log.read_text()


def test_errors_of_click_are_kept(log: Path) -> None:
    assert run(ValueError(), "--unknown").exit_code == 2
    assert run(ValueError(), "--help").exit_code == 0
    assert run(click.Abort()).exit_code == 1
    assert run(KeyboardInterrupt()).exit_code == 130
    assert not log.exists()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("encode", ["--resume"], "Interrupted. Finished work is kept: continue with --resume."),
        ("repair", [], "Interrupted. Finished work is kept: run the command again to go on."),
        ("segment", [], "Interrupted. An incomplete output is not kept."),
    ],
)
def test_an_interrupted_command_says_what_is_kept(name: str, options: list[str], message: str) -> None:
    result = run(KeyboardInterrupt(), name, name=name, options=options)
    assert (result.exit_code, result.stderr) == (130, f"{message}\n")


@pytest.mark.parametrize("group", [[], ["decoder"], ["models"]])
def test_no_command_is_described_by_half_a_sentence(group: list[str]) -> None:
    result = CliRunner().invoke(cli, [*group, "--help"])
    commands = result.output.split("Commands:")[1]
    assert result.exit_code == 0 and "..." not in commands
    assert len(commands.split("\n  ")) == len(commands.splitlines()), "each has one line"


@pytest.mark.parametrize("error", ["ImportError", "OSError", "ValueError"])
def test_a_package_that_does_not_load_is_reported(
    spawn: Spawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    (tmp_path / "rasterio.py").write_text(f"raise {error}('no libgdal')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = spawn("info", "a.embeddings.zarr")
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: A package that geosam-es needs does not load ({error}: no libgdal): install")
    assert len(done.stderr.splitlines()) == 1
