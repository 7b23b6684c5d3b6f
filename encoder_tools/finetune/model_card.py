"""The model card of a tuned decoder, with the curves of its training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..evaluation.figures import new_figure, png
from ..evaluation.summary import METRIC_NAMES
from .training import Trained, TuneOptions

__all__ = ["Facts", "gain_text", "model_card", "training_curves"]


@dataclass(frozen=True)
class Facts:
    """How a decoder was tuned.

    Attributes
    ----------
    model, encoder_sha256, licence : str
        The model that encoded the stores.
    base : str
        The decoder that training started from.
    stores, rasters : list of str
    truth : Path
    class_name : str, optional
    training, validation, held_out : int
        Number of objects in each part.
    with_kept_prompts : int
        Training objects that came with the prompts of the user who drew them.
    left_out : dict of str to str
        Objects that were not used, and why.
    notes : list of str
        Limits of the measured figures.
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
    training: int
    validation: int
    held_out: int
    with_kept_prompts: int
    left_out: dict[str, str]
    notes: list[str]
    trained: Trained
    options: TuneOptions


def model_card(facts: Facts, summary: Mapping[str, Any], name: str, curves: str) -> str:
    """Return the card in Markdown.

    Parameters
    ----------
    facts : Facts
    summary : mapping
        Figures of the report; see `summary_json`.
    name : str
        Name of the decoder.
    curves : str
        File name of the training curves.
    """
    options, trained = facts.options, facts.trained
    chosen = f" ({facts.class_name})" if facts.class_name else ""
    measured = "held-out" if facts.held_out else "training"
    notes = "".join(f"\n> {note}\n" for note in facts.notes)
    kept = f" {facts.with_kept_prompts} training objects kept their user's prompts." if facts.with_kept_prompts else ""
    return f"""# {name}: a mask decoder for {facts.model}

Tuned with `geosam-es finetune` on `{facts.truth.name}`{chosen}, starting from the decoder `{facts.base}`. The encoder
was not changed, so the decoder works in every store of the encoder with the SHA-256 `{facts.encoder_sha256}`:
`geosam-es decoder set STORE FOLDER`. Licence of the original model: {facts.licence}.

## Before and after

Mean over the {summary["objects"]} {measured} objects, with its 95 % bootstrap interval. `point` is one click in the
middle of the object, `box` its bounding box, `clicks:5` one click and up to four corrections. More figures are in
`report/report.html`.
{notes}
{_table(summary)}

Mean difference on the same objects; bold where the interval excludes zero:

{_difference_table(summary)}

## Training

| objects | |
|---|---|
| training | {facts.training} |
| validation | {facts.validation} |
| held out | {facts.held_out} |

Rasters: {", ".join(facts.rasters)}.{kept} {len(facts.left_out)} objects of the layer were not used.

The objects were split by space: no tile with held-out objects overlaps a tile with training objects, unless a note
above says so. Loss: focal and Dice loss, and the error of the predicted IoU. Prompts: clicks inside the object,
jittered boxes and corrective clicks, each answer fed back as mask input. {len(trained.history) - 1} epochs in
{trained.history[-1].seconds / 60:.1f} minutes, {options.objects_per_step} objects per step, seed {options.seed}.
Result: {trained.outcome}.

![training]({curves})
"""


def _table(summary: Mapping[str, Any]) -> str:
    lines = [f"| prompts | decoder | {' | '.join(METRIC_NAMES.values())} |", "|---|---|" + "---|" * len(METRIC_NAMES)]
    for row in summary["all"]:
        cells = (_cell(*row["values"][name]) for name in METRIC_NAMES)
        lines.append(f"| {row['prompts']} | {row['decoder']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _difference_table(summary: Mapping[str, Any]) -> str:
    lines = [f"| prompts | {' | '.join(METRIC_NAMES.values())} |", "|---|" + "---|" * len(METRIC_NAMES)]
    for row in summary["differences"]:
        cells = (gain_text(*row["values"][name]) for name in METRIC_NAMES)
        lines.append(f"| {row['prompts']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(mean: float, low: float, high: float) -> str:
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"


def gain_text(mean: float, low: float, high: float) -> str:
    """Return a difference with its interval, bold where the interval excludes zero."""
    mark = "**" if low > 0 or high < 0 else ""
    return f"{mark}{mean:+.3f}{mark} ({low:+.3f} to {high:+.3f})"


def training_curves(trained: Trained) -> bytes:
    """Return loss and validation IoU over the epochs as PNG."""
    figure = new_figure(8.0, 3.2)
    left, right = figure.subplots(1, 2)
    losses = [(report.epoch, report.loss) for report in trained.history if report.loss is not None]
    if losses:
        left.plot(*zip(*losses), marker="o", color="#d1495b")
    left.set_ylabel("loss")
    ious = [(report.epoch, report.validation) for report in trained.history if report.validation is not None]
    if ious:
        right.plot(*zip(*ious), marker="o", color="#1b7fbd")
        if trained.validation is not None:
            right.axhline(trained.validation, color="black", linestyle=":", label=f"result: {trained.outcome}")
        right.legend(fontsize=7)
    else:
        right.text(0.5, 0.5, "no validation objects", ha="center", va="center", transform=right.transAxes)
    right.set_ylabel("mean IoU, validation")
    for axis in (left, right):
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
    return png(figure)
