"""The state of one object being drawn: prompts, shaping by hand, undo and redo, candidates, the result. No Qt here.

The map tool, the Processing algorithms, the CLI and the tests all use this class. It takes and returns coordinates
in the raster's CRS.
"""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import shapely
from shapely.geometry.base import BaseGeometry

from ..core.geotransform import GeoTransform
from ..core.partition import gaps, polygonal
from ..core.prompts import Bounds, Point, Prompts
from ..core.strokes import is_loop, looped_area, scribble_points
from ..core.topology import Outline, clean, merge, polygon_parts, prompted_parts, split_by_line, valid_polygon
from ..errors import PromptError
from ..store.decoders import StoreDecoder, check_decoder
from ..store.joined import JoinedReader
from ..store.reader import StoreReader
from ..store.remote import StorePlace
from .decoder import load_decoder
from .masks import Candidate, Proposal
from .segmenter import Segmenter

__all__ = ["CleanOptions", "Result", "SegmentationSession", "open_segmenter", "with_decoder"]

Stroke = Sequence[tuple[float, float]]
"""Positions in map coordinates, as the pointer passed them."""


@dataclass(frozen=True)
class CleanOptions:
    """How traced masks are cleaned for a map.

    Attributes
    ----------
    simplify_tolerance : float
        Largest distance by which an outline may move, in pixels of the level that answered.
    min_area, fill_holes_area : float
        In square native pixels. Smaller parts are dropped, and smaller holes filled.
    all_parts : bool
        Whether to keep the parts of a mask that hold no prompt.
    """

    simplify_tolerance: float = 1.0
    min_area: float = 0.0
    fill_holes_area: float = 0.0
    all_parts: bool = False


@dataclass(frozen=True)
class Result:
    """A polygon for the user, and a step of a session.

    Attributes
    ----------
    proposal : Proposal
        The decoder's answer to all prompts so far.
    rank : int
        The candidate shown, counted from 0.
    candidate : Candidate
        Its masks, as polygons in native pixels before cleaning.
    geometry : Polygon or MultiPolygon
        In the raster's CRS; empty if the model sees no object.
    model : str
    milliseconds : float
        From the prompt to the geometry.
    gesture : str
        ``scribble``, ``lasso``, or for an outline made by hand ``polygon``, ``brush``, ``eraser`` or ``cut``; empty for
        a point or a box.
    start_level : int
        The level of an outline made by hand.
    options : CleanOptions, optional
        What the geometry was cleaned with; None for an outline made by hand.
    """

    proposal: Proposal
    rank: int
    candidate: Candidate
    geometry: Outline
    model: str
    milliseconds: float
    gesture: str = ""
    start_level: int = 0
    options: CleanOptions | None = None

    @property
    def is_shaped(self) -> bool:
        """Whether the outline was made by hand, and is not the decoder's."""
        return not self.candidate.masks

    @property
    def candidates(self) -> int:
        """Number of candidates to choose from."""
        return max(1, len(self.proposal.ranking))

    @property
    def score(self) -> float:
        """Predicted IoU, 0 to 1; NaN for an outline made by hand."""
        return math.nan if self.is_shaped else min(max(self.candidate.score, 0.0), 1.0)

    @property
    def level(self) -> int:
        """Level of the tile that answered."""
        return self.start_level if self.is_shaped else self.candidate.level


def open_segmenter(
    store: StorePlace,
    threads: int | None = None,
    neighbours: Sequence[StorePlace] = (),
    same_crs: Callable[[str, str], bool] = operator.eq,
) -> Segmenter:
    """Open a store with the decoder that it uses.

    Parameters
    ----------
    store : Path or RemoteStore
    threads : int, optional
        Of the decoder.
    neighbours : sequence of Path or RemoteStore
        Stores of sheets beside it, which answer for the rest of an object that its border cuts; see `JoinedReader`.
    same_crs : callable
        Tells whether two CRSs, as WKT, are the same.

    Raises
    ------
    StoreError
        If the directory is not a complete store.
    ModelError
        If its decoder cannot be loaded.
    """
    reader = JoinedReader(store, neighbours, same_crs) if neighbours else StoreReader(store)
    return Segmenter(reader, load_decoder(reader.decoder.prepare_path, reader.decoder.decoder_path, threads))


def with_decoder(segmenter: Segmenter, decoder: StoreDecoder, threads: int | None = None) -> Segmenter:
    """Return a segmenter of the same store with another of its decoders.

    Raises
    ------
    ModelError
        If the decoder is incomplete or cannot be loaded.
    """
    check_decoder(decoder)
    loaded = load_decoder(decoder.prepare_path, decoder.decoder_path, threads)
    return Segmenter(segmenter.reader, loaded, segmenter.tile_encoder)


class SegmentationSession:
    """One object being drawn.

    Parameters
    ----------
    segmenter : Segmenter
    level : int
        The finest level to answer the first prompt from; the GUI sets it from the map's scale. Later prompts stay at
        the level that answered.
    options : CleanOptions
    """

    def __init__(self, segmenter: Segmenter, level: int = 0, options: CleanOptions | None = None) -> None:
        self.segmenter = segmenter
        self.level = level
        self.options = options or CleanOptions()
        metadata = segmenter.reader.metadata
        self._transform: GeoTransform = metadata.raster.transform
        self._inverse = self._transform.inverse()
        self._model = str(metadata.model["name"])
        self._steps: list[Result] = []
        self._undone: list[Result] = []

    @property
    def prompts(self) -> Prompts:
        """All prompts so far, in the raster's native pixels."""
        return self._steps[-1].proposal.prompts if self._steps else Prompts()

    @property
    def current(self) -> Result | None:
        """The latest result; None before the first prompt."""
        return self._steps[-1] if self._steps else None

    @property
    def can_undo(self) -> bool:
        """Whether there is a prompt to take back."""
        return bool(self._steps)

    @property
    def can_redo(self) -> bool:
        """Whether there is a prompt to bring back."""
        return bool(self._undone)

    @property
    def last_prompt(self) -> Point | Bounds | str | None:
        """What `undo` takes back: a prompt in the raster's native pixels, or another gesture by name."""
        before = self._steps[-2].proposal.prompts if len(self._steps) > 1 else Prompts()
        return _addition(before, self.current)

    @property
    def undone_prompt(self) -> Point | Bounds | str | None:
        """What `redo` restores: a prompt in the raster's native pixels, or another gesture by name."""
        return _addition(self.prompts, self._undone[-1]) if self._undone else None

    def add_point(self, x: float, y: float, positive: bool = True) -> Result:
        """Add a click at map coordinates; see `prompt` for the errors."""
        return self.prompt(self.prompts.with_point(Point(*self._inverse.apply(x, y), positive)))

    def set_box(self, corners: Sequence[tuple[float, float]]) -> Result:
        """Set the box to the smallest upright one in pixels around corners (x, y) in map coordinates.

        See `prompt` for the errors.
        """
        box = Bounds.around(self._inverse.apply(x, y) for x, y in corners)
        return self.prompt(self.prompts.with_box(box))

    def prompt(self, prompts: Prompts) -> Result:
        """Replace the current prompts by these; the step can be undone.

        Parameters
        ----------
        prompts : Prompts
            In the raster's native pixels.

        Returns
        -------
        Result

        Raises
        ------
        PromptError
            If there is no positive point or box, a prompt lies outside the raster, or there is no data. The session
            is unchanged then.
        """
        return self._add(self._answer(prompts))

    def draw(self, stroke: Stroke, positive: bool = True) -> Result:
        """Prompt with a stroke: a closed loop is a region, an open stroke a scribble of points.

        Parameters
        ----------
        stroke : sequence of (x, y)
            In map coordinates.
        positive : bool
            Whether the object is there; a region that is not is cut from the object.

        Returns
        -------
        Result

        Raises
        ------
        PromptError
            See `prompt`; also if a first region is negative, or if nothing would be left.
        """
        line = self._native_line(stroke)
        if not is_loop(line):
            points = (*self.prompts.points, *scribble_points(line, positive))
            return self._add(self._answer(replace(self.prompts, points=points), gesture="scribble"))
        region: BaseGeometry = looped_area(line)
        if self.current is not None:
            known = self._inverse.apply_geometry(self.current.geometry)
            region = shapely.union(known, region) if positive else shapely.difference(known, region)
        elif not positive:
            raise PromptError("The object has no positive point and no box", "add one of them")
        if region.is_empty:
            raise _nothing_left()
        return self._add(self._answer(self._outlined(merge(polygon_parts(region))), gesture="lasso"))

    def brush(self, area: shapely.Polygon | shapely.MultiPolygon, erases: bool = False) -> Result:
        """Add an area in map coordinates to the outline, or remove it.

        An eraser that meets nothing makes no step.

        Raises
        ------
        PromptError
            If nothing would be left.
        """
        known = self.current.geometry if self.current else shapely.Polygon()
        changed = shapely.difference(known, area) if erases else shapely.union(known, area)
        if self.current is not None and erases and not shapely.intersects(known, area):
            return self.current
        return self.reshape(merge(polygon_parts(changed)), "eraser" if erases else "brush")

    def cut(self, line: Stroke) -> Result:
        """Cut the outline along a line; of each part that it divides, keep the pieces with a positive point.

        If none of the pieces of a part has one, or all have, the largest is kept.

        Raises
        ------
        PromptError
            If the line does not divide the outline.
        """
        whole = polygon_parts(self.current.geometry if self.current else shapely.Polygon())
        divided = [split_by_line(part, shapely.LineString(line)) for part in whole]
        if all(len(pieces) == 1 for pieces in divided):
            raise PromptError("The line does not divide the polygon", "begin and end it outside")
        positives = [self._transform.apply(point.x, point.y) for point in self.prompts.points if point.positive]
        kept: list[shapely.Polygon] = []
        for pieces in divided:
            wanted = prompted_parts(pieces, positives)
            kept += wanted if len(wanted) < len(pieces) else pieces[:1]
        return self.reshape(merge(kept), "cut")

    def reshape(self, outline: Outline, gesture: str = "polygon") -> Result:
        """Set the outline by hand; it is shown as it is, and the next prompt corrects it.

        A session may begin with it. Points that contradict the outline are dropped, and the box.

        Parameters
        ----------
        outline : Polygon or MultiPolygon
            In map coordinates.
        gesture : str
            See `Result`.

        Returns
        -------
        Result

        Raises
        ------
        PromptError
            If the outline is empty.
        """
        started = time.perf_counter()
        outline = valid_polygon(outline)
        if outline.is_empty:
            raise _nothing_left()
        native = self._inverse.apply_geometry(shapely.force_2d(outline))
        prompts, parts = self._outlined(native), Candidate(tuple(polygon_parts(native)), ())
        level = self.current.level if self.current else self.level
        milliseconds = (time.perf_counter() - started) * 1000.0
        return self._add(Result(Proposal(prompts, ()), 0, parts, outline, self._model, milliseconds, gesture, level))

    def _native_line(self, stroke: Stroke) -> shapely.LineString:
        # A line needs two positions.
        return self._inverse.apply_geometry(shapely.LineString([stroke[0], *stroke]))

    def _outlined(self, outline: Outline) -> Prompts:
        """Return an outline in native pixels with the points that agree with it."""
        shapely.prepare(outline)
        points = [p for p in self.prompts.points if shapely.covers(outline, shapely.Point(p.x, p.y)) == p.positive]
        return Prompts(tuple(points), outline=outline)

    def show(self, proposal: Proposal, decoding_ms: float) -> Result:
        """Add an answer that was decoded elsewhere, as `prompt` adds its own.

        Parameters
        ----------
        proposal : Proposal
            From the session's segmenter.
        decoding_ms : float
            How long it took to decode, in milliseconds.

        Returns
        -------
        Result
        """
        started = time.perf_counter() - decoding_ms / 1000.0
        return self._add(self._result(proposal, 0, started))

    def _add(self, result: Result) -> Result:
        self._steps.append(result)
        self._undone.clear()
        return result

    def preview(self, x: float, y: float, positive: bool = True) -> Result:
        """Answer the prompts with one more click, without changing the session; see `prompt` for the errors.

        The result is the first candidate that `add_point` would give, without some details, for speed. It may be the
        only one.
        """
        return self._answer(self.prompts.with_point(Point(*self._inverse.apply(x, y), positive)), is_preview=True)

    def select_candidate(self, rank: int) -> Result:
        """Show another of the decoder's masks.

        Raises
        ------
        PromptError
            If there is no such candidate.
        """
        count = self._steps[-1].candidates if self._steps else 0
        if not 0 <= rank < count:
            raise PromptError(
                "There is no candidate {number}",
                "choose one from 1 to {count}" if count else "give a prompt first",
                number=rank + 1,
                count=count,
            )
        started, shown = time.perf_counter(), self._steps[-1]
        if not shown.is_shaped:
            self._steps[-1] = self._result(shown.proposal, rank, started, shown.gesture)
        return self._steps[-1]

    def next_candidate(self, step: int = 1) -> Result:
        """Show the next of the decoder's masks, and the first after the last; -1 goes back. See `select_candidate`."""
        current = self.current
        return self.select_candidate((current.rank + step) % current.candidates if current else 0)

    def undo(self) -> Result | None:
        """Take the last prompt back, and return the result before it."""
        if self._steps:
            self._undone.append(self._steps.pop())
        return self._cleaned_anew()

    def redo(self) -> Result | None:
        """Restore the prompt that was undone last, and return its result."""
        if self._undone:
            self._steps.append(self._undone.pop())
        return self._cleaned_anew()

    def _cleaned_anew(self) -> Result | None:
        """Clean the current polygon again if the options were others when it was answered, and return it."""
        current = self.current
        if current is None or current.is_shaped or current.options == self.options:
            return current
        return self.select_candidate(current.rank)

    def follow(self, other: SegmentationSession) -> Result | None:
        """Answer the prompts of another session step by step, with the candidates chosen there.

        Answers to the same steps are kept, so that only new steps are decoded.

        Returns
        -------
        Result or None
            None if the other session has no prompts.

        Raises
        ------
        GeoSamError
            If a step cannot be answered; see `prompt`. The steps before it are kept.
        """
        same = 0
        for own, step in zip(self._steps, other._steps):
            if (own.proposal.prompts, own.rank) != (step.proposal.prompts, step.rank):
                break
            same += 1
        del self._steps[same:]
        self._undone.clear()
        if not self._steps:
            self.level = other.level
        for step in other._steps[same:]:
            if step.is_shaped:
                self.reshape(step.geometry, step.gesture)
                continue
            result = self._add(self._answer(step.proposal.prompts, gesture=step.gesture))
            if step.rank:
                self.select_candidate(min(step.rank, result.candidates - 1))
        return self.current

    def _answer(self, prompts: Prompts, is_preview: bool = False, gesture: str = "") -> Result:
        started = time.perf_counter()
        current = self.current
        # Later prompts of an object stay at the level that answered.
        level = current.level if current else self.level
        # An outline made by hand is refined in place of the decoder's answer before it.
        is_outlined = current is None or current.is_shaped or prompts.outline is not self.prompts.outline
        previous = current.candidate if current and not is_outlined else None
        proposal = self.segmenter.propose(prompts, level, previous, is_preview)
        return self._result(proposal, 0, started, gesture)

    def _result(self, proposal: Proposal, rank: int, started: float, gesture: str = "") -> Result:
        candidate = self.segmenter.resolve(proposal, rank, self.options.all_parts)
        cleaned = clean(
            candidate.polygons,
            simplify_tolerance=self.options.simplify_tolerance * 2**candidate.level,
            min_area=self.options.min_area,
            fill_holes_area=self.options.fill_holes_area,
        )
        return Result(
            proposal=proposal,
            rank=rank,
            candidate=candidate,
            geometry=self._with_rest(self._transform.apply_geometry(cleaned)),
            model=self._model,
            milliseconds=(time.perf_counter() - started) * 1000.0,
            gesture=gesture,
            options=self.options,
        )

    def _with_rest(self, outline: Outline) -> Outline:
        """Add what the last outline made by hand has beyond the image, which no prompt changes."""
        shaped = next((step.geometry for step in reversed(self._steps) if step.is_shaped), None)
        extent = self._transform.apply_geometry(self.segmenter.reach)
        if shaped is None or extent.covers(shaped):
            return outline
        rest = polygonal(shapely.difference(shaped, extent))
        # The outline may end up to a pixel before the border of the image.
        between = gaps(outline, rest, self._transform.pixel_size)
        return merge(polygon_parts(shapely.union_all([outline, rest, between])))


def _nothing_left() -> PromptError:
    return PromptError("Nothing is left of the polygon", "undo the last step, or discard the polygon")


def _addition(before: Prompts, step: Result | None) -> Point | Bounds | str | None:
    """Return what was added last."""
    if step is None:
        return None
    after = step.proposal.prompts
    return step.gesture or (after.box if after.box != before.box else next(iter(after.points[::-1]), None))
