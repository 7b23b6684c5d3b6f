"""Prompts as a user would give them, simulated from the true mask; used in training and in evaluation.

Masks here are boolean arrays sampled at the logits' positions: cell ``i`` of stride ``s`` is at
``(i + 0.5) * s`` pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

POSITIVE, NEGATIVE, BOX_LOW, BOX_HIGH, IGNORED = 1.0, 0.0, 2.0, 3.0, -1.0

Mask = NDArray[np.bool_]
Points = NDArray[np.float32]


def depth(mask: Mask) -> NDArray[np.int32]:
    """Return how deep each cell lies inside the mask, by alternating erosions (an octagonal distance).

    Parameters
    ----------
    mask : bool (..., H, W)
        The border of the array does not count as a border of the mask.

    Returns
    -------
    int32 (..., H, W)
        0 outside, 1 on the mask's border, and so on.
    """
    result = mask.astype(np.int32)
    inside = mask.copy()
    for turn in range(max(mask.shape[-2:])):
        padded = np.pad(inside, [(0, 0)] * (mask.ndim - 2) + [(1, 1), (1, 1)], constant_values=True)
        rows = padded[..., :-2, :] & padded[..., 1:-1, :] & padded[..., 2:, :]
        if turn % 2:
            inside = rows[..., :-2] & rows[..., 1:-1] & rows[..., 2:]
        else:
            columns = padded[..., :-2] & padded[..., 1:-1] & padded[..., 2:]
            inside = rows[..., 1:-1] & columns[..., 1:-1, :]
        if not inside.any() or inside.all():
            break
        result += inside
    return result


def cell_to_xy(cell: tuple[int, int], stride: int) -> tuple[float, float]:
    """Return the XY position in pixels of a (row, column)."""
    return (cell[1] + 0.5) * stride, (cell[0] + 0.5) * stride


def deepest_cell(depths: NDArray[np.int32]) -> tuple[int, int]:
    """Return the (row, column) of the greatest depth (H, W); among equals the one nearest their mean."""
    rows, columns = np.nonzero(depths == depths.max())
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return int(rows[nearest]), int(columns[nearest])


def random_cell(depths: NDArray[np.int32], rng: np.random.Generator, margin: float) -> tuple[int, int]:
    """Return a random cell at least `margin` (0 to 1) of the greatest depth (H, W) inside."""
    rows, columns = np.nonzero(depths >= max(1.0, margin * depths.max()))
    pick = int(rng.integers(len(rows)))
    return int(rows[pick]), int(columns[pick])


def bounding_box(mask: Mask, stride: int) -> NDArray[np.float32]:
    """Return x_min, y_min, x_max, y_max in pixels of the cells of a mask."""
    rows = np.flatnonzero(mask.any(1))
    columns = np.flatnonzero(mask.any(0))
    corners = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    return np.asarray(corners, dtype=np.float32) * stride


def jitter_box(box: NDArray[np.float32], rng: np.random.Generator, amount: float, size: float) -> NDArray[np.float32]:
    """Move each side of a box by up to `amount` of the box's width or height, mostly outwards.

    The result stays inside 0 to `size` and never turns inside out.
    """
    extent = np.array([box[2] - box[0], box[3] - box[1]] * 2, dtype=np.float32)
    outwards = np.array([-1.0, -1.0, 1.0, 1.0], dtype=np.float32)
    shift = rng.uniform(-0.5 * amount, amount, 4).astype(np.float32) * extent + rng.uniform(-2.0, 3.0, 4)
    return np.clip(box + outwards * shift, 0.0, size).astype(np.float32)


def correction(truth: Mask, predicted: Mask) -> tuple[tuple[int, int], float] | None:
    """Return the next click of a user who corrects: the deepest cell of the error, and its label.

    Returns
    -------
    tuple of (row, column) and label, or None
        None where prediction and truth agree.
    """
    error = truth != predicted
    if not error.any():
        return None
    cell = deepest_cell(depth(error))
    return cell, POSITIVE if truth[cell] else NEGATIVE


def intersection_over_union(truth: Mask, predicted: Mask) -> float:
    """Return the IoU of two masks; 1 where both are empty."""
    union = np.count_nonzero(truth | predicted)
    return float(np.count_nonzero(truth & predicted) / union) if union else 1.0
