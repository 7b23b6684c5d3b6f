"""Masks of everything: a grid of points on every level, filtered as in segment-anything's `SamAutomaticMaskGenerator`.

The grid lies on the raster, and each point is decoded on the tile that shows it best, so the masks hardly depend on
where the tiles begin. A mask that the border of its tile cuts is continued as after a click (`borders`), by the tile
that shows its middle best. Rows of tiles are decoded from top to bottom, all levels side by side, and a mask leaves
memory as soon as no later row can hold its double.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from ..core.frame import TileFrame
from ..core.geotransform import GeoTransform
from ..core.grid import Tile
from ..core.prompts import Bounds, Point, Prompts
from ..core.topology import clean, fill_holes, merge, polygon_parts
from .decoder import MASK_SIDE, DecodedMasks, decode_many
from .encoder import TILE_SIZE
from .masks import Proposal, TileMask
from .segmenter import Segmenter

__all__ = [
    "AutomaticMask",
    "AutomaticOptions",
    "TileCache",
    "automatic_masks",
    "default_options",
    "rows_of_tiles",
    "shown_by",
]

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
        Masks with a lower predicted IoU or stability score are dropped.
    stability_score_offset : float
        The stability score is the IoU of the masks at this logit and at its negative.
    box_nms_thresh : float
        Of masks of one tile whose boxes have a larger IoU, the one with the highest predicted IoU stays.
    crop_nms_thresh : float
        Masks of different tiles are doubles from this IoU; of the polygons, where segment-anything takes their boxes.
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


_DEFAULTS = {"mini": AutomaticOptions(16, 0.4, 0.4)}
"""By the name of the model; the logits of `mini` rise less steeply at an outline than those of SAM."""


def default_options(segmenter: Segmenter) -> AutomaticOptions:
    """Return the options that suit the model of a store."""
    return _DEFAULTS.get(segmenter.reader.metadata.model["name"], AutomaticOptions())


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
        The tile that the point was decoded on.
    level : int
        The level that answered.
    is_continued : bool
        Whether the tile cuts it, so that other tiles were asked.
    """

    polygon: shapely.Polygon | shapely.MultiPolygon
    predicted_iou: float
    stability_score: float
    point: tuple[float, float]
    tile: Tile
    level: int
    is_continued: bool

    def on_map(self, transform: GeoTransform, simplify: float) -> BaseGeometry:
        """Return the polygon on the map, simplified with a tolerance in pixels of its level."""
        return transform.apply_geometry(
            clean(polygon_parts(self.polygon), simplify_tolerance=simplify * 2.0**self.level)
        )


class TileCache(Protocol):
    """Keeps the masks of tiles, to continue an interrupted run."""

    def read(self, tile: Tile) -> list[AutomaticMask] | None:
        """Return the masks of a tile, or None if it was not written."""
        ...

    def write(self, tile: Tile, masks: Sequence[AutomaticMask]) -> None:
        """Keep the masks of a tile."""
        ...


def rows_of_tiles(
    segmenter: Segmenter, levels: Sequence[int] | None = None, area: BaseGeometry | None = None
) -> list[list[Tile]]:
    """Return the tiles that `automatic_masks` uses, encoded or not, in rows from top to bottom; see there."""
    pyramid = segmenter.pyramid
    rows: dict[tuple[int, int], list[Tile]] = {}
    for grid in pyramid.grids if levels is None else [pyramid.grid(level) for level in sorted(set(levels))]:
        for tile in grid if area is None else grid.touching(Bounds(*area.bounds)):
            # The rows of neighbouring sheets that are read with the raster come after its own.
            is_own = tile.row < grid.rows
            if is_own and (area is None or area.intersects(shapely.box(*pyramid.tile_bounds(tile)))):
                rows.setdefault((tile.level, tile.row), []).append(tile)
    return sorted(rows.values(), key=lambda row: (pyramid.tile_bounds(row[0]).min_y, -row[0].level))


def automatic_masks(
    segmenter: Segmenter,
    options: AutomaticOptions | None = None,
    levels: Sequence[int] | None = None,
    area: BaseGeometry | None = None,
    progress: Callable[[int, int], None] | None = None,
    cache: TileCache | None = None,
) -> Iterator[AutomaticMask]:
    """Find the masks of a whole raster.

    Parameters
    ----------
    segmenter : Segmenter
    options : AutomaticOptions, optional
        Default: those of `default_options`.
    levels : sequence of int, optional
        Default: the native level and all coarser ones.
    area : BaseGeometry, optional
        In native pixels. Only points in it are used, and masks that reach into it kept. Default: the whole raster.
    progress : callable, optional
        Called with the number of tiles done and their total.
    cache : TileCache, optional
        Tiles in it are not decoded again, and new ones are written to it.

    Yields
    ------
    AutomaticMask
        Roughly from top to bottom; they may overlap. Tiles that are not encoded and cannot be are left out.

    Raises
    ------
    StoreError, ModelError
        If the store or its decoder cannot be used.
    """
    options = options or default_options(segmenter)
    order = rows_of_tiles(segmenter, levels, area)
    tops = [segmenter.pyramid.tile_bounds(row[0]).min_y for row in order]
    waiting = _Waiting(options.crop_nms_thresh)
    if area is not None:
        shapely.prepare(area)
    done, total = 0, sum(map(len, order))
    for tiles, next_top in zip(order, [*tops[1:], np.inf]):
        found = []
        for tile in tiles:
            if progress is not None:
                progress(done, total)
            masks = None if cache is None else cache.read(tile)
            if masks is None:
                masks = _tile_masks(segmenter, options, tile, area)
                if cache is not None:
                    cache.write(tile, masks)
            found += masks
            done += 1
        waiting.add(found)
        yield from waiting.release(next_top)
    if progress is not None:
        progress(done, total)


class _Waiting:
    """Masks that may still have a double in a later row."""

    def __init__(self, thresh: float) -> None:
        self._thresh = thresh
        self._count = 0
        self._masks: dict[int, AutomaticMask] = {}
        self._doubles: dict[int, set[int]] = {}

    def add(self, found: Sequence[AutomaticMask]) -> None:
        """Take masks, and find their doubles. Those of one tile have none, unless other tiles answered both."""
        if not found:
            return
        for mask in found:
            self._masks[self._count], self._doubles[self._count] = mask, set()
            self._count += 1
        keys, masks = np.array(list(self._masks)), list(self._masks.values())
        polygons = np.array([mask.polygon for mask in masks], dtype=object)
        tiles, continued = np.array([mask.tile for mask in masks]), np.array([mask.is_continued for mask in masks])
        areas, bounds = shapely.area(polygons), shapely.bounds(polygons)
        first, second = shapely.STRtree(polygons).query(polygons[-len(found) :])
        first += len(polygons) - len(found)
        may = (tiles[first] != tiles[second]).any(axis=1) | (continued[first] & continued[second])
        # What two polygons share is no larger than the smaller one, or than what their boxes share.
        sides = np.minimum(bounds[first, 2:], bounds[second, 2:]) - np.maximum(bounds[first, :2], bounds[second, :2])
        most = np.minimum.reduce((areas[first], areas[second], sides.prod(axis=1)))
        may &= (first != second) & (most > self._thresh * np.maximum(areas[first], areas[second]))
        first, second = first[may], second[may]
        common = shapely.area(shapely.intersection(polygons[first], polygons[second]))
        are_doubles = common > self._thresh * (areas[first] + areas[second] - common)
        for one, other in zip(keys[first[are_doubles]].tolist(), keys[second[are_doubles]].tolist()):
            self._doubles[one].add(other)
            self._doubles[other].add(one)

    def release(self, top: float) -> Iterator[AutomaticMask]:
        """Yield the masks above ``top`` that nothing below can displace: whole ones first, then of finer levels."""
        ranks = {key: (m.is_continued, m.level, -m.predicted_iou, key) for key, m in self._masks.items()}
        for key in sorted(ranks, key=ranks.__getitem__):
            doubles = self._doubles.get(key, set()) & self._masks.keys()
            is_final = key in self._masks and self._masks[key].polygon.bounds[3] <= top
            if is_final and all(ranks[key] < ranks[other] for other in doubles):
                yield self._masks[key]
                for gone in (key, *doubles):
                    del self._masks[gone], self._doubles[gone]


class _Found(NamedTuple):
    """A mask that passed the filters; logits are float16, and the box has the first and last pixels x0, y0, x1, y1."""

    prompts: Prompts
    logits: NDArray[np.float16]
    box: tuple[int, int, int, int]
    score: float
    stability: float


def _tile_masks(
    segmenter: Segmenter, options: AutomaticOptions, tile: Tile, area: BaseGeometry | None
) -> list[AutomaticMask]:
    """Return the masks of a tile, without doubles."""
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
        for batch, following in zip(batches, [*batches[1:], []]):
            decoded, running = running.result(), ahead.submit(decode, following)
            found += [mask for item, masks in zip(batch, decoded) for mask in _filtered(item, masks, options, frame)]
    kept = _box_nms([item.box for item in found], [item.score for item in found], options.box_nms_thresh)
    masks = _traced(segmenter, options, frame, [found[index] for index in kept])
    return masks if area is None else [mask for mask in masks if area.intersects(mask.polygon)]


def _points(
    segmenter: Segmenter, points_per_side: int, tile: Tile, area: BaseGeometry | None
) -> list[tuple[float, float]]:
    """Return the points of the level that this tile shows best, in native pixels; none where there is no data."""
    pyramid = segmenter.pyramid
    bounds = pyramid.tile_bounds(tile)
    gap = pyramid.tiling.tile_size / points_per_side * 2.0**tile.level
    xs, ys = ((np.arange(low // gap, high // gap + 1) + 0.5) * gap for low, high in zip(bounds[:2], bounds[2:]))
    points = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    points = points[((points > bounds[:2]) & (points < bounds[2:])).all(axis=1)]
    if area is not None:
        points = points[shapely.intersects_xy(area, points)]
    return [
        (x, y)
        for x, y in points.tolist()
        if shown_by(segmenter, tile.level, x, y) == tile
        and not segmenter.is_without_data(Bounds(x, y, x, y), pyramid.grids[0])
    ]


def shown_by(segmenter: Segmenter, level: int, x: float, y: float) -> Tile | None:
    """Return the tile of a level that shows a place best."""
    grid = segmenter.pyramid.grid(level)
    around = grid.tiles_around(Bounds(x, y, x, y), tolerance=grid.scale)
    return next((tile for _, tile in around if segmenter.can_provide(tile)), None)


def _filtered(prompts: Prompts, decoded: DecodedMasks, options: AutomaticOptions, frame: TileFrame) -> Iterator[_Found]:
    """Yield the candidates of a point that are good and stable enough."""
    offset = options.stability_score_offset
    for index in decoded.ranking(ambiguous=True):
        logits, score = decoded.low_res_masks[index], float(decoded.iou_predictions[index])
        if 0 < options.pred_iou_thresh >= score:
            continue
        (union, _), (size, box), (common, _) = _upsampled(logits, (-offset, 0.0, offset), frame)
        if size and common >= options.stability_score_thresh * union:
            yield _Found(prompts, logits.astype(np.float16), box, score, common / union)


def _upsampled(
    logits: NDArray[np.float32], thresholds: Sequence[float], frame: TileFrame
) -> list[tuple[int, tuple[int, int, int, int]]]:
    """Return the area and the box in pixels above each threshold, lowest first, after SAM's bilinear upsampling.

    Four samples enclose 4 x 4 pixels, which are computed only if the samples are not all on one side.
    """
    padded = np.pad(logits, 1, "edge")
    low = padded > thresholds[0]
    rows, cols = np.flatnonzero(low.any(axis=1)), np.flatnonzero(low.any(axis=0))
    if not rows.size:
        return [(0, (0, 0, 0, 0))] * len(thresholds)
    top, left = max(rows[0] - 1, 0), max(cols[0] - 1, 0)
    padded = padded[top : rows[-1] + 2, left : cols[-1] + 2]
    part = (np.arange(_STEP, dtype=np.float32) + 0.5) / _STEP
    ys, xs = (
        _STEP * (start + np.arange(count - 1))[:, None] + np.arange(_STEP) - _STEP // 2
        for start, count in zip((top, left), padded.shape)
    )
    in_y, in_x = (ys >= 0) & (ys < frame.height), (xs >= 0) & (xs < frame.width)
    found = []
    for threshold in thresholds:
        above = (padded > threshold).view(np.int8)
        pairs = above[:-1] + above[1:]
        corners = pairs[:, :-1] + pairs[:, 1:]
        full = corners == 4
        row, col = np.nonzero((corners > 0) & ~full)
        sides = [padded[row, at, None] * (1 - part) + padded[row + 1, at, None] * part for at in (col, col + 1)]
        mixed = sides[0][:, :, None] * (1 - part) + sides[1][:, :, None] * part > threshold
        mixed &= in_y[row][:, :, None] & in_x[col][:, None, :]
        some_x = np.concatenate((xs[full.any(0)][in_x[full.any(0)]], xs[col][mixed.any(1)]))
        some_y = np.concatenate((ys[full.any(1)][in_y[full.any(1)]], ys[row][mixed.any(2)]))
        size = int(in_y.sum(1) @ full @ in_x.sum(1)) + int(mixed.sum())
        ends = (some_x.min(), some_y.min(), some_x.max(), some_y.max()) if size else (0, 0, 0, 0)
        found.append((size, ends))
    return found


def _box_nms(boxes: Any, scores: Sequence[float], thresh: float) -> list[int]:
    """Return the indices of the boxes to keep, best first, as torchvision's `nms` does."""
    low, high = np.array(boxes, dtype=np.float64).reshape(-1, 2, 2).transpose(1, 0, 2)
    areas = (high - low).prod(axis=1)
    order = np.argsort(-np.array(scores), kind="stable")
    kept = []
    while order.size:
        best, order = order[0], order[1:]
        kept.append(int(best))
        sides = np.minimum(high[order], high[best]) - np.maximum(low[order], low[best])
        common = np.maximum(sides, 0.0).prod(axis=1)
        order = order[common <= thresh * (areas[best] + areas[order] - common)]
    return kept


def _traced(
    segmenter: Segmenter, options: AutomaticOptions, frame: TileFrame, found: Sequence[_Found]
) -> list[AutomaticMask]:
    """Trace masks, continue them beyond the tile, and remove their small regions."""
    masks, unchanged = [], []
    for prompts, logits, box, score, stability in found:
        mask = TileMask(frame, logits.astype(np.float32), score)
        is_cut = bool(mask.cut_sides(segmenter.pyramid))
        middle = frame.to_native((box[0] + box[2] + 1) / 2, (box[1] + box[3] + 1) / 2)
        if is_cut and shown_by(segmenter, frame.tile.level, *middle) != frame.tile:
            continue
        candidate = segmenter.resolve(Proposal(prompts, ((mask,),)), all_parts=True)
        least = options.min_mask_region_area * 4.0**candidate.level
        filled = [fill_holes(part, least) for part in candidate.polygons]
        large = [part for part in filled if part.area >= least] or sorted(filled, key=shapely.area)[-1:]
        if large:
            point = prompts.points[0][:2]
            masks.append(AutomaticMask(merge(large), score, stability, point, frame.tile, candidate.level, is_cut))
            unchanged.append(float(large == list(candidate.polygons)))
    if options.min_mask_region_area <= 0:
        return masks
    # As in segment-anything, masks that did not change are preferred.
    thresh = max(options.box_nms_thresh, options.crop_nms_thresh)
    bounds = np.array([mask.polygon.bounds for mask in masks]).reshape(-1, 4) / frame.scale - 0.5
    # First and last pixels with their centre inside.
    boxes = np.concatenate((np.ceil(bounds[:, :2]), np.floor(bounds[:, 2:])), axis=1)
    return [masks[index] for index in _box_nms(boxes, unchanged, thresh)]
