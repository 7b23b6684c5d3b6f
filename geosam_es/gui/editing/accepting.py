"""Writes the accepted polygon to the target layer. A polygon being refined is replaced."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from qgis.PyQt.QtCore import QObject, pyqtSignal

from ...core.prompts import Prompts
from ...errors import GeoSamError
from ...qgis_support.field_map import FieldMap
from ...qgis_support.gdal_raster import image_date
from ...qgis_support.messages import tr
from ...qgis_support.settings import Settings
from ..canvas.controller import SegmentationController
from ..canvas.drawing import Drawing
from ..panel.dock import SegmentDock
from .edits import AcceptOptions, check_target, form_opener, write_changes, write_polygon
from .history import EditHistory, OwnEdit, named
from .provenance import Provenance
from .refining import Refining

__all__ = ["Acceptor"]


class Acceptor(QObject):
    """Writes accepted polygons.

    Parameters
    ----------
    iface : QgisInterface
    controller : SegmentationController
    dock : SegmentDock
    settings : Settings
    refining : Refining
        Knows whether a polygon of a layer is to be replaced.
    history : EditHistory
        Is told what was written.
    parent : QObject, optional

    Signals
    -------
    written : QgsVectorLayer, int
        The layer and the id of the feature.
    failed : GeoSamError
        Nothing was written; the polygon is still on the map.
    """

    written = pyqtSignal(object, int)
    failed = pyqtSignal(object)

    def __init__(
        self,
        iface: Any,
        controller: SegmentationController,
        dock: SegmentDock,
        settings: Settings,
        refining: Refining,
        history: EditHistory,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._iface = iface
        self._controller = controller
        self._dock = dock
        self._settings = settings
        self._refining = refining
        self._history = history
        controller.accept_ready.connect(self._write)

    def _write(self, drawing: Drawing) -> None:
        store, result = self._controller.store, drawing.result
        if store is None or result is None:
            return
        created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        raster = store.metadata.raster
        origin = result.level, result.rank, store.decoder, raster.attribution
        # Without the outline the points alone would give another polygon.
        by_hand = drawing.prompts.outline is not None
        prompts = Prompts(outline=result.geometry) if by_hand else drawing.prompts
        provenance = Provenance(result.model, result.score, prompts, raster.file_name, created, *origin)
        options, polygon, crs = AcceptOptions.of(self._settings), result.geometry, store.crs
        refined = self._refining.current
        try:
            fitted = drawing.fitted
            if fitted is not None and fitted.refusal is not None:
                raise fitted.refusal
            if fitted is not None and fitted.outline is not None:
                # What is on show is what is written.
                polygon, crs, options = fitted.outline, fitted.crs, options.without_changes
            if refined is not None:
                layer, replaced = refined.layer, refined.locate()
                attributes, label = self._refining.attributes(), self._refining.label
                name = tr("refined polygon {label} in {layer}")
            else:
                layer, replaced = check_target(self._dock.layer), None
                attributes = self._dock.class_box.attributes()
                label = next((str(value) for value in attributes.values()), "")
                name = tr("polygon {label} in {layer}")
            if "image_date" in FieldMap.of(layer).names and store.raster is not None and not raster.attribution:
                provenance = replace(provenance, image_date=image_date(str(store.raster.path)))
            opener = form_opener(self._iface, layer)
            rest = attributes, provenance, options, opener, replaced
            if fitted is not None and fitted.changes is not None:
                text = tr("Add polygon") if replaced is None else tr("Refine polygon")
                feature_id = write_changes(layer, fitted.changes, text, *rest)
            else:
                feature_id = write_polygon(layer, polygon, crs, *rest)
        except GeoSamError as error:
            self.failed.emit(error)
            return
        if feature_id is None:
            return
        # So that the refining ends.
        self._controller.discard()
        values = attributes if replaced is not None else None
        self._history.note(layer, OwnEdit(named(name, layer, label), provenance, replaced, values))
        self.written.emit(layer, feature_id)
