"""A user simulated from the true masks: first prompts, then clicks where the answer is wrong.

Masks are boolean arrays. In training they have one cell for 4 x 4 pixels, as the decoder's logits have; the middle of
cell ``i`` is at ``(i + 0.5) * 4`` pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from geosam_es.core.prompts import BOX_LABELS, PADDING_LABEL
from geosam_es.inference.decoder import MASK_SIDE
from geosam_es.inference.encoder import TILE_SIZE

__all__ = [
    "BOX_HIGH",
    "BOX_LOW",
    "CELL_PIXELS",
    "NEGATIVE",
    "POSITIVE",
    "Cell",
    "SimulatedUser",
    "bounding_box",
    "cell_centre",
    "cell_samples",
    "corrective_click",
    "depth",
    "jitter_box",
    "middle_cell",
    "random_cell",
]

POSITIVE, NEGATIVE = 1.0, 0.0
BOX_LOW, BOX_HIGH = (float(label) for label in BOX_LABELS)

CELL_PIXELS = TILE_SIZE // MASK_SIDE
"""Pixels along the side of a cell of the logits."""

_CLICK_SHARE, _BOX_SHARE = 0.40, 0.45
"""Share of objects that are prompted first with a click or with a box; the others get both."""

_TIGHT_SHARE = 0.25
"""Share of boxes that are not jittered."""

_JITTERS = (0.02, 0.06, 0.15)
_JITTER_PIXELS = (-2.0, 3.0)

_MIDDLE_SHARE, _INNER_SHARE = 0.45, 0.35
"""Share of clicks in the middle, and well inside; the others are anywhere inside."""

_INNER_DEPTH = 0.4

Mask = NDArray[np.bool_]
Prompt = tuple[float, float, float]
"""X and Y in pixels, and SAM's label."""


class Cell(NamedTuple):
    """A cell of a mask."""

    row: int
    column: int


def depth(mask: Mask) -> NDArray[np.float64]:
    """Return the distance (H, W) of each cell of a mask (H, W) to the nearest cell outside, 0 outside.

    Cells beyond the array count as outside: users see no more of an object than that.
    """
    # Imported here, because every command imports this module.
    from scipy import ndimage

    depths = np.zeros(mask.shape)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if rows.size:
        # The mask alone, as most objects are small: around it everything is outside.
        part = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        depths[part] = ndimage.distance_transform_edt(np.pad(mask[part], 1))[1:-1, 1:-1]
    return depths


def middle_cell(mask: Mask) -> Cell:
    """Return the cell of a mask that is farthest from its border; among equals the one nearest to their mean."""
    return _deepest(depth(mask))


def _deepest(depths: NDArray[np.float64]) -> Cell:
    rows, columns = np.nonzero(depths >= depths.max() - 1e-6)
    nearest = int(np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2))
    return Cell(int(rows[nearest]), int(columns[nearest]))


def random_cell(depths: NDArray[np.float64], rng: np.random.Generator, share: float) -> Cell:
    """Return a random cell whose depth, from `depth`, is at least a share of the greatest one."""
    rows, columns = np.nonzero(depths >= max(1.0, share * depths.max()))
    pick = int(rng.integers(len(rows)))
    return Cell(int(rows[pick]), int(columns[pick]))


def cell_centre(cell: tuple[int, int], pixels: int = CELL_PIXELS) -> tuple[float, float]:
    """Return the XY position of the middle of a cell whose side has so many pixels."""
    return (cell[1] + 0.5) * pixels, (cell[0] + 0.5) * pixels


def cell_samples(masks: Mask) -> Mask:
    """Return masks (..., H, W) in pixels as masks (..., H / 4, W / 4) in cells, by the pixel in the middle of each."""
    return masks[..., CELL_PIXELS // 2 :: CELL_PIXELS, CELL_PIXELS // 2 :: CELL_PIXELS]


def corrective_click(truth: Mask, predicted: Mask) -> tuple[Cell, bool] | None:
    """Return where a user corrects an answer: in the middle of the largest region that is wrong.

    Returns
    -------
    tuple of Cell and bool, or None
        The click, and whether it is positive; None where nothing is wrong.
    """
    from scipy import ndimage

    regions, count = ndimage.label(truth != predicted)
    if not count:
        return None
    largest = int(np.argmax(np.bincount(regions.ravel())[1:])) + 1
    rows, columns = ndimage.find_objects(regions)[largest - 1]
    row, column = middle_cell(regions[rows, columns] == largest)
    cell = Cell(row + rows.start, column + columns.start)
    return cell, bool(truth[cell])


def bounding_box(mask: Mask) -> NDArray[np.float64]:
    """Return x_min, y_min, x_max, y_max of the cells of a mask, in pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float64) * CELL_PIXELS


def jitter_box(box: NDArray[np.float64], rng: np.random.Generator, amount: float) -> NDArray[np.float64]:
    """Move each side of a box at random by up to ``amount`` of its width or height, at most half as far inwards.

    Parameters
    ----------
    box : float64 (4,)
        x_min, y_min, x_max, y_max.
    """
    low, high = box[:2], box[2:]
    extent = np.tile(high - low, 2)
    return np.asarray(box + np.array([-1, -1, 1, 1]) * (rng.uniform(-0.5 * amount, amount, 4) * extent))


class SimulatedUser:
    """Prompts a batch of objects during training, and corrects the answers.

    Parameters
    ----------
    masks : bool (B, H, W)
        True masks, one cell for 4 x 4 pixels; none is empty.
    rng : Generator
    click_share : float
        Share of objects whose first prompt is a single click.

    Attributes
    ----------
    prompts : list of list of (float, float, float)
        Prompts given to each object: X, Y, SAM's label.
    single_click : bool (B,)
        True while an object has been given one click and nothing else, so that the answer is ambiguous.
    """

    def __init__(self, masks: NDArray[np.bool_], rng: np.random.Generator, click_share: float = _CLICK_SHARE) -> None:
        self.masks = masks
        self.rng = rng
        self.prompts: list[list[Prompt]] = []
        first = rng.random(len(masks))
        self.single_click = first < click_share
        for mask, draw in zip(masks, first):
            given: list[Prompt] = []
            if draw >= click_share:
                given += self._box(mask)
            if draw < click_share or draw >= click_share + _BOX_SHARE:
                given.append((*self._place(mask), POSITIVE))
            self.prompts.append(given)

    def _box(self, mask: Mask) -> list[Prompt]:
        box = bounding_box(mask)
        if self.rng.random() >= _TIGHT_SHARE:
            box = jitter_box(box, self.rng, float(self.rng.choice(_JITTERS)))
            box += np.array([-1, -1, 1, 1]) * self.rng.uniform(*_JITTER_PIXELS, 4)
            box = np.clip(box, 0.0, float(mask.shape[-1] * CELL_PIXELS))
        return [(float(box[0]), float(box[1]), BOX_LOW), (float(box[2]), float(box[3]), BOX_HIGH)]

    def _place(self, mask: Mask) -> tuple[float, float]:
        """Choose where to click in a mask: in its middle, well inside, or anywhere."""
        depths, draw = depth(mask), self.rng.random()
        if draw < _MIDDLE_SHARE:
            cell = _deepest(depths)
        else:
            cell = random_cell(depths, self.rng, _INNER_DEPTH if draw < _MIDDLE_SHARE + _INNER_SHARE else 0.0)
        x, y = cell_centre(cell)
        shift = self.rng.uniform(-0.5, 0.5, 2) * CELL_PIXELS
        return float(x + shift[0]), float(y + shift[1])

    def points(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return all prompts so far as coordinates (B, N, 2) and labels (B, N), padded with -1."""
        longest = max(len(given) for given in self.prompts)
        coords = np.zeros((len(self.prompts), longest, 2), dtype=np.float32)
        labels = np.full((len(self.prompts), longest), PADDING_LABEL, dtype=np.float32)
        for number, given in enumerate(self.prompts):
            for place, (x, y, label) in enumerate(given):
                coords[number, place] = x, y
                labels[number, place] = label
        return coords, labels

    def correct(self, predicted: NDArray[np.bool_]) -> None:
        """Click once where each answer (B, H, W) is wrong; an answer without error gets a confirming click."""
        for given, mask, answer in zip(self.prompts, self.masks, predicted):
            error = answer != mask
            x, y = self._place(error if error.any() else mask)
            row, column = (min(int(at // CELL_PIXELS), side - 1) for at, side in zip((y, x), mask.shape))
            given.append((x, y, POSITIVE if mask[row, column] else NEGATIVE))
        self.single_click[:] = False
