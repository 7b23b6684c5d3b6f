"""The features of tiles in memory, so that each is read from its store once while there is room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from geosam_es.store import StoreReader

from .training_samples import Place

__all__ = ["FeatureCache"]


class FeatureCache:
    """Features of tiles, for several threads; the least recently used ones are dropped first.

    Parameters
    ----------
    readers : sequence of StoreReader
    max_bytes : int
        Size of the cache.
    """

    def __init__(self, readers: Sequence[StoreReader], max_bytes: int = 1 << 30) -> None:
        self._readers = readers
        self._max_bytes = max_bytes
        self._cached: OrderedDict[Place, tuple[NDArray[np.float16], ...]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def read(self, place: Place) -> tuple[NDArray[np.float32], ...]:
        """Return the feature maps (1, C, h, w) of a tile.

        Raises
        ------
        StoreError
            If they cannot be read.
        """
        with self._lock:
            if place in self._cached:
                self._cached.move_to_end(place)
                return tuple(one.astype(np.float32) for one in self._cached[place])
        features = tuple(self._readers[place.store].read(place.tile).values())
        # Stores hold float16 by default, so the cache loses nothing.
        cached = tuple(one.astype(np.float16) for one in features)
        with self._lock:
            if place not in self._cached:
                self._bytes += sum(one.nbytes for one in cached)
            self._cached[place] = cached
            while self._bytes > self._max_bytes:
                _, dropped = self._cached.popitem(last=False)
                self._bytes -= sum(one.nbytes for one in dropped)
        return features
