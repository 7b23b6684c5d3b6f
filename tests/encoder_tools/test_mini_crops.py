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


def nested() -> Scene:
    """An orchard of 4 rows of 4 trees."""
    trees, rows, whole = (np.zeros((256, 256), dtype=np.int32) for _ in range(3))
    whole[20:240, 20:240] = 21
    for row in range(4):
        rows[30 + 50 * row : 60 + 50 * row, 30:220] = 17 + row
        for column in range(4):
            trees[32 + 50 * row : 58 + 50 * row, 35 + 48 * column : 61 + 48 * column] = 1 + 4 * row + column
    return make_scene("stands", np.zeros((256, 256, 3), dtype=np.uint8), trees, rows, whole)


def test_trees_rows_and_stands_are_prompted_alike() -> None:
    shares = object_shares_of(nested())
    assert [shares[:16].sum(), shares[16:20].sum(), shares[20:].sum()] == pytest.approx([1 / 3] * 3)
    batch = CropSampler([nested()], {"stands": 1.0}, (3,)).batch(CropPlan(256, 6, 6, 1.0))
    for crop, ids in enumerate(batch.ids):
        areas = [int(mask.sum()) for mask in batch.masks[6 * crop : 6 * crop + 6]]
        present = [np.count_nonzero(np.bincount(layer.ravel())[1:] >= 8) for layer in ids]
        if min(present) > 1:
            assert max(areas) > 3 * sorted(areas)[2] > 6 * min(areas), "a tree, a row and the whole are among them"


def test_a_click_on_a_tree_may_mean_its_row_or_the_stand() -> None:
    batch = CropSampler([nested()], {"stands": 1.0}, (4,)).batch(CropPlan(256, 2, 6, 1.0))
    middles = np.array([np.argwhere(mask).mean(0)[::-1] * 4 + 2 for mask in batch.masks], dtype=np.float32)
    owners, masks = batch.other_meanings(middles)
    assert len(owners) == len(masks) > 0
    for owner, mask in zip(owners, masks):
        column, row = (middles[owner] // 4).astype(int)
        assert mask[row, column], "the click lies in each of them"
        assert not np.array_equal(mask, batch.masks[owner])
    plain = CropSampler([make_scene("stands", nested().pyramid[0], nested().ids)], {"stands": 1.0}, (4,))
    assert not len(plain.batch(CropPlan(128, 2, 3, 1.0)).other_meanings(np.full((6, 2), 64, dtype=np.float32))[0][6:])
