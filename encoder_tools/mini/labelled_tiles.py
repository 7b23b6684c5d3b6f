"""Labelled scenes as whole images, and the tiles that their objects lie on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import shapely
import shapely.affinity
from numpy.typing import NDArray
from PIL import Image
from rasterio.errors import RasterioError
from shapely.geometry.base import BaseGeometry

from geosam_es.errors import RasterError
from geosam_es.inference.encoder import FILL_RGB, TILE_SIZE

from .sources import (
    PIXEL_KINDS,
    labelled_in_pixels,
    landcover_regions,
    polygons_in_pixels,
    read_geometries,
    read_rgb,
    training_images,
)

__all__ = [
    "BUILDING_PIXEL_M",
    "MIN_AREA_PIXELS",
    "LabelledScene",
    "Tile",
    "coarser",
    "evaluation_scenes",
    "tiles",
    "training_scenes",
    "windows",
]

WINDOW_STEP = 256
MIN_AREA_M2 = 10.0
MIN_AREA_PIXELS = 100.0
BUILDING_PIXEL_M = 0.0746
LANDCOVER_KINDS = ("water", "vegetation")


@dataclass(frozen=True)
class LabelledScene:
    """An image with its labelled objects.

    Attributes
    ----------
    dataset : str
        Data set that the results are reported for.
    image : uint8 (H, W, 3)
    polygons : list of geometry
        Objects in pixel coordinates.
    """

    dataset: str
    image: NDArray[np.uint8]
    polygons: list[BaseGeometry]


@dataclass(frozen=True)
class Tile:
    """A tile with the objects that are prompted on it.

    Attributes
    ----------
    dataset : str
    image : uint8 (1024, 1024, 3)
    width, height : int
        Size of the image in the tile, without padding.
    polygons : list of geometry
        In pixels of the tile.
    numbers : list of int
        Index of each object in the scene.
    """

    dataset: str
    image: NDArray[np.uint8]
    width: int
    height: int
    polygons: list[BaseGeometry]
    numbers: list[int]


def evaluation_scenes(data: Path) -> Iterator[LabelledScene]:
    """Yield the held-out images with their objects.

    Raises
    ------
    RasterError
        If a folder is missing.
    """
    names = ("buildings/val_kampala", "fields/val", "landcover/val_dubai", "coast/val")
    folders = {name: data / name for name in names}
    for name, folder in folders.items():
        if not folder.is_dir():
            raise RasterError(f"'{data}' has no '{name}'", "see SOURCES.md")
    for block in sorted(folders["buildings/val_kampala"].glob("*.tif")):
        yield _buildings("buildings/val_kampala", block, block.with_name("labels.geojson"))
    for paths in labelled_in_pixels(folders["fields/val"]):
        yield _in_pixels("fields/val", *paths)
    for path in sorted(folders["landcover/val_dubai"].glob("*/*.jpg")):
        yield from _landcover("landcover/val_dubai", path, path.with_suffix(".png"))
    for paths in labelled_in_pixels(folders["coast/val"]):
        yield _in_pixels("coast/val", *paths)


def training_scenes(data: Path) -> dict[str, list[LabelledScene]]:
    """Read the training images of each kind, for settings that must not be chosen on held-out images.

    Raises
    ------
    RasterError
        If a file is missing or cannot be read.
    """
    images = training_images(data)
    try:
        return {
            "buildings": [_buildings("buildings/train", *paths) for paths in images["buildings"]],
            "landcover": [s for paths in images["landcover"] for s in _landcover("landcover/train_dubai", *paths)],
            **{kind: [_in_pixels(f"{kind}/train", *paths) for paths in images[kind]] for kind in PIXEL_KINDS},
        }
    except (OSError, RasterioError) as error:
        raise RasterError(f"training data in '{data}' is incomplete ({error})", "see SOURCES.md") from error


def _buildings(dataset: str, image: Path, labels: Path) -> LabelledScene:
    least = MIN_AREA_M2 / BUILDING_PIXEL_M**2
    polygons = [polygon for polygon in polygons_in_pixels(labels, image) if polygon.area >= least]
    return LabelledScene(dataset, read_rgb(image), polygons)


def _in_pixels(dataset: str, image: Path, labels: Path) -> LabelledScene:
    pixels = read_rgb(image)
    frame = shapely.box(0, 0, pixels.shape[1], pixels.shape[0])
    polygons = [polygon.intersection(frame) for polygon in read_geometries(labels)]
    return LabelledScene(dataset, pixels, [polygon for polygon in polygons if polygon.area >= MIN_AREA_PIXELS])


def _landcover(dataset: str, image: Path, labels: Path) -> Iterator[LabelledScene]:
    regions = landcover_regions(labels)
    for kind in LANDCOVER_KINDS:
        chosen = [polygon for name, polygon in regions if name == kind]
        if chosen:
            yield LabelledScene(f"{dataset} {kind}", read_rgb(image), chosen)


def coarser(scene: LabelledScene, factor: float) -> LabelledScene:
    """Resample a scene to pixels larger by a factor, each the mean of what it covers."""
    height, width = scene.image.shape[:2]
    size = max(1, round(width / factor)), max(1, round(height / factor))
    image = np.array(Image.fromarray(scene.image).resize(size, Image.Resampling.BOX))
    scale = size[0] / width, size[1] / height
    polygons = [shapely.affinity.scale(polygon, *scale, origin=(0, 0)) for polygon in scene.polygons]
    return replace(scene, image=image, polygons=polygons)


def _origins(length: int) -> NDArray[np.int64]:
    """Return the origins of windows along one axis: every 256 px, and one at the end."""
    last = max(0, length - TILE_SIZE)
    return np.unique(np.append(np.arange(0, last, WINDOW_STEP), last))


def windows(scene: LabelledScene) -> dict[tuple[int, int], list[int]]:
    """Assign every object to the window (x, y) that shows it with the widest margin; larger objects are skipped.

    Returns
    -------
    dict of (int, int) to list of int
        Indices of the objects of each window.
    """
    height, width = scene.image.shape[:2]
    chosen: dict[tuple[int, int], list[int]] = {}
    for number, polygon in enumerate(scene.polygons):
        x0, y0, x1, y1 = polygon.bounds
        if max(x1 - x0, y1 - y0) > TILE_SIZE:
            continue
        origin = []
        for low, high, length in ((x0, x1, width), (y0, y1, height)):
            starts = _origins(length)
            margins = np.minimum(low - starts, starts + TILE_SIZE - high)
            origin.append(int(starts[int(np.argmax(margins))]))
        chosen.setdefault((origin[0], origin[1]), []).append(number)
    return chosen


def tiles(scene: LabelledScene) -> Iterator[Tile]:
    """Yield the tiles that hold a scene's objects, padded on the right and at the bottom."""
    for (x, y), numbers in windows(scene).items():
        image = np.full((TILE_SIZE, TILE_SIZE, 3), FILL_RGB, dtype=np.uint8)
        part = scene.image[y : y + TILE_SIZE, x : x + TILE_SIZE]
        height, width = part.shape[:2]
        image[:height, :width] = part
        polygons = [shapely.affinity.translate(scene.polygons[number], -x, -y) for number in numbers]
        yield Tile(scene.dataset, image, width, height, polygons, numbers)
