"""What the tests of the tools share: a model whose answers are known, and the command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import shapely
from click.testing import CliRunner, Result

from encoder_tools.cli.app import cli
from tests.encoder_tools.scenes import Block, scene, transform_of, write_model, write_raster

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
        # Any other exception would be a traceback for the user.
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run_command


@pytest.fixture
def spawn(tmp_path_factory: pytest.TempPathFactory) -> Spawn:
    """Run a command as a user does, in a process of its own, with temporary files where they can be counted."""
    temporary = tmp_path_factory.mktemp("temporary files")

    def spawn_command(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "TMPDIR": str(temporary), **options.pop("env", {})}
        command = [sys.executable, "-m", "encoder_tools.cli", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, **options)
        # onnxruntime keeps its sessions in a .ses file, which is not ours.
        assert not [path.name for path in temporary.iterdir() if path.name != ".ses"]
        return done

    return spawn_command


class Ortho(NamedTuple):
    """An orthophoto with one bright object, and its store."""

    image: Path
    store: Path
    block: Block

    @property
    def truth(self) -> shapely.Geometry:
        return self.block.on_map(transform_of(self.image))

    @property
    def centre(self) -> tuple[float, float]:
        return self.block.centre(transform_of(self.image))

    @property
    def click(self) -> str:
        """The option that clicks on the object."""
        return "--point={},{}".format(*self.centre)


@pytest.fixture(scope="session")
def made_ortho(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Ortho:
    folder = tmp_path_factory.mktemp("ortho")
    block = Block(100, 80, 60, 40)
    image = write_raster(folder / "ortho.tif", scene(300, 200, [block]))
    result = CliRunner().invoke(cli, ["encode", str(image), "--model", str(model)])
    assert result.exit_code == 0, result.stderr
    return Ortho(image, folder / "ortho.embeddings.zarr", block)


@pytest.fixture
def ortho(made_ortho: Ortho, tmp_path: Path) -> Ortho:
    """A copy that a test may damage."""
    folder = tmp_path / "ortho"
    shutil.copytree(made_ortho.image.parent, folder)
    return Ortho(folder / "ortho.tif", folder / "ortho.embeddings.zarr", made_ortho.block)
