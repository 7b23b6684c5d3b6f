"""Keeps a coverage while polygons are added, replaced, cut and merged: no overlaps, no slivers, shared vertices.

Each function takes a change and the polygons around it, and returns all geometries that change, to be written in one
undo step. The change is first fitted to the borders that exist. Then the faces between all outlines are given to the
polygons, so that both sides of a border have the same vertices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Union

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from ..errors import EditError
from .faces import GRID_M, OUTSIDE, Faces, Plane, complex_vertices, put_back
from .partition import gaps, grown, is_wide, polygonal, snap_to_neighbours, valid
from .topology import polygon_parts, split_by_line

__all__ = ["MAX_GAP_M2", "Changes", "Ground", "Rules", "cut", "give", "merge", "place", "reshape", "simplify"]

Outline = Union[shapely.Polygon, shapely.MultiPolygon]

MAX_GAP_M2 = 10_000.0
"""Size above which an enclosed gap is no fault, if nothing else is chosen."""

_MARGIN_M = 1.0
"""Lines this far around a change get common nodes."""

_HAIR_M = 1e-4


class Ground(Enum):
    """What happens to the ground that a new polygon shares with others."""

    FILL = "fill"
    """It takes what is free."""

    CARVE = "carve"
    """The others give way."""

    SPLIT = "split"
    """It is cut out of the polygon that covers most of it."""


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
    """

    tolerance_m: float = 0.0
    min_area_m2: float = 0.0
    min_area_by_class: Mapping[Hashable, float] = field(default_factory=dict)
    refuses_small: bool = False
    metres_per_unit: tuple[float, float] = (1.0, 1.0)
    max_gap_m2: float = MAX_GAP_M2

    def min_area(self, class_name: Hashable) -> float:
        """Return the minimum mapping unit of a class, in square metres."""
        return self.min_area_by_class.get(class_name, self.min_area_m2)

    @property
    def reach_m(self) -> float:
        """Polygons up to this distance from a change must be given."""
        areas = (self.min_area_m2, *self.min_area_by_class.values())
        return 2 * max(2 * self.tolerance_m, _MARGIN_M) + 2 * math.sqrt(max(areas))


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


def place(
    outline: BaseGeometry,
    polygons: Polygons,
    rules: Rules,
    ground: Ground = Ground.FILL,
    classes: Classes | None = None,
    class_name: Hashable = None,
) -> Changes:
    """Add a polygon.

    Parameters
    ----------
    outline : Polygon or MultiPolygon
    polygons : mapping of int to geometry
        Those around it, in the same plane; see `Rules.reach_m`. Others do no harm.
    rules : Rules
    ground : Ground
    classes : mapping of int to class, optional
        Classes of the polygons.
    class_name : class, optional
        That of the new polygon.

    Raises
    ------
    EditError
        If nothing is left of it, a part would be too small, or there is nothing to split.
    """
    net = _Net(polygons, rules, classes, outline)
    new: Outline = polygonal(net.flat(valid(outline)))
    source = None
    if ground is Ground.SPLIT:
        shared = {key: shapely.intersection(new, other).area for key, other in net.near(new).items()}
        source = max(shared, key=lambda key: shared[key], default=None)
        if source is None or shared[source] <= 0:
            raise EditError("There is no polygon to split", "choose fill or carve, or draw inside a polygon")
        new = _fitted(polygonal(shapely.intersection(new, net.outlines[source])), [net.outlines[source]], rules)
    else:
        others = list(net.near(new).values())
        free = new if ground is Ground.CARVE else polygonal(shapely.difference(new, shapely.union_all(others)))
        new = _fitted(free, others, rules)
    at = net.add(new, class_name)

    def owners(labels: frozenset[int]) -> frozenset[int] | None:
        others = labels - {at}
        takes = at in labels and (source in labels if source is not None else ground is Ground.CARVE or not others)
        return frozenset({at}) if takes else others

    changes = net.resolved(owners, new, [at])
    if not changes.new:
        raise EditError("Other polygons cover the whole polygon", "choose carve or split, or change the other polygons")
    if source in changes.removed:
        raise EditError("Nothing is left of the polygon that would be split", "change its class, or choose carve")
    return replace(changes, source=source)


def reshape(
    key: int,
    outline: BaseGeometry,
    polygons: Polygons,
    rules: Rules,
    *,
    moves_borders: bool = True,
    classes: Classes | None = None,
) -> Changes:
    """Give a polygon another outline.

    Parameters
    ----------
    key : int
        The polygon.
    outline : Polygon or MultiPolygon
        What it will be.
    polygons : mapping of int to geometry
        The polygon, and those around both outlines.
    rules : Rules
    moves_borders : bool
        Whether the borders that it shares with its neighbours move along: these give way, or take what it leaves.
        Otherwise it takes only what is free, and what it leaves becomes free.
    classes : mapping of int to class, optional

    Raises
    ------
    EditError
        If nothing is left of it, or a part would be too small.
    """
    old = polygons[key]
    others = {other: geometry for other, geometry in polygons.items() if other != key}
    net = _Net(others, rules, classes, outline, old)
    before: Outline = polygonal(net.flat(valid(old)))
    given: Outline = polygonal(net.flat(valid(outline)))
    # Ground in such a hole has no other neighbour that could take it.
    limit = rules.min_area((classes or {}).get(key))
    rings = [shapely.Polygon(ring) for part in polygon_parts(given) for ring in part.interiors]
    given = polygonal(shapely.union_all([given, *(r for r in rings if r.area < limit and before.covers(r))]))
    around = list(net.near(shapely.union(given, before)).values())
    free = given if moves_borders else polygonal(shapely.difference(given, shapely.union_all(around)))
    new = _fitted(free, around, rules)
    at = net.add(new, (classes or {}).get(key))
    was = net.add(before, None)

    def owners(labels: frozenset[int]) -> frozenset[int] | None:
        kept = labels - {at, was}
        if at in labels and (moves_borders or not kept):
            return frozenset({at})
        return None if was in labels and moves_borders and not kept else kept

    rays = list(_rays(before, new, net.near(before).values())) if moves_borders else []
    changes = net.resolved(owners, shapely.union(new, before), [at], rays)
    if not changes.new:
        raise EditError("Other polygons cover the whole polygon", "turn on Neighbours follow, or draw another outline")
    if shapely.equals_exact(shapely.normalize(changes.new[0]), shapely.normalize(old)):
        return replace(changes, new=[])
    return replace(changes, changed={**changes.changed, key: changes.new[0]}, new=[])


def cut(
    keys: Sequence[int], line: shapely.LineString, polygons: Polygons, rules: Rules, classes: Classes | None = None
) -> list[Changes]:
    """Cut polygons along a line; the largest part of each keeps its place, the others are new.

    A polygon that the line does not divide stays whole.

    Returns
    -------
    list of Changes
        One for each polygon with new parts, its ``source``. All geometries that change are in the first one.

    Raises
    ------
    EditError
        If the line divides none of them, or a part would be too small.
    """
    net = _Net(polygons, rules, classes, line, *(polygons[key] for key in keys))
    path = net.flat(line)
    sources = {
        net.add(piece, net.classes.get(key)): key
        for key in keys
        for part in polygon_parts(net.outlines[key])
        for piece in split_by_line(part, path)[1:]
    }

    def owners(labels: frozenset[int]) -> frozenset[int]:
        # Other polygons keep the ground that they share with a part.
        parts = {at for at in labels if sources.get(at) in labels}
        return labels.difference(sources.keys() - parts, (sources[at] for at in parts))

    changes = net.resolved(owners, path, list(sources))
    new: dict[int, list[Outline]] = {}
    for at, outline in zip(net.kept, changes.new):
        new.setdefault(sources[at], []).append(outline)
    if not new:
        raise EditError("The line does not cut the polygon in two", "begin and end it outside the polygon")
    first, *rest = (Changes({}, outlines, source=key) for key, outlines in new.items())
    return [replace(first, changed=changes.changed, removed=changes.removed), *rest]


def merge(key: int, other: int, polygons: Polygons, rules: Rules, classes: Classes | None = None) -> Changes:
    """Join a polygon to another one, with the gap between them; the first one stays.

    Raises
    ------
    EditError
        If they are further apart than the tolerance.
    """
    one, two = polygons[key], polygons[other]
    net = _Net(polygons, rules, classes, one, two)
    first, second = net.outlines[key], net.outlines[other]
    apart = first.distance(second)
    if apart > max(rules.tolerance_m, _HAIR_M):
        raise EditError(
            "The polygons are {distance} m apart", "merge polygons with a common border", distance=f"{apart:.2f}"
        )
    reach = max(rules.tolerance_m, _HAIR_M)
    box, other_box = (shapely.box(*part.bounds).buffer(reach) for part in (first, second))
    common = shapely.intersection(box, other_box)
    both = shapely.union(first, second)
    closed = grown(grown(both, rules.tolerance_m / 2), -rules.tolerance_m / 2)
    # Elsewhere there is no gap between them.
    between = [part for part in polygon_parts(shapely.difference(closed, both)) if common.covers(part)]
    at = net.add(shapely.MultiPolygon(between), None)

    def owners(labels: frozenset[int]) -> frozenset[int]:
        rest = labels - {key, other, at}
        return rest | {key} if labels & {key, other} or (not rest and at in labels) else rest

    return net.resolved(owners, common, [], grown=[key])


def give(
    region: BaseGeometry,
    polygons: Polygons,
    rules: Rules,
    instead_of: int | None = None,
    classes: Classes | None = None,
) -> Changes:
    """Give the ground of a region to one polygon each, and make the borders around it of common vertices.

    Free ground goes to the polygon with the longest border, and ground of several to the smallest of them.

    Parameters
    ----------
    region : geometry
        Around lines only the borders are mended.
    polygons : mapping of int to geometry
    rules : Rules
    instead_of : int, optional
        A polygon whose own ground in the region goes to the others beside it, in place of the ground of several; it
        keeps what has no other neighbour.
    classes : mapping of int to class, optional
    """
    net = _Net(polygons, rules, classes, region)
    area = net.flat(valid(region))
    at = net.add(polygonal(area), None)

    def owners(labels: frozenset[int]) -> frozenset[int] | None:
        others = labels - {at}
        if at not in labels or (instead_of is not None and others != taken):
            return others
        return None if others == taken else frozenset({min(others, key=lambda key: (net.outlines[key].area, key))})

    taken = frozenset() if instead_of is None else frozenset({instead_of})
    barred = [None] if instead_of is None else [None, instead_of]
    return net.resolved(owners, area, [], barred=barred)


def simplify(polygons: Polygons, tolerance_m: float, rules: Rules) -> dict[int, BaseGeometry]:
    """Simplify all outlines of a coverage, the same on both sides of a border.

    Parameters
    ----------
    polygons : mapping of int to Polygon or MultiPolygon
        Without overlaps, and with the same vertices on both sides of every border.
    tolerance_m : float
        Size of the details that are removed: the square root of their area.
    rules : Rules
        For its ``metres_per_unit``.

    Raises
    ------
    EditError
        If shapely is older than 2.1, or its GEOS older than 3.12.
    """
    if not hasattr(shapely, "coverage_simplify") or shapely.geos_version < (3, 12, 0):
        raise EditError("Simplifying a coverage needs shapely 2.1", "update shapely, or do not simplify")
    given = np.array(list(polygons.values()), object)
    plane = Plane(given, rules.metres_per_unit)
    return dict(zip(polygons, plane.exact(shapely.coverage_simplify(plane.flat(given), tolerance_m))))


class _Net:
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
        box = shapely.box(*change.bounds).buffer(4 * self._rules.tolerance_m + _MARGIN_M)
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
        window = shapely.box(*change.bounds).buffer(2 * self._rules.tolerance_m + _MARGIN_M).bounds
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


def _fitted(new: Outline, others: Sequence[Outline], rules: Rules) -> Outline:
    """Move an outline onto the borders within the tolerance, and take what would be left as a narrower strip."""
    width = rules.tolerance_m
    if width <= 0 or not others or new.is_empty:
        return new
    given, new = new, snap_to_neighbours(new, others, width)
    box = shapely.box(*new.bounds).buffer(4 * width + _MARGIN_M, join_style="mitre")
    around = shapely.union_all([shapely.intersection(other, box) for other in others], grid_size=GRID_M)
    left = shapely.difference(around, new, grid_size=GRID_M)
    # Gaps beside those that give way too.
    strips: list[BaseGeometry] = [shapely.difference(gaps(new, left, width), left, grid_size=GRID_M)]
    for other in others:
        here = polygonal(valid(shapely.clip_by_rect(other, *box.bounds)))
        if not shapely.relate_pattern(here, new, "T********"):
            continue
        # What was narrow before stays.
        own = shapely.union_all(_strips(here, width))
        strips += [
            strip
            for strip in _strips(polygonal(shapely.difference(here, new)), width)
            if strip.distance(new) < _HAIR_M and shapely.intersection(strip, own).area < strip.area / 2
        ]
    # Without the vertices inside straight lines, which fitting adds.
    fitted = shapely.simplify(shapely.union_all([new, *strips], grid_size=GRID_M), GRID_M)
    return put_back(polygonal(fitted), [given, *others])


def _strips(area: Outline, width: float) -> list[shapely.Polygon]:
    """Return the long parts of an area that are no wider than a width."""
    wide = grown(grown(area, -width / 2), width / 2 + GRID_M / 8)
    rest = shapely.difference(area, wide, grid_size=GRID_M)
    return [strip for strip in polygon_parts(rest) if math.hypot(*np.ptp(np.reshape(strip.bounds, (2, 2)), 0)) > width]


def _rays(before: Outline, after: Outline, others: Iterable[Outline]) -> Iterable[BaseGeometry]:
    """Yield lines from the ends of the borders of an old outline to the new one: there its neighbours meet now."""
    inside = before.buffer(_HAIR_M)
    for other in others:
        border = shapely.line_merge(shapely.intersection(before.boundary, other.boundary))
        for end in shapely.get_parts(shapely.boundary(border)):
            ray = shapely.shortest_line(end, after)
            if ray is not None and ray.length > 0 and shapely.covers(inside, ray):
                yield ray
