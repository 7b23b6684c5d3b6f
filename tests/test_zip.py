"""The zip that QGIS installs: its contents, its metadata, and the scans of the plugin repository."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from encoder_tools.translations import read_translations

ROOT = Path(__file__).resolve().parents[1]
MAX_BYTES = 25 * 2**20
LRELEASE = ["/usr/lib/qt5/bin/lrelease", "/usr/lib/qt6/bin/lrelease", "lrelease-qt5", "lrelease"]
TOP_LEVEL = [
    *("__init__.py", "metadata.txt", "requirements.txt", "resources.qrc", "LICENSE", "README.md", "CHANGELOG.md"),
    "geosam_es",
]
REQUIRED_KEYS = [
    "name",
    "qgisMinimumVersion",
    "description",
    "description[es]",
    "about",
    "about[es]",
    "version",
    "author",
    "email",
    "repository",
    "tracker",
    "homepage",
    "tags",
    "icon",
]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if os.geteuid() != 0 and not any(shutil.which(name) for name in LRELEASE):
        pytest.skip("lrelease is not installed: sudo apt-get install qttools5-dev-tools")
    path = tmp_path_factory.mktemp("zip") / "geosam_es.zip"
    result = subprocess.run(["make", "zip", f"ZIP={path}"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return path


@pytest.fixture(scope="module")
def unpacked(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(archive) as content:
        content.extractall(folder)
    return folder / "geosam_es"


def test_contents(archive: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        names = content.namelist()
    assert all(name.startswith("geosam_es/") for name in names)
    for needed in ["__init__.py", "metadata.txt", "LICENSE", "requirements.txt", "geosam_es/models/mini/decoder.onnx"]:
        assert f"geosam_es/{needed}" in names
    at_the_top = {name.split("/")[1] for name in names}
    assert at_the_top <= {"", *TOP_LEVEL}
    unwanted = re.compile(r"__pycache__|\.pyc$|\.so$|\.dll$|\.exe$|/\.")
    assert [name for name in names if unwanted.search(name)] == []
    assert archive.stat().st_size <= MAX_BYTES


@pytest.mark.parametrize("page", ["index.html", "index.es.html"])
def test_the_help_has_its_pictures(unpacked: Path, page: str) -> None:
    folder = unpacked / "geosam_es" / "help"
    pictures = re.findall(r'<img src="([^"]+)" alt="[^"]+">', (folder / page).read_text(encoding="utf-8"))
    assert len(pictures) >= 3
    for name in pictures:
        picture = (folder / name).read_bytes()
        assert picture.startswith(b"\xff\xd8\xff") and len(picture) <= 60 * 1024


def test_translations_are_built(unpacked: Path) -> None:
    """Every committed Spanish text is in the file that Qt reads."""
    sources = sorted((unpacked / "geosam_es" / "i18n").glob("*.ts"))
    assert [path.name for path in sources] == ["geosam_es_es.ts"]
    for source in sources:
        built = source.with_suffix(".qm").read_bytes()
        assert built.startswith(bytes.fromhex("3cb86418caef9c95cd211cbf60a1bddd"))
        for translation in read_translations(source).values():
            assert translation.encode("utf-16-be") in built


def test_metadata_are_complete(unpacked: Path) -> None:
    metadata = configparser.ConfigParser(interpolation=None)
    metadata.read(unpacked / "metadata.txt", encoding="utf-8")
    general = metadata["general"]
    assert [key for key in REQUIRED_KEYS if not general.get(key, "").strip()] == []
    assert (unpacked / general["icon"]).is_file()
    # Without the plugin repository, QGIS 3.22 cannot install a plugin that depends on another.
    assert "plugin_dependencies" not in general
    version = re.search(r'__version__ = "(.+)"', (unpacked / "geosam_es" / "__init__.py").read_text(encoding="utf-8"))
    assert version is not None and version[1] == general["version"]
    assert f'\nversion = "{version[1]}"\n' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert "onnxruntime" in general["about"] and "onnxruntime" in general["about[es]"]


def test_bandit_finds_nothing(unpacked: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "bandit", "-q", "-r", "-f", "json", str(unpacked)],
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(result.stdout)
    assert [(item["filename"], item["line_number"], item["issue_text"]) for item in found["results"]] == []
    assert found["errors"] == []


def test_detect_secrets_finds_nothing(unpacked: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "detect_secrets", "scan", "--all-files", "."],
        cwd=unpacked,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(result.stdout)["results"] == {}
