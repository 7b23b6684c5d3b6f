"""Conversion of any bands to the 8-bit RGB that encoders take.

The stretch is chosen once per raster and kept in its store, so that all tiles are stretched alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Stretch", "percentile_limits"]

DEFAULT_PERCENTILES = (2.0, 98.0)

_STRIP_PIXELS = 1 << 16


@dataclass(frozen=True)
class Stretch:
    """Linear stretch of three bands to 0..255.

    Attributes
    ----------
    limits : tuple of (float, float), optional
        Values that become 0 and 255, one pair per band; None leaves 8-bit values unchanged.
    sampled_pixels : int, optional
        Pixels that the limits were computed from. It is not kept in the store.
    """

    limits: tuple[tuple[float, float], ...] | None = None
    sampled_pixels: int | None = field(default=None, compare=False)

    def apply(self, bands: NDArray[Any], valid: NDArray[np.bool_], fill: Sequence[int]) -> NDArray[np.uint8]:
        """Stretch bands to an image.

        Parameters
        ----------
        bands : (3, H, W) of any real dtype
        valid : bool (H, W)
            False for pixels without data, which get the fill colour.
        fill : sequence of 3 int

        Returns
        -------
        uint8 (H, W, 3)
        """
        image = np.empty((*bands.shape[1:], len(bands)), dtype=np.uint8)
        for index, band in enumerate(bands):
            if self.limits is None:
                image[..., index] = band
            else:
                _stretch_band(band, *self.limits[index], image[..., index])
        if not valid.all():
            image[~valid] = np.asarray(fill, dtype=np.uint8)
        return image

    def to_json(self) -> list[list[float]] | None:
        """Return the JSON value kept in the store."""
        return None if self.limits is None else [list(pair) for pair in self.limits]


def _stretch_band(band: NDArray[Any], low: float, high: float, out: NDArray[np.uint8]) -> None:
    """Stretch (H, W) into ``out``, in strips that fit into the processor's cache."""
    rows = max(1, _STRIP_PIXELS // max(1, band.shape[1]))
    # float32 for 16-bit integers, float64 for 32-bit integers.
    strip = np.empty((min(rows, len(band)), band.shape[1]), np.result_type(band.dtype, np.float32))
    # The nodata value of a float band may be the largest float.
    with np.errstate(over="ignore"):
        for start in range(0, len(band), rows):
            part = band[start : start + rows]
            scaled = strip[: len(part)]
            np.subtract(part, low, out=scaled, dtype=strip.dtype)
            np.multiply(scaled, 255.0 / (high - low), out=scaled)
            np.rint(scaled, out=scaled)
            np.clip(scaled, 0, 255, out=scaled)
            if part.dtype.kind == "f":
                # NaN cannot be converted to an integer. These pixels get the fill colour later.
                scaled[np.isnan(scaled)] = 0
            out[start : start + rows] = scaled


def percentile_limits(
    values: NDArray[Any], percentiles: tuple[float, float] = DEFAULT_PERCENTILES
) -> tuple[float, float]:
    """Return the stretch limits of one band.

    Parameters
    ----------
    values : (N,) of any real dtype
        Pixels with data; NaN and infinities are ignored.
    percentiles : tuple of float
        Percentiles that become 0 and 255.

    Returns
    -------
    (float, float)
        Low and high, never equal; a constant or empty band becomes black.
    """
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if finite.size == 0:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(finite, percentiles))
    # One is lost in the rounding of a large value.
    return (low, high) if high > low else (low, low + max(1.0, abs(low) / 2**20))
