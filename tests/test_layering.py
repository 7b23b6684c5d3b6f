"""Who may import whom, and what must work with only numpy and shapely installed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "geosam_es"
OWN = {"geosam_es", "encoder_tools", "benchmarks", "tests"}
BLOCKED = ["qgis", "osgeo", "PyQt5", "PyQt6", "torch", "rasterio", "onnxruntime", "pyogrio", "pyproj", "scipy", "zarr"]


def test_import_contracts_hold() -> None:
    result = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@pytest.mark.parametrize("module", ["core.grid", "core.contour", "core.topology", "store", "inference.session"])
def test_core_store_and_session_need_no_heavy_package(module: str) -> None:
    code = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {BLOCKED!r}:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Block())
import geosam_es.{module}
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_inside_the_package_are_relative(path: Path) -> None:
    """Inside QGIS the package is ``geosam_es.geosam_es``, so an absolute import would miss it."""
    absolute = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        absolute += [name for name in names if name.split(".")[0] in OWN]
    assert absolute == []


def test_qgis_makes_transforms_in_one_place() -> None:
    """An invalid `QgsCoordinateTransform` gives coordinates back unchanged; `qgis_support.crs` checks every one."""
    makers = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and "QgsCoordinateTransform(" in f"{ast.unparse(node.func)}("
    ]
    assert set(makers) == {"qgis_support/crs.py"}


def test_what_is_installed() -> None:
    """All of `geosam_es` and `encoder_tools`, and neither benchmarks nor tests."""
    tomllib = pytest.importorskip("tomllib")
    setuptools = pytest.importorskip("setuptools")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    installed = setuptools.find_packages(str(ROOT), **settings["packages"]["find"])
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in ("geosam_es", "encoder_tools")
        for path in (ROOT / package).rglob("*.py")
    }
    assert set(installed) == folders
