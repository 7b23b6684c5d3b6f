"""`mini` as a whole for training from pixels, and the folder of the model that becomes of it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from threading import Event

import numpy as np
import shapely
from numpy.typing import NDArray

from geosam_es.errors import ModelError
from geosam_es.inference.encoder import ENCODER_FILE, MODEL_FILE, TILE_SIZE, ModelInfo
from geosam_es.store import StoreReader
from geosam_es.store.decoder_files import prefixed_sha256
from geosam_es.store.layout import DECODER_FILE, PREPARE_FILE

from ..mini.config import CropPlan
from ..mini.crops import CropSampler
from ..mini.export import export_encoder_graph
from ..mini.fold_batch_norm import fold
from ..mini.network import ImageEncoder, MiniNet, normalise
from ..mini.sources import Scene, burn, make_scene
from ..models.libraries import torch
from ..raster import Raster
from ..training.simulated_user import SimulatedUser
from .learners import ious_by_place
from .mini_decoder import fast, graph_weights
from .training import OBJECTS_PER_STEP
from .training_samples import Place, Sample
from .training_step import play
from .tunable_decoder import TunableDecoder

__all__ = ["LEAST_PIXELS", "PixelLearner", "Tiles", "is_large", "load_encoder"]

LEAST_PIXELS = 75
"""Area on its tile from which an object is sure to be drawn: wherever it lies, it covers `MIN_OBJECT_PIXELS` there."""

_KIND = "landcover"
"""Kind of the scenes, whose augmentation suits outlines of any kind."""

_PLAN = CropPlan(640, 1, OBJECTS_PER_STEP, 1.0)
"""Large crops, because an object is known by what is around it."""

_TILES_AT_ONCE = 64
"""Most tiles in memory, for each copy of the network; a tile with its outlines takes up to 9 MB."""


def load_encoder(folder: Path) -> ImageEncoder:
    """Load the encoder of a folder with an exported `mini`.

    Raises
    ------
    ModelError
        If it belongs to another version of `mini`.
    """
    with torch.random.fork_rng(devices=[]):
        encoder = fold(MiniNet()).encoder
    wanted = encoder.state_dict()
    found = graph_weights(folder / ENCODER_FILE, "encoder.", wanted)
    # Only the training of `mini` uses the edges, so they are not exported.
    missing = [name for name in wanted if name not in found and not name.startswith("edge.")]
    if missing or any(tuple(found[name].shape) != tuple(wanted[name].shape) for name in found):
        raise ModelError(f"{folder} is not an encoder of this version of mini", "tune the decoder with --depth adapter")
    state = {name: torch.from_numpy(np.array(values, np.float32)) for name, values in found.items()}
    encoder.load_state_dict({**wanted, **state})
    encoder.edge.requires_grad_(False)
    return encoder


def is_large(sample: Sample) -> bool:
    """Tell whether an object is large enough to be learned from pixels."""
    return bool(sample.truth.geometry.area >= LEAST_PIXELS * 4.0**sample.place.tile.level)


class Tiles:
    """The pixels of tiles; the latest stay in memory.

    Parameters
    ----------
    readers : sequence of StoreReader
    rasters : sequence of Raster
        The raster of each store.
    """

    def __init__(self, readers: Sequence[StoreReader], rasters: Sequence[Raster]) -> None:
        self._readers, self._rasters = readers, rasters
        self._image = lru_cache(_TILES_AT_ONCE)(self._read)

    def image(self, place: Place) -> NDArray[np.uint8]:
        """Return a tile as it is encoded, uint8 (1024, 1024, 3).

        Raises
        ------
        RasterError
            If the raster cannot be read.
        """
        return self._image(place)

    def _read(self, place: Place) -> NDArray[np.uint8]:
        reader, tile = self._readers[place.store], place.tile
        window, scale = reader.pyramid.window(tile), 2.0**tile.level
        return self._rasters[place.store].read_tile(window, scale, reader.metadata.stretch).image

    def scene(self, place: Place, samples: Sequence[Sample]) -> Scene:
        """Return the part of a tile that shows the raster, with the outlines of samples on it."""
        pyramid, scale = self._readers[place.store].pyramid, 2.0**place.tile.level
        left, top, right, bottom = pyramid.tile_bounds(place.tile)
        width = min(TILE_SIZE, round((min(right, pyramid.width) - left) / scale))
        height = min(TILE_SIZE, round((min(bottom, pyramid.height) - top) / scale))
        outlines = shapely.transform(
            np.array([sample.truth.geometry for sample in samples], dtype=object),
            lambda points: (points - (left, top)) / scale,
        )
        return make_scene(_KIND, self.image(place)[:height, :width], burn(list(outlines), height, width))


class PixelLearner:
    """Encoder and decoder of `mini`, which learn from pixels; see `Learner`.

    Parameters
    ----------
    encoder : ImageEncoder
        Folded.
    decoder : TunableDecoder
    tiles : Tiles
    """

    learning_rate = 2e-4

    def __init__(self, encoder: ImageEncoder, decoder: TunableDecoder, tiles: Tiles) -> None:
        self.encoder, self.decoder, self._tiles = encoder, decoder, tiles
        self.module: torch.nn.Module = torch.nn.ModuleDict({"encoder": encoder, "decoder": decoder.module})
        self._sampler: CropSampler | None = None

    def __deepcopy__(self, memo: dict[int, object]) -> PixelLearner:
        return PixelLearner(copy.deepcopy(self.encoder, memo), copy.deepcopy(self.decoder, memo), self._tiles)

    def steps(self, samples: Sequence[Sample], rng: np.random.Generator) -> Iterator[float]:
        """Draw as many objects as there are samples, in crops. At least one of them is large enough; see `is_large`.

        Where there are too many tiles for the memory, some are drawn, and others after as many steps.
        """
        places: dict[Place, list[Sample]] = {}
        for sample in samples:
            places.setdefault(sample.place, []).append(sample)
        places = {place: members for place, members in places.items() if any(map(is_large, members))}
        fits = len(places) <= _TILES_AT_ONCE
        for step in range(-(-len(samples) // OBJECTS_PER_STEP)):
            if not fits and step % _TILES_AT_ONCE == 0:
                # The old tiles go before the new ones come.
                self._sampler = None
            if self._sampler is None:
                chosen = range(len(places)) if fits else rng.choice(len(places), _TILES_AT_ONCE, replace=False)
                self._sampler = self._make_sampler([list(places.items())[index] for index in chosen])
            self._sampler.rng = rng
            batch = self._sampler.batch(_PLAN)
            with fast():
                context = self.decoder.prepare(self._encode(batch.images))
            yield play(self.decoder, context, SimulatedUser(batch.masks, rng), rng, len(batch.masks))

    def _make_sampler(self, members: Sequence[tuple[Place, list[Sample]]]) -> CropSampler:
        scenes = [self._tiles.scene(place, samples) for place, samples in members]
        return CropSampler([scene for scene in scenes if len(scene.objects)], {_KIND: 1.0}, (0,))

    def _encode(self, images: NDArray[np.uint8]) -> torch.Tensor:
        pixels = normalise(torch.from_numpy(images)).contiguous(memory_format=torch.channels_last)
        embeddings: torch.Tensor = self.encoder(pixels)
        return embeddings

    def answers(self, samples: Sequence[Sample], stopped: Event) -> NDArray[np.float64]:
        """Return the IoU (N, 3) of the masks; see `Learner.answers`."""

        def context(place: Place) -> tuple[torch.Tensor, ...]:
            with torch.no_grad(), fast():
                embeddings = self._encode(self._tiles.image(place)[None])
            with torch.no_grad():
                return self.decoder.prepare(embeddings.float())

        return ious_by_place(self.decoder, samples, context, stopped)

    def write(self, folder: Path, base: ModelInfo, name: str) -> ModelInfo:
        """Write ``encoder.onnx``, ``prepare.onnx``, ``decoder.onnx`` and ``model.json``.

        Parameters
        ----------
        folder : Path
            Exists.
        base : ModelInfo
            The model that was tuned.
        name : str
            Name of the new one.
        """
        export_encoder_graph(self.encoder.eval(), folder)
        self.decoder.export(folder)
        files = {file: prefixed_sha256(folder / file) for file in (ENCODER_FILE, PREPARE_FILE, DECODER_FILE)}
        info = replace(base, name=name, encoder_sha256=files[ENCODER_FILE])
        card = {**info.to_json(), "version": "1", "image_size": TILE_SIZE, "files": files}
        (folder / MODEL_FILE).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        return info
