"""Batches of training: windows of a tile's features, and the objects inside each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .training_samples import MASK_CELLS, TILE_CELLS, Place, Sample
from .tunable_decoder import TunableDecoder

__all__ = ["WindowBatch", "plan_epoch"]

_ROOM = 1.25
"""Least width of a window, in widths of the object it is chosen for."""


@dataclass(frozen=True)
class WindowBatch:
    """A window of a tile and the samples in it.

    Attributes
    ----------
    samples : tuple of Sample
        All on the same tile.
    row, col, side : int
        The window in feature cells.
    """

    samples: tuple[Sample, ...]
    row: int
    col: int
    side: int


def plan_epoch(samples: Sequence[Sample], decoder: TunableDecoder, rng: np.random.Generator) -> list[WindowBatch]:
    """Assign each sample to one window, in random order; samples that fit into the same window share it."""
    shuffled = [samples[index] for index in rng.permutation(len(samples))]
    by_place: dict[Place, list[Sample]] = {}
    for sample in shuffled:
        by_place.setdefault(sample.place, []).append(sample)
    batches = []
    done: set[int] = set()
    for sample in shuffled:
        if id(sample) in done:
            continue
        row, col, side = _window(sample, decoder.window_cells, rng)
        others = [
            other
            for other in by_place[sample.place]
            if other is not sample and id(other) not in done and _fits(other, row, col, side)
        ]
        members = (sample, *others[: decoder.objects_at_once - 1])
        done.update(id(member) for member in members)
        batches.append(WindowBatch(members, row, col, side))
    return batches


def _window(sample: Sample, sides: Sequence[int], rng: np.random.Generator) -> tuple[int, int, int]:
    """Choose one of the two smallest windows that hold a sample, at a random position."""
    low_row, high_row, low_col, high_col = sample.window
    extent = max(high_row - low_row, high_col - low_col) / MASK_CELLS
    fitting = [side for side in sides if side >= _ROOM * extent + 2] or [sides[-1]]
    side = int(rng.choice(fitting[:2]))
    return _start(low_row, high_row, side, rng), _start(low_col, high_col, side, rng), side


def _start(low: int, high: int, side: int, rng: np.random.Generator) -> int:
    """Choose the start of a window along one axis, so that it holds mask cells ``low`` to ``high`` if possible."""
    last = TILE_CELLS - side
    latest = min(low // MASK_CELLS, last)
    earliest = max(0, min(-(-high // MASK_CELLS) - side, latest))
    return int(rng.integers(earliest, latest + 1))


def _fits(sample: Sample, row: int, col: int, side: int) -> bool:
    low_row, high_row, low_col, high_col = sample.window
    rows = row * MASK_CELLS <= low_row and high_row <= (row + side) * MASK_CELLS
    return rows and col * MASK_CELLS <= low_col and high_col <= (col + side) * MASK_CELLS
