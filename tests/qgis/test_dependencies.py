"""Packages that are missing, too old, or installed but unable to load."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from geosam_es.qgis_support import dependencies
from geosam_es.qgis_support.dependencies import dependency_problem


def test_nothing_is_wrong_here() -> None:
    assert dependency_problem() is None


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    find = dependencies.importlib.util.find_spec
    monkeypatch.setattr(dependencies.importlib.util, "find_spec", lambda name: None if name in names else find(name))


def test_missing_packages_are_named_together(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "onnxruntime", "contourpy")
    problem = dependency_problem()
    assert problem is not None
    assert problem.text.startswith("Not installed in QGIS's Python: onnxruntime, contourpy. Install with")
    assert Path(problem.details.split('"')[1]).is_file()


def test_an_old_shapely_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependencies.metadata, "version", lambda _name: "1.8.5")
    problem = dependency_problem()
    assert problem is not None and "Not installed in QGIS's Python: shapely 2." in problem.text


def test_the_remains_of_a_shapely_count_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An uninstall that failed halfway leaves a folder without metadata."""

    def version(name: str) -> str:
        raise dependencies.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(dependencies.metadata, "version", version)
    problem = dependency_problem()
    assert problem is not None and "Not installed in QGIS's Python: shapely 2." in problem.text


@pytest.fixture
def broken_contourpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that Python finds and cannot load, as where a DLL is missing."""
    (tmp_path / "contourpy.py").write_text("raise ImportError('DLL load failed while importing _contourpy')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "contourpy", raising=False)


@pytest.mark.parametrize(
    ("platform", "remedy"), [("linux", "--force-reinstall --no-deps contourpy"), ("win32", "Visual C++")]
)
def test_a_package_that_does_not_load_is_not_called_missing(
    broken_contourpy: None, monkeypatch: pytest.MonkeyPatch, platform: str, remedy: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    problem = dependency_problem()
    assert problem is not None
    assert problem.text.startswith("contourpy is installed but does not load (DLL load failed while importing")
    assert remedy in problem.text and "Not installed" not in problem.text
