"""Recall of automatic masks and superpixels."""

from __future__ import annotations

import numpy as np
import shapely

from benchmarks.mini.automatic import Recalled, measure_scene, recall_table
from benchmarks.mini.exported_model import MODEL_FOLDER, OnnxMini
from encoder_tools.mini.labelled_tiles import LabelledScene


def test_a_large_bright_field_is_found_by_every_method() -> None:
    image = np.random.default_rng(0).integers(70, 90, (256, 256, 3), dtype=np.uint8)
    image[60:190, 60:190] = (200, 60, 40)
    scene = LabelledScene("fields/val", image, [shapely.box(60, 60, 190, 190)])
    found = measure_scene(MODEL_FOLDER, None, OnnxMini(MODEL_FOLDER), scene)
    assert set(found) == {"mini", "SLIC", "Felzenszwalb"}
    assert found["mini"].ious[0] > 0.9
    assert found["Felzenszwalb"].ious[0] > 0.9
    assert all(item.masks >= 1 and item.seconds > 0 for item in found.values())


def test_table() -> None:
    scenes = [{"mini": Recalled(np.array([0.8, 0.6]), 5, 2.0)}, {"mini": Recalled(np.array([0.1]), 2, 4.0)}]
    assert recall_table({"fields": scenes}).splitlines()[-1] == "| fields | mini | 3 | 0.67 | 0.33 | 7 | 3.0 |"
