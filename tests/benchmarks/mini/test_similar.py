"""The measurement of finding similar objects, on discs that are always found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import shapely

from benchmarks.mini import similar
from benchmarks.mini.similar import Matches, Trial, match, rounds, similar_table
from tests.helpers import disc, make_store, open_blobs


def test_pairs_are_one_to_one() -> None:
    truth = [shapely.box(0, 0, 10, 10), shapely.box(20, 0, 30, 10), shapely.box(40, 0, 50, 10)]
    polygons = [shapely.box(0, 0, 10, 9), shapely.box(0, 1, 10, 10), shapely.box(20, 0, 30, 4.9)]
    found = match(polygons, truth)
    assert found == Matches(1, 3, 3)
    assert found.f1 == 1 / 3
    assert match([], truth) == Matches(0, 0, 3)


def test_rounds_keep_what_was_accepted(tmp_path: Path) -> None:
    places = [(x, y) for x in (150, 450, 800) for y in (160, 640)]
    image = np.maximum.reduce([disc((800, 1000), *place, 60) for place in places])
    circles = [shapely.Point(place).buffer(60) for place in places]
    found = rounds(open_blobs(make_store(tmp_path, image)), circles[:1], circles[1:])
    assert found == [Matches(5, 5, 5)] * (similar.ROUNDS + 1)


def test_images_count_by_their_objects() -> None:
    rows = [[Matches(1, 2, 2)] * 6, [Matches(8, 10, 8)] * 6]
    table = similar_table([Trial("roofs", 3, matches) for matches in rows])
    assert table.splitlines()[2] == "| roofs | 3 | 0.75 | 0.90 | 0.82 | 0.82 | 0.82 | 0.82 | 0.82 | 0.82 |"
