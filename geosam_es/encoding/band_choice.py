"""Which bands of a raster are encoded, and which of its masks tell where they have data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import RasterError
from ..store.raster_name import RasterPath
from .raster_file import BandInfo

__all__ = ["alpha_band", "choose_bands", "masked_bands"]


def choose_bands(path: RasterPath, infos: Sequence[BandInfo], bands: Sequence[int] | None) -> tuple[int, int, int]:
    """Return the bands to use as red, green and blue, counted from 1: those that the user named, or by their colours.

    Raises
    ------
    RasterError
        If the raster does not have them, or their values are complex.
    """
    if bands is None:
        bands = _default_bands(infos)
    if len(bands) == 1:
        bands = [bands[0]] * 3
    if len(bands) != 3:
        raise RasterError("--bands needs one band or three, not {count}", "write them as in 4,1,2", count=len(bands))
    missing = [band for band in bands if not 1 <= band <= len(infos)]
    if missing:
        raise RasterError(
            "There is no band {band} in {path}, which has {count} band(s)",
            "correct --bands",
            path=path,
            count=len(infos),
            band=missing[0],
        )
    if any(np.dtype(infos[band - 1].dtype).kind == "c" for band in bands):
        raise RasterError(
            "{path} has complex values, which cannot be encoded", "compute an amplitude image first", path=path
        )
    return bands[0], bands[1], bands[2]


def masked_bands(infos: Sequence[BandInfo], bands: Sequence[int]) -> list[int]:
    """Return the bands whose masks to read: one if all share a mask, none if all pixels are valid.

    GDAL makes masks of an alpha band, unless the user named it: then it is data, such as near infrared.
    """
    flags = {band: infos[band - 1].masks for band in sorted(set(bands))}
    if _names_alpha(infos, bands) and any("alpha" in masks for masks in flags.values()):
        return []
    shared = [band for band in flags if "per_dataset" in flags[band]]
    own = [band for band in flags if "all_valid" not in flags[band]]
    return shared[:1] or (own if len(own) == len(flags) else [])


def alpha_band(infos: Sequence[BandInfo], bands: Sequence[int]) -> int | None:
    """Return the alpha band, unless it is a chosen band, or the masks of the chosen bands are made of it.

    GDAL makes masks of an alpha band only if it is the last of two or four bands and there is no nodata value.
    """
    if _names_alpha(infos, bands):
        return None
    found = [index for index, info in enumerate(infos, start=1) if info.colour == "alpha"]
    return found[0] if found and not any("alpha" in infos[band - 1].masks for band in bands) else None


def _names_alpha(infos: Sequence[BandInfo], bands: Sequence[int]) -> bool:
    return any(infos[band - 1].colour == "alpha" for band in bands)


def _default_bands(infos: Sequence[BandInfo]) -> list[int]:
    colours = [info.colour for info in infos]
    wanted = ["red", "green", "blue"]
    if all(colour in colours for colour in wanted):
        return [colours.index(colour) + 1 for colour in wanted]
    data = [index + 1 for index, colour in enumerate(colours) if colour != "alpha"]
    return data[:3] if len(data) >= 3 else data[:1]
