"""The files of a store.

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
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.grid import LevelGrid, Tile
from ..errors import OutputError, StoreError
from .files import check_regular, is_portable_name
from .raster_name import RasterPath
from .schema import JsonValue, SchemaError, read_json

__all__ = [
    "DECODER_FILE",
    "PREPARE_FILE",
    "SUFFIX",
    "store_path_for",
]

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
INT8 = "int8"

_KEYS = {"name": "default", "configuration": {"separator": "/"}}

SCALE_DTYPE = np.dtype("<f4")
CHECKSUM_DTYPE = np.dtype("<u4")

_MOST_STEM_BYTES = 255 - len(SUFFIX) - 1
"""Longest part of a store's name before the suffix, with room for one more character."""


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
