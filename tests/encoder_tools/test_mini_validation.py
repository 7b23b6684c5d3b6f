"""Held-out objects during training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from encoder_tools.mini.network import MiniNet  # noqa: E402
from encoder_tools.mini.validation import ValidationSet  # noqa: E402


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for folder in ("buildings/val_kampala", "fields/val", "landcover/val_dubai", "coast/val"):
        (tmp_path / folder).mkdir(parents=True)
    image = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    squares = [[[x, 40], [x + 60, 40], [x + 60, 140], [x, 140], [x, 40]] for x in (20, 120, 200)]
    features = [{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}} for ring in squares]
    for name in ("a", "b"):
        Image.fromarray(image).save(tmp_path / "fields" / "val" / f"{name}.png")
        outlines = tmp_path / "fields" / "val" / f"{name}.pixels.geojson"
        outlines.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    return tmp_path


def test_processes_share_the_objects(data: Path) -> None:
    parts = [ValidationSet(data, rank, 2) for rank in (0, 1)]
    assert [len(part.tiles) for part in parts] == [1, 1]
    tile = parts[0].tiles[0]
    assert tile.masks.shape == (3, 256, 256)
    rows, columns = np.nonzero(tile.masks[0])
    assert (columns.min() * 4, rows.min() * 4) == pytest.approx((20, 40), abs=4)
    assert (columns.max() * 4 + 4, rows.max() * 4 + 4) == pytest.approx((80, 140), abs=4)


def test_mean_ious_of_the_kinds_with_imagery(data: Path) -> None:
    torch.manual_seed(0)
    found = ValidationSet(data, 0, 1).measure(MiniNet())
    assert set(found) == {"fields click", "fields box"}
    assert all(0.0 <= value <= 1.0 for value in found.values())


def test_without_held_out_imagery_the_set_is_empty(tmp_path: Path) -> None:
    assert ValidationSet(tmp_path, 0, 1).measure(MiniNet()) == {}
