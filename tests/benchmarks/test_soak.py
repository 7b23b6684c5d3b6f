"""The soak test in its short form: a few kills, a full disk and some clicks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.soak import click_often, fill_disk, kill_often
from tests.encoder_tools.scenes import ramp, write_model, write_raster

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc and mounts small disks")


@pytest.fixture
def encode(tmp_path: Path) -> list[str]:
    image = write_raster(tmp_path / "wide.tif", ramp(3, 1800, 2600))
    model = write_model(tmp_path / "bright")
    return [sys.executable, "-m", "encoder_tools.cli", "encode", str(image), "--model", str(model), "--resume"]


def test_kills(encode: list[str], tmp_path: Path) -> None:
    (tmp_path / "kills").mkdir()
    found = kill_often(tmp_path / "kills", encode, tmp_path / "wide.embeddings.zarr", 2, 1.5)
    assert found["kills"] == 2 and found["completed"] >= 1


def test_full_disks(encode: list[str], tmp_path: Path) -> None:
    (tmp_path / "disks").mkdir()
    try:
        found = fill_disk(tmp_path / "disks", [*encode, "-o"], "wide.embeddings.zarr", [2_000_000])
    except subprocess.CalledProcessError as error:
        if error.cmd[0] != "mount" or os.geteuid() == 0:
            raise
        pytest.skip("a small disk can only be mounted as root")
    assert found == {"disks": 1, "full": 1, "resumed": 1}


def test_clicks(tmp_path: Path) -> None:
    found = click_often(tmp_path, 60, 4)
    assert found["clicks"] == 60 and found["tiles"] == 4
    assert found["files_end"] == found["files_start"] and found["p99_end_ms"] > 0
