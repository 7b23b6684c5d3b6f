"""The evaluation of `mini`: the simulated user, results and targets, the model card."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image

from benchmarks.markdown import replace_sections
from benchmarks.mini.calibration import draw_reliability
from benchmarks.mini.evaluate import MODEL_FOLDER, evaluate, measure_speed
from benchmarks.mini.exported_model import OnnxMini, drawn
from benchmarks.mini.held_out import thinned
from benchmarks.mini.measuring import CLICK_CAP, ROUNDS, Measured, Target, User, jittered_click, measure, target_of
from benchmarks.mini.report import METRICS, machine, rounds_table, sections, summarise, table, update_card
from benchmarks.mini.targets import targets_table
from encoder_tools.mini.labelled_tiles import LabelledScene, Tile
from encoder_tools.synthetic import synthetic_orthophoto
from encoder_tools.training.simulated_user import POSITIVE
from geosam_es.errors import ModelError, OutputError
from geosam_es.inference.decoder import DecodedMasks

SQUARE = shapely.box(300, 200, 500, 420)


@cache
def picture() -> np.ndarray:
    image = synthetic_orthophoto(1024, 1024, 0.3, seed=4).image
    image.setflags(write=False)
    return image


def tile_of(*polygons: shapely.Polygon) -> Tile:
    return Tile("fields/val", picture(), 1024, 900, list(polygons), list(range(len(polygons))))


def logits_of(polygon: shapely.Polygon) -> np.ndarray:
    at = (np.arange(256) + 0.5) * 4
    inside = shapely.contains_xy(polygon, *np.meshgrid(at, at))
    return np.where(inside, 4.0, -4.0).astype(np.float32)


class Scripted(OnnxMini):
    """Answers with four masks that a test chose, whatever it is asked."""

    def __init__(self, answers: list[shapely.Polygon], scores: list[float]) -> None:
        self.answer = DecodedMasks(np.stack([logits_of(p) for p in answers]), np.array(scores, np.float32))
        self.asked: list[tuple[list[tuple[float, float, float]], bool]] = []

    def predict(self, prompts, previous=None):  # type: ignore[no-untyped-def]
        self.asked.append((list(prompts), previous is not None))
        return self.answer


def square_target() -> Target:
    target = target_of(SQUARE)
    assert target is not None
    return target


def measured(**values: float) -> Measured:
    all_values = dict.fromkeys(METRICS, 0.5) | values
    ious = {"click": [0.4, 0.5, 0.6, 0.6, 0.7, 0.8], "box": [0.7, 0.8, 0.8, 0.9, 0.9, 0.9]}
    scores = {"click": [0.5] * 6, "box": [0.9] * 6}
    return Measured(all_values, ious, scores, [(0.9, 50.0, 0.4), (0.8, 90.0, 0.8), (0.1, 10.0, 0.3)])


def test_a_limit_takes_objects_of_every_set() -> None:
    scenes = [LabelledScene(name, np.zeros((9, 9, 3), np.uint8), [SQUARE] * 20) for name in ("a", "a", "b")]
    assert [len(scene.polygons) for scene in thinned(scenes, 10)] == [5, 5, 10]
    assert thinned(scenes, None) is scenes


def test_the_drawn_part_is_the_prompted_one_inside_the_image() -> None:
    low, high = shapely.box(40, 40, 200, 200), shapely.box(600, 600, 1024, 1024)
    logits = np.maximum(logits_of(low), logits_of(high))
    clicked = drawn(logits, [(100.0, 100.0, 1.0)], 1024, 900)
    assert clicked.sum() == pytest.approx(low.area, rel=0.02)
    boxed = drawn(logits, [(0.0, 0.0, 2.0), (1024.0, 1024.0, 3.0)], 1024, 900)
    assert boxed[700, 700]
    assert not boxed[100, 100]
    assert not boxed[900:].any()
    assert not drawn(np.full((256, 256), -3, np.float32), [(100.0, 100.0, 1.0)], 1024, 900).any()


def test_a_click_shows_the_candidate_of_the_best_score_and_a_box_the_single_mask() -> None:
    half = shapely.box(300, 200, 400, 420)
    model = Scripted([half, half, SQUARE, half], [0.1, 0.5, 0.9, 0.2])
    user = User(model, tile_of(SQUARE), square_target())
    assert user.first([square_target().click]) > 0.97
    assert user.first(square_target().box) == pytest.approx(0.5, abs=0.02)
    candidates = user.candidates([square_target().click])
    assert [score for score, _, _ in candidates] == pytest.approx([0.9, 0.5, 0.2])
    assert candidates[0][1] == pytest.approx(SQUARE.area, rel=0.02)
    assert candidates[1][2] == pytest.approx(0.5, abs=0.02)


def test_corrections_lie_in_the_error_and_refine_what_is_shown() -> None:
    model = Scripted([shapely.box(300, 200, 400, 420)] * 4, [0.5] * 4)
    user = User(model, tile_of(SQUARE), square_target())
    track = user.track([square_target().click], until_good=True)
    assert len(track.ious) == len(track.masks) == len(track.scores) == CLICK_CAP
    prompts, is_refined = model.asked[-1]
    assert is_refined
    assert len(prompts) == CLICK_CAP
    for x, y, label in prompts[1:]:
        assert label == 1.0
        assert 400 <= x <= 500
        assert 200 <= y <= 420
    assert not model.asked[0][1]
    assert len(user.track(square_target().box).ious) == ROUNDS + 1


def test_a_correction_in_a_corner_of_the_tile_is_found() -> None:
    corner = shapely.box(0, 0, 120, 120)
    target = target_of(corner)
    assert target is not None
    model = Scripted([shapely.union(corner, shapely.box(900, 800, 1000, 900))] * 4, [0.5] * 4)
    User(model, tile_of(corner), target).track(target.box)
    # The product draws the largest part after a box, so nothing is wrong but the rounding of its corners.
    assert all(x < 200 and y < 200 for prompts, _ in model.asked for x, y, label in prompts if label == 1.0)


def test_the_middle_of_a_cut_object_is_that_of_its_visible_part() -> None:
    target = target_of(shapely.box(0, 0, 200, 120))
    assert target is not None
    x, y, label = target.click
    assert 50 <= x <= 150
    assert 50 <= y <= 70
    assert label == 1.0


def test_a_jittered_click_lies_off_the_middle_but_in_the_object() -> None:
    target = target_of(shapely.Polygon([(100, 100), (300, 100), (300, 300), (280, 300), (280, 120), (100, 120)]))
    assert target is not None
    rng = np.random.default_rng(0)
    clicks = np.array([jittered_click(target, rng) for _ in range(60)])
    assert target.cells[(clicks[:, 1] // 4).astype(int), (clicks[:, 0] // 4).astype(int)].all()
    away = np.abs(clicks[:, :2] - target.click[:2]).max(1)
    assert 5 < np.median(away) < 60
    dot = target_of(shapely.box(101, 101, 103, 103))
    assert dot is not None and jittered_click(dot, rng)[2] == POSITIVE


def test_an_object_too_thin_for_a_click_is_left_out() -> None:
    assert target_of(shapely.box(100, 100.0, 400, 100.4)) is None


def test_a_perfect_answer_has_perfect_metrics() -> None:
    model = Scripted([SQUARE] * 4, [0.97] * 4)
    found = measure(model, tile_of(SQUARE), square_target(), seed=3)
    assert min(value for name, value in found.values.items() if name != "clicks to 85 %") > 0.97
    assert found.values["clicks to 85 %"] == 1.0
    assert json.loads(json.dumps(found.values)) == found.values
    assert measure(model, tile_of(SQUARE), square_target(), seed=3) == found


def test_an_object_that_never_reaches_the_goal_counts_all_clicks() -> None:
    model = Scripted([shapely.box(600, 600, 700, 700)] * 4, [0.5] * 4)
    found = measure(model, tile_of(SQUARE), square_target(), seed=3)
    assert found.values["clicks to 85 %"] == CLICK_CAP
    assert found.values["85 % reached"] == 0.0
    assert found.values["box itself"] == 1.0
    assert found.values["click"] == 0.0


def test_the_exported_model_is_measured_and_timed(tmp_path: Path) -> None:
    scene = synthetic_orthophoto(1024, 1024, 0.3, seed=4)
    (polygon,) = [p for name, p in scene.objects if name == "building"][:1]
    model = OnnxMini(MODEL_FOLDER)
    model.set_image(scene.image)
    target = target_of(polygon)
    assert target is not None
    found = measure(model, Tile("x", scene.image, 1024, 1024, [polygon], [0]), target, 1)
    assert found.values["click oracle"] >= found.values["click"]
    assert set(found.values) < set(METRICS)
    assert all(0 <= value <= CLICK_CAP for value in found.values.values())
    assert set(measure_speed(model, repeats=1)) == {"encoder", "prepare", "decoder"}


def held_out_copy(folder: Path) -> Path:
    """Lay out the held-out folders with one small synthetic field image and nothing else."""
    scene = synthetic_orthophoto(1024, 1024, 0.6, seed=9)
    for name in ("buildings/val_kampala", "fields/val", "landcover/val_dubai", "coast/val"):
        (folder / name).mkdir(parents=True)
    Image.fromarray(scene.image).save(folder / "fields" / "val" / "a.png")
    fields = [shapely.geometry.mapping(p) for name, p in scene.objects if name == "field"][:2]
    features = [{"type": "Feature", "properties": {}, "geometry": field} for field in fields]
    text = json.dumps({"type": "FeatureCollection", "features": features})
    (folder / "fields" / "val" / "a.pixels.geojson").write_text(text, encoding="utf-8")
    return folder


def test_two_processes_give_the_results_of_one(tmp_path: Path) -> None:
    data = held_out_copy(tmp_path)
    alone = evaluate(data, processes=1)
    together = evaluate(data, processes=2)
    assert list(alone) == ["fields/val"]
    assert alone["fields/val"]["objects"] == 2
    for metric in ("click", "box", "5 clicks"):
        assert together["fields/val"][metric][0] == pytest.approx(alone["fields/val"][metric][0], abs=0.02)


def test_figures_are_means_with_intervals_and_paired_margins() -> None:
    found = summarise([measured(click=0.2, box=0.9, GrabCut=0.7), measured(click=0.6, box=0.9, GrabCut=0.5)])
    assert found["objects"] == 2
    assert found["click"][0] == 0.4
    assert found["click"][1] <= 0.4 <= found["click"][2]
    assert found["margins"]["box - GrabCut"][0] == 0.3
    assert found["rounds"]["click"] == [0.4, 0.5, 0.6, 0.6, 0.7, 0.8]
    assert found["click score error"] == 0.1
    assert found["box score error"] == 0.2
    without = summarise([replace(measured(), values={"click": 0.3, "box": 0.2})])
    assert "GrabCut" not in without
    assert without["margins"] == {}


def test_ranking_compares_the_score_with_the_area() -> None:
    ranking = summarise([measured()])["ranking"]
    assert ranking == {"score": [0.4, 0.0], "largest": [0.8, 1.0], "middle": [0.4, 0.0], "smallest": [0.3, 0.0]}


def test_a_set_without_baselines_has_empty_cells() -> None:
    plain = summarise([replace(measured(), values={"click": 0.3, "box": 0.9})])
    results = {"coast/val": plain, "fields/val": summarise([measured(click=0.2, box=0.9, GrabCut=0.7)])}
    assert "| GrabCut |  | 0.700 (0.700 to 0.700) |" in table(results)
    assert "| box - GrabCut |  | 0.200 (0.200 to 0.200) |" in sections(results)["baselines"]


def test_reliability_adds_up_and_is_drawn(tmp_path: Path) -> None:
    summary = summarise([measured(), measured()])
    assert summary["reliability"] == [[12, 0.5, 0.6], [12, 0.9, 0.833]]
    assert summary["score bias"] == pytest.approx(-0.017, abs=1e-3)
    draw_reliability({"some set": summary}, tmp_path / "new" / "picture.png")
    assert (tmp_path / "new" / "picture.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        draw_reliability({"some set": summary}, tmp_path / "file" / "picture.png")


def test_targets_are_compared_with_the_results() -> None:
    good = measured(**{"click": 0.7, "click oracle": 0.8, "box": 0.95, "box + 3": 0.95, "5 clicks": 0.9})
    results = {name: summarise([good]) for name in ("buildings/val_kampala", "fields/val", "landcover/val_dubai water")}
    lines = targets_table(results, {"encoder": 90.0, "decoder": 16.0}, 10.4).splitlines()
    verdicts = {
        line.split(" | ")[0].strip("| "): line.split(" | ")[-1].strip(" |") for line in lines if "---" not in line
    }
    assert verdicts["box"] == "yes"
    assert verdicts["5 clicks"] == "yes"
    assert verdicts["box - GrabCut"] == "yes"
    assert verdicts["mean absolute score error, box"] == "no: buildings, fields, water"
    assert verdicts["mean IoU of the choice by score minus the best choice by area"] == "no: buildings, fields, water"
    assert verdicts["encoder, ms"] == "yes"
    assert verdicts["decoder, ms"] == "no"
    results["fields/val"]["box"] = [0.79, 0.7, 0.8]
    results["fields/val"]["rounds"]["box"][1] = 0.5
    text = targets_table(results, {}, 13.0)
    assert "| box | >= 0.84 buildings, >= 0.80 fields | 0.950 | 0.790 | 0.950 | no: fields |" in text
    assert "first prompt: box | >= 0 | +0.0000 | -0.2000 | +0.0000 | no: fields |" in text
    assert "| ONNX files together, MB | <= 12 | 13.0 | no |" in text
    plain = summarise([replace(good, values={name: v for name, v in good.values.items() if name != "GrabCut"})])
    text = targets_table({"coast/val": plain, **results}, {}, 13.0)
    assert "| box - GrabCut | >= 0.05 |  | +0." in text


def test_rounds_show_where_the_mean_fell() -> None:
    summary = summarise([measured()])
    summary["rounds"]["box"] = [0.7, 0.6, 0.8, 0.7, 0.9, 0.9]
    last = rounds_table({"some set": summary}).splitlines()[-1]
    assert last.endswith("| 1, 3 |")


def test_results_are_written_between_the_markers_of_the_card(tmp_path: Path) -> None:
    results = {"some set": summarise([measured(), measured()])}
    assert "| box | 0.500 (0.500 to 0.500) |" in table(results)
    card = tmp_path / "card.md"
    places = "".join(f"<!-- {name}: begin -->\nold\n<!-- {name}: end -->\n" for name in ("figures", "targets"))
    card.write_text(f"above\n{places}below\n", encoding="utf-8")
    update_card(card, results, {"encoder": 1.5}, "wanted", None)
    text = card.read_text(encoding="utf-8")
    assert text.startswith("above\n")
    assert text.endswith("below\n")
    assert "old" not in text
    assert table(results) in text
    assert f"{machine()}, two threads: encoder 1.5." in text
    assert "\nwanted\n" in text
    update_card(card, results, {}, "wanted", 5)
    assert "(--limit 5)" in card.read_text(encoding="utf-8")


def test_a_page_without_the_section_is_not_changed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- rounds: begin -->\nold\n<!-- rounds: end -->\n", encoding="utf-8")
    with pytest.raises(ModelError, match="no section ranking"):
        replace_sections(page, {"rounds": "new", "ranking": "new"})
    assert "old" in page.read_text(encoding="utf-8")
    with pytest.raises(OutputError, match="cannot write"):
        replace_sections(tmp_path / "nowhere.md", {})
    assert set(sections({"some set": summarise([measured()])})) == {"rounds", "baselines", "calibration", "ranking"}


def test_a_folder_without_a_model_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a model folder"):
        OnnxMini(tmp_path)
