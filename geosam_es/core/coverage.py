"""Keeps a coverage while polygons are added, replaced, cut and merged: no overlaps, no slivers, shared vertices.

Each function takes a change and the polygons around it, and returns all geometries that change, to be written in one
undo step. The change is first fitted to the borders that exist. Then the faces between all outlines are given to the
polygons, so that both sides of a border have the same vertices.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from enum import Enum

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from ..errors import EditError
from .faces import GRID_M, Plane, put_back
from .net import MARGIN_M, MAX_GAP_M2, Changes, Classes, Net, Polygons, Rules
from .partition import gaps, grown, polygonal, snap_to_neighbours, valid
from .topology import Outline, polygon_parts, split_by_line

__all__ = [
    "MAX_GAP_M2",
    "Changes",
    "Ground",
    "Rules",
    "cut",
    "give",
    "merge",
    "place",
    "require_simplify",
    "reshape",
    "simplify",
]

_HAIR_M = 1e-4


class Ground(Enum):
    """What happens to the ground that a new polygon shares with others."""

    FILL = "fill"
    """It takes what is free."""

    CARVE = "carve"
    """The others give way."""

    SPLIT = "split"
    """It is cut out of the polygon that covers most of it."""


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
    net = Net(polygons, rules, classes, outline)
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
    net = Net(others, rules, classes, outline, old)
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
        One for each polygon with new parts, its ``source``. All geometries that change are in the last one, so that
        new parts written before get the heights of the polygons as they were.

    Raises
    ------
    EditError
        If the line divides none of them, or a part would be too small.
    """
    net = Net(polygons, rules, classes, line, *(polygons[key] for key in keys))
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
    *others, last = (Changes({}, outlines, source=key) for key, outlines in new.items())
    return [*others, replace(last, changed=changes.changed, removed=changes.removed)]


def merge(key: int, other: int, polygons: Polygons, rules: Rules, classes: Classes | None = None) -> Changes:
    """Join a polygon to another one, with the gap between them; the first one stays.

    Raises
    ------
    EditError
        If they are further apart than the tolerance.
    """
    one, two = polygons[key], polygons[other]
    net = Net(polygons, rules, classes, one, two)
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
    net = Net(polygons, rules, classes, region)
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
    require_simplify()
    given = np.array(list(polygons.values()), object)
    plane = Plane(given, rules.metres_per_unit)
    return dict(zip(polygons, plane.exact(shapely.coverage_simplify(plane.flat(given), tolerance_m))))


def require_simplify() -> None:
    """Raise the error of `simplify` if it is not possible here."""
    if not hasattr(shapely, "coverage_simplify") or shapely.geos_version < (3, 12, 0):
        raise EditError("Simplifying a coverage needs shapely 2.1", "update shapely, or do not simplify")


def _fitted(new: Outline, others: Sequence[Outline], rules: Rules) -> Outline:
    """Move an outline onto the borders within the tolerance, and take what would be left as a narrower strip."""
    width = rules.tolerance_m
    if width <= 0 or not others or new.is_empty:
        return new
    given, new = new, snap_to_neighbours(new, others, width)
    box = shapely.box(*new.bounds).buffer(4 * width + MARGIN_M, join_style="mitre")
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
