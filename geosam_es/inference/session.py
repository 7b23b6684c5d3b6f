"""The state of one object being drawn: prompts, undo and redo, candidates, the current proposal. No Qt here.

The map tool, the Processing algorithms, the CLI and the tests all drive this class. It takes map coordinates in the
raster's CRS, and gives polygons in it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import shapely

from ..core.geotransform import GeoTransform
from ..core.prompts import Bounds, Point, Prompts
from ..core.topology import clean
from ..errors import PromptError
from ..store.decoders import StoreDecoder, check_decoder
from ..store.reader import StoreReader
from .decoder import load_decoder
from .masks import Candidate, Proposal
from .segmenter import Segmenter

__all__ = ["CleanOptions", "Result", "SegmentationSession", "open_segmenter", "with_decoder"]


@dataclass(frozen=True)
class CleanOptions:
    """How a traced mask is made fit for a map.

    Attributes
    ----------
    simplify_tolerance : float
        Largest distance by which an outline may move, in pixels of the level that answered.
    min_area, fill_holes_area : float
        In square native pixels: smaller parts are left out, smaller holes filled.
    """

    simplify_tolerance: float = 1.0
    min_area: float = 0.0
    fill_holes_area: float = 0.0


@dataclass(frozen=True)
class Result:
    """What is shown to the user.

    Attributes
    ----------
    geometry : Polygon or MultiPolygon
        In the raster's CRS; empty where the model sees nothing.
    score : float
        Predicted IoU, 0 to 1.
    level : int
        Of the tile that answered.
    rank, candidates : int
        Which of how many candidates this is, counted from 0.
    model : str
    milliseconds : float
        From the prompt to this geometry.
    candidate : Candidate
    """

    geometry: shapely.Polygon | shapely.MultiPolygon
    score: float
    level: int
    rank: int
    candidates: int
    model: str
    milliseconds: float
    candidate: Candidate


@dataclass(frozen=True)
class _Step:
    """The prompts up to here, the answer to them, and the candidate that was chosen."""

    proposal: Proposal
    result: Result


def open_segmenter(store: Path, threads: int | None = None) -> Segmenter:
    """Open a store with its own decoder.

    Raises
    ------
    StoreError
        If the directory is not a whole store.
    ModelError
        If its decoder cannot be loaded.
    """
    reader = StoreReader(store)
    return Segmenter(reader, load_decoder(reader.prepare_path, reader.decoder_path, threads))


def with_decoder(segmenter: Segmenter, decoder: StoreDecoder, threads: int | None = None) -> Segmenter:
    """Return what answers from the same store with another of its decoders.

    Raises
    ------
    ModelError
        If the decoder is not whole, or cannot be loaded.
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
        The finest level to answer the first prompt from; the GUI sets it from the map's scale. Later prompts of the
        object stay at the level that answered.
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
        self._steps: list[_Step] = []
        self._undone: list[_Step] = []

    @property
    def prompts(self) -> Prompts:
        """All prompts so far, in the raster's native pixels."""
        return self._steps[-1].proposal.prompts if self._steps else Prompts()

    @property
    def current(self) -> Result | None:
        """What is shown now; None before the first prompt."""
        return self._steps[-1].result if self._steps else None

    @property
    def can_undo(self) -> bool:
        """Whether there is a prompt to take back."""
        return bool(self._steps)

    @property
    def can_redo(self) -> bool:
        """Whether there is a prompt to bring back."""
        return bool(self._undone)

    def add_point(self, x: float, y: float, positive: bool = True) -> Result:
        """Add a click at map coordinates; see `prompt` for the errors."""
        return self.prompt(self.prompts.with_point(Point(*self._inverse.apply(x, y), positive)))

    def set_box(self, bounds: Bounds) -> Result:
        """Set the box, in map coordinates; see `prompt` for the errors.

        On a raster with rotated pixels, the box becomes the smallest one of its pixels around it.
        """
        box = Prompts(box=bounds).transformed(self._inverse.apply).box
        return self.prompt(replace(self.prompts, box=box))

    def prompt_at_once(self, points: Sequence[Point], box: Bounds | None = None) -> Result:
        """Set all prompts of the object together, in map coordinates; see `prompt` for the errors."""
        return self.prompt(Prompts(tuple(points), box).transformed(self._inverse.apply))

    def prompt(self, prompts: Prompts) -> Result:
        """Answer these prompts in place of the current ones; the step can be undone.

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
            stays as it was.
        """
        return self._add(self._answer(prompts))

    def show(self, proposal: Proposal, decoding_ms: float) -> Result:
        """Take an answer to prompts that was decoded elsewhere, as `prompt` takes its own.

        Parameters
        ----------
        proposal : Proposal
            From the session's segmenter.
        decoding_ms : float
            What it took, in milliseconds.

        Returns
        -------
        Result
        """
        started = time.perf_counter() - decoding_ms / 1000.0
        return self._add(_Step(proposal, self._result(proposal, 0, started)))

    def _add(self, step: _Step) -> Result:
        self._steps.append(step)
        self._undone.clear()
        return step.result

    def preview(self, x: float, y: float, positive: bool = True) -> Result:
        """Answer the prompts with one more click, and leave the session as it is; see `prompt` for the errors.

        The polygon is that of the candidate to show first, as `add_point` would give it but for details that are
        missed for the sake of speed; there may be no other candidates.
        """
        return self._answer(
            self.prompts.with_point(Point(*self._inverse.apply(x, y), positive)), is_preview=True
        ).result

    def select_candidate(self, rank: int) -> Result:
        """Show another of the decoder's masks.

        Raises
        ------
        PromptError
            If there is no such candidate.
        """
        count = len(self._steps[-1].proposal.ranking) if self._steps else 0
        if not 0 <= rank < count:
            raise PromptError(
                "There is no candidate {number}",
                "choose one from 1 to {count}" if count else "give a prompt first",
                number=rank + 1,
                count=count,
            )
        started = time.perf_counter()
        proposal = self._steps[-1].proposal
        self._steps[-1] = _Step(proposal, self._result(proposal, rank, started))
        return self._steps[-1].result

    def next_candidate(self) -> Result:
        """Show the next of the decoder's masks, after the last one the first; see `select_candidate`."""
        current = self.current
        return self.select_candidate((current.rank + 1) % current.candidates if current else 0)

    def undo(self) -> Result | None:
        """Take the last prompt back, and return what is shown then."""
        if self._steps:
            self._undone.append(self._steps.pop())
        return self.current

    def redo(self) -> Result | None:
        """Bring back the prompt taken back last, and return what is shown then."""
        if self._undone:
            self._steps.append(self._undone.pop())
        return self.current

    def clear(self) -> None:
        """Forget the object."""
        self._steps.clear()
        self._undone.clear()

    def follow(self, other: SegmentationSession) -> Result | None:
        """Answer the prompts of another session step by step, with the candidates chosen there.

        What was answered before of the same steps is kept, so that following again costs no more than what is new.

        Returns
        -------
        Result or None
            None where the other has no prompts.

        Raises
        ------
        GeoSamError
            If a step cannot be answered here; see `prompt`. The steps before it are kept.
        """
        same = 0
        for own, step in zip(self._steps, other._steps):
            if (own.proposal.prompts, own.result.rank) != (step.proposal.prompts, step.result.rank):
                break
            same += 1
        del self._steps[same:]
        self._undone.clear()
        if not self._steps:
            self.level = other.level
        for step in other._steps[same:]:
            result = self.prompt(step.proposal.prompts)
            if step.result.rank:
                self.select_candidate(min(step.result.rank, result.candidates - 1))
        return self.current

    def _answer(self, prompts: Prompts, is_preview: bool = False) -> _Step:
        started = time.perf_counter()
        previous = self.current.candidate if self.current else None
        # An object that had to be looked at from farther away is refined from there.
        level = previous.level if previous else self.level
        proposal = self.segmenter.propose(prompts, level, previous, is_preview)
        return _Step(proposal, self._result(proposal, 0, started))

    def _result(self, proposal: Proposal, rank: int, started: float) -> Result:
        candidate = self.segmenter.resolve(proposal, rank)
        cleaned = clean(
            candidate.polygons,
            simplify_tolerance=self.options.simplify_tolerance * 2**candidate.level,
            min_area=self.options.min_area,
            fill_holes_area=self.options.fill_holes_area,
        )
        return Result(
            geometry=self._transform.apply_geometry(cleaned),
            score=min(max(candidate.score, 0.0), 1.0),
            level=candidate.level,
            rank=rank,
            candidates=len(proposal.ranking),
            model=self._model,
            milliseconds=(time.perf_counter() - started) * 1000.0,
            candidate=candidate,
        )
