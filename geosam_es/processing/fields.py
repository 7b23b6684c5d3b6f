"""Fields of layers, under the names of types that the QGIS at hand takes."""

from __future__ import annotations

from typing import Any

from qgis.core import Qgis, QgsField, QgsFields

# Since QGIS 3.38 types are QMetaType's; QVariant has none any more in Qt 6.
if Qgis.QGIS_VERSION_INT >= 33800:
    from qgis.PyQt.QtCore import QMetaType

    TEXT, WHOLE, REAL = QMetaType.Type.QString, QMetaType.Type.Int, QMetaType.Type.Double
else:
    from qgis.PyQt.QtCore import QVariant

    TEXT, WHOLE, REAL = QVariant.Type.String, QVariant.Type.Int, QVariant.Type.Double

__all__ = ["REAL", "TEXT", "WHOLE", "make_fields"]


def make_fields(**kinds: Any) -> QgsFields:
    """Return fields by their names, each `TEXT`, `WHOLE` or `REAL`."""
    fields = QgsFields()
    for name, kind in kinds.items():
        fields.append(QgsField(name, kind))
    return fields
