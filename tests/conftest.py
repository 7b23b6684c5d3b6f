"""Settings for all tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# No deadline: test machines are shared, so the time of one example means nothing.
# The same examples in every run, so that a test fails because of a change and not by chance.
settings.register_profile(
    "geosam_es", deadline=None, max_examples=50, derandomize=not os.environ.get("GEOSAM_ES_RANDOM_EXAMPLES")
)
settings.load_profile("geosam_es")

if "PYTEST_XDIST_WORKER" in os.environ:
    # There is a worker for each core: more threads of PyTorch would wait for each other, many times as long.
    os.environ["OMP_NUM_THREADS"] = "1"

DATA_VARIABLE = "GEOSAM_ES_DATA"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Return the folder of real orthophotos with ground truth; the README says where they come from."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get(DATA_VARIABLE) or default)
    if not folder.is_dir():
        pytest.skip(f"no real orthophotos here: set {DATA_VARIABLE} to their folder")
    return folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder that holds 1.2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1200k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk can only be mounted as root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
