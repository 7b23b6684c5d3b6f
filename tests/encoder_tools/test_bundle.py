"""The zip for offices without network, made from a folder of wheels."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from encoder_tools.bundle import main, make_bundle
from tests.wheels import make_wheel

TAGS = {
    "linux_x86_64": "manylinux_2_28_x86_64",
    "win_amd64": "win_amd64",
    "macosx_14_0_arm64": "macosx_11_0_arm64",
    "macosx_14_0_x86_64": "macosx_10_13_x86_64",
}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of the package index, with wheels of all platforms."""
    folder = tmp_path / "index"
    for platform in TAGS.values():
        for name in ("contourpy", "shapely", "onnxruntime"):
            make_wheel(folder, name, tag=f"cp312-cp312-{platform}")
    make_wheel(folder, "pip")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "plugin.zip"
    path.write_bytes(b"the plugin")
    return path


@pytest.mark.parametrize(
    ("platform", "tag"),
    [("macosx_14_0_arm64", "macosx_14_0_arm64"), ("linux", "linux_x86_64"), ("Win", "win_amd64")],
)
def test_the_wheels_of_a_platform_and_their_hashes(
    index: Path, plugin: Path, tmp_path: Path, platform: str, tag: str
) -> None:
    path = make_bundle(plugin, "3.12", platform, tmp_path / "out")
    assert path == tmp_path / "out" / f"geosam_es-py3.12-{tag}.zip"
    wheels = [f"{name}-cp312-cp312-{TAGS[tag]}.whl" for name in ("contourpy-1.2.0", "onnxruntime-1.20.0")]
    wheels += ["pip-99.0-py3-none-any.whl", f"shapely-2.1.0-cp312-cp312-{TAGS[tag]}.whl"]
    with zipfile.ZipFile(path) as bundle:
        assert sorted(bundle.namelist()) == sorted(
            ["geosam_es.zip", "wheels/requirements.txt", *(f"wheels/{name}" for name in wheels)]
        )
        assert bundle.read("geosam_es.zip") == b"the plugin"
        lines = bundle.read("wheels/requirements.txt").decode().splitlines()
    digests = [hashlib.sha256((index / name).read_bytes()).hexdigest() for name in wheels]
    names = ["{}=={}".format(*name.split("-")[:2]) for name in wheels]
    assert lines == [f"{name} --hash=sha256:{digest}" for name, digest in zip(names, digests)]


def test_macos_is_both_processors(index: Path, plugin: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(make_bundle(plugin, "3.12", "mac", tmp_path)) as bundle:
        names = bundle.namelist()
        lines = bundle.read("wheels/requirements.txt").decode().splitlines()
    assert sum("arm64" in name for name in names) == sum("x86_64" in name for name in names) == 3
    assert [line.partition(" --hash")[0] for line in lines if line.startswith("shapely")] == [
        'shapely==2.1.0 ; platform_machine == "arm64"',
        'shapely==2.1.0 ; platform_machine == "x86_64"',
    ]


@pytest.mark.parametrize(
    ("python", "platform", "sentence"),
    [
        ("3.12", "win_arm64", "Error: there are no wheels for Python 3.12 on win_arm64"),
        ("python3", "win", "Error: python3 is not a version of Python: add, for example, PYTHON=3.12"),
    ],
)
def test_what_cannot_be_made_is_one_sentence(
    index: Path,
    plugin: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    python: str,
    platform: str,
    sentence: str,
) -> None:
    assert main([str(plugin), "--python", python, "--platform", platform, "--out", str(tmp_path)]) == 2
    assert capfd.readouterr().err.splitlines()[-1] == sentence
    assert not list(tmp_path.glob("geosam_es-*"))
