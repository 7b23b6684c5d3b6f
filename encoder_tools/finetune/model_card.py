"""The model card of a tuned decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .decoder_folder import Facts

__all__ = ["model_card"]

_METRICS = {"iou": "IoU", "dice": "Dice", "precision": "Precision", "recall": "Recall", "boundary_f": "Boundary F"}


def model_card(facts: Facts, summary: Mapping[str, Any], name: str, curves: str) -> str:
    """Return the card in Markdown.

    Parameters
    ----------
    facts : Facts
    summary : mapping
        Of the report.
    name : str
        Of the decoder.
    curves : str
        File name of the training curves.
    """
    options, trained = facts.options, facts.trained
    parts = "\n".join(f"| {use} | {count} |" for use, count in facts.parts.items())
    chosen = f" ({facts.class_name})" if facts.class_name else ""
    measured = "held out" if facts.parts["held out"] else "learnt from"
    notes = "".join(f"\n> {note}\n" for note in facts.notes)
    kept = (
        f" {facts.with_kept_prompts} of them with the prompts of whoever drew them." if facts.with_kept_prompts else ""
    )
    return f"""# {name}: a mask decoder for {facts.model}

Tuned with `geosam-es finetune` on `{facts.truth.name}`{chosen}, from the decoder `{facts.base}`. It answers in any
store of the encoder with the SHA-256 `{facts.encoder_sha256}`: `geosam-es decoder set STORE FOLDER`. The encoder was
not changed. Licence of the model it was tuned from: {facts.licence}.

## Before and after

Mean over the {summary["objects"]} objects {measured}, in brackets the interval that holds 95 % of the means of objects
drawn again at random. `point` is one click in the middle, `box` the bounding box, `clicks:5` one click and up to four
that correct. More is in `report/report.html`.
{notes}
{_table(summary)}

Difference, on the same objects; bold where the interval leaves out zero:

{_difference_table(summary)}

## Training

| objects | |
|---|---|
{parts}

Rasters: {", ".join(facts.rasters)}.{kept} {len(facts.left_out)} objects of the layer were left out.

Parted by space: tiles that are held out share no pixel with tiles learnt from, unless said otherwise above. Focal and
Dice loss and the error of the predicted IoU; one click anywhere inside, jittered boxes and corrective clicks, answers
fed back. {len(trained.history) - 1} epochs in {trained.history[-1].seconds / 60:.1f} minutes; {options.objects_a_step}
objects a step, seed {options.seed}. Taken: {trained.taken}.

![training]({curves})
"""


def _table(summary: Mapping[str, Any]) -> str:
    lines = [f"| prompts | decoder | {' | '.join(_METRICS.values())} |", "|---|---|" + "---|" * len(_METRICS)]
    for row in summary["all"]:
        cells = (_cell(*row["values"][name]) for name in _METRICS)
        lines.append(f"| {row['prompts']} | {row['decoder']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _difference_table(summary: Mapping[str, Any]) -> str:
    lines = [f"| prompts | {' | '.join(_METRICS.values())} |", "|---|" + "---|" * len(_METRICS)]
    for row in summary["differences"]:
        cells = (_gain(*row["values"][name]) for name in _METRICS)
        lines.append(f"| {row['prompts']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(mean: float, low: float, high: float) -> str:
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"


def _gain(mean: float, low: float, high: float) -> str:
    mark = "**" if low > 0 or high < 0 else ""
    return f"{mark}{mean:+.3f}{mark} ({low:+.3f} to {high:+.3f})"
