"""Grids of labels as coverages."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from geosam_es.core import label_grid
from geosam_es.core.label_grid import Regions, cells_inside


def patches(seed: int, height: int = 70, width: int = 83) -> np.ndarray:
    """Irregular patches with labels 1 to 5, and a corner without data."""
    noise = np.random.default_rng(seed).normal(size=(height, width))
    for _ in range(3):
        noise = sum(np.roll(noise, shift, axis) for shift in (-1, 0, 1) for axis in (0, 1)) / 6
    labels = (np.digitize(noise, [-0.2, -0.05, 0.05, 0.2]) + 1).astype(np.int32)
    labels[:20, :15] = 0
    return labels


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0, 12, 60]), st.sampled_from([0.0, 1.0]), st.booleans())
def test_regions_cover_the_data_once(seed: int, least: int, tolerance: float, is_one_strip: bool) -> None:
    labels = patches(seed)
    with pytest.MonkeyPatch.context() as patch:
        if not is_one_strip:
            patch.setattr(label_grid, "_STRIP_CELLS", 16 * labels.shape[1])
        regions = list(Regions(labels, least).traced(tolerance))
    polygons = np.array([region.polygon for region in regions])
    assert shapely.is_valid(polygons).all() and (shapely.get_type_id(polygons) == 3).all()
    assert shapely.coverage_is_valid(polygons)
    assert shapely.area(polygons).sum() == pytest.approx((labels > 0).sum(), rel=1e-3)
    assert shapely.union_all(polygons).area == pytest.approx(shapely.area(polygons).sum(), rel=1e-9)
    # Each side may lose a part of a cell.
    assert shapely.area(polygons).min() > least - (1 + tolerance) * least**0.5 / 2
    assert not shapely.box(0, 0, 13, 18).intersects(shapely.union_all(polygons))


@pytest.mark.parametrize("strip_cells", [16 * 83, 10**6])
def test_an_older_shapely_simplifies_too(monkeypatch: pytest.MonkeyPatch, strip_cells: int) -> None:
    monkeypatch.setattr(label_grid, "_STRIP_CELLS", strip_cells)
    labels = patches(5)
    fine = list(Regions(labels, 12).traced(0))
    monkeypatch.delattr(shapely, "coverage_simplify")
    regions = list(Regions(labels, 12).traced(1.0))
    polygons = np.array([region.polygon for region in regions])
    assert len(regions) == len(fine)
    assert shapely.coverage_is_valid(polygons)
    assert shapely.area(polygons).sum() == pytest.approx((labels > 0).sum(), rel=2e-3)
    vertices = [shapely.get_num_coordinates([one.polygon for one in some]).sum() for some in (fine, regions)]
    assert vertices[1] < 0.5 * vertices[0]
    names = np.array([region.label for region in regions])
    sizes = [shapely.area(polygons[names == label]).sum() for label in range(1, 6)]
    wanted = [sum(one.polygon.area for one in fine if one.label == label) for label in range(1, 6)]
    assert sizes == pytest.approx(wanted, rel=0.1)


def test_the_lines_between_strips_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = patches(3, 96, 40)
    whole = [region.polygon for region in Regions(labels, 20).traced(1.0)]
    monkeypatch.setattr(label_grid, "_STRIP_CELLS", 16 * 40)
    parts = [region.polygon for region in Regions(labels, 20).traced(1.0)]
    assert len(parts) == len(whole)
    for polygon in parts:
        assert max(polygon.intersection(other).area / polygon.union(other).area for other in whole) > 0.9
        # No vertex is left in the middle of a region or of a side of the grid.
        assert len(polygon.exterior.coords) < 2 * max(len(other.exterior.coords) for other in whole)


def test_small_regions_join_the_neighbour_with_the_longest_border() -> None:
    labels = np.repeat([[1] * 10 + [2] * 10], 10, axis=0).astype(np.int32)
    labels[3:5, 8:11] = 3
    regions = {region.label: region.polygon for region in Regions(labels, 20).traced(0)}
    assert {label: polygon.area for label, polygon in regions.items()} == pytest.approx({1: 102, 2: 98}, abs=1)
    assert len(list(Regions(labels, 0).traced(0))) == 3


def test_a_straight_border_has_two_vertices() -> None:
    labels = np.repeat([[1] * 10 + [2] * 10], 10, axis=0).astype(np.int32)
    first, second = (region.polygon for region in Regions(labels, 0).traced(0))
    assert first.equals(shapely.box(0, 0, 10, 10)) and second.equals(shapely.box(10, 0, 20, 10))
    assert len(first.exterior.coords) == 5


def test_cells_inside_a_polygon() -> None:
    ring = shapely.Point(10.2, 9.7).buffer(8).difference(shapely.Point(9, 11).buffer(3))
    ys, xs = np.mgrid[2:17, 5:22] + 0.5
    assert (cells_inside(ring, slice(2, 17), slice(5, 22)) == shapely.contains_xy(ring, xs, ys)).all()
