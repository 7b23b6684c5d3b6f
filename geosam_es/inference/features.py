"""What a store knows about a place: stored features under polygons, around them, and at single positions.

Nothing is encoded or decoded. Coordinates are native pixels of the raster, as in `segmenter`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from ..core.frame import TileFrame
from ..core.grid import Tile
from ..core.prompts import Bounds
from ..store.reader import StoreReader

__all__ = ["SAMPLES", "FeatureMaps", "FeaturePool"]

SAMPLES = 256
"""Positions along a tile's side at which polygons are sampled, as many as a mask has values."""

FeatureMaps = tuple[NDArray[np.float32], ...]
"""The feature maps (C, h, w) of a tile, standardised. Their sides divide `SAMPLES`."""

_TILES_KEPT = 16
_TILES_SAMPLED = 8
"""Tiles of a level from which the mean and spread of each channel are taken."""

_PACKED = {512: ((16, 4), (32, 2), (128, 1))}
"""Channels of a stored map, and the maps in it: their channels, and how many values they have along a cell's side.
Encoders like `mini` store three maps as one, by pixel-unshuffle."""

_LEAST_RING = 4.0
"""Least width of the ring around a polygon in samples."""

_RING_SHARE = 0.25
"""Width of the ring as a part of the side of a square of the polygon's area."""

_RING_TOLERANCE = 1.0
"""Samples by which the polygon is simplified for the ring around it."""


class FeaturePool:
    """Features of a store for learning: standardised, pooled under polygons, from a bounded cache of tiles.

    Each channel has mean 0 and spread 1 over a sample of the level's tiles, which is taken at first use and kept, so
    that vectors of one pool can be compared even while tiles are being encoded. Methods may be called from several
    threads.

    Parameters
    ----------
    reader : StoreReader
    tiles_kept : int
        Size of the cache in tiles of about 8 MiB.

    Attributes
    ----------
    channels : int
        C, the channels of all maps together; a vector has D = 2 C values.
    """

    def __init__(self, reader: StoreReader, tiles_kept: int = _TILES_KEPT) -> None:
        self.reader = reader
        self.pyramid = reader.pyramid
        shapes = reader.metadata.features.values()
        self.channels = sum(c for shape in shapes for c, _ in _PACKED.get(shape[0], ((shape[0], 1),)))
        self._tiles_kept = tiles_kept
        self._maps: OrderedDict[Tile, FeatureMaps] = OrderedDict()
        self._spreads: dict[int, list[tuple[NDArray[np.float32], NDArray[np.float32]]]] = {}
        self._lock = threading.RLock()

    def on(self, reader: StoreReader) -> FeaturePool:
        """Return a pool of another store whose vectors can be compared with those of this one."""
        pool = FeaturePool(reader, self._tiles_kept)
        pool._spreads = dict(self._spreads)
        return pool

    def maps(self, tile: Tile) -> FeatureMaps:
        """Return the standardised maps of an encoded tile, from the cache if it holds them."""
        with self._lock:
            if tile in self._maps:
                self._maps.move_to_end(tile)
                return self._maps[tile]
            spreads = self._spread(tile.level)
        maps = tuple((values - mean) / spread for values, (mean, spread) in zip(self._read(tile), spreads))
        with self._lock:
            self._maps[tile] = maps
            while len(self._maps) > self._tiles_kept:
                self._maps.popitem(last=False)
        return maps

    def _read(self, tile: Tile) -> list[NDArray[np.float32]]:
        return [part for values in self.reader.read(tile).values() for part in _unpacked(values[0])]

    def _spread(self, level: int) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Return mean and spread (C, 1, 1) of each map over a sample of a level's encoded tiles, padding left out."""
        if level not in self._spreads:
            tiles = list(self.reader.tiles(level))
            shuffled = (tiles[index] for index in np.random.default_rng(0).permutation(len(tiles)))
            found: list[list[NDArray[np.float32]]] = []
            for tile in islice(filter(self.reader.is_encoded, shuffled), _TILES_SAMPLED):
                frame = TileFrame.of(self.pyramid, tile)
                size = self.pyramid.tiling.tile_size
                found.append(
                    [
                        part[:, : -(-frame.height * part.shape[1] // size), : -(-frame.width * part.shape[2] // size)]
                        for part in self._read(tile)
                    ]
                )
            self._spreads[level] = [_moments(parts) for parts in zip(*found)]
        return self._spreads[level]

    def tile_of(self, polygon: BaseGeometry) -> Tile | None:
        """Return the encoded tile from which a polygon gets its vector, or None if there is none.

        The level is that at which the polygon fits into a tile, but not an enlarged one, so that it does not depend on
        which enlarged tiles exist. A polygon that no tile holds gets the tile around its middle.
        """
        if polygon.is_empty:
            return None
        bounds = Bounds(*polygon.bounds)
        level = max(self.pyramid.level_for_size(max(bounds.width, bounds.height)), 0)
        middle = shapely.point_on_surface(polygon)
        for around in (bounds, Bounds(middle.x, middle.y, middle.x, middle.y)):
            for grid in self.pyramid.grids_from(level):
                for _, tile in grid.tiles_around(around, tolerance=grid.scale):
                    if self.reader.is_encoded(tile):
                        return tile
        return None

    def vectors(
        self, polygons: Sequence[BaseGeometry], tiles: Sequence[Tile | None] | None = None
    ) -> NDArray[np.float32]:
        """Pool features under and around polygons.

        Parameters
        ----------
        polygons : sequence of Polygon or MultiPolygon
            In native pixels.
        tiles : sequence of Tile or None, optional
            Encoded tiles to take the features from. Default: those of `tile_of`.

        Returns
        -------
        float32 (N, 2 C)
            The mean under each polygon, then the mean of the ring around it minus that. NaN where no tile is encoded,
            or the polygon is empty.
        """
        vectors = np.full((len(polygons), 2 * self.channels), np.nan, np.float32)
        tiles = [self.tile_of(polygon) for polygon in polygons] if tiles is None else tiles
        # In the order of tiles, so that each is read once.
        order = [(tile, index) for index, tile in enumerate(tiles) if tile is not None]
        for tile, index in sorted(order):
            inside, ring = self.samples(tile, polygons[index])
            maps = self.maps(tile)
            under = _pooled(maps, inside)
            beside = _pooled(maps, ring) - under if len(ring) else np.zeros_like(under)
            vectors[index] = np.concatenate((under, beside))
        return vectors

    def samples(self, tile: Tile, polygon: BaseGeometry) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return the samples (N, 2) of a tile under a polygon and in the ring around it, as (row, column).

        There are `SAMPLES` along the tile's side. The first array has at least one row.
        """
        frame = TileFrame.of(self.pyramid, tile)
        step = self.pyramid.tiling.tile_size / SAMPLES
        local = shapely.transform(polygon, lambda xy: (xy / frame.scale - (frame.col_off, frame.row_off)) / step)
        # A traced outline has many vertices, with which a buffer takes a hundred times as long.
        width = max(_LEAST_RING, _RING_SHARE * local.area**0.5)
        around = shapely.buffer(local.simplify(_RING_TOLERANCE), width, quad_segs=2)
        ends = np.array([frame.width, frame.height]) / step
        left, top = np.floor(np.clip(around.bounds[:2], 0, ends - 1)).astype(int)
        right, bottom = np.ceil(np.clip(around.bounds[2:], (left + 1, top + 1), ends)).astype(int)
        rows, cols = np.mgrid[top:bottom, left:right].reshape(2, -1)
        shapely.prepare([local, around])
        inside = shapely.contains_xy(local, cols + 0.5, rows + 0.5)
        if not inside.any():
            middle = shapely.point_on_surface(local)
            inside[np.argmin(np.hypot(cols + 0.5 - middle.x, rows + 0.5 - middle.y))] = True
        ring = ~inside & shapely.contains_xy(around, cols + 0.5, rows + 0.5)
        places = np.column_stack((rows, cols))
        return places[inside], places[ring]

    def at(self, tile: Tile, samples: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the features (N, C) of samples (N, 2) of a tile, given as (row, column); see `samples`."""
        parts = []
        for values in self.maps(tile):
            row, col = (samples * values.shape[1] // SAMPLES).T
            parts.append(values[:, row, col].T)
        return np.concatenate(parts, axis=1)

    def linear_map(self, tile: Tile, weights: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return the products (`SAMPLES`, `SAMPLES`) of weights (C,) with the features of every sample of a tile."""
        total = np.zeros((SAMPLES, SAMPLES), np.float32)
        start = 0
        for values in self.maps(tile):
            own = weights[start : start + len(values)].astype(np.float32)
            start += len(values)
            factor = SAMPLES // values.shape[1]
            product = np.tensordot(own, values, 1)
            total.reshape(values.shape[1], factor, -1, factor)[:] += product[:, None, :, None]
        return total


def _unpacked(values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Split a stored map (C, h, w) into the maps (c, h f, w f) that it holds."""
    channels, height, width = values.shape
    parts, start = [], 0
    for count, factor in _PACKED.get(channels, ((channels, 1),)):
        block = values[start : start + count * factor**2].reshape(count, factor, factor, height, width)
        parts.append(block.transpose(0, 3, 1, 4, 2).reshape(count, height * factor, width * factor))
        start += count * factor**2
    return parts


def _moments(parts: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and spread (C, 1, 1) over maps (C, h, w)."""
    values = np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)
    spread = values.std(axis=1)
    # A channel that never changes stays zero.
    return values.mean(axis=1)[:, None, None], np.where(spread > 0, spread, 1.0)[:, None, None].astype(np.float32)


def _pooled(maps: FeatureMaps, samples: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return the mean (C,) of each map over samples."""
    means = []
    for values in maps:
        row, col = (samples * values.shape[1] // SAMPLES).T
        cells, counts = np.unique(row * values.shape[2] + col, return_counts=True)
        means.append(values.reshape(len(values), -1)[:, cells] @ (counts / len(samples)).astype(np.float32))
    return np.concatenate(means)
