"""Settings of the network and of its training."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

PACKED_CHANNELS = 512
"""Channels of ``image_embeddings``: 16 at 1/4, 32 at 1/8 and 128 at 1/16, the first two pixel-unshuffled."""


@dataclass(frozen=True)
class CropPlan:
    """The shape of a training step.

    Attributes
    ----------
    size : int
        Side of the square crop in pixels, a multiple of 32.
    crops, objects : int
        Crops per step and process, and prompted objects per crop.
    share : float
        Relative frequency of this plan.
    """

    size: int
    crops: int
    objects: int
    share: float


@dataclass(frozen=True)
class Continuation:
    """A further stage of a training, whose result is the mean of the weights before and after it.

    Attributes
    ----------
    steps : int
    learning_rate : float
    """

    steps: int
    learning_rate: float


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training run.

    Attributes
    ----------
    steps : int
        Length of the run, unless a time limit ends it earlier. The learning rate falls to zero over it.
    continuations : tuple of Continuation
        Stages after this one. Each has the other settings of this run, but batch normalisation keeps its statistics.
    kept_kinds : tuple of str
        Kinds on which a model that is trained further is held to its earlier answers, so that it forgets less.
    keep : float
        Weight of the `losses.change_loss` that holds it; 0 in a training from scratch.
    warm_up_steps : int
        Steps over which the learning rate rises.
    learning_rate, weight_decay, clip_norm : float
        AdamW and gradient clipping.
    ema_decay : float
        Decay of the averaged weights, which are exported.
    freeze_norm_at : float
        Share of the run after which batch normalisation keeps its running statistics. Later batches have fewer,
        larger crops, too few for statistics.
    whole_tiles_at : float
        Share of the run after which some crops are as large as a tile. They take several times as long.
    early_plans, late_plans, last_plans : tuple of CropPlan
        Crop shapes before, between and after these moments.
    source_shares : dict of str to float
        Share of each kind of imagery.
    checkpoint_every, validate_every : int
        Steps between checkpoints, and between validations.
    patience : int
        The run ends after this many validations in a row without an improvement.
    processes : int
        Processes of one thread each whose gradients are averaged (CPU only).
    seed : int
        Seed of weights and data.
    """

    steps: int = 5600
    continuations: tuple[Continuation, ...] = (Continuation(2500, 5e-4), Continuation(3000, 5e-4))
    kept_kinds: tuple[str, ...] = ("buildings", "fields")
    keep: float = 0.0
    warm_up_steps: int = 150
    learning_rate: float = 1.3e-3
    weight_decay: float = 0.02
    clip_norm: float = 1.0
    ema_decay: float = 0.998
    freeze_norm_at: float = 0.15
    whole_tiles_at: float = 0.7
    early_plans: tuple[CropPlan, ...] = (CropPlan(320, 3, 6, 1.0),)
    late_plans: tuple[CropPlan, ...] = (
        CropPlan(320, 3, 6, 0.25),
        CropPlan(448, 2, 6, 0.4),
        CropPlan(640, 1, 8, 0.35),
    )
    last_plans: tuple[CropPlan, ...] = (
        CropPlan(320, 3, 6, 0.2),
        CropPlan(448, 2, 6, 0.3),
        CropPlan(640, 1, 8, 0.3),
        CropPlan(1024, 1, 10, 0.2),
    )
    source_shares: dict[str, float] = field(
        default_factory=lambda: {
            "buildings": 0.22,
            "fields": 0.22,
            "landcover": 0.14,
            "coast": 0.10,
            "flanders": 0.03,
            "atlanta": 0.02,
            "stones": 0.03,
            "synthetic": 0.04,
            "stands": 0.20,
        }
    )
    checkpoint_every: int = 100
    validate_every: int = 400
    patience: int = 8
    processes: int = 2
    seed: int = 7

    def stages(self, continue_only: bool) -> list[TrainConfig]:
        """Return the settings of every stage; for a finished model, of the last one alone, with ``keep``.

        Each has a seed of its own.
        """
        further = [
            dataclasses.replace(
                self,
                steps=stage.steps,
                learning_rate=stage.learning_rate,
                continuations=(),
                keep=1.0 if continue_only else self.keep,
                freeze_norm_at=0.0,
                seed=self.seed + number,
            )
            for number, stage in enumerate(self.continuations, start=1)
        ]
        return further[-1:] if continue_only else [dataclasses.replace(self, continuations=()), *further]

    def to_json(self) -> dict[str, object]:
        """Return the settings as plain values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class ScoreConfig:
    """Settings of the last step, in which the score is trained on whole tiles; see `score_training`.

    Attributes
    ----------
    kinds : tuple of str
        Kinds of training images. Those with a single image, and pebbles, say little about other images.
    stands : int
        Synthetic images beside them, see `stands`.
    passes : int
        Passes over each image: the first with it unchanged, the others with changed colours and coarser pixels.
    coarsest : float
        Largest factor of the pixel size in those passes.
    objects_per_tile : int
        Largest number of objects prompted on a tile in a pass.
    rounds : int
        Prompts of an object: a first one, then corrective clicks.
    clicks : int
        Further single clicks, each a prompt of its own. They are the most ambiguous, and have candidates to rank.
    steps, batch : int
        Steps of AdamW, and answers in each step.
    learning_rate, weight_decay : float
        Of AdamW; the rate falls to zero.
    seed : int
        Seed of prompts and steps.
    """

    kinds: tuple[str, ...] = ("buildings", "fields", "landcover", "coast")
    stands: int = 16
    passes: int = 3
    coarsest: float = 4.0
    objects_per_tile: int = 10
    rounds: int = 3
    clicks: int = 3
    steps: int = 2500
    batch: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    seed: int = 7
