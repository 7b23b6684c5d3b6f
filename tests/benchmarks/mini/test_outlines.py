"""Strokes, outlines and old polygons as prompts, with the weights of `mini` on a scene without doubt."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from benchmarks.mini.exported_model import MODEL_FOLDER, OnnxMini
from benchmarks.mini.outlines import (
    effort_table,
    hand_clicks,
    measure_effort,
    measure_scene,
    measure_update,
    newer_image,
    prompt_table,
    update_table,
)
from encoder_tools.mini.labelled_tiles import LabelledScene

BOXES = [shapely.box(x, y, x + 120, y + 105) for x in range(40, 900, 280) for y in range(40, 900, 230)]
"""Large enough for the native pixels, so that one tile is encoded."""


@pytest.fixture(scope="module")
def scene() -> LabelledScene:
    """Red boxes on grey ground with noise."""
    image = np.random.default_rng(0).integers(90, 110, (1024, 1024, 3)).astype(np.uint8)
    for box in BOXES:
        x0, y0, x1, y1 = (int(value) for value in box.bounds)
        image[y0:y1, x0:x1] = np.random.default_rng(1).integers((190, 40, 50), (206, 56, 66), (y1 - y0, x1 - x0, 3))
    return LabelledScene("boxes", image, list(BOXES))


def test_a_newer_image_has_objects_erased_and_grown(scene: LabelledScene) -> None:
    image, objects = newer_image(scene, np.random.default_rng(3))
    assert len(objects) == len(BOXES) and image.shape == scene.image.shape
    gone = [old for old, new in objects if new.is_empty]
    grown = [new for old, new in objects if new.area > 1.5 * old.area]
    assert len(gone) >= 2 and len(grown) >= 2 and len(gone) + len(grown) < len(objects)
    redness = image[..., 0].astype(int) - image[..., 1]
    for old, new in objects:
        x, y = (int(value) for value in old.centroid.coords[0])
        assert (redness[y - 4 : y + 4, x - 4 : x + 4].mean() > 40) is not new.is_empty
    for new in grown:
        x0, y0, x1, y1 = new.bounds
        assert redness[int(y0) + 3, int(x0) + 3] > 40 and redness[int(y1) - 4, int(x1) - 4] > 40


@pytest.mark.parametrize("with_older", [False, True])
def test_changes_are_found(scene: LabelledScene, with_older: bool) -> None:
    pairs = measure_update(MODEL_FOLDER, None, OnnxMini(MODEL_FOLDER), scene, with_older, seeds=(11,))
    changes = [(true != "same", found in ("changed", "gone")) for true, found in pairs]
    assert len(changes) == len(BOXES) and sum(true for true, _ in changes) >= 5
    right = sum(true and found for true, found in changes)
    assert right >= 0.9 * sum(true for true, _ in changes), "recall"
    assert right >= 0.9 * sum(found for _, found in changes), "precision"
    row = [cell.strip() for cell in update_table({"boxes": pairs}).splitlines()[-1].strip("|").split("|")]
    assert row[0] == "boxes" and min(map(float, row[4:])) >= 0.9


def test_strokes_and_outlines_are_measured(scene: LabelledScene) -> None:
    few = LabelledScene("boxes", scene.image, scene.polygons[:2])
    found = measure_scene(MODEL_FOLDER, OnnxMini(MODEL_FOLDER), few)
    assert len(found) == 2
    for item in found:
        assert item["displaced itself"] < 0.85 < item["displaced"] and item["scribble"] > 0.85
    table = prompt_table({"boxes": found})
    assert "| scribble + click |" in table and "boxes (2)" in table


def test_clicks_are_compared_with_drawing_by_hand(scene: LabelledScene) -> None:
    bent = shapely.box(0, 0, 9, 9).union(shapely.box(8, 3, 20, 6)).difference(shapely.box(2, 2, 4, 4))
    assert hand_clicks(shapely.box(0, 0, 9, 9).segmentize(1)) == 5
    assert hand_clicks(bent) == 9 + 5
    few = LabelledScene("boxes", scene.image, scene.polygons[:2])
    found = measure_effort(MODEL_FOLDER, OnnxMini(MODEL_FOLDER), few)
    assert [item["hand"] for item in found] == [5, 5]
    assert all(2 <= item["0.85"] <= item["0.9"] for item in found)
    # Four corners and an end; a prompt is pointed at, clicked and judged before the next one or the end.
    assert all(item["hand s"] == pytest.approx(4 * 1.3 + 0.2) for item in found)
    for item in found:
        assert 0 < item["0.85 s"] - ((item["0.85"] - 1) * 2.65 + 0.2) < 5
    hard = {"hand": 30, "0.85": 3, "0.9": np.nan}
    row = [cell.strip() for cell in effort_table({"made up": [hard]}).splitlines()[-1].strip("|").split("|")]
    assert row == ["made up (1)", "30.0", "3.0", "10.0", "0", "40.0", "0.8", "1"]
    hard = {"hand s": 40.0, "0.85 s": 8.0, "0.9 s": np.nan, "most s": 28.0}
    row = [cell.strip() for cell in effort_table({"made up": [hard]}, " s").splitlines()[-1].strip("|").split("|")]
    assert row == ["made up (1)", "40.0", "8.0", "5.0", "0", "68.0", "0.6", "1"]
