"""The prompts that the plugin keeps with the polygons a user accepted; ``docs/provenance.md`` is the format."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geosam_es.core.prompts import Prompts

from ..vector import VectorLayer

__all__ = ["KeptPrompts", "kept_prompts"]

SIDE_TABLE = "geosam_provenance"
PROMPTS_FIELD, RASTER_FIELD = "prompts", "raster"
_FIELDS_THAT_TELL = 2
_FIELDS = ("model", "score", PROMPTS_FIELD, RASTER_FIELD, "created")


@dataclass(frozen=True)
class KeptPrompts:
    """What a user did to get a polygon.

    Attributes
    ----------
    prompts : Prompts
        In map coordinates of the raster's CRS.
    raster : str
        Name of the raster's file.
    """

    prompts: Prompts
    raster: str


def kept_prompts(path: Path, layer: VectorLayer) -> list[KeptPrompts | None]:
    """Return the prompts kept with each feature of a layer, None where there are none that can be read.

    Parameters
    ----------
    path : Path
        The layer's file, in which a GeoPackage may have a table of them.
    layer : VectorLayer
    """
    count = len(layer.geometries)
    if PROMPTS_FIELD in layer.fields and sum(name in layer.fields for name in _FIELDS) >= _FIELDS_THAT_TELL:
        rasters = layer.fields.get(RASTER_FIELD, [None] * count)
        return [_read(text, raster) for text, raster in zip(layer.fields[PROMPTS_FIELD], rasters)]
    if layer.feature_ids is None:
        return [None] * count
    beside = _side_table(path, layer.name)
    return [beside.get(int(feature)) for feature in layer.feature_ids]


def _side_table(path: Path, layer: str) -> Mapping[int, KeptPrompts | None]:
    if path.suffix.lower() != ".gpkg":
        return {}
    query = f"SELECT feature, {PROMPTS_FIELD}, {RASTER_FIELD} FROM {SIDE_TABLE} WHERE layer = ?"
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            return {int(feature): _read(text, raster) for feature, text, raster in database.execute(query, (layer,))}
    except (sqlite3.Error, TypeError, ValueError):
        # No such table, or not one of ours: then nothing is kept.
        return {}


def _read(text: Any, raster: Any) -> KeptPrompts | None:
    """Read one record, or return None if its prompts cannot be read or answered."""
    try:
        prompts = Prompts.from_json(json.loads(text))
        _ = prompts.positive_bounds
    except (TypeError, ValueError):
        return None
    return KeptPrompts(prompts, raster if isinstance(raster, str) else "")
