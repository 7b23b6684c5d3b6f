"""Agreement of previews with trained masks, whose outlines should lie in the places computed in full.

The benchmark has no trained weights of SAM. But the choice of places depends only on one logit of each, so masks of
`mini`, which have the same size, show how well previews of a trained model agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder_tools.models.checkpoints import mini_folder
from encoder_tools.models.fast_decoder.upscaling import SAMPLE, outline_places
from encoder_tools.models.libraries import torch
from encoder_tools.pipeline import EncodeOptions, make_plan
from encoder_tools.raster import Raster
from geosam_es.core.prompts import Bounds, Point, Prompts
from geosam_es.inference.decoder import PREVIEW_PLACES, MaskDecoder, load_decoder
from geosam_es.inference.encoder import TILE_SIZE, OnnxEncoder
from geosam_es.store.layout import DECODER_FILE, PREPARE_FILE

from .images import orthophotos
from .measure import LEAST_IOU, Bench, mask_iou
from .model import Agreement

__all__ = ["TrainedPreviews", "drawn_places", "mini_tiles", "previewed", "trained_previews"]

SIDE = 64
"""Places along each side of a tile of mini and SAM."""

_TILES_PER_IMAGE = 3
_PLACES_PER_TILE = 12
_BOX_PX = 160.0


class TrainedPreviews(NamedTuple):
    """Results for previews of masks of trained weights.

    Attributes
    ----------
    agreement : Agreement
        Agreement with the complete masks.
    most_places : int
        Number of places that the mask with the longest outline needs, without a limit.
    """

    agreement: Agreement
    most_places: int


def trained_previews(bench: Bench) -> TrainedPreviews:
    """Compare masks of `mini` with their previews."""
    paths, where = orthophotos(bench.work, bench.runs(99, 1))
    masks = [mask for path in paths for mask in _masks(bench, path)]
    ious = [mask_iou(previewed(mask), mask) for mask in masks]
    measure = f"smallest IoU of {len(ious)} masks of mini on {where} with their previews"
    most = max(len(drawn_places(mask, SIDE * SIDE)) for mask in masks)
    return TrainedPreviews(Agreement(measure, min(ious), LEAST_IOU), most)


def drawn_places(logits: NDArray[np.float32], most: int) -> NDArray[np.int64]:
    """Return the places, row by row, that are drawn in full of a mask, float32 (256, 256)."""
    samples = np.ascontiguousarray(logits.reshape(SIDE, 4, SIDE, 4)[:, SAMPLE, :, SAMPLE])
    return np.asarray(outline_places(torch.from_numpy(samples[None, None]), torch.tensor(most)).numpy())


def previewed(logits: NDArray[np.float32], most: int = PREVIEW_PLACES) -> NDArray[np.float32]:
    """Draw a mask as a preview does: one pixel of each place stands for all 16 where its outline is far.

    Parameters
    ----------
    logits : float32 (256, 256)
    most : int
        Places to draw in full.

    Returns
    -------
    float32 (256, 256)
    """
    cells = logits.reshape(SIDE, 4, SIDE, 4)
    is_drawn = np.zeros(SIDE * SIDE, bool)
    is_drawn[drawn_places(logits, most)] = True
    drawn = np.where(is_drawn.reshape(SIDE, 1, SIDE, 1), cells, cells[:, SAMPLE : SAMPLE + 1, :, SAMPLE : SAMPLE + 1])
    return np.asarray(drawn.reshape(logits.shape))


def mini_tiles(bench: Bench, path: Path) -> Iterator[tuple[MaskDecoder, Mapping[str, NDArray[np.float32]]]]:
    """Yield the decoder of `mini` with the features of some tiles of an image."""
    folder = mini_folder()
    encoder = OnnxEncoder(folder, bench.threads)
    decoder = load_decoder(folder / PREPARE_FILE, folder / DECODER_FILE, bench.threads)
    plan = make_plan(Raster(path), encoder, EncodeOptions())
    tiles = (tile for tile in map(plan.read, plan.pyramid) if tile.has_data)
    for tile in islice(tiles, bench.runs(_TILES_PER_IMAGE, 1)):
        yield decoder, encoder.encode(tile.image[None])


def _masks(bench: Bench, path: Path) -> Iterator[NDArray[np.float32]]:
    """Yield the masks that `mini` shows first, of clicks and of boxes."""
    count = bench.runs(_PLACES_PER_TILE, 4)
    for decoder, features in mini_tiles(bench, path):
        context = decoder.prepare(features)
        for x, y in np.random.default_rng(count).uniform(0.1, 0.9, (count, 2)) * TILE_SIZE:
            half = _BOX_PX / 2
            for prompts in (
                Prompts((Point(float(x), float(y)),)),
                Prompts(box=Bounds(float(x - half), float(y - half), float(x + half), float(y + half))),
            ):
                answer = decoder.decode(context, prompts)
                yield answer.low_res_masks[answer.ranking(prompts.is_ambiguous)[0]]
