"""What the panel says about a polygon."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import shapely
from qgis.core import QgsCoordinateReferenceSystem
from qgis.PyQt.QtCore import QLocale

from geosam_es.gui.panel.result_text import comparison_text, result_text
from geosam_es.gui.stores.decoder_choice import Comparison
from geosam_es.inference.session import Result

UTM = QgsCoordinateReferenceSystem("EPSG:25830")
SQUARE = shapely.box(725000, 4372000, 725100, 4372100)


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    before = QLocale()
    QLocale.setDefault(QLocale("en_US"))
    yield
    QLocale.setDefault(before)


def result(geometry: shapely.Geometry, level: int = 0) -> Result:
    proposal: Any = SimpleNamespace(ranking=(0, 1, 2))
    candidate: Any = SimpleNamespace(score=0.934, level=level)
    return Result(proposal, 1, candidate, geometry, "mini", 12.3)


def test_score_rank_area_detail_and_time() -> None:
    assert result_text(result(SQUARE), UTM) == "Score 0.93 · 2 of 3 · 9,996 m² · detail 100 % · 12 ms"


@pytest.mark.parametrize(("side_m", "area"), [(0.6, "0.36"), (2, "4"), (4, "16")])
def test_a_small_area_has_decimals(side_m: float, area: str) -> None:
    small = shapely.box(725000, 4372000, 725000 + side_m, 4372000 + side_m)
    assert f" · {area} m² · " in result_text(result(small, -2), UTM)


@pytest.mark.parametrize(
    ("level", "detail"), [(-2, "400"), (-1, "200"), (0, "100"), (1, "50"), (3, "12.5"), (4, "6.25"), (9, "0.195")]
)
def test_the_detail_that_answered(level: int, detail: str) -> None:
    """It is the size of the image on the screen, as QGIS counts it: 100 % is the native resolution."""
    assert f" · detail {detail} % · " in result_text(result(SQUARE, level), UTM)


def test_nothing_found() -> None:
    assert result_text(result(shapely.MultiPolygon()), UTM) == (
        "The model finds no object here: add a point or draw a box"
    )


def test_an_area_that_cannot_be_measured_is_not_shown_as_a_number() -> None:
    """Coordinates in metres with a CRS in degrees, as after a wrong guess."""
    text = result_text(result(SQUARE), QgsCoordinateReferenceSystem("EPSG:4326"))
    assert text == "Score 0.93 · 2 of 3 · area unknown: check the CRS of the raster · detail 100 % · 12 ms"


def test_two_decoders_on_two_lines() -> None:
    other = Comparison("<mine>", result(shapely.MultiPolygon()), 0.5, shapely.MultiPolygon())
    lines = comparison_text("original", result(SQUARE), other, UTM, ("#ff0000", "#00ff00")).split("<br>")
    assert (
        lines[0]
        == '<span style="color:#ff0000">■</span> <b>original</b>: Score 0.93 · 2 of 3 · 9,996 m² · detail 100 %'
    )
    assert lines[1] == '<span style="color:#00ff00">■</span> <b>&lt;mine&gt;</b>: no object'
    assert lines[2] == "Agreement (IoU): 50 %"
