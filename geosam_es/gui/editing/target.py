"""The target layer: its classes, and the undo of its edits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qgis.core import QgsCoordinateReferenceSystem, QgsProject, QgsVectorLayer
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ...errors import GeoSamError
from ...qgis_support.classes import ClassList, classes_of_layer, read_class_csv
from ..panel.dock import SegmentDock
from .target_layer import create_target_layer

__all__ = ["Target"]


class Target(QObject):
    """Follows the layer that is chosen in the panel.

    Parameters
    ----------
    dock : SegmentDock
    parent : QObject, optional

    Signals
    -------
    undo_changed
        The undo stack of the layer has changed.
    failed : GeoSamError
    """

    undo_changed = pyqtSignal()
    failed = pyqtSignal(object)

    def __init__(self, dock: SegmentDock, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._dock = dock
        self._layer: QgsVectorLayer | None = None
        self._csv_classes: ClassList | None = None
        dock.layer_chosen.connect(self._follow)
        dock.class_box.csv_chosen.connect(self._read_csv)
        self._follow(dock.layer)

    def release(self) -> None:
        """Stop following the layer."""
        self._watch(None)

    @property
    def can_undo(self) -> bool:
        """Whether the layer has an edit to undo."""
        stack = self._undo_stack()
        return stack is not None and stack.canUndo()

    @property
    def can_redo(self) -> bool:
        """Whether the layer has an edit to redo."""
        stack = self._undo_stack()
        return stack is not None and stack.canRedo()

    def _undo_stack(self) -> Any:
        # The layer may be deleted before the panel says so.
        if self._layer is None or sip.isdeleted(self._layer) or not self._layer.isEditable():
            return None
        return self._layer.undoStack()

    def undo(self) -> None:
        """Undo the last edit of the layer."""
        if self._layer is not None and self.can_undo:
            self._layer.undoStack().undo()
            self._layer.triggerRepaint()

    def redo(self) -> None:
        """Redo the last edit that was undone."""
        if self._layer is not None and self.can_redo:
            self._layer.undoStack().redo()
            self._layer.triggerRepaint()

    def make(self, path: Path, crs: QgsCoordinateReferenceSystem) -> None:
        """Create a layer with the classes shown in the panel, and choose it as target."""
        try:
            layer = create_target_layer(path, crs, classes=self._dock.class_box.classes)
        except GeoSamError as error:
            self.failed.emit(error)
            return
        QgsProject.instance().addMapLayer(layer)
        self._dock.layers.setLayer(layer)

    def _follow(self, layer: QgsVectorLayer | None) -> None:
        self._watch(layer)
        self._dock.class_box.set_layer(layer)
        self._show_classes()
        self.undo_changed.emit()

    def _watch(self, layer: QgsVectorLayer | None) -> None:
        if self._layer is not None and not sip.isdeleted(self._layer):
            self._layer.styleChanged.disconnect(self._show_classes)
            self._layer.undoStack().indexChanged.disconnect(self._on_undo_stack)
        self._layer = layer
        if layer is not None:
            layer.styleChanged.connect(self._show_classes)
            layer.undoStack().indexChanged.connect(self._on_undo_stack)

    def _on_undo_stack(self, _index: int) -> None:
        self.undo_changed.emit()

    def _show_classes(self) -> None:
        own = classes_of_layer(self._layer) if self._layer is not None else None
        self._dock.class_box.set_classes(own or self._csv_classes)

    def _read_csv(self, path: str) -> None:
        try:
            self._csv_classes = read_class_csv(Path(path))
        except GeoSamError as error:
            self.failed.emit(error)
            return
        self._dock.class_box.set_classes(self._csv_classes)
