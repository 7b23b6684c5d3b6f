"""Averaging of trained weights: ``python -m encoder_tools.mini.weight_average CHECKPOINT ... -o RUN``.

Weights of runs that started from one another can be averaged, and the mean is about as good as the best of them in
each respect ("model soups", Wortsman et al. 2022).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from geosam_es.errors import GeoSamError

from .export import save_checkpoint
from .onnx_weights import load_network
from .trainer import BEST

__all__ = ["average_checkpoints"]


def average_checkpoints(checkpoints: Sequence[Path], out: Path) -> Path:
    """Write the mean of the averaged weights of several checkpoints.

    Parameters
    ----------
    checkpoints : sequence of Path
        Checkpoints or folders of ONNX files, with equal weights. Step and seconds are taken from the last one.
    out : Path
        Folder for the result, as `score_training` and `export` take it; made if it does not exist.

    Returns
    -------
    Path
        ``best.pt`` in it.

    Raises
    ------
    ModelError
        If a checkpoint is missing, damaged, or of another network.
    OutputError
        If `out` cannot be written to.
    """
    loaded = [load_network(path) for path in checkpoints]
    weights = [net.state_dict() for net, _ in loaded]
    mean = {
        name: torch.stack([one[name] for one in weights]).mean(0) if value.dtype.is_floating_point else value
        for name, value in weights[-1].items()
    }
    return save_checkpoint(mean, loaded[-1][1], out / BEST)


def main() -> None:
    """Parse the command line and average."""
    parser = argparse.ArgumentParser(prog="python -m encoder_tools.mini.weight_average", description=__doc__)
    parser.add_argument("checkpoints", type=Path, nargs="+", help="checkpoints, or folders of ONNX files")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the mean")
    options = parser.parse_args()
    try:
        print(f"written: {average_checkpoints(options.checkpoints, options.out)}")
    except GeoSamError as error:
        parser.exit(2, f"error: {error.user_message}\n")


if __name__ == "__main__":
    main()
