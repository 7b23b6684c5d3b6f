"""The fast conversion of float16 against numpy's, for every float16 there is."""

from __future__ import annotations

import numpy as np
import pytest

from geosam_es.store.half import half_to_float32

ALL = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
FINITE = ALL[np.isfinite(ALL)]


def bits(values: np.ndarray) -> np.ndarray:
    return values.view(np.uint32)


def test_every_finite_value_is_exact() -> None:
    got = half_to_float32(FINITE)
    assert got.dtype == np.float32
    # Bit by bit, so that -0 is not taken for 0.
    np.testing.assert_array_equal(bits(got), bits(FINITE.astype(np.float32)))


@pytest.mark.parametrize("special", [np.inf, -np.inf, np.nan])
def test_infinity_and_nan_stay_what_they_are(special: float) -> None:
    values = np.array([[1.0, special], [-65504.0, 65504.0]], np.float16)
    np.testing.assert_array_equal(half_to_float32(values), values.astype(np.float32))


def test_shape_byte_order_and_emptiness() -> None:
    values = FINITE[:60].reshape(3, 4, 5)
    for order in "<>=":
        got = half_to_float32(values.astype(np.dtype(f"{order}f2")))
        np.testing.assert_array_equal(got, values.astype(np.float32))
    assert half_to_float32(np.empty((0, 3), np.float16)).shape == (0, 3)
