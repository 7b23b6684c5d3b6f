"""Several classes on one polygon: the fields they are written to, and their percentages."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from qgis.core import QgsFieldProxyModel, QgsProject, QgsVectorLayer
from qgis.gui import QgsCollapsibleGroupBoxBasic, QgsFieldComboBox
from qgis.PyQt import sip
from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QSizePolicy, QSpinBox, QWidget

from ...qgis_support.fields import own_fields
from ...qgis_support.messages import tr

__all__ = ["MAX_PARTS", "MixFields", "PercentBox", "rebalanced"]

MAX_PARTS = 3
_PROPERTY = "geosam_es/mix_fields"
_SHARES = ((), (100,), (60, 40), (50, 30, 20))


def rebalanced(percents: Sequence[int], index: int, value: int) -> list[int]:
    """Set one of several percentages and change the others, the last first, so that the sum is 100 and none is 0."""
    result = list(percents)
    others = [other for other in reversed(range(len(result))) if other != index]
    result[index] = max(1, min(value, 100 - len(others)))
    rest = 100 - sum(result)
    for other in others:
        changed = max(1, result[other] + rest)
        rest -= changed - result[other]
        result[other] = changed
    return result


class PercentBox(QWidget):
    """Percentages of the classes of a mix; hidden unless there are several.

    Signals
    -------
    changed
        The user has changed a percentage.
    finished
        The user has pressed Enter.
    """

    changed = pyqtSignal()
    finished = pyqtSignal()

    def __init__(self) -> None:
        super().__init__()
        self.values: list[int] = []
        self._spins = [_PercentSpin() for _ in range(MAX_PARTS)]
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for index, spin in enumerate(self._spins):
            spin.valueChanged.connect(lambda value, index=index: self._on_value(index, value))
            spin.finished.connect(self.finished.emit)
            row.addWidget(spin)
        self.hide()

    def set_parts(self, names: Sequence[str], percents: Sequence[int] | None = None) -> None:
        """Show the percentages of some classes; usual ones if ``percents`` are not as many."""
        count = len(names)
        self.values = list(percents if percents is not None and len(percents) == count else _SHARES[count])
        for spin, name in zip(self._spins, names):
            spin.setToolTip(name)
        self._show()

    def _show(self) -> None:
        for index, spin in enumerate(self._spins):
            spin.setVisible(index < len(self.values))
            if index < len(self.values):
                spin.blockSignals(True)
                spin.setValue(self.values[index])
                spin.blockSignals(False)
        self.setVisible(len(self.values) > 1)

    def _on_value(self, index: int, value: int) -> None:
        self.values = rebalanced(self.values, index, value)
        self._show()
        self.changed.emit()


class _PercentSpin(QSpinBox):
    finished = pyqtSignal()

    def __init__(self) -> None:
        super().__init__()
        self.setRange(1, 99)
        self.setSingleStep(5)
        self.setSuffix(" %")
        # The 7 of 70 does not change the other percentages.
        self.setKeyboardTracking(False)
        # Three of them fit into the panel.
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def keyPressEvent(self, event: Any) -> None:  # noqa: N802
        super().keyPressEvent(event)
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Escape):
            event.accept()
            self.finished.emit()


class MixFields(QgsCollapsibleGroupBoxBasic):
    """The fields of a layer for up to three classes and their percentages. They are remembered with the layer.

    Signals
    -------
    changed
        The user has chosen other fields.
    """

    changed = pyqtSignal()

    def __init__(self) -> None:
        super().__init__(tr("Several classes"))
        self.setCollapsed(True)
        self.setToolTip(tr("Ctrl+click or Shift+click on a class adds it, with a percentage"))
        self._layer: QgsVectorLayer | None = None
        self._pairs = [
            (
                _field_combo(tr("Field of class {number}"), number),
                _field_combo(tr("Field of percentage {number}"), number),
            )
            for number in range(1, MAX_PARTS + 1)
        ]
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        for row, pair in enumerate(self._pairs):
            grid.addWidget(QLabel(str(row + 1)), row, 0)
            for column, combo in enumerate(pair):
                grid.addWidget(combo, row, column + 1)
                grid.setColumnStretch(column + 1, 1)
                combo.activated.connect(lambda _index, row=row, column=column: self._on_chosen(row, column))
            pair[1].setFilters(QgsFieldProxyModel.Filter.Numeric)

    def set_layer(self, layer: QgsVectorLayer | None) -> None:
        """Show the fields chosen for a layer."""
        self._layer = layer
        self.show_fields()
        self.setVisible(layer is not None)

    def show_fields(self) -> None:
        """Show the fields that are remembered with the layer, as far as it has them."""
        known = own_fields(self._layer)
        for combo, name in zip(self._combos(), _remembered(self._layer)):
            combo.setFields(known)
            combo.setField(name if name in known.names() else "")

    def choose(self, names: Sequence[str]) -> None:
        """Choose the fields: class 1, percentage 1, class 2 and so on; empty names for none."""
        for combo, name in zip(self._combos(), names):
            combo.setField(name)
        self._keep()

    @property
    def capacity(self) -> int:
        """How many classes can be written to one polygon."""
        full = [bool(kind.currentField() and percent.currentField()) for kind, percent in self._pairs]
        return full.index(False) if False in full else len(full)

    @property
    def names(self) -> list[str]:
        """Names of the fields in use."""
        return [combo.currentField() for pair in self._pairs[: self.capacity] for combo in pair]

    def values(self, parts: Sequence[tuple[Any, int]]) -> dict[str, Any]:
        """Return the values of the fields for some classes and percentages; those not needed become NULL."""
        padded = [*parts, *[(None, None)] * MAX_PARTS]
        flat = [value for part in padded[: self.capacity] for value in part]
        return dict(zip(self.names, flat))

    def ask(self) -> None:
        """Show where the fields are chosen."""
        if self.capacity < MAX_PARTS:
            self.setCollapsed(False)

    def _combos(self) -> list[QgsFieldComboBox]:
        return [combo for pair in self._pairs for combo in pair]

    def _on_chosen(self, row: int, column: int) -> None:
        chosen = self._pairs[row][column].currentField()
        if row == 0 and self._layer is not None and re.search("1$", chosen):
            # class1 is followed by class2 and class3.
            for number, pair in enumerate(self._pairs[1:], 2):
                name = f"{chosen[:-1]}{number}"
                if not pair[column].currentField() and name in own_fields(self._layer).names():
                    pair[column].setField(name)
        self._keep()

    def _keep(self) -> None:
        if self._layer is not None and not sip.isdeleted(self._layer):
            self._layer.setCustomProperty(_PROPERTY, json.dumps([combo.currentField() for combo in self._combos()]))
            QgsProject.instance().setDirty(True)
        self.changed.emit()


def _remembered(layer: QgsVectorLayer | None) -> list[str]:
    nothing = [""] * 2 * MAX_PARTS
    try:
        names = json.loads(layer.customProperty(_PROPERTY)) if layer is not None else nothing
    except (TypeError, ValueError):
        return nothing
    return [str(name) for name in [*names, *nothing][: len(nothing)]]


def _field_combo(tip: str, number: int) -> QgsFieldComboBox:
    combo = QgsFieldComboBox()
    combo.setAllowEmptyFieldName(True)
    combo.setToolTip(tip.format(number=number))
    # Two of them fit side by side into the panel.
    combo.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    return combo
