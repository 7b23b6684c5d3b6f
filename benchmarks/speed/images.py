"""Images for the benchmark: real ones if available, otherwise a synthetic orthophoto."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

from encoder_tools.demo import DATA_VARIABLE
from encoder_tools.synthetic import synthetic_orthophoto

__all__ = ["orthophotos", "real_images", "synthetic_pixels", "write_raster"]

_REAL = (
    "buildings/val_kampala/ortho_block1.tif",
    "ortho/naip_fields_rgb_4326.tif",
    "ortho/valencia_rgb_nodata_3395.tif",
    "buildings/val_kampala/ortho_block0.tif",
    "ortho/netherlands_rgb_28992.tif",
)
_SIDE = 1024


def real_images() -> list[Path]:
    """Return real orthophotos from the folder of GEOSAM_ES_DATA, or the one beside the repository."""
    folder = Path(os.environ.get(DATA_VARIABLE) or Path(__file__).parents[3] / "shared" / "data")
    return [folder / name for name in _REAL if (folder / name).is_file()]


def orthophotos(work: Path, most: int) -> tuple[list[Path], str]:
    """Return up to ``most`` real orthophotos, otherwise a synthetic one in a folder, and what to call them."""
    found = real_images()[:most]
    if found:
        return found, f"{len(found)} real orthophotos"
    return [write_raster(work / "synthetic.tif", _SIDE, _SIDE)], "a synthetic orthophoto"


def synthetic_pixels(width: int, height: int) -> NDArray[np.uint8]:
    """Return a synthetic orthophoto (3, height, width); large ones repeat a part, mirrored."""
    # The speed of reading depends on the amount of detail, for which repetition does not matter.
    part = synthetic_orthophoto(_SIDE, _SIDE, 0.25, seed=0).image
    pixels = np.moveaxis(part, -1, 0)
    repeats = (0, 0), (0, max(0, height - _SIDE)), (0, max(0, width - _SIDE))
    return np.ascontiguousarray(np.pad(pixels, repeats, mode="symmetric")[:, :height, :width])


def write_raster(path: Path, width: int, height: int, **profile: object) -> Path:
    """Write a synthetic orthophoto as a tiled GeoTIFF."""
    options = {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": 3,
        "width": width,
        "height": height,
        "crs": "EPSG:25830",
        "transform": from_origin(728_000, 4_372_000, 0.25, 0.25),
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        **profile,
    }
    with rasterio.open(path, "w", **options) as dataset:
        dataset.write(synthetic_pixels(width, height))
    return path
