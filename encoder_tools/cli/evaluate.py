"""``geosam-es evaluate``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from geosam_es.errors import ModelError, OutputError
from geosam_es.store import StoreReader

from ..evaluation.evaluate import evaluate
from ..evaluation.figures import figure_class
from ..evaluation.ground_truth import FEW_OBJECTS, locate, read_truth
from ..evaluation.named_decoder import find_named_decoder
from ..evaluation.pictures import raster_to_show
from ..evaluation.prompting import parse_kinds
from ..evaluation.report import REPORT_FILE, REPORT_FILES, ReportInput, write_report
from ..output_folder import OutputFolder
from ..progress import Progress
from .options import PATH, STORE, StorePlace, json_option, threads_option

__all__ = ["evaluate_command"]


@click.command("evaluate", short_help="Measure decoders of STORE on reference polygons.")
@click.argument("store", type=STORE)
@click.argument("truth", type=PATH)
@click.option("-o", "--output", required=True, type=PATH, help="Folder for the report.")
@click.option(
    "--decoder",
    "decoders",
    multiple=True,
    help="A folder that geosam-es finetune wrote, an ONNX file, or a name from geosam-es decoder list. Repeat the"
    " option to compare decoders. Default: the active decoder of the store.",
)
@click.option(
    "--prompts",
    default="point,box,clicks:5",
    show_default=True,
    help="Comma-separated list of point, box, box:0.1 (sides off by up to 10 %) and clicks:N (one click and up to N-1"
    " corrections).",
)
@click.option(
    "--class", "class_field", metavar="FIELD", help="Field with the class of each object, to report figures by class."
)
@click.option("--raster", type=PATH, help="Raster for the pictures. Default: the one next to the store.")
@threads_option
@click.option("--overwrite", is_flag=True, help="Replace an existing report.")
@json_option
def evaluate_command(
    store: StorePlace,
    truth: Path,
    output: Path,
    decoders: Sequence[str],
    prompts: str,
    class_field: str | None,
    raster: Path | None,
    threads: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Measure decoders of STORE on the reference polygons of TRUTH, a vector file.

    A simulated user prompts each polygon, always in the same way. The report shows IoU, Dice, precision, recall,
    boundary F-score and the number of clicks needed, for all objects, by class and by size, and the worst results.

    \b
    Example:
      geosam-es evaluate ortho.embeddings.zarr fields.gpkg -o report
      geosam-es evaluate ortho.embeddings.zarr fields.gpkg --decoder original --decoder tuned -o two
    """
    kinds = parse_kinds(prompts)
    folder = OutputFolder(output, REPORT_FILES)
    if folder.written and not overwrite:
        raise OutputError(
            f"{output} already contains a report", "choose another folder with -o, or replace it with --overwrite"
        )
    figure_class()
    reader = StoreReader(store)
    chosen = [find_named_decoder(name, reader) for name in decoders or (None,)]
    names = [decoder.name for decoder in chosen]
    if len(set(names)) < len(names):
        raise ModelError(f"Two decoders are called {max(names, key=names.count)}", "rename one of the folders")
    notes: list[str] = []
    image = raster_to_show(reader, raster, notes)
    located = locate(read_truth(truth, class_field), [reader])
    with Progress(store.name, "objects") as progress:
        loaded = {decoder.name: decoder.load(threads) for decoder in chosen}
        evaluation = evaluate([reader], located.objects, loaded, kinds, progress)
    evaluation.left_out.update(located.left_out)
    count = len({outcome.truth.object_id for outcome in evaluation.outcomes})
    if count < FEW_OBJECTS:
        notes.append(f"Only {count} objects were measured, too few for conclusions about others.")
    model = reader.metadata.model["name"]
    facts = {"Store": str(store), "Reference polygons": str(truth), "Model": str(model), "Decoders": ", ".join(names)}
    report = ReportInput(f"Evaluation on {truth.name}", facts, evaluation, [reader], [image], notes)
    with folder, folder.staging() as staged:
        summary = write_report(staged, report)
        folder.publish(staged)
    for note in notes:
        click.echo(f"Warning: {note}", err=True)
    click.echo(json.dumps(summary, indent=1) if as_json else _text(output, summary))


def _text(output: Path, summary: dict[str, Any]) -> str:
    """Return one line for each kind of prompts and decoder."""
    width = max(len(row["decoder"]) for row in summary["all"])
    lines = []
    for row in summary["all"]:
        values = row["values"]
        low, high = values["iou"][1:]
        lines.append(
            f"{row['prompts']:<9} {row['decoder']:<{width}}  IoU {values['iou'][0]:.3f} ({low:.3f} to {high:.3f})"
            f"  Dice {values['dice'][0]:.3f}  precision {values['precision'][0]:.3f}"
            f"  recall {values['recall'][0]:.3f}  boundary F {values['boundary_f'][0]:.3f}"
        )
    lines.append(f"{summary['objects']} objects, {len(summary['left_out'])} not used; report: {output / REPORT_FILE}")
    return "\n".join(lines)
