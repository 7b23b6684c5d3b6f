"""Segmenting many objects: from the features of a prompt layer to polygons. Used by the command line and Processing."""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from ..core.codes import code_text
from ..core.geotransform import GeoTransform
from ..core.grid import Tile
from ..core.prompts import Bounds, Point, Prompts
from ..errors import EditError, GeoSamError, PromptError, VectorError
from ..store.metadata import RasterInfo
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
    "level_for_ground",
    "middle_pixel_m",
    "parse_object_id",
    "tiles_wanted",
]

ALL_CANDIDATES = "all"
BEST_CANDIDATE = "best"

_TOGETHER = 16
"""Objects decoded before the first one is traced; their masks take 1 MiB each."""

_SCREEN_PIXEL_M = 0.0254 / 96
"""Side in metres of a pixel on a screen of 96 dpi, as QGIS assumes for map scales."""

_PROBE_SIDE = 16.0
"""Side in pixels of the square whose ground area gives the pixel size at a place."""

_NO_LOGITS = np.empty((0, 0), np.float32)

_NO_ATTRIBUTES: Mapping[str, Any] = MappingProxyType({})


class AreaMeter(Protocol):
    """Measures areas on the ellipsoid."""

    def area_m2(self, geometry: BaseGeometry) -> float:
        """Return the area in square metres of a geometry in the raster's CRS, or raise EditError or VectorError."""
        ...


class PromptFeature(NamedTuple):
    """A feature of a prompt layer, as the library that read it gives its values.

    Attributes
    ----------
    geometry : Point, MultiPoint, Polygon or MultiPolygon
        In the raster's CRS.
    label : any
        1 positive, 0 negative; None and NaN count as positive.
    object_id : any
        Features with the same value belong to one object. A feature with None or NaN is an object of its own.
    attributes : mapping of str to any
        The other attributes, to be written with the polygon.
    """

    geometry: BaseGeometry
    label: Any = None
    object_id: Any = None
    attributes: Mapping[str, Any] = _NO_ATTRIBUTES


@dataclass(frozen=True)
class ObjectPrompts:
    """The prompts of one object, in map coordinates.

    Attributes
    ----------
    object_id : hashable
        In the type of the prompt layer; None for a feature without one.
    points : tuple of Point
    box : Polygon or MultiPolygon, optional
        The decoder gets its bounding box in pixels.
    attributes : mapping of str to any
        Those of the object's first feature.
    feature : int
        Number of that feature in its layer, counted from 1.
    outline : Polygon or MultiPolygon, optional
        A first outline, see `Prompts`.
    shares_id : bool
        Whether other objects have the same ``object_id``.
    """

    object_id: Hashable
    points: tuple[Point, ...] = ()
    box: shapely.Polygon | shapely.MultiPolygon | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict, hash=False)
    feature: int = field(default=1, compare=False)
    outline: shapely.Polygon | shapely.MultiPolygon | None = None
    shares_id: bool = field(default=False, compare=False)

    @property
    def name(self) -> str:
        """What messages call the object."""
        if self.object_id is None:
            return f"feature {self.feature}"
        # Columns of integers with gaps are read as reals.
        name = code_text(self.object_id)
        return f"{name} (feature {self.feature})" if self.shares_id else name


@dataclass(frozen=True)
class SegmentOptions:
    """Options of the user.

    Attributes
    ----------
    level : int
        Finest pyramid level to use; a small box may get a finer one.
    simplify_tolerance : float
        In pixels of the level used.
    min_area_m2, fill_holes_m2 : float
        Parts and holes smaller than this are removed.
    candidate : str
        ``best``, ``1``, ``2``, ``3`` or ``all``.
    all_parts : bool
        Whether to keep the parts of a mask that hold no prompt.
    """

    level: int = 0
    simplify_tolerance: float = 1.0
    min_area_m2: float = 0.0
    fill_holes_m2: float = 0.0
    candidate: str = BEST_CANDIDATE
    all_parts: bool = False


@dataclass(frozen=True)
class ObjectResult:
    """One polygon of an object.

    Attributes
    ----------
    prompts : ObjectPrompts
    result : Result
        Its masks have no logits, so that thousands of results fit into memory.
    area_m2 : float
        On the ellipsoid.
    """

    prompts: ObjectPrompts
    result: Result
    area_m2: float

    @property
    def object_id(self) -> Hashable:
        """The object, in the type of the prompt layer; None for a feature without one."""
        return self.prompts.object_id

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The other attributes of the object's first feature."""
        return self.prompts.attributes


@dataclass(frozen=True)
class ObjectAnswer:
    """The outcome for one object.

    Attributes
    ----------
    index : int
        Position of its prompts in the input.
    prompts : ObjectPrompts
    results : tuple of ObjectResult
        Several if all candidates were requested, none if there is no polygon.
    refusal : GeoSamError, optional
        Why the object could not be answered.
    """

    index: int
    prompts: ObjectPrompts
    results: tuple[ObjectResult, ...]
    refusal: GeoSamError | None = None

    @property
    def left_out(self) -> str:
        """Why there is no polygon; empty if there is one."""
        if self.refusal is not None:
            return self.refusal.user_message
        return "" if self.results else "The mask is empty or smaller than the minimum area"


def group_prompts(features: Iterable[PromptFeature], source: str) -> list[ObjectPrompts]:
    """Group features into objects: points become clicks, polygons stand for their bounding box.

    This is the only place that interprets labels and object values, so callers pass them as they were read.

    Parameters
    ----------
    features : iterable of PromptFeature
    source : str
        Name of the layer, for messages.

    Returns
    -------
    list of ObjectPrompts
        In the order of their first features.

    Raises
    ------
    VectorError
        If a feature is a line, a label is neither 0 nor 1, a polygon has label 0, or an object has two polygons.
    """
    objects: dict[Hashable, ObjectPrompts] = {}
    for number, feature in enumerate(features, start=1):
        object_id = parse_object_id(feature.object_id)
        # Each feature without a value is an object of its own.
        key = (number,) if object_id is None else object_id
        known = objects.get(key) or ObjectPrompts(object_id, attributes=feature.attributes, feature=number)
        objects[key] = _with_feature(known, feature.geometry, _is_positive(feature.label, source), source)
    return list(objects.values())


def parse_object_id(value: Any) -> Hashable:
    """Return the value as a Python object that can be compared, None if there is none."""
    if isinstance(value, np.generic):
        value = value.item()
    # NaN is how libraries without NULL give a missing value.
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return value if isinstance(value, Hashable) else str(value)


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


def _with_feature(known: ObjectPrompts, geometry: BaseGeometry, positive: bool, source: str) -> ObjectPrompts:
    kind = geometry.geom_type
    if kind in ("Point", "MultiPoint"):
        points = tuple(Point(point.x, point.y, positive) for point in shapely.get_parts(geometry))
        return replace(known, points=known.points + points)
    if isinstance(geometry, (shapely.Polygon, shapely.MultiPolygon)):
        if known.box is not None:
            raise VectorError(
                "{source} has two boxes for object {object}", "remove one of them", source=source, object=known.name
            )
        if not positive:
            raise VectorError(
                "{source} has a polygon with label 0", "use points to mark what is outside an object", source=source
            )
        return replace(known, box=geometry)
    raise VectorError(
        "{source} has a {kind}, which is not a valid prompt", "use points and polygons only", source=source, kind=kind
    )


def answer_objects(
    segmenter: Segmenter, objects: Sequence[ObjectPrompts], options: SegmentOptions, meter: AreaMeter
) -> Iterator[ObjectAnswer]:
    """Segment many objects, grouped by tile.

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
        One per object. Objects that cannot be answered (outside the raster, no data) carry the reason.

    Raises
    ------
    StoreError, ModelError
        If the store or its decoder cannot be used.
    """
    for index, proposal, decoding_ms in _proposals(segmenter, objects, options):
        prompts = objects[index]
        if isinstance(proposal, PromptError):
            yield ObjectAnswer(index, prompts, (), proposal)
            continue
        try:
            shown = _shown(segmenter, prompts, options, meter, proposal, decoding_ms)
            results = tuple(
                ObjectResult(prompts, _without_logits(result), meter.area_m2(result.geometry))
                for result in shown
                if not result.geometry.is_empty
            )
        except (EditError, VectorError) as error:
            # The area of this object cannot be measured; others lie where the CRS is defined.
            yield ObjectAnswer(index, prompts, (), error)
            continue
        yield ObjectAnswer(index, prompts, results)


def _without_logits(result: Result) -> Result:
    masks = tuple(replace(mask, logits=_NO_LOGITS) for mask in result.candidate.masks)
    return replace(
        result, proposal=replace(result.proposal, masks=()), candidate=replace(result.candidate, masks=masks)
    )


def tiles_wanted(segmenter: Segmenter, objects: Sequence[ObjectPrompts], options: SegmentOptions) -> list[Tile]:
    """Return the tiles that answer the objects, encoded or not; more may be needed at the borders of tiles."""
    to_native = segmenter.reader.metadata.raster.transform.inverse()
    prompts = [_native_prompts(item, to_native) for item in objects]
    return sorted({tile for tile in _tiles(segmenter, prompts, options.level) if tile is not None})


def _proposals(
    segmenter: Segmenter, objects: Sequence[ObjectPrompts], options: SegmentOptions
) -> Iterator[tuple[int, Proposal | PromptError, float]]:
    """Yield the index of each object, its proposal, and its share of the decoding time in milliseconds."""
    to_native = segmenter.reader.metadata.raster.transform.inverse()
    prompts = [_native_prompts(item, to_native) for item in objects]
    order = _by_tile(segmenter, prompts, options.level)
    chunks = [order[start : start + _TOGETHER] for start in range(0, len(order), _TOGETHER)]

    def decode(chunk: Sequence[int]) -> list[tuple[int, Proposal | PromptError, float]]:
        started = time.perf_counter()
        proposals = _propose(segmenter, [prompts[index] for index in chunk], options)
        share_ms = (time.perf_counter() - started) * 1000.0 / len(chunk)
        return [(index, proposal, share_ms) for index, proposal in zip(chunk, proposals)]

    # The next objects are decoded while these are traced, which takes one core.
    with ThreadPoolExecutor(1) as ahead:
        running = [ahead.submit(decode, chunk) for chunk in chunks[:1]]
        for chunk in (*chunks[1:], []):
            decoded = running.pop().result() if running else []
            if chunk:
                running.append(ahead.submit(decode, chunk))
            yield from decoded


def _native_prompts(item: ObjectPrompts, to_native: GeoTransform) -> Prompts | PromptError:
    """Return prompts in native pixels, or an error if they have no coordinates in the raster's CRS."""
    values = [value for point in item.points for value in point[:2]]
    for shape in (item.box, item.outline):
        # An empty one has NaN for bounds.
        values += [] if shape is None else shape.bounds
    if all(math.isfinite(value) for value in values):
        prompts = Prompts(item.points, outline=item.outline).transformed(to_native.apply)
        # The bounding box on the map of a rotated raster would be larger.
        return prompts if item.box is None else prompts.with_box(Bounds(*to_native.apply_geometry(item.box).bounds))
    return PromptError("The prompts cannot be transformed to the raster's CRS", "check the CRS of the prompts")


def _by_tile(segmenter: Segmenter, prompts: Sequence[Prompts | PromptError], level: int) -> list[int]:
    """Order objects by tile, so that each tile is read and prepared once."""
    tiles = _tiles(segmenter, prompts, level)
    keys = [(tile is not None, tile or (), index) for index, tile in enumerate(tiles)]
    return [index for _, _, index in sorted(keys)]


def _tiles(segmenter: Segmenter, prompts: Sequence[Prompts | PromptError], level: int) -> list[Tile | None]:
    """Return the tile that answers each object; None if none or several do, or if it is refused."""
    tiles: list[Tile | None] = []
    for item in prompts:
        tile = None
        # Refusals are reported when the object is decoded.
        with suppress(PromptError):
            tile = segmenter.tile_for(item, level) if isinstance(item, Prompts) else None
        tiles.append(tile)
    return tiles


def _propose(
    segmenter: Segmenter, prompts: Sequence[Prompts | PromptError], options: SegmentOptions
) -> list[Proposal | PromptError]:
    wanted = [item for item in prompts if isinstance(item, Prompts)]
    answered = iter(segmenter.propose_many(wanted, options.level, options.candidate == BEST_CANDIDATE))
    return [next(answered) if isinstance(item, Prompts) else item for item in prompts]


def _shown(
    segmenter: Segmenter,
    prompts: ObjectPrompts,
    options: SegmentOptions,
    meter: AreaMeter,
    proposal: Proposal,
    decoding_ms: float,
) -> list[Result]:
    pixel_area_m2 = _pixel_area_near(segmenter, prompts, meter)
    clean = CleanOptions(
        simplify_tolerance=options.simplify_tolerance,
        min_area=options.min_area_m2 / pixel_area_m2,
        fill_holes_area=options.fill_holes_m2 / pixel_area_m2,
        all_parts=options.all_parts,
    )
    session = SegmentationSession(segmenter, options.level, clean)
    first = session.show(proposal, decoding_ms)
    if options.candidate == BEST_CANDIDATE:
        return [first]
    if options.candidate == ALL_CANDIDATES:
        return [session.select_candidate(rank) for rank in range(first.candidates)]
    return [session.select_candidate(int(options.candidate) - 1)]


def level_for_ground(
    segmenter: Segmenter, meter: AreaMeter, *, scale: float | None = None, object_size_m: float | None = None
) -> int:
    """Return the level for a map scale, or for objects of a size.

    Parameters
    ----------
    segmenter : Segmenter
    meter : AreaMeter
        For the raster's CRS.
    scale : float, optional
        Denominator of the map scale. The level is the one of a click on a map at this scale, on a screen of 96 dpi.
    object_size_m : float, optional
        Longer side of the objects on the ground, in metres. The level is the one of a box around them.

    Returns
    -------
    int
        0 if neither is given. The pixel size is that in the middle of the raster.
    """
    pyramid = segmenter.pyramid
    if object_size_m is not None:
        return pyramid.level_for_size(object_size_m / middle_pixel_m(segmenter, meter))
    return 0 if scale is None else pyramid.level_for_pixel(scale * _SCREEN_PIXEL_M / middle_pixel_m(segmenter, meter))


def middle_pixel_m(segmenter: Segmenter, meter: AreaMeter) -> float:
    """Return the side of the pixel in the middle of the raster in metres."""
    raster = segmenter.reader.metadata.raster
    area_m2 = _pixel_area_m2(raster, raster.width / 2, raster.height / 2, meter)
    if not 0 < area_m2 < math.inf:
        raise PromptError("The size of a pixel in metres is unknown", "check the CRS of the raster, or give a level")
    return math.sqrt(area_m2)


def _pixel_area_near(segmenter: Segmenter, prompts: ObjectPrompts, meter: AreaMeter) -> float:
    """Return the ground area of a native pixel near the prompts."""
    raster = segmenter.reader.metadata.raster
    x, y = (prompts.points[0].x, prompts.points[0].y) if prompts.points else (0.0, 0.0)
    shape = prompts.box or prompts.outline
    if shape is not None:
        min_x, min_y, max_x, max_y = shape.bounds
        x, y = (min_x + max_x) / 2, (min_y + max_y) / 2
    return _pixel_area_m2(raster, *raster.transform.inverse().apply(x, y), meter)


def _pixel_area_m2(raster: RasterInfo, col: float, row: float, meter: AreaMeter) -> float:
    """Return the ground area of a native pixel; it varies in geographic and Mercator CRSs."""
    # Prompts may lie far outside, where the CRS is undefined; that is reported when they are decoded.
    col, row = min(max(col, 0.0), raster.width), min(max(row, 0.0), raster.height)
    half = _PROBE_SIDE / 2
    probe = shapely.box(col - half, row - half, col + half, row + half)
    return meter.area_m2(raster.transform.apply_geometry(probe)) / _PROBE_SIDE**2
