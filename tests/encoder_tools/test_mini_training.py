"""Training code of `mini`: export parity, crops, losses, errors, and a run that resumes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from benchmarks.mini.evaluate import OnnxMini, evaluate  # noqa: E402
from benchmarks.mini.training_curves import draw, read_log, smooth  # noqa: E402
from encoder_tools.mini.config import CropPlan, TrainConfig  # noqa: E402
from encoder_tools.mini.crops import (  # noqa: E402
    BRIGHT_SHARE,
    JPEG_SHARE,
    NOISE_SHARE,
    CropSampler,
    _infrared,
    _object_shares,
    recolour,
)
from encoder_tools.mini.export import load_checkpoint, save_checkpoint, write_model  # noqa: E402
from encoder_tools.mini.losses import answer_loss, attention, mask_losses, regret, widen  # noqa: E402
from encoder_tools.mini.network import MiniNet, normalise  # noqa: E402
from encoder_tools.mini.sources import Scene, burn, data_folder, make_scene, synthetic_scenes  # noqa: E402
from encoder_tools.mini.train import run_training  # noqa: E402
from encoder_tools.mini.trainer import Trainer  # noqa: E402
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
            # What float16 storage does to the weights is not what is tested here.
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


def test_crops_are_reproducible_and_hold_their_objects(scene: Scene) -> None:
    plan = CropPlan(128, 2, 3, 1.0)
    first = CropSampler([scene], {"fields": 1.0}, (1, 2)).batch(plan)
    second = CropSampler([scene], {"fields": 1.0}, (1, 2)).batch(plan)
    assert np.array_equal(first.images, second.images)
    assert first.images.shape == (2, 128, 128, 3)
    assert first.masks.shape == (6, 32, 32)
    assert first.masks.any((1, 2)).all()
    assert first.edges.shape == (2, 1, 32, 32)


def test_slender_fields_are_drawn_more_often() -> None:
    ids = np.zeros((200, 200), dtype=np.int32)
    ids[10:60, 10:60] = 1
    for row in range(100, 190):
        ids[row, row : row + 10] = 2  # a slanting strip, which fills little of its box
    image = np.zeros((200, 200, 3), dtype=np.uint8)
    first, second = _object_shares(make_scene("fields", image, ids))
    assert second == pytest.approx(3 * first)
    assert _object_shares(make_scene("buildings", image, ids)).tolist() == [0.5, 0.5]


def test_false_colours_make_plants_bright_and_water_dark() -> None:
    colours = {"plants": (70, 110, 60), "water": (40, 60, 90), "roof": (120, 120, 120)}
    image = np.array([list(colours.values())], dtype=np.uint8)
    shown = np.stack([_infrared(image, np.random.default_rng(seed))[0] for seed in range(200)])
    plants, water, roof = shown[..., 0].mean(0)
    assert plants > 1.25 * roof
    assert water < 0.8 * roof
    assert shown[..., 0].std(0).min() > 5, "how bright is drawn"
    assert (shown[..., 1:] == image[0, :, :2]).all(), "red and green move on by one band"


def test_crops_are_shown_with_the_faults_of_cameras_and_files() -> None:
    grey = np.full((64, 64, 3), 128, dtype=np.uint8)
    grey[::2] = 132
    shown = [recolour(grey, np.random.default_rng(seed)) for seed in range(400)]
    burnt = np.mean([(image == 255).all() for image in shown])
    noisy = np.mean([len(np.unique(image[::2, :, 0])) > 6 for image in shown])
    assert 0 < burnt < BRIGHT_SHARE
    assert 0.5 * NOISE_SHARE < noisy < NOISE_SHARE + JPEG_SHARE


def test_crops_grow_during_a_run() -> None:
    trainer = object.__new__(Trainer)
    trainer.config = config = TrainConfig()

    def sizes(progress: float) -> set[int]:
        trainer.frozen = progress >= config.freeze_norm_at
        return {trainer._plan(progress).size for trainer.step in range(200)}

    assert sizes(0.0) == {320}
    assert sizes(config.whole_tiles_at - 0.01) == {320, 448, 640}
    assert sizes(config.whole_tiles_at) == {320, 448, 640, TILE_SIZE}


def test_regret_is_what_the_choice_of_the_score_loses() -> None:
    reached = torch.tensor([[0.2, 0.9, 0.5]])
    assert float(regret(torch.tensor([[0.1, 0.9, 0.3]]), reached)) == pytest.approx(0.0, abs=1e-3)
    assert float(regret(torch.tensor([[0.9, 0.1, 0.3]]), reached)) == pytest.approx(0.7, abs=1e-3)


def test_losses_prefer_the_truth() -> None:
    truth = torch.zeros(1, 1, 32, 32)
    truth[..., 8:20, 8:24] = 1.0
    right, wrong = (truth * 2 - 1) * 8, (1 - truth * 2) * 8
    masks = torch.cat([wrong, wrong, right, wrong], dim=1)
    losses = mask_losses(masks, truth, *attention(truth))[0]
    assert losses[2] < 0.05
    assert losses[0] > 1.0
    scores, coarse = torch.tensor([[0.0, 0.0, 1.0, 0.0]]), torch.zeros(1, 1, 8, 8)
    better = torch.cat([right, wrong, right, wrong], dim=1)
    unsure = torch.ones(1)
    assert answer_loss(better, scores, coarse, truth, unsure) < answer_loss(masks, scores, coarse, truth, unsure)


def test_widen_grows_a_mask_by_a_square() -> None:
    mask = torch.zeros(1, 1, 20, 20)
    mask[..., 8, 9] = 1.0
    grown = widen(mask, 3)[0, 0]
    assert int(grown.sum()) == 49
    assert grown[5:12, 6:13].all()


def test_missing_data_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEOSAM_ES_DATA", raising=False)
    with pytest.raises(RasterError, match="--data"):
        data_folder(None)
    with pytest.raises(RasterError, match="--data"):
        data_folder(tmp_path / "nowhere")
    with pytest.raises(RasterError, match=r"SOURCES\.md"):
        evaluate(tmp_path)


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
    assert read_log(tmp_path / "log.csv")["step"].tolist() == [1.0, 2.0, 3.0]
    assert all(torch.isfinite(parameter).all() for parameter in net.parameters())
    assert len((tmp_path / "log.csv").read_text(encoding="utf-8").splitlines()) == 4


def test_a_run_begins_with_the_weights_of_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scene: Scene
) -> None:
    monkeypatch.setattr("encoder_tools.mini.trainer.load_scenes", lambda *_: [scene])
    earlier = MiniNet().state_dict()
    path = save_checkpoint(earlier, {"step": 1, "seconds": 2}, tmp_path / "earlier.pt")
    trainer = Trainer(TrainConfig(), tmp_path, tmp_path, None, 0, path)
    for weights in (trainer.net.state_dict(), trainer.average.state_dict()):
        assert all(torch.equal(weights[name], value) for name, value in earlier.items())
    with pytest.raises(ModelError, match=r"nowhere\.pt' is no checkpoint"):
        run_training(tmp_path, tmp_path, begin_with=tmp_path / "nowhere.pt")


def test_synthetic_training_scenes_have_objects() -> None:
    (scene,) = synthetic_scenes(1, seed=7)
    assert scene.kind == "synthetic"
    assert len(scene.objects) >= 5
    assert scene.pyramid[1].shape == (512, 512, 3)


def test_curves_are_drawn_from_the_log(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(ModelError, match="no training log"):
        read_log(tmp_path / "log.csv")
    lines = ["step,seconds,learning_rate,size,loss,edge,iou_first,iou_last"]
    lines += [f"{n},{10 * n},0.001,320,{1 / (n + 1)},0.5,0.5,0.6" for n in range(100)]
    (tmp_path / "log.csv").write_text("\n".join(lines), encoding="utf-8")
    log = read_log(tmp_path / "log.csv")
    np.testing.assert_allclose(smooth(log["loss"], 1), log["loss"])
    assert smooth(np.array([1.0, 3.0, 5.0]), 2).tolist() == [1.0, 2.0, 4.0]
    draw(tmp_path, tmp_path / "curves.png")
    plain = (tmp_path / "curves.png").read_bytes()
    assert len(plain) > 1000
    (tmp_path / "validation.csv").write_text("step,seconds,fields box\n50,500,0.5\n100,1000,0.6\n", encoding="utf-8")
    draw(tmp_path, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes() != plain


def test_a_run_without_progress_ends_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scene: Scene) -> None:
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
