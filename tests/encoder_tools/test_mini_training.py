"""Training runs of `mini`: export, errors, and runs that resume."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from benchmarks.mini.evaluate import OnnxMini, evaluate  # noqa: E402
from encoder_tools.mini.blocks import ShuffleUp  # noqa: E402
from encoder_tools.mini.config import Continuation, CropPlan, ScoreConfig, TrainConfig  # noqa: E402
from encoder_tools.mini.export import load_checkpoint, save_checkpoint, write_model  # noqa: E402
from encoder_tools.mini.labelled_tiles import LabelledScene  # noqa: E402
from encoder_tools.mini.network import MiniNet, normalise  # noqa: E402
from encoder_tools.mini.onnx_weights import load_network  # noqa: E402
from encoder_tools.mini.score_training import score_run  # noqa: E402
from encoder_tools.mini.sources import Scene, burn, data_folder, make_scene  # noqa: E402
from encoder_tools.mini.train import run_training  # noqa: E402
from encoder_tools.mini.trainer import Trainer, crop_plan  # noqa: E402
from encoder_tools.synthetic import synthetic_orthophoto  # noqa: E402
from geosam_es.errors import ModelError, RasterError  # noqa: E402
from geosam_es.inference.encoder import TILE_SIZE  # noqa: E402


@pytest.fixture(scope="module")
def scene() -> Scene:
    drawn = synthetic_orthophoto(512, 512, 0.3, seed=2)
    polygons = [polygon for name, polygon in drawn.objects if name != "road"]
    return make_scene("fields", drawn.image, burn(polygons, 512, 512))


def test_export_equals_the_network(tmp_path: Path) -> None:
    torch.manual_seed(3)
    net = MiniNet()
    net.train()
    with torch.no_grad():
        # One pass fills the running statistics, so that folding has something to fold.
        net.encoder(torch.randn(1, 3, 128, 128))
        for parameter in net.parameters():
            # The effect of float16 storage on the weights is not tested here.
            parameter.copy_(parameter.half().float())
    net.eval()
    write_model(net, tmp_path, {"step": 0, "seconds": 0.0})
    model = OnnxMini(tmp_path)
    tile = synthetic_orthophoto(1024, 1024, 0.3, seed=4).image
    prompts = [(300.0, 200.0, 2.0), (700.0, 640.0, 3.0), (420.0, 400.0, 1.0), (350.0, 500.0, 0.0)]
    previous = np.random.default_rng(1).normal(0, 5, (256, 256)).astype(np.float32)
    model.set_image(tile)
    masks, scores = model.predict(prompts, previous)
    with torch.no_grad():
        packed = net.encoder(normalise(torch.from_numpy(tile)[None])).half().float()
        points = torch.tensor(prompts)[None]
        expected = net.decoder(
            net.decoder.context(packed),
            points[..., :2],
            points[..., 2],
            torch.from_numpy(previous)[None, None],
            torch.ones(1),
        )
    np.testing.assert_allclose(masks, expected[0][0].numpy(), atol=0.02)
    np.testing.assert_allclose(scores, expected[1][0].numpy(), atol=2e-3)
    record = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    assert record["features"]["image_embeddings"] == [512, 64, 64]


def test_a_frozen_normalisation_is_part_of_the_convolution() -> None:
    torch.manual_seed(5)
    up = ShuffleUp(6, 4)
    norm = up.conv.norm
    with torch.no_grad():
        up(3 * torch.randn(2, 6, 9, 7) + 1)
        norm.weight.uniform_(0.5, 2)
        norm.bias.normal_()
    x = torch.randn(2, 6, 9, 7)
    up.eval()
    expected = torch.nn.functional.pixel_shuffle(norm(up.conv.conv(x)), 2)
    torch.testing.assert_close(up(x), expected)
    wanted = torch.autograd.grad(expected.square().sum(), list(up.parameters()))
    torch.testing.assert_close(
        torch.autograd.grad(up(x).square().sum(), list(up.parameters())), wanted, rtol=1e-4, atol=1e-4
    )


def test_crops_grow_during_a_run() -> None:
    config = TrainConfig()

    def sizes(progress: float) -> set[int]:
        is_frozen = progress >= config.freeze_norm_at
        return {crop_plan(config, step, progress, is_frozen).size for step in range(200)}

    assert sizes(0.0) == {320}
    assert sizes(config.whole_tiles_at - 0.01) == {320, 448, 640}
    assert sizes(config.whole_tiles_at) == {320, 448, 640, TILE_SIZE}


def test_missing_data_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEOSAM_ES_DATA", raising=False)
    with pytest.raises(RasterError, match="--data"):
        data_folder(None)
    with pytest.raises(RasterError, match="--data"):
        data_folder(tmp_path / "nowhere")
    with pytest.raises(RasterError, match=r"SOURCES\.md"):
        evaluate(tmp_path)
    with pytest.raises(RasterError, match=r"ortho_block0\.tif' is missing.*SOURCES\.md"):
        run_training(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_checkpoint_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(ModelError, match="checkpoint"):
        load_checkpoint(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match="checkpoint"):
        load_checkpoint(path)


def test_a_run_trains_stops_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scene: Scene) -> None:
    monkeypatch.setattr("encoder_tools.mini.trainer.load_scenes", lambda *_: [scene])
    plan = (CropPlan(64, 1, 2, 1.0),)
    config = TrainConfig(
        steps=2, warm_up_steps=1, early_plans=plan, late_plans=plan, last_plans=plan, checkpoint_every=1
    )
    before = torch.get_num_threads()
    Trainer(config, tmp_path, tmp_path, None, 0).run()
    assert not (tmp_path / "best.pt").exists(), "there is no held-out imagery in this folder"
    longer = dataclasses.replace(config, steps=3)
    resumed = Trainer(longer, tmp_path, tmp_path, None, 0)
    assert resumed.step == 2
    with (tmp_path / "log.csv").open("a", encoding="utf-8") as log:
        log.write("7,1.0,0.1,64,9,9,9,9\n")  # a step after the checkpoint, which a resumed run takes again
    resumed = Trainer(longer, tmp_path, tmp_path, None, 0)
    resumed.run()
    torch.set_num_threads(before)
    net, trained = load_checkpoint(tmp_path / "checkpoint.pt")
    assert trained["step"] == 3
    assert all(torch.isfinite(parameter).all() for parameter in net.parameters())
    lines = (tmp_path / "log.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[0] for line in lines] == ["step", "1", "2", "3"]


def test_a_run_begins_with_the_weights_of_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scene: Scene
) -> None:
    monkeypatch.setattr("encoder_tools.mini.trainer.load_scenes", lambda *_: [scene])
    earlier = MiniNet().state_dict()
    path = save_checkpoint(earlier, {"step": 1, "seconds": 2}, tmp_path / "earlier.pt")
    trainer = Trainer(TrainConfig(), tmp_path, tmp_path, None, 0, path)
    for weights in (trainer.net.state_dict(), trainer.average.state_dict()):
        assert all(torch.equal(weights[name], value) for name, value in earlier.items())
    with pytest.raises(ModelError, match=r"nowhere\.pt' is not a checkpoint"):
        run_training(tmp_path, tmp_path, begin_with=tmp_path / "nowhere.pt")


def test_a_model_that_is_trained_further_is_held_to_its_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scene: Scene
) -> None:
    monkeypatch.setattr("encoder_tools.mini.trainer.load_scenes", lambda *_: [scene])
    torch.manual_seed(4)
    begun = MiniNet().eval()
    path = save_checkpoint(begun.state_dict(), {"step": 1, "seconds": 2}, tmp_path / "earlier.pt")
    image = normalise(torch.from_numpy(scene.pyramid[0][None, :128, :128]))
    prompts = torch.tensor([[[60.0, 70.0]]]), torch.ones(1, 1), torch.zeros(1, 1, 32, 32), torch.zeros(1)

    @torch.no_grad()
    def answer(net: MiniNet) -> torch.Tensor:
        masks: torch.Tensor = net.decoder(net.decoder.context(net.encoder(image)), *prompts)[0]
        return masks.sigmoid()

    plan = (CropPlan(64, 2, 3, 1.0),)
    changes = {}
    for keep in (0.0, 100.0):
        config = TrainConfig(
            steps=8, warm_up_steps=1, learning_rate=1e-3, freeze_norm_at=0.0, keep=keep, ema_decay=0.0,
            early_plans=plan, late_plans=plan, last_plans=plan,
        )  # fmt: skip
        trainer = Trainer(config, tmp_path, tmp_path / f"{keep}", None, 0, path)
        (tmp_path / f"{keep}").mkdir()
        trainer.run()
        changes[keep] = float((answer(trainer.net.eval()) - answer(begun)).abs().mean())
    assert changes[100.0] < 0.5 * changes[0.0]


def test_a_run_without_improvement_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scene: Scene) -> None:
    monkeypatch.setattr("encoder_tools.mini.trainer.load_scenes", lambda *_: [scene])
    plan = (CropPlan(64, 1, 2, 1.0),)
    config = TrainConfig(steps=50, early_plans=plan, late_plans=plan, last_plans=plan, validate_every=1, patience=2)
    trainer = Trainer(config, tmp_path, tmp_path, None, 0)
    scores = iter([0.2, 0.6, 0.5, 0.4, 0.9])
    monkeypatch.setattr(trainer.validation, "measure", lambda net: {"fields box": next(scores)})
    trainer.run()
    assert trainer.step == 4
    assert load_checkpoint(tmp_path / "best.pt")[1]["step"] == 2
    rows = (tmp_path / "validation.csv").read_text(encoding="utf-8").splitlines()
    assert [row.split(",")[2] for row in rows[1:]] == ["0.2000", "0.6000", "0.5000", "0.4000"]


def test_stages_follow_each_other_and_are_averaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scene: Scene
) -> None:
    monkeypatch.setattr("encoder_tools.mini.trainer.load_scenes", lambda *_: [scene])
    monkeypatch.setattr("encoder_tools.mini.train.check_training_images", lambda _: None)
    begun = []

    def here(work: Callable[..., None], args: tuple[Any, ...], nprocs: int) -> None:
        begun.append(Path(args[3]).name)
        work(0, 1, *args[1:])

    monkeypatch.setattr("encoder_tools.mini.train.spawn", here)
    plan = (CropPlan(64, 1, 2, 1.0),)
    further = (Continuation(2, 1e-3), Continuation(1, 5e-4))
    config = TrainConfig(steps=1, continuations=further, early_plans=plan, late_plans=plan, last_plans=plan)
    threads = torch.get_num_threads()
    model = run_training(tmp_path, tmp_path, config=config, scores=False)
    assert begun == ["stage1", "stage2", "stage3"]
    first = load_checkpoint(tmp_path / "stage1" / "checkpoint.pt")[0].state_dict()
    second = load_checkpoint(tmp_path / "stage2" / "checkpoint.pt")[0].state_dict()
    mean = load_checkpoint(tmp_path / "stage2" / "mean" / "best.pt")[0].state_dict()
    name = "decoder.head4.weight"
    third = load_checkpoint(tmp_path / "stage3" / "checkpoint.pt")[0].state_dict()
    assert not torch.equal(first[name], second[name]) and not torch.equal(mean[name], third[name])
    torch.testing.assert_close(mean[name], (first[name] + second[name]) / 2)
    assert json.loads((model / "model.json").read_text(encoding="utf-8"))["training"]["steps"] == 4
    shutil.rmtree(tmp_path / "stage3")
    run_training(tmp_path, tmp_path, config=config, scores=False)
    assert begun[3:] == ["stage3"], "finished stages are kept"
    drawn = synthetic_orthophoto(256, 256, 0.6, seed=4)
    fields = [polygon for name, polygon in drawn.objects if name == "field"][:2]
    known = {"fields": [LabelledScene("fields/train", drawn.image, fields)]}
    monkeypatch.setattr("encoder_tools.mini.score_training.training_scenes", lambda _: known)
    small = ScoreConfig(("fields",), 0, passes=1, rounds=1, clicks=1, steps=3, batch=4)
    monkeypatch.setattr("encoder_tools.mini.train.score_run", partial(score_run, config=small))
    more = run_training(tmp_path, tmp_path / "more", config=config, begin_with=model)
    assert begun[4:] == ["stage1"], "a finished model goes through the last stage alone"
    scored = load_checkpoint(tmp_path / "more" / "stage1" / "mean" / "scored.pt")[0].state_dict()
    exported = load_network(more)[0].state_dict()
    torch.testing.assert_close(exported["decoder.score.2.bias"], scored["decoder.score.2.bias"])
    torch.set_num_threads(threads)
    with pytest.raises(ModelError, match="no stage"):
        run_training(tmp_path, tmp_path, config=dataclasses.replace(config, continuations=()), begin_with=model)
