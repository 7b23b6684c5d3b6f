"""The exported decoder against segment_anything's SamPredictor, on the same weights and features.

The weights are random but not idle: attention is sharpened until masks have both signs and differ between
prompts, as those of a trained model do.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("segment_anything") is None:  # it imports only with torchvision or its placeholders
    pytest.skip("segment_anything is not installed", allow_module_level=True)

from benchmarks.speed.sam import export_official_decoder  # noqa: E402
from encoder_tools.models.export import export_model  # noqa: E402
from encoder_tools.models.fast_decoder.networks import CONTEXT_NAMES  # noqa: E402
from encoder_tools.models.fast_decoder.transformer import FEW_TOKENS  # noqa: E402
from encoder_tools.models.sam.weights import LoadedSam, random_sam  # noqa: E402
from geosam_es.inference.runtime import OnnxGraph  # noqa: E402

PROMPT_SETS = 108
PLACES = 64 * 64
ALL_MASKS = slice(0, 4)


@dataclass(frozen=True)
class PromptSet:
    """Prompts of one object: points (N, 2) with labels (N,), a box (4,), logits (256, 256)."""

    points: Any
    labels: Any
    box: Any
    mask: Any

    def feeds(self) -> dict[str, Any]:
        """Return the exported decoder's inputs, by the convention of segment_anything's own export."""
        coords, labels = self.points, self.labels
        if self.box is None:
            coords, labels = np.concatenate([coords, np.zeros((1, 2))]), np.append(labels, -1)
        else:
            coords, labels = np.concatenate([coords, self.box.reshape(2, 2)]), np.append(labels, [2, 3])
        mask = np.zeros((256, 256)) if self.mask is None else self.mask
        return {
            "point_coords": coords[None].astype(np.float32),
            "point_labels": labels[None].astype(np.float32),
            "mask_input": mask[None, None].astype(np.float32),
            "has_mask_input": np.array([self.mask is not None], np.float32),
        }


@dataclass(frozen=True)
class Answer:
    """Logits (4, 256, 256) and scores (4,), the single-mask token's first."""

    masks: Any
    scores: Any


def liven(sam: LoadedSam) -> None:
    """Sharpen the attention of random weights, and widen the logits to what a trained model gives."""
    with torch.no_grad():
        for name, weight in sam.network.mask_decoder.named_parameters():
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                weight.mul_(4)
            elif name.endswith(("v_proj.weight", "out_proj.weight")):
                weight.mul_(2)
            elif "output_hypernetworks_mlps" in name and name.endswith("layers.2.weight"):
                weight.mul_(10)


def random_prompts(generator: np.random.Generator, index: int) -> PromptSet:
    kind = ("points", "box", "both")[index % 3]
    count = 0 if kind == "box" else int(generator.integers(1, 9))
    corners = np.sort(generator.uniform(0, 1024, (2, 2)), axis=0)
    smooth = np.kron(generator.normal(0, 6, (16, 16)), np.ones((16, 16)))
    return PromptSet(
        points=generator.uniform(0, 1024, (count, 2)),
        labels=generator.integers(0, 2, count),
        box=None if kind == "points" else corners.ravel(),
        mask=smooth if index % 2 else None,
    )


@pytest.fixture(scope="module")
def sam() -> LoadedSam:
    loaded = random_sam("vit_b", seed=0)
    liven(loaded)
    return loaded


@pytest.fixture(scope="module")
def features() -> Any:
    """Return features of unit variance, as the image encoder's last normalisation gives."""
    return np.random.default_rng(1).standard_normal((1, 256, 64, 64), dtype=np.float32)


@pytest.fixture(scope="module")
def prompt_sets() -> list[PromptSet]:
    generator = np.random.default_rng(2)
    return [random_prompts(generator, index) for index in range(PROMPT_SETS)]


class Exported:
    """The exported pair of graphs on one tile's features."""

    def __init__(self, directory: Path, features: Any) -> None:
        self.graph = OnnxGraph(directory / "decoder.onnx", threads=1)
        prepare = OnnxGraph(directory / "prepare.onnx", threads=1)
        self.context = prepare.run({"image_embeddings": features}, CONTEXT_NAMES)

    def run(self, feeds: dict[str, Any]) -> dict[str, Any]:
        return self.graph.run({**self.context, **feeds})

    def shown(self, prompts: PromptSet, places: int) -> tuple[Any, float]:
        outputs = self.run({**prompts.feeds(), "refined_places": np.array(places)})
        assert outputs["low_res_masks"].shape == (1, 1, 256, 256)
        return outputs["low_res_masks"][0, 0], float(outputs["iou_predictions"][0, 0])

    def answer(self, prompts: PromptSet) -> Answer:
        outputs = self.run(prompts.feeds())
        return Answer(outputs["low_res_masks"][0], outputs["iou_predictions"][0])


@pytest.fixture(scope="module")
def directory(sam: LoadedSam, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sam")
    export_model(sam, path)
    return path


@pytest.fixture(scope="module")
def exported(directory: Path, features: Any) -> Exported:
    return Exported(directory, features)


def predictor_on(sam: LoadedSam, features: Any) -> Any:
    from segment_anything import SamPredictor

    predictor = SamPredictor(sam.network)
    predictor.features = torch.from_numpy(features)
    predictor.original_size = predictor.input_size = (1024, 1024)
    predictor.is_image_set = True
    # Its masks at full size are not compared, and take longer than all the rest.
    sam.network.postprocess_masks = lambda masks, *_: masks
    return predictor


@contextmanager
def computed_once(decoder: Any) -> Iterator[None]:
    """Let SAM's mask decoder answer the same prompts twice from one computation.

    It always computes all four masks; ``multimask_output`` only says whether it returns the first or the others.
    """
    answer = None

    def predict_masks(**feeds: Any) -> Any:
        nonlocal answer
        answer = type(decoder).predict_masks(decoder, **feeds) if answer is None else answer
        return answer

    decoder.predict_masks = predict_masks
    try:
        yield
    finally:
        del decoder.predict_masks


def predict(predictor: Any, prompts: PromptSet, multimask: bool) -> Answer:
    def batch(array: Any) -> Any:
        return None if array is None else torch.from_numpy(np.asarray(array, np.float32))[None]

    _, scores, masks = predictor.predict_torch(
        point_coords=batch(prompts.points) if len(prompts.points) else None,
        point_labels=batch(prompts.labels) if len(prompts.points) else None,
        boxes=batch(prompts.box),
        mask_input=None if prompts.mask is None else batch(prompts.mask[None]),
        multimask_output=multimask,
    )
    return Answer(masks[0].numpy(), scores[0].numpy())


@pytest.fixture(scope="module")
def answers(exported: Exported, sam: LoadedSam, features: Any, prompt_sets: list[PromptSet]) -> Any:
    """Return pairs of the exported decoder's and SamPredictor's answers: the single mask, and the three."""
    predictor = predictor_on(sam, features)
    pairs = []
    for prompts in prompt_sets:
        ours = exported.answer(prompts)
        with computed_once(sam.network.mask_decoder):
            for multimask, kept in ((False, slice(0, 1)), (True, slice(1, None))):
                pairs.append((Answer(ours.masks[kept], ours.scores[kept]), predict(predictor, prompts, multimask)))
    return pairs


def relative(got: Any, wanted: Any) -> float:
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def worst_iou(got: Any, wanted: Any) -> float:
    a, b = got > 0, wanted > 0
    return float(((a & b).sum((1, 2)) / (a | b).sum((1, 2)).clip(min=1)).min())


def test_the_compared_masks_are_not_trivial(answers: Any) -> None:
    inside = np.concatenate([(wanted.masks > 0).mean((1, 2)) for _, wanted in answers])
    assert inside.min() > 0.02
    assert inside.max() < 0.98
    single = [wanted.masks[0] for _, wanted in answers if len(wanted.masks) == 1]
    neighbours = [worst_iou(a[None], b[None]) for a, b in zip(single, single[1:])]
    assert np.mean(neighbours) < 0.8, "prompts must matter, or their handling is not tested"


def test_logits_and_masks_equal_sam_predictors(answers: Any, record_property: Any) -> None:
    assert len(answers) >= 200
    error = max(relative(ours.masks, wanted.masks) for ours, wanted in answers)
    iou = min(worst_iou(ours.masks, wanted.masks) for ours, wanted in answers)
    record_property("largest relative difference of logits", error)
    record_property("smallest mask IoU", iou)
    print(f"\n{len(answers)} answers: logits within {error:.1e}, mask IoU >= {iou:.5f}")
    assert error < 1e-3
    assert iou >= 0.999


def test_scores_equal_sam_predictors(answers: Any) -> None:
    assert max(np.abs(ours.scores - wanted.scores).max() for ours, wanted in answers) < 1e-4
    assert np.std([wanted.scores[0] for _, wanted in answers]) > 0.01


@pytest.mark.parametrize("count", [1, FEW_TOKENS - 6, FEW_TOKENS - 5, 20, 40])
def test_any_number_of_points(exported: Exported, sam: LoadedSam, features: Any, count: int) -> None:
    """With five output tokens and a padding point, the second and third lie on both sides of the limit."""
    generator = np.random.default_rng(count)
    predictor = predictor_on(sam, features)
    for with_box in (False, True):
        for with_mask in (False, True):
            prompts = PromptSet(
                points=generator.uniform(0, 1024, (count, 2)),
                labels=generator.integers(0, 2, count),
                box=np.array([100.0, 200.0, 700.0, 900.0]) if with_box else None,
                mask=np.kron(generator.normal(0, 6, (16, 16)), np.ones((16, 16))) if with_mask else None,
            )
            ours, wanted = exported.answer(prompts), predict(predictor, prompts, multimask=True)
            assert relative(ours.masks[1:], wanted.masks) < 1e-3
            assert worst_iou(ours.masks[1:], wanted.masks) >= 0.999
            assert np.abs(ours.scores[1:] - wanted.scores).max() < 1e-4


def smooth(generator: np.random.Generator, sigma: float) -> Any:
    """Return features as an image gives them, alike at neighbouring places: (1, 256, 64, 64) of unit variance."""
    along = np.abs(np.fft.fftfreq(64)) * 64
    falling = np.exp(-(along[:, None] ** 2 + along**2) / (2 * (64 / sigma / 6) ** 2))
    maps = np.fft.ifft2(np.fft.fft2(generator.standard_normal((1, 256, 64, 64))) * falling).real
    return (maps / maps.std()).astype(np.float32)


def test_the_mask_to_show_first_equals_that_of_the_whole_answer(tmp_path: Path, record_property: Any) -> None:
    """The pixels of a place are alike in a trained model, and so they are made here."""
    sam = random_sam("vit_b", seed=0)
    liven(sam)
    with torch.no_grad():
        for index in (0, 3):
            kernel = sam.network.mask_decoder.output_upscaling[index].weight
            mean = kernel.mean((2, 3), keepdim=True)
            kernel.copy_(2 * mean + 0.03 * (kernel - mean))
    export_model(sam, tmp_path)
    generator = np.random.default_rng(4)
    exported = Exported(tmp_path, smooth(generator, sigma=4))
    ious, bounded, exact = [], [], []
    for index in range(24):
        prompts = random_prompts(generator, index)
        answer, (mask, score) = exported.answer(prompts), exported.shown(prompts, PLACES)
        is_click = prompts.box is None and len(prompts.points) == 1
        shown = 1 + int(np.argmax(answer.scores[1:])) if is_click else 0
        wanted = answer.masks[shown]
        assert score == pytest.approx(answer.scores[shown], abs=1e-6)
        if 0.02 < (wanted > 0).mean() < 0.98:
            ious.append(worst_iou(mask[None], wanted[None]))
            bounded.append(worst_iou(exported.shown(prompts, PLACES // 8)[0][None], wanted[None]))
        exact.append(np.abs(mask - wanted) < 1e-4 * np.abs(wanted).max())
    record_property("smallest mask IoU of the mask to show first", min(ious))
    record_property("the same, an eighth of the places worked out", min(bounded))
    print(f"\nIoU >= {min(ious):.5f} ({min(bounded):.5f} if bounded), exact in {np.mean(exact):.0%} of the pixels")
    assert len(ious) >= 8
    assert min(ious) >= 0.999
    # Random weights draw borders through many more places than that.
    assert 0.9 < min(bounded) < min(ious)
    assert np.mean(exact) < 0.8, "nothing was left out"


@pytest.mark.parametrize("places", [1, 100, 512, 700])
def test_no_more_places_are_computed_than_allowed(
    exported: Exported, prompt_sets: list[PromptSet], places: int
) -> None:
    answer, (mask, _) = exported.answer(prompt_sets[0]), exported.shown(prompt_sets[0], places)
    is_click = prompt_sets[0].box is None and len(prompt_sets[0].points) == 1
    wanted = answer.masks[1 + int(np.argmax(answer.scores[1:])) if is_click else 0]
    whole = (np.abs(mask - wanted) < 1e-4 * np.abs(wanted).max()).reshape(64, 4, 64, 4).all((1, 3))
    alike = (mask.reshape(64, 4, 64, 4) == mask[1::4, 1::4].reshape(64, 1, 64, 1)).all((1, 3))
    assert whole.sum() == places
    np.testing.assert_array_equal(whole, ~alike)


def test_float16_features_hardly_matter(
    directory: Path, exported: Exported, features: Any, prompt_sets: list[PromptSet], record_property: Any
) -> None:
    rounded = Exported(directory, features.astype(np.float16).astype(np.float32))
    errors, ious = [], []
    for prompts in prompt_sets[:48]:
        got, wanted = rounded.answer(prompts), exported.answer(prompts)
        errors.append(relative(got.masks, wanted.masks))
        ious.append(worst_iou(got.masks, wanted.masks))
    record_property("float16 features: largest relative difference of logits", max(errors))
    record_property("float16 features: mean of the worst mask IoU", float(np.mean(ious)))
    record_property("float16 features: smallest mask IoU", min(ious))
    print(f"\nfloat16: logits within {max(errors):.1e}, IoU mean {np.mean(ious):.5f}, worst {min(ious):.5f}")
    # Random features and sharpened attention amplify rounding more than a trained model does.
    assert max(errors) < 5e-2
    assert min(ious) > 0.98


def test_a_batch_equals_one_by_one(exported: Exported, prompt_sets: list[PromptSet]) -> None:
    alike = [prompts for prompts in prompt_sets if prompts.feeds()["point_coords"].shape[1] == 4][:5]
    assert {prompts.mask is None for prompts in alike} == {True, False}
    single = [exported.answer(prompts) for prompts in alike]
    feeds = [prompts.feeds() for prompts in alike]
    together = exported.run({name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]})
    assert together["low_res_masks"].shape == (5, 4, 256, 256)
    assert together["iou_predictions"].shape == (5, 4)
    for index, answer in enumerate(single):
        assert relative(together["low_res_masks"][index], answer.masks) < 1e-4
        assert np.abs(together["iou_predictions"][index] - answer.scores).max() < 1e-4


def test_one_flag_serves_a_whole_batch(exported: Exported, prompt_sets: list[PromptSet]) -> None:
    prompts = next(item for item in prompt_sets if item.mask is not None)
    feeds = {name: np.repeat(array, 2, axis=0) for name, array in prompts.feeds().items()}
    feeds["has_mask_input"] = np.ones(1, np.float32)
    masks = exported.run(feeds)["low_res_masks"]
    assert relative(masks[1], exported.answer(prompts).masks) < 1e-4


@pytest.mark.parametrize("return_single_mask", [False, True])
def test_the_official_graph_gives_the_same_answers(
    sam: LoadedSam,
    tmp_path: Path,
    exported: Exported,
    features: Any,
    prompt_sets: list[PromptSet],
    return_single_mask: bool,
) -> None:
    export_official_decoder(sam, tmp_path / "official.onnx", return_single_mask)
    official = OnnxGraph(tmp_path / "official.onnx", threads=1)
    for prompts in prompt_sets[:12]:
        feeds = {**prompts.feeds(), "image_embeddings": features}
        feeds["orig_im_size"] = np.array([300, 400], np.float32)
        outputs = official.run(feeds)
        ours = exported.answer(prompts)
        chosen = ALL_MASKS
        if return_single_mask:
            many = feeds["point_coords"].shape[1] > 2
            best = 0 if many else 1 + int(np.argmax(ours.scores[1:]))
            chosen = slice(best, best + 1)
        assert outputs["masks"].shape[2:] == (300, 400)
        assert relative(outputs["low_res_masks"][0], ours.masks[chosen]) < 1e-3
        assert np.abs(outputs["iou_predictions"][0] - ours.scores[chosen]).max() < 1e-4
