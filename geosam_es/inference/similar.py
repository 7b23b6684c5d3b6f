"""Finding more objects like a few examples, and learning from what the user accepts and rejects.

Two linear classifiers learn from stored features, so nothing is encoded again. One knows the samples of a tile: those
under the examples against those around them and at random places. It gives a map of likeness, whose maxima are clicked.
The other knows whole polygons, the examples against displaced and random ones, and judges the decoder's answers. What a
good answer covers leaves the map before the next maxima are taken, so that neighbours cannot hide each other.

Coordinates are native pixels of the raster, as in `segmenter`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import shapely
import shapely.affinity
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from ..core.frame import TileFrame
from ..core.grid import Tile
from ..core.linear import LinearClassifier
from ..core.prompts import Bounds, Point, Prompts
from ..core.topology import clean
from ..errors import PromptError
from .features import SAMPLES, FeaturePool
from .segmenter import Segmenter

__all__ = ["SimilarObject", "SimilarObjects"]

_SAMPLE_RIDGE = 100.0
_POLYGON_RIDGE = 30.0
_SAMPLES_EACH = 150
"""Samples taken under each polygon, and as many around it."""

_PLACES = 600
"""Random places that stand for the background at first."""

_DISPLACED = 8
"""Copies of each example beside it, which teach where objects end."""

_BLUR = 0.35
_GAP = 0.4
"""Width of the blur, and least distance of clicks, as parts of the examples' size."""

_LEAST_PEAK = 0.4
_PASSES = 5
_MOST_SIZES = 6.0
"""How many times as large as the largest example an answer may be."""

_SIZE_SPREAD = 0.7
"""Least spread of the logarithm of the area that examples are taken to have."""

_DOUBLE_IOU = 0.5
_DOUBLE_SHARE = 0.7
"""Of two answers with a larger IoU, or of which one lies in the other with a larger part, the better one is kept."""

_TILES_REMEMBERED = 32
_TOLERANCE = 1.0
"""Tolerance in pixels for simplifying outlines, as after a click."""


class SimilarObject(NamedTuple):
    """A polygon that looks like the examples.

    Attributes
    ----------
    polygon : Polygon or MultiPolygon
        In native pixels.
    likeness : float
        Probability, from 0 to 1, that it is what the examples are.
    score : float
        Predicted IoU.
    vector : float32 (D,)
        Its features.
    """

    polygon: shapely.Polygon | shapely.MultiPolygon
    likeness: float
    score: float
    vector: NDArray[np.float32]


class SimilarObjects:
    """What a user looks for, learnt from examples and judgements.

    Parameters
    ----------
    segmenter : Segmenter
    examples : sequence of Polygon or MultiPolygon
        At least one, in native pixels.
    pool : FeaturePool, optional
        Features to share with others.

    Raises
    ------
    PromptError
        If no example lies on an encoded tile.
    """

    def __init__(self, segmenter: Segmenter, examples: Sequence[BaseGeometry], pool: FeaturePool | None = None) -> None:
        self.segmenter = segmenter
        self.pool = pool or FeaturePool(segmenter.reader)
        self._samples, self._polygons = LinearClassifier(_SAMPLE_RIDGE), LinearClassifier(_POLYGON_RIDGE)
        self._areas: list[float] = []
        self._done: list[BaseGeometry] = []
        self._answers: OrderedDict[Tile, list[SimilarObject]] = OrderedDict()
        self._random = np.random.default_rng(0)
        self.learn(examples, [])
        if not self._areas:
            raise PromptError(
                "No example lies on a part of the raster that is prepared", "prepare it, or choose others"
            )
        self.level = max(segmenter.pyramid.level_for_size(float(np.median([_side(item) for item in self._done]))), 0)
        self._add_background()

    def learn(self, accepted: Sequence[BaseGeometry], rejected: Sequence[BaseGeometry]) -> None:
        """Learn from polygons that are, or are not, what the user looks for; later searches leave them out."""
        for polygons, is_wanted in ((accepted, True), (rejected, False)):
            for polygon in polygons:
                self._provide(polygon)
            vectors = self.pool.vectors(polygons)
            for polygon, vector in zip(polygons, vectors):
                if not np.isfinite(vector).all():
                    continue
                self._done.append(polygon)
                if is_wanted:
                    self._areas.append(polygon.area)
                self._add_samples(polygon, is_wanted)
                self._polygons.add(vector[None], [is_wanted])

    def _provide(self, polygon: BaseGeometry) -> None:
        """Encode the tile of a polygon if that is possible and none is there."""
        if not polygon.is_empty and self.pool.tile_of(polygon) is None:
            level = max(self.pool.pyramid.level_for_size(_side(polygon)), 0)
            for grid in self.pool.pyramid.grids_from(level):
                around = grid.tiles_around(Bounds(*polygon.bounds), tolerance=grid.scale)
                if any(self.segmenter.provide(tile) for _, tile in around[:1]):
                    return

    def _add_samples(self, polygon: BaseGeometry, is_wanted: bool) -> None:
        tile = self.pool.tile_of(polygon)
        if tile is not None:
            inside, ring = (self._some(part, _SAMPLES_EACH) for part in self.pool.samples(tile, polygon))
            self._samples.add(self.pool.at(tile, inside), [is_wanted] * len(inside))
            if is_wanted:
                self._samples.add(self.pool.at(tile, ring), [False] * len(ring))

    def _some(self, rows: NDArray[np.intp], most: int) -> NDArray[np.intp]:
        return rows if len(rows) <= most else rows[self._random.choice(len(rows), most, replace=False)]

    def _add_background(self) -> None:
        """Learn from random places, and from copies of the examples at random places and beside them."""
        reader, random = self.segmenter.reader, self._random
        tiles = [tile for tile in reader.tiles(self.level) if reader.is_encoded(tile)]
        tiles = [tiles[index] for index in random.permutation(len(tiles))[:8]]
        copies = []
        for tile in tiles:
            frame = TileFrame.of(self.pool.pyramid, tile)
            count = _PLACES // len(tiles)
            ends = np.array([frame.height, frame.width]) * SAMPLES / self.segmenter.tile_size
            places = (random.random((count, 2)) * ends).astype(np.intp)
            self._samples.add(self.pool.at(tile, places), [False] * count)
            bounds = frame.bounds
            for _ in range(4):
                example = self._done[random.integers(len(self._done))]
                x, y = random.uniform(bounds[:2], bounds[2:])
                copies.append(shapely.affinity.translate(example, x - example.centroid.x, y - example.centroid.y))
        for example in self._done:
            for angle in np.arange(_DISPLACED) * 2 * np.pi / _DISPLACED:
                reach = random.uniform(0.5, 1.0) * example.area**0.5
                copies.append(shapely.affinity.translate(example, reach * np.cos(angle), reach * np.sin(angle)))
        vectors = self.pool.vectors(
            [copy for copy in copies if copy.intersects(shapely.box(*self.pool.pyramid.bounds))]
        )
        vectors = vectors[np.isfinite(vectors).all(axis=1)]
        self._polygons.add(vectors, [False] * len(vectors))

    def likeness_map(self, tile: Tile) -> NDArray[np.float32]:
        """Return how much each sample (`SAMPLES`, `SAMPLES`) of an encoded tile looks like the examples.

        It is about 1 under the examples, and 0 elsewhere.
        """
        weights = self._samples.weights[:, self._samples.classes.index(True)]
        return self.pool.linear_map(tile, weights[:-1]) + np.float32(weights[-1])

    def likeness(self, vectors: NDArray[np.float32], areas: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the likeness (N,) of polygons, given their vectors (N, D) and areas (N,) in native pixels."""
        sizes = np.log(self._areas)
        spread = max(float(np.std(sizes)), _SIZE_SPREAD)
        away = (np.log(np.maximum(areas, 1e-9)) - np.median(sizes)) / spread
        wanted = self._polygons.probabilities(vectors)[:, self._polygons.classes.index(True)]
        # Twice the spread still costs nothing.
        return np.asarray(wanted * np.exp(-0.5 * np.maximum(np.abs(away) - 2.0, 0.0) ** 2))

    def search(
        self,
        area: BaseGeometry | None = None,
        threshold: float = 0.5,
        known: Sequence[BaseGeometry] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[SimilarObject]:
        """Find objects like the examples.

        Parameters
        ----------
        area : BaseGeometry, optional
            Objects are searched on the tiles that touch it; by default on all.
        threshold : float
            Least likeness.
        known : sequence of Polygon or MultiPolygon
            Objects that are there already. These, the examples and what was judged are left out.
        progress : callable, optional
            Called with the number of tiles done and their total. It may raise an exception to stop.

        Yields
        ------
        SimilarObject
            From tile to tile, the best of a tile first. No two are the same object.

        Raises
        ------
        StoreError, ModelError
            If the store or its decoder cannot be used.
        """
        grid = self.segmenter.pyramid.grid(self.level)
        tiles = list(self.segmenter.reader.tiles(self.level) if area is None else grid.touching(Bounds(*area.bounds)))
        taken = np.array([*known, *self._done], dtype=object)
        tree, recent = shapely.STRtree(taken), list[BaseGeometry]()
        for number, tile in enumerate(tiles):
            if progress is not None:
                progress(number, len(tiles))
            bounds = shapely.box(*self.segmenter.pyramid.tile_bounds(tile))
            # Tiles come from top to bottom.
            recent = [polygon for polygon in recent if polygon.bounds[3] > bounds.bounds[1]]
            if (area is None or area.intersects(bounds)) and self.segmenter.provide(tile):
                near = [*taken[tree.query(bounds, predicate="intersects")], *filter(bounds.intersects, recent)]
                for found in self._search_tile(tile, near, threshold):
                    recent.append(found.polygon)
                    yield found
        if progress is not None:
            progress(len(tiles), len(tiles))

    def _search_tile(self, tile: Tile, taken: Sequence[BaseGeometry], threshold: float) -> list[SimilarObject]:
        """Return the objects of a tile, best first."""
        likeness = np.clip(self.likeness_map(tile), 0.0, 1.0)
        frame = TileFrame.of(self.pool.pyramid, tile)
        step = self.segmenter.tile_size / SAMPLES * frame.scale
        side = float(np.median(np.sqrt(self._areas))) / step
        likeness[-(-frame.height * SAMPLES // self.segmenter.tile_size) :] = 0.0
        likeness[:, -(-frame.width * SAMPLES // self.segmenter.tile_size) :] = 0.0
        for polygon in taken:
            self._cover(likeness, tile, polygon)
        answers = self._answers.pop(tile, [])
        for _ in range(_PASSES):
            best = self._best(answers, taken, threshold)
            left = likeness.copy()
            for found in best:
                self._cover(left, tile, found.polygon)
            peaks = _peaks(_blurred(left, _BLUR * side), _GAP * side, _LEAST_PEAK)
            if not len(peaks):
                break
            for row, col in peaks:
                reach = max(1, round(_GAP * side / 2))
                likeness[max(row - reach, 0) : row + reach + 1, max(col - reach, 0) : col + reach + 1] = 0.0
            places = [
                frame.to_native((col + 0.5) * step / frame.scale, (row + 0.5) * step / frame.scale)
                for row, col in peaks
            ]
            answers += self._decoded([place for place in places if self._is_shown_by(tile, *place)])
        self._answers[tile] = answers
        while len(self._answers) > _TILES_REMEMBERED:
            self._answers.popitem(last=False)
        return self._best(answers, taken, threshold)

    def _cover(self, likeness: NDArray[np.float32], tile: Tile, polygon: BaseGeometry) -> None:
        if polygon.intersects(shapely.box(*self.segmenter.pyramid.tile_bounds(tile))):
            inside, _ = self.pool.samples(tile, polygon)
            likeness[inside[:, 0], inside[:, 1]] = 0.0

    def _is_shown_by(self, tile: Tile, x: float, y: float) -> bool:
        grid = self.segmenter.pyramid.grid(tile.level)
        around = grid.tiles_around(Bounds(x, y, x, y), tolerance=grid.scale)
        return next((other for _, other in around if self.segmenter.can_provide(other)), None) == tile

    def _decoded(self, places: Sequence[tuple[float, float]]) -> list[SimilarObject]:
        """Return all candidates of a click at each place whose size is possible; their likeness is not known yet."""
        most = _MOST_SIZES * max(self._areas)
        polygons, scores = [], []
        for proposal in self.segmenter.propose_many([Prompts((Point(x, y),)) for x, y in places], self.level):
            if isinstance(proposal, PromptError):
                continue
            for rank, index in enumerate(proposal.ranking):
                mask = proposal.masks[0][index]
                cell = (self.segmenter.tile_size * mask.frame.scale) ** 2 / mask.logits.size
                if 0 < np.count_nonzero(mask.logits > 0) * cell < most:
                    found = self.segmenter.resolve(proposal, rank)
                    polygon = clean(found.polygons, simplify_tolerance=_TOLERANCE * mask.frame.scale)
                    if not polygon.is_empty:
                        polygons.append(polygon)
                        scores.append(min(max(found.score, 0.0), 1.0))
        vectors = self.pool.vectors(polygons)
        return [
            SimilarObject(*item, vector=vector)
            for *item, vector in zip(polygons, np.zeros(len(polygons)), scores, vectors)
            if np.isfinite(vector).all()
        ]

    def _best(
        self, answers: Sequence[SimilarObject], taken: Sequence[BaseGeometry], threshold: float
    ) -> list[SimilarObject]:
        """Return the answers that are like the examples, best first, without doubles of each other and of others."""
        if not answers:
            return []
        areas = shapely.area([item.polygon for item in answers])
        judged = self.likeness(np.array([item.vector for item in answers]), areas)
        ranks = judged * [item.score for item in answers]
        order = [index for index in np.argsort(-ranks, kind="stable") if judged[index] >= threshold]
        polygons = np.array([*taken, *(answers[index].polygon for index in order)], dtype=object)
        kept = set(range(len(taken)))
        first, second = shapely.STRtree(polygons).query(polygons)
        earlier = second < first
        first, second = first[earlier], second[earlier]
        common = shapely.area(shapely.intersection(polygons[first], polygons[second]))
        sizes = shapely.area(polygons)
        smaller = np.minimum(sizes[first], sizes[second])
        are_doubles = (common > _DOUBLE_SHARE * smaller) | (
            common > _DOUBLE_IOU * (sizes[first] + sizes[second] - common)
        )
        rivals: dict[int, list[int]] = {}
        for one, other in zip(first[are_doubles].tolist(), second[are_doubles].tolist()):
            rivals.setdefault(one, []).append(other)
        best = []
        for place, index in enumerate(order, start=len(taken)):
            if not kept.intersection(rivals.get(place, ())):
                kept.add(place)
                best.append(answers[index]._replace(likeness=float(judged[index])))
        return best


def _side(polygon: BaseGeometry) -> float:
    left, top, right, bottom = polygon.bounds
    return float(max(right - left, bottom - top))


def _blurred(values: NDArray[np.float32], width: float) -> NDArray[np.float32]:
    """Return values (h, w) averaged over squares twice; outside counts as 0."""
    reach = max(1, round(width / 2))
    for axis in (0, 1, 0, 1):
        padding = [(0, 0), (0, 0)]
        padding[axis] = (reach + 1, reach)
        sums = np.cumsum(np.pad(values, padding), axis=axis, dtype=np.float64)
        length, window = values.shape[axis], 2 * reach + 1
        high, low = (np.take(sums, np.arange(length) + start, axis) for start in (window, 0))
        values = ((high - low) / window).astype(np.float32)
    return values


def _peaks(values: NDArray[np.float32], gap: float, least: float) -> NDArray[np.intp]:
    """Return the maxima (N, 2) of values (h, w), highest first, at least a gap from each other."""
    left, reach, peaks = values.copy(), max(1, round(gap)), []
    while True:
        row, col = divmod(int(left.argmax()), left.shape[1])
        if left[row, col] < least:
            return np.array(peaks, np.intp).reshape(-1, 2)
        near = np.s_[max(row - reach, 0) : row + reach + 1, max(col - reach, 0) : col + reach + 1]
        # The slope of a higher maximum is none.
        if values[row, col] >= values[near].max():
            peaks.append((row, col))
        left[near] = -1.0
