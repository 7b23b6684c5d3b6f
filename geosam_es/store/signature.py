"""The signature: what must be equal for a store to fit a raster, a model and a set of options."""

from __future__ import annotations

import hashlib
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.window import Window
from ..errors import SignatureMismatchError
from .metadata import RasterInfo, StoreMetadata
from .raster_name import typed

__all__ = [
    "SameCrs",
    "check_signature",
    "has_same_tiles",
    "pixel_fingerprint",
    "raster_signature",
    "same_pixels",
    "set_crs_line",
    "signature",
]

SameCrs = Callable[[str, str], bool]
"""Tells whether two WKT texts describe the same CRS, which has many texts. Supplied by the caller, who has PROJ."""

_SAMPLES_PER_SIDE = 4
_SAMPLE_SIZE = 32
_TRANSFORM_DECIMALS = 9
_HASH_DIGITS = 64
_FINGERPRINT = "raster fingerprint"
_CRS = "CRS"
_CRS_NAME = re.compile(r'"([^"]*)"')
_CRS_KEYWORD = re.compile(r"\s*(\w+)")
_CRS_CODE = re.compile(r'(?:AUTHORITY|ID)\["([^"]+)",\s*"?([^"\],]+)"?\]\s*\]\s*$')
"""Only at the end, where the code of the CRS itself is; the codes of its parts come before."""

_CRS_DATUM = re.compile(r'(?:DATUM|ENSEMBLE)\["([^"]*)"')
_CRS_KINDS = {
    "LOCAL_CS": "local",
    "ENGCRS": "local",
    "ENGINEERINGCRS": "local",
    "PROJCS": "projected",
    "PROJCRS": "projected",
    "GEOGCS": "geographic",
    "GEOGCRS": "geographic",
    "GEODCRS": "geographic",
    "COMPD_CS": "compound",
    "COMPOUNDCRS": "compound",
    "BOUNDCRS": "bound",
}
_MEAN_TOLERANCE = (0.6, 0.002)
"""Largest absolute and relative difference between the means of a window of the same image. JPEG libraries round
colours differently, which changes a mean by less than 0.1; another flight changes it by many grey levels."""


def pixel_fingerprint(width: int, height: int, bands: int, read: Callable[[Window], NDArray[Any]]) -> str:
    """Return a hash that identifies a raster by its pixels.

    Sixteen evenly spaced windows of native pixels are hashed with the size and the band count. The bytes of the file
    are not hashed: overviews, statistics or another tiling do not change the fingerprint. For integers of 8 and 16
    bits, the mean of each window is added: lossy compression decodes slightly differently in each library (see
    `same_pixels`).

    Parameters
    ----------
    width, height, bands : int
        Native size and band count.
    read : callable
        Returns the native pixels (bands, h, w) of a window in the raster's own type.

    Returns
    -------
    str
        64 hexadecimal digits; for integers of 8 and 16 bits also bands and type, and the means.
    """
    digest = hashlib.sha256(f"{width} {height} {bands}".encode())
    means = []
    for window in _sample_windows(width, height):
        pixels = np.ascontiguousarray(read(window))
        digest.update(pixels.dtype.name.encode())
        digest.update(pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes())
        means.append(f"{pixels.mean(dtype=np.float64):.1f}")
    may_be_lossy = pixels.dtype.kind in "iu" and pixels.dtype.itemsize <= 2
    return f"{digest.hexdigest()} {bands}x{pixels.dtype.name} {','.join(means)}" if may_be_lossy else digest.hexdigest()


def same_pixels(first: str, second: str) -> bool:
    """Tell whether two fingerprints are of the same image, perhaps decoded by different libraries."""
    if first[:_HASH_DIGITS] == second[:_HASH_DIGITS]:
        return True
    kinds, means = [], []
    for fingerprint in (first, second):
        _, *rest = fingerprint.split(" ")
        if len(rest) != 2:
            return False
        kinds.append(rest[0])
        means.append(np.array([float(mean) for mean in rest[1].split(",")]))
    if kinds[0] != kinds[1] or means[0].size != means[1].size:
        return False
    absolute, relative = _MEAN_TOLERANCE
    return bool(np.allclose(means[0], means[1], rtol=relative, atol=absolute))


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
    """Return what must be equal for a store to have been made from a raster, without the CRS.

    A wrong CRS is corrected without encoding again; see `set_crs`.
    """
    return {
        "raster size": [raster.width, raster.height],
        _FINGERPRINT: raster.fingerprint,
        "raster transform": [round(value, _TRANSFORM_DECIMALS) for value in raster.transform],
    }


def signature(metadata: StoreMetadata) -> dict[str, Any]:
    """Return the part of the metadata that must be equal, flat, the most informative key first."""
    return {
        **raster_signature(metadata.raster),
        _CRS: metadata.raster.crs_wkt,
        "bands": list(metadata.bands),
        "nodata": None if metadata.nodata is None else str(metadata.nodata),
        "stretch": metadata.stretch.to_json(),
        "model": metadata.model["name"],
        "model sha256": metadata.model["encoder_sha256"],
        "precision": metadata.precision,
        "dtype": metadata.dtype,
        "tile size": metadata.tiling.tile_size,
        "overlap": metadata.tiling.overlap,
        "starts of the tiles": metadata.tiling.starts,
        "levels": metadata.levels,
        "area of interest": metadata.aoi_sha256,
    }


def has_same_tiles(first: StoreMetadata, second: StoreMetadata) -> bool:
    """Tell whether two stores have the same tiles, wherever they are encoded; the CRS is of no importance."""
    own = signature(first)
    return own == {**signature(second), _CRS: own[_CRS]}


def check_signature(
    store: Path | str,
    stored: Mapping[str, Any],
    wanted: Mapping[str, Any],
    remedy: str,
    same_crs: SameCrs = operator.eq,
) -> None:
    """Compare two signatures, or parts of them.

    Parameters
    ----------
    store : Path
        Named in the message.
    stored, wanted : mapping
        From `signature`; only the keys of ``wanted`` are compared.
    remedy : str
        What the user can do.
    same_crs : callable, optional
        By default only equal texts are the same CRS.

    Raises
    ------
    SignatureMismatchError
        With the first key that differs and both values.
    """
    for key, value in wanted.items():
        found, shown = stored[key], value
        if key == _FINGERPRINT:
            is_same = same_pixels(found, value)
            found, shown = found[:_HASH_DIGITS], value[:_HASH_DIGITS]
        elif key == _CRS:
            is_same = same_crs(found, value)
            found, shown = _crs_texts(found, value)
        else:
            is_same = found == value
        if not is_same:
            advice = _crs_remedy(store, stored[key], value) if key == _CRS else remedy
            raise SignatureMismatchError(str(store), key, found, shown, advice)


def set_crs_line(store: Path | str, crs_wkt: str) -> str:
    """Return the command that gives a store a CRS, ready to be copied into a terminal."""
    code = _CRS_CODE.search(crs_wkt)
    crs = ":".join(code.groups()) if code else crs_wkt
    return f"geosam-es info {typed(str(store))} --set-crs {typed(crs)}"


def _crs_remedy(store: Path | str, stored_wkt: str, wanted_wkt: str) -> str:
    remedy = f"if the image is right, correct the store with: {set_crs_line(store, wanted_wkt)}"
    is_coded = _CRS_CODE.search(stored_wkt)
    return f"{remedy}; if the store is right, encode with --crs {_crs_code(stored_wkt)}" if is_coded else remedy


def _crs_texts(first: str, second: str) -> tuple[str, str]:
    """Return how to name two CRSs that differ: by their names, and if these are equal by what differs."""
    names = _crs_name(first), _crs_name(second)
    if names[0] != names[1]:
        return names
    pairs = [(part(first), part(second)) for part in (_crs_code, _crs_kind, _crs_datum)]
    differing = [pair for pair in pairs if pair[0] != pair[1]] or [("this definition", "another definition")]
    texts = [f"{names[0]} ({', '.join(parts)})" for parts in zip(*differing)]
    return texts[0], texts[1]


def _crs_name(wkt: str) -> str:
    """Return the name of a CRS, which is the first quoted text of its WKT."""
    name = _CRS_NAME.search(wkt)
    return name[1] if name else wkt


def _crs_code(wkt: str) -> str:
    code = _CRS_CODE.search(wkt)
    return ":".join(code.groups()) if code else "no code"


def _crs_kind(wkt: str) -> str:
    keyword = _CRS_KEYWORD.match(wkt)
    return f"{_CRS_KINDS.get(keyword[1], keyword[1])} CRS" if keyword else "no CRS"


def _crs_datum(wkt: str) -> str:
    datum = _CRS_DATUM.search(wkt)
    return f"datum {datum[1]}" if datum else "no datum"
