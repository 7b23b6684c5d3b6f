"""Flood fill, superpixels and GrabCut on images where the answer is known, their settings and their cache."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import shapely

pytest.importorskip("cv2")
pytest.importorskip("skimage")

from benchmarks.mini import baselines
from benchmarks.mini.baselines import BASELINES, BaselineCache, choose, chosen_settings, measure_baselines
from benchmarks.mini.measuring import Target, target_of
from encoder_tools.mini.labelled_tiles import LabelledScene, Tile
from geosam_es.errors import ModelError, OutputError
from geosam_es.inference.encoder import FILL_RGB

DISC = shapely.Point(150, 140).buffer(60)
SETTINGS = {
    "flood fill": {"sigma": 0.0, "tolerance": 40.0},
    "Felzenszwalb": {"sigma": 0.8, "scale": 400.0},
    "SLIC": {"compactness": 10.0, "area": 6400.0},
    "GrabCut": {"core": 0.25, "margin": 0.5, "iterations": 5.0},
}


def disc_image() -> np.ndarray:
    """A bright disc on dark ground, both with noise, 300 px wide and 280 high."""
    rng = np.random.default_rng(2)
    x, y = np.meshgrid(np.arange(300) + 0.5, np.arange(280) + 0.5)
    inside = shapely.contains_xy(DISC, x, y)
    image = np.where(inside[..., None], (200, 180, 90), (60, 90, 50)) + rng.integers(-9, 10, (280, 300, 3))
    return image.astype(np.uint8)


@pytest.fixture(scope="module")
def tile() -> Tile:
    image = np.full((1024, 1024, 3), FILL_RGB, dtype=np.uint8)
    image[:280, :300] = disc_image()
    return Tile("fields/val", image, 300, 280, [DISC], [0])


@pytest.fixture(scope="module")
def target() -> Target:
    found = target_of(DISC)
    assert found is not None
    return found


def test_an_obvious_disc_is_found(tile: Tile, target: Target) -> None:
    (found,) = measure_baselines(tile, [target], SETTINGS)
    assert list(found) == list(BASELINES)
    assert found["flood fill"] > 0.97
    assert found["Felzenszwalb"] > 0.9
    assert found["GrabCut"] > 0.97
    # A superpixel of the size of half the disc cannot be all of it.
    assert 0.1 < found["SLIC"] < 0.95


def test_a_narrow_tolerance_floods_less(tile: Tile, target: Target) -> None:
    narrow = {**SETTINGS, "flood fill": {"sigma": 0.0, "tolerance": 3.0}}
    assert measure_baselines(tile, [target], narrow)[0]["flood fill"] < 0.2


def test_grabcut_of_a_box_that_is_the_whole_image_is_the_box(tile: Tile) -> None:
    whole = target_of(shapely.box(0, 0, 300, 280))
    assert whole is not None
    assert measure_baselines(tile, [whole], SETTINGS)[0]["GrabCut"] == 1.0


def test_grabcut_that_finds_nothing_is_the_box() -> None:
    flat = Tile("fields/val", np.full((1024, 1024, 3), 90, dtype=np.uint8), 300, 280, [DISC], [0])
    box = target_of(shapely.box(100, 100, 200, 180))
    assert box is not None
    assert measure_baselines(flat, [box], SETTINGS)[0]["GrabCut"] == 1.0


def test_the_core_of_grabcut_is_object_whatever_its_colour() -> None:
    image = np.full((1024, 1024, 3), FILL_RGB, dtype=np.uint8)
    image[:280, :300] = disc_image()
    # A pond in the middle, of the colour of the ground.
    image[115:165, 125:175] = image[:50, :50]
    pond = Tile("fields/val", image, 300, 280, [DISC], [0])
    disc = target_of(DISC)
    assert disc is not None
    without, within = (
        measure_baselines(pond, [disc], {**SETTINGS, "GrabCut": {"core": core, "margin": 0.5, "iterations": 2.0}})
        for core in (0.0, 0.7)
    )
    assert without[0]["GrabCut"] < 0.85
    assert within[0]["GrabCut"] > 0.95


def test_results_are_cached_by_pixels_and_settings(
    tile: Tile, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "chosen_settings", lambda _: SETTINGS)
    cache = BaselineCache(tmp_path / "kept")
    first = cache.measure(tile, [target])
    (path,) = (tmp_path / "kept").iterdir()
    known = json.loads(path.read_text(encoding="utf-8"))
    ((name, row),) = known.items()
    path.write_text(json.dumps({name: {**row, "SLIC": 0.123}}), encoding="utf-8")
    assert cache.measure(tile, [target])[0]["SLIC"] == 0.123
    other = target_of(shapely.box(20, 20, 60, 60))
    assert other is not None
    both = cache.measure(tile, [other, target])
    assert both[1]["SLIC"] == 0.123
    assert both[0] != first[0]
    edited = tmp_path / "edited.py"
    edited.write_text("# saved while the program runs", encoding="utf-8")
    monkeypatch.setattr(baselines, "__file__", str(edited))
    assert cache.measure(tile, [target])[0]["SLIC"] == 0.123
    monkeypatch.setattr(baselines, "chosen_settings", lambda _: {**SETTINGS, "SLIC": {"compactness": 9, "area": 900}})
    assert cache.measure(tile, [target])[0]["SLIC"] != 0.123
    assert len(list((tmp_path / "kept").iterdir())) == 2
    monkeypatch.setattr(baselines, "CODE", b"another version")
    cache.measure(tile, [target])
    assert len(list((tmp_path / "kept").iterdir())) == 3


def test_a_cache_that_cannot_be_written_is_one_clear_error(
    tile: Tile, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "chosen_settings", lambda _: SETTINGS)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="--cache"):
        BaselineCache(tmp_path / "file").measure(tile, [target])


def test_the_settings_with_the_highest_iou_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = LabelledScene("fields/train", disc_image(), [DISC])
    grid = {name: {key: (value,) for key, value in found.items()} for name, found in SETTINGS.items()}
    # It begins with 250.
    grid["flood fill"]["tolerance"] = (2.0, 40.0, 250.0, 252.0, 255.0)
    monkeypatch.setattr(baselines, "GRID", grid)
    chosen = choose("fields", [scene], ["flood fill", "SLIC"])
    assert chosen["flood fill"]["settings"] == {"sigma": 0.0, "tolerance": 40.0}
    assert chosen["flood fill"]["objects"] == 1
    assert list(chosen) == ["flood fill", "SLIC"]


def test_settings_are_chosen_on_objects_of_many_images(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = {name: {key: (value,) for key, value in found.items()} for name, found in SETTINGS.items()}
    monkeypatch.setattr(baselines, "GRID", grid)
    monkeypatch.setattr(baselines, "TUNING_OBJECTS", 5)
    monkeypatch.setattr(baselines, "TUNING_OBJECTS_OF_TILE", 2)
    scenes = [LabelledScene("fields/train", disc_image(), [DISC] * count) for count in (9, 9, 1)]
    chosen = choose("fields", scenes, ["flood fill"])
    assert (chosen["flood fill"]["tiles"], chosen["flood fill"]["objects"]) == (3, 5)
    chosen = choose("fields", scenes[1:], ["flood fill"])
    assert (chosen["flood fill"]["tiles"], chosen["flood fill"]["objects"]) == (2, 3)


def test_settings_of_every_held_out_set_are_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for dataset in (
        "buildings/val_kampala",
        "fields/val",
        "landcover/val_dubai water",
        "landcover/val_dubai vegetation",
    ):
        settings = chosen_settings(dataset)
        for name, grid in baselines.GRID.items():
            assert all(settings[name][key] in values for key, values in grid.items())
    with pytest.raises(ModelError, match="no settings for roads"):
        chosen_settings("roads/val")
    monkeypatch.setattr(baselines, "SETTINGS_FILE", tmp_path / "none.json")
    with pytest.raises(ModelError, match=r"mini\.baselines --data"):
        chosen_settings("fields/val")


def test_a_missing_library_is_one_clear_error(tile: Tile, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(ModelError, match="mini-eval"):
        measure_baselines(tile, [target], SETTINGS)
