"""QGIS plugin entry point; everything else is in the package `geosam_es`."""

from __future__ import annotations

from typing import Any


def classFactory(iface: Any) -> Any:  # noqa: N802 - the name QGIS calls
    """Return the plugin; imported here so that QGIS can list plugins without loading this one."""
    from .geosam_es.gui.plugin import GeoSamPlugin

    return GeoSamPlugin(iface)
