"""The panel. It only displays, and emits what the user chooses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.core import QgsMapLayerProxyModel, QgsVectorLayer
from qgis.gui import QgsDockWidget, QgsMapLayerComboBox
from qgis.PyQt.QtCore import QSize, Qt, pyqtSignal
from qgis.PyQt.QtGui import QDragEnterEvent, QDropEvent
from qgis.PyQt.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QFrame,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QStyle,
    QToolBar,
    QVBoxLayout,
    QWidget,
)

from ...qgis_support.messages import PLUGIN_NAME, tr
from ...qgis_support.settings import Settings
from .actions import Actions
from .class_box import ClassBox
from .decoder_row import DecoderRow
from .encoding_row import EncodingRow
from .options_box import OptionsBox
from .widgets import icon_button, row_of

__all__ = ["SegmentDock"]

_ICON_PIXELS = 20


class SegmentDock(QgsDockWidget):
    """The panel.

    Parameters
    ----------
    actions : Actions
        The actions with a button are shown.
    settings : Settings
    parent : QWidget, optional

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
        self._settings = settings
        self.encoding = EncodingRow()
        self.decoders = DecoderRow(actions)
        self.class_box = ClassBox()
        self.options_box = OptionsBox(settings)
        self._result = _wrapped_label()
        self._hint = _wrapped_label(
            tr(
                "Click: inside · Shift+click: outside\n"
                "Drag: box · Tab: next candidate\n"
                "Right click: accept · Backspace: undo\n"
                "Space or wheel: pan and zoom"
            )
        )
        self._hint.setEnabled(False)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addLayout(self._top_form())
        layout.addWidget(self.class_box)
        layout.addWidget(_tool_bar(actions))
        layout.addWidget(self._result)
        layout.addWidget(self._hint)
        layout.addWidget(self.options_box)
        layout.addStretch(1)
        area = QScrollArea()
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setWidgetResizable(True)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(content)
        bar = area.style().pixelMetric(QStyle.PixelMetric.PM_ScrollBarExtent)
        area.setMinimumWidth(content.minimumSizeHint().width() + bar)
        self.setWidget(area)
        self.show_recent(None)

    def _top_form(self) -> QFormLayout:
        self._stores = QComboBox()
        self._stores.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self._stores.setMinimumContentsLength(12)
        self._stores.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._stores.activated.connect(self._on_store_picked)
        self._state = _wrapped_label()
        self._image = _wrapped_label()
        self._image.hide()
        self._footprint = self._check_box(tr("Outline"), tr("Show the area of the prepared image"), "show_footprint")
        self._tiles = self._check_box(
            tr("Tiles"), tr("Show the tiles used at this scale; orange: not prepared"), "show_tiles"
        )
        self.layers = QgsMapLayerComboBox()
        self.layers.setFilters(QgsMapLayerProxyModel.Filter.PolygonLayer)
        self.layers.setAllowEmptyLayer(True)
        self.layers.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.layers.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.layers.setToolTip(tr("Polygon layer that accepted polygons are written to"))
        self.layers.layerChanged.connect(self.layer_chosen.emit)
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        browse = icon_button("mActionFileOpen", tr("Open a prepared image (folder NAME.embeddings.zarr)"))
        browse.clicked.connect(self._browse)
        form.addRow(tr("Prepared image"), row_of(self._stores, browse))
        form.addRow(self._image)
        form.addRow(self._state)
        form.addRow(tr("Model variant"), self.decoders)
        form.addRow("", row_of(self._footprint, self._tiles))
        form.addRow(self.encoding)
        new = icon_button(
            "mActionNewVectorLayer", tr("New GeoPackage or Shapefile with fields for class and provenance")
        )
        new.clicked.connect(self._new_layer)
        form.addRow(tr("Layer"), row_of(self.layers, new))
        return form

    def _check_box(self, text: str, tip: str, setting: str) -> QCheckBox:
        box = QCheckBox(text)
        box.setToolTip(tip)
        box.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        box.setChecked(getattr(self._settings, setting))

        def changed(checked: bool) -> None:
            setattr(self._settings, setting, checked)
            self.display_changed.emit()

        box.toggled.connect(changed)
        return box

    @property
    def layer(self) -> QgsVectorLayer | None:
        """The target layer."""
        layer = self.layers.currentLayer()
        return layer if isinstance(layer, QgsVectorLayer) else None

    def show_recent(self, current: str | None) -> None:
        """List the recent stores, and select the open one."""
        self._stores.clear()
        paths = self._settings.recent_stores
        if current is None or current not in paths:
            self._stores.addItem(tr("None") if current is None else Path(current).name, current or "")
        for path in paths:
            self._stores.addItem(Path(path).name, path)
            self._stores.setItemData(self._stores.count() - 1, path, Qt.ItemDataRole.ToolTipRole)
        self._stores.setCurrentIndex(max(0, self._stores.findData(current or "")))
        self._stores.setToolTip(current or tr("Choose a prepared image, or drop its folder here"))

    def show_image(self, name: str, state: str) -> None:
        """Show which image is under the pointer, and its state."""
        self._image.setText(f"{name} · {state}" if state else name)
        self._image.setVisible(bool(name))

    def show_state(self, text: str) -> None:
        """Show a text about the open store."""
        self._state.setText(text)
        self._state.setVisible(bool(text))

    def show_result(self, text: str) -> None:
        """Show a text about the current polygon."""
        self._result.setText(text)

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

    def _on_store_picked(self, index: int) -> None:
        path = self._stores.itemData(index)
        if path:
            self.store_chosen.emit(path)

    def _browse(self) -> None:
        recent = self._settings.recent_stores
        start = str(Path(recent[0]).parent) if recent else ""
        folder = QFileDialog.getExistingDirectory(self, tr("Open a prepared image"), start)
        if folder:
            self.store_chosen.emit(folder)

    def _new_layer(self) -> None:
        filters = tr("GeoPackage (*.gpkg);;Shapefile (*.shp)")
        path, chosen = QFileDialog.getSaveFileName(self, tr("New polygon layer"), "", filters)
        if path:
            suffix = ".shp" if "shp" in chosen else ".gpkg"
            self.new_layer_wanted.emit(path if Path(path).suffix else path + suffix)


def _wrapped_label(text: str = "") -> QLabel:
    label = QLabel(text)
    label.setWordWrap(True)
    return label


def _tool_bar(actions: Actions) -> QToolBar:
    bar = QToolBar()
    bar.setIconSize(QSize(_ICON_PIXELS, _ICON_PIXELS))
    for action in actions.on_buttons:
        bar.addAction(action)
        # The map must keep the focus, so that the keys reach the map tool.
        bar.widgetForAction(action).setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return bar
