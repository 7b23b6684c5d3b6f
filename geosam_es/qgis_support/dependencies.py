"""What must be installed beside QGIS for prompts to be answered."""

from __future__ import annotations

import importlib
import importlib.util
from importlib import metadata
from pathlib import Path

from .messages import tr

__all__ = ["REQUIRED", "install_text", "missing_packages", "missing_text"]

REQUIRED = ("onnxruntime", "shapely", "contourpy")
_SHAPELY_MAJOR = 2
_REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements.txt"


def missing_packages() -> list[str]:
    """Return the packages that are not installed now.

    They may have been installed since QGIS was started, so nothing is remembered.
    """
    importlib.invalidate_caches()
    missing = [name for name in REQUIRED if importlib.util.find_spec(name) is None]
    # Some systems still come with shapely 1, which has no function for arrays of geometries.
    if "shapely" not in missing and int(metadata.version("shapely").split(".")[0]) < _SHAPELY_MAJOR:
        missing.append(f"shapely {_SHAPELY_MAJOR}")
    return missing


def missing_text(missing: list[str]) -> str:
    """Say what is to be installed."""
    return tr(
        "Not installed in QGIS's Python: {names}. Install with the plugin QPIP or with pip, then press the button "
        "again; no restart is needed."
    ).format(names=", ".join(missing))


def install_text() -> str:
    """Say how it is installed without the plugin QPIP."""
    return tr(
        "In a terminal, on Windows the OSGeo4W shell:\n\n{command}\n\nOn Debian and Ubuntu add "
        "--break-system-packages. The file keeps pip from replacing QGIS's own numpy."
    ).format(command=f'python3 -m pip install --user -r "{_REQUIREMENTS}"')
