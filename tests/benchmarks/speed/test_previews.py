"""How a preview of a mask is drawn, and that it suffices for masks of a trained model."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
if importlib.util.find_spec("segment_anything") is None:  # it imports only with torchvision or its placeholders
    pytest.skip("segment_anything is not installed", allow_module_level=True)

from benchmarks.speed import images
from benchmarks.speed.measure import Bench
from benchmarks.speed.previews import drawn_places, previewed, trained_previews


def disc(radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:256, :256]
    return np.asarray(radius - np.hypot(rows - 130.0, columns - 121.0), np.float32)


def test_the_outline_is_drawn_in_full_and_the_rest_by_samples() -> None:
    logits = disc(70)
    drawn = previewed(logits)
    np.testing.assert_array_equal(drawn > 0, logits > 0)
    whole = (drawn == logits).reshape(64, 4, 64, 4).all((1, 3))
    assert whole.sum() == 512
    np.testing.assert_array_equal(drawn[1::4, 1::4], logits[1::4, 1::4])


def test_an_outline_that_is_too_long_is_drawn_roughly() -> None:
    logits = disc(70)
    assert ((previewed(logits, most=20) > 0) != (logits > 0)).any()


def test_a_long_outline_takes_more_places_if_it_may() -> None:
    rows, _ = np.mgrid[:256, :256]
    stripes = np.sin(rows * (np.pi / 8)).astype(np.float32)
    assert len(drawn_places(disc(40), 4096)) == 512
    assert len(drawn_places(stripes, 4096)) > 1024 > len(drawn_places(stripes, 600)) == 600


def test_small_objects_between_the_samples_are_found() -> None:
    logits = disc(70)
    assert not (logits[201:203, 201:203] > 0).any()
    for side in (2, 3):
        # An object that the model sees raises the logits around it too.
        rows, columns = np.mgrid[:256, :256]
        small = np.maximum(logits, 4 * (side - np.hypot(rows - 203.0, columns - 203.0)).astype(np.float32))
        assert (small > 0).sum() > (logits > 0).sum()
        np.testing.assert_array_equal(previewed(small) > 0, small > 0)


def test_masks_of_the_trained_model_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "real_images", list)
    agreement, most = trained_previews(Bench(tmp_path, threads=1, quick=True))
    assert 512 <= most < 4096
    assert "8 masks of mini on a synthetic orthophoto" in agreement.measure
    assert agreement.value >= agreement.least == 0.999
