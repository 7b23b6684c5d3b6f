"""The part of the panel with the options for polygons."""

from __future__ import annotations

from typing import Any

from qgis.gui import QgsCollapsibleGroupBox
from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QDoubleSpinBox, QSizePolicy, QVBoxLayout

from ...qgis_support.messages import tr
from ...qgis_support.settings import Settings
from .outline_row import OutlineRow
from .widgets import Caption, FlowLayout, setting_box

__all__ = ["OptionsBox"]

_ARROWS_PIXELS = 28


class OptionsBox(QgsCollapsibleGroupBox):
    """Edits the settings for polygons."""

    changed = pyqtSignal()

    def __init__(self, settings: Settings) -> None:
        super().__init__(tr("Shape and borders"))
        self.setObjectName("GeoSamEsPolygonOptions")
        self.setCollapsed(True)
        self._settings = settings
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        numbers = (
            (
                "simplify_pixels",
                tr("Simplify"),
                tr(" px"),
                20.0,
                0.5,
                tr("Maximum distance by which the outline may move"),
            ),
            ("fill_holes_m2", tr("Fill holes below"), " m²", 1e7, 5.0, tr("Smaller holes are filled")),
            ("min_area_m2", tr("Minimum area"), " m²", 1e8, 10.0, tr("Smaller parts are dropped")),
            (
                "snap_m",
                tr("Snap to neighbours"),
                " m",
                50.0,
                0.5,
                tr("Borders closer than this to other polygons of the layer are moved onto them (in metres)"),
            ),
        )
        for setting, text, suffix, maximum, step, tip in numbers:
            box = self._number(setting, suffix, maximum, step, tip)
            label = Caption(text)
            label.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
            label.setBuddy(box)
            label.setToolTip(tip)
            row = FlowLayout(label, box)
            row.setAlignment(box, Qt.AlignmentFlag.AlignRight)
            layout.addLayout(row)
        self.outline = OutlineRow(settings)
        self.outline.changed.connect(self.changed.emit)
        layout.addWidget(self.outline)
        for setting, text, tip in (
            ("all_parts", tr("Keep all pieces"), tr("Also those without a click; otherwise specks are dropped")),
            ("trim_overlaps", tr("No overlaps"), tr("Cut off the parts that other polygons of the layer cover")),
            ("open_form", tr("Open the form"), tr("Open the attribute form for each accepted polygon")),
            (
                "provenance_table",
                tr("Prompts table"),
                tr("In a GeoPackage without fields for prompts, so that polygons can be refined later"),
            ),
        ):
            layout.addWidget(setting_box(settings, setting, text, tip, self.changed.emit))

    def _number(self, setting: str, suffix: str, maximum: float, step: float, tip: str) -> Any:
        box = QDoubleSpinBox()
        box.setObjectName(setting)
        box.setRange(0.0, maximum)
        box.setDecimals(2)
        box.setSingleStep(step)
        box.setSuffix(suffix)
        box.setToolTip(tip)
        # Room for a usual number; the largest would make the panel wide.
        box.setFixedWidth(box.fontMetrics().horizontalAdvance("0000.00 m²") + _ARROWS_PIXELS)
        box.setValue(getattr(self._settings, setting))
        # Not for every typed digit, because each change redraws the polygon.
        box.setKeyboardTracking(False)
        box.valueChanged.connect(lambda value: self._store(setting, value))
        return box

    def _store(self, setting: str, value: float) -> None:
        setattr(self._settings, setting, value)
        self.changed.emit()
