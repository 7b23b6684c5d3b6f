"""Prompts from a vector file or the command line to polygons in a vector file, without a screen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from geosam_es.core.prompts import Bounds, Point, Prompts
from geosam_es.errors import PromptError, VectorError
from geosam_es.inference.segmenter import Segmenter
from geosam_es.inference.session import CleanOptions, Result, SegmentationSession

from .vector import AreaMeter, VectorLayer, reproject, write_vector

__all__ = ["ObjectPrompts", "SegmentOptions", "SegmentReport", "prompts_from_layer", "segment", "write_results"]

OBJECT_FIELD = "object"
LABEL_FIELD = "label"
ALL_CANDIDATES = "all"
BEST_CANDIDATE = "best"
_PROBE_SIDE = 16.0
"""Side in pixels of the square whose area on the ground tells how large pixels are at a place."""


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
class SegmentReport:
    """What came of all the objects.

    Attributes
    ----------
    results : list of ObjectResult
        In the order of the prompts; several of one object where all candidates were asked for.
    left_out : dict of str to str
        Objects without a polygon, and why.
    seconds : float
    """

    results: list[ObjectResult]
    left_out: dict[str, str]
    seconds: float


def prompts_from_layer(layer: VectorLayer, crs: pyproj.CRS, source: str) -> list[ObjectPrompts]:
    """Read prompts from features.

    Points are clicks, with ``label`` 1 or 0 (default 1); polygons stand for their box. Features with the same
    ``object`` belong together; without that field each is an object of its own.

    Parameters
    ----------
    layer : VectorLayer
    crs : pyproj.CRS
        Of the raster, which the prompts are brought to.
    source : str
        Name of the file, for messages.

    Returns
    -------
    list of ObjectPrompts
        In the order in which their first features appear.

    Raises
    ------
    VectorError
        If there is no CRS, a feature is a line, a label is not 0 or 1, or a polygon is labelled 0.
    """
    if layer.crs is None:
        raise VectorError(f"{source} has no coordinate reference system", "name it with --crs EPSG:25830 or the like")
    count = len(layer.geometries)
    ids = _object_ids(layer, count)
    labels = _labels(layer, count, source)
    objects: dict[str, ObjectPrompts] = {}
    # What has no place in the raster's CRS lies outside the raster, and must not lose the others.
    projected = reproject(layer.geometries, layer.crs, crs, may_fail=True)
    for object_id, positive, geometry in zip(ids, labels, projected):
        known = objects.get(object_id, ObjectPrompts(object_id))
        objects[object_id] = _with_feature(known, geometry, positive, source)
    return list(objects.values())


def _object_ids(layer: VectorLayer, count: int) -> list[str]:
    column = layer.fields.get(OBJECT_FIELD)
    if column is None:
        return [str(index + 1) for index in range(count)]
    # Features without a value belong to nobody else.
    return [f"feature {index + 1}" if _is_null(value) else _text(value) for index, value in enumerate(column)]


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, (float, np.floating)) and bool(np.isnan(value)))


def _text(value: Any) -> str:
    # A number read from a column with gaps comes as a float; 3.0 is object 3.
    is_whole = isinstance(value, (float, np.floating)) and float(value).is_integer()
    return str(int(value)) if is_whole else str(value)


def _labels(layer: VectorLayer, count: int, source: str) -> list[bool]:
    column = layer.fields.get(LABEL_FIELD)
    if column is None:
        return [True] * count
    labels = []
    for value in column:
        if _is_null(value):
            labels.append(True)
            continue
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = -1.0
        if number not in (0.0, 1.0):
            raise VectorError(f"{source} has label {_text(value)}", "use 1 for positive and 0 for negative points")
        labels.append(number == 1.0)
    return labels


def _with_feature(known: ObjectPrompts, geometry: Any, positive: bool, source: str) -> ObjectPrompts:
    kind = geometry.geom_type
    if kind in ("Point", "MultiPoint"):
        points = tuple(Point(point.x, point.y, positive) for point in shapely.get_parts(geometry))
        return ObjectPrompts(known.object_id, known.points + points, known.box)
    if kind in ("Polygon", "MultiPolygon"):
        if known.box is not None:
            raise VectorError(f"{source} has two boxes for object {known.object_id}", "keep one of them")
        if not positive:
            raise VectorError(f"{source} has a polygon with label 0", "use points to say what is outside an object")
        return ObjectPrompts(known.object_id, known.points, Bounds(*geometry.bounds))
    raise VectorError(f"{source} has a {kind}, which is no prompt", "use points and polygons only")


def segment(
    segmenter: Segmenter,
    objects: Sequence[ObjectPrompts],
    options: SegmentOptions,
    progress: Callable[[int, int], None] | None = None,
) -> SegmentReport:
    """Segment many objects.

    Parameters
    ----------
    segmenter : Segmenter
    objects : sequence of ObjectPrompts
        In the raster's CRS.
    options : SegmentOptions
    progress : callable, optional
        Called with the objects done and their number.

    Returns
    -------
    SegmentReport
        Objects that cannot be answered (outside the raster, no data) are left out and named; the others are not lost.

    Raises
    ------
    PromptError
        If not a single object can be answered, with the first one's reason.
    """
    started = time.perf_counter()
    metadata = segmenter.reader.metadata
    meter = AreaMeter(pyproj.CRS.from_wkt(metadata.raster.crs_wkt))
    answered: dict[int, list[ObjectResult]] = {}
    left_out: dict[str, str] = {}
    first_error: PromptError | None = None
    if progress is not None:
        progress(0, len(objects))
    for done, index in enumerate(_by_tile(segmenter, objects, options.level), start=1):
        prompts = objects[index]
        try:
            _check_finite(prompts)
            session = _session(segmenter, prompts, options, meter)
            shown = _results(session, prompts, options.candidate)
        except PromptError as error:
            first_error = first_error or error
            left_out[prompts.object_id] = error.user_message
        else:
            kept = [result for result in shown if not result.geometry.is_empty]
            if not kept:
                left_out[prompts.object_id] = "the mask is empty or smaller than --min-area-m2"
            answered[index] = [
                ObjectResult(prompts.object_id, result, meter.area_m2(result.geometry)) for result in kept
            ]
        if progress is not None:
            progress(done, len(objects))
    if first_error is not None and not answered:
        raise first_error
    results = [result for index in sorted(answered) for result in answered[index]]
    return SegmentReport(results, left_out, time.perf_counter() - started)


def _by_tile(segmenter: Segmenter, objects: Sequence[ObjectPrompts], level: int) -> Iterable[int]:
    """Order objects by the tile that answers, so that each tile is read and prepared once."""
    inverse = segmenter.reader.metadata.raster.transform.inverse()
    keys = []
    for index, item in enumerate(objects):
        try:
            _check_finite(item)
            tile = segmenter.tile_for(Prompts(item.points, item.box).transformed(inverse.apply), level)
        except PromptError:
            # Reported when its turn comes.
            tile = None
        keys.append((tile is not None, tile or (), index))
    return [index for _, _, index in sorted(keys)]


def _check_finite(prompts: ObjectPrompts) -> None:
    values = [value for point in prompts.points for value in point[:2]] + list(prompts.box or ())
    if not np.isfinite(values).all():
        raise PromptError("Its coordinates have no place in the raster's CRS", "check the CRS of the prompts")


def _session(
    segmenter: Segmenter, prompts: ObjectPrompts, options: SegmentOptions, meter: AreaMeter
) -> SegmentationSession:
    pixel_area_m2 = _pixel_area_m2(segmenter, prompts, meter)
    clean = CleanOptions(
        simplify_tolerance=options.simplify_tolerance,
        min_area=options.min_area_m2 / pixel_area_m2,
        fill_holes_area=options.fill_holes_m2 / pixel_area_m2,
    )
    return SegmentationSession(segmenter, options.level, clean)


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


def _results(session: SegmentationSession, prompts: ObjectPrompts, candidate: str) -> list[Result]:
    first = session.prompt_at_once(prompts.points, prompts.box)
    if candidate == BEST_CANDIDATE:
        return [first]
    if candidate == ALL_CANDIDATES:
        return [session.select_candidate(rank) for rank in range(first.candidates)]
    return [session.select_candidate(int(candidate) - 1)]


def write_results(path: Path, report: SegmentReport, crs: pyproj.CRS, out_crs: pyproj.CRS, candidates: bool) -> None:
    """Write polygons with the fields object, score, level, area_m2 and model.

    Parameters
    ----------
    path : Path
    report : SegmentReport
    crs, out_crs : pyproj.CRS
        Of the results, and of the file.
    candidates : bool
        Whether a field ``candidate`` tells several polygons of one object apart.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    results = report.results
    geometries = np.array([item.result.geometry for item in results], dtype=object)
    fields: dict[str, NDArray[Any]] = {
        "object": np.array([item.object_id for item in results], dtype=object),
        "score": np.array([item.result.score for item in results], dtype=np.float64),
        "level": np.array([item.result.level for item in results], dtype=np.int32),
        "area_m2": np.array([item.area_m2 for item in results], dtype=np.float64),
        "model": np.array([item.result.model for item in results], dtype=object),
    }
    if candidates:
        fields["candidate"] = np.array([item.result.rank + 1 for item in results], dtype=np.int32)
    projected = reproject(geometries, crs, out_crs) if len(results) else geometries
    write_vector(path, list(projected), fields, out_crs)
