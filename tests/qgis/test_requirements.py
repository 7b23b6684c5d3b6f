"""Installing the requirements keeps the numpy of QGIS."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import contourpy
import numpy as np
import onnxruntime
import shapely

ROOT = Path(__file__).resolve().parents[2]


def test_numpy_is_that_of_qgis() -> None:
    """This environment has requirements.txt on top of the packages of QGIS."""
    system = [sys.base_prefix + "/bin/python3", "-c", "import numpy; print(numpy.__version__)"]
    found = subprocess.run(system, capture_output=True, text=True, check=True).stdout.strip()
    assert np.__version__ == found
    assert Path(sys.prefix) not in Path(np.__file__).parents


def test_nothing_is_missing() -> None:
    assert all(module.__version__ for module in (onnxruntime, shapely, contourpy))
    assert shapely.__version__ >= "2"


def test_pip_would_not_touch_numpy_where_contourpy_is_missing(tmp_path: Path) -> None:
    """contourpy comes with matplotlib, which is not part of every QGIS."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "--report", "-"]
    pins = tmp_path / "constraints.txt"
    pins.write_text(f"numpy=={np.__version__}\n", encoding="utf-8")
    result = subprocess.run(
        [*command, "-r", str(ROOT / "requirements.txt"), "-c", str(pins), "--only-binary", ":all:"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    chosen = {
        item["metadata"]["name"].lower(): item["metadata"]["version"] for item in json.loads(result.stdout)["install"]
    }
    assert chosen["numpy"] == np.__version__
    assert {"onnxruntime", "shapely", "contourpy"} <= set(chosen)
