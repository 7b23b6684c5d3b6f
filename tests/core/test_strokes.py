from __future__ import annotations

import pytest
import shapely

from geosam_es.core.strokes import brushed_area, is_loop, looped_area, scribble_points

CIRCLE = shapely.Point(50, 50).buffer(20).exterior.coords


@pytest.mark.parametrize(
    ("stroke", "closed"),
    [
        (CIRCLE[:-6], True),
        (CIRCLE[: len(CIRCLE) // 2], False),
        ([(0, 0), (100, 0)], False),
        ([(0, 0), (0, 0)], False),
        ([(0, 0), (100, 0), (0, 0)], False),
        ([(0, 0), (100, 100), (100, 0), (0, 100), (0, 5)], True),
    ],
    ids=["nearly closed", "half a circle", "straight", "a press", "forth and back", "an eight"],
)
def test_a_stroke_that_comes_back_is_a_loop(stroke: list[tuple[float, float]], closed: bool) -> None:
    assert is_loop(shapely.LineString(stroke)) is closed


def test_the_region_of_a_loop() -> None:
    area = looped_area(shapely.LineString(CIRCLE[:-6]))
    assert area.area == pytest.approx(shapely.Polygon(CIRCLE).area, rel=0.03)
    eight = looped_area(shapely.LineString([(0, 0), (100, 100), (100, 0), (0, 100), (0, 5)]))
    assert eight.is_valid and eight.area == pytest.approx(5000, rel=0.01)


def test_points_of_a_scribble() -> None:
    points = scribble_points(shapely.LineString([(0, 0), (50, 0), (50, 50)]), positive=False)
    assert points == [(10, 0, False), (30, 0, False), (50, 0, False), (50, 20, False), (50, 40, False)]
    assert scribble_points(shapely.LineString([(3, 4), (3, 4)])) == [(3, 4, True)] * 5


def test_what_a_brush_covers() -> None:
    line = shapely.LineString([(0, 0), (100, 0), (100, 100)])
    covered = brushed_area(line, 5)
    assert covered.is_valid and covered.area == pytest.approx(2000 + 78, rel=0.02)
    assert brushed_area(shapely.LineString([(3, 4), (3, 4)]), 5).area == pytest.approx(78, rel=0.02)
    small = brushed_area(shapely.affinity.scale(line, 1e-5, 1e-5, origin=(0, 0)), 5e-5, 1e-5)
    assert small.area == pytest.approx(covered.area * 1e-10)
