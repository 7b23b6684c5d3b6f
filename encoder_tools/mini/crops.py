"""Random, augmented crops of labelled scenes, the input of a training step."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from geosam_es.inference.encoder import FILL_RGB

from ..training.simulated_user import CELL_PIXELS
from .config import CropPlan
from .sources import Scene
from .warp import Bend, make_warp

MIN_CELLS = 8
BUILT = ("buildings", "atlanta")
BEND_SHARES = {"fields": 0.4, **dict.fromkeys(BUILT, 0.05)}
OTHER_BEND_SHARE = 0.3
"""Share of the crops of each kind that are bent."""

REPAINT_SHARES = {"fields": 0.3, "flanders": 0.3, "buildings": 0.1, "synthetic": 0.1}
OTHER_REPAINT_SHARE = 0.0
"""Share of the crops whose objects get new colours."""

STRETCHES = {"fields": 0.5, **dict.fromkeys(BUILT, 0.2)}
OTHER_STRETCH = 0.35
"""Largest logarithm of the factor by which an axis is stretched."""

INFRARED_SHARE = 0.08
"""Share of the recoloured crops that are shown as NIR-R-G."""

BRIGHT_SHARE, NOISE_SHARE, JPEG_SHARE = 0.08, 0.25, 0.35
"""Shares of the recoloured crops that are overexposed, noisy, and compressed."""

SMALLEST = 18.0
"""Length in pixels of the smallest object after scaling, unless the crop keeps close to the image's own scale."""

SLENDER_FILL, SLENDER_WEIGHT = 0.4, 3.0
"""Fields that fill a smaller share of their box (contour strips, crooked fields) are drawn this many times as often."""


@dataclass(frozen=True)
class Batch:
    """The input of one training step.

    Attributes
    ----------
    images : uint8 (crops, size, size, 3)
    masks : bool (crops * objects, size / 4, size / 4)
        The true mask of each prompted object.
    edges : float32 (crops, 1, size / 4, size / 4)
        1 on the borders of labelled objects.
    edge_weight : float32 (crops, 1, size / 4, size / 4)
        1 where labels are reliable: on and around labelled objects.
    ids : list of int32 (layers, size / 4, size / 4)
        Object numbers of each crop, in the layers of its scene.
    kinds : list of str
        Kind of each crop's scene.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    edges: NDArray[np.float32]
    edge_weight: NDArray[np.float32]
    ids: list[NDArray[np.int32]]
    kinds: list[str]

    def other_meanings(self, clicks: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Return the other objects that hold the click on each prompted object, such as the row of a tree.

        Parameters
        ----------
        clicks : float32 (crops * objects, 2)
            XY in pixels of the crop.

        Returns
        -------
        intp (M,), bool (M, size / 4, size / 4)
            Index of the prompted object, and the mask of the other one.
        """
        owners, found = [], [self.masks[:0]]
        cells = np.clip(clicks // CELL_PIXELS, 0, self.masks.shape[-1] - 1).astype(int)
        for number, (column, row) in enumerate(cells):
            for ids in self.ids[number // (len(self.masks) // len(self.ids))]:
                mask = ids == ids[row, column]
                if ids[row, column] and not np.array_equal(mask, self.masks[number]):
                    owners.append(number)
                    found.append(mask[None])
        return np.array(owners, dtype=np.intp), np.concatenate(found)


class CropSampler:
    """Draws batches of crops from scenes, reproducibly.

    Parameters
    ----------
    scenes : sequence of Scene
    shares : dict of str to float
        Share of each kind of scene.
    seed : sequence of int
        Seed of the random generator.
    """

    def __init__(self, scenes: Sequence[Scene], shares: dict[str, float], seed: Sequence[int]) -> None:
        self.rng = np.random.default_rng(list(seed))
        self.groups: list[list[Scene]] = []
        self.group_shares: list[float] = []
        self.scene_shares: list[NDArray[np.float64]] = []
        self.object_shares: list[list[NDArray[np.float64]]] = []
        for kind, share in shares.items():
            members = [scene for scene in scenes if scene.kind == kind]
            if members:
                counts = np.array([len(scene.objects) for scene in members], dtype=np.float64)
                self.groups.append(members)
                self.group_shares.append(share)
                self.scene_shares.append(np.sqrt(counts) / np.sqrt(counts).sum())
                self.object_shares.append([object_shares_of(scene) for scene in members])
        self.group_shares = list(np.array(self.group_shares) / sum(self.group_shares))

    def batch(self, plan: CropPlan) -> Batch:
        """Draw one batch of the given shape."""
        images: list[NDArray[np.uint8]] = []
        masks: list[NDArray[np.bool_]] = []
        edges: list[NDArray[np.float32]] = []
        weights: list[NDArray[np.float32]] = []
        layers: list[NDArray[np.int32]] = []
        kinds: list[str] = []
        while len(images) < plan.crops:
            image, ids, main, kind = self._crop(plan.size)
            chosen = self._objects(ids, main, plan.objects)
            if not chosen:
                continue
            images.append(recolour(image, self.rng))
            masks.append(np.stack([(ids == number).any(0) for number in chosen]))
            edge, weight = _edges(np.where(ids[0] > 0, ids[0], ids[-1]))
            layers.append(ids)
            kinds.append(kind)
            edges.append(edge)
            weights.append(weight)
        return Batch(
            np.stack(images),
            np.concatenate(masks),
            np.stack(edges)[:, None],
            np.stack(weights)[:, None],
            layers,
            kinds,
        )

    def _objects(self, ids: NDArray[np.int32], main: int, count: int) -> list[int]:
        cells = np.bincount(ids.ravel(), minlength=main + 1)
        cells[0] = 0
        present = np.flatnonzero(cells >= MIN_CELLS)
        if not len(present):
            return []
        others = self.rng.permutation(present[present != main])
        # A few of every layer: there are many more trees than rows, and more rows than stands.
        layer = _layers_of(others, list(ids))
        rank = [np.count_nonzero(layer[:place] == one) for place, one in enumerate(layer)]
        others = others[np.argsort(rank, kind="stable")][: count - 1]
        chosen = ([main] if cells[main] >= MIN_CELLS else []) + [int(number) for number in others]
        while len(chosen) < count:
            chosen.append(chosen[int(self.rng.integers(len(chosen)))])
        return chosen[:count]

    def _crop(self, size: int) -> tuple[NDArray[np.uint8], NDArray[np.int32], int, str]:
        """Sample a rotated, scaled crop around a random object, its object numbers (layers, H, W) at 1/4, its kind."""
        rng = self.rng
        group = int(rng.choice(len(self.groups), p=self.group_shares))
        number = int(rng.choice(len(self.groups[group]), p=self.scene_shares[group]))
        scene = self.groups[group][number]
        main = int(rng.choice(scene.objects, p=self.object_shares[group][number]))
        box = scene.boxes[main]
        extent = float(max(box[2] - box[0], box[3] - box[1]))
        wanted = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(0.85 * size))))
        # Half of the crops stay near the image's own scale, whose texture users see.
        zoom = wanted / extent
        if rng.random() < 0.5:
            zoom = float(np.clip(zoom, 0.5, 1.4))
        # A crop much larger than the image would be mostly padding.
        sides = np.array(scene.ids.shape[::-1], dtype=np.float64)
        zoom = float(np.clip(zoom, max(0.2, 0.7 * size / sides.min()), 4.0))
        slack = max(0.0, size - 0.9 * extent * zoom) / (2 * zoom)
        middle = np.array([box[0] + box[2], box[1] + box[3]]) / 2 + rng.uniform(-slack, slack, 2)
        if rng.random() < 0.85:
            half = np.minimum(size / (2 * zoom), sides / 2)
            middle = np.clip(middle, half, sides - half)
        angle = rng.uniform(-np.pi, np.pi) if rng.random() < 0.4 else int(rng.integers(4)) * np.pi / 2
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
        if rng.random() < 0.5:
            turn[:, 0] = -turn[:, 0]
        if rng.random() < 0.3:
            stretch = STRETCHES.get(scene.kind, OTHER_STRETCH)
            turn = turn @ np.diag(np.exp(rng.uniform(-stretch, stretch, 2)))
        bend = Bend.draw(size, rng) if rng.random() < BEND_SHARES.get(scene.kind, OTHER_BEND_SHARE) else None
        warp = make_warp(size, turn, middle, bend)
        level = int(np.clip(np.floor(np.log2(1.0 / zoom) + 0.3), 0, len(scene.pyramid) - 1))
        image = warp.sample(scene.pyramid[level], 1.0 / 2**level)
        cells = warp.positions(CELL_PIXELS)
        ids = np.stack([_sample_ids(layer, cells) for layer in scene.layers])
        if rng.random() < REPAINT_SHARES.get(scene.kind, OTHER_REPAINT_SHARE):
            image = _repaint(image, _sample_ids(scene.ids, warp.positions(1)), rng)
        return image, ids, main, scene.kind


def object_shares_of(scene: Scene) -> NDArray[np.float64]:
    """Return the probability of each object of a scene.

    Slender fields are drawn more often. Each layer has the same share.
    """
    numbers = scene.objects
    sides = scene.boxes[numbers, 2:] - scene.boxes[numbers, :2]
    slender = scene.areas[numbers] < SLENDER_FILL * sides.prod(1)
    weights = np.where(slender & (scene.kind == "fields"), SLENDER_WEIGHT, 1.0)
    layer = _layers_of(numbers, scene.layers)
    weights /= np.bincount(layer)[layer]
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def _layers_of(numbers: NDArray[np.intp], layers: Sequence[NDArray[np.int32]]) -> NDArray[np.intp]:
    """Return the index of the layer that each object number belongs to; later layers have higher numbers."""
    highest = np.maximum.accumulate([int(ids.max()) for ids in layers])
    return np.searchsorted(highest[:-1], numbers)


def _sample_ids(ids: NDArray[np.int32], positions: NDArray[np.float64]) -> NDArray[np.int32]:
    """Sample object numbers at the pixels that hold positions (h, w, 2) XY; outside is 0."""
    x, y = np.floor(positions[..., 0]).astype(np.int32), np.floor(positions[..., 1]).astype(np.int32)
    height, width = ids.shape
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    found = ids[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    return np.where(inside, found, 0).astype(np.int32)


def _repaint(image: NDArray[np.uint8], ids: NDArray[np.int32], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change the colour of half of the objects, as another crop or season would; ids are (H, W)."""
    count = int(ids.max()) + 1
    chosen = rng.random(count) < 0.5
    chosen[0] = False
    gains = np.where(chosen[:, None], np.exp(rng.normal(0.0, 0.18, (count, 3))), 1.0).astype(np.float32)
    shifts = np.where(chosen[:, None], rng.normal(0.0, 12.0, (count, 1)), 0.0).astype(np.float32)
    # Softened by a pixel, so that no border is sharper than in a photograph.
    factors = _soften(gains[ids])
    painted: NDArray[np.uint8] = np.clip(image * factors + _soften(shifts[ids]), 0, 255).astype(np.uint8)
    return painted


def _soften(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average (H, W, C) over 2x2 pixels, keeping the shape."""
    values[1:] = 0.5 * (values[1:] + values[:-1])
    values[:, 1:] = 0.5 * (values[:, 1:] + values[:, :-1])
    return values


def _edges(ids: NDArray[np.int32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the borders of objects and where they are reliable, both float32 (H, W)."""
    edge = np.zeros(ids.shape, dtype=bool)
    sideways = ids[:, 1:] != ids[:, :-1]
    upwards = ids[1:] != ids[:-1]
    edge[:, 1:] |= sideways
    edge[:, :-1] |= sideways
    edge[1:] |= upwards
    edge[:-1] |= upwards
    known = (ids > 0) | edge
    padded = np.pad(known, 2)
    around = padded[2:-2, 2:-2] | padded[:-4, 2:-2] | padded[4:, 2:-2] | padded[2:-2, :-4] | padded[2:-2, 4:]
    return edge.astype(np.float32), around.astype(np.float32)


def recolour(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change colours as sensors, seasons, haze and compression do; padding keeps its colour."""
    if rng.random() < 0.2:
        return image
    padding = np.all(image == np.array(FILL_RGB, dtype=np.uint8), axis=2)
    if rng.random() < INFRARED_SHARE:
        image = infrared_guess(image, rng)
    x = np.arange(256, dtype=np.float32) / 255.0
    # A lookup table for each channel does everything except mixing channels.
    gamma = np.exp(rng.normal(0.0, 0.25))
    contrast = np.exp(rng.normal(0.0, 0.22))
    gains = np.exp(rng.normal(0.0, 0.10, 3))
    shift = rng.normal(0.0, 0.08) + rng.normal(0.0, 0.03, 3)
    haze = rng.uniform(0.0, 0.45) if rng.random() < 0.15 else 0.0
    table = (x[:, None] ** gamma - 0.45) * contrast * gains + 0.45 + shift
    table = table * (1.0 - haze) + 0.75 * haze
    if rng.random() < BRIGHT_SHARE:
        table = table * rng.uniform(1.2, 1.8)
    codes = np.clip(table * 255.0, 0, 255).astype(np.uint8)
    result = np.stack([codes[:, band][image[..., band]] for band in range(3)], axis=2)
    kind = rng.random()
    if kind < 0.12:
        result = result[..., rng.permutation(3)]
    elif kind < 0.22:
        result = np.repeat(result.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    if rng.random() < NOISE_SHARE:
        noise = rng.normal(0.0, rng.uniform(2.0, 14.0), result.shape)
        result = np.clip(result + noise, 0, 255).astype(np.uint8)
    if rng.random() < JPEG_SHARE:
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(result)).save(buffer, "JPEG", quality=int(rng.integers(18, 90)))
        result = np.array(Image.open(buffer))
    result[padding] = FILL_RGB
    return np.ascontiguousarray(result)


def infrared_guess(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Simulate NIR-R-G from an image (H, W, 3): plants become bright and water dark, by random amounts.

    No labelled image has a near infrared band, and it cannot be derived from the other three, so guesses vary.
    """
    red, green, blue = (image[..., band].astype(np.float32) for band in range(3))
    total = red + green + blue + 30.0
    plants, water = (2.0 * green - red - blue) / total, (blue - red) / total
    gain = rng.uniform(0.7, 1.3) + rng.uniform(1.0, 5.0) * plants - rng.uniform(0.0, 2.0) * water
    infrared = np.clip(total / 3.0 * gain + rng.normal(0.0, 10.0), 0, 255).astype(np.uint8)
    return np.stack([infrared, image[..., 0], image[..., 1]], axis=2)
