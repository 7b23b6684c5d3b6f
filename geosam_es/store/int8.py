"""Features as 8-bit integers with a scale for each channel of each tile.

The scale of a channel is its largest absolute value over 127: zero stays zero, and no value is clipped. The error of a
value is at most half a scale.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .layout import SCALE_DTYPE

__all__ = ["from_int8", "to_int8"]

_LARGEST = 127


def to_int8(features: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round features to 8 bits.

    Parameters
    ----------
    features : float32 (C, h, w)
        Finite.

    Returns
    -------
    values : int8 (C, h, w)
    scales : float32 (C,)

    Examples
    --------
    >>> values, scales = to_int8(np.array([[[0.0, -2.54, 1.0]]], np.float32))
    >>> values.tolist(), round(float(scales[0]), 6)
    ([[[0, -127, 50]]], 0.02)
    """
    scales = np.abs(features).max(axis=(1, 2)).astype(SCALE_DTYPE) / _LARGEST
    # A channel of zeros, or of values too small for a scale.
    scales[scales < np.finfo(np.float32).tiny] = 1.0
    return np.rint(features / scales[:, None, None]).astype(np.int8), scales


def from_int8(values: NDArray[np.int8], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Undo `to_int8`: int8 (C, h, w) and float32 (C,) to float32 (C, h, w)."""
    features = values.astype(np.float32)
    features *= scales[:, None, None]
    return features
