"""Class lists, such as habitats or land cover: from the field and style of a layer, or from a CSV file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsEditorWidgetSetup,
    QgsExpression,
    QgsFeatureRequest,
    QgsFillSymbol,
    QgsProject,
    QgsRendererCategory,
    QgsValueMapFieldFormatter,
    QgsValueRelationFieldFormatter,
    QgsVectorLayer,
)
from qgis.PyQt.QtGui import QColor

from .class_csv import parse_class_csv, read_text

__all__ = ["ClassItem", "ClassList", "apply_classes", "classes_of_layer", "read_class_csv"]


@dataclass(frozen=True)
class ClassItem:
    """One class.

    Attributes
    ----------
    code : object
        The value written to the field.
    name : str
    color : QColor, optional
    """

    code: Any
    name: str
    color: QColor | None = None


@dataclass(frozen=True)
class ClassList:
    """Classes in the order of their source.

    Attributes
    ----------
    field : str, optional
        Name of the field that the classes belong to; None for a list from a file.
    items : tuple of ClassItem
    """

    field: str | None
    items: tuple[ClassItem, ...]


def classes_of_layer(layer: QgsVectorLayer) -> ClassList | None:
    """Read the classes of a layer, or return None if it has none.

    They belong to the field that the style uses, or else to the first with a value map or value relation. The names
    come from the value map or value relation, or else from the categorised style; the colours always come from the
    style.
    """
    fields = layer.fields()
    styled = _styled_field(layer)
    for name in [styled, *fields.names()]:
        index = fields.lookupField(name) if name else -1
        if index < 0:
            continue
        shown = _category_items(layer, index) if name == styled else []
        colors = {str(item.code): item.color for item in shown}
        named = [ClassItem(code, text, colors.get(str(code))) for code, text in _named_codes(layer, index)]
        if named or shown:
            return ClassList(fields.at(index).name(), tuple(named or shown))
    return None


def _styled_field(layer: QgsVectorLayer) -> str | None:
    renderer = layer.renderer()
    if not isinstance(renderer, QgsCategorizedSymbolRenderer):
        return None
    attribute = renderer.classAttribute()
    if layer.fields().lookupField(attribute) >= 0:
        return str(attribute)
    expression = QgsExpression(attribute)
    return next(iter(expression.referencedColumns()), None) if expression.isField() else None


def _category_items(layer: QgsVectorLayer, index: int) -> list[ClassItem]:
    items = []
    for category in layer.renderer().categories():
        value = category.value()
        # A category may have several values; the first is used. The category for all other values has none.
        first = value[0] if isinstance(value, list) and value else value
        code = _fitted(layer, index, first)
        if code is not None:
            items.append(ClassItem(code, category.label() or str(code), QColor(category.symbol().color())))
    return items


def _named_codes(layer: QgsVectorLayer, index: int) -> Iterator[tuple[Any, str]]:
    setup = layer.editorWidgetSetup(index)
    pairs: list[tuple[Any, Any]] = []
    if setup.type() == "ValueMap":
        known = setup.config().get("map") or {}
        maps = [known] if isinstance(known, dict) else known
        pairs = [(value, name) for entry in maps for name, value in entry.items()]
    elif setup.type() == "ValueRelation":
        pairs = _related_pairs(setup.config())
    for value, name in pairs:
        code = _fitted(layer, index, value)
        if code is not None:
            yield code, str(name) or str(code)


def _related_pairs(config: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """Read the table of a value relation, in the order of its widget.

    The cache that QGIS has of it cannot be used: reading its items from Python crashes QGIS 3.40 on Debian.
    """
    table = QgsValueRelationFieldFormatter.resolveLayer(dict(config), QgsProject.instance())
    if table is None or not table.isValid():
        return []
    columns = [table.fields().lookupField(str(config.get(name, ""))) for name in ("Key", "Value")]
    if min(columns) < 0:
        return []
    request = QgsFeatureRequest().setSubsetOfAttributes(columns).setFlags(QgsFeatureRequest.Flag.NoGeometry)
    wanted = config.get("FilterExpression")
    # A filter on the feature being edited cannot be evaluated here: offer all classes.
    if wanted and not QgsValueRelationFieldFormatter.expressionRequiresFormScope(wanted):
        request.setFilterExpression(wanted)
    pairs = [(feature.attribute(columns[0]), feature.attribute(columns[1])) for feature in table.getFeatures(request)]
    for option, column in (("OrderByKey", 0), ("OrderByValue", 1)):
        if config.get(option):
            pairs.sort(key=partial(_order, column=column))
    return pairs


def _order(pair: tuple[Any, Any], column: int) -> tuple[float, str]:
    value = pair[column]
    number = float(value) if isinstance(value, (int, float)) else 0.0
    return number, str(value).casefold()


def _fitted(layer: QgsVectorLayer, index: int, value: Any) -> Any:
    """Return a value converted to the type of the field, None if that is not possible."""
    if value is None or str(value) in ("", "NULL", QgsValueMapFieldFormatter.NULL_VALUE):
        return None
    try:
        return layer.fields().at(index).convertCompatible(value)
    except ValueError:
        return None


def read_class_csv(path: Path) -> ClassList:
    """Read a class list from a text file.

    Delimiter, header and columns are detected: a code, a name, and a colour as ``#rrggbb``, ``r-g-b`` or in three
    columns. With a header the columns may have any order, without one this order. For encodings see `read_text`.

    Raises
    ------
    EditError
        If the file cannot be read or contains no classes.
    """
    rows = parse_class_csv(read_text(path), path)
    return ClassList(None, tuple(ClassItem(row.code, row.name, QColor(*row.rgb) if row.rgb else None) for row in rows))


def apply_classes(layer: QgsVectorLayer, field: str, classes: ClassList) -> None:
    """Give the field a value map of the classes, and the layer a categorised style if the classes have colours."""
    index = layer.fields().lookupField(field)
    entries = [{_entry_name(item): str(item.code)} for item in classes.items]
    layer.setEditorWidgetSetup(index, QgsEditorWidgetSetup("ValueMap", {"map": entries}))
    if any(item.color for item in classes.items):
        categories = [QgsRendererCategory(item.code, _symbol(item.color), _entry_name(item)) for item in classes.items]
        layer.setRenderer(QgsCategorizedSymbolRenderer(field, categories))


def _entry_name(item: ClassItem) -> str:
    return item.name if item.name.startswith(str(item.code)) else f"{item.code} {item.name}"


def _symbol(color: QColor | None) -> QgsFillSymbol:
    symbol: QgsFillSymbol = QgsFillSymbol.createSimple({"outline_width": "0.3"})  # type: ignore[assignment]
    symbol.setColor(color or QColor("#999999"))
    symbol.setOpacity(0.6)
    return symbol
