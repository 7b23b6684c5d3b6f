"""The gradients of one batch: a simulated user prompts the decoder and corrects its answers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geosam_es.core.prompts import Prompts

from ..models.libraries import torch
from ..training.answers import continued_with
from ..training.simulated_user import BOX_HIGH, BOX_LOW, CELL_PIXELS, NEGATIVE, POSITIVE, SimulatedUser
from .feature_cache import FeatureCache
from .training_samples import MASK_CELLS, TILE_CELLS
from .tunable_decoder import PromptTensors, TunableDecoder
from .window_batches import WindowBatch

__all__ = ["accumulate_gradients", "play"]

_ROUNDS = (1, 2, 3)
_ROUND_SHARES = (0.5, 0.3, 0.2)
_KEPT_SHARE = 0.5
"""Probability that an object's own prompts, if it has any, are used instead of simulated ones."""


def accumulate_gradients(
    decoder: TunableDecoder, cache: FeatureCache, batch: WindowBatch, rng: np.random.Generator, objects_per_step: int
) -> float:
    """Add the gradients of a batch to those of the decoder's parameters.

    Parameters
    ----------
    decoder : TunableDecoder
    cache : FeatureCache
    batch : WindowBatch
    rng : Generator
    objects_per_step : int
        Divisor of the loss.

    Returns
    -------
    float
        Mean loss of the objects.
    """
    windows = []
    for one in cache.read(batch.samples[0].place):
        # Some models have more cells on a tile, in some or all of their maps.
        cells = one.shape[2] / TILE_CELLS
        rows, cols = (slice(int(start * cells), int((start + batch.side) * cells)) for start in (batch.row, batch.col))
        windows.append(torch.from_numpy(np.ascontiguousarray(one[:, :, rows, cols])))
    context = decoder.prepare(*windows)
    user = SimulatedUser(np.stack([_in_window(sample.mask, batch) for sample in batch.samples]), rng)
    _use_kept_prompts(user, batch, rng)
    return play(decoder, context, user, rng, objects_per_step)


def play(
    decoder: TunableDecoder,
    context: tuple[torch.Tensor, ...],
    user: SimulatedUser,
    rng: np.random.Generator,
    objects_per_step: int,
) -> float:
    """Let a user prompt and correct a decoder, and add the gradients to all parameters behind the answers.

    Parameters
    ----------
    decoder : TunableDecoder
    context : tuple of tensors
        Of one image, or of several with the same number of objects each.
    user : SimulatedUser
    rng : Generator
    objects_per_step : int
        Divisor of the loss.

    Returns
    -------
    float
        Mean loss of the objects.
    """
    # Detached, so that the memory of each round is free before the next one.
    leaves = tuple(part.detach().requires_grad_(part.requires_grad) for part in context)
    truth = torch.from_numpy(user.masks.astype(np.float32))[:, None]
    count = len(truth)
    previous, has_mask = torch.zeros_like(truth), torch.zeros(count)
    rounds = int(rng.choice(_ROUNDS, p=_ROUND_SHARES))
    total = 0.0
    for turn in range(rounds):
        coords, labels = (torch.from_numpy(part) for part in user.points())
        ambiguous = torch.from_numpy(user.single_click.astype(np.float32))
        each = tuple(leaf if len(leaf) == 1 else leaf.repeat_interleave(count // len(leaf), 0) for leaf in leaves)
        answer, loss = decoder.learn(each, PromptTensors(coords, labels, previous, has_mask), truth, ambiguous)
        (loss * (count / (rounds * objects_per_step))).backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach()) / rounds
        if turn + 1 < rounds:
            previous = continued_with(*answer, truth, ambiguous, rng).float()
            has_mask = torch.ones(count)
            user.correct((previous[:, 0] > 0).numpy())
    pairs = [(part, leaf.grad) for part, leaf in zip(context, leaves) if part.requires_grad and leaf.grad is not None]
    if pairs:
        torch.autograd.backward([part for part, _ in pairs], [grad for _, grad in pairs])
    return total


def _in_window(mask: NDArray[np.bool_], batch: WindowBatch) -> NDArray[np.bool_]:
    low_row, low_col, side = (MASK_CELLS * value for value in (batch.row, batch.col, batch.side))
    return mask[low_row : low_row + side, low_col : low_col + side]


def _use_kept_prompts(user: SimulatedUser, batch: WindowBatch, rng: np.random.Generator) -> None:
    """Replace some of the simulated prompts with the user's own ones."""
    for number, sample in enumerate(batch.samples):
        if sample.prompts is None or rng.random() >= _KEPT_SHARE:
            continue
        given = _to_window(sample.prompts, batch)
        if given is not None:
            user.prompts[number] = given
            user.single_click[number] = sample.prompts.is_ambiguous


def _to_window(prompts: Prompts, batch: WindowBatch) -> list[tuple[float, float, float]] | None:
    """Return prompts in pixels of the window, None if some are outside."""
    pixels = CELL_PIXELS * MASK_CELLS
    left, top, side = (float(pixels * value) for value in (batch.col, batch.row, batch.side))
    given = [(p.x - left, p.y - top, POSITIVE if p.positive else NEGATIVE) for p in prompts.points]
    if prompts.box is not None:
        box = prompts.box
        given += [(box.min_x - left, box.min_y - top, BOX_LOW), (box.max_x - left, box.max_y - top, BOX_HIGH)]
    return given if all(0 <= x <= side and 0 <= y <= side for x, y, _ in given) else None
