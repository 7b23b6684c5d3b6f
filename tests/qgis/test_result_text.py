"""What the panel says about a polygon."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import shapely
from qgis.core import QgsCoordinateReferenceSystem
from qgis.PyQt.QtCore import QLocale

from geosam_es.core.prompts import Bounds, Point, Prompts
from geosam_es.gui.panel.result_text import candidate_text, comparison_text, is_uncertain, result_text, result_tip
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


def result(
    geometry: shapely.Geometry,
    level: int = 0,
    score: float = 0.934,
    cells: tuple[int, ...] = (900, 400, 25),
    rank: int = 1,
    box: bool = False,
    tiles: int = 1,
) -> Result:
    """Return a result with masks of so many cells, in the order in which they are shown."""
    masks: Any = tuple(SimpleNamespace(logits=np.where(np.arange(1024) < count, 1.0, -1.0)) for count in cells)
    prompts = Prompts((Point(1.0, 1.0),), Bounds(0.0, 0.0, 9.0, 9.0) if box else None)
    proposal: Any = SimpleNamespace(ranking=tuple(range(len(cells))), masks=(masks,) * tiles, prompts=prompts)
    candidate: Any = SimpleNamespace(score=score, level=level, masks=masks)
    return Result(proposal, rank, candidate, geometry, "mini", 12.3)


def test_area_certainty_and_candidate() -> None:
    assert result_text(result(SQUARE), UTM) == "9,996 m² · sure (0.93) · part"


@pytest.mark.parametrize(
    ("side_m", "area"),
    [
        (0.6, "0.36 m²"),
        (2, "4 m²"),
        (4, "16 m²"),
        (100, "9,996 m²"),
        (100.018, "9,999 m²"),
        (100.02, "1.00 ha"),
        (296.9, "8.81 ha"),
        (5000, "2,498.81 ha"),
    ],
)
def test_a_small_area_has_decimals_and_a_large_one_is_in_hectares(side_m: float, area: str) -> None:
    square = shapely.box(725000, 4372000, 725000 + side_m, 4372000 + side_m)
    text = result_text(result(square), UTM)
    assert text.split(" · ")[0] == area


@pytest.mark.parametrize(("name", "area"), [("en_US", "2,498.81 ha"), ("de_DE", "2.498,81 ha")])
def test_thousands_are_separated_though_qgis_leaves_that_out(name: str, area: str) -> None:
    locale = QLocale(name)
    locale.setNumberOptions(QLocale.NumberOption.OmitGroupSeparator)
    QLocale.setDefault(locale)
    square = shapely.box(725000, 4372000, 730000, 4377000)
    assert result_text(result(square), UTM).startswith(f"{area} · ")


def test_numbers_are_written_as_in_spanish() -> None:
    QLocale.setDefault(QLocale("es_ES"))
    large = shapely.box(720000, 4370000, 725000, 4375000)
    assert result_text(result(large), UTM).startswith("2.49")
    assert " ha · sure (0,93)" in result_text(result(large), UTM)


@pytest.mark.parametrize(
    ("score", "box", "words"),
    [
        (0.93, False, "sure (0.93)"),
        (0.5, False, "sure (0.50)"),
        (0.49, False, "uncertain: draw a box (0.49)"),
        (0.0, True, "uncertain: add points (0.00)"),
    ],
)
def test_a_low_score_says_what_to_do(score: float, box: bool, words: str) -> None:
    one = result(SQUARE, score=score, box=box)
    assert result_text(one, UTM).split(" · ")[1] == words
    assert is_uncertain(one) == (score < 0.5)


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        ((900, 400, 25), ["whole", "part", "sub-part"]),
        ((400, 25, 900), ["part", "sub-part", "whole"]),
        ((400, 400, 25), ["whole", "part", "sub-part"]),
        ((400, 25), ["1/2", "2/2"]),
        ((10, 900, 400, 25), ["1/4", "2/4", "3/4", "4/4"]),
    ],
)
def test_candidates_are_named_by_their_size(cells: tuple[int, ...], names: list[str]) -> None:
    texts = [result_text(result(SQUARE, cells=cells, rank=rank), UTM) for rank in range(len(cells))]
    assert [text.split(" · ")[2] for text in texts] == names


def test_the_only_candidate_has_no_name() -> None:
    one = result(SQUARE, cells=(900,), rank=0)
    assert result_text(one, UTM) == "9,996 m² · sure (0.93)"
    assert candidate_text(one) == ""


def test_candidates_of_several_tiles_are_counted() -> None:
    """A part of the object is on each tile, so sizes on one of them say nothing."""
    assert result_text(result(SQUARE, tiles=2), UTM).endswith(" · 2/3")
    assert candidate_text(result(SQUARE)) == "2/3"


@pytest.mark.parametrize(
    ("level", "detail"), [(-2, "400"), (-1, "200"), (1, "50"), (3, "12.5"), (4, "6.25"), (9, "0.195")]
)
def test_the_detail_that_answered(level: int, detail: str) -> None:
    """It is the size of the image on the screen, as QGIS counts it: 100 % is the native resolution."""
    assert result_text(result(SQUARE, level), UTM).endswith(f" · detail {detail} %")


def test_the_details_are_in_the_tip() -> None:
    tip = "Candidate 2 of 3, expected IoU 0.93, detail 100 %, 12 ms"
    assert result_tip(result(SQUARE)) == tip


def test_nothing_found() -> None:
    nothing = result(shapely.MultiPolygon(), score=0.1)
    assert result_text(nothing, UTM) == "The model finds no object here: add a point or draw a box"
    assert not is_uncertain(nothing)


def test_an_area_that_cannot_be_measured_is_not_shown_as_a_number() -> None:
    """Coordinates in metres with a CRS in degrees, as after a wrong guess."""
    text = result_text(result(SQUARE), QgsCoordinateReferenceSystem("EPSG:4326"))
    assert text == "area unknown: check the CRS of the raster · sure (0.93) · part"


def test_two_decoders_on_two_lines() -> None:
    other = Comparison("<mine>", result(shapely.MultiPolygon()), 0.5, shapely.MultiPolygon())
    lines = comparison_text("original", result(SQUARE), other, UTM, ("#ff0000", "#00ff00")).split("<br>")
    assert lines[0] == '<span style="color:#ff0000">■</span> <b>original</b>: 9,996 m² · sure (0.93) · part'
    assert lines[1] == '<span style="color:#00ff00">■</span> <b>&lt;mine&gt;</b>: no object'
    assert lines[2] == "Agreement (IoU): 50 %"
