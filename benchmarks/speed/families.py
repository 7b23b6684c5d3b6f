"""The families of models: encoding on the CPU, clicks, stores, with the real architectures and random weights.

Each model is measured in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import multiprocessing
import resource
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder_tools.models.checkpoints import load_registry
from encoder_tools.models.export import OPSET, export_model
from encoder_tools.models.family import Feeds, Network
from encoder_tools.models.libraries import torch
from encoder_tools.models.sam.weights import Architecture, random_sam
from encoder_tools.models.sam2 import LoadedSam2, random_sam2
from geosam_es.inference.decoder import SplitDecoder
from geosam_es.inference.encoder import TILE_SIZE
from geosam_es.inference.runtime import new_session
from geosam_es.store.int8 import from_int8, to_int8
from geosam_es.store.layout import DECODER_FILE, PREPARE_FILE

from .measure import Bench, Call, mask_iou, take_turns
from .model import Goal, Item, Row, Table
from .sam import decoder_feeds, export_official_decoder, some_clicks

__all__ = ["MODELS", "PlainSam2", "run"]

_CLICK_GOAL = Goal(0.45)


def _hiera(width: int, heads: int, blocks: list[int], whole: list[int], windows: list[int], ground: int) -> Network:
    import transformers

    widths = [width * times for times in (1, 2, 4, 8)]
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=width,
        embed_dim_per_stage=widths,
        num_attention_heads=heads,
        num_attention_heads_per_stage=[heads * times for times in (1, 2, 4, 8)],
        blocks_per_stage=blocks,
        global_attention_blocks=whole,
        window_size_per_stage=windows,
        window_positional_embedding_background_size=[ground, ground],
    )
    vision = transformers.Sam2VisionConfig(backbone_config=backbone, backbone_channel_list=widths[::-1])
    return random_sam2(0, transformers.Sam2Config(vision_config=vision))


def _sam3() -> Network:
    import transformers

    return random_sam2(0, transformers.Sam3TrackerConfig())


def _sam(name: Architecture) -> Network:
    return random_sam(name, seed=0)


MODELS: dict[str, Callable[[], Network]] = {
    "vit_b": partial(_sam, "vit_b"),
    "sam2.1_tiny": partial(_hiera, 96, 1, [1, 2, 7, 2], [5, 7, 9], [8, 4, 14, 7], 7),
    "sam2.1_small": partial(_hiera, 96, 1, [1, 2, 11, 2], [7, 10, 13], [8, 4, 14, 7], 7),
    "sam2.1_base_plus": partial(_hiera, 112, 2, [2, 3, 16, 3], [12, 16, 20], [8, 4, 14, 7], 14),
    "sam2.1_large": partial(_hiera, 144, 2, [2, 6, 36, 4], [23, 33, 43], [8, 4, 16, 8], 7),
    "sam3": _sam3,
}
"""How to build each model with random weights."""


class PlainSam2(torch.nn.Module):
    """SAM 2's decoder as one graph, as a plain export makes it.

    Parameters
    ----------
    loaded : LoadedSam2
    """

    def __init__(self, loaded: LoadedSam2) -> None:
        super().__init__()
        self.model = loaded.model

    def forward(
        self,
        image_embeddings: torch.Tensor,
        high_res_feats_1: torch.Tensor,
        high_res_feats_0: torch.Tensor,
        point_coords: torch.Tensor,
        point_labels: torch.Tensor,
        mask_input: torch.Tensor,
        has_mask_input: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Answer a prompt with three masks (1, 3, h, w) and their scores (1, 3)."""
        prompts = self.model.prompt_encoder
        sparse = prompts._embed_points(point_coords.unsqueeze(1), point_labels.unsqueeze(1).long(), pad=False)
        has = has_mask_input.reshape(-1, 1, 1, 1)
        dense = has * prompts.mask_embed(mask_input) + (1 - has) * prompts.no_mask_embed.weight.reshape(1, -1, 1, 1)
        position = self.model.get_image_wide_positional_embeddings()
        masks, scores, *_ = self.model.mask_decoder(
            image_embeddings, position, sparse, dense, True, [high_res_feats_0, high_res_feats_1]
        )
        return masks[:, 0], scores[:, 0]


def _plain_session(model: Any, features: Feeds, path: Path, threads: int) -> tuple[Any, Feeds]:
    """Return the plain export as a session, and what it needs beside the prompts."""
    if not isinstance(model, LoadedSam2):
        export_official_decoder(model, path)
        size = np.array([256, 256], np.float32)
        return new_session(str(path), threads, spinning=True), {**features, "orig_im_size": size}
    feeds = {**features, **decoder_feeds(some_clicks(1)[0])}
    side = model.model.prompt_encoder.mask_input_size[0]
    feeds["mask_input"] = np.zeros((1, 1, side, side), np.float32)
    for part in (model.model, model.model.mask_decoder):
        part.config._attn_implementation = "eager"
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            PlainSam2(model),
            tuple(torch.from_numpy(array) for array in feeds.values()),
            str(path),
            input_names=list(feeds),
            output_names=["low_res_masks", "iou_predictions"],
            dynamic_axes={"point_coords": {1: "points"}, "point_labels": {1: "points"}},
            opset_version=OPSET,
            dynamo=False,
        )
    return new_session(str(path), threads, spinning=True), {**features, "mask_input": feeds["mask_input"]}


def run(bench: Bench) -> Iterator[Item]:
    """Measure each model; in a quick run only the first of each family."""
    rows: list[tuple[Any, ...]] = []
    entries, seen = load_registry(), set()
    for name in MODELS:
        if bench.quick and entries[name].family in seen:
            continue
        seen.add(entries[name].family)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            figures = pool.submit(_measure, name, bench).result()
        rows.append((name, *figures, entries[name].licence))
        if entries[name].family == "sam2" and not any(row[0].startswith("sam2") for row in rows[:-1]):
            what, against = f"click on an active tile of {name}", "a plain ONNX export of the same decoder"
            yield Row("click_sam2", what, against, figures[5] / figures[6], goal=_CLICK_GOAL)
    columns = ("encode s", "memory GiB", "float16 MiB", "int8 MiB", "prepare ms", "click ms", "plain ms", "ratio")
    ious = ("IoU plain", "IoU float16", "IoU int8")
    yield Table(
        "families",
        "The families of models",
        ("model", *columns, *ious, "licence"),
        rows,
        "Random weights. Encoding is of one tile on the CPU, and the memory is its peak. MiB are those of a tile in a"
        " store. The ratio is that of the times of a click with ours and with a plain ONNX export of the same decoder,"
        " on the same threads. The IoUs are the smallest of masks from float32 features with those of the plain export"
        " and with ours from features stored as float16 and as int8; random weights exaggerate the latter.",
    )


def _measure(name: str, bench: Bench) -> tuple[float, ...]:
    torch.set_num_threads(bench.threads)
    model = MODELS[name]()
    tiles = np.random.default_rng(0).integers(0, 256, (1, TILE_SIZE, TILE_SIZE, 3), dtype=np.uint8)
    encode = model.encoder("cpu", "auto", bench.threads).encode
    calls: dict[str, Call] = {"encode": lambda _: encode(tiles)}
    encoding = take_turns(calls, bench.runs(3, 1), warm_up=1)["encode"]
    gibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    model.drop_image_encoder()
    folder = bench.work / name
    export_model(model, folder)
    random = np.random.default_rng(1)
    shapes = model.info.features
    features = {key: random.standard_normal((1, *shape), dtype=np.float32) for key, shape in shapes.items()}
    session, fixed = _plain_session(model, features, folder / "plain.onnx", bench.threads)
    decoder = SplitDecoder(folder / PREPARE_FILE, folder / DECODER_FILE, bench.threads)
    context = decoder.prepare(features)
    clicks = some_clicks(16)
    outputs = ["low_res_masks", "iou_predictions"]

    def plain(run: int) -> NDArray[np.float32]:
        masks: NDArray[np.float32] = session.run(outputs, {**decoder_feeds(clicks[run % 16]), **fixed})[0][0]
        return masks

    def ours(run: int, context: Any = context) -> NDArray[np.float32]:
        return decoder.decode(context, clicks[run % 16]).low_res_masks[1:]

    calls = {"plain": plain, "ours": ours, "prepare": lambda _: decoder.prepare(features)}
    times = take_turns(calls, bench.runs(40, 5))
    halves = {key: array.astype(np.float16) for key, array in features.items()}
    quarters = {key: from_int8(*to_int8(array[0]))[None] for key, array in features.items()}
    stored = [decoder.prepare(halves), decoder.prepare(quarters)]
    pairs: list[list[float]] = [[], [], []]
    for run in range(16):
        wanted = ours(run)
        same = plain(run)[-3:]
        if same.shape == wanted.shape:
            pairs[0] += [mask_iou(*each) for each in zip(wanted, same)]
        for ious, other in zip(pairs[1:], stored):
            ious += [mask_iou(*each) for each in zip(wanted, ours(run, other))]
    mebibytes = sum(array.size for array in features.values()) / 2**20
    clicked, plainly = times["ours"].median_ms, times["plain"].median_ms
    spent = (encoding.median_ms / 1e3, gibibytes, 2 * mebibytes, mebibytes, times["prepare"].median_ms)
    return (*spent, clicked, plainly, clicked / plainly, *(min(each, default=float("nan")) for each in pairs))
