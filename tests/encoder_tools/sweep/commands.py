"""Running commands, which must work or must refuse."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from click.testing import CliRunner, Result

from encoder_tools.cli.app import cli
from tests.encoder_tools.sweep.model import write_spotlight
from tests.encoder_tools.sweep.rasters import Make
from tests.encoder_tools.sweep.scene import (
    Scene,
    files,
)

STORE = "s.embeddings.zarr"


def run(*arguments: object) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="geosam-es")


def works(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, f"{shown(arguments)}: rc {result.exit_code}: {result.stderr.splitlines()[-1:]}"
    return result


def refuses(*arguments: object, named: str = "", begun: bool = False) -> str:
    """Run a command that must fail in one sentence, leaving nothing behind, and return the sentence.

    ``begun`` allows for progress lines before it. Wrong options have click's three lines of usage before it.
    """
    before = files()
    result = run(*arguments)
    seen = f"{shown(arguments)}: rc {result.exit_code}: {(result.stdout + result.stderr)[-300:]!r}"
    lines = result.stderr.splitlines()
    if lines and lines[0].startswith("Usage: "):
        lines = lines[3:]
    if begun:
        lines = [line for line in lines if not re.search(r": \d+/\d+ (tiles|objects)", line)]
    assert result.exit_code == 2, seen
    assert lines and lines[-1].startswith("Error: ") and len(lines) == 1, seen
    assert "unexpected" not in lines[-1] and "Traceback" not in lines[-1], seen
    assert named in lines[-1], f"{named!r} is not named: {seen}"
    assert files() == before, f"left behind: {files() - before}"
    return lines[-1]


def shown(arguments: Sequence[object]) -> str:
    return shlex.join(["geosam-es", *map(str, arguments)])


def rows(table: Mapping[str, Any]) -> Any:
    return pytest.mark.parametrize("row", list(table.values()), ids=list(table))


def made(make: Make) -> tuple[Scene, list[str]]:
    found = make()
    return found if isinstance(found, tuple) else (found, [])


def encode(scene: Scene, *options: object) -> None:
    works("encode", scene.image, "-o", STORE, "--model", spotlight(), *options)


@cache
def spotlight() -> Path:
    """The folder of the fast model."""
    return write_spotlight(Path(_temporary.name) / "spotlight")


_temporary = TemporaryDirectory(prefix="geosam-es sweep ")


def shared(folder: Path, make: Callable[[], Scene], model: str | Path) -> tuple[Scene, Path]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        scene = make()
        works("encode", scene.image, "--model", model)
    finally:
        os.chdir(before)
    return scene, folder / "a.embeddings.zarr"
