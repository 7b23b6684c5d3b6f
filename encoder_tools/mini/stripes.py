"""Strip cropping painted into real fields: large ones are cut into parallel, often curved strips."""

from __future__ import annotations

import numpy as np
import rasterio.features
from numpy.typing import NDArray

MIN_SIDE = 90.0
"""Smallest shorter side, in pixels, of a field that may be cut."""

STRIPED_SHARE = 0.6

RING_SHARE = 0.35
"""Share of the cut fields that become concentric rings."""


def striped(
    image: NDArray[np.uint8], ids: NDArray[np.int32], boxes: NDArray[np.float32], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Return a copy of a picture in which most large fields are cut into strips, each a separate object.

    Neighbouring strips have one of up to three crops, with a thin line between them.

    Parameters
    ----------
    image : uint8 (H, W, 3)
    ids : int32 (H, W)
        Object number of each pixel, 0 where there is none.
    boxes : float32 (N, 4)
        x_min, y_min, x_max, y_max of each object, infinite where there is none.
    rng : Generator
    """
    image, ids = image.copy(), ids.copy()
    sides = np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    for number in np.flatnonzero(sides >= MIN_SIDE):
        if rng.random() < STRIPED_SHARE:
            _cut(image, ids, int(number), boxes[number].astype(int), rng)
    return image, ids


def _cut(
    image: NDArray[np.uint8], ids: NDArray[np.int32], number: int, box: NDArray[np.int_], rng: np.random.Generator
) -> None:
    """Cut one object into strips, in place."""
    x0, y0, x1, y1 = (int(value) for value in box)
    inside = ids[y0:y1, x0:x1] == number
    y, x = np.mgrid[0 : y1 - y0, 0 : x1 - x0].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    across, along = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    length = rng.uniform(120.0, 600.0)
    if rng.random() < 0.7:
        across = across + rng.uniform(0.1, 0.9) * length / 6.3 * np.sin(6.283 * along / length + rng.uniform(0, 6.28))
    period = rng.uniform(18.0, 60.0)
    line = rng.uniform(1.5, min(10.0, 0.3 * period))
    if rng.random() < RING_SHARE:
        # Contours around a hill: closed strips, one inside the other.
        top = rng.uniform(-0.2, 1.2, 2) * (x1 - x0, y1 - y0)
        across = np.hypot(x - top[0], (y - top[1]) * rng.uniform(0.5, 2.0)) + 0.15 * across
    strip = np.floor(across / period).astype(np.int32)
    strip -= strip.min()
    between = (across / period - np.floor(across / period)) * period < line
    soil = image[y0:y1, x0:x1][inside].mean(0) + rng.normal(0.0, 22.0) + rng.normal(0.0, 8.0, 3)
    crops = int(rng.integers(1, 4))
    gains = np.exp(rng.normal(0.0, 0.12, (crops, 1)) + rng.normal(0.0, 0.06, (crops, 3)))
    part = image[y0:y1, x0:x1].astype(np.float32)
    painted = part * gains[strip % crops]
    if rng.random() < 0.8:
        painted[between] = soil + 0.4 * (part[between] - part[between].mean(0))
    image[y0:y1, x0:x1][inside] = np.clip(painted, 0, 255).astype(np.uint8)[inside]
    kept = inside & ~between
    # A strip that the border of the field cuts into parts becomes several objects.
    regions = rasterio.features.shapes(strip, mask=kept)
    numbered = [(geometry, number) for number, (geometry, _) in enumerate(regions, start=int(ids.max()) + 1)]
    parts = rasterio.features.rasterize(numbered, strip.shape, dtype="int32") if numbered else np.zeros_like(strip)
    ids[y0:y1, x0:x1][inside] = np.where(kept, parts, 0)[inside]
