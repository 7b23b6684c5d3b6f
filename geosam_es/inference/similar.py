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
from ..core.grid import Pyramid, Tile
from ..core.linear import LinearClassifier
from ..core.prompts import Bounds, Point, Prompts
from ..core.topology import clean
from ..errors import PromptError
from .automatic import shown_by
from .features import SAMPLES, FeaturePool
from .masks import Proposal
from .segmenter import Segmenter

__all__ = ["SimilarObject", "SimilarObjects", "search_level"]

_SAMPLE_RIDGE, _POLYGON_RIDGE = 100.0, 30.0
_SAMPLES_EACH = 150
"""Samples taken under each polygon, and as many around it."""

_PLACES = 600
"""Random places that stand for the background at first."""

_COPIES = 32
_DISPLACED = 8
"""Copies of examples at random places, and beside each of them; the latter teach where objects end."""

_FIGURES = np.array([[0.85, 0.7, 0.85], [0.1, 0.1, 0.12]])
"""Mean and spread of solidity, roundness and predicted IoU among the decoder's answers."""

_FIGURE_WEIGHT = 2.0
"""Weight of these and of the size among the features, which are many."""

_SCORE_POWER = 3.0
_MIDDLE, _SLOPE = 0.22, 10.0
"""Where, and how steeply, the product of judgement and score passes a likeness of one half. With the roofs of the
held-out images, the best F1 is near there, without judgements and after sixty."""

_BLUR = 0.35
_GAPS = (1.0, 0.7, 0.5)
"""Width of the blur, and least distance of the clicks of each pass, as parts of the examples' size."""

_LEAST_CLICKED = 0.2
"""Least likeness of a place that is clicked."""

_LEAST_CUT = 0.25
"""Least likeness of the part of an object on a tile that cuts it, to continue it on other tiles."""

_MOST_SIZES = 6.0
"""How many times as large as the largest example an answer may be."""

_DOUBLE_IOU, _DOUBLE_SHARE = 0.5, 0.7
"""Of two answers with a larger IoU, or of which one lies in the other with a larger part, the better one is kept."""

_SAME_IOU = 0.7
"""With a larger IoU, an answer is what was rejected."""

_FAR = -1e8
"""Pixels from a raster to what was learnt on another one."""

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
        From 0 to 1; above one half it is more likely than not what the examples are.
    score : float
        Predicted IoU.
    vector : float32 (D,)
        Its features.
    """

    polygon: shapely.Polygon | shapely.MultiPolygon
    likeness: float
    score: float
    vector: NDArray[np.float32]


class _Remembered(NamedTuple):
    """The answers of a tile so far, and the samples (row, column) that were clicked."""

    answers: list[SimilarObject]
    clicks: list[tuple[int, int]]


class _Searched(NamedTuple):
    """A tile that is searched.

    Attributes
    ----------
    frame : TileFrame
    step : float
        Pixels of the tile from sample to sample.
    side : float
        The examples' size in samples.
    left : float32 (`SAMPLES`, `SAMPLES`)
        Likeness of what is not taken or clicked, elsewhere 0.
    taken : sequence of Polygon or MultiPolygon
    answers, clicks
        As remembered.
    """

    frame: TileFrame
    step: float
    side: float
    left: NDArray[np.float32]
    taken: Sequence[BaseGeometry]
    answers: list[SimilarObject]
    clicks: list[tuple[int, int]]

    @property
    def reach(self) -> int:
        """Samples around a click that are not clicked again."""
        return max(1, round(min(_GAPS) * self.side / 2))

    def native(self, row: int, col: int) -> tuple[float, float]:
        """Return a sample's middle in native pixels."""
        return self.frame.to_native((col + 0.5) * self.step, (row + 0.5) * self.step)


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
        self._samples, self._polygons = (LinearClassifier(ridge, False) for ridge in (_SAMPLE_RIDGE, _POLYGON_RIDGE))
        # By their content, so that nothing is learnt twice.
        self._wanted: dict[bytes, BaseGeometry] = {}
        self._rejected: dict[bytes, BaseGeometry] = {}
        self._tiles: OrderedDict[Tile, _Remembered] = OrderedDict()
        self._random = np.random.default_rng(0)
        self._typical_area = float(np.median([polygon.area for polygon in examples] or [0.0])) or 1.0
        self.learn(examples, [])
        if not self._wanted:
            raise PromptError(
                "No example lies on a prepared part of the raster", "prepare it, or choose other examples"
            )
        self.level = search_level(segmenter.pyramid, examples)
        self._add_background()

    def learn(self, accepted: Sequence[BaseGeometry], rejected: Sequence[BaseGeometry]) -> None:
        """Learn from polygons that are, or are not, what the user looks for; later searches leave them out.

        Polygons that were learnt before are ignored.
        """
        for polygons, learnt in ((accepted, self._wanted), (rejected, self._rejected)):
            is_wanted = learnt is self._wanted
            new = {polygon.wkb: polygon for polygon in polygons if polygon.wkb not in learnt}
            for polygon in new.values():
                self._provide(polygon)
            vectors = self.pool.vectors([*new.values()])
            for (key, polygon), vector in zip(new.items(), vectors):
                if np.isfinite(vector).all():
                    learnt[key] = polygon
                    self._add_samples(polygon, is_wanted)
                    self._polygons.add(self._rows([polygon], vector[None]), [is_wanted])

    def has_learnt(self, polygons: Sequence[BaseGeometry]) -> bool:
        """Tell whether all of these are known to be what the user looks for."""
        return all(polygon.wkb in self._wanted for polygon in polygons)

    def move(self, segmenter: Segmenter) -> None:
        """Search on another raster from now on, which has the same model and size of pixels.

        What was learnt is kept. Polygons that were learnt are elsewhere, so they no longer hide any object.
        """
        self.segmenter, self.pool, self._tiles = segmenter, self.pool.on(segmenter.reader), OrderedDict()
        for learnt in (self._wanted, self._rejected):
            near = [key for key, polygon in learnt.items() if polygon.bounds[0] > _FAR / 2]
            learnt.update({key: shapely.affinity.translate(learnt[key], _FAR) for key in near})

    def _rows(
        self,
        polygons: Sequence[BaseGeometry],
        vectors: NDArray[np.float32],
        scores: NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64]:
        """Return the rows (N, D + 4) that polygons are judged by: their vectors (N, D), size, shape and score."""
        shapes = np.array(polygons, dtype=object)
        areas = np.maximum(shapely.area(shapes), 1e-9)
        solidity = areas / np.maximum(shapely.area(shapely.convex_hull(shapes)), areas)
        roundness = np.sqrt(4 * np.pi * areas) / np.maximum(shapely.length(shapes), 1e-9)
        sizes = np.log(areas / self._typical_area)
        sure = np.full(len(areas), _FIGURES[0, 2]) if scores is None else scores
        figures = (np.column_stack((solidity, roundness, sure)) - _FIGURES[0]) / _FIGURES[1]
        return np.column_stack((vectors, _FIGURE_WEIGHT * sizes, _FIGURE_WEIGHT * figures))

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
        reader, rng, examples = self.segmenter.reader, self._random, [*self._wanted.values()]
        tiles = [tile for tile in reader.tiles(self.level) if reader.is_encoded(tile)]
        tiles = [tiles[index] for index in rng.permutation(len(tiles))[:8]]
        copies = []
        for tile in tiles:
            frame = TileFrame.of(self.pool.pyramid, tile)
            count = _PLACES // len(tiles)
            ends = np.array([frame.height, frame.width]) * SAMPLES / self.segmenter.tile_size
            places = (rng.random((count, 2)) * ends).astype(np.intp)
            self._samples.add(self.pool.at(tile, places), [False] * count)
            for x, y in rng.uniform(frame.bounds[:2], frame.bounds[2:], (_COPIES // len(tiles), 2)):
                example = examples[rng.integers(len(examples))]
                copies.append(shapely.affinity.translate(example, x - example.centroid.x, y - example.centroid.y))
        for example in examples:
            for angle in np.arange(_DISPLACED) * 2 * np.pi / _DISPLACED:
                reach = rng.uniform(0.5, 1.0) * example.area**0.5
                copies.append(shapely.affinity.translate(example, reach * np.cos(angle), reach * np.sin(angle)))
        rows = self._rows(copies, self.pool.vectors(copies))
        rows = rows[np.isfinite(rows).all(axis=1)]
        self._polygons.add(rows, [False] * len(rows))

    def likeness_map(self, tile: Tile) -> NDArray[np.float32]:
        """Return how much each sample (`SAMPLES`, `SAMPLES`) of an encoded tile looks like the examples.

        It is about 1 under the examples, and 0 elsewhere.
        """
        weights = self._samples.weights[:, self._samples.classes.index(True)]
        return self.pool.linear_map(tile, weights[:-1]) + np.float32(weights[-1])

    def _likeness(self, answers: Sequence[SimilarObject]) -> NDArray[np.float64]:
        """Return the likeness (N,) of answers."""
        scores = np.array([item.score for item in answers])
        rows = self._rows([item.polygon for item in answers], np.array([item.vector for item in answers]), scores)
        judged = self._polygons.scores(rows)[:, self._polygons.classes.index(True)]
        worth = np.clip(judged, 0.0, 1.5) * scores**_SCORE_POWER
        return np.asarray(1 / (1 + np.exp(-_SLOPE * (worth - _MIDDLE))))

    def search(
        self,
        area: BaseGeometry | None = None,
        threshold: float = 0.5,
        known: Sequence[BaseGeometry] = (),
        progress: Callable[[int, int], None] | None = None,
        most_clicks: int | None = None,
    ) -> Iterator[SimilarObject]:
        """Find objects like the examples.

        Parameters
        ----------
        area : BaseGeometry, optional
            Only places in it are clicked, and objects that reach into it kept. Default: the whole raster.
        threshold : float
            Least likeness.
        known : sequence of Polygon or MultiPolygon
            Objects that are there already. These, the examples and what was judged are left out.
        progress : callable, optional
            Called with the number of tiles done and their total. It may raise an exception to stop.
        most_clicks : int, optional
            Click at most as many places, the most likely ones of all tiles. The next search goes on with the others.
            Default: all places that may be alike, tile by tile.

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
        taken = np.array([*known, *self._wanted.values()], dtype=object)
        tree, recent, done = shapely.STRtree(taken), list[BaseGeometry](), 0
        for together in [[tile] for tile in tiles] if most_clicks is None else [tiles]:
            searched = []
            for tile in together:
                if progress is not None:
                    progress(done, len(tiles))
                done += 1
                bounds = shapely.box(*self.segmenter.pyramid.tile_bounds(tile))
                # Tiles come from top to bottom.
                recent = [polygon for polygon in recent if polygon.bounds[3] > bounds.bounds[1]]
                if (area is None or area.intersects(bounds)) and self.segmenter.provide(tile):
                    near = [*taken[tree.query(bounds, predicate="intersects")], *filter(bounds.intersects, recent)]
                    searched.append(self._searched(tile, near))
            self._click(searched, threshold, area, most_clicks)
            for item in searched:
                for found in self._best(item.answers, [*item.taken, *recent], threshold):
                    if area is None or area.intersects(found.polygon):
                        recent.append(found.polygon)
                        yield found
        if progress is not None:
            progress(len(tiles), len(tiles))

    def _searched(self, tile: Tile, taken: Sequence[BaseGeometry]) -> _Searched:
        """Return where to look on a tile."""
        frame, size = TileFrame.of(self.pool.pyramid, tile), self.segmenter.tile_size
        left = np.clip(self.likeness_map(tile), 0.0, 1.0)
        left[-(-frame.height * SAMPLES // size) :] = 0.0
        left[:, -(-frame.width * SAMPLES // size) :] = 0.0
        remembered = self._tiles[tile] = self._tiles.pop(tile, _Remembered([], []))
        while len(self._tiles) > _TILES_REMEMBERED:
            self._tiles.popitem(last=False)
        sides = np.sqrt([polygon.area for polygon in self._wanted.values()])
        step = size / SAMPLES
        item = _Searched(frame, step, float(np.median(sides)) / (step * frame.scale), left, taken, *remembered)
        for polygon in taken:
            self._cover(left, tile, polygon)
        for row, col in item.clicks:
            left[_around(row, col, item.reach)] = 0.0
        return item

    def _click(
        self, searched: Sequence[_Searched], threshold: float, area: BaseGeometry | None, most: int | None
    ) -> None:
        """Click what may be alike in several passes, the most likely places of all tiles if there is a limit."""
        for gap in _GAPS:
            if most == 0:
                return
            places = [place for item in searched for place in self._places(item, gap, threshold, area)]
            if most is not None:
                places = sorted(places, key=lambda place: -place[0])[:most]
                most -= len(places)
            for item in searched:
                own = [place for _, tile, place in places if tile == item.frame.tile]
                item.clicks.extend(own)
                for row, col in own:
                    item.left[_around(row, col, item.reach)] = 0.0
                item.answers.extend(self._decoded([item.native(*place) for place in own]))

    def _places(
        self, item: _Searched, gap: float, threshold: float, area: BaseGeometry | None
    ) -> Iterator[tuple[float, Tile, tuple[int, int]]]:
        """Yield where to click on a tile: the likeness there, the tile, and the sample (row, column)."""
        left, tile = item.left.copy(), item.frame.tile
        for found in self._best(item.answers, item.taken, threshold):
            self._cover(left, tile, found.polygon)
        # What is covered is not clicked, however likely its neighbours are.
        blurred = np.where(left > 0, _blurred(left, _BLUR * item.side), 0.0)
        for row, col in _spread(blurred, gap * item.side, _LEAST_CLICKED):
            place = item.native(row, col)
            is_wanted = area is None or shapely.intersects_xy(area, *place)
            if is_wanted and shown_by(self.segmenter, tile.level, *place) == tile:
                yield float(blurred[row, col]), tile, (row, col)

    def _cover(self, likeness: NDArray[np.float32], tile: Tile, polygon: BaseGeometry) -> None:
        if polygon.intersects(shapely.box(*self.segmenter.pyramid.tile_bounds(tile))):
            inside, _ = self.pool.samples(tile, polygon)
            likeness[inside[:, 0], inside[:, 1]] = 0.0

    def _decoded(self, places: Sequence[tuple[float, float]]) -> list[SimilarObject]:
        """Return the candidates of a click at each place that may be objects; their likeness is not known yet."""
        most = _MOST_SIZES * max(polygon.area for polygon in self._wanted.values())
        whole, cut = list[tuple[Proposal, int]](), list[tuple[Proposal, int]]()
        for proposal in self.segmenter.propose_many([Prompts((Point(x, y),)) for x, y in places], self.level):
            if isinstance(proposal, PromptError):
                continue
            for rank, index in enumerate(proposal.ranking):
                mask = proposal.masks[0][index]
                inside = mask.logits > 0
                cell = (self.segmenter.tile_size * mask.frame.scale) ** 2 / inside.size
                if 0 < np.count_nonzero(inside) * cell < most:
                    (cut if mask.cut_sides(self.segmenter.pyramid) else whole).append((proposal, rank))
        # To continue a mask takes several times as long as the click.
        parts = self._drawn(cut, False)
        likely = self._likeness(list(parts.values())) if parts else ()
        return [*self._drawn([*whole, *(cut[i] for i, like in zip(parts, likely) if like >= _LEAST_CUT)]).values()]

    def _drawn(self, chosen: Sequence[tuple[Proposal, int]], is_continued: bool = True) -> dict[int, SimilarObject]:
        """Trace candidates (proposal, rank), and return those with an outline and features by their index."""
        polygons, scores = [], []
        for proposal, rank in chosen:
            found = self.segmenter.resolve(proposal, rank, is_continued=is_continued)
            polygons.append(clean(found.polygons, simplify_tolerance=_TOLERANCE * found.mask.frame.scale))
            scores.append(min(max(found.score, 0.0), 1.0))
        drawn = zip(polygons, scores, self.pool.vectors(polygons))
        return {i: SimilarObject(p, 0.0, s, v) for i, (p, s, v) in enumerate(drawn) if np.isfinite(v).all()}

    def _best(
        self, answers: Sequence[SimilarObject], taken: Sequence[BaseGeometry], threshold: float
    ) -> list[SimilarObject]:
        """Return the answers that are like the examples, best first, without doubles of each other and of others."""
        if not answers:
            return []
        judged = self._likeness(answers)
        order = [int(index) for index in np.argsort(-judged, kind="stable") if judged[index] >= threshold]
        shapes = np.array([answers[index].polygon for index in order], dtype=object)
        # What answers are compared with, in front of themselves.
        known = [*self._rejected.values(), *taken]
        others = np.array([*known, *shapes], dtype=object)
        first, second = shapely.STRtree(others).query(shapes, predicate="intersects")
        common = shapely.area(shapely.intersection(shapes[first], others[second]))
        areas, other_areas = shapely.area(shapes[first]), shapely.area(others[second])
        ious = common / np.maximum(areas + other_areas - common, 1e-9)
        is_within = common > _DOUBLE_SHARE * np.maximum(np.minimum(areas, other_areas), 1e-9)
        are_doubles = np.where(second < len(self._rejected), ious > _SAME_IOU, (ious > _DOUBLE_IOU) | is_within)
        dropped: set[int] = set()
        for place, other in sorted(zip(first[are_doubles].tolist(), (second[are_doubles] - len(known)).tolist())):
            if other < place and other not in dropped:
                dropped.add(place)
        kept = [index for place, index in enumerate(order) if place not in dropped]
        return [answers[index]._replace(likeness=float(judged[index])) for index in kept]


def search_level(pyramid: Pyramid, examples: Sequence[BaseGeometry]) -> int:
    """Return the level whose tiles `SimilarObjects` searches."""
    sides = [_side(polygon) for polygon in examples if not polygon.is_empty]
    return max(pyramid.level_for_size(float(np.median(sides or [0.0]))), 0)


def _around(row: int, col: int, reach: int) -> tuple[slice, slice]:
    return slice(max(row - reach, 0), row + reach + 1), slice(max(col - reach, 0), col + reach + 1)


def _side(polygon: BaseGeometry) -> float:
    left, top, right, bottom = polygon.bounds
    return float(max(right - left, bottom - top))


def _blurred(values: NDArray[np.float32], width: float) -> NDArray[np.float32]:
    """Return values (`SAMPLES`, `SAMPLES`) averaged over squares twice; outside counts as 0."""
    reach, places = max(1, round(width / 2)), np.arange(SAMPLES)
    mean = (np.abs(places[:, None] - places) <= reach).astype(np.float32) / (2 * reach + 1)
    twice = mean @ mean
    return np.asarray(twice @ values @ twice)


def _spread(values: NDArray[np.float32], gap: float, least: float) -> list[tuple[int, int]]:
    """Return the places (row, column) with the highest values (h, w), at least a gap from each other."""
    left, reach, places = values.copy(), max(1, round(gap)), list[tuple[int, int]]()
    while True:
        row, col = divmod(int(left.argmax()), left.shape[1])
        if left[row, col] < least:
            return places
        places.append((row, col))
        left[_around(row, col, reach)] = -1.0
