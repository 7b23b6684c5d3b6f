"""Creates fields in every supported version of QGIS."""

from __future__ import annotations

from typing import Any

from qgis.core import Qgis, QgsField, QgsFields, QgsVectorLayer

# QGIS 3.38 replaced the types of QVariant, which Qt 6 lacks, with those of QMetaType.
if Qgis.QGIS_VERSION_INT >= 33800:  # type: ignore[attr-defined]
    from qgis.PyQt.QtCore import QMetaType

    TEXT, WHOLE, REAL = QMetaType.Type.QString, QMetaType.Type.Int, QMetaType.Type.Double
    LONG, BOOL, DATE = QMetaType.Type.LongLong, QMetaType.Type.Bool, QMetaType.Type.QDate
else:
    from qgis.PyQt.QtCore import QVariant

    TEXT, WHOLE, REAL = QVariant.Type.String, QVariant.Type.Int, QVariant.Type.Double
    LONG, BOOL, DATE = QVariant.Type.LongLong, QVariant.Type.Bool, QVariant.Type.Date

__all__ = ["DATE", "LONG", "REAL", "TEXT", "WHOLE", "append_copy", "is_own", "is_plain", "make_fields", "own_fields"]


def make_fields(**kinds: Any) -> QgsFields:
    """Return fields with the given names and types: `TEXT`, `WHOLE`, `LONG` or `REAL`."""
    fields = QgsFields()
    for name, kind in kinds.items():
        fields.append(QgsField(name, kind))
    return fields


def is_plain(field: QgsField) -> bool:
    """Tell whether a field has a type that every vector format has: no lists, no binary data."""
    return bool(field.isNumeric() or field.isDateOrTime() or field.type() in (TEXT, BOOL))


def is_own(fields: QgsFields, index: int) -> bool:
    """Tell whether a field belongs to the layer itself. Values written to joined or computed fields are lost."""
    return fields.fieldOrigin(index) in (QgsFields.OriginProvider, QgsFields.OriginEdit)


def own_fields(layer: QgsVectorLayer | None) -> QgsFields:
    """Return the fields of a layer that can be written; none without a layer."""
    own = QgsFields()
    for index, field in enumerate(layer.fields().toList() if layer is not None else ()):
        if is_own(layer.fields(), index):
            own.append(field)
    return own


def append_copy(fields: QgsFields, field: QgsField) -> None:
    """Append a field, with a number added to its name if the name is taken."""
    taken = {name.lower() for name in fields.names()}
    names = [field.name(), *(f"{field.name()}_{number}" for number in range(1, len(taken) + 1))]
    copy = QgsField(field)
    copy.setName(next(name for name in names if name.lower() not in taken))
    fields.append(copy)
