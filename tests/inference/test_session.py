from __future__ import annotations

from pathlib import Path

import pytest
import shapely

from geosam_es.core.geotransform import GeoTransform
from geosam_es.core.prompts import Bounds
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
    result = session.set_box(Bounds(*truth.bounds))
    assert result.geometry.intersection(truth).area / result.geometry.union(truth).area > 0.97
    moved = session.set_box(Bounds(*truth.buffer(5).bounds))
    assert len(session.prompts) == 1, "a second box takes the place of the first"
    assert not moved.geometry.is_empty


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
