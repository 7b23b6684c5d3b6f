"""Kinds of simulated prompts, which are the same every time."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from geosam_es.core.prompts import Bounds
from geosam_es.errors import PromptError

from ..training.simulated_user import jitter_box

__all__ = ["MOST_CLICKS", "PromptKind", "jittered_box", "parse_kinds"]

MOST_CLICKS = 20
_REMEDY = "use a comma-separated list of point, box, box:0.1 (sides off by up to 10 %) and clicks:5"


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
    raise PromptError(f"{name} is not a valid kind of prompts", _REMEDY)


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
