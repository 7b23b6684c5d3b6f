"""Random crops for training, and their colours."""

from __future__ import annotations

import numpy as np
import pytest

from encoder_tools.mini.config import CropPlan
from encoder_tools.mini.crops import (
    BRIGHT_SHARE,
    JPEG_SHARE,
    NOISE_SHARE,
    CropSampler,
    infrared_guess,
    object_shares_of,
    recolour,
)
from encoder_tools.mini.sources import Scene, burn, make_scene
from encoder_tools.synthetic import synthetic_orthophoto


@pytest.fixture(scope="module")
def scene() -> Scene:
    drawn = synthetic_orthophoto(512, 512, 0.3, seed=2)
    polygons = [polygon for name, polygon in drawn.objects if name != "road"]
    return make_scene("fields", drawn.image, burn(polygons, 512, 512))


def test_crops_are_reproducible_and_hold_their_objects(scene: Scene) -> None:
    plan = CropPlan(128, 2, 3, 1.0)
    first = CropSampler([scene], {"fields": 1.0}, (1, 2)).batch(plan)
    second = CropSampler([scene], {"fields": 1.0}, (1, 2)).batch(plan)
    assert np.array_equal(first.images, second.images)
    assert first.images.shape == (2, 128, 128, 3)
    assert first.masks.shape == (6, 32, 32)
    assert first.masks.any((1, 2)).all()
    assert first.edges.shape == (2, 1, 32, 32)


def test_slender_fields_are_sampled_more_often() -> None:
    ids = np.zeros((200, 200), dtype=np.int32)
    ids[10:60, 10:60] = 1
    for row in range(100, 190):
        ids[row, row : row + 10] = 2  # a slanting strip, which fills little of its box
    image = np.zeros((200, 200, 3), dtype=np.uint8)
    first, second = object_shares_of(make_scene("fields", image, ids))
    assert second == pytest.approx(3 * first)
    assert object_shares_of(make_scene("buildings", image, ids)).tolist() == [0.5, 0.5]


def test_false_colours_make_plants_bright_and_water_dark() -> None:
    colours = {"plants": (70, 110, 60), "water": (40, 60, 90), "roof": (120, 120, 120)}
    image = np.array([list(colours.values())], dtype=np.uint8)
    shown = np.stack([infrared_guess(image, np.random.default_rng(seed))[0] for seed in range(200)])
    plants, water, roof = shown[..., 0].mean(0)
    assert plants > 1.25 * roof
    assert water < 0.8 * roof
    assert shown[..., 0].std(0).min() > 5, "how bright is drawn"
    assert (shown[..., 1:] == image[0, :, :2]).all(), "red and green move on by one band"


def test_some_crops_are_overexposed_noisy_or_compressed() -> None:
    grey = np.full((64, 64, 3), 128, dtype=np.uint8)
    grey[::2] = 132
    shown = [recolour(grey, np.random.default_rng(seed)) for seed in range(400)]
    burnt = np.mean([(image == 255).all() for image in shown])
    noisy = np.mean([len(np.unique(image[::2, :, 0])) > 6 for image in shown])
    assert 0 < burnt < BRIGHT_SHARE
    assert 0.5 * NOISE_SHARE < noisy < NOISE_SHARE + JPEG_SHARE
