"""What must be installed beside QGIS for prompts to be answered."""

from __future__ import annotations

import importlib
import importlib.util
from importlib import metadata

from .messages import tr

__all__ = ["REQUIRED", "missing_packages", "missing_text"]

REQUIRED = ("onnxruntime", "shapely", "contourpy")
_SHAPELY_MAJOR = 2


def missing_packages() -> list[str]:
    """Return the packages that are not installed now.

    They may have been installed since QGIS was started, so nothing is remembered.
    """
    importlib.invalidate_caches()
    missing = [name for name in REQUIRED if importlib.util.find_spec(name) is None]
    # Some systems still come with shapely 1, which has no function for arrays of geometries.
    if "shapely" not in missing and int(metadata.version("shapely").split(".")[0]) < _SHAPELY_MAJOR:
        missing.append(f"'shapely>={_SHAPELY_MAJOR}'")
    return missing


def missing_text(missing: list[str]) -> str:
    """Say what to install, and how."""
    return tr(
        "Not installed in QGIS's Python: {names}. Install with the plugin QPIP, or in a terminal (on Windows the "
        "OSGeo4W shell): python3 -m pip install --user {names}. Then press the button again; no restart is needed."
    ).format(names=" ".join(missing))
