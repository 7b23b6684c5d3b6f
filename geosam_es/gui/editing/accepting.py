"""From the object being drawn to a feature of the user's layer."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from qgis.core import QgsFeature, QgsVectorLayer
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ...errors import EditError, GeoSamError
from ...qgis_support.crs import to_qgs
from ...qgis_support.messages import tr
from ...qgis_support.settings import Settings
from ..canvas.controller import SegmentationController
from ..canvas.drawing import Drawing
from ..panel.dock import SegmentDock
from .edits import AcceptOptions, accept_polygon, replace_polygon
from .provenance import Provenance, read_provenance

__all__ = ["Acceptor", "accept_options"]


def accept_options(settings: Settings) -> AcceptOptions:
    """Return the options of the panel as editing takes them."""
    return AcceptOptions(
        min_area_m2=settings.min_area_m2,
        fill_holes_m2=settings.fill_holes_m2,
        right_angles=settings.right_angles,
        trim_overlaps=settings.trim_overlaps,
        snap_tolerance=settings.snap_tolerance,
        open_form=settings.open_form,
        provenance_table=settings.provenance_table,
    )


class Acceptor(QObject):
    """Writes accepted objects, and brings polygons back to be refined.

    Parameters
    ----------
    iface : QgisInterface
    controller : SegmentationController
    dock : SegmentDock
    settings : Settings
    parent : QObject, optional

    Signals
    -------
    written : QgsVectorLayer, int
        Layer and feature.
    refining : Provenance
        Of a polygon whose prompts were brought back.
    failed : GeoSamError
        Nothing was written, and the object is still there.
    """

    written = pyqtSignal(object, int)
    refining = pyqtSignal(object)
    failed = pyqtSignal(object)

    def __init__(
        self,
        iface: Any,
        controller: SegmentationController,
        dock: SegmentDock,
        settings: Settings,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._iface = iface
        self._controller = controller
        self._dock = dock
        self._settings = settings
        self._refined: tuple[QgsVectorLayer, int] | None = None
        controller.accept_ready.connect(self._write)
        controller.drawing_changed.connect(self._on_drawing)

    def refine_selected(self) -> None:
        """Bring back the prompts of the polygon selected in the target layer, or in the active one."""
        try:
            layer, feature = self._selected()
            provenance = read_provenance(layer, feature)
            if provenance is None:
                raise EditError(tr("No prompts are kept with this polygon"), tr("draw it anew"))
            store = self._controller.store
            if store is None:
                raise EditError(
                    tr("No embedding store is open"), tr("open that of {name}").format(name=provenance.raster)
                )
            if provenance.raster and provenance.raster != store.metadata.raster.file_name:
                raise EditError(
                    tr("This polygon was drawn on {name}").format(name=provenance.raster), tr("open the store of it")
                )
            self._controller.start_from(provenance.prompts, provenance.level, provenance.candidate)
        except GeoSamError as error:
            self.failed.emit(error)
            return
        self._refined = (layer, feature.id())
        # QGIS's colour of what is selected would hide the one that is drawn now.
        layer.removeSelection()
        self.refining.emit(provenance)

    def _selected(self) -> tuple[QgsVectorLayer, QgsFeature]:
        for layer in (self._dock.layer, self._iface.activeLayer()):
            if isinstance(layer, QgsVectorLayer) and layer.selectedFeatureCount() == 1:
                return layer, next(layer.getSelectedFeatures())
        raise EditError(tr("Not one polygon is selected"), tr("select the one to refine in the target layer"))

    def _write(self, drawing: Drawing) -> None:
        store, result = self._controller.store, drawing.result
        if store is None or result is None:
            return
        created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        raster = store.metadata.raster.file_name
        answer = result.level, result.rank, store.decoder
        provenance = Provenance(result.model, result.score, drawing.prompts, raster, created, *answer)
        geometry = to_qgs(result.geometry)
        options = accept_options(self._settings)
        try:
            if self._refined is not None:
                layer, feature_id = self._refined
                if sip.isdeleted(layer):
                    raise EditError(
                        tr("The layer of this polygon is no longer there"), tr("discard it and draw it anew")
                    )
                replace_polygon(layer, feature_id, geometry, store.crs, provenance, options)
            else:
                layer = self._dock.layer
                attributes = self._dock.class_box.attributes()
                written = accept_polygon(
                    layer, geometry, store.crs, attributes, provenance, options, self._form_opener(layer)
                )
                if written is None:
                    return
                feature_id = written
        except GeoSamError as error:
            self.failed.emit(error)
            return
        self._controller.discard()
        self.written.emit(layer, feature_id)

    def _form_opener(self, layer: QgsVectorLayer) -> Any:
        return lambda feature: bool(self._iface.openFeatureForm(layer, feature, False, True))

    def _on_drawing(self, drawing: Drawing) -> None:
        if drawing == Drawing():
            self._refined = None
