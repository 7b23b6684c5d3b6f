"""The metadata of a store: the attributes of its root group, and their check."""

from __future__ import annotations

import math
import os
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core.geotransform import GeoTransform
from ..core.grid import PATCH_SIZE, Pyramid, Tile, Tiling
from ..core.radiometry import Stretch
from ..errors import StoreError
from .files import is_portable_name
from .layout import (
    ATTRIBUTE,
    CHECKSUM_DTYPE,
    DECODER_FILE,
    GROUP_FILE,
    INT8,
    ORIGIN,
    PREPARE_FILE,
    SCALE_DTYPE,
    SKIPPED,
    checksum_name,
    scale_name,
    unreadable,
)
from .schema import JsonValue, SchemaError, read_json

__all__ = [
    "DTYPES",
    "EXACT",
    "FORMAT_VERSION",
    "RasterInfo",
    "StoreMetadata",
    "check_model",
    "check_not_frozen",
    "metadata_of",
    "read_document",
    "read_metadata",
]

FORMAT_VERSION = 1
DTYPES = ("float16", "float32", "int8")
"""Types that features are stored as."""

EXACT = "float32"
"""Precision of an encoder that does not name one."""

_MOST_PIXELS = 2**31 - 1
"""Largest width and height of a raster in GDAL."""

_MOST_BANDS = 65536
_MOST_BYTES = 2**63
_MOST_FEATURES = 64
_MOST_VALUES = 2**28
"""Largest number of values in one feature map of a tile; SAM has 2**20."""

_MOST_TILE_SIZE = 2**14
_LARGEST_FLOAT = float(np.finfo(np.float64).max)
_NOT_FINITE = ("nan", "inf", "-inf")
_FEATURE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
_WKT = re.compile(r"\s*[A-Z_]*(CRS|CS)\s*[\[(].*[\])]\s*", re.DOTALL)
_FINGERPRINT = re.compile(r"[0-9a-f]{64}( \d+x[a-z0-9]+ -?\d+\.?\d*(,-?\d+\.?\d*)*)?")
_NOT_IN_FILE_NAMES = re.compile("[/\\\\\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class RasterInfo:
    """The raster that a store was made from.

    Attributes
    ----------
    file_name : str
        Without folders: a store moves with its raster.
    file_bytes : int
    width, height : int
        Native size in pixels.
    fingerprint : str
        Of a sample of its pixels (see `signature.pixel_fingerprint`).
    crs_wkt : str
    transform : GeoTransform
        Of the native pixels.
    attribution : str
        Whose image it is, and the address of the service; empty for a file.
    path : str
        The way to the raster from the folder that the store was made in, with slashes; empty if it lies there.
    """

    file_name: str
    file_bytes: int
    width: int
    height: int
    fingerprint: str
    crs_wkt: str
    transform: GeoTransform
    attribution: str = ""
    path: str = ""


@dataclass(frozen=True)
class StoreMetadata:
    """The metadata of a store.

    Attributes
    ----------
    raster : RasterInfo
    bands : tuple of int
        The three bands shown as red, green and blue, counted from 1.
    stretch : Stretch
    nodata : float, optional
        Set by the user or read from the raster; None if there is none.
    model : mapping
        The JSON object of `ModelInfo`: name, encoder_sha256, licence, features, precision.
    dtype : str
        NumPy name of the stored features' type, one of `DTYPES`.
    tiling : Tiling
    levels : int
    aoi_sha256 : str, optional
        Hash of the area of interest's geometry; None for the whole raster.
    software, created : str
        What wrote the store, and when (UTC, ISO 8601).
    decoder_sha256 : mapping of str to str
        Hash of each file of the original decoder; empty in stores of older versions.
    """

    raster: RasterInfo
    bands: tuple[int, ...]
    stretch: Stretch
    nodata: float | None
    model: Mapping[str, Any]
    dtype: str
    tiling: Tiling
    levels: int
    aoi_sha256: str | None
    software: str
    created: str
    decoder_sha256: Mapping[str, str] = field(default_factory=dict)

    @property
    def features(self) -> dict[str, tuple[int, int, int]]:
        """Name and (C, h, w) shape of each feature map."""
        return {name: (shape[0], shape[1], shape[2]) for name, shape in self.model["features"].items()}

    @property
    def is_frozen(self) -> bool:
        """Whether another program made the features, so that no tile can be added."""
        return self.tiling.starts is not None

    @property
    def precision(self) -> str:
        """Number format in which the encoder computes; float32 if the model does not name one."""
        return str(self.model.get("precision", EXACT))

    @property
    def pyramid(self) -> Pyramid:
        """Tiles and levels."""
        return Pyramid(self.raster.width, self.raster.height, self.tiling, self.levels)

    def origin(self, tile: Tile, checksums: Iterable[int]) -> int:
        """Return the CRC-32 of the model, the image and its bands, the place of a tile, and its checksums."""
        limits = np.array(self.stretch.limits or (), np.float64).tolist()
        numbers = [int(number) for number in (*self.bands, *tile, *checksums)]
        return zlib.crc32(repr([self.model["encoder_sha256"], self.raster.fingerprint, limits, numbers]).encode()) or 1

    @property
    def tile_bytes(self) -> int:
        """Size of the files of one tile."""
        item_bytes = np.dtype(self.dtype).itemsize
        numbers = 1 + len(self.features)
        size = (
            sum(item_bytes * math.prod(shape) for shape in self.features.values()) + CHECKSUM_DTYPE.itemsize * numbers
        )
        if self.dtype == INT8:
            size += sum(SCALE_DTYPE.itemsize * shape[0] for shape in self.features.values())
        return size

    def to_json(self) -> dict[str, Any]:
        """Return the attributes of the root group."""
        raster = asdict(self.raster)
        raster["file_name"] = _NOT_IN_FILE_NAMES.sub("_", self.raster.file_name)
        raster["transform"] = list(self.raster.transform)
        for key in ("attribution", "path"):
            if not raster[key]:
                del raster[key]
        return {
            "format_version": FORMAT_VERSION,
            "raster": raster,
            "bands": list(self.bands),
            "stretch": self.stretch.to_json(),
            "nodata": _nodata_to_json(self.nodata),
            "model": dict(self.model),
            "dtype": self.dtype,
            "tiling": _tiling_to_json(self.tiling),
            "levels": self.levels,
            "aoi_sha256": self.aoi_sha256,
            "software": self.software,
            "created": self.created,
            **({"decoder_sha256": dict(self.decoder_sha256)} if self.decoder_sha256 else {}),
        }

    @classmethod
    def from_json(cls, attributes: Mapping[str, Any]) -> StoreMetadata:
        """Read the attributes of the root group.

        Raises
        ------
        SchemaError
            If something is missing, of the wrong type or out of range.
        """
        value = JsonValue(attributes, "")
        raster = _read_raster(value["raster"])
        tiling = _read_tiling(value["tiling"], raster)
        most_levels = Pyramid.full_level_count(raster.width, raster.height, tiling.tile_size)
        dtype = value["dtype"]
        if dtype.value not in DTYPES:
            dtype.fail(f"one of {', '.join(DTYPES)}")
        metadata = cls(
            raster=raster,
            bands=tuple(band.integer(1, _MOST_BANDS) for band in value["bands"].array(3, 3)),
            stretch=_read_stretch(value["stretch"]),
            nodata=_read_nodata(value["nodata"]),
            model=check_model(value["model"]),
            dtype=dtype.text(),
            tiling=tiling,
            levels=value["levels"].integer(1, 1 if tiling.starts else most_levels),
            aoi_sha256=None if value["aoi_sha256"].value is None else value["aoi_sha256"].sha256(),
            software=value["software"].text(),
            created=value["created"].text(),
            decoder_sha256={
                name: sha256.sha256()
                for name, sha256 in value.get("decoder_sha256", {}).items()
                if name in (PREPARE_FILE, DECODER_FILE)
            },
        )
        names = [
            SKIPPED,
            ORIGIN,
            *metadata.features,
            *map(scale_name, metadata.features),
            *map(checksum_name, metadata.features),
        ]
        if len(set(map(str.casefold, names))) < len(names):
            value["model"]["features"].fail("names of arrays that differ")
        return metadata


def _read_raster(value: JsonValue) -> RasterInfo:
    width, height = (value[key].integer(1, _MOST_PIXELS) for key in ("width", "height"))
    file_name = value["file_name"].text()
    if file_name in ("", ".", "..") or _NOT_IN_FILE_NAMES.search(file_name):
        value["file_name"].fail("the name of a file")
    return RasterInfo(
        file_name=file_name,
        file_bytes=value["file_bytes"].integer(0, _MOST_BYTES),
        width=width,
        height=height,
        fingerprint=value["fingerprint"].matching(_FINGERPRINT, "a fingerprint"),
        crs_wkt=_read_crs(value["crs_wkt"]),
        transform=_read_transform(value["transform"], width, height),
        attribution=value.get("attribution", "").text(),
        path=value.get("path", "").text(),
    )


def _read_crs(value: JsonValue) -> str:
    """Return a WKT with balanced brackets, or an empty text. Only the caller can tell whether PROJ knows the CRS."""
    if value.value == "":
        return ""
    wkt = value.matching(_WKT, "a CRS as WKT")
    depth = 0
    # Text between quotes may hold brackets.
    for character in "".join(wkt.split('"')[::2]):
        depth += (character in "[(") - (character in "])")
        if depth < 0:
            break
    if depth != 0 or wkt.count('"') % 2:
        value.fail("a CRS as WKT")
    return wkt


def _read_transform(value: JsonValue, width: int, height: int) -> GeoTransform:
    numbers = [item.number(_LARGEST_FLOAT) for item in value.array(6, 6)]
    transform = GeoTransform(*numbers)
    if not transform.is_usable(width, height):
        value.fail("a transform that can be inverted")
    return transform


def _read_stretch(value: JsonValue) -> Stretch:
    if value.value is None:
        return Stretch()
    pairs = [pair.array(2, 2) for pair in value.array(3, 3)]
    limits = tuple((low.number(_LARGEST_FLOAT), high.number(_LARGEST_FLOAT)) for low, high in pairs)
    if not all(low < high for low, high in limits):
        value.fail("three pairs of a low and a high value")
    return Stretch(limits)


def _read_nodata(value: JsonValue) -> float | None:
    if value.value is None:
        return None
    return float(value.value) if value.value in _NOT_FINITE else value.number(_LARGEST_FLOAT)


def _tiling_to_json(tiling: Tiling) -> dict[str, Any]:
    value = asdict(tiling)
    del value["overlap" if tiling.starts else "starts"]
    return value


def _read_tiling(value: JsonValue, raster: RasterInfo) -> Tiling:
    tile_size = value["tile_size"].integer(PATCH_SIZE, _MOST_TILE_SIZE)
    if "starts" in value.mapping():
        columns, rows = (
            _read_starts(starts, max(0, size - tile_size))
            for starts, size in zip(value["starts"].array(2, 2), (raster.width, raster.height))
        )
        return Tiling(tile_size, 0, (columns, rows))
    return Tiling(tile_size, value["overlap"].integer(0, tile_size - PATCH_SIZE))


def _read_starts(value: JsonValue, last: int) -> tuple[int, ...]:
    starts = tuple(start.integer(0, last) for start in value.array(1, last + 1))
    if any(second <= first for first, second in zip(starts, starts[1:])):
        value.fail("numbers in ascending order")
    return starts


def check_model(value: JsonValue) -> dict[str, Any]:
    """Check the description of a model, in a store or in ``model.json``, and return it.

    Raises
    ------
    SchemaError
        If something is missing, of the wrong type or out of range.
    """
    for key in ("name", "licence"):
        if not value[key].text():
            value[key].fail("text")
    value["encoder_sha256"].sha256()
    value.get("precision", EXACT).text()
    features = value["features"]
    if not 0 < len(features.mapping()) <= _MOST_FEATURES:
        features.fail(f"1 to {_MOST_FEATURES} feature maps")
    for name, shape in features.items():
        if not _FEATURE.fullmatch(name) or not is_portable_name(name):
            raise SchemaError(f"{name!r} cannot name a feature map")
        if math.prod(side.integer(1, _MOST_VALUES) for side in shape.array(3, 3)) > _MOST_VALUES:
            shape.fail(f"a shape of up to {_MOST_VALUES} values")
    return value.mapping()


def _nodata_to_json(nodata: float | None) -> float | str | None:
    """Return NaN and infinity, which JSON does not have, as words that Python's ``float`` reads."""
    return nodata if nodata is None or math.isfinite(nodata) else str(nodata)


def read_document(root: Path) -> JsonValue:
    """Read the ``zarr.json`` of a store, checking only its format version.

    Raises
    ------
    StoreError
        If the directory is not a store, or of another format version.
    """
    # Not `Path.is_dir`, which raises an error for names that are too long.
    if not os.path.isdir(root):  # noqa: PTH112
        raise StoreError("{root} is not an embedding store", "make one with: geosam-es encode IMAGE", root=root)
    path = root / GROUP_FILE
    try:
        document = read_json(path)
        version = document["attributes"][ATTRIBUTE]["format_version"].value
    except FileNotFoundError:
        raise StoreError(
            "{root} is not an embedding store: it has no {name}",
            "choose a folder that geosam-es encode wrote, or encode again with --overwrite",
            root=root,
            name=GROUP_FILE,
        ) from None
    except OSError as error:
        raise unreadable(path, error) from error
    except SchemaError as error:
        raise StoreError(
            "{path} is damaged or was not written by GeoSAM-ES", "encode again with --overwrite", path=path
        ) from error
    if version != FORMAT_VERSION:
        raise StoreError(
            "{root} has format version {version}, and this GeoSAM-ES reads version {known}",
            "update GeoSAM-ES, or encode again with --overwrite",
            root=root,
            version=version,
            known=FORMAT_VERSION,
        )
    return document


def read_metadata(root: Path) -> StoreMetadata:
    """Read the attributes of the root group and check them completely.

    Raises
    ------
    StoreError
        If the directory is not a store or has another format version, or its metadata are damaged.
    """
    return metadata_of(root, read_document(root))


def check_not_frozen(root: Path | str, metadata: StoreMetadata) -> None:
    """Check that tiles can be added to a store.

    Raises
    ------
    StoreError
        If it is frozen.
    """
    if metadata.is_frozen:
        raise StoreError(
            "{root} has the features of another program, whose contrast stretch is not known: no tile can be added",
            "encode the image into another store, or use this one as it is",
            root=root,
        )


def metadata_of(root: Path, document: JsonValue) -> StoreMetadata:
    """Check the document that `read_document` returned; see `read_metadata`."""
    try:
        return StoreMetadata.from_json(document["attributes"][ATTRIBUTE].mapping())
    except SchemaError as error:
        raise StoreError(
            "{path} is damaged ({reason})",
            "encode again with --overwrite",
            path=root / GROUP_FILE,
            reason=str(error),
        ) from error
