"""Train `mini` from scratch: ``python -m encoder_tools.mini.train --data DIR --out DIR``.

On a CPU, two processes of one thread each share the work and average their gradients: the backward pass of a
convolution on two contended threads is many times slower.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from geosam_es.errors import GeoSamError, ModelError, OutputError

from .config import TrainConfig
from .export import load_checkpoint, write_model
from .score_training import score_run
from .sources import data_folder
from .trainer import Trainer, best_checkpoint

MALLOC = {
    # Without these glibc returns the memory of every activation to the kernel and faults it in again.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "20000000000",
    "MALLOC_TOP_PAD_": "268435456",
    "MALLOC_ARENA_MAX": "1",
}
EXPORT_FOLDER = "model"


def _work(
    rank: int, world: int, config: TrainConfig, data: str, out: str, minutes: float | None, begin_with: str | None
) -> None:
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
    """Train, resuming from a checkpoint in `out` if there is one, let the score learn last, and export the result.

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
        Checkpoint of an earlier run to begin with: a further sitting, with a learning rate that rises again. Batch
        normalisation keeps the statistics that it has, and crops as large as a tile are among the first.
    scores : bool
        Whether the score learns once more in the end, see `scoring`.

    Returns
    -------
    Path
        The folder of the exported ONNX files.

    Raises
    ------
    ModelError
        If the time is not positive, or there is no checkpoint to begin with.
    OutputError
        If `out` cannot be written to.
    """
    chosen = config or TrainConfig()
    folder = data_folder(data)
    if begin_with is not None:
        if not begin_with.is_file():
            raise ModelError(f"no checkpoint '{begin_with}' to begin with", "name a checkpoint.pt or best.pt")
        chosen = dataclasses.replace(chosen, freeze_norm_at=0.0, whole_tiles_at=0.0)
    if minutes is not None and minutes <= 0:
        raise ModelError(f"cannot train for {minutes} minutes", "give a positive number")
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.json").write_text(json.dumps(chosen.to_json(), indent=1), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write to '{out}' ({error.strerror})", "choose another --out") from error
    world = 1 if torch.cuda.is_available() else max(1, min(chosen.processes, os.cpu_count() or 1))
    os.environ.update(MALLOC)
    start = None if begin_with is None else str(begin_with.resolve())
    arguments = (world, chosen, str(folder.resolve()), str(out.resolve()), minutes, start)
    spawn(_work, args=arguments, nprocs=world)  # type: ignore[no-untyped-call]
    net, trained = load_checkpoint(score_run(out, folder) if scores else best_checkpoint(out))
    write_model(net, out / EXPORT_FOLDER, trained)
    return out / EXPORT_FOLDER


def main() -> None:
    """Parse the command line, train and export."""
    parser = argparse.ArgumentParser(prog="python -m encoder_tools.mini.train", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of labelled imagery (default: GEOSAM_ES_DATA)")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoint, log and ONNX files")
    parser.add_argument("--minutes", type=float, help="time limit over all sittings, before the score learns last")
    parser.add_argument("--begin-with", type=Path, help="checkpoint of an earlier run whose weights are the first ones")
    parser.add_argument("--learning-rate", type=float, help="highest learning rate (default: that of config.py)")
    parser.add_argument(
        "--seed", type=int, help="seed of the data, another one for each sitting (default: config.py's)"
    )
    options = parser.parse_args()
    given = {"learning_rate": options.learning_rate, "seed": options.seed}
    config = dataclasses.replace(TrainConfig(), **{name: value for name, value in given.items() if value is not None})
    try:
        made = run_training(options.data, options.out, options.minutes, config, options.begin_with)
        print(f"trained: {made}")
    except GeoSamError as error:
        parser.exit(2, f"error: {error.user_message}\n")


if __name__ == "__main__":
    main()
