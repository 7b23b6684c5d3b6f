"""The part of the panel with the options for polygons."""

from __future__ import annotations

from typing import Any

from qgis.gui import QgsCollapsibleGroupBox
from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QCheckBox, QDoubleSpinBox, QFormLayout

from ...qgis_support.messages import tr
from ...qgis_support.settings import Settings

__all__ = ["OptionsBox"]


class OptionsBox(QgsCollapsibleGroupBox):
    """Edits the settings for polygons.

    Signals
    -------
    changed
    """

    changed = pyqtSignal()

    def __init__(self, settings: Settings) -> None:
        super().__init__(tr("Polygon options"))
        self.setObjectName("GeoSamEsPolygonOptions")
        self.setCollapsed(True)
        self._settings = settings
        form = QFormLayout(self)
        form.addRow(
            tr("Simplify"),
            self._number("simplify_pixels", tr(" px"), 20.0, 0.5, tr("Maximum distance by which the outline may move")),
        )
        form.addRow(
            tr("Fill holes below"), self._number("fill_holes_m2", " m²", 1e7, 5.0, tr("Smaller holes are filled"))
        )
        form.addRow(tr("Minimum area"), self._number("min_area_m2", " m²", 1e8, 10.0, tr("Smaller parts are dropped")))
        form.addRow(
            tr("Snap to neighbours"),
            self._number(
                "snap_m",
                " m",
                50.0,
                0.5,
                tr("Borders closer than this to other polygons of the layer are moved onto them (in metres)"),
            ),
        )
        form.addRow(self._flag("right_angles", tr("Right angles"), tr("Square the corners of buildings")))
        form.addRow(
            self._flag(
                "trim_overlaps", tr("No overlaps"), tr("Cut off the parts that other polygons of the layer cover")
            )
        )
        form.addRow(
            self._flag("open_form", tr("Open the form"), tr("Open the attribute form for each accepted polygon"))
        )
        form.addRow(
            self._flag(
                "provenance_table",
                tr("Keep prompts in a table"),
                tr("In a GeoPackage without fields for prompts, so that polygons can be refined later"),
            )
        )

    def _number(self, setting: str, suffix: str, maximum: float, step: float, tip: str) -> Any:
        box = QDoubleSpinBox()
        box.setObjectName(setting)
        box.setRange(0.0, maximum)
        box.setDecimals(2)
        box.setSingleStep(step)
        box.setSuffix(suffix)
        box.setToolTip(tip)
        box.setValue(getattr(self._settings, setting))
        # Not for every typed digit, because each change redraws the polygon.
        box.setKeyboardTracking(False)
        box.valueChanged.connect(lambda value: self._store(setting, value))
        return box

    def _flag(self, setting: str, text: str, tip: str) -> QCheckBox:
        box = QCheckBox(text)
        box.setObjectName(setting)
        box.setToolTip(tip)
        box.setChecked(getattr(self._settings, setting))
        box.toggled.connect(lambda checked: self._store(setting, checked))
        return box

    def _store(self, setting: str, value: float | bool) -> None:
        setattr(self._settings, setting, value)
        self.changed.emit()
