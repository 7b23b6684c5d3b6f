"""Masks of everything: a grid of points on every level, filtered as in segment-anything's `SamAutomaticMaskGenerator`.

The grid lies on the raster and not on the tiles. Each point is decoded on the tile that shows it best, so the result
hardly depends on where the tiles begin. Masks that the border of a tile cuts are left to the tile that shows their
middle best, and continued there as after a click (`borders`). Rows of tiles are decoded from top to bottom, all levels
side by side. A mask leaves memory as soon as no later row can hold its double.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from ..core.frame import TileFrame
from ..core.grid import LevelGrid, Tile
from ..core.prompts import Bounds, Point, Prompts
from ..core.topology import fill_holes, merge
from .decoder import MASK_SIDE, DecodedMasks, decode_many
from .encoder import TILE_SIZE
from .masks import Proposal, TileMask
from .segmenter import Segmenter

__all__ = ["AutomaticMask", "AutomaticOptions", "RowCache", "automatic_masks", "tiles_of_rows"]

_TOGETHER = 32
"""Points decoded before the first mask is filtered; their masks take 1 MiB each."""

_STEP = TILE_SIZE // MASK_SIDE


@dataclass(frozen=True)
class AutomaticOptions:
    """Options with the names, defaults and meaning of segment-anything.

    Attributes
    ----------
    points_per_side : int
        Points along the side of a tile.
    pred_iou_thresh, stability_score_thresh : float
        Masks with a lower predicted IoU or stability score are dropped. Zero keeps all.
    stability_score_offset : float
        The stability score is the IoU of the masks at this logit and at its negative.
    box_nms_thresh : float
        Of masks of one tile whose boxes have a larger IoU, the one with the highest predicted IoU is kept.
    crop_nms_thresh : float
        Masks of different tiles with a larger IoU are doubles. Unlike segment-anything, it is that of the polygons.
    min_mask_region_area : float
        Holes and separate parts with fewer pixels of the level are removed.
    """

    points_per_side: int = 32
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_nms_thresh: float = 0.7
    min_mask_region_area: float = 0.0


class AutomaticMask(NamedTuple):
    """One mask.

    Attributes
    ----------
    polygon : Polygon or MultiPolygon
        Valid, in native pixels, so that its area is in pixels.
    predicted_iou, stability_score : float
    point : (float, float)
        The point that prompted it, in native pixels.
    tile : Tile
        The tile that answered, with its level.
    is_joined : bool
        Whether several tiles were needed, or borders of tiles still cut it.
    """

    polygon: shapely.Polygon | shapely.MultiPolygon
    predicted_iou: float
    stability_score: float
    point: tuple[float, float]
    tile: Tile
    is_joined: bool = False

    @property
    def rank(self) -> tuple[bool, int, float]:
        """What decides between doubles: the smaller one stays."""
        return self.is_joined, self.tile.level, -self.predicted_iou


class RowCache(Protocol):
    """Keeps the masks of rows of tiles, to continue an interrupted run."""

    def read(self, level: int, row: int) -> list[AutomaticMask] | None:
        """Return the masks of a row, or None if it was not written."""
        ...

    def write(self, level: int, row: int, masks: Sequence[AutomaticMask]) -> None:
        """Keep the masks of a row."""
        ...


def tiles_of_rows(
    segmenter: Segmenter, levels: Sequence[int] | None = None, area: BaseGeometry | None = None
) -> list[list[Tile]]:
    """Return the tiles that `automatic_masks` uses, encoded or not, in rows from top to bottom; see there."""
    pyramid = segmenter.pyramid
    grids = pyramid.grids if levels is None else [pyramid.grid(level) for level in sorted(set(levels))]
    rows: dict[tuple[int, int], list[Tile]] = {}
    for grid in grids:
        for tile in grid if area is None else grid.touching(Bounds(*area.bounds)):
            if area is None or area.intersects(shapely.box(*pyramid.tile_bounds(tile))):
                rows.setdefault((tile.level, tile.row), []).append(tile)
    return sorted(rows.values(), key=lambda row: (pyramid.tile_bounds(row[0]).min_y, -row[0].level))


def automatic_masks(
    segmenter: Segmenter,
    options: AutomaticOptions | None = None,
    levels: Sequence[int] | None = None,
    area: BaseGeometry | None = None,
    progress: Callable[[int, int], None] | None = None,
    rows: RowCache | None = None,
) -> Iterator[AutomaticMask]:
    """Find the masks of a whole raster.

    Parameters
    ----------
    segmenter : Segmenter
    options : AutomaticOptions, optional
    levels : sequence of int, optional
        Default: the native level and all coarser ones.
    area : BaseGeometry, optional
        In native pixels; only points in it are used. Default: the whole raster.
    progress : callable, optional
        Called with the number of tiles done and their total.
    rows : RowCache, optional
        Rows in it are not decoded again, and new ones are written to it.

    Yields
    ------
    AutomaticMask
        Roughly from top to bottom. They may overlap. Tiles that are not encoded and cannot be are left out.

    Raises
    ------
    StoreError, ModelError
        If the store or its decoder cannot be used.
    """
    options = options or AutomaticOptions()
    order = tiles_of_rows(segmenter, levels, area)
    tops = [segmenter.pyramid.tile_bounds(row[0]).min_y for row in order]
    waiting = _Waiting(options.crop_nms_thresh)
    if area is not None:
        shapely.prepare(area)
    done, total = 0, sum(map(len, order))
    for tiles, next_top in zip(order, [*tops[1:], np.inf]):
        level, row = tiles[0][:2]
        found = None if rows is None else rows.read(level, row)
        if found is None:
            found = []
            for number, tile in enumerate(tiles):
                if progress is not None:
                    progress(done + number, total)
                found += _tile_masks(segmenter, options, tile, area)
            if rows is not None:
                rows.write(level, row, found)
        done += len(tiles)
        if progress is not None:
            progress(done, total)
        waiting.add(found)
        yield from waiting.release(next_top)


class _Waiting:
    """Masks that may still have a double in a later row."""

    def __init__(self, thresh: float) -> None:
        self._thresh = thresh
        self._count = 0
        self._masks: dict[int, AutomaticMask] = {}
        self._rivals: dict[int, set[int]] = {}

    def add(self, found: Sequence[AutomaticMask]) -> None:
        """Take masks, and find their doubles on other tiles."""
        for mask in found:
            self._masks[self._count], self._rivals[self._count] = mask, set()
            self._count += 1
        if not found:
            return
        keys = np.array(list(self._masks))
        polygons = np.array([mask.polygon for mask in self._masks.values()], dtype=object)
        first, second = shapely.STRtree(polygons).query(polygons[len(polygons) - len(found) :])
        first += len(polygons) - len(found)
        tiles = np.array([mask.tile for mask in self._masks.values()])
        areas, bounds = shapely.area(polygons), shapely.bounds(polygons)
        # The IoU of two polygons cannot be larger than that of their areas, or the overlap of their boxes.
        sides = np.minimum(bounds[first, 2:], bounds[second, 2:]) - np.maximum(bounds[first, :2], bounds[second, :2])
        smaller, larger = np.minimum(areas[first], areas[second]), np.maximum(areas[first], areas[second])
        may = (tiles[first] != tiles[second]).any(axis=1) & (
            np.minimum(smaller, sides.prod(axis=1)) > self._thresh * larger
        )
        first, second = first[may], second[may]
        common = shapely.area(shapely.intersection(polygons[first], polygons[second]))
        are_doubles = common > self._thresh * (areas[first] + areas[second] - common)
        for one, other in zip(keys[first[are_doubles]].tolist(), keys[second[are_doubles]].tolist()):
            self._rivals[one].add(other)
            self._rivals[other].add(one)

    def release(self, top: float) -> Iterator[AutomaticMask]:
        """Yield the masks that nothing below ``top`` can displace, without their doubles."""
        ranks = {key: (*mask.rank, key) for key, mask in self._masks.items()}
        for key in sorted(ranks, key=lambda key: ranks[key]):
            if key not in self._masks:
                continue
            rivals = self._rivals[key] & self._masks.keys()
            if self._masks[key].polygon.bounds[3] <= top and all(ranks[key] < ranks[other] for other in rivals):
                yield self._masks[key]
                for gone in (key, *rivals):
                    del self._masks[gone], self._rivals[gone]


class _Found(NamedTuple):
    """A mask that passed the filters.

    Attributes
    ----------
    prompts : Prompts
        In native pixels.
    logits : float32 (h, w)
        The part with the mask and one cell around it.
    place : tuple of slice
        Where that part lies among the 256 x 256 cells.
    box : (float, float, float, float)
        First and last pixel of the tile along x and y, as x0, y0, x1, y1.
    """

    prompts: Prompts
    logits: NDArray[np.float32]
    place: tuple[slice, slice]
    box: tuple[int, int, int, int]
    score: float
    stability: float

    def whole(self) -> NDArray[np.float32]:
        """Return all logits (256, 256), outside the part that was kept with its lowest value."""
        whole = np.full((MASK_SIDE, MASK_SIDE), self.logits.min(), np.float32)
        whole[self.place] = self.logits
        return whole


def _tile_masks(
    segmenter: Segmenter, options: AutomaticOptions, tile: Tile, area: BaseGeometry | None
) -> list[AutomaticMask]:
    """Return the masks of a tile, without doubles of the same tile."""
    prompts = [Prompts((Point(x, y),)) for x, y in _points(segmenter, options.points_per_side, tile, area)]
    if not prompts or not segmenter.provide(tile):
        return []
    frame, context = TileFrame.of(segmenter.pyramid, tile), segmenter.context(tile)
    batches = [prompts[start : start + _TOGETHER] for start in range(0, len(prompts), _TOGETHER)]

    def decode(batch: Sequence[Prompts]) -> list[DecodedMasks]:
        return decode_many(segmenter.decoder, context, [frame.prompts_to_tile(item) for item in batch])

    found: list[_Found] = []
    # The next points are decoded while the masks of these are filtered.
    with ThreadPoolExecutor(1) as ahead:
        running = ahead.submit(decode, batches[0])
        for number, batch in enumerate(batches):
            decoded = running.result()
            if number + 1 < len(batches):
                running = ahead.submit(decode, batches[number + 1])
            for item, masks in zip(batch, decoded):
                found += _filtered(item, masks, options, frame)
    kept = _box_nms(
        np.array([item.box for item in found], float), np.array([i.score for i in found]), options.box_nms_thresh
    )
    return _resolved(segmenter, options, frame, [found[index] for index in kept])


def _points(
    segmenter: Segmenter, points_per_side: int, tile: Tile, area: BaseGeometry | None
) -> list[tuple[float, float]]:
    """Return the points of the level that this tile shows best, in native pixels; none where there is no data."""
    pyramid = segmenter.pyramid
    grid, bounds = pyramid.grid(tile.level), pyramid.tile_bounds(tile)
    gap = pyramid.tiling.tile_size / points_per_side * grid.scale
    xs, ys = (
        (np.arange(np.floor(low / gap), np.ceil(high / gap)) + 0.5) * gap
        for low, high in ((bounds.min_x, bounds.max_x), (bounds.min_y, bounds.max_y))
    )
    points = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    inside = ((points > bounds[:2]) & (points < bounds[2:])).all(axis=1)
    if area is not None:
        inside &= shapely.intersects_xy(area, points)
    return [
        (x, y)
        for x, y in points[inside].tolist()
        if _shown_by(segmenter, grid, x, y) == tile
        and not segmenter.is_without_data(Bounds(x, y, x, y), pyramid.grids[0])
    ]


def _shown_by(segmenter: Segmenter, grid: LevelGrid, x: float, y: float) -> Tile | None:
    """Return the tile of a level that shows a place best."""
    around = grid.tiles_around(Bounds(x, y, x, y), tolerance=grid.scale)
    return next((tile for _, tile in around if segmenter.can_provide(tile)), None)


def _filtered(prompts: Prompts, decoded: DecodedMasks, options: AutomaticOptions, frame: TileFrame) -> Iterator[_Found]:
    """Yield the candidates of a point that are good and stable enough."""
    for index in decoded.ranking(ambiguous=True):
        logits, score = decoded.low_res_masks[index], float(decoded.iou_predictions[index])
        if 0 < options.pred_iou_thresh >= score:
            continue
        padded = np.pad(logits, 1, "edge")
        low = padded > -options.stability_score_offset
        rows, cols = np.flatnonzero(low.any(axis=1)), np.flatnonzero(low.any(axis=0))
        if not rows.size:
            continue
        top, left = max(rows[0] - 1, 0), max(cols[0] - 1, 0)
        near = padded[top : rows[-1] + 2, left : cols[-1] + 2]
        union, _ = _upsampled(near, -options.stability_score_offset, (top, left), frame)
        common, _ = _upsampled(near, options.stability_score_offset, (top, left), frame)
        size, box = _upsampled(near, 0.0, (top, left), frame)
        stability = common / union if union else 0.0
        if size and stability >= options.stability_score_thresh:
            place = slice(max(top - 1, 0), rows[-1] + 1), slice(max(left - 1, 0), cols[-1] + 1)
            yield _Found(prompts, logits[place].copy(), place, box, score, stability)


def _upsampled(
    padded: NDArray[np.float32], threshold: float, origin: tuple[int, int], frame: TileFrame
) -> tuple[int, tuple[int, int, int, int]]:
    """Count the pixels of a tile above a threshold after SAM's bilinear upsampling, which is not carried out.

    Four samples enclose 4 x 4 pixels. These are computed only where one of the samples is on the other side.

    Parameters
    ----------
    padded : float32 (h, w)
        Part of the logits with a border of one cell, repeated at the edge of the tile.
    threshold : float
    origin : (int, int)
        Row and column of the part.
    frame : TileFrame

    Returns
    -------
    int
    (int, int, int, int)
        First and last pixel along x and y, as x0, y0, x1, y1.
    """
    above = (padded > threshold).view(np.int8)
    pairs = above[:-1] + above[1:]
    corners = pairs[:, :-1] + pairs[:, 1:]
    ys, in_y = _pixels(origin[0], corners.shape[0], frame.height)
    xs, in_x = _pixels(origin[1], corners.shape[1], frame.width)
    full = corners == 4
    rows, cols = np.nonzero((corners > 0) & ~full)
    part = (np.arange(_STEP, dtype=np.float32) + 0.5) / _STEP
    left, right = (padded[rows, at, None] * (1 - part) + padded[rows + 1, at, None] * part for at in (cols, cols + 1))
    mixed = left[:, :, None] * (1 - part) + right[:, :, None] * part > threshold
    mixed &= in_y[rows][:, :, None] & in_x[cols][:, None, :]
    count = int(in_y.sum(1) @ full @ in_x.sum(1)) + int(mixed.sum())
    if not count:
        return 0, (0, 0, 0, 0)
    ends = []
    for pixels, inside, axis, used, index in ((xs, in_x, 0, mixed.any(1), cols), (ys, in_y, 1, mixed.any(2), rows)):
        whole = full.any(axis=axis)
        some = np.concatenate((pixels[whole][inside[whole]], pixels[index][used]))
        ends.append((int(some.min()), int(some.max())))
    return count, (ends[0][0], ends[1][0], ends[0][1], ends[1][1])


@lru_cache(maxsize=4096)
def _pixels(first: int, count: int, size: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the pixels between samples along one side (count, 4), and whether they lie in the tile."""
    pixels = _STEP * (first + np.arange(count))[:, None] + np.arange(_STEP) - _STEP // 2
    return pixels, (pixels >= 0) & (pixels < size)


def _box_nms(boxes: NDArray[np.float64], scores: NDArray[np.float64], thresh: float) -> list[int]:
    """Return the boxes (N, 4) to keep, best first, as torchvision's `nms` does."""
    order = np.argsort(-scores, kind="stable")
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) if len(boxes) else scores
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(int(best))
        sides = np.minimum(boxes[rest, 2:], boxes[best, 2:]) - np.maximum(boxes[rest, :2], boxes[best, :2])
        common = np.prod(np.maximum(sides, 0.0), axis=1)
        order = rest[common <= thresh * (areas[best] + areas[rest] - common)]
    return kept


def _resolved(
    segmenter: Segmenter, options: AutomaticOptions, frame: TileFrame, found: Sequence[_Found]
) -> list[AutomaticMask]:
    """Trace masks, continue them beyond the tile, and remove their small regions."""
    grid = segmenter.pyramid.grid(frame.tile.level)
    masks, unchanged = [], []
    for item in found:
        mask = TileMask(frame, item.whole(), item.score)
        if mask.cut_sides(segmenter.pyramid):
            middle = frame.to_native((item.box[0] + item.box[2] + 1) / 2, (item.box[1] + item.box[3] + 1) / 2)
            if _shown_by(segmenter, grid, *middle) != frame.tile:
                continue
        candidate = segmenter.resolve(Proposal(item.prompts, ((mask,),)), all_parts=True)
        least = options.min_mask_region_area * 4.0**candidate.level
        filled = [fill_holes(part, least) for part in candidate.polygons]
        large = [part for part in filled if part.area >= least] or sorted(filled, key=lambda part: -part.area)[:1]
        polygon = merge(large)
        if polygon.is_empty:
            continue
        point = item.prompts.points[0]
        is_joined = len(candidate.masks) > 1 or bool(candidate.mask.cut_sides(segmenter.pyramid))
        masks.append(
            AutomaticMask(polygon, item.score, item.stability, (point.x, point.y), candidate.tiles[0], is_joined)
        )
        unchanged.append(float(large == list(candidate.polygons)))
    if options.min_mask_region_area > 0 and masks:
        # As in segment-anything, masks that did not change are preferred.
        thresh = max(options.box_nms_thresh, options.crop_nms_thresh)
        boxes = np.array([mask.polygon.bounds for mask in masks])
        masks = [masks[index] for index in _box_nms(boxes, np.array(unchanged), thresh)]
    return masks
