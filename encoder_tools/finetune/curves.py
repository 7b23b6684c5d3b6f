"""The curves of a training."""

from __future__ import annotations

from pathlib import Path

from ..evaluation.figures import new_figure, png
from .training import Trained

__all__ = ["draw_curves"]


def draw_curves(trained: Trained, path: Path) -> None:
    """Draw loss and validation over the epochs into a PNG.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    figure = new_figure(8.0, 3.2)
    left, right = figure.subplots(1, 2)
    learnt = [(report.epoch, report.loss) for report in trained.history if report.loss is not None]
    if learnt:
        left.plot(*zip(*learnt), marker="o", color="#d1495b")
    left.set_ylabel("loss")
    seen = [(report.epoch, report.validation) for report in trained.history if report.validation is not None]
    if seen:
        right.plot(*zip(*seen), marker="o", color="#1b7fbd")
        if trained.validation is not None:
            right.axhline(trained.validation, color="black", linestyle=":", label=f"taken: {trained.taken}")
        right.legend(fontsize=7)
    else:
        right.text(0.5, 0.5, "no objects were spared to stop by", ha="center", va="center", transform=right.transAxes)
    right.set_ylabel("mean IoU, validation")
    for axis in (left, right):
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
    path.write_bytes(png(figure))
