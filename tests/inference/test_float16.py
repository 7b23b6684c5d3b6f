"""The fast conversions of float16 against numpy's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from geosam_es.inference.float16 import half_to_float32, to_half

ALL = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
FINITE = ALL[np.isfinite(ALL)]


def test_every_float16_is_widened_exactly() -> None:
    got = half_to_float32(ALL)
    assert got.dtype == np.float32
    wanted = ALL.astype(np.float32)
    number = ~np.isnan(ALL)
    # Bit by bit, so that -0 is not taken for 0.
    np.testing.assert_array_equal(got[number].view(np.uint32), wanted[number].view(np.uint32))
    assert np.isnan(got[~number]).all()


def test_rounding_is_numpys() -> None:
    wide = FINITE.astype(np.float32)
    # Every float16, what lies halfway to the next one, and a little to both sides; what overflows; what vanishes.
    half_steps = (wide[1:] + wide[:-1]) / 2
    values = np.concatenate(
        [wide, half_steps, np.nextafter(half_steps, np.float32(np.inf)), np.nextafter(half_steps, np.float32(-np.inf))]
    )
    values = np.concatenate([values, np.array([65519.9, 65520, 1e30, -1e30, np.inf, -np.inf, 1e-40], np.float32)])
    with np.errstate(over="ignore"):
        wanted = values.astype(np.float16)
    got = to_half(values)
    assert got.dtype == np.float16
    np.testing.assert_array_equal(got.view(np.uint16), wanted.view(np.uint16))
    assert np.isnan(to_half(np.array([np.nan], np.float32))).all()


@pytest.mark.parametrize("convert", [to_half, half_to_float32])
def test_shapes_stay(convert: Callable[..., np.ndarray]) -> None:
    source = np.float32 if convert is to_half else np.float16
    values = FINITE[:60].astype(source).reshape(3, 4, 5)
    # Not in one piece too.
    for given in (values, values[:, ::2], values[:0]):
        np.testing.assert_array_equal(convert(given), given)
        assert convert(given).shape == given.shape
