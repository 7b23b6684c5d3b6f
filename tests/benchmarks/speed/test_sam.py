"""Features and clicks of the benchmark."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

pytest.importorskip("torch")
if importlib.util.find_spec("segment_anything") is None:  # it imports only with torchvision or its placeholders
    pytest.skip("segment_anything is not installed", allow_module_level=True)

from benchmarks.speed.sam import decoder_feeds, smooth_features, some_clicks


def test_features_vary_slowly() -> None:
    features = smooth_features()
    assert features.shape == (1, 256, 64, 64) and features.dtype == np.float32
    assert features.std() == pytest.approx(1, abs=1e-3)
    assert np.abs(np.diff(features, axis=3)).mean() < 0.5 * np.abs(features).mean()


def test_clicks_lie_on_the_tile_and_differ() -> None:
    clicks = some_clicks(20)
    places = {(prompts.points[0].x, prompts.points[0].y) for prompts in clicks}
    assert len(places) == 20
    assert all(100 < value < 924 for place in places for value in place)
    assert some_clicks(20) == clicks != some_clicks(20, seed=1)


def test_feeds_follow_sams_convention() -> None:
    feeds = decoder_feeds(some_clicks(1)[0])
    assert feeds["point_coords"].shape == (1, 2, 2) and feeds["point_labels"].tolist() == [[1, -1]]
    assert feeds["has_mask_input"].tolist() == [0] and not feeds["mask_input"].any()
    mask = np.ones((256, 256), np.float32)
    assert decoder_feeds(some_clicks(1)[0], mask)["has_mask_input"].tolist() == [1]
