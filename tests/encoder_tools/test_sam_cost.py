"""What a click on the exported SAM decoder costs, in operations and results: counted, and held to what it should take.

The bounds are sums over the architecture, with nothing measured in them.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("segment_anything") is None:  # it imports only with torchvision or its placeholders
    pytest.skip("segment_anything is not installed", allow_module_level=True)

from benchmarks.speed.onnx_cost import GraphCost, graph_cost  # noqa: E402
from benchmarks.speed.sam import export_official_decoder  # noqa: E402
from encoder_tools.models.export import (  # noqa: E402
    DECODER_OUTPUTS,
    PLACES_INPUT,
    export_model,
)
from encoder_tools.models.fast_decoder.transformer import FEW_TOKENS  # noqa: E402
from encoder_tools.models.sam.weights import LoadedSam, random_sam  # noqa: E402

PLACES, CHANNELS, INNER, HEADS, MASK_MAPS = 64 * 64, 256, 128, 8, 17
OUTPUT_TOKENS = 5
FLOAT = 4


@pytest.fixture(scope="module")
def sam() -> LoadedSam:
    return random_sam("vit_b", seed=0)


@pytest.fixture(scope="module")
def directory(sam: LoadedSam, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sam")
    export_model(sam, path)
    export_official_decoder(sam, path / "official.onnx")
    return path


def shapes(points: int) -> dict[str, tuple[int, ...]]:
    return {
        "point_coords": (1, points, 2),
        "point_labels": (1, points),
        "mask_input": (1, 1, 256, 256),
        "has_mask_input": (1,),
    }


def click(directory: Path, points: int = 2, has_mask: bool = False) -> GraphCost:
    """Return the cost of a prompt; a click is a point and a padding point."""
    values = {"has_mask_input": np.array([has_mask], np.float32)}
    return graph_cost(directory / "decoder.onnx", shapes(points), DECODER_OUTPUTS, values)


def shown(directory: Path, refined: int) -> GraphCost:
    """Return the cost of a click's mask to show first that computes the given number of places in full."""
    import onnx

    path = directory / "decoder.onnx"
    bodies = [item.g for node in onnx.load(path).graph.node for item in node.attribute if item.name == "then_branch"]
    found = [node.output[1] for body in bodies for node in body.node if node.op_type == "TopK"]
    assert len(found) == 1
    values = {
        PLACES_INPUT: np.array(refined),
        "has_mask_input": np.zeros(1, np.float32),
        found[0]: np.zeros(refined, np.int64),
    }
    return graph_cost(path, shapes(2), values=values)


def attention_flops(tokens: int, has_mask: bool = False, read: int = OUTPUT_TOKENS) -> int:
    """Image and tokens meet in five products as wide as the image, and three as wide as a head.

    The tokens that are read meet it in two more and in one; and a mask prompt's maps the tokens in three.
    """
    wide = (5 * tokens + 2 * read) * CHANNELS * HEADS
    narrow = (3 * tokens + read) * INNER
    mask = (3 * HEADS * tokens + CHANNELS) * MASK_MAPS if has_mask else 0
    return 2 * PLACES * (wide + narrow + mask)


def upscaling_flops(places: int, masks: int) -> int:
    """Each place becomes 2 x 2 of 64 channels, each of these 2 x 2 of 32, and each of these a logit for each mask."""
    return 2 * places * (CHANNELS * 4 * 64 + 4 * 64 * 4 * 32 + 16 * 32 * masks)


def token_flops(sam: LoadedSam, tokens: int) -> int:
    """Every weight meets every token at most once, and folding meets the weights of six projections again."""
    weights = sum(weight.numel() for weight in sam.network.mask_decoder.parameters())
    return 2 * tokens * (weights + 6 * CHANNELS * INNER)


def shrinking_flops() -> int:
    """The mask prompt's first two convolutions, to 4 and 16 channels."""
    return 2 * (128 * 128 * 4 * 4 + 64 * 64 * 16 * 4 * 4)


def test_a_click_takes_the_expected_operations(sam: LoadedSam, directory: Path) -> None:
    for points in (2, FEW_TOKENS - OUTPUT_TOKENS):
        tokens = OUTPUT_TOKENS + points
        least = attention_flops(tokens) + upscaling_flops(PLACES, 4)
        assert least <= click(directory, points).flops <= least + token_flops(sam, tokens)


def test_a_mask_prompt_costs_only_where_it_is_given(sam: LoadedSam, directory: Path) -> None:
    tokens = OUTPUT_TOKENS + 2
    more = click(directory, has_mask=True).flops - click(directory).flops
    attention = attention_flops(tokens, has_mask=True) - attention_flops(tokens)
    assert 0 <= more - shrinking_flops() - attention <= 6 * INNER * MASK_MAPS * tokens


def test_a_click_takes_half_of_the_official_graph(directory: Path) -> None:
    size = {"orig_im_size": np.array([1024, 1024], np.float32)}
    official = graph_cost(directory / "official.onnx", {**shapes(2), "image_embeddings": (1, 256, 64, 64)}, values=size)
    ours = click(directory)
    assert ours.flops < 0.46 * official.flops
    assert ours.bytes < 0.57 * official.bytes


def test_many_tokens_use_the_other_order(directory: Path) -> None:
    """The cost grows slower from there on, and where the orders meet neither is much worse."""
    last, first = FEW_TOKENS - OUTPUT_TOKENS, FEW_TOKENS - OUTPUT_TOKENS + 1
    folded = click(directory, last).flops - click(directory, last - 1).flops
    usual = click(directory, first + 1).flops - click(directory, first).flops
    assert folded > 4 * usual
    assert click(directory, first).flops - click(directory, last).flops < 1.5 * folded


def test_the_mask_to_show_first_skips_the_other_masks(sam: LoadedSam, directory: Path) -> None:
    tokens, refined = OUTPUT_TOKENS + 2, PLACES // 8
    one_pixel = 2 * PLACES * (CHANNELS * 64 + 64 * 32 + 32)
    # The token of a mask that is never shown first is not read.
    least = attention_flops(tokens, read=OUTPUT_TOKENS - 1) + one_pixel + upscaling_flops(refined, 1)
    cost = shown(directory, refined)
    assert least <= cost.flops <= least + token_flops(sam, tokens)
    assert cost.flops < 0.65 * click(directory).flops
    assert shown(directory, 2 * refined).flops - cost.flops == upscaling_flops(refined, 1)


def test_intermediate_results_are_few_and_small(directory: Path) -> None:
    cost = click(directory)
    image = PLACES * CHANNELS * FLOAT
    scores = PLACES * HEADS * (OUTPUT_TOKENS + 2) * FLOAT
    gelu = 5
    # What is written, the sum and its norm, and the norm with places last, in both layers; positions added in one.
    images = (2 * 4 + 1) * image
    # Scores, with positions in the last of the five attentions and a bias in one; then one operator in three of them,
    # five over the tokens in two, whose weights are turned.
    attentions = (5 + 2 + 1 + 3 + 2 * 6) * scores
    # Product, bias and norm of 64 channels and GELU; product, bias and turn of 32 and GELU; four masks, twice.
    upscaling = PLACES * FLOAT * ((3 + gelu) * 4 * 64 + (3 + gelu) * 16 * 32 + 2 * 16 * 4)
    assert cost.bytes < images + attentions + upscaling
    assert cost.tensors <= 210
