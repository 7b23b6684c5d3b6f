"""From mask logits to polygons without a full-resolution mask, and back.

The zero level set of the logits is traced on their own grid by marching squares. Its vertices lie between the samples,
where SAM's bilinear upsampling and threshold would put the outline.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import contourpy
import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

__all__ = ["mask_polygons", "polygon_logits"]

_MIN_LOGIT = 1e-4
"""Smallest absolute value of a sample. At a sample of exactly zero, rings would share a vertex."""

_MOST_LOGIT = 10.0
"""Absolute value of the logits far from an outline; SAM's authors use it for hard masks in SAM 2. To `mini` the value
hardly matters: from outlines displaced by 0.12 of their size, it answers with an IoU of 0.891 at 4 and 0.894 at 20."""

_RAMP_CELLS = 4.0
"""Distance from an outline, in cells, where the logits reach that value. With `mini`, 2 and 8 cells do the same."""

_LEAST_DETAIL = 1 / 64
"""Detail of an outline that shows in the logits, in cells."""


@lru_cache(maxsize=4)
def polygon_logits(polygon: BaseGeometry, tile_size: int, cells: int) -> NDArray[np.float32]:
    """Return the logits of a mask whose outline is a polygon, for `mask_input`.

    Parameters
    ----------
    polygon : Polygon or MultiPolygon
        Not empty, in tile pixels; parts outside the tile are ignored.
    tile_size : int
        Side of the tile in pixels.
    cells : int
        Side of the grid of logits.

    Returns
    -------
    float32 (cells, cells)
        Signed distance to the outline at the centres of the cells, positive inside, clipped and scaled. Read-only.
    """
    stride = tile_size / cells
    logits = np.full((cells, cells), -_MOST_LOGIT, np.float32)
    # Finer details than the cells show only take time.
    polygon = shapely.simplify(polygon, stride * _LEAST_DETAIL)
    ends = np.array(polygon.bounds).reshape(2, 2) / stride + [[-_RAMP_CELLS], [_RAMP_CELLS]]
    (left, top), (right, bottom) = np.clip(np.round(ends), 0, cells).astype(int)
    ys, xs = (np.mgrid[top:bottom, left:right].reshape(2, -1) + 0.5) * stride
    coords, ring = shapely.get_coordinates(shapely.get_rings(shapely.get_parts(polygon)), return_index=True)
    segments = np.stack((coords[:-1], coords[1:]), axis=1)[ring[:-1] == ring[1:]]
    shapely.prepare(polygon)
    inside = shapely.contains_xy(polygon, xs, ys)
    distances = np.full(len(xs), _RAMP_CELLS)
    (near, _), found = shapely.STRtree(shapely.linestrings(segments)).query_nearest(
        shapely.points(xs, ys), max_distance=_RAMP_CELLS * stride, return_distance=True, all_matches=False
    )
    distances[near] = found / stride
    signed = np.where(inside, distances, -distances) * (_MOST_LOGIT / _RAMP_CELLS)
    logits[top:bottom, left:right] = signed.reshape(bottom - top, right - left)
    logits.flags.writeable = False
    return logits


def mask_polygons(
    logits: NDArray[np.float32], tile_size: int, width: int | None = None, height: int | None = None
) -> list[shapely.Polygon]:
    """Trace the outlines of a mask.

    The algorithm is marching squares (Lorensen and Cline 1987, in two dimensions) in contourpy, which resolves saddle
    points by the mean of the cell.

    Parameters
    ----------
    logits : float32 (h, w)
        Mask logits, positive inside, sampled at the centres of h x w cells that fill the tile.
    tile_size : int
        Side of the tile in pixels.
    width, height : int, optional
        Size of the tile without padding; the mask is cut there.

    Returns
    -------
    list of Polygon
        Valid polygons with holes in tile pixels XY, within (0, 0, width, height), largest first.
    """
    width = tile_size if width is None else width
    height = tile_size if height is None else height
    ys, row_index = _samples(logits.shape[0], tile_size, height)
    xs, col_index = _samples(logits.shape[1], tile_size, width)
    values = logits[np.ix_(row_index, col_index)].astype(np.float64)
    if not (values > 0).any():
        return []
    values = np.where(np.abs(values) < _MIN_LOGIT, np.where(values > 0, _MIN_LOGIT, -_MIN_LOGIT), values)
    generator = contourpy.contour_generator(xs, ys, values, name="serial", fill_type=contourpy.FillType.OuterOffset)
    filled: Any = generator.filled(0.0, float(values.max()) + 1.0)
    polygons: list[shapely.Polygon] = []
    for points, ends in zip(*filled):
        parts = [points[start:end] for start, end in zip(ends[:-1], ends[1:])]
        polygons += _valid_parts(shapely.Polygon(parts[0], parts[1:]))
    return sorted(polygons, key=lambda polygon: -polygon.area)


def _samples(cells: int, tile_size: int, size: int) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return positions and indices along one side: the centres of the cells, and both ends with the nearest cell."""
    stride = tile_size / cells
    used = np.arange(cells)[(np.arange(cells) + 0.5) * stride < size]
    if used.size == 0:
        used = np.array([0])
        return np.array([0.0, float(size)]), np.repeat(used, 2)
    centres = (used + 0.5) * stride
    positions = np.concatenate(([0.0], centres, [float(size)]))
    return positions, np.concatenate((used[:1], used, used[-1:]))


def _valid_parts(polygon: shapely.Polygon) -> list[shapely.Polygon]:
    """Return the polygon, repaired and split if rounding made two of its vertices equal."""
    if polygon.is_valid:
        return [polygon] if polygon.area > 0 else []
    parts = shapely.get_parts(shapely.make_valid(polygon))
    return [part for part in parts if part.geom_type == "Polygon" and part.area > 0]
