"""Validation on held-out objects during training: one click in the middle, and the bounding box."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from rasterio import features
from torch import Tensor

from geosam_es.errors import RasterError
from geosam_es.inference.encoder import TILE_SIZE

from ..training.answers import first_answer_ious
from ..training.simulated_user import cell_samples
from .labelled_tiles import evaluation_scenes, tiles
from .network import MiniNet, normalise

OBJECTS_PER_TILE = 8
FOLDERS = {"buildings/val_kampala": "buildings", "fields/val": "fields", "coast/val": "coast"}


class _Tile(NamedTuple):
    kind: str
    image: NDArray[np.uint8]
    masks: NDArray[np.bool_]


class ValidationSet:
    """Some objects of every held-out tile of some sets, divided among the processes.

    Parameters
    ----------
    data : Path
        Folder of labelled imagery. The set is empty if it has no held-out folders.
    rank, world : int
        Index of this process, and number of processes.
    """

    def __init__(self, data: Path, rank: int, world: int) -> None:
        try:
            scenes = [scene for scene in evaluation_scenes(data) if scene.dataset in FOLDERS]
        except RasterError:
            scenes = []
        shared = [tile for scene in scenes for tile in tiles(scene)][rank::world]
        self.tiles: list[_Tile] = []
        for tile in shared:
            polygons = tile.polygons[:: max(1, len(tile.polygons) // OBJECTS_PER_TILE)][:OBJECTS_PER_TILE]
            whole = [features.rasterize([p], (TILE_SIZE, TILE_SIZE), dtype="uint8").astype(bool) for p in polygons]
            masks = cell_samples(np.stack(whole))
            some = masks.any((1, 2))
            if some.any():
                self.tiles.append(_Tile(FOLDERS[tile.dataset], tile.image, masks[some]))

    def measure(self, net: MiniNet) -> dict[str, float]:
        """Return the mean IoU of each kind and prompt over all processes; empty without imagery."""
        net.eval()
        names = [f"{kind} {prompt}" for kind in FOLDERS.values() for prompt in ("click", "box")]
        totals = torch.zeros(len(names), 2)
        for tile in self.tiles:
            place = 2 * list(FOLDERS.values()).index(tile.kind)
            for offset, ious in enumerate(_answers(net, tile)):
                totals[place + offset] += torch.tensor([float(ious.sum()), float(len(ious))])
        if dist.is_initialized():
            dist.all_reduce(totals)
        return {name: float(total / count) for name, (total, count) in zip(names, totals) if count}


def _answers(net: MiniNet, tile: _Tile) -> tuple[Tensor, Tensor]:
    """Return the IoU (N,) of the mask shown first for a click, and for the box, at 1/4."""
    device = next(net.parameters()).device
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16):
        context = net.decoder.context(net.encoder(normalise(torch.from_numpy(tile.image).to(device)[None])))

        def decode(*prompts: Tensor) -> tuple[Tensor, Tensor]:
            masks, scores, _ = net.decoder(context, *prompts)
            return masks, scores

        click, box = first_answer_ious(decode, tile.masks, device)
    return click.cpu(), box.cpu()
