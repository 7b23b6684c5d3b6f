"""A user at work on a batch of objects: first prompts, then corrective clicks, during training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .crops import LABEL_STRIDE
from .prompts import (
    BOX_HIGH,
    BOX_LOW,
    IGNORED,
    NEGATIVE,
    POSITIVE,
    bounding_box,
    cell_to_xy,
    deepest_cell,
    depth,
    jitter_box,
    random_cell,
)

CLICK_SHARE, BOX_SHARE = 0.40, 0.45
"""How many objects begin with a click or a box; the others begin with both."""

TIGHT_SHARE = 0.25
"""How many boxes are as tight as the cells of the mask tell; the others are drawn loosely."""

Prompt = tuple[float, float, float]


class SimulatedUser:
    """Prompts objects and corrects the answers.

    Parameters
    ----------
    masks : bool (B, h, w)
        True masks at 1/4.
    rng : Generator
    click_share : float
        How many objects begin with a click alone.

    Attributes
    ----------
    single_click : bool (B,)
        Whether the object has one click and nothing else, so that its answer is ambiguous.
    """

    def __init__(self, masks: NDArray[np.bool_], rng: np.random.Generator, click_share: float = CLICK_SHARE) -> None:
        self.masks = masks
        self.rng = rng
        self.size = float(masks.shape[-1] * LABEL_STRIDE)
        self.prompts: list[list[Prompt]] = []
        depths = _seen_depth(masks)
        first = rng.random(len(masks))
        self.single_click = first < click_share
        for number in range(len(masks)):
            given: list[Prompt] = []
            if first[number] >= click_share:
                given += self._box(masks[number])
            if first[number] < click_share or first[number] >= click_share + BOX_SHARE:
                given.append(self._click(depths[number], POSITIVE))
            self.prompts.append(given)

    def _box(self, mask: NDArray[np.bool_]) -> list[Prompt]:
        box = bounding_box(mask, LABEL_STRIDE)
        if self.rng.random() >= TIGHT_SHARE:
            box = jitter_box(box, self.rng, float(self.rng.choice([0.02, 0.06, 0.15])), self.size)
        return [(float(box[0]), float(box[1]), BOX_LOW), (float(box[2]), float(box[3]), BOX_HIGH)]

    def _click(self, depths: NDArray[np.int32], label: float) -> Prompt:
        kind = self.rng.random()
        cell = deepest_cell(depths) if kind < 0.45 else random_cell(depths, self.rng, 0.0 if kind > 0.8 else 0.4)
        x, y = cell_to_xy(cell, LABEL_STRIDE)
        shift = self.rng.uniform(-0.5, 0.5, 2) * LABEL_STRIDE
        return float(x + shift[0]), float(y + shift[1]), label

    def points(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return all prompts so far as coordinates (B, N, 2) and labels (B, N), padded with -1."""
        longest = max(len(given) for given in self.prompts)
        coords = np.zeros((len(self.prompts), longest, 2), dtype=np.float32)
        labels = np.full((len(self.prompts), longest), IGNORED, dtype=np.float32)
        for number, given in enumerate(self.prompts):
            for place, (x, y, label) in enumerate(given):
                coords[number, place] = x, y
                labels[number, place] = label
        return coords, labels

    def correct(self, predicted: NDArray[np.bool_]) -> None:
        """Click once where each answer (B, h, w) is wrong; a right answer gets a confirming click."""
        error = predicted != self.masks
        depths = _seen_depth(error)
        confirmations = _seen_depth(self.masks)
        for number in range(len(self.masks)):
            wrong = bool(error[number].any())
            chosen = depths[number] if wrong else confirmations[number]
            x, y, _ = self._click(chosen, POSITIVE)
            row = min(int(y // LABEL_STRIDE), self.masks.shape[1] - 1)
            column = min(int(x // LABEL_STRIDE), self.masks.shape[2] - 1)
            label = POSITIVE if self.masks[number, row, column] else NEGATIVE
            self.prompts[number].append((x, y, label))
        self.single_click[:] = False


def _seen_depth(masks: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return how deep each cell lies inside of a mask (B, h, w); where the crop ends, the object ends for the user."""
    return depth(np.pad(masks, ((0, 0), (1, 1), (1, 1))))[:, 1:-1, 1:-1]
