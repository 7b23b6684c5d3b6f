"""The environment in which GDAL and PROJ run.

OSGeo4W, conda and QGIS set variables for their own GDAL and PROJ. The wheels of rasterio, pyogrio and pyproj have
libraries and data of their own. With the data of another PROJ they lose CRSs without an error. Some read the variables
when they are imported, so this comes first.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from importlib.util import find_spec
from pathlib import Path

__all__ = ["ignore_foreign_variables", "set_defaults"]

_DATA = ("GDAL_DATA", "PROJ_DATA", "PROJ_LIB")
_PREFIXES = ("GDAL_PAM_", "GTIFF_", "OGR_", "OSR_", "PROJ_")
_NAMES = {
    "GDAL_CONFIG_FILE",
    "GDAL_DRIVER_PATH",
    "GDAL_FILENAME_IS_UTF8",
    "GDAL_GEOREF_SOURCES",
    "GDAL_PYTHON_DRIVER_PATH",
    "GDAL_SKIP",
}


def ignore_foreign_variables(environment: MutableMapping[str, str] | None = None) -> None:
    """Remove variables that change which data, drivers and CRSs GDAL and PROJ use.

    Those for speed, network and credentials stay, such as ``GDAL_CACHEMAX``, ``GDAL_HTTP_PROXY`` and ``AWS_REGION``.
    Builds without data of their own, such as conda's, also keep the folders of the data.

    Parameters
    ----------
    environment : mapping, optional
        By default that of this process.
    """
    variables = os.environ if environment is None else environment
    kept = () if _have_own_data() else _DATA
    for name in list(variables):
        if (name in _NAMES or name in _DATA or name.startswith(_PREFIXES)) and name not in kept:
            del variables[name]


def set_defaults() -> None:
    """Set the variables of GDAL that these tools need, unless the user has set them."""
    # rasterio cannot catch what GDAL's own threads print, such as those that decode JPEG 2000.
    os.environ.setdefault("CPL_LOG", os.devnull)
    # GDAL's fast way to read a whole PNG does not notice that it is truncated.
    os.environ.setdefault("GDAL_PNG_WHOLE_IMAGE_OPTIM", "NO")


def _have_own_data() -> bool:
    """Tell whether rasterio comes with the data of its GDAL and PROJ, as its wheels do; without importing it."""
    spec = find_spec("rasterio")
    return spec is not None and spec.origin is not None and (Path(spec.origin).parent / "proj_data").is_dir()
