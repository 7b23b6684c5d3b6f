"""The part of the panel for the review: which polygons, how sure the machine was, and how many are left."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from qgis.core import QgsMapLayerProxyModel
from qgis.gui import QgsCollapsibleGroupBox, QgsMapLayerComboBox
from qgis.PyQt.QtCore import QSignalBlocker, Qt, pyqtSignal
from qgis.PyQt.QtGui import QPainter, QPaintEvent, QPalette
from qgis.PyQt.QtWidgets import QComboBox, QPushButton, QSlider, QVBoxLayout, QWidget

from ...qgis_support.messages import tr
from .widgets import Caption, FlowLayout, WrappedLabel, row_of

__all__ = ["ReviewBox"]

_STEPS = 100
_BINS = 50
_HISTOGRAM_PIXELS = 36


class ReviewBox(QgsCollapsibleGroupBox):
    """Chooses the polygons to review, and shows the queue.

    Attributes
    ----------
    finders : QVBoxLayout
        For what fills the queue.
    layers : QgsMapLayerComboBox

    Signals
    -------
    layer_chosen : QgsVectorLayer or None
        The layer to review.
    field_chosen : str
        The field with the confidence.
    order_chosen : bool
        Whether the nearest candidate comes next, not the most doubtful one.
    least_chosen : float
        The lowest confidence of what is in the queue.
    all_wanted
        Everything in the queue is to be accepted.
    """

    layer_chosen = pyqtSignal(object)
    field_chosen = pyqtSignal(str)
    order_chosen = pyqtSignal(bool)
    least_chosen = pyqtSignal(float)
    all_wanted = pyqtSignal()

    def __init__(self) -> None:
        super().__init__("")
        self.setObjectName("GeoSamEsReview")
        self.setCollapsed(True)
        self.finders = QVBoxLayout()
        self.layers = QgsMapLayerComboBox()
        self.layers.setFilters(QgsMapLayerProxyModel.Filter.PolygonLayer)
        self.layers.setAllowEmptyLayer(True, tr("nothing"))
        self.layers.setLayer(None)
        self.layers.setToolTip(tr("Polygons that a machine proposed: N goes to the first one"))
        self.layers.layerChanged.connect(self.layer_chosen.emit)
        self._fields, self._order = QComboBox(), QComboBox()
        self._fields.setToolTip(tr("Field that says how sure the machine was"))
        self._fields.currentIndexChanged.connect(
            lambda _index: self.field_chosen.emit(self._fields.currentData() or "")
        )
        self._order.addItems([tr("Doubtful first"), tr("Nearest next")])
        self._order.currentIndexChanged.connect(lambda index: self.order_chosen.emit(bool(index)))
        self._histogram = _Histogram()
        self._slider = QSlider(Qt.Orientation.Horizontal)
        self._slider.setRange(0, _STEPS)
        self._slider.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._slider.setToolTip(tr("Polygons with a lower value stay out of the queue"))
        self._slider.valueChanged.connect(lambda _value: self.least_chosen.emit(self._histogram.value(self._least)))
        self._all = QPushButton()
        self._all.clicked.connect(self.all_wanted.emit)
        self._state = WrappedLabel()
        self._content = QWidget()
        content = QVBoxLayout(self._content)
        content.setContentsMargins(0, 0, 0, 0)
        content.addLayout(FlowLayout(self._fields, self._order))
        for widget in (self._histogram, self._slider, self._all, self._state):
            content.addWidget(widget)
        # The group hides its own children when it is folded, and shows them all again.
        inner = QWidget()
        layout = QVBoxLayout(inner)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self.finders)
        row = row_of(Caption(tr("Review")), self.layers)
        row.setStretch(1, 1)
        layout.addLayout(row)
        layout.addWidget(self._content)
        QVBoxLayout(self).addWidget(inner)
        self.layout().setContentsMargins(6, 6, 6, 6)
        self.show_queue(0, (0, 0), None)

    @property
    def _least(self) -> float:
        return self._slider.value() / _STEPS

    def show_fields(self, fields: Sequence[str], field: str) -> None:
        """List the fields of another layer, the chosen one selected; all its candidates are in the queue."""
        blockers = [QSignalBlocker(widget) for widget in (self._fields, self._slider)]
        self._fields.clear()
        self._fields.addItem(tr("no confidence"), "")
        for name in fields:
            self._fields.addItem(name, name)
        self._fields.setCurrentIndex(max(0, self._fields.findData(field)))
        self._slider.setValue(0)
        del blockers

    def show_queue(self, count: int, counts: tuple[int, int], confidence: NDArray[np.float64] | None) -> None:
        """Show how many are in the queue, were accepted and rejected, and how sure the machine was.

        Parameters
        ----------
        count : int
        counts : tuple of int
        confidence : ndarray, optional
            Of all that is not judged, also of what the slider leaves out; None if nothing is under review.
        """
        self.setTitle(tr("Find and review ({count})").format(count=count))
        self._content.setVisible(confidence is not None)
        known = confidence[np.isfinite(confidence)] if confidence is not None else np.zeros(0)
        self._histogram.show_values(known, self._least)
        for widget in (self._histogram, self._slider):
            widget.setVisible(bool(len(known)))
        value = self._histogram.value(self._least)
        above = tr("Accept all from {value} ({count})") if self._slider.value() else tr("Accept all ({count})")
        self._all.setText(above.format(value=f"{value:.2f}", count=count))
        self._all.setEnabled(count > 0)
        self._state.setText(
            tr("{accepted} accepted · {rejected} rejected").format(accepted=counts[0], rejected=counts[1])
        )


class _Histogram(QWidget):
    """How many candidates have which confidence; those that the slider leaves out are grey."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(_HISTOGRAM_PIXELS)
        self._range = 0.0, 1.0
        self._counts: NDArray[np.int64] = np.zeros(_BINS, np.int64)
        self._least = 0.0

    def show_values(self, values: NDArray[np.float64], least: float) -> None:
        """Show values, and from which part of their range on they count."""
        if len(values):
            low, high = float(values.min()), float(values.max())
            # Most are between 0 and 1, whatever the best and worst are.
            self._range = (0.0, 1.0) if low >= 0 and high <= 1 else (min(low, self._range[0]), max(high, low + 1e-9))
        self._counts, self._least = np.histogram(values, _BINS, self._range)[0], least
        self.update()

    def value(self, part: float) -> float:
        """Return the value at a part of the range."""
        low, high = self._range
        return low + part * (high - low)

    def paintEvent(self, _event: QPaintEvent | None) -> None:  # noqa: N802
        """Paint the bars; called by Qt."""
        painter, palette = QPainter(self), self.palette()
        width, height = self.width() / _BINS, self.height()
        group = QPalette.ColorGroup.Active
        colours = palette.color(group, QPalette.ColorRole.Highlight), palette.color(group, QPalette.ColorRole.Mid)
        for index, share in enumerate(self._counts / max(1, self._counts.max())):
            # One is seen beside a thousand.
            bar = round(height * float(share)) if share == 0 else max(2, round(height * float(share)))
            left = round(index * width)
            painter.fillRect(
                left,
                height - bar,
                max(1, round((index + 1) * width) - left - 1),
                bar,
                colours[(index + 1) / _BINS <= self._least],
            )
        painter.end()
