"""Polygons of an older image on a newer one: each prompts the newer image, and its answer is compared with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
import shapely.affinity
from shapely.geometry.base import BaseGeometry

from ..core.prompts import Point
from ..core.topology import Outline, merge, middles, polygon_parts, valid_polygon, with_kept_borders
from .batch import (
    BEST_CANDIDATE,
    AreaMeter,
    ObjectAnswer,
    ObjectPrompts,
    ObjectResult,
    PromptFeature,
    SegmentOptions,
    answer_objects,
    parse_object_id,
)
from .segmenter import Segmenter
from .session import Result, SegmentationSession

__all__ = [
    "CHANGED",
    "GONE",
    "MOVED",
    "SAME",
    "VERDICTS",
    "UpdateOptions",
    "UpdatedObject",
    "outline_prompts",
    "update_objects",
]

VERDICTS = SAME, MOVED, CHANGED, GONE = "same", "moved", "changed", "gone"

_RELIABLE = 0.6
"""Score from which an outline that differs from the old one counts as a change."""

_LOST = 0.12
"""An object is gone if its score on the older image is higher by more."""


@dataclass(frozen=True)
class UpdateOptions:
    """Thresholds of the user.

    Attributes
    ----------
    same_iou : float
        Least IoU of the new outline with the old one, in its place or displaced, for an object that has not changed.
    gone_score : float
        An object is gone if the mean score of two answers is lower: to its outline, and to a click in its middle.
    tolerance : float
        In native pixels. Borders that differ by less keep their old vertices.
    older : Segmenter, optional
        Of the image that the old polygons were drawn on, in the CRS of the newer one. The answers to a polygon on both
        images are compared, in place of the answer and the polygon: what the model draws otherwise than the user, or is
        not sure of, is no change then. It makes ``gone_score`` unnecessary.
    """

    same_iou: float = 0.65
    gone_score: float = 0.62
    tolerance: float = 3.0
    older: Segmenter | None = None


@dataclass(frozen=True)
class UpdatedObject(ObjectResult):
    """An old polygon brought up to date. Its result has the new outline, or the old one if the object is gone.

    Attributes
    ----------
    iou : float
        IoU of the decoder's outline with the old polygon.
    verdict : str
        ``same``, ``moved``, ``changed`` or ``gone``.
    """

    iou: float = 0.0
    verdict: str = SAME


def outline_prompts(features: Iterable[PromptFeature]) -> list[ObjectPrompts]:
    """Return an object for each polygon, with the polygon as its outline.

    Parameters
    ----------
    features : iterable of PromptFeature
        Polygons in the raster's CRS.
    """
    objects = [
        ObjectPrompts(
            parse_object_id(item.object_id),
            attributes=item.attributes,
            feature=number,
            outline=_valid(item.geometry),
        )
        for number, item in enumerate(features, start=1)
    ]
    counts = Counter(item.object_id for item in objects)
    return [replace(item, shares_id=counts[item.object_id] > 1) for item in objects]


def _valid(polygon: BaseGeometry) -> Outline:
    if isinstance(polygon, (shapely.Polygon, shapely.MultiPolygon)) and not np.isfinite(polygon.bounds).all():
        # It has no coordinates, and is refused later with its name.
        return polygon
    return valid_polygon(polygon)


def update_objects(
    segmenter: Segmenter,
    objects: Sequence[ObjectPrompts],
    options: SegmentOptions,
    thresholds: UpdateOptions,
    meter: AreaMeter,
) -> Iterator[ObjectAnswer]:
    """Find each object again.

    Parameters
    ----------
    segmenter : Segmenter
        Of the newer image.
    objects : sequence of ObjectPrompts
        With the old polygons as their outlines, in the raster's CRS.
    options : SegmentOptions
    thresholds : UpdateOptions
    meter : AreaMeter
        For the raster's CRS.

    Yields
    ------
    ObjectAnswer
        As from `answer_objects`, with `UpdatedObject` as results.

    Raises
    ------
    StoreError, ModelError
        If the store or its decoder cannot be used.
    """
    plain = replace(options, candidate=BEST_CANDIDATE)
    raster = segmenter.reader.metadata.raster
    extent = raster.transform.apply_geometry(segmenter.reach)
    before: dict[int, Result] = {}
    if thresholds.older is not None:
        answers = answer_objects(thresholds.older, objects, plain, meter)
        before = {answer.index: item.result for answer in answers for item in answer.results}
    unknown = [index for index in range(len(objects)) if index not in before]
    clicks = [_click(objects[index], extent) for index in unknown]
    click_scores = {
        unknown[answer.index]: max((item.result.score for item in answer.results), default=0.0)
        for answer in answer_objects(segmenter, clicks, plain, meter)
    }
    width = thresholds.tolerance * raster.transform.pixel_size
    for answer in answer_objects(segmenter, objects, plain, meter):
        if answer.refusal is not None:
            yield answer
            continue
        known = before.get(answer.index), click_scores.get(answer.index, 0.0)
        updated = _compared(segmenter, answer, *known, thresholds, width, extent)
        area_m2 = meter.area_m2(updated.result.geometry)
        yield replace(answer, results=(replace(updated, area_m2=area_m2),))


def _seen(outline: Outline, extent: Outline) -> Outline:
    """Return the part of an outline that the images show."""
    return outline if extent.covers(outline) else merge(polygon_parts(shapely.intersection(outline, extent)))


def _click(item: ObjectPrompts, extent: Outline) -> ObjectPrompts:
    """Return the object with a click in the middle of its outline in place of it."""
    outline = item.outline
    is_finite = outline is not None and np.isfinite(outline.bounds).all()
    middle = middles(_seen(outline, extent))[:1] if outline is not None and is_finite else ()
    return replace(item, outline=None, points=tuple(Point(x, y) for x, y in middle))


def _compared(
    segmenter: Segmenter,
    answer: ObjectAnswer,
    before: Result | None,
    click_score: float,
    thresholds: UpdateOptions,
    width: float,
    extent: Outline,
) -> UpdatedObject:
    prompts, old = answer.prompts, answer.prompts.outline or shapely.Polygon()
    # What the image does not show is as it was.
    seen = _seen(old, extent)
    was = seen if before is None else _seen(before.geometry, extent)
    if was.is_empty or not answer.results:
        shown = SegmentationSession(segmenter).reshape(old)
        return UpdatedObject(prompts, shown, 0.0, 0.0, SAME if was.is_empty else GONE)
    (item,) = answer.results
    new, score = item.result.geometry, item.result.score
    dx, dy = new.centroid.x - was.centroid.x, new.centroid.y - was.centroid.y
    displaced, displaced_was = (shapely.affinity.translate(part, dx, dy) for part in (old, was))
    iou, moved_iou = _iou(was, new), _iou(displaced_was, new)
    is_lost = (score + click_score) / 2 < thresholds.gone_score if before is None else before.score - score > _LOST
    is_uncertain = before is None and score < _RELIABLE
    if iou == 0 or is_lost:
        verdict, outline = GONE, old
    elif iou >= thresholds.same_iou or (is_uncertain and moved_iou < thresholds.same_iou):
        verdict, outline = SAME, old
    elif moved_iou >= thresholds.same_iou:
        verdict, outline = MOVED, displaced
    else:
        whole = new if seen is old else merge([*polygon_parts(new), *polygon_parts(shapely.difference(old, extent))])
        verdict, outline = CHANGED, with_kept_borders(whole, old, width)
    return UpdatedObject(prompts, replace(item.result, geometry=outline), 0.0, _iou(seen, new), verdict)


def _iou(first: Outline, second: Outline) -> float:
    return float(shapely.intersection(first, second).area / shapely.union(first, second).area)
