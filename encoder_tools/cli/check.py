"""``geosam-es check``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from geosam_es.core.coverage import MAX_GAP_M2, Rules, require_simplify, simplify
from geosam_es.core.coverage_check import Finding, Kind, check, mend
from geosam_es.core.faces import middle
from geosam_es.errors import VectorError

from ..crs import AreaMeter, parse_crs
from ..progress import PERCENT, Progress
from ..segment import located
from ..vector import VectorLayer
from ..vector_formats import FORMATS, field_names, field_notes
from ..vector_output import check_output, lost_heights, write_vector
from .group import EXIT_FAULT
from .options import PATH, Number, counted, json_option, refuse_own_prompts
from .segment import vector_layer

__all__ = ["check_command"]

_SHOWN = 20

_TOO_MANY = "{} overlaps among {} polygons in {}: objects of geosam-es auto overlap, unless drawn with auto --coverage"

_ALONE = "no neighbour takes it: delete it or draw it again"

_NOUNS = (Kind.OVERLAP, Kind.GAP, Kind.BORDER, Kind.SLIVER, Kind.LARGE_GAP)

_SAMPLE = Finding(Kind.GAP, shapely.box(0, 0, 1, 1), 1.0, (1,))


class _ClassArea(click.ParamType):  # type: ignore[type-arg]
    """``CLASS=AREA``."""

    name = "class=m2"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        name, separator, area = str(value).rpartition("=")
        try:
            number = float(area)
        except ValueError:
            number = -1.0
        if not separator or not 0 <= number < np.inf:
            self.fail(f"{value} does not have the form CLASS=AREA", param, ctx)
        return name, number


@click.command("check", short_help="Check and mend polygons that share borders.")
@click.argument("layer", type=PATH)
@click.option("--crs", help="CRS of a LAYER without CRS.")
@click.option("--class", "class_field", metavar="FIELD", help="Field of the class: report neighbours of the same one.")
@click.option(
    "--tolerance",
    "tolerance_m",
    type=Number(min=0),
    default=0.5,
    show_default=True,
    metavar="METRES",
    help="Width up to which open gaps and slivers are reported, and with --fix closed or joined to a neighbour.",
)
@click.option("--min-area-m2", type=Number(min=0), default=0.0, help="Report parts smaller than this.")
@click.option("--min-area-of", multiple=True, type=_ClassArea(), help="The same for one class of --class.")
@click.option(
    "--max-gap-m2",
    type=Number(min=0),
    default=MAX_GAP_M2,
    show_default=True,
    help="Larger enclosed gaps are listed last, as large gaps, and are not faults.",
)
@click.option(
    "--skip",
    multiple=True,
    type=click.Choice([kind.value for kind in Kind]),
    help="What not to report, nor to fix. May be repeated.",
)
@click.option("--findings", type=PATH, metavar="FILE", help="Write the findings as polygons.")
@click.option("--fix", is_flag=True, help="Mend what is found and write the result to --output.")
@click.option(
    "--simplify",
    "simplify_m",
    type=Number(min=0),
    default=0.0,
    metavar="METRES",
    help="Remove details smaller than this, the same on both sides of a border. Needs --output.",
)
@click.option("-o", "--output", type=PATH, help=f"Extensions: {', '.join(FORMATS)}.")
@click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
@json_option
def check_command(
    layer: Path,
    crs: str | None,
    class_field: str | None,
    tolerance_m: float,
    min_area_m2: float,
    min_area_of: Sequence[tuple[str, float]],
    max_gap_m2: float,
    skip: Sequence[str],
    findings: Path | None,
    fix: bool,
    simplify_m: float,
    output: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Check the polygons of LAYER: overlaps, gaps, slivers, small parts, borders without common vertices.

    Every finding has a place, a size and a remedy; --fix applies them. The exit code is 0 if there is no fault, or none
    left after --fix, and 1 otherwise. Large gaps, such as a lake outside the map, are not faults and are kept.

    \b
    Example:
      geosam-es check habitats.gpkg --class code --min-area-m2 500
      geosam-es check habitats.gpkg --fix -o habitats_clean.gpkg
    """
    if (output is None) == (fix or simplify_m > 0):
        raise click.UsageError("--fix and --simplify need --output, and --output one of them.")
    if min_area_of and class_field is None:
        raise click.UsageError("--min-area-of needs --class.")
    for given, path, name in (
        (layer, output, "the layer to check"),
        (layer, findings, "the layer to check"),
        (findings, output, "the file of the findings"),
    ):
        refuse_own_prompts(given, path, name)
    source = vector_layer(layer, parse_crs(crs) if crs else None)
    polygons, rows = _polygons(layer, source)
    source_crs = located(source, str(layer))
    meter = AreaMeter(source_crs)
    metres = meter.metres_per_unit(*middle(polygons.values()))
    rules = Rules(
        tolerance_m,
        min_area_m2,
        dict(min_area_of),
        metres_per_unit=metres,
        max_gap_m2=max_gap_m2,
        scale_at=meter.metres_per_unit,
    )
    classes = _classes(layer, source, class_field, rows) if class_field is not None else None
    for name in sorted({name for name, _ in min_area_of} - set((classes or {}).values())):
        click.echo(f"Note: {layer} has no class {name}, so --min-area-of {name} is not used", err=True)
    if findings is not None:
        check_output(findings, source_crs, _fields([_SAMPLE]), overwrite=overwrite, append=None)
    fields: dict[str, Any] = {}
    if output is not None:
        names = field_names(output, source.fields)
        fields = {free: source.fields[name] for name, free in names.items()}
        as_texts = check_output(output, source_crs, fields, overwrite=overwrite, append=None)
        for note in field_notes(output, names, as_texts):
            click.echo(f"Note: {note}", err=True)
        if source.has_z:
            click.echo(f"Note: {lost_heights(layer, output)}", err=True)
    if output is not None and simplify_m > 0:
        require_simplify()
    skipped = [Kind(name) for name in skip]
    checking = Progress(f"checking {layer.name}", PERCENT)
    with checking:
        found = check(polygons, rules, classes, skipped, checking)
    overlaps = sum(item.kind is Kind.OVERLAP for item in found)
    if overlaps > len(polygons):
        click.echo(f"Note: {_TOO_MANY.format(overlaps, len(polygons), layer)}", err=True)
    mended, rest = polygons, found
    if fix and output is not None:
        with Progress(output.name, "findings") as progress:
            mended, rest = mend(
                polygons, rules, classes, skip=skipped, known=found, progress=progress, checking=checking
            )
    if output is not None:
        if simplify_m > 0:
            mended = simplify(mended, simplify_m, rules)
            rest = check(mended, rules, classes, skipped, checking)
        kept = [rows[key] for key in mended]
        kept_fields = {name: column[kept] for name, column in fields.items()}
        areas = kept_fields.get("area_m2")
        if areas is not None and areas.dtype.kind == "f":
            for row, (key, polygon) in enumerate(mended.items()):
                if polygon != polygons[key]:
                    areas[row] = meter.area_m2(polygon)
        write_vector(output, list(mended.values()), kept_fields, source_crs, overwrite=overwrite)
    if findings is not None:
        reach = 0.5 / max(metres)
        places = [item.place if item.place.area > 0 else shapely.buffer(item.place, reach) for item in rest]
        write_vector(findings, places, _fields(rest, fix), source_crs, overwrite=overwrite)
    written = f"{output}: {len(mended)} of {len(polygons)} polygons" if output is not None else ""
    _print(layer, output, written, found, rest, fix, as_json)
    if any(item.is_fault for item in rest):
        click.get_current_context().exit(EXIT_FAULT)


def _polygons(path: Path, layer: VectorLayer) -> tuple[dict[int, BaseGeometry], dict[int, int]]:
    """Return the polygons and their rows by feature id, or by row where ids repeat."""
    if not np.isin(shapely.get_type_id(layer.geometries), (3, 6)).all():
        raise VectorError(f"{path} has features that are no polygons", "give a layer of polygons")
    ids = [] if layer.feature_ids is None else layer.feature_ids.tolist()
    # Lines of GeoJSON from two files may repeat them.
    if len(set(ids)) < len(layer.geometries):
        ids = list(range(len(layer.geometries)))
    return dict(zip(ids, layer.geometries)), {key: row for row, key in enumerate(ids)}


def _classes(path: Path, layer: VectorLayer, name: str, rows: Mapping[int, int]) -> dict[int, str | None]:
    texts = layer.texts(name)
    if texts is None:
        raise VectorError(f"{path} has no field {name}", f"its fields are: {', '.join(layer.fields) or 'none'}")
    return {key: texts[row] or None for key, row in rows.items()}


def _fields(found: Sequence[Finding], tried: bool = False) -> dict[str, np.ndarray[Any, Any]]:
    return {
        "kind": np.array([item.kind.value for item in found], object),
        "size": np.array([item.size for item in found], float),
        "polygons": np.array([_names(item) for item in found], object),
        "remedy": np.array([_remedy(item, tried) for item in found], object),
    }


def _remedy(item: Finding, tried: bool) -> str:
    """Return what to do, where ``--fix`` has tried the usual remedy in vain as well."""
    return _ALONE if tried and item.kind in (Kind.SLIVER, Kind.SMALL) else item.remedy


def _names(item: Finding) -> str:
    """Return the first ids of a finding as a text that a Shapefile holds."""
    more = f" and {len(item.ids) - _SHOWN} more" if len(item.ids) > _SHOWN else ""
    return ", ".join(map(str, item.ids[:_SHOWN])) + more


def _print(
    layer: Path,
    output: Path | None,
    written: str,
    found: Sequence[Finding],
    rest: Sequence[Finding],
    tried: bool,
    as_json: bool,
) -> None:
    if as_json:
        items = [
            {
                "kind": item.kind.value,
                "size": round(item.size, 4),
                "unit": item.unit,
                "polygons": item.ids,
                "place": item.place.representative_point().coords[0],
                "remedy": _remedy(item, tried),
            }
            for item in rest
        ]
        value = {"layer": str(layer), "output": output and str(output), "found": len(found), "findings": items}
        click.echo(json.dumps(value, indent=2))
        return
    kinds = Counter(item.kind for item in found).items()
    counts = ", ".join(counted(n, kind.value) if kind in _NOUNS else f"{n} {kind.value}" for kind, n in kinds)
    click.echo(f"{layer}: {counts or 'nothing found'}")
    if written:
        click.echo(f"{written}, {sum(item.is_fault for item in rest) or 'nothing'} left to mend")
    for item in rest[:_SHOWN]:
        spot = item.place.representative_point()
        click.echo(
            f"{item.kind.value} of {item.size:.3g} {item.unit} at {spot.x:.9g}, {spot.y:.9g}, "
            f"polygon{'s' if len(item.ids) > 1 else ''} {_names(item)}: {_remedy(item, tried)}"
        )
    if len(rest) > _SHOWN:
        click.echo(f"and {len(rest) - _SHOWN} more; --json lists every one, --findings writes them to a file")
