"""A training run of `mini`, from labelled imagery to ONNX files; ``geosam-es train-mini`` runs it.

On a CPU, processes of one thread each share the work and average their gradients, because the backward pass of a
convolution is many times slower on two threads that compete for a core.
"""

from __future__ import annotations

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
from .onnx_weights import load_network
from .score_training import score_run
from .sources import check_training_images, data_folder
from .trainer import CHECKPOINT, Trainer, best_checkpoint
from .weight_average import average_checkpoints

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
    """Train in stages, then train the score, and export the result.

    Every stage has a folder in `out`. Finished stages are kept, and an interrupted one resumes from its checkpoint.

    Parameters
    ----------
    data : Path or None
        Folder of labelled imagery; None takes ``GEOSAM_ES_DATA``.
    out : Path
        Folder of checkpoints, logs and settings.
    minutes : float, optional
        Time limit, divided among the stages by their steps; without it they take all their steps.
    config : TrainConfig, optional
    begin_with : Path, optional
        Checkpoint, or folder of ONNX files, whose weights take the place of the first stage.
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
        If the time is not positive, there is no stage, or what the run begins with is missing or damaged.
    OutputError
        If `out` cannot be written to.
    """
    stages = (config or TrainConfig()).stages(continue_only=begin_with is not None)
    folder = data_folder(data)
    if not stages:
        raise ModelError("there is no stage to train", "give continuations, or nothing to begin with")
    if begin_with is not None:
        load_network(begin_with)
    if minutes is not None and minutes <= 0:
        raise ModelError(f"cannot train for {minutes} minutes", "give a positive number")
    # Before the processes start, whose errors cannot be told in one sentence.
    check_training_images(folder)
    start, total = begin_with, sum(stage.steps for stage in stages)
    trained = {"step": 0.0, "seconds": 0.0}
    for number, stage in enumerate(stages, start=1):
        limit = None if minutes is None else minutes * stage.steps / total
        run = out / f"stage{number}"
        _run_stage(stage, folder, run, limit, start)
        _, spent = load_checkpoint(run / CHECKPOINT)
        trained = {name: value + spent[name] for name, value in trained.items()}
        result = best_checkpoint(run) if start is None else average_checkpoints([start, run / CHECKPOINT], run / "mean")
        start = result
    net, _ = load_checkpoint(score_run(result.parent, folder) if scores else result)
    write_model(net, out / EXPORT_FOLDER, trained)
    return out / EXPORT_FOLDER


def _run_stage(config: TrainConfig, data: Path, out: Path, minutes: float | None, start: Path | None) -> None:
    """Run a stage to its end, unless it has been finished with the same settings."""
    settings = json.dumps({**config.to_json(), "minutes": minutes, "begin_with": str(start)}, indent=1)
    finished = out / "finished.json"
    try:
        if finished.is_file() and finished.read_text(encoding="utf-8") == settings:
            return
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.json").write_text(settings, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write to '{out}' ({error.strerror})", "choose another --out") from error
    world = 1 if torch.cuda.is_available() else max(1, min(config.processes, os.cpu_count() or 1))
    begin_with = None if start is None else str(start.resolve())
    arguments = (world, config, str(data.resolve()), str(out.resolve()), minutes, begin_with)
    spawn(_work, args=arguments, nprocs=world)  # type: ignore[no-untyped-call]
    finished.write_text(settings, encoding="utf-8")
