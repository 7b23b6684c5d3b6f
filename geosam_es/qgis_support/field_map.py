"""Which fields of a layer get what at accept; remembered with the layer in the project.

The date, the image and the like are written when a polygon is accepted. Area and expression become default values of
their fields that QGIS updates whenever the polygon changes, with its own tools too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from qgis.core import QgsCoordinateReferenceSystem, QgsDefaultValue, QgsField, QgsProject, QgsVectorLayer

from ..errors import EditError
from .fields import DATE, REAL, TEXT, is_own, own_fields
from .messages import tr

__all__ = ["FieldMap", "not_own"]

_PROPERTY = "geosam_es/fields"
_TYPES = {"area": REAL, "score": REAL, "date": DATE, "image_date": DATE}
_SHAPEFILE_NAME = 10
_EQUAL_AREA = "EPSG:6933"
"""Areas are true on the ellipsoid in this CRS, whatever the settings of the project."""


@dataclass(frozen=True)
class FieldMap:
    """The fields of a layer.

    Attributes
    ----------
    names : mapping of str to str
        Field names by what is written: ``area`` (hectares), ``date``, ``image``, ``image_date``, ``prompts``,
        ``score``, ``interpreter`` and ``expression``.
    expression : str
        Expression of QGIS.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    expression: str = ""

    @classmethod
    def of(cls, layer: QgsVectorLayer) -> FieldMap:
        """Return the map of a layer, without fields that the layer no longer has, or that are not its own."""
        try:
            kept = json.loads(layer.customProperty(_PROPERTY, "{}"))
            names = {str(item): str(name) for item, name in kept["names"].items()}
            expression = str(kept["expression"])
        except (AttributeError, KeyError, TypeError, ValueError):
            return cls()
        own = own_fields(layer)
        return cls({item: name for item, name in names.items() if own.lookupField(name) >= 0}, expression)

    def apply(self, layer: QgsVectorLayer, class_field: str = "") -> None:
        """Keep the map with a layer, add the fields that it and the class lack, and set their default values.

        Fields are added in one undo step if the layer is being edited.

        Raises
        ------
        EditError
            If a field cannot be added or written, or serves for two things. The layer is unchanged.
        """
        before = FieldMap.of(layer)
        chosen = [(class_field, TEXT)] if class_field else []
        chosen += [(name, _TYPES.get(item, TEXT)) for item, name in self.names.items()]
        names = [name.casefold() for name, _kind in chosen]
        for name, _kind in chosen:
            if names.count(name.casefold()) > 1:
                raise EditError(
                    tr("The field {field} is chosen more than once").format(field=name), tr("choose another field")
                )
            index = layer.fields().lookupField(name)
            if index >= 0 and not is_own(layer.fields(), index):
                raise not_own(layer, name)
        missing = [QgsField(name, kind) for name, kind in chosen if layer.fields().lookupField(name) < 0]
        if missing:
            _add_fields(layer, missing)
        for old, new in ((before, False), (self, True)):
            for item, expression in (("area", _area_expression(layer.crs())), ("expression", old.expression)):
                index = layer.fields().lookupField(old.names.get(item, ""))
                if index >= 0:
                    layer.setDefaultValueDefinition(index, QgsDefaultValue(expression if new else "", new))
        layer.setCustomProperty(_PROPERTY, json.dumps({"names": dict(self.names), "expression": self.expression}))
        QgsProject.instance().setDirty(True)


def not_own(layer: QgsVectorLayer, name: str) -> EditError:
    """Return the error that a field is a joined or a computed one."""
    problem = tr("The field {field} of {layer} is joined or computed, so nothing can be written to it")
    return EditError(problem.format(field=name, layer=layer.name()), tr("choose another field"))


def _add_fields(layer: QgsVectorLayer, fields: list[QgsField]) -> None:
    is_shapefile = layer.storageType() == "ESRI Shapefile"
    refused = [new for new in fields if is_shapefile and len(new.name()) > _SHAPEFILE_NAME]
    if not refused and layer.isEditable():
        layer.beginEditCommand(tr("Add fields"))
        refused = [new for new in fields if not layer.addAttribute(new)]
        if refused:
            layer.destroyEditCommand()
        else:
            layer.endEditCommand()
    elif not refused:
        layer.dataProvider().addAttributes(fields)
        layer.updateFields()
        refused = [new for new in fields if layer.fields().lookupField(new.name()) < 0]
    if refused:
        problem = tr("The field {field} cannot be added to {layer}").format(field=refused[0].name(), layer=layer.name())
        raise EditError(problem, tr("choose a field of the layer, or a name of up to 10 letters and digits"))


def _area_expression(crs: QgsCoordinateReferenceSystem) -> str:
    if not crs.authid():
        return "round(area($geometry) / 10000, 4)"
    return f"round(area(transform($geometry, '{crs.authid()}', '{_EQUAL_AREA}')) / 10000, 4)"
