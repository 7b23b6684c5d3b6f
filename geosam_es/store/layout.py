"""The files of a store and its metadata.

A store is a Zarr v3 hierarchy of uncompressed arrays, so that one chunk is one raw file::

    NAME.embeddings.zarr/
      zarr.json                            group; its attributes are `StoreMetadata`
      level0/zarr.json                     group
      level0/image_embeddings/zarr.json    array (rows, cols, C, h, w), one chunk a tile
      level0/image_embeddings/c/R/C/0/0/0  the features of tile (R, C)
      level0/image_embeddings_scale/       with int8 only: array (rows, cols, C) of float32, one chunk a tile;
                                           a feature is its int8 times the scale of its channel in its tile
      level0/image_embeddings_crc32/       array (rows, cols) of uint32, one chunk a tile: CRC-32 of the features of the
                                           tile, after that of its scales; stores of older versions have none
      level0/origin/                       array (rows, cols) of uint32, one chunk a tile: CRC-32 of what the tile was
                                           made from and of its checksums, so that a tile of another store is found;
                                           stores of older versions have none
      level0/skipped/zarr.json             array (rows, cols) of bool, one chunk a tile
      level0/skipped/c/R/C                 exists, and is true, if the tile has no data
      level1/  level2/ ...                 the coarser levels
      level-1/  level-2/                   the enlarged levels; made with the first tile, so older stores have none
      prepare.onnx  decoder.onnx           the prompt decoder; prepare.onnx is absent with a single-graph decoder
      decoders/NAME/                       a decoder tuned on these features: the same files, and decoder.json
      decoders/active.json                 {"name": NAME}, the decoder in use; that of the root if absent or "original"

A *frozen* store holds features that another program made, whose contrast stretch is not known: no tile can be added.
Its ``tiling`` has ``starts``, the columns and rows at which the tiles of its only level start, in place of ``overlap``,
so that older versions do not read it.

A chunk of features is written under a temporary name, flushed to the disk and renamed, so a chunk that exists is
complete, even after a power cut. Resuming, several writers and several machines need nothing else. Each checksum is a
file of its own, so that writers never share one. Checksums are not flushed: a power cut may lose one, and resuming then
encodes the tile again, as a checksum of values that nobody has checked would prove nothing. ``zarr.json`` of the root
is written last: a directory that has it is complete.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.geotransform import GeoTransform
from ..core.grid import PATCH_SIZE, LevelGrid, Pyramid, Tile, Tiling
from ..core.radiometry import Stretch
from ..errors import OutputError, StoreError
from .files import check_regular, is_portable_name
from .raster_name import RasterPath
from .schema import JsonValue, SchemaError, read_json

__all__ = [
    "DECODER_FILE",
    "DTYPES",
    "EXACT",
    "FORMAT_VERSION",
    "PREPARE_FILE",
    "SUFFIX",
    "RasterInfo",
    "StoreMetadata",
    "store_path_for",
]

FORMAT_VERSION = 1
SUFFIX = ".embeddings.zarr"
GROUP_FILE = "zarr.json"
PREPARE_FILE = "prepare.onnx"
DECODER_FILE = "decoder.onnx"
EXTERNAL_SUFFIX = ".data"
"""Added to the name of an ONNX file for that of the file with its weights, if it does not hold them itself."""

DECODERS = "decoders"
DECODER_INFO_FILE = "decoder.json"
ACTIVE_FILE = "active.json"
REMOTE_FILE = "remote.json"
"""Marks a copy of a store on a server, and names its address."""

SKIPPED = "skipped"
ORIGIN = "origin"
ATTRIBUTE = "geosam_es"
DTYPES = ("float16", "float32", "int8")
"""Types that features are stored as."""

INT8 = "int8"
EXACT = "float32"
"""Precision of an encoder that does not name one."""

_KEYS = {"name": "default", "configuration": {"separator": "/"}}

SCALE_DTYPE = np.dtype("<f4")
CHECKSUM_DTYPE = np.dtype("<u4")

_MOST_STEM_BYTES = 255 - len(SUFFIX) - 1
"""Longest part of a store's name before the suffix, with room for one more character."""

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


def store_path_for(raster: RasterPath, directory: Path | None = None) -> Path:
    """Return where the store of a raster belongs: beside it, or in ``directory``.

    The store of a raster inside a file lies beside the file and is named after both. The store of a raster without a
    local file, such as a URL, belongs in the current folder.

    Examples
    --------
    >>> store_path_for(Path("maps/ortho.tif")).as_posix()
    'maps/ortho.embeddings.zarr'
    """
    stem = raster.stem
    content = stem.encode("utf-8", "surrogatepass")
    if len(content) > _MOST_STEM_BYTES:
        # The hash keeps long names apart that begin alike.
        start = content[: _MOST_STEM_BYTES - 9].decode("utf-8", "ignore")
        stem = f"{start}-{hashlib.sha256(content).hexdigest()[:8]}"
    elif not is_portable_name(f"{stem}{SUFFIX}"):
        # On Windows aux.embeddings.zarr would be a device.
        stem = f"{stem}_"
    return (directory or raster.parent) / f"{stem}{SUFFIX}"


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


def group_json(attributes: Mapping[str, Any]) -> str:
    """Return the ``zarr.json`` of a Zarr v3 group."""
    return json.dumps(
        {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}, indent=2, allow_nan=False
    )


def _array_json(grid: LevelGrid, shape: tuple[int, ...], dtype: str, fill: str | float) -> str:
    """Return the ``zarr.json`` of an array of a level with one raw chunk of this shape a tile."""
    codec: dict[str, Any] = {"name": "bytes"}
    if np.dtype(dtype).itemsize > 1:
        codec["configuration"] = {"endian": "little"}
    return json.dumps(
        {
            "zarr_format": 3,
            "node_type": "array",
            "shape": (grid.rows, grid.cols, *shape),
            "data_type": dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": (1, 1, *shape)}},
            "chunk_key_encoding": _KEYS,
            "codecs": [codec],
            "fill_value": fill,
            "attributes": {},
        },
        indent=2,
    )


def is_same_array(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Tell whether the ``zarr.json`` of two arrays agree on where values are and how they are stored."""
    return all(found.get(key) == wanted[key] for key in ("shape", "data_type", "chunk_grid")) and (
        _stored_as(found) == _stored_as(wanted)
    )


def _stored_as(document: Mapping[str, Any]) -> tuple[object, ...]:
    """Return the codec, byte order and separator of an array, without what zarr-python adds to them."""
    value = JsonValue(document, "")
    try:
        codec = value["codecs"].array(1, 1)[0]
        keys = value.get("chunk_key_encoding", _KEYS)
        separator = keys.get("configuration", {}).get("separator", "/").value
        # None if values have one byte, or if the byte order was left out.
        order = (codec.mapping().get("configuration") or {}).get("endian")
        return codec["name"].value, order or "little", keys["name"].value, separator
    except (SchemaError, AttributeError):
        return ()


def checksum(chunks: Iterable[NDArray[Any]]) -> int:
    """Return the CRC-32 of the chunks in sequence. Zero would mean that there is no checksum, so it becomes 1."""
    crc = 0
    for chunk in chunks:
        crc = zlib.crc32(chunk.reshape(-1).view(np.uint8).data, crc)
    return crc or 1


def level_name(level: int) -> str:
    """Return the name of a level's group."""
    return f"level{level}"


def feature_key(feature: str, tile: Tile) -> str:
    """Return the file of one feature map of a tile, relative to the store; a text, as a `Path` would slow reading."""
    return f"{level_name(tile.level)}/{feature}/c/{tile.row}/{tile.col}/0/0/0"


def scale_name(feature: str) -> str:
    """Return the name of the array with the scales of a feature map's int8 values."""
    return f"{feature}_scale"


def scale_key(feature: str, tile: Tile) -> str:
    """Return the file of the scales of one feature map of a tile, relative to the store."""
    return f"{level_name(tile.level)}/{scale_name(feature)}/c/{tile.row}/{tile.col}/0"


def checksum_name(feature: str) -> str:
    """Return the name of the array with the checksums of a feature map."""
    return f"{feature}_crc32"


def checksum_key(feature: str, tile: Tile) -> str:
    """Return the file of the checksum of one feature map of a tile, relative to the store."""
    return f"{level_name(tile.level)}/{checksum_name(feature)}/c/{tile.row}/{tile.col}"


def tile_keys(features: Iterable[str], dtype: str, tile: Tile) -> list[str]:
    """Return the files of a tile, relative to the store."""
    keys = [feature_key(name, tile) for name in features]
    return keys + [scale_key(name, tile) for name in features] if dtype == INT8 else keys


def array_documents(grid: LevelGrid, features: Mapping[str, tuple[int, int, int]], dtype: str) -> dict[str, str]:
    """Return the name and the ``zarr.json`` of each array that holds features of a level; missing ones are NaN or 0."""
    fill = 0 if dtype == INT8 else "NaN"
    documents = {name: _array_json(grid, shape, dtype, fill) for name, shape in features.items()}
    if dtype == INT8:
        scales = {
            scale_name(name): _array_json(grid, shape[:1], SCALE_DTYPE.name, "NaN") for name, shape in features.items()
        }
        documents.update(scales)
    return documents


def state_documents(grid: LevelGrid, features: Iterable[str]) -> dict[str, str]:
    """Return the same of the arrays with checksums, origins and skipped tiles; a tile without a checksum has 0."""
    numbers = {name: _array_json(grid, (), CHECKSUM_DTYPE.name, 0) for name in (*map(checksum_name, features), ORIGIN)}
    return {**numbers, SKIPPED: _array_json(grid, (), "bool", False)}


def skipped_key(tile: Tile) -> str:
    """Return the file that marks a tile as skipped, relative to the store."""
    return f"{level_name(tile.level)}/{SKIPPED}/c/{tile.row}/{tile.col}"


def origin_key(tile: Tile) -> str:
    """Return the file with the origin of a tile, relative to the store."""
    return f"{level_name(tile.level)}/{ORIGIN}/c/{tile.row}/{tile.col}"


def every_key(features: Iterable[str], dtype: str, tile: Tile) -> list[str]:
    """Return the same with the checksums, the origin and the mark of a skipped tile."""
    checksums = [checksum_key(name, tile) for name in features]
    return [*tile_keys(features, dtype, tile), *checksums, origin_key(tile), skipped_key(tile)]


def is_store(root: Path) -> bool:
    """Tell whether a directory is a store of any format version, and not another Zarr group."""
    try:
        return ATTRIBUTE in read_json(root / GROUP_FILE)["attributes"].mapping()
    except (OSError, SchemaError):
        return False


def check_own(root: Path) -> None:
    """Make sure that a store may be changed, and is not a copy of what was read from a server.

    Raises
    ------
    OutputError
        If it is, or what is written would land outside it.
    """
    if (root / DECODERS).is_symlink():
        raise OutputError(
            "{path} is a link, so that decoders would be written elsewhere", "remove it", path=root / DECODERS
        )
    try:
        url = read_json(root / REMOTE_FILE)["url"].text()
    except (OSError, SchemaError):
        return
    raise OutputError(
        "{url} is on a server, and only read from there",
        "change the store where it lies, or copy all of it to this computer",
        url=url,
    )


def unreadable(path: Path | str, error: OSError) -> StoreError:
    """Return the error for a file of a store that exists but cannot be read."""
    return StoreError(
        "{path} cannot be read ({reason})", "check the file and its permissions", path=path, reason=error.strerror
    )


def keeps_checksums(root: Path, feature: str, level: int) -> bool:
    """Tell whether a store has an array for the checksums of a feature map; those of older versions have none."""
    return (root / level_name(level) / checksum_name(feature)).is_dir()


def read_checksum(root: Path, feature: str, tile: Tile) -> int:
    """Return the checksum of a feature map; 0 if there is none, as in an older store or after a power cut."""
    return read_number(root / checksum_key(feature, tile))


def read_number(path: Path) -> int:
    """Return the number in the chunk of a checksum or an origin; 0 if there is none."""
    try:
        check_regular(path)
        content = path.read_bytes()
    except OSError:
        return 0
    is_whole = len(content) == CHECKSUM_DTYPE.itemsize
    return int(np.frombuffer(content, CHECKSUM_DTYPE)[0]) if is_whole else 0


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
