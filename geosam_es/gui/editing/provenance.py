"""Where a polygon comes from: model, score, prompts, raster and time, as JSON, in fields, and back.

The format is told in ``docs/provenance.md``. A layer that has the fields (see `PROVENANCE_FIELDS`) gets them filled in;
for layers without them `side_table` keeps the same record beside a GeoPackage's layer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from qgis.core import QgsFeature, QgsFields, QgsVectorLayer

from ...core.prompts import Prompts
from ...errors import EditError, PromptError
from ...qgis_support.messages import tr
from ...qgis_support.side_table import can_keep, find_record, keep_record
from ...store.decoders import ORIGINAL

__all__ = [
    "PROVENANCE_FIELDS",
    "Provenance",
    "has_provenance_fields",
    "keep_beside",
    "provenance_from_values",
    "provenance_values",
    "read_provenance",
]

PROVENANCE_FIELDS = ("model", "score", "prompts", "raster", "created")
"""Names of the fields, short enough for a Shapefile."""

_FIELDS_THAT_TELL = 2
"""A layer with one of the names may mean something else by it, as a habitat's score; with two it does not."""

_DIGITS = (3, 1)
"""Decimals of coordinates in map units: millimetres, or decimetres where a Shapefile's field is too short."""


@dataclass(frozen=True)
class Provenance:
    """How a polygon was made.

    Attributes
    ----------
    model : str
    score : float
        Predicted IoU, 0 to 1.
    prompts : Prompts
        In map coordinates of the raster's CRS.
    raster : str
        Name of the raster's file.
    created : str
        ISO 8601.
    level : int, optional
        Of the tile that answered; None where it is not known.
    candidate : int
        Rank of the mask that was chosen, counted from 0.
    decoder : str
        Name of the decoder in the store that answered.
    """

    model: str
    score: float
    prompts: Prompts
    raster: str
    created: str
    level: int | None = None
    candidate: int = 0
    decoder: str = ORIGINAL

    def values(self, digits: int = _DIGITS[0]) -> dict[str, Any]:
        """Return the values of `PROVENANCE_FIELDS`, the prompts as text, level, candidate and decoder among them."""
        record = self.prompts.to_json(digits)
        if self.level is not None:
            record["level"] = self.level
        if self.candidate:
            record["candidate"] = self.candidate
        if self.decoder != ORIGINAL:
            record["decoder"] = self.decoder
        prompts = json.dumps(record, separators=(",", ":"))
        return {**{name: getattr(self, name) for name in PROVENANCE_FIELDS}, "prompts": prompts}

    def to_json(self) -> str:
        """Return everything as one JSON object."""
        values = self.values()
        record = {**values, "prompts": json.loads(values["prompts"])}
        return json.dumps(record, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Provenance:
        """Read what `to_json` wrote.

        Raises
        ------
        EditError
            If it is something else.
        """
        record = _load(text)
        return provenance_from_values({**record, "prompts": json.dumps(record.get("prompts"))})


def _load(text: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except (TypeError, ValueError) as error:
        raise _unreadable() from error
    if not isinstance(record, dict):
        raise _unreadable()
    return record


def _unreadable() -> EditError:
    return EditError(tr("The prompts kept with this polygon cannot be read"), tr("start again with a click"))


def provenance_from_values(values: Mapping[str, Any]) -> Provenance:
    """Make a record of the values of `PROVENANCE_FIELDS`, of which only the prompts are needed.

    Raises
    ------
    EditError
        If the prompts cannot be read.
    """
    score = values.get("score")
    answer = _load(values["prompts"])
    try:
        prompts = Prompts.from_json(answer)
    except PromptError as error:
        raise _unreadable() from error
    level, candidate, decoder = (answer.get(key) for key in ("level", "candidate", "decoder"))
    return Provenance(
        model=_text(values.get("model")),
        score=float(score) if isinstance(score, (int, float)) else math.nan,
        prompts=prompts,
        raster=_text(values.get("raster")),
        created=_text(values.get("created")),
        level=level if isinstance(level, int) and level >= 0 else None,
        candidate=candidate if isinstance(candidate, int) and candidate >= 0 else 0,
        decoder=decoder if isinstance(decoder, str) and decoder else ORIGINAL,
    )


def _text(value: Any) -> str:
    if hasattr(value, "toPyDateTime"):
        return str(value.toPyDateTime().isoformat())
    # A NULL of QGIS is a QVariant, or None in newer versions.
    return value if isinstance(value, str) else ""


def has_provenance_fields(fields: QgsFields) -> bool:
    """Tell whether a layer has fields for the provenance."""
    known = [name for name in PROVENANCE_FIELDS if fields.lookupField(name) >= 0]
    return len(known) >= _FIELDS_THAT_TELL


def _keeps_prompts(fields: QgsFields) -> bool:
    return has_provenance_fields(fields) and fields.lookupField("prompts") >= 0


def provenance_values(fields: QgsFields, provenance: Provenance) -> dict[int, Any]:
    """Return the values that go into the fields of a layer, by index; fields of an unfit type are left alone."""
    values: dict[int, Any] = {}
    if not has_provenance_fields(fields):
        return values
    for name in PROVENANCE_FIELDS:
        index = fields.lookupField(name)
        if index < 0:
            continue
        for value in _forms(name, provenance):
            try:
                values[index] = fields.at(index).convertCompatible(value)
            except ValueError:
                continue
            break
    return values


def _forms(name: str, provenance: Provenance) -> Iterator[Any]:
    """Yield ways to write a value, the best first."""
    if name == "prompts":
        # A text cut short would be no JSON: rather a coarser one, or none.
        yield from (provenance.values(digits)["prompts"] for digits in _DIGITS)
        # Fields of JSON, as PostgreSQL's, take no text.
        yield json.loads(provenance.values()["prompts"])
        # Not those of an earlier outline.
        yield None
    elif name == "score":
        yield None if math.isnan(provenance.score) else round(provenance.score, 4)
    else:
        yield getattr(provenance, name)


def keep_beside(layer: QgsVectorLayer, feature_id: int, provenance: Provenance) -> None:
    """Keep the provenance of a feature in a table of its GeoPackage, where the layer has no field for the prompts.

    It is written when the user saves the layer's edits. In other formats there is no place for it.
    """
    if can_keep(layer) and not _keeps_prompts(layer.fields()):
        score = None if math.isnan(provenance.score) else provenance.score
        keep_record(layer, feature_id, {**provenance.values(), "score": score})


def read_provenance(layer: QgsVectorLayer, feature: QgsFeature) -> Provenance | None:
    """Read the provenance of a feature from its fields, or from the table beside them.

    Returns
    -------
    Provenance or None
        None where no prompts are kept with it.

    Raises
    ------
    EditError
        If prompts are there that cannot be read.
    """
    fields = layer.fields()
    values: dict[str, Any] | None
    if _keeps_prompts(fields):
        indices = {name: fields.lookupField(name) for name in PROVENANCE_FIELDS}
        values = {name: feature.attribute(index) for name, index in indices.items() if index >= 0}
    else:
        values = find_record(layer, feature.id())
    prompts = values.get("prompts") if values else None
    if isinstance(prompts, dict):
        prompts = json.dumps(prompts)
    if not values or not isinstance(prompts, str) or not prompts:
        return None
    return provenance_from_values({**values, "prompts": prompts})
