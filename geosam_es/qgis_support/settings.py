"""The typed settings of the plugin, in a group of the QGIS settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Generic, TypeVar

from qgis.core import QgsApplication, QgsSettings

__all__ = ["GROUP", "Settings", "cache_folder"]

GROUP = "geosam_es"
_RECENT_STORES = 8

T = TypeVar("T", bool, int, float, str)


class _Value(Generic[T]):
    """A setting with the type of its default."""

    def __init__(self, key: str, default: T) -> None:
        self.key = f"{GROUP}/{key}"
        self.default: T = default

    def __get__(self, instance: Any, owner: Any = None) -> T:
        kind = type(self.default)
        try:
            value: T = kind(QgsSettings().value(self.key, self.default, type=kind))
            return value
        except TypeError:
            # An earlier version may have written a value of another type.
            return self.default

    def __set__(self, instance: Any, value: T) -> None:
        QgsSettings().setValue(self.key, value)


class Settings:
    """The settings of the plugin. Each is read from QGIS whenever it is used."""

    simplify_pixels = _Value("simplify_pixels", 1.0)
    min_area_m2 = _Value("min_area_m2", 0.0)
    fill_holes_m2 = _Value("fill_holes_m2", 0.0)
    right_angles = _Value("right_angles", False)
    # "few" for the fewest vertices, "smooth" for curves, or as traced.
    outline = _Value("outline", "")
    # What was chosen for each class, as JSON: [outline, right_angles] by class.
    outlines = _Value("outlines", "{}")
    all_parts = _Value("all_parts", False)
    trim_overlaps = _Value("trim_overlaps", False)
    # Earlier versions kept "snap_tolerance", in units of the layer.
    snap_m = _Value("snap_m", 0.0)
    open_form = _Value("open_form", False)
    provenance_table = _Value("provenance_table", True)
    hover_preview = _Value("hover_preview", False)
    show_footprint = _Value("show_footprint", True)
    show_tiles = _Value("show_tiles", False)
    # Diameter, in pixels of the image.
    brush_pixels = _Value("brush_pixels", 20.0)
    outline_colour = _Value("outline_colour", "#ffd400")
    fill_opacity = _Value("fill_opacity", 35)
    decoder_threads = _Value("decoder_threads", 0)
    encoder_folder = _Value("encoder_folder", "")
    enlarges = _Value("enlarges", False)
    command_line = _Value("command_line", "")
    cache_gigabytes = _Value("cache_gigabytes", 5.0)
    # Where new prepared images go: "ask" (the cache, and ask), "beside" or "cache".
    store_place = _Value("store_place", "ask")

    @property
    def recent_stores(self) -> list[str]:
        """Paths of recently opened stores, the latest first."""
        value = QgsSettings().value(f"{GROUP}/recent_stores", [])
        if isinstance(value, str):
            return [value]
        return [str(item) for item in value or []]

    def remember_store(self, path: str) -> None:
        """Put a store first in the recent ones."""
        stores = [path, *(other for other in self.recent_stores if other != path)]
        QgsSettings().setValue(f"{GROUP}/recent_stores", stores[:_RECENT_STORES])

    def forget_store(self, path: str) -> None:
        """Remove a store from the recent ones."""
        QgsSettings().setValue(f"{GROUP}/recent_stores", [other for other in self.recent_stores if other != path])


def cache_folder() -> Path:
    """Return the folder in QGIS's profile for prepared images that are not kept beside their rasters."""
    return Path(QgsApplication.qgisSettingsDirPath()) / "geosam_es" / "cache"
