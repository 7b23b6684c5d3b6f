"""The contrast stretch of a whole raster to 8 bits, decided from a sample of its pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.radiometry import Stretch, percentile_limits
from ..core.window import Window
from ..errors import RasterError
from .raster_source import RasterSource

__all__ = ["decide_stretch"]

_SAMPLE_SIZE = 64
_COARSEST_GRID = 16
_SAMPLE_GRIDS = ((_COARSEST_GRID, 0.5), (64, 0.125))
"""Grids of windows of this size, spread over the raster: the windows along a side, and the share of their pixels that
must have data. With less data the sample would come from a few places only."""

_SCAN_WINDOW = (512, 8192)
"""Rows and columns read at once where the whole raster is searched for data."""

_MOST_PIXELS = 1 << 20


def decide_stretch(raster: RasterSource, option: str = "auto") -> Stretch:
    """Decide the stretch of a raster to 8 bits.

    Parameters
    ----------
    raster : RasterSource
    option : str
        ``auto`` (none for 8-bit data, else the 2nd to 98th percentile), ``none``, percentiles as in ``2,98``, or values
        as in ``0:4000``.

    Returns
    -------
    Stretch

    Raises
    ------
    RasterError
        If the option is invalid or does not suit the data, or the whole raster has no data.
    """
    is_8_bit = raster.dtype == np.uint8
    if option == "none" and not is_8_bit:
        raise RasterError(
            "{path} is {dtype}, which needs a stretch",
            "omit --stretch none",
            path=raster.path,
            dtype=raster.dtype,
        )
    values = _parse_pair(option, ":")
    percentiles = (2.0, 98.0) if option in ("auto", "none") else _parse_pair(option, ",")
    if (values is None and percentiles is None) or (percentiles and not 0 <= percentiles[0] < percentiles[1] <= 100):
        raise RasterError(
            "--stretch {option} is not valid",
            "use auto, none, two percentiles as in 2,98 or two values as in 0:4000",
            option=option,
        )
    if values is not None or option == "none" or (option == "auto" and is_8_bit) or percentiles is None:
        if not _has_data(raster):
            raise _no_data(raster)
        return Stretch() if values is None else Stretch((values,) * 3)
    sample = _sample(raster)
    if sample.size == 0:
        raise _no_data(raster)
    return Stretch(tuple(percentile_limits(band, percentiles) for band in sample), sample.shape[1])


def _no_data(raster: RasterSource) -> RasterError:
    return RasterError("{path} has no pixels with data", "check its nodata value, or set --nodata", path=raster.path)


def _parse_pair(option: str, separator: str) -> tuple[float, float] | None:
    """Parse two finite numbers in ascending order; return None if the text is anything else."""
    try:
        low, high = (float(part) for part in option.split(separator))
    except ValueError:
        return None
    return (low, high) if low < high and math.isfinite(low) and math.isfinite(high) else None


def _has_data(raster: RasterSource) -> bool:
    return any(
        raster.read_valid(window).any()
        for windows in (_grid(raster, _COARSEST_GRID), _scan(raster))
        for window in windows
    )


def _sample(raster: RasterSource) -> NDArray[Any]:
    """Read pixels with data (3, N) from the whole extent of the raster.

    Every pixel with data has the same chance, wherever the data are. The sample is the same with any library, because
    only native pixels are read.
    """
    area = raster.width * raster.height
    for side, least_share in _SAMPLE_GRIDS:
        # A finer grid is worth its many small windows only if it is far less than the raster.
        if side > _COARSEST_GRID and area < 16 * (side * _SAMPLE_SIZE) ** 2:
            break
        windows = _grid(raster, side)
        found, count = _every_nth(raster, windows)
        if len(windows) == 1 or count >= least_share * sum(window.width * window.height for window in windows):
            return found
    return _every_nth(raster, (window for window in _scan(raster) if raster.read_valid(window).any()))[0]


def _grid(raster: RasterSource, side: int) -> list[Window]:
    """Return windows spread over the raster, or one with all of a small raster."""
    if raster.width * raster.height <= (side * _SAMPLE_SIZE) ** 2:
        return [Window(0, 0, raster.width, raster.height)]
    cols = np.linspace(0, max(0, raster.width - _SAMPLE_SIZE), side, dtype=int)
    rows = np.linspace(0, max(0, raster.height - _SAMPLE_SIZE), side, dtype=int)
    width, height = min(_SAMPLE_SIZE, raster.width), min(_SAMPLE_SIZE, raster.height)
    return [Window(int(c), int(r), width, height) for r in rows for c in cols]


def _scan(raster: RasterSource) -> Iterator[Window]:
    """Yield windows that cover the raster."""
    height, width = _SCAN_WINDOW
    for row in range(0, raster.height, height):
        for col in range(0, raster.width, width):
            yield Window(col, row, min(width, raster.width - col), min(height, raster.height - row))


def _every_nth(raster: RasterSource, windows: Iterable[Window]) -> tuple[NDArray[Any], int]:
    """Read every nth pixel with data, at most `_MOST_PIXELS`, and count all of them."""
    found = [np.empty((3, 0), raster.dtype)]
    kept, seen, step = 0, 0, 1
    for window in windows:
        pixels = raster.read_values(window)
        found.append(pixels[:, -seen % step :: step].copy())
        kept += found[-1].shape[1]
        seen += pixels.shape[1]
        while kept > _MOST_PIXELS:
            # A step that no power of two divides does not fall on the same columns of every window.
            found, step = [np.concatenate(found, axis=1)[:, ::3].copy()], step * 3
            kept = found[0].shape[1]
    return np.concatenate(found, axis=1), seen
