"""Installing the Python packages from a folder or zip of wheels, with pip in a process."""

from __future__ import annotations

import hashlib
import platform
import shutil
import sys
import threading
import venv
import zipfile
from pathlib import Path

import pytest

from geosam_es.gui.panel.install_message import InstallMessage
from geosam_es.qgis_support import installation
from geosam_es.qgis_support.dependencies import DependencyProblem
from geosam_es.qgis_support.installation import Installation, python_of_qgis
from tests.qgis.support import Interface, wait_until
from tests.wheels import VERSIONS, make_wheel


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "profile" / "packages" / "tag"
    monkeypatch.setattr(installation, "packages_folder", lambda: place)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return place


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    for name in VERSIONS:
        make_wheel(tmp_path / "wheels", name)
    return tmp_path / "wheels"


def run(*packages: str, source: Path | None) -> tuple[str, Installation]:
    ends: list[str] = []
    one = Installation(packages, source)
    one.finished.connect(ends.append)
    one.start()
    wait_until(lambda: ends)
    return ends[0], one


def zip_of(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, f"bundle/wheels/{file.name}")
    return path


@pytest.mark.parametrize("is_zip", [False, True])
def test_only_what_is_missing_is_installed_and_found_at_once(place: Path, wheels: Path, is_zip: bool) -> None:
    problem, done = run("contourpy", source=zip_of(wheels) if is_zip else wheels)
    assert problem == ""
    assert done.installed == ["contourpy 1.2.0"]
    assert sorted(path.name for path in place.iterdir()) == ["contourpy", "contourpy-1.2.0.dist-info"]
    assert sys.path[0] == str(place)
    assert list(place.parent.iterdir()) == [place]


def test_a_package_that_is_loaded_needs_a_restart(place: Path, wheels: Path) -> None:
    """The tests have imported contourpy; nothing imports the other one here."""
    assert "contourpy" in sys.modules
    assert run("contourpy", source=wheels)[1].needs_restart


def test_installing_again_replaces_the_package(place: Path, wheels: Path) -> None:
    run("contourpy", "shapely", source=wheels)
    (place / "contourpy" / "left.py").write_text("")
    assert run("contourpy", source=wheels)[0] == ""
    assert not (place / "contourpy" / "left.py").exists()
    assert (place / "shapely").is_dir()


def listed(wheels: Path, digest: str) -> None:
    """Write the list of a bundle for two processors."""
    lines = [
        f'contourpy==1.2.0 ; platform_machine {operator} "{platform.machine()}" --hash=sha256:{value}\n'
        for operator, value in (("==", digest), ("!=", "f" * 64))
    ]
    (wheels / "requirements.txt").write_text("".join(lines))


def test_hashes_beside_the_wheels_are_checked(place: Path, wheels: Path) -> None:
    listed(wheels, hashlib.sha256(next(wheels.glob("contourpy*")).read_bytes()).hexdigest())
    assert run("contourpy", source=wheels)[0] == ""
    listed(wheels, "0" * 64)
    problem, _ = run("contourpy", source=wheels)
    assert "its hash is not the listed one" in problem and str(wheels) in problem
    assert "\n" not in problem


def test_a_wheel_of_another_python_is_refused_in_one_sentence(place: Path, tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels", "contourpy", tag="cp27-cp27m-win32")
    problem, _ = run("contourpy", source=tmp_path / "wheels")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert problem.startswith(f"There is no wheel of contourpy for Python {version} on ")
    assert f"make bundle PYTHON={version} PLATFORM=linux" in problem and "\n" not in problem
    assert not place.exists()


def test_a_package_that_does_not_import_is_not_put_in_place(place: Path, tmp_path: Path) -> None:
    body = "raise ImportError('DLL load failed while importing _x')"
    make_wheel(tmp_path / "wheels", "contourpy", body=body)
    problem, _ = run("contourpy", source=tmp_path / "wheels")
    assert problem.startswith("contourpy is installed but does not load (DLL load failed") and "Visual C++" in problem
    assert list(place.parent.iterdir()) == []


def test_a_wheel_that_does_not_work_is_named(place: Path, tmp_path: Path) -> None:
    """With a remedy for offices: no terminal, no index."""
    wheel = make_wheel(tmp_path / "wheels", "contourpy", body="raise ImportError('undefined symbol: x')")
    problem, _ = run("contourpy", source=tmp_path / "wheels")
    assert problem.startswith("contourpy is installed but does not load (undefined symbol: x): replace " + wheel.name)
    assert "make bundle" in problem and "pip install" not in problem
    assert list(place.parent.iterdir()) == []


def test_a_crash_of_the_new_packages_is_reported(place: Path, tmp_path: Path) -> None:
    make_wheel(tmp_path / "wheels", "contourpy", body="import os; os._exit(3)")
    problem, _ = run("contourpy", source=tmp_path / "wheels")
    assert problem.startswith("The new packages make Python crash") and "replace contourpy-1.2.0" in problem


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_folder_that_cannot_be_written(place: Path, wheels: Path) -> None:
    place.parent.mkdir(parents=True)
    place.symlink_to(place.parent / "nowhere" / "at all")
    problem, _ = run("contourpy", source=wheels)
    assert problem.startswith(f"The packages cannot be written to {place} (") and "restart QGIS" in problem
    assert list(place.parent.iterdir()) == [place]


@pytest.mark.parametrize(("name", "sentence"), [("empty", "no Python wheels"), ("no.zip", "not a zip")])
def test_a_source_without_wheels(place: Path, tmp_path: Path, name: str, sentence: str) -> None:
    source = tmp_path / name
    if source.suffix:
        source.write_bytes(b"nothing")
    else:
        source.mkdir()
    problem, _ = run("contourpy", source=source)
    assert sentence in problem and str(source) in problem


def test_without_network_it_says_so(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    problem, _ = run("contourpy", source=None)
    assert problem.startswith("The package index cannot be reached: check the network and the proxy")


def test_the_index_of_pip_is_used(place: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And settings that do not go with a folder do no harm."""
    for name, value in (("FIND_LINKS", str(wheels)), ("NO_INDEX", "1"), ("USER", "1"), ("REQUIRE_VIRTUALENV", "1")):
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    assert run("contourpy", source=None)[0] == ""


def test_a_python_without_pip(place: Path, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    venv.create(tmp_path / "bare")
    monkeypatch.setattr(installation, "python_of_qgis", lambda: str(tmp_path / "bare" / "bin" / "python"))
    problem, _ = run("contourpy", source=wheels)
    assert problem.startswith("The Python of QGIS comes without pip: install pip (on Debian")


@pytest.mark.parametrize("executable", ["qgis", "python3"])
def test_the_python_is_that_of_qgis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executable: str) -> None:
    """The program may be QGIS itself, or another Python that comes first in PATH."""
    (tmp_path / executable).write_text("")
    monkeypatch.setattr(sys, "executable", str(tmp_path / executable))
    assert Path(python_of_qgis()).parent == Path(sys.exec_prefix, "bin")


def test_pip_among_the_wheels_is_enough(
    place: Path, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands in for the pip that some builds of QGIS lack."""
    venv.create(tmp_path / "bare")
    monkeypatch.setattr(installation, "python_of_qgis", lambda: str(tmp_path / "bare" / "bin" / "python"))
    unpack = "import sys, zipfile, glob\nto = sys.argv[sys.argv.index('--target') + 1]\n"
    unpack += f"zipfile.ZipFile(glob.glob({str(wheels)!r} + '/contourpy*')[0]).extractall(to)\n"
    with zipfile.ZipFile(wheels / "pip-99.0-py3-none-any.whl", "w") as pip:
        pip.writestr("pip/__init__.py", "")
        pip.writestr("pip/__main__.py", unpack)
    assert run("contourpy", source=wheels)[0] == ""


class TestMessage:
    PROBLEM = DependencyProblem("The plugin needs contourpy", ("contourpy",))

    def test_one_message_however_often_it_is_shown(self, iface: Interface) -> None:
        message = InstallMessage(iface.bar, lambda: None)
        for _ in range(3):
            message.show(self.PROBLEM)
        assert iface.messages() == ["The plugin needs contourpy"]

    def test_the_end_is_said(self, iface: Interface, place: Path, wheels: Path) -> None:
        message = InstallMessage(iface.bar, lambda: None)
        message.show(self.PROBLEM)
        message.install(wheels)
        message.show(self.PROBLEM)
        assert len(iface.messages()) == 1
        wait_until(lambda: message.installation is None)
        assert iface.messages() == ["Installed: contourpy 1.2.0. Restart QGIS to use them."]

    def test_after_a_failure_it_can_be_tried_again(self, iface: Interface, place: Path, tmp_path: Path) -> None:
        message = InstallMessage(iface.bar, lambda: None)
        message.show(self.PROBLEM)
        message.install(tmp_path)
        wait_until(lambda: message.installation is None)
        assert "no Python wheels" in iface.messages()[0]
        assert len(iface.messages()) == 1
        make_wheel(tmp_path / "wheels", "contourpy")
        message.install(tmp_path)
        wait_until(lambda: message.installation is None)
        assert iface.messages()[0].startswith("Installed: contourpy")

    def test_cancelling_leaves_nothing_and_the_window_free(
        self, iface: Interface, place: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        remove, removed_by = shutil.rmtree, []

        def rmtree(folder: Path, **options: bool) -> None:
            removed_by.append(threading.current_thread())
            remove(folder, **options)

        monkeypatch.setattr(installation.shutil, "rmtree", rmtree)
        message = InstallMessage(iface.bar, lambda: None)
        message.show(self.PROBLEM)
        message.install(wheels)
        message.close()
        assert message.installation is None
        assert iface.messages() == []
        wait_until(lambda: list(place.parent.iterdir()) == [])
        assert removed_by and threading.main_thread() not in removed_by
