"""SAM's decoder in training: it learns objects by heart, and what is exported is what was trained.

One training of the whole decoder of vit_b serves all the tests. It is short because each of its three tiles shows one
object, which the features tell from the ground, and because every object changes the weights by itself.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import shapely
import torch

from encoder_tools.evaluation.ground_truth import Located, TruthObject
from encoder_tools.finetune.base_decoder import load_weights, save_weights
from encoder_tools.finetune.sam_decoder import SamDecoder
from encoder_tools.finetune.training import TuneOptions, train
from encoder_tools.finetune.training_samples import FeatureCache, Sample, make_samples
from encoder_tools.finetune.tunable_decoder import PromptTensors
from encoder_tools.finetune.validation import mean_iou
from encoder_tools.models.sam.weights import LoadedSam, random_sam
from geosam_es.errors import ModelError
from geosam_es.inference.runtime import OnnxGraph
from geosam_es.store import StoreReader
from tests.encoder_tools.tuning_scenes import sam_features, write_store

pytestmark = pytest.mark.usefixtures("one_thread")

BOXES = [(152, 200, 420, 460), (600, 520, 860, 900), (500, 100, 900, 420)]
EPOCHS = 6
WANTED = 0.9


class Learnt:
    """A decoder that learnt three objects by heart."""

    def __init__(self, folder: Path) -> None:
        for name in ("prepare.onnx", "decoder.onnx"):
            (folder / name).touch()
        self.sam: LoadedSam = random_sam("vit_b", seed=0)
        model: dict[str, object] = {"name": "vit_b", "encoder_sha256": "0" * 64, "licence": "CC0-1.0"}
        readers = [
            StoreReader(write_store(folder, n, sam_features([box]), folder, model)) for n, box in enumerate(BOXES)
        ]
        objects = [[TruthObject(str(n), shapely.box(*box))] for n, box in enumerate(BOXES)]
        self.samples: list[Sample] = make_samples(readers, Located(objects))[0]
        self.cache = FeatureCache(readers)
        self.decoder = SamDecoder(self.sam)
        self.prompt_encoder = copy.deepcopy(self.sam.network.prompt_encoder.state_dict())
        self.mask_decoder = copy.deepcopy(self.sam.network.mask_decoder.state_dict())
        self.before = mean_iou(self.decoder, self.cache, self.samples)
        options = TuneOptions(EPOCHS, learning_rate=1e-3, objects_a_step=1)
        train(self.decoder, self.cache, self.samples, self.samples, options, folder, {})


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return Learnt(tmp_path_factory.mktemp("sam"))
    finally:
        torch.set_num_threads(threads)


def test_it_learns_objects_by_heart(learnt: Learnt) -> None:
    after = mean_iou(learnt.decoder, learnt.cache, learnt.samples)
    assert learnt.before < 0.5 and after > WANTED


def test_only_the_mask_decoder_learns(learnt: Learnt) -> None:
    network = learnt.sam.network
    now = network.prompt_encoder.state_dict()
    assert all(torch.equal(value, now[name]) for name, value in learnt.prompt_encoder.items())
    now = network.mask_decoder.state_dict()
    assert any(not torch.equal(value, now[name]) for name, value in learnt.mask_decoder.items())
    assert (
        SamDecoder(LoadedSam(copy.deepcopy(network), learnt.sam.info), train_prompt_encoder=True)
        .module["prompt_encoder"]
        .no_mask_embed.weight.requires_grad
    )


def test_what_is_exported_is_what_was_trained(learnt: Learnt, tmp_path: Path) -> None:
    learnt.decoder.export(tmp_path)
    features = learnt.cache.read(learnt.samples[0].place)
    context = OnnxGraph(tmp_path / "prepare.onnx").run({"image_embeddings": features})
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
            found = learnt.decoder.decode(learnt.decoder.prepare(torch.from_numpy(features)), tensors)
        limit = 1e-3 * float(np.abs(wanted["low_res_masks"]).max())
        assert np.abs(found.masks.numpy() - wanted["low_res_masks"]).max() < limit
        assert np.abs(found.scores.numpy() - wanted["iou_predictions"]).max() < 1e-3


def test_a_click_without_padding_gets_it(learnt: Learnt) -> None:
    """As SAM's predictor and the store's readers put a padding point behind prompts without a box."""
    context = learnt.decoder.prepare(torch.from_numpy(learnt.cache.read(learnt.samples[0].place)))
    none, no = torch.zeros(1, 1, 256, 256), torch.zeros(1)
    bare = PromptTensors(torch.tensor([[[286.0, 330.0]]]), torch.ones(1, 1), none, no)
    padded = PromptTensors(torch.tensor([[[286.0, 330.0], [0.0, 0.0]]]), torch.tensor([[1.0, -1.0]]), none, no)
    with torch.no_grad():
        first, second = learnt.decoder.decode(context, bare), learnt.decoder.decode(context, padded)
    assert torch.equal(first.masks, second.masks)


def test_weights_go_to_a_file_and_back(learnt: Learnt, tmp_path: Path) -> None:
    path = tmp_path / "tuned.pt"
    save_weights(learnt.decoder, path)
    other = SamDecoder(random_sam("vit_b", seed=1))
    load_weights(other, path)
    known = learnt.decoder.module.state_dict()
    assert all(torch.equal(value, known[name]) for name, value in other.module.state_dict().items())
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="does not hold the weights of this decoder"):
        load_weights(other, path)
