"""The part of the panel for layers whose polygons form a coverage: the rules of the layer, and what a check found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from qgis.core import QgsVectorLayer
from qgis.PyQt.QtCore import QSignalBlocker, Qt, pyqtSignal
from qgis.PyQt.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QListWidget,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from ...core.coverage import Ground
from ...qgis_support.coverage_mode import CoverageMode
from ...qgis_support.messages import tr
from .widgets import FlowLayout, number_row

__all__ = ["CoverageBox", "ground_text"]

_LIST_ROWS = 6


def ground_text(ground: str) -> str:
    """Return what a new polygon does with ground of others; ``ground`` is the value of a `Ground`."""
    return {
        Ground.FILL: tr("Fill: takes free ground"),
        Ground.CARVE: tr("Carve: neighbours give way"),
        Ground.SPLIT: tr("Split: cut out of one polygon"),
    }[Ground(ground)]


class CoverageBox(QWidget):
    """Edits the `CoverageMode` of a layer, and shows a list of findings.

    Signals
    -------
    changed
        The mode of the layer, or the layer, is another one.
    check_wanted, fields_wanted
        A button was pressed.
    chosen : int
        The finding at a position in the list.
    """

    changed = pyqtSignal()
    check_wanted = pyqtSignal()
    fields_wanted = pyqtSignal()
    chosen = pyqtSignal(int)

    def __init__(self) -> None:
        super().__init__()
        self._layer: QgsVectorLayer | None = None
        self._switch = QCheckBox(tr("Coverage mode"))
        self._switch.setObjectName("coverage")
        self._switch.setToolTip(
            tr("Accepted polygons share borders, without overlaps or narrow gaps. Remembered with the layer.")
        )
        self._switch.toggled.connect(lambda checked: self._change(is_on=checked))
        self._ground = QComboBox()
        self._ground.setObjectName("ground")
        for ground in Ground:
            self._ground.addItem(ground_text(ground.value), ground.value)
        self._ground.setToolTip(tr("What happens where a new polygon overlaps others (V)"))
        self._ground.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._ground.activated.connect(lambda _index: self._change(ground=self._ground.currentData()))
        self._rules = QWidget()
        rules = QVBoxLayout(self._rules)
        rules.setContentsMargins(0, 0, 0, 0)
        rules.addWidget(self._ground)
        self._numbers: dict[str, QDoubleSpinBox] = {}
        for name, text, tip, suffix, maximum, step in (
            ("tolerance_m", tr("Close gaps up to"), tr("Narrower gaps are closed (in metres)"), " m", 50.0, 0.5),
            (
                *("min_area_m2", tr("Minimum area"), tr("For classes that have none in the class list")),
                *(" m²", 1e8, 100.0),
            ),
            (
                *("max_gap_m2", tr("Large gaps from"), tr("Larger enclosed gaps, such as lakes, are not faults")),
                *(" m²", 1e9, 1000.0),
            ),
        ):
            row, box = number_row(text, tip, suffix, maximum, step)
            box.setObjectName(f"coverage_{name}")
            box.valueChanged.connect(lambda value, name=name: self._change(**{name: value}))
            self._numbers[name] = box
            rules.addLayout(row)
        self._checks = {
            "refuses_small": QCheckBox(tr("Refuse small parts")),
            "moves_borders": QCheckBox(tr("Neighbours follow")),
            "joins_class": QCheckBox(tr("Neighbours differ in class")),
        }
        self._checks["refuses_small"].setToolTip(tr("If off, they go to the neighbour with the longest border"))
        self._checks["moves_borders"].setToolTip(tr("Refining a polygon moves the borders that it shares"))
        self._checks["joins_class"].setToolTip(tr("If off, as for parcels, neighbours of the same class are allowed"))
        for name, check in self._checks.items():
            check.setObjectName(name)
            check.toggled.connect(lambda checked, name=name: self._change(**{name: checked}))
            rules.addWidget(check)
        self._check, fields = QPushButton(tr("Check coverage")), QPushButton(tr("Fields…"))
        self._check.setToolTip(tr("Find gaps, overlaps, slivers and small parts; N and Shift+N go through them"))
        self._check.clicked.connect(self.check_wanted.emit)
        fields.setToolTip(tr("What is written to the fields of the layer when a polygon is accepted"))
        fields.clicked.connect(self.fields_wanted.emit)
        self._list = QListWidget()
        self._list.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._list.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self._list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._list.setMinimumWidth(1)
        self._list.itemClicked.connect(lambda item: self.chosen.emit(self._list.row(item)))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._switch)
        layout.addWidget(self._rules)
        layout.addLayout(FlowLayout(self._check, fields))
        layout.addWidget(self._list)
        self.show_findings([], None)
        self.set_layer(None)

    @property
    def mode(self) -> CoverageMode:
        """The mode of the layer."""
        return CoverageMode.of(self._layer)

    def set_layer(self, layer: QgsVectorLayer | None) -> None:
        """Show the mode of a layer."""
        self._layer = layer
        self.setEnabled(layer is not None)
        self._show()
        self.changed.emit()

    def next_ground(self) -> str:
        """Choose the next of fill, carve and split, and return its text."""
        self._change(ground=self.mode.next_ground)
        return ground_text(self.mode.ground)

    def show_findings(self, texts: Sequence[str], current: int | None) -> None:
        """Show a list of findings, the current one selected."""
        if texts != [self._list.item(row).text() for row in range(self._list.count())]:
            self._list.clear()
            self._list.addItems(list(texts))
            self._list.setFixedHeight(max(1, self._list.sizeHintForRow(0)) * min(len(texts), _LIST_ROWS) + 4)
        self._list.setVisible(bool(texts))
        self._list.setCurrentRow(-1 if current is None else current)

    def show_checking(self, is_checking: bool) -> None:
        """Say whether a check is running."""
        self._check.setEnabled(not is_checking)
        self._check.setText(tr("Checking…") if is_checking else tr("Check coverage"))

    def _change(self, **options: Any) -> None:
        mode = replace(self.mode, **options)
        if self._layer is not None and mode != self.mode:
            mode.remember(self._layer)
            self._show()
            self.changed.emit()

    def _show(self) -> None:
        mode = self.mode
        widgets = (self._switch, *self._checks.values(), *self._numbers.values())
        blockers = [QSignalBlocker(widget) for widget in widgets]
        self._switch.setChecked(mode.is_on)
        self._ground.setCurrentIndex(self._ground.findData(mode.ground))
        for name, box in self._numbers.items():
            box.setValue(getattr(mode, name))
        for name, check in self._checks.items():
            check.setChecked(getattr(mode, name))
        del blockers
        self._rules.setVisible(mode.is_on)
