"""How `mini` is measured: windows, upsampling, intervals, the card, and the reading of labelled imagery."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from PIL import Image
from rasterio.transform import from_origin

from encoder_tools.mini.evaluate import EvaluationScene, OnnxMini, cut_tile, upsample, windows
from encoder_tools.mini.report import (
    CARD_BEGIN,
    CARD_END,
    METRICS,
    bootstrap,
    machine,
    summarise,
    table,
    update_card,
)
from encoder_tools.mini.sources import burn, halve, landcover_regions, make_scene, polygons_in_pixels
from geosam_es.errors import ModelError
from geosam_es.inference.encoder import FILL_RGB


def test_each_object_lies_in_the_window_with_the_largest_margin() -> None:
    image = np.zeros((1500, 2048, 3), dtype=np.uint8)
    objects = [shapely.box(10, 10, 60, 60), shapely.box(1000, 700, 1100, 800), shapely.box(0, 0, 1400, 50)]
    found = windows(EvaluationScene("x", image, objects))
    assert [polygon for polygons in found.values() for polygon in polygons] == objects[:2]
    assert (0, 0) in found
    ((x, y),) = [origin for origin, polygons in found.items() if objects[1] in polygons]
    assert 400 <= x <= 700
    assert y == 256


def test_small_images_are_padded() -> None:
    tile = cut_tile(np.full((300, 500, 3), 9, dtype=np.uint8), 0, 0)
    assert tile.shape == (1024, 1024, 3)
    assert (tile[:300, :500] == 9).all()
    assert (tile[300:] == FILL_RGB).all()


def test_upsampling_keeps_planes_and_positions() -> None:
    x, y = np.meshgrid((np.arange(256) + 0.5) * 4, (np.arange(256) + 0.5) * 4)
    large = upsample((0.5 * x - 0.25 * y).astype(np.float32))
    at_x, at_y = np.meshgrid(np.arange(1024) + 0.5, np.arange(1024) + 0.5)
    np.testing.assert_allclose(large[4:-4, 4:-4], (0.5 * at_x - 0.25 * at_y)[4:-4, 4:-4], atol=1e-2)


def test_bootstrap_brackets_the_mean_and_repeats() -> None:
    values = np.random.default_rng(0).uniform(0, 1, 50)
    mean, low, high = bootstrap(values)
    assert low < mean < high
    assert mean == pytest.approx(values.mean())
    assert bootstrap(values) == (mean, low, high)


def test_the_card_takes_the_figures_between_its_markers(tmp_path: Path) -> None:
    row = dict.fromkeys(METRICS, 0.5) | {"click score": 0.6, "box score": 0.4}
    results = {"some set": summarise([row, row])}
    assert results["some set"]["click score error"] == 0.1
    assert "| box | 0.500 (0.500 to 0.500) |" in table(results)
    card = tmp_path / "card.md"
    card.write_text(f"above\n{CARD_BEGIN}\nold\n{CARD_END}\nbelow\n", encoding="utf-8")
    update_card(card, results, {"encoder": 1.5}, None)
    text = card.read_text(encoding="utf-8")
    assert text.startswith("above\n")
    assert text.endswith("below\n")
    assert "old" not in text
    assert table(results) in text
    assert f"{machine()}, two threads: encoder 1.5." in text
    card.write_text("nothing", encoding="utf-8")
    with pytest.raises(ModelError, match="no place for figures"):
        update_card(card, results, {}, 5)


def test_a_folder_without_a_model_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no model"):
        OnnxMini(tmp_path)


def test_labels_come_into_the_pixels_of_a_mosaic(tmp_path: Path) -> None:
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


def test_scenes_know_their_objects() -> None:
    ids = burn([shapely.box(0, 0, 40, 40), shapely.box(10, 10, 20, 20)], 64, 64)
    scene = make_scene("fields", np.full((64, 64, 3), 7, dtype=np.uint8), ids)
    assert scene.areas.tolist() == [0, 1500, 100]
    assert scene.boxes[2].tolist() == [10, 10, 20, 20]
    assert scene.objects.tolist() == [1, 2]
    assert [level.shape for level in scene.pyramid] == [(64, 64, 3), (32, 32, 3), (16, 16, 3)]
    checks = np.indices((4, 4)).sum(0)[..., None].repeat(3, 2).astype(np.uint8)
    assert halve(checks)[..., 0].tolist() == [[1, 3], [3, 5]]
