"""Small stores of `mini` and of SAM whose features show bright objects, and decoders with random weights."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import shapely
import torch
from numpy.typing import NDArray

from encoder_tools.mini.export import export_decoder_graphs
from encoder_tools.mini.fold_batch_norm import fold
from encoder_tools.mini.network import MiniNet
from geosam_es.core.geotransform import GeoTransform
from geosam_es.core.grid import Tiling
from geosam_es.core.radiometry import Stretch
from geosam_es.store import StoreMetadata, StoreWriter
from geosam_es.store.metadata import RasterInfo
from tests.encoder_tools.scenes import write_layer

Features = dict[str, NDArray[np.float32]]

SIDE = 1024
CRS = "EPSG:25830"
MINI = {"name": "mini", "encoder_sha256": "sha256:" + "a" * 64, "licence": "CC0-1.0"}


def random_mini(seed: int) -> MiniNet:
    """Return a network whose batch normalisations have seen something, as those of a trained one have."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = MiniNet().eval()
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0.0, 0.1)  # type: ignore[union-attr]
                module.running_var.uniform_(0.6, 1.4)  # type: ignore[union-attr]
                module.weight.data.uniform_(0.8, 1.2)
                module.bias.data.normal_(0.0, 0.1)
    return net


def write_mini_decoder(folder: Path, seed: int = 0) -> Path:
    """Write ``prepare.onnx`` and ``decoder.onnx`` of a random network."""
    folder.mkdir(parents=True, exist_ok=True)
    export_decoder_graphs(fold(random_mini(seed)).decoder, folder)
    return folder


def object_boxes(count: int, seed: int) -> list[tuple[int, int, int, int]]:
    """Return boxes in pixels of a tile, left, top, right and bottom, that do not touch, in cells of 256 px."""
    rng = np.random.default_rng(seed)
    boxes: list[tuple[int, ...]] = []
    for cell in rng.permutation(16)[:count]:
        size = rng.integers(70, 180, 2)
        start = rng.integers(20, 60, 2)
        left, top = 256 * (cell % 4) + start[0], 256 * (cell // 4) + start[1]
        edges = (left, top, left + size[0], top + size[1])
        # On the edges of a mask's cells, so that each cell is in or out.
        boxes.append(tuple(int(edge) // 4 * 4 for edge in edges))
    return [(box[0], box[1], box[2], box[3]) for box in boxes]


def brightness(boxes: Sequence[tuple[int, int, int, int]]) -> NDArray[np.float32]:
    """Return (256, 256): 1 in objects, 0 beside them."""
    image = np.zeros((SIDE, SIDE), np.float32)
    for left, top, right, bottom in boxes:
        image[top:bottom, left:right] = 1.0
    return image.reshape(256, 4, 256, 4).mean((1, 3))


def mini_features(boxes: Sequence[tuple[int, int, int, int]]) -> NDArray[np.float32]:
    """Return features (512, 64, 64) as packed as `mini`'s, with brightness on all three scales."""
    image = torch.from_numpy(brightness(boxes))[None, None]
    rng = torch.Generator().manual_seed(0)
    maps = []
    for channels, stride in ((16, 1), (32, 2), (128, 4)):
        small = torch.nn.functional.avg_pool2d(image, stride)
        mixed = torch.randn((1, channels, 1, 1), generator=rng) * (2 * small - 1)
        maps.append(torch.nn.functional.pixel_unshuffle(mixed, 4 // stride))
    return torch.cat(maps, dim=1)[0].numpy()


def sam_features(boxes: Sequence[tuple[int, int, int, int]]) -> NDArray[np.float32]:
    """Return features (256, 64, 64) that know where objects are, and which of them each is."""
    rng = np.random.default_rng(0)
    features = 0.02 * rng.standard_normal((256, 64, 64)).astype(np.float32)
    for box in boxes:
        cells = brightness([box]).reshape(64, 4, 64, 4)
        # Each of a cell's 16 parts has channels of its own, as a small object needs them.
        parts = cells.transpose(1, 3, 0, 2).reshape(16, 64, 64)
        features += np.einsum("cp,phw->chw", rng.standard_normal((256, 16)).astype(np.float32) * 0.3, parts)
    return features


def sam2_features(boxes: Sequence[tuple[int, int, int, int]], shapes: Mapping[str, tuple[int, int, int]]) -> Features:
    """Return the three maps of a SAM 2 for smaller images, with the same knowledge."""
    rng = np.random.default_rng(1)
    fine = torch.from_numpy(brightness(boxes))
    found = {}
    for name, (channels, side, _) in shapes.items():
        cells = torch.nn.functional.adaptive_avg_pool2d(fine[None, None], side)[0]
        found[name] = rng.standard_normal((channels, 1, 1)).astype(np.float32) * (2 * cells.numpy() - 1)
    coarse = torch.from_numpy(sam_features(boxes))
    side = shapes["image_embeddings"][1]
    found["image_embeddings"] = torch.nn.functional.adaptive_avg_pool2d(coarse, side).numpy()
    return found


def write_store(
    folder: Path,
    number: int,
    features: NDArray[np.float32] | Features,
    decoder: Path,
    model: dict[str, object],
    crs: str = CRS,
) -> Path:
    """Write a store of one tile, some way from those of other numbers."""
    import pyproj

    maps = features if isinstance(features, dict) else {"image_embeddings": features}
    model = {**model, "features": {name: list(values.shape) for name, values in maps.items()}}
    transform = GeoTransform(0.5, 0.0, 700_000.0 + 2000 * number, 0.0, -0.5, 4_400_000.0)
    wkt = pyproj.CRS.from_user_input(crs).to_wkt()
    raster = RasterInfo(f"scene{number}.tif", 1, SIDE, SIDE, f"{number:064d}", wkt, transform)
    metadata = StoreMetadata(
        raster, (1, 2, 3), Stretch(), None, model, "float16", Tiling(), 1, None, "tests", "2026-01-01"
    )
    files = {name: decoder / name for name in ("prepare.onnx", "decoder.onnx")}
    root = folder / f"scene{number}.embeddings.zarr"
    writer = StoreWriter.create(root, metadata, files)
    writer.write(next(iter(metadata.pyramid)), maps)
    return root


def on_map(number: int, box: tuple[int, int, int, int]) -> shapely.Polygon:
    """Return a box in pixels of a store as a polygon on the map."""
    left, top, right, bottom = box
    x, y = 700_000.0 + 2000 * number, 4_400_000.0
    return shapely.box(x + 0.5 * left, y - 0.5 * bottom, x + 0.5 * right, y - 0.5 * top)


def write_mini_scene(folder: Path, stores: int, objects: int, decoder: Path) -> tuple[list[Path], Path]:
    """Write stores of bright objects, and the layer of their outlines with a field ``kind``."""
    roots, polygons = [], []
    for number in range(stores):
        boxes = object_boxes(objects, number)
        roots.append(write_store(folder, number, mini_features(boxes), decoder, dict(MINI)))
        polygons += [on_map(number, box) for box in boxes]
    kinds = ["field" if index % 4 else "pond" for index in range(len(polygons))]
    return roots, write_layer(folder / "truth.gpkg", polygons, kind=kinds)


def copy_scene(scene: tuple[list[Path], Path], folder: Path) -> tuple[list[Path], Path]:
    """Copy stores and layer, so that a test may damage them."""
    stores, truth = scene
    for store in stores:
        shutil.copytree(store, folder / store.name)
    shutil.copy(truth, folder)
    return [folder / store.name for store in stores], folder / truth.name
