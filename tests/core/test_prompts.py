from __future__ import annotations

import pytest

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


def test_rotated_box_becomes_the_rectangle_around_it() -> None:
    prompts = Prompts(box=Bounds(0, 0, 2, 1)).transformed(lambda x, y: (-y, x))
    assert prompts.box == (-1, 0, 0, 2)
