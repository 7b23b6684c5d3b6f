"""A simulated user prompts one object with a click or a box, then corrects the answer with further clicks.

The user sees what the product would draw. Clicks lie on the grid of the logits, one cell for 4 x 4 px.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from encoder_tools.evaluation.metrics import intersection_over_union, mask_scores
from encoder_tools.mini.labelled_tiles import Tile
from encoder_tools.training.simulated_user import (
    BOX_HIGH,
    BOX_LOW,
    CELL_PIXELS,
    NEGATIVE,
    POSITIVE,
    cell_centre,
    cell_samples,
    corrective_click,
    depth,
    jitter_box,
    middle_cell,
    random_cell,
)
from geosam_es.inference.encoder import TILE_SIZE

from .exported_model import OnnxMini, Prompt, burned, drawn

__all__ = [
    "CLICK_CAP",
    "ROUNDS",
    "Measured",
    "Target",
    "Track",
    "User",
    "box_pixels",
    "jittered_click",
    "loose_box",
    "measure",
    "target_of",
]

ROUNDS = 5
"""Corrective clicks on every object."""
CLICK_CAP = 10
GOOD_IOU = 0.85
LOOSE = 0.15
JITTER = 0.25
"""Standard deviation of a jittered click, as a share of the square root of the object's area."""

SEED = 11

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Target:
    """An object and its first prompts.

    Attributes
    ----------
    polygon : geometry
        In pixels of the tile.
    truth : bool (1024, 1024)
    cells : bool (256, 256)
        True mask on the grid of the logits.
    click : Prompt
        Click in the middle.
    box : list of Prompt
        Its bounding box.
    """

    polygon: BaseGeometry
    truth: Mask
    cells: Mask
    click: Prompt
    box: list[Prompt]


@dataclass(frozen=True)
class Track:
    """Results of one first prompt, after 0, 1, ... corrective clicks.

    Attributes
    ----------
    masks : list of bool (1024, 1024)
        Masks shown.
    ious, scores : list of float
        Their true and predicted IoU.
    """

    masks: list[Mask]
    ious: list[float]
    scores: list[float]


@dataclass(frozen=True)
class Measured:
    """Results for one object, which can be written as JSON.

    Attributes
    ----------
    values : dict of str to float
        Metrics by name.
    ious, scores : dict of str to list of float
        For ``click`` and ``box``: true and predicted IoU of the mask shown after 0, 1, ... corrective clicks.
    candidates : list of (score, area, IoU)
        The three candidates of the first click in the product's order, with the area in pixels.
    """

    values: dict[str, float]
    ious: dict[str, list[float]]
    scores: dict[str, list[float]]
    candidates: list[tuple[float, float, float]]


def target_of(polygon: BaseGeometry) -> Target | None:
    """Prepare an object in pixels of its tile; None if it covers no cell."""
    truth = burned([polygon])
    cells = np.ascontiguousarray(cell_samples(truth))
    if not cells.any():
        return None
    click = (*cell_centre(middle_cell(cells)), POSITIVE)
    return Target(polygon, truth, cells, click, box_prompts(polygon.bounds))


def box_prompts(bounds: Sequence[float]) -> list[Prompt]:
    """Return x_min, y_min, x_max, y_max as the two corners of a box."""
    x0, y0, x1, y1 = (float(value) for value in bounds)
    return [(x0, y0, BOX_LOW), (x1, y1, BOX_HIGH)]


def box_pixels(bounds: Sequence[float]) -> Mask:
    """Return the pixels (1024, 1024) that a box touches."""
    x0, y0, x1, y1 = bounds
    box = np.zeros((TILE_SIZE, TILE_SIZE), dtype=np.bool_)
    box[max(0, math.floor(y0)) : math.ceil(y1), max(0, math.floor(x0)) : math.ceil(x1)] = True
    return box


def measure(model: OnnxMini, tile: Tile, target: Target, seed: int) -> Measured:
    """Measure one object of the model's tile.

    Parameters
    ----------
    model : OnnxMini
    tile : Tile
    target : Target
    seed : int
        Seed of the random clicks and the loose box; the same for every model.
    """
    rng = np.random.default_rng([SEED, seed])
    user = User(model, tile, target)
    candidates = user.candidates([target.click])
    click = user.track([target.click], until_good=True)
    box = user.track(target.box)
    stray = (*cell_centre(random_cell(depth(target.cells), rng, 0.0)), POSITIVE)
    loose = loose_box(tile, target, rng)
    values = {
        "box itself": intersection_over_union(target.truth, box_pixels(target.polygon.bounds)),
        "click": click.ious[0],
        "click oracle": max(iou for _, _, iou in candidates),
        "jittered click": user.first([jittered_click(target, rng)]),
        "random click": user.first([stray]),
        "3 clicks": click.ious[2],
        "5 clicks": click.ious[4],
        "box": box.ious[0],
        "loose box": user.first(loose),
        "box + 1": box.ious[1],
        "box + 3": box.ious[3],
        **_shape(target, "click", click.masks[0]),
        **_shape(target, "5 clicks", click.masks[4]),
        **_shape(target, "box", box.masks[0]),
        **_shape(target, "box + 3", box.masks[3]),
        **_clicks_needed(click.ious),
    }
    ious, scores = {"click": click.ious, "box": box.ious}, {"click": click.scores, "box": box.scores}
    return Measured(values, ious, scores, candidates)


class User:
    """Prompts one object as users of the product do, and sees what it draws.

    Parameters
    ----------
    model : OnnxMini
        With the tile as its image.
    tile : Tile
    target : Target
    """

    def __init__(self, model: OnnxMini, tile: Tile, target: Target) -> None:
        self.model = model
        self.tile = tile
        self.target = target

    def first(self, prompts: Sequence[Prompt]) -> float:
        """Return the IoU of the mask shown first."""
        return self._iou(self.draw(prompts)[0])

    def draw(
        self, prompts: Sequence[Prompt], previous: NDArray[np.float32] | None = None
    ) -> tuple[Mask, float, NDArray[np.float32]]:
        """Return the mask (1024, 1024) shown first, its predicted IoU, and its logits (256, 256)."""
        answer = self.model.predict(prompts, previous)
        token = answer.ranking(_is_ambiguous(prompts))[0]
        logits = answer.low_res_masks[token]
        return self._drawn(logits, prompts), float(answer.iou_predictions[token]), logits

    def candidates(self, prompts: Sequence[Prompt]) -> list[tuple[float, float, float]]:
        """Return predicted IoU, area in pixels and true IoU of every candidate, in the product's order."""
        answer = self.model.predict(prompts)
        found = []
        for token in answer.ranking(_is_ambiguous(prompts)):
            mask = self._drawn(answer.low_res_masks[token], prompts)
            found.append((float(answer.iou_predictions[token]), float(np.count_nonzero(mask)), self._iou(mask)))
        return found

    def track(self, prompts: Sequence[Prompt], until_good: bool = False) -> Track:
        """Prompt, then correct `ROUNDS` times; with ``until_good`` up to `CLICK_CAP` prompts in all."""
        given = list(prompts)
        mask, score, logits = self.draw(given)
        track = Track([mask], [self._iou(mask)], [score])
        while len(track.ious) <= ROUNDS or (until_good and len(track.ious) < CLICK_CAP and max(track.ious) < GOOD_IOU):
            wrong = self._correction(mask)
            if wrong is not None:
                given.append(wrong)
                mask, score, logits = self.draw(given, logits)
            track.masks.append(mask)
            track.ious.append(self._iou(mask))
            track.scores.append(score)
        return track

    def _drawn(self, logits: NDArray[np.float32], prompts: Sequence[Prompt]) -> Mask:
        return drawn(logits, prompts, self.tile.width, self.tile.height)

    def _iou(self, mask: Mask) -> float:
        return intersection_over_union(self.target.truth, mask)

    def _correction(self, mask: Mask) -> Prompt | None:
        """Return the click in the middle of the largest error; None if no cell is wrong."""
        found = corrective_click(self.target.cells, cell_samples(mask))
        if found is None:
            return None
        cell, is_positive = found
        return (*cell_centre(cell), POSITIVE if is_positive else NEGATIVE)


def _is_ambiguous(prompts: Sequence[Prompt]) -> bool:
    return len(prompts) == 1


def jittered_click(target: Target, rng: np.random.Generator) -> Prompt:
    """Return a click off the middle of an object, but in it, as users click: by a quarter of its size in each axis."""
    spread = JITTER * math.sqrt(target.cells.sum()) * CELL_PIXELS
    while True:
        x, y = rng.normal(target.click[:2], spread)
        row, column = math.floor(y / CELL_PIXELS), math.floor(x / CELL_PIXELS)
        if 0 <= row < len(target.cells) and 0 <= column < len(target.cells) and target.cells[row, column]:
            return float(x), float(y), POSITIVE


def loose_box(tile: Tile, target: Target, rng: np.random.Generator) -> list[Prompt]:
    """Return a box whose sides are displaced by up to 15 % of its width and height, mostly outwards."""
    sides = jitter_box(np.asarray(target.polygon.bounds), rng, LOOSE)
    return box_prompts(np.clip(sides, 0.0, (tile.width, tile.height) * 2).tolist())


def _clicks_needed(ious: list[float]) -> dict[str, float]:
    """Return the number of clicks to a good IoU, and whether it was reached."""
    good = next((number for number, iou in enumerate(ious, start=1) if iou >= GOOD_IOU), None)
    return {"clicks to 85 %": float(good or CLICK_CAP), "85 % reached": float(good is not None)}


def _shape(target: Target, name: str, mask: Mask) -> dict[str, float]:
    scores = mask_scores(target.truth, mask)
    return {f"{name} Dice": scores.dice, f"{name} boundary F": scores.boundary_f}
