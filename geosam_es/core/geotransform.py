"""Affine transforms between pixels and map coordinates.

The convention is that of rasterio: pixel coordinates are (column, row) floats with (0, 0) at the upper left corner of
the upper left pixel. The centre of that pixel is (0.5, 0.5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

__all__ = ["GeoTransform"]

Geometry = TypeVar("Geometry", bound=BaseGeometry)

_LARGEST_COORDINATE = 1e12
_LARGEST_INVERSE = 1e18


class GeoTransform(NamedTuple):
    """Affine map from pixel to map coordinates, with the coefficients in rasterio's order.

    ``x = a * col + b * row + c`` and ``y = d * col + e * row + f``.

    Examples
    --------
    >>> transform = GeoTransform(0.5, 0.0, 1000.0, 0.0, -0.5, 2000.0)
    >>> transform.apply(4, 2)
    (1002.0, 1999.0)
    >>> transform.inverse().apply(1002.0, 1999.0)
    (4.0, 2.0)
    """

    a: float
    b: float
    c: float
    d: float
    e: float
    f: float

    @classmethod
    def from_sequence(cls, values: Sequence[float]) -> GeoTransform:
        """Return the transform of the first six numbers of a sequence in rasterio's order."""
        a, b, c, d, e, f = (float(value) for value in values[:6])
        return cls(a, b, c, d, e, f)

    @property
    def determinant(self) -> float:
        """Signed area of a pixel in square map units."""
        return self.a * self.e - self.b * self.d

    @property
    def pixel_size(self) -> float:
        """Side in map units of a square of the area of a pixel."""
        return math.sqrt(abs(self.determinant))

    def is_usable(self, width: int, height: int) -> bool:
        """Tell whether an image of this size gets finite coordinates, and each of them belongs to one pixel."""
        corners = [self.apply(col, row) for col in (0, width) for row in (0, height)]
        # Written so that NaN fails.
        if not all(
            abs(value) <= _LARGEST_COORDINATE for value in (*self, *(xy for corner in corners for xy in corner))
        ):
            return False
        return self.determinant != 0 and all(abs(value) < _LARGEST_INVERSE for value in self.inverse())

    def apply(self, col: float, row: float) -> tuple[float, float]:
        """Map one pixel position to map coordinates."""
        return self.a * col + self.b * row + self.c, self.d * col + self.e * row + self.f

    def apply_array(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map positions (N, 2) to map coordinates (N, 2)."""
        matrix = np.array([[self.a, self.d], [self.b, self.e]])
        result: NDArray[np.float64] = np.asarray(xy, dtype=np.float64) @ matrix + (self.c, self.f)
        return result

    def apply_geometry(self, geometry: Geometry) -> Geometry:
        """Map a geometry in pixel coordinates to map coordinates."""
        mapped: Geometry = shapely.transform(geometry, self.apply_array)
        return mapped

    def inverse(self) -> GeoTransform:
        """Return the map from map coordinates to pixels.

        Raises
        ------
        ZeroDivisionError
            If the pixels have no area.
        """
        k = 1.0 / self.determinant
        a, b, d, e = self.e * k, -self.b * k, -self.d * k, self.a * k
        return GeoTransform(a, b, -a * self.c - b * self.f, d, e, -d * self.c - e * self.f)
