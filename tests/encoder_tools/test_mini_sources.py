"""Labelled imagery as training reads it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from PIL import Image
from rasterio.transform import from_origin

from encoder_tools.mini.sources import (
    burn,
    halve,
    labelled_in_pixels,
    landcover_regions,
    make_scene,
    polygons_in_pixels,
    read_rgb,
    stand_scenes,
    synthetic_scenes,
)


def test_labels_are_converted_to_pixels_of_a_mosaic(tmp_path: Path) -> None:
    path = tmp_path / "ortho.tif"
    profile = {"driver": "GTiff", "height": 50, "width": 40, "count": 3, "dtype": "uint8", "crs": "EPSG:4326"}
    with rasterio.open(path, "w", transform=from_origin(10.0, 50.0, 0.001, 0.001), **profile) as dataset:
        dataset.write(np.zeros((3, 50, 40), dtype=np.uint8))
    ring = [[10.01, 49.99], [10.02, 49.99], [10.02, 49.98], [10.01, 49.98], [10.01, 49.99]]
    beyond = [[10.03, 49.99], [10.09, 49.99], [10.09, 49.98], [10.03, 49.98], [10.03, 49.99]]
    features = [{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [c]}} for c in (ring, beyond)]
    labels = tmp_path / "labels.geojson"
    labels.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    first, second = polygons_in_pixels(labels, path)
    assert first.bounds == pytest.approx((10, 10, 20, 20), abs=1e-6)
    assert second.bounds == pytest.approx((30, 10, 40, 20), abs=1e-6)


def test_regions_are_the_connected_parts_of_a_colour(tmp_path: Path) -> None:
    picture = np.zeros((100, 100, 3), dtype=np.uint8)
    picture[10:40, 10:40] = (0xE2, 0xA9, 0x29)
    picture[60:90, 10:40] = (0xE2, 0xA9, 0x29)
    picture[60:65, 60:65] = (0xE2, 0xA9, 0x29)
    picture[10:40, 60:95] = (0xFE, 0xDD, 0x3A)
    path = tmp_path / "mask.png"
    Image.fromarray(picture).convert("P", palette=Image.Palette.ADAPTIVE).save(path)
    regions = landcover_regions(path)
    assert sorted((name, polygon.area) for name, polygon in regions) == [
        ("vegetation", 1050.0),
        ("water", 900.0),
        ("water", 900.0),
    ]


def test_scenes_have_boxes_and_areas_of_their_objects() -> None:
    ids = burn([shapely.box(0, 0, 40, 40), shapely.box(10, 10, 20, 20)], 64, 64)
    scene = make_scene("fields", np.full((64, 64, 3), 7, dtype=np.uint8), ids)
    assert scene.areas.tolist() == [0, 1500, 100]
    assert scene.boxes[2].tolist() == [10, 10, 20, 20]
    assert scene.objects.tolist() == [1, 2]
    assert [level.shape for level in scene.pyramid] == [(64, 64, 3), (32, 32, 3), (16, 16, 3)]
    checks = np.indices((4, 4)).sum(0)[..., None].repeat(3, 2).astype(np.uint8)
    assert halve(checks)[..., 0].tolist() == [[1, 3], [3, 5]]


def test_synthetic_training_scenes_have_objects() -> None:
    (scene,) = synthetic_scenes(1, seed=7)
    assert scene.kind == "synthetic"
    assert len(scene.objects) >= 5
    assert scene.pyramid[1].shape == (512, 512, 3)


def test_stands_have_three_layers_with_numbers_of_their_own() -> None:
    (scene,) = stand_scenes(1, seed=2)
    lowest, highest = zip(*((layer[layer > 0].min(), layer.max()) for layer in scene.layers))
    assert len(scene.layers) == 3
    assert highest[0] < lowest[1] and highest[1] < lowest[2]
    for number in scene.objects[:: max(1, len(scene.objects) // 20)]:
        (layer,) = (ids for ids in scene.layers if (ids == number).any())
        rows, columns = np.nonzero(layer == number)
        assert scene.areas[number] == len(rows)
        assert scene.boxes[number].tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_images_with_outlines_in_pixels_are_found(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(tmp_path / "b.jpg")
    profile = {"driver": "GTiff", "height": 8, "width": 9, "count": 1, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", **profile) as dataset:
        dataset.write(np.full((1, 8, 9), 7, dtype=np.uint8))
    (tmp_path / "a.pixels.geojson").write_text("{}", encoding="utf-8")
    found = labelled_in_pixels(tmp_path)
    assert [(image.name, labels.name) for image, labels in found] == [
        ("a.tif", "a.pixels.geojson"),
        ("b.jpg", "b.pixels.geojson"),
    ]
    assert read_rgb(tmp_path / "a.tif").tolist() == np.full((8, 9, 3), 7).tolist(), "one band is repeated"
