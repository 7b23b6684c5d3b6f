"""Import of the folders of features that the plugin Geo-SAM writes.

Geo-SAM cuts an image into *chips*, the last of which are moved inwards. A chip is resized so that its longer side is
1024 pixels, enlarged if it is smaller, and padded on the right and at the bottom. Its features become one tile of a
store, whose pixels are those of the resized chips.

Version 1 writes a GeoTIFF of 256 bands for each chip. Its transform spreads the chip over all 64 x 64 cells, which is
wrong for padded chips, so only its extent is used. A CSV file lists the chips; it is not read, because it is wrong
after a run that was killed. Version 2 writes ``manifest.parquet`` and a PyTorch file for each chip (`torch_file`).
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from geosam_es import __version__
from geosam_es.core.geotransform import GeoTransform
from geosam_es.core.grid import Tile, Tiling
from geosam_es.core.radiometry import Stretch
from geosam_es.errors import RasterError, StoreError
from geosam_es.inference.encoder import TILE_SIZE, ModelInfo
from geosam_es.store import StoreMetadata, StoreWriter
from geosam_es.store.metadata import RasterInfo

from .crs import parse_crs, same_crs
from .raster import Raster
from .torch_file import read_tensor

__all__ = ["GeoSamFolder", "ImportReport", "import_folder", "read_folder"]

_NAME = "image_embeddings"
_KEYS: dict[str, dict[str, tuple[str | int, ...]]] = {
    "sam": {_NAME: ()},
    "sam2": {
        _NAME: ("image_embed",),
        "high_res_feats_1": ("high_res_feats", 1),
        "high_res_feats_0": ("high_res_feats", 0),
    },
}
"""Where a file of a family's features has each map. They are what its decoder reads, as in our stores."""

_WEIGHTS = {
    "sam": {rf"sam_(vit_)?{size}(?![a-z])": f"vit_{size}" for size in "bhl"},
    "sam2": {rf"sam2\.1_(hiera_)?{size[0]}": f"sam2.1_{size}" for size in ("tiny", "small", "base_plus", "large")},
}
"""Models of a family by their files of weights."""

_MANIFEST = "manifest.parquet"
_COLUMNS = ["feature_path", "source_path", "checkpoint_path", "model_type", "transform", "shape", "crs"]
_MOST_BANDS = 65535
_ALIGNED_PX = 0.05
"""Largest distance between the corner of a chip and that of a pixel of the raster that counts as rounding."""

_ENCODE = "encode the image with geosam-es encode"


class _Chip(NamedTuple):
    """The file of a chip, the transform of the pixels of the resized chip, and their columns and rows."""

    path: Path
    transform: GeoTransform
    size: tuple[int, int]

    def checked(self) -> _Chip:
        if min(self.size) < 1 or not self.transform.is_usable(*self.size):
            raise ValueError("a chip has no size, or no place on the map")
        return self


class GeoSamFolder(NamedTuple):
    """What a folder of Geo-SAM holds.

    Attributes
    ----------
    path : Path
    version : int
        1 or 2.
    family : str
        ``sam`` or ``sam2``.
    model : str
        Its name in ``models.json``; empty if the folder does not tell.
    image : str
        Name of the image.
    crs_wkt : str
    bands : tuple of int
        Three bands, from 1.
    chips : sequence of _Chip
    damaged : sequence of Path
        Files that a killed run has left incomplete.
    read : callable
        Returns the feature maps of a file by their names in a store.
    """

    path: Path
    version: int
    family: str
    model: str
    image: str
    crs_wkt: str
    bands: tuple[int, ...]
    chips: Sequence[_Chip]
    damaged: Sequence[Path]
    read: Callable[[Path], dict[str, NDArray[np.float32]]]


class ImportReport(NamedTuple):
    """Result of an import.

    Attributes
    ----------
    encoded, skipped : int
        Tiles with features, and places of the grid without a chip.
    damaged : sequence of str
        The files that could not be read, with the reason.
    moved_px : float
        Largest distance by which a chip was moved to whole pixels of the store.
    """

    encoded: int
    skipped: int
    damaged: Sequence[str]
    moved_px: float


def read_folder(path: Path) -> GeoSamFolder:
    """Describe a folder of either version, or one that contains one such folder.

    Raises
    ------
    RasterError
        If it is not a folder of Geo-SAM, or cannot be imported.
    """
    if (path / _MANIFEST).is_file():
        return _read_version_2(path)
    tiffs = sorted(path.glob("sam_feat_*.tif"))
    if tiffs:
        return _read_version_1(path, tiffs)
    inner = sorted({file.parent for file in path.glob("sam_feat_*/sam_feat_*.tif")})
    if len(inner) == 1:
        return read_folder(inner[0])
    if inner:
        raise RasterError(f"{path} has {len(inner)} folders of features", f"give one of them, such as {inner[0]}")
    if (path / "manifest.pkl").is_file():
        raise RasterError(f"{path} has a manifest.pkl, which may contain code and is not read", _ENCODE)
    raise RasterError(
        f"{path} is not a folder of Geo-SAM: it has neither sam_feat_*.tif nor {_MANIFEST}",
        "give the folder that Geo-SAM has written",
    )


def _read_version_1(path: Path, tiffs: Sequence[Path]) -> GeoSamFolder:
    chips, damaged, crs = [], [], {}
    for tiff in tiffs:
        try:
            with rasterio.open(tiff) as dataset:
                tags, bounds = dataset.tags(), dataset.bounds
                if dataset.crs:
                    crs[dataset.crs.to_string()] = dataset.crs.to_wkt()
        except RasterioError:
            damaged.append(tiff)
            continue
        try:
            _, height, width = (int(size) for size in ast.literal_eval(tags["input_shape"]))
            across, down = (bounds.right - bounds.left) / width, (bounds.bottom - bounds.top) / height
            transform = GeoTransform(across, 0.0, bounds.left, 0.0, down, bounds.top)
            chips.append(_Chip(tiff, transform, (width, height)).checked())
        except (KeyError, ValueError, SyntaxError, TypeError, ArithmeticError, MemoryError, RecursionError):
            raise RasterError(f"{tiff} does not tell the size of its chip in the tag input_shape", _ENCODE) from None
    found = re.search(r"_bands_(\d+(?:_\d+)*)_", path.name)
    bands = tuple(map(int, found[1].split("_"))) if found else (1, 2, 3)
    if not 1 <= min(bands) <= max(bands) <= _MOST_BANDS:
        raise RasterError(f"The name of {path} has bands that no image has", "give the folder the name it had")
    model = _only(path, (found[1] for tiff in tiffs if (found := re.match(r"sam_feat_(vit_[bhl])_", tiff.name))))
    image = f"{path.resolve().parent.name}.tif"
    wkt = crs.get(_only(path, crs), "")
    return GeoSamFolder(path, 1, "sam", model, image, wkt, (bands * 3)[:3], chips, damaged, _read_tiff)


def _only(path: Path, values: Iterable[str]) -> str:
    """Return the value that all chips of a folder share, or an empty text if there is none."""
    found = sorted(set(values))
    if len(found) > 1:
        raise RasterError(f"{path} mixes features of {' and '.join(found)}", "give a folder with one of them")
    return found[0] if found else ""


def _read_tiff(path: Path) -> dict[str, NDArray[np.float32]]:
    try:
        with rasterio.open(path) as dataset:
            return {_NAME: np.asarray(dataset.read(), np.float32)}
    except RasterioError as error:
        raise ValueError("it is incomplete") from error


def _read_version_2(path: Path) -> GeoSamFolder:
    rows = _read_manifest(path / _MANIFEST)
    chips = []
    try:
        for row in rows:
            height, width = json.loads(row["shape"])
            a, b, c, d, e, f = json.loads(row["transform"])
            scale = TILE_SIZE / max(height, width)
            columns, lines = round(width * scale), round(height * scale)
            across, down = width / columns, height / lines
            transform = GeoTransform(a * across, b * down, c, d * across, e * down, f)
            chips.append(
                _Chip(path / "features" / _base_name(row["feature_path"]), transform, (columns, lines)).checked()
            )
        kinds = sorted({str(row["model_type"]) for row in rows})
        weights = _only(path, (_base_name(row["checkpoint_path"]) for row in rows))
        image = _base_name(rows[0]["source_path"])
        crs = parse_crs(_only(path, (str(row["crs"]) for row in rows))).to_wkt()
    except RasterError:
        raise
    except (KeyError, ValueError, TypeError, IndexError, ArithmeticError) as error:
        raise RasterError(
            f"{path / _MANIFEST} is damaged ({getattr(error, 'problem', repr(error))})", _ENCODE
        ) from error
    if not (len(kinds) == 1 and kinds[0] in _KEYS):
        problem = f"{path} has features of {', '.join(kinds)}; only those of SAM or of SAM 2 can be imported"
        raise RasterError(problem, _ENCODE)
    family = kinds[0]
    model = next((name for pattern, name in _WEIGHTS[family].items() if re.search(pattern, weights)), "")

    def read(file: Path) -> dict[str, NDArray[np.float32]]:
        maps = {name: read_tensor(file, "features", *keys) for name, keys in _KEYS[family].items()}
        # Without the first axis of a batch of one.
        return {name: one[0] if one.ndim == 4 and len(one) == 1 else one for name, one in maps.items()}

    return GeoSamFolder(path, 2, family, model, image, crs, (1, 2, 3), chips, [], read)


def _base_name(path: str) -> str:
    """Return the last part of an absolute path on the machine that has written it."""
    return re.split(r"[/\\]", path)[-1]


def _read_manifest(path: Path) -> list[dict[str, Any]]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        remedy = 'install it with `pip install "geosam-es[geosam]"`'
        raise RasterError(f"{path} needs pyarrow, which cannot be imported ({error})", remedy) from error
    try:
        rows: list[dict[str, Any]] = parquet.read_table(path, columns=_COLUMNS).to_pylist()
    except Exception as error:  # which error pyarrow raises depends on the content of the file
        raise RasterError(f"{path} cannot be read ({error})", "copy the folder again") from error
    return rows


def import_folder(
    folder: GeoSamFolder,
    store: Path,
    model: ModelInfo,
    decoder_files: Mapping[str, Path],
    *,
    raster: Raster | None = None,
    dtype: str = "float16",
    overwrite: bool = False,
) -> ImportReport:
    """Write the features of a folder into a frozen store.

    Parameters
    ----------
    folder : GeoSamFolder
    store : Path
    model : ModelInfo
        Of the decoder.
    decoder_files : mapping of str to Path
        Its files by their names in the store.
    raster : Raster, optional
        The image. The store then fits it, in QGIS too.
    dtype : str
        Type of the stored features.
    overwrite : bool
        Whether to replace an existing store.

    Returns
    -------
    ImportReport

    Raises
    ------
    RasterError
        If no chip can be read, the chips differ in size, two have one place, or they do not lie on the pixels of the
        raster.
    StoreError, OutputError
        If the store exists or cannot be written.
    """
    if store.exists() and not overwrite:
        raise StoreError(
            f"{store} already exists", "choose another name with -o, or replace the store with --overwrite"
        )
    info, places, moved = _place(folder, raster)
    columns, rows = (sorted({place[axis] for place in places}) for axis in (0, 1))
    metadata = StoreMetadata(
        raster=info,
        bands=folder.bands,
        stretch=Stretch(),
        nodata=None,
        model=model.to_json(),
        dtype=dtype,
        tiling=Tiling(TILE_SIZE, 0, (tuple(columns), tuple(rows))),
        levels=1,
        aoi_sha256=None,
        software=f"Geo-SAM {folder.version}, imported by GeoSAM-ES {__version__}",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )
    tiles = {Tile(0, rows.index(y), columns.index(x)): path for (x, y), path in places.items()}
    damaged = [f"{path}: it is incomplete" for path in folder.damaged]
    writer = StoreWriter.create(store, metadata, decoder_files, overwrite=overwrite, keeps_older=True)
    try:
        encoded = 0
        for tile in metadata.pyramid:
            try:
                features = folder.read(tiles[tile]) if tile in tiles else None
                for name, values in (features or {}).items():
                    if values.shape != model.features.get(name):
                        raise ValueError(f"its features have the shape {values.shape}")
                    if not np.isfinite(values).all():
                        raise ValueError("its features are not finite")
            except ValueError as error:
                features = None
                damaged.append(f"{tiles[tile]}: {error}")
            if features is None:
                writer.skip(tile)
            else:
                writer.write(tile, features)
                encoded += 1
        if not encoded:
            raise RasterError(f"No features can be read ({damaged[0]})", "copy the folder again")
    except BaseException:
        writer.discard()
        raise
    writer.drop_older()
    return ImportReport(encoded, len(metadata.pyramid) - encoded, damaged, moved)


def _place(folder: GeoSamFolder, raster: Raster | None) -> tuple[RasterInfo, dict[tuple[int, int], Path], float]:
    """Return the raster of the store, the file at each first column and row in it, and the largest rounding."""
    if not folder.chips:
        raise RasterError(f"No features of {folder.path} can be read", "copy the folder again")
    first, size = folder.chips[0].transform, folder.chips[0].size
    transforms = np.array([chip.transform for chip in folder.chips])
    origins, steps = transforms[:, [2, 5]], transforms[:, [0, 1, 3, 4]]
    is_alike = np.abs(steps - steps[0]).max() * TILE_SIZE <= first.pixel_size
    if not is_alike or any(chip.size != size for chip in folder.chips) or max(size) != TILE_SIZE:
        raise RasterError(f"The chips of {folder.path} differ in size", _ENCODE)
    low = first.inverse().apply_array(origins).min(axis=0)
    west, north = first.apply(float(low[0]), float(low[1]))
    own = first._replace(c=west, f=north)
    base = own if raster is None else raster.info().transform
    corners = base.inverse().apply_array(origins)
    whole = np.rint(corners).astype(int)
    moved = float(np.abs(corners - whole).max())
    width, height = (int(start) + side for start, side in zip(whole.max(axis=0), size))
    places: dict[tuple[int, int], Path] = {}
    for (x, y), chip in zip(whole, folder.chips):
        other = places.setdefault((int(x), int(y)), chip.path)
        if other is not chip.path:
            raise RasterError(f"{chip.path} and {other} are features of one place", "remove one of them")
    if raster is None:
        digest = hashlib.sha256(repr((tuple(own), sorted(places))).encode()).hexdigest()
        return RasterInfo(folder.image, 0, width, height, digest, folder.crs_wkt, own), places, moved
    info = raster.info()
    if folder.crs_wkt and info.crs_wkt and not same_crs(folder.crs_wkt, info.crs_wkt):
        remedy = "leave out --raster, or give the image that was encoded"
        raise RasterError(f"{raster.path} is not in the CRS of the chips of {folder.path}", remedy)
    has_its_pixels = np.abs(np.subtract(base, own)[[0, 1, 3, 4]]).max() * TILE_SIZE <= _ALIGNED_PX * base.pixel_size
    is_inside = whole.min() >= 0 and width <= info.width and height <= info.height
    is_padded_alike = all(side in (TILE_SIZE, full) for side, full in zip(size, (info.width, info.height)))
    if not (has_its_pixels and is_inside and is_padded_alike and moved <= _ALIGNED_PX):
        right, bottom = first.inverse().apply_array(origins).max(axis=0) - low + size
        east, south = own.apply(float(right), float(bottom))
        raise RasterError(
            f"The chips of {folder.path} do not lie on the pixels of {raster.path}",
            f"leave out --raster, or make an image with their pixels: gdalwarp -r bilinear -te {west!r} {south!r} "
            f'{east!r} {north!r} -tr {own.a!r} {-own.e!r} "{raster.path}" chips.tif',
        )
    return info, places, 0.0
