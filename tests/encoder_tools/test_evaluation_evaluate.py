"""Evaluation on a store whose decoder gives known masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import shapely

from encoder_tools.evaluation.evaluate import Evaluation, PixelGrid, evaluate, viewing_level
from encoder_tools.evaluation.ground_truth import TruthObject
from encoder_tools.evaluation.prompting import parse_kinds
from encoder_tools.evaluation.summary import clicks_to, differences, group_rows, size_of, summary_rows
from geosam_es.errors import PromptError
from geosam_es.inference.decoder import DecodedMasks
from geosam_es.store import StoreReader
from tests.helpers import BlobDecoder, disc, make_store

SMALL, LARGE = (300.0, 300.0, 60.0), (1500.0, 900.0, 550.0)


class Timid(BlobDecoder):
    """Finds the middle of an object, and all of it after three clicks."""

    def decode(self, context, prompts, mask_input=None):  # type: ignore[no-untyped-def]
        answer = super().decode(context, prompts, mask_input)
        if len(prompts.points) >= 3:
            return answer
        part = answer.low_res_masks[1]
        return DecodedMasks(np.stack([part] * 4), answer.iou_predictions)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> StoreReader:
    image = np.maximum(disc((1800, 2600), *SMALL), disc((1800, 2600), *LARGE))
    return StoreReader(make_store(tmp_path_factory.mktemp("store"), image))


def circle(x: float, y: float, radius: float) -> shapely.Polygon:
    return shapely.Point(x, y).buffer(radius)


def run(reader: StoreReader, prompts: str, objects: list[TruthObject], **decoders: BlobDecoder) -> Evaluation:
    return evaluate([reader], [objects], decoders or {"blobs": BlobDecoder()}, parse_kinds(prompts))


def objects() -> list[TruthObject]:
    return [
        TruthObject("small", circle(*SMALL), "pond"),
        TruthObject("large", circle(*LARGE), "lake"),
    ]


def test_known_masks_get_known_scores(reader: StoreReader) -> None:
    found = run(reader, "point,box,clicks:3", objects())
    assert len(found.outcomes) == 6 and not found.left_out
    for outcome in found.outcomes:
        assert outcome.scores.iou > 0.98 and outcome.scores.boundary_f > 0.95
        assert len(outcome.ious) == (3 if outcome.prompts == "clicks:3" else 1)
    assert {(o.truth.object_id, o.level) for o in found.outcomes} == {("small", 0), ("large", 1)}
    click = next(o for o in found.outcomes if o.prompts == "point" and o.truth.object_id == "small")
    assert click.given.points[0][:2] == pytest.approx((300, 300), abs=1)
    assert click.predicted_iou == pytest.approx(0.9)


def test_half_of_the_truth_gives_half_of_the_iou(reader: StoreReader) -> None:
    half = shapely.intersection(circle(*SMALL), shapely.box(300, 0, 400, 600))
    (outcome,) = run(reader, "point", [TruthObject("half", half)]).outcomes
    assert outcome.scores.iou == pytest.approx(0.5, abs=0.02)
    assert outcome.scores.precision == pytest.approx(0.5, abs=0.02) and outcome.scores.recall > 0.99


def test_results_are_reproducible(reader: StoreReader) -> None:
    first, second = (run(reader, "point,box:0.3,clicks:3", objects()) for _ in range(2))
    assert [o.scores for o in first.outcomes] == [o.scores for o in second.outcomes]
    assert [o.given for o in first.outcomes] == [o.given for o in second.outcomes]


def test_corrections_are_counted(reader: StoreReader) -> None:
    found = run(reader, "clicks:5", objects(), blobs=BlobDecoder(), timid=Timid())
    quick, slow = ([o for o in found.outcomes if o.decoder == name] for name in ("blobs", "timid"))
    assert [clicks_to(o, 0.85) for o in quick] == [1, 1]
    assert {clicks_to(o, 0.90) for o in slow} <= {1, 3} and clicks_to(slow[0], 2.0) is None
    assert all(len(o.ious) == 5 for o in found.outcomes)


def test_tables(reader: StoreReader) -> None:
    found = run(reader, "point,clicks:5", objects(), timid=Timid(), blobs=BlobDecoder()).outcomes
    rows = summary_rows(found)
    assert [(row.prompts, row.decoder, row.objects) for row in rows] == [
        ("point", "timid", 2),
        ("point", "blobs", 2),
        ("clicks:5", "timid", 2),
        ("clicks:5", "blobs", 2),
    ]
    assert "clicks_to_85" not in rows[0].values and rows[3].values["clicks_to_85"].mean == 1.0
    assert rows[3].values["reached_90"].mean == 1.0
    gain = next(row for row in differences(found) if row.prompts == "point")
    assert gain.decoder == "blobs" and gain.values["recall"].low > 0
    sizes = group_rows(found, size_of, ("small", "medium", "large"))
    assert [row.group for row in sizes] == ["large"] * 4
    classes = group_rows(found, lambda o: o.truth.class_name)
    assert [row.group for row in classes] == ["lake"] * 4 + ["pond"] * 4
    assert all(row.objects == 1 for row in classes)


def test_objects_without_data(reader: StoreReader, tmp_path: Path) -> None:
    image = disc((1000, 1000), 500, 500, 100)
    empty = StoreReader(make_store(tmp_path, image))
    for path in (empty.root / "level0" / "image_embeddings" / "c").rglob("0"):
        if path.is_file():
            path.unlink()
    lost = TruthObject("lost", circle(500, 500, 100))
    both = evaluate([reader, empty], [objects(), [lost]], {"blobs": BlobDecoder()}, parse_kinds("point"))
    assert list(both.left_out) == ["lost"] and len(both.outcomes) == 2
    with pytest.raises(PromptError):
        evaluate([empty], [[lost]], {"blobs": BlobDecoder()}, parse_kinds("point"))


def test_progress(reader: StoreReader) -> None:
    told: list[tuple[int, int]] = []
    evaluate([reader], [objects()], {"b": BlobDecoder()}, parse_kinds("box"), lambda *now: told.append(now))
    assert told == [(1, 2), (2, 2)]


def test_the_grid_has_the_pixels_of_the_level(reader: StoreReader) -> None:
    assert viewing_level(reader, circle(*SMALL)) == 0 and viewing_level(reader, circle(*LARGE)) == 1
    square = shapely.box(100, 40, 120, 80)
    grid = PixelGrid.around([square], reader, 0)
    assert (grid.col, grid.row, grid.width, grid.height) == (96, 36, 28, 48)
    assert grid.draw(square).sum() == 20 * 40
    assert grid.centre((4, 4)) == (100.5, 40.5)
    coarse = PixelGrid.around([square], reader, 1)
    assert coarse.draw(square).sum() == 10 * 20
    at_edge = PixelGrid.around([shapely.box(2590, 1790, 2600, 1800)], reader, 0)
    assert (at_edge.col + at_edge.width, at_edge.row + at_edge.height) == (2600, 1800)
    sliver = shapely.box(50.6, 50.0, 50.9, 50.2)
    assert PixelGrid.around([sliver], reader, 0).draw(sliver).sum() >= 1
    assert not grid.draw(shapely.Polygon()).any()
