"""The part of the panel for the review: which polygons, how sure the machine was, and how many are left."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from qgis.core import QgsMapLayerProxyModel, QgsVectorLayer
from qgis.gui import QgsCollapsibleGroupBox, QgsMapLayerComboBox
from qgis.PyQt.QtCore import QLocale, QSignalBlocker, Qt, pyqtSignal
from qgis.PyQt.QtGui import QPainter, QPaintEvent, QPalette
from qgis.PyQt.QtWidgets import QComboBox, QPushButton, QSizePolicy, QSlider, QVBoxLayout, QWidget

from ...qgis_support.messages import tr
from .widgets import Caption, FlowLayout, WrappedLabel, row_of

__all__ = ["ReviewBox"]

_STEPS, _BINS, _HISTOGRAM_PIXELS = 100, 50, 36


class ReviewBox(QgsCollapsibleGroupBox):
    """Chooses the polygons to review, and shows the queue.

    Attributes
    ----------
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
        The lowest confidence of what is in the queue; minus infinity for all, also without one.
    all_wanted
        Everything in the queue is to be accepted.
    similar_wanted, everything_wanted
        Similar objects, or all objects, are to be found.
    """

    layer_chosen = pyqtSignal(object)
    field_chosen = pyqtSignal(str)
    order_chosen = pyqtSignal(bool)
    least_chosen = pyqtSignal(float)
    all_wanted = pyqtSignal()
    similar_wanted = pyqtSignal()
    everything_wanted = pyqtSignal()

    def __init__(self) -> None:
        super().__init__("")
        self.setObjectName("GeoSamEsReview")
        self.setCollapsed(True)
        self.layers = QgsMapLayerComboBox()
        self.layers.setFilters(QgsMapLayerProxyModel.Filter.PolygonLayer)
        self.layers.setAllowEmptyLayer(True)
        self.layers.setLayer(None)
        self.layers.setToolTip(tr("Layer of polygons that a machine proposed"))
        self.layers.layerChanged.connect(self.layer_chosen.emit)
        self._fields, self._order = QComboBox(), QComboBox()
        for combo in (self._fields, self._order):
            combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._fields.setToolTip(tr("Field with the confidence of the machine"))
        self._fields.currentIndexChanged.connect(lambda _: self.field_chosen.emit(self._fields.currentData() or ""))
        self._order.addItems([tr("Doubtful first"), tr("Nearest next")])
        self._order.currentIndexChanged.connect(lambda index: self.order_chosen.emit(bool(index)))
        self._histogram, self._slider = _Histogram(), QSlider(Qt.Orientation.Horizontal)
        self._slider.setRange(0, _STEPS)
        self._slider.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._slider.setToolTip(tr("Polygons with a lower value, or without one, stay out of the queue"))
        self._slider.valueChanged.connect(
            lambda at: self.least_chosen.emit(self._histogram.value(at / _STEPS) if at else -np.inf)
        )
        self._all, self._state = QPushButton(), WrappedLabel()
        self._all.setToolTip(tr("In one undo step, the surest first; what cannot be accepted is left out"))
        self._all.clicked.connect(self.all_wanted.emit)
        # The group hides its own children when it is folded, and shows them all again.
        inner, self._content = QWidget(), QWidget()
        QVBoxLayout(self).addWidget(inner)
        self.layout().setContentsMargins(6, 6, 6, 6)
        layout, content = QVBoxLayout(inner), QVBoxLayout(self._content)
        for box in (layout, content):
            box.setContentsMargins(0, 0, 0, 0)
        row = row_of(Caption(tr("Review")), self.layers)
        row.setStretch(1, 1)
        self._similar, self._everything = QPushButton(tr("Find similar objects")), QPushButton(tr("Segment everything"))
        self._similar.setToolTip(tr("Find objects like the selected ones or the proposal"))
        self._similar.clicked.connect(self.similar_wanted.emit)
        self._everything.setToolTip(tr("Propose all objects of the image, of the view or of an area"))
        self._everything.clicked.connect(self.everything_wanted.emit)
        layout.addLayout(FlowLayout(self._similar, self._everything))
        layout.addLayout(row)
        layout.addWidget(self._content)
        content.addLayout(FlowLayout(self._fields, self._order))
        for widget in (self._histogram, self._slider, self._all, self._state):
            content.addWidget(widget)
        self.show_queue(0, (0, 0), None)

    def show_layer(self, layer: QgsVectorLayer | None, fields: Sequence[str], field: str) -> None:
        """Show another layer and its numeric fields, of which one is chosen; all its candidates are in the queue."""
        blockers = [QSignalBlocker(widget) for widget in (self.layers, self._fields, self._slider)]
        self.layers.setLayer(layer)
        self._fields.clear()
        for name in ("", *fields):
            self._fields.addItem(name or tr("No confidence field"), name)
        self._fields.setCurrentIndex(max(0, self._fields.findData(field)))
        self._slider.setValue(0)
        del blockers

    def show_queue(self, count: int, counts: tuple[int, int], confidence: NDArray[np.float64] | None) -> None:
        """Show how many are in the queue, and were accepted and rejected.

        ``confidence`` is that of all that is not judged, also of what the slider leaves out; None if nothing is under
        review.
        """
        self.setTitle(f"{tr('Find and review')} ({count})")
        self._content.setVisible(confidence is not None)
        known = confidence[np.isfinite(confidence)] if confidence is not None else np.zeros(0)
        part = self._slider.value() / _STEPS
        self._histogram.show_values(known, part)
        for widget in (self._histogram, self._slider):
            widget.setVisible(bool(len(known)))
        value = QLocale().toString(self._histogram.value(part), "f", 2)
        text = tr("Accept all from {value} ({count})") if part else tr("Accept all ({count})")
        self._all.setText(text.format(value=value, count=count))
        self._all.setEnabled(count > 0)
        text = tr("{accepted} accepted · {rejected} rejected")
        self._state.setText(text.format(accepted=counts[0], rejected=counts[1]))


class _Histogram(QWidget):
    """How many candidates have which confidence; those that the slider leaves out are grey."""

    def __init__(self) -> None:
        super().__init__()
        self.setFixedHeight(_HISTOGRAM_PIXELS)
        self._range, self._part = (0.0, 1.0), 0.0
        self._counts: NDArray[np.int64] = np.zeros(_BINS, np.int64)

    def show_values(self, values: NDArray[np.float64], part: float) -> None:
        """Show values, and from which part of their range on they count."""
        low, high = (float(values.min()), float(values.max())) if len(values) else self._range
        # Usually between 0 and 1; the range stays while others are judged.
        self._range = (0.0, 1.0) if low >= 0 and high <= 1 else (min(low, self._range[0]), max(high, self._range[1]))
        self._counts, self._part = np.histogram(values, _BINS, self._range)[0], part
        self.update()

    def value(self, part: float) -> float:
        """Return the value at a part of the range."""
        low, high = self._range
        return low + part * (high - low)

    def paintEvent(self, _event: QPaintEvent | None) -> None:  # noqa: N802
        """Paint the bars; called by Qt."""
        painter, roles = QPainter(self), (QPalette.ColorRole.Highlight, QPalette.ColorRole.Mid)
        colours = [self.palette().color(QPalette.ColorGroup.Active, role) for role in roles]
        step, height = self.width() / _BINS, self.height()
        for index in np.flatnonzero(self._counts).tolist():
            # A bar of one polygon stays visible beside a bar of a thousand.
            bar = max(2, round(height * float(self._counts[index] / self._counts.max())))
            left, right = round(index * step), round((index + 1) * step)
            painter.fillRect(
                left, height - bar, max(1, right - left - 1), bar, colours[(index + 1) / _BINS <= self._part]
            )
        painter.end()
