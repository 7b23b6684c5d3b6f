"""Many objects at once, from the features of a layer to polygons; the command line and Processing share it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import shapely

from ..core.prompts import Bounds, Point, Prompts
from ..errors import PromptError, VectorError
from .masks import Proposal
from .segmenter import Segmenter
from .session import CleanOptions, Result, SegmentationSession

__all__ = [
    "ALL_CANDIDATES",
    "BEST_CANDIDATE",
    "AreaMeter",
    "ObjectAnswer",
    "ObjectPrompts",
    "ObjectResult",
    "PromptFeature",
    "SegmentOptions",
    "answer_objects",
    "group_prompts",
]

ALL_CANDIDATES = "all"
BEST_CANDIDATE = "best"

_TOGETHER = 16
"""Objects decoded before the first of them is traced: their masks take 1 MiB each."""

_PROBE_SIDE = 16.0
"""Side in pixels of the square whose area on the ground tells how large pixels are at a place."""


class AreaMeter(Protocol):
    """Anything that measures areas on the ellipsoid."""

    def area_m2(self, geometry: shapely.Geometry) -> float:
        """Return the area in square metres of a geometry in the raster's CRS."""
        ...


class PromptFeature(NamedTuple):
    """A feature of a layer of prompts.

    Attributes
    ----------
    geometry : Point, MultiPoint, Polygon or MultiPolygon
        In the raster's CRS.
    label : any
        1 positive, 0 negative, None positive.
    object_id : str, optional
        Features with the same one belong together; one without belongs to nobody else.
    """

    geometry: shapely.Geometry
    label: Any = None
    object_id: str | None = None


@dataclass(frozen=True)
class ObjectPrompts:
    """The prompts of one object, in map coordinates."""

    object_id: str
    points: tuple[Point, ...] = ()
    box: Bounds | None = None


@dataclass(frozen=True)
class SegmentOptions:
    """What the user may choose.

    Attributes
    ----------
    level : int
        Finest level to answer from.
    simplify_tolerance : float
        In pixels of the level that answered.
    min_area_m2, fill_holes_m2 : float
        Smaller parts are left out, smaller holes filled.
    candidate : str
        ``best``, ``1``, ``2``, ``3`` or ``all``.
    """

    level: int = 0
    simplify_tolerance: float = 1.0
    min_area_m2: float = 0.0
    fill_holes_m2: float = 0.0
    candidate: str = BEST_CANDIDATE


@dataclass(frozen=True)
class ObjectResult:
    """A polygon of an object, its area on the ellipsoid, and how it came about."""

    object_id: str
    result: Result
    area_m2: float


@dataclass(frozen=True)
class ObjectAnswer:
    """What came of one object.

    Attributes
    ----------
    index : int
        Place of its prompts among all.
    object_id : str
    results : tuple of ObjectResult
        Several where all candidates were asked for, none where there is no polygon.
    refusal : PromptError, optional
        Why the prompts could not be answered.
    """

    index: int
    object_id: str
    results: tuple[ObjectResult, ...]
    refusal: PromptError | None = None

    @property
    def left_out(self) -> str:
        """Why there is no polygon; empty where there is one."""
        if self.refusal is not None:
            return self.refusal.user_message
        return "" if self.results else "The mask is empty or smaller than the minimum area"


def group_prompts(features: Iterable[PromptFeature], source: str) -> list[ObjectPrompts]:
    """Put features together to objects: points are clicks, polygons stand for their box.

    Parameters
    ----------
    features : iterable of PromptFeature
    source : str
        Name of the layer, for messages.

    Returns
    -------
    list of ObjectPrompts
        In the order in which their first features appear.

    Raises
    ------
    VectorError
        If a feature is a line, a label is not 0 or 1, a polygon is labelled 0, or an object has two.
    """
    objects: dict[str, ObjectPrompts] = {}
    for index, feature in enumerate(features, start=1):
        object_id = feature.object_id if feature.object_id is not None else f"feature {index}"
        known = objects.get(object_id, ObjectPrompts(object_id))
        objects[object_id] = _with_feature(known, feature.geometry, _is_positive(feature.label, source), source)
    return list(objects.values())


def _is_positive(label: Any, source: str) -> bool:
    if label is None:
        return True
    try:
        number = float(label)
    except (TypeError, ValueError):
        number = -1.0
    if math.isnan(number):
        return True
    if number not in (0.0, 1.0):
        text = int(number) if number.is_integer() and not isinstance(label, str) else label
        raise VectorError(
            "{source} has label {label}", "use 1 for positive and 0 for negative points", source=source, label=text
        )
    return number == 1.0


def _with_feature(known: ObjectPrompts, geometry: shapely.Geometry, positive: bool, source: str) -> ObjectPrompts:
    kind = geometry.geom_type
    if kind in ("Point", "MultiPoint"):
        points = tuple(Point(point.x, point.y, positive) for point in shapely.get_parts(geometry))
        return ObjectPrompts(known.object_id, known.points + points, known.box)
    if kind in ("Polygon", "MultiPolygon"):
        if known.box is not None:
            raise VectorError(
                "{source} has two boxes for object {object}",
                "keep one of them",
                source=source,
                object=known.object_id,
            )
        if not positive:
            raise VectorError(
                "{source} has a polygon with label 0", "use points to say what is outside an object", source=source
            )
        return ObjectPrompts(known.object_id, known.points, Bounds(*geometry.bounds))
    raise VectorError(
        "{source} has a {kind}, which is no prompt", "use points and polygons only", source=source, kind=kind
    )


def answer_objects(
    segmenter: Segmenter, objects: Sequence[ObjectPrompts], options: SegmentOptions, meter: AreaMeter
) -> Iterator[ObjectAnswer]:
    """Segment many objects, those of one tile after each other.

    Parameters
    ----------
    segmenter : Segmenter
    objects : sequence of ObjectPrompts
        In the raster's CRS.
    options : SegmentOptions
    meter : AreaMeter
        For the raster's CRS.

    Yields
    ------
    ObjectAnswer
        One for each object; those that cannot be answered (outside the raster, no data) say why.

    Raises
    ------
    StoreError, ModelError
        If the store or its decoder cannot be used.
    """
    for index, proposal, decoding_ms in _proposals(segmenter, objects, options):
        prompts = objects[index]
        if isinstance(proposal, PromptError):
            yield ObjectAnswer(index, prompts.object_id, (), proposal)
            continue
        shown = _shown(segmenter, prompts, options, meter, proposal, decoding_ms)
        results = tuple(
            ObjectResult(prompts.object_id, result, meter.area_m2(result.geometry))
            for result in shown
            if not result.geometry.is_empty
        )
        yield ObjectAnswer(index, prompts.object_id, results)


def _proposals(
    segmenter: Segmenter, objects: Sequence[ObjectPrompts], options: SegmentOptions
) -> Iterator[tuple[int, Proposal | PromptError, float]]:
    """Yield the index of each object, the answer of the decoder, and its share of the time in milliseconds."""
    order = _by_tile(segmenter, objects, options.level)
    chunks = [order[start : start + _TOGETHER] for start in range(0, len(order), _TOGETHER)]

    def decode(chunk: Sequence[int]) -> list[tuple[int, Proposal | PromptError, float]]:
        started = time.perf_counter()
        proposals = _propose(segmenter, [objects[index] for index in chunk], options)
        share_ms = (time.perf_counter() - started) * 1000.0 / len(chunk)
        return [(index, proposal, share_ms) for index, proposal in zip(chunk, proposals)]

    # While some are traced, which takes one core, the next are decoded.
    with ThreadPoolExecutor(1) as ahead:
        running = [ahead.submit(decode, chunk) for chunk in chunks[:1]]
        for chunk in (*chunks[1:], []):
            decoded = running.pop().result() if running else []
            if chunk:
                running.append(ahead.submit(decode, chunk))
            yield from decoded


def _propose(
    segmenter: Segmenter, objects: Sequence[ObjectPrompts], options: SegmentOptions
) -> list[Proposal | PromptError]:
    inverse = segmenter.reader.metadata.raster.transform.inverse()
    refused = [_unplaced(item) for item in objects]
    prompts = [
        Prompts(item.points, item.box).transformed(inverse.apply)
        for item, refusal in zip(objects, refused)
        if refusal is None
    ]
    first_only = options.candidate == BEST_CANDIDATE
    answered = iter(segmenter.propose_many(prompts, options.level, first_only))
    return [refusal or next(answered) for refusal in refused]


def _by_tile(segmenter: Segmenter, objects: Sequence[ObjectPrompts], level: int) -> list[int]:
    """Order objects by the tile that answers, so that each tile is read and prepared once."""
    inverse = segmenter.reader.metadata.raster.transform.inverse()
    keys = []
    for index, item in enumerate(objects):
        tile = None
        # What is refused is told when its turn comes.
        with suppress(PromptError):
            if _unplaced(item) is None:
                tile = segmenter.tile_for(Prompts(item.points, item.box).transformed(inverse.apply), level)
        keys.append((tile is not None, tile or (), index))
    return [index for _, _, index in sorted(keys)]


def _unplaced(prompts: ObjectPrompts) -> PromptError | None:
    """Return why prompts have no place at all, or None."""
    values = [value for point in prompts.points for value in point[:2]] + list(prompts.box or ())
    if all(math.isfinite(value) for value in values):
        return None
    return PromptError("Its coordinates have no place in the raster's CRS", "check the CRS of the prompts")


def _shown(
    segmenter: Segmenter,
    prompts: ObjectPrompts,
    options: SegmentOptions,
    meter: AreaMeter,
    proposal: Proposal,
    decoding_ms: float,
) -> list[Result]:
    pixel_area_m2 = _pixel_area_m2(segmenter, prompts, meter)
    clean = CleanOptions(
        simplify_tolerance=options.simplify_tolerance,
        min_area=options.min_area_m2 / pixel_area_m2,
        fill_holes_area=options.fill_holes_m2 / pixel_area_m2,
    )
    session = SegmentationSession(segmenter, options.level, clean)
    first = session.show(proposal, decoding_ms)
    if options.candidate == BEST_CANDIDATE:
        return [first]
    if options.candidate == ALL_CANDIDATES:
        return [session.select_candidate(rank) for rank in range(first.candidates)]
    return [session.select_candidate(int(options.candidate) - 1)]


def _pixel_area_m2(segmenter: Segmenter, prompts: ObjectPrompts, meter: AreaMeter) -> float:
    """Return the ground area of a native pixel near the prompts: in degrees or far from the equator it varies."""
    raster = segmenter.reader.metadata.raster
    x, y = (prompts.points[0].x, prompts.points[0].y) if prompts.points else (0.0, 0.0)
    if prompts.box is not None:
        x, y = (prompts.box.min_x + prompts.box.max_x) / 2, (prompts.box.min_y + prompts.box.max_y) / 2
    col, row = raster.transform.inverse().apply(x, y)
    # Prompts may lie far outside, where the CRS has no areas; that is reported when they are answered.
    col, row = min(max(col, 0.0), raster.width), min(max(row, 0.0), raster.height)
    half = _PROBE_SIDE / 2
    probe = shapely.box(col - half, row - half, col + half, row + half)
    return meter.area_m2(raster.transform.apply_geometry(probe)) / _PROBE_SIDE**2
