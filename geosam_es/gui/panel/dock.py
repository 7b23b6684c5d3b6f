"""The panel. It only displays, and emits what the user chooses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from qgis.core import QgsMapLayer, QgsMapLayerProxyModel, QgsVectorLayer
from qgis.gui import QgsDockWidget, QgsMapLayerComboBox
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QEvent, QObject, QSize, Qt, pyqtSignal
from qgis.PyQt.QtGui import QDragEnterEvent, QDropEvent
from qgis.PyQt.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QComboBox,
    QFileDialog,
    QFrame,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QStyle,
    QVBoxLayout,
    QWidget,
)

from ...qgis_support.messages import PLUGIN_NAME, tr
from ...qgis_support.settings import Settings
from .actions import Actions
from .class_box import ClassBox
from .image_box import ImageBox
from .options_box import OptionsBox
from .review_box import ReviewBox
from .widgets import Caption, ElidedLabel, FlowLayout, WrappedLabel, flat_button, icon_button, row_of

__all__ = ["SegmentDock"]

_ICON_PIXELS = 16
_COMBO_CHARACTERS = 4


class SegmentDock(QgsDockWidget):
    """The panel: what is needed while drawing on top, what is set once in groups below.

    Parameters
    ----------
    actions : Actions
        The actions with a button are shown.
    settings : Settings
    parent : QWidget, optional

    Attributes
    ----------
    layers : QgsMapLayerComboBox
    class_box : ClassBox
    options_box : OptionsBox
    review_box : ReviewBox
    image_box : ImageBox
    suggest_layer : callable
        Returns the file that the dialog for a new layer suggests.
    hold : callable
        Keeps a choice of the layer for later if it belongs to the next polygon, and returns whether it does.

    Signals
    -------
    store_chosen : str
        Path of the store to open.
    layer_chosen : QgsVectorLayer or None
        The target layer.
    new_layer_wanted : str
        Path of the file to create.
    display_changed
        The outline or the tiles are to be shown or hidden.
    """

    store_chosen = pyqtSignal(str)
    layer_chosen = pyqtSignal(object)
    new_layer_wanted = pyqtSignal(str)
    display_changed = pyqtSignal()

    def __init__(self, actions: Actions, settings: Settings, parent: QWidget | None = None) -> None:
        super().__init__(PLUGIN_NAME, parent)
        self.setObjectName("GeoSamEsDock")
        self.setAcceptDrops(True)
        self._candidate = actions.candidate
        self._image, self._image_state = ElidedLabel(), Caption()
        self.layers = QgsMapLayerComboBox()
        self._layer: QgsVectorLayer | None = None
        self.hold: Callable[[Callable[[], None]], bool] = lambda _choice: False
        self.suggest_layer: Callable[[], str] = str
        self.class_box = ClassBox()
        self.options_box = OptionsBox(settings)
        self.review_box = ReviewBox()
        self.image_box = ImageBox(actions, settings)
        self.decoders, self.encoding = self.image_box.decoders, self.image_box.encoding
        self.image_box.store_chosen.connect(self.store_chosen.emit)
        self.image_box.display_changed.connect(self.display_changed.emit)
        self._result, self._hint = WrappedLabel(), WrappedLabel()
        # The buttons below stay where they are when the text comes and goes.
        self._result.setMinimumHeight(2 * self._result.fontMetrics().height())
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addLayout(FlowLayout(self._image, self._image_state))
        layout.addLayout(self._layer_row())
        layout.addWidget(self.class_box)
        layout.addWidget(_line())
        layout.addWidget(self._result)
        layout.addLayout(_action_row(actions))
        layout.addWidget(self._hint)
        layout.addWidget(self.options_box)
        layout.addWidget(self.review_box)
        layout.addWidget(self.image_box)
        layout.addStretch(1)
        for kind in (QAbstractButton, QComboBox, QAbstractSpinBox):
            for widget in content.findChildren(kind):
                self._leave_keys_to_the_map(widget)
        self.setWidget(_ScrollArea(content))
        self.show_image("", "")
        self.show_hint("")
        self.show_result("")

    def _layer_row(self) -> Any:
        self.layers.setFilters(QgsMapLayerProxyModel.Filter.PolygonLayer)
        self.layers.setAllowEmptyLayer(True)
        self.layers.setToolTip(tr("Polygon layer that accepted polygons are written to"))
        self.layers.setAccessibleName(tr("Layer"))
        self.layers.layerChanged.connect(self._on_layer)
        new = icon_button(
            "mActionNewVectorLayer", tr("New GeoPackage or Shapefile with fields for class and provenance")
        )
        new.clicked.connect(self._new_layer)
        label = QLabel(tr("Layer"))
        label.setBuddy(self.layers)
        row = row_of(label, self.layers, new)
        row.setStretch(1, 1)
        return row

    def _leave_keys_to_the_map(self, widget: QWidget) -> None:
        """Take no focus but for typing, no width for long names, and no change from a wheel that scrolls the panel."""
        is_typed_in = isinstance(widget, QAbstractSpinBox)
        if isinstance(widget, QComboBox):
            is_typed_in = widget.isEditable()
            widget.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            widget.setMinimumContentsLength(_COMBO_CHARACTERS)
        widget.setFocusPolicy(Qt.FocusPolicy.ClickFocus if is_typed_in else Qt.FocusPolicy.NoFocus)
        if isinstance(widget, (QComboBox, QAbstractSpinBox)):
            widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Let the wheel scroll the panel over a list or number that is not being edited."""
        if event.type() == QEvent.Type.Wheel and isinstance(watched, QWidget) and not watched.hasFocus():
            event.ignore()
            return True
        return bool(super().eventFilter(watched, event))

    @property
    def layer(self) -> QgsVectorLayer | None:
        """The target layer."""
        layer = self.layers.currentLayer()
        return layer if isinstance(layer, QgsVectorLayer) else None

    def choose_layer(self, layer: QgsMapLayer | None) -> None:
        """Choose the target layer at once, also while an accepted polygon is not written yet."""
        hold, self.hold = self.hold, lambda _choice: False
        self.layers.setLayer(layer)
        self.hold = hold

    def _on_layer(self, layer: QgsMapLayer | None) -> None:
        before = self._layer
        if layer is before:
            return
        # One that was removed cannot be kept.
        is_listed = any(self.layers.layer(row) is before for row in range(self.layers.count()))
        if before is not None and is_listed and self.hold(partial(self._choose_later, layer)):
            self.layers.blockSignals(True)
            self.layers.setLayer(before)
            self.layers.blockSignals(False)
            return
        self._layer = self.layer
        self.layer_chosen.emit(layer)

    def _choose_later(self, layer: QgsMapLayer | None) -> None:
        if layer is None or not sip.isdeleted(layer):
            self.layers.setLayer(layer)

    def show_image(self, name: str, state: str, tip: str = "") -> None:
        """Show which image answers.

        Parameters
        ----------
        name : str
            Empty if there is none.
        state : str
            Such as ``tr("ready")``.
        tip : str
            Its whole path.
        """
        self._image.setText(name or tr("Click on an image"))
        self._image.setToolTip(tip or name or tr("Click on a raster layer, or open or drop its prepared image here."))
        mark = '<span style="color:#2e9e44">●</span>' if state == tr("ready") else "○"
        self._image_state.setText(f"{mark} {escape(state)}")
        self._image_state.setVisible(bool(state))

    def show_result(self, text: str, tip: str = "", *, uncertain: bool = False, candidate: str = "") -> None:
        """Show a text about the current polygon.

        Parameters
        ----------
        text : str
            Text or HTML.
        tip : str
            Details.
        uncertain : bool
            Whether the text is a warning.
        candidate : str
            Which of how many candidates is shown.
        """
        (self._result.set_warning if uncertain else self._result.setText)(text)
        self._result.setToolTip(tip)
        # Qt takes the action's text in place of an empty one.
        self._candidate.setIconText(candidate or " ")

    def show_hint(self, text: str) -> None:
        """Show what the mouse does; an empty text stands for the usual gestures."""
        usual = tr("Click: inside · Shift: outside\nDrag: box · Alt+drag: lasso\nRight click: accept · Space: pan")
        self._hint.setText(text or usual)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:  # noqa: N802
        """Accept folders only."""
        if self._dropped_folder(event) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:  # noqa: N802
        """Open the store that was dropped."""
        folder = self._dropped_folder(event)
        if folder is not None:
            event.acceptProposedAction()
            self.store_chosen.emit(folder)

    @staticmethod
    def _dropped_folder(event: Any) -> str | None:
        paths = [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]
        return next((path for path in paths if Path(path).is_dir()), None)

    def _new_layer(self) -> None:
        filters = tr("GeoPackage (*.gpkg);;Shapefile (*.shp)")
        path, chosen = QFileDialog.getSaveFileName(self, tr("New polygon layer"), self.suggest_layer(), filters)
        if path:
            suffix = ".shp" if "shp" in chosen else ".gpkg"
            self.new_layer_wanted.emit(path if Path(path).suffix else path + suffix)


class _ScrollArea(QScrollArea):
    """Scrolls up and down only, so it is never narrower than its content."""

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidgetResizable(True)
        # A click between the widgets leaves the keys to the map.
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setWidget(content)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """Return the width of the content beside a scroll bar."""
        bar = self.style().pixelMetric(QStyle.PixelMetric.PM_ScrollBarExtent)
        content = self.widget().minimumSizeHint() if self.widget() is not None else QSize()
        return QSize(content.width() + bar, super().minimumSizeHint().height())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Follow the content when a group is unfolded."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))


def _line() -> QFrame:
    line = QFrame()
    line.setFrameShape(QFrame.Shape.HLine)
    line.setFrameShadow(QFrame.Shadow.Sunken)
    return line


def _action_row(actions: Actions) -> FlowLayout:
    buttons = {}
    for action in actions.on_buttons:
        button = buttons[action] = flat_button()
        button.setIconSize(QSize(_ICON_PIXELS, _ICON_PIXELS))
        button.setDefaultAction(action)
    accept, candidate = buttons[actions.accept], buttons[actions.candidate]
    accept.setAutoRaise(False)
    font = accept.font()
    font.setBold(True)
    accept.setFont(font)
    accept.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    candidate.setAccessibleName(candidate.text())
    accept.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextOnly)
    candidate.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
    actions.accept.setIconText(tr("Accept") + " ⏎")
    # The buttons stay where they are when the number comes and goes.
    actions.candidate.setIconText("3/3")
    candidate.setMinimumWidth(candidate.sizeHint().width())
    return FlowLayout(*buttons.values())
