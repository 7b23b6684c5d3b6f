"""The conversions against NumPy's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from geosam_es.inference.float16 import float16_to_float32, float32_to_float16

ALL = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
FINITE = ALL[np.isfinite(ALL)]


def test_every_float16_is_widened_exactly() -> None:
    got = float16_to_float32(ALL)
    assert got.dtype == np.float32
    wanted = ALL.astype(np.float32)
    number = ~np.isnan(ALL)
    # Bit by bit, so that -0 is not taken for 0.
    np.testing.assert_array_equal(got[number].view(np.uint32), wanted[number].view(np.uint32))
    assert np.isnan(got[~number]).all()


def test_values_are_rounded_as_numpy_does() -> None:
    wide = FINITE.astype(np.float32)
    # Every float16, the midpoints between two, their neighbours, and values that overflow or underflow.
    half_steps = (wide[1:] + wide[:-1]) / 2
    values = np.concatenate(
        [wide, half_steps, np.nextafter(half_steps, np.float32(np.inf)), np.nextafter(half_steps, np.float32(-np.inf))]
    )
    values = np.concatenate([values, np.array([65519.9, 65520, 1e30, -1e30, np.inf, -np.inf, 1e-40], np.float32)])
    with np.errstate(over="ignore"):
        wanted = values.astype(np.float16)
    got = float32_to_float16(values)
    assert got.dtype == np.float16
    np.testing.assert_array_equal(got.view(np.uint16), wanted.view(np.uint16))
    assert np.isnan(float32_to_float16(np.array([np.nan], np.float32))).all()


@pytest.mark.parametrize("convert", [float32_to_float16, float16_to_float32])
def test_shapes_are_kept(convert: Callable[..., np.ndarray]) -> None:
    source = np.float32 if convert is float32_to_float16 else np.float16
    values = FINITE[:60].astype(source).reshape(3, 4, 5)
    # Arrays that are not contiguous, and an empty one.
    for given in (values, values[:, ::2], values[:0]):
        np.testing.assert_array_equal(convert(given), given)
        assert convert(given).shape == given.shape
