"""What the tests of the tools share: a model whose answers are known, and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from encoder_tools.cli.app import cli
from tests.encoder_tools.scenes import write_model

Run = Callable[..., Result]
Spawn = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the model of `scenes`."""
    return write_model(tmp_path_factory.mktemp("model") / "bright")


@pytest.fixture
def run() -> Run:
    """Run a command in this process."""

    def run_command(*arguments: object) -> Result:
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="geosam-es")
        # Whatever is no exit of ours is a traceback for the user.
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run_command


@pytest.fixture
def spawn(tmp_path: Path) -> Spawn:
    """Run a command as a user does, in a process of its own, with temporary files where they can be counted."""
    temporary = tmp_path / "temporary files"
    temporary.mkdir()

    def spawn_command(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "TMPDIR": str(temporary)}
        command = [sys.executable, "-m", "encoder_tools.cli", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, **options)
        assert not any(temporary.iterdir()), "temporary files are left"
        return done

    return spawn_command
