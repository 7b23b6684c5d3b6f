"""The net of a coverage: the faces between the outlines around a change are given to the polygons.

Both sides of a border then have the same vertices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from ..errors import EditError
from .faces import OUTSIDE, Faces, Plane, complex_vertices
from .partition import is_wide, polygonal, valid
from .topology import Outline

__all__ = ["MARGIN_M", "MAX_GAP_M2", "Changes", "Classes", "Net", "Polygons", "Rules"]

MAX_GAP_M2 = 10_000.0
"""Size above which an enclosed gap is no fault, if nothing else is chosen."""

MARGIN_M = 1.0
"""Lines this far around a change get common nodes."""


@dataclass(frozen=True)
class Rules:
    """What a coverage must be like.

    Attributes
    ----------
    tolerance_m : float
        Gaps, overlaps and parts up to this width are closed.
    min_area_m2 : float
        Minimum mapping unit.
    min_area_by_class : mapping
        Minimum mapping unit of some classes.
    refuses_small : bool
        Whether a change that leaves a smaller part is refused; otherwise the part goes to the neighbour with the
        longest shared border. A new polygon that is too small as a whole is always refused.
    metres_per_unit : tuple of float
        Metres on the ground in one unit of the plane, along x and along y.
    max_gap_m2 : float
        Enclosed gaps that are larger, and wider than the tolerance, are no fault, such as a lake that is no part of
        the map.
    scale_at : callable, optional
        Returns ``metres_per_unit`` at a place (x, y), for areas in a layer so large that they differ; by default they
        are the same everywhere.
    """

    tolerance_m: float = 0.0
    min_area_m2: float = 0.0
    min_area_by_class: Mapping[Hashable, float] = field(default_factory=dict)
    refuses_small: bool = False
    metres_per_unit: tuple[float, float] = (1.0, 1.0)
    max_gap_m2: float = MAX_GAP_M2
    scale_at: Callable[[float, float], tuple[float, float]] | None = None

    def min_area(self, class_name: Hashable) -> float:
        """Return the minimum mapping unit of a class, in square metres."""
        return self.min_area_by_class.get(class_name, self.min_area_m2)

    @property
    def reach_m(self) -> float:
        """Polygons up to this distance from a change must be given."""
        areas = (self.min_area_m2, *self.min_area_by_class.values())
        return 2 * max(2 * self.tolerance_m, MARGIN_M) + 2 * math.sqrt(max(areas))


@dataclass(frozen=True)
class Changes:
    """Geometries that change together.

    Attributes
    ----------
    changed : dict of int to Polygon or MultiPolygon
        New geometry of polygons that stay; also of those that only get a vertex.
    new : list of Polygon or MultiPolygon
        For `place` the new polygon, for `cut` the parts beside the largest.
    removed : list of int
        Polygons of which nothing is left.
    source : int, optional
        The polygon whose attributes the new ones begin with.
    """

    changed: Mapping[int, Outline]
    new: Sequence[Outline] = ()
    removed: Sequence[int] = ()
    source: int | None = None


Polygons = Mapping[int, BaseGeometry]
Classes = Mapping[int, Hashable]


class Net:
    """The polygons around a change in metres, and the way back to their exact coordinates."""

    def __init__(self, polygons: Polygons, rules: Rules, classes: Classes | None, *around: BaseGeometry) -> None:
        self._rules = rules
        low, high = shapely.total_bounds(np.array(around, object)).reshape(2, 2)
        reach = rules.reach_m / np.array(rules.metres_per_unit)
        bounds = shapely.bounds(np.array(list(polygons.values()), object)).reshape(-1, 2, 2)
        is_near = ((bounds[:, 0] <= high + reach) & (bounds[:, 1] >= low - reach)).all(axis=1)
        self._given = {key: polygons[key] for key, near in zip(polygons, np.atleast_1d(is_near)) if near}
        self._plane = Plane(np.array([*self._given.values(), *around], object), rules.metres_per_unit)
        self.flat = self._plane.flat
        self.outlines = {key: polygonal(self.flat(valid(polygon))) for key, polygon in self._given.items()}
        self.classes = dict(classes or {})
        self._next = max(polygons, default=0)
        # Keys of the new polygons that are left.
        self.kept: list[int] = []

    def add(self, outline: Outline, class_name: Hashable) -> int:
        """Add an outline in metres, and return its key."""
        self._next += 1
        self.outlines[self._next] = outline
        self.classes[self._next] = class_name
        return self._next

    def near(self, change: BaseGeometry) -> dict[int, Outline]:
        """Return the given polygons around a change."""
        box = shapely.box(*change.bounds).buffer(4 * self._rules.tolerance_m + MARGIN_M)
        return {
            key: outline for key, outline in self.outlines.items() if key in self._given and box.intersects(outline)
        }

    def resolved(
        self,
        owners: Callable[[frozenset[int]], frozenset[int] | None],
        change: BaseGeometry,
        news: Sequence[int],
        lines: Iterable[BaseGeometry] = (),
        grown: Sequence[int] = (),
        barred: Sequence[int | None] = (),
    ) -> Changes:
        """Give the faces to polygons; lines around the change get common nodes.

        ``owners`` tells from the polygons around a face which ones get it: usually one, none for free ground, and None
        for the one with the longest border, but for the new and the ``barred`` polygons (None for free ground). Without
        another neighbour, the last of these gets it. Narrow gaps beside the new and the ``grown`` polygons are filled.
        """
        keys = list(self.outlines)
        if change.is_empty:
            return Changes({})
        window = shapely.box(*change.bounds).buffer(2 * self._rules.tolerance_m + MARGIN_M).bounds
        faces = Faces([self.outlines[key] for key in keys], list(lines), window)
        labels = [frozenset(keys[place] for place in places) for places in faces.labels]
        owner = [None if is_thin else owners(label) for is_thin, label in zip(faces.is_thin, labels)]
        ground = _Ground(faces, owner)
        ground.settle({*news, *barred}, frozenset(key for key in barred[-1:] if key is not None))
        for face in ground.narrow_gaps({*news, *grown}, self._rules.tolerance_m):
            ground.owner[face] = None
        ground.settle()
        before = {key: {face for face, label in enumerate(labels) if key in label} for key in self._given}
        self._without_small_parts(ground, before, news)
        return self._changes(ground, before, news)

    def _without_small_parts(self, ground: _Ground, before: Mapping[int, set[int]], news: Sequence[int]) -> None:
        """Give parts that are too small or too narrow to the neighbour with the longest border."""
        rules, faces = self._rules, ground.faces
        stuck: set[frozenset[int]] = set()
        while True:
            small: list[tuple[float, int, frozenset[int]]] = []
            for key, mine in ground.by_owner().items():
                was = before.get(key, set())
                if mine == was:
                    continue
                parts = sorted(faces.components(mine), key=ground.area)
                if key in news and ground.area(parts[-1]) < rules.min_area(self.classes.get(key)):
                    raise self._too_small(ground.area(parts.pop()), key)
                solid = [{face for face in part if not faces.is_thin[face]} for part in faces.components(was)]
                for part in parts[:-1] if key in news else parts:
                    area = ground.area(part)
                    is_old = any(old and old <= part for old in solid)
                    is_small = area < rules.min_area(self.classes.get(key))
                    if is_old or part in stuck:
                        continue
                    is_sliver = not is_wide(faces.joined(part), rules.tolerance_m)
                    if not (is_small or is_sliver):
                        continue
                    if is_small and rules.refuses_small and not is_sliver:
                        raise self._too_small(area, key)
                    small.append((area, key, part))
            if not small:
                return
            _, key, part = min(small, key=lambda item: item[:2])
            to = ground.longest(part, {key})
            if to is None and key not in news:
                stuck.add(part)
            for face in part if to is not None or key in news else ():
                ground.owner[face] = frozenset() if to is None else frozenset({to})

    def _too_small(self, area: float, key: int) -> EditError:
        limit = self._rules.min_area(self.classes.get(key))
        return EditError(
            "A part would cover {area} m², less than the minimum of {limit} m²",
            "lower the minimum area, or draw it larger",
            area=_number(area),
            limit=_number(limit),
        )

    def _changes(self, ground: _Ground, before: Mapping[int, set[int]], news: Sequence[int]) -> Changes:
        mine = ground.by_owner()
        changed, removed = {}, []
        for key, given in self._given.items():
            if not mine.get(key):
                removed.append(key)
                continue
            outline = self._plane.exact(ground.faces.joined(mine[key]))
            is_same = np.array_equal(np.unique(complex_vertices(outline)), np.unique(complex_vertices(given)))
            if not (is_same and given.is_valid and math.isclose(outline.area, given.area, rel_tol=1e-9)):
                changed[key] = outline
        self.kept = [key for key in news if mine.get(key)]
        new = [self._plane.exact(ground.faces.joined(mine[key])) for key in self.kept]
        return Changes(changed, new, removed)


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


class _Ground:
    """Which polygons have which faces; None for a face that waits for one."""

    def __init__(self, faces: Faces, owner: list[frozenset[int] | None]) -> None:
        self.faces = faces
        self.owner = owner
        self._areas = shapely.area(faces.polygons)

    def area(self, part: Iterable[int]) -> float:
        """Return the area of faces, in square metres."""
        return float(self._areas[list(part)].sum())

    def by_owner(self) -> dict[int, set[int]]:
        """Return the faces of each polygon."""
        result: dict[int, set[int]] = {}
        for face, owner in enumerate(self.owner):
            for key in owner or ():
                result.setdefault(key, set()).add(face)
        return result

    def settle(self, barred: Collection[int | None] = (), rest: frozenset[int] = frozenset()) -> None:
        """Give the faces that wait to the neighbour with the longest border, or else to ``rest``.

        Those that are not due to rounding go to none of the ``barred``; None stands for free ground.
        """
        while waiting := [face for face, owner in enumerate(self.owner) if owner is None]:
            found: dict[int, frozenset[int]] = {}
            for face in waiting:
                refused = frozenset() if self.faces.is_thin[face] else frozenset(barred)
                votes: dict[frozenset[int], float] = {}
                for other, length in self.faces.borders[face].items():
                    owner = frozenset[int]() if other == OUTSIDE else self.owner[other]
                    if owner is not None and not (owner or {None}) & refused:
                        votes[owner] = votes.get(owner, 0.0) + length
                if votes:
                    found[face] = max(votes, key=lambda owner: votes[owner])
            for face in found or waiting:
                self.owner[face] = found.get(face, rest)

    def longest(self, part: frozenset[int], barred: set[int]) -> int | None:
        """Return the polygon with the longest border with a part."""
        votes: dict[int, float] = {}
        for face in part:
            for other, length in self.faces.borders[face].items():
                for key in (self.owner[other] or ()) if other != OUTSIDE and other not in part else ():
                    if key not in barred:
                        votes[key] = votes.get(key, 0.0) + length
        return max(votes, key=lambda key: votes[key], default=None)

    def narrow_gaps(self, beside: set[int], tolerance: float) -> list[int]:
        """Return the free faces beside some polygons that are no wider than the tolerance."""
        free = [face for face, owner in enumerate(self.owner) if owner is not None and not owner]
        return [
            face
            for face in free
            if any(
                other != OUTSIDE and (self.owner[other] or frozenset()) & beside for other in self.faces.borders[face]
            )
            and not is_wide(self.faces.polygons[face], tolerance)
        ]
