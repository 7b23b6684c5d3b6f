"""The folder of a tuned decoder: its two graphs, its weights, what it says of itself, and the report."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from geosam_es import __version__
from geosam_es.errors import OutputError
from geosam_es.store import StoreReader
from geosam_es.store.decoders import DecoderInfo, file_sha256
from geosam_es.store.layout import DECODER_FILE, DECODER_INFO_FILE, PREPARE_FILE

from ..evaluation.evaluate import Evaluation
from ..evaluation.pictures import find_raster
from ..evaluation.report import ReportInput, write_report
from .base_decoder import TUNED_FILE
from .curves import draw_curves
from .model_card import model_card
from .training import STATE_FILE, Trained, TuneOptions

__all__ = ["BEFORE", "TUNED", "Facts", "OutputFolder", "Tuned"]

BEFORE, TUNED = "before", "tuned"
CARD_FILE = "MODEL_CARD.md"
CURVES_FILE = "training.png"
REPORT_FOLDER = "report"
_PREFIX = "sha256:"
_SHOWN_METRICS = ("iou", "dice", "precision", "recall", "boundary_f")


@dataclass(frozen=True)
class Facts:
    """What is told of a tuning.

    Attributes
    ----------
    model, encoder_sha256, licence : str
        Of the stores' model.
    base : str
        Decoder it was tuned from.
    stores, rasters : list of str
    truth : Path
    class_name : str, optional
    parts : dict of str to int
        Objects, by what they were for.
    with_kept_prompts : int
        Objects learnt from with the prompts of whoever drew them.
    left_out : dict of str to str
    notes : list of str
    trained : Trained
    options : TuneOptions
    """

    model: str
    encoder_sha256: str
    licence: str
    base: str
    stores: list[str]
    rasters: list[str]
    truth: Path
    class_name: str | None
    parts: dict[str, int]
    with_kept_prompts: int
    left_out: dict[str, str]
    notes: list[str]
    trained: Trained
    options: TuneOptions


@dataclass(frozen=True)
class Tuned:
    """What came of a tuning.

    Attributes
    ----------
    folder : Path
    facts : Facts
    summary : dict
        Of the report.
    """

    folder: Path
    facts: Facts
    summary: dict[str, Any]


class OutputFolder:
    """The folder while it is worked on: what is whole is moved into it at the end, and the checkpoint goes last.

    Parameters
    ----------
    path : Path
    resume, overwrite : bool
        Whether to go on with what is there, or to begin anew.

    Raises
    ------
    OutputError
        If the folder cannot be made, or holds something and neither was asked for.
    """

    def __init__(self, path: Path, resume: bool, overwrite: bool) -> None:
        self.path = path
        if path.exists() and not path.is_dir():
            raise OutputError(f"{path} is a file", "choose a folder with -o")
        if not path.resolve().parent.is_dir():
            raise OutputError(f"The folder of {path} is not there", "make it, or choose another with -o")
        is_finished = (path / DECODER_INFO_FILE).is_file()
        is_begun = (path / STATE_FILE).is_file()
        if resume and is_finished and not is_begun:
            raise OutputError(f"{path} is finished", "choose another folder with -o, or begin anew with --overwrite")
        if (is_finished or is_begun) and not resume and not overwrite:
            raise OutputError(
                f"{path} holds a tuned decoder already"
                if is_finished
                else f"{path} holds a training that was cut short",
                "go on with --resume, begin anew with --overwrite, or choose another folder with -o",
            )
        self._starts_anew = overwrite and not resume
        self._is_new = not path.exists()

    def __enter__(self) -> OutputFolder:
        try:
            self.path.mkdir(exist_ok=True)
            if self._starts_anew:
                (self.path / STATE_FILE).unlink(missing_ok=True)
        except OSError as error:
            raise _output_error(self.path, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_new and error is not None:
            with suppress(OSError):
                # Only goes where nothing was written.
                self.path.rmdir()

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Yield a passing folder, which goes in any case.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        try:
            folder = Path(tempfile.mkdtemp(prefix=".tuned-", dir=self.path))
        except OSError as error:
            raise _output_error(self.path, error) from error
        try:
            yield folder
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise _output_error(self.path, error) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def finish(self, folder: Path, facts: Facts, evaluation: Evaluation, readers: Sequence[StoreReader]) -> Tuned:
        """Write report, card and curves beside the graphs in the passing folder, and move everything into place."""
        rasters = [find_raster(reader) for reader in readers]
        page_facts = _page_facts(facts)
        title = f"{facts.model} tuned on {facts.truth.name}"
        report = ReportInput(title, page_facts, evaluation, readers, rasters, facts.notes)
        summary = write_report(folder / REPORT_FOLDER, report)
        draw_curves(facts.trained, folder / CURVES_FILE)
        info = _decoder_info(folder, self.path, facts, summary)
        (folder / CARD_FILE).write_text(model_card(facts, summary, info.name, CURVES_FILE), encoding="utf-8")
        (folder / DECODER_INFO_FILE).write_text(json.dumps(asdict(info), indent=2) + "\n", encoding="utf-8")
        earlier = self.path / REPORT_FOLDER
        if earlier.is_dir():
            shutil.rmtree(earlier)
        # decoder.json comes last: a folder that has it has the rest.
        (self.path / DECODER_INFO_FILE).unlink(missing_ok=True)
        names = (PREPARE_FILE, DECODER_FILE, TUNED_FILE, REPORT_FOLDER, CURVES_FILE, CARD_FILE, DECODER_INFO_FILE)
        for name in names:
            # A decoder need not have two graphs; model.json, which the exporter of SAM writes, is not wanted.
            if (folder / name).exists():
                (folder / name).replace(self.path / name)
        (self.path / STATE_FILE).unlink(missing_ok=True)
        return Tuned(self.path, facts, summary)


def _page_facts(facts: Facts) -> dict[str, str]:
    parts = ", ".join(f"{count} {use}" for use, count in facts.parts.items())
    known = {
        "Stores": ", ".join(facts.stores),
        "Truth": str(facts.truth),
        "Class": facts.class_name or "",
        "Model": facts.model,
        BEFORE: facts.base,
        TUNED: f"{facts.trained.taken}, of {len(facts.trained.history) - 1} epochs",
        "Objects": parts,
    }
    return {name: value for name, value in known.items() if value}


def _decoder_info(folder: Path, out: Path, facts: Facts, summary: Mapping[str, Any]) -> DecoderInfo:
    prepare = folder / PREPARE_FILE
    return DecoderInfo(
        name=out.resolve().name,
        model=facts.model,
        encoder_sha256=facts.encoder_sha256,
        prepare_sha256=_PREFIX + file_sha256(prepare) if prepare.is_file() else None,
        decoder_sha256=_PREFIX + file_sha256(folder / DECODER_FILE),
        base=facts.base,
        objects=facts.parts["learnt from"],
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        software=f"GeoSAM-ES {__version__}",
        summary=_short(facts, summary),
    )


def _short(facts: Facts, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the few figures that a list of decoders may show."""
    short: dict[str, Any] = {"held_out": facts.parts["held out"], "prompts": {}}
    for row in summary["all"]:
        known = short["prompts"].setdefault(row["prompts"], {})
        known[row["decoder"]] = {name: round(row["values"][name][0], 4) for name in _SHOWN_METRICS}
    for row in summary["differences"]:
        short["prompts"][row["prompts"]]["iou_gain"] = [round(value, 4) for value in row["values"]["iou"]]
    return short


def _output_error(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{path} cannot be written ({error.strerror or error})", "check the space and the permissions")
