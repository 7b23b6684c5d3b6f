"""What is learnt from: objects on the tiles that answer for them, and the features of those tiles."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine

from geosam_es.core.frame import TileFrame
from geosam_es.core.grid import Tile
from geosam_es.core.prompts import Bounds, Prompts
from geosam_es.inference.decoder import MASK_SIDE
from geosam_es.inference.encoder import TILE_SIZE
from geosam_es.store import StoreReader

from ..evaluation.ground_truth import Located, TruthObject

__all__ = ["CELL", "FeatureCache", "Place", "Sample", "make_samples"]

CELL = TILE_SIZE // MASK_SIDE
"""Pixels along the side of a cell of a mask."""

MIN_CELLS = 4
"""Cells of a mask that an object needs, to be clicked and corrected."""

FEATURE = "image_embeddings"


class Place(NamedTuple):
    """A tile of one of several stores."""

    store: int
    tile: Tile


@dataclass(frozen=True)
class Sample:
    """One object, ready to be learnt from.

    Attributes
    ----------
    truth : TruthObject
    place : Place
        The tile that answers for it.
    packed : uint8 (MASK_SIDE * MASK_SIDE / 8,)
        See `mask`.
    window : tuple of int
        First and last but one row, first and last but one column of its cells.
    prompts : Prompts, optional
        Those a user gave, in pixels of the tile.
    """

    truth: TruthObject
    place: Place
    packed: NDArray[np.uint8]
    window: tuple[int, int, int, int]
    prompts: Prompts | None

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The truth (256, 256) at the places of the decoder's logits."""
        flat = np.unpackbits(self.packed, count=MASK_SIDE * MASK_SIDE)
        return flat.reshape(MASK_SIDE, MASK_SIDE).astype(np.bool_)


def make_samples(readers: Sequence[StoreReader], located: Located) -> tuple[list[Sample], dict[str, str]]:
    """Draw objects on their tiles.

    Parameters
    ----------
    readers : sequence of StoreReader
    located : Located

    Returns
    -------
    samples : list of Sample
    left_out : dict of str to str
        Objects without a sample, and why.
    """
    samples, left_out = [], {}
    for store, (reader, objects) in enumerate(zip(readers, located.objects)):
        for truth in objects:
            sample = _make_sample(store, reader, truth)
            if isinstance(sample, Sample):
                samples.append(sample)
            else:
                left_out[truth.object_id] = sample
    return samples, left_out


def _make_sample(store: int, reader: StoreReader, truth: TruthObject) -> Sample | str:
    bounds = Bounds(*truth.geometry.bounds)
    tile = reader.pyramid.choose(bounds, is_box=True, available=reader.is_encoded)
    if tile is None:
        return "on no encoded tile as a whole"
    frame = TileFrame.of(reader.pyramid, tile)
    side = CELL * frame.scale
    left, top = frame.to_native(0.0, 0.0)
    transform = Affine(side, 0, left, 0, side, top)
    shape = (MASK_SIDE, MASK_SIDE)
    mask = rasterize([truth.geometry], out_shape=shape, transform=transform, dtype="uint8").astype(np.bool_)
    if np.count_nonzero(mask) < MIN_CELLS:
        return f"smaller than {MIN_CELLS} cells of a mask"
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    window = (int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1)
    prompts = truth.prompts
    if prompts is not None:
        inside = prompts.within(reader.pyramid.tile_bounds(tile))
        prompts = frame.prompts_to_tile(inside) if len(inside) == len(prompts) else None
    return Sample(truth, Place(store, tile), np.packbits(mask), window, prompts)


def footprint(reader: StoreReader, tile: Tile) -> shapely.Polygon:
    """Return what a tile covers, in map coordinates of the raster."""
    box: shapely.Polygon = shapely.box(*reader.pyramid.tile_bounds(tile))
    polygon: shapely.Polygon = reader.metadata.raster.transform.apply_geometry(box)
    return polygon


class FeatureCache:
    """Features of tiles, read from their stores once as long as they fit.

    Parameters
    ----------
    readers : sequence of StoreReader
    max_bytes : int
        Of the tiles that are kept.
    """

    def __init__(self, readers: Sequence[StoreReader], max_bytes: int = 1 << 30) -> None:
        self._readers = readers
        self._max_bytes = max_bytes
        self._kept: OrderedDict[Place, NDArray[np.float16]] = OrderedDict()
        self._bytes = 0

    def read(self, place: Place) -> NDArray[np.float32]:
        """Return the features (1, C, h, w) of a tile.

        Raises
        ------
        StoreError
            If they cannot be read.
        """
        if place in self._kept:
            self._kept.move_to_end(place)
            return self._kept[place].astype(np.float32)
        features = self._readers[place.store].read(place.tile)[FEATURE]
        # As most stores hold them, so that nothing is lost.
        kept = features.astype(np.float16)
        self._kept[place] = kept
        self._bytes += kept.nbytes
        while self._bytes > self._max_bytes:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.nbytes
        return features
