"""Splitting objects into training and held-out ones by space.

Objects on the same tile, or on tiles that overlap, share pixels: a random split would give figures that are too high.
So whole tiles are held out, training tiles share no pixel with them, and objects on the tiles in between are not used.
Where all tiles overlap, as on a small raster, this would leave too few objects. Then a line separates the objects,
those near it are not used, and `Split.shares_tiles` is set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from geosam_es.store import StoreReader

from ..crs import reproject, store_crs
from .training_samples import Place, Sample

__all__ = ["MIN_TRAINING", "Split", "divide", "footprints", "overlaps", "split_by_space", "split_from_layer"]

MIN_TRAINING = 5
_MIN_HELD = 2
_DIRECTIONS = 8
_SHUFFLES = 40
_CUTS = 12
_GAP_WIDTHS = 0.5
"""Gap between objects of both parts where they share tiles, in widths of a median object."""

_MOST_LOST = 0.35
"""Largest share of objects on tiles in between; beyond it, a line separates the objects."""

_SHARE_RANGE = (0.5, 1.8)
"""Acceptable held-out share, relative to the requested one."""

_ENOUGH_FOR_HALVES = 100
"""With 100 objects, training on one half shows the gain on the other half. With 50, it did not."""


@dataclass(frozen=True)
class Split:
    """Indices of samples.

    Attributes
    ----------
    train, held : list of int
        ``held`` is empty where there are too few objects for two parts.
    lost : list of int
        In neither part, because they are too close to held-out objects.
    shares_tiles : bool
        Whether both parts are on the same tiles.
    """

    train: list[int]
    held: list[int]
    lost: list[int]
    shares_tiles: bool = False


def footprints(readers: Sequence[StoreReader], samples: Sequence[Sample]) -> dict[Place, shapely.Polygon]:
    """Return the outline of each tile of the samples.

    All are in one CRS: that of the stores, or longitude and latitude if theirs differ.
    """
    systems = [store_crs(reader) for reader in readers]
    common = systems[0] if all(crs == systems[0] for crs in systems) else pyproj.CRS.from_epsg(4326)
    places = dict.fromkeys(sample.place for sample in samples)
    polygons = {}
    for place in places:
        reader = readers[place.store]
        tile = shapely.box(*reader.pyramid.tile_bounds(place.tile))
        outline = np.array([reader.metadata.raster.transform.apply_geometry(tile)], dtype=object)
        polygons[place] = reproject(outline, systems[place.store], common)[0]
    return polygons


def overlaps(polygons: Sequence[shapely.Polygon], others: Sequence[shapely.Polygon]) -> Any:
    """Tell which polygons share an area with which others; a common border is no overlap.

    Returns
    -------
    sparse bool (N, M)
    """
    # Shrunk a little, because the corners of neighbours are rounded.
    shrunk = [polygon.buffer(-1e-4 * np.sqrt(polygon.area), join_style="mitre") for polygon in polygons]
    rows, cols = shapely.STRtree(list(others)).query(shrunk, predicate="intersects")
    return coo_array((np.ones(len(rows), np.bool_), (rows, cols)), shape=(len(polygons), len(others))).tocsr()


def split_by_space(readers: Sequence[StoreReader], samples: Sequence[Sample], share: float, seed: int) -> Split:
    """Hold out a share of the samples.

    Parameters
    ----------
    readers : sequence of StoreReader
    samples : sequence of Sample
    share : float
        Share of the objects to hold out.
    seed : int

    Returns
    -------
    Split
    """
    whole = Split(list(range(len(samples))), [], [])
    if share <= 0 or len(samples) < MIN_TRAINING + _MIN_HELD:
        return whole
    outlines = footprints(readers, samples)
    places = list(outlines)
    by_place: dict[Place, list[int]] = {place: [] for place in places}
    for index, sample in enumerate(samples):
        by_place[sample.place].append(index)
    members = list(by_place.values())
    counts = np.array([len(found) for found in members])
    polygons = [outlines[place] for place in places]
    neighbours = overlaps(polygons, polygons)
    best: tuple[float, NDArray[np.bool_], NDArray[np.bool_]] | None = None
    for held in _tile_choices(polygons, neighbours, counts, share, seed):
        lost = (neighbours @ held.astype(np.int64) > 0) & ~held
        cost = _cost(counts, held, lost, share)
        if cost is not None and (best is None or cost < best[0]):
            best = (cost, held, lost)
    if best is None:
        return _split_by_line(samples, share) or whole
    _, held, lost = best
    return Split(train=_indices(members, ~held & ~lost), held=_indices(members, held), lost=_indices(members, lost))


def divide(readers: Sequence[StoreReader], samples: list[Sample], seed: int) -> list[list[Sample]]:
    """Divide training samples by location: into four parts, or into two if there are many samples.

    Parameters
    ----------
    readers : sequence of StoreReader
    samples : list of Sample
        At least `MIN_TRAINING`.
    seed : int

    Returns
    -------
    list of list of Sample
        None is empty; each sample is in one of them.
    """
    halves = _halves(readers, samples, seed)
    if len(samples) >= _ENOUGH_FOR_HALVES:
        return [*halves]
    return [part for half in halves for part in _halves(readers, half, seed)]


def _halves(readers: Sequence[StoreReader], samples: list[Sample], seed: int) -> tuple[list[Sample], list[Sample]]:
    """Divide samples by location. If there are too few for that, put every other sample into the second half."""
    split = split_by_space(readers, samples, 0.5, seed + 1)
    if not split.held:
        return samples[::2], samples[1::2]
    # Objects between both parts are learned from in the smaller one.
    parts = sorted((split.train, split.held), key=len)
    first, second = sorted([*parts[0], *split.lost]), parts[1]
    return [samples[index] for index in first], [samples[index] for index in second]


def split_from_layer(readers: Sequence[StoreReader], samples: Sequence[Sample], held: Sequence[Sample]) -> Split:
    """Drop samples that are too close to the objects of a held-out layer.

    Parameters
    ----------
    readers : sequence of StoreReader
    samples, held : sequence of Sample
        To train on, and held out.

    Returns
    -------
    Split
        Of ``samples`` only; its own ``held`` is empty.
    """
    outlines = footprints(readers, [*samples, *held])
    held_tiles = [outlines[place] for place in dict.fromkeys(sample.place for sample in held)]
    near = np.asarray(overlaps([outlines[sample.place] for sample in samples], held_tiles).sum(1) > 0)
    shares_tiles = int((~near).sum()) < MIN_TRAINING
    if shares_tiles:
        near = _near(samples, held, _gap([*samples, *held]))
    return Split(np.flatnonzero(~near).tolist(), [], np.flatnonzero(near).tolist(), shares_tiles)


def _indices(members: Sequence[list[int]], chosen: NDArray[np.bool_]) -> list[int]:
    return sorted(index for found, is_chosen in zip(members, chosen) if is_chosen for index in found)


def _cost(counts: NDArray[np.int64], held: NDArray[np.bool_], lost: NDArray[np.bool_], share: float) -> float | None:
    """Return the cost of holding out some tiles, None if that is not acceptable."""
    total = int(counts.sum())
    in_held, in_lost = int(counts[held].sum()), int(counts[lost].sum())
    actual = in_held / max(1, total - in_lost)
    if in_held < _MIN_HELD or total - in_held - in_lost < MIN_TRAINING or in_lost > _MOST_LOST * total:
        return None
    if not _SHARE_RANGE[0] * share <= actual <= _SHARE_RANGE[1] * share:
        return None
    return in_lost / total + abs(actual - share)


def _tile_choices(
    polygons: Sequence[shapely.Polygon], neighbours: Any, counts: NDArray[np.int64], share: float, seed: int
) -> Iterator[NDArray[np.bool_]]:
    """Yield sets of tiles that could be held out: groups of overlapping tiles, then the tiles beyond a line."""
    wanted = share * int(counts.sum())
    rng = np.random.default_rng(seed)
    group_count, groups = connected_components(neighbours, directed=False)
    for _ in range(_SHUFFLES if group_count > 1 else 0):
        held = np.zeros(len(polygons), dtype=np.bool_)
        for group in rng.permutation(group_count):
            if counts[held].sum() + 0.5 * counts[groups == group].sum() <= wanted:
                held |= groups == group
        yield held
    centres = np.array([[polygon.centroid.x, polygon.centroid.y] for polygon in polygons])
    for order in _orders(centres):
        reached = np.cumsum(counts[order])
        limits = [factor * wanted for factor in _SHARE_RANGE]
        ends = np.flatnonzero((reached >= limits[0]) & (reached <= limits[1]))
        for end in ends[:: max(1, len(ends) // _CUTS)]:
            held = np.zeros(len(polygons), dtype=np.bool_)
            held[order[: end + 1]] = True
            yield held


def _orders(positions: NDArray[np.float64]) -> Iterator[NDArray[np.int64]]:
    """Yield the order of positions (N, 2) along several directions."""
    for step in range(_DIRECTIONS):
        angle = 2 * np.pi * step / _DIRECTIONS
        yield np.argsort(positions @ np.array([np.cos(angle), np.sin(angle)]), kind="stable")


def _split_by_line(samples: Sequence[Sample], share: float) -> Split | None:
    """Separate the objects by a line; training objects closer to held-out ones than the gap are lost."""
    gap = _gap(samples)
    wanted = max(_MIN_HELD, round(share * len(samples)))
    best: Split | None = None
    for order in _orders(np.array([_position(sample) for sample in samples])):
        held, others = np.sort(order[:wanted]), np.sort(order[wanted:])
        near = _near([samples[index] for index in others], [samples[index] for index in held], gap)
        train = others[~near].tolist()
        if len(train) >= MIN_TRAINING and (best is None or len(train) > len(best.train)):
            best = Split(train, held.tolist(), others[near].tolist(), shares_tiles=True)
    return best


def _gap(samples: Sequence[Sample]) -> float:
    bounds = np.array([sample.truth.geometry.bounds for sample in samples])
    return _GAP_WIDTHS * float(np.median((bounds[:, 2:] - bounds[:, :2]).max(1)))


def _position(sample: Sample) -> tuple[float, float]:
    """Return the centre of an object, each store far from the others: their pixels are not comparable."""
    centre = sample.truth.geometry.centroid
    return centre.x + 1e7 * sample.place.store, centre.y


def _near(samples: Sequence[Sample], others: Sequence[Sample], gap: float) -> NDArray[np.bool_]:
    """Tell which samples (N,) lie closer than the gap to one of the others in the same store."""
    near = np.zeros(len(samples), np.bool_)
    for store in {other.place.store for other in others}:
        tree = shapely.STRtree([other.truth.geometry for other in others if other.place.store == store])
        rows = np.array([index for index, sample in enumerate(samples) if sample.place.store == store], np.int64)
        geometries = [samples[index].truth.geometry for index in rows]
        (found, _), distances = tree.query_nearest(geometries, gap, return_distance=True, all_matches=False)
        near[rows[found[distances < gap]]] = True
    return near
