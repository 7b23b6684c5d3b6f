"""Learns classes from the user's own polygons and suggests one for another polygon, from stored features."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Hashable, Mapping

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from ..core.linear import LinearClassifier
from ..store.reader import StoreReader
from .features import FeaturePool

__all__ = ["LEAST_CLASSES", "LEAST_POLYGONS", "ClassLearner"]

LEAST_CLASSES, LEAST_POLYGONS = 2, 3
"""Classes that are needed for a suggestion, and polygons that each of them needs."""

_RIDGE = 100.0
_TILES_KEPT = 4
_SPARE_VECTORS = 1000


class ClassLearner:
    """Suggests classes on one store. Used in one thread at a time.

    It learns from at most ``most_polygons`` of a class; more would take time, and hardly change anything.
    """

    def __init__(self, reader: StoreReader, most_polygons: int = 1000) -> None:
        self._most_polygons = most_polygons
        self._pool = FeaturePool(reader, _TILES_KEPT)
        self._pending: dict[Hashable, tuple[BaseGeometry, str]] = {}
        # Their tiles may be encoded later.
        self._waiting: dict[Hashable, tuple[BaseGeometry, str]] = {}
        self._rows: dict[Hashable, tuple[NDArray[np.float32], str]] = {}
        self._counts: Counter[str] = Counter()
        # By the polygon, as saving a layer gives its features other keys.
        self._vectors: dict[bytes, NDArray[np.float32]] = {}
        self._classifier: LinearClassifier | None = None

    def put(self, polygons: Mapping[Hashable, tuple[BaseGeometry, str] | None], are_all: bool = False) -> None:
        """Take note of polygons in native pixels with their classes, which `learn` then learns from.

        None stands for a polygon to forget; ``are_all`` forgets all others.
        """
        gone = {*self._rows, *self._pending, *self._waiting}.difference(polygons) if are_all else ()
        for key, item in {**dict.fromkeys(gone), **polygons}.items():
            self._pending.pop(key, None)
            self._waiting.pop(key, None)
            former = self._rows.pop(key, None)
            if former is not None:
                self._counts[former[1]] -= 1
                self._classifier = None
            if item is not None:
                self._pending[key] = item

    def learn(self, seconds: float = 0.1) -> bool:
        """Learn from the polygons put, for about a time, and return whether none is left.

        Those that are on no encoded tile are looked at again each time, as far as there is time.

        Raises
        ------
        StoreError
            If a tile cannot be read; its polygon is left out.
        """
        end = time.perf_counter() + seconds
        while self._pending and time.perf_counter() < end:
            key, (polygon, name) = self._pending.popitem()
            if self._counts[name] >= self._most_polygons:
                continue
            vector = self._vector(polygon)
            if vector is None and self._pool.tile_of(polygon) is None:
                self._waiting[key] = polygon, name
            if vector is not None:
                self._rows[key] = vector, name
                self._counts[name] += 1
                if self._classifier is not None and name in self._classifier.counts:
                    self._classifier.add(vector[None], [name])
                else:
                    self._classifier = None
        for key in list(self._waiting):
            if time.perf_counter() >= end:
                break
            polygon, name = self._waiting.pop(key)
            is_encoded = self._pool.tile_of(polygon) is not None
            (self._pending if is_encoded else self._waiting)[key] = polygon, name
        return not self._pending

    def suggest(self, polygon: BaseGeometry) -> list[tuple[str, float]]:
        """Return the classes with their probabilities for a polygon in native pixels, the most probable first.

        Empty before `LEAST_CLASSES` classes have `LEAST_POLYGONS` polygons each, and where no tile is encoded.

        Raises
        ------
        StoreError
            If a tile cannot be read.
        """
        classifier = self._learned()
        vector = self._vector(polygon) if classifier is not None else None
        if classifier is None or vector is None:
            return []
        pairs = zip(map(str, classifier.classes), classifier.probabilities(vector[None])[0].tolist())
        return sorted(pairs, key=lambda pair: -pair[1])

    def _learned(self) -> LinearClassifier | None:
        if self._classifier is None:
            rows = [row for row in self._rows.values() if self._counts[row[1]] >= LEAST_POLYGONS]
            if len({name for _, name in rows}) >= LEAST_CLASSES:
                self._classifier = LinearClassifier(_RIDGE)
                self._classifier.add(np.array([vector for vector, _ in rows]), [name for _, name in rows])
        return self._classifier

    def _vector(self, polygon: BaseGeometry) -> NDArray[np.float32] | None:
        key = polygon.wkb
        vector = self._vectors.get(key)
        if vector is None:
            vector = self._pool.vectors([polygon])[0]
            if not np.isfinite(vector).all():
                return None
            if len(self._vectors) > 2 * len(self._rows) + _SPARE_VECTORS:
                self._vectors.clear()
            self._vectors[key] = vector
        return vector
