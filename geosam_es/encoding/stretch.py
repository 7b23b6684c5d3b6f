"""The contrast stretch of a whole raster to 8 bits, decided from a sample of its pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.grid import Pyramid, Tiling
from ..core.radiometry import Stretch, percentile_limits
from ..core.window import Window
from ..errors import RasterError
from ..inference.encoder import TILE_SIZE
from .raster import TiledRaster

__all__ = ["decide_stretch"]

_SAMPLES_PER_SIDE = 16
_SAMPLE_SIZE = 64
"""The sample has 16 x 16 windows of this size, which take hardly any time, however large the raster is."""

_SPARSE_STEP = 97
"""If those windows have no data, every 97th pixel with data of the whole raster is taken."""


def decide_stretch(raster: TiledRaster, option: str = "auto") -> Stretch:
    """Decide the stretch of a raster to 8 bits.

    Parameters
    ----------
    raster : TiledRaster
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
    sample = _sample(raster)
    if sample.size == 0:
        raise RasterError("{path} has no pixels with data", "check its nodata value, or set --nodata", path=raster.path)
    if values is not None:
        return Stretch((values,) * 3)
    if option == "none" or (option == "auto" and is_8_bit) or percentiles is None:
        return Stretch()
    return Stretch(tuple(percentile_limits(band, percentiles) for band in sample))


def _parse_pair(option: str, separator: str) -> tuple[float, float] | None:
    """Parse two finite numbers in ascending order; return None if the text is anything else."""
    try:
        low, high = (float(part) for part in option.split(separator))
    except ValueError:
        return None
    return (low, high) if low < high and math.isfinite(low) and math.isfinite(high) else None


def _sample(raster: TiledRaster) -> NDArray[Any]:
    """Read pixels with data (3, N) from the whole extent of the raster."""
    side = _SAMPLES_PER_SIDE * _SAMPLE_SIZE
    if raster.width * raster.height <= side * side:
        return _pixels_with_data(raster, [Window(0, 0, raster.width, raster.height)])
    cols = np.linspace(0, max(0, raster.width - _SAMPLE_SIZE), _SAMPLES_PER_SIDE, dtype=int)
    rows = np.linspace(0, max(0, raster.height - _SAMPLE_SIZE), _SAMPLES_PER_SIDE, dtype=int)
    width, height = min(_SAMPLE_SIZE, raster.width), min(_SAMPLE_SIZE, raster.height)
    found = _pixels_with_data(raster, (Window(int(c), int(r), width, height) for r in rows for c in cols))
    if found.size:
        return found
    whole = Pyramid(raster.width, raster.height, Tiling(TILE_SIZE, 0), levels=1)
    return _pixels_with_data(raster, (whole.window(tile) for tile in whole), _SPARSE_STEP)


def _pixels_with_data(raster: TiledRaster, windows: Iterable[Window], step: int = 1) -> NDArray[Any]:
    found = []
    for window in windows:
        bands, valid = raster.read_bands(window, 1)
        found.append(bands[:, valid][:, ::step])
    return np.concatenate(found, axis=1)
