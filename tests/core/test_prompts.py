from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geosam_es.core.geotransform import GeoTransform
from geosam_es.core.prompts import Bounds, Point, Prompts
from geosam_es.errors import PromptError


def test_arrays_follow_sams_convention() -> None:
    prompts = Prompts((Point(1, 2), Point(3, 4, positive=False)), Bounds(5, 6, 7, 8))
    coords, labels = prompts.to_arrays()
    assert coords.tolist() == [[[1, 2], [3, 4], [5, 6], [7, 8]]]
    assert labels.tolist() == [[1, 0, 2, 3]]
    assert coords.dtype == labels.dtype == "float32"


def test_padding_point_stands_in_for_the_box() -> None:
    _, labels = Prompts((Point(1, 2),)).to_arrays()
    assert labels.tolist() == [[1, -1]]


def test_positive_bounds_leave_negative_points_out() -> None:
    prompts = Prompts((Point(1, 2), Point(-9, 99, positive=False)), Bounds(5, 6, 7, 8))
    assert prompts.positive_bounds == (1, 2, 7, 8)
    with pytest.raises(PromptError, match="no positive point"):
        _ = Prompts((Point(1, 2, positive=False),)).positive_bounds


def test_only_a_single_click_is_ambiguous() -> None:
    assert Prompts((Point(1, 2),)).is_ambiguous
    assert not Prompts((Point(1, 2), Point(2, 3))).is_ambiguous
    assert not Prompts((Point(1, 2),), Bounds(0, 0, 4, 4)).is_ambiguous


def test_within_keeps_what_lies_inside_and_cuts_the_box() -> None:
    prompts = Prompts((Point(1, 1), Point(20, 1)), Bounds(5, 5, 30, 8))
    part = prompts.within(Bounds(0, 0, 10, 10))
    assert part.points == (Point(1, 1),)
    assert part.box == (5, 5, 10, 8)
    assert prompts.within(Bounds(0, 0, 4, 4)).box is None


def test_a_box_turned_by_a_right_angle_is_upright() -> None:
    prompts = Prompts(box=Bounds(0, 0, 2, 1)).transformed(lambda x, y: (-y, x))
    assert prompts.box == (-1, 0, 0, 2) and prompts.turned_box is None
    assert prompts.to_json() == {"box": [-1, 0, 0, 2]}


@given(st.floats(-180, 180), st.floats(1, 200), st.floats(1, 200))
def test_a_box_on_a_rotated_raster_comes_back_as_it_was(degrees: float, width: float, height: float) -> None:
    cosine, sine = 0.25 * math.cos(math.radians(degrees)), 0.25 * math.sin(math.radians(degrees))
    to_map = GeoTransform(cosine, sine, 725_000.0, sine, -cosine, 4_372_000.0)
    native = Bounds(40, 30, 40 + width, 30 + height)
    kept = Prompts((Point(1, 2),), native).transformed(to_map.apply)
    again = Prompts.from_json(json.loads(json.dumps(kept.to_json())))
    assert kept.box == Bounds.around(to_map.apply(x, y) for x, y in native.corners)
    assert again.transformed(to_map.inverse().apply).box == pytest.approx(native, abs=0.01)
    # The box of the decoder is upright in pixels, whatever it is on the map.
    assert again.with_box(native).turned_box is None and again.within(Bounds(0, 0, 1e7, 1e7)).turned_box is None


coordinates = st.floats(-1e7, 1e7).map(lambda value: round(value, 3))
points = st.builds(Point, coordinates, coordinates, st.booleans())
boxes = st.builds(lambda x, y: Bounds(x, y, round(x + 10, 3), round(y + 20, 3)), coordinates, coordinates)
prompt_sets = st.builds(Prompts, st.lists(points, max_size=6).map(tuple), st.none() | boxes).filter(len)


@given(prompt_sets)
def test_prompts_survive_json(prompts: Prompts) -> None:
    assert Prompts.from_json(json.loads(json.dumps(prompts.to_json()))) == prompts


def test_json_is_compact_and_readable() -> None:
    prompts = Prompts((Point(725001.2500001, 4372002), Point(725003, 4372004, False)), Bounds(0, 0, 725010, 10))
    assert prompts.to_json() == {"points": [[725001.25, 4372002, 1], [725003, 4372004, 0]], "box": [0, 0, 725010, 10]}
    assert '"box":[0,0,725010,10]' in json.dumps(prompts.to_json(), separators=(",", ":"))
    assert Prompts(prompts.points).to_json(1)["points"][0] == [725001.3, 4372002, 1]


def test_degrees_keep_their_decimals() -> None:
    (point,) = Prompts.from_json(Prompts((Point(-0.376288123, 39.469907456),)).to_json()).points
    assert (point.x, point.y) == pytest.approx((-0.376288123, 39.469907456), abs=1e-8)


def test_unknown_keys_are_ignored() -> None:
    assert Prompts.from_json({"points": [[1, 2, 1]], "level": 3, "box": None}) == Prompts((Point(1, 2),))


@pytest.mark.parametrize(
    "record",
    [
        *(None, 5, "ab", [], {}, {"points": 5}, {"points": []}, {"points": [[1, 2]]}, {"points": ["abc"]}),
        *({"points": [[float("nan"), 1, 1]]}, {"points": [[1, float("inf"), 1]]}, {"points": [[1, 10**400, 1]]}),
        *({"points": [[1, 2, 2]]}, {"points": [[1, 2, "1"]]}, {"points": [["1", 2, 1]]}, {"points": [[True, 2, 1]]}),
        *({"box": [1, 2, 3]}, {"box": "abcd"}, {"box": [0, 0, float("nan"), 1]}, {"box": [5, 0, 1, 1]}),
        *({"box": [0, 0, 1, 0, 1, 1, 0]}, {"box": [0, 0, 1, 0, 1, 1, 0, None]}),
    ],
)
def test_anything_else_is_refused(record: Any) -> None:
    with pytest.raises(PromptError, match="cannot be read: start again with a click"):
        Prompts.from_json(record)


@given(st.lists(st.tuples(st.floats(0, 1e3), st.floats(0, 1e3), st.booleans()), max_size=120), st.integers(2, 40))
def test_thinned_points_are_a_balanced_subset(points: list[tuple[float, float, bool]], most: int) -> None:
    prompts = Prompts(tuple(Point(*point) for point in points), Bounds(0, 0, 1, 1))
    thin = prompts.thinned(most)
    assert thin.box == prompts.box and set(thin.points) <= set(prompts.points)
    assert len(thin.points) == min(most, len(points))
    for kind in (True, False):
        given_count = sum(point.positive is kind for point in prompts.points)
        assert sum(point.positive is kind for point in thin.points) >= min(given_count, most // 2)
    assert thin == prompts.thinned(most)


def test_thinned_points_are_spread() -> None:
    """Most points lie in one corner."""
    crowd = tuple(Point(x / 100, 0) for x in range(100))
    corners = (Point(100, 0), Point(0, 100), Point(100, 100))
    assert set(corners) < set(Prompts(crowd + corners).thinned(4).points)
