"""The part of the panel for classes: the class field, the list, and the chosen class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qgis.core import QgsVectorLayer
from qgis.gui import QgsFieldComboBox
from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtGui import QColor, QIcon, QPixmap
from qgis.PyQt.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QGroupBox,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QVBoxLayout,
)

from ...qgis_support.messages import tr
from .actions import CLASS_KEYS
from .widgets import flat_button, row_of

if TYPE_CHECKING:
    from ...qgis_support.classes import ClassItem, ClassList

__all__ = ["ClassBox"]

_SWATCH_PIXELS = 14
_MAX_ROWS = 9
_PALETTE = (
    "#4daf4a",
    "#e41a1c",
    "#377eb8",
    "#ff7f00",
    "#984ea3",
    "#ffd92f",
    "#a65628",
    "#f781bf",
    "#66c2a5",
    "#999999",
)


class ClassBox(QGroupBox):
    """Shows a list of classes. The chosen class is kept from polygon to polygon.

    Attributes
    ----------
    classes : ClassList, optional
        The classes in the list.

    Signals
    -------
    colour_changed : QColor or None
        Colour of the chosen class.
    csv_chosen : str
        Path of a file with classes.
    """

    colour_changed = pyqtSignal(object)
    csv_chosen = pyqtSignal(str)

    def __init__(self) -> None:
        super().__init__(tr("Class"))
        self._items: tuple[ClassItem, ...] = ()
        self.classes: ClassList | None = None
        self._field = QgsFieldComboBox()
        self._field.setAllowEmptyFieldName(True)
        self._field.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._field.setToolTip(tr("Field that the class is written to"))
        csv = flat_button()
        csv.setText("CSV…")
        csv.setToolTip(tr("Load classes from a CSV file with code, name and colour"))
        csv.clicked.connect(self._browse)
        self._list = QListWidget()
        self._list.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._list.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self._list.currentRowChanged.connect(self._on_row)
        self._text = QLineEdit()
        self._text.setPlaceholderText(tr("Class of the next polygons"))
        row = row_of(self._field, csv)
        row.setStretch(0, 1)
        layout = QVBoxLayout(self)
        layout.addLayout(row)
        layout.addWidget(self._text)
        layout.addWidget(self._list)
        self.set_classes(None)

    def set_layer(self, layer: QgsVectorLayer | None) -> None:
        """Show the fields of a layer."""
        self._field.setLayer(layer)

    def set_classes(self, classes: ClassList | None) -> None:
        """Show a list of classes. Its field is selected, and the chosen class is kept if the list has it."""
        before = self.current
        self.classes = classes
        self._items = classes.items if classes is not None else ()
        if classes is not None and classes.field:
            self._field.setField(classes.field)
        elif not self._field.currentField():
            self._field.setField(self._likely_field())
        self._list.clear()
        for index, item in enumerate(self._items):
            number = f"{index + 1}  " if index < CLASS_KEYS else "    "
            # The names in value maps often start with the code.
            code = "" if item.name.startswith(str(item.code)) else f"{item.code}  "
            self._list.addItem(QListWidgetItem(_swatch(self._colour(index)), f"{number}{code}{item.name}"))
        rows = min(len(self._items), _MAX_ROWS)
        self._list.setFixedHeight(rows * self._list.sizeHintForRow(0) + 2 * self._list.frameWidth() if rows else 0)
        self._list.setVisible(bool(self._items))
        self._text.setVisible(not self._items)
        kept = [index for index, item in enumerate(self._items) if before is not None and item.code == before.code]
        if kept:
            self._list.setCurrentRow(kept[0])

    def choose(self, index: int) -> None:
        """Choose the class at a position in the list."""
        if 0 <= index < len(self._items):
            self._list.setCurrentRow(index)

    def choose_value(self, value: Any) -> None:
        """Choose the class with a code, or none for a code that is not in the list; without a list, type it."""
        text = "" if value is None else str(value)
        codes = [str(item.code) for item in self._items]
        self._list.setCurrentRow(codes.index(text) if text in codes else -1)
        if not self._items:
            self._text.setText(text)

    @property
    def field(self) -> str:
        """Name of the class field; empty if there is none."""
        return str(self._field.currentField())

    @property
    def current(self) -> ClassItem | None:
        """The chosen class."""
        row = self._list.currentRow()
        return self._items[row] if 0 <= row < len(self._items) else None

    @property
    def colour(self) -> QColor | None:
        """Colour of the chosen class."""
        return self._colour(self._list.currentRow()) if self.current is not None else None

    def attributes(self) -> Mapping[str, Any]:
        """Return the values to write, by field name."""
        field = self._field.currentField()
        value = self.current.code if self.current is not None else self._text.text().strip() or None
        return {field: value} if field and value is not None else {}

    def _likely_field(self) -> str:
        layer = self._field.layer()
        names = [] if layer is None else [field.name() for field in layer.fields()]  # type: ignore[attr-defined]
        return next((name for name in names if name.lower() in ("class", "clase", "code", "habitat", "codigo")), "")

    def _colour(self, index: int) -> QColor:
        colour = self._items[index].color
        return colour if colour is not None else QColor(_PALETTE[index % len(_PALETTE)])

    def _on_row(self, _row: int) -> None:
        self.colour_changed.emit(self.colour)

    def _browse(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, tr("Load classes"), "", tr("Tables (*.csv *.txt *.tsv)"))
        if path:
            self.csv_chosen.emit(path)


def _swatch(colour: QColor) -> QIcon:
    pixmap = QPixmap(_SWATCH_PIXELS, _SWATCH_PIXELS)
    pixmap.fill(colour)
    return QIcon(pixmap)
