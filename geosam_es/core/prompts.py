"""Prompts: the points and the box that tell SAM which object is meant.

Coordinates are XY, in whatever frame the function at hand says: the map, the raster's native pixels, or the
pixels of one tile. Labels are SAM's: 1 positive, 0 negative, 2 and 3 the box's corners, -1 padding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import PromptError

__all__ = ["Bounds", "Point", "Prompts"]

BOX_LABELS = (2, 3)
PADDING_LABEL = -1


class Bounds(NamedTuple):
    """An axis-parallel rectangle."""

    min_x: float
    min_y: float
    max_x: float
    max_y: float

    @property
    def width(self) -> float:
        """Extent along x."""
        return self.max_x - self.min_x

    @property
    def height(self) -> float:
        """Extent along y."""
        return self.max_y - self.min_y

    def contains(self, other: Bounds) -> bool:
        """Tell whether the other rectangle lies inside, borders included."""
        return (
            self.min_x <= other.min_x
            and self.min_y <= other.min_y
            and self.max_x >= other.max_x
            and self.max_y >= other.max_y
        )

    def intersection(self, other: Bounds) -> Bounds | None:
        """Return the common part, or None where it has no area."""
        common = Bounds(
            max(self.min_x, other.min_x),
            max(self.min_y, other.min_y),
            min(self.max_x, other.max_x),
            min(self.max_y, other.max_y),
        )
        return common if common.width > 0 and common.height > 0 else None


class Point(NamedTuple):
    """A click; positive unless it says otherwise."""

    x: float
    y: float
    positive: bool = True


@dataclass(frozen=True)
class Prompts:
    """All the prompts of one object.

    Attributes
    ----------
    points : tuple of Point
        In the order in which they were given.
    box : Bounds, optional
        At most one.

    Examples
    --------
    >>> prompts = Prompts((Point(10.0, 20.0),))
    >>> coords, labels = prompts.to_arrays()
    >>> coords.tolist(), labels.tolist()
    ([[[10.0, 20.0], [0.0, 0.0]]], [[1.0, -1.0]])
    """

    points: tuple[Point, ...] = ()
    box: Bounds | None = None

    def __len__(self) -> int:
        return len(self.points) + (self.box is not None)

    @property
    def positive_bounds(self) -> Bounds:
        """The rectangle around the positive points and the box.

        Raises
        ------
        PromptError
            If there is neither.
        """
        xs = [point.x for point in self.points if point.positive]
        ys = [point.y for point in self.points if point.positive]
        if self.box is not None:
            xs += [self.box.min_x, self.box.max_x]
            ys += [self.box.min_y, self.box.max_y]
        if not xs:
            raise PromptError("The object has no positive point and no box", "add one of them")
        return Bounds(min(xs), min(ys), max(xs), max(ys))

    @property
    def is_ambiguous(self) -> bool:
        """Whether a single click is all there is, so that part and whole cannot be told apart."""
        return self.box is None and len(self.points) == 1

    def with_point(self, point: Point) -> Prompts:
        """Return the prompts with one more point."""
        return replace(self, points=(*self.points, point))

    def with_box(self, box: Bounds) -> Prompts:
        """Return the prompts with this box in place of any earlier one."""
        return replace(self, box=box)

    def within(self, bounds: Bounds) -> Prompts:
        """Return what lies inside: the points, and the common part of the box."""
        points = tuple(p for p in self.points if bounds.contains(Bounds(p.x, p.y, p.x, p.y)))
        return Prompts(points, self.box.intersection(bounds) if self.box else None)

    def transformed(self, function: Callable[[float, float], tuple[float, float]]) -> Prompts:
        """Return the prompts with ``function`` applied to every position.

        A box becomes the axis-parallel rectangle around its four transformed corners.
        """
        points = tuple(Point(*function(p.x, p.y), p.positive) for p in self.points)
        if self.box is None:
            return Prompts(points)
        box = self.box
        corners = [function(x, y) for x in (box.min_x, box.max_x) for y in (box.min_y, box.max_y)]
        xs, ys = zip(*corners)
        return Prompts(points, Bounds(min(xs), min(ys), max(xs), max(ys)))

    def to_arrays(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the decoder's inputs.

        As in SAM's own ONNX export, the box stands last, and without one a padding point does.

        Returns
        -------
        point_coords : float32 (1, N, 2)
            XY.
        point_labels : float32 (1, N)
        """
        coords = [(point.x, point.y) for point in self.points]
        labels = [int(point.positive) for point in self.points]
        if self.box is not None:
            coords += [(self.box.min_x, self.box.min_y), (self.box.max_x, self.box.max_y)]
            labels += BOX_LABELS
        else:
            coords.append((0.0, 0.0))
            labels.append(PADDING_LABEL)
        return np.array([coords], dtype=np.float32), np.array([labels], dtype=np.float32)
