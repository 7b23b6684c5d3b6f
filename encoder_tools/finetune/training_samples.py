"""Training samples: the mask of each object on the tile that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine

from geosam_es.core.frame import TileFrame
from geosam_es.core.grid import Tile
from geosam_es.core.prompts import Bounds, Prompts
from geosam_es.inference.decoder import MASK_SIDE
from geosam_es.store import StoreReader

from ..evaluation.ground_truth import Located, TruthObject
from ..training.simulated_user import CELL_PIXELS

__all__ = ["FEATURE", "MASK_CELLS", "TILE_CELLS", "Place", "Sample", "make_samples"]

MASK_CELLS = 4
"""Side of a feature cell in mask cells, for SAM and mini."""

TILE_CELLS = MASK_SIDE // MASK_CELLS
"""Side of a tile in such feature cells."""

MIN_CELLS = 4
"""Objects with fewer mask cells cannot be clicked and corrected."""

FEATURE = "image_embeddings"


class Place(NamedTuple):
    """A tile of one of several stores.

    Attributes
    ----------
    store : int
        Index of the store.
    tile : Tile
    """

    store: int
    tile: Tile


@dataclass(frozen=True)
class Sample:
    """One object on its tile.

    Attributes
    ----------
    truth : TruthObject
    place : Place
        The tile.
    packed : uint8 (MASK_SIDE * MASK_SIDE / 8,)
        The packed bits of `mask`.
    window : tuple of int
        Mask cells that hold the object: start and stop row, start and stop column.
    prompts : Prompts, optional
        The user's own prompts, in pixels of the tile.
    """

    truth: TruthObject
    place: Place
    packed: NDArray[np.uint8]
    window: tuple[int, int, int, int]
    prompts: Prompts | None

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The object's mask, bool (256, 256), on the grid of the decoder's logits."""
        flat = np.unpackbits(self.packed, count=MASK_SIDE * MASK_SIDE)
        return flat.reshape(MASK_SIDE, MASK_SIDE).astype(np.bool_)


def make_samples(readers: Sequence[StoreReader], located: Located) -> tuple[list[Sample], dict[str, str]]:
    """Rasterize objects on their tiles.

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
        return "no encoded tile shows the whole object"
    frame = TileFrame.of(reader.pyramid, tile)
    side = CELL_PIXELS * frame.scale
    left, top = frame.to_native(0.0, 0.0)
    transform = Affine(side, 0, left, 0, side, top)
    shape = (MASK_SIDE, MASK_SIDE)
    mask = rasterize([truth.geometry], out_shape=shape, transform=transform, dtype="uint8").astype(np.bool_)
    if np.count_nonzero(mask) < MIN_CELLS:
        return f"smaller than {MIN_CELLS} mask cells"
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    window = (int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1)
    prompts = truth.prompts
    if prompts is not None:
        inside = prompts.within(reader.pyramid.tile_bounds(tile))
        prompts = frame.prompts_to_tile(inside) if len(inside) == len(prompts) else None
    return Sample(truth, Place(store, tile), np.packbits(mask), window, prompts)
