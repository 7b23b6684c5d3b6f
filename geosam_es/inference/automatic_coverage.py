"""A clean coverage from automatic masks: every place with data lies in exactly one polygon.

Masks are painted on a grid of cells, as fine as the decoder's masks, where the better one wins. What no mask covers is
grouped by the likeness of the stored features. The grid lies in a temporary file, so that memory does not grow with it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, floor, nan, sqrt
from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from ..core.geotransform import GeoTransform
from ..core.grid import LevelGrid, Tile
from ..core.label_grid import Regions, cells_inside, strips
from ..core.window import Window
from ..errors import OutputError
from ..store.reader import TileState
from .automatic import AutomaticMask
from .decoder import MASK_SIDE
from .segmenter import Segmenter

__all__ = ["CoverageOptions", "CoveragePolygon", "HasData", "automatic_coverage"]

HasData = Callable[[Window], NDArray[np.bool_]]
"""Tells for a window of native pixels which of them have data (H, W)."""

_SAMPLE_TILES = 64
_SAMPLE_CELLS = 256
_ROUNDS = 12
_BLOCK_BYTES = 1 << 20
_CELL = 4.0
"""Usual side of a cell in pixels, at the native level."""


@dataclass(frozen=True)
class CoverageOptions:
    """Options of a coverage.

    Attributes
    ----------
    min_area : float
        The minimum mapping unit in square native pixels. Smaller polygons join the neighbour with the longest common
        border.
    simplify_tolerance : float
        Size of the details of outlines that are removed, in native pixels; borders stay common.
    groups : int
        Number of kinds of ground that are told apart where there is no mask.
    """

    min_area: float = 400.0
    simplify_tolerance: float = 4.0
    groups: int = 6


class CoveragePolygon(NamedTuple):
    """A polygon of the coverage; the attributes are those of the mask that it comes from.

    Attributes
    ----------
    polygon : Polygon or MultiPolygon
        In native pixels.
    predicted_iou, stability_score : float
        NaN for ground without a mask.
    point : (float, float)
        In native pixels; a point inside for ground without a mask.
    level : int
    group : int
        The kind of ground, from 1; 0 for a mask.
    """

    polygon: shapely.Polygon | shapely.MultiPolygon
    predicted_iou: float
    stability_score: float
    point: tuple[float, float]
    level: int
    group: int

    def on_map(self, transform: GeoTransform, simplify: float) -> BaseGeometry:
        """Return the polygon on the map; it is simplified already, together with its neighbours."""
        return transform.apply_geometry(self.polygon)


def automatic_coverage(
    segmenter: Segmenter,
    masks: Iterable[AutomaticMask],
    options: CoverageOptions | None = None,
    area: BaseGeometry | None = None,
    has_data: HasData | None = None,
    level: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[CoveragePolygon]:
    """Make a coverage of masks and the ground between them.

    Parameters
    ----------
    segmenter : Segmenter
        Of the store that the masks come from.
    masks : iterable of AutomaticMask
        In any order.
    options : CoverageOptions, optional
    area : BaseGeometry, optional
        In native pixels; nothing else is covered. Default: the whole raster.
    has_data : callable, optional
        Default: tiles with features have data everywhere.
    level : int
        The finest level of the masks; the cells are those of the decoder there.
    progress : callable, optional
        Called with the parts done and their number from when all masks are painted; it may raise to cancel.

    Yields
    ------
    CoveragePolygon
        They share the vertices of their borders, do not overlap, and leave out only what has no data.

    Raises
    ------
    StoreError
        If the features of a tile cannot be read.
    OutputError
        If the disk has no space for the grid.
    """
    options, pyramid = options or CoverageOptions(), segmenter.pyramid
    if area is not None and not area.intersects(shapely.box(*pyramid.bounds)):
        return
    cell = segmenter.tile_size / MASK_SIDE * pyramid.grid(level).scale
    canvas = _Canvas(segmenter, cell, area)
    known = [canvas.paint(mask) for mask in masks]
    # Enlarged levels need not be complete.
    grid = pyramid.grid(max(level, 0))
    steps = _group_ground(canvas, segmenter, grid, options.groups), canvas.leave_out(area, has_data)
    progress = progress or (lambda done, total: None)
    for number, parts in enumerate(steps):
        for done, total in parts:
            progress(number * total + done, 3 * total)
    ends = np.array([pyramid.width, pyramid.height], float)
    least, tolerance = options.min_area / cell**2, options.simplify_tolerance / cell
    # Tracing cuts corners, so that regions become a little smaller.
    height, reached = canvas.window.height, 0
    for outline, label in Regions(canvas.labels, least + tolerance * sqrt(least)).traced(tolerance):
        polygon = shapely.transform(outline, lambda xy: np.minimum((xy + canvas.window[:2]) * cell, ends))
        reached = max(reached, int(outline.bounds[3]))
        progress(2 * height + reached, 3 * height)
        inside = polygon.representative_point()
        found = known[label - 1] if label > 0 else (nan, nan, (inside.x, inside.y), level)
        yield CoveragePolygon(polygon, *found, max(-label, 0))


class _Canvas:
    """A grid of labels in a file: numbers of masks from 1, minus the group of ground, 0 without data.

    Attributes
    ----------
    window : Window
        The cells of the raster that it has: those of the area.
    """

    def __init__(self, segmenter: Segmenter, cell: float, area: BaseGeometry | None) -> None:
        pyramid = segmenter.pyramid
        self.cell, self.size = cell, (pyramid.width, pyramid.height)
        self.window = Window(0, 0, ceil(pyramid.width / cell), ceil(pyramid.height / cell))
        if area is not None:
            # One cell more on each side, because outlines are not simplified where the grid ends.
            left, top = (floor(value / cell) - 1 for value in area.bounds[:2])
            right, bottom = (ceil(value / cell) + 1 for value in area.bounds[2:])
            self.window = self.window.intersection(Window(left, top, right - left, bottom - top))
        shape = self.window.height, self.window.width
        self.labels: NDArray[np.int32] = _in_file(shape, np.int32)
        self._ranks: NDArray[np.float32] = _in_file(shape, np.float32)
        self._count = 0

    def paint(self, mask: AutomaticMask) -> tuple[float, float, tuple[float, float], int]:
        """Paint a mask where it is better than the ones there, and return what the coverage keeps of it."""
        self._count += 1
        polygon = self._in_cells(mask.polygon)
        rank = mask.predicted_iou * mask.stability_score
        height, width = self.labels.shape
        left, top = np.clip(np.floor(polygon.bounds[:2]), 0, (width, height)).astype(int).tolist()
        right, bottom = np.clip(np.ceil(polygon.bounds[2:]), 0, (width, height)).astype(int).tolist()
        for strip in strips(bottom - top, right - left):
            place = slice(strip.start + top, strip.stop + top), slice(left, right)
            better = cells_inside(polygon, *place) & (self._ranks[place] < rank)
            self._ranks[place][better] = rank
            self.labels[place][better] = self._count
        return mask.predicted_iou, mask.stability_score, mask.point, mask.level

    def _in_cells(self, geometry: BaseGeometry) -> BaseGeometry:
        return shapely.transform(geometry, lambda xy: xy / self.cell - self.window[:2])

    def leave_out(self, area: BaseGeometry | None, has_data: HasData | None) -> Iterator[tuple[int, int]]:
        """Clear the cells outside an area or without data in their middle; yield the rows done, and their number."""
        height, width = self.labels.shape
        flat = None if area is None else self._in_cells(area)
        left, right = (min(round(col * self.cell), self.size[0]) for col in self.window.bounds[::2])
        # Coarse cells stand for many pixels each, which are read together.
        for rows in strips(height, round(width * (self.cell / _CELL) ** 2)):
            if flat is not None:
                self.labels[rows][~cells_inside(flat, rows, slice(0, width))] = 0
            if has_data is not None:
                ends = (self.window.row_off + row for row in (rows.start, rows.stop))
                top, bottom = (min(round(row * self.cell), self.size[1]) for row in ends)
                known = has_data(Window(left, top, right - left, bottom - top))
                ys, xs = (
                    np.minimum((np.arange(count) + 0.5) * self.cell, end - 1).astype(int)
                    for count, end in zip((rows.stop - rows.start, width), known.shape)
                )
                self.labels[rows][~known[np.ix_(ys, xs)]] = 0
            yield rows.stop, height


def _in_file(shape: tuple[int, int], dtype: type) -> NDArray[Any]:
    count = shape[0] * shape[1] * np.dtype(dtype).itemsize
    folder = tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            # Where the disk cannot hold a page of a sparse file, writing to it ends the process.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, count)
            else:
                for start in range(0, count, _BLOCK_BYTES):
                    file.write(bytes(min(_BLOCK_BYTES, count - start)))
            return np.memmap(file, dtype, "r+", shape=shape)
    except OSError as error:
        raise OutputError(
            "{folder} cannot hold the grid of the coverage ({reason})",
            "free some space there, or choose a smaller area",
            folder=folder,
            reason=error.strerror,
        ) from error


def _group_ground(canvas: _Canvas, segmenter: Segmenter, grid: LevelGrid, groups: int) -> Iterator[tuple[int, int]]:
    """Label the cells without a mask by the nearest of some typical features, and clear tiles without data.

    Yields how many tiles are done, and how many there are.
    """
    size, step = segmenter.tile_size, canvas.cell / grid.scale
    left, top, right, bottom = canvas.window.bounds
    cuts_y = _cuts([grid.window(row, 0).row_off for row in range(grid.rows)], size, 1 / step, top, bottom)
    cuts_x = _cuts([grid.window(0, col).col_off for col in range(grid.cols)], size, 1 / step, left, right)
    used = (np.flatnonzero(np.diff(cuts)).tolist() for cuts in (cuts_y, cuts_x))
    tiles = [Tile(grid.level, row, col) for row, col in product(*used)]
    encoded = [tile for tile in tiles if segmenter.reader.state(tile) is TileState.ENCODED]
    known = set(encoded)
    if not encoded:
        canvas.labels[:] = 0
        return
    sample = np.concatenate([
        _random_cells(_features(segmenter, tile))
        for tile in encoded[:: ceil(len(encoded) / _SAMPLE_TILES)]
    ])  # fmt: skip
    mean, spread = sample.mean(axis=0), sample.std(axis=0) + 1e-6
    centres = _typical((sample - mean) / spread, groups)
    for done, tile in enumerate(tiles):
        yield done, len(tiles)
        rows, cols = slice(*cuts_y[tile.row : tile.row + 2]), slice(*cuts_x[tile.col : tile.col + 2])
        if tile not in known:
            canvas.labels[rows, cols] = 0
            continue
        place = canvas.labels[rows, cols]
        if (place == 0).any():
            features = (_features(segmenter, tile) - mean[:, None, None]) / spread[:, None, None]
            # Squared distances to the centres, apart from a term that all have in common.
            distances = (centres**2).sum(axis=1)[:, None, None] - 2 * np.tensordot(centres, features, 1)
            window = grid.window(tile.row, tile.col)
            ys, xs = (
                (np.arange(part.start, part.stop) + first + 0.5) * step for part, first in ((rows, top), (cols, left))
            )
            down = _interpolation(features.shape[1], size, ys - window.row_off)
            across = _interpolation(features.shape[2], size, xs - window.col_off)
            nearest = np.argmin(down @ distances @ across.T, axis=0)
            place[place == 0] = -1 - nearest[place == 0]


def _features(segmenter: Segmenter, tile: Tile) -> NDArray[np.float32]:
    """Return the first feature map (C, h, w) of a tile."""
    features: NDArray[np.float32] = next(iter(segmenter.reader.read(tile).values()))[0]
    return features


def _random_cells(features: NDArray[np.float32]) -> NDArray[np.float32]:
    cells = features.reshape(len(features), -1).T
    chosen = np.random.default_rng(0).choice(len(cells), min(_SAMPLE_CELLS, len(cells)), replace=False)
    return cells[chosen]


def _typical(sample: NDArray[np.float32], groups: int) -> NDArray[np.float32]:
    """Return the centres (K, C) of k-means. The first ones are far from each other."""
    centres = sample[:1]
    squares = (sample**2).sum(axis=1)
    rng = np.random.default_rng(0)

    def distances(to: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(np.maximum(squares[:, None] - 2 * sample @ to.T + (to**2).sum(axis=1), 0), np.float32)

    while len(centres) < min(groups, len(sample)):
        weight = distances(centres).min(axis=1).astype(float) + 1e-9
        centres = np.concatenate([centres, sample[[rng.choice(len(sample), p=weight / weight.sum())]]])
    for _ in range(_ROUNDS):
        nearest = distances(centres).argmin(axis=1)
        members = np.eye(len(centres), dtype=np.float32)[nearest]
        count = members.sum(axis=0)[:, None]
        centres = np.where(count > 0, members.T @ sample / np.maximum(count, 1), centres)
    return centres


def _cuts(starts: Sequence[int], tile_size: int, scale: float, first: int, stop: int) -> NDArray[np.int64]:
    """Return the cells between which neighbouring tiles meet: the middles of their overlaps, and both ends.

    They are counted from the first of the cells that matter, and tiles beyond these have none.
    """
    middles = [(one + tile_size + other) / 2 for one, other in zip(starts, starts[1:])]
    return np.clip([first, *(round(middle * scale) for middle in middles), stop], first, stop) - first


def _interpolation(size: int, tile_size: int, places: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the weights (N, size) that interpolate between features at places in pixels of a tile."""
    at = np.clip(places * size / tile_size - 0.5, 0, size - 1)
    weights: NDArray[Any] = np.maximum(1 - np.abs(at[:, None] - np.arange(size)), 0)
    return weights.astype(np.float32)
