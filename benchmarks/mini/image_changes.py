"""Changes of the held-out images that imitate other sensors, seasons and formats."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
import shapely.affinity
from numpy.typing import NDArray
from PIL import Image
from rasterio.transform import from_origin
from shapely.geometry.base import BaseGeometry

from encoder_tools.mini.labelled_tiles import BUILDING_PIXEL_M, LabelledScene, coarser
from encoder_tools.raster import Raster
from geosam_es.core.window import Window
from geosam_es.encoding.stretch import decide_stretch
from geosam_es.errors import RasterError
from geosam_es.inference.encoder import FILL_RGB

__all__ = ["CHANGES", "Change", "NearInfrared", "changed"]

RGB = NDArray[np.uint8]
LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)
FIELD_PIXEL_M = 1.0
"""From the georeference of ``ortho/naip_fields_rgb_4326.tif``, which is one of the training images."""
NAIP_RGBN = Path("ortho") / "naip_virginia_rgbn_26917.tif"
NOISE_DN = 4.0


class NearInfrared:
    """A near infrared band simulated from red, green and blue.

    No labelled image has one. A polynomial of second degree is fitted to the one image with such a band (NAIP,
    Virginia), so that plants are bright and water is dark.

    Parameters
    ----------
    data : Path
        Folder of labelled imagery.

    Attributes
    ----------
    r_squared : float
        Share of the variance of the real band explained by the fit.

    Raises
    ------
    RasterError
        If that image is missing.
    """

    def __init__(self, data: Path) -> None:
        try:
            with rasterio.open(data / NAIP_RGBN) as dataset:
                bands: NDArray[np.uint8] = dataset.read()
        except rasterio.errors.RasterioError as error:
            raise RasterError(f"'{data}' has no '{NAIP_RGBN}'", "see SOURCES.md") from error
        terms = _terms(np.moveaxis(bands[:3], 0, -1).reshape(-1, 3))
        wanted = bands[3].reshape(-1).astype(np.float64)
        self.weights = np.linalg.lstsq(terms, wanted, rcond=None)[0]
        self.r_squared = float(1 - np.var(wanted - terms @ self.weights) / np.var(wanted))

    def of(self, image: RGB) -> NDArray[np.uint8]:
        """Return the band (H, W) of an image (H, W, 3)."""
        values: NDArray[np.float64] = _terms(image.reshape(-1, 3)) @ self.weights
        return np.clip(values, 0, 255).astype(np.uint8).reshape(image.shape[:2])


def _terms(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return 1, the bands and their products (N, 10) of pixels (N, 3)."""
    bands = pixels.astype(np.float64) / 255
    products = [bands[:, first] * bands[:, second] for first in range(3) for second in range(first, 3)]
    return np.stack([np.ones(len(bands)), *bands.T, *products], axis=1)


def through_product(bands: NDArray[np.uint8] | NDArray[np.uint16], chosen: Sequence[int] | None = None) -> RGB:
    """Write bands (N, H, W) as a GeoTIFF and read it as the product does, with its bands and stretch.

    Returns
    -------
    uint8 (H, W, 3)
    """
    count, height, width = bands.shape
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.tif"
        profile = {"count": count, "height": height, "width": width, "dtype": bands.dtype, "crs": "EPSG:3857"}
        # Otherwise GDAL takes the fourth of four bands for transparency.
        profile |= {"photometric": "minisblack", "alpha": "no", "transform": from_origin(500_000, 4_000_000, 1, 1)}
        with rasterio.open(path, "w", driver="GTiff", **profile) as dataset:
            dataset.write(bands)
        raster = Raster(path, chosen)
        pixels, valid = raster.read_bands(Window(0, 0, width, height), 1)
        image = decide_stretch(raster).apply(pixels, valid, FILL_RGB)
        raster.close()
    return image


def one_band(image: RGB) -> RGB:
    """Show the luminance alone."""
    return through_product((image @ LUMINANCE).astype(np.uint8)[None])


def sixteen_bits(image: RGB) -> RGB:
    """Convert an image to dark 16-bit values with a non-linear response and noise, and stretch it again."""
    noise = np.random.default_rng(0).normal(0, NOISE_DN, image.shape)
    values = 180 + 3200 * (image / 255.0) ** 1.4 + noise
    return through_product(np.moveaxis(np.clip(values, 0, 65535).astype(np.uint16), -1, 0))


def false_colour(near_infrared: NearInfrared, image: RGB) -> RGB:
    """Replace red, green and blue by near infrared, red and green."""
    return through_product(np.stack([*np.moveaxis(image, -1, 0), near_infrared.of(image)]), (4, 1, 2))


def _linear(gain: float, offset: float) -> Callable[[RGB], RGB]:
    return lambda image: np.clip(image * np.float32(gain) + offset, 0, 255).astype(np.uint8)


def jpeg(image: RGB, quality: int = 30) -> RGB:
    """Compress and read again."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as picture:
        return np.array(picture)


def rotated(scene: LabelledScene, degrees: float) -> LabelledScene:
    """Rotate a scene anticlockwise, with padding around it."""
    height, width = scene.image.shape[:2]
    picture = Image.fromarray(scene.image)
    turned = np.array(picture.rotate(degrees, Image.Resampling.BILINEAR, expand=True, fillcolor=FILL_RGB))
    shift = (turned.shape[1] - width) / 2, (turned.shape[0] - height) / 2

    def turn(polygon: BaseGeometry) -> BaseGeometry:
        about = shapely.affinity.rotate(polygon, -degrees, origin=(width / 2, height / 2))
        return shapely.affinity.translate(about, *shift)

    return replace(scene, image=turned, polygons=[turn(polygon) for polygon in scene.polygons])


Change = tuple[str, str, float]
"""Name, kind, and a number: degrees, or metres per pixel."""

CHANGES: tuple[Change, ...] = (
    ("one band (luminance)", "one band", 0),
    ("NIR-R-G, NIR simulated", "false colour", 0),
    ("bands swapped (B, R, G)", "swapped", 0),
    ("16 bits, stretched 2 to 98 %", "16 bits", 0),
    ("darker (x 0.6)", "dark", 0),
    ("brighter (x 1.5)", "bright", 0),
    ("half the contrast", "contrast", 0),
    ("haze (45 %)", "haze", 0),
    ("JPEG quality 30", "jpeg", 0),
    ("turned by 90 degrees", "rotated", 90),
    ("turned by 37 degrees", "rotated", 37),
    ("buildings at 0.1 m", "buildings", 0.1),
    ("buildings at 0.2 m", "buildings", 0.2),
    ("buildings at 0.3 m", "buildings", 0.3),
    ("fields at 2 m", "fields", 2),
    ("fields at 3 m", "fields", 3),
    ("fields at 5 m", "fields", 5),
)

NATIVE_PIXEL_M = {"buildings": BUILDING_PIXEL_M, "fields": FIELD_PIXEL_M}

COLOURS: dict[str, Callable[[RGB], RGB]] = {
    "one band": one_band,
    "swapped": lambda image: np.ascontiguousarray(image[..., [2, 0, 1]]),
    "16 bits": sixteen_bits,
    "dark": _linear(0.6, 0),
    "bright": _linear(1.5, 0),
    "contrast": _linear(0.5, 60),
    "haze": _linear(0.55, 0.45 * 0.75 * 255),
    "jpeg": jpeg,
}


def changed(scene: LabelledScene, change: Change, near_infrared: NearInfrared) -> LabelledScene | None:
    """Return the changed scene with its objects in the same order; None if the change does not apply to it."""
    _, kind, amount = change
    if kind in NATIVE_PIXEL_M:
        return coarser(scene, amount / NATIVE_PIXEL_M[kind]) if scene.dataset.startswith(kind) else None
    if kind == "rotated":
        return rotated(scene, amount)
    if kind == "false colour":
        return replace(scene, image=false_colour(near_infrared, scene.image))
    return replace(scene, image=COLOURS[kind](scene.image))
