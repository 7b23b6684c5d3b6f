"""The dialog that says, once per layer, which fields get what when a polygon is accepted."""

from __future__ import annotations

from qgis.core import QgsVectorLayer
from qgis.gui import QgsExpressionLineEdit
from qgis.PyQt.QtWidgets import QComboBox, QDialog, QDialogButtonBox, QFormLayout, QLabel, QWidget

from ...qgis_support.field_map import FieldMap
from ...qgis_support.fields import own_fields
from ...qgis_support.messages import tr

__all__ = ["FieldsDialog"]


class FieldsDialog(QDialog):
    """Edits the `FieldMap` and the class field of a layer.

    Parameters
    ----------
    layer : QgsVectorLayer
    class_field : str
    parent : QWidget, optional
    """

    def __init__(self, layer: QgsVectorLayer, class_field: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(tr("Fields of {layer}").format(layer=layer.name()))
        known, names = FieldMap.of(layer), own_fields(layer).names()
        rows = {
            "class": tr("Class"),
            "area": tr("Area (ha)"),
            "date": tr("Date"),
            "image": tr("Image"),
            "image_date": tr("Date of the image"),
            "prompts": tr("Prompts"),
            "score": tr("Score"),
            "interpreter": tr("Interpreter"),
            "expression": tr("Expression"),
        }
        intro = QLabel(tr("Choose a field or type the name of a new one; leave empty what you do not need."))
        intro.setWordWrap(True)
        form = QFormLayout(self)
        form.addRow(intro)
        self._fields: dict[str, QComboBox] = {}
        for item, text in rows.items():
            combo = self._fields[item] = QComboBox()
            combo.setObjectName(item)
            combo.setEditable(True)
            combo.addItems(["", *names])
            combo.setCurrentText(class_field if item == "class" else known.names.get(item, ""))
            form.addRow(text, combo)
        self._fields["interpreter"].setToolTip(tr("Your full name, as set in the operating system or in QGIS"))
        self._fields["area"].setToolTip(tr("On the ellipsoid; QGIS updates it when the polygon changes"))
        self._expression = QgsExpressionLineEdit()
        self._expression.setLayer(layer)
        self._expression.setExpression(known.expression)
        form.addRow("", self._expression)
        buttons = QDialogButtonBox.StandardButton
        box = QDialogButtonBox(buttons.Ok | buttons.Cancel)
        box.accepted.connect(self.accept)
        box.rejected.connect(self.reject)
        form.addRow(box)

    @property
    def class_field(self) -> str:
        """The field that the class is written to; may be a new one."""
        return str(self._fields["class"].currentText()).strip()

    @property
    def field_map(self) -> FieldMap:
        """The other fields."""
        chosen = {item: str(combo.currentText()).strip() for item, combo in self._fields.items() if item != "class"}
        return FieldMap({item: name for item, name in chosen.items() if name}, str(self._expression.expression()))
