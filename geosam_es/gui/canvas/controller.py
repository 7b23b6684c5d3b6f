"""From gestures to polygons: the object being drawn. No widgets here.

Everything slow runs in the worker's thread, which alone touches the sessions. The GUI thread gets frozen copies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from operator import methodcaller
from typing import Any, TypeVar

from qgis.core import Qgis, QgsMapSettings, QgsMessageLog, QgsPointXY
from qgis.PyQt.QtCore import QObject, pyqtSignal

from ...core.prompts import Bounds, Point, Prompts
from ...errors import EditError, GeoSamError
from ...inference.segmenter import Segmenter
from ...inference.session import CleanOptions, Result, SegmentationSession
from ...qgis_support.messages import PLUGIN_NAME, translated
from ..stores.current_store import CurrentStore
from ..stores.open_store import OpenStore
from ..stores.worker import Job
from .drawing import Drawing
from .view import Sight, View
from .view_tiles import TilesInView, prepare_tile, tiles_in_view

__all__ = ["SegmentationController"]

Value = TypeVar("Value")


class SegmentationController(QObject):
    """Owns the object being drawn.

    Parameters
    ----------
    current : CurrentStore
        The store that answers, and the thread that reads from it.
    map_settings : callable
        Returns the canvas's QgsMapSettings.
    parent : QObject, optional

    Signals
    -------
    drawing_changed : Drawing
    preview_changed : Result or None
    accept_ready : Drawing
        The user has accepted the object, and all its prompts are answered. The receiver writes it and calls `discard`.
    store_wanted
        A prompt was given and no store is open. The prompt waits until one is opened, or for `give_up`.
    tiles_changed : TilesInView
        The answer to `look_ahead`.
    failed : GeoSamError
    """

    drawing_changed = pyqtSignal(object)
    preview_changed = pyqtSignal(object)
    accept_ready = pyqtSignal(object)
    store_wanted = pyqtSignal()
    tiles_changed = pyqtSignal(object)
    failed = pyqtSignal(object)

    def __init__(
        self, current: CurrentStore, map_settings: Callable[[], QgsMapSettings], parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._current = current
        self._worker = current.worker
        self._view = View(map_settings)
        self._options = CleanOptions()
        # The session of the object, its latest answer, and the changes still being answered. An answer counts only if
        # its session is still this one.
        self._session: SegmentationSession | None = None
        self._answered = Drawing()
        self._waiting: deque[Point | Bounds | None] = deque()
        self._accept_when_done = False
        self._switching = False
        self._held: list[Callable[[], None]] = []
        self._for_store: list[Callable[[], None]] = []
        current.changed.connect(self._on_store)
        current.opened.connect(self._on_opened)
        current.refused.connect(self.give_up)

    @property
    def store(self) -> OpenStore | None:
        """The open store."""
        return self._current.store

    @property
    def drawing(self) -> Drawing:
        """The object being drawn."""
        return self._answered.awaiting(self._waiting)

    def add_point(self, point: QgsPointXY, positive: bool = True) -> None:
        """Add a click, in the canvas's CRS."""
        if self._hold(lambda: self.add_point(point, positive), needs_store=True):
            return
        located = self._located([point])
        if located is not None:
            ((x, y),), level = located
            self._change(lambda session: session.add_point(x, y, positive), Point(x, y, positive), level)

    def set_box(self, corners: list[QgsPointXY]) -> None:
        """Set the box around corners in the canvas's CRS."""
        if self._hold(lambda: self.set_box(corners), needs_store=True):
            return
        located = self._located(corners)
        if located is not None:
            xs, ys = zip(*located[0])
            box = Bounds(min(xs), min(ys), max(xs), max(ys))
            self._change(lambda session: session.set_box(box), box, located[1])

    def start_from(self, prompts: Prompts, level: int | None = None, candidate: int = 0) -> None:
        """Draw an object again from its prompts, one step each.

        Parameters
        ----------
        prompts : Prompts
            In map coordinates of the raster's CRS.
        level : int, optional
            The level that answered; by default, the one that suits the map's scale.
        candidate : int
            Rank of the candidate that was chosen.
        """
        self.discard()
        if self.store is None:
            return
        if level is None:
            level = self._view.level_around(self.store, prompts.positive_bounds)
        box = prompts.box
        if box is not None:
            self._change(lambda session: session.set_box(box), box, level)
        for point in prompts.points:
            self._change(methodcaller("add_point", *point), point, level)
        for _ in range(candidate):
            self.next_candidate()

    def undo(self) -> None:
        """Take the last prompt back."""
        if not self._hold(self.undo) and self.drawing.can_undo:
            self._change(lambda session: session.undo())

    def redo(self) -> None:
        """Restore the prompt that was undone last."""
        if not self._hold(self.redo) and self._session is not None:
            self._change(lambda session: session.redo())

    def next_candidate(self) -> None:
        """Show the next of the decoder's masks."""
        if not self._hold(self.next_candidate) and self._session is not None:
            self._change(lambda session: session.next_candidate() if session.current else None)

    def set_options(self, options: CleanOptions) -> None:
        """Set the options for cleaning polygons, and apply them to the one being drawn."""
        if options == self._options:
            return
        self._options = options

        def apply(session: SegmentationSession) -> None:
            session.options = options
            if session.current is not None:
                session.select_candidate(session.current.rank)

        if self._session is not None:
            self._change(apply)

    def accept(self) -> None:
        """Ask for the object to be written, once its prompts are answered."""
        if self._hold(self.accept):
            return
        if self.drawing.busy:
            self._accept_when_done = True
        elif self.drawing.has_polygon:
            self.accept_ready.emit(self.drawing)

    def cancel(self) -> None:
        """Discard the object, unless it was accepted and is still being answered."""
        if not self._hold(self.cancel):
            self.discard()
            # Nobody waits for the images of its tile any more.
            self._worker.interrupt()

    def discard(self) -> None:
        """Forget the object and all gestures that wait for it."""
        self._session = None
        self._answered = Drawing()
        self._waiting.clear()
        self._accept_when_done = False
        self._held.clear()
        self._worker.set_comparison(None)
        self._worker.set_preview(None)
        self.preview_changed.emit(None)
        self.drawing_changed.emit(self.drawing)

    def preview(self, point: QgsPointXY, positive: bool = True) -> None:
        """Show what a click here would give; only the latest call counts."""
        store, drawn = self.store, self._session
        if store is None or self._switching or self._waiting:
            return
        try:
            ((x, y),), level = self._view.prompts_to_raster(store, [point]), self._view.level(store, point)
        except EditError:
            self.end_preview()
            return
        session = drawn or SegmentationSession(store.segmenter, level, self._options)
        # A click is worth a request to an online service, moving the mouse is not.
        reads = store.live.without_requests if store.live is not None else nullcontext

        def look() -> Result:
            with reads():
                return session.preview(x, y, positive)

        def done(result: Result) -> None:
            if drawn is self._session and not self._waiting:
                self.preview_changed.emit(result)

        self._worker.set_preview(Job(look, done, lambda _error: self.preview_changed.emit(None)))

    def end_preview(self) -> None:
        """Show no preview."""
        self._worker.set_preview(None)
        self.preview_changed.emit(None)

    def ask(self, question: Callable[[SegmentationSession], Value], done: Callable[[Value | None], None]) -> None:
        """Ask the object's session a question; only the latest one counts.

        Parameters
        ----------
        question : callable
            Called with the session in the worker's thread.
        done : callable
            Called with the answer if the object is still the same, or with None if the question failed.
        """
        session = self._session
        if session is None:
            return

        def on_answer(value: Value) -> None:
            if session is self._session and not self._waiting:
                done(value)

        def on_failure(error: GeoSamError) -> None:
            done(None)
            self.failed.emit(error)

        self._worker.set_comparison(Job(lambda: question(session), on_answer, on_failure))

    def answer_with(self, decoder: str, load: Callable[[], Segmenter]) -> None:
        """Let another decoder answer from now on, the object being drawn too; gestures wait until it does.

        Parameters
        ----------
        decoder : str
            Its name.
        load : callable
            Returns its segmenter of the open store; called in the worker's thread.
        """
        store, drawn = self.store, self._session
        if store is None or self._hold(partial(self.answer_with, decoder, load)):
            return

        def switch() -> tuple[Segmenter, SegmentationSession | None, Drawing]:
            segmenter = load()
            if drawn is None:
                return segmenter, None, Drawing()
            session = SegmentationSession(segmenter, drawn.level, drawn.options)
            session.follow(drawn)
            return segmenter, session, Drawing.of(session)

        def done(answer: tuple[Segmenter, SegmentationSession | None, Drawing]) -> None:
            segmenter, session, drawing = answer
            now = self.store
            if now is None or now.segmenter is not store.segmenter:
                return
            if session is not None and drawn is self._session:
                self._session, self._answered = session, drawing
            self._end_switch(replace(now, segmenter=segmenter, decoder=decoder))

        def failed(error: GeoSamError) -> None:
            now = self.store
            if now is not None:
                if now.segmenter is store.segmenter:
                    self._end_switch(now)
                self.failed.emit(error)

        self._switching = True
        self._worker.post(Job(switch, done, failed))

    def give_up(self, error: GeoSamError) -> None:
        """Forget the gestures that wait for a store, and report why."""
        self._for_store.clear()
        self.failed.emit(error)

    def sight(self) -> Sight | None:
        """Return what is in view; None without a store, or where the view does not exist in the raster's CRS."""
        try:
            return self._view.sight(self.store) if self.store is not None else None
        except EditError:
            return None

    def look_ahead(self, with_tiles: bool = False, prepares: bool = True) -> None:
        """Prepare the tiles in view, so that the first click on them is as fast as later ones.

        Parameters
        ----------
        with_tiles : bool
            Whether to send the outlines of the tiles in view, by `tiles_changed`.
        prepares : bool
            Whether the user may be about to click; tiles encoded on demand take space on the disk.
        """
        store, sight = self.store, self.sight()
        if store is None or sight is None:
            self._worker.set_look_ahead([])
            return
        # Where tiles are encoded on demand, only the middle of the view is worth the time.
        places = sight.places if store.live is None else sight.places[:1]
        if not prepares:
            places = []
        jobs: list[Job[Any]] = [
            Job(partial(prepare_tile, store.segmenter, x, y, sight.level), failed=_log) for x, y in places
        ]

        def on_tiles(tiles: TilesInView) -> None:
            if self.store is not None and self.store.path == store.path:
                self.tiles_changed.emit(tiles)

        if with_tiles:
            jobs.insert(0, Job(partial(tiles_in_view, store.segmenter, sight), on_tiles, _log))
        self._worker.set_look_ahead(jobs)

    def _on_store(self, store: OpenStore | None) -> None:
        if store is None:
            self._for_store.clear()
        self._switching = False
        self.discard()

    def _on_opened(self) -> None:
        waiting, self._for_store = self._for_store, []
        self._repeat(waiting)

    def _hold(self, gesture: Callable[[], None], needs_store: bool = False) -> bool:
        """Keep a gesture for later if it comes too early, and return whether it does.

        After an accepted object that is still being answered, it belongs to the next object. While the decoder is
        being switched, it waits for the new one. Without a store, the first prompt asks for one.
        """
        if self.store is None and (needs_store or self._for_store):
            self._for_store.append(gesture)
            self.store_wanted.emit()
            return True
        is_early = self._accept_when_done or self._switching
        if is_early:
            self._held.append(gesture)
        return is_early

    def _located(self, points: list[QgsPointXY]) -> tuple[list[tuple[float, float]], int] | None:
        """Return points in the raster's CRS and the level that suits the map's scale, or report why not."""
        if self.store is None:
            return None
        try:
            return self._view.prompts_to_raster(self.store, points), self._view.level(self.store, points[0])
        except EditError as error:
            self.failed.emit(error)
        return None

    def _change(
        self,
        action: Callable[[SegmentationSession], Any],
        addition: Point | Bounds | None = None,
        level: int | None = None,
    ) -> None:
        """Queue a change to the object; begin an object if there is none."""
        if self.store is None:
            return
        if self._switching:
            self._held.append(partial(self._change, action, addition, level))
            return
        if self._session is None:
            self._session = SegmentationSession(self.store.segmenter, level or 0, self._options)
        session = self._session

        def run() -> Drawing:
            # An object that was discarded meanwhile needs no answer.
            if session is self._session:
                if level is not None and session.current is None:
                    session.level = level
                action(session)
            return Drawing.of(session)

        self._waiting.append(addition)
        self._worker.post(Job(run, partial(self._on_answer, session), partial(self._on_failure, session)))
        self.preview_changed.emit(None)
        self.drawing_changed.emit(self.drawing)

    def _on_answer(self, session: SegmentationSession, drawing: Drawing) -> None:
        if session is not self._session:
            return
        self._waiting.popleft()
        self._answered = drawing
        self.drawing_changed.emit(self.drawing)
        if self._accept_when_done and not self._waiting:
            self._accept_when_done = False
            held, self._held = self._held, []
            self.accept()
            # If it could not be written, it is still there, and the gestures held were not meant for it.
            if self._session is None:
                self._repeat(held)

    def _on_failure(self, session: SegmentationSession, error: GeoSamError) -> None:
        if session is not self._session:
            return
        self._waiting.popleft()
        # The gestures after a prompt that failed were meant for another polygon.
        self._accept_when_done = False
        self._held.clear()
        self.drawing_changed.emit(self.drawing)
        self.failed.emit(error)

    def _end_switch(self, store: OpenStore) -> None:
        self._switching = False
        self._current.update(store)
        self.drawing_changed.emit(self.drawing)
        held, self._held = self._held, []
        self._repeat(held)

    def _repeat(self, gestures: list[Callable[[], None]]) -> None:
        for gesture in gestures:
            gesture()


def _log(error: GeoSamError) -> None:
    """Log a failed look-ahead; if something is wrong, a click will tell the user."""
    QgsMessageLog.logMessage(translated(error), PLUGIN_NAME, Qgis.MessageLevel.Info)
