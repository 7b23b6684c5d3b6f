"""Decoders of SAM, SAM 2 and SAM 3 in training: they fit a few objects, and the exported graphs equal the module.

One training of each serves all tests. It is short, because each of the three tiles shows one object that the features
separate from the background, and because the weights are updated after each object. Those of SAM 2 and 3 are for small
images: they have the same layers and fewer places. MobileSAM has SAM's decoder.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import shapely
import torch

from encoder_tools.evaluation.ground_truth import Located, TruthObject
from encoder_tools.finetune import base_decoder, finetuning, training
from encoder_tools.finetune.base_decoder import load_base, save_weights, with_weights
from encoder_tools.finetune.feature_cache import FeatureCache
from encoder_tools.finetune.learners import StoredLearner
from encoder_tools.finetune.sam_decoder import SamDecoder
from encoder_tools.finetune.training import Choice
from encoder_tools.finetune.training_samples import Sample, make_samples
from encoder_tools.finetune.tunable_decoder import PromptTensors, trainable
from encoder_tools.models.family import Network, load_decoder_weights
from encoder_tools.models.hq_sam import _Correction
from encoder_tools.models.mobile_sam import LoadedMobileSam, tiny_sam
from encoder_tools.models.sam.weights import FEATURES
from encoder_tools.models.sam2 import random_sam2
from geosam_es.core.prompts import Point, Prompts
from geosam_es.errors import ModelError
from geosam_es.inference.encoder import ModelInfo
from geosam_es.inference.runtime import OnnxGraph
from geosam_es.inference.session import open_segmenter
from geosam_es.store import StoreReader
from tests.encoder_tools.conftest import Run
from tests.encoder_tools.scenes import Block, scene, transform_of, write_layer, write_raster
from tests.encoder_tools.test_sam2 import needs_5, sam2_config, sam3_config
from tests.encoder_tools.tuning_scenes import MINI, sam2_features, sam_features, write_store

BOXES = [(152, 200, 420, 460), (600, 520, 860, 900), (500, 100, 900, 420)]
EPOCHS = 4
WANTED = 0.9


def random_network(family: str) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if family == "sam2":
            return random_sam2(0, sam2_config(256))
        if family == "sam3":
            return random_sam2(0, sam3_config(252))
        return LoadedMobileSam(tiny_sam(), ModelInfo("mobile_sam", "0" * 64, "NOASSERTION", FEATURES))


class Fitted:
    """A decoder that was fitted to three objects."""

    def __init__(self, family: str, folder: Path) -> None:
        for name in ("prepare.onnx", "decoder.onnx"):
            (folder / name).touch()
        self.family = family
        self.sam = random_network(family)
        shapes = self.sam.info.features
        maps = [sam_features([box]) if family == "mobile_sam" else sam2_features([box], shapes) for box in BOXES]
        model = dict(self.sam.info.to_json())
        readers = [StoreReader(write_store(folder, n, one, folder, model)) for n, one in enumerate(maps)]
        objects = [[TruthObject(str(n), shapely.box(*box))] for n, box in enumerate(BOXES)]
        self.reader = readers[0]
        self.samples: list[Sample] = make_samples(readers, Located(objects))[0]
        self.cache = FeatureCache(readers)
        self.decoder = SamDecoder(self.sam)
        self.original = copy.deepcopy(self.decoder.module.state_dict())
        self.before = self.iou()
        learner = StoredLearner(self.decoder, self.cache)
        optimizer = torch.optim.AdamW(trainable(self.decoder.module), lr=1e-3)
        rng = np.random.default_rng(0)
        for _ in range(EPOCHS):
            for sample in self.samples:
                for _ in learner.steps([sample], rng):
                    torch.nn.utils.clip_grad_norm_(trainable(self.decoder.module), 1.0)
                    optimizer.step()
                    optimizer.zero_grad()

    def iou(self) -> float:
        return float(StoredLearner(self.decoder, self.cache).answers(self.samples, Event())[:, :2].mean())


@pytest.fixture(scope="module", params=["mobile_sam", "sam2", pytest.param("sam3", marks=needs_5)])
def fitted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    return Fitted(request.param, tmp_path_factory.mktemp(request.param))


def test_it_fits_the_objects(fitted: Fitted) -> None:
    assert fitted.before < 0.7 and fitted.iou() > WANTED


def test_only_the_mask_decoder_is_trained(fitted: Fitted) -> None:
    now = fitted.decoder.module.state_dict()
    changed = {name.split(".")[0] for name, value in fitted.original.items() if not torch.equal(value, now[name])}
    assert changed == {"mask_decoder"}
    whole = SamDecoder(copy.deepcopy(fitted.sam), train_prompt_encoder=True)
    assert whole.module["prompt_encoder"].no_mask_embed.weight.requires_grad


def test_exported_graphs_equal_the_trained_module(fitted: Fitted, tmp_path: Path) -> None:
    fitted.decoder.export(tmp_path)
    features = fitted.cache.read(fitted.samples[0].place)
    context = OnnxGraph(tmp_path / "prepare.onnx").run(dict(zip(fitted.sam.info.features, features)))
    graph = OnnxGraph(tmp_path / "decoder.onnx")
    rng = np.random.default_rng(0)
    previous = rng.normal(0, 4, (1, 1, 256, 256)).astype(np.float32)
    cases = [
        ([[286, 330], [0, 0]], [1, -1], 0),
        ([[152, 200], [420, 460]], [2, 3], 0),
        ([[152, 200], [420, 460], [300, 300], [20, 20]], [2, 3, 1, 0], 1),
    ]
    for coords, labels, has_mask in cases:
        feeds = {
            "point_coords": np.array([coords], np.float32),
            "point_labels": np.array([labels], np.float32),
            "mask_input": previous,
            "has_mask_input": np.array([has_mask], np.float32),
        }
        wanted = graph.run({**context, **feeds})
        with torch.no_grad():
            tensors = PromptTensors(*(torch.from_numpy(value) for value in feeds.values()))
            found = fitted.decoder.decode(fitted.decoder.prepare(*map(torch.from_numpy, features)), tensors)
        limit = 1e-3 * float(np.abs(wanted["low_res_masks"]).max())
        assert np.abs(found.masks.numpy() - wanted["low_res_masks"]).max() < limit
        assert np.abs(found.scores.numpy() - wanted["iou_predictions"]).max() < 1e-3


def test_a_click_without_padding_gets_it(fitted: Fitted) -> None:
    """SAM's predictor and the plugin add a padding point after prompts without a box."""
    context = fitted.decoder.prepare(*map(torch.from_numpy, fitted.cache.read(fitted.samples[0].place)))
    none, no = torch.zeros(1, 1, 256, 256), torch.zeros(1)
    bare = PromptTensors(torch.tensor([[[286.0, 330.0]]]), torch.ones(1, 1), none, no)
    padded = PromptTensors(torch.tensor([[[286.0, 330.0], [0.0, 0.0]]]), torch.tensor([[1.0, -1.0]]), none, no)
    with torch.no_grad():
        first, second = fitted.decoder.decode(context, bare), fitted.decoder.decode(context, padded)
    assert torch.equal(first.masks, second.masks)


def test_weights_go_to_a_file_and_back(fitted: Fitted, tmp_path: Path) -> None:
    path = tmp_path / "tuned.pt"
    save_weights(fitted.decoder, path)
    other = SamDecoder(random_network(fitted.family))
    assert with_weights(other, path) is other
    known = fitted.decoder.module.state_dict()
    assert all(torch.equal(value, known[name]) for name, value in other.module.state_dict().items())
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="does not contain the weights of this decoder"):
        with_weights(other, path)


def test_a_tuned_decoder_in_a_folder_called_original_is_the_one_to_start_from(
    fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "original"
    folder.mkdir()
    (folder / "decoder.onnx").touch()
    save_weights(fitted.decoder, folder / "tuned.pt")
    families = []
    monkeypatch.setattr(
        base_decoder,
        "load_decoder_weights",
        lambda family, path: families.append(family) or random_network(fitted.family),
    )
    base = load_base(fitted.reader, str(folder), tmp_path / "sam.pth", train_prompt_encoder=False)
    assert families == ["mobile_sam" if fitted.family == "mobile_sam" else "edgetam"]
    known = fitted.decoder.module.state_dict()
    assert all(torch.equal(value, known[name]) for name, value in base.decoder.module.state_dict().items())


def test_a_store_of_sam2_gets_a_tuned_decoder_and_clicks_use_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetuning, "REPORT_PROMPTS", "point")
    monkeypatch.setattr(finetuning, "_MOST_COMPARED", 2)
    monkeypatch.setattr(finetuning, "choose", lambda fits: Choice("adapter", 1.0, fits))
    monkeypatch.setattr(training, "_MOST_CHECKED", 1)
    weights, out = tmp_path / "my-sam2", tmp_path / "tuned"
    random_network("sam2").model.save_pretrained(weights)  # type: ignore[attr-defined]
    blocks = [
        Block(*place, 120, 90) for place in ((90, 90), (420, 130), (720, 200), (150, 500), (480, 640), (800, 760))
    ]
    image = write_raster(tmp_path / "ortho.tif", scene(1024, 1024, blocks))
    given = ("--checkpoint", weights)
    assert run("encode", image, "--model", "sam2.1_tiny", *given).exit_code == 0
    store = tmp_path / "ortho.embeddings.zarr"
    truth = write_layer(tmp_path / "truth.gpkg", [block.on_map(transform_of(image)) for block in blocks])
    done = run("finetune", store, truth, "-o", out, *given, "--epochs", 1, "--threads", 1, "--holdout", 0)
    assert done.exit_code == 0, done.stderr
    click = Prompts((Point(150, 135),))
    before = open_segmenter(store, threads=1).propose(click).masks[0][0].logits
    assert run("decoder", "set", store, out).stdout.endswith("decoder tuned is in use\n")
    after = open_segmenter(store, threads=1).propose(click).masks[0][0].logits
    assert np.abs(after - before).max() > 1e-3 * np.abs(before).max()

    # The plugin takes a folder with model.json for one with an encoder. Older versions wrote that file.
    assert not (out / "model.json").exists()
    (out / "model.json").write_text(json.dumps({"version": 1, **StoreReader(store).metadata.model, "image_size": 1024}))
    other = write_store(tmp_path, 1, sam_features([]), out, dict(MINI))
    refused = run("decoder", "set", other, out)
    assert refused.exit_code == 2 and "is a decoder for the encoder my-sam2, but" in refused.stderr
    base = load_base(StoreReader(store), str(out), weights, train_prompt_encoder=False)
    reader = StoreReader(store)
    features = reader.read(next(iter(reader.pyramid))).values()
    prompts = PromptTensors(
        torch.tensor([[[150.0, 135.0]]]), torch.ones(1, 1), torch.zeros(1, 1, 256, 256), torch.zeros(1)
    )
    with torch.no_grad():
        context = base.decoder.prepare(*map(torch.from_numpy, features))
        masks, scores = base.decoder.decode(context, prompts)
    wanted = masks[0, 1 + int(scores[0, 1:].argmax())].numpy()
    # The adapter's weights are float16 in the graph.
    assert np.abs(after - wanted).max() < 0.02 * np.abs(wanted).max()
    report = run(
        "evaluate",
        store,
        truth,
        "-o",
        tmp_path / "report",
        "--decoder",
        "original",
        "--decoder",
        "tuned",
        "--prompts",
        "point",
    )
    assert report.exit_code == 0, report.stderr


def test_the_correction_of_hq_sam_learns_too(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network, correction = tiny_sam(), _Correction(160)
        features = torch.randn(1, 256, 64, 64), torch.randn(1, 32, 256, 256)
    state = {f"mask_decoder.{name}": values for name, values in correction.state_dict().items()}
    torch.save({**network.state_dict(), **state}, tmp_path / "hq.pth")
    decoder = SamDecoder(load_decoder_weights("hq_sam", tmp_path / "hq.pth"))
    points = torch.tensor([[[286.0, 330.0]]]), torch.ones(1, 1)
    prompts = PromptTensors(*points, torch.zeros(1, 1, 256, 256), torch.zeros(1))
    _, loss = decoder.learn(decoder.prepare(*features), prompts, torch.ones(1, 1, 256, 256), torch.ones(1))
    loss.backward()  # type: ignore[no-untyped-call]
    learning = {name for name, weight in decoder.module.named_parameters() if weight.grad is not None}
    assert {"correction.hf_token.weight", "mask_decoder.iou_token.weight"} <= learning
    assert not any(name.startswith("prompt_encoder") for name in learning)
