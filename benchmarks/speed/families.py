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
from encoder_tools.models.edgetam import random_edgetam
from encoder_tools.models.export import OPSET, export_model
from encoder_tools.models.family import Feeds, Network
from encoder_tools.models.hq_sam import LoadedHqSam, random_hq_tiny
from encoder_tools.models.libraries import torch
from encoder_tools.models.mobile_sam import LoadedMobileSam, tiny_sam
from encoder_tools.models.sam.weights import FEATURES, UNKNOWN_LICENCE, Architecture, random_sam
from encoder_tools.models.sam2 import LoadedSam2, random_sam2
from encoder_tools.models.sam2_meta import SIZES, meta_config
from geosam_es.inference.decoder import SplitDecoder
from geosam_es.inference.encoder import TILE_SIZE, ModelInfo
from geosam_es.inference.runtime import new_session
from geosam_es.store.int8 import from_int8, to_int8
from geosam_es.store.layout import DECODER_FILE, PREPARE_FILE

from .measure import Bench, Call, mask_iou, take_turns
from .model import Goal, Item, Row, Table
from .sam import decoder_feeds, export_official_decoder, some_clicks

__all__ = ["MODELS", "PlainSam2", "run"]

_CLICK_GOAL = Goal(0.45)


def _sam2(name: str) -> Network:
    return random_sam2(0, meta_config(name))


def _sam3() -> Network:
    import transformers

    return random_sam2(0, transformers.Sam3TrackerConfig())


def _sam(name: Architecture) -> Network:
    return random_sam(name, seed=0)


def _mobile_sam() -> Network:
    torch.manual_seed(0)
    return LoadedMobileSam(tiny_sam(), ModelInfo("mobile_sam-random", "0" * 64, UNKNOWN_LICENCE, FEATURES))


MODELS: dict[str, Callable[[], Network]] = {
    "vit_b": partial(_sam, "vit_b"),
    "mobile_sam": _mobile_sam,
    "hq_tiny": partial(random_hq_tiny, 0),
    "edgetam": partial(random_edgetam, 0),
    **{name: partial(_sam2, name) for name in SIZES},
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


class _PlainHqSam(torch.nn.Module):
    def __init__(self, loaded: LoadedHqSam) -> None:
        super().__init__()
        self.loaded = loaded
        # Parts of this module too, without which their weights cannot be traced.
        self.network, self.correction = loaded.network, loaded.correction

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        count = len(self.loaded.info.features)
        return self.loaded.answer(tensors[:count], tensors[count:])


def _plain_session(model: Any, features: Feeds, path: Path, threads: int) -> tuple[Any, Feeds]:
    """Return the plain export as a session, and what it needs beside the prompts."""
    is_hq = isinstance(model, LoadedHqSam)
    if not is_hq and not isinstance(model, LoadedSam2):
        export_official_decoder(model, path)
        size = np.array([256, 256], np.float32)
        return new_session(str(path), threads, spinning=True), {**features, "orig_im_size": size}
    feeds = {**features, **decoder_feeds(some_clicks(1)[0])}
    if not is_hq:
        side = model.model.prompt_encoder.mask_input_size[0]
        feeds["mask_input"] = np.zeros((1, 1, side, side), np.float32)
        for part in (model.model, model.model.mask_decoder):
            part.config._attn_implementation = "eager"
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _PlainHqSam(model) if is_hq else PlainSam2(model),
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
    """Measure each model; in a quick run only the first of each family, whose decoder is that of all."""
    rows: list[tuple[Any, ...]] = []
    entries, decoders = load_registry(), dict[str, tuple[float, ...]]()
    for name in MODELS:
        family = entries[name].family
        is_first = family not in decoders
        if bench.quick and not is_first:
            continue
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            figures, decoder = pool.submit(_measure, name, bench, is_first).result()
        decoder = decoders.setdefault(family, decoder)
        rows.append((name, *figures, *decoder, entries[name].licence))
        if is_first and family == "sam2":
            what, against = "click on an active tile of SAM 2.1", "a plain ONNX export of the same decoder"
            yield Row("click_sam2", what, against, decoder[3], goal=_CLICK_GOAL)
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


def _measure(name: str, bench: Bench, with_decoder: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the figures of encoding and storing, and those of the decoder."""
    torch.set_num_threads(bench.threads)
    model = MODELS[name]()
    tiles = np.random.default_rng(0).integers(0, 256, (1, TILE_SIZE, TILE_SIZE, 3), dtype=np.uint8)
    encode = model.encoder("cpu", "auto", bench.threads).encode
    calls: dict[str, Call] = {"encode": lambda _: encode(tiles)}
    encoding = take_turns(calls, bench.runs(2, 1), warm_up=1)["encode"]
    gibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    mebibytes = sum(float(np.prod(shape)) for shape in model.info.features.values()) / 2**20
    figures = (encoding.median_ms / 1e3, gibibytes, 2 * mebibytes, mebibytes)
    return figures, _measure_decoder(model, bench) if with_decoder else ()


def _measure_decoder(model: Network, bench: Bench) -> tuple[float, ...]:
    model.drop_image_encoder()
    folder = bench.work / model.info.name
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
    clicked, plainly = times["ours"].median_ms, times["plain"].median_ms
    smallest = (min(each, default=float("nan")) for each in pairs)
    return (times["prepare"].median_ms, clicked, plainly, clicked / plainly, *smallest)
