"""Packages that are missing, too old, or installed but unable to load."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from geosam_es.qgis_support import dependencies
from geosam_es.qgis_support.dependencies import dependency_problem


def test_nothing_is_wrong_here() -> None:
    assert dependency_problem() is None


def test_the_plugin_loads_without_any_of_them() -> None:
    """And so it imports none before `dependency_problem` does, which keeps their libraries apart from QGIS's."""
    check = (
        "import sys; sys.modules.update(dict.fromkeys(('onnxruntime', 'shapely', 'contourpy')))\n"
        "import geosam_es.gui.plugin"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    find = dependencies.importlib.util.find_spec
    monkeypatch.setattr(dependencies.importlib.util, "find_spec", lambda name: None if name in names else find(name))


def test_missing_packages_are_named_together(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "onnxruntime", "contourpy")
    problem = dependency_problem()
    assert problem is not None
    assert problem.text.endswith("Missing Python packages: onnxruntime, contourpy")
    assert problem.packages == ("onnxruntime", "contourpy")


def test_an_old_shapely_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependencies.metadata, "version", lambda _name: "1.8.5")
    problem = dependency_problem()
    assert problem is not None and problem.text.endswith("Missing Python packages: shapely 2")
    assert problem.packages == ("shapely",)


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [("DLL load failed while importing _contourpy", "Visual C++"), ("no version information", "press Install")],
)
def test_a_package_that_does_not_load_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str, remedy: str
) -> None:
    """As where a DLL is missing. The remedy is one for the window, where the button is, not for a terminal."""
    (tmp_path / "contourpy.py").write_text(f"raise ImportError({reason!r})")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "contourpy", raising=False)
    problem = dependency_problem()
    assert problem is not None
    assert problem.text.startswith(f"contourpy is installed but does not load ({reason}")
    assert remedy in problem.text and "Missing" not in problem.text and "pip install" not in problem.text
    assert problem.packages == ("contourpy",)


@pytest.mark.parametrize("name", ["shapely", "contourpy"])
def test_a_folder_left_by_an_uninstall_is_no_package(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(of: str) -> str:
        raise metadata.PackageNotFoundError(of)

    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(dependencies.importlib.util, "find_spec", lambda _: ModuleSpec("found", None))
    monkeypatch.setattr(dependencies.metadata, "version", version)
    problem = dependency_problem()
    assert problem is not None and problem.text.startswith(f"{name} is installed but does not load (")


def test_a_package_built_for_another_numpy_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "contourpy.py").write_text("raise ValueError('numpy.dtype size changed')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "contourpy", raising=False)
    problem = dependency_problem()
    assert problem is not None and "does not work with NumPy" in problem.text


def test_the_window_run_covers_every_function_of_shapely() -> None:
    """Only QGIS's program mixes versions of GEOS, so every function that the plugin uses is run there."""
    package = Path(dependencies.__file__).resolve().parents[1]
    used = {
        name
        for path in package.rglob("*.py")
        for name in re.findall(r"\bshapely\.([a-z_]+)\(", path.read_text(encoding="utf-8"))
    }
    covered = runpy.run_path(str(Path(__file__).parent / "desktop" / "geometry.py"))["FUNCTIONS"]
    assert used - set(covered) == set()
