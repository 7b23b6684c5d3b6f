"""Held-out objects looked at now and then during training: one click in the middle, and the bounding box."""

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

from .labelled_tiles import evaluation_scenes, tiles
from .losses import true_iou
from .network import MiniNet, normalise
from .prompts import BOX_HIGH, BOX_LOW, POSITIVE, cell_to_xy, deepest_cell, depth

STRIDE = 4
OBJECTS_PER_TILE = 8
FOLDERS = {"buildings/val_kampala": "buildings", "fields/val": "fields"}


class _Tile(NamedTuple):
    kind: str
    image: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    boxes: NDArray[np.float32]


class ValidationSet:
    """Some objects of every held-out tile of buildings and fields, shared among processes.

    Parameters
    ----------
    data : Path
        Without held-out folders in it the set is empty.
    rank, world : int
        Number of this process, and of processes.
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
            masks = np.stack(whole)[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
            boxes = np.array([polygon.bounds for polygon in polygons], dtype=np.float32)
            some = masks.any((1, 2))
            if some.any():
                self.tiles.append(_Tile(FOLDERS[tile.dataset], tile.image, masks[some], boxes[some]))

    @torch.no_grad()
    def measure(self, net: MiniNet) -> dict[str, float]:
        """Return the mean IoU of each kind and prompt, over all processes; nothing where there is no imagery."""
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


def _middle(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the (row, column) where a user clicks, who sees no more of an object than the tile holds."""
    return deepest_cell(depth(np.pad(mask, 1))[1:-1, 1:-1])


def _answers(net: MiniNet, tile: _Tile) -> tuple[Tensor, Tensor]:
    """Return the IoU (N,) of what is shown for a click, and for the box, at 1/4."""
    device = next(net.parameters()).device
    with torch.autocast(device.type, dtype=torch.bfloat16):
        context = net.decoder.context(net.encoder(normalise(torch.from_numpy(tile.image).to(device)[None])))
        truth = torch.from_numpy(tile.masks).to(device, torch.float32)[:, None]
        spots = np.array([cell_to_xy(_middle(mask), STRIDE) for mask in tile.masks], dtype=np.float32)
        found = []
        for coords, kinds in (
            (spots[:, None], (POSITIVE,)),
            (tile.boxes.reshape(-1, 2, 2), (BOX_LOW, BOX_HIGH)),
        ):
            labels = torch.tensor(kinds, device=device).expand(len(truth), -1)
            none = torch.zeros(len(truth), device=device)
            points = torch.from_numpy(coords).to(device)
            masks, scores, _ = net.decoder(context, points, labels, torch.zeros_like(truth), none)
            shown = scores[:, 1:].argmax(1) + 1 if len(kinds) == 1 else torch.zeros(len(truth), dtype=torch.long)
            found.append(true_iou(masks[torch.arange(len(truth)), shown][:, None], truth)[:, 0].cpu())
    return found[0], found[1]
