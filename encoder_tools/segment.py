"""From prompts in a vector layer to polygons in a vector file."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from geosam_es.core.prompts import Bounds
from geosam_es.errors import GeoSamError, OutputError, VectorError
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
from geosam_es.inference.updating import GONE, SAME, UpdatedObject, UpdateOptions, outline_prompts, update_objects

from .crs import (
    AreaMeter,
    check_degrees,
    check_transform,
    prompts_to_raster,
    reproject,
    reproject_polygons,
    store_crs,
)
from .vector import VectorLayer
from .vector_formats import field_names, field_notes
from .vector_output import check_output, write_vector

__all__ = [
    "ALL_CANDIDATES",
    "BEST_CANDIDATE",
    "ObjectPrompts",
    "ObjectResult",
    "SegmentOptions",
    "SegmentReport",
    "UpdateOptions",
    "UpdatedObject",
    "check_place",
    "check_results",
    "located",
    "polygons_from_layer",
    "prompts_from_layer",
    "segment",
    "write_results",
]

OBJECT_FIELD = "object"
LABEL_FIELD = "label"

_CANDIDATES = 4
"""Most polygons of one object."""


@dataclass(frozen=True)
class SegmentReport:
    """Outcome for all objects.

    Attributes
    ----------
    results : list of ObjectResult
        In the order of the prompts; several per object if all candidates were requested.
    left_out : dict of str to str
        Objects without a polygon, and why.
    seconds : float
    """

    results: list[ObjectResult]
    left_out: dict[str, str]
    seconds: float


def prompts_from_layer(layer: VectorLayer, crs: pyproj.CRS, source: str, extent: Bounds) -> list[ObjectPrompts]:
    """Read prompts from features.

    Points are clicks, with ``label`` 1 or 0 (default 1); polygons stand for their bounding box. Features with the same
    ``object`` belong together; without that field, each is an object of its own.

    Parameters
    ----------
    layer : VectorLayer
    crs : pyproj.CRS
        CRS of the raster, which the prompts are transformed to.
    source : str
        Name of the file, for messages.
    extent : Bounds
        Extent of the raster. Prompts on the other side of the antimeridian are moved to it.

    Returns
    -------
    list of ObjectPrompts
        In the order of their first features.

    Raises
    ------
    VectorError
        If there is no CRS, the coordinates do not fit it, a feature is a line, a label is neither 0 nor 1, or a polygon
        has label 0.
    """
    count = len(layer.geometries)
    labels = layer.field(LABEL_FIELD)
    geometries = _on_raster(layer, crs, source, extent)
    features = map(
        PromptFeature,
        geometries,
        [None] * count if labels is None else labels.tolist(),
        _object_values(layer).tolist(),
    )
    return group_prompts(features, source)


def polygons_from_layer(layer: VectorLayer, crs: pyproj.CRS, source: str, extent: Bounds) -> list[ObjectPrompts]:
    """Read old polygons, each the outline of an object of its own.

    Parameters and errors are those of `prompts_from_layer`; points are refused too.
    """
    other = next((item.geom_type for item in layer.geometries if shapely.get_dimensions(item) != 2), None)
    if other is not None:
        raise VectorError(f"{source} has a {other}, which is not a polygon", "give a layer of polygons only")
    geometries = _on_raster(layer, crs, source, extent)
    return outline_prompts(map(PromptFeature, geometries, repeat(None), _object_values(layer).tolist()))


def located(layer: VectorLayer, source: str) -> pyproj.CRS:
    """Return the CRS of a layer, or raise VectorError if it has none or does not fit the coordinates."""
    if layer.crs is None:
        raise VectorError(
            f"{source} has no coordinate reference system", "set it with an option such as --crs EPSG:25830"
        )
    check_degrees(layer.geometries, layer.crs, source)
    return layer.crs


def _on_raster(layer: VectorLayer, crs: pyproj.CRS, source: str, extent: Bounds) -> NDArray[np.object_]:
    layer_crs = located(layer, source)
    # Prompts that cannot be transformed are reported with their object, and do not affect the others.
    return prompts_to_raster(layer.geometries, layer_crs, crs, extent)


def _object_values(layer: VectorLayer) -> NDArray[Any]:
    column = layer.field(OBJECT_FIELD)
    return np.arange(1, len(layer.geometries) + 1, dtype=np.int32) if column is None else column


def segment(
    segmenter: Segmenter,
    objects: Sequence[ObjectPrompts],
    options: SegmentOptions,
    progress: Callable[[int, int], None] | None = None,
    thresholds: UpdateOptions | None = None,
    may_be_empty: bool = False,
) -> SegmentReport:
    """Segment many objects, or bring old polygons up to date.

    Parameters
    ----------
    segmenter : Segmenter
    objects : sequence of ObjectPrompts
        In the raster's CRS.
    options : SegmentOptions
    progress : callable, optional
        Called with the number of objects done and their total.
    thresholds : UpdateOptions, optional
        Compare each answer with the outline of its object, see `update_objects`.
    may_be_empty : bool
        Return a report also if no object can be answered.

    Returns
    -------
    SegmentReport
        It names the objects that have no answer, for instance because they are outside the raster.

    Raises
    ------
    GeoSamError
        If no object can be answered, with the reason of the first one.
    """
    started = time.perf_counter()
    meter = AreaMeter(store_crs(segmenter.reader))
    answered: dict[int, Sequence[ObjectResult]] = {}
    left_out: dict[str, str] = {}
    first_error: GeoSamError | None = None
    if progress is not None:
        progress(0, len(objects))
    if thresholds is None:
        answers = answer_objects(segmenter, objects, options, meter)
    else:
        answers = update_objects(segmenter, objects, options, thresholds, meter)
    for done, answer in enumerate(answers, start=1):
        if answer.refusal is None:
            answered[answer.index] = answer.results
        first_error = first_error or answer.refusal
        if answer.left_out:
            left_out[answer.prompts.name] = answer.left_out
        if progress is not None:
            progress(done, len(objects))
    if first_error is not None and not answered and not may_be_empty:
        raise first_error
    results = [result for index in sorted(answered) for result in answered[index]]
    return SegmentReport(results, left_out, time.perf_counter() - started)


def check_results(
    path: Path,
    objects: Sequence[ObjectPrompts],
    crs: pyproj.CRS,
    out_crs: pyproj.CRS,
    candidates: bool,
    layer: VectorLayer,
    extent: Bounds,
    *,
    overwrite: bool = False,
    append: bool = False,
    out_layer: str = "",
    updated: bool = False,
) -> list[str]:
    """Check, before the objects are segmented, that `write_results` can write their polygons.

    Parameters
    ----------
    path, crs, out_crs, candidates, layer, append, out_layer, updated
        As for `write_results`.
    objects : sequence of ObjectPrompts
    extent : Bounds
        Of the raster, in its CRS.
    overwrite : bool
        Whether an existing file, or layer of a database, may be replaced.

    Returns
    -------
    list of str
        Sentences about fields that change their name or type.

    Raises
    ------
    OutputError
        If the file cannot hold the polygons or their attributes, or cannot be written, or its CRS is not for the place.
    VectorError
        If there is no transformation to its CRS.
    """
    check_place(path, extent, crs, out_crs)
    own = _own_fields([], candidates, updated)
    blank = {name: np.zeros(len(objects), dtype=column.dtype) for name, column in own.items() if column.dtype != object}
    text = np.full(len(objects), "", dtype=object)
    names = np.array([item.name for item in objects], dtype=object)
    fields, called = _fields(path, {**dict.fromkeys(own, text), **blank, OBJECT_FIELD: names}, objects, layer)
    as_texts = check_output(
        path,
        out_crs,
        fields,
        overwrite=overwrite,
        append=append,
        layer=out_layer,
        copies=_CANDIDATES if candidates else 1,
    )
    return field_notes(path, called, as_texts)


def check_place(path: Path, extent: Bounds, crs: pyproj.CRS, out_crs: pyproj.CRS) -> None:
    """Refuse an output whose CRS has no transformation from that of the raster, or not at its place."""
    check_transform(crs, out_crs)
    box = shapely.box(*extent)
    points = reproject(np.array([box, box.centroid], dtype=object), crs, out_crs, may_fail=True)
    if not np.isfinite(shapely.get_coordinates(points)).any():
        raise OutputError(
            f"The raster is outside the CRS {out_crs.name} of {path}", "choose another one with --out-crs"
        )


def write_results(
    path: Path,
    report: SegmentReport,
    crs: pyproj.CRS,
    out_crs: pyproj.CRS,
    candidates: bool,
    layer: VectorLayer | None = None,
    *,
    overwrite: bool = True,
    append: bool = False,
    out_layer: str = "",
    updated: bool = False,
) -> dict[str, str]:
    """Write polygons with the fields object, score, level, area_m2 and model.

    Parameters
    ----------
    path : Path
    report : SegmentReport
    crs, out_crs : pyproj.CRS
        CRS of the results, and of the file.
    candidates : bool
        Add a field ``candidate`` that tells several polygons of one object apart.
    layer : VectorLayer, optional
        The prompts. ``object`` gets the type that it has there, and their other attributes are copied from the first
        feature of each object; what the format cannot hold otherwise, as text.
    overwrite, append : bool
        Replace an existing file, or add the polygons to it; see `write_vector`.
    out_layer : str
        Name of the layer in a database, such as a GeoPackage. Default: that of the file.
    updated : bool
        Add the fields ``verdict`` and ``iou`` of old polygons that were brought up to date.

    Returns
    -------
    dict of str to str
        Objects whose polygon is not written because it cannot be transformed to ``out_crs``, and why.

    Raises
    ------
    OutputError
        If the file cannot be written.
    VectorError
        If no polygon can be transformed.
    """
    geometries = np.array([item.result.geometry for item in report.results], dtype=object)
    projected, is_defined = reproject_polygons(geometries, crs, out_crs)
    if updated and layer is not None and layer.crs == out_crs:
        # No coordinate of a polygon that has not changed is touched.
        kept = [index for index, item in enumerate(report.results) if _is_kept(item)]
        projected[kept] = layer.geometries[[report.results[index].prompts.feature - 1 for index in kept]]
    reason = f"The polygon cannot be transformed to {out_crs.name}"
    if len(is_defined) and not is_defined.any():
        raise VectorError(reason, "choose another CRS with --out-crs")
    results = [item for item, keep in zip(report.results, is_defined) if keep]
    fields = _own_fields(results, candidates, updated)
    if layer is not None:
        fields, _ = _fields(path, fields, [item.prompts for item in results], layer)
    write_vector(
        path, list(projected[is_defined]), fields, out_crs, overwrite=overwrite, append=append, layer=out_layer
    )
    return {item.prompts.name: reason for item, keep in zip(report.results, is_defined) if not keep}


def _is_kept(item: ObjectResult) -> bool:
    return isinstance(item, UpdatedObject) and item.verdict in (SAME, GONE)


def _own_fields(results: Sequence[ObjectResult], candidates: bool, updated: bool) -> dict[str, NDArray[Any]]:
    fields: dict[str, NDArray[Any]] = {
        OBJECT_FIELD: np.array([item.prompts.name for item in results], dtype=object),
        "score": np.array([item.result.score for item in results], dtype=np.float64),
        "level": np.array([item.result.level for item in results], dtype=np.int32),
        "area_m2": np.array([item.area_m2 for item in results], dtype=np.float64),
        "model": np.array([item.result.model for item in results], dtype=object),
    }
    if candidates:
        fields["candidate"] = np.array([item.result.rank + 1 for item in results], dtype=np.int32)
    if updated:
        compared = [item for item in results if isinstance(item, UpdatedObject)]
        fields["verdict"] = np.array([item.verdict for item in compared], dtype=object)
        fields["iou"] = np.array([item.iou for item in compared], dtype=np.float64)
    return fields


def _fields(
    path: Path, own: dict[str, NDArray[Any]], prompts: Sequence[ObjectPrompts], layer: VectorLayer
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Add the attributes of the prompts to our own fields. Also return their names in the file, by their own."""
    rows = np.array([item.feature - 1 for item in prompts], dtype=np.intp)
    fields = {**own, OBJECT_FIELD: _object_values(layer)[rows]}
    copied = [name for name in layer.fields if name.lower() not in (OBJECT_FIELD, LABEL_FIELD)]
    names = field_names(path, copied, list(fields))
    return {**fields, **{free: layer.fields[name][rows] for name, free in names.items()}}, names
