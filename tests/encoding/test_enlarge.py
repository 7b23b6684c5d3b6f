from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from geosam_es.encoding.enlarge import MARGIN, enlarge

images = npst.arrays(
    np.uint8, npst.array_shapes(min_dims=2, max_dims=2, min_side=5, max_side=12).map(lambda s: (*s, 3))
)
factors = st.sampled_from([2, 4])


def all_valid(image: np.ndarray) -> np.ndarray:
    return np.ones(image.shape[:2], dtype=np.bool_)


@pytest.mark.parametrize("factor", [2, 4])
def test_a_ramp_stays_a_ramp(factor: int) -> None:
    image = np.broadcast_to((np.arange(20, dtype=np.uint8) * 8)[None, :, None], (12, 20, 3))
    found = enlarge(image, all_valid(image), factor)
    assert found.shape == (12 * factor, 20 * factor, 3) and found.dtype == np.uint8
    centres = (np.arange(20 * factor) + 0.5) / factor - 0.5
    inside = slice(MARGIN * factor, -MARGIN * factor)
    assert np.abs(found[:, inside, 0] - centres[None, inside] * 8).max() <= 0.5


@given(images, factors)
def test_rows_and_columns_are_treated_alike(image: np.ndarray, factor: int) -> None:
    turned = enlarge(image.swapaxes(0, 1), all_valid(image).T, factor)
    assert np.abs(enlarge(image, all_valid(image), factor).astype(int) - turned.swapaxes(0, 1)).max() <= 1


@given(images, factors, st.data())
def test_a_window_with_its_margin_gives_the_same_as_the_whole(
    image: np.ndarray, factor: int, data: st.DataObject
) -> None:
    whole = enlarge(image, all_valid(image), factor)
    row = data.draw(st.integers(MARGIN, image.shape[0] - MARGIN - 1))
    part = image[row - MARGIN : row + 1 + MARGIN]
    found = enlarge(part, all_valid(part), factor)[MARGIN * factor : (MARGIN + 1) * factor]
    np.testing.assert_array_equal(found, whole[row * factor : (row + 1) * factor])


@given(images, factors, st.integers(0, 255))
def test_pixels_without_data_do_not_affect_others(image: np.ndarray, factor: int, colour: int) -> None:
    valid = all_valid(image)
    valid[1:3, 2:4] = False
    other = np.where(valid[..., None], image, np.uint8(colour))
    found, again = enlarge(image, valid, factor), enlarge(other, valid, factor)
    shown = valid.repeat(factor, 0).repeat(factor, 1)
    np.testing.assert_array_equal(found[shown], again[shown])
    assert (again[~shown] == colour).all()


@given(images, factors)
def test_one_colour_stays_next_to_pixels_without_data(image: np.ndarray, factor: int) -> None:
    valid = image[..., 0] < 200
    plain = np.where(valid[..., None], np.uint8(90), np.uint8(255))
    found = enlarge(plain, valid, factor)
    assert (found[valid.repeat(factor, 0).repeat(factor, 1)] == 90).all()
