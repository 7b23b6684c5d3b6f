"""Synthetic images with nested outlines."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from encoder_tools.mini.stands import Stands, synthetic_stands


@pytest.fixture(scope="module")
def some() -> list[Stands]:
    return [synthetic_stands(384, 512, seed) for seed in (2, 5, 8, 12)]


def test_the_same_seed_gives_the_same_image(some: list[Stands]) -> None:
    again = synthetic_stands(384, 512, 5)
    assert np.array_equal(again.image, some[1].image)
    assert [[polygon.wkb for polygon in layer] for layer in again.layers] == [
        [polygon.wkb for polygon in layer] for layer in some[1].layers
    ]
    assert not np.array_equal(some[0].image, some[1].image)


def test_outlines_are_polygons_inside_the_image(some: list[Stands]) -> None:
    for scene in some:
        assert scene.image.shape == (384, 512, 3) and scene.image.dtype == np.uint8
        for polygon in (polygon for layer in scene.layers for polygon in layer):
            assert polygon.geom_type == "Polygon" and polygon.is_valid and polygon.area >= 60
            assert shapely.box(0, 0, 512, 384).buffer(1e-6).contains(polygon)


def test_trees_lie_in_rows_and_rows_in_stands(some: list[Stands]) -> None:
    assert all(sum(len(scene.layers[layer]) for scene in some) > 10 for layer in range(3))
    inside = [
        any(stand.buffer(3).contains(row) for stand in scene.layers[2]) for scene in some for row in scene.layers[1]
    ]
    assert np.mean(inside) > 0.5
    held = [
        any(row.intersection(tree).area > 0.6 * tree.area for row in scene.layers[1])
        for scene in some
        for tree in scene.layers[0]
    ]
    assert 0.1 < np.mean(held) < 1, "some trees stand in rows or groups, others alone"


def test_single_objects_differ_from_their_surroundings(some: list[Stands]) -> None:
    from rasterio import features

    contrasts = []
    for scene in some:
        image = scene.image.astype(float)
        for polygon in scene.layers[0][::7]:
            inside = features.rasterize([polygon], image.shape[:2]).astype(bool)
            ring = features.rasterize([polygon.buffer(4).difference(polygon.buffer(1))], image.shape[:2]).astype(bool)
            contrasts.append(np.abs(image[inside].mean(0) - image[ring].mean(0)).max())
    assert len(contrasts) > 10
    assert np.median(contrasts) > 12
