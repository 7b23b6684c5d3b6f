"""Brings polygons of a layer back to the map, to be changed, given another class, or deleted.

A polygon comes with its prompts, if they are kept and it has not been changed since. Any other comes as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import shapely
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsFeatureRequest,
    QgsGeometry,
    QgsPointXY,
    QgsProject,
    QgsRectangle,
    QgsVectorLayer,
    QgsWkbTypes,
)
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QObject, QPoint, QTimer, pyqtSignal

from ...core.coverage import Changes
from ...core.prompts import Prompts
from ...core.topology import valid_polygon
from ...errors import EditError, GeoSamError, PromptError
from ...qgis_support.crs import from_qgs, transform, transform_points, transform_polygon
from ...qgis_support.layer_source import LayerSource
from ...qgis_support.messages import tr
from ..canvas.controller import SegmentationController
from ..canvas.drawing import Drawing
from ..panel.dock import SegmentDock
from ..stores.open_store import project_raster
from .edits import check_target, gone_from, ids_are_places, write_changes
from .history import EditHistory, OwnEdit, named
from .provenance import Provenance, read_provenance

__all__ = ["Refined", "Refining", "class_of", "outline_in", "same_prompts"]

_NEAR = 1e-9
"""Relative difference of coordinates that were transformed to pixels and back."""

_MOST_PLACES = 200
"""Vertices at which an image is looked for."""


@dataclass(frozen=True, eq=False)
class Refined:
    """The polygon being refined.

    Attributes
    ----------
    layer : QgsVectorLayer
    feature_id : int
    label : str
        Its class; may be empty.
    geometry : QgsGeometry
        As it is in the layer.
    may_have_moved : bool
        Another feature may have its id now.
    """

    layer: QgsVectorLayer
    feature_id: int
    label: str
    geometry: QgsGeometry
    may_have_moved: bool = False

    def locate(self) -> int:
        """Return the id of the feature now: it may get another one when edits are saved.

        Raises
        ------
        EditError
            If the feature is no longer there.
        """
        layer = self.layer
        own = layer.getFeature(self.feature_id)
        if own.isValid() and self._is(own):
            return self.feature_id
        near = QgsFeatureRequest().setFilterRect(self.geometry.boundingBox())
        for feature in layer.getFeatures(near):
            if self._is(feature):
                return int(feature.id())
        if own.isValid() and not self.may_have_moved:
            return self.feature_id
        raise gone_from(layer)

    def _is(self, feature: QgsFeature) -> bool:
        geometry = feature.geometry()
        return bool(geometry.equals(self.geometry) or geometry.isGeosEqual(self.geometry))


class Refining(QObject):
    """Knows which polygon of a layer is being refined.

    Meanwhile the panel shows the class of the polygon.

    Attributes
    ----------
    current : Refined, optional
        The polygon.
    picks : bool
        Whether the next click chooses the polygon.

    Signals
    -------
    changed
        ``current``, ``picks`` or the hint is another one.
    started : Provenance
        Of a polygon whose prompts were restored.
    deleted : str
        What was deleted.
    failed : GeoSamError
    """

    changed = pyqtSignal()
    started = pyqtSignal(object)
    deleted = pyqtSignal(str)
    failed = pyqtSignal(object)

    def __init__(
        self,
        iface: Any,
        controller: SegmentationController,
        dock: SegmentDock,
        history: EditHistory,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._iface = iface
        self._controller = controller
        self._dock = dock
        self._history = history
        self.current: Refined | None = None
        self.picks = False
        # On the canvas's screen, as the map may move under it; None outside.
        self._pointer: QPoint | None = None
        self._start_prompts = Prompts()
        self._class_before: Mapping[str, Any] = {}
        self._own_values: Mapping[str, Any] = {}
        controller.drawing_changed.connect(self._on_drawing)
        # Saving deletes a new feature, and adds it with another id.
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(0)
        self._soon.timeout.connect(self._end_if_gone)

    @property
    def hint(self) -> str:
        """What the user can do now; empty if nothing is refined."""
        if self.picks:
            return tr("Click the polygon to refine. Esc: leave")
        if self.current is None:
            return ""
        name = named(tr("polygon {label} in {layer}"), self.current.layer, self.current.label)
        label = self.label
        if label != self.current.label:
            name = tr("{polygon}, now {label}").format(polygon=name, label=label)
        keys = tr("Click or box: change it · 1 to 9: its class\nEnter: write · Delete: delete · Esc: leave")
        return tr("Refining {polygon}").format(polygon=name) + "\n" + keys

    @property
    def label(self) -> str:
        """The class that accepting gives to the polygon, for people."""
        if self.current is None:
            return ""
        chosen = self.attributes()
        return _label(chosen) if chosen else self.current.label

    def attributes(self) -> Mapping[str, Any]:
        """Return the values to write if the user has chosen another class, by field name."""
        if self.current is None or self.current.layer is not self._dock.layer:
            return {}
        values = self._dock.class_box.attributes()
        return {} if values == self._own_values else values

    def hover(self, point: QgsPointXY, _positive: bool) -> None:
        """Take note of the pointer, in the canvas's CRS."""
        spot = self._screen().transform(point)
        self._pointer = QPoint(round(spot.x()), round(spot.y()))

    def leave(self) -> None:
        """Take note that the pointer has left the map."""
        self._pointer = None

    def start(self) -> None:
        """Refine the polygon under the pointer, or the only one selected, or the one that is clicked on next."""
        if self._controller.hold(self.start):
            return
        found, place = self.under_pointer(), self._place()
        if found is None and not self.picks:
            found, place = self.selected(), None
        if found is not None:
            self._refine(*found, place)
        else:
            self._set_picks(not self.picks)

    def under_pointer(self) -> tuple[QgsVectorLayer, QgsFeature] | None:
        """Return the polygon under the pointer and its layer."""
        place = self._place()
        return self._at(place) if place is not None else None

    def _place(self) -> QgsPointXY | None:
        return self._screen().toMapCoordinates(self._pointer) if self._pointer is not None else None

    def selected(self) -> tuple[QgsVectorLayer, QgsFeature] | None:
        """Return the only selected polygon and its layer."""
        one = [layer for layer in self._layers() if layer.selectedFeatureCount() == 1]
        return (one[0], next(one[0].getSelectedFeatures())) if one else None

    def grow(self, layer: QgsVectorLayer, feature: QgsFeature) -> None:
        """Refine a polygon with what is drawn added to it."""
        outline = self._outline(layer, feature)
        if outline is not None:
            self._controller.reshape(outline, "merge")
            self._begin(layer, feature, Prompts())

    def _outline(self, layer: QgsVectorLayer, feature: QgsFeature) -> shapely.Polygon | shapely.MultiPolygon | None:
        """Return a polygon in the CRS of the open image."""
        store = self._controller.store
        try:
            return outline_in(store.crs, layer, feature) if store is not None else None
        except EditError as error:
            self.failed.emit(error)
            return None

    @property
    def is_untouched(self) -> bool:
        """Whether a polygon is refined that is still as it was in the layer."""
        drawing = self._controller.drawing
        is_same = drawing.last == "polygon" or same_prompts(drawing.prompts, self._start_prompts)
        return self.current is not None and is_same and not self.attributes()

    def check_free(self) -> None:
        """Refuse to replace an object that the user is drawing or has changed.

        Raises
        ------
        EditError
        """
        if self._controller.drawing.can_undo and not self.is_untouched:
            problem = tr("The polygon on the map is not written yet")
            raise EditError(problem, tr("accept it with Enter, or discard it with Esc"))

    def pick(self, point: QgsPointXY) -> None:
        """Refine the polygon at a point in the canvas's CRS."""
        found = self._at(point)
        if found is None:
            self.failed.emit(EditError(tr("There is no polygon here"), tr("click a polygon of the target layer")))
        else:
            self._refine(*found, point)

    def stop(self) -> None:
        """Choose no polygon by the next click."""
        self._set_picks(False)

    def delete(self) -> None:
        """Delete the polygon being refined, in one undo step."""
        refined = self.current
        if refined is None:
            return
        try:
            write_changes(refined.layer, Changes({}, removed=[refined.locate()]), tr("Delete polygon"))
        except GeoSamError as error:
            self.failed.emit(error)
            return
        self._controller.discard()
        name = named(tr("deletion of polygon {label} in {layer}"), refined.layer, refined.label)
        self._history.note(refined.layer, OwnEdit(name))
        self.deleted.emit(named(tr("polygon {label} in {layer}"), refined.layer, refined.label))

    def draw_again(self, layer: QgsVectorLayer, own: OwnEdit) -> None:
        """Draw the object of an edit that was undone, if its image is open."""
        if own.provenance is None:
            return
        store = self._controller.store
        if store is None or store.metadata.raster.file_name != own.provenance.raster:
            return
        provenance = own.provenance
        self._controller.start_from(provenance.prompts, provenance.level, provenance.candidate)
        if own.feature_id is not None:
            self._begin(layer, layer.getFeature(own.feature_id), provenance.prompts)
            if layer is self._dock.layer and own.values:
                self._dock.class_box.show_values(own.values)

    def _refine(self, layer: QgsVectorLayer, feature: QgsFeature, place: QgsPointXY | None) -> None:
        self._set_picks(False)
        try:
            self.check_free()
            check_target(layer)
            if not feature.isValid():
                raise gone_from(layer)
            provenance = read_provenance(layer, feature)
            place = self._place_on_image(layer, feature, place)
            raster = self._missing_raster(provenance, place) if provenance is not None else None
        except GeoSamError as error:
            self.failed.emit(error)
            return
        if raster is not None and self._controller.waits_for(raster, partial(self._go_on, layer, feature.id(), place)):
            return
        self._controller.discard()
        store = self._controller.store
        name = store.metadata.raster.file_name if store is not None else ""
        if store is None or provenance is None or provenance.raster not in ("", name):
            self._controller.prompt_at(place, partial(self._start_as_it_is, layer, feature.id()))
        else:
            self._start(layer, feature, provenance)

    def _start(self, layer: QgsVectorLayer, feature: QgsFeature, provenance: Provenance | None) -> None:
        outline = self._outline(layer, feature)
        if outline is None:
            return
        prompts = Prompts(outline=outline) if provenance is None else provenance.prompts
        if provenance is None:
            self._controller.start_from(prompts)
        else:
            self._controller.start_from(prompts, provenance.level, provenance.candidate, known=outline)
        self._begin(layer, feature, prompts)
        # The selection colour of QGIS would cover the polygon being refined.
        layer.removeSelection()
        if provenance is not None:
            self.started.emit(provenance)

    def _start_as_it_is(self, layer: QgsVectorLayer, feature_id: int) -> None:
        """Refine a polygon of which only the outline is known; the image under it is open now."""
        if not sip.isdeleted(layer) and layer.getFeature(feature_id).isValid():
            self._start(layer, layer.getFeature(feature_id), None)

    def _go_on(self, layer: QgsVectorLayer, feature_id: int, place: QgsPointXY) -> None:
        """Refine a polygon whose image is open now."""
        if not sip.isdeleted(layer):
            self._refine(layer, layer.getFeature(feature_id), place)

    def _place_on_image(self, layer: QgsVectorLayer, feature: QgsFeature, place: QgsPointXY | None) -> QgsPointXY:
        """Return a place of a polygon where an image is, in the canvas's CRS; the one that was pointed at, if any."""
        geometry, crs = feature.geometry(), self._canvas_crs()
        inside = geometry.pointOnSurface()
        if inside.isNull():
            raise EditError(tr("The feature has no polygon"), tr("draw it again"))
        places = transform_points([inside.asPoint()], layer.crs(), crs)
        if place is not None:
            places.insert(0, place)
        if not any(map(self._has_image, places)):
            vertices = [QgsPointXY(vertex) for vertex in geometry.vertices()]
            some = vertices[:: len(vertices) // _MOST_PLACES + 1]
            places += transform_points(some, layer.crs(), crs)
        return next(filter(self._has_image, places), places[0])

    def _has_image(self, place: QgsPointXY) -> bool:
        return self._controller.layer_at(place) is not None or self._controller.store_at(place) is not None

    def _missing_raster(self, provenance: Provenance, place: QgsPointXY) -> LayerSource | None:
        """Return the image to open for a polygon; None if the open one is right, or another one is visible there."""
        store, name = self._controller.store, provenance.raster
        is_open = store is not None and name in ("", store.metadata.raster.file_name)
        if store is not None and is_open and _contains(QgsRectangle(*store.segmenter.map_bounds), provenance):
            return None
        rasters = [(other, project_raster(other)) for other in QgsProject.instance().mapLayers().values()]
        same_name = [(other, raster) for other, raster in rasters if raster and raster.path.name == name]
        for other, raster in same_name:
            if (len(same_name) == 1 and not is_open) or _contains(other.extent(), provenance):
                return raster
        if is_open or self._controller.layer_at(place) is not None:
            return None
        if not name:
            raise EditError(tr("No prepared image is open"), tr("open the one that the polygon was drawn on"))
        raise _drawn_on(provenance)

    def _begin(self, layer: QgsVectorLayer, feature: QgsFeature, prompts: Prompts) -> None:
        self._end()
        box, label = self._dock.class_box, ""
        self._class_before = dict(box.attributes())
        if layer is self._dock.layer:
            box.show_values(_classes(feature, box.class_fields))
            label = class_of(feature, self._dock)
        self._own_values = dict(box.attributes())
        self._start_prompts = prompts
        self.current = Refined(layer, feature.id(), label, QgsGeometry(feature.geometry()))
        box.colour_changed.connect(self._on_class)
        # What is drawn is a new polygon then.
        layer.willBeDeleted.connect(self._end)
        layer.beforeCommitChanges.connect(self._on_saving)
        for signal in (layer.featureDeleted, layer.afterRollBack):
            signal.connect(self._on_deleted)
        self.changed.emit()

    def _end(self) -> None:
        refined, self.current = self.current, None
        if refined is None:
            return
        box = self._dock.class_box
        box.colour_changed.disconnect(self._on_class)
        if not sip.isdeleted(refined.layer):
            refined.layer.willBeDeleted.disconnect(self._end)
            refined.layer.beforeCommitChanges.disconnect(self._on_saving)
            for signal in (refined.layer.featureDeleted, refined.layer.afterRollBack):
                signal.disconnect(self._on_deleted)
        if refined.layer is self._dock.layer:
            box.show_values(self._class_before)
        self.changed.emit()

    def _on_deleted(self, *_: object) -> None:
        self._soon.start()

    def _on_saving(self, *_: object) -> None:
        """Find the polygon by its outline if saving may give it the id of another one."""
        refined = self.current
        feature = refined.layer.getFeature(refined.feature_id) if refined is not None else QgsFeature()
        if refined is not None and feature.isValid() and ids_are_places(refined.layer):
            self.current = replace(refined, geometry=QgsGeometry(feature.geometry()), may_have_moved=True)
            self._soon.start()

    def _end_if_gone(self) -> None:
        """Leave what was drawn, and its class, to a new polygon if the refined one is no longer in the layer."""
        if self.current is None:
            return
        try:
            self.current = replace(self.current, feature_id=self.current.locate(), may_have_moved=False)
        except EditError:
            if self.is_untouched:
                self._controller.discard()
                return
            box = self._dock.class_box
            values = box.attributes()
            self._end()
            box.show_values(values)

    def _on_class(self, _colour: object) -> None:
        self.changed.emit()

    def _on_drawing(self, drawing: Drawing) -> None:
        if drawing == Drawing():
            self._end()
        elif self.picks and drawing.busy:
            self._set_picks(False)

    def _set_picks(self, picks: bool) -> None:
        if picks != self.picks:
            self.picks = picks
            self.changed.emit()

    def _screen(self) -> Any:
        return self._iface.mapCanvas().getCoordinateTransform()

    def _canvas_crs(self) -> QgsCoordinateReferenceSystem:
        crs: QgsCoordinateReferenceSystem = self._iface.mapCanvas().mapSettings().destinationCrs()
        return crs

    def _layers(self) -> list[QgsVectorLayer]:
        """Return the target layer and the active layer."""
        layers = dict.fromkeys((self._dock.layer, self._iface.activeLayer()))
        return [
            layer
            for layer in layers
            if isinstance(layer, QgsVectorLayer) and layer.geometryType() == QgsWkbTypes.PolygonGeometry
        ]

    def _at(self, point: QgsPointXY) -> tuple[QgsVectorLayer, QgsFeature] | None:
        """Return the smallest polygon at a point in the canvas's CRS, of the first layer that has one there."""
        crs = self._canvas_crs()
        for layer in self._layers():
            try:
                (place,) = transform_points([point], crs, layer.crs())
            except EditError:
                continue
            here = QgsGeometry.fromPointXY(place)
            side = max(abs(place.x()), abs(place.y()), 1.0) * _NEAR
            request = QgsFeatureRequest().setFilterRect(QgsRectangle.fromCenterAndSize(place, side, side))
            found = [feature for feature in layer.getFeatures(request) if feature.geometry().intersects(here)]
            if found:
                return layer, min(found, key=lambda feature: float(feature.geometry().area()))
        return None


def outline_in(
    crs: QgsCoordinateReferenceSystem, layer: QgsVectorLayer, feature: QgsFeature
) -> shapely.Polygon | shapely.MultiPolygon:
    """Return the polygon of a feature in another CRS, repaired if it is not valid.

    Raises
    ------
    EditError
        If it cannot be transformed.
    """
    outline = from_qgs(feature.geometry())
    if crs.isValid():
        outline = transform_polygon(outline, transform(layer.crs(), crs))
    return valid_polygon(outline)


def same_prompts(first: Prompts, second: Prompts) -> bool:
    """Tell whether prompts are the same, apart from rounding."""
    (coords, labels), (other_coords, other_labels) = _arrays(first), _arrays(second)
    same_size = len(coords) == len(other_coords) and labels == other_labels
    return same_size and np.allclose(coords, other_coords, rtol=_NEAR, atol=0.0)


def _arrays(prompts: Prompts) -> tuple[list[float], list[bool | None]]:
    coords = [value for point in prompts.points for value in point[:2]]
    if prompts.outline is not None:
        coords += shapely.get_coordinates(prompts.outline).ravel().tolist()
    labels: list[bool | None] = [point.positive for point in prompts.points]
    return [*coords, *(prompts.box or ())], [*labels, None] if prompts.box else labels


def _drawn_on(provenance: Provenance) -> EditError:
    problem = tr("This polygon was drawn on {name}").format(name=provenance.raster)
    return EditError(problem, tr("add that raster to the project, or open its prepared image"))


def _contains(extent: QgsRectangle, provenance: Provenance) -> bool:
    """Tell whether the prompts are inside, in the raster's CRS; images in several folders may have one name."""
    try:
        # A box may reach beyond the image.
        return bool(extent.contains(QgsRectangle(*provenance.prompts.positive_bounds).center()))
    except PromptError:
        return False


def class_of(feature: QgsFeature, dock: SegmentDock) -> str:
    """Return the class of a feature of the target layer, for people."""
    return _label(_classes(feature, dock.class_box.class_fields))


def _classes(feature: QgsFeature, fields: Iterable[str]) -> dict[str, Any]:
    return {name: _value(feature, name) for name in fields if feature.fieldNameIndex(name) >= 0}


def _value(feature: QgsFeature, field: str) -> Any:
    value = feature[field]
    # NULL is a QVariant in older versions of QGIS.
    return None if hasattr(value, "isNull") and value.isNull() else value


def _label(values: Mapping[str, Any]) -> str:
    value = next(iter(values.values()), None)
    return "" if value is None else str(value)
