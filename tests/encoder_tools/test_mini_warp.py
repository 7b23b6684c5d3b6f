"""Bent crops: picture and labels come from the same places."""

from __future__ import annotations

import numpy as np
import pytest

from encoder_tools.mini.warp import CELL, Bend, make_warp

SIZE = 64


def _source() -> np.ndarray:
    """Return a picture whose red is the column and whose green is the row."""
    picture = np.zeros((200, 200, 3), dtype=np.uint8)
    picture[..., 0] = np.arange(200)
    picture[..., 1] = np.arange(200)[:, None]
    return picture


@pytest.mark.parametrize("bent", [False, True])
def test_pixels_come_from_the_positions_that_labels_come_from(bent: bool) -> None:
    rng = np.random.default_rng(5)
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    warp = make_warp(SIZE, turn, np.array([100.0, 90.0]), Bend.draw(SIZE, rng) if bent else None)
    sampled = warp.sample(_source(), 1.0).astype(float)
    positions = warp.positions(1)
    # A pixel's value stands at its centre, half a pixel after its number.
    np.testing.assert_allclose(sampled[..., 0], positions[..., 0] - 0.5, atol=1.0)
    np.testing.assert_allclose(sampled[..., 1], positions[..., 1] - 0.5, atol=1.0)


def test_without_a_bend_the_middle_and_the_scale_are_kept() -> None:
    warp = make_warp(SIZE, np.eye(2) * 0.5, np.array([40.0, 30.0]), None)
    assert warp.bounds == (24.0, 14.0, 56.0, 46.0)
    assert warp.nodes.shape == (SIZE // CELL + 1, SIZE // CELL + 1, 2)


def test_a_bend_keeps_the_middle_and_is_never_steep() -> None:
    for seed in range(20):
        bend = Bend.draw(320, np.random.default_rng(seed))
        assert np.abs(bend.shift(np.zeros((1, 2)))).max() < 1e-9
        line = np.stack([np.linspace(-160, 160, 641), np.zeros(641)], axis=1)
        assert np.abs(np.diff(bend.shift(line), axis=0)).max() / 0.5 < 1.7


def test_pixels_outside_the_picture_are_padding() -> None:
    sampled = make_warp(SIZE, np.eye(2), np.array([-500.0, -500.0]), None).sample(_source(), 1.0)
    assert (sampled == sampled[0, 0]).all()
