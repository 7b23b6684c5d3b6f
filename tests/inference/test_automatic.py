"""Automatic masks: the grid of points, doubles, borders of tiles, and memory."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from geosam_es.core.grid import Tile
from geosam_es.inference.automatic import AutomaticMask, AutomaticOptions, automatic_masks, rows_of_tiles
from geosam_es.inference.segmenter import Segmenter
from tests.helpers import disc, make_store, open_blobs

WHOLE = AutomaticOptions(16, pred_iou_thresh=0.85, stability_score_thresh=0.5)
"""The blobs' whole mask has a predicted IoU of 0.9, their inner part 0.6."""


def image_of(discs: Sequence[tuple[float, float, float]], shape: tuple[int, int]) -> NDArray[np.float32]:
    image = np.zeros(shape, np.float32)
    for x, y, radius in discs:
        image = np.maximum(image, disc(shape, x, y, radius))
    return image


def ious(masks: Sequence[AutomaticMask], discs: Sequence[tuple[float, float, float]]) -> NDArray[np.float64]:
    """Return the IoU of each mask (rows) with each disc."""
    circles = np.array([shapely.Point(x, y).buffer(radius, 64) for x, y, radius in discs])
    polygons = np.array([mask.polygon for mask in masks])[:, None]
    common = shapely.area(shapely.intersection(polygons, circles))
    return common / (shapely.area(polygons) + shapely.area(circles) - common)


DISCS = [
    (300.0, 300.0, 60.0),
    (895.0, 500.0, 90.0),  # in the middle of the overlap of two tiles
    (1000.0, 1400.0, 300.0),  # cut by every tile of level 0
    (40.0, 1700.0, 70.0),  # cut by the edge of the raster
    (1500.0, 220.0, 25.0),
]


@pytest.mark.parametrize(("overlap", "levels"), [(256, 99), (400, 1)])
def test_every_object_once_whatever_the_tiles(tmp_path: Path, overlap: int, levels: int) -> None:
    store = make_store(tmp_path, image_of(DISCS, (1900, 1800)), overlap, levels)
    masks = list(automatic_masks(open_blobs(store), WHOLE))
    found = ious(masks, [(x, y, radius) for x, y, radius in DISCS if x != 40.0])
    assert len(masks) == len(DISCS)
    assert (found.max(axis=0) > 0.95).all()
    for mask in masks:
        assert mask.polygon.is_valid
        assert shapely.intersects_xy(mask.polygon, *mask.point)
        assert mask.predicted_iou == pytest.approx(0.9)
        assert 0.5 <= mask.stability_score <= 1


def test_a_part_and_its_whole_are_two_masks(tmp_path: Path) -> None:
    store = make_store(tmp_path, image_of([(300.0, 300.0, 60.0)], (600, 600)))
    options = AutomaticOptions(16, pred_iou_thresh=0.5, stability_score_thresh=0.5)
    whole, part = sorted(automatic_masks(open_blobs(store), options), key=lambda mask: -mask.polygon.area)
    assert whole.polygon.buffer(1).covers(part.polygon)
    assert [whole.predicted_iou, part.predicted_iou] == pytest.approx([0.9, 0.6])


def test_only_points_in_the_area_and_on_data_are_used(tmp_path: Path) -> None:
    store = make_store(tmp_path, image_of(DISCS, (1900, 1800)))
    area = shapely.box(250, 250, 350, 350)
    (mask,) = automatic_masks(open_blobs(store), WHOLE, area=area)
    assert ious([mask], DISCS[:1])[0, 0] > 0.95
    segmenter = open_blobs(store)
    assert {tile.level for row in rows_of_tiles(segmenter, [1], area) for tile in row} == {1}
    shutil.rmtree(store / "level0" / "image_embeddings" / "c" / "0" / "0" / "0")
    masks = list(automatic_masks(segmenter, WHOLE, levels=[0]))
    assert masks and not any(mask.tile == (0, 0, 0) for mask in masks)


def test_small_regions_are_removed(tmp_path: Path) -> None:
    """The ring's hole has 1240 pixels."""
    image = image_of([(300.0, 300.0, 90.0)], (600, 600)) - disc((600, 600), 300.0, 300.0, 20.0)
    store = make_store(tmp_path, image)
    holes = {}
    for least in (0, 1000, 1500):
        options = AutomaticOptions(16, pred_iou_thresh=0.85, stability_score_thresh=0.5, min_mask_region_area=least)
        (mask,) = automatic_masks(open_blobs(store), options)
        holes[least] = shapely.get_num_interior_rings(mask.polygon)
    assert holes == {0: 1, 1000: 1, 1500: 0}


class Cache(dict[Tile, list[AutomaticMask]]):
    def read(self, tile: Tile) -> list[AutomaticMask] | None:
        return self.get(tile)

    def write(self, tile: Tile, masks: Sequence[AutomaticMask]) -> None:
        self[tile] = list(masks)


def test_masks_are_released_as_rows_are_done_and_kept_tiles_are_not_decoded_again(tmp_path: Path) -> None:
    discs = [(200.0 + 300 * col, 200.0 + 300 * row, 50.0) for row in range(12) for col in range(2)]
    store = make_store(tmp_path, image_of(discs, (3700, 700)))
    cache, done = Cache(), 0

    def progress(count: int, total: int) -> None:
        nonlocal done
        done = count
        assert 0 <= count <= total == 9

    found = automatic_masks(open_blobs(store), WHOLE, progress=progress, cache=cache)
    seen = [(mask, done) for mask in found]
    assert len(seen) == len(discs)
    assert min(count for _, count in seen) < 9, "all masks were held until the end"
    segmenter = open_blobs(store)
    again = list(automatic_masks(segmenter, WHOLE, cache=cache))
    assert [mask.polygon for mask in again] == [mask.polygon for mask, _ in seen]
    assert not decoded(segmenter)


def decoded(segmenter: Segmenter) -> int:
    return len(segmenter.decoder.calls)  # type: ignore[attr-defined]
