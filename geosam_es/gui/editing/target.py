"""The target layer and its classes."""

from __future__ import annotations

from pathlib import Path

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
    failed : GeoSamError
    """

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

    def _watch(self, layer: QgsVectorLayer | None) -> None:
        if self._layer is not None and not sip.isdeleted(self._layer):
            self._layer.styleChanged.disconnect(self._show_classes)
        self._layer = layer
        if layer is not None:
            layer.styleChanged.connect(self._show_classes)

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
