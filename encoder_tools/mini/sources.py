"""Labelled imagery for training, as `SOURCES.md` of the data describes it.

Each scene is an image pyramid and a raster of object numbers. Folders whose name begins with ``val`` are never read
here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import rasterio.features
import shapely
import shapely.affinity
from numpy.typing import NDArray
from PIL import Image
from rasterio.warp import transform_geom
from shapely.geometry import mapping, shape
from shapely.geometry.base import BaseGeometry

from geosam_es.errors import RasterError

from ..synthetic import synthetic_orthophoto
from .stands import synthetic_stands
from .stripes import striped

LANDCOVER_COLOURS = {"vegetation": (0xFE, 0xDD, 0x3A), "water": (0xE2, 0xA9, 0x29)}
MIN_REGION_PIXELS = 400
LEVELS = 3
MIN_OBJECT_PIXELS = 60
PIXEL_KINDS = ("fields", "coast", "flanders", "atlanta", "stones")
"""Kinds whose outlines are in pixels, in files beside their images."""

SYNTHETIC_SCENES, STAND_SCENES, STAND_SIDE = 24, 60, 768


@dataclass(frozen=True)
class Scene:
    """One image with its objects.

    Attributes
    ----------
    kind : str
        One of `training_images`, ``synthetic`` or ``stands``.
    pyramid : list of uint8 (H / 2^k, W / 2^k, 3)
        The image at full and at lower resolutions.
    ids : int32 (H, W)
        Object number of each pixel, 0 for none.
    outer : tuple of int32 (H, W)
        The same for larger objects that hold those of `ids`: rows of trees, then whole stands. Numbers are unique
        over all rasters.
    boxes : float32 (N + 1, 4)
        x_min, y_min, x_max, y_max of each object; row 0 is unused.
    areas : float32 (N + 1,)
        Number of pixels of each object, 0 for unused numbers.
    """

    kind: str
    pyramid: list[NDArray[np.uint8]]
    ids: NDArray[np.int32]
    boxes: NDArray[np.float32]
    areas: NDArray[np.float32]
    outer: tuple[NDArray[np.int32], ...] = ()

    @property
    def layers(self) -> tuple[NDArray[np.int32], ...]:
        """All rasters of object numbers, the smallest objects first."""
        return self.ids, *self.outer

    @property
    def objects(self) -> NDArray[np.intp]:
        """Numbers of the objects large enough to be prompted."""
        return np.flatnonzero(self.areas >= MIN_OBJECT_PIXELS)


def data_folder(path: Path | None) -> Path:
    """Return the folder of labelled imagery: the argument, otherwise ``GEOSAM_ES_DATA``.

    Raises
    ------
    RasterError
        If neither is a folder.
    """
    chosen = path or Path(os.environ.get("GEOSAM_ES_DATA", ""))
    if not str(chosen).strip(".") or not chosen.is_dir():
        raise RasterError(f"there is no folder of training data at '{chosen}'", "set it with --data or GEOSAM_ES_DATA")
    return chosen


def halve(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the image at half its resolution, each pixel the mean of 2 x 2."""
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    even = image[:height, :width].astype(np.uint16)
    total = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    return ((total + 2) // 4).astype(np.uint8)


def make_scene(kind: str, image: NDArray[np.uint8], *layers: NDArray[np.int32]) -> Scene:
    """Build a scene from an image and rasters of object numbers, the smallest objects first; see `Scene`."""
    pyramid = [image]
    for _ in range(LEVELS - 1):
        pyramid.append(halve(pyramid[-1]))
    count = max(int(ids.max()) for ids in layers) + 1
    areas = np.zeros(count, dtype=np.float32)
    boxes = np.zeros((count, 4), dtype=np.float32)
    boxes[:, :2] = np.inf
    for ids in layers:
        rows, columns = np.nonzero(ids)
        numbers = ids[rows, columns]
        areas += np.bincount(numbers, minlength=count).astype(np.float32)
        np.minimum.at(boxes[:, 0], numbers, columns)
        np.minimum.at(boxes[:, 1], numbers, rows)
        np.maximum.at(boxes[:, 2], numbers, columns + 1)
        np.maximum.at(boxes[:, 3], numbers, rows + 1)
    return Scene(kind, pyramid, layers[0], boxes, areas, layers[1:])


def burn(polygons: Sequence[BaseGeometry], height: int, width: int, first: int = 1) -> NDArray[np.int32]:
    """Rasterise polygons in pixel coordinates to their numbers from `first`; smaller ones cover larger ones."""
    ordered = sorted((p for p in polygons if not p.is_empty), key=lambda p: -p.area)
    if not ordered:
        return np.zeros((height, width), dtype=np.int32)
    shapes = [(mapping(polygon), number) for number, polygon in enumerate(ordered, start=first)]
    ids: NDArray[np.int32] = rasterio.features.rasterize(shapes, (height, width), dtype="int32")
    return ids


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read an image as RGB (H, W, 3), also with a palette; a single band is repeated."""
    if path.suffix in (".png", ".jpg"):
        with Image.open(path) as picture:
            return np.array(picture.convert("RGB"))
    with rasterio.open(path) as dataset:
        bands: NDArray[np.uint8] = dataset.read((1, 2, 3) if dataset.count >= 3 else (1, 1, 1))
    return np.ascontiguousarray(np.moveaxis(bands, 0, -1))


def polygons_in_pixels(labels: Path, image: Path) -> list[BaseGeometry]:
    """Read labels in EPSG:4326 as pixel coordinates of a georeferenced image, clipped to it."""
    with rasterio.open(image) as dataset:
        inverse = ~dataset.transform
        crs, height, width = dataset.crs, dataset.height, dataset.width
    matrix = [inverse.a, inverse.b, inverse.d, inverse.e, inverse.c, inverse.f]
    frame = shapely.box(0, 0, width, height)
    polygons = []
    for geometry in read_geometries(labels):
        warped = shape(transform_geom("EPSG:4326", crs, mapping(geometry)))
        pixels = shapely.make_valid(shapely.affinity.affine_transform(warped, matrix))
        polygons.append(pixels.intersection(frame))
    return polygons


def read_geometries(path: Path) -> list[BaseGeometry]:
    """Read the geometries of a GeoJSON file, made valid."""
    features = json.loads(path.read_text(encoding="utf-8"))["features"]
    return [shapely.make_valid(shape(feature["geometry"])) for feature in features]


def landcover_regions(
    labels: Path, classes: Mapping[str, tuple[int, int, int]] = LANDCOVER_COLOURS
) -> list[tuple[str, BaseGeometry]]:
    """Return the connected parts of each class of a coloured mask, in pixel coordinates."""
    colours = read_rgb(labels)
    regions = []
    for name, colour in classes.items():
        same = np.all(colours == np.array(colour, dtype=np.uint8), axis=2)
        for geometry, value in rasterio.features.shapes(same.astype(np.uint8), mask=same):
            polygon = shape(geometry)
            if value and polygon.area >= MIN_REGION_PIXELS:
                regions.append((name, polygon))
    return regions


_BUILDING_BLOCKS = {
    "train_zanzibar": {"ortho_block0": "labels", "ortho_block1": "labels"},
    "train_banepa": {"ortho_block0": "labels", "ortho_block1": "labels", "ortho_block2": "labels_block2"},
}


def training_images(data: Path) -> dict[str, list[tuple[Path, Path]]]:
    """Return the training images of each kind, each with its file of labels."""
    folders = data / "buildings", data / "landcover" / "train_dubai"
    return {
        "buildings": [
            (folders[0] / folder / f"{block}.tif", folders[0] / folder / f"{labels}.geojson")
            for folder, blocks in _BUILDING_BLOCKS.items()
            for block, labels in blocks.items()
        ],
        "landcover": [(path, path.with_suffix(".png")) for path in sorted(folders[1].glob("*/*.jpg"))],
        **{kind: labelled_in_pixels(data / kind / "train") for kind in PIXEL_KINDS},
    }


def labelled_in_pixels(folder: Path) -> list[tuple[Path, Path]]:
    """Return the images of a folder that have outlines in pixels, each with its file of outlines."""
    images = (path for path in sorted(folder.glob("*")) if path.suffix in (".png", ".jpg", ".tif"))
    return [(path, path.with_name(f"{path.stem}.pixels.geojson")) for path in images]


def check_training_images(data: Path) -> None:
    """Check that every training image and its labels exist.

    Raises
    ------
    RasterError
        If a file is missing.
    """
    for path in (path for images in training_images(data).values() for pair in images for path in pair):
        if not path.is_file():
            raise RasterError(f"training data in '{data}' is incomplete ('{path}' is missing)", "see SOURCES.md")


def _read_scene(kind: str, image: Path, labels: Path) -> Scene:
    if kind == "buildings":
        polygons = polygons_in_pixels(labels, image)
    elif kind == "landcover":
        polygons = [polygon for _, polygon in landcover_regions(labels)]
    else:
        polygons = read_geometries(labels)
    pixels = read_rgb(image)
    return make_scene(kind, pixels, burn(polygons, *pixels.shape[:2]))


def synthetic_scenes(count: int, seed: int) -> list[Scene]:
    """Make synthetic scenes of several pixel sizes, with all objects except roads."""
    scenes = []
    for number in range(count):
        pixel_size = float(np.random.default_rng([seed, number]).choice([0.1, 0.2, 0.35, 0.6, 1.0]))
        scene = synthetic_orthophoto(1024, 1024, pixel_size, seed=1000 * seed + number)
        polygons = [polygon for name, polygon in scene.objects if name != "road"]
        scenes.append(make_scene("synthetic", scene.image, burn(polygons, 1024, 1024)))
    return scenes


def stand_scenes(count: int, seed: int) -> list[Scene]:
    """Make synthetic scenes with three layers of objects: single ones, rows or groups, and whole stands."""
    scenes = []
    for number in range(count):
        stands = synthetic_stands(STAND_SIDE, STAND_SIDE, seed=1000 * seed + number)
        layers, first = [], 1
        for polygons in stands.layers:
            layers.append(burn(polygons, STAND_SIDE, STAND_SIDE, first))
            first += len(polygons)
        scenes.append(make_scene("stands", stands.image, *layers))
    return scenes


def load_scenes(data: Path, seed: int) -> list[Scene]:
    """Read all training imagery and make synthetic scenes.

    Every image of fields appears twice, the second time cut into strips.

    Raises
    ------
    RasterError
        If a file is missing or cannot be read.
    """
    try:
        scenes = [_read_scene(kind, *paths) for kind, images in training_images(data).items() for paths in images]
    except (OSError, rasterio.errors.RasterioError) as error:
        raise RasterError(f"training data in '{data}' is incomplete ({error})", "see SOURCES.md") from error
    rng = np.random.default_rng(seed)
    fields = [scene for scene in scenes if scene.kind == "fields"]
    scenes += [make_scene("fields", *striped(s.pyramid[0], s.ids, s.boxes, rng)) for s in fields]
    scenes += synthetic_scenes(SYNTHETIC_SCENES, seed) + stand_scenes(STAND_SCENES, seed)
    return [scene for scene in scenes if len(scene.objects)]
