"""What a check of a coverage finds, in words."""

from __future__ import annotations

from ..core.coverage_check import Kind
from .messages import tr

__all__ = ["kind_text", "remedy_text"]


def kind_text(kind: Kind) -> str:
    """Return the name of a kind of finding."""
    return {
        Kind.INVALID: tr("Invalid polygon"),
        Kind.OVERLAP: tr("Overlap"),
        Kind.GAP: tr("Gap"),
        Kind.BORDER: tr("Border with different vertices"),
        Kind.SLIVER: tr("Sliver"),
        Kind.SMALL: tr("Below the minimum area"),
        Kind.SAME_CLASS: tr("Neighbours of the same class"),
    }[kind]


def remedy_text(kind: Kind) -> str:
    """Return what the remedy of a finding does."""
    join = tr("join it to the neighbour with the longest border")
    return {
        Kind.INVALID: tr("repair the polygon"),
        Kind.OVERLAP: tr("leave the ground to the smallest of the polygons"),
        Kind.GAP: tr("fill it from the neighbour with the longest border"),
        Kind.BORDER: tr("give both sides the same vertices"),
        Kind.SLIVER: join,
        Kind.SMALL: join,
        Kind.SAME_CLASS: tr("merge the polygons"),
    }[kind]
