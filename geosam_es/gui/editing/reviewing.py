"""The review queue: goes through polygons that a machine proposed, and accepts them into the target layer or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from qgis.core import QgsCoordinateReferenceSystem, QgsFeature, QgsPointXY, QgsRectangle, QgsVectorLayer
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QLocale, QObject, QTimer, pyqtSignal
from shapely.geometry.base import BaseGeometry

from ...core.coverage import Changes
from ...core.topology import valid_polygon
from ...errors import EditError, GeoSamError
from ...qgis_support.coverage_mode import CoverageMode
from ...qgis_support.crs import from_qgs, transform, transform_polygon
from ...qgis_support.judgements import REJECTED, UNSAVED, Judgements
from ...qgis_support.messages import tr, translated
from ...qgis_support.settings import Settings
from ..canvas.controller import SegmentationController
from ..canvas.drawing import Drawing, Fitted
from ..canvas.map_tool import SegmentMapTool
from ..panel.dock import SegmentDock
from ..panel.result_text import SURE, area_text
from .candidates import Candidates, is_same, own_class
from .coverage import LayerCoverage
from .edits import AcceptOptions, check_target, edit_command, write_changes
from .history import EditHistory, OwnEdit, named
from .judging import Judging
from .layer_geometry import LayerFitting
from .provenance import read_provenance
from .refining import Refining, class_of
from .steps import Steps
from .walk import Walk

__all__ = ["ReviewQueue"]


class ReviewQueue(Walk):
    """Knows which polygons of a layer are still to be judged, and judges them.

    What is accepted is one undo step of the target layer, what is rejected one of the layer under review. The items of
    the walk are rows of the candidates.

    Attributes
    ----------
    candidates : Candidates, optional
    least : float
        Candidates with a lower confidence are not in the queue.
    fitted : Fitted, optional
        The current polygon as accepting would write it.

    Signals
    -------
    written : QgsVectorLayer, int
        The target layer, and the id of a feature that was accepted.
    filled
        Another layer is under review, or none.
    told : str
        How the review of many began or ended, for people.
    """

    written = pyqtSignal(object, int)
    filled = pyqtSignal()
    told = pyqtSignal(str)

    def __init__(
        self,
        iface: Any,
        tool: SegmentMapTool,
        controller: SegmentationController,
        dock: SegmentDock,
        settings: Settings,
        refining: Refining,
        history: EditHistory,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(controller, parent)
        self._iface = iface
        self._dock = dock
        self._settings = settings
        self._refining = refining
        self._history = history
        self.items: NDArray[np.int64] = np.zeros(0, np.int64)
        self.candidates: Candidates | None = None
        self.fitted: Fitted | None = None
        self.least = -np.inf
        self._by_space = False
        self._polygon: BaseGeometry = shapely.Polygon()
        self._at = np.zeros(2)
        # Where to go on after a judgement, once the layers have their edits.
        self._resume: int | None = None
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(0)
        self._soon.timeout.connect(self._go_on)
        self._judging = Judging(self)
        self._judging.judged.connect(self._on_judged)
        self._judging.failed.connect(self.failed.emit)
        # Before the gestures and the acceptor get them.
        tool.clicked.connect(lambda point, _positive: self._take_up([point]))
        tool.boxed.connect(self._take_up)
        tool.stroked.connect(lambda _name, points, _positive: self._take_up(points))
        controller.accept_ready.connect(self._arm)
        dock.class_box.colour_changed.connect(self._refit)
        dock.layer_chosen.connect(self._refit)

    def fill(self, layer: QgsVectorLayer | None) -> None:
        """Review the polygons of a layer; those that were judged before are left out."""
        self.stop()
        if layer is None:
            return
        try:
            found = self.candidates = Candidates(layer, self._dock.layer)
        except GeoSamError as error:
            self.failed.emit(error)
            return
        self.layer = layer
        layer.willBeDeleted.connect(self.stop)
        self.filled.emit()
        self.set_least(-np.inf)
        texts = [tr("{left} of {count} polygons to review. N: go to the first")]
        if found.lost:
            texts.append(tr("{lost} were accepted before, but the target layer was not saved: review them again"))
        text = ". ".join(texts).format(left=len(self.items), count=len(found.ids), lost=found.lost)
        self.told.emit(text)

    def stop(self) -> None:
        """Forget the candidates; what was judged is kept."""
        if self.layer is not None and not sip.isdeleted(self.layer):
            self.layer.willBeDeleted.disconnect(self.stop)
        self._soon.stop()
        self.layer = self.candidates = self.fitted = self.index = self._resume = None
        self.items = np.zeros(0, np.int64)
        self.filled.emit()
        self.changed.emit()

    def judged(self) -> tuple[list[BaseGeometry], list[BaseGeometry]]:
        """Return the polygons that were accepted and those that were rejected, as proposed, in the CRS of ``layer``."""
        return self.candidates.judged() if self.candidates is not None else ([], [])

    def set_field(self, field: str) -> None:
        """Choose the field with the confidence; an empty name stands for none."""
        if self.candidates is not None:
            self.candidates.set_field(field)
            self.set_least(-np.inf)

    def set_by_space(self, by_space: bool) -> None:
        """Go to the nearest candidate next, not to the most doubtful one."""
        self._by_space = by_space
        self.set_least(self.least)

    def set_least(self, least: float) -> None:
        """Leave candidates with a lower confidence out of the queue."""
        self.least = least
        if self.candidates is not None:
            row = self.current
            self.items = self.candidates.in_order(least)
            place = np.flatnonzero(self.items == row) if row is not None else ()
            self.index = int(place[0]) if len(place) else None
            self.changed.emit()

    # The walk.

    @property
    def hint(self) -> str:
        """What the user can do about the current candidate; empty if there is none."""
        if self.index is None or self.layer is None:
            return ""
        keys = tr("Enter: accept · Delete: reject · 1 to 9: class\nClick or brush: correct · N: next · Esc: leave")
        return f"{self._numbered(self.layer.name())}\n{keys}"

    @property
    def text(self) -> str:
        """The current candidate in words, and why it cannot be accepted; empty if there is none."""
        found, fitted = self.candidates, self.fitted
        if self.index is None or found is None or fitted is None:
            return ""
        parts = [area_text(self._polygon if fitted.outline is None else fitted.outline, fitted.crs)]
        value = float(found.confidence[self.current])
        if np.isfinite(value):
            parts.append(f"{found.field} {QLocale().toString(value, 'f', 2)}")
        text = " · ".join(parts)
        return f"{text}\n{translated(fitted.refusal)}" if fitted.refusal is not None else text

    @property
    def is_doubtful(self) -> bool:
        """Whether the current candidate is more likely wrong than right, or cannot be accepted."""
        found, fitted = self.candidates, self.fitted
        if self.index is None or found is None or fitted is None:
            return False
        return fitted.refusal is not None or bool(found.confidence[self.current] < SURE)

    def step(self, step: int) -> None:
        """Go to the next candidate, or to the previous one with -1."""
        if self._by_space and step > 0 and self.index is not None:
            self._bring_nearest(self.index + 1)
        super().step(step)

    def choose(self, index: int) -> None:
        """Go to a candidate by its position in the list; not while something is drawn."""
        try:
            self._refining.check_free()
        except EditError as error:
            self.failed.emit(error)
        else:
            self._go(index)

    def leave(self) -> bool:
        """Leave the walk, as any other; nothing is on show then."""
        self._resume = None
        return super().leave()

    def _go(self, index: int | None) -> None:
        self.index = self.fitted = None
        found, box = self.candidates, self._dock.class_box
        while found is not None and index is not None and len(self.items):
            index %= len(self.items)
            row = int(self.items[index])
            feature = found.feature(row)
            if feature.hasGeometry():
                self._at = found.centers[row]
                self._polygon = valid_polygon(from_qgs(feature.geometry()))
                own = own_class(feature, box.class_fields)
                if own:
                    box.show_values(own)
                self.index = index
                self._refit()
                self.shown.emit(self._polygon, self.layer)
                return
            # It was deleted from the layer.
            self.items = np.delete(self.items, index)
        self.changed.emit()

    def _bring_nearest(self, index: int) -> None:
        """Put the candidate nearest to the current place at a position in the list, of those from there on."""
        if self.candidates is not None and index < len(self.items):
            nearest = index + self.candidates.nearest(self.items[index:], self._at)
            self.items[[index, nearest]] = self.items[[nearest, index]]

    def _refit(self, *_: object) -> None:
        if self.index is not None:
            self.fitted = self._fit(self._polygon, self._dock.class_box.attributes())
            self.changed.emit()

    def _fit(self, polygon: BaseGeometry, attributes: Mapping[str, Any]) -> Fitted:
        """Return a candidate as accepting it now would write it, or why it cannot be."""
        crs = self.layer.crs() if self.layer is not None else QgsCoordinateReferenceSystem()
        target, mode = self._dock.layer, CoverageMode.of(self._dock.layer)
        try:
            fields = self._dock.class_box.class_fields if mode.is_on else []
            coverage = LayerCoverage(target, mode, fields) if target is not None and mode.is_on else None
            name = LayerCoverage.class_name(attributes.get(field) for field in fields)
            options = AcceptOptions.of(self._settings)
            return LayerFitting(target, crs, options, avoids=True, coverage=coverage, class_name=name)(polygon, True)
        except GeoSamError as error:
            return Fitted(None, crs, lambda _polygon, _keeps: self._fit(polygon, attributes), error)

    # Corrections.

    def _take_up(self, points: list[QgsPointXY]) -> None:
        """Make the current candidate the object being drawn if a gesture is at it, so that the gesture corrects it."""
        if self.index is None or self.layer is None or not self.is_idle or self._refining.picks:
            return
        canvas_crs = self._iface.mapCanvas().mapSettings().destinationCrs()
        try:
            place = transform_polygon(self._polygon, transform(self.layer.crs(), canvas_crs))
        except EditError as error:
            self.failed.emit(error)
            return
        around, gesture = QgsRectangle(*place.bounds), QgsRectangle(points[0], points[0])
        around.grow(max(around.width(), around.height()) / 2)
        for point in points:
            gesture.include(point)
        if around.intersects(gesture):
            self._controller.prompt_at(points[0], partial(self._draw, self._polygon, self.layer.crs()))

    def _draw(self, polygon: BaseGeometry, crs: QgsCoordinateReferenceSystem) -> None:
        store = self._controller.store
        try:
            if store is not None:
                self._controller.reshape(transform_polygon(polygon, transform(crs, store.crs)))
        except EditError as error:
            self.failed.emit(error)

    def _arm(self, drawing: Drawing) -> None:
        """Take what was drawn, and is accepted now, for the current candidate if it is where that is."""
        target, store, result, found = self._dock.layer, self._controller.store, drawing.result, self.candidates
        if self.index is None or found is None or None in (target, store, result) or self._refining.current is not None:
            return
        if is_same(self._polygon, transform_polygon(result.geometry, transform(store.crs, found.layer.crs()))):
            self._judging.expect(target, found.judgements, int(found.ids[self.current]))

    def go_on(self) -> None:
        """Go on after what was drawn is written, or could not be."""
        self._judging.disarm()
        if self._soon.isActive():
            self._go_on()

    # Judgements.

    def accept(self) -> bool:
        """Write the current candidate to the target layer, and go to the next; False if there is none.

        Not while something is drawn, which is accepted as usual.
        """
        found = self.candidates
        if self.index is None or found is None or not self.is_idle:
            return False
        row, attributes = self.current, self._dock.class_box.attributes()
        try:
            target = self._target()
            self._judging.expect(target, found.judgements, int(found.ids[row]))
            # The layer may have changed since it was shown.
            self._refit()
            written = self._write(target, found.feature(row), self.fitted, attributes, partial(self._open_form, target))
        except GeoSamError as error:
            self.failed.emit(error)
            written = None
        if written is not None:
            label = next((str(value) for value in attributes.values()), "")
            self._history.note(target, OwnEdit(named(tr("polygon {label} in {layer}"), target, label)))
            self.written.emit(target, written)
        self.go_on()
        return True

    def reject(self) -> None:
        """Reject the current candidate, and what was drawn to correct it, and go to the next."""
        found = self.candidates
        if self.index is None or found is None or self._refining.current is not None:
            return
        row = self.current
        if not self.is_idle:
            self._controller.discard()
        label = class_of(found.feature(row), self._dock)
        self._judging.push(found.layer, found.judgements, [int(found.ids[row])], REJECTED)
        name = named(tr("rejection of polygon {label} in {layer}"), found.layer, label)
        self._history.note(found.layer, OwnEdit(name))
        self._go_on()

    def accept_all(self) -> None:
        """Accept all that is in the queue, the surest first, in one undo step; those that cannot be are left out."""
        try:
            self._refining.check_free()
            target = self._target()
        except GeoSamError as error:
            self.failed.emit(error)
            return
        if self.candidates is not None and len(self.items):
            rows = self.candidates.in_order(self.least)[::-1]
            text = tr("Accepting polygons into {layer}").format(layer=target.name())
            steps = self._accepting(target, self.candidates, rows)
            Steps(steps, len(rows), text, self.failed.emit, self._iface.mainWindow()).start()

    def _accepting(self, target: QgsVectorLayer, found: Candidates, rows: NDArray[np.int64]) -> Iterator[None]:
        box, done, reason = self._dock.class_box, [], ""
        chosen = box.attributes()
        self._go(None)
        with edit_command(target, tr("Accept polygons")):
            for row in rows:
                feature = found.feature(row)
                attributes = own_class(feature, box.class_fields) or chosen
                fitted = self._fit(valid_polygon(from_qgs(feature.geometry())), attributes)
                if fitted.refusal is None:
                    self._write(target, feature, fitted, attributes)
                    done.append(feature.id())
                else:
                    reason = reason or translated(fitted.refusal)
                yield
            if not done:
                raise EditError(tr("None of the polygons can be accepted ({reason})").format(reason=reason), "")
            self._judging.push(target, found.judgements, done, UNSAVED)
        name = tr("{count} polygons in {layer}").format(count=len(done), layer=target.name())
        self._history.note(target, OwnEdit(name))
        text = tr("Accepted: {what}").format(what=name)
        if reason:
            text += ". " + tr("{count} were left out ({reason})").format(count=len(rows) - len(done), reason=reason)
        self.told.emit(text)
        self._go_on()

    def _write(
        self,
        target: QgsVectorLayer,
        feature: QgsFeature,
        fitted: Fitted,
        attributes: Mapping[str, Any],
        form: Any = None,
    ) -> int | None:
        if fitted.refusal is not None:
            raise fitted.refusal
        is_free = fitted.changes is None
        changes = fitted.changes or Changes({}, [fitted.outline])
        options = AcceptOptions.of(self._settings).without_changes
        rest = tr("Accept polygon"), attributes, read_provenance(self.layer, feature), options, form
        return write_changes(target, changes, *rest, shares_vertices=is_free)

    def _target(self) -> QgsVectorLayer:
        target = check_target(self._dock.layer)
        if target is self.layer:
            problem = tr("The polygons under review are in the target layer itself")
            raise EditError(problem, tr("choose another target layer"))
        return target

    def _open_form(self, layer: QgsVectorLayer, feature: QgsFeature) -> bool:
        return bool(self._iface.openFeatureForm(layer, feature, False, True))

    def _on_judged(self, judgements: Judgements, states: dict[int, str]) -> None:
        """Go on after a judgement, and back to one that was undone."""
        found = self.candidates
        if found is None or judgements is not found.judgements:
            return
        index = self._resume if self.index is None else self.index
        was_left, was_pending = len(self.items), int(found.pending.sum())
        back = found.mark(states)
        if int(found.pending.sum()) == was_pending:
            # What was accepted is saved now.
            return
        self.index = None
        if len(back) == 1:
            index = min(index or 0, was_left)
            self.items = np.insert(self.items, index, back)
        elif back:
            self.items, index = found.in_order(self.least), None
        is_left = found.pending[self.items]
        if index is not None:
            index = int(np.count_nonzero(is_left[:index]))
        self.items = self.items[is_left]
        if self._by_space and not back and index is not None:
            self._bring_nearest(index)
        self._resume = index
        self._soon.start()

    def _go_on(self) -> None:
        """Show what comes after a judgement."""
        self._soon.stop()
        index, self._resume = self._resume, None
        self._go(index)
