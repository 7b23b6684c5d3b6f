"""Checks the Python packages that the plugin needs in addition to those of QGIS."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from importlib import metadata
from types import ModuleType
from typing import NamedTuple

from ..errors import PackageError
from ..inference.packages import import_failure, is_missing_library, without_remedy
from .installation import use_packages_folder
from .messages import tr, translated

__all__ = ["REQUIRED", "DependencyProblem", "dependency_problem", "package_problem"]

REQUIRED = ("onnxruntime", "shapely", "contourpy")
_SHAPELY_MAJOR = 2


class DependencyProblem(NamedTuple):
    """Why the plugin cannot start.

    Attributes
    ----------
    text : str
        What is wrong and what to do.
    packages : tuple of str
        What must be installed to mend it.
    """

    text: str
    packages: tuple[str, ...]


def dependency_problem() -> DependencyProblem | None:
    """Return what keeps the plugin from starting, or None if nothing does.

    A package may be missing, too old, or installed but unable to load. Nothing is cached, because packages can be
    installed while QGIS runs. onnxruntime is not imported here, which would delay the start of QGIS: `load_onnxruntime`
    reports if it does not load.
    """
    use_packages_folder()
    missing = [name for name in REQUIRED if importlib.util.find_spec(name) is None]
    names = list(missing)
    # Some systems still ship shapely 1, which has no functions on arrays of geometries.
    if "shapely" not in missing and _is_old_shapely():
        missing.append("shapely")
        names.append(f"shapely {_SHAPELY_MAJOR}")
    if missing:
        text = tr("Missing Python packages: {names}")
        return DependencyProblem(text.format(names=", ".join(names)), tuple(missing))
    name = ""
    try:
        for name in ("shapely", "contourpy"):
            # An uninstall that failed halfway leaves a folder that imports as an empty package.
            _ = _import(name).__version__
    # A package built for another NumPy raises ValueError or RuntimeError.
    except Exception as error:
        return package_problem(import_failure(name, error))
    return None


def package_problem(error: PackageError) -> DependencyProblem:
    """Describe a package that cannot be imported, with what to do beside the button that installs it."""
    remedy = tr("press Install to replace it, then restart QGIS")
    if is_missing_library(error):
        remedy = tr("install the Microsoft Visual C++ Redistributable 2019 or later, then restart QGIS")
    return DependencyProblem(f"{translated(without_remedy(error))}: {remedy}", (str(error.values["package"]),))


def _import(name: str) -> ModuleType:
    """Import a package whose libraries use their own symbols, not QGIS's.

    The shapely of PyPI brings its own GEOS. On Linux, QGIS's libraries are global, so that GEOS would call functions of
    QGIS's GEOS, which is another version: distances come out wrong, and QGIS may crash. ``RTLD_DEEPBIND`` of glibc
    prevents that, on the first import only.
    """
    importlib.import_module("numpy")
    if not hasattr(os, "RTLD_DEEPBIND"):
        return importlib.import_module(name)
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags | os.RTLD_DEEPBIND)
    try:
        return importlib.import_module(name)
    finally:
        sys.setdlopenflags(flags)


def _is_old_shapely() -> bool:
    try:
        return int(metadata.version("shapely").split(".")[0]) < _SHAPELY_MAJOR
    except (ImportError, ValueError, AttributeError):
        # Its metadata are missing or damaged; importing it shows whether it works.
        return False
