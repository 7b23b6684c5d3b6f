"""Why a package cannot be imported. QGIS may lack every package but NumPy, so nothing else is imported here."""

from __future__ import annotations

import re
import sys

import numpy as np

from ..errors import PackageError

__all__ = ["import_failure", "is_missing_library", "without_remedy"]

_OTHER_NUMPY = re.compile(
    r"multiarray failed to import|umath failed to import|size changed, may indicate binary incompatibility"
    r"|compiled (against|using) (API|ABI|NumPy|numpy)|_ARRAY_API not found|module 'numpy[.\w]*' has no attribute"
    r"|cannot import name .* from 'numpy[.\w]*'|was removed in the NumPy|numpy\.\w+ size changed"
)
"""What Python, NumPy and Cython say of a package that was built for another version of NumPy."""

_NO_DLL = re.compile(r"DLL load failed|\[WinError (126|127|193|1114)\]")
"""What Python says on Windows of a library that is missing, damaged or for another processor."""


def import_failure(package: str, error: Exception) -> PackageError:
    """Explain why a package cannot be imported, and what to do about it.

    Parameters
    ----------
    package : str
        As it is imported and installed: ``onnxruntime``, ``shapely`` or ``contourpy``.
    error : Exception
        Raised by ``import package``.

    Returns
    -------
    PackageError
        Says whether the package or one of its dependencies is missing, was built for another NumPy, or is installed
        but does not load.
    """
    missing = error.name or "" if isinstance(error, ModuleNotFoundError) else ""
    if missing == package:
        return PackageError("{package} is not installed", "install it with: pip install {package}", package=package)
    if missing == "numpy" or (missing and missing.split(".")[0] not in (package, "numpy")):
        return PackageError(
            "{package} needs {name}, which is not installed",
            "install it with: pip install {name}",
            package=package,
            name=missing.split(".")[0],
        )
    reason = (str(error).strip() or repr(error)).splitlines()[-1].rstrip(".")
    if missing.startswith("numpy.") or _OTHER_NUMPY.search(str(error)):
        return PackageError(
            "{package} is installed but does not work with NumPy {version} ({reason})",
            'install a compatible version with: pip install --upgrade {package} "numpy=={version}"',
            package=package,
            version=np.__version__,
            reason=reason,
        )
    if is_missing_library(error):
        return PackageError(
            "{package} is installed but does not load ({reason})",
            "install the Microsoft Visual C++ Redistributable 2019 or later and restart; if that does not help, "
            "reinstall it for Python {python} with: pip install --force-reinstall --no-deps {package}",
            package=package,
            reason=reason,
            python=f"{sys.version_info.major}.{sys.version_info.minor}",
        )
    return PackageError(
        "{package} is installed but does not load ({reason})",
        "reinstall it with: pip install --force-reinstall --no-deps {package}",
        package=package,
        reason=reason,
    )


def is_missing_library(error: Exception) -> bool:
    """Tell whether a package does not load on Windows because a library that it needs is missing."""
    return bool(_NO_DLL.search(str(error)))


def without_remedy(error: PackageError) -> PackageError:
    """Return an error of `import_failure` for programs that have a better remedy than pip."""
    return PackageError(error.template, "", **error.values)
