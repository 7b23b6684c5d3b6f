from __future__ import annotations

import math
from pathlib import Path

import pytest
import shapely

from geosam_es.core.geotransform import GeoTransform
from geosam_es.core.prompts import Bounds, Point
from geosam_es.core.strokes import brushed_area
from geosam_es.errors import ModelError, PromptError
from geosam_es.inference.decoder import DecodedMasks
from geosam_es.inference.session import CleanOptions, SegmentationSession, with_decoder
from tests.helpers import BlobDecoder, add_decoder, disc, make_decoder, make_store, open_blobs

# Half a metre a pixel, turned by about 11 degrees, somewhere in Valencia.
TRANSFORM = GeoTransform(0.49, 0.1, 728000.0, 0.1, -0.49, 4372000.0)
CENTRE = TRANSFORM.apply(500, 500)


@pytest.fixture
def session(tmp_path: Path) -> SegmentationSession:
    root = make_store(tmp_path, disc((1200, 1400), 500, 500, 200), transform=TRANSFORM)
    return SegmentationSession(open_blobs(root))


def test_click_gives_the_object_on_the_map(session: SegmentationSession) -> None:
    result = session.add_point(*CENTRE)
    truth = TRANSFORM.apply_geometry(shapely.Point(500, 500).buffer(200, quad_segs=64))
    assert result.geometry.intersection(truth).area / result.geometry.union(truth).area > 0.98
    assert result.geometry.is_valid and result.model == "blobs" and result.score == pytest.approx(0.9)
    assert result.milliseconds > 0 and (result.rank, result.candidates) == (0, 3)
    assert session.current is result


def test_undo_and_redo_of_prompts(session: SegmentationSession) -> None:
    first = session.add_point(*CENTRE)
    second = session.add_point(*TRANSFORM.apply(550, 500))
    assert len(session.prompts) == 2
    assert session.undo() is first
    assert len(session.prompts) == 1 and session.can_redo
    assert session.redo() is second
    assert not session.can_redo
    session.undo()
    session.add_point(*TRANSFORM.apply(450, 500))
    assert not session.can_redo, "a new prompt ends what could be brought back"
    assert session.undo() is first
    assert session.undo() is None and session.current is None and not session.can_undo
    assert session.undo() is None


def test_same_prompts_give_the_same_polygon(session: SegmentationSession) -> None:
    first = session.add_point(*CENTRE).geometry
    session.add_point(*TRANSFORM.apply(550, 500))
    assert SegmentationSession(session.segmenter).add_point(*CENTRE).geometry.equals(first)


def test_box_of_a_rotated_raster(session: SegmentationSession) -> None:
    truth = TRANSFORM.apply_geometry(shapely.Point(500, 500).buffer(200))
    result = session.set_box(Bounds(*truth.bounds).corners)
    assert result.geometry.intersection(truth).area / result.geometry.union(truth).area > 0.97
    moved = session.set_box(Bounds(*truth.buffer(5).bounds).corners)
    assert len(session.prompts) == 1, "a second box takes the place of the first"
    assert not moved.geometry.is_empty


def test_a_box_turned_like_the_raster_is_the_box_of_its_pixels(session: SegmentationSession) -> None:
    session.set_box([TRANSFORM.apply(x, y) for x, y in Bounds(290, 310, 710, 700).corners])
    assert session.prompts.box == pytest.approx((290, 310, 710, 700))


def test_candidates_cycle(session: SegmentationSession) -> None:
    first = session.add_point(*CENTRE)
    shown = [session.next_candidate() for _ in range(3)]
    assert [result.rank for result in shown] == [1, 2, 0]
    assert shown[0].geometry.area < first.geometry.area
    assert shown[1].geometry.is_empty
    assert shown[2].geometry.equals(first.geometry)
    assert [session.next_candidate(-1).rank for _ in range(3)] == [2, 1, 0]
    assert session.undo() is None, "choosing a candidate is no prompt of its own"
    with pytest.raises(PromptError, match="no candidate 1"):
        session.next_candidate()


def test_chosen_candidate_is_what_the_next_prompt_refines(session: SegmentationSession) -> None:
    session.add_point(*CENTRE)
    part = session.next_candidate()
    session.add_point(*TRANSFORM.apply(520, 500))
    mask_input = session.segmenter.decoder.calls[-1][1]  # type: ignore[attr-defined]
    assert mask_input is part.candidate.mask.logits


def test_preview_leaves_the_session_as_it_is(session: SegmentationSession) -> None:
    session.add_point(*CENTRE)
    before = session.current
    preview = session.preview(*TRANSFORM.apply(550, 500))
    assert session.current is before and len(session.prompts) == 1
    assert not preview.geometry.is_empty


def test_a_preview_asks_the_decoder_for_one(session: SegmentationSession, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = session.segmenter.decoder
    wanted = session.preview(*CENTRE)
    previews = []

    def preview(*arguments: object) -> DecodedMasks:
        masks = decoder.decode(*arguments)
        previews.append(masks)
        return DecodedMasks(masks.low_res_masks[2:3], masks.iou_predictions[2:3])

    monkeypatch.setattr(decoder, "preview", preview, raising=False)
    shown = session.preview(*CENTRE)
    assert len(previews) == 1 and shown.candidates == 1
    assert shown.geometry.equals(wanted.geometry)
    assert session.add_point(*CENTRE).candidates == 3
    assert len(previews) == 1


def test_an_answer_decoded_elsewhere_is_shown_as_an_own_one(session: SegmentationSession) -> None:
    other = SegmentationSession(session.segmenter)
    wanted = other.add_point(*CENTRE)
    result = session.show(session.segmenter.propose(other.prompts), decoding_ms=1000.0)
    assert result.geometry.equals(wanted.geometry) and session.prompts == other.prompts
    assert result.milliseconds > 1000.0
    assert session.can_undo and session.undo() is None


def test_refused_prompt_leaves_the_session_as_it_is(session: SegmentationSession) -> None:
    session.add_point(*CENTRE)
    before = session.current
    with pytest.raises(PromptError):
        session.add_point(0, 0)
    assert session.current is before and len(session.prompts) == 1
    with pytest.raises(PromptError, match="no positive"):
        SegmentationSession(session.segmenter).add_point(*CENTRE, positive=False)


def test_object_is_refined_at_the_level_that_answered(tmp_path: Path) -> None:
    root = make_store(tmp_path, disc((3000, 3000), 1500, 1500, 800))
    session = SegmentationSession(open_blobs(root))
    first = session.add_point(1500, 1500)
    second = session.add_point(1600, 1500)
    assert first.level == second.level > 0


def test_level_is_where_the_first_prompt_starts(tmp_path: Path) -> None:
    root = make_store(tmp_path, disc((3000, 3000), 500, 500, 200))
    assert SegmentationSession(open_blobs(root), level=2).add_point(500, 500).level == 2


def test_cleaning_is_in_pixels(tmp_path: Path) -> None:
    root = make_store(tmp_path, disc((1200, 1400), 500, 500, 200))
    segmenter = open_blobs(root)

    def draw(options: CleanOptions) -> shapely.Geometry:
        return SegmentationSession(segmenter, options=options).add_point(500, 500).geometry

    exact, coarse = draw(CleanOptions(simplify_tolerance=0)), draw(CleanOptions(simplify_tolerance=8))
    assert shapely.get_num_coordinates(coarse) < shapely.get_num_coordinates(exact) / 5
    assert draw(CleanOptions(min_area=1e6)).is_empty


def test_another_session_follows_step_by_step(session: SegmentationSession) -> None:
    other = SegmentationSession(open_blobs(session.segmenter.reader.root))
    assert other.follow(session) is None
    session.level = 1
    session.add_point(*CENTRE)
    session.next_candidate()
    session.add_point(*TRANSFORM.apply(520, 500))
    session.next_candidate()
    followed = other.follow(session)
    assert session.current is not None and followed is not None
    assert (followed.rank, followed.level) == (1, 1)
    assert followed.geometry.equals(session.current.geometry)
    decoded = len(other.segmenter.decoder.calls)  # type: ignore[attr-defined]
    session.undo()
    assert other.follow(session) is other.current and len(other.prompts) == 1
    assert len(other.segmenter.decoder.calls) == decoded, "what was answered is not answered again"  # type: ignore[attr-defined]
    session.add_point(*TRANSFORM.apply(450, 500))
    assert other.follow(session) is not None and other.prompts == session.prompts
    assert len(other.segmenter.decoder.calls) == decoded + 1  # type: ignore[attr-defined]
    session.undo()
    session.undo()
    assert other.follow(session) is None


def test_another_decoder_of_the_store_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_store(tmp_path, disc((300, 300), 150, 150, 60))
    added = add_decoder(root, make_decoder(tmp_path / "tuned", "fields"))
    loaded: list[Path] = []

    def load(_prepare: Path | None, path: Path, _threads: int | None) -> BlobDecoder:
        loaded.append(path)
        return BlobDecoder()

    monkeypatch.setattr("geosam_es.inference.session.load_decoder", load)
    first = open_blobs(root)
    second = with_decoder(first, added)
    assert second.reader is first.reader and second.decoder is not first.decoder
    assert loaded == [added.decoder_path]
    added.decoder_path.write_bytes(b"half")
    with pytest.raises(ModelError, match="changed or copied in part"):
        with_decoder(first, added)


def on_map(geometry: shapely.Geometry) -> shapely.Geometry:
    return TRANSFORM.apply_geometry(geometry)


def iou(first: shapely.Geometry, second: shapely.Geometry) -> float:
    return first.intersection(second).area / first.union(second).area


TRUTH = on_map(shapely.Point(500, 500).buffer(200, quad_segs=64))
SQUARE = on_map(shapely.box(330, 350, 640, 660))


def line(*pixels: tuple[float, float]) -> list[tuple[float, float]]:
    return [TRANSFORM.apply(x, y) for x, y in pixels]


def painted(*pixels: tuple[float, float], radius: float) -> shapely.Geometry:
    return on_map(brushed_area(shapely.LineString([pixels[0], *pixels]), radius))


def test_a_session_begins_with_any_polygon_and_clicks_correct_it(session: SegmentationSession) -> None:
    first = session.reshape(SQUARE)
    assert first.geometry.equals_exact(SQUARE, 0) and first.is_shaped and math.isnan(first.score)
    assert (first.candidates, first.gesture, session.last_prompt) == (1, "polygon", "polygon")
    assert session.segmenter.decoder.calls == [], "the polygon is shown as it is"  # type: ignore[attr-defined]
    assert session.next_candidate() is first, "there is no other candidate"
    second = session.add_point(*CENTRE)
    assert iou(second.geometry, TRUTH) > 0.98 and not second.is_shaped and second.score > 0
    prompts, mask_input = session.segmenter.decoder.calls[-1]  # type: ignore[attr-defined]
    assert mask_input is None and iou(prompts.outline, shapely.box(330, 350, 640, 660)) > 0.999
    session.add_point(*TRANSFORM.apply(550, 500))
    assert session.segmenter.decoder.calls[-1][1] is second.candidate.mask.logits  # type: ignore[attr-defined]
    assert session.undo() is second and session.undo() is first and session.undo() is None
    assert session.redo() is first and session.undone_prompt == pytest.approx(Point(500, 500))


def test_brush_and_eraser_are_steps_that_the_next_click_goes_on_from(session: SegmentationSession) -> None:
    drawn = session.add_point(*CENTRE)
    brushed = session.brush(painted((700, 500), (760, 500), radius=20))
    added = shapely.LineString([(700, 500), (760, 500)]).buffer(20)
    assert iou(brushed.geometry, TRUTH.union(on_map(added))) > 0.99 and brushed.gesture == "brush"
    erased = session.brush(painted((500, 500), radius=50), erases=True)
    assert not erased.geometry.intersects(shapely.Point(CENTRE)), "also a press without a move"
    assert session.prompts.points == (), "the click lies where the eraser has been"
    assert session.brush(painted((500, 500), radius=20), erases=True) is erased, "there is nothing to take away"
    shaped = erased.geometry
    session.add_point(*TRANSFORM.apply(600, 500))
    prompts, mask_input = session.segmenter.decoder.calls[-1]  # type: ignore[attr-defined]
    assert mask_input is None and iou(on_map(prompts.outline), shaped) > 0.9999
    assert [session.undo() for _ in range(3)] == [erased, brushed, drawn]
    assert session.redo() is brushed and session.redo() is erased
    with pytest.raises(PromptError, match="Nothing is left"):
        session.brush(painted((500, 500), radius=900), erases=True)
    assert session.current is erased


def test_vertices_away_from_the_brush_stay_as_they_are(session: SegmentationSession) -> None:
    session.reshape(SQUARE)
    brushed = session.brush(painted((640, 500), (660, 500), radius=30))
    corners = set(shapely.get_coordinates(SQUARE).round(12).view("f8,f8").ravel().tolist())
    assert corners <= set(shapely.get_coordinates(brushed.geometry).round(12).view("f8,f8").ravel().tolist())


def test_a_cut_keeps_the_piece_with_the_click(session: SegmentationSession) -> None:
    session.add_point(*TRANSFORM.apply(600, 500))
    cut = session.cut(line((550, 200), (550, 800)))
    assert iou(cut.geometry, TRUTH.intersection(on_map(shapely.box(550, 0, 1000, 1000)))) > 0.98
    with pytest.raises(PromptError, match="does not divide"):
        session.cut(line((600, 480), (600, 520)))
    assert session.current is cut
    session.undo()
    session.undo()
    session.reshape(SQUARE)
    largest = session.cut(line((400, 200), (400, 900))).geometry
    assert iou(largest, SQUARE.intersection(on_map(shapely.box(400, 0, 1000, 1000)))) > 0.999


def test_a_cut_between_clicks_keeps_the_largest_piece(session: SegmentationSession) -> None:
    for x in (530, 600):
        session.add_point(*TRANSFORM.apply(x, 500))
    cut = session.cut(line((550, 200), (550, 800)))
    assert iou(cut.geometry, TRUTH.intersection(on_map(shapely.box(0, 0, 550, 1000)))) > 0.98


@pytest.mark.parametrize("click", [False, True])
def test_parts_that_a_cut_does_not_touch_stay(session: SegmentationSession, click: bool) -> None:
    large, middle, small = (
        on_map(shapely.box(*box)) for box in ((0, 0, 300, 300), (400, 0, 500, 100), (600, 0, 650, 50))
    )
    session.reshape(shapely.MultiPolygon([large, middle, small]))
    if click:
        session.add_point(*TRANSFORM.apply(450, 50))
        session.reshape(shapely.MultiPolygon([large, middle, small]))
    cut = session.cut(line((480, -50), (480, 150)))
    left = shapely.union_all([large, on_map(shapely.box(400, 0, 480, 100)), small])
    assert iou(cut.geometry, left) > 0.9999
    cut = session.cut(line((100, -50), (100, 350)))
    assert iou(cut.geometry, left.difference(on_map(shapely.box(0, 0, 100, 300)))) > 0.9999


def test_undo_and_redo_show_polygons_with_the_present_options(session: SegmentationSession) -> None:
    for x in (480, 520, 560):
        session.add_point(*TRANSFORM.apply(x, 500))
    session.undo()
    coarse = session.undo()
    assert coarse is not None
    session.options = CleanOptions(simplify_tolerance=0.0)
    session.select_candidate(0)
    fine = session.redo()
    assert fine is not None and shapely.get_num_coordinates(fine.geometry) > 3 * shapely.get_num_coordinates(
        coarse.geometry
    )
    assert shapely.get_num_coordinates(session.redo().geometry) == shapely.get_num_coordinates(fine.geometry)
    session.options = CleanOptions(simplify_tolerance=8.0)
    assert shapely.get_num_coordinates(session.undo().geometry) < shapely.get_num_coordinates(coarse.geometry)
    session.redo()
    assert len(session.prompts.points) == 3


def test_a_loop_is_a_region_and_an_open_stroke_a_scribble(session: SegmentationSession) -> None:
    loop = line((480, 480), (520, 480), (525, 520), (482, 521), (478, 490))
    result = session.draw(loop)
    assert iou(result.geometry, TRUTH) > 0.98 and result.gesture == session.last_prompt == "lasso"
    session.undo()
    result = session.draw(line((400, 400), (600, 600)))
    assert iou(result.geometry, TRUTH) > 0.98 and result.gesture == session.last_prompt == "scribble"
    assert [p.x for p in session.prompts.points] == pytest.approx([420, 460, 500, 540, 580])
    session.draw(line((100, 400), (100, 600)), positive=False)
    assert [p.positive for p in session.prompts.points] == [True] * 5 + [False] * 5
    session.undo()
    session.undo()
    assert session.undone_prompt == "scribble"
    with pytest.raises(PromptError):
        session.draw(loop, positive=False)


def test_a_loop_adds_to_the_object_or_cuts_from_it(session: SegmentationSession) -> None:
    session.reshape(SQUARE)
    beside = [(640, 400), (740, 400), (740, 500), (640, 500), (640, 405)]
    session.draw(line(*beside))
    asked = session.segmenter.decoder.calls[-1][0].outline  # type: ignore[attr-defined]
    assert iou(asked, shapely.box(330, 350, 640, 660).union(shapely.box(640, 400, 740, 500))) > 0.999
    session.undo()
    session.draw(line(*[(x - 100, y) for x, y in beside]), positive=False)
    asked = session.segmenter.decoder.calls[-1][0].outline  # type: ignore[attr-defined]
    assert iou(asked, shapely.box(330, 350, 640, 660).difference(shapely.box(540, 400, 640, 500))) > 0.999


def test_a_loop_that_cuts_the_whole_object_away_is_refused_and_nothing_changes(session: SegmentationSession) -> None:
    session.reshape(SQUARE)
    before = session.current
    with pytest.raises(PromptError, match="Nothing is left of the polygon"):
        session.draw(line((0, 0), (1000, 0), (1000, 1000), (0, 1000), (0, 5)), positive=False)
    assert session.current is before


def test_another_session_follows_shaping_too(session: SegmentationSession) -> None:
    other = SegmentationSession(open_blobs(session.segmenter.reader.root))
    session.reshape(SQUARE)
    session.add_point(*CENTRE)
    session.brush(painted((700, 500), (760, 500), radius=20))
    session.draw(line((400, 400), (600, 600)))
    followed = other.follow(session)
    assert followed is not None and session.current is not None
    assert followed.geometry.equals(session.current.geometry) and followed.gesture == "scribble"
    session.undo()
    assert other.follow(session) is other.current and other.last_prompt == "brush"


def test_polygon_partly_or_wholly_outside_the_raster(session: SegmentationSession) -> None:
    extent = on_map(shapely.box(0, 0, 1400, 1200))
    outline = on_map(shapely.box(-50, 350, 640, 660))
    session.reshape(outline)
    for pixel in ((500, 500), (550, 500)):
        found = session.add_point(*TRANSFORM.apply(*pixel)).geometry
        assert iou(shapely.intersection(found, extent), TRUTH) > 0.98
        rest = shapely.difference(found, extent)
        assert iou(rest, shapely.difference(outline, extent)) > 0.999, "what the image does not show stays"
        assert {*shapely.get_coordinates(outline)[:, 0]} & {*shapely.get_coordinates(found)[:, 0]}
    away = SegmentationSession(session.segmenter)
    away.reshape(on_map(shapely.box(5000, 5000, 5100, 5100)))
    with pytest.raises(PromptError, match="outline lies outside"):
        away.add_point(*CENTRE)


def test_a_bow_tie_is_mended(session: SegmentationSession) -> None:
    tie = shapely.Polygon(line((400, 400), (600, 600), (600, 400), (400, 600)))
    assert session.reshape(tie).geometry.is_valid
    assert iou(session.add_point(*CENTRE).geometry, TRUTH) > 0.98


def test_parts_without_a_prompt_are_kept_if_wanted(tmp_path: Path) -> None:
    image = disc((600, 600), 200, 300, 60) + disc((600, 600), 400, 300, 40)
    segmenter = open_blobs(make_store(tmp_path, image))
    box = Bounds(100, 200, 500, 400)
    assert SegmentationSession(segmenter).set_box(box.corners).geometry.geom_type == "Polygon"
    both = SegmentationSession(segmenter, options=CleanOptions(all_parts=True)).set_box(box.corners).geometry
    assert len(both.geoms) == 2
    session = SegmentationSession(segmenter)
    session.reshape(both)
    assert len(session.add_point(200, 300).geometry.geoms) == 2, "both parts of the outline hold a prompt"


def test_the_decoder_gets_a_point_in_the_middle_of_an_outline(session: SegmentationSession) -> None:
    session.reshape(SQUARE)
    session.add_point(*TRANSFORM.apply(320, 340), positive=False)
    asked = session.segmenter.decoder.calls[-1][0].points  # type: ignore[attr-defined]
    (middle,) = [point for point in asked if point.positive]
    assert shapely.box(400, 420, 570, 590).contains(shapely.Point(middle.x, middle.y))
    assert [point.positive for point in session.prompts.points] == [False], "it is no prompt of the user"
    session.undo()
    session.add_point(*CENTRE)
    asked = session.segmenter.decoder.calls[-1][0].points  # type: ignore[attr-defined]
    assert len(asked) == 1, "a click inside serves as well"
