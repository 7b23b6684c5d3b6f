"""Samples, window batches, simulated prompts, and the loss."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import numpy as np
import pytest
import shapely
import torch

from encoder_tools.evaluation.ground_truth import Located, TruthObject, locate, read_truth
from encoder_tools.finetune.feature_cache import FeatureCache
from encoder_tools.finetune.learners import StoredLearner
from encoder_tools.finetune.losses import tuning_loss
from encoder_tools.finetune.training_samples import Sample, make_samples
from encoder_tools.finetune.training_step import accumulate_gradients
from encoder_tools.finetune.tunable_decoder import Answer, PromptTensors
from encoder_tools.finetune.window_batches import plan_epoch
from encoder_tools.training.answers import mask_iou
from geosam_es.core.prompts import Bounds, Point, Prompts
from geosam_es.store import StoreReader
from tests.encoder_tools.tuning_scenes import MINI, mini_features, object_boxes, on_map, write_layer, write_store

BOXES = object_boxes(9, 5)


class Recorder:
    """A decoder that records its prompts and returns a constant."""

    window_cells = (20, 28, 40, 52, 64)
    objects_at_once = 3
    learning_rate = 1e-3

    def __init__(self) -> None:
        self.module = torch.nn.Linear(1, 1)
        self.sides: list[int] = []
        self.asked: list[PromptTensors] = []
        self.answer = -1.0

    def prepare(self, embeddings: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self.sides.append(embeddings.shape[2])
        return (embeddings * self.module.weight,)

    def decode(self, context: tuple[torch.Tensor, ...], prompts: PromptTensors) -> Answer:
        self.asked.append(prompts)
        side = 4 * context[0].shape[2]
        bias = context[0].mean() * 0 + self.answer
        count = len(prompts.coords)
        return Answer(bias.expand(count, 4, side, side), bias.expand(count, 4))

    def learn(self, context, prompts, truth, ambiguous):  # type: ignore[no-untyped-def]
        answer = self.decode(context, prompts)
        return answer, tuning_loss(answer, truth, ambiguous).mean()

    def export(self, folder: Path) -> None:
        raise AssertionError("not used here")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> StoreReader:
    folder = tmp_path_factory.mktemp("samples")
    for name in ("prepare.onnx", "decoder.onnx"):
        (folder / name).touch()
    return StoreReader(write_store(folder, 0, mini_features(BOXES), folder, dict(MINI)))


@pytest.fixture(scope="module")
def samples(reader: StoreReader) -> list[Sample]:
    objects = [TruthObject(str(n), shapely.box(*box)) for n, box in enumerate(BOXES)]
    return make_samples([reader], Located([objects]))[0]


def test_a_sample_is_rasterized_on_the_grid_of_the_logits(samples: list[Sample]) -> None:
    assert len(samples) == len(BOXES)
    for sample, (left, top, right, bottom) in zip(samples, BOXES):
        middles = 4 * np.arange(256) + 2
        wanted = ((middles >= top) & (middles < bottom))[:, None] & (middles >= left) & (middles < right)
        assert (sample.mask == wanted).all()
        rows, cols = np.nonzero(wanted)
        assert sample.window == (rows.min(), rows.max() + 1, cols.min(), cols.max() + 1)


def test_objects_that_are_too_small_are_left_out(reader: StoreReader, tmp_path: Path) -> None:
    layer = write_layer(tmp_path / "t.gpkg", [on_map(0, (100, 100, 106, 106)), on_map(0, (200, 200, 260, 260))])
    kept, left_out = make_samples([reader], locate(read_truth(layer), [reader]))
    assert [sample.truth.object_id for sample in kept] == ["2"]
    assert left_out == {"1": "smaller than 4 mask cells"}


def test_every_object_is_in_one_window_that_holds_it(samples: list[Sample]) -> None:
    decoder = Recorder()
    for seed in range(20):
        batches = plan_epoch(samples, decoder, np.random.default_rng(seed))
        seen = [sample.truth.object_id for batch in batches for sample in batch.samples]
        assert sorted(seen) == sorted(sample.truth.object_id for sample in samples)
        for batch in batches:
            assert batch.side in decoder.window_cells and len(batch.samples) <= 3
            assert 0 <= batch.row <= 64 - batch.side and 0 <= batch.col <= 64 - batch.side
            for sample in batch.samples:
                low_row, high_row, low_col, high_col = (value / 4 for value in sample.window)
                assert batch.row <= low_row and high_row <= batch.row + batch.side
                assert batch.col <= low_col and high_col <= batch.col + batch.side
    first, second = (plan_epoch(samples, decoder, np.random.default_rng(seed)) for seed in (1, 1))
    assert first == second


def test_prompts_are_in_the_window_and_answers_are_fed_back(reader: StoreReader, samples: list[Sample]) -> None:
    decoder = Recorder()
    rng = np.random.default_rng(0)
    cache = FeatureCache([reader])
    for batch in plan_epoch(samples, decoder, rng):
        before = len(decoder.asked)
        accumulate_gradients(decoder, cache, batch, rng, 8)
        rounds = decoder.asked[before:]
        assert decoder.sides[-1] == batch.side
        for turn, asked in enumerate(rounds):
            known = asked.labels >= 0
            assert asked.coords[known].min() >= 0 and asked.coords[known].max() <= 16 * batch.side
            assert (asked.has_mask == (turn > 0)).all()
            assert bool((asked.mask_input == -1).all()) == (turn > 0)
        assert len({tuple(asked.labels.shape) for asked in rounds}) == len(rounds)
    weight = decoder.module.weight.grad
    assert weight is not None


def test_prompts_of_the_user_are_used(reader: StoreReader) -> None:
    left, top, right, bottom = BOXES[0]
    given = Prompts(
        (Point(left + 11.0, top + 13.0), Point(left + 5.0, top + 7.0, False)), Bounds(left, top, right, bottom)
    )
    truth = TruthObject("1", shapely.box(*BOXES[0]), prompts=given)
    (sample,), _ = make_samples([reader], Located([[truth]]))
    assert sample.prompts == given
    decoder = Recorder()
    seen = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        (batch,) = plan_epoch([sample], decoder, rng)
        start = len(decoder.asked)
        accumulate_gradients(decoder, FeatureCache([reader]), batch, rng, 8)
        first = decoder.asked[start]
        if first.labels.tolist() == [[1, 0, 2, 3]]:
            seen += 1
            origin = np.array([16 * batch.col, 16 * batch.row])
            assert (first.coords[0].numpy() + origin).tolist() == [
                [left + 11, top + 13],
                [left + 5, top + 7],
                [left, top],
                [right, bottom],
            ]
    assert 8 <= seen <= 32


def test_features_are_read_once_while_there_is_room(reader: StoreReader, samples: list[Sample]) -> None:
    reads = []

    class Counting(StoreReader):
        def read(self, tile):  # type: ignore[no-untyped-def]
            reads.append(tile)
            return super().read(tile)

    counting = Counting(reader.root)
    place = samples[0].place
    cache = FeatureCache([counting])
    (first,), (second,) = cache.read(place), cache.read(place)
    assert len(reads) == 1 and first.dtype == second.dtype == np.float32 and (first == second).all()
    narrow = FeatureCache([counting], max_bytes=1)
    narrow.read(place)
    narrow.read(place)
    assert len(reads) == 3


def test_validation_measures_the_mask_that_is_shown_first(reader: StoreReader, samples: list[Sample]) -> None:
    class Knowing(Recorder):
        objects_at_once = 1

        def decode(self, context: tuple[torch.Tensor, ...], prompts: PromptTensors) -> Answer:
            truth = torch.zeros(1, 1, 256, 256)
            for sample in samples:
                x, y = (prompts.coords[0, :2].mean(0) if prompts.labels[0, 0] == 2 else prompts.coords[0, 0]).tolist()
                if sample.mask[int(y // 4), int(x // 4)]:
                    truth[0, 0] = torch.from_numpy(sample.mask.astype(np.float32))
            logits = 10 * (2 * truth - 1)
            single = prompts.labels[0, 0] == 2 or len(prompts.labels[0]) > 1
            masks = torch.cat([logits if single else -logits, -logits, -logits if single else logits, -logits], dim=1)
            return Answer(masks, torch.tensor([[0.9, 0.1, 0.8, 0.2]]))

    assert StoredLearner(Knowing(), FeatureCache([reader])).answers(samples, Event()) == pytest.approx(
        np.ones((len(samples), 3))
    )
    assert not StoredLearner(Recorder(), FeatureCache([reader])).answers(samples, Event()).any()


def test_the_loss_falls_as_masks_get_better() -> None:
    truth = torch.zeros(1, 1, 64, 64)
    truth[..., 10:30, 10:30] = 1
    ambiguous = torch.zeros(1)

    def loss(mask: torch.Tensor, score: float, ambiguous: torch.Tensor = ambiguous) -> float:
        logits = (8 * (2 * mask - 1)).expand(1, 4, 64, 64)
        return float(tuning_loss(Answer(logits, torch.full((1, 4), score)), truth, ambiguous))

    shifted = torch.roll(truth, 4, 2)
    assert loss(truth, 1.0) < 0.01 < loss(truth, 0.5) < loss(shifted, 0.67) < loss(1 - truth, 0.0)
    # One correct candidate is enough for an ambiguous click.
    wrong = (8 * (2 * shifted - 1)).expand(1, 4, 64, 64).clone()
    some = wrong.clone()
    some[:, 2] = 8 * (2 * truth[:, 0] - 1)
    scores = mask_iou(some, truth)
    one = torch.ones(1)
    assert tuning_loss(Answer(some, scores), truth, one) < 0.6 * tuning_loss(Answer(wrong, scores), truth, one)
    assert scores[0].tolist() == pytest.approx([2 / 3, 2 / 3, 1.0, 2 / 3])


def test_a_mask_of_the_whole_tile_still_has_a_gradient() -> None:
    truth = torch.zeros(1, 1, 64, 64)
    truth[..., 30:34, 30:34] = 1
    logits = torch.full((1, 4, 64, 64), 5.0, requires_grad=True)
    loss = tuning_loss(Answer(logits, torch.zeros(1, 4)), truth, torch.zeros(1))
    loss.sum().backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert float(loss.detach()) < 8
    assert logits.grad[0, 0, 0, 0] > 0 > logits.grad[0, 0, 32, 32]
