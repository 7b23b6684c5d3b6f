"""The decoders of SAM, MobileSAM and HQ-SAM against other people's code, on 204 random prompts each.

The weights are random. The decoders have all their layers but few places, so that many prompts take seconds. Those of
SAM 2.1, EdgeTAM and SAM 3 are compared in the same way in ``test_sam2.py``, and SAM's at its true size in
``test_sam_parity.py``.
"""

from __future__ import annotations

import importlib.util
import re
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
if importlib.util.find_spec("segment_anything") is None:  # it imports only with torchvision or its placeholders
    pytest.skip("segment_anything is not installed", allow_module_level=True)

from encoder_tools.models.export import export_model  # noqa: E402
from encoder_tools.models.fast_decoder.networks import CONTEXT_NAMES  # noqa: E402
from encoder_tools.models.hq_sam import LoadedHqSam, _Correction  # noqa: E402
from encoder_tools.models.sam.segment_anything_import import import_segment_anything  # noqa: E402
from encoder_tools.models.sam.weights import LoadedSam, sam_with  # noqa: E402
from geosam_es.inference.encoder import ModelInfo  # noqa: E402
from geosam_es.inference.runtime import OnnxGraph  # noqa: E402
from tests.encoder_tools.reference_import import import_reference  # noqa: E402
from tests.encoder_tools.test_sam_parity import (  # noqa: E402
    PromptSet,
    computed_once,
    liven,
    random_prompts,
    relative,
    worst_iou,
)

TILE, SIDE, EARLY, PROMPT_SETS = 1024, 8, 160, 204


def resized(masks: Any, side: int) -> Any:
    return torch.nn.functional.interpolate(masks, size=(side, side), mode="bilinear")


class SmallSam(LoadedSam):
    """A SAM whose image has few places. Its export is compared with its own modules first."""

    def answer(self, features: Any, prompts: Any, is_learning: bool = False) -> tuple[Any, Any]:
        prepare, decode = self.decoder()
        context, known = prepare(*features), len(CONTEXT_NAMES)
        masks, scores = decode(*context[:known], *prompts, 0, *context[known:])
        return masks, scores


class SmallHqSam(LoadedHqSam):
    answer = SmallSam.answer


def small_network() -> Any:
    """Build SAM's prompt encoder and mask decoder for an image of few places."""
    encoder = import_segment_anything().modeling.PromptEncoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = sam_with(torch.nn.Identity())
        network.prompt_encoder = encoder(256, (SIDE, SIDE), (TILE, TILE), 16)
    return network.eval()


class Case:
    """An exported decoder, the features of a tile, and a function that answers with other code and the same weights.

    ``once`` makes a context in which that code answers the same prompts twice from one computation.
    """

    def __init__(self, folder: Path, features: dict[str, Any], ask: Any, once: Any) -> None:
        self.prepare, self.decode = (OnnxGraph(folder / f"{name}.onnx", threads=1) for name in ("prepare", "decoder"))
        self.features = {name: maps.numpy() for name, maps in features.items()}
        self.ask, self.once = ask, once

    def answer(self, context: Any, prompts: PromptSet) -> tuple[Any, Any]:
        """Return masks (4, h, w) and scores (4,)."""
        outputs = self.decode.run({**context, **prompts.feeds()})
        return outputs["low_res_masks"][0], outputs["iou_predictions"][0]

    def wanted(self, prompts: PromptSet, multimask: bool) -> tuple[Any, Any]:
        """Return masks (K, h, w) and scores (K,) of the reference, the best first."""

        def batch(array: Any) -> Any:
            return None if array is None else torch.from_numpy(np.asarray(array, np.float32))[None]

        mask = None if prompts.mask is None else resized(batch(prompts.mask[None]), 4 * SIDE)
        given = (batch(prompts.points), batch(prompts.labels)) if len(prompts.points) else (None, None)
        with torch.no_grad():
            masks, scores = self.ask(*given, batch(prompts.box), mask, multimask)
        order = scores.argsort(descending=True)
        return masks[0][order], scores[order].numpy()


def ask_package(name: str, network: Any, features: Any) -> tuple[Any, Any]:
    """Return a function that answers with the modules of SAM's or MobileSAM's authors, and what computes once."""
    modeling = import_reference(name).modeling
    prompt_encoder = modeling.PromptEncoder(
        embed_dim=256, image_embedding_size=(SIDE, SIDE), input_image_size=(TILE, TILE), mask_in_chans=16
    )
    transformer = modeling.TwoWayTransformer(depth=2, embedding_dim=256, num_heads=8, mlp_dim=2048)
    decoder = modeling.MaskDecoder(transformer_dim=256, transformer=transformer)
    for module, own in ((prompt_encoder, network.prompt_encoder), (decoder, network.mask_decoder)):
        module.load_state_dict(own.state_dict())

    def ask(points: Any, labels: Any, box: Any, mask: Any, multimask: bool) -> tuple[Any, Any]:
        given = None if points is None else (points, labels)
        sparse, dense = prompt_encoder(points=given, boxes=box, masks=mask)
        masks, scores = decoder(
            image_embeddings=features,
            image_pe=prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
        )
        return masks, scores[0]

    return ask, partial(computed_once, decoder)


_THREE = {"0": "conv1", "1": "norm", "3": "conv2"}
_RENAMED = (
    (r"pe_layer\.positional_encoding_gaussian_matrix", "shared_embedding.positional_embedding"),
    (r"point_embeddings", "point_embed"),
    *(
        (rf"mask_downscaling\.{at}\.", f"mask_embed.{new}.")
        for at, new in ((0, "conv1"), (1, "layer_norm1"), (3, "conv2"), (4, "layer_norm2"), (6, "conv3"))
    ),
    (r"output_upscaling\.1\.", "upscale_layer_norm."),
    *(
        (rf"{old}\.{at}\.", f"{new}_{part}.")
        for old, new in (
            ("output_upscaling", "upscale"),
            ("compress_vit_feat", "compress_vit"),
            ("embedding_encoder", "encoder"),
            ("embedding_maskfeature", "mask"),
        )
        for at, part in _THREE.items()
    ),
    (r"\.norm(\d|_final_attn)\.", r".layer_norm\1."),
    (r"hf_token", "hq_token"),
    (r"hf_mlp", "hq_mask_mlp"),
    (r"(mlps\.\d+|_head|_mlp)\.layers\.0\.", r"\1.proj_in."),
    (r"(mlps\.\d+|_head|_mlp)\.layers\.2\.", r"\1.proj_out."),
    (r"(mlps\.\d+|_head|_mlp)\.layers\.1\.", r"\1.layers.0."),
)
"""Names of segment_anything and of HQ-SAM's authors, and those of transformers."""


def ask_transformers(sam: LoadedHqSam, features: Any, early: Any) -> Any:
    """Return a function that answers with transformers' HQ-SAM, with one mistake of its mended.

    It computes the masks from the image before the attention to the prompts; its authors, from the image after it.
    """
    config = transformers.SamHQConfig(
        vision_config={
            "hidden_size": 16,
            "mlp_dim": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "global_attn_indexes": [0],
            "image_size": TILE,
            "patch_size": TILE // SIDE,
        },
        prompt_encoder_config={"image_size": TILE, "patch_size": TILE // SIDE},
        mask_decoder_config={"vit_dim": EARLY},
    )
    model = transformers.SamHQModel(config).eval()
    state = sam.network.state_dict() | {f"mask_decoder.{key}": one for key, one in sam.correction.state_dict().items()}
    for pattern, new in _RENAMED:
        state = {re.sub(pattern, new, key): values for key, values in state.items()}
    position = "shared_embedding.positional_embedding"
    state["shared_image_embedding.positional_embedding"] = state[f"prompt_encoder.{position}"]
    loaded = model.load_state_dict(state, strict=False)
    assert set(loaded.unexpected_keys) <= {"pixel_mean", "pixel_std"}
    assert all(key.startswith("vision_encoder") for key in loaded.missing_keys)
    attended = []
    model.mask_decoder.transformer.register_forward_hook(lambda *call: attended.append(call[-1][1]))
    model.mask_decoder.upscale_conv1.register_forward_pre_hook(
        lambda *_: attended.pop().squeeze(1).transpose(1, 2).reshape(-1, 256, SIDE, SIDE)
    )

    def ask(points: Any, labels: Any, box: Any, mask: Any, multimask: bool) -> tuple[Any, Any]:
        answer = model(
            image_embeddings=features,
            intermediate_embeddings=[early.permute(0, 2, 3, 1)],
            input_points=None if points is None else points.unsqueeze(1),
            input_labels=None if points is None else labels.unsqueeze(1),
            input_boxes=None if box is None else box.unsqueeze(1),
            input_masks=mask,
            multimask_output=multimask,
        )
        return answer.pred_masks[0], answer.iou_scores[0, 0]

    return ask


@pytest.fixture(scope="module", params=["segment_anything", "mobile_sam", "hq_sam"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    network, generator = small_network(), torch.Generator().manual_seed(1)
    image, early = (torch.randn(1, count, SIDE, SIDE, generator=generator) for count in (256, EARLY))
    features, folder = {"image_embeddings": image}, tmp_path_factory.mktemp(request.param)
    sizes = {"image_embeddings": (256, SIDE, SIDE)}
    sam: Any = SmallSam(network, ModelInfo("small", "0" * 64, "none", sizes))
    liven(sam)
    if request.param == "hq_sam":
        torch.manual_seed(2)
        correction = _Correction(EARLY).eval()
        more = {**sizes, "hq_features": (32, 4 * SIDE, 4 * SIDE)}
        sam = SmallHqSam(network, replace(sam.info, features=more), correction)
        with torch.no_grad():
            correction.hf_mlp.layers[2].weight.mul_(10)
            features["hq_features"] = correction.embedding_encoder(image) + correction.compress_vit_feat(early)
    export_model(sam, folder)
    is_hq = request.param == "hq_sam"
    if is_hq:
        return Case(folder, features, ask_transformers(sam, image, early), nullcontext)
    return Case(folder, features, *ask_package(request.param, network, image))


def test_logits_masks_and_scores(case: Case) -> None:
    generator, context, singles = np.random.default_rng(2), case.prepare.run(case.features), []
    for index in range(PROMPT_SETS):
        prompts = random_prompts(generator, index)
        masks, scores = case.answer(context, prompts)
        masks = resized(torch.from_numpy(masks[None]), 256)[0].numpy()
        with case.once():
            answers = [case.wanted(prompts, multimask) for multimask in (False, True)]
        for kept, (wanted, wanted_scores) in zip((slice(0, 1), slice(1, 4)), answers):
            wanted = resized(wanted[None], 256)[0].numpy()
            order = np.argsort(-scores[kept])
            assert relative(masks[kept][order], wanted) < 1e-3
            assert worst_iou(masks[kept][order], wanted) >= 0.999
            np.testing.assert_allclose(scores[kept][order], wanted_scores, atol=1e-3)
        singles.append(masks[:1])
    # Prompts matter, or their handling is not tested.
    assert np.mean([worst_iou(*pair) for pair in zip(singles, singles[1:])]) < 0.8
    assert 0.02 < np.mean(np.concatenate(singles) > 0) < 0.98
