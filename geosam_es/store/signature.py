"""The signature: what must be equal for a store to fit a raster, a model and a set of options."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.window import Window
from ..errors import SignatureMismatchError
from .layout import RasterInfo, StoreMetadata

__all__ = ["check_signature", "pixel_fingerprint", "raster_signature", "signature"]

_SAMPLES_PER_SIDE = 4
_SAMPLE_SIZE = 32
_TRANSFORM_DECIMALS = 9


def pixel_fingerprint(width: int, height: int, bands: int, read: Callable[[Window], NDArray[Any]]) -> str:
    """Return a hash that knows a raster by its pixels.

    Sixteen windows of native pixels, evenly spread, are hashed with the size and the band count. The file's bytes
    are not, so that adding overviews, statistics or another tiling leaves the fingerprint as it is.

    Parameters
    ----------
    width, height, bands : int
        Native size and band count.
    read : callable
        Returns the native pixels (bands, h, w) of a window in the raster's own type.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(f"{width} {height} {bands}".encode())
    for window in _sample_windows(width, height):
        pixels = np.ascontiguousarray(read(window))
        digest.update(pixels.dtype.name.encode())
        digest.update(pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def _sample_windows(width: int, height: int) -> Iterator[Window]:
    for row in range(_SAMPLES_PER_SIDE):
        for col in range(_SAMPLES_PER_SIDE):
            window_width, window_height = min(_SAMPLE_SIZE, width), min(_SAMPLE_SIZE, height)
            yield Window(
                col * (width - window_width) // (_SAMPLES_PER_SIDE - 1),
                row * (height - window_height) // (_SAMPLES_PER_SIDE - 1),
                window_width,
                window_height,
            )


def raster_signature(raster: RasterInfo) -> dict[str, Any]:
    """Return what tells whether a store was made from a raster."""
    return {
        "raster size": [raster.width, raster.height],
        "raster fingerprint": raster.fingerprint,
        "raster transform": [round(value, _TRANSFORM_DECIMALS) for value in raster.transform],
    }


def signature(metadata: StoreMetadata) -> dict[str, Any]:
    """Return the part of the metadata that must be equal, flat, most telling key first."""
    return {
        **raster_signature(metadata.raster),
        "bands": list(metadata.bands),
        "nodata": None if metadata.nodata is None else str(metadata.nodata),
        "stretch": metadata.stretch.to_json(),
        "model": metadata.model["name"],
        "model sha256": metadata.model["encoder_sha256"],
        "dtype": metadata.dtype,
        "tile size": metadata.tiling.tile_size,
        "overlap": metadata.tiling.overlap,
        "levels": metadata.levels,
        "area of interest": metadata.aoi_sha256,
    }


def check_signature(store: Path, stored: Mapping[str, Any], wanted: Mapping[str, Any], remedy: str) -> None:
    """Compare two signatures, or parts of them.

    Parameters
    ----------
    store : Path
        Named in the message.
    stored, wanted : mapping
        From `signature`; only the keys of ``wanted`` are compared.
    remedy : str
        What the user can do.

    Raises
    ------
    SignatureMismatchError
        With the first key that differs and both values.
    """
    for key, value in wanted.items():
        if stored[key] != value:
            raise SignatureMismatchError(str(store), key, stored[key], value, remedy)
