"""What GDAL can do with each vector format that is written, and the names that fields can have in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import pyogrio
import pyproj

from geosam_es.errors import OutputError

__all__ = [
    "FORMATS",
    "JOURNALS",
    "SHAPEFILE_PARTS",
    "VectorFormat",
    "default_crs",
    "field_name",
    "field_names",
    "field_notes",
    "vector_format",
]


@dataclass(frozen=True)
class VectorFormat:
    """What GDAL can do with a format.

    Attributes
    ----------
    driver : str
    companions : tuple of str
        Endings of files beside an older file that would not fit the new one; they follow its name without extension.
    sidecars : tuple of str
        The same, but they follow the whole name.
    has_layers, can_append, is_wgs84 : bool
        More than one layer; features can be added; coordinates are always longitude and latitude.
    name_bytes : int
        Most bytes in the name of a field.
    not_in_names : str
        Pattern of characters that names of fields cannot have.
    reserved : tuple of str
        Names that GDAL gives to the id, the geometry or properties of a feature.
    options, file_options : mapping
        Options of the layer, and of a new file.
    """

    driver: str
    companions: tuple[str, ...] = ()
    sidecars: tuple[str, ...] = ()
    has_layers: bool = False
    can_append: bool = True
    is_wgs84: bool = False
    name_bytes: int = 200
    not_in_names: str = r"[\x00-\x1f]"
    reserved: tuple[str, ...] = ("fid", "ogc_fid", "geom", "geometry")
    options: Mapping[str, str] = field(default_factory=dict)
    file_options: Mapping[str, str] = field(default_factory=dict)


JOURNALS = ("-wal", "-shm", "-journal")
"""Endings of the files that a database keeps beside itself while it is open."""

_SQLITE = VectorFormat("SQLite", sidecars=JOURNALS, has_layers=True, options={"LAUNDER": "NO"})
# Otherwise text that looks like JSON becomes a list.
_AS_TEXT = {"AUTODETECT_JSON_STRINGS": "NO"}
_GEOJSON = VectorFormat("GeoJSON", options=_AS_TEXT)
_GEOJSON_LINES = VectorFormat("GeoJSONSeq", is_wgs84=True, options={"COORDINATE_PRECISION": "9", **_AS_TEXT})
SHAPEFILE_PARTS = (".shx", ".dbf", ".prj", ".cpg", ".qix", ".sbn", ".sbx", ".qpj", ".shp.xml")
"""Endings of the files beside a Shapefile."""

_NOT_IN_XML_NAMES = r"[^a-zA-Z0-9_\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02ff\u0370-\u037d\u037f-\u1fff\u3001-\ud7ff]"
_KML_NAMES = "id timestamp begin end altitudemode tessellate extrude visibility draworder icon"

FORMATS: Mapping[str, VectorFormat] = {
    # GDAL 3.6, that of Debian 12, warns of version 1.4.
    ".gpkg": VectorFormat("GPKG", sidecars=JOURNALS, has_layers=True, file_options={"VERSION": "1.3"}),
    ".shp": VectorFormat(
        "ESRI Shapefile", companions=SHAPEFILE_PARTS, name_bytes=10, not_in_names=r"[^\w .-]",
        options={"2GB_LIMIT": "YES"},
    ),
    ".geojson": _GEOJSON,
    ".json": _GEOJSON,
    ".geojsonl": _GEOJSON_LINES,
    ".geojsons": _GEOJSON_LINES,
    # Its spatial index would change the order of the features.
    ".fgb": VectorFormat("FlatGeobuf", options={"SPATIAL_INDEX": "NO"}),
    ".sqlite": _SQLITE,
    ".db": _SQLITE,
    ".gml": VectorFormat(
        "GML", companions=(".xsd", ".gfs"), can_append=False, not_in_names=_NOT_IN_XML_NAMES, reserved=("gml_id", "fid")
    ),
    ".kml": VectorFormat(
        "KML", can_append=False, is_wgs84=True, not_in_names=r"[^\w .-]", reserved=tuple(_KML_NAMES.split())
    ),
}  # fmt: skip
"""Formats by extension."""


def vector_format(path: Path) -> VectorFormat:
    """Return the format of a file that is to be written.

    Raises
    ------
    OutputError
        If its extension has no format that this GDAL can write, or the name is not UTF-8.
    """
    chosen = FORMATS.get(path.suffix.lower())
    if chosen is None or chosen.driver not in _drivers():
        *others, last = FORMATS
        raise OutputError(f"{path} has an unknown format", f"use the extension {', '.join(others)} or {last}")
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise OutputError(f"The name {path.name!r} is not valid UTF-8", "choose another one with -o") from None
    return chosen


def default_crs(path: Path) -> pyproj.CRS | None:
    """Return the only CRS that a format has, such as WGS 84 for KML; None for other formats."""
    chosen = FORMATS.get(path.suffix.lower())
    return pyproj.CRS.from_epsg(4326) if chosen is not None and chosen.is_wgs84 else None


def field_name(path: Path, name: str, taken: Sequence[str]) -> str:
    """Return a name that a new field can have in a file: with a number behind it if it is taken, and not too long."""
    chosen = vector_format(path)
    name = re.sub(chosen.not_in_names, "_", name)
    used = {*(known.lower() for known in taken), *chosen.reserved}
    for number in range(len(used) + 1):
        suffix = f"_{number}" if number else ""
        free = name.encode("utf-8", "replace")[: chosen.name_bytes - len(suffix)].decode(errors="ignore") + suffix
        if free.lower() not in used:
            break
    return free


def field_names(path: Path, names: Iterable[str], taken: Sequence[str] = ()) -> dict[str, str]:
    """Return the names that fields can have in a file, by their own; see `field_name`."""
    free: dict[str, str] = {}
    for name in names:
        free[name] = field_name(path, name, [*taken, *free.values()])
    return free


def field_notes(path: Path, names: Mapping[str, str], as_texts: Sequence[str]) -> list[str]:
    """Return sentences about the fields that change their name, or their type as `check_output` tells."""
    notes = [f"in {path.name}, the field {old} is called {new}" for old, new in names.items() if old != new]
    return notes + [f"in {path.name}, the field {name} is text" for name in as_texts]


@lru_cache(maxsize=1)
def _drivers() -> Mapping[str, str]:
    drivers: dict[str, str] = pyogrio.list_drivers(write=True)
    return drivers
