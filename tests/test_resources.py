"""The Qt resource file and the icons."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]


def test_every_icon_is_listed_under_its_name() -> None:
    listed = {file.text: file.get("alias") for file in ElementTree.parse(ROOT / "resources.qrc").iter("file")}
    icons = {path.relative_to(ROOT).as_posix(): path.name for path in (ROOT / "geosam_es" / "icons").iterdir()}
    assert icons and listed == icons
