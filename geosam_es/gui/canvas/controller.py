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
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import shapely
from qgis.core import QgsMapSettings, QgsPointXY, QgsRasterLayer
from qgis.PyQt import sip
from qgis.PyQt.QtCore import QObject, QTimer, pyqtSignal

from ...core.prompts import Bounds, Point, Prompts
from ...core.topology import merge, polygon_parts
from ...errors import EditError, GeoSamError, PromptError, RasterError
from ...inference.segmenter import Segmenter
from ...inference.session import CleanOptions, Result, SegmentationSession
from ...qgis_support.layer_source import LayerSource, source_of
from ...qgis_support.messages import log_error, tr
from ...store.remote import without_query
from ..stores.current_store import CurrentStore
from ..stores.open_store import OpenStore, Place, project_raster
from ..stores.worker import Job
from .drawing import Addition, Drawing, Fitting
from .view import Sight, View
from .view_tiles import TilesInView, prepare_tile, tiles_in_view
from .visible_rasters import VisibleRasters

__all__ = ["SegmentationController", "SetAside"]

Value = TypeVar("Value")

_SAME_AREA = 0.95
"""IoU above which two polygons count as the same."""


class SetAside(NamedTuple):
    """An object that may be drawn on later; its session answers nothing meanwhile."""

    session: SegmentationSession
    drawing: Drawing


class SegmentationController(QObject):
    """Owns the object being drawn.

    A prompt is answered by the store of the topmost raster layer that is visible where it was given.

    Parameters
    ----------
    current : CurrentStore
        The stores, and the thread that reads from them.
    map_settings : callable
        Returns the canvas's QgsMapSettings.
    parent : QObject, optional

    Signals
    -------
    drawing_changed : Drawing
    preview_changed : Result or None
    accept_ready : Drawing
        The user has accepted the object, and all its prompts are answered. The receiver writes it and calls `discard`.
    store_wanted : LayerSource or None
        A prompt was given on a raster whose store is not open, or where there is none. The prompt waits until one is
        opened, or for `give_up`.
    tiles_changed : TilesInView
        The answer to `look_ahead`.
    failed : GeoSamError
    """

    drawing_changed = pyqtSignal(object)
    preview_changed = pyqtSignal(object)
    accept_ready = pyqtSignal(object)
    store_wanted = pyqtSignal(object)
    tiles_changed = pyqtSignal(object)
    failed = pyqtSignal(object)

    def __init__(
        self, current: CurrentStore, map_settings: Callable[[], QgsMapSettings], parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._current = current
        self._worker = current.worker
        self._view = View(map_settings)
        self._map_settings = map_settings
        self._visible = VisibleRasters(map_settings)
        self._options = CleanOptions()
        # The session of the object, its latest answer, and the changes still being answered. An answer counts only if
        # its session is still this one.
        self._session: SegmentationSession | None = None
        self._answered = Drawing()
        self._waiting: deque[Addition] = deque()
        self._accept_when_done = False
        self._switching = False
        self._paused = False
        self._held: list[Callable[[], None]] = []
        self._for_store: list[Callable[[], None]] = []
        self._fitting: Callable[[], Fitting | None] = lambda: None
        # Whether the object will be fitted once its prompts are answered, and what is being fitted.
        self._fit_due = False
        self._latest_fit: object = None
        current.changed.connect(self._on_store)
        current.opened.connect(self._on_opened)
        current.closed.connect(self._on_closed)
        current.refused.connect(self.give_up)

    @property
    def store(self) -> OpenStore | None:
        """The open store."""
        return self._current.store

    @property
    def drawing(self) -> Drawing:
        """The object being drawn."""
        drawing = self._answered.awaiting(self._waiting)
        return replace(drawing, busy=True) if self._fit_due else drawing

    @property
    def is_waiting(self) -> bool:
        """Whether gestures wait for a store, or for `resume`."""
        return self._paused or bool(self._for_store)

    @property
    def is_busy(self) -> bool:
        """Whether something is drawn, or gestures wait, so that the current store must stay."""
        waits = self.is_waiting or self._held or self._switching or self._accept_when_done
        return bool(waits or self.drawing.can_undo or self.drawing.can_redo)

    def layer_at(self, point: QgsPointXY | None = None) -> QgsRasterLayer | None:
        """Return the raster layer that the user sees at a point in the canvas's CRS, by default in the middle."""
        return self._visible.at(point or self._map_settings().extent().center())

    def store_at(self, point: QgsPointXY | None = None) -> OpenStore | None:
        """Return the open store that would answer a prompt at a point in the canvas's CRS, by default in the middle."""
        point = point or self._map_settings().extent().center()
        layer = self.layer_at(point)
        raster = project_raster(layer) if layer is not None else None
        store = self._current.find(raster) if raster is not None else None
        if store is None and self._goes_on(point):
            return self.store
        store = self._chosen_at(point) if layer is None else store
        return store or self._opened(self._catalogued(raster, point))

    def catalogued_at(self, point: QgsPointXY | None = None) -> Place | None:
        """Return the store that a catalogue has at a point in the canvas's CRS, which a click would open."""
        point = point or self._map_settings().extent().center()
        layer = self.layer_at(point)
        return self._catalogued(project_raster(layer) if layer is not None else None, point)

    def is_in_view(self, point: QgsPointXY) -> bool:
        """Tell whether a point in the canvas's CRS is in view."""
        return bool(self._map_settings().visibleExtent().contains(point))

    def is_shown(self, store: OpenStore) -> bool:
        """Tell whether the layer of a store is visible; one that the user opened needs no layer."""
        raster = store.raster
        is_chosen = any(store is chosen for chosen in self._current.chosen)
        return is_chosen or raster is None or any(layer.id() == raster.layer_id for layer in self._visible.layers())

    def add_point(self, point: QgsPointXY, positive: bool = True) -> None:
        """Add a click, in the canvas's CRS."""
        layer = self.layer_at(point)
        if positive and layer is not None and not self._visible.has_image(layer, point):
            problem = tr("There is no image here: {name} has no data at this place").format(name=layer.name())
            self.failed.emit(PromptError(problem, tr("click where you see the image")))
            return
        self._prompt_on(layer, point, partial(self._add_point, point, positive))

    def set_box(self, corners: list[QgsPointXY]) -> None:
        """Set the box around corners in the canvas's CRS."""
        xs, ys = [corner.x() for corner in corners], [corner.y() for corner in corners]
        middle = QgsPointXY((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2)
        self.prompt_at(middle, partial(self._set_box, corners))

    def draw(self, gesture: str, points: list[QgsPointXY], positive: bool = True, radius: float = 0.0) -> None:
        """Change the object by a stroke.

        Parameters
        ----------
        gesture : str
            ``lasso`` for a loop or a scribble, ``brush``, ``eraser`` or ``cut``.
        points : list of QgsPointXY
            In the canvas's CRS.
        positive : bool
            Whether the object is where a loop or a scribble is.
        radius : float
            Of the brush, in native pixels. The brush is round on the screen.
        """
        again = partial(self._draw, gesture, points, positive, radius)
        if not self.drawing.can_undo:
            self.prompt_at(points[0], again)
        elif not self.hold(partial(self.draw, gesture, points, positive, radius)):
            # A stroke may begin beside the image.
            again()

    def _draw(self, gesture: str, points: list[QgsPointXY], positive: bool, radius: float) -> None:
        located = self._located(points)
        if self.store is None or located is None:
            return
        line, level = located
        if gesture == "lasso":
            change = methodcaller("draw", line, positive)
        elif gesture == "cut":
            change = methodcaller("cut", line)
        else:
            try:
                area = self._view.brushed(self.store, points, radius)
            except EditError as error:
                self.failed.emit(error)
                return
            change = methodcaller("brush", area, erases=gesture == "eraser")
        self._change(change, gesture, level)

    def reshape(self, outline: shapely.Polygon | shapely.MultiPolygon, gesture: str = "polygon") -> None:
        """Replace the outline of the object; begin one if there is none.

        Parameters
        ----------
        outline : Polygon or MultiPolygon
            In the raster's CRS.
        gesture : str
            What to call the step; ``merge`` adds the outline to the object.
        """
        if self.store is not None and not self.hold(partial(self.reshape, outline, gesture)):
            level = self._view.level_around(self.store, Bounds(*outline.bounds))
            change = gesture if gesture == "merge" else Prompts(outline=outline)
            self._change(lambda session: session.reshape(_joined(session, outline, gesture), gesture), change, level)

    def screen_pixel(self, point: QgsPointXY) -> float:
        """Return the side of a pixel of the screen in native pixels, at a point in the canvas's CRS; 1 if unknown."""
        store = self.store if self.drawing.can_undo else self.store_at(point) or self.store
        try:
            return self._view.screen_pixel(store, point) or 1.0 if store is not None else 1.0
        except EditError:
            return 1.0

    def prompt_at(self, point: QgsPointXY, prompt: Callable[[], None]) -> None:
        """Call a function when the store that answers at a point in the canvas's CRS is open and the current one."""
        self._prompt_on(self.layer_at(point), point, prompt)

    def _prompt_on(self, layer: QgsRasterLayer | None, point: QgsPointXY, prompt: Callable[[], None]) -> None:
        """Give a prompt to the store of the layer that was visible there, now or as soon as it is open."""
        again = partial(self._prompt_on, layer, point, prompt)
        # A layer that was removed meanwhile has no answer.
        if self.hold(again) or (layer is not None and sip.isdeleted(layer)):
            return
        try:
            raster = source_of(layer) if layer is not None else None
        except RasterError as error:
            self.failed.emit(error)
            return
        store = self._current.find(raster) if raster is not None else None
        if store is None and self._goes_on(point):
            raster, store = None, self.store
        elif raster is None:
            store = self._chosen_at(point)
        path = self._catalogued(raster, point) if store is None else None
        if path is not None:
            raster, store = None, self._opened(path)
        elif raster is None:
            store = store or self._chosen_at(point, or_current=True)
        is_current = store is self.store if raster is None else self._current.is_current(raster)
        if self.store is not None and self.drawing.can_undo and not is_current and (raster or store or path):
            self.failed.emit(_across(self.store, _name(raster, store) or Path(path or "").name))
        elif store is None and self.drawing.can_undo and self._current.is_gone:
            self.failed.emit(_gone(self.store))
        elif store is None:
            self._for_store.append(again)
            self.drawing_changed.emit(self.drawing)
            if path is not None:
                self._current.open(path, [], neighbours=self._visible.beside(path, point))
            else:
                self.store_wanted.emit(raster)
        else:
            self._current.select(store)
            prompt()

    def _goes_on(self, point: QgsPointXY) -> bool:
        """Tell whether the object being drawn goes on at a place, on a sheet that is read with the current one."""
        store = self.store
        is_joined = store is not None and len(store.segmenter.pyramid.parts) > 1
        return store is not None and is_joined and self.drawing.can_undo and self._view.is_on_image(store, point)

    def _chosen_at(self, point: QgsPointXY, or_current: bool = False) -> OpenStore | None:
        """Return the store that the user opened for a place where no raster layer is visible.

        ``or_current`` returns the current one, if the user opened it, also for a place outside it.
        """
        chosen = self._current.chosen
        found = next((store for store in chosen if self._view.is_in(store, point)), None)
        return found or (next((store for store in chosen if store is self.store), None) if or_current else None)

    def _catalogued(self, raster: LayerSource | None, point: QgsPointXY) -> Place | None:
        """Return the store that a catalogue has for a place, unless the raster that is visible there has one."""
        if raster is not None and (self._current.is_opening or self._current.can_open_quickly(raster)):
            return None
        return self._visible.catalogued(point)

    def _opened(self, place: Place | None) -> OpenStore | None:
        name = without_query(place) if isinstance(place, str) else str(place)
        return next((store for store in self._current.chosen if store.place == name), None)

    def _add_point(self, point: QgsPointXY, positive: bool) -> None:
        located = self._located([point])
        if located is not None:
            ((x, y),), level = located
            self._change(lambda session: session.add_point(x, y, positive), Point(x, y, positive), level)

    def _set_box(self, corners: list[QgsPointXY]) -> None:
        located = self._located(corners)
        if located is not None:
            # If raster and canvas are rotated alike, the bounding box on the map is larger than the box drawn.
            at, level = located
            self._change(lambda session: session.set_box(at), Bounds.around(at), level)

    def start_from(
        self,
        prompts: Prompts,
        level: int | None = None,
        candidate: int = 0,
        known: shapely.Polygon | shapely.MultiPolygon | None = None,
    ) -> None:
        """Draw an object again from its prompts, one step each.

        Parameters
        ----------
        prompts : Prompts
            In map coordinates of the raster's CRS. An outline is the object as it was.
        level : int, optional
            The level that answered; by default, the one that suits the map's scale.
        candidate : int
            Rank of the candidate that was chosen.
        known : Polygon or MultiPolygon, optional
            The polygon in the raster's CRS. It counts where it has been changed since.
        """
        self.discard()
        if self.store is None:
            return
        if prompts.outline is not None:
            self.reshape(prompts.outline)
            return
        if level is None:
            level = self._view.level_around(self.store, prompts.positive_bounds)
        box = prompts.box
        if box is not None:
            self._change(methodcaller("set_box", prompts.box_corners), box, level)
        for point in prompts.points:
            self._change(methodcaller("add_point", *point), point, level)
        for _ in range(candidate):
            self.next_candidate()
        if known is not None:
            self._change(lambda session: _keep(session, known))

    def waits_for(self, raster: LayerSource, again: Callable[[], None]) -> bool:
        """Make the store of a raster the current one, and return whether it must be opened first.

        Parameters
        ----------
        raster : LayerSource
        again : callable
            Called when the store is open.
        """
        if self.hold(again):
            return True
        store = self._current.find(raster)
        if store is None:
            self._for_store.append(again)
            self.store_wanted.emit(raster)
            return True
        self._current.select(store)
        return False

    def undo(self) -> None:
        """Take the last prompt back."""
        if not self.hold(self.undo) and self.drawing.can_undo:
            self._change(lambda session: session.undo())

    def redo(self) -> None:
        """Restore the prompt that was undone last."""
        drawing = self.drawing
        if not self.hold(self.redo) and (drawing.can_redo or drawing.busy):
            self._change(lambda session: session.redo())

    def next_candidate(self, step: int = 1) -> None:
        """Show the next of the decoder's masks."""
        if not self.hold(partial(self.next_candidate, step)) and self._session is not None:
            self._change(lambda session: session.next_candidate(step) if session.current else None)

    def set_options(self, options: CleanOptions) -> None:
        """Set the options for cleaning polygons, and apply them to the one being drawn."""
        if options == self._options:
            return
        self._options = options
        if self._session is not None:
            self._apply_options()

    def fit_with(self, fitting: Callable[[], Fitting | None]) -> None:
        """Set the function that says how polygons are fitted to the layer now; None for not at all."""
        self._fitting = fitting

    def refit(self) -> None:
        """Fit the object again, because the layer or the options may have changed."""
        session = self._session
        if session is None or self._switching or (self._is_fitted() and not self._fit_due):
            return
        if self._fitting() is not None:
            self._fit_due = True
            self._fit_soon()
        else:
            self._fit_due, self._latest_fit = False, None
            self._answered = replace(self._answered, fitted=None)
        self.drawing_changed.emit(self.drawing)

    def _is_fitted(self) -> bool:
        fitted, fitting = self._answered.fitted, self._fitting()
        return (fitted.fitting if fitted is not None else None) is fitting

    def accept(self) -> None:
        """Ask for the object to be written, once its prompts are answered and it is fitted to the layer."""
        if self.hold(self.accept):
            return
        if self.drawing.has_polygon and not self.drawing.busy:
            self.refit()
        if self.drawing.busy:
            self._accept_when_done = True
        elif self.drawing.has_polygon:
            self.accept_ready.emit(self.drawing)

    def cancel(self) -> None:
        """Discard the object, unless it was accepted and is still being answered."""
        if not self.hold(self.cancel):
            self.discard()

    def discard(self) -> None:
        """Forget the object and all gestures that wait for it."""
        self._session = None
        if self._waiting:
            # Nobody wants the images of its tile any more.
            self._worker.interrupt()
        self._answered = Drawing()
        self._fit_due = False
        self._waiting.clear()
        self._accept_when_done = False
        self._held.clear()
        self._worker.set_comparison(None)
        self._worker.set_preview(None)
        self.preview_changed.emit(None)
        self.drawing_changed.emit(self.drawing)

    def set_aside(self) -> SetAside | None:
        """Discard the object, and return it for `take_up`; None if there is none, or it is still being answered."""
        session = None if self.drawing.busy or self._switching else self._session
        aside = SetAside(session, self._answered) if session is not None else None
        self.discard()
        return aside

    def take_up(self, aside: SetAside) -> bool:
        """Go on drawing an object instead of the present one, if the store and decoder that answered it still do."""
        if self.store is None or self._switching or aside.session.segmenter is not self.store.segmenter:
            return False
        self.discard()
        self._session, self._answered = aside.session, aside.drawing
        self.drawing_changed.emit(self.drawing)
        if aside.session.options != self._options:
            self._apply_options()
        else:
            self.refit()
        return True

    def preview(self, point: QgsPointXY, positive: bool = True) -> None:
        """Show what a click here would give; only the latest call counts."""
        store, drawn = self.store, self._session
        if store is None or self._switching or self._waiting:
            return
        if self.store_at(point) is not store:
            self.end_preview()
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
        if store is None or self.hold(partial(self.answer_with, decoder, load)):
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
        self.drawing_changed.emit(self.drawing)
        self.failed.emit(error)

    def sight(self, store: OpenStore) -> Sight | None:
        """Return what is in view; None where the view does not exist in the raster's CRS."""
        try:
            return self._view.sight(store)
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
        jobs: list[Job[Any]] = []
        middle = self.store_at() or self.store
        sight = self.sight(middle) if middle is not None and prepares else None
        if middle is not None and sight is not None:
            # Where tiles are encoded on demand, only the middle of the view is worth the time.
            places = sight.places if middle.live is None else sight.places[:1]
            ready = partial(prepare_tile, middle.segmenter)
            jobs += [Job(partial(ready, x, y, sight.level), failed=log_error) for x, y in places]
        store = self.store
        sight = self.sight(store) if store is not None and with_tiles else None
        if store is not None and sight is not None:
            jobs.insert(
                0, Job(partial(tiles_in_view, store.segmenter, sight), partial(self._on_tiles, store), log_error)
            )
        self._worker.set_look_ahead(jobs)

    def _on_tiles(self, store: OpenStore, tiles: TilesInView) -> None:
        if self.store is not None and self.store.path == store.path:
            self.tiles_changed.emit(tiles)

    def _on_store(self, _store: OpenStore | None) -> None:
        self._switching = False
        self.discard()

    def _on_closed(self) -> None:
        self._for_store.clear()

    def _on_opened(self) -> None:
        waiting, self._for_store = self._for_store, []
        self._repeat(waiting)

    def hold_after_accepting(self, gesture: Callable[[], None]) -> bool:
        """Keep a gesture for later if an accepted object is not written yet, and return whether it does."""
        is_accepted = self._accept_when_done or self.accept in (*self._for_store, *self._held)
        return is_accepted and self.hold(gesture)

    def hold(self, gesture: Callable[[], None]) -> bool:
        """Keep a gesture for later if it comes too early, and return whether it does.

        While a prompt waits for its store, all later gestures wait behind it. After an accepted object that is still
        being answered, a gesture belongs to the next object. While the decoder is being switched, it waits for the new
        one; after `pause`, for `resume`.
        """
        if self._for_store:
            self._for_store.append(gesture)
            return True
        is_early = self._accept_when_done or self._switching or self._paused
        if is_early:
            self._held.append(gesture)
        return is_early

    def pause(self) -> None:
        """Keep all gestures for later, until `resume`."""
        self._paused = True
        self.drawing_changed.emit(self.drawing)

    def resume(self) -> list[Callable[[], None]]:
        """Take gestures again, and return those that were kept; they are forgotten if nobody calls them."""
        held, self._held, self._paused = self._held, [], False
        self.drawing_changed.emit(self.drawing)
        return held

    def _located(self, points: list[QgsPointXY]) -> tuple[list[tuple[float, float]], int] | None:
        """Return points in the raster's CRS and the level that suits the map's scale, or report why not."""
        if self.store is None:
            return None
        try:
            return self._view.prompts_to_raster(self.store, points), self._view.level(self.store, points[0])
        except EditError as error:
            self.failed.emit(error)
        return None

    def _apply_options(self) -> None:
        options = self._options

        def apply(session: SegmentationSession) -> None:
            session.options = options
            if session.current is not None:
                session.select_candidate(session.current.rank)

        self._change(apply)

    def _change(
        self,
        action: Callable[[SegmentationSession], Any],
        addition: Addition = None,
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
        # Before the worker's thread takes turns with this one.
        self._fit_due = self._fitting() is not None
        self._worker.post(Job(run, partial(self._on_answer, session), partial(self._on_failure, session)))
        self.preview_changed.emit(None)
        self.drawing_changed.emit(self.drawing)

    def _fit_soon(self) -> None:
        """Fit the object to the layer after the window has painted its answer, unless prompts still wait for one."""
        if self._fit_due and not self._waiting:
            QTimer.singleShot(0, self._fit)

    def _fit(self) -> None:
        session, fitting = self._session, self._fitting()
        if session is None or self._waiting or not self._fit_due:
            return
        latest = self._latest_fit = object()

        def run() -> Drawing:
            drawing = Drawing.of(session)
            return drawing.fitted_by(fitting) if fitting is not None and latest is self._latest_fit else drawing

        def is_current() -> bool:
            return session is self._session and latest is self._latest_fit and not self._waiting

        def done(drawing: Drawing) -> None:
            if is_current():
                self._fit_due = False
                self._answered = drawing
                self.drawing_changed.emit(self.drawing)
                self._accept_if_done()

        def failed(error: GeoSamError) -> None:
            if is_current():
                self._fit_due = False
                self._fail(error)

        self._worker.post(Job(run, done, failed))

    def _on_answer(self, session: SegmentationSession, drawing: Drawing) -> None:
        if session is not self._session:
            return
        self._waiting.popleft()
        self._answered = drawing
        self.drawing_changed.emit(self.drawing)
        self._fit_soon()
        self._accept_if_done()

    def _accept_if_done(self) -> None:
        if self._accept_when_done and not self._waiting and not self._fit_due:
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
        self._fit_soon()
        self._fail(error)

    def _fail(self, error: GeoSamError) -> None:
        # The gestures after a prompt that failed were meant for another polygon.
        self._accept_when_done = False
        self._held.clear()
        self.drawing_changed.emit(self.drawing)
        self.failed.emit(error)

    def _end_switch(self, store: OpenStore) -> None:
        self._switching = False
        self._current.update(store)
        self.drawing_changed.emit(self.drawing)
        self.refit()
        held, self._held = self._held, []
        self._repeat(held)

    def _repeat(self, gestures: list[Callable[[], None]]) -> None:
        for gesture in gestures:
            gesture()


def _joined(
    session: SegmentationSession, outline: shapely.Polygon | shapely.MultiPolygon, gesture: str
) -> shapely.Polygon | shapely.MultiPolygon:
    if gesture != "merge" or session.current is None:
        return outline
    return merge(polygon_parts(shapely.union(session.current.geometry, outline)))


def _keep(session: SegmentationSession, known: shapely.Polygon | shapely.MultiPolygon) -> None:
    """Show a polygon as it is in the layer if the prompts give another one."""
    answer = session.current.geometry if session.current is not None else shapely.Polygon()
    if shapely.intersection(answer, known).area < _SAME_AREA * shapely.union(answer, known).area:
        session.reshape(known)


def _across(drawn_on: OpenStore, other: str) -> GeoSamError:
    """Return what to say about a prompt on another raster than the one of the object being drawn."""
    problem = tr("The polygon being drawn is on {first}, and this place is on {second}")
    return PromptError(
        problem.format(first=_name(drawn_on.raster, drawn_on), second=other),
        tr("accept the polygon or discard it, then click here"),
    )


def _gone(store: OpenStore | None) -> GeoSamError:
    """Return what to say about a prompt whose store is gone, and with it the answers to the prompts before."""
    problem = tr("The prepared image of {name} was deleted or replaced")
    remedy = tr("accept the polygon or discard it, then click again")
    return PromptError(problem.format(name=_name(store.raster if store else None, store)), remedy)


def _name(raster: LayerSource | None, store: OpenStore | None) -> str:
    if raster is not None:
        return raster.name
    return store.metadata.raster.file_name if store is not None else ""
