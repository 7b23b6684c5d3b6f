"""Synthetic orthophotos: reproducible, valid, and really showing their objects."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from rasterio import features

from encoder_tools.synthetic import SyntheticScene, synthetic_orthophoto
from geosam_es.errors import RasterError


@pytest.fixture(scope="module")
def scene() -> SyntheticScene:
    return synthetic_orthophoto(768, 1024, 0.35, seed=11)


def test_the_same_seed_gives_the_same_scene(scene: SyntheticScene) -> None:
    again = synthetic_orthophoto(768, 1024, 0.35, seed=11)
    assert np.array_equal(scene.image, again.image)
    assert [(name, polygon.wkb) for name, polygon in scene.objects] == [
        (name, polygon.wkb) for name, polygon in again.objects
    ]


def test_another_seed_gives_another_scene(scene: SyntheticScene) -> None:
    assert not np.array_equal(scene.image, synthetic_orthophoto(768, 1024, 0.35, seed=12).image)


@pytest.mark.parametrize(
    ("height", "width", "pixel", "seed"), [(200, 333, 0.1, 1), (512, 256, 1.0, 2), (640, 640, 5.0, 3), (64, 64, 0.3, 4)]
)
def test_every_object_is_a_valid_polygon_inside_the_image(height: int, width: int, pixel: float, seed: int) -> None:
    scene = synthetic_orthophoto(height, width, pixel, seed)
    assert scene.image.shape == (height, width, 3)
    assert scene.image.dtype == np.uint8
    for name, polygon in scene.objects:
        assert name in {"field", "road", "building", "tree", "water"}
        assert polygon.geom_type == "Polygon"
        assert polygon.is_valid
        x0, y0, x1, y1 = polygon.bounds
        assert x0 >= 0
        assert y0 >= 0
        assert x1 <= width
        assert y1 <= height


def test_a_country_scene_has_every_class() -> None:
    kinds = Counter(name for name, _ in synthetic_orthophoto(1500, 2000, 0.3, seed=1).objects)
    assert set(kinds) == {"field", "road", "building", "tree", "water"}
    assert kinds["field"] >= 10
    assert kinds["building"] >= 10


def test_the_outlines_fit_what_is_painted(scene: SyntheticScene) -> None:
    """Water and fields differ in colour from a ring around them more often than not."""
    image = scene.image.astype(float)
    contrasts = []
    for name, polygon in scene.objects:
        if name not in {"water", "building"} or polygon.area < 150:
            continue
        inside = features.rasterize([polygon.buffer(-1)], image.shape[:2], dtype="uint8").astype(bool)
        ring = features.rasterize([polygon.buffer(6).difference(polygon.buffer(2))], image.shape[:2]).astype(bool)
        contrasts.append(np.abs(image[inside].mean(0) - image[ring].mean(0)).max())
    assert len(contrasts) > 3
    assert np.median(contrasts) > 15


@pytest.mark.parametrize(("height", "pixel"), [(32, 0.3), (100, 0.0), (100, float("nan")), (100, 1000.0)])
def test_impossible_sizes_are_refused(height: int, pixel: float) -> None:
    with pytest.raises(RasterError):
        synthetic_orthophoto(height, 100, pixel, seed=1)


def test_it_needs_neither_torch_nor_scipy() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['scipy'] = None;"
        "from encoder_tools.synthetic import synthetic_orthophoto; synthetic_orthophoto(128, 128, 0.3, 1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
