from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geosam_es.core.radiometry import Stretch, percentile_limits


def test_eight_bits_are_left_alone() -> None:
    bands = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    image = Stretch().apply(bands, np.ones((2, 2), bool), (1, 2, 3))
    np.testing.assert_array_equal(image, np.moveaxis(bands, 0, -1))


def test_pixels_without_data_get_the_fill() -> None:
    valid = np.array([[True, False], [True, True]])
    image = Stretch().apply(np.zeros((3, 2, 2), np.uint8), valid, (9, 8, 7))
    assert image[0, 1].tolist() == [9, 8, 7]
    assert image[0, 0].tolist() == [0, 0, 0]


@given(st.floats(-1e4, 1e4), st.floats(1e-2, 1e4))
def test_limits_map_to_black_and_white(low: float, width: float) -> None:
    high = low + width
    bands = np.array([low - width, low, (low + high) / 2, high, high + width] * 3, np.float64).reshape(3, 1, 5)
    image = Stretch(((low, high),) * 3).apply(bands, np.ones((1, 5), bool), (0, 0, 0))
    assert image[0, :2, 0].max() <= 1
    assert 126 <= image[0, 2, 0] <= 129
    assert image[0, 3:, 0].min() >= 254


def test_nan_never_reaches_the_image() -> None:
    bands = np.full((3, 1, 2), np.nan, np.float32)
    bands[:, 0, 1] = 5
    image = Stretch(((0.0, 10.0),) * 3).apply(bands, np.isfinite(bands[0]), (9, 9, 9))
    assert image[0, 0].tolist() == [9, 9, 9]
    assert image[0, 1].tolist() == [128, 128, 128]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 5), (130, 777), (3, 70_000)])
def test_strips_give_what_the_whole_band_would(dtype: str, shape: tuple[int, int]) -> None:
    limits = ((0.3, 205.7), (10.0, 120.123), (-5.5, 77.7))
    bands = np.random.default_rng(0).uniform(0, 256, (3, *shape)).astype(dtype)
    image = Stretch(limits).apply(bands, np.ones(shape, bool), (0, 0, 0))
    assert image.flags.c_contiguous
    for index, (low, high) in enumerate(limits):
        exact = (bands[index].astype(np.result_type(dtype, np.float32)) - low) * (255.0 / (high - low))
        np.testing.assert_array_equal(image[..., index], np.clip(np.rint(exact), 0, 255).astype(np.uint8))


def test_percentiles_leave_outliers_out() -> None:
    values = np.concatenate([np.linspace(100, 200, 1000), [1e9, -1e9, np.nan, np.inf]])
    low, high = percentile_limits(values)
    assert 100 <= low < 110
    assert 190 < high <= 200


def test_flat_and_empty_bands_have_limits() -> None:
    assert percentile_limits(np.full(9, 5.0)) == (5.0, 6.0)
    assert percentile_limits(np.array([np.nan])) == (0.0, 1.0)
