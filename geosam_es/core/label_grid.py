"""A grid of labels as a coverage: its connected regions, small ones merged, and their outlines with shared borders.

The grid may be larger than memory: it is read in strips of rows. Of the whole grid only the runs of equal cells in a
row are kept. Outlines are traced strip by strip; a region that continues in the next strip is joined there, so that no
cut is left.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from .topology import polygonal

__all__ = ["Regions", "cells_inside", "strips"]

_STRIP_CELLS = 2**21
_OUTSIDE = -1

Whole = NDArray[np.int64]


def strips(height: int, width: int) -> Iterator[slice]:
    """Yield the strips of rows that are read together, from top to bottom."""
    rows = max(_STRIP_CELLS // max(width, 1), 16)
    yield from (slice(top, min(top + rows, height)) for top in range(0, height, rows))


def cells_inside(polygon: BaseGeometry, rows: slice, cols: slice) -> NDArray[np.bool_]:
    """Return which cells have their centre in a polygon, which is in cells."""
    coords, ring = shapely.get_coordinates(shapely.get_rings(shapely.get_parts(polygon)), return_index=True)
    ends = np.stack((coords[:-1], coords[1:]), axis=1)[ring[:-1] == ring[1:]] - (cols.start, rows.start)
    height, width = rows.stop - rows.start, cols.stop - cols.start
    first, last = np.clip(np.ceil(np.sort(ends[:, :, 1], axis=1) - 0.5), 0, height).astype(np.int64).T
    count = last - first
    edge = np.repeat(np.arange(len(ends)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    (x0, y0), (x1, y1) = ends[edge, 0].T, ends[edge, 1].T
    col = np.clip(np.ceil(x0 + (row + 0.5 - y0) / (y1 - y0) * (x1 - x0) - 0.5), 0, width).astype(np.int64)
    crossings = np.bincount(row * (width + 1) + col, minlength=height * (width + 1)).reshape(height, width + 1)
    return np.asarray(np.cumsum(crossings, axis=1)[:, :-1] % 2, bool)


class Region(NamedTuple):
    """A connected region.

    Attributes
    ----------
    polygon : Polygon or MultiPolygon
        In cells. Regions that touch have the same vertices on their common border.
    label : int
        That of the largest part that was merged into it.
    """

    polygon: shapely.Polygon | shapely.MultiPolygon
    label: int


class Regions:
    """The connected regions of a grid.

    Parameters
    ----------
    labels : int (H, W)
        May be a memory map. 0 stands for cells without data. Negative labels are ground between objects.
    least_cells : float
        Smaller regions are merged, the smallest first, into the neighbour with the longest common border; ground into
        ground if it can. A region without neighbours stays.
    """

    def __init__(self, labels: NDArray[np.int32], least_cells: float) -> None:
        self.height, self.width = labels.shape
        starts, values = [], []
        for rows in strips(*labels.shape):
            cells = np.asarray(labels[rows])
            is_start = np.ones(cells.shape, bool)
            is_start[:, 1:] = cells[:, 1:] != cells[:, :-1]
            starts.append(np.flatnonzero(is_start) + rows.start * self.width)
            values.append(cells[is_start])
        self._start = np.concatenate(starts)
        self._length = np.diff(self._start, append=self.height * self.width)
        label = np.concatenate(values)
        one, other, border = self._touching()
        region = _joined(len(label), one, other, label[one] == label[other])
        self._region, first = _numbered(region)
        self.label = label[first]
        self._merge(self._region[np.stack((one, other))], border, least_cells)

    def _touching(self) -> tuple[Whole, Whole, Whole]:
        """Return the pairs of runs that touch, and the length of their common border in cells."""
        start, length = self._start, self._length
        beside = np.flatnonzero(start[1:] % self.width != 0)
        above = np.flatnonzero(start < (self.height - 1) * self.width)
        first = np.searchsorted(start, start[above] + self.width, "right") - 1
        last = np.searchsorted(start, start[above] + length[above] - 1 + self.width, "right") - 1
        count = last - first + 1
        upper = np.repeat(above, count)
        lower = np.arange(len(upper)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
        begin, end = np.maximum(start[upper] + self.width, start[lower]), start[upper] + length[upper] + self.width
        common = np.minimum(end, start[lower] + length[lower]) - begin
        one, other = np.concatenate([beside, upper]), np.concatenate([beside + 1, lower])
        return one, other, np.concatenate([np.ones(len(beside), np.int64), common])

    def _merge(self, pair: Whole, border: NDArray[Any], least_cells: float) -> None:
        """Merge regions below sizes that are doubled until the least size is reached.

        The pairs (2, P) of regions that touch have borders (P,) of some cells.
        """
        size = np.bincount(self._region, self._length)
        limit = 2.0
        while limit < 2 * least_cells:
            limit, most = limit * 2, min(limit, least_cells)
            while True:
                pair.sort(axis=0)
                known = (pair[0] != pair[1]) & (self.label[pair] != 0).all(axis=0)
                key, place = np.unique(pair[0, known] * len(size) + pair[1, known], return_inverse=True)
                border = np.bincount(place.ravel(), border[known], len(key))
                pair = np.stack(np.divmod(key, len(size)))
                # Each small region and its neighbours, the one to join last.
                source, target = np.concatenate([pair, pair[::-1]], axis=1)
                is_alike = (self.label[source] < 0) & (self.label[target] < 0)
                order = np.lexsort((size[target], np.tile(border, 2), is_alike, source))
                order = order[size[source[order]] < most]
                if not len(order):
                    break
                is_last = np.append(np.diff(source[order]) != 0, True)
                chosen = order[is_last]
                joined = _joined(len(size), source[chosen], target[chosen])
                number, _ = _numbered(joined)
                largest = np.lexsort((size, number))
                largest = largest[np.append(np.diff(number[largest]) != 0, True)]
                self.label, self._region = self.label[largest], number[self._region]
                size, pair = np.bincount(number, size), number[pair]

    def traced(self, tolerance: float) -> Iterator[Region]:
        """Yield the regions with data, roughly from top to bottom.

        Parameters
        ----------
        tolerance : float
            Size of the details to remove, in cells, as for `shapely.coverage_simplify`. Before shapely 2.1 and GEOS
            3.12, the lines between regions are simplified by Douglas and Peucker instead.
        """
        last_row = np.zeros(len(self.label), np.int64)
        np.maximum.at(last_row, self._region, self._start // self.width)
        waiting: dict[int, list[shapely.Polygon]] = {}
        for rows in strips(self.height, self.width):
            for polygon, region in self._traced_strip(rows, tolerance):
                waiting.setdefault(region, []).append(polygon)
            for region in [region for region in waiting if last_row[region] < rows.stop]:
                parts = waiting.pop(region)
                if self.label[region] != 0:
                    whole = polygonal(shapely.coverage_union_all(parts)) if len(parts) > 1 else parts[0]
                    yield Region(whole, int(self.label[region]))

    def _cells(self, rows: slice) -> NDArray[np.int64]:
        first, last = np.searchsorted(self._start, (rows.start * self.width, rows.stop * self.width))
        cells = np.repeat(self._region[first:last], self._length[first:last])
        return cells.reshape(-1, self.width)

    def _traced_strip(self, rows: slice, tolerance: float) -> list[tuple[shapely.Polygon, int]]:
        around = slice(max(rows.start - 1, 0), min(rows.stop + 1, self.height))
        wide = np.pad(self._cells(around), ((rows.start == 0, rows.stop == self.height), (0, 0)), mode="edge")
        cells = wide[1:-1]
        # Both strips have nodes where a border meets the line between them.
        is_seam_node = np.zeros((2, self.width + 1), bool)
        for pair, at in ((wide[:2], 0), (wide[-2:], 1)):
            is_seam_node[at, 1:-1] = (pair[:, 1:] != pair[:, :-1]).any(axis=0)
        lines = np.asarray(shapely.linestrings(_border_lines(cells, is_seam_node)), dtype=object)
        simplifies_coverages = hasattr(shapely, "coverage_simplify") and shapely.geos_version >= (3, 12, 0)
        if tolerance and not simplifies_coverages:
            lines = _simplified(lines, cells.shape, tolerance)
        simple = polygons = shapely.get_parts(shapely.polygonize(lines))
        if tolerance and simplifies_coverages:
            simple = shapely.coverage_simplify(polygons, tolerance, simplify_boundary=False)
        first, last = np.searchsorted(self._start, (rows.start * self.width, rows.stop * self.width))
        y, x = np.divmod(self._start[first:last], self.width)
        length, of_run = self._length[first:last], self._region[first:last]
        middles = shapely.points(x + length / 2, y - rows.start + 0.5)
        run, polygon = shapely.STRtree(polygons).query(middles, "within")
        # Of the runs in a simplified polygon, a few may be its neighbours'.
        pairs, pair = np.unique(np.stack((polygon, of_run[run])), axis=1, return_inverse=True)
        order = np.argsort(np.bincount(pair.ravel(), length[run], pairs.shape[1]), kind="stable")
        region = np.zeros(len(polygons), np.int64)
        region[pairs[0, order]] = pairs[1, order]
        placed = shapely.transform(simple, lambda xy: xy + np.array([0, rows.start]))
        return list(zip(placed.tolist(), region.tolist()))


def _simplified(lines: NDArray[np.object_], shape: tuple[int, ...], tolerance: float) -> NDArray[np.object_]:
    """Simplify the lines between regions, which stay apart, and keep those at the frame of a strip (H, W)."""
    ends = shapely.get_coordinates(lines).reshape(-1, 2, 2)
    at_frame = ((ends == 0).all(axis=1) | (ends == shape[::-1]).all(axis=1)).any(axis=1)
    inner = shapely.line_merge(shapely.multilinestrings(lines[~at_frame]))
    simple = shapely.get_parts(shapely.simplify(inner, tolerance, preserve_topology=True))
    # A line around a few cells at the frame must not fall on it.
    is_lost = shapely.covered_by(simple, shapely.box(0, 0, shape[1], shape[0]).boundary)
    return np.concatenate((lines[at_frame], np.where(is_lost, shapely.get_parts(inner), simple)))


def _joined(count: int, one: Whole, other: Whole, wanted: NDArray[np.bool_] | slice = slice(None)) -> Whole:
    """Return for each item the first one that it is connected with, directly or through others."""
    one, other = one[wanted], other[wanted]
    first = np.arange(count)
    while True:
        a, b = first[one], first[other]
        differs = a != b
        if not differs.any():
            return first
        one, other = one[differs], other[differs]
        np.minimum.at(first, np.maximum(a, b)[differs], np.minimum(a, b)[differs])
        while (first[first] != first).any():
            first = first[first]


def _numbered(first: Whole) -> tuple[Whole, Whole]:
    """Return the number of the group of each item, and the first item of each group, after `_joined`."""
    items, number = np.unique(first, return_inverse=True)
    return np.asarray(number.ravel(), np.int64), items


def _border_lines(cells: NDArray[np.int64], is_seam_node: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the lines (N, 2, 2) between regions. Corners are cut, except where three regions meet and at the frame."""
    padded = np.pad(cells, 1, constant_values=_OUTSIDE)
    along_x = padded[:-1, 1:-1] != padded[1:, 1:-1]
    along_y = padded[1:-1, :-1] != padded[1:-1, 1:]
    left, right = np.pad(along_x, ((0, 0), (1, 0))), np.pad(along_x, ((0, 0), (0, 1)))
    up, down = np.pad(along_y, ((1, 0), (0, 0))), np.pad(along_y, ((0, 1), (0, 0)))
    degree = left.astype(np.int8) + right + up + down
    is_corner = (degree == 2) & (left != right)
    is_node = degree > 2
    is_node[[0, -1]] |= is_seam_node
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        is_node[corner], is_corner[corner] = True, False
    y, x = np.nonzero(is_corner)
    beside = np.stack((x + np.where(right[y, x], 0.5, -0.5), y), axis=-1)
    below = np.stack((x, y + np.where(down[y, x], 0.5, -0.5)), axis=-1)
    lines = [np.stack((beside, below), axis=1)]
    for edges, stop, cut in (
        (along_x, is_node | is_corner, is_corner),
        (along_y.T, (is_node | is_corner).T, is_corner.T),
    ):
        row, begin = np.nonzero(edges & stop[:, :-1])
        _, end = np.nonzero(edges & stop[:, 1:])
        start, stop_at = begin + 0.5 * cut[row, begin], end + 1 - 0.5 * cut[row, end + 1]
        ends = np.stack((np.stack((start, row), axis=-1), np.stack((stop_at, row), axis=-1)), axis=1)
        lines.append(ends[start < stop_at] if edges is along_x else ends[start < stop_at][:, :, ::-1])
    return np.concatenate(lines)
