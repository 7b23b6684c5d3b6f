"""The part of the panel about the prepared image and the model, folded away while drawing."""

from __future__ import annotations

from pathlib import Path

from qgis.gui import QgsCollapsibleGroupBox
from qgis.PyQt.QtCore import Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QComboBox, QFileDialog, QFormLayout, QInputDialog, QPushButton

from ...qgis_support.messages import tr
from ...qgis_support.settings import Settings
from .actions import Actions
from .decoder_row import DecoderRow
from .encoding_row import EncodingRow
from .widgets import FlowLayout, WrappedLabel, icon_button, row_of, setting_box

__all__ = ["ImageBox"]


class ImageBox(QgsCollapsibleGroupBox):
    """Chooses the prepared image and the model variant, and prepares more of the image.

    Signals
    -------
    store_chosen : str
        Path or address of the store to open.
    display_changed
        The outline or the tiles are to be shown or hidden.
    """

    store_chosen = pyqtSignal(str)
    display_changed = pyqtSignal()

    def __init__(self, actions: Actions, settings: Settings) -> None:
        super().__init__(tr("Image and model"))
        self.setObjectName("GeoSamEsImage")
        self.setCollapsed(True)
        self._settings = settings
        self.decoders = DecoderRow(actions)
        self.encoding = EncodingRow()
        self.learn = QPushButton(tr("Learn from this layer …"))
        self.learn.setToolTip(tr("Train the model on the polygons of the layer; the current model is kept"))
        self._stores = QComboBox()
        self._stores.setObjectName("prepared_image")
        self._stores.setAccessibleName(tr("Prepared image"))
        self._stores.activated.connect(self._on_store_picked)
        self._state = WrappedLabel()
        browse = icon_button("mActionFileOpen", tr("Open a prepared image (folder NAME.embeddings.zarr)"))
        browse.clicked.connect(self._browse)
        remote = icon_button(
            "mIconConnect", tr("Open a prepared image on a web server or in S3 object storage, by its address")
        )
        remote.setObjectName("remote_image")
        remote.clicked.connect(self._ask_for_address)
        stores = row_of(self._stores, browse, remote)
        stores.setStretch(0, 1)
        form = QFormLayout(self)
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapAllRows)
        form.setContentsMargins(6, 6, 6, 6)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow(tr("Prepared image"), stores)
        form.addRow(self._state)
        form.addRow(tr("Model variant"), self.decoders)
        form.addRow(self.learn)
        boxes = (
            ("show_footprint", tr("Outline"), tr("Show the area of the prepared image")),
            ("show_tiles", tr("Tiles"), tr("Show the tiles used at this scale; orange: not prepared")),
        )
        form.addRow(FlowLayout(*(setting_box(settings, *box, self.display_changed.emit) for box in boxes)))
        form.addRow(self.encoding)
        self.show_recent(None)
        self.show_state("")

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

    def show_state(self, text: str) -> None:
        """Show a text about the open store."""
        self._state.setText(text)
        self._state.setVisible(bool(text))

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

    def _ask_for_address(self) -> None:
        label = tr("Address of the folder NAME.embeddings.zarr (https:// or s3://)")
        address, is_given = QInputDialog.getText(self, tr("Open a prepared image"), label, text="https://")
        if is_given and address.strip():
            self.store_chosen.emit(address.strip())
