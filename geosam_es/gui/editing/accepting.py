"""Writes the accepted polygon to the target layer, and brings polygons of a layer back to be refined."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from qgis.core import QgsFeature, QgsVectorLayer
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ...errors import EditError, GeoSamError
from ...qgis_support.messages import tr
from ...qgis_support.settings import Settings
from ..canvas.controller import SegmentationController
from ..canvas.drawing import Drawing
from ..panel.dock import SegmentDock
from .edits import AcceptOptions, accept_polygon, check_target, replace_polygon
from .provenance import Provenance, read_provenance

__all__ = ["Acceptor", "accept_options"]


def accept_options(settings: Settings) -> AcceptOptions:
    """Return the options for accepting that the user has set in the panel."""
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
    """Writes accepted polygons, and starts the refining of polygons that are in a layer.

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
        The layer and the id of the feature.
    refining : Provenance
        Provenance of the polygon whose prompts were restored.
    failed : GeoSamError
        Nothing was written; the polygon is still on the map.
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
        """Restore the prompts of the selected polygon of the target layer, or else of the active layer."""
        try:
            layer, feature = self._selected()
            provenance = read_provenance(layer, feature)
            if provenance is None:
                raise EditError(tr("This polygon has no saved prompts"), tr("draw it again"))
            store = self._controller.store
            if store is None:
                raise EditError(
                    tr("No prepared image is open"), tr("open the one of {name}").format(name=provenance.raster)
                )
            if provenance.raster and provenance.raster != store.metadata.raster.file_name:
                raise EditError(
                    tr("This polygon was drawn on {name}").format(name=provenance.raster),
                    tr("open the prepared image of that raster"),
                )
            self._controller.start_from(provenance.prompts, provenance.level, provenance.candidate)
        except GeoSamError as error:
            self.failed.emit(error)
            return
        self._refined = (layer, feature.id())
        # The selection colour of QGIS would cover the polygon being refined.
        layer.removeSelection()
        self.refining.emit(provenance)

    def _selected(self) -> tuple[QgsVectorLayer, QgsFeature]:
        for layer in (self._dock.layer, self._iface.activeLayer()):
            if isinstance(layer, QgsVectorLayer) and layer.selectedFeatureCount() == 1:
                return layer, next(layer.getSelectedFeatures())
        raise EditError(tr("Refining needs exactly one polygon"), tr("select it in the target layer"))

    def _write(self, drawing: Drawing) -> None:
        store, result = self._controller.store, drawing.result
        if store is None or result is None:
            return
        created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        raster = store.metadata.raster
        origin = result.level, result.rank, store.decoder, raster.attribution
        provenance = Provenance(result.model, result.score, drawing.prompts, raster.file_name, created, *origin)
        options = accept_options(self._settings)
        try:
            if self._refined is not None:
                layer, feature_id = self._refined
                if sip.isdeleted(layer):
                    raise EditError(
                        tr("The layer of this polygon was removed"), tr("discard the polygon and draw it again")
                    )
                replace_polygon(layer, feature_id, result.geometry, store.crs, provenance, options)
            else:
                layer = check_target(self._dock.layer)
                attributes = self._dock.class_box.attributes()
                written = accept_polygon(
                    layer, result.geometry, store.crs, attributes, provenance, options, self._form_opener(layer)
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
