"""The model card of a tuned decoder, with the curves of its training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..evaluation.figures import new_figure, png
from ..evaluation.summary import METRIC_NAMES
from .training import OBJECTS_PER_STEP, Choice, TuneOptions
from .validation import PROMPTS

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
    training, held_out : int
        Number of objects in each part.
    with_kept_prompts : int
        Training objects that came with the prompts of the user who drew them.
    left_out : dict of str to str
        Objects that were not used, and why.
    notes : list of str
        Limits of the measured figures.
    choice : Choice
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
    held_out: int
    with_kept_prompts: int
    left_out: dict[str, str]
    notes: list[str]
    choice: Choice
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
    options, choice = facts.options, facts.choice
    is_model = choice.share > 0 and choice.name == "all"
    kind = "a model tuned from" if is_model else "a mask decoder for"
    use = "The encoder was trained too" if is_model else "The encoder was not changed"
    chosen = f" ({facts.class_name})" if facts.class_name else ""
    measured = "held-out" if facts.held_out else "training"
    notes = "".join(f"\n> {note}\n" for note in facts.notes)
    kept = f" {facts.with_kept_prompts} training objects kept their user's prompts." if facts.with_kept_prompts else ""
    return f"""# {name}: {kind} {facts.model}

Tuned with `geosam-es finetune` on `{facts.truth.name}`{chosen}, starting from the decoder `{facts.base}`. {use};
the decoder works in every store of the encoder with the SHA-256 `{facts.encoder_sha256}`:
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
| held out | {facts.held_out} |

Rasters: {", ".join(facts.rasters)}.{kept} {len(facts.left_out)} objects of the layer were not used.

The objects were split by space: no tile with held-out objects overlaps a tile with training objects, unless a note
above says so. Loss: focal and Dice loss, and the error of the predicted IoU. Prompts: clicks inside the object,
jittered boxes and corrective clicks, each answer fed back as mask input. {OBJECTS_PER_STEP} objects per step, seed
{options.seed}. The training objects were divided by location into four parts, or into two if there were 100 or more. A
copy of the network learned from each, and each part was checked by the mean of the other copies. Two copies of the best
depth went on from the mean of all, with all objects; the result is their mean: {choice.outcome}.

{_depth_table(choice)}

![training]({curves})
"""


def _depth_table(choice: Choice) -> str:
    """Return the gain of each depth and share on the objects that the copies did not learn from."""
    lines = [
        f"| depth | share | {' | '.join(PROMPTS)} | epochs | minutes |",
        "|---|---|" + "---|" * (len(PROMPTS) + 2),
    ]
    for name, fit in choice.fits.items():
        for share, ious in fit.ious.items():
            gains = ious - fit.ious[0.0]
            cells = (
                f"{value:+.3f}" if share else f"{before:.3f}" for value, before in zip(gains.mean(0), ious.mean(0))
            )
            mark = "**" if (name, share) == (choice.name, choice.share) else ""
            lines.append(
                f"| {name} | {mark}{share:.0%}{mark} | {' | '.join(cells)} | {fit.epochs} | {fit.seconds / 60:.1f} |"
            )
    return "\n".join(lines)


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


def training_curves(choice: Choice) -> bytes:
    """Return the loss over the epochs, and the gain by share of the trained weights, of each depth as PNG."""
    figure = new_figure(8.0, 3.2)
    left, right = figure.subplots(1, 2)
    for name, fit in choice.fits.items():
        if fit.losses:
            left.plot(range(1, len(fit.losses) + 1), fit.losses, label=name)
        gains = {share: float((ious - fit.ious[0.0]).mean()) for share, ious in fit.ious.items() if len(ious)}
        right.plot(list(gains), list(gains.values()), marker="o", label=name)
    right.axvline(choice.share, color="black", linestyle=":", label=f"result: {choice.outcome}")
    left.set_xlabel("epoch")
    left.set_ylabel("loss")
    right.set_xlabel("share of the trained weights")
    right.set_ylabel("gain in IoU, objects not learned from")
    right.legend(fontsize=6)
    for axis in (left, right):
        axis.grid(alpha=0.3)
    return png(figure)
