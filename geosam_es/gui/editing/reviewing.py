"""The review queue: goes through polygons that a machine proposed, and accepts them into the target layer or not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import shapely
from qgis.core import (
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsPointXY,
    QgsProject,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QLocale, QObject, Qt, pyqtSignal
from qgis.PyQt.QtWidgets import QApplication, QProgressDialog
from shapely.geometry.base import BaseGeometry

from ...core.coverage import Changes
from ...core.topology import valid_polygon
from ...errors import EditBufferError, EditError, GeoSamError
from ...qgis_support.crs import from_qgs, transform, transform_polygon
from ...qgis_support.messages import tr, translated
from ...qgis_support.settings import Settings
from ...qgis_support.side_table import can_keep, find_records
from ..canvas.controller import SegmentationController
from ..canvas.drawing import Drawing, Fitted
from ..canvas.map_tool import SegmentMapTool
from ..panel.dock import SegmentDock
from ..panel.result_text import SURE, area_text
from ..stores.background_task import BackgroundTask
from .candidate_fitter import CandidateFitter
from .candidates import REJECTED, UNSAVED, Candidates, is_same, own_class
from .edits import (
    AcceptOptions,
    CancelledError,
    check_target,
    edit_command,
    form_opener,
    ids_are_places,
    write_changes,
)
from .history import EditHistory, OwnEdit, named
from .judging import Judging
from .provenance import read_provenance
from .refining import Refining, class_of

__all__ = ["ReviewQueue"]

_AT_ONCE = 500
"""Most polygons that are read without a task."""

_TURN_SECONDS = 0.02
"""Time between two moments in which QGIS can paint, and shorter work shows no progress."""

_InThread = Callable[[Callable[[], Fitted]], Fitted]


class _AllCancelledError(GeoSamError, CancelledError):
    """Raised when the user cancels what takes long."""


class _StoppedError(Exception):
    """Raised in the reading when the user has cancelled it."""


class _Reading(BackgroundTask):
    """Reads the polygons of a layer."""

    def __init__(self, found: Candidates, count: int, hint: str, done: Callable[[_Reading, bool], None]) -> None:
        super().__init__(tr("Reading {layer}").format(layer=found.layer.name()))
        self.found, self.hint = found, hint
        self._count, self._done = count, done

    def work(self) -> None:
        """Read; called in another thread."""
        self.found.read(self._on_progress)

    def _on_progress(self, count: int) -> None:
        self.setProgress(100.0 * count / max(self._count, count, 1))
        if self.isCanceled():
            raise _StoppedError

    def finished(self, result: bool) -> None:
        """Report the result; called in the GUI thread."""
        super().finished(result)
        self._done(self, result)


class ReviewQueue(Judging):
    """Knows which polygons of a layer are still to be judged, and judges them.

    What is accepted is one undo step of the target layer, what is rejected one of the layer under review.

    Attributes
    ----------
    is_accepting : bool
        Whether the current polygon will be written once it is fitted. Other gestures wait for it.

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
        self._feature = QgsFeature()
        self._polygon: BaseGeometry = shapely.Polygon()
        # The class that the user chose, and that of the candidate, which is shown in its place.
        self._classes: tuple[dict[str, Any], dict[str, Any]] | None = None
        self._reading: _Reading | None = None
        self.is_accepting = False
        # What waits until all are accepted; None at other times.
        self._held: list[Callable[[], None]] | None = None
        self._fitter = CandidateFitter(dock, settings, self)
        self._fitter.changed.connect(self._on_fitted)
        self._reading_again.timeout.connect(self._fill_again)
        # Before the gestures and the acceptor get them.
        tool.clicked.connect(lambda point, _positive: self._take_up([point]))
        tool.boxed.connect(self._take_up)
        tool.stroked.connect(lambda _name, points, _positive: self._take_up(points))
        controller.accept_ready.connect(self._on_accept_ready)
        dock.layer_chosen.connect(self._show_below_target)

    def fill(self, layer: QgsVectorLayer | None, hint: str = "") -> None:
        """Review the polygons of a layer, many of which a task reads; those that were judged before are left out.

        ``hint`` is told with the number of polygons.
        """
        self.stop()
        if layer is None:
            return
        with self._reported():
            target, count = self._dock.layer, layer.featureCount()
            found = Candidates(layer, target, self._unsaved_elsewhere(layer, target))
            self._reading = task = _Reading(found, count, hint, self._on_read)
            if 0 <= count <= _AT_ONCE:
                task.finished(task.run())
            else:
                task.start()

    def _on_read(self, task: _Reading, is_read: bool) -> None:
        if task is not self._reading:
            return
        self._reading, found = None, task.found
        if task.error is not None:
            self.failed.emit(task.error)
        if not is_read or sip.isdeleted(found.layer):
            self.filled.emit()
            return
        self.candidates, self.layer = found, found.layer
        for signal, slot in self._signals(found.layer):
            signal.connect(slot)
        self._show_below_target()
        self.filled.emit()
        self.set_least(-np.inf)
        text = tr("{left} of {count} polygons to review. N: go to the first")
        if found.lost:
            text += ". " + tr("{lost} of them were accepted before, but the target layer was not saved")
        told = text.format(left=len(self.items), count=len(found.ids), lost=found.lost)
        self.told.emit(". ".join(filter(None, (told, task.hint))))

    def _show_below_target(self, *_: object) -> None:
        """Move the layer under review below the target layer, so that it does not cover what is accepted."""
        root, layer, target = QgsProject.instance().layerTreeRoot(), self.layer, self._dock.layer
        order: list[Any] = root.layerOrder()
        if layer not in order or target not in order or order.index(layer) > order.index(target):
            return
        if root.hasCustomLayerOrder():
            order.remove(layer)
            order.insert(order.index(target) + 1, layer)
            root.setCustomLayerOrder(order)
            return
        node, above = (root.findLayer(shown.id()) for shown in (layer, target))
        siblings: list[Any] = above.parent().children()
        above.parent().insertChildNode(siblings.index(above) + 1, node.clone())
        node.parent().removeChildNode(node)

    def stop(self) -> None:
        """Forget the candidates; what was judged is kept."""
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        if self.layer is not None and self.candidates is not None and not sip.isdeleted(self.layer):
            for signal, slot in self._signals(self.layer):
                signal.disconnect(slot)
            self._keep(self.candidates, at_once=True)
        self._soon.stop()
        self._reading_again.stop()
        self._stop_accepting()
        self._fitter.forget()
        self.layer = self.candidates = self.index = self._resume = None
        self.items = np.zeros(0, np.int64)
        self._show_class({})
        self.filled.emit()
        self.changed.emit()

    def _signals(self, layer: QgsVectorLayer) -> list[tuple[Any, Any]]:
        return [
            (layer.willBeDeleted, self.stop),
            (layer.beforeCommitChanges, self._on_saving),
            (layer.committedFeaturesRemoved, self._on_removed),
        ]

    def _on_saving(self, *_: object) -> None:
        """Keep what was decided before the ids may change."""
        if self.candidates is not None and ids_are_places(self.candidates.layer):
            self._keep(self.candidates, at_once=True)

    def _on_removed(self, _layer_id: str, removed: list[int]) -> None:
        """Read a layer again whose features get other ids."""
        found = self.candidates
        if found is not None and ids_are_places(found.layer):
            found.renumber(removed)
            self.stop()
            self._read_again(found.layer)

    def _fill_again(self) -> None:
        layer, self._renumbered = self._renumbered, None
        if layer is not None and not sip.isdeleted(layer):
            self.fill(layer)

    def release(self) -> None:
        """Stop for good, and end the thread."""
        self.stop()
        self._fitter.release()

    def set_field(self, field: str) -> None:
        """Choose the field with the confidence; an empty name stands for none."""
        if self.candidates is not None:
            self.candidates.set_field(field)
            self.set_least(-np.inf)

    def set_by_space(self, by_space: bool) -> None:
        """Go to the nearest candidate next, not to the most doubtful one."""
        self.by_space = by_space
        self.set_least(self.least)

    def set_least(self, least: float) -> None:
        """Leave candidates with a lower confidence out of the queue."""
        self.least = least
        if self.candidates is not None:
            row = self.current
            self.items = self.candidates.in_order(least)
            place = [] if row is None else np.flatnonzero(self.items == row).tolist()
            self.index = place[0] if place else None
            self.changed.emit()

    # The walk.

    @property
    def fitted(self) -> Fitted | None:
        """The current candidate as accepting would write it; None while another thread fits it to the layer."""
        return self._fitter.fitted

    @property
    def hint(self) -> str:
        """What the user can do about the current candidate; empty if there is none."""
        if self.index is None or self.layer is None:
            return ""
        keys = tr("Enter: accept · Delete: reject\n1 to 9: class, accept · N: next\nClick, brush: correct · Esc: leave")
        return f"{self._numbered(self.layer.name())}\n{keys}"

    @property
    def place(self) -> BaseGeometry | None:
        """The current candidate as it was proposed."""
        return self._polygon if self.index is not None else None

    @property
    def described(self) -> tuple[str, bool]:
        """The current candidate in words, and whether it is more likely wrong than right or cannot be accepted."""
        found, fitted = self.candidates, self.fitted
        if self.index is None or found is None or fitted is None:
            return "", False
        text = area_text(self._polygon if fitted.outline is None else fitted.outline, fitted.crs)
        value = float(found.confidence[self.current])
        if np.isfinite(value):
            text += f" · {found.field} {QLocale().toString(value, 'f', 2)}"
        if fitted.refusal is not None:
            text += f"\n{translated(fitted.refusal)}"
        return text, fitted.refusal is not None or value < SURE

    def step(self, step: int) -> None:
        """Go to the next candidate, or to the previous one with -1."""
        if not self._holds(partial(self.step, step)):
            super().step(step)

    def choose(self, index: int) -> None:
        """Go to a candidate by its position in the list; not while something is drawn."""
        with self._reported():
            self._refining.check_free()
            self._go(index)

    def _go(self, index: int | None) -> None:
        self._stop_accepting()
        self._fitter.forget()
        self.index, found = None, self.candidates
        while found is not None and index is not None and len(self.items):
            index %= len(self.items)
            row = int(self.items[index])
            feature = found.layer.getFeature(int(found.ids[row]))
            polygon = valid_polygon(from_qgs(feature.geometry())) if feature.hasGeometry() else shapely.Polygon()
            if not polygon.is_empty:
                self._feature, self._polygon = feature, polygon
                self._show_class(self._own_class(feature))
                self.index, self._row = index, row
                self._fitter.fit(polygon, found.layer)
                self.shown.emit(self._polygon, self.layer)
                return
            # It was deleted from the layer, or has no area left.
            self.items = np.delete(self.items, index)
        self._show_class({})
        self.changed.emit()

    def leave(self) -> bool:
        """Give up what waits to be accepted, or leave the walk; see `Walk.leave`."""
        if self.is_accepting:
            self._stop_accepting()
            return True
        is_left = super().leave()
        if is_left:
            self._show_class({})
        return is_left

    def _own_class(self, feature: QgsFeature) -> dict[str, Any]:
        return own_class(feature, self._dock.layer, self._dock.class_box.class_fields)

    def _show_class(self, own: dict[str, Any]) -> None:
        """Show the class of a candidate; without one, that which the user chose."""
        box, chosen = self._dock.class_box, dict(self._dock.class_box.attributes())
        if self._classes is not None and chosen == self._classes[1]:
            chosen = self._classes[0]
        if own or self._classes is not None:
            box.show_values(own or chosen)
        self._classes = (chosen, dict(box.attributes())) if own else None

    def _on_fitted(self) -> None:
        self.changed.emit()
        # After a change it is fitted again first.
        if self.is_accepting and self._fitter.is_current:
            held = self._stop_accepting()
            # If it could not be written, it is still there, and the gestures held were not meant for it.
            if self.index is not None and self._accept():
                for gesture in held:
                    gesture()

    # Corrections.

    def _take_up(self, points: list[QgsPointXY]) -> None:
        """Make the current candidate the object being drawn if a gesture is at it, so that the gesture corrects it."""
        if self.index is None or self.layer is None or not self.is_idle or self._refining.picks:
            return
        canvas_crs, crs = self._iface.mapCanvas().mapSettings().destinationCrs(), self.layer.crs()
        with self._reported():
            around = QgsRectangle(*transform_polygon(self._polygon, transform(crs, canvas_crs)).bounds)
            around.grow(max(around.width(), around.height()) / 2)
            gesture = QgsRectangle(points[0], points[0])
            for point in points:
                gesture.include(point)
            if around.intersects(gesture):
                self._controller.prompt_at(points[0], partial(self._draw, self._polygon, crs))

    def _draw(self, polygon: BaseGeometry, crs: QgsCoordinateReferenceSystem) -> None:
        store = self._controller.store
        with self._reported():
            if store is not None:
                self._controller.reshape(valid_polygon(transform_polygon(polygon, transform(crs, store.crs))))

    def _on_accept_ready(self, drawing: Drawing) -> None:
        """Take what was drawn, and is accepted now, for the current candidate if it is where that is."""
        target, store, result, found = self._dock.layer, self._controller.store, drawing.result, self.candidates
        if self.index is None or found is None or self._refining.current is not None:
            return
        if target is None or store is None or result is None:
            return
        with self._reported():
            if is_same(self._polygon, transform_polygon(result.geometry, transform(store.crs, found.layer.crs()))):
                self._expect(target, int(found.ids[self.current]))

    # Judgements.

    def accept(self) -> bool:
        """Write the current candidate to the target layer, and go to the next; False if there is none.

        Not while something is drawn, which is accepted as usual.
        """
        if self._holds(self.accept):
            return True
        if self.index is None or self.candidates is None or not self.is_idle:
            return False
        with self._reported():
            self._target()
            # Something may have changed since it was shown.
            self._fitter.refit()
            if self._fitter.wait(_TURN_SECONDS):
                self._accept()
            else:
                self.is_accepting = True
                self._controller.pause()
        return True

    def _accept(self) -> bool:
        """Write the current candidate as it was fitted, and go to the next; return whether it could be written."""
        feature, fitted, attributes = self._feature, self.fitted, self._dock.class_box.attributes()
        written = None
        with self._reported():
            target = self._target()
            self._expect(target, feature.id())
            if fitted is not None:
                written = self._write(target, feature, fitted, attributes, form_opener(self._iface, target))
            if written is not None:
                label = next((str(value) for value in attributes.values()), "")
                self._history.note(target, OwnEdit(named(tr("polygon {label} in {layer}"), target, label)))
                self.written.emit(target, written)
        self.go_on()
        return written is not None

    def hold(self, choice: Callable[[], None]) -> bool:
        """Keep a choice for later if it belongs to the next polygon, and return whether it does."""
        return self._holds(choice) or self._controller.hold_after_accepting(choice)

    def _holds(self, gesture: Callable[[], object]) -> bool:
        def later() -> None:
            gesture()

        return self.is_accepting and self._controller.hold(later)

    def _stop_accepting(self) -> list[Callable[[], None]]:
        """No longer wait to accept the current candidate, and return the gestures that were held."""
        was_accepting, self.is_accepting = self.is_accepting, False
        return self._controller.resume() if was_accepting else []

    def reject(self) -> None:
        """Reject the current candidate, and what was drawn to correct it, and go to the next."""
        found = self.candidates
        if self._holds(self.reject):
            return
        if self.index is None or found is None or self._refining.current is not None:
            return
        if not self.is_idle:
            self._controller.discard()
        label = class_of(self._feature, self._dock)
        self._push(found.layer, [self._feature.id()], REJECTED)
        name = named(tr("rejection of polygon {label} in {layer}"), found.layer, label)
        self._history.note(found.layer, OwnEdit(name))
        self._go_on()

    def accept_all(self) -> None:
        """Accept all that is in the queue, the surest first, in one undo step; those that cannot be are left out."""
        held = self._held = []
        try:
            with self._reported():
                self._refining.check_free()
                self._accept_all(self._target())
        finally:
            self._held = None
        for action in held:
            action()

    def after_all(self, action: Callable[[], None]) -> None:
        """Call what may put another layer under review; while all are accepted, and Qt delivers events, later."""
        if self._held is None:
            action()
        else:
            self._held.append(action)

    def _accept_all(self, target: QgsVectorLayer) -> None:
        found, box, done, refused = self.candidates, self._dock.class_box, [], []
        if found is None or not len(self.items):
            return
        rows = found.in_order(self.least)
        # The surest first, those of unknown confidence last.
        keys = found.ids[rows[np.argsort(-found.confidence[rows], kind="stable")]].tolist()
        records = find_records(found.layer) if can_keep(found.layer) else {}
        self._go(None)
        with edit_command(target, tr("Accept polygons")):
            for key, in_thread in self._with_progress(keys, target):
                feature = found.layer.getFeature(key)
                attributes = self._own_class(feature) or box.attributes()
                polygon = valid_polygon(from_qgs(feature.geometry()))
                fitted = in_thread(self._fitter.fitting(polygon, found.layer.crs(), attributes))
                try:
                    self._write(target, feature, fitted, attributes, records=records)
                except (EditBufferError, _AllCancelledError):
                    raise
                except GeoSamError as error:
                    refused.append(translated(error))
                else:
                    done.append(key)
            if not done:
                problem = tr("None of the polygons can be accepted ({reason})").format(reason=refused[0])
                raise EditError(problem, tr("correct them and accept them one by one"))
            self._push(target, done, UNSAVED)
        name = tr("{count} polygons in {layer}").format(count=len(done), layer=target.name())
        self._history.note(target, OwnEdit(name))
        text = tr("Accepted: {what}").format(what=name)
        if refused:
            text += ". " + tr("Left out: {count} ({reason})").format(count=len(refused), reason=refused[0])
        self.told.emit(text)
        self._go_on()

    def _with_progress(self, keys: list[int], target: QgsVectorLayer) -> Iterator[tuple[int, _InThread]]:
        """Yield keys, with what fits a polygon in another thread.

        Only this thread may edit layers. A dialog shows the progress and holds back all else, while QGIS goes on
        painting.
        """
        text = tr("Accepting polygons into {layer}").format(layer=target.name())
        dialog = QProgressDialog(text, tr("Cancel"), 0, len(keys), self._iface.mainWindow())
        dialog.setWindowModality(Qt.WindowModality.ApplicationModal)
        turn = time.perf_counter()

        def let_paint(number: int) -> None:
            nonlocal turn
            dialog.show()
            dialog.setValue(number)
            # This paints the dialog, and lets the user cancel.
            QApplication.processEvents()
            if dialog.wasCanceled():
                raise _AllCancelledError(tr("Cancelled: nothing was accepted"))
            turn = time.perf_counter()

        def fitted(number: int, fit: Callable[[], Fitted]) -> Fitted:
            running = thread.submit(fit)
            while not wait([running], _TURN_SECONDS).done:
                let_paint(number)
            return running.result()

        with ThreadPoolExecutor(1) as thread:
            try:
                for number, key in enumerate(keys):
                    if time.perf_counter() - turn > _TURN_SECONDS:
                        let_paint(number)
                    yield key, partial(fitted, number)
            finally:
                dialog.deleteLater()

    def _write(
        self,
        target: QgsVectorLayer,
        feature: QgsFeature,
        fitted: Fitted,
        attributes: Mapping[str, Any],
        form: Any = None,
        records: Mapping[int, Mapping[str, Any]] | None = None,
    ) -> int | None:
        if fitted.refusal is not None:
            raise fitted.refusal
        changes = fitted.changes or Changes({}, [fitted.outline] if fitted.outline is not None else [])
        options = AcceptOptions.of(self._settings).without_changes
        provenance = read_provenance(self.layer, feature, records) if self.layer is not None else None
        rest = tr("Accept polygon"), attributes, provenance, options, form
        return write_changes(target, changes, *rest, shares_vertices=fitted.changes is None)

    def _target(self) -> QgsVectorLayer:
        target = check_target(self._dock.layer)
        if target is self.layer:
            problem = tr("The polygons under review are in the target layer itself")
            raise EditError(problem, tr("choose another target layer"))
        return target

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except GeoSamError as error:
            self.failed.emit(error)
