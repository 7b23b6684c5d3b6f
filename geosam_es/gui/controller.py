"""What happens between a gesture and a polygon: the state of the object being drawn. No widgets here.

Everything slow runs in the worker's thread, which alone touches the sessions; the GUI thread sees frozen snapshots.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsApplication,
    QgsCoordinateTransform,
    QgsCsException,
    QgsMapSettings,
    QgsPointXY,
    QgsProject,
)
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ..core.prompts import Bounds, Point, Prompts
from ..errors import GeoSamError, PromptError
from ..inference.session import CleanOptions, Result, SegmentationSession
from .crs import transform
from .messages import tr
from .store_opening import OpenStore, OpenStoreTask, RasterLayerFile
from .view_tiles import TilesInView, tiles_in_view
from .worker import Job, Worker

__all__ = ["Drawing", "SegmentationController"]

_PREFETCH_SIDE = 3
_LEVEL_TOLERANCE = 1e-6
"""So that a map at exactly twice the pixel size is not taken for a little less."""


@dataclass(frozen=True)
class Drawing:
    """The object being drawn, as the user sees it.

    Attributes
    ----------
    prompts : Prompts
        In map coordinates of the raster's CRS, those that are still being answered included.
    result : Result, optional
        The answer to those that were.
    can_undo, can_redo : bool
    busy : bool
        Whether prompts are being answered.
    """

    prompts: Prompts = field(default_factory=Prompts)
    result: Result | None = None
    can_undo: bool = False
    can_redo: bool = False
    busy: bool = False

    @property
    def has_polygon(self) -> bool:
        """Whether there is something to accept."""
        return self.result is not None and not self.result.geometry.is_empty


@dataclass(eq=False)
class _Object:
    """One object: its session, the last snapshot of it, and the prompts still to be answered."""

    session: SegmentationSession
    drawing: Drawing = field(default_factory=Drawing)
    waiting: deque[Point | Bounds | None] = field(default_factory=deque)

    def seen(self) -> Drawing:
        """Return the snapshot with the prompts that wait."""
        prompts = self.drawing.prompts
        for addition in self.waiting:
            if isinstance(addition, Point):
                prompts = prompts.with_point(addition)
            elif addition is not None:
                prompts = prompts.with_box(addition)
        busy = bool(self.waiting)
        return replace(self.drawing, prompts=prompts, busy=busy, can_undo=self.drawing.can_undo or busy)


class SegmentationController(QObject):
    """Owns the open store and the object being drawn.

    Parameters
    ----------
    map_settings : callable
        Returns the canvas's QgsMapSettings.
    parent : QObject, optional

    Signals
    -------
    store_changed : OpenStore or None
    drawing_changed : Drawing
    preview_changed : Result or None
    accept_ready : Drawing
        Asked for by `accept`, once nothing waits any more; whoever writes it calls `discard` then.
    failed : GeoSamError
    tiles_changed : TilesInView
        Asked for by `look_ahead`.
    """

    store_changed = pyqtSignal(object)
    drawing_changed = pyqtSignal(object)
    preview_changed = pyqtSignal(object)
    accept_ready = pyqtSignal(object)
    failed = pyqtSignal(object)
    tiles_changed = pyqtSignal(object)

    def __init__(self, map_settings: Callable[[], QgsMapSettings], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._map_settings = map_settings
        self._store: OpenStore | None = None
        self._task: OpenStoreTask | None = None
        self._object: _Object | None = None
        self._options = CleanOptions()
        self._accept_when_done = False
        self._held: list[Callable[[], None]] = []
        self._worker = Worker(self)
        self._worker.done.connect(self._on_done)
        self._worker.failed.connect(self._on_failed)

    # The store.

    @property
    def store(self) -> OpenStore | None:
        """The open store."""
        return self._store

    @property
    def opening(self) -> Path | None:
        """The store being opened."""
        return self._task.path if self._task is not None else None

    def open_store(self, path: Path, rasters: list[RasterLayerFile], threads: int | None = None) -> None:
        """Begin to open a store; `store_changed` or `failed` tells how it went, and the open one stays till then."""
        self.cancel_opening()
        task = OpenStoreTask(path, rasters, threads)
        task.opened.connect(self.set_store)
        task.refused.connect(self._on_refused)
        task.taskCompleted.connect(self._forget_task)
        task.taskTerminated.connect(self._forget_task)
        self._task = task
        QgsApplication.taskManager().addTask(task)

    def cancel_opening(self) -> None:
        """Give up opening a store."""
        if self._task is not None:
            task, self._task = self._task, None
            for signal in (task.opened, task.refused, task.taskCompleted, task.taskTerminated):
                signal.disconnect()
            task.cancel()

    def set_store(self, store: OpenStore | None) -> None:
        """Draw from this store from now on; the object being drawn is discarded."""
        self.discard()
        self._store = store
        if store is not None and not self._worker.isRunning():
            self._worker.start()
        self.store_changed.emit(store)

    def shutdown(self) -> None:
        """End the thread; nothing works afterwards."""
        self.cancel_opening()
        self._object = None
        self._store = None
        self._worker.stop()

    def _on_refused(self, error: GeoSamError) -> None:
        self.failed.emit(error)

    def _forget_task(self) -> None:
        self._task = None

    # The object.

    @property
    def drawing(self) -> Drawing:
        """The object being drawn."""
        return self._object.seen() if self._object is not None else Drawing()

    def add_point(self, point: QgsPointXY, positive: bool = True) -> None:
        """Add a click, in the canvas's CRS."""
        if self._hold(lambda: self.add_point(point, positive)):
            return
        located = self._located([point])
        if located is not None:
            ((x, y),), level = located
            self._prompt(lambda session: session.add_point(x, y, positive), Point(x, y, positive), level)

    def set_box(self, corners: list[QgsPointXY]) -> None:
        """Set the box around corners in the canvas's CRS."""
        if self._hold(lambda: self.set_box(corners)):
            return
        located = self._located(corners)
        if located is not None:
            xs, ys = zip(*located[0])
            box = Bounds(min(xs), min(ys), max(xs), max(ys))
            self._prompt(lambda session: session.set_box(box), box, located[1])

    def start_from(self, prompts: Prompts) -> None:
        """Draw anew what prompts in map coordinates of the raster's CRS say, one step each."""
        self.discard()
        bounds = prompts.positive_bounds
        level = self._level(QgsPointXY((bounds.min_x + bounds.max_x) / 2, (bounds.min_y + bounds.max_y) / 2), True)
        box = prompts.box
        if box is not None:
            self._prompt(lambda session: session.set_box(box), box, level)
        for point in prompts.points:
            self._prompt(partial(_add_point, point), point, level)

    def undo(self) -> None:
        """Take the last prompt back."""
        if not self._hold(self.undo) and self.drawing.can_undo:
            self._prompt(lambda session: session.undo())

    def redo(self) -> None:
        """Bring back the prompt taken back last."""
        if not self._hold(self.redo) and self._object is not None:
            self._prompt(lambda session: session.redo())

    def next_candidate(self) -> None:
        """Show the next of the decoder's masks."""
        if not self._hold(self.next_candidate) and self._object is not None:
            self._prompt(lambda session: session.next_candidate() if session.current else None)

    def set_options(self, options: CleanOptions) -> None:
        """Clean polygons like this, the one being drawn too."""
        if options == self._options:
            return
        self._options = options

        def apply(session: SegmentationSession) -> None:
            session.options = options
            if session.current is not None:
                session.select_candidate(session.current.rank)

        if self._object is not None:
            self._prompt(apply)

    def accept(self) -> None:
        """Ask for the object to be written, once its prompts are answered."""
        if self._hold(self.accept):
            return
        if self.drawing.busy:
            self._accept_when_done = True
        elif self.drawing.has_polygon:
            self.accept_ready.emit(self.drawing)

    def cancel(self) -> None:
        """Discard the object, but for one that was accepted and is still being answered."""
        if not self._hold(self.cancel):
            self.discard()

    def discard(self) -> None:
        """Forget the object, and everything that was asked for."""
        self._object = None
        self._accept_when_done = False
        self._held.clear()
        self._worker.clear()
        self.preview_changed.emit(None)
        self.drawing_changed.emit(self.drawing)

    # Ahead of the user.

    def preview(self, point: QgsPointXY, positive: bool = True) -> None:
        """Show what a click here would give; only the latest call counts."""
        store = self._store
        if store is None or (self._object is not None and self._object.waiting):
            return
        try:
            x, y = self._to_raster([point])[0]
            level = self._level(point)
        except (QgsCsException, PromptError):
            self.end_preview()
            return
        current = self._object
        session = current.session if current else SegmentationSession(store.segmenter, level, self._options)
        self._worker.preview(Job(lambda: session.preview(x, y, positive), "preview", current))

    def end_preview(self) -> None:
        """Show no preview."""
        self._worker.preview(None)
        self.preview_changed.emit(None)

    def look_ahead(self, with_tiles: bool = False) -> None:
        """Prepare the tiles in view, so that the first click on them is as fast as the next.

        Parameters
        ----------
        with_tiles : bool
            Whether to tell, by `tiles_changed`, where the tiles are.
        """
        store = self._store
        if store is None:
            self._worker.ahead([])
            return
        view = self._map_settings().visiblePolygon()
        corner, right, opposite, down = (QgsPointXY(point.x(), point.y()) for point in list(view)[:4])
        fractions = [(2 * index + 1) / (2 * _PREFETCH_SIDE) for index in range(_PREFETCH_SIDE)]
        points = [
            QgsPointXY(
                corner.x() + u * (right.x() - corner.x()) + v * (down.x() - corner.x()),
                corner.y() + u * (right.y() - corner.y()) + v * (down.y() - corner.y()),
            )
            for u in fractions
            for v in fractions
        ]
        try:
            level = self._level(points[len(points) // 2])
            places = self._to_raster(points)
            corners = self._to_raster([corner, right, opposite, down])
        except (QgsCsException, PromptError):
            return
        jobs = [Job(_tile_loader(store, x, y, level), "ahead") for x, y in places]
        if with_tiles:
            jobs.insert(0, Job(_tile_finder(store, corners, level), "tiles", store))
        self._worker.ahead(jobs)

    # From here on private.

    def _hold(self, gesture: Callable[[], None]) -> bool:
        """Keep a gesture for later where an accepted object is still being answered: it is meant for the next one."""
        if self._accept_when_done:
            self._held.append(gesture)
        return self._accept_when_done

    def _located(self, points: list[QgsPointXY]) -> tuple[list[tuple[float, float]], int] | None:
        """Return points in the raster's CRS and the level to look at, or tell why not."""
        try:
            return self._to_raster(points), self._level(points[0])
        except QgsCsException:
            self.failed.emit(
                PromptError(tr("This place does not exist in the raster's CRS"), tr("click on the raster"))
            )
        except PromptError as error:
            self.failed.emit(error)
        return None

    def _transform(self) -> QgsCoordinateTransform:
        if self._store is None:
            raise PromptError(tr("No embedding store is open"), tr("open one in the GeoSAM-ES panel"))
        return transform(self._map_settings().destinationCrs(), self._store.crs, QgsProject.instance())

    def _to_raster(self, points: list[QgsPointXY]) -> list[tuple[float, float]]:
        transformation = self._transform()
        moved = [transformation.transform(point) for point in points]
        return [(point.x(), point.y()) for point in moved]

    def _level(self, point: QgsPointXY, in_raster: bool = False) -> int:
        """Return the level whose pixels are closest to, and not larger than, the screen's."""
        transformation = self._transform()
        if in_raster:
            back = transform(transformation.destinationCrs(), transformation.sourceCrs(), QgsProject.instance())
            point = back.transform(point)
        step = self._map_settings().mapUnitsPerPixel()
        origin = transformation.transform(point)
        right = transformation.transform(QgsPointXY(point.x() + step, point.y()))
        up = transformation.transform(QgsPointXY(point.x(), point.y() + step))
        a, d = right.x() - origin.x(), right.y() - origin.y()
        b, e = up.x() - origin.x(), up.y() - origin.y()
        metadata = self._store.metadata if self._store else None
        screen_pixel = math.sqrt(abs(a * e - b * d))
        if metadata is None or not math.isfinite(screen_pixel) or screen_pixel == 0.0:
            return 0
        level = math.floor(math.log2(screen_pixel / metadata.raster.transform.pixel_size) + _LEVEL_TOLERANCE)
        return max(0, min(level, metadata.levels - 1))

    def _prompt(
        self,
        action: Callable[[SegmentationSession], Any],
        addition: Point | Bounds | None = None,
        level: int | None = None,
    ) -> None:
        """Queue something that changes the object, beginning one where there is none."""
        if self._store is None:
            return
        if self._object is None:
            self._object = _Object(SegmentationSession(self._store.segmenter, level or 0, self._options))
        session = self._object.session

        def run() -> Drawing:
            if level is not None and session.current is None:
                session.level = level
            action(session)
            return _snapshot(session)

        self._object.waiting.append(addition)
        self._worker.post(Job(run, "prompt", self._object))
        self.preview_changed.emit(None)
        self.drawing_changed.emit(self.drawing)

    def _on_done(self, job: Job, value: Any) -> None:
        if job.kind == "preview":
            if job.info is self._object and not self.drawing.busy:
                self.preview_changed.emit(value)
        elif job.kind == "tiles":
            if job.info is self._store:
                self.tiles_changed.emit(value)
        elif job.kind == "prompt" and job.info is self._object and self._object is not None:
            self._object.waiting.popleft()
            self._object.drawing = value
            self.drawing_changed.emit(self.drawing)
            if not self._object.waiting:
                self._accept_held()

    def _on_failed(self, job: Job, error: GeoSamError) -> None:
        if job.kind == "preview":
            self.preview_changed.emit(None)
        elif job.kind == "prompt" and job.info is self._object and self._object is not None:
            self._object.waiting.popleft()
            # What was asked for after a prompt that failed was asked of another polygon.
            self._accept_when_done = False
            self._held.clear()
            self.drawing_changed.emit(self.drawing)
            self.failed.emit(error)

    def _accept_held(self) -> None:
        if not self._accept_when_done:
            return
        held, self._held = self._held, []
        self._accept_when_done = False
        self.accept()
        # Where it could not be written it is still there, and what came after was meant for the next one.
        if self._object is None:
            for gesture in held:
                gesture()


def _add_point(point: Point, session: SegmentationSession) -> None:
    session.add_point(*point)


def _snapshot(session: SegmentationSession) -> Drawing:
    """Read off a session what the GUI thread needs; called in the worker's thread."""
    to_map = session.segmenter.reader.metadata.raster.transform.apply
    return Drawing(session.prompts.transformed(to_map), session.current, session.can_undo, session.can_redo)


def _tile_loader(store: OpenStore, x: float, y: float, level: int) -> Callable[[], None]:
    """Return a job that prepares the tile which would answer a click."""

    def load() -> None:
        col, row = store.metadata.raster.transform.inverse().apply(x, y)
        segmenter = store.segmenter
        place = Bounds(col, row, col, row)
        tile = segmenter.pyramid.choose(place, is_box=False, level=level, available=segmenter.reader.is_encoded)
        if tile is not None:
            segmenter.context(tile)

    return load


def _tile_finder(store: OpenStore, corners: list[tuple[float, float]], level: int) -> Callable[[], TilesInView]:
    """Return a job that looks up the tiles between corners in the raster's CRS."""

    def find() -> TilesInView:
        inverse = store.metadata.raster.transform.inverse()
        cols, rows = zip(*(inverse.apply(x, y) for x, y in corners))
        view = Bounds(min(cols), min(rows), max(cols), max(rows))
        return tiles_in_view(store.segmenter.reader, view, level)

    return find
