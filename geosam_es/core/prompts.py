"""Prompts: the points, the box and the outline that tell SAM which object is meant; points and box also as JSON.

Coordinates are XY in map units, native pixels of the raster or pixels of a tile, as each function says. Labels are
SAM's: 1 positive, 0 negative, 2 and 3 the corners of the box, -1 padding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from ..errors import PromptError

__all__ = ["Bounds", "Point", "Prompts"]

BOX_LABELS = (2, 3)
PADDING_LABEL = -1

_METRE_DIGITS = 3
_MORE_DIGITS_OF_DEGREES = 5
_MAX_DEGREES = 360

_ROUNDING = 1e-6
"""A box is turned if its area is smaller than that of its bounding box by more than this share."""


class Bounds(NamedTuple):
    """A rectangle parallel to the axes."""

    min_x: float
    min_y: float
    max_x: float
    max_y: float

    @classmethod
    def around(cls, points: Iterable[tuple[float, float]]) -> Bounds:
        """Return the bounding box of points (x, y)."""
        xs, ys = zip(*points)
        return cls(min(xs), min(ys), max(xs), max(ys))

    @property
    def corners(self) -> list[tuple[float, float]]:
        """The four corners (x, y), one after another around it."""
        return [(self.min_x, self.min_y), (self.max_x, self.min_y), (self.max_x, self.max_y), (self.min_x, self.max_y)]

    @property
    def width(self) -> float:
        """Extent along x."""
        return self.max_x - self.min_x

    @property
    def height(self) -> float:
        """Extent along y."""
        return self.max_y - self.min_y

    def contains(self, other: Bounds) -> bool:
        """Tell whether the other rectangle lies inside; borders may touch."""
        return (
            self.min_x <= other.min_x
            and self.min_y <= other.min_y
            and self.max_x >= other.max_x
            and self.max_y >= other.max_y
        )

    def intersection(self, other: Bounds) -> Bounds | None:
        """Return the common part, or None if it has no area."""
        common = Bounds(
            max(self.min_x, other.min_x),
            max(self.min_y, other.min_y),
            min(self.max_x, other.max_x),
            min(self.max_y, other.max_y),
        )
        return common if common.width > 0 and common.height > 0 else None


class Point(NamedTuple):
    """A click, positive by default."""

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
    outline : Polygon or MultiPolygon, optional
        A first outline of the object, which the other prompts correct. It becomes the decoder's `mask_input`.
    turned_box : tuple of four (x, y), optional
        The corners, one after another, of a box whose sides are not parallel to the axes here, as on the map of a
        rotated raster. ``box`` is then the bounding box of these corners.

    Examples
    --------
    >>> prompts = Prompts((Point(10.0, 20.0),))
    >>> coords, labels = prompts.to_arrays()
    >>> coords.tolist(), labels.tolist()
    ([[[10.0, 20.0], [0.0, 0.0]]], [[1.0, -1.0]])
    """

    points: tuple[Point, ...] = ()
    box: Bounds | None = None
    outline: shapely.Polygon | shapely.MultiPolygon | None = None
    turned_box: tuple[tuple[float, float], ...] | None = None

    def __len__(self) -> int:
        return len(self.points) + (self.box is not None) + (self.outline is not None)

    def _coordinates(self) -> Iterator[float]:
        for point in self.points:
            yield from point[:2]
        yield from self.box or ()

    @property
    def positive_bounds(self) -> Bounds:
        """Bounding box of the positive points, the box and the outline.

        Raises
        ------
        PromptError
            If there is none of them.
        """
        xs = [point.x for point in self.points if point.positive]
        ys = [point.y for point in self.points if point.positive]
        for bounds in (self.box, None if self.outline is None else self.outline.bounds):
            if bounds is not None:
                xs += bounds[::2]
                ys += bounds[1::2]
        if not xs:
            raise PromptError("The object has no positive point and no box", "add one of them")
        return Bounds(min(xs), min(ys), max(xs), max(ys))

    @property
    def box_corners(self) -> list[tuple[float, float]]:
        """The four corners (x, y) of the box, one after another; empty if there is none."""
        if self.turned_box is not None:
            return list(self.turned_box)
        return [] if self.box is None else self.box.corners

    @property
    def is_ambiguous(self) -> bool:
        """Whether there is only a single click, which does not tell a part from the whole."""
        return self.box is None and self.outline is None and len(self.points) == 1

    def with_point(self, point: Point) -> Prompts:
        """Return the prompts with one more point."""
        return replace(self, points=(*self.points, point))

    def with_box(self, box: Bounds) -> Prompts:
        """Return the prompts with this box instead of an earlier one."""
        return replace(self, box=box, turned_box=None)

    def within(self, bounds: Bounds) -> Prompts:
        """Return the points inside, the part of the box inside, and the whole outline."""
        points = tuple(p for p in self.points if bounds.contains(Bounds(p.x, p.y, p.x, p.y)))
        return replace(self, points=points, box=self.box.intersection(bounds) if self.box else None, turned_box=None)

    def thinned(self, most: int) -> Prompts:
        """Return at most this many points, spread as widely as the points are, and the box.

        Positive and negative points get half of the places each, or what the other kind leaves free. The first point
        of a kind stays, then always the point farthest from those that stay.
        """
        if len(self.points) <= most:
            return self
        positive = np.array([point.positive for point in self.points])
        count, half = int(positive.sum()), most // 2
        places = max(half, most - (len(self.points) - count))
        kept: list[int] = []
        for is_kind, size in ((positive, min(count, places)), (~positive, most - min(count, places))):
            indices = np.flatnonzero(is_kind)
            kept += indices[_spread(np.array([self.points[index][:2] for index in indices]), size)].tolist()
        return replace(self, points=tuple(self.points[index] for index in sorted(kept)))

    def transformed(self, function: Callable[[float, float], tuple[float, float]]) -> Prompts:
        """Return the prompts with ``function`` applied to every position.

        The box becomes the bounding box of its four transformed corners. These are kept too if they are not its own, so
        that the way back gives the same box.
        """
        points = tuple(Point(*function(p.x, p.y), p.positive) for p in self.points)
        outline = self.outline
        if outline is not None:
            outline = shapely.transform(outline, lambda xy: np.array([function(x, y) for x, y in xy.tolist()]))
        if self.box is None:
            return Prompts(points, outline=outline)
        corners = tuple(function(x, y) for x, y in self.box_corners)
        box = Bounds.around(corners)
        is_turned = shapely.Polygon(corners).area < (1 - _ROUNDING) * box.width * box.height
        return Prompts(points, box, outline, corners if is_turned else None)

    def to_arrays(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the decoder's inputs.

        As in SAM's ONNX export, the box comes last, or a padding point if there is no box.

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

    def to_json(self, digits: int = _METRE_DIGITS) -> dict[str, Any]:
        """Return the points and the box as the JSON object described in ``docs/provenance.md``.

        Parameters
        ----------
        digits : int
            Decimals of coordinates in metres. If all coordinates may be degrees, they get five more.

        Examples
        --------
        >>> Prompts((Point(725001.25, 4372002.0, False),), Bounds(725000, 4372000, 725010, 4372010)).to_json()
        {'points': [[725001.25, 4372002, 0]], 'box': [725000, 4372000, 725010, 4372010]}
        """
        if all(abs(value) <= _MAX_DEGREES for value in self._coordinates()):
            digits += _MORE_DIGITS_OF_DEGREES
        record: dict[str, Any] = {}
        if self.points:
            record["points"] = [[_rounded(p.x, digits), _rounded(p.y, digits), int(p.positive)] for p in self.points]
        if self.box is not None:
            values = self.box if self.turned_box is None else itertools.chain(*self.turned_box)
            record["box"] = [_rounded(value, digits) for value in values]
        return record

    @classmethod
    def from_json(cls, record: Any) -> Prompts:
        """Read what `to_json` returns. Other keys are ignored.

        Raises
        ------
        PromptError
            If it is not an object with points or a box, a label is neither 0 nor 1, a coordinate is not a finite
            number, or the box is inside out.
        """
        try:
            points = tuple(
                Point(_number(x), _number(y), _is_positive(label)) for x, y, label in _list(record, "points")
            )
            box, corners = _box(list(map(_number, _list(record, "box"))))
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise _unreadable() from error
        prompts = cls(points, box, turned_box=corners)
        if not len(prompts) or (box is not None and (box.width < 0 or box.height < 0)):
            raise _unreadable()
        return prompts


def _spread(xy: NDArray[np.float64], size: int) -> NDArray[np.intp]:
    """Return the indices of up to this many points (N, 2), by farthest-point sampling from the first one."""
    size = min(size, len(xy))
    chosen = np.zeros(size, dtype=np.intp)
    distance = np.full(len(xy), np.inf)
    for place in range(1, size):
        distance = np.minimum(distance, ((xy - xy[chosen[place - 1]]) ** 2).sum(axis=1))
        chosen[place] = distance.argmax()
    return chosen


def _rounded(value: float, digits: int) -> float:
    rounded = round(float(value), digits)
    return int(rounded) if rounded == int(rounded) else rounded


def _list(record: Any, key: str) -> list[Any]:
    value = record.get(key)
    if value is not None and not isinstance(value, list):
        raise TypeError(key)
    return value or []


def _box(values: list[float]) -> tuple[Bounds | None, tuple[tuple[float, float], ...] | None]:
    """Return the box and, if it is turned, its corners; from four numbers, or from eight if it is turned."""
    if not values:
        return None, None
    if len(values) != 8:
        return Bounds(*values), None
    corners = tuple(zip(values[::2], values[1::2]))
    return Bounds.around(corners), corners


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(value)
    return float(value)


def _is_positive(label: Any) -> bool:
    if label not in (0, 1):
        raise ValueError(label)
    return bool(label)


def _unreadable() -> PromptError:
    return PromptError("The prompts kept with this polygon cannot be read", "start again with a click")
