"""float16 to float32, several times as fast as numpy's own conversion, which takes most of the time to read a tile."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["half_to_float32"]

_SHIFT = 13
"""float32 has so many more bits of fraction."""

_KEPT = np.int32(np.uint32(0x8FFFE000).view(np.int32))
"""The sign, and the 15 other bits in their new place; the rest is what the shift drew along of the sign."""

_BIAS = np.float32(2.0**112)
"""The exponents' biases differ by 112."""

_BEYOND = np.float32(65536.0)
"""What infinity would turn into: no finite float16 is as large."""


def half_to_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """Convert float16, little-endian or native, of any shape.

    Examples
    --------
    >>> half_to_float32(np.array([1.5, -2.0, np.inf], np.float16)).tolist()
    [1.5, -2.0, inf]
    """
    bits = values.astype(np.dtype("=f2"), copy=False).view(np.int16).astype(np.int32)
    np.left_shift(bits, _SHIFT, out=bits)
    np.bitwise_and(bits, _KEPT, out=bits)
    result = bits.view(np.float32)
    np.multiply(result, _BIAS, out=result)
    if result.size and (result.max() >= _BEYOND or result.min() <= -_BEYOND):
        # Infinities and NaN have no place in the arithmetic above.
        return values.astype(np.float32)
    return result
