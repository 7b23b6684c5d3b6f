"""The ablation: which runs there are, that they are kept, and one real run of a single step."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import shapely

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from benchmarks.mini import ablation  # noqa: E402
from benchmarks.mini.ablation import ablation_table, run_one, runs, short_config, without  # noqa: E402
from encoder_tools.mini import train  # noqa: E402
from encoder_tools.mini.config import TrainConfig  # noqa: E402
from encoder_tools.mini.labelled_tiles import LabelledScene  # noqa: E402
from encoder_tools.mini.sources import synthetic_scenes  # noqa: E402
from encoder_tools.synthetic import synthetic_orthophoto  # noqa: E402
from geosam_es.errors import ModelError  # noqa: E402


def options(out: Path, **values: object) -> argparse.Namespace:
    return argparse.Namespace(
        **{"data": out, "out": out, "minutes": None, "begin_with": None, "limit": 2, "processes": 1} | values
    )


def test_each_run_leaves_one_source_out_with_each_seed() -> None:
    config = short_config(50)
    found = runs(config, 2)
    sources = TrainConfig().source_shares
    names = ["everything", *(f"without {source}" for source in sources)]
    assert list(found) == [(name, seed) for seed in (config.seed, config.seed + 1) for name in names]
    assert found["everything", config.seed] == config and config.source_shares == sources
    for (name, seed), run in found.items():
        assert run.seed == seed and run.steps == 50
        left_out = set() if name == "everything" else {name.removeprefix("without ")}
        assert set(run.source_shares) == set(sources) - left_out
        same_seed = dataclasses.replace(run, source_shares=sources)
        assert same_seed == found["everything", seed]
    assert config.validate_every > config.steps
    assert list(runs(config, 1, ["coast"])) == [("everything", config.seed), ("without coast", config.seed)]
    (further,) = short_config(50, 2e-4).stages(continue_only=True)
    assert (further.steps, further.learning_rate, further.validate_every) == (50, 2e-4, config.validate_every)
    with pytest.raises(ModelError, match="unknown source"):
        without(config, "roads")


def test_a_run_is_trained_measured_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def run_training(
        data: Path, out: Path, minutes: float | None, config: TrainConfig, begin_with: Path | None, scores: bool
    ) -> Path:
        assert not scores and begin_with is None
        calls.append((out.name, config.steps))
        (out / "model").mkdir(parents=True)
        (out / "model" / "model.json").write_text('{"training": {"steps": 1}}', encoding="utf-8")
        return out / "model"

    monkeypatch.setattr(ablation, "run_training", run_training)
    monkeypatch.setattr(ablation, "evaluate", lambda *_, **__: {"fields/val": {"click": [0.5, 0.4, 0.6]}})
    config = short_config(1)
    first = run_one(options(tmp_path), "without fields", without(config, "fields"))
    assert first["steps"] == 1
    assert run_one(options(tmp_path), "without fields", without(config, "fields")) == first
    assert calls == [(f"without_fields_{TrainConfig().seed}", 1)]
    with pytest.raises(ModelError, match="other settings"):
        run_one(options(tmp_path, limit=3), "without fields", without(config, "fields"))
    with pytest.raises(ModelError, match="other settings"):
        run_one(options(tmp_path, begin_with=tmp_path), "without fields", without(config, "fields"))


def test_the_table_compares_seed_by_seed() -> None:
    def run(click: float) -> dict[str, object]:
        means = {"click": [click, 0, 1], "box": [0.8, 0, 1], "5 clicks": [0.9, 0, 1]}
        return {"steps": 5, "results": {"fields/val": means}}

    whole, without_fields = "everything", "without fields"
    lines = ablation_table(
        {(whole, 7): run(0.6), (without_fields, 7): run(0.4), (whole, 8): run(0.8), (without_fields, 8): run(0.7)}
    ).splitlines()
    assert "| everything | 5 | click | 0.700 (0.600 to 0.800) |" in lines
    assert "| without fields | 5 | click | -0.150 (-0.200 to -0.100) |" in lines
    assert "| without fields | 5 | box | +0.000 (+0.000 to +0.000) |" in lines


def test_one_step_is_really_trained_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = synthetic_orthophoto(512, 512, 0.6, seed=4)
    polygons = [polygon for _, polygon in drawn.objects if polygon.area > 400][:2]
    scene = LabelledScene("fields/val", drawn.image, [shapely.make_valid(polygon) for polygon in polygons])
    (tmp_path / "data").mkdir()
    monkeypatch.setattr("benchmarks.mini.evaluate.held_out", lambda *_: [scene])

    def here(function, args, nprocs):  # type: ignore[no-untyped-def]
        """Train in this process, on synthetic scenes alone."""
        function(0, 1, *args[1:])

    monkeypatch.setattr(train, "spawn", here)
    monkeypatch.setattr(train, "check_training_images", lambda data: None)
    monkeypatch.setattr("encoder_tools.mini.trainer.load_scenes", lambda _, seed, *__: synthetic_scenes(1, seed))
    threads = torch.get_num_threads()
    found = run_one(options(tmp_path, data=tmp_path / "data"), "everything", short_config(1))
    torch.set_num_threads(threads)
    assert found["steps"] == 1
    assert found["results"]["fields/val"]["objects"] == len(polygons)
    assert np.isfinite(found["results"]["fields/val"]["box"]).all()
    stored = json.loads((tmp_path / f"everything_{TrainConfig().seed}" / "ablation.json").read_text(encoding="utf-8"))
    assert stored == found
