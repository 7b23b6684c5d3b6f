"""Training of the score of `mini`: its data, its effect, and that nothing else changes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import shapely

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from encoder_tools.mini.config import ScoreConfig  # noqa: E402
from encoder_tools.mini.export import load_checkpoint  # noqa: E402
from encoder_tools.mini.labelled_tiles import LabelledScene  # noqa: E402
from encoder_tools.mini.losses import score_loss  # noqa: E402
from encoder_tools.mini.network import MiniNet  # noqa: E402
from encoder_tools.mini.score_training import Answers, collect, learn, score_run, stand_images  # noqa: E402
from encoder_tools.synthetic import synthetic_orthophoto  # noqa: E402
from encoder_tools.training.answers import shown_first  # noqa: E402
from geosam_es.errors import ModelError  # noqa: E402

SMALL = ScoreConfig(
    ("fields",), 0, 2, coarsest=1.3, objects_per_tile=2, rounds=2, clicks=1, steps=30, batch=16, learning_rate=1e-2
)


@pytest.fixture(scope="module")
def scene() -> LabelledScene:
    drawn = synthetic_orthophoto(400, 300, 0.6, seed=4)
    polygons = [shapely.make_valid(polygon) for _, polygon in drawn.objects if polygon.area > 600][:3]
    return LabelledScene("fields/train", drawn.image, polygons)


@pytest.fixture(scope="module")
def net() -> MiniNet:
    torch.manual_seed(1)
    return MiniNet()


@pytest.fixture(scope="module")
def answers(net: MiniNet, scene: LabelledScene) -> Answers:
    other = LabelledScene("landcover/train water", scene.image, scene.polygons[:1])
    return collect(net, [scene, other], SMALL)


def test_answers_of_every_round_are_collected(net: MiniNet, answers: Answers) -> None:
    fields, water = 2 * 2 * (2 + 1), 1 * 2 * (2 + 1)  # objects, passes, rounds and single clicks besides
    assert answers.statistics.shape == (fields + water, 4, net.decoder.score[0].in_features)
    assert answers.reached.shape == (fields + water, 4)
    assert ((answers.reached >= 0) & (answers.reached <= 1)).all() and answers.reached.any()
    assert answers.weight[:fields].sum() == pytest.approx(0.5) == answers.weight[fields:].sum()
    assert not answers.ambiguous[2:4].any(), "a second prompt is not ambiguous"
    assert answers.ambiguous[4:6].all(), "a click besides is"


def test_the_score_follows_from_the_statistics(net: MiniNet, scene: LabelledScene) -> None:
    scores = []
    hook = net.decoder.register_forward_hook(lambda _, __, given: scores.append(given[1]))
    found = collect(net, [scene], dataclasses.replace(SMALL, passes=1))
    hook.remove()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = torch.sigmoid(net.decoder.score(found.statistics))[:, :, 0]
    torch.testing.assert_close(again, torch.cat(scores))


def test_training_makes_the_score_prefer_the_better_candidate(answers: Answers) -> None:
    torch.manual_seed(0)
    better = torch.rand(200, 4)
    statistics = torch.cat([better[:, :, None], torch.rand(200, 4, 3)], dim=2)
    known = Answers(statistics, better, torch.ones(200), torch.full((200,), 1 / 200))
    score = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    before = score_loss(torch.sigmoid(score(statistics))[:, :, 0], better, known.ambiguous).mean()
    learn(score, known, dataclasses.replace(SMALL, steps=300))
    scores = torch.sigmoid(score(statistics))[:, :, 0]
    assert score_loss(scores, better, known.ambiguous).mean() < 0.3 * before
    shown = shown_first(scores, known.ambiguous)
    assert (shown == better[:, 1:].argmax(1) + 1).float().mean() > 0.9
    assert not shown_first(scores, torch.zeros(200)).any()


def test_training_the_score_does_not_change_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, net: MiniNet, scene: LabelledScene
) -> None:
    known = {"fields": [scene], "stones": [dataclasses.replace(scene, polygons=[])]}
    monkeypatch.setattr("encoder_tools.mini.score_training.training_scenes", lambda _: known)
    torch.save({"average": net.state_dict(), "step": 7, "seconds": 3.0}, tmp_path / "checkpoint.pt")
    path = score_run(tmp_path, tmp_path, SMALL)
    assert path == tmp_path / "scored.pt"
    scored, trained = load_checkpoint(path)
    assert trained["step"] == 7 and trained["seconds"] > 3.0
    changed = {name for name, value in scored.state_dict().items() if not torch.equal(value, net.state_dict()[name])}
    assert changed == {f"decoder.score.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")}


def test_imagery_without_objects_is_one_clear_error(net: MiniNet) -> None:
    with pytest.raises(ModelError, match="no objects"):
        collect(net, [LabelledScene("fields/train", np.zeros((64, 64, 3), np.uint8), [])], SMALL)


def test_synthetic_images_have_some_objects_of_every_layer() -> None:
    (scene,) = stand_images(1, seed=2)
    areas = sorted(polygon.area for polygon in scene.polygons)
    assert 3 < len(areas) <= 36
    assert areas[0] >= 100 and areas[-1] > 20 * areas[0]
