"""Coverages from automatic masks and the features between them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from geosam_es.core.grid import Tile
from geosam_es.core.window import Window
from geosam_es.errors import OutputError
from geosam_es.inference.automatic import AutomaticMask
from geosam_es.inference.automatic_coverage import CoverageOptions, CoveragePolygon, automatic_coverage
from tests.helpers import make_store, open_blobs

HEIGHT, WIDTH = 1203, 1398


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with ground of two kinds, dark and bright, that meet at x = 900; four tiles, no multiple of 4 pixels."""
    image = np.full((HEIGHT, WIDTH), 0.2, np.float32)
    image[:, 900:] = 0.8
    return make_store(tmp_path_factory.mktemp("ground"), image)


def mask(polygon: shapely.Polygon, score: float) -> AutomaticMask:
    return AutomaticMask(polygon, score, 1.0, (polygon.centroid.x, polygon.centroid.y), Tile(0, 0, 0), 0, False)


def covered(store: Path, *masks: AutomaticMask, **options: object) -> list[CoveragePolygon]:
    found = list(automatic_coverage(open_blobs(store), masks, CoverageOptions(groups=2), **options))  # type: ignore[arg-type]
    polygons = np.array([item.polygon for item in found])
    assert shapely.is_valid(polygons).all() and shapely.coverage_is_valid(polygons)
    return found


def iou(one: shapely.Geometry, other: shapely.Geometry) -> float:
    return float(one.intersection(other).area / one.union(other).area)


def test_the_better_mask_wins_and_the_ground_is_grouped(store: Path) -> None:
    pond, field = shapely.Point(400, 500).buffer(150), shapely.box(450, 300, 800, 700)
    speck = shapely.box(700, 900, 712, 912)
    found = covered(store, mask(field, 0.7), mask(pond, 0.9), mask(speck, 0.99))
    assert sum(item.polygon.area for item in found) == pytest.approx(HEIGHT * WIDTH, rel=1e-3)
    by_score = {item.predicted_iou: item for item in found if item.group == 0}
    assert sorted(by_score) == [0.7, 0.9]  # the speck is below the minimum mapping unit
    assert iou(by_score[0.9].polygon, pond) > 0.98 and iou(by_score[0.7].polygon, field - pond) > 0.98
    assert by_score[0.9].point == pytest.approx((400, 500))
    dark, bright = sorted((item for item in found if item.group), key=lambda item: item.polygon.centroid.x)
    assert {dark.group, bright.group} == {1, 2} and np.isnan(dark.predicted_iou)
    assert iou(bright.polygon, shapely.box(900, 0, WIDTH, HEIGHT)) > 0.98
    assert dark.polygon.contains(shapely.Point(dark.point))


def test_what_has_no_data_or_lies_outside_the_area_is_left_out(store: Path) -> None:
    corner, area = shapely.box(0, 0, 300, 200), shapely.Point(500, 500).buffer(450)

    def has_data(window: Window) -> NDArray[np.bool_]:
        rows, cols = np.mgrid[: window.height, : window.width]
        return (cols + window.col_off >= 300) | (rows + window.row_off >= 200)

    found = covered(store, mask(corner, 0.9), has_data=has_data, area=area)
    union = shapely.union_all([item.polygon for item in found])
    assert iou(union, area - corner) > 0.99
    assert not [item for item in found if item.group == 0]


def test_as_many_pixels_are_read_at_once_with_coarse_cells(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geosam_es.core.label_grid._STRIP_CELLS", 2**14)
    read: dict[int, list[int]] = {0: [], 1: []}
    for level, sizes in read.items():

        def has_data(window: Window, sizes: list[int] = sizes) -> NDArray[np.bool_]:
            sizes.append(window.width * window.height)
            return np.ones((window.height, window.width), bool)

        covered(store, has_data=has_data, level=level)
    assert len(read[0]) > 1 and max(read[1]) < 1.2 * max(read[0])


def test_a_small_area_costs_only_itself(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    windows: list[Window] = []
    tiles: set[Tile] = set()
    segmenter = open_blobs(store)
    read = segmenter.reader.read
    monkeypatch.setattr(segmenter.reader, "read", lambda tile: tiles.add(tile) or read(tile))

    def has_data(window: Window) -> NDArray[np.bool_]:
        windows.append(window)
        return np.ones((window.height, window.width), bool)

    area, pond = shapely.Point(1200, 1000).buffer(90), shapely.box(1148, 948, 1228, 1028)
    found = list(automatic_coverage(segmenter, [mask(pond, 0.9)], area=area, has_data=has_data))
    assert iou(shapely.union_all([item.polygon for item in found]), area) > 0.97
    (drawn,) = (item.polygon for item in found if item.group == 0)
    assert iou(drawn, pond) > 0.95
    left, top, right, bottom = np.transpose([window.bounds for window in windows])
    assert left.min() > 1100 and top.min() > 900 and right.max() < 1300 and bottom.max() < 1100
    assert tiles == {Tile(0, 1, 1)}
    assert not list(automatic_coverage(segmenter, [], area=shapely.box(2000, 0, 2100, 100)))


def test_a_coverage_tells_its_progress_and_can_be_cancelled(store: Path) -> None:
    seen: list[float] = []
    covered(store, progress=lambda done, total: seen.append(done / total))
    assert seen == sorted(seen) and seen[-1] == 1
    for at in seen:

        def cancel(done: int, total: int, at: float = at) -> None:
            if done / total >= at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            covered(store, progress=cancel)


@pytest.mark.parametrize("reserves", [True, False])
def test_a_disk_without_space_for_the_grid_is_an_error(
    store: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch, reserves: bool
) -> None:
    """A page of a file in memory that the disk cannot hold would end the process, and QGIS with it."""
    if not reserves:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    assert covered(store)
    with pytest.raises(
        OutputError, match=rf"{small_disk} cannot hold the grid .*No space left.*: free some space there"
    ):
        covered(store, level=-1)


def test_a_store_without_encoded_tiles_gives_nothing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = open_blobs(store)
    monkeypatch.setattr(segmenter.reader, "state", lambda tile: None)
    assert not list(automatic_coverage(segmenter, [mask(shapely.box(0, 0, 500, 500), 0.9)]))
