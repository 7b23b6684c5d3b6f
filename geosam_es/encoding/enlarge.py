"""Enlarging an image by cubic convolution, for the levels below zero.

Both readers of rasters share this, so the command line and QGIS make the same tiles.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["MARGIN", "enlarge"]

MARGIN = 2
"""Pixels around a window that its enlargement depends on."""


def enlarge(image: NDArray[np.uint8], valid: NDArray[np.bool_], factor: int) -> NDArray[np.uint8]:
    """Enlarge an image by a whole factor.

    Parameters
    ----------
    image : uint8 (H, W, 3)
    valid : bool (H, W)
        False for pixels without data. They do not affect the others, and keep their colour.
    factor : int

    Returns
    -------
    uint8 (H * factor, W * factor, 3)

    References
    ----------
    Keys, R. (1981): Cubic convolution interpolation for digital image processing, with a = -1/2.
    """
    if valid.all():
        values = _both_axes(image.astype(np.float32), factor)
        return np.clip(np.rint(values), 0, 255).astype(np.uint8)
    weights = valid[..., None].astype(np.float32)
    # The sum of weights is above 0.3 at pixels with data, whichever of their neighbours have none.
    total = np.maximum(_both_axes(weights, factor), np.float32(0.3))
    shown = _both_axes(image.astype(np.float32) * weights, factor) / total
    repeated = image.repeat(factor, 0).repeat(factor, 1)
    is_valid = valid.repeat(factor, 0).repeat(factor, 1)[..., None]
    return np.where(is_valid, np.clip(np.rint(shown), 0, 255), repeated).astype(np.uint8)


def _both_axes(values: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    rows = _along_rows(values, factor)
    return _along_rows(rows.swapaxes(0, 1), factor).swapaxes(0, 1)


def _along_rows(values: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Enlarge along the first axis; the edge pixels are repeated outwards."""
    count = values.shape[0]
    padded = np.concatenate([values[:1].repeat(MARGIN, 0), values, values[-1:].repeat(MARGIN, 0)])
    enlarged = np.empty((count * factor, *values.shape[1:]), dtype=np.float32)
    for phase in range(factor):
        # Position of the new pixel's centre, counted in old pixels from the centre of the old pixel around it.
        offset = (phase + 0.5) / factor - 0.5
        first = MARGIN - 1 + int(np.floor(offset))
        taps = _weights(offset % 1)
        enlarged[phase::factor] = sum(
            np.float32(weight) * padded[first + tap : first + tap + count] for tap, weight in enumerate(taps)
        )
    return enlarged


def _weights(part: float) -> tuple[float, float, float, float]:
    """Return the weights of the two pixels before and the two after a position between them."""
    return (
        ((-0.5 * part + 1) * part - 0.5) * part,
        (1.5 * part - 2.5) * part * part + 1,
        ((-1.5 * part + 2) * part + 0.5) * part,
        (0.5 * part - 0.5) * part * part,
    )
