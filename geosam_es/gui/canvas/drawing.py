"""The object being drawn, as the GUI thread knows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Union

import shapely
from qgis.core import QgsCoordinateReferenceSystem
from shapely.geometry.base import BaseGeometry

from ...core.coverage import Changes
from ...core.prompts import Bounds, Point, Prompts
from ...errors import GeoSamError
from ...inference.session import Result, SegmentationSession

__all__ = ["Addition", "Drawing", "Fitted", "Fitting"]

Addition = Union[Point, Bounds, Prompts, str, None]
"""A point, a box, an outline in place of all prompts, a gesture by its name, or None for any other change."""


@dataclass(frozen=True, eq=False)
class Fitted:
    """A polygon as it will be written to a layer.

    Attributes
    ----------
    outline : Polygon or MultiPolygon or None
        None if it will not be written.
    crs : QgsCoordinateReferenceSystem
        Its CRS, which is that of the layer.
    fitting : Fitting
        What it was fitted with.
    refusal : GeoSamError, optional
        Why it will not be written.
    changes : Changes, optional
        All that will be written with it to the layer, whose polygons form a coverage.
    neighbours : sequence of Polygon or MultiPolygon
        Other polygons that these change visibly.
    """

    outline: shapely.Polygon | shapely.MultiPolygon | None
    crs: QgsCoordinateReferenceSystem
    fitting: Fitting
    refusal: GeoSamError | None = None
    changes: Changes | None = None
    neighbours: Sequence[BaseGeometry] = ()


Fitting = Callable[[BaseGeometry, bool], Fitted]
"""Fits a polygon in the raster's CRS to a layer, and tells whether it keeps its outline; called in the worker's thread.
"""


@dataclass(frozen=True)
class Drawing:
    """The object being drawn, as the user sees it.

    Attributes
    ----------
    prompts : Prompts
        In map coordinates of the raster's CRS, including those that are still being answered.
    result : Result, optional
        The latest answer.
    can_undo, can_redo : bool
    busy : bool
        Whether prompts are being answered.
    fitted : Fitted, optional
        The polygon as it will be written, if that is not the polygon of the result.
    last, undone : Point, Bounds or str, optional
        The prompt to take back next, and the one to restore next; a gesture by its name.
    """

    prompts: Prompts = field(default_factory=Prompts)
    result: Result | None = None
    can_undo: bool = False
    can_redo: bool = False
    busy: bool = False
    fitted: Fitted | None = None
    last: Point | Bounds | str | None = None
    undone: Point | Bounds | str | None = None

    @classmethod
    def of(cls, session: SegmentationSession) -> Drawing:
        """Copy what the GUI thread needs of a session; called in the worker's thread."""
        to_map = session.segmenter.reader.metadata.raster.transform.apply
        return cls(
            session.prompts.transformed(to_map),
            session.current,
            session.can_undo,
            session.can_redo,
            last=session.last_prompt,
            undone=session.undone_prompt,
        )

    def fitted_by(self, fitting: Fitting) -> Drawing:
        """Return the drawing with its polygon fitted to a layer; called in the worker's thread."""
        if self.result is None or not self.has_polygon:
            return self
        # A polygon of the layer that nobody has changed yet keeps its outline.
        return replace(self, fitted=fitting(self.result.geometry, self.result.gesture == "polygon"))

    @property
    def has_polygon(self) -> bool:
        """Whether there is something to accept."""
        return self.result is not None and not self.result.geometry.is_empty

    def awaiting(self, changes: Iterable[Addition]) -> Drawing:
        """Return the drawing with changes that are still being answered."""
        prompts, busy, last = self.prompts, False, self.last
        for change in changes:
            busy = True
            last = last if change is None or isinstance(change, Prompts) else change
            if isinstance(change, Point):
                prompts = prompts.with_point(change)
            elif isinstance(change, Bounds):
                prompts = prompts.with_box(change)
            elif isinstance(change, Prompts):
                prompts, last = change, "polygon"
        return replace(self, prompts=prompts, busy=busy, can_undo=self.can_undo or busy, last=last)
