"""The folder of a tuned decoder: two ONNX graphs, weights, ``decoder.json``, model card and report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from geosam_es import __version__
from geosam_es.errors import OutputError
from geosam_es.inference.encoder import ENCODER_FILE, MODEL_FILE
from geosam_es.store import StoreReader
from geosam_es.store.decoder_files import prefixed_sha256
from geosam_es.store.decoders import DecoderInfo
from geosam_es.store.layout import DECODER_FILE, DECODER_INFO_FILE, PREPARE_FILE

from ..evaluation.evaluate import Evaluation
from ..evaluation.report import REPORT_FILES, ReportInput, write_report
from ..evaluation.summary import METRICS
from ..output_folder import OutputFolder
from .base_decoder import TUNED_FILE
from .checkpoint import STATE_FILE
from .model_card import Facts, model_card, training_curves

__all__ = ["BEFORE", "TUNED", "decoder_folder", "describe_decoder"]

BEFORE, TUNED = "before", "tuned"
"""Names of the two decoders in the report."""

CARD_FILE = "MODEL_CARD.md"
CURVES_FILE = "training.png"
REPORT_FOLDER = "report"
_FILES = (
    ENCODER_FILE,
    MODEL_FILE,
    PREPARE_FILE,
    DECODER_FILE,
    TUNED_FILE,
    *(f"{REPORT_FOLDER}/{name}" for name in REPORT_FILES),
    CURVES_FILE,
    CARD_FILE,
    DECODER_INFO_FILE,
    STATE_FILE,
)


def decoder_folder(path: Path, resume: bool, overwrite: bool) -> OutputFolder:
    """Check, before any work is done, that a decoder can be written to a folder.

    Parameters
    ----------
    path : Path
    resume, overwrite : bool
        Whether to continue or to replace what an earlier run left there.

    Raises
    ------
    OutputError
        If the folder cannot be used, or holds results and neither was asked for.
    """
    folder = OutputFolder(path, _FILES)
    is_finished, is_begun = (name in folder.written for name in (DECODER_INFO_FILE, STATE_FILE))
    if resume and is_finished and not is_begun:
        raise OutputError(
            f"The training in {path} is finished", "choose another folder with -o, or start again with --overwrite"
        )
    if (is_finished or is_begun) and not resume and not overwrite:
        content = "a tuned decoder" if is_finished else "an interrupted training"
        raise OutputError(
            f"{path} already contains {content}",
            "continue with --resume, start again with --overwrite, or choose another folder with -o",
        )
    return folder


def describe_decoder(
    staged: Path,
    name: str,
    facts: Facts,
    evaluation: Evaluation,
    readers: Sequence[StoreReader],
    rasters: Sequence[Path | None],
) -> dict[str, Any]:
    """Write report, curves, model card and ``decoder.json`` beside the graphs of a tuned decoder.

    Parameters
    ----------
    staged : Path
        The folder with the graphs.
    name : str
        Name of the decoder.
    facts : Facts
    evaluation : Evaluation
        Of the decoders `BEFORE` and `TUNED`.
    readers : sequence of StoreReader
    rasters : sequence of Path or None
        The raster of each store, for the pictures.

    Returns
    -------
    dict
        Figures of the report.

    Raises
    ------
    OSError
        If a file cannot be written.
    """
    title = f"{facts.model} tuned on {facts.truth.name}"
    (staged / REPORT_FOLDER).mkdir()
    report = ReportInput(title, _report_facts(facts), evaluation, readers, rasters, facts.notes)
    summary = write_report(staged / REPORT_FOLDER, report)
    (staged / CURVES_FILE).write_bytes(training_curves(facts.choice))
    (staged / CARD_FILE).write_text(model_card(facts, summary, name, CURVES_FILE), encoding="utf-8")
    info = json.dumps(asdict(_decoder_info(staged, name, facts, summary)), indent=2)
    (staged / DECODER_INFO_FILE).write_text(info + "\n", encoding="utf-8")
    return summary


def _report_facts(facts: Facts) -> dict[str, str]:
    known = {
        "Stores": ", ".join(facts.stores),
        "Reference polygons": str(facts.truth),
        "Class": facts.class_name or "",
        "Model": facts.model,
        BEFORE: facts.base,
        TUNED: facts.choice.outcome,
        "Objects": f"{facts.training} training, {facts.held_out} held out",
    }
    return {name: value for name, value in known.items() if value}


def _decoder_info(staged: Path, name: str, facts: Facts, summary: Mapping[str, Any]) -> DecoderInfo:
    prepare = staged / PREPARE_FILE
    return DecoderInfo(
        name=name,
        model=facts.model,
        encoder_sha256=facts.encoder_sha256,
        prepare_sha256=prefixed_sha256(prepare) if prepare.is_file() else None,
        decoder_sha256=prefixed_sha256(staged / DECODER_FILE),
        base=facts.base,
        objects=facts.training,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        software=f"GeoSAM-ES {__version__}",
        summary=_short_summary(facts, summary),
    )


def _short_summary(facts: Facts, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the few figures that a list of decoders may show."""
    short: dict[str, Any] = {"held_out": facts.held_out, "prompts": {}}
    for row in summary["all"]:
        figures = {name: round(row["values"][name][0], 4) for name in METRICS}
        short["prompts"].setdefault(row["prompts"], {})[row["decoder"]] = figures
    for row in summary["differences"]:
        short["prompts"][row["prompts"]]["iou_gain"] = [round(value, 4) for value in row["values"]["iou"]]
    return short
