"""Evaluation of decoders: a simulated user prompts each object, and the masks are compared with the truth.

Masks come from `Segmenter`, as in the plugin and on the command line: with its choice of tiles, and continued beyond
their borders. Mask and truth are rasterized and compared on the pixels of the level that shows the whole object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.transform import Affine
from shapely.geometry.base import BaseGeometry

from geosam_es.core.prompts import Bounds, Point, Prompts
from geosam_es.errors import PromptError
from geosam_es.inference.decoder import MaskDecoder
from geosam_es.inference.masks import Candidate
from geosam_es.inference.segmenter import Segmenter
from geosam_es.store import StoreReader

from ..training.simulated_user import cell_centre, corrective_click, middle_cell
from .ground_truth import TruthObject
from .metrics import MaskScores, mask_scores
from .prompting import PromptKind, jittered_box

__all__ = ["Evaluation", "Outcome", "PixelGrid", "evaluate", "viewing_level"]

_MARGIN = 4
"""Pixels around truth and mask, more than the tolerance of the boundary."""

Mask = NDArray[np.bool_]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Outcome:
    """Result of a decoder for one object and one kind of prompts.

    Attributes
    ----------
    store : int
        Index of the store.
    truth : TruthObject
    decoder, prompts : str
    level : int
        Level on whose pixels the masks were compared.
    scores : MaskScores
        Scores of the last mask.
    predicted_iou : float
        Prediction of the decoder.
    ious : tuple of float
        IoU after each click.
    given : Prompts
        All prompts, in native pixels.
    answer : Polygon or MultiPolygon
        In native pixels; empty if the mask is empty.
    """

    store: int
    truth: TruthObject
    decoder: str
    prompts: str
    level: int
    scores: MaskScores
    predicted_iou: float
    ious: tuple[float, ...]
    given: Prompts
    answer: BaseGeometry


@dataclass
class Evaluation:
    """Results of all objects.

    Attributes
    ----------
    outcomes : list of Outcome
        Each decoder and kind of prompts has the same objects in the same order.
    left_out : dict of str to str
        Objects that could not be segmented, and why.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PixelGrid:
    """A window of the pixels of a level.

    Attributes
    ----------
    col, row, width, height : int
        In pixels of the level.
    scale : float
        Size of a pixel of the level in native pixels.
    """

    col: int
    row: int
    width: int
    height: int
    scale: float

    @classmethod
    def around(cls, geometries: Sequence[BaseGeometry], reader: StoreReader, level: int) -> PixelGrid:
        """Return the window around geometries in native pixels, with a margin, inside the raster."""
        scale = 2.0**level
        bounds = np.array([geometry.bounds for geometry in geometries if not geometry.is_empty])
        low = np.floor(bounds[:, :2].min(0) / scale).astype(int) - _MARGIN
        high = np.ceil(bounds[:, 2:].max(0) / scale).astype(int) + _MARGIN
        size = np.array([reader.pyramid.width, reader.pyramid.height])
        low, high = np.maximum(low, 0), np.minimum(high, np.ceil(size / scale).astype(int))
        return cls(int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1]), scale)

    def draw(self, geometry: BaseGeometry) -> Mask:
        """Rasterize a geometry: pixels (H, W) whose centre is inside, or at least one pixel that it touches."""
        if geometry.is_empty:
            return np.zeros((self.height, self.width), dtype=np.bool_)
        transform = Affine(self.scale, 0, self.col * self.scale, 0, self.scale, self.row * self.scale)
        shape = (self.height, self.width)
        mask = rasterize([geometry], out_shape=shape, transform=transform, dtype="uint8")
        if not mask.any():
            mask = rasterize([geometry], out_shape=shape, transform=transform, dtype="uint8", all_touched=True)
        return np.asarray(mask, dtype=np.bool_)

    def centre(self, cell: tuple[int, int]) -> tuple[float, float]:
        """Return the centre of a pixel of the window, given as row and column, in native pixels."""
        x, y = cell_centre(cell, 1)
        return (x + self.col) * self.scale, (y + self.row) * self.scale


def viewing_level(reader: StoreReader, geometry: BaseGeometry) -> int:
    """Return the finest level at which one tile shows the whole object with a margin."""
    tile = reader.pyramid.choose(Bounds(*geometry.bounds), is_box=True, available=reader.is_encoded)
    return tile.level if tile is not None else len(reader.pyramid.grids) - 1


def evaluate(
    readers: Sequence[StoreReader],
    objects: Sequence[Sequence[TruthObject]],
    decoders: Mapping[str, MaskDecoder],
    kinds: Sequence[PromptKind],
    progress: Progress | None = None,
) -> Evaluation:
    """Prompt every object with every decoder and compare the masks with the truth.

    Parameters
    ----------
    readers : sequence of StoreReader
    objects : sequence of sequence of TruthObject
        The objects of each store.
    decoders : mapping of str to MaskDecoder
        By their name in the report.
    kinds : sequence of PromptKind
    progress : callable, optional
        Called with the number of objects done and their total.

    Returns
    -------
    Evaluation

    Raises
    ------
    PromptError
        If no object can be segmented.
    StoreError, ModelError
        If a store or a decoder cannot be used.
    """
    result = Evaluation()
    total = sum(len(found) for found in objects)
    done = 0
    first: PromptError | None = None
    for index, (reader, found) in enumerate(zip(readers, objects)):
        segmenters = {name: Segmenter(reader, decoder) for name, decoder in decoders.items()}
        for truth in _by_place(reader, found):
            try:
                result.outcomes += [
                    _measure(index, truth, decoder, segmenter, kind)
                    for kind in kinds
                    for decoder, segmenter in segmenters.items()
                ]
            except PromptError as error:
                first = first or error
                result.left_out[truth.object_id] = error.user_message
            done += 1
            if progress is not None:
                progress(done, total)
    if not result.outcomes and first is not None:
        raise first
    return result


def _by_place(reader: StoreReader, objects: Sequence[TruthObject]) -> list[TruthObject]:
    """Order objects by tile, so that each tile is read and prepared once."""

    def key(truth: TruthObject) -> tuple[tuple[int, ...], str]:
        tile = reader.pyramid.choose(Bounds(*truth.geometry.bounds), is_box=True, available=reader.is_encoded)
        return tuple(tile or ()), truth.object_id

    return sorted(objects, key=key)


def _measure(store: int, truth: TruthObject, decoder: str, segmenter: Segmenter, kind: PromptKind) -> Outcome:
    """Prompt an object, correct the mask as often as the kind of prompts says, and measure it."""
    reader = segmenter.reader
    level = viewing_level(reader, truth.geometry)
    prompts = _first_prompts(truth, reader, level, kind)
    candidate: Candidate | None = None
    ious: list[float] = []
    while True:
        begins_at = candidate.level if candidate is not None else level
        candidate = segmenter.resolve(segmenter.propose(prompts, begins_at, candidate))
        answer = shapely.union_all(list(candidate.polygons))
        grid = PixelGrid.around([truth.geometry, answer], reader, level)
        wanted, found = grid.draw(truth.geometry), grid.draw(answer)
        scores = mask_scores(wanted, found)
        ious.append(scores.iou)
        correction = corrective_click(wanted, found) if len(ious) < kind.clicks else None
        if correction is None:
            break
        cell, is_positive = correction
        prompts = prompts.with_point(Point(*grid.centre(cell), is_positive))
    # After a perfect mask there are no more clicks.
    ious += [ious[-1]] * (kind.clicks - len(ious))
    predicted = float(np.clip(candidate.score, 0.0, 1.0))
    return Outcome(store, truth, decoder, kind.name, level, scores, predicted, tuple(ious), prompts, answer)


def _first_prompts(truth: TruthObject, reader: StoreReader, level: int, kind: PromptKind) -> Prompts:
    if kind.has_box:
        box = jittered_box(Bounds(*truth.geometry.bounds), kind.jitter, f"{kind.name} {truth.object_id}")
        return Prompts(box=box)
    grid = PixelGrid.around([truth.geometry], reader, level)
    return Prompts((Point(*grid.centre(middle_cell(grid.draw(truth.geometry)))),))
