"""The judge of the sweep accepts the disc, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import shapely

from tests.encoder_tools.sweep import vectors
from tests.encoder_tools.sweep.rasters import CRSS
from tests.encoder_tools.sweep.scene import (
    UTM,
    judge,
    layer,
)
from tests.encoder_tools.sweep.vectors import SCENE

pytestmark = pytest.mark.filterwarnings("ignore")


def written(geometry: Any, crs: str = UTM, area: float | None = None, copies: int = 1) -> str:
    area = SCENE.area_m2() if area is None else area
    return layer("o.gpkg", [geometry] * copies, crs, fields={"area_m2": [area] * copies})


def test_the_judge_accepts_the_disc_in_any_crs() -> None:
    judge(written(SCENE.on_map()), SCENE)
    Path("o.gpkg").unlink()
    judge(written(SCENE.on_map("EPSG:3035"), "EPSG:3035"), SCENE, "EPSG:3035")


@pytest.mark.parametrize(
    "wrong",
    {
        "shifted by 1.5 px": lambda: written(shapely.affinity.translate(SCENE.on_map(), 0.75)),
        "larger by 3 %": lambda: written(shapely.affinity.scale(SCENE.on_map(), 1.03, 1.03)),
        "half of it": lambda: written(shapely.affinity.scale(SCENE.on_map(), 0.5, 1)),
        "zone of another name": lambda: written(SCENE.on_map(), "EPSG:25829"),
        "area of the plane of Mercator": lambda: written(SCENE.on_map(), area=SCENE.area_m2() * 1.6),
        "negative area": lambda: written(SCENE.on_map(), area=-SCENE.area_m2()),
        "area off by 4 %": lambda: written(SCENE.on_map(), area=SCENE.area_m2() * 1.04),
        "two polygons": lambda: written(SCENE.on_map(), copies=2),
        "crossing itself": lambda: written(vectors.crossed()),
        "degrees in a file of metres": lambda: written(SCENE.on_map("EPSG:4326")),
        "an empty file": lambda: written(SCENE.on_map(), copies=0),
        "a line": lambda: written(SCENE.on_map().exterior),
    }.items(),
    ids=lambda item: item[0],
)
def test_the_judge_rejects(wrong: tuple[str, Callable[[], str]]) -> None:
    path = wrong[1]()
    with pytest.raises(AssertionError):
        judge(path, SCENE)


def test_the_judge_rejects_the_zone_of_another_name_when_it_is_asked_for() -> None:
    with pytest.raises(AssertionError):
        judge(written(SCENE.on_map(), "EPSG:25829"), SCENE, "EPSG:25829")


def test_area_of_the_truth_at_the_antimeridian_and_in_feet() -> None:
    for scene in (CRSS["longitudes across 180, to 360"](), CRSS["Fiji across 180"](), CRSS["US survey feet"]()):
        pixel = pyproj.CRS(scene.crs).axis_info[0].unit_conversion_factor if "4326" not in str(scene.crs) else 111320
        plane = np.pi * (60 * scene.transform.a * pixel) ** 2
        assert scene.area_m2() == pytest.approx(plane, rel=0.06)
