"""Rectangles of pixels.

The convention is that of rasterio's ``Window``: offsets and sizes in pixels, columns before rows. Right and lower
bounds are exclusive.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Window"]


class Window(NamedTuple):
    """A rectangle of pixels.

    Examples
    --------
    >>> Window(0, 0, 10, 10).intersection(Window(6, 8, 10, 10))
    Window(col_off=6, row_off=8, width=4, height=2)
    """

    col_off: int
    row_off: int
    width: int
    height: int

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """Return (min column, min row, max column, max row), the last two exclusive."""
        return self.col_off, self.row_off, self.col_off + self.width, self.row_off + self.height

    def scaled(self, factor: float) -> Window:
        """Return the same rectangle in pixels that are ``factor`` times smaller; its edges must be whole pixels."""
        return Window(*(int(value * factor) for value in self))

    def intersection(self, other: Window) -> Window:
        """Return the common pixels; width or height is 0 if there are none."""
        left, top, right, bottom = self.bounds
        other_left, other_top, other_right, other_bottom = other.bounds
        col, row = max(left, other_left), max(top, other_top)
        return Window(col, row, max(0, min(right, other_right) - col), max(0, min(bottom, other_bottom) - row))
