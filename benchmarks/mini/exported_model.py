"""The exported `mini`, run by the product's code, and its answers as the product draws them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio.features
import shapely
from numpy.typing import NDArray

from encoder_tools.models.checkpoints import mini_folder
from encoder_tools.training.simulated_user import BOX_HIGH, BOX_LOW, POSITIVE
from geosam_es.core.contour import mask_polygons
from geosam_es.core.prompts import Bounds, Point, Prompts
from geosam_es.core.topology import prompted_parts
from geosam_es.inference.decoder import Context, DecodedMasks, load_decoder
from geosam_es.inference.encoder import TILE_SIZE, OnnxEncoder

__all__ = ["MODEL_FOLDER", "OnnxMini", "Prompt", "burned", "drawn", "drawn_polygons"]

MODEL_FOLDER = mini_folder()
THREADS = 2

Prompt = tuple[float, float, float]
"""x, y and label of a click, or of a corner of the box."""


class OnnxMini:
    """The exported model, as the product runs it.

    Parameters
    ----------
    folder : Path
        Folder of the ONNX files and ``model.json``.
    threads : int
        CPU threads.

    Raises
    ------
    ModelError
        If a file is missing, damaged or of another model.
    """

    def __init__(self, folder: Path, threads: int = THREADS) -> None:
        self.encoder = OnnxEncoder(folder, threads)
        self.decoder = load_decoder(folder / "prepare.onnx", folder / "decoder.onnx", threads)
        self.context: Context = {}

    def set_image(self, tile: NDArray[np.uint8]) -> None:
        """Encode a uint8 (1024, 1024, 3) tile and prepare its context from float16, as a store keeps features."""
        features = self.encoder.encode(tile[None])
        stored = {name: value.astype(np.float16).astype(np.float32) for name, value in features.items()}
        self.context = self.decoder.prepare(stored)

    def predict(self, prompts: Sequence[Prompt], previous: NDArray[np.float32] | None = None) -> DecodedMasks:
        """Answer prompts in tile pixels, refining earlier logits (256, 256) if given."""
        return self.decoder.decode(self.context, _as_prompts(prompts), previous)


def _as_prompts(given: Sequence[Prompt]) -> Prompts:
    """Convert labelled positions to the product's prompts."""
    lows = [(x, y) for x, y, label in given if label == BOX_LOW]
    highs = [(x, y) for x, y, label in given if label == BOX_HIGH]
    box = Bounds(*lows[0], *highs[0]) if lows and highs else None
    clicks = [entry for entry in given if entry[2] not in (BOX_LOW, BOX_HIGH)]
    return Prompts(tuple(Point(x, y, label == POSITIVE) for x, y, label in clicks), box)


def drawn_polygons(
    logits: NDArray[np.float32], prompts: Sequence[Prompt], width: int, height: int
) -> list[shapely.Polygon]:
    """Return the polygons that the product would draw for logits, in pixels of the tile.

    Parameters
    ----------
    logits : float32 (256, 256)
    prompts : sequence of Prompt
    width, height : int
        Size of the image in the tile, without padding.
    """
    positives = [(x, y) for x, y, label in prompts if label == POSITIVE]
    return prompted_parts(mask_polygons(logits, TILE_SIZE, width, height), positives)


def drawn(logits: NDArray[np.float32], prompts: Sequence[Prompt], width: int, height: int) -> NDArray[np.bool_]:
    """Return the pixels (1024, 1024) of `drawn_polygons`."""
    return burned(drawn_polygons(logits, prompts, width, height))


def burned(polygons: Sequence[object]) -> NDArray[np.bool_]:
    """Return the pixels (1024, 1024) of a tile whose centres lie in any of the polygons."""
    if not polygons:
        return np.zeros((TILE_SIZE, TILE_SIZE), dtype=np.bool_)
    pixels = rasterio.features.rasterize(polygons, (TILE_SIZE, TILE_SIZE), dtype="uint8")
    return np.asarray(pixels, dtype=np.bool_)
