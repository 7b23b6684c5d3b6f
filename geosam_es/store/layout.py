"""What is where in a store, and what its metadata say.

A store is a Zarr v3 hierarchy of uncompressed arrays, so that one chunk is one raw file::

    NAME.embeddings.zarr/
      zarr.json                            group; its attributes are `StoreMetadata`
      level0/zarr.json                     group
      level0/image_embeddings/zarr.json    array (rows, cols, C, h, w), one chunk a tile
      level0/image_embeddings/c/R/C/0/0/0  the features of tile (R, C)
      level0/image_embeddings_scale/       with int8 only: array (rows, cols, C) of float32, one chunk a tile;
                                           a feature is its int8 times the scale of its channel in its tile
      level0/skipped/zarr.json             array (rows, cols) of bool, one chunk a tile
      level0/skipped/c/R/C                 there, and true, where a tile has no data
      prepare.onnx  decoder.onnx           the prompt decoder; prepare.onnx is absent with a single-graph decoder
      decoders/NAME/                       a decoder tuned on these features: the same files, and decoder.json
      decoders/active.json                 {"name": NAME}, the one that answers; absent, or "original": that of the root

A chunk is written under another name and renamed, so one that exists is whole: that is all that resuming, several
writers and several machines need. ``zarr.json`` of the root comes last, so a directory that has it has the rest.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.geotransform import GeoTransform
from ..core.grid import LevelGrid, Pyramid, Tile, Tiling
from ..core.radiometry import Stretch
from ..errors import StoreError

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
DECODERS = "decoders"
DECODER_INFO_FILE = "decoder.json"
ACTIVE_FILE = "active.json"
SKIPPED = "skipped"
ATTRIBUTE = "geosam_es"
DTYPES = ("float16", "float32", "int8")
"""Types that features are stored as."""

INT8 = "int8"
EXACT = "float32"
"""Precision of an encoder that says nothing else."""

SCALE_DTYPE = np.dtype("<f4")


def store_path_for(raster: Path, directory: Path | None = None) -> Path:
    """Return where the store of a raster belongs: beside it, or in ``directory``.

    Examples
    --------
    >>> store_path_for(Path("maps/ortho.tif")).as_posix()
    'maps/ortho.embeddings.zarr'
    """
    return (directory or raster.parent) / f"{raster.stem}{SUFFIX}"


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
    """

    file_name: str
    file_bytes: int
    width: int
    height: int
    fingerprint: str
    crs_wkt: str
    transform: GeoTransform


@dataclass(frozen=True)
class StoreMetadata:
    """Everything a store says of itself.

    Attributes
    ----------
    raster : RasterInfo
    bands : tuple of int
        The three bands shown as red, green and blue, counted from 1.
    stretch : Stretch
    nodata : float, optional
        Set by the user or read from the raster; None where there is none.
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

    @property
    def features(self) -> dict[str, tuple[int, int, int]]:
        """Name and (C, h, w) shape of each feature map."""
        return {name: (shape[0], shape[1], shape[2]) for name, shape in self.model["features"].items()}

    @property
    def precision(self) -> str:
        """What the encoder computed in; float32 where nothing is said."""
        return str(self.model.get("precision", EXACT))

    @property
    def pyramid(self) -> Pyramid:
        """Tiles and levels."""
        return Pyramid(self.raster.width, self.raster.height, self.tiling, self.levels)

    @property
    def tile_bytes(self) -> int:
        """What the features of one tile take on disk."""
        item_bytes = np.dtype(self.dtype).itemsize
        size = sum(item_bytes * math.prod(shape) for shape in self.features.values())
        if self.dtype == INT8:
            size += sum(SCALE_DTYPE.itemsize * shape[0] for shape in self.features.values())
        return size

    def to_json(self) -> dict[str, Any]:
        """Return the attributes of the root group."""
        raster = asdict(self.raster)
        raster["transform"] = list(self.raster.transform)
        return {
            "format_version": FORMAT_VERSION,
            "raster": raster,
            "bands": list(self.bands),
            "stretch": self.stretch.to_json(),
            "nodata": _nodata_to_json(self.nodata),
            "model": dict(self.model),
            "dtype": self.dtype,
            "tiling": asdict(self.tiling),
            "levels": self.levels,
            "aoi_sha256": self.aoi_sha256,
            "software": self.software,
            "created": self.created,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StoreMetadata:
        """Read the attributes of the root group.

        Raises
        ------
        KeyError, TypeError, ValueError
            Where something is missing or of the wrong type.
        """
        raster = {**value["raster"], "transform": GeoTransform.from_sequence(value["raster"]["transform"])}
        return cls(
            raster=RasterInfo(**raster),
            bands=tuple(int(band) for band in value["bands"]),
            stretch=Stretch.from_json(value["stretch"]),
            nodata=None if value["nodata"] is None else float(value["nodata"]),
            model=value["model"],
            dtype=str(value["dtype"]),
            tiling=Tiling(**value["tiling"]),
            levels=int(value["levels"]),
            aoi_sha256=value["aoi_sha256"],
            software=str(value["software"]),
            created=str(value["created"]),
        )


def _nodata_to_json(nodata: float | None) -> float | str | None:
    """JSON has no NaN; Python's own ``float`` reads the word back."""
    return "nan" if nodata is not None and math.isnan(nodata) else nodata


def group_json(attributes: Mapping[str, Any]) -> str:
    """Return the ``zarr.json`` of a Zarr v3 group."""
    return json.dumps(
        {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}, indent=2, allow_nan=False
    )


def feature_array_json(grid: LevelGrid, shape: tuple[int, int, int], dtype: str) -> str:
    """Return the ``zarr.json`` of a level's feature array, one raw chunk a tile; no data reads as NaN, or 0 of int8."""
    return _array_json((grid.rows, grid.cols, *shape), (1, 1, *shape), dtype, 0 if dtype == INT8 else "NaN")


def scale_array_json(grid: LevelGrid, channels: int) -> str:
    """Return the ``zarr.json`` of the scales of a level's int8 features; no data reads as NaN."""
    return _array_json((grid.rows, grid.cols, channels), (1, 1, channels), SCALE_DTYPE.name, "NaN")


def skipped_array_json(grid: LevelGrid) -> str:
    """Return the ``zarr.json`` of a level's array of skipped tiles."""
    return _array_json((grid.rows, grid.cols), (1, 1), "bool", False)


def _array_json(shape: tuple[int, ...], chunk: tuple[int, ...], dtype: str, fill: str | float) -> str:
    codec: dict[str, Any] = {"name": "bytes"}
    if np.dtype(dtype).itemsize > 1:
        codec["configuration"] = {"endian": "little"}
    return json.dumps(
        {
            "zarr_format": 3,
            "node_type": "array",
            "shape": shape,
            "data_type": dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "codecs": [codec],
            "fill_value": fill,
            "attributes": {},
        },
        indent=2,
    )


def level_name(level: int) -> str:
    """Return the name of a level's group."""
    return f"level{level}"


def feature_chunk(root: Path, feature: str, tile: Tile) -> Path:
    """Return the file of one feature map of a tile."""
    return root / feature_key(feature, tile)


def feature_key(feature: str, tile: Tile) -> str:
    """Return where `feature_chunk` is in the store; joining a path shows in the time that a tile takes to be read."""
    return f"{level_name(tile.level)}/{feature}/c/{tile.row}/{tile.col}/0/0/0"


def scale_name(feature: str) -> str:
    """Return the name of the array with the scales of a feature map's int8 values."""
    return f"{feature}_scale"


def scale_chunk(root: Path, feature: str, tile: Tile) -> Path:
    """Return the file of the scales of one feature map of a tile."""
    return root / scale_key(feature, tile)


def scale_key(feature: str, tile: Tile) -> str:
    """Return where `scale_chunk` is in the store."""
    return f"{level_name(tile.level)}/{scale_name(feature)}/c/{tile.row}/{tile.col}/0"


def array_documents(grid: LevelGrid, features: Mapping[str, tuple[int, int, int]], dtype: str) -> dict[str, str]:
    """Return name and ``zarr.json`` of each array that holds features of a level."""
    documents = {name: feature_array_json(grid, shape, dtype) for name, shape in features.items()}
    if dtype == INT8:
        documents.update({scale_name(name): scale_array_json(grid, shape[0]) for name, shape in features.items()})
    return documents


def skipped_chunk(root: Path, tile: Tile) -> Path:
    """Return the file that marks a tile as skipped."""
    return root / level_name(tile.level) / SKIPPED / "c" / str(tile.row) / str(tile.col)


def is_store(root: Path) -> bool:
    """Tell whether a directory is a store of ours, of whatever version, and not another Zarr group."""
    try:
        return ATTRIBUTE in json.loads((root / GROUP_FILE).read_text(encoding="utf-8"))["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_metadata(root: Path) -> StoreMetadata:
    """Read and check the root group.

    Raises
    ------
    StoreError
        If the directory is not a store, or of another format version.
    """
    if not root.is_dir():
        raise StoreError("{root} is not an embedding store", "make one with: geosam-es encode IMAGE", root=root)
    try:
        text = (root / GROUP_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StoreError(
            "{root} is not an embedding store: it has no {name}",
            "choose a folder that geosam-es encode wrote, or encode again with --overwrite",
            root=root,
            name=GROUP_FILE,
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(
            "{path} cannot be read ({reason})", "check its permissions", path=root / GROUP_FILE, reason=str(error)
        ) from error
    try:
        attributes = json.loads(text)["attributes"][ATTRIBUTE]
        version = attributes["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            "{path} is damaged or not a GeoSAM-ES store's", "encode again with --overwrite", path=root / GROUP_FILE
        ) from error
    if version != FORMAT_VERSION:
        raise StoreError(
            "{root} has format version {version}, and this GeoSAM-ES reads version {known}",
            "update GeoSAM-ES, or encode again with --overwrite",
            root=root,
            version=version,
            known=FORMAT_VERSION,
        )
    try:
        return StoreMetadata.from_json(attributes)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            "{path} is damaged ({reason})", "encode again with --overwrite", path=root / GROUP_FILE, reason=repr(error)
        ) from error
