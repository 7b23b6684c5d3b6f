"""``geosam-es finetune``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geosam_es.errors import VectorError

from ..progress import PERCENT, Progress
from .options import OWN_STORE, PATH, Number, json_option

if TYPE_CHECKING:
    from ..finetune.finetuning import DataSplit
    from ..finetune.training import Fit

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
            self.fail(f"{value} is not a share from 0 to 0.8", param, ctx)
        return share


@click.command("finetune", short_help="Train the model of STOREs on polygons.")
@click.argument("stores", metavar="STORE...", nargs=-1, required=True, type=OWN_STORE)
@click.argument("truth", type=PATH)
@click.option(
    "-o",
    "--output",
    required=True,
    type=PATH,
    help="Folder for the tuned decoder, or for the whole model if its encoder was trained too; see --depth.",
)
@click.option("--class", "class_filter", metavar="FIELD=VALUE", help="Use only objects of this class.")
@click.option(
    "--depth",
    type=click.Choice(("auto", "decoder", "adapter", "all")),
    default="auto",
    show_default=True,
    help="What to train: the decoder; a small network over the stored features too (adapter); or, for mini, the whole"
    " network from the rasters, after which the stores are encoded again in place (all). auto tries adapter,"
    " and all for mini if the rasters are found, and keeps what serves best.",
)
@click.option(
    "--minutes",
    type=Number(min=0),
    default=10,
    show_default=True,
    help="Time limit of the training in minutes. Checks may exceed it, and the comparison comes on top. 0: none.",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    default=30,
    show_default=True,
    help="Maximum number of training passes: first through each part of the polygons, then through all of them.",
)
@click.option(
    "--raster",
    "rasters",
    type=PATH,
    multiple=True,
    help="Raster of a store, or a folder of rasters. May be repeated. Default: next to the store, or where it was when"
    " it was encoded.",
)
@click.option(
    "--keep-stores",
    "keeps_stores",
    is_flag=True,
    help="Do not replace the stores. To compare, they are nevertheless encoded into temporary copies beside them.",
)
@click.option(
    "--holdout",
    type=_Holdout(),
    default=0.2,
    show_default=True,
    help="Objects to hold out for the comparison: a share, chosen by location, or a layer with other objects. 0: none.",
)
@click.option(
    "--decoder",
    "base",
    help="Decoder to start from: a folder, an ONNX file, or a decoder of the first store. Default: for mini, its active"
    " decoder; for other models, its original one.",
)
@click.option(
    "--checkpoint",
    type=PATH,
    help="Weights of the model, by default the downloaded ones; or the folder of a model that was made from mini.",
)
@click.option("--prompt-encoder", is_flag=True, help="Train the prompt encoder too; mini has none.")
@click.option("--learning-rate", type=Number(min=0, min_open=True), help="Default: that of the model.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of split, prompts and order."
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="CPU threads. With two, both copies of the network are trained at the same time.",
)
@click.option("--resume", is_flag=True, help="Continue an interrupted training.")
@click.option("--overwrite", is_flag=True, help="Replace an existing decoder or interrupted training.")
@json_option
def finetune_command(
    stores: Sequence[Path],
    truth: Path,
    output: Path,
    class_filter: str | None,
    as_json: bool,
    prompt_encoder: bool,
    **options: Any,
) -> None:
    """Fine-tune the model of STOREs on the polygons of TRUTH, a vector file, and compare it with the original one.

    Some objects, chosen by location, are held out for the comparison. The output folder contains the result, its model
    card and a report. A tuned decoder works in every store of the same model: add it with geosam-es decoder set. If
    the encoder was trained too, the STOREs are encoded again in place, and geosam-es decoder set does so with others.
    Decoders that were added to the STOREs are then moved to folders beside them.

    \b
    Example:
      geosam-es finetune ortho.embeddings.zarr fields.gpkg -o fields_decoder
      geosam-es decoder set ortho.embeddings.zarr fields_decoder
    """
    class_field, class_value = _split_class(class_filter)
    # Must run before PyTorch is imported, which allocates and frees large tensors all the time.
    from ..models.malloc import tune_malloc

    tune_malloc()
    from ..finetune.finetuning import Events, Request, finetune
    from ..finetune.training import TuneOptions

    chosen = {key: options.pop(key) for key in ("epochs", "minutes", "learning_rate", "seed", "threads")}
    chosen["minutes"] = chosen["minutes"] or None
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
    with ExitStack() as stack:
        training, comparing, encoding = (
            stack.enter_context(Progress(label, unit))
            for label, unit in (("training", PERCENT), ("comparing", "objects"), ("encoding", "tiles"))
        )
        tuned = finetune(request, Events(_print_split, training, _print_fit, comparing, encoding, _print_note))
    for note in tuned.facts.notes:
        click.echo(f"Warning: {note}", err=True)
    click.echo(json.dumps(tuned.summary, indent=1) if as_json else _text(output, tuned.summary))


def _split_class(text: str | None) -> tuple[str | None, str | None]:
    if text is None:
        return None, None
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise VectorError(f"--class {text} has no value", "write it as FIELD=VALUE")
    return name, value


def _print_split(split: DataSplit) -> None:
    click.echo(
        f"{len(split.training)} training objects, {len(split.held_out)} held out, {len(split.left_out)} not used",
        err=True,
    )


def _print_note(note: str) -> None:
    click.echo(note, err=True)


def _print_fit(depth: str, fit: Fit) -> None:
    """Print what a depth gained on the objects that its copies did not learn from, at its best share."""
    from ..finetune.validation import PROMPTS

    share, ious = max(fit.ious.items(), key=lambda item: float(item[1].mean()) if len(item[1]) else 0.0)
    pairs = zip(PROMPTS, fit.ious[0.0].mean(0), ious.mean(0))
    gains = ", ".join(f"{prompts} {before:.3f} -> {after:.3f}" for prompts, before, after in pairs)
    click.echo(f"{depth}: {gains} with {share:.0%} of its weights, {fit.epochs} epochs, {fit.seconds:.0f} s", err=True)


def _text(output: Path, summary: dict[str, Any]) -> str:
    before = {row["prompts"]: row["values"]["iou"][0] for row in summary["all"] if row["decoder"] == "before"}
    lines = []
    for row in summary["differences"]:
        gain, low, high = row["values"]["iou"]
        start = before[row["prompts"]]
        lines.append(
            f"{row['prompts']:<9} IoU {start:.3f} -> {start + gain:.3f}  ({gain:+.3f}, 95 %: {low:+.3f} to {high:+.3f})"
        )
    lines.append(f"{output}: tuned decoder, measured on {summary['objects']} objects; see {output / 'MODEL_CARD.md'}")
    return "\n".join(lines)
