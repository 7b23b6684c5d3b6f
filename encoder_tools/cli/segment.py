"""``geosam-es segment``."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyproj
import shapely
from shapely.geometry.base import BaseGeometry

from geosam_es.core.grid import FINEST_LEVEL
from geosam_es.core.prompts import Bounds
from geosam_es.errors import PromptError
from geosam_es.inference.batch import level_for_ground
from geosam_es.inference.segmenter import Segmenter
from geosam_es.inference.updating import VERDICTS

from ..crs import AreaMeter, check_transform, may_be_in, parse_crs, reproject_polygons, same_crs, store_crs
from ..detections import read_detections
from ..progress import Progress
from ..segment import (
    ALL_CANDIDATES,
    BEST_CANDIDATE,
    ObjectPrompts,
    ObjectResult,
    SegmentOptions,
    SegmentReport,
    UpdatedObject,
    UpdateOptions,
    check_results,
    prompts_from_layer,
    segment,
    write_results,
)
from ..vector import VectorLayer, read_vector
from ..vector_formats import FORMATS, default_crs
from ..vector_output import lost_heights
from .options import PATH, STORE, Number, StorePlace, counted, json_option, refuse_own_prompts, threads_option
from .sheets import RASTER_FIELD, Sheet, Sheets, each, worker_options

__all__ = [
    "answer_options",
    "draw",
    "output_options",
    "segment_command",
    "vector_layer",
]

Command = Callable[..., Any]

_SHOWN = 10
"""Most reasons, and objects per reason, to list for objects without a polygon."""

_PLACE = re.compile(r" \([^()]*, [^()]*\)")
"""The coordinates in a reason."""


class _Numbers(click.ParamType):  # type: ignore[type-arg]
    """From ``least`` to ``most`` comma-separated numbers."""

    def __init__(self, name: str, least: int, most: int) -> None:
        self.name = name
        self._least = least
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        try:
            numbers = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            numbers = ()
        if not self._least <= len(numbers) <= self._most or not all(np.isfinite(numbers)):
            self.fail(f"{value} does not have the form {self.name}", param, ctx)
        return numbers


class _Scale(click.ParamType):  # type: ignore[type-arg]
    """A map scale; the value is its denominator."""

    name = "scale"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value)
        try:
            denominator = float(text[2:])
        except ValueError:
            denominator = 0.0
        if not text.startswith("1:") or not 0 < denominator < np.inf:
            self.fail(f"{value} is not a scale such as 1:5000", param, ctx)
        return denominator


_ANSWER_OPTIONS = (
    click.option(
        "--level",
        type=click.IntRange(min=FINEST_LEVEL),
        help="Finest pyramid level to use; -1 and -2 are enlarged (see encode --finest). Default: 0.",
    ),
    click.option(
        "--scale",
        type=_Scale(),
        metavar="1:N",
        help="Use the level of a click on a map at this scale, instead of --level.",
    ),
    click.option(
        "--object-size",
        type=Number(min=0, min_open=True),
        metavar="METRES",
        help="Use the level that suits objects of this size, instead of --level.",
    ),
    click.option(
        "--simplify",
        type=Number(min=0),
        default=1.0,
        show_default=True,
        help="Tolerance in pixels for simplifying outlines.",
    ),
    click.option("--min-area-m2", type=Number(min=0), default=0.0, help="Remove parts smaller than this."),
    click.option("--fill-holes-m2", type=Number(min=0), default=0.0, help="Fill holes smaller than this."),
    click.option("--all-parts", is_flag=True, help="Keep all pieces of a mask, also those without a prompt."),
)
_OUTPUT_OPTIONS = (
    threads_option,
    click.option(
        "--overwrite", is_flag=True, help="Replace an existing output. Other layers of a GeoPackage are kept."
    ),
    click.option("--append", is_flag=True, help="Add the polygons to an existing output."),
    click.option("--out-layer", default="", help="Layer of a GeoPackage to write. Default: the name of the file."),
    json_option,
)


def answer_options(command: Command) -> Command:
    """Add the options of level and cleaning."""
    return reduce(lambda made, option: option(made), reversed(_ANSWER_OPTIONS), command)


def output_options(command: Command) -> Command:
    """Add the options of the file, and of what is printed."""
    return reduce(lambda made, option: option(made), reversed(_OUTPUT_OPTIONS), command)


@click.command("segment", short_help="Draw polygons in STORE from points or boxes.")
@click.argument("store", type=STORE)
@click.argument("prompts", required=False, type=PATH)
@click.option("-o", "--output", required=True, type=PATH, help=f"Extensions: {', '.join(FORMATS)}.")
@click.option(
    "--point",
    "points",
    multiple=True,
    type=_Numbers("X,Y[,LABEL]", 2, 3),
    help="A click; with label 0, a negative one. All --point and --box options are prompts of the same object.",
)
@click.option("--box", type=_Numbers("XMIN,YMIN,XMAX,YMAX", 4, 4), help="A box around one object.")
@click.option("--crs", help="CRS of --point and --box, and of a PROMPTS file without CRS. Default: that of the raster.")
@click.option(
    "--out-crs", help="CRS of the output. Default: that of the raster, but EPSG:4326 for .kml, .geojsonl and .geojsons."
)
@answer_options
@click.option(
    "--candidate",
    type=click.Choice([BEST_CANDIDATE, "1", "2", "3", ALL_CANDIDATES]),
    default=BEST_CANDIDATE,
    show_default=True,
    help="Which masks to keep: the best one, one of the ranks 1 to 3, or all.",
)
@worker_options
@output_options
def segment_command(
    store: StorePlace,
    prompts: Path | None,
    output: Path,
    points: Sequence[tuple[float, ...]],
    box: tuple[float, ...] | None,
    crs: str | None,
    out_crs: str | None,
    threads: int | None,
    **options: Any,
) -> None:
    """Segment objects in STORE from PROMPTS, a vector file of points or polygons, or from --point and --box.

    STORE may be several: a folder of stores, or a catalogue of geosam-es catalog. Each object is answered by the image
    whose border is farthest, which the field raster names. An object that the border of an image cuts is followed into
    the next one where CRS, pixel grid and model agree.

    PROMPTS may also be the output of a detector for this raster: boxes in COCO JSON or in a YOLO text file.

    Points may have the fields label (1 positive, 0 negative) and object (points with the same value are prompts of one
    object). Polygons stand for their bounding box. Other fields are copied to the output. Of a file with several
    layers, choose one as in "FILE|layername=NAME", with the quotes.

    \b
    Example:
      geosam-es segment ortho.embeddings.zarr clicks.gpkg -o polygons.gpkg --min-area-m2 50
      geosam-es segment ortho.embeddings.zarr -o house.geojson --point 728312.5,4372101.2
    """
    sheets = Sheets(store)
    target_crs = parse_crs(out_crs) if out_crs else default_crs(output) or sheets.systems[0]
    prompt_crs = parse_crs(crs) if crs else None
    refuse_own_prompts(prompts, output, layer=options["out_layer"])
    layer = _layer(prompts, points, box, prompt_crs, sheets)
    source = str(prompts) if prompts is not None else "--point" if points else "--box"
    draw(sheets, threads, prompts_from_layer, layer, source, output, target_crs, **options)


def _chosen_level(segmenter: Segmenter, level: int | None, scale: float | None, object_size: float | None) -> int:
    """Return the level that the options choose, with a note if the store lacks it."""
    if level is None:
        meter = AreaMeter(store_crs(segmenter.reader))
        level = level_for_ground(segmenter, meter, scale=scale, object_size_m=object_size)
    if level < segmenter.finest_level:
        click.echo(
            f"Note: {segmenter.reader.root.name} has no level {level}; its finest level, {segmenter.finest_level}, is "
            f"used. Add enlarged levels with: geosam-es encode IMAGE --finest {level} --resume",
            err=True,
        )
    return level


def draw(
    sheets: Sheets,
    threads: int | None,
    read: Callable[[VectorLayer, pyproj.CRS, str, Bounds], list[ObjectPrompts]],
    layer: VectorLayer,
    source: str,
    output: Path,
    target_crs: pyproj.CRS,
    *,
    thresholds: UpdateOptions | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    level: int | None,
    scale: float | None,
    object_size: float | None,
    simplify: float,
    min_area_m2: float,
    fill_holes_m2: float,
    all_parts: bool,
    candidate: str = BEST_CANDIDATE,
    overwrite: bool,
    append: bool,
    out_layer: str,
    as_json: bool,
) -> None:
    """Answer the objects that are read from a layer, write their polygons, and print a summary.

    Each object is answered by one store. With thresholds, old polygons are brought up to date.
    """
    if sum(value is not None for value in (level, scale, object_size)) > 1:
        raise click.UsageError("Only one of --level, --scale and --object-size can be given.")
    objects = read(layer, sheets.crs, source, sheets.extent)
    owners = sheets.owners([_place(item) for item in objects], sheets.crs)
    if sheets.is_many:
        rasters = np.full(len(layer.geometries), "", dtype=object)
        rasters[[item.feature - 1 for item in objects]] = np.array(sheets.names, dtype=object)[owners]
        layer = replace(layer, fields={**layer.fields, RASTER_FIELD: rasters})
    candidates = candidate == ALL_CANDIDATES
    written: dict[str, Any] = {
        "overwrite": overwrite,
        "append": append,
        "out_layer": out_layer,
        "updated": thresholds is not None,
    }
    around = objects, sheets.crs, target_crs, candidates, layer, sheets.extent
    notes = check_results(output, *around, **written)
    if thresholds is not None and layer.has_z:
        notes.append(lost_heights(source, output))
    for note in notes:
        click.echo(f"Note: {note}", err=True)
    left_out = {item.name: "It is outside the images" for item, owner in zip(objects, owners) if owner < 0}
    base = target_crs if sheets.is_many else sheets.crs
    answers: list[ObjectResult] = []
    done, seconds = len(left_out), 0.0
    options = SegmentOptions(0, simplify, min_area_m2, fill_holes_m2, candidate, all_parts)
    with sheets.workers(workers, scheduler, threads) as cluster, Progress(output.name, "objects") as progress:

        def show(count: int, _: int) -> None:
            progress(done + count, len(objects))

        asked: dict[int, tuple[Sheet, list[ObjectPrompts]]] = {}
        for index, sheet in enumerate(sheets.items(output, cluster)):
            if (chosen := np.flatnonzero(owners == index)).size:
                with sheets.guard(sheets.stores[index]):
                    there = objects if sheet.crs == sheets.crs else read(layer, sheet.crs, source, sheets.bounds[index])
                    asked[index] = sheet, [there[item] for item in chosen]
        drawing = _Drawing(
            threads if cluster is None else cluster.threads,
            (level, scale, object_size),
            options,
            thresholds,
            base,
            sheets.is_many,
            show if cluster is None else None,
        )
        for index, found in zip(asked, each(partial(_answer, drawing), asked.values(), cluster)):
            with sheets.guard(sheets.stores[index]):
                report = found()
                answers += report.results
                left_out.update(report.left_out)
                seconds += report.seconds
            done += len(asked[index][1])
            progress(done, len(objects))
    if sheets.is_many and not answers:
        reason = next(iter(left_out.values()), "their stores cannot be used")
        raise PromptError(f"No store answers any of the prompts ({reason})", "check the prompts and their CRS")
    answers.sort(key=lambda item: item.prompts.feature)
    report = SegmentReport(answers, left_out, seconds)
    left_out.update(write_results(output, report, base, target_crs, candidates, layer, **written))
    _print(output, report, as_json)
    sheets.finish(append)


@dataclass(frozen=True)
class _Drawing:
    """The options of a run, which are the same for all stores."""

    threads: int | None
    size: tuple[int | None, float | None, float | None]
    options: SegmentOptions
    thresholds: UpdateOptions | None
    crs: pyproj.CRS
    is_many: bool
    show: Callable[[int, int], None] | None


def _answer(drawing: _Drawing, asked: tuple[Sheet, list[ObjectPrompts]]) -> SegmentReport:
    """Answer the objects of one store, with the polygons in the CRS of the output."""
    sheet, objects = asked
    with sheet.segmenter(drawing.threads) as segmenter:
        options = replace(drawing.options, level=_chosen_level(segmenter, *drawing.size))
        report = segment(segmenter, objects, options, drawing.show, drawing.thresholds, drawing.is_many)
    outlines = np.array([item.result.geometry for item in report.results], dtype=object)
    moved, _ = reproject_polygons(outlines, sheet.crs, drawing.crs)
    results = [
        replace(item, result=replace(item.result, geometry=outline)) for item, outline in zip(report.results, moved)
    ]
    return replace(report, results=results)


def _place(item: ObjectPrompts) -> BaseGeometry:
    """Return a geometry whose centre decides which image answers an object."""
    if item.outline is not None:
        return item.outline
    if item.box is not None:
        return shapely.box(*item.box.bounds)
    return shapely.MultiPoint([point[:2] for point in item.points if point.positive] or [item.points[0][:2]])


def _layer(
    prompts: Path | None,
    points: Sequence[tuple[float, ...]],
    box: tuple[float, ...] | None,
    prompt_crs: pyproj.CRS | None,
    sheets: Sheets,
) -> VectorLayer:
    raster_crs = sheets.systems[0]
    if (prompts is None) == (not points and box is None):
        raise PromptError("Give either a PROMPTS file or --point and --box", "see geosam-es segment --help")
    if prompts is not None:
        detections = read_detections(prompts, sheets.raster, raster_crs)
        if detections is None:
            return vector_layer(prompts, prompt_crs, raster_crs)
        if sheets.is_many:
            raise PromptError(f"{prompts} has pixels of one image", "give the store of that image")
        _warn(detections)
        return detections
    if prompt_crs is None and not all(same_crs(crs.to_wkt(), raster_crs.to_wkt()) for crs in sheets.systems):
        raise PromptError("The stores have several CRSs", "give that of --point and --box with --crs")
    layer = _layer_from_options(points, box, prompt_crs or raster_crs)
    check_transform(prompt_crs or raster_crs, raster_crs)
    return layer


def vector_layer(path: Path, crs: pyproj.CRS | None, raster_crs: pyproj.CRS | None = None) -> VectorLayer:
    """Read a vector file, and check that its CRS can be transformed to that of a raster.

    ``crs`` is for a file without a CRS. GDAL takes the coordinates of GeoJSON for longitude and latitude. Where they
    cannot be, ``crs`` counts too.
    """
    layer = read_vector(path)
    _warn(layer)
    if crs is not None and layer.crs is not None and not may_be_in(layer.geometries, layer.crs):
        click.echo(f"Note: {path} is not in {layer.crs.name}, so --crs {crs.name} is used", err=True)
        layer = replace(layer, crs=None)
    layer = replace(layer, crs=layer.crs or crs)
    if layer.crs is not None and raster_crs is not None:
        check_transform(layer.crs, raster_crs)
    return layer


def _warn(layer: VectorLayer) -> None:
    if layer.note:
        click.echo(f"Warning: {layer.note}", err=True)


def _layer_from_options(
    points: Sequence[tuple[float, ...]], box: tuple[float, ...] | None, crs: pyproj.CRS
) -> VectorLayer:
    """Return the layer that a file with the same prompts would have."""
    geometries: list[shapely.Point | shapely.Polygon] = [shapely.Point(point[:2]) for point in points]
    labels = [point[2] if len(point) == 3 else 1.0 for point in points]
    if box is not None:
        bounds = Bounds(*box)
        if bounds.width <= 0 or bounds.height <= 0:
            raise PromptError(
                f"The box {','.join(f'{value:g}' for value in box)} has no area", "give XMIN,YMIN,XMAX,YMAX"
            )
        geometries.append(shapely.box(*bounds))
        labels.append(1.0)
    fields = {"object": np.ones(len(geometries), dtype=np.int32), "label": np.array(labels)}
    return VectorLayer(np.array(geometries, dtype=object), fields, crs)


def _print(output: Path, report: SegmentReport, as_json: bool) -> None:
    if as_json:
        objects = [
            {
                "object": item.object_id,
                "candidate": item.result.rank + 1,
                "score": None if math.isnan(item.result.score) else round(item.result.score, 4),
                "level": item.result.level,
                "area_m2": round(item.area_m2, 3),
                "milliseconds": round(item.result.milliseconds, 2),
                **({"verdict": item.verdict, "iou": round(item.iou, 4)} if isinstance(item, UpdatedObject) else {}),
            }
            for item in report.results
        ]
        value = {"output": str(output), "objects": objects, "left_out": report.left_out}
        click.echo(json.dumps({**value, "seconds": round(report.seconds, 3)}, indent=2, default=str))
        return
    times = [item.result.milliseconds for item in report.results]
    median = f", {np.median(times):.0f} ms each (median)" if times else ""
    click.echo(f"{output}: {counted(len(report.results), 'polygon')} in {report.seconds:.1f} s{median}")
    verdicts = Counter(item.verdict for item in report.results if isinstance(item, UpdatedObject))
    if verdicts:
        click.echo(", ".join(f"{verdicts[name]} {name}" for name in VERDICTS))
    for line in _left_out_lines(report.left_out):
        click.echo(line, err=True)


def _left_out_lines(left_out: Mapping[str, str]) -> list[str]:
    """Describe the objects without a polygon in few lines, however many they are."""
    by_reason: dict[str, list[str]] = {}
    for object_id, reason in left_out.items():
        by_reason.setdefault(_PLACE.sub("", reason), []).append(object_id)
    lines = []
    for names in list(by_reason.values())[:_SHOWN]:
        reason = left_out[names[0]]
        if any(left_out[name] != reason for name in names):
            reason += "; and so on"
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        lines.append(
            f"No polygon for object{'s' if len(names) > 1 else ''} {', '.join(names[:_SHOWN])}{more}: {reason}"
        )
    if len(by_reason) > _SHOWN:
        lines.append(f"No polygon for {len(left_out)} objects in all; --json lists every one")
    return lines
