"""Simulated prompts for evaluation, which are the same every time.

Masks are on a grid of pixels. Positions are (column, row) in pixels of that grid; (0.5, 0.5) is the middle of the first
pixel.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geosam_es.core.prompts import Bounds, Point
from geosam_es.errors import PromptError

from ..training import simulated_user
from ..training.simulated_user import cell_centre, jitter_box, middle_cell

__all__ = ["MOST_CLICKS", "PromptKind", "corrective_click", "deepest_place", "jittered_box", "parse_kinds"]

MOST_CLICKS = 20
_REMEDY = "use a comma-separated list of point, box, box:0.1 (sides off by up to 10 %) and clicks:5"

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class PromptKind:
    """How a simulated user prompts an object.

    Attributes
    ----------
    name : str
        ``point``, ``box``, ``box:0.1`` or ``clicks:5``, as the user wrote it.
    has_box : bool
        Prompt with a box instead of a click.
    jitter : float
        Largest error of each side of the box, as a share of its width and height.
    clicks : int
        Number of clicks; those after the first one correct the previous mask.
    """

    name: str
    has_box: bool = False
    jitter: float = 0.0
    clicks: int = 1


def parse_kinds(text: str) -> list[PromptKind]:
    """Parse kinds of prompts.

    Raises
    ------
    PromptError
        If a kind is unknown.

    Examples
    --------
    >>> [kind.clicks for kind in parse_kinds("point,clicks:5")]
    [1, 5]
    """
    names = [part.strip() for part in text.split(",") if part.strip()]
    kinds = [_parse(name) for name in dict.fromkeys(names)]
    if not kinds:
        raise PromptError("No prompts were given", _REMEDY)
    return kinds


def _parse(name: str) -> PromptKind:
    word, _, value = name.partition(":")
    try:
        if word == "point" and not value:
            return PromptKind(name)
        if word == "box":
            jitter = float(value) if value else 0.0
            if 0.0 <= jitter <= 1.0:
                return PromptKind(name, has_box=True, jitter=jitter)
        if word == "clicks" and 1 <= int(value) <= MOST_CLICKS:
            return PromptKind(name, clicks=int(value))
    except ValueError:
        pass
    raise PromptError(f"{name} is not a kind of prompts", _REMEDY)


def deepest_place(mask: Mask) -> tuple[float, float]:
    """Return the position of the first click: the middle of the pixel farthest from the border of the mask.

    Of several such pixels, it is the one nearest to their mean. The edge of the array counts as border.

    Parameters
    ----------
    mask : bool (H, W)
        Not empty.

    Returns
    -------
    (float, float)
        Column and row.
    """
    return cell_centre(middle_cell(mask), 1)


def corrective_click(truth: Mask, predicted: Mask) -> Point | None:
    """Return the next corrective click: in the middle of the largest wrong region.

    Returns
    -------
    Point or None
        Positive in a missed region, negative in a superfluous one; None if the masks are equal.
    """
    found = simulated_user.corrective_click(truth, predicted)
    if found is None:
        return None
    cell, is_positive = found
    return Point(*cell_centre(cell, 1), is_positive)


def jittered_box(box: Bounds, amount: float, seed: str) -> Bounds:
    """Move each side of a box randomly by up to ``amount`` of its width or height, at most half as far inwards.

    Parameters
    ----------
    box : Bounds
    amount : float
        0 leaves the box unchanged.
    seed : str
        The same seed gives the same box on every machine.
    """
    if amount == 0:
        return box
    rng = np.random.default_rng(zlib.crc32(seed.encode()))
    return Bounds(*jitter_box(np.array(box), rng, amount).tolist())
