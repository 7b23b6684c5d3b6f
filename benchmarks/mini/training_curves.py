"""Plot a training run: ``python -m benchmarks.mini.training_curves RUN -o PICTURE.png``."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoder_tools.mini.config import TRAINING_LOG, VALIDATION_LOG
from geosam_es.errors import GeoSamError, ModelError

WINDOW = 60
PANELS = (
    ("loss", ("loss",)),
    ("mean IoU on training crops", ("iou_first", "iou_last")),
    ("learning rate", ("learning_rate",)),
)
NAMES = {"iou_first": "first prompt", "iou_last": "after the last correction"}


def read_log(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read the columns of ``log.csv``.

    Raises
    ------
    ModelError
        If the file is missing or too short.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    except OSError as error:
        raise ModelError(f"there is no training log '{path}'", "run geosam-es train-mini first") from error
    if len(rows) < 2:
        raise ModelError(f"the log '{path}' has only {len(rows)} steps", "train longer")
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def smooth(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return the running mean (N,) of the last `window` values, fewer at the beginning."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    begin = np.maximum(0, end - window)
    return np.asarray((total[end] - total[begin]) / (end - begin))


def draw(run: Path, picture: Path) -> None:
    """Plot loss, IoU on training crops and on held-out objects, and learning rate against minutes.

    Parameters
    ----------
    run : Path
        Folder of the run, with ``log.csv`` and, if there was held-out imagery, ``validation.csv``.
    picture : Path
        PNG to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    log = read_log(run / TRAINING_LOG)
    held_out = run / VALIDATION_LOG
    figure, axes = pyplot.subplots(1, len(PANELS) + 1, figsize=(14, 3), layout="constrained")
    if held_out.is_file():
        looks = read_log(held_out)
        for name in sorted(looks.keys() - {"step", "seconds"}):
            axes[-1].plot(looks["seconds"] / 60, looks[name], "o-", markersize=3, label=name)
        axes[-1].legend(fontsize=8)
    axes[-1].set_title("mean IoU, some held-out objects", fontsize=10)
    axes[-1].set_xlabel("minutes")
    axes[-1].grid(alpha=0.3)
    for axis, (title, columns) in zip(axes, PANELS):
        for column in columns:
            axis.plot(log["seconds"] / 60, smooth(log[column], WINDOW), label=NAMES.get(column))
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("minutes")
        axis.grid(alpha=0.3)
        if len(columns) > 1:
            axis.legend(fontsize=8)
    figure.savefig(picture, dpi=90)
    pyplot.close(figure)


def main() -> None:
    """Parse the command line and plot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mini.training_curves", description=__doc__)
    parser.add_argument("run", type=Path, help="folder given to train-mini as --out")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    try:
        draw(options.run, options.out)
    except GeoSamError as error:
        parser.exit(2, f"error: {error.user_message}\n")


if __name__ == "__main__":
    main()
