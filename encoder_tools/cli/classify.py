"""``geosam-es classify``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from geosam_es.errors import OutputError
from geosam_es.store import StoreReader

from ..crs import check_transform, reproject_polygons
from ..evaluation.classification import (
    LEAST_POLYGONS,
    Classified,
    check_classes,
    classify,
    cross_validate,
    describe,
)
from ..evaluation.classification_report import REPORT_FILES, write_report
from ..evaluation.ground_truth import locate, read_truth
from ..evaluation.pictures import RasterWindows, raster_to_show
from ..evaluation.words import DEFAULT_MODEL, classify_by_words
from ..output_folder import OutputFolder
from ..segment import located
from ..vector import VectorLayer, read_vector
from ..vector_formats import FORMATS, default_crs, field_names, field_notes
from ..vector_output import check_output, lost_heights, write_vector
from .options import PATH, STORE, StorePlace, json_option, refuse_own_prompts

__all__ = ["classify_command"]


@click.command("classify", short_help="Give polygons classes that are learned from others.")
@click.argument("store", type=STORE)
@click.argument("layers", metavar="[TRAINING] POLYGONS", nargs=-1, required=True, type=PATH)
@click.option("-o", "--output", required=True, type=PATH, help=f"Extensions: {', '.join(FORMATS)}.")
@click.option(
    "--class", "class_field", default="class", show_default=True, metavar="FIELD", help="Field with the classes."
)
@click.option("--report", type=PATH, help="Folder for a report with the result of cross-validation.")
@click.option(
    "--words", help="Names of classes instead of TRAINING, separated by commas, in English, Spanish and others."
)
@click.option(
    "--words-model",
    default=DEFAULT_MODEL,
    show_default=True,
    help="A folder, or a name on the Hugging Face Hub; it is downloaded at first use.",
)
@click.option("--raster", type=PATH, help="Raster of the store. Default: the one next to the store.")
@click.option(
    "--overwrite", is_flag=True, help="Replace an existing output and report. Other layers of a GeoPackage are kept."
)
@json_option
def classify_command(
    store: StorePlace,
    layers: Sequence[Path],
    output: Path,
    class_field: str,
    report: Path | None,
    words: str | None,
    words_model: str,
    raster: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Give the polygons of POLYGONS classes that are learned from those of TRAINING; both are on the raster of STORE.

    A polygon is described by the stored features under it and around it, its shape, and the pixels of the raster.
    Nothing is encoded. The output has the polygons with their fields and, in addition, class, probability and
    second_class. The report shows how well the classes are found in parts of the raster that were left out of
    the training, and lists the polygons with the least probable classes first.

    With --words there is no TRAINING: a CLIP model compares the image of each polygon with the names of the classes.
    The result is usually worse than with training polygons.

    \b
    Example:
      geosam-es classify ortho.embeddings.zarr known.gpkg all.gpkg -o classes.gpkg --report report
      geosam-es classify ortho.embeddings.zarr all.gpkg -o classes.gpkg --words "encinar,agua"
    """
    if len(layers) != (2 if words is None else 1):
        raise click.UsageError("Give TRAINING and POLYGONS, or POLYGONS alone with --words.")
    *training, polygons = layers
    for path in layers:
        refuse_own_prompts(path, output, "one of the files with polygons")
    folder = None if report is None else OutputFolder(report, REPORT_FILES)
    if folder is not None and folder.written and not overwrite:
        raise OutputError(f"{report} already contains a report", "choose another one, or replace it with --overwrite")
    reader = StoreReader(store)
    notes: list[str] = []
    windows = RasterWindows([reader], [raster_to_show(reader, raster, notes)])
    known = [locate(read_truth(path, class_field), [reader]) for path in training]
    for path, found in zip(training, known):
        check_classes(found.objects[0], path, class_field)
    wanted = locate(read_truth(polygons), [reader])
    layer = read_vector(polygons)
    notes += _write(output, layer, str(polygons), None, overwrite)
    classes: list[str] = []
    checked: Classified | None = None
    if words is not None:
        shown = wanted.objects[0]
        names = list(filter(None, map(str.strip, words.split(","))))
        answer = classify_by_words(shown, windows, names, words_model)
    else:
        learned, described = describe(reader, known[0], windows)
        names = check_classes(learned, training[0], class_field)
        is_used = [item.class_name in names for item in learned]
        learned, described = [item for item, used in zip(learned, is_used) if used], described.at(is_used)
        classes = [item.class_name for item in learned]
        shown, wanted_described = describe(reader, wanted, windows)
        answer = classify(described, classes, wanted_described)
        if folder is not None:
            checked = cross_validate(described, classes, [item.geometry for item in learned])
        notes += [
            f"{name} has fewer than {LEAST_POLYGONS} polygons, so nothing gets this class"
            for name in sorted({item.class_name for item in known[0].objects[0]} - {*names, ""})
        ]
        if not windows.any_found:
            notes.append("The raster is not next to the store; with --raster, its pixels are used too.")
    rows = [
        (item.object_id, ranked[0], round(float(most), 4), ranked[1])
        for item, ranked, most in zip(shown, answer.ranked, answer.probabilities.max(axis=1))
    ]
    summary: dict[str, Any] = {}
    if folder is not None:
        source = {"Words": words} if words is not None else {"Training polygons": str(training[0])}
        facts = {"Store": str(store), **source, "Polygons": str(polygons)}
        with folder, folder.staging() as staged:
            summary = write_report(staged, facts, notes, classes, checked, rows, wanted.left_out)
            folder.publish(staged)
    notes += _write(output, layer, str(polygons), rows, overwrite)
    for note in notes:
        click.echo(f"Warning: {note}", err=True)
    counts = Counter(row[1] for row in rows)
    if as_json:
        value = {"output": str(output), "classes": counts, "left_out": wanted.left_out, **summary}
        click.echo(json.dumps(value, indent=1))
        return
    if "macro_f1" in summary:
        click.echo("macro F1 {:.3f} ({:.3f} to {:.3f}) on polygons not learned from".format(*summary["macro_f1"]))
    click.echo(", ".join(f"{count} {name}" for name, count in counts.most_common()))
    click.echo(f"{output}: {len(rows)} polygons, {len(wanted.left_out)} without a class")


def _write(
    output: Path,
    layer: VectorLayer,
    source: str,
    rows: Sequence[tuple[str, str, float, str]] | None,
    overwrite: bool,
) -> list[str]:
    """Write all polygons, or check before there are rows that they can be written; return what the user should know."""
    own_crs = located(layer, source)
    crs = default_crs(output) or own_crs
    # Some formats have no field whose values are all NULL.
    best, second = np.full((2, len(layer.geometries)), "class" if rows is None else None, dtype=object)
    probability = np.ma.MaskedArray(np.zeros(len(layer.geometries)), mask=True)
    numbers = range(1, len(best) + 1) if layer.numbers is None else layer.numbers.tolist()
    places = {str(number): index for index, number in enumerate(numbers)}
    for object_id, name, most, other in rows or ():
        index = places[object_id]
        best[index], probability[index], second[index] = name, most, other
    own = {"class": best, "probability": probability, "second_class": second}
    own_names = field_names(output, own)
    called = field_names(output, layer.fields, list(own_names.values()))
    fields = {own_names[name]: column for name, column in own.items()}
    fields.update((called[name], column) for name, column in layer.fields.items())
    if rows is None:
        check_transform(own_crs, crs)
        as_texts = check_output(output, crs, fields, overwrite=overwrite, append=None)
        notes = [*field_notes(output, own_names, []), *field_notes(output, called, as_texts)]
        return notes + ([lost_heights(source, output)] if layer.has_z else [])
    geometries, is_defined = reproject_polygons(layer.geometries, own_crs, crs)
    kept = {name: column[is_defined] for name, column in fields.items()}
    write_vector(output, list(geometries[is_defined]), kept, crs, overwrite=overwrite)
    return []
