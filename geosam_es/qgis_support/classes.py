"""Class lists, such as habitats or land cover: from the field and style of a layer, or from a CSV file."""

from __future__ import annotations

import json
import unicodedata
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
    QgsSingleSymbolRenderer,
    QgsSymbolLayerUtils,
    QgsValueMapFieldFormatter,
    QgsValueRelationFieldFormatter,
    QgsVectorLayer,
)
from qgis.PyQt.QtGui import QColor

from ..core.codes import code_text
from ..errors import EditError
from .class_csv import parse_class_csv, read_text
from .messages import tr

__all__ = [
    "ClassItem",
    "ClassList",
    "apply_classes",
    "class_code",
    "classes_of_layer",
    "fill_symbol",
    "has_own_classes",
    "min_areas",
    "plain_text",
    "read_class_csv",
]

_PROPERTY = "geosam_es/classes"
"""Custom property of a layer: the field, and the value map and the colours that `apply_classes` gave it."""

_FILL_OPACITY = 0.25
_PALETTE = (
    *("#4daf4a", "#e41a1c", "#377eb8", "#ff7f00", "#984ea3"),
    *("#ffd92f", "#a65628", "#f781bf", "#66c2a5", "#999999"),
)
_GOLDEN_RATIO = 0.618034
"""Steps of this length around the circle of hues never meet."""


@dataclass(frozen=True)
class ClassItem:
    """One class.

    Attributes
    ----------
    code : object
        The value written to the field.
    name : str
    color : QColor, optional
    min_area_m2 : float, optional
        Minimum mapping unit, if the class has one of its own.
    """

    code: Any
    name: str
    color: QColor | None = None
    min_area_m2: float | None = None

    @property
    def title(self) -> str:
        """Code and name; the code once, because names in value maps often begin with it."""
        code = code_text(self.code)
        has_code = self.name.startswith(code) and not self.name[len(code) :][:1].isalnum()
        return self.name if has_code else f"{code} {self.name}"


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

    def color(self, index: int) -> QColor:
        """Return the colour of a class; one of a palette if it has none, different for each class."""
        spare = _PALETTE[index] if index < len(_PALETTE) else QColor.fromHsvF(index * _GOLDEN_RATIO % 1, 0.6, 0.85)
        return self.items[index].color or QColor(spare)


def plain_text(text: str) -> str:
    """Return a text without accents and case, for searching."""
    letters = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in letters if not unicodedata.combining(letter)).casefold()


def classes_of_layer(layer: QgsVectorLayer, field: str | None = None) -> ClassList | None:
    """Read the classes of a layer, or return None if it has none.

    They belong to ``field``, or by default to the field that the style uses, or else to the first with a value map or
    value relation. The names come from the value map or value relation, or else from the categorised style; the
    colours always come from the style.
    """
    fields = layer.fields()
    styled = _styled_field(layer)
    for name in [styled, *fields.names()] if field is None else [field]:
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
        code = class_code(layer, index, first)
        if code is not None:
            # Without the opacity of the fill.
            items.append(ClassItem(code, category.label() or str(code), QColor(category.symbol().color().rgb())))
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
        code = class_code(layer, index, value)
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


def class_code(layer: QgsVectorLayer, index: int, value: Any) -> Any:
    """Return a value converted to the type of a field of the layer, None if that is not possible."""
    if value is None or str(value) in ("", "NULL", QgsValueMapFieldFormatter.NULL_VALUE):
        return None
    try:
        code = layer.fields().at(index).convertCompatible(value)
        # Integer fields round: 1.2 would become the class 1. Booleans are integers in Python.
        is_rounded = isinstance(code, int) and not isinstance(code, bool) and float(value) != code
    except ValueError:
        return None
    return None if is_rounded else code


def read_class_csv(path: Path) -> ClassList:
    """Read a class list from a text file.

    Delimiter, header and columns are detected: a code, a name, and a colour as ``#rrggbb``, ``r-g-b`` or in three
    columns. With a header the columns may have any order, without one this order; and there may be a column with the
    minimum mapping unit, such as ``min_area`` (m²) or ``min_area_ha``. For encodings see `read_text`.

    Raises
    ------
    EditError
        If the file cannot be read or contains no classes.
    """
    rows = parse_class_csv(read_text(path), path)
    items = (ClassItem(row.code, row.name, QColor(*row.rgb) if row.rgb else None, row.min_area_m2) for row in rows)
    return ClassList(None, tuple(items))


def min_areas(layer: QgsVectorLayer) -> dict[str, float]:
    """Return the minimum mapping units of the classes that a layer was given, in square metres by code."""
    applied = _applied(layer)
    kept, index = applied["min_areas"], layer.fields().lookupField(applied["field"] or "")
    if not isinstance(kept, dict):
        return {}
    # Older versions wrote the whole numbers of a field with decimals as 311.0.
    end = ".0" if index >= 0 and layer.fields()[index].isNumeric() else ""
    return {code.removesuffix(end): area for code, area in kept.items()}


def has_own_classes(layer: QgsVectorLayer, field: str) -> bool:
    """Tell whether the user gave a field a value map, a value relation or a categorised style."""
    index = layer.fields().lookupField(field)
    if index < 0:
        return False
    applied, setup = _applied(layer), layer.editorWidgetSetup(index)
    if applied["field"] == field and setup.type() == "ValueMap" and setup.config().get("map") == applied["map"]:
        return False
    return classes_of_layer(layer, field) is not None


def apply_classes(layer: QgsVectorLayer, field: str, classes: ClassList) -> None:
    """Give a field a value map of the classes, and the layer a categorised style that lets an image show through.

    A style that the user made is kept. If it is a categorised style of the same field, it gets the classes that it
    lacks, because QGIS hides polygons without a category.

    Raises
    ------
    EditError
        If the field cannot hold the codes. The layer is unchanged.
    """
    index = layer.fields().lookupField(field)
    items = []
    for number, item in enumerate(classes.items):
        code = class_code(layer, index, item.code)
        if code is None:
            problem = tr("The field {field} cannot hold the value {value}").format(field=field, value=item.code)
            raise EditError(problem, tr("choose another class field"))
        items.append(ClassItem(code, item.title, classes.color(number), item.min_area_m2))
    before, renderer = _applied(layer), layer.renderer()
    applied = {
        "field": field,
        "map": [{item.name: str(item.code)} for item in items],
        "colors": {str(item.code): item.color.name() for item in items},
        "min_areas": {code_text(item.code): item.min_area_m2 for item in items if item.min_area_m2 is not None},
    }
    layer.setEditorWidgetSetup(index, QgsEditorWidgetSetup("ValueMap", {"map": applied["map"]}))
    layer.setCustomProperty(_PROPERTY, json.dumps(applied))
    styled = _styled_field(layer)
    is_plain = renderer is None or isinstance(renderer, QgsSingleSymbolRenderer)
    if is_plain or (styled is not None and styled == before["field"] and _colors(layer) == before["colors"]):
        categories = [QgsRendererCategory(item.code, fill_symbol(item.color), item.name) for item in items]
        categories.append(QgsRendererCategory("", fill_symbol(QColor("#808080")), tr("no class")))
        layer.setRenderer(QgsCategorizedSymbolRenderer(field, categories))
    elif styled == field:
        known = _colors(layer)
        changed = renderer.clone()
        for item in items:
            if str(item.code) not in known:
                changed.addCategory(QgsRendererCategory(item.code, fill_symbol(item.color), item.name))
        layer.setRenderer(changed)
    layer.triggerRepaint()


def _applied(layer: QgsVectorLayer) -> dict[str, Any]:
    """Return what `apply_classes` did to a layer."""
    nothing = {"field": None, "map": None, "colors": None, "min_areas": None}
    try:
        return {**nothing, **json.loads(layer.customProperty(_PROPERTY))}
    except (TypeError, ValueError):
        return nothing


def _colors(layer: QgsVectorLayer) -> dict[str, str]:
    """Return the colours of a categorised style by code."""
    index = layer.fields().lookupField(_styled_field(layer) or "")
    return {str(item.code): item.color.name() for item in _category_items(layer, index) if item.color is not None}


def fill_symbol(color: QColor, opacity: float = _FILL_OPACITY, outline_mm: float = 0.6) -> QgsFillSymbol:
    """Return a symbol that lets an image show through; the opacity is from 0 to 1."""
    fill = QColor(color)
    fill.setAlphaF(opacity)
    encoded = QgsSymbolLayerUtils.encodeColor(fill)
    options = {"color": encoded, "outline_color": color.name(), "outline_width": str(outline_mm)}
    symbol: QgsFillSymbol = QgsFillSymbol.createSimple(options)  # type: ignore[assignment]
    return symbol
