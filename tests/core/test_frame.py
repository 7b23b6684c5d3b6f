from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from geosam_es.core.frame import TileFrame, warp_logits
from geosam_es.core.grid import Pyramid, Tile, Tiling
from geosam_es.core.prompts import Bounds, Point, Prompts

PYRAMID = Pyramid(4000, 3000, Tiling())


@given(st.floats(0, 4000), st.floats(0, 3000), st.sampled_from(list(PYRAMID)))
def test_to_tile_and_back(x: float, y: float, tile: Tile) -> None:
    frame = TileFrame.of(PYRAMID, tile)
    assert frame.to_native(*frame.to_tile(x, y)) == pytest.approx((x, y), abs=1e-6)
    assert tuple(frame.array_to_native(np.array([frame.to_tile(x, y)]))[0]) == pytest.approx((x, y), abs=1e-6)


def test_prompts_are_held_inside_the_tile() -> None:
    frame = TileFrame(Tile(1, 0, 0), 0, 0, 500, 400, 2)
    held = frame.prompts_to_tile(Prompts((Point(1001, 10),), Bounds(10, 10, 1001, 801)))
    assert held.points == (Point(500, 5),)
    assert held.box == (5, 5, 500, 400)


@pytest.mark.parametrize(("source", "target"), [((0, 0, 0), (0, 0, 1)), ((0, 0, 0), (1, 0, 0)), ((1, 0, 0), (0, 0, 1))])
def test_warping_a_plane_gives_the_plane(source: tuple[int, int, int], target: tuple[int, int, int]) -> None:
    frames = [TileFrame.of(PYRAMID, Tile(*address)) for address in (source, target)]

    def plane(frame: TileFrame) -> np.ndarray:
        x, y = np.meshgrid((np.arange(256) + 0.5) * 4, (np.arange(256) + 0.5) * 4)
        native = frame.array_to_native(np.column_stack([x.ravel(), y.ravel()]))
        return (native @ (0.01, 0.02) + 1).reshape(256, 256).astype(np.float32)

    warped = warp_logits(plane(frames[0]), *frames, tile_size=1024)
    known = warped != 0
    # Bilinear is exact on a plane, but for the last half cell at the source's border, where it repeats.
    inner = ndimage.binary_erosion(known, iterations=2)
    assert inner.sum() > 4000
    np.testing.assert_allclose(warped[inner], plane(frames[1])[inner], rtol=1e-5)


def test_unknown_is_undecided() -> None:
    frames = TileFrame.of(PYRAMID, Tile(0, 0, 0)), TileFrame.of(PYRAMID, Tile(0, 0, 1))
    warped = warp_logits(np.full((256, 256), 7.0, np.float32), *frames, tile_size=1024)
    assert (warped[:, :64] == 7).all()
    assert (warped[:, 64:] == 0).all()
