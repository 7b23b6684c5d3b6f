"""Kinds of simulated prompts, and boxes that are off in a reproducible way."""

from __future__ import annotations

import numpy as np
import pytest

from encoder_tools.evaluation.prompting import PromptKind, jittered_box, parse_kinds
from geosam_es.core.prompts import Bounds
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


def test_jitter_is_bounded_and_reproducible() -> None:
    box = Bounds(10, 20, 110, 70)
    assert jittered_box(box, 0.0, "a") == box
    found = [jittered_box(box, 0.2, str(number)) for number in range(50)]
    assert found == [jittered_box(box, 0.2, str(number)) for number in range(50)]
    assert len(set(found)) == 50
    assert all(-10 <= b.min_x <= 20 and 10 <= b.min_y <= 25 and 100 <= b.max_x <= 130 for b in found)
    assert np.mean([b.width for b in found]) > box.width
