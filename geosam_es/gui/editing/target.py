"""The target layer: which one it is in this project, and its classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qgis.core import QgsCoordinateReferenceSystem, QgsMapLayer, QgsProject, QgsVectorLayer
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ...errors import EditError, GeoSamError
from ...qgis_support.classes import ClassList, apply_classes, classes_of_layer, has_own_classes, read_class_csv
from ...qgis_support.messages import tr
from ...store.raster_name import RasterPath
from ..panel.dock import SegmentDock
from .target_layer import create_target_layer, create_temporary_layer, suggested_path

__all__ = ["Target"]

_SCOPE = "geosam_es"
_LAYER_KEY = "target_layer"
_FIELD_PROPERTY = "geosam_es/class_field"


class Target(QObject):
    """Follows the layer that is chosen in the panel.

    Signals
    -------
    failed : GeoSamError
    """

    failed = pyqtSignal(object)

    def __init__(self, dock: SegmentDock, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._dock = dock
        self._layer: QgsVectorLayer | None = None
        self._waiting: ClassList | None = None
        self._remembers = True
        dock.layer_chosen.connect(self._on_chosen)
        dock.class_box.csv_chosen.connect(self._read_csv)
        dock.class_box.field_chosen.connect(self._on_field)
        project = QgsProject.instance()
        project.readProject.connect(self._on_project_read)
        project.layersWillBeRemoved["QStringList"].connect(self._on_layers_removed)
        project.cleared.connect(self._on_project_cleared)
        self._on_project_read()

    def release(self) -> None:
        """Stop following the layer and the project."""
        self._watch(None)
        project = QgsProject.instance()
        project.readProject.disconnect(self._on_project_read)
        project.layersWillBeRemoved["QStringList"].disconnect(self._on_layers_removed)
        project.cleared.disconnect(self._on_project_cleared)

    def make(self, path: Path, crs: QgsCoordinateReferenceSystem) -> bool:
        """Create a layer with the classes shown in the panel, choose it as target, and tell whether it worked."""
        return self._make(create_target_layer, path, crs)

    def make_beside(self, image: RasterPath | None, crs: QgsCoordinateReferenceSystem) -> bool:
        """Create a layer named after an image, beside it if its folder can be written to."""
        return self.make(suggested_path(image), crs)

    def make_temporary(self, image: RasterPath | None, crs: QgsCoordinateReferenceSystem) -> bool:
        """Create a layer in memory, named after an image."""
        return self._make(create_temporary_layer, suggested_path(image).stem, crs)

    def _make(self, create: Callable[..., QgsVectorLayer], *place: object) -> bool:
        try:
            layer = create(*place, self._dock.class_box.classes)
        except GeoSamError as error:
            self.failed.emit(error)
            return False
        QgsProject.instance().addMapLayer(layer)
        self._dock.layers.setLayer(layer)
        return True

    def _on_chosen(self, layer: QgsVectorLayer | None) -> None:
        project = QgsProject.instance()
        if self._remembers and layer is not None:
            project.writeEntry(_SCOPE, _LAYER_KEY, layer.id())
        elif self._remembers:
            project.removeEntry(_SCOPE, _LAYER_KEY)
        self._follow(layer)

    def _on_project_read(self, *_document: Any) -> None:
        project = QgsProject.instance()
        layer = project.mapLayer(project.readEntry(_SCOPE, _LAYER_KEY)[0])
        self._choose(layer)

    def _on_layers_removed(self, ids: list[str]) -> None:
        # The list of layers would choose another one.
        if self._layer is not None and not sip.isdeleted(self._layer) and self._layer.id() in ids:
            self._choose(None)

    def _on_project_cleared(self) -> None:
        self._waiting = None
        self._choose(None)

    def _choose(self, layer: QgsMapLayer | None) -> None:
        """Choose a layer without remembering it with the project."""
        self._remembers = False
        self._dock.choose_layer(layer)
        self._remembers = True
        self._follow(self._dock.layer)

    def _follow(self, layer: QgsVectorLayer | None) -> None:
        # First, so that the lists of fields hear of new fields before this object does.
        self._dock.class_box.set_layer(layer)
        self._dock.options_box.coverage.set_layer(layer)
        self._watch(layer)
        if layer is not None:
            field = str(layer.customProperty(_FIELD_PROPERTY, ""))
            self._dock.class_box.set_field(field)
            if self._waiting is not None and classes_of_layer(layer, field or None) is None:
                self._apply(self._waiting)
        self._show_classes()

    def _watch(self, layer: QgsVectorLayer | None) -> None:
        if self._layer is not None and not sip.isdeleted(self._layer):
            self._layer.styleChanged.disconnect(self._show_classes)
            self._layer.updatedFields.disconnect(self._on_fields)
        self._layer = layer
        if layer is not None:
            layer.styleChanged.connect(self._show_classes)
            layer.updatedFields.connect(self._on_fields)

    def _show_classes(self) -> None:
        if self._layer is None:
            self._dock.class_box.set_classes(self._waiting)
            return
        field = str(self._layer.customProperty(_FIELD_PROPERTY, "")) or None
        self._dock.class_box.set_classes(classes_of_layer(self._layer, field))

    def _on_fields(self) -> None:
        self._dock.class_box.show_fields()
        self._show_classes()

    def _on_field(self, field: str) -> None:
        layer = self._layer
        if layer is None:
            return
        layer.setCustomProperty(_FIELD_PROPERTY, field)
        QgsProject.instance().setDirty(True)
        if field and self._waiting is not None and classes_of_layer(layer, field) is None:
            self._apply(self._waiting)
        self._show_classes()

    def _read_csv(self, path: str) -> None:
        try:
            self._waiting = read_class_csv(Path(path))
        except GeoSamError as error:
            self.failed.emit(error)
            return
        if self._layer is not None:
            self._apply(self._waiting)
        self._show_classes()

    def _apply(self, classes: ClassList) -> None:
        """Give the layer a list from a file; it waits for another layer or field if this one cannot have it."""
        layer, field = self._layer, self._dock.class_box.field
        if layer is None:
            return
        try:
            if not field:
                problem = tr("{name} has no class field").format(name=layer.name())
                raise EditError(problem, tr("choose the field that the classes are written to"))
            if has_own_classes(layer, field):
                problem = tr("The field {field} of {name} has classes of its own, which are kept")
                remedy = tr("choose another class field, or remove its value map and its style")
                raise EditError(problem.format(field=field, name=layer.name()), remedy)
            apply_classes(layer, field, classes)
        except GeoSamError as error:
            self.failed.emit(error)
            return
        self._waiting = None
        layer.setCustomProperty(_FIELD_PROPERTY, field)
        QgsProject.instance().setDirty(True)
