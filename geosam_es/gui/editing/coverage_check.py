"""Checks the target layer in the background, and walks through what was found; each remedy is one undo step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import shapely
from qgis.core import QgsVectorLayer
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QLocale, QObject, QTimer, pyqtSignal
from shapely.geometry.base import BaseGeometry

from ...core.coverage import Changes
from ...core.coverage_check import Finding, Kind, in_order
from ...errors import EditError, GeoSamError
from ...qgis_support.coverage_mode import CoverageMode
from ...qgis_support.messages import tr, translated
from ..canvas.controller import SegmentationController
from ..panel.dock import SegmentDock
from ..stores.background_task import BackgroundTask
from .computation import Computation
from .coverage import LayerCoverage
from .edits import CancelledError, check_target, ids_are_places, write_changes
from .history import EditHistory, OwnEdit, named
from .walk import Walk

__all__ = ["CoverageCheck"]

_MANY = 100
_HECTARE_M2 = 1e4
_SOON_MS = 50
"""Many polygons may change at once."""


class _Touched(NamedTuple):
    """The polygons that have changed, where they were before, and what was found before."""

    ids: frozenset[int]
    envelopes: Sequence[BaseGeometry]
    findings: Sequence[Finding]


class CoverageCheck(Walk):
    """Knows what is wrong in the target layer. What has changed is checked again, whoever changed it.

    The items of the walk are `Finding` in the CRS of the layer that was checked.

    Signals
    -------
    checked : str
        What a check of the whole layer found, for people.
    """

    checked = pyqtSignal(str)

    def __init__(
        self,
        controller: SegmentationController,
        dock: SegmentDock,
        history: EditHistory,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(controller, parent)
        self._dock = dock
        self._history = history
        self._computation = Computation(controller, tr("mend it again"), self)
        self._computation.failed.connect(self.failed)
        self._computation.ended.connect(self.changed)
        self.items: list[Finding] = []
        self._task: _CheckTask | None = None
        # Where each polygon was when it was checked last, and the polygons that have changed since.
        self._envelopes: dict[int, BaseGeometry] = {}
        self._touched: set[int] = set()
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(_SOON_MS)
        self._soon.timeout.connect(self._check_again)
        # The ids change after the signals of saving.
        self._renumbered = QTimer(self)
        self._renumbered.setSingleShot(True)
        self._renumbered.setInterval(0)
        self._renumbered.timeout.connect(self.start)
        # A filter that the user was told of, and its layer.
        self._told: tuple[QgsVectorLayer | None, str] = (None, "")
        dock.layer_chosen.connect(self._on_layer)
        dock.options_box.coverage.changed.connect(self._on_mode)

    @property
    def is_running(self) -> bool:
        """Whether a check is running or due, or a remedy is being computed."""
        is_due = bool(self._touched) or self._renumbered.isActive()
        return self._task is not None or is_due or self._computation.is_running

    @property
    def findings(self) -> list[Finding]:
        """What is left."""
        return self.items

    @property
    def place(self) -> BaseGeometry | None:
        """Where the current finding is."""
        return self.items[self.index].place if self.index is not None else None

    @property
    def texts(self) -> list[str]:
        """The list in words."""
        return [f"{translated(finding.label)}: {_size(finding)}" for finding in self.findings]

    @property
    def hint(self) -> str:
        """What the user can do about the current finding; empty if there is none."""
        finding, index = self.current, self.index
        if finding is None or index is None:
            return ""
        keys = tr("Enter: {remedy}\nN: next · Shift+N: previous · Esc: leave").format(remedy=translated(finding.remedy))
        return f"{self._numbered(self.texts[index])}\n{keys}"

    def start(self) -> None:
        """Check the whole target layer in the background, with its unsaved edits."""
        self.stop()
        try:
            layer = check_target(self._dock.layer, writes=False)
        except GeoSamError as error:
            self.failed.emit(error)
            return
        self.layer = layer
        for signal, slot in self._signals(layer):
            signal.connect(slot)
        self._run(None)

    def stop(self) -> None:
        """Forget the findings."""
        self._computation.stop()
        self._soon.stop()
        self._renumbered.stop()
        layer, task = self.layer, self._task
        self.layer, self._task, self.index = None, None, None
        self.items, self._envelopes, self._touched = [], {}, set()
        if layer is not None and not sip.isdeleted(layer):
            for signal, slot in self._signals(layer):
                signal.disconnect(slot)
        if task is not None:
            # A task that has not begun ends inside this call.
            task.cancel()
        self.changed.emit()

    def release(self) -> None:
        """End the thread, and forget the findings."""
        self.stop()
        self._computation.release()

    def leave(self) -> bool:
        """Give up the remedy that is being computed, or leave the walk; see `Walk.leave`."""
        if self._computation.is_running:
            self._computation.stop()
            return True
        return super().leave()

    def choose(self, index: int) -> None:
        """Go to a finding by its position in the list."""
        self.index = index
        self.changed.emit()
        self.shown.emit(self.items[index].place, self.layer)

    def mend(self) -> None:
        """Mend the current finding in one undo step, and go to the next one; not while something is drawn."""
        layer, finding = self.layer, self.current
        if layer is None or finding is None or (self._computation.is_running and self._controller.hold(self.mend)):
            return
        if not self.is_idle:
            return
        try:
            coverage = self._coverage(check_target(layer))
        except GeoSamError as error:
            self.failed.emit(error)
            return
        self._computation.start(layer, partial(_remedy, coverage, finding), partial(self._write, layer, finding))

    def _write(self, layer: QgsVectorLayer, finding: Finding, changes: Changes) -> None:
        name = translated(finding.label)
        # What fills a large gap is a new polygon of the class chosen in the panel.
        values = self._dock.class_box.attributes() if finding.kind is Kind.LARGE_GAP else None
        done = write_changes(layer, changes, tr("Mend: {finding}").format(finding=name), values)
        if done is None and not changes.removed:
            problem = tr("There is nothing to mend here, or no neighbour to mend it with")
            raise EditError(problem, tr("press N for the next one, or correct the polygons by hand"))
        self._history.note(layer, OwnEdit(named(tr("mending of {label} in {layer}"), layer, name)))
        if finding not in self.items:
            return
        index, now = self.items.index(finding), self.current
        del self.items[index]
        # N may have been pressed meanwhile.
        self.index = self.items.index(now) if now in self.items else None
        if now == finding and self.findings:
            self.choose(index % len(self.findings))
        else:
            self.changed.emit()

    def _coverage(self, layer: QgsVectorLayer) -> LayerCoverage:
        return LayerCoverage(layer, CoverageMode.of(layer), self._dock.class_box.class_fields)

    def _signals(self, layer: QgsVectorLayer) -> list[tuple[Any, Any]]:
        # Saving an added feature deletes it and adds it with another id.
        touching = layer.featureAdded, layer.featureDeleted, layer.geometryChanged, layer.attributeValueChanged
        again = [(signal, self.start) for signal in (layer.afterRollBack, layer.subsetStringChanged)]
        again.append((layer.committedFeaturesRemoved, self._on_removed))
        return [*again, *((signal, self._on_touched) for signal in touching)]

    def _on_removed(self, *_: object) -> None:
        """Check again all of a layer whose features get other ids."""
        if self.layer is not None and ids_are_places(self.layer):
            self.stop()
            self._renumbered.start()

    def _on_touched(self, feature_id: int, *_: object) -> None:
        self._touched.add(feature_id)
        self._soon.start()

    def _on_layer(self, layer: QgsVectorLayer | None) -> None:
        if layer is None or layer is not self.layer:
            self.stop()

    def _on_mode(self) -> None:
        """Say once that coverage mode does not see the polygons that a filter hides."""
        layer = self._dock.layer
        if layer is None or sip.isdeleted(layer):
            return
        if layer is not self._told[0]:
            layer.subsetStringChanged.connect(self._on_mode)
            self._told = (layer, "")
        hidden = layer.subsetString() if CoverageMode.of(layer).is_on else ""
        if hidden and hidden != self._told[1]:
            problem = tr("The filter of {layer} hides polygons from coverage mode").format(layer=layer.name())
            self.failed.emit(EditError(problem, tr("remove the filter, or new polygons may overlap hidden ones")))
        self._told = (layer, hidden)

    def _check_again(self) -> None:
        """Check where polygons have changed, after the check that is running."""
        layer = self.layer
        if self._task is not None or layer is None or not self._touched:
            return
        if layer.isEditCommandActive():
            # A form is open.
            self._soon.start()
            return
        places = [self._envelopes[feature_id] for feature_id in self._touched if feature_id in self._envelopes]
        self._run(_Touched(frozenset(self._touched), places, list(self.findings)))

    def _run(self, touched: _Touched | None) -> None:
        layer = self.layer
        if layer is None:
            return
        self._touched = set()
        task = self._task = _CheckTask(layer.name(), self._coverage(layer), touched)
        task.ended.connect(lambda: self._on_ended(task))
        task.start()
        self.changed.emit()

    def _on_ended(self, task: _CheckTask) -> None:
        if task is not self._task:
            return
        self._task = None
        if task.isCanceled():
            self.stop()
            return
        if task.error is not None:
            self.stop()
            self.failed.emit(task.error)
            return
        index, current = self.index, self.current
        kept = [finding for finding in self.findings if not task.concerns(finding)]
        self.items = in_order([*kept, *task.found])
        self._envelopes.update(task.envelopes)
        if current is not None and index is not None:
            was = current.kind, current.ids
            same = [place for place, finding in enumerate(self.findings) if (finding.kind, finding.ids) == was]
            self.index = (same or [min(index, len(self.findings) - 1)])[0] if self.findings else None
        self.changed.emit()
        if task.touched is None:
            count = sum(finding.is_fault for finding in self.findings)
            text = tr("Findings in {layer}: {count}. N: go to the first") if count else tr("No findings in {layer}")
            if count < len(self.findings):
                text += ". " + tr("Large gaps that may be intended: {large}")
            if self.layer is not None and self.layer.subsetString():
                text += ". " + tr("The polygons that the filter of the layer hides were not checked")
            self.checked.emit(text.format(count=count, large=len(self.findings) - count, layer=task.name))
        self._soon.start()


class _CheckTask(BackgroundTask):
    """Checks a layer, or where polygons of it have changed; `ended` tells whether it worked or not."""

    ended = pyqtSignal()

    def __init__(self, name: str, coverage: LayerCoverage, touched: _Touched | None) -> None:
        super().__init__(tr("Checking {layer}").format(layer=name))
        self.name = name
        self.touched = touched
        self._coverage = coverage
        # Where findings may be others now.
        self._area: BaseGeometry | None = None
        self.found: list[Finding] = []
        self.envelopes: dict[int, BaseGeometry] = {}

    def work(self) -> None:
        """Check; called in another thread."""
        area = None
        if self.touched is not None:
            ids, envelopes, findings = self.touched
            places = [finding.place for finding in findings if ids.intersection(finding.ids)]
            around = [*self._coverage.outlines(ids), *envelopes, *places]
            self._area = shapely.GeometryCollection(around).envelope
            if self._area.is_empty:
                return
            # A finding is looked for as a whole.
            beyond = [finding.place for finding in findings if finding.place.intersects(self._area)]
            area = shapely.GeometryCollection([self._area, *beyond]).envelope
        found, self.envelopes = self._coverage.check(area, self._on_progress)
        self.found = [finding for finding in found if self.concerns(finding)]

    def _on_progress(self, done: int, total: int) -> None:
        self.setProgress(100.0 * done / total)
        if self.isCanceled():
            raise CancelledError

    def concerns(self, finding: Finding) -> bool:
        """Tell whether a finding may be another one now."""
        if self.touched is None or self.touched.ids.intersection(finding.ids):
            return True
        return self._area is not None and bool(finding.place.intersects(self._area))

    def finished(self, result: bool) -> None:
        """Report; called by QGIS in the GUI thread."""
        super().finished(result)
        self.ended.emit()


def _remedy(coverage: LayerCoverage, finding: Finding) -> Changes:
    try:
        return coverage.remedy(finding)
    except shapely.errors.GEOSException as error:
        problem = tr("This cannot be mended ({reason})").format(reason=error)
        raise EditError(problem, tr("correct the polygons with the vertex tool of QGIS")) from error


def _size(finding: Finding) -> str:
    size, unit, digits = finding.size, finding.unit, 1 if finding.size < _MANY else 0
    if size >= _HECTARE_M2 and unit == "m²":
        size, unit, digits = size / _HECTARE_M2, "ha", 2
    return f"{QLocale().toString(float(size), 'f', digits)} {unit}"
