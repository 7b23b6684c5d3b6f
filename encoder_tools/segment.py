"""Prompts from a vector file or the command line to polygons in a vector file, without a screen."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray

from geosam_es.errors import PromptError, VectorError
from geosam_es.inference.batch import (
    ALL_CANDIDATES,
    BEST_CANDIDATE,
    ObjectPrompts,
    ObjectResult,
    PromptFeature,
    SegmentOptions,
    answer_objects,
    group_prompts,
)
from geosam_es.inference.segmenter import Segmenter

from .vector import AreaMeter, VectorLayer, reproject, write_vector

__all__ = [
    "ALL_CANDIDATES",
    "BEST_CANDIDATE",
    "ObjectPrompts",
    "ObjectResult",
    "SegmentOptions",
    "SegmentReport",
    "prompts_from_layer",
    "segment",
    "write_results",
]

OBJECT_FIELD = "object"
LABEL_FIELD = "label"


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
    labels = layer.fields.get(LABEL_FIELD)
    # What has no place in the raster's CRS lies outside the raster, and must not lose the others.
    projected = reproject(layer.geometries, layer.crs, crs, may_fail=True)
    features = [
        PromptFeature(geometry, None if labels is None else labels[index], object_id)
        for index, (geometry, object_id) in enumerate(zip(projected, _object_ids(layer)))
    ]
    return group_prompts(features, source)


def _object_ids(layer: VectorLayer) -> list[str | None]:
    column = layer.fields.get(OBJECT_FIELD)
    if column is None:
        return [str(index + 1) for index in range(len(layer.geometries))]
    return [None if _is_null(value) else _text(value) for value in column]


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, (float, np.floating)) and bool(np.isnan(value)))


def _text(value: Any) -> str:
    # A number read from a column with gaps comes as a float; 3.0 is object 3.
    is_whole = isinstance(value, (float, np.floating)) and float(value).is_integer()
    return str(int(value)) if is_whole else str(value)


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
    meter = AreaMeter(pyproj.CRS.from_wkt(segmenter.reader.metadata.raster.crs_wkt))
    answered: dict[int, Sequence[ObjectResult]] = {}
    left_out: dict[str, str] = {}
    first_error: PromptError | None = None
    if progress is not None:
        progress(0, len(objects))
    for done, answer in enumerate(answer_objects(segmenter, objects, options, meter), start=1):
        if answer.refusal is None:
            answered[answer.index] = answer.results
        first_error = first_error or answer.refusal
        if answer.left_out:
            left_out[answer.name] = answer.left_out
        if progress is not None:
            progress(done, len(objects))
    if first_error is not None and not answered:
        raise first_error
    results = [result for index in sorted(answered) for result in answered[index]]
    return SegmentReport(results, left_out, time.perf_counter() - started)


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
