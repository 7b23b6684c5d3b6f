"""Properties of the traced polygons, and agreement with the pixels' own way."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio.features
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from geosam_es.core.contour import mask_polygons, polygon_logits

TILE = 1024


def smooth_field(seed: int, sigma: float, offset: float) -> np.ndarray:
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(256, 256)), sigma)
    return (field / field.std() + offset).astype(np.float32)


def upsampled_mask(logits: np.ndarray) -> np.ndarray:
    """Return SAM's own full-resolution mask: bilinear between the cells' centres, then a threshold."""
    position = np.clip((np.arange(TILE) + 0.5) / 4 - 0.5, 0, 255)
    grid = np.meshgrid(position, position, indexing="ij")
    return ndimage.map_coordinates(logits.astype(np.float64), grid, order=1) > 0


fields = st.builds(smooth_field, st.integers(0, 10_000), st.floats(2, 30), st.floats(-1.5, 1.5))
relaxed = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@relaxed
@given(fields)
def test_polygons_are_valid_and_inside_the_tile(logits: np.ndarray) -> None:
    polygons = mask_polygons(logits, TILE)
    assert all(polygon.is_valid and polygon.area > 0 for polygon in polygons)
    if polygons:
        left, top, right, bottom = shapely.total_bounds(np.array(polygons))
        assert left >= 0 and top >= 0 and right <= TILE and bottom <= TILE
    areas = [polygon.area for polygon in polygons]
    assert areas == sorted(areas, reverse=True)


@relaxed
@given(fields)
def test_area_agrees_with_the_pixels(logits: np.ndarray) -> None:
    polygons = mask_polygons(logits, TILE)
    pixels = int(upsampled_mask(logits).sum())
    assert sum(polygon.area for polygon in polygons) == pytest.approx(pixels, rel=0.01, abs=60)


@relaxed
@given(fields)
def test_parts_do_not_overlap(logits: np.ndarray) -> None:
    polygons = mask_polygons(logits, TILE)
    union = shapely.union_all(polygons).area if polygons else 0.0
    assert union == pytest.approx(sum(polygon.area for polygon in polygons), rel=1e-9)


@relaxed
@given(fields)
def test_agrees_with_rasterio_shapes(logits: np.ndarray) -> None:
    mask = upsampled_mask(logits)
    shapes = rasterio.features.shapes(mask.astype(np.uint8), mask=mask)
    reference = shapely.union_all([shapely.geometry.shape(geometry) for geometry, _ in shapes])
    ours = shapely.union_all(mask_polygons(logits, TILE))
    if reference.area < 500:
        assert ours.area < 700
        return
    common = ours.intersection(reference).area
    union = ours.area + reference.area - common
    # Half a pixel of staircase along the outline is all that may differ.
    assert 1 - common / union < 0.55 * reference.length / union


def test_holes_and_islands_in_them_are_kept() -> None:
    y, x = np.mgrid[:256, :256] + 0.5
    distance = np.hypot(x - 128, y - 128)
    logits = np.maximum(20 - distance, np.minimum(distance - 50, 100 - distance)).astype(np.float32)
    ring, island = mask_polygons(logits, TILE)
    assert len(ring.interiors) == 1
    assert ring.area == pytest.approx(np.pi * (400**2 - 200**2), rel=0.001)
    assert island.area == pytest.approx(np.pi * 80**2, rel=0.01)
    assert shapely.Polygon(ring.interiors[0]).contains(island)


def test_vertices_lie_between_the_samples() -> None:
    y, x = np.mgrid[:256, :256] * 4.0 + 2
    logits = (1000.3 - np.hypot(x + 400, y + 300)).astype(np.float32)
    (polygon,) = mask_polygons(logits, TILE)
    on_arc = [p for p in polygon.exterior.coords if 1 < p[0] < 1023 and 1 < p[1] < 1023]
    distance = [np.hypot(px + 400, py + 300) for px, py in on_arc]
    assert len(on_arc) > 50
    assert np.abs(np.array(distance) - 1000.3).max() < 0.01


def test_full_and_empty_masks() -> None:
    assert mask_polygons(np.full((256, 256), -1, np.float32), TILE) == []
    assert mask_polygons(np.zeros((256, 256), np.float32), TILE) == []
    (full,) = mask_polygons(np.ones((256, 256), np.float32), TILE)
    assert full.equals(shapely.box(0, 0, TILE, TILE))


@given(st.integers(1, TILE), st.integers(1, TILE))
def test_padding_is_left_out(width: int, height: int) -> None:
    polygons = mask_polygons(np.ones((256, 256), np.float32), TILE, width, height)
    assert shapely.union_all(polygons).equals(shapely.box(0, 0, width, height))


def test_samples_of_exactly_zero_make_no_shared_vertices() -> None:
    # A chessboard of zeros: the worst case for rings that meet at vertices.
    logits = np.where(np.indices((256, 256)).sum(axis=0) % 2, 1.0, 0.0).astype(np.float32)
    polygons = mask_polygons(logits, TILE)
    assert polygons
    assert all(polygon.is_valid for polygon in polygons)


@relaxed
@given(st.integers(0, 10_000))
def test_rough_logits_are_traced_validly(seed: int) -> None:
    logits = np.random.default_rng(seed).choice([-3, -1e-9, 0, 1e-9, 2], size=(64, 64)).astype(np.float32)
    polygons = mask_polygons(logits, TILE)
    assert all(polygon.is_valid for polygon in polygons)


def same(first: shapely.Geometry, second: shapely.Geometry) -> float:
    return first.intersection(second).area / first.union(second).area


@pytest.mark.parametrize(
    "polygon",
    [
        shapely.Point(500, 500).buffer(300).difference(shapely.Point(520, 480).buffer(60)),
        shapely.box(100.7, 200.3, 160.2, 900.9),
        shapely.union(shapely.box(10, 10, 200, 90), shapely.box(400, 500, 700, 800)),
        shapely.box(900, 900, 1200, 1300),
        shapely.Point(500, 500).buffer(30),
    ],
    ids=["with a hole", "thin", "two parts", "beyond the tile", "small"],
)
def test_a_polygon_becomes_logits_that_give_the_same_polygon(polygon: shapely.Geometry) -> None:
    logits = polygon_logits(polygon, 1024, 256)
    assert (logits.shape, logits.dtype) == ((256, 256), np.float32)
    assert logits.min() == -10 and np.abs(logits).max() == 10
    inside = shapely.intersection(polygon, shapely.box(0, 0, 1024, 1024))
    assert same(shapely.union_all(mask_polygons(logits, 1024)), inside) > 0.99


def test_logits_are_the_distance_to_the_outline() -> None:
    logits = polygon_logits(shapely.box(100, 100, 900, 900), 1024, 256)
    # The centre of cell 25 is 2 pixels, half a cell, inside; each cell is 2.5.
    assert logits[128, 22:30] == pytest.approx([-6.25, -3.75, -1.25, 1.25, 3.75, 6.25, 8.75, 10])


def test_a_polygon_outside_the_tile_has_no_mask() -> None:
    assert (polygon_logits(shapely.box(2000, 100, 2100, 200), 1024, 256) == -10).all()


def test_an_outline_of_many_vertices_takes_no_longer() -> None:
    angle = np.linspace(0, 2 * np.pi, 5000, endpoint=False)
    radius = 300 + 20 * np.sin(9 * angle)
    wavy = shapely.Polygon(np.column_stack((500 + radius * np.cos(angle), 500 + radius * np.sin(angle))))
    logits = polygon_logits(wavy, 1024, 256)
    assert same(shapely.union_all(mask_polygons(logits, 1024)), wavy) > 0.995
    assert polygon_logits(shapely.from_wkb(wavy.wkb), 1024, 256) is logits, "hovering asks for the same again"
