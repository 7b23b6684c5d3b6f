"""What happens between a gesture and a polygon: the state of the object being drawn. No widgets here.

Everything slow runs in the worker's thread, which alone touches the sessions; the GUI thread sees frozen snapshots.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import methodcaller
from typing import Any

from qgis.core import Qgis, QgsCsException, QgsMapSettings, QgsMessageLog, QgsPointXY
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ...core.prompts import Bounds, Point, Prompts
from ...errors import GeoSamError, PromptError
from ...inference.session import CleanOptions, SegmentationSession
from ...qgis_support.messages import PLUGIN_NAME, tr, translated
from ..stores.open_store import OpenStore
from ..stores.store_holder import StoreHolder
from ..stores.worker import Job
from .drawing import Drawing, DrawnObject, answered_by, snapshot
from .view import Sight, View
from .view_tiles import jobs_ahead

__all__ = ["SegmentationController"]


class SegmentationController(StoreHolder):
    """Owns the open store and the object being drawn.

    Parameters
    ----------
    map_settings : callable
        Returns the canvas's QgsMapSettings.
    parent : QObject, optional

    Signals
    -------
    drawing_changed : Drawing
    preview_changed : Result or None
    accept_ready : Drawing
        Asked for by `accept`, once nothing waits any more; whoever writes it calls `discard` then.
    store_wanted
        A prompt was given and there is no store to answer it; it waits for `open_store`, or for `give_up`.
    tiles_changed : TilesInView
        Asked for by `look_ahead`.
    decoder_changed : OpenStore
        The open store, answered by the decoder asked for by `answer_with`, or by the one before where that failed.
    beside_answered : object
        What `ask_beside` gave, for the object as it still is.
    """

    drawing_changed = pyqtSignal(object)
    preview_changed = pyqtSignal(object)
    accept_ready = pyqtSignal(object)
    store_wanted = pyqtSignal()
    tiles_changed = pyqtSignal(object)
    decoder_changed = pyqtSignal(object)
    beside_answered = pyqtSignal(object)

    def __init__(self, map_settings: Callable[[], QgsMapSettings], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._view = View(map_settings)
        self._object: DrawnObject | None = None
        self._options = CleanOptions()
        self._accept_when_done = False
        self._switching = False
        self._held: list[Callable[[], None]] = []
        self._for_store: list[Callable[[], None]] = []
        self._opener.opened.connect(self._on_opened)
        self._opener.refused.connect(self.give_up)
        self._worker.done.connect(self._on_done)
        self._worker.failed.connect(self._on_failed)

    def set_store(self, store: OpenStore | None) -> None:
        """Draw from this store from now on; the object being drawn is discarded."""
        self.discard()
        self._switching = False
        super().set_store(store)

    def shutdown(self) -> None:
        """End the thread; nothing works afterwards."""
        self._object = None
        super().shutdown()

    def give_up(self, error: GeoSamError) -> None:
        """Forget the prompts that wait for a store, and tell why."""
        self._for_store.clear()
        self.failed.emit(error)

    def _on_opened(self, store: OpenStore) -> None:
        waiting, self._for_store = self._for_store, []
        self.set_store(store)
        for gesture in waiting:
            gesture()

    def answer_with(self, other: Callable[[], OpenStore]) -> None:
        """Answer with another decoder from now on, the object being drawn too; gestures wait until it does.

        Parameters
        ----------
        other : callable
            Returns the open store with that decoder; called in the worker's thread.
        """
        if self._store is None or self._hold(partial(self.answer_with, other)):
            return
        drawn = self._object

        def switch() -> tuple[OpenStore, DrawnObject | None]:
            store = other()
            if drawn is None:
                return store, None
            session = answered_by(store.segmenter, drawn.session)
            return store, DrawnObject(session, snapshot(session))

        self._switching = True
        self._worker.post(Job(switch, "decoder", (self._store, drawn)))

    def ask_beside(self, question: Callable[[SegmentationSession], Any]) -> None:
        """Ask something of the object's session, in the worker's thread; only the latest question counts."""
        drawn = self._object
        if drawn is not None:
            self._worker.beside(Job(lambda: question(drawn.session), "beside", drawn))

    @property
    def drawing(self) -> Drawing:
        """The object being drawn."""
        return self._object.seen() if self._object is not None else Drawing()

    def add_point(self, point: QgsPointXY, positive: bool = True) -> None:
        """Add a click, in the canvas's CRS."""
        if self._hold(lambda: self.add_point(point, positive), needs_store=True):
            return
        located = self._located([point])
        if located is not None:
            ((x, y),), level = located
            self._prompt(lambda session: session.add_point(x, y, positive), Point(x, y, positive), level)

    def set_box(self, corners: list[QgsPointXY]) -> None:
        """Set the box around corners in the canvas's CRS."""
        if self._hold(lambda: self.set_box(corners), needs_store=True):
            return
        located = self._located(corners)
        if located is not None:
            xs, ys = zip(*located[0])
            box = Bounds(min(xs), min(ys), max(xs), max(ys))
            self._prompt(lambda session: session.set_box(box), box, located[1])

    def start_from(self, prompts: Prompts, level: int | None = None, candidate: int = 0) -> None:
        """Draw anew what prompts in map coordinates of the raster's CRS say, one step each.

        At the level and with the candidate of then, where they are known, so that the same polygon comes of it.
        """
        self.discard()
        if self._store is None:
            return
        if level is None:
            level = self._view.level_around(self._store, prompts.positive_bounds)
        box = prompts.box
        if box is not None:
            self._prompt(lambda session: session.set_box(box), box, level)
        for point in prompts.points:
            self._prompt(methodcaller("add_point", *point), point, level)
        for _ in range(candidate):
            self.next_candidate()

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

    def preview(self, point: QgsPointXY, positive: bool = True) -> None:
        """Show what a click here would give; only the latest call counts."""
        store = self._store
        if store is None or self._switching or (self._object is not None and self._object.waiting):
            return
        try:
            ((x, y),), level = self._view.to_raster(store, [point]), self._view.level(store, point)
        except QgsCsException:
            self.end_preview()
            return
        current = self._object
        session = current.session if current else SegmentationSession(store.segmenter, level, self._options)
        self._worker.preview(Job(lambda: session.preview(x, y, positive), "preview", current))

    def end_preview(self) -> None:
        """Show no preview."""
        self._worker.preview(None)
        self.preview_changed.emit(None)

    def sight(self) -> Sight | None:
        """Return what is in view; None without a store, or where the view does not exist in its CRS."""
        try:
            return self._view.sight(self._store) if self._store is not None else None
        except QgsCsException:
            return None

    def look_ahead(self, with_tiles: bool = False) -> None:
        """Prepare the tiles in view, so that the first click on them is as fast as the next.

        Parameters
        ----------
        with_tiles : bool
            Whether to tell, by `tiles_changed`, where the tiles are.
        """
        store, sight = self._store, self.sight()
        if store is None or sight is None:
            self._worker.ahead([])
            return
        self._worker.ahead(jobs_ahead(store, sight, with_tiles))

    def _hold(self, gesture: Callable[[], None], needs_store: bool = False) -> bool:
        """Keep a gesture for later where it comes too early.

        Where an accepted object is still being answered it is meant for the next one, where the decoder is being
        changed it is for that one, and where there is no store yet the first prompt asks for one.
        """
        if self._store is None and (needs_store or self._for_store):
            self._for_store.append(gesture)
            self.store_wanted.emit()
            return True
        is_early = self._accept_when_done or self._switching
        if is_early:
            self._held.append(gesture)
        return is_early

    def _located(self, points: list[QgsPointXY]) -> tuple[list[tuple[float, float]], int] | None:
        """Return points in the raster's CRS and the level to look at, or tell why not."""
        if self._store is None:
            return None
        try:
            return self._view.to_raster(self._store, points), self._view.level(self._store, points[0])
        except QgsCsException:
            self.failed.emit(
                PromptError(tr("This place does not exist in the raster's CRS"), tr("click on the raster"))
            )
        return None

    def _prompt(
        self,
        action: Callable[[SegmentationSession], Any],
        addition: Point | Bounds | None = None,
        level: int | None = None,
    ) -> None:
        """Queue something that changes the object, beginning one where there is none."""
        if self._store is None:
            return
        if self._switching:
            self._held.append(partial(self._prompt, action, addition, level))
            return
        if self._object is None:
            self._object = DrawnObject(SegmentationSession(self._store.segmenter, level or 0, self._options))
        session = self._object.session

        def run() -> Drawing:
            if level is not None and session.current is None:
                session.level = level
            action(session)
            return snapshot(session)

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
        elif job.kind == "call":
            job.info(value)
        elif job.kind == "beside":
            if job.info is self._object and not self.drawing.busy:
                self.beside_answered.emit(value)
        elif job.kind == "decoder":
            self._end_switch(job, *value)
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
        elif job.kind in ("call", "beside"):
            if job.kind == "beside":
                self.beside_answered.emit(None)
            self.failed.emit(error)
        elif job.kind == "decoder" and self._store is not None:
            self._end_switch(job, self._store, None)
            self.failed.emit(error)
        elif job.kind in ("ahead", "tiles"):
            # Whatever is wrong here, a click will tell the user.
            QgsMessageLog.logMessage(translated(error), PLUGIN_NAME, Qgis.MessageLevel.Info)

    def _end_switch(self, job: Job, store: OpenStore, answered: DrawnObject | None) -> None:
        asked_of, drawn = job.info
        if asked_of is not self._store:
            return
        self._switching = False
        self._store = store
        if answered is not None and drawn is self._object:
            self._object = answered
        self.decoder_changed.emit(store)
        self.drawing_changed.emit(self.drawing)
        held, self._held = self._held, []
        for gesture in held:
            gesture()

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
