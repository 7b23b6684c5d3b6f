"""The prompts that the plugin keeps with accepted polygons; ``docs/provenance.md`` describes the format."""

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
_FIELDS = ("model", "score", PROMPTS_FIELD, RASTER_FIELD, "created")
_MIN_FIELDS = 2
"""A field called prompts alone may mean something else."""


@dataclass(frozen=True)
class KeptPrompts:
    """The prompts of a polygon.

    Attributes
    ----------
    prompts : Prompts
        In map coordinates of the raster's CRS.
    raster : str
        File name of the raster; empty if unknown.
    """

    prompts: Prompts
    raster: str


def kept_prompts(path: Path, layer: VectorLayer) -> list[KeptPrompts | None]:
    """Return the prompts kept with each feature of a layer, None where there are none.

    Parameters
    ----------
    path : Path
        File of the layer. A GeoPackage may have the prompts in a table of their own.
    layer : VectorLayer
    """
    count = len(layer.geometries)
    prompts, rasters = layer.field(PROMPTS_FIELD), layer.field(RASTER_FIELD)
    if prompts is not None and sum(layer.field(name) is not None for name in _FIELDS) >= _MIN_FIELDS:
        return [_read(text, raster) for text, raster in zip(prompts, [None] * count if rasters is None else rasters)]
    if layer.feature_ids is None:
        return [None] * count
    table = _side_table(path, layer.name)
    return [table.get(int(feature)) for feature in layer.feature_ids]


def _side_table(path: Path, layer: str) -> Mapping[int, KeptPrompts | None]:
    if path.suffix.lower() != ".gpkg":
        return {}
    query = f"SELECT feature, {PROMPTS_FIELD}, {RASTER_FIELD} FROM {SIDE_TABLE} WHERE layer = ?"
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            return {int(feature): _read(text, raster) for feature, text, raster in database.execute(query, (layer,))}
    except (sqlite3.Error, TypeError, ValueError):
        # There is no such table, or it has another format.
        return {}


def _read(text: Any, raster: Any) -> KeptPrompts | None:
    """Read one record, or return None if its prompts cannot be read or answered."""
    try:
        prompts = Prompts.from_json(json.loads(text))
        _ = prompts.positive_bounds
    except (TypeError, ValueError, RecursionError):
        return None
    return KeptPrompts(prompts, raster if isinstance(raster, str) else "")
