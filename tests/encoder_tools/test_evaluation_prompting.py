"""Positions of simulated prompts, which are reproducible."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from encoder_tools.evaluation.prompting import (
    PromptKind,
    corrective_click,
    deepest_place,
    jittered_box,
    parse_kinds,
)
from geosam_es.core.prompts import Bounds, Point
from geosam_es.errors import PromptError


def test_kinds() -> None:
    assert parse_kinds("point, box,box:0.2,clicks:5,point") == [
        PromptKind("point"),
        PromptKind("box", has_box=True),
        PromptKind("box:0.2", has_box=True, jitter=0.2),
        PromptKind("clicks:5", clicks=5),
    ]


@pytest.mark.parametrize("text", ["", " , ", "polygon", "point:3", "box:2", "box:x", "clicks", "clicks:0", "clicks:99"])
def test_unknown_kinds(text: str) -> None:
    with pytest.raises(PromptError, match="use a comma-separated list of point, box, "):
        parse_kinds(text)


def test_the_deepest_place_is_the_middle() -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:21, 20:51] = True
    assert deepest_place(mask) == (35.5, 15.5)
    # In the widest part of a shape, not at its mean.
    mask[:] = False
    mask[5:8, 0:50] = True
    mask[0:13, 40:53] = True
    assert deepest_place(mask) == (46.5, 6.5)
    assert deepest_place(np.ones((9, 9), bool)) == (4.5, 4.5)


@given(arrays(bool, (9, 11)).filter(np.any))
def test_the_deepest_place_is_inside(mask: np.ndarray) -> None:
    x, y = deepest_place(mask)
    assert mask[int(y), int(x)]


def test_a_correction_goes_to_the_largest_error() -> None:
    truth, found = np.zeros((2, 40, 40), bool)
    truth[5:15, 5:15] = True
    found[5:15, 5:10] = True
    assert corrective_click(truth, found) == Point(12.5, 9.5, True)
    found[20:39, 20:39] = True
    assert corrective_click(truth, found) == Point(29.5, 29.5, False)
    assert corrective_click(truth, truth) is None


def test_jitter_is_bounded_and_reproducible() -> None:
    box = Bounds(10, 20, 110, 70)
    assert jittered_box(box, 0.0, "a") == box
    found = [jittered_box(box, 0.2, str(number)) for number in range(50)]
    assert found == [jittered_box(box, 0.2, str(number)) for number in range(50)]
    assert len(set(found)) == 50
    assert all(-10 <= b.min_x <= 20 and 10 <= b.min_y <= 25 and 100 <= b.max_x <= 130 for b in found)
    assert np.mean([b.width for b in found]) > box.width
