"""Checks a coverage: a list of findings, each with a place, a size and a remedy.

Borders whose segments two polygons have in common are right. Everything else is found from the other segments alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import combinations

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from ..errors import EditError, GeoSamError, marked
from .coverage import Changes, Rules, give, merge
from .coverage import place as place_polygon
from .faces import OUTSIDE, Faces, Plane, Sides, lacking
from .partition import gaps, is_wide, polygonal, valid

__all__ = ["Finding", "Kind", "Progress", "check", "in_order", "mend", "remedy"]

Progress = Callable[[int, int], None]
"""Takes what is done, and the total."""

_HAIR_M = 1e-4
_MOST_ROUNDS = 5
_MANY = 100
_TOGETHER = 256
"""Pairs of lines that are compared at once; the check can be cancelled in between."""

_MANY_VERTICES = 200
_SAME_SCALE = 0.005
"""Differences of area by the scale of the place that do not matter."""

_MOST_SCALE = 4.0
"""The scale in the middle of the layer makes an area at most this many times too large."""

_SLIT_LENGTH = 3.0
"""Open gaps are at least this many times as long as the tolerance; shorter ones are corners between borders."""


class Kind(Enum):
    """What is wrong, in the order in which it is mended."""

    INVALID = "invalid"
    OVERLAP = "overlap"
    GAP = "gap"
    BORDER = "border"
    SLIVER = "sliver"
    SMALL = "small"
    SAME_CLASS = "same class"
    LARGE_GAP = "large gap"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes
    ----------
    kind : Kind
    place : geometry
        The polygon (repaired) or the ground, or for `Kind.BORDER` and `Kind.SAME_CLASS` the line. A polygon without
        any ground has a point. Narrow overlaps of the same polygons are one finding, and so are narrow gaps.
    size : float
        Square metres, or metres for lines.
    ids : tuple of int
        The polygons.
    """

    kind: Kind
    place: BaseGeometry
    size: float
    ids: tuple[int, ...]

    @property
    def unit(self) -> str:
        """Unit of the size."""
        return "m" if self.kind in (Kind.BORDER, Kind.SAME_CLASS) else "m²"

    @property
    def is_fault(self) -> bool:
        """Whether it must be mended; a large gap may be a lake that is no part of the map."""
        return self.kind is not Kind.LARGE_GAP

    @property
    def label(self) -> str:
        """Name of the kind; `qgis_support.messages.translated` translates it, and the remedy."""
        return _TEXTS[self.kind][0]

    @property
    def remedy(self) -> str:
        """What `remedy` does."""
        return _TEXTS[self.kind][1]


_GIVE = marked("give it to the neighbour with the longest border")
_JOIN = marked("join it to the neighbour with the longest border")
_TEXTS = {
    Kind.INVALID: (marked("Invalid polygon"), marked("repair the polygon")),
    Kind.OVERLAP: (marked("Overlap"), marked("leave it to the smallest of the polygons")),
    Kind.GAP: (marked("Gap"), _GIVE),
    Kind.BORDER: (marked("Border with different vertices"), marked("give both sides the same vertices")),
    Kind.SLIVER: (marked("Sliver"), _JOIN),
    Kind.SMALL: (marked("Below the minimum area"), _JOIN),
    Kind.SAME_CLASS: (marked("Neighbours of the same class"), marked("merge the polygons")),
    Kind.LARGE_GAP: (marked("Large gap"), marked("fill it with a polygon of its own, or leave it")),
}


_GAPS = (Kind.GAP, Kind.LARGE_GAP)
_STALE = (Kind.SLIVER, Kind.SMALL)
"""After one of their polygons has changed, they are looked for again first."""


def check(
    polygons: Mapping[int, BaseGeometry],
    rules: Rules,
    classes: Mapping[int, Hashable] | None = None,
    skip: Collection[Kind] = (),
    progress: Progress | None = None,
) -> list[Finding]:
    """Find what is wrong in a coverage.

    Parameters
    ----------
    polygons : mapping of int to Polygon or MultiPolygon
    rules : Rules
    classes : mapping of int to class, optional
        For minimum areas by class, and to find neighbours of the same class. Polygons of class None have none.
    skip : collection of Kind
        What is not looked for.
    progress : callable, optional
        Called with the percentage done and 100. It may raise an exception to stop.

    Returns
    -------
    list of Finding
        In the order of `Kind`, larger ones first.
    """
    given = {key: polygon for key, polygon in polygons.items() if not polygon.is_empty}
    if not given:
        return []
    found = _Check(given, rules, classes or {}, progress or (lambda done, total: None)).findings()
    return in_order(finding for finding in found if finding.kind not in skip)


def in_order(found: Iterable[Finding]) -> list[Finding]:
    """Sort findings by kind, larger ones first."""
    kinds = list(Kind)
    return sorted(found, key=lambda finding: (kinds.index(finding.kind), -finding.size))


def remedy(
    finding: Finding,
    polygons: Mapping[int, BaseGeometry],
    rules: Rules,
    classes: Mapping[int, Hashable] | None = None,
) -> Changes:
    """Return the changes that mend a finding; none if it has no remedy, as a small polygon without neighbours.

    Parameters
    ----------
    finding : Finding
    polygons : mapping of int to geometry
        Those of the finding, and those around it; see `Rules.reach_m`.
    rules : Rules
    classes : mapping of int to class, optional

    Raises
    ------
    EditError
        If the polygons around do not allow it.
    """
    sizes = {key: polygons[key].area for key in finding.ids if key in polygons}
    if len(sizes) < len(finding.ids) and finding.kind not in _GAPS:
        return Changes({})
    if finding.kind is Kind.SAME_CLASS:
        one, other = sorted(sizes, key=lambda key: sizes[key], reverse=True)
        return merge(one, other, polygons, rules, classes)
    if finding.kind is Kind.INVALID and finding.place.area == 0:
        return Changes({}, removed=finding.ids)
    if finding.kind is Kind.LARGE_GAP:
        return place_polygon(finding.place, polygons, rules, classes=classes)
    if finding.kind in (Kind.INVALID, Kind.BORDER):
        lines = finding.place.boundary if finding.kind is Kind.INVALID else finding.place
        return give(lines, polygons, rules, classes=classes)
    return give(finding.place, polygons, rules, finding.ids[0] if finding.kind in _STALE else None, classes)


def mend(
    polygons: Mapping[int, BaseGeometry],
    rules: Rules,
    classes: Mapping[int, Hashable] | None = None,
    *,
    skip: Collection[Kind] = (),
    known: Sequence[Finding] | None = None,
    progress: Progress | None = None,
    checking: Progress | None = None,
) -> tuple[dict[int, BaseGeometry], list[Finding]]:
    """Apply the remedies of all faults, in several rounds.

    Parameters
    ----------
    polygons, rules, classes, skip
        As for `check`.
    known : sequence of Finding, optional
        What `check` found, if it was called before.
    progress : callable, optional
        Called for each remedy with the number done and the number of faults.
    checking : callable, optional
        The ``progress`` of each `check` before and after a round.

    Returns
    -------
    polygons : dict of int to geometry
    rest : list of Finding
        What could not be mended, and large gaps.
    """
    mended = dict(polygons)
    rules = _with_scales(rules, np.array([polygon for polygon in polygons.values() if not polygon.is_empty], object))
    found: list[Finding] = []
    done = total = 0
    for _ in range(_MOST_ROUNDS):
        rest = check(mended, rules, classes, skip, checking) if known is None else list(known)
        known = None
        found, before = [finding for finding in rest if finding.is_fault], found
        if not found or found == before:
            break
        total = total or len(found)
        keys, tree = list(mended), shapely.STRtree(list(mended.values()))
        touched: set[int] = set()
        waiting = _together(found, mended)
        while waiting:
            group = [one for one in waiting.pop(0) if one.kind in _GAPS or mended.keys() >= set(one.ids)]
            if not group:
                continue
            kind, ids = group[0].kind, {key for finding in group for key in finding.ids}
            if not (kind in _STALE and touched & ids):
                place = group[0].place if len(group) == 1 else shapely.GeometryCollection([one.place for one in group])
                reach = rules.reach_m / np.array(rules.metres_per_unit)
                around = np.array([place, *(mended[key] for key in ids if key in mended)], object)
                low, high = shapely.total_bounds(around).reshape(2, 2)
                places = sorted(tree.query(shapely.box(*(low - reach), *(high + reach))))
                near = {keys[at]: mended[keys[at]] for at in places if keys[at] in mended}
                scale = rules.metres_per_unit if rules.scale_at is None else rules.scale_at(*(low + high) / 2)
                try:
                    finding = Finding(kind, place, 0.0, tuple(sorted(ids)))
                    changes = remedy(finding, near, replace(rules, metres_per_unit=scale), classes)
                except (EditError, shapely.errors.GEOSException):
                    if len(group) > 1:
                        waiting[:0] = [[finding] for finding in group]
                        continue
                    changes = Changes({})
                touched.update(changes.changed, changes.removed)
                mended.update(changes.changed)
                for key in changes.removed:
                    del mended[key]
            done += len(group)
            if progress is not None:
                progress(min(done, total), total)
    else:
        rest = check(mended, rules, classes, skip, checking)
    return mended, rest


def _with_scales(rules: Rules, polygons: NDArray[np.object_]) -> Rules:
    """Return the rules for a layer: ``scale_at`` raises no errors, and is None if the scale hardly varies."""
    scale_at, usual = rules.scale_at, rules.metres_per_unit
    if scale_at is None or not len(polygons):
        return rules

    def scale(x: float, y: float) -> tuple[float, float]:
        try:
            return scale_at(x, y)
        except GeoSamError:
            # As at a pole.
            return usual

    bounds = shapely.bounds(polygons)
    outermost = {*bounds[:, :2].argmin(axis=0).tolist(), *bounds[:, 2:].argmax(axis=0).tolist()}
    places = [shapely.get_coordinates(polygons[at])[0] for at in outermost]
    differences = (abs(math.prod(scale(x, y)) / math.prod(usual) - 1) for x, y in places)
    return replace(rules, scale_at=scale if max(differences) > _SAME_SCALE else None)


def _together(found: Iterable[Finding], polygons: Mapping[int, BaseGeometry]) -> list[list[Finding]]:
    """Group findings that one remedy mends: those of a kind along the same polygon.

    The time that a remedy takes grows with the vertices of the polygons around it.
    """
    groups: dict[Hashable, list[Finding]] = {}
    for number, finding in enumerate(found):
        sizes = {key: (shapely.get_num_coordinates(polygons[key]), key) for key in finding.ids}
        largest = max(finding.ids, key=lambda key: sizes[key], default=None)
        key = number if finding.kind is Kind.SAME_CLASS else (finding.kind, largest)
        groups.setdefault(key, []).append(finding)
    return list(groups.values())


class _Check:
    """The polygons in metres."""

    def __init__(
        self, given: Mapping[int, BaseGeometry], rules: Rules, classes: Mapping[int, Hashable], progress: Progress
    ) -> None:
        self._classes, self._progress = classes, progress
        self._keys = list(given)
        self._given = np.array(list(given.values()), object)
        self._rules = rules = _with_scales(rules, self._given)
        self._plane = Plane(self._given, rules.metres_per_unit)
        self._is_valid = shapely.is_valid(self._given)
        self._flat = self._plane.flat(self._given)
        for place in np.flatnonzero(~self._is_valid):
            self._flat[place] = polygonal(valid(self._flat[place]))
        self._tree = shapely.STRtree(self._flat)
        self._sides = Sides.of(self._flat)

    def findings(self) -> Iterator[Finding]:
        """Yield all findings."""
        for place in np.flatnonzero(~self._is_valid):
            spot = shapely.Point(shapely.get_coordinates(self._given[place])[0])
            repaired = self._plane.exact(self._flat[place])
            area = float(self._areas(self._flat[[place]])[0])
            yield Finding(Kind.INVALID, spot if repaired.is_empty else repaired, area, (self._keys[place],))
        lines, owner = self._sides.unmatched_lines()
        # The shares of the time are those of large layers.
        self._progress(10, 100)
        yield from (enclosed := list(self._faces(lines)))
        yield from self._slits(lines, owner, enclosed)
        self._progress(80, 100)
        yield from self._borders(lines, owner, {pair for finding in enclosed for pair in combinations(finding.ids, 2)})
        self._progress(90, 100)
        yield from self._parts()
        yield from self._same_class()
        self._progress(100, 100)

    def _finding(self, kind: Kind, flat: BaseGeometry, places: Collection[int]) -> Finding:
        place = self._plane.exact(flat)
        size = float(self._areas(np.array([flat], object))[0] or flat.length)
        return Finding(kind, place, size, tuple(sorted(self._keys[place] for place in places)))

    def _areas(self, flat: NDArray[np.object_]) -> NDArray[np.float64]:
        """Return the areas of geometries in square metres."""
        areas: NDArray[np.float64] = shapely.area(flat)
        scale_at, usual = self._rules.scale_at, math.prod(self._rules.metres_per_unit)
        for at in np.flatnonzero(areas) if scale_at is not None else ():
            spot = self._plane.exact(shapely.centroid(flat[at]))
            areas[at] *= math.prod(scale_at(spot.x, spot.y)) / usual if scale_at is not None else 1.0
        return areas

    def _faces(self, lines: NDArray[np.object_]) -> Iterator[Finding]:
        """Find overlaps and enclosed gaps: faces between unmatched lines with several polygons, or with none."""
        faces = Faces([], lines, (-np.inf, -np.inf, np.inf, np.inf))
        spots = shapely.point_on_surface(faces.polygons)
        # A spot on a border that is right says nothing of a face of several polygons; take one inside of one of them.
        around = shapely.STRtree(spots)
        (on_any, any_), (on_one, one) = (
            around.query(self._flat, predicate=name) for name in ("intersects", "contains")
        )
        for face, place in set(zip(any_.tolist(), on_any.tolist())) - set(zip(one.tolist(), on_one.tolist())):
            inside_one = shapely.intersection(faces.polygons[face], self._flat[place])
            spots[face] = shapely.point_on_surface(inside_one if inside_one.area > 0 else faces.polygons[face])
        inside: list[list[int]] = [[] for _ in faces.polygons]
        for place, face in zip(*shapely.STRtree(spots).query(self._flat, predicate="contains")):
            inside[face].append(int(place))
        wrong = np.array([len(places) != 1 for places in inside], bool)
        thin = faces.polygons[wrong & faces.is_thin]
        for face, beside in zip(thin, self._beside(thin)):
            if len(beside) > 1:
                yield self._finding(Kind.BORDER, face.exterior, beside)
        groups: dict[tuple[int, ...], list[int]] = {}
        for face in np.flatnonzero(wrong & ~faces.is_thin):
            groups.setdefault(tuple(sorted(inside[face])), []).append(int(face))
        for done, (places, group) in enumerate(groups.items()):
            self._progress(10 + 20 * done // len(groups), 100)
            parts = shapely.get_parts(faces.joined(group))
            narrow = shapely.is_empty(shapely.buffer(parts, -self._rules.tolerance_m / 2))
            areas = self._areas(parts)
            slits: dict[tuple[int, ...], list[shapely.Polygon]] = {}
            for part, is_narrow, area, beside in zip(parts, narrow, areas, self._beside(parts)):
                owners = places or tuple(sorted(beside))
                if is_narrow:
                    slits.setdefault(owners, []).append(part)
                else:
                    is_large = not places and area > self._rules.max_gap_m2
                    kind = Kind.OVERLAP if places else Kind.LARGE_GAP if is_large else Kind.GAP
                    yield self._finding(kind, part, owners)
            for owners, some in slits.items():
                place = polygonal(shapely.MultiPolygon(some))
                yield self._finding(Kind.OVERLAP if places else Kind.GAP, place, owners)

    def _beside(self, parts: NDArray[np.object_]) -> list[list[int]]:
        """Return the polygons beside each part."""
        beside: list[list[int]] = [[] for _ in parts]
        for place, part in zip(*shapely.STRtree(parts).query(self._flat, predicate="dwithin", distance=_HAIR_M)):
            beside[part].append(int(place))
        return beside

    def _slits(
        self, lines: NDArray[np.object_], owner: NDArray[np.int64], enclosed: list[Finding]
    ) -> Iterator[Finding]:
        """Find narrow gaps that are open on one side, but between polygons with many findings these come first."""
        tolerance = self._rules.tolerance_m
        if tolerance <= 0 or not len(lines):
            return
        one, other = shapely.STRtree(lines).query(lines, predicate="dwithin", distance=tolerance)
        number = {key: place for place, key in enumerate(self._keys)}
        pieces = Counter(finding.ids for finding in enclosed for _ in shapely.get_parts(finding.place))
        seen = {tuple(sorted(number[key] for key in ids)) for ids, count in pieces.items() if count > _MANY}
        pairs = zip(owner[one].tolist(), owner[other].tolist())
        wanted = np.array([pair[0] < pair[1] and pair not in seen for pair in pairs], bool)
        one, other = one[wanted], other[wanted]
        strips = np.empty(len(one), object)
        for start in range(0, len(one), _TOGETHER):
            self._progress(30 + 20 * start // len(one), 100)
            some = slice(start, start + _TOGETHER)
            these, those = _near_each_other(lines[one[some]], lines[other[some]], 2 * tolerance)
            strips[some] = shapely.intersection(these, shapely.buffer(those, tolerance))
        is_long = shapely.length(strips) > _SLIT_LENGTH * tolerance
        known = shapely.STRtree([finding.place for finding in enclosed if finding.kind in _GAPS])
        for done, place in enumerate(long := np.flatnonzero(is_long)):
            self._progress(50 + 30 * done // len(long), 100)
            pair = int(owner[one[place]]), int(owner[other[place]])
            box = strips[place].envelope.buffer(4 * tolerance)
            first, second = (polygonal(valid(shapely.clip_by_rect(self._flat[key], *box.bounds))) for key in pair)
            if pair in seen or first.is_empty or second.is_empty:
                continue
            seen.add(pair)
            between = gaps(first, second, tolerance)
            others = self._flat[self._tree.query(between, predicate="intersects")]
            for part in shapely.get_parts(polygonal(shapely.difference(between, shapely.union_all(others)))):
                if part.length > 2 * _SLIT_LENGTH * tolerance and part.area > _HAIR_M * part.length:
                    finding = self._finding(Kind.GAP, part, pair)
                    if not len(known.query(finding.place, predicate="intersects")):
                        yield finding

    def _borders(
        self, lines: NDArray[np.object_], owner: NDArray[np.int64], known: set[tuple[int, ...]]
    ) -> Iterator[Finding]:
        """Find segments on which a neighbour has a vertex that they lack; but for pairs with other findings."""
        groups: dict[tuple[int, ...], list[shapely.LineString]] = {}
        for one, other, line in lacking(lines, owner):
            groups.setdefault((min(one, other), max(one, other)), []).append(line)
        for pair, found in groups.items():
            if tuple(sorted(self._keys[place] for place in pair)) not in known:
                yield self._finding(Kind.BORDER, shapely.MultiLineString(found), pair)

    def _parts(self) -> Iterator[Finding]:
        """Find parts that are too small or too narrow."""
        parts, owner = shapely.get_parts(self._flat, return_index=True)
        least = np.array([self._rules.min_area(self._classes.get(key)) for key in self._keys])[owner]
        areas = shapely.area(parts)
        # A polygon is at most as wide as four times its area by its length.
        may_be_narrow = 4 * areas < 2 * self._rules.tolerance_m * shapely.length(parts)
        unsure = np.flatnonzero(areas < _MOST_SCALE * least)
        areas[unsure] = self._areas(parts[unsure])
        for place in np.flatnonzero((areas < least) | may_be_narrow):
            if areas[place] < least[place]:
                yield self._finding(Kind.SMALL, parts[place], [owner[place]])
            elif not is_wide(parts[place], self._rules.tolerance_m):
                yield self._finding(Kind.SLIVER, parts[place], [owner[place]])

    def _same_class(self) -> Iterator[Finding]:
        names = [self._classes.get(key) for key in self._keys]
        borders = list(zip(*self._sides.border_lengths()))
        for done, (one, other, _) in enumerate(borders):
            self._progress(90 + 10 * done // len(borders), 100)
            if other != OUTSIDE and names[one] is not None and names[one] == names[other]:
                line = shapely.intersection(self._flat[one].boundary, self._flat[other].boundary)
                yield self._finding(Kind.SAME_CLASS, line, [one, other])


def _near_each_other(
    first: NDArray[np.object_], second: NDArray[np.object_], reach: float
) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    """Return pairs of lines; of lines with many vertices only what may be this near the other line of the pair."""
    bounds = shapely.bounds(first), shapely.bounds(second)
    low = np.maximum(bounds[0][:, :2], bounds[1][:, :2]) - reach
    high = np.minimum(bounds[0][:, 2:], bounds[1][:, 2:]) + reach
    clipped = first.copy(), second.copy()
    for lines in clipped:
        for pair in np.flatnonzero(shapely.get_num_coordinates(lines) > _MANY_VERTICES):
            lines[pair] = shapely.clip_by_rect(lines[pair], *low[pair], *high[pair])
    return clipped
