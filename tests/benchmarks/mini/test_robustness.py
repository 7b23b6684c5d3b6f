"""Changed images: their pixels and outlines, and the table of results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin

from benchmarks.mini import robustness
from benchmarks.mini.exported_model import MODEL_FOLDER, OnnxMini
from benchmarks.mini.image_changes import CHANGES, NearInfrared, changed, rotated
from benchmarks.mini.robustness import first_answers, measure_changes, robustness_table
from encoder_tools.mini.labelled_tiles import LabelledScene
from encoder_tools.synthetic import synthetic_orthophoto
from geosam_es.errors import RasterError

BOX = shapely.box(100, 40, 160, 80)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an RGB+NIR image whose near infrared is the inverted green band."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "ortho").mkdir()
    bands = np.random.default_rng(1).integers(0, 256, (4, 60, 60), dtype=np.uint8)
    bands[3] = 255 - bands[1]
    profile = {"count": 4, "height": 60, "width": 60, "dtype": "uint8", "crs": "EPSG:26917"}
    path = folder / "ortho" / "naip_virginia_rgbn_26917.tif"
    with rasterio.open(path, "w", driver="GTiff", transform=from_origin(0, 0, 1, 1), **profile) as dataset:
        dataset.write(bands)
    return folder


@pytest.fixture(scope="module")
def near_infrared(data: Path) -> NearInfrared:
    return NearInfrared(data)


def scene_with_box(dataset: str = "fields/val") -> LabelledScene:
    """A grey image of 300 x 200 with noise and a red box in it."""
    image = np.random.default_rng(0).integers(90, 110, (200, 300, 3)).astype(np.uint8)
    image[40:80, 100:160] = (220, 30, 40)
    return LabelledScene(dataset, image, [BOX])


def is_red(image: np.ndarray) -> np.ndarray:
    return (image[..., 0] > 150) & (image[..., 1] < 80)


def test_outlines_are_rotated_with_the_image() -> None:
    for degrees in (90, 37):
        turned = rotated(scene_with_box(), degrees)
        rows, columns = np.nonzero(is_red(turned.image))
        (polygon,) = turned.polygons
        assert polygon.area == pytest.approx(BOX.area, rel=1e-6)
        assert len(rows) == pytest.approx(BOX.area, rel=0.03)
        inside = shapely.contains_xy(polygon.buffer(1), columns + 0.5, rows + 0.5)
        assert inside.mean() > 0.999
    assert rotated(scene_with_box(), 90).image.shape == (300, 200, 3)


def test_every_change_leaves_an_image_with_its_object(near_infrared: NearInfrared) -> None:
    for change in CHANGES:
        for dataset in ("fields/val", "buildings/val_kampala"):
            seen = changed(scene_with_box(dataset), change, near_infrared)
            if change[1] in ("fields", "buildings") and not dataset.startswith(change[1]):
                assert seen is None
                continue
            assert seen is not None
            assert seen.image.dtype == np.uint8
            assert seen.image.shape[2] == 3
            assert len(seen.polygons) == 1
            if change[1] != "rotated":
                assert not np.array_equal(seen.image, scene_with_box(dataset).image)


def apply(kind: str, near_infrared: NearInfrared) -> np.ndarray:
    (change,) = [change for change in CHANGES if change[1] == kind]
    seen = changed(scene_with_box(), change, near_infrared)
    assert seen is not None
    return seen.image


def test_one_band_is_grey_and_swapped_bands_keep_their_values(near_infrared: NearInfrared) -> None:
    image = scene_with_box().image
    grey = apply("one band", near_infrared)
    assert np.array_equal(grey[..., 0], grey[..., 1])
    assert np.array_equal(grey[..., 0], grey[..., 2])
    assert grey[60, 130, 0] == int(0.299 * 220 + 0.587 * 30 + 0.114 * 40)
    swapped = apply("swapped", near_infrared)
    assert np.array_equal(swapped[..., 1], image[..., 0])


def test_sixteen_bits_are_stretched_by_the_product(near_infrared: NearInfrared) -> None:
    image = apply("16 bits", near_infrared)
    # The red box is 4 % of the image, so its bright band is above the 98 % and shown as white.
    assert image[45:75, 105:155, 0].min() > 200
    assert image[..., 1].max() == 255
    assert np.median(image[..., 1][~is_red(scene_with_box().image)]) > 80


def test_near_infrared_follows_the_image_it_was_fitted_to(near_infrared: NearInfrared, tmp_path: Path) -> None:
    assert near_infrared.r_squared > 0.999
    image = scene_with_box().image
    band = near_infrared.of(image)
    assert np.abs(band.astype(int) - (255 - image[..., 1])).max() <= 2
    false = apply("false colour", near_infrared)
    assert np.array_equal(false[..., 1], image[..., 0])
    assert np.array_equal(false[..., 2], image[..., 1])
    assert np.array_equal(false[..., 0], band)
    with pytest.raises(RasterError, match=r"naip_virginia.*SOURCES\.md"):
        NearInfrared(tmp_path)


def test_answers_are_those_of_objects_that_are_large_enough() -> None:
    drawn = synthetic_orthophoto(1024, 1024, 0.3, seed=4)
    polygons = [polygon for name, polygon in drawn.objects if name == "building"][:2]
    scene = LabelledScene("x", drawn.image, [shapely.box(5, 5, 12, 12), *polygons])
    answers = first_answers(OnnxMini(MODEL_FOLDER), scene)
    assert set(answers) <= {1, 2}
    assert 1 in answers
    assert all(0 <= iou <= 1 for pair in answers.values() for iou in pair)


def test_changes_are_compared_on_the_same_objects(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robustness, "held_out", lambda *_: [scene_with_box()] * 2)

    def answers(_: OnnxMini, scene: LabelledScene) -> dict[int, tuple[float, float]]:
        plain = scene.image.shape == (200, 300, 3) and is_red(scene.image).any()
        return {0: (0.6, 0.8), 1: (0.2, 0.4)} if plain else {0: (0.5, 0.9)}

    monkeypatch.setattr(robustness, "first_answers", answers)
    figures = measure_changes(data, MODEL_FOLDER)
    assert figures["unchanged"]["fields/val"] == {"click": [0.4, 0.4, 4], "box": [0.6, 0.6, 4]}
    assert figures["fields at 2 m"]["fields/val"] == {"click": [0.5, 0.6, 2], "box": [0.9, 0.8, 2]}
    assert figures["buildings at 0.2 m"] == {}
    lines = robustness_table(figures).splitlines()
    assert lines[0] == "| image | fields, click | fields, box |"
    assert "| unchanged | 0.400 | 0.600 |" in lines
    assert "| fields at 2 m | 0.500 (-0.100), 2 objects | 0.900 (+0.100), 2 objects |" in lines
    assert "| buildings at 0.2 m |  |  |" in lines
