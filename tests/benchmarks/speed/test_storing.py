"""What rounding does to masks, with the embedded model on a synthetic orthophoto."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from benchmarks.speed import storing
from benchmarks.speed.images import write_raster
from benchmarks.speed.measure import Bench


def test_masks_from_rounded_features(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "image.tif", 1024, 1024)
    ious = storing.ious_on(Bench(tmp_path, 1, quick=True), image)
    assert ious["float32"] == [1.0] * 4
    assert all(0.98 < np.mean(values) <= 1 for values in ious.values())


def test_rounding_is_that_of_the_store() -> None:
    values = np.random.default_rng(0).normal(size=(1, 3, 4, 4)).astype(np.float32)
    np.testing.assert_array_equal(storing.rounded_to(values, "float32"), values)
    np.testing.assert_array_equal(storing.rounded_to(values, "float16"), values.astype(np.float16))
    step = np.abs(values).max(axis=(2, 3), keepdims=True) / 127
    off = np.abs(storing.rounded_to(values, "int8") - values)
    assert (off <= step * 0.501).all() and off.max() > 0
