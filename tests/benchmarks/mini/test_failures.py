"""The sheets of the worst answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image

from benchmarks.mini.exported_model import MODEL_FOLDER, OnnxMini
from benchmarks.mini.failures import (
    ANSWER,
    CREDITS,
    MAX_BYTES,
    PROMPT,
    TRUTH,
    Failure,
    draw_sheet,
    find_answers,
    save_sheet,
    worst,
    write_sheets,
)
from encoder_tools.mini.labelled_tiles import LabelledScene, tiles
from encoder_tools.synthetic import synthetic_orthophoto
from geosam_es.errors import ModelError, OutputError

NOISE = np.random.default_rng(0).integers(0, 256, (206, 206, 3), dtype=np.uint8)


def failure(iou: float, begin: str = "click", dataset: str = "fields/val") -> Failure:
    prompts = [(300.0, 300.0, 1.0)] if begin == "click" else [(250.0, 250.0, 2.0), (350.0, 350.0, 3.0)]
    truth, answer = shapely.box(250, 250, 350, 350), shapely.box(240, 300, 390, 390)
    return Failure(dataset, begin, iou, 0.5, NOISE // 8, (200, 200, 206), truth, [answer], prompts)


def test_the_worst_come_first() -> None:
    answers = [failure(iou) for iou in (0.5, 0.1, 0.9)] + [failure(0.0, "box"), failure(0.0, dataset="other")]
    assert [answer.iou for answer in worst(answers, "fields/val", "click", 2)] == [0.1, 0.5]


def test_a_sheet_shows_truth_answer_and_prompt() -> None:
    sheet = np.array(draw_sheet([[failure(0.1)], [failure(0.2, "box")]]))
    first, second = sheet[:206, :206], sheet[226:432, :206]
    for part in (first, second):
        for colour in (TRUTH, ANSWER, PROMPT):
            assert (part == colour).all(axis=2).any()
    # The truth's left side lies 50 px right of the window's.
    assert (first[60:90, 48:53] == TRUTH).all(axis=2).any()
    assert (first[98:103, 98:103] == PROMPT).all(axis=2).any()


def test_sheets_stay_small(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (400, 1260, 3), dtype=np.uint8)
    save_sheet(Image.fromarray(noise), tmp_path / "new" / "sheet.jpg")
    assert 0 < (tmp_path / "new" / "sheet.jpg").stat().st_size <= MAX_BYTES
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        save_sheet(Image.fromarray(noise), tmp_path / "file" / "sheet.jpg")


def test_every_sheet_has_its_credit(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- failures: begin -->\n<!-- failures: end -->\n", encoding="utf-8")
    answers = [failure(iou, begin, dataset) for dataset in CREDITS for begin in ("click", "box") for iou in (0.2, 0.7)]
    write_sheets(answers, page, "sha256:0123456789abcdef")
    text = page.read_text(encoding="utf-8")
    assert "Encoder 0123456789ab." in text
    assert text.count("IoU below 0.5: 50% after a click, 50% after a box.") == len(CREDITS)
    for credit in CREDITS.values():
        assert credit in text
    pictures = sorted((tmp_path / "images" / "mini").iterdir())
    assert len(pictures) == len(CREDITS)
    assert all(f"(images/mini/{picture.name})" in text for picture in pictures)
    page.write_text("nothing", encoding="utf-8")
    with pytest.raises(ModelError, match="no section failures"):
        write_sheets(answers, page, "sha256:0")


def test_answers_of_the_model_are_found_with_their_surroundings() -> None:
    drawn = synthetic_orthophoto(700, 900, 0.3, seed=4)
    polygon = max((p for name, p in drawn.objects if name == "building"), key=lambda p: p.area)
    thin = shapely.box(10, 10, 200, 10.2)
    (tile,) = tiles(LabelledScene("fields/val", drawn.image, [polygon, thin]))
    click, box = find_answers(OnnxMini(MODEL_FOLDER), tile)
    assert (click.begin, box.begin) == ("click", "box")
    for answer in (click, box):
        assert answer.image.shape == (206, 206, 3)
        left, top, side = answer.window
        assert shapely.box(left, top, left + side, top + side).intersects(polygon)
        assert 0 <= answer.iou <= 1
        assert 0 <= answer.score <= 1
