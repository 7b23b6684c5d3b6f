"""Tiles of labelled scenes."""

from __future__ import annotations

import numpy as np
import shapely

from encoder_tools.mini.labelled_tiles import LabelledScene, coarser, tiles, windows
from geosam_es.inference.encoder import FILL_RGB


def test_each_object_lies_in_the_window_with_the_largest_margin() -> None:
    image = np.zeros((1500, 2048, 3), dtype=np.uint8)
    objects = [shapely.box(10, 10, 60, 60), shapely.box(1000, 700, 1100, 800), shapely.box(0, 0, 1400, 50)]
    found = windows(LabelledScene("x", image, objects))
    assert sorted(number for numbers in found.values() for number in numbers) == [0, 1]
    assert found[0, 0] == [0]
    ((x, y),) = [origin for origin, numbers in found.items() if 1 in numbers]
    assert 400 <= x <= 700
    assert y == 256


def test_tiles_are_padded_and_hold_their_objects() -> None:
    scene = LabelledScene("x", np.full((300, 1500, 3), 9, dtype=np.uint8), [shapely.box(1400, 10, 1480, 60)])
    (tile,) = tiles(scene)
    assert tile.image.shape == (1024, 1024, 3)
    assert (tile.width, tile.height) == (1024, 300)
    assert (tile.image[:300] == 9).all()
    assert (tile.image[300:] == FILL_RGB).all()
    assert tile.polygons[0].bounds == (1400 - 476, 10, 1480 - 476, 60)


def test_outlines_are_scaled_with_the_image() -> None:
    image = np.zeros((200, 300, 3), dtype=np.uint8)
    image[40:80, 100:160] = 200
    smaller = coarser(LabelledScene("x", image, [shapely.box(100, 40, 160, 80)]), 2.0)
    assert smaller.image.shape == (100, 150, 3)
    assert smaller.polygons[0].bounds == (50, 20, 80, 40)
    assert (smaller.image[20:40, 50:80] == 200).all() and (smaller.image == 200).all(2).sum() == 30 * 20
