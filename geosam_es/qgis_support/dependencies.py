"""Checks the Python packages that the plugin needs besides those of QGIS."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from .messages import tr

__all__ = ["REQUIRED", "Problem", "dependency_problem"]

REQUIRED = ("onnxruntime", "shapely", "contourpy")
_SHAPELY_MAJOR = 2
_REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements.txt"


class Problem(NamedTuple):
    """Why the plugin cannot start yet.

    Attributes
    ----------
    text : str
        What is wrong and what to do, in one or two sentences.
    details : str
        How to do it step by step.
    """

    text: str
    details: str


def dependency_problem() -> Problem | None:
    """Return what keeps the plugin from starting, or None.

    A package may be missing, too old, or installed and unable to load. Nothing is cached: the user may install packages
    while QGIS runs. onnxruntime is not imported, which would delay the start of QGIS; `load_onnxruntime` reports if it
    does not load.
    """
    importlib.invalidate_caches()
    missing = [name for name in REQUIRED if importlib.util.find_spec(name) is None]
    # Some systems still ship shapely 1, which has no functions on arrays of geometries.
    if "shapely" not in missing and int(metadata.version("shapely").split(".")[0]) < _SHAPELY_MAJOR:
        missing.append(f"shapely {_SHAPELY_MAJOR}")
    if missing:
        return _missing(missing)
    for name in REQUIRED[1:]:
        try:
            importlib.import_module(name)
        except ImportError as error:
            return _not_loading(name, error)
    return None


def _missing(names: list[str]) -> Problem:
    text = tr(
        "Not installed in QGIS's Python: {names}. Install with the plugin QPIP or with pip, then press the button "
        "again; no restart is needed."
    )
    details = tr(
        "In a terminal (on Windows, the OSGeo4W shell):\n\n{command}\n\nOn Debian and Ubuntu add "
        "--break-system-packages. The versions in the file keep pip from replacing the numpy of QGIS."
    )
    command = f'python3 -m pip install --user -r "{_REQUIREMENTS}"'
    return Problem(text.format(names=", ".join(names)), details.format(command=command))


def _not_loading(name: str, error: ImportError) -> Problem:
    text = tr("{name} is installed in QGIS's Python but does not load ({reason}).")
    reason = (str(error).strip() or repr(error)).splitlines()[-1]
    command = f"python3 -m pip install --user --force-reinstall --no-deps {name}"
    if sys.platform == "win32":
        remedy = tr(
            "Install the Microsoft Visual C++ Redistributable (vc_redist.x64.exe, from Microsoft) and restart QGIS. If it "
            "still does not load, reinstall the package in the OSGeo4W shell:\n\n{command}"
        )
    else:
        remedy = tr("Reinstall the package in a terminal and restart QGIS:\n\n{command}")
    return Problem(text.format(name=name, reason=reason), remedy.format(command=command))
