"""Which objects are learnt from and which are kept to test: parted by space, never at random.

A tile is encoded as a whole, so two objects on one tile, or on two tiles that overlap, have seen the same pixels. Hence
what is held out are whole tiles, and no tile that is learnt from shares a pixel with them; objects on tiles in between
are in neither part. Where the tiles all hang together, as on a single small raster, that would leave too little. Then
the objects are parted by a line, those near it are left out, and whoever reads the result is told.
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

from ..crs import crs_of_store
from ..vector import reproject
from .training_samples import Place, Sample, footprint

__all__ = ["MIN_TRAINING", "Split", "footprints", "overlaps", "part_from_layer", "split_by_space"]

MIN_TRAINING = 5
_DIRECTIONS = 8
_SHUFFLES = 40
_CUTS = 12
_GAP_WIDTHS = 0.5
"""Gap between the parts where they share tiles, in widths of a usual object."""

_MOST_LOST = 0.35
"""Share of the objects that may fall between the parts, before objects of one tile are parted."""

_SHARE_RANGE = (0.5, 1.8)
"""How far from the share that was asked for the part held out may be."""


@dataclass(frozen=True)
class Split:
    """Indices of samples.

    Attributes
    ----------
    train, held : list of int
    lost : list of int
        In between, in neither part.
    shares_tiles : bool
        Whether both parts had to be taken from the same tiles.
    """

    train: list[int]
    held: list[int]
    lost: list[int]
    shares_tiles: bool = False


def footprints(readers: Sequence[StoreReader], samples: Sequence[Sample]) -> dict[Place, shapely.Polygon]:
    """Return where on the ground the tiles of samples lie.

    All in one CRS: that of the stores, or longitude and latitude where they differ.
    """
    systems = [crs_of_store(reader.root, reader.metadata) for reader in readers]
    common = systems[0] if all(crs == systems[0] for crs in systems) else pyproj.CRS.from_epsg(4326)
    places = dict.fromkeys(sample.place for sample in samples)
    polygons = {}
    for place in places:
        outline = np.array([footprint(readers[place.store], place.tile)], dtype=object)
        polygons[place] = reproject(outline, systems[place.store], common)[0]
    return polygons


def overlaps(polygons: Sequence[shapely.Polygon], others: Sequence[shapely.Polygon]) -> Any:
    """Tell which polygons share an area with which others; common borders do not count.

    Returns
    -------
    sparse bool (N, M)
    """
    # Shrunk a little, because the corners of neighbours are rounded.
    shrunk = [polygon.buffer(-1e-3 * np.sqrt(polygon.area), join_style="mitre") for polygon in polygons]
    rows, cols = shapely.STRtree(list(others)).query(shrunk, predicate="intersects")
    return coo_array((np.ones(len(rows), np.bool_), (rows, cols)), shape=(len(polygons), len(others))).tocsr()


def split_by_space(
    readers: Sequence[StoreReader], samples: Sequence[Sample], share: float, seed: int, min_held: int = 2
) -> Split | None:
    """Part samples in two.

    Parameters
    ----------
    readers : sequence of StoreReader
    samples : sequence of Sample
    share : float
        Of the objects, to be held out.
    seed : int
    min_held : int
        Objects that must be held out at least.

    Returns
    -------
    Split or None
        None where there are too few objects for two parts.
    """
    if share <= 0 or len(samples) < MIN_TRAINING + min_held:
        return None
    outlines = footprints(readers, samples)
    places = list(outlines)
    members = [[index for index, sample in enumerate(samples) if sample.place == place] for place in places]
    counts = np.array([len(found) for found in members])
    polygons = [outlines[place] for place in places]
    neighbours = overlaps(polygons, polygons)
    best: tuple[float, NDArray[np.bool_], NDArray[np.bool_]] | None = None
    for held in _choices(polygons, neighbours, counts, share, seed):
        lost = (neighbours @ held.astype(np.int64) > 0) & ~held
        cost = _cost(counts, held, lost, share, min_held)
        if cost is not None and (best is None or cost < best[0]):
            best = (cost, held, lost)
    if best is None:
        return _split_by_line(samples, share, min_held)
    _, held, lost = best
    return Split(train=_indices(members, ~held & ~lost), held=_indices(members, held), lost=_indices(members, lost))


def part_from_layer(readers: Sequence[StoreReader], samples: Sequence[Sample], held: Sequence[Sample]) -> Split:
    """Leave out what is too near to objects that a user held out.

    Parameters
    ----------
    readers : sequence of StoreReader
    samples, held : sequence of Sample
        To learn from, and held out.

    Returns
    -------
    Split
        Of ``samples`` only; ``held`` is empty.
    """
    outlines = footprints(readers, [*samples, *held])
    tested = [outlines[place] for place in dict.fromkeys(sample.place for sample in held)]
    near = np.asarray(overlaps([outlines[sample.place] for sample in samples], tested).sum(1) > 0)
    shares_tiles = int((~near).sum()) < MIN_TRAINING
    if shares_tiles:
        gap = _gap([*samples, *held])
        near = np.array([any(_is_near(sample, other, gap) for other in held) for sample in samples])
    return Split(np.flatnonzero(~near).tolist(), [], np.flatnonzero(near).tolist(), shares_tiles)


def _indices(members: Sequence[list[int]], chosen: NDArray[np.bool_]) -> list[int]:
    return sorted(index for found, is_chosen in zip(members, chosen) if is_chosen for index in found)


def _cost(
    counts: NDArray[np.int64], held: NDArray[np.bool_], lost: NDArray[np.bool_], share: float, min_held: int
) -> float | None:
    """Return how bad a choice of tiles is; None where it will not do."""
    total = int(counts.sum())
    in_held, in_lost = int(counts[held].sum()), int(counts[lost].sum())
    actual = in_held / max(1, total - in_lost)
    if in_held < min_held or total - in_held - in_lost < MIN_TRAINING or in_lost > _MOST_LOST * total:
        return None
    if not _SHARE_RANGE[0] * share <= actual <= _SHARE_RANGE[1] * share:
        return None
    return in_lost / total + abs(actual - share)


def _choices(
    polygons: Sequence[shapely.Polygon], neighbours: Any, counts: NDArray[np.int64], share: float, seed: int
) -> Iterator[NDArray[np.bool_]]:
    """Yield sets of tiles that could be held out.

    Some are whole groups of tiles that hang together, as those of one raster do; some are what lies beyond a line.
    """
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
    """Yield orders of positions (N, 2) along directions all around."""
    for step in range(_DIRECTIONS):
        angle = 2 * np.pi * step / _DIRECTIONS
        yield np.argsort(positions @ np.array([np.cos(angle), np.sin(angle)]), kind="stable")


def _split_by_line(samples: Sequence[Sample], share: float, min_held: int) -> Split | None:
    """Part the objects of each store by a line, leaving out those that lie within half an object's width of it."""
    centres = np.array([_place_on_all(sample) for sample in samples])
    gap = _gap(samples)
    wanted = max(min_held, round(share * len(samples)))
    best: Split | None = None
    for step in range(_DIRECTIONS):
        angle = 2 * np.pi * step / _DIRECTIONS
        along = np.array([np.cos(angle), np.sin(angle)])
        order = np.argsort(centres @ along, kind="stable")
        held = sorted(int(index) for index in order[:wanted])
        others = [int(index) for index in order[wanted:]]
        near = {index for index in others if any(_is_near(samples[index], samples[known], gap) for known in held)}
        train = sorted(set(others) - near)
        if len(train) >= MIN_TRAINING and (best is None or len(train) > len(best.train)):
            best = Split(train, held, sorted(near), shares_tiles=True)
    return best


def _gap(samples: Sequence[Sample]) -> float:
    bounds = np.array([sample.truth.geometry.bounds for sample in samples])
    return _GAP_WIDTHS * float(np.median((bounds[:, 2:] - bounds[:, :2]).max(1)))


def _place_on_all(sample: Sample) -> tuple[float, float]:
    """Return the middle of an object; stores lie far from each other, as they are different planes."""
    middle = sample.truth.geometry.centroid
    return middle.x + 1e7 * sample.place.store, middle.y


def _is_near(sample: Sample, other: Sample, gap: float) -> bool:
    if sample.place.store != other.place.store:
        return False
    return bool(sample.truth.geometry.distance(other.truth.geometry) < gap)
