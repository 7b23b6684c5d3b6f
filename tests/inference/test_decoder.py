"""Both kinds of decoder, as files and in a store: the split graphs, and SAM's single graph."""

from __future__ import annotations

import importlib.util
import shutil
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from encoder_tools.models.checkpoints import mini_folder
from geosam_es.core.grid import Tile
from geosam_es.core.prompts import Bounds, Point, Prompts
from geosam_es.errors import ModelError
from geosam_es.inference.decoder import (
    DecodedMasks,
    MaskDecoder,
    SingleGraphDecoder,
    SplitDecoder,
    decode_many,
    decode_preview,
    load_decoder,
)
from geosam_es.inference.session import SegmentationSession, open_segmenter
from geosam_es.store import StoreWriter
from tests.helpers import make_metadata

# segment_anything itself does not import where torchvision is missing, so only look whether it is there.
needs_torch = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "segment_anything", "onnx")),
    reason="PyTorch and segment_anything are not installed",
)
PROMPTS = [
    Prompts((Point(500, 400),)),
    Prompts((Point(500, 400), Point(100, 900, positive=False))),
    Prompts(box=Bounds(200, 250, 800, 700)),
    Prompts((Point(500, 400),), Bounds(200, 250, 800, 700)),
]


def masks(count: int, scores: list[float]) -> DecodedMasks:
    return DecodedMasks(np.zeros((count, 4, 4), np.float32), np.array(scores, np.float32))


def test_ranking_follows_sams_advice() -> None:
    four = masks(4, [0.9, 0.5, 0.8, 0.6])
    assert four.ranking(ambiguous=True) == [2, 3, 1]
    assert four.ranking(ambiguous=False) == [0, 2, 3, 1]
    assert masks(3, [0.1, 0.3, 0.2]).ranking(ambiguous=False) == [1, 2, 0]
    assert masks(1, [0.4]).ranking(ambiguous=True) == [0]


@pytest.fixture(scope="module")
def sam_decoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from benchmarks.speed.sam import export_official_decoder
    from encoder_tools.models.export import export_model
    from encoder_tools.models.sam.weights import random_sam

    folder = tmp_path_factory.mktemp("sam")
    sam = random_sam("vit_b", seed=3)
    export_model(sam, folder)
    export_official_decoder(sam, folder / "official.onnx")
    export_official_decoder(sam, folder / "single.onnx", return_single_mask=True)
    return folder


@pytest.fixture(scope="module")
def features() -> dict[str, np.ndarray]:
    values = np.random.default_rng(0).standard_normal((1, 256, 64, 64), dtype=np.float32)
    return {"image_embeddings": values}


@pytest.fixture(scope="module")
def split(sam_decoders: Path) -> MaskDecoder:
    return load_decoder(sam_decoders / "prepare.onnx", sam_decoders / "decoder.onnx", threads=1)


@pytest.fixture(scope="module")
def official(sam_decoders: Path) -> MaskDecoder:
    return load_decoder(None, sam_decoders / "official.onnx", threads=1)


@needs_torch
@pytest.mark.parametrize("prompts", PROMPTS, ids=["point", "points", "box", "box and point"])
@pytest.mark.parametrize("with_mask", [False, True])
def test_the_official_graph_is_accepted_and_agrees(
    split: MaskDecoder, official: MaskDecoder, features: dict[str, np.ndarray], prompts: Prompts, with_mask: bool
) -> None:
    assert isinstance(split, SplitDecoder) and isinstance(official, SingleGraphDecoder)
    mask = features["image_embeddings"][0, :4].reshape(4, 64, 64).repeat(4, 1).repeat(4, 2)[0] if with_mask else None
    ours = split.decode(split.prepare(features), prompts, mask)
    theirs = official.decode(official.prepare(features), prompts, mask)
    scale = np.abs(theirs.low_res_masks).max()
    assert ours.low_res_masks.shape == theirs.low_res_masks.shape == (4, 256, 256)
    assert np.abs(ours.low_res_masks - theirs.low_res_masks).max() <= 1e-3 * scale
    np.testing.assert_allclose(ours.iou_predictions, theirs.iou_predictions, atol=1e-3)


@needs_torch
@pytest.mark.parametrize(("file", "candidates"), [("official.onnx", 3), ("single.onnx", 1)])
def test_a_store_with_the_official_graph_answers(
    sam_decoders: Path, features: dict[str, np.ndarray], tmp_path: Path, file: str, candidates: int
) -> None:
    model = {**make_metadata(1024, 1024).model, "features": {"image_embeddings": (256, 64, 64)}}
    metadata = replace(make_metadata(1024, 1024), model=model, dtype="float16")
    root = tmp_path / "sam.embeddings.zarr"
    writer = StoreWriter.create(root, metadata, {"decoder.onnx": sam_decoders / file})
    # Places of an image are like those beside them; masks of noise have thousands of parts.
    coarse = features["image_embeddings"][0, :, ::16, ::16]
    writer.write(Tile(0, 0, 0), {"image_embeddings": coarse.repeat(16, 1).repeat(16, 2)})
    session = SegmentationSession(open_segmenter(root, threads=1))
    result = session.add_point(500, 400)
    assert (result.candidates, result.level) == (candidates, 0)
    refined = session.add_point(520, 400)
    assert refined.candidate.mask.logits.shape == (256, 256)


def test_the_embedded_model_loads_as_a_split_decoder() -> None:
    decoder = load_decoder(mini_folder() / "prepare.onnx", mini_folder() / "decoder.onnx", threads=1)
    context = decoder.prepare({"image_embeddings": np.zeros((1, 512, 64, 64), np.float32)})
    decoded = decoder.decode(context, PROMPTS[2])
    assert decoded.low_res_masks.shape == (4, 256, 256) and decoded.iou_predictions.shape == (4,)


def test_features_are_taken_in_the_type_of_the_store() -> None:
    decoder = load_decoder(mini_folder() / "prepare.onnx", mini_folder() / "decoder.onnx", threads=1)
    half = np.random.default_rng(1).standard_normal((1, 512, 64, 64)).astype(np.float16)
    got, wanted = (decoder.prepare({"image_embeddings": half.astype(dtype)}) for dtype in (np.float16, np.float32))
    assert set(got) == set(wanted)
    for name in wanted:
        np.testing.assert_array_equal(got[name], wanted[name])


MANY = [
    *PROMPTS,
    *(Prompts((Point(100 + 60 * index, 950 - 70 * index),)) for index in range(10)),
    Prompts(tuple(Point(90 * index, 500, positive=index % 2 == 0) for index in range(11))),
    Prompts(box=Bounds(10, 20, 300, 400)),
]
"""With five different numbers of points."""


def check_many(decoders: Sequence[MaskDecoder], features: dict[str, np.ndarray]) -> None:
    """Compare with the answers that the first decoder gives one by one."""
    context = decoders[0].prepare(features)
    each = [decoders[0].decode(context, prompts) for prompts in MANY]
    for decoder in decoders:
        together = decode_many(decoder, decoder.prepare(features), MANY)
        assert len(together) == len(MANY)
        for wanted, got in zip(each, together):
            scale = np.abs(wanted.low_res_masks).max()
            assert np.abs(got.low_res_masks - wanted.low_res_masks).max() <= 1e-4 * scale
            np.testing.assert_allclose(got.iou_predictions, wanted.iou_predictions, atol=1e-4)
        assert decode_many(decoder, context, []) == []


@needs_torch
@pytest.mark.parametrize("file", ["decoder.onnx", "official.onnx"])
def test_many_prompts_together_give_the_same_as_one_by_one(
    sam_decoders: Path, features: dict[str, np.ndarray], file: str
) -> None:
    prepare = sam_decoders / "prepare.onnx" if file == "decoder.onnx" else None
    check_many([load_decoder(prepare, sam_decoders / file, threads) for threads in (1, 2)], features)


def test_the_embedded_model_decodes_many_prompts_together() -> None:
    decoder = load_decoder(mini_folder() / "prepare.onnx", mini_folder() / "decoder.onnx", threads=2)
    values = np.random.default_rng(0).standard_normal((1, 512, 64, 64), dtype=np.float32)
    check_many([decoder], {"image_embeddings": values})


def test_masks_that_are_not_numbers_are_refused() -> None:
    decoder = load_decoder(mini_folder() / "prepare.onnx", mini_folder() / "decoder.onnx", threads=1)
    features = {"image_embeddings": np.full((1, 512, 64, 64), np.nan, np.float32)}
    with pytest.raises(ModelError, match="not numbers"):
        decoder.decode(decoder.prepare(features), PROMPTS[2])


def test_several_objects_run_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = load_decoder(mini_folder() / "prepare.onnx", mini_folder() / "decoder.onnx", threads=2)
    context = decoder.prepare({"image_embeddings": np.zeros((1, 512, 64, 64), np.float32)})
    both_run = threading.Barrier(2)
    answer = {"low_res_masks": np.zeros((1, 4, 256, 256)), "iou_predictions": np.zeros((1, 4))}

    def run(*_: object) -> dict[str, np.ndarray]:
        both_run.wait(timeout=20)
        return answer

    monkeypatch.setattr("geosam_es.inference.decoder.OnnxGraph.run", run)
    assert len(decode_many(decoder, context, MANY[:4])) == 4


@needs_torch
def test_a_preview_is_the_mask_to_show_first(sam_decoders: Path, features: dict[str, np.ndarray]) -> None:
    decoder = load_decoder(sam_decoders / "prepare.onnx", sam_decoders / "decoder.onnx", threads=1)
    context = decoder.prepare(features)
    for prompts in PROMPTS:
        whole, preview = decoder.decode(context, prompts), decode_preview(decoder, context, prompts)
        shown = whole.ranking(prompts.is_ambiguous)[0]
        assert preview.low_res_masks.shape == (1, 256, 256)
        assert preview.iou_predictions[0] == pytest.approx(whole.iou_predictions[shown], abs=1e-5)
        wanted = whole.low_res_masks[shown]
        # One pixel of each place is always computed; the outline is tested with a model that has one.
        sampled = np.abs(preview.low_res_masks[0] - wanted)[1::4, 1::4]
        assert sampled.max() <= 1e-4 * np.abs(wanted).max()


@needs_torch
def test_many_prompts_can_give_only_the_mask_to_show_first(sam_decoders: Path, features: dict[str, np.ndarray]) -> None:
    for threads in (1, 2):
        decoder = load_decoder(sam_decoders / "prepare.onnx", sam_decoders / "decoder.onnx", threads)
        context = decoder.prepare(features)
        first = decode_many(decoder, context, MANY, first_only=True)
        for prompts, whole, got in zip(MANY, decode_many(decoder, context, MANY), first, strict=True):
            shown = whole.ranking(prompts.is_ambiguous)[0]
            assert got.low_res_masks.shape == (1, 256, 256) and got.ranking(prompts.is_ambiguous) == [0]
            assert got.iou_predictions[0] == pytest.approx(whole.iou_predictions[shown], abs=1e-5)
            wanted = whole.low_res_masks[shown]
            near = np.abs(got.low_res_masks[0] - wanted) <= 1e-4 * np.abs(wanted).max()
            assert near[1::4, 1::4].all()
            # More places than in a preview: with random weights the whole tile is full of outlines.
            assert near.reshape(64, 4, 64, 4).all((1, 3)).sum() > 512


def test_a_model_that_cannot_omit_masks_gives_all() -> None:
    mini = load_decoder(mini_folder() / "prepare.onnx", mini_folder() / "decoder.onnx", threads=2)
    context = mini.prepare({"image_embeddings": np.zeros((1, 512, 64, 64), np.float32)})
    for answer in decode_many(mini, context, PROMPTS, first_only=True):
        assert answer.low_res_masks.shape == (4, 256, 256)


@needs_torch
def test_without_a_preview_all_masks_are_decoded(sam_decoders: Path, features: dict[str, np.ndarray]) -> None:
    mini = load_decoder(mini_folder() / "prepare.onnx", mini_folder() / "decoder.onnx", threads=1)
    official = load_decoder(None, sam_decoders / "official.onnx", threads=1)
    for decoder, channels in ((mini, 512), (official, 256)):
        context = decoder.prepare({"image_embeddings": np.zeros((1, channels, 64, 64), np.float32)})
        preview, wanted = decode_preview(decoder, context, PROMPTS[0]), decoder.decode(context, PROMPTS[0])
        np.testing.assert_array_equal(preview.low_res_masks, wanted.low_res_masks)


def test_files_that_do_not_match_are_reported(tmp_path: Path) -> None:
    mini = mini_folder()
    with pytest.raises(ModelError, match=r"does not match the encoder\.onnx next to it"):
        SplitDecoder(mini / "encoder.onnx", mini / "decoder.onnx", threads=1)
    with pytest.raises(ModelError, match=r"not a complete SAM decoder.*unknown: .*image_embeddings"):
        SingleGraphDecoder(mini / "decoder.onnx", threads=1)
    shutil.copy(mini / "model.json", tmp_path / "decoder.onnx")
    with pytest.raises(ModelError, match="is not an ONNX model"):
        SingleGraphDecoder(tmp_path / "decoder.onnx")


def test_a_prepare_file_left_beside_a_single_graph_is_to_be_removed(sam_decoders: Path) -> None:
    with pytest.raises(ModelError, match=r"official\.onnx reads the features itself, and .*: remove .*prepare\.onnx"):
        SplitDecoder(sam_decoders / "prepare.onnx", sam_decoders / "official.onnx", threads=1)
