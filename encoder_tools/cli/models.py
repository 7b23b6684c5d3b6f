"""``geosam-es models``, ``export`` and ``train-mini``."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import click

from geosam_es.inference.encoder import MODEL_FILE
from geosam_es.inference.runtime import available_cores

from ..models import checkpoints
from ..models.family import load_network
from ..output_folder import check_output_folder
from ..progress import BYTES, Progress
from .options import PATH, json_option

__all__ = ["export_command", "models_command", "train_mini_command"]

_CORES_FOR_SAM2 = 4
_GIBIBYTES_FOR_SAM2 = 4


@click.group("models", invoke_without_command=True)
@click.pass_context
def models_command(ctx: click.Context) -> None:
    """List the models, or download one.

    \b
    Example:
      geosam-es models
      geosam-es models download vit_b
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_command)


@models_command.command("list", short_help="Print the models with size, licence and place.")
@json_option
def list_command(as_json: bool = False) -> None:
    """Print each model's size, licence, SHA-256 and location, and which suits this machine.

    \b
    Example:
      geosam-es models list --json
    """
    entries = checkpoints.list_models()
    if as_json:
        click.echo(
            json.dumps([{**asdict(entry), "path": entry.path and str(entry.path)} for entry in entries], indent=2)
        )
        return
    owned = [one.name for one in checkpoints.load_registry().values() if not (one.sha256 or one.repository)]
    for entry in entries:
        state = "ready" if entry.downloaded else f"download it with: geosam-es models download {entry.name}"
        if not entry.downloaded and entry.name in owned:
            state = "your own copy, with --checkpoint"
        click.echo(f"{entry.name:17} {entry.bytes / 2**20:7.1f} MiB  {entry.licence}  {state}")
        details = (entry.sha256 and f"sha256 {entry.sha256}", entry.path or entry.url, entry.notice)
        for detail in filter(None, details):
            click.echo(f"  {detail}")
    click.echo(_recommendation())


def _recommendation() -> str:
    """Return which model suits this machine, in one line."""
    cores, gpu = available_cores(), shutil.which("nvidia-smi") is not None
    gibibytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else None
    if gpu:
        chosen = "sam2.1_large or vit_h"
    elif cores >= _CORES_FOR_SAM2 and (gibibytes is None or gibibytes >= _GIBIBYTES_FOR_SAM2):
        chosen = "sam2.1_tiny, or mini for large areas"
    else:
        chosen = "mini"
    memory = "" if gibibytes is None else f", {gibibytes:.0f} GiB of memory"
    return f"This machine ({cores} cores{memory}, {'an' if gpu else 'no'} NVIDIA GPU): {chosen}."


@models_command.command("download", short_help="Download the checkpoint NAME.")
@click.argument("name")
def download_command(name: str) -> None:
    """Download the checkpoint NAME, or resume its download, and check its SHA-256.

    \b
    Example:
      geosam-es models download vit_b
    """
    with Progress(name, BYTES) as progress:
        path = checkpoints.download(name, progress=progress)
    click.echo(f"{name}: {path}")


@click.command("export", short_help="Export the decoder of a model to ONNX.")
@click.argument("model_or_checkpoint")
@click.option("-o", "--output", required=True, type=PATH, help="Folder for the ONNX files.")
@click.option("--checkpoint", type=PATH, help="Weights to use in place of the downloaded ones.")
@click.option("--encoder", "with_encoder", is_flag=True, help="Export the image encoder as well.")
def export_command(model_or_checkpoint: str, output: Path, checkpoint: Path | None, with_encoder: bool) -> None:
    """Export the decoder of a model, by name or SAM checkpoint, to prepare.onnx and decoder.onnx.

    \b
    Example:
      geosam-es export vit_b -o vit_b_onnx/
      geosam-es export my_checkpoint.pth -o mine_onnx/ --encoder
      geosam-es export sam2.1_tiny --checkpoint my_sam2/ -o mine_onnx/
    """
    check_output_folder(output, (MODEL_FILE,))
    # Imported here, because it needs torch.
    from ..models.export import export_model
    from ..models.sam.weights import load_sam

    entry = checkpoints.load_registry().get(model_or_checkpoint)
    if entry is None and checkpoint is not None:
        raise click.UsageError("--checkpoint needs the name of a model.")
    model = load_sam(model_or_checkpoint) if entry is None else load_network(entry, checkpoint)
    click.echo(f"Exporting {model.info.name}{'; the image encoder takes minutes' if with_encoder else ''}.", err=True)
    export_model(model, output, with_encoder=with_encoder)
    click.echo(f"{output}: {', '.join(sorted(path.name for path in output.glob('*.onnx')))} of {model.info.name}")


@click.command("train-mini", short_help="Train the embedded model.")
@click.option("--data", type=PATH, help="Folder of labelled imagery. Default: GEOSAM_ES_DATA.")
@click.option("--out", required=True, type=PATH, help="Folder for checkpoints, logs and the model.")
@click.option("--minutes", type=float, help="Time limit for the network, over all runs with this --out.")
@click.option("--from", "begin_with", type=PATH, help="Model folder or checkpoint that is trained further.")
@click.option("--learning-rate", type=float, help="Highest learning rate of the first stage.")
@click.option("--seed", type=int, help="Seed of the data; take a new one with --from.")
def train_mini_command(
    data: Path | None,
    out: Path,
    minutes: float | None,
    begin_with: Path | None,
    learning_rate: float | None,
    seed: int | None,
) -> None:
    """Train the embedded model in stages, resuming an interrupted run, and export it to ONNX.

    \b
    Example:
      geosam-es train-mini --data data/ --out runs/mini
      geosam-es train-mini --data data/ --out runs/more --from runs/mini/model --minutes 60
    """
    check_output_folder(out, (MODEL_FILE,))
    # Imported here, because it needs torch. The first import says what to install if a library is missing.
    from ..models.libraries import import_onnx

    import_onnx()
    from ..mini.config import TrainConfig
    from ..mini.train import run_training

    config = TrainConfig()
    if learning_rate is not None:
        continuations = config.continuations
        if begin_with is not None:
            continuations = tuple(replace(stage, learning_rate=learning_rate) for stage in continuations)
        config = replace(config, learning_rate=learning_rate, continuations=continuations)
    if seed is not None:
        config = replace(config, seed=seed)
    click.echo(f"{run_training(data, out, minutes, config, begin_with)}: trained and exported")
