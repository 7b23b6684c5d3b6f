"""A model whose answers are known, and stores made with it.

The features of a tile are its own image, averaged over 4 x 4 pixels, and the decoder answers with the bright blob under
the prompt. So whatever the tiles, the right polygon is the blob, and everything between prompt and polygon can be
checked exactly.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geosam_es.core.contour import polygon_logits
from geosam_es.core.geotransform import GeoTransform
from geosam_es.core.grid import LevelGrid, Tile, Tiling
from geosam_es.core.prompts import Bounds, Prompts
from geosam_es.core.radiometry import Stretch
from geosam_es.inference.decoder import Context, DecodedMasks
from geosam_es.inference.segmenter import Segmenter
from geosam_es.store import StoreMetadata, StoreReader, StoreWriter
from geosam_es.store.decoders import ORIGINAL, StoreDecoder, install_decoder
from geosam_es.store.metadata import RasterInfo

SIDE = 256
FEATURES = {"image_embeddings": (1, SIDE, SIDE)}
MODEL = {"name": "blobs", "encoder_sha256": "0" * 64, "licence": "GPL-3.0-or-later", "features": FEATURES}


class BlobDecoder:
    """Answers with the bright blob under the prompts: whole, and as candidates a part, a sub-part and nothing."""

    def __init__(self) -> None:
        self.prepared = 0
        self.calls: list[tuple[Prompts, NDArray[np.float32] | None]] = []

    def prepare(self, features: Mapping[str, NDArray[np.float32]]) -> Context:
        self.prepared += 1
        return dict(features)

    def decode(self, context: Context, prompts: Prompts, mask_input: NDArray[np.float32] | None = None) -> DecodedMasks:
        self.calls.append((prompts, mask_input))
        # The level set of one half falls where the edge of the blob does.
        field = (context["image_embeddings"][0, 0] - 0.5) * 20
        blobs, _ = ndimage.label(field > 0, structure=np.ones((3, 3)))
        wanted = self._labels(blobs, prompts)
        near = ndimage.binary_dilation(np.isin(blobs, list(wanted)), iterations=2) if wanted else blobs > blobs.max()
        whole = np.where(near & ((field <= 0) | np.isin(blobs, list(wanted))), field, -10.0)
        part = np.where(ndimage.binary_erosion(whole > 0, iterations=4), np.float32(10), np.float32(-10))
        nothing = np.full_like(whole, -10.0)
        masks = np.stack([whole, part, whole, nothing]).astype(np.float32, copy=False)
        return DecodedMasks(masks, np.array([0.95, 0.6, 0.9, 0.1], np.float32))

    def _labels(self, blobs: NDArray[np.int32], prompts: Prompts) -> set[int]:
        def at(x: float, y: float) -> int:
            return int(blobs[min(int(y // 4), SIDE - 1), min(int(x // 4), SIDE - 1)])

        chosen = {at(p.x, p.y) for p in prompts.points if p.positive}
        if prompts.box is not None:
            left, top, right, bottom = (int(v // 4) for v in prompts.box)
            chosen |= set(np.unique(blobs[top : bottom + 1, left : right + 1]).tolist())
        if prompts.outline is not None:
            chosen |= set(np.unique(blobs[polygon_logits(prompts.outline, 4 * SIDE, SIDE) > 0]).tolist())
        return chosen - {0} - {at(p.x, p.y) for p in prompts.points if not p.positive}


def make_metadata(
    width: int, height: int, overlap: int = 256, levels: int = 99, transform: GeoTransform | None = None
) -> StoreMetadata:
    transform = transform or GeoTransform(1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    raster = RasterInfo("blobs.tif", 1, width, height, "f" * 64, "", transform)
    probe = StoreMetadata(
        raster, (1, 2, 3), Stretch(), None, MODEL, "float32", Tiling(1024, overlap), levels, None, "tests", "2026-01-01"
    )
    actual = len(probe.pyramid.grids)
    return StoreMetadata(**{**probe.__dict__, "levels": actual})


def make_store(
    folder: Path,
    image: NDArray[np.float32],
    overlap: int = 256,
    levels: int = 99,
    transform: GeoTransform | None = None,
    name: str = "blobs",
) -> Path:
    """Write a store of an image with values from 0 to 1, without any raster file."""
    height, width = image.shape
    metadata = make_metadata(width, height, overlap, levels, transform)
    decoder = folder / "decoder.bin"
    decoder.write_bytes(b"not an ONNX file: these stores are read with BlobDecoder")
    root = folder / f"{name}.embeddings.zarr"
    writer = StoreWriter.create(root, metadata, {"decoder.onnx": decoder})
    for grid in metadata.pyramid.grids:
        _write_level(writer, grid, _reduce(image, int(grid.scale))[: grid.height, : grid.width], grid)
    return root


def add_enlarged(root: Path, image: NDArray[np.float32], level: int, around: Bounds) -> None:
    """Add the tiles of an enlarged level that touch a rectangle in native pixels to a store of `make_store`."""
    writer = StoreWriter(root, StoreReader(root).metadata)
    grid = writer.metadata.pyramid.grid(level)
    _write_level(writer, grid, image.repeat(1 << -level, 0).repeat(1 << -level, 1), grid.touching(around))


def _write_level(writer: StoreWriter, grid: LevelGrid, image: NDArray[np.float32], tiles: Iterable[Tile]) -> None:
    for tile in tiles:
        col, row, width, height = grid.window(tile.row, tile.col)
        padded = np.zeros((1024, 1024), np.float32)
        padded[:height, :width] = image[row : row + height, col : col + width]
        writer.write(tile, {"image_embeddings": _reduce(padded, 4)[None]})


def _reduce(image: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    if factor == 1:
        return image
    height, width = image.shape[0] // factor, image.shape[1] // factor
    blocks = image[: height * factor, : width * factor].reshape(height, factor, width, factor)
    # Rows first, which lie together in memory: half the time of a mean over both axes.
    return (blocks.sum(axis=1, dtype=np.float64).sum(axis=2) / factor**2).astype(np.float32)


def open_blobs(root: Path) -> Segmenter:
    return Segmenter(StoreReader(root), BlobDecoder())


def disc(shape: tuple[int, int], x: float, y: float, radius: float) -> NDArray[np.float32]:
    """Draw a disc with a soft edge, so that its outline is known to a fraction of a pixel."""
    image = np.zeros(shape, np.float32)
    reach = radius + 9
    rows = slice(max(0, int(y - reach)), max(0, int(y + reach)))
    cols = slice(max(0, int(x - reach)), max(0, int(x + reach)))
    ys, xs = np.mgrid[rows.start : min(rows.stop, shape[0]), cols.start : min(cols.stop, shape[1])] + 0.5
    image[rows, cols] = np.clip((radius - np.hypot(xs - x, ys - y)) / 16 + 0.5, 0, 1)
    return image


def make_decoder(
    folder: Path,
    name: str,
    files: Mapping[str, bytes] | None = None,
    weights: bytes = b"trained",
    prefix: str = "sha256:",
    **info: object,
) -> Path:
    """Write the folder of a tuned decoder, by default of files that are no ONNX."""
    contents = dict(files or {"prepare.onnx": b"prepare " + weights, "decoder.onnx": b"decoder " + weights})
    folder.mkdir(parents=True)
    for file_name, content in contents.items():
        (folder / file_name).write_bytes(content)
    hashes = {key: prefix + hashlib.sha256(content).hexdigest() for key, content in contents.items()}
    document = {
        "name": name,
        "model": MODEL["name"],
        "encoder_sha256": MODEL["encoder_sha256"],
        "prepare_sha256": hashes["prepare.onnx"],
        "decoder_sha256": hashes["decoder.onnx"],
        "base": ORIGINAL,
        "objects": 12,
        "created": "2026-11-20T10:00:00+00:00",
        "software": "tests",
        "summary": {},
        **info,
    }
    (folder / "decoder.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def add_decoder(store: Path, folder: Path, name: str | None = None) -> StoreDecoder:
    """Copy a decoder into a store without loading it or putting it in use."""
    return install_decoder(store, folder, lambda *_: None, name, use=False)
