"""The part of the panel with the options for polygons."""

from __future__ import annotations

from qgis.gui import QgsCollapsibleGroupBox
from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QVBoxLayout, QWidget

from ...qgis_support.messages import tr
from ...qgis_support.settings import Settings
from .coverage_box import CoverageBox
from .outline_row import OutlineRow
from .widgets import number_row, setting_box

__all__ = ["OptionsBox"]

_KEPT_BY_COVERAGE = ("min_area_m2", "snap_m", "trim_overlaps")
"""Options that mean nothing where coverage mode keeps more."""


class OptionsBox(QgsCollapsibleGroupBox):
    """Edits the settings for polygons.

    Attributes
    ----------
    coverage : CoverageBox
    """

    changed = pyqtSignal()

    def __init__(self, settings: Settings) -> None:
        super().__init__(tr("Shape and borders"))
        self.setObjectName("GeoSamEsPolygonOptions")
        self.setCollapsed(True)
        self._settings = settings
        self._widgets: dict[str, list[QWidget]] = {}
        self.coverage = CoverageBox()
        self.coverage.changed.connect(self._on_coverage)
        # The group hides its own children when it is folded, and shows them all again.
        content = QWidget()
        QVBoxLayout(self).addWidget(content)
        self.layout().setContentsMargins(6, 6, 6, 6)
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 0, 0)
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
            row, box = number_row(text, tip, suffix, maximum, step)
            box.setObjectName(setting)
            box.setValue(getattr(settings, setting))
            box.valueChanged.connect(lambda value, setting=setting: self._store(setting, value))
            self._widgets[setting] = [row.itemAt(index).widget() for index in range(row.count())]
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
            check = setting_box(settings, setting, text, tip, self.changed.emit)
            self._widgets[setting] = [check]
            layout.addWidget(check)
        layout.addWidget(self.coverage)
        self._on_coverage()

    def _on_coverage(self) -> None:
        for setting in _KEPT_BY_COVERAGE:
            for widget in self._widgets[setting]:
                widget.setHidden(self.coverage.mode.is_on)
        self.changed.emit()

    def _store(self, setting: str, value: float) -> None:
        setattr(self._settings, setting, value)
        self.changed.emit()
