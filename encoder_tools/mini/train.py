"""A training run of `mini`, from labelled imagery to ONNX files; ``geosam-es train-mini`` runs it.

On a CPU, processes of one thread each share the work and average their gradients, because the backward pass of a
convolution is many times slower on two threads that compete for a core.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from geosam_es.errors import ModelError, OutputError

from ..models.malloc import tune_malloc
from .config import TrainConfig
from .export import load_checkpoint, write_model
from .score_training import score_run
from .sources import check_training_images, data_folder
from .trainer import Trainer, best_checkpoint

EXPORT_FOLDER = "model"


def _work(
    rank: int, world: int, config: TrainConfig, data: str, out: str, minutes: float | None, begin_with: str | None
) -> None:
    tune_malloc()
    if world > 1 or not torch.cuda.is_available():
        torch.set_num_threads(1)
    if world > 1:
        rendezvous = Path(out) / f"rendezvous-{os.getppid()}"
        dist.init_process_group("gloo", init_method=rendezvous.as_uri(), rank=rank, world_size=world)
    start = None if begin_with is None else Path(begin_with)
    Trainer(config, Path(data), Path(out), minutes, rank, start).run()
    if world > 1:
        dist.destroy_process_group()


def run_training(
    data: Path | None,
    out: Path,
    minutes: float | None = None,
    config: TrainConfig | None = None,
    begin_with: Path | None = None,
    scores: bool = True,
) -> Path:
    """Train, resuming from a checkpoint in `out` if there is one, then train the score, and export the result.

    Parameters
    ----------
    data : Path or None
        Folder of labelled imagery; None takes ``GEOSAM_ES_DATA``.
    out : Path
        Folder of checkpoint, log and settings.
    minutes : float, optional
        Time limit; without it the run takes ``config.steps`` steps.
    config : TrainConfig, optional
    begin_with : Path, optional
        Checkpoint of an earlier run whose weights this run begins with. The learning rate rises again, batch
        normalisation keeps the statistics it has, and crops of a whole tile come from the beginning.
    scores : bool
        Whether the score is trained at the end, see `score_training`.

    Returns
    -------
    Path
        The folder of the exported ONNX files.

    Raises
    ------
    RasterError
        If training imagery is missing.
    ModelError
        If the time is not positive, or the checkpoint to begin with is missing or damaged.
    OutputError
        If `out` cannot be written to.
    """
    chosen = config or TrainConfig()
    folder = data_folder(data)
    if begin_with is not None:
        load_checkpoint(begin_with)
        chosen = dataclasses.replace(chosen, freeze_norm_at=0.0, whole_tiles_at=0.0)
    if minutes is not None and minutes <= 0:
        raise ModelError(f"cannot train for {minutes} minutes", "give a positive number")
    # Before the processes start, whose errors cannot be told in one sentence.
    check_training_images(folder)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.json").write_text(json.dumps(chosen.to_json(), indent=1), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write to '{out}' ({error.strerror})", "choose another --out") from error
    world = 1 if torch.cuda.is_available() else max(1, min(chosen.processes, os.cpu_count() or 1))
    start = None if begin_with is None else str(begin_with.resolve())
    arguments = (world, chosen, str(folder.resolve()), str(out.resolve()), minutes, start)
    spawn(_work, args=arguments, nprocs=world)  # type: ignore[no-untyped-call]
    net, trained = load_checkpoint(score_run(out, folder) if scores else best_checkpoint(out))
    write_model(net, out / EXPORT_FOLDER, trained)
    return out / EXPORT_FOLDER
