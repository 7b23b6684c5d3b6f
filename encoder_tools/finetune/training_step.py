"""One step of learning: a window of a tile's features, the objects in it, and a user who prompts and corrects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geosam_es.core.prompts import Prompts
from geosam_es.inference.decoder import MASK_SIDE

from ..models.libraries import torch
from ..training.answers import continued_with
from ..training.simulated_user import BOX_HIGH, BOX_LOW, NEGATIVE, POSITIVE, SimulatedUser
from .losses import tuning_loss
from .training_samples import CELL, FeatureCache, Sample
from .tunable_decoder import PromptTensors, TunableDecoder

__all__ = ["Visit", "learn", "plan_epoch"]

_MASK_CELLS = 4
"""Mask cells along the side of a feature cell of SAM and of mini."""

_ROOM = 1.25
"""How much wider than its object a window is at least."""

_ROUNDS = (1, 2, 3)
_ROUND_SHARES = (0.5, 0.3, 0.2)
_KEPT_SHARE = 0.5
"""How often the prompts that a user gave are taken, where they are known."""


@dataclass(frozen=True)
class Visit:
    """A window of a tile and the samples in it.

    Attributes
    ----------
    samples : tuple of Sample
        All on one tile.
    row, col, side : int
        Window in feature cells.
    """

    samples: tuple[Sample, ...]
    row: int
    col: int
    side: int


def plan_epoch(samples: Sequence[Sample], decoder: TunableDecoder, rng: np.random.Generator) -> list[Visit]:
    """Put every sample into one window, and samples that fit into one window together, in random order."""
    waiting = [samples[index] for index in rng.permutation(len(samples))]
    by_place: dict[object, list[Sample]] = {}
    for sample in waiting:
        by_place.setdefault(sample.place, []).append(sample)
    visits = []
    done: set[int] = set()
    for sample in waiting:
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
        visits.append(Visit(members, row, col, side))
    return visits


def _window(sample: Sample, sides: Sequence[int], rng: np.random.Generator) -> tuple[int, int, int]:
    """Choose a window around a sample: one of the two narrowest that hold it, anywhere around it."""
    low_row, high_row, low_col, high_col = sample.window
    extent = max(high_row - low_row, high_col - low_col) / _MASK_CELLS
    fitting = [side for side in sides if side >= _ROOM * extent + 2] or [sides[-1]]
    side = int(rng.choice(fitting[:2]))
    return _start(low_row, high_row, side, rng), _start(low_col, high_col, side, rng), side


def _start(low: int, high: int, side: int, rng: np.random.Generator) -> int:
    """Choose where a window along one axis begins, so that it holds mask cells ``low`` to ``high`` if it can."""
    last = MASK_SIDE // _MASK_CELLS - side
    latest = min(low // _MASK_CELLS, last)
    earliest = max(0, min(-(-high // _MASK_CELLS) - side, latest))
    return int(rng.integers(earliest, latest + 1))


def _fits(sample: Sample, row: int, col: int, side: int) -> bool:
    low_row, high_row, low_col, high_col = sample.window
    rows = row * _MASK_CELLS <= low_row and high_row <= (row + side) * _MASK_CELLS
    return rows and col * _MASK_CELLS <= low_col and high_col <= (col + side) * _MASK_CELLS


def learn(
    decoder: TunableDecoder, cache: FeatureCache, visit: Visit, rng: np.random.Generator, objects_a_step: int
) -> float:
    """Prompt, correct, and add the gradients to those of the decoder's parameters.

    Parameters
    ----------
    decoder : TunableDecoder
    cache : FeatureCache
    visit : Visit
    rng : Generator
    objects_a_step : int
        By which the loss is divided.

    Returns
    -------
    float
        Mean loss of the objects.
    """
    features = cache.read(visit.samples[0].place)
    rows, cols = slice(visit.row, visit.row + visit.side), slice(visit.col, visit.col + visit.side)
    context = decoder.prepare(torch.from_numpy(np.ascontiguousarray(features[:, :, rows, cols])))
    # Taken off the graph, so that each round's memory is free before the next one.
    leaves = tuple(part.detach().requires_grad_(part.requires_grad) for part in context)
    masks = np.stack([_cut(sample.mask, visit) for sample in visit.samples])
    user = SimulatedUser(masks, rng)
    _give_kept(user, visit, rng)
    truth = torch.from_numpy(masks.astype(np.float32))[:, None]
    previous, has_mask = torch.zeros_like(truth), torch.zeros(len(masks))
    rounds = int(rng.choice(_ROUNDS, p=_ROUND_SHARES))
    total = 0.0
    for turn in range(rounds):
        coords, labels = (torch.from_numpy(part) for part in user.points())
        ambiguous = torch.from_numpy(user.single_click.astype(np.float32))
        answer = decoder.decode(leaves, PromptTensors(coords, labels, previous, has_mask))
        losses = tuning_loss(answer, truth, ambiguous)
        (losses.sum() / (rounds * objects_a_step)).backward()  # type: ignore[no-untyped-call]
        total += float(losses.detach().mean()) / rounds
        if turn + 1 < rounds:
            previous = continued_with(*answer, truth, ambiguous, rng)
            has_mask = torch.ones(len(masks))
            user.correct((previous[:, 0] > 0).numpy())
    grown = [(part, leaf.grad) for part, leaf in zip(context, leaves) if part.requires_grad and leaf.grad is not None]
    if grown:
        torch.autograd.backward([part for part, _ in grown], [grad for _, grad in grown])
    return total


def _cut(mask: NDArray[np.bool_], visit: Visit) -> NDArray[np.bool_]:
    low_row, low_col, side = (_MASK_CELLS * value for value in (visit.row, visit.col, visit.side))
    return mask[low_row : low_row + side, low_col : low_col + side]


def _give_kept(user: SimulatedUser, visit: Visit, rng: np.random.Generator) -> None:
    """Put prompts that a user gave in place of some of the simulated ones."""
    for number, sample in enumerate(visit.samples):
        if sample.prompts is None or rng.random() >= _KEPT_SHARE:
            continue
        given = _in_window(sample.prompts, visit)
        if given is not None:
            user.prompts[number] = given
            user.single_click[number] = sample.prompts.is_ambiguous


def _in_window(prompts: Prompts, visit: Visit) -> list[tuple[float, float, float]] | None:
    """Return prompts in pixels of the window, None where some lie outside."""
    pixels = CELL * _MASK_CELLS
    left, top, side = (float(pixels * value) for value in (visit.col, visit.row, visit.side))
    given = [(p.x - left, p.y - top, POSITIVE if p.positive else NEGATIVE) for p in prompts.points]
    if prompts.box is not None:
        box = prompts.box
        given += [(box.min_x - left, box.min_y - top, BOX_LOW), (box.max_x - left, box.max_y - top, BOX_HIGH)]
    return given if all(0 <= x <= side and 0 <= y <= side for x, y, _ in given) else None
