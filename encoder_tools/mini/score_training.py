"""Training of the score, the last step: ``python -m encoder_tools.mini.score_training RUN --data DIR``.

Training crops show less of an object's surroundings than a tile does, and they are stretched and bent. A score learnt
from them does not quite fit whole tiles. So the two layers that predict the score are trained again at the end, on
whole tiles of the training images, with the rest of the network fixed. The images are used as they are, and again with
other colours and coarser pixels, without which the score of small objects became worse. More than half of the prompts
are single clicks, whose candidates the score has to rank. This does not change the masks, only which candidate is shown
first and its score.
"""

from __future__ import annotations

import argparse
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geosam_es.errors import GeoSamError, ModelError
from geosam_es.inference.encoder import TILE_SIZE

from ..training.answers import mask_iou, shown_first
from ..training.simulated_user import SimulatedUser, cell_samples
from .config import ScoreConfig
from .crops import recolour
from .decoder import MASKS
from .export import load_checkpoint, save_checkpoint
from .labelled_tiles import MIN_AREA_PIXELS, LabelledScene, coarser, tiles, training_scenes
from .losses import score_loss
from .network import MiniNet, normalise
from .sources import STAND_SIDE, burn, data_folder
from .stands import synthetic_stands
from .trainer import best_checkpoint

__all__ = ["Answers", "collect", "learn", "score_run", "stand_images"]

_SCORED = "scored.pt"
_OBJECTS_AT_ONCE = 8
_OBJECTS_OF_LAYER = 12


class Answers(NamedTuple):
    """Inputs and targets of the score, from the network's answers to prompts.

    Attributes
    ----------
    statistics : float32 (N, 4, F)
        Features of each mask, from which its score is computed.
    reached : float32 (N, 4)
        The true IoU of each mask.
    ambiguous : float32 (N,)
        1 for a single click.
    weight : float32 (N,)
        Each kind of object has the same total weight.
    """

    statistics: Tensor
    reached: Tensor
    ambiguous: Tensor
    weight: Tensor


@torch.no_grad()
def collect(net: MiniNet, scenes: Sequence[LabelledScene], config: ScoreConfig) -> Answers:
    """Prompt objects on whole tiles as users would, and return the inputs and targets of the scores.

    Raises
    ------
    ModelError
        If there is no object.
    """
    net.eval()
    rng = np.random.default_rng(config.seed)
    # Small tensors that are kept among large ones that are freed would break the memory into pieces, 24 GB in the end.
    columns = array("f"), array("f"), array("f")
    kinds: list[str] = []
    for number, scene in enumerate(scenes, start=1):
        for image, masks in _tiles(scene, rng, config):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                for found in _answers(net, image, masks, rng, config):
                    kinds += [scene.dataset] * len(found[0])
                    for column, part in zip(columns, found):
                        column.frombytes(part.numpy().tobytes())
        print(f"scores: image {number} of {len(scenes)}, {len(kinds)} answers", flush=True)
    if not kinds:
        raise ModelError("the training imagery has no objects", "see SOURCES.md")
    statistics, reached, ambiguous = (torch.frombuffer(column, dtype=torch.float32) for column in columns)
    _, inverse, counts = np.unique(kinds, return_inverse=True, return_counts=True)
    weight = torch.from_numpy((1.0 / counts / len(counts))[inverse]).to(torch.float32)
    return Answers(statistics.reshape(len(kinds), MASKS, -1), reached.reshape(-1, MASKS), ambiguous, weight)


def _tiles(
    scene: LabelledScene, rng: np.random.Generator, config: ScoreConfig
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """Yield the tiles of each pass, rotated by multiples of 90 degrees, with masks at 1/4 of some of their objects."""
    for number in range(config.passes):
        view = scene
        if number:
            view = coarser(scene, float(np.exp(rng.uniform(0.0, np.log(config.coarsest)))))
            view = replace(view, polygons=[polygon for polygon in view.polygons if polygon.area >= MIN_AREA_PIXELS])
        for tile in tiles(view):
            chosen = rng.permutation(len(tile.polygons))[: config.objects_per_tile]
            masks = cell_samples(np.stack([burn([tile.polygons[one]], TILE_SIZE, TILE_SIZE) > 0 for one in chosen]))
            masks = masks[masks.any((1, 2))]
            if len(masks):
                image = recolour(tile.image, rng) if number else tile.image
                turn = int(rng.integers(4))
                yield np.ascontiguousarray(np.rot90(image, turn)), np.ascontiguousarray(np.rot90(masks, turn, (1, 2)))


def stand_images(count: int, seed: int) -> list[LabelledScene]:
    """Make synthetic images with some objects of every layer: trees, rows and stands."""
    rng = np.random.default_rng(seed)
    scenes = []
    for number in range(count):
        made = synthetic_stands(STAND_SIDE, STAND_SIDE, seed=1000 * (seed + 1) - 1 - number)
        some = [layer[place] for layer in made.layers for place in rng.permutation(len(layer))[:_OBJECTS_OF_LAYER]]
        scenes.append(
            LabelledScene("stands", made.image, [polygon for polygon in some if polygon.area >= MIN_AREA_PIXELS])
        )
    return scenes


def _answers(
    net: MiniNet, image: NDArray[np.uint8], masks: NDArray[np.bool_], rng: np.random.Generator, config: ScoreConfig
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield statistics, true IoU and ambiguity of the answers of each round, a few objects at a time."""
    seen: list[Tensor] = []
    hook = net.decoder.score.register_forward_pre_hook(lambda _, given: seen.append(given[0].float()))
    packed = net.encoder(normalise(torch.from_numpy(image)[None]).contiguous(memory_format=torch.channels_last))
    context = net.decoder.context(packed)
    for begin in range(0, len(masks), _OBJECTS_AT_ONCE):
        some = masks[begin : begin + _OBJECTS_AT_ONCE]
        truth = torch.from_numpy(some).to(torch.float32)[:, None]
        users = [(SimulatedUser(some, rng), config.rounds)]
        users += [(SimulatedUser(some, rng, click_share=1.0), 1) for _ in range(config.clicks)]
        for user, rounds in users:
            previous, has_mask = torch.zeros_like(truth), torch.zeros(len(some))
            for turn in range(rounds):
                coords, labels = (torch.from_numpy(part) for part in user.points())
                ambiguous = torch.from_numpy(user.single_click.astype(np.float32))
                answer, scores, _ = net.decoder(context, coords, labels, previous, has_mask)
                yield seen.pop(), mask_iou(answer, truth), ambiguous
                if turn + 1 < rounds:
                    previous = answer[torch.arange(len(some)), shown_first(scores, ambiguous)][:, None]
                    has_mask = torch.ones(len(some))
                    user.correct((previous[:, 0] > 0).numpy())
    hook.remove()


def learn(score: nn.Module, answers: Answers, config: ScoreConfig) -> None:
    """Fit the layers of the score to answers."""
    torch.manual_seed(config.seed)
    optimizer = torch.optim.AdamW(score.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
    for _ in range(config.steps):
        chosen = torch.multinomial(answers.weight, config.batch, replacement=True)
        scores = torch.sigmoid(score(answers.statistics[chosen]))[:, :, 0]
        loss = score_loss(scores, answers.reached[chosen], answers.ambiguous[chosen]).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


def score_run(run: Path, data: Path | None, config: ScoreConfig | None = None) -> Path:
    """Train the score of a run's best weights, and write the result beside them.

    Parameters
    ----------
    run : Path
        Folder of a training.
    data : Path or None
        Folder of labelled imagery; None takes ``GEOSAM_ES_DATA``.
    config : ScoreConfig, optional

    Returns
    -------
    Path
        The checkpoint.

    Raises
    ------
    RasterError
        If training imagery is missing.
    ModelError
        If there are no weights, or no objects to learn from.
    OutputError
        If the run's folder cannot be written to.
    """
    begun = time.monotonic()
    net, trained = load_checkpoint(best_checkpoint(run))
    chosen = config or ScoreConfig()
    known = training_scenes(data_folder(data))
    scenes = [scene for kind in chosen.kinds for scene in known.get(kind, [])]
    scenes += stand_images(chosen.stands, chosen.seed)
    learn(net.decoder.score, collect(net, scenes, chosen), chosen)
    trained["seconds"] += time.monotonic() - begun
    return save_checkpoint(net.state_dict(), trained, run / _SCORED)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m encoder_tools.mini.score_training", description=__doc__)
    parser.add_argument("run", type=Path, help="folder given to train-mini as --out")
    parser.add_argument("--data", type=Path, help="folder of labelled imagery (default: GEOSAM_ES_DATA)")
    options = parser.parse_args()
    try:
        print(f"written: {score_run(options.run, options.data)}")
    except GeoSamError as error:
        parser.exit(2, f"error: {error.user_message}\n")


if __name__ == "__main__":
    main()
