"""The object being drawn, as the GUI thread knows it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace

from ...core.prompts import Bounds, Point, Prompts
from ...inference.segmenter import Segmenter
from ...inference.session import Result, SegmentationSession

__all__ = ["Drawing", "DrawnObject", "answered_by", "snapshot"]


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
class DrawnObject:
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


def snapshot(session: SegmentationSession) -> Drawing:
    """Read off a session what the GUI thread needs; called in the worker's thread."""
    to_map = session.segmenter.reader.metadata.raster.transform.apply
    return Drawing(session.prompts.transformed(to_map), session.current, session.can_undo, session.can_redo)


def answered_by(segmenter: Segmenter, session: SegmentationSession) -> SegmentationSession:
    """Return the same object, answered by another decoder; called in the worker's thread."""
    other = SegmentationSession(segmenter, session.level, session.options)
    other.follow(session)
    return other
