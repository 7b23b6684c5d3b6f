"""How a polygon was made: model, score, prompts, raster and time, in the fields of a layer.

``docs/provenance.md`` describes the format. If a layer lacks the fields (see `PROVENANCE_FIELDS`), `side_table` keeps
the same record in a table of its GeoPackage.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from qgis.core import QgsExpressionContextUtils, QgsFeature, QgsFields, QgsVectorLayer
from qgis.PyQt.QtCore import QDateTime, Qt

from ...core.grid import FINEST_LEVEL
from ...core.prompts import Prompts
from ...errors import PromptError
from ...qgis_support.field_map import FieldMap
from ...qgis_support.fields import TEXT, is_own
from ...qgis_support.side_table import can_keep, find_record, keep_record
from ...store.decoders import ORIGINAL

__all__ = [
    "PROVENANCE_FIELDS",
    "Provenance",
    "has_provenance_fields",
    "keep_in_side_table",
    "mapped_values",
    "provenance_from_values",
    "provenance_values",
    "read_provenance",
]

PROVENANCE_FIELDS = ("model", "score", "prompts", "raster", "created")
"""Names of the fields; short enough for a Shapefile."""

_MIN_FIELDS = 2
"""One field with such a name may mean something else, such as the score of a habitat; two do not."""

_DIGITS = (3, 1)
"""Decimals of coordinates: millimetres, or decimetres if the field of a Shapefile is too short for that."""


@dataclass(frozen=True)
class Provenance:
    """How a polygon was made.

    Attributes
    ----------
    model : str
    score : float
        Predicted IoU, 0 to 1.
    prompts : Prompts
        In map coordinates of the raster's CRS. With an outline none are saved: it is the polygon.
    raster : str
        File name of the raster.
    created : str
        ISO 8601.
    level : int, optional
        Level of the tile that was used, below 0 if it was enlarged; None if unknown.
    candidate : int
        Rank of the chosen mask, from 0.
    decoder : str
        Name of the decoder of the store that was used.
    source : str
        Attribution and address of the online service that showed the image; empty for a file.
    image_date : str
        When the image was taken, in ISO 8601; empty if unknown. Not in `PROVENANCE_FIELDS`.
    """

    model: str
    score: float
    prompts: Prompts
    raster: str
    created: str
    level: int | None = None
    candidate: int = 0
    decoder: str = ORIGINAL
    source: str = ""
    image_date: str = ""

    def values(self, digits: int = _DIGITS[0]) -> dict[str, Any]:
        """Return the values of `PROVENANCE_FIELDS`; the text of the prompts includes level, candidate and the like."""
        record = self.prompts.to_json(digits)
        if self.level is not None:
            record["level"] = self.level
        if self.candidate:
            record["candidate"] = self.candidate
        if self.decoder != ORIGINAL:
            record["decoder"] = self.decoder
        if self.source:
            record["source"] = self.source
        prompts = json.dumps(record, separators=(",", ":")) if self.prompts.outline is None else ""
        return {**{name: getattr(self, name) for name in PROVENANCE_FIELDS}, "prompts": prompts}


def provenance_from_values(values: Mapping[str, Any]) -> Provenance | None:
    """Read the values of `PROVENANCE_FIELDS`; all but the prompts may be missing.

    Returns
    -------
    Provenance or None
        None if the prompts cannot be read: a field of that name may be somebody else's.
    """
    score = values.get("score")
    try:
        answer = json.loads(values["prompts"])
        prompts = Prompts.from_json(answer)
    except (PromptError, ValueError):
        return None
    level, candidate, decoder, source = (answer.get(key) for key in ("level", "candidate", "decoder", "source"))
    return Provenance(
        model=_text(values.get("model")),
        score=float(score) if isinstance(score, (int, float)) else math.nan,
        prompts=prompts,
        raster=_text(values.get("raster")),
        created=_text(values.get("created")),
        level=level if isinstance(level, int) and level >= FINEST_LEVEL else None,
        candidate=candidate if isinstance(candidate, int) and candidate >= 0 else 0,
        decoder=decoder if isinstance(decoder, str) and decoder else ORIGINAL,
        source=source if isinstance(source, str) else "",
    )


def _text(value: Any) -> str:
    if hasattr(value, "toPyDateTime"):
        return str(value.toPyDateTime().isoformat())
    # A NULL of QGIS is a QVariant, or None in newer versions.
    return value if isinstance(value, str) else ""


def has_provenance_fields(fields: QgsFields) -> bool:
    """Tell whether a layer has fields for the provenance."""
    return len(_own_indices(fields)) >= _MIN_FIELDS


def _own_indices(fields: QgsFields) -> dict[str, int]:
    """Return the fields that can be written, by name; joined and computed ones cannot."""
    indices = {name: fields.lookupField(name) for name in PROVENANCE_FIELDS}
    return {name: index for name, index in indices.items() if index >= 0 and is_own(fields, index)}


def _keeps_prompts(fields: QgsFields) -> bool:
    return has_provenance_fields(fields) and "prompts" in _own_indices(fields)


def provenance_values(fields: QgsFields, provenance: Provenance) -> dict[int, Any]:
    """Return the values for the fields of a layer by index, without fields of an unsuitable type."""
    values: dict[int, Any] = {}
    if not has_provenance_fields(fields):
        return values
    for name, index in _own_indices(fields).items():
        for value in _forms(name, provenance):
            try:
                values[index] = fields.at(index).convertCompatible(value)
            except ValueError:
                continue
            break
    return values


def mapped_values(layer: QgsVectorLayer, provenance: Provenance) -> dict[int, Any]:
    """Return the values for the fields that the user has chosen, by index; see `FieldMap`."""
    prompts, created = provenance.prompts, provenance.created
    kinds = {"box": prompts.box, "points": prompts.points, "outline": prompts.outline}
    forms = {
        "date": _moment(created),
        "image": (provenance.raster,),
        "image_date": _moment(provenance.image_date),
        "prompts": (", ".join(kind for kind, given in kinds.items() if given),),
        "score": tuple(_forms("score", provenance)),
        "interpreter": (QgsExpressionContextUtils.globalScope().variable("user_full_name"),),
    }
    values, fields = {}, layer.fields()
    for item, name in FieldMap.of(layer).names.items():
        index = fields.lookupField(name)
        field = fields.at(index)
        if _keeps_prompts(fields) and index == fields.lookupField("prompts"):
            # Refining needs the prompts themselves.
            continue
        for value in forms.get(item, ()):
            is_text = isinstance(value, QDateTime) and field.type() == TEXT
            try:
                values[index] = field.convertCompatible(value.toString("yyyy-MM-dd") if is_text else value)
            except ValueError:
                continue
            break
    return values


def _moment(text: str) -> tuple[QDateTime | None]:
    moment = QDateTime.fromString(text, Qt.DateFormat.ISODate).toLocalTime()
    return (moment if moment.isValid() else None,)


def _forms(name: str, provenance: Provenance) -> Iterator[Any]:
    """Yield forms of a value, the best first."""
    if name == "prompts" and provenance.prompts.outline is not None:
        yield None
    elif name == "prompts":
        # A truncated text would not be JSON: try fewer decimals instead, and then without the source of the image.
        yield from (provenance.values(digits)["prompts"] for digits in _DIGITS)
        yield replace(provenance, source="").values(_DIGITS[1])["prompts"]
        # JSON fields, as in PostgreSQL, accept no text.
        yield json.loads(provenance.values()["prompts"])
        # Clear the prompts of an earlier outline.
        yield None
    elif name == "score":
        yield None if math.isnan(provenance.score) else round(provenance.score, 4)
    else:
        yield getattr(provenance, name)


def keep_in_side_table(layer: QgsVectorLayer, feature_id: int, provenance: Provenance) -> None:
    """Keep the provenance of a feature in a table of its GeoPackage if the layer has no field for the prompts.

    It is written when the user saves the edits of the layer. Other formats have no such table.
    """
    if can_keep(layer) and not _keeps_prompts(layer.fields()):
        score = None if math.isnan(provenance.score) else provenance.score
        keep_record(layer, feature_id, {**provenance.values(), "score": score})


def read_provenance(
    layer: QgsVectorLayer, feature: QgsFeature, records: Mapping[int, Mapping[str, Any]] | None = None
) -> Provenance | None:
    """Read the provenance of a feature from its fields, or from the table of its GeoPackage.

    ``records`` has what that table holds, if it was read before.

    Returns
    -------
    Provenance or None
        None if no prompts are saved for it, or they cannot be read.
    """
    fields = layer.fields()
    values: Mapping[str, Any] | None
    if _keeps_prompts(fields):
        values = {name: feature.attribute(index) for name, index in _own_indices(fields).items()}
    else:
        values = find_record(layer, feature.id()) if records is None else records.get(feature.id())
    prompts = values.get("prompts") if values else None
    if isinstance(prompts, dict):
        prompts = json.dumps(prompts)
    if not values or not isinstance(prompts, str) or not prompts:
        return None
    return provenance_from_values({**values, "prompts": prompts})
