"""``geosam-es finetune``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from geosam_es.errors import VectorError

from ..progress import Progress

__all__ = ["finetune_command"]


class _Holdout(click.ParamType):  # type: ignore[type-arg]
    """A share of the objects, or a layer."""

    name = "SHARE|LAYER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | Path:
        try:
            share = float(value)
        except ValueError:
            return Path(value)
        if not 0 <= share <= 0.8:
            self.fail(f"{value} is no share from 0 to 0.8", param, ctx)
        return share


@click.command("finetune")
@click.argument("stores", metavar="STORE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.argument("truth", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder for the tuned decoder.")
@click.option("--class", "class_filter", metavar="FIELD=VALUE", help="Learn only from objects of this class.")
@click.option("--epochs", type=click.IntRange(min=1), default=20, show_default=True, help="At most.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="End the training after this time.")
@click.option(
    "--holdout",
    type=_Holdout(),
    default=0.2,
    show_default=True,
    help="Objects kept to test on: a share, parted by space, or a layer of its own. 0 keeps none.",
)
@click.option(
    "--decoder",
    "base",
    help="Decoder to start from, as for evaluate. Default: the one that answers in the first store.",
)
@click.option("--checkpoint", type=click.Path(path_type=Path), help="SAM's weights. Default: those downloaded.")
@click.option("--prompt-encoder", is_flag=True, help="Let SAM's prompt encoder learn too.")
@click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), help="Default: what suits the model.")
@click.option("--patience", type=click.IntRange(min=1), default=6, show_default=True, help="Epochs to wait for a gain.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the parts and the prompts.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads of training.")
@click.option("--resume", is_flag=True, help="Go on with a training that was cut short.")
@click.option("--overwrite", is_flag=True, help="Begin anew where there is something already.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def finetune_command(
    stores: Sequence[Path],
    truth: Path,
    output: Path,
    class_filter: str | None,
    as_json: bool,
    prompt_encoder: bool,
    **options: Any,
) -> None:
    """Tune the decoder of STOREs on the polygons of TRUTH, a vector file, and compare it with what it was before.

    Only the features in the stores are read, never the encoder. What is held out is parted from what is learnt from by
    space. The folder then holds the tuned decoder, its model card and a report; geosam-es decoder set puts it into any
    store of the same model.

    \b
    Example:
      geosam-es finetune ortho.embeddings.zarr fields.gpkg -o fields_decoder
      geosam-es decoder set ortho.embeddings.zarr fields_decoder
    """
    class_field, class_value = _split_class(class_filter)
    # Before PyTorch is imported: it allocates and frees large tensors all the time.
    from ..models.malloc import tune_malloc

    tune_malloc()
    from ..finetune.finetuning import Request, finetune
    from ..finetune.training import TuneOptions

    chosen = {key: options.pop(key) for key in ("epochs", "minutes", "learning_rate", "patience", "seed", "threads")}
    request = Request(
        stores=stores,
        truth=truth,
        out=output,
        class_field=class_field,
        class_value=class_value,
        train_prompt_encoder=prompt_encoder,
        options=TuneOptions(**chosen),
        **options,
    )
    with Progress("comparing", "objects") as progress:
        tuned = finetune(request, _events(chosen["epochs"], progress))
    for note in tuned.facts.notes:
        click.echo(f"Warning: {note}", err=True)
    click.echo(json.dumps(tuned.summary, indent=1) if as_json else _text(output, tuned.summary))


def _split_class(text: str | None) -> tuple[str | None, str | None]:
    if text is None:
        return None, None
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise VectorError(f"--class {text} names no value", "write it as FIELD=VALUE")
    return name, value


def _events(epochs: int, progress: Progress) -> Any:
    """Say on standard error how far it is; a line an epoch, which another program can read."""
    from ..finetune.finetuning import Events, Parts
    from ..finetune.training import EpochReport

    def tell_parts(parts: Parts) -> None:
        click.echo(
            f"{len(parts.train)} objects to learn from, {len(parts.validation)} to stop by, {len(parts.held)} held out,"
            f" {len(parts.left_out)} left out",
            err=True,
        )

    def tell_epoch(report: EpochReport) -> None:
        loss = "" if report.loss is None else f"  loss {report.loss:.3f}"
        validation = "" if report.validation is None else f"  IoU {report.validation:.3f}"
        click.echo(f"epoch {report.epoch}/{epochs}{loss}{validation}  {report.seconds:.0f} s", err=True)

    return Events(tell_parts, tell_epoch, progress)


def _text(output: Path, summary: dict[str, Any]) -> str:
    before = {row["prompts"]: row["values"]["iou"][0] for row in summary["all"] if row["decoder"] == "before"}
    lines = []
    for row in summary["differences"]:
        gain, low, high = row["values"]["iou"]
        start = before[row["prompts"]]
        lines.append(
            f"{row['prompts']:<9} IoU {start:.3f} -> {start + gain:.3f}  ({gain:+.3f}, 95 %: {low:+.3f} to {high:+.3f})"
        )
    lines.append(f"{output}: tuned decoder, measured on {summary['objects']} objects, see {output / 'MODEL_CARD.md'}")
    return "\n".join(lines)
