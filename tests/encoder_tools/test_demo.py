"""The demo, as ``make demo`` runs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyogrio
import pytest
from click.testing import CliRunner

from encoder_tools.demo import main, run_demo
from tests.encoder_tools.scenes import Block, scene, write_raster

pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def synthetic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEOSAM_ES_DATA", raising=False)


def test_synthetic_orthophoto_with_known_truth(tmp_path: Path) -> None:
    answers = run_demo(None, tmp_path)
    assert {answer.class_name for answer in answers} == {"building", "field", "tree", "water"}
    assert {answer.kind for answer in answers} == {"point", "box"}
    ious = np.array([answer.iou for answer in answers if answer.kind == "box"], float)
    assert ious.mean() > 0.7
    meta, _, _, columns = pyogrio.raw.read(tmp_path / "polygons.gpkg")
    assert list(meta["fields"]) == ["object", "score", "level", "area_m2", "model"]
    assert len(columns[0]) == len(answers)
    assert (tmp_path / "demo.png").stat().st_size > 100_000


def test_a_given_image_has_no_truth(tmp_path: Path) -> None:
    image = write_raster(tmp_path / "mine.tif", scene(600, 400, [Block(100, 80, 160, 140), Block(400, 200, 100, 120)]))
    result = CliRunner().invoke(main, [str(image), "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "unknown" in result.stdout and "demo.png" in result.stdout
    assert (tmp_path / "out" / "polygons.gpkg").is_file()


def test_real_orthophoto_if_available(tmp_path: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEOSAM_ES_DATA", str(data_folder))
    answers = run_demo(None, tmp_path)
    assert {answer.class_name for answer in answers} == {"building"}
    assert all(answer.iou is not None for answer in answers)


def test_bad_image_is_one_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [str(tmp_path / "nothing.tif"), "-o", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "nothing.tif does not exist" in result.stderr
