"""The agreement of labels where two images meet."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

pytest.importorskip("torch")

from benchmarks.label_noise import agreement, class_map, pairs_inside, pairs_on_seams


def test_labels_are_compared_across_the_seams_of_neighbours_only() -> None:
    left = class_map((10, 20), [shapely.box(10, 0, 20, 6)], [1])
    right = class_map((10, 20), [shapely.box(0, 0, 5, 3), shapely.box(0, 5, 5, 8)], [1, 2])
    maps = {(100, 50): left, (120, 50): right, (500, 50): right}
    (seam,) = pairs_on_seams(maps)
    either, both = agreement([seam])
    assert either[0] == pytest.approx(3 / 8), "rows 0 to 2 of 8 labelled ones"
    assert both[0] == pytest.approx(3 / 4), "row 5 has another class on the right"


def test_one_image_agrees_with_itself() -> None:
    maps = {(0, 0): class_map((10, 20), [shapely.box(4, 2, 16, 8)], [3])}
    assert len(pairs_inside(maps)) == 2 and not pairs_on_seams(maps)
    assert np.allclose(agreement(pairs_inside(maps)), 1.0)
