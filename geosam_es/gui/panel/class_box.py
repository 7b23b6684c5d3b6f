"""The part of the panel for classes: the class field, the list, the chosen classes and what will be written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from qgis.core import QgsVectorLayer
from qgis.gui import QgsFieldComboBox
from qgis.PyQt.QtCore import QItemSelectionModel, QSize, Qt, pyqtSignal
from qgis.PyQt.QtGui import QColor, QIcon, QKeyEvent, QMouseEvent, QPixmap
from qgis.PyQt.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QGroupBox,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QSizePolicy,
    QVBoxLayout,
)

from ...core.codes import code_text
from ...qgis_support.classes import ClassItem, ClassList, plain_text
from ...qgis_support.fields import own_fields
from ...qgis_support.messages import tr
from .actions import CLASS_KEYS
from .class_mix import MixFields, PercentBox
from .widgets import ElidedLabel, flat_button, row_of

__all__ = ["ClassBox"]

_SWATCH_PIXELS = 14
_MAX_ROWS = 9
_MARK = "◆"
"""Before the probability of the suggested class."""
_CLASS_FIELDS = ("class", "clase", "classe", "code", "codigo", "codi", "habitat")


class ClassBox(QGroupBox):
    """Shows a list of classes. The chosen class, or a mix of up to three, is kept from polygon to polygon.

    Attributes
    ----------
    classes : ClassList, optional
        The classes in the list.
    mix_fields : MixFields
        Fields of the layer for the classes of a mix and their percentages.
    hold : callable
        Keeps a choice for later if it belongs to the next polygon, and returns whether it does.

    Signals
    -------
    colour_changed : QColor or None
        Colour of the chosen class; also sent when the class changes and its colour does not.
    csv_chosen : str
        Path of a file with classes.
    field_chosen : str
        The user has chosen another class field.
    finished
        The user has ended typing; the map should get the keys.
    suggestion_changed
    """

    colour_changed = pyqtSignal(object)
    csv_chosen = pyqtSignal(str)
    field_chosen = pyqtSignal(str)
    finished = pyqtSignal()
    suggestion_changed = pyqtSignal()

    def __init__(self) -> None:
        super().__init__(tr("Class"))
        self._layer: QgsVectorLayer | None = None
        self._named = ""
        self.hold: Callable[[Callable[[], None]], bool] = lambda _choice: False
        self._items: tuple[ClassItem, ...] = ()
        self._row_of_code: dict[str, int] = {}
        # What counts of the text and the percentages: an accepted polygon that is not written yet keeps those before.
        self._written_text, self._shares = "", list[int]()
        self._rows: list[int] = []
        self._suggested, self._probability = "", 0.0
        self.classes: ClassList | None = None
        self._field = QgsFieldComboBox()
        self._field.setAllowEmptyFieldName(True)
        self._field.setToolTip(tr("Field that the class is written to"))
        self._field.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._field.activated.connect(lambda _index: self._on_field())
        csv = flat_button()
        csv.setText("CSV…")
        csv.setToolTip(tr("Load classes from a CSV file with code, name and colour"))
        csv.clicked.connect(self._browse)
        self._search = _Line()
        self._search.setPlaceholderText(tr("Type to find a class"))
        self._search.textChanged.connect(self._filter)
        self._search.entered.connect(self._on_searched)
        self._search.escaped.connect(self._on_search_left)
        self._list = _List()
        self._list.picked.connect(self._on_picked)
        self._list.currentRowChanged.connect(self._on_row)
        self._text = _Line()
        self._text.setPlaceholderText(tr("Class of the next polygons"))
        self._text.textChanged.connect(lambda _text: self.take_typed())
        self._text.entered.connect(self.finished.emit)
        self._text.escaped.connect(self.finished.emit)
        self._percents = PercentBox()
        self._percents.changed.connect(self.take_typed)
        self._percents.finished.connect(self.finished.emit)
        self._written = ElidedLabel()
        self.mix_fields = MixFields()
        self.mix_fields.changed.connect(self._on_mix_fields)
        row = row_of(self._field, csv)
        row.setStretch(0, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addLayout(row)
        for widget in (self._text, self._search, self._list, self._percents, self._written, self.mix_fields):
            layout.addWidget(widget)
        self.set_classes(None)

    def set_layer(self, layer: QgsVectorLayer | None) -> None:
        """Show the fields of a layer. A class typed for another layer is forgotten."""
        if layer is not self._layer or layer is None:
            self._set_text("")
        self._layer = layer
        self._field.setFields(own_fields(layer))
        self.mix_fields.set_layer(layer)
        self._field.setField(self._likely_field())
        self._named = self.field

    def set_field(self, field: str) -> None:
        """Choose the class field, if the layer has it."""
        if field in own_fields(self._layer).names():
            self._field.setField(field)
            self._named = field

    def choose_field(self, field: str) -> None:
        """Choose the class field, as the user does in the list; an empty name stands for none."""
        self._field.setField(field)
        self._on_field()

    def show_fields(self) -> None:
        """Show the fields again after the layer's have changed; the list of fields forgets which one is chosen."""
        named = self._named
        self._field.setFields(own_fields(self._layer))
        self._field.setField("")
        self.set_field(named)
        self.mix_fields.show_fields()
        self._on_mix_fields()

    def set_classes(self, classes: ClassList | None) -> None:
        """Show a list of classes. Its field is selected, and the chosen classes are kept if the list has them."""
        before = [self._items[row].code for row in self._rows]
        percents = self._shares
        self.classes = classes
        self._items = classes.items if classes is not None else ()
        # Of several rows with the same code, the first one.
        self._row_of_code = {code_text(item.code): row for row, item in reversed(list(enumerate(self._items)))}
        if classes is not None and classes.field:
            self.set_field(classes.field)
        self._search.clear()
        self._list.blockSignals(True)
        self._list.clear()
        for index, item in enumerate(self._items):
            shown = QListWidgetItem(_swatch(self._colour(index)), self._row_text(index))
            shown.setToolTip(item.title)
            self._list.addItem(shown)
        self._list.blockSignals(False)
        self._list.fit_rows(_MAX_ROWS)
        self._list.setVisible(bool(self._items))
        self._search.setVisible(bool(self._items))
        self._text.setVisible(not self._items)
        codes = [item.code for item in self._items]
        kept = [codes.index(code) for code in before if code in codes]
        self._set_rows(kept, percents if len(kept) == len(before) else None)
        if self._items:
            self._set_text("")
        self._show_suggestion()

    def choose(self, index: int) -> None:
        """Choose the class at a position in the list, alone."""
        if 0 <= index < len(self._items) and not self.hold(partial(self.choose, index)):
            self._set_rows([index])

    def suggest(self, name: str, probability: float) -> None:
        """Show the class that the polygon on the map seems to have; an empty name for none."""
        if (name, probability) != (self._suggested, self._probability):
            self._suggested, self._probability = name, probability
            self._show_suggestion()

    @property
    def suggestion(self) -> str:
        """The suggested class and its probability, for people; empty if there is none."""
        row = self._suggested_row
        title = self._items[row].title if row is not None else self._suggested
        # A class that is not in the list cannot be chosen.
        return f"{title} {round(100 * self._probability)} %" if title and (row is not None or not self._items) else ""

    @property
    def _suggested_row(self) -> int | None:
        return self._row_of_code.get(self._suggested)

    def _row_text(self, index: int) -> str:
        """Return the number, code and name of a class; with its probability if it is suggested."""
        item = self._items[index]
        number = f"{index + 1}  " if index < CLASS_KEYS else "    "
        # The names in value maps often start with the code.
        code = "" if item.title == item.name else f"{code_text(item.code)}  "
        mark = f"  {_MARK} {round(100 * self._probability)} %" if index == self._suggested_row else ""
        return f"{number}{code}{item.name}{mark}"

    def _show_suggestion(self) -> None:
        for index in range(len(self._items)):
            if self._list.item(index).text() != self._row_text(index):
                self._list.item(index).setText(self._row_text(index))
        if self._suggested_row is not None:
            self._list.scrollToItem(self._list.item(self._suggested_row))
        self._show_written()
        self.suggestion_changed.emit()

    def take_suggestion(self) -> None:
        """Choose the suggested class."""
        row = self._suggested_row
        if row is not None:
            self.choose(row)
        elif self.suggestion:
            self._text.setText(self._suggested)

    def toggle(self, index: int) -> None:
        """Add a class to the mix, or take it out."""
        if self.hold(partial(self.toggle, index)):
            return
        if index in self._rows:
            self._set_rows([row for row in self._rows if row != index])
        elif not self._rows or len(self._rows) < self.mix_fields.capacity:
            self._set_rows([*self._rows, index])
        else:
            self.mix_fields.ask()

    def show_values(self, values: Mapping[str, Any]) -> None:
        """Choose what `attributes` would give again, by field name; nothing if the list lacks a class."""
        flat = [values.get(name) for name in self.mix_fields.names]
        mix = [(code, percent) for code, percent in zip(flat[::2], flat[1::2]) if code is not None and percent]
        main = values.get(self.field)
        if len(mix) < 2 and main is not None:
            mix = [(main, 100)]
        known = [code_text(item.code) for item in self._items]
        codes = [code_text(code) for code, _ in mix]
        if set(codes) <= set(known):
            self._set_rows([known.index(code) for code in codes], [int(percent) for _, percent in mix])
        else:
            self._set_rows([])
        if not self._items:
            self._set_text(next(iter(codes), ""))

    @property
    def class_fields(self) -> list[str]:
        """Names of the fields that `attributes` may give values for."""
        return [name for name in (self.field, *self.mix_fields.names) if name]

    @property
    def current(self) -> ClassItem | None:
        """The chosen class; that of the largest part of a mix."""
        row = self._main_row()
        return self._items[row] if row is not None else None

    @property
    def colour(self) -> QColor | None:
        """Colour of the chosen class."""
        row = self._main_row()
        return self._colour(row) if row is not None else None

    @property
    def shown_text(self) -> str:
        """What is chosen, for people: a class, or a mix such as ``60 % 4090, 40 % 9340``; empty if nothing is."""
        if len(self._rows) == 1:
            return self._items[self._rows[0]].title
        parts = zip(self._shares, self._rows)
        return ", ".join(f"{percent} % {self._items[row].code}" for percent, row in parts) or self._typed()

    def attributes(self) -> Mapping[str, Any]:
        """Return the values to write, by field name."""
        parts = [(self._items[row].code, percent) for row, percent in zip(self._rows, self._shares)]
        if not parts and self._typed():
            parts = [(self._typed(), 100)]
        if not parts:
            return {}
        main = max(parts, key=lambda part: part[1])[0]
        return {**({self.field: main} if self.field else {}), **self.mix_fields.values(parts)}

    @property
    def field(self) -> str:
        """Name of the class field; empty if there is none."""
        return str(self._field.currentField())

    def _typed(self) -> str:
        return "" if self._items else self._written_text.strip()

    def _main_row(self) -> int | None:
        parts = list(zip(self._shares, self._rows))
        return max(parts, key=lambda part: part[0])[1] if parts else None

    def _likely_field(self) -> str:
        names = own_fields(self._layer).names()
        return next((name for wanted in _CLASS_FIELDS for name in names if plain_text(name) == wanted), "")

    def _colour(self, index: int) -> QColor:
        return self.classes.color(index) if self.classes is not None else QColor()

    def _set_rows(self, rows: list[int], percents: list[int] | None = None) -> None:
        self._rows = rows[: max(1, self.mix_fields.capacity)]
        if self._rows and self._list.isRowHidden(self._rows[-1]):
            # What is chosen is seen.
            self._search.clear()
        self._percents.set_parts([self._items[row].title for row in self._rows], percents)
        self._shares = self._percents.values
        self._list.show_chosen(self._rows)
        self._show_written()

    def take_typed(self) -> None:
        """Let the typed text and percentages count from now on, or later if they belong to the next polygon."""
        self._take(self._text.text(), self._percents.values)

    def _take(self, text: str, shares: list[int]) -> None:
        if not self.hold(partial(self._take, text, shares)) and (text, shares) != (self._written_text, self._shares):
            self._set(text, shares)

    def _set(self, text: str, shares: list[int]) -> None:
        self._written_text = text
        if len(shares) == len(self._rows):
            self._shares = shares
        self._show_written()

    def _set_text(self, text: str) -> None:
        self._text.blockSignals(True)
        self._text.setText(text)
        self._text.blockSignals(False)
        self._set(text, self._shares)

    def _show_written(self) -> None:
        """Say what the next polygon gets."""
        fields = [name for name, value in self.attributes().items() if value is not None]
        if not self.shown_text:
            shown = tr("No class chosen") if self._layer is not None else ""
        elif fields:
            shown = f"{self.shown_text} → {', '.join(fields)}"
        else:
            shown = tr("Not written: choose a class field") if self._layer is not None else self.shown_text
        # The classes of a mix leave no room for the fields.
        text = self.shown_text if len(self._rows) > 1 and fields else shown
        if self.suggestion:
            # With a list, its row shows the suggestion.
            text = text if self._items else f"{_MARK} {self.suggestion} · {text}"
            shown = tr("Suggested (key 0): {name}").format(name=self.suggestion) + "\n" + shown
        self._written.setText(text)
        self._written.setToolTip(shown)
        self._written.setVisible(bool(shown))
        self.colour_changed.emit(self.colour)

    def _on_row(self, row: int) -> None:
        if row >= 0 and row not in self._rows:
            self.choose(row)

    def _on_picked(self, row: int, adds: bool) -> None:
        (self.toggle if adds else self.choose)(row)

    def _on_field(self) -> None:
        self._named = self.field
        self._show_written()
        self.field_chosen.emit(self.field)

    def _on_mix_fields(self) -> None:
        self._set_rows(self._rows, self._shares)

    def _filter(self) -> None:
        found = self._found()
        for row in range(len(self._items)):
            self._list.setRowHidden(row, row not in found)
        self._list.show_chosen(self._rows)

    def _found(self) -> list[int]:
        """Return the rows that have all the words of the search."""
        words = plain_text(self._search.text()).split()
        titles = [plain_text(item.title) for item in self._items]
        return [row for row, title in enumerate(titles) if all(word in title for word in words)]

    def _on_searched(self) -> None:
        wanted, found = plain_text(self._search.text()).strip(), self._found()
        # The class 10 comes before the class 110.
        exact = [row for row in found if plain_text(code_text(self._items[row].code)) == wanted]
        if not found:
            return
        if wanted:
            self.choose((exact or found)[0])
        self._search.clear()
        self.finished.emit()

    def _on_search_left(self) -> None:
        if self._search.text():
            self._search.clear()
        else:
            self.finished.emit()

    def _browse(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, tr("Load classes"), "", tr("Tables (*.csv *.txt *.tsv)"))
        if path:
            self.csv_chosen.emit(path)


class _Line(QLineEdit):
    """A line that keeps Enter and Esc for itself, so that they do nothing on the map."""

    entered = pyqtSignal()
    escaped = pyqtSignal()

    def __init__(self) -> None:
        super().__init__()
        # Tab and the wheel do not bring the focus here.
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            event.accept()
            self.entered.emit()
        elif event.key() == Qt.Key.Key_Escape:
            event.accept()
            self.escaped.emit()
        else:
            super().keyPressEvent(event)


class _List(QListWidget):
    """Reports clicks on rows, with Shift or Ctrl as additions, and leaves the focus to the map."""

    picked = pyqtSignal(int, bool)

    def __init__(self) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setSelectionMode(QAbstractItemView.SelectionMode.MultiSelection)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setUniformItemSizes(True)

    def fit_rows(self, most: int) -> None:
        """Take the height of all rows, or of the first ones, and cut long texts where the list ends."""
        height = max(0, self.sizeHintForRow(0))
        for row in range(self.count()):
            # Wider rows would run out of the list.
            self.item(row).setSizeHint(QSize(0, height))
        self.setFixedHeight(min(self.count(), most) * height + 2 * self.frameWidth() if height else 0)

    def show_chosen(self, rows: list[int]) -> None:
        """Select rows, and scroll to the last."""
        self.blockSignals(True)
        self.clearSelection()
        for row in rows:
            self.item(row).setSelected(True)
        if rows:
            self.setCurrentItem(self.item(rows[-1]), QItemSelectionModel.SelectionFlag.NoUpdate)
            self.scrollToItem(self.item(rows[-1]))
        self.blockSignals(False)

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        item = self.itemAt(event.pos())
        if item is not None and event.button() == Qt.MouseButton.LeftButton:
            adds = event.modifiers() & (Qt.KeyboardModifier.ShiftModifier | Qt.KeyboardModifier.ControlModifier)
            self.picked.emit(self.row(item), bool(adds))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Select nothing by dragging."""

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        """Do as with a single click."""
        self.mousePressEvent(event)


def _swatch(colour: QColor) -> QIcon:
    pixmap = QPixmap(_SWATCH_PIXELS, _SWATCH_PIXELS)
    pixmap.fill(colour)
    icon = QIcon(pixmap)
    # Otherwise it would be tinted in a selected row.
    icon.addPixmap(pixmap, QIcon.Mode.Selected)
    return icon
