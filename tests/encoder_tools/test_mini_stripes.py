"""Fields cut into strips for training."""

from __future__ import annotations

import numpy as np

from encoder_tools.mini.sources import make_scene
from encoder_tools.mini.stripes import striped


def test_large_fields_become_strips_and_small_ones_stay() -> None:
    image = np.full((400, 400, 3), 120, dtype=np.uint8)
    ids = np.zeros((400, 400), dtype=np.int32)
    ids[20:320, 20:320] = 1
    ids[350:390, 350:390] = 2
    boxes = make_scene("fields", image, ids).boxes
    # The share of fields that are cut is random: of ten seeds some cut and some do not.
    results = [striped(image, ids, boxes, np.random.default_rng(seed)) for seed in range(10)]
    cut = [found for _, found in results if found.max() > 2]
    assert 2 <= len(cut) <= 9
    for picture, found in results:
        assert (found[350:390, 350:390] == 2).all()
        assert (found[ids == 0] == 0).all()
        assert (picture[ids != 1] == 120).all()
    assert ids.max() == 2, "the original is left alone"


def test_strips_are_narrow_and_have_their_own_numbers() -> None:
    image = np.full((300, 300, 3), 120, dtype=np.uint8)
    ids = np.ones((300, 300), dtype=np.int32)
    boxes = np.array([[np.inf, np.inf, 0, 0], [0, 0, 300, 300]], dtype=np.float32)
    found = next(
        found for seed in range(10) if (found := striped(image, ids, boxes, np.random.default_rng(seed))[1]).max() > 1
    )
    areas = np.bincount(found.ravel())[2:]
    assert len(areas[areas > 0]) >= 4
    assert areas.max() < 60 * 500
