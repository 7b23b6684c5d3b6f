"""The image encoder ViT-B on the CPU: the product's against what PyTorch and onnxruntime offer."""

from __future__ import annotations

import copy
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder_tools.models.export import OPSET
from encoder_tools.models.libraries import torch
from encoder_tools.models.sam.encoder import SamTorchEncoder
from encoder_tools.models.sam.weights import LoadedSam
from encoder_tools.models.torch_encoder import Precision
from encoder_tools.raster import Raster
from geosam_es.core.window import Window
from geosam_es.inference.decoder import load_decoder
from geosam_es.inference.encoder import TILE_SIZE

from .images import real_images, synthetic_pixels
from .measure import Bench, Call, mask_iou, take_turns
from .model import Agreement, Goal, Item, Row, Table, Timing
from .sam import lively_sam, sam_files, some_clicks

__all__ = ["run"]

PLAIN = "sam.image_encoder, float32"
_OURS = "GeoSAM-ES"
_OURS_BFLOAT16 = "GeoSAM-ES, --precision bfloat16"
_LEAST_IOU = 0.99
_CLICKS = 24
_MASK_SHARE = (0.02, 0.98)
"""Masks of almost nothing or of almost the whole tile would say little."""

Encode = Callable[[torch.Tensor], torch.Tensor]


def run(bench: Bench) -> Iterator[Item]:
    """Measure each method of encoding a tile."""
    sam = lively_sam()
    tile = _tile()
    encoders = reference_encoders(bench, sam)
    pixels = (torch.from_numpy(tile).permute(2, 0, 1)[None].float() - sam.network.pixel_mean) / sam.network.pixel_std
    features: dict[str, NDArray[np.float32]] = {}

    def encode(name: str, _: int) -> None:
        with torch.inference_mode():
            features[name] = encoders[name](pixels).float().numpy()

    def encode_ours(name: str, encoder: SamTorchEncoder, _: int) -> None:
        features[name] = encoder.encode(tile[None])["image_embeddings"]

    calls: dict[str, Call] = {name: partial(encode, name) for name in encoders}
    calls[_OURS] = partial(encode_ours, _OURS, _product(sam, "auto", bench.threads))
    calls[_OURS_BFLOAT16] = partial(encode_ours, _OURS_BFLOAT16, _product(sam, "bfloat16", bench.threads))
    times = take_turns(calls, bench.runs(3, 1), warm_up=1)
    ious = _ious(bench, sam, features)
    means = {name: float(np.mean(values)) for name, values in ious.items()}
    best = min((name for name in encoders if means[name] >= _LEAST_IOU), key=lambda name: times[name].median_ms)
    yield Row(
        "encode",
        "encoding a tile with ViT-B on the CPU (float32)",
        f"the fastest method of PyTorch and onnxruntime whose masks agree, here {best}",
        times[_OURS].median_ms / times[best].median_ms,
        goal=Goal(1.03),
        ours=times[_OURS],
        reference=times[best],
        agreement=Agreement("mean mask IoU against float32", means[_OURS], _LEAST_IOU),
        note=f"{times[PLAIN].median_ms / times[_OURS].median_ms:.2f} times as fast as {PLAIN}; {_OURS_BFLOAT16}: "
        f"{times[PLAIN].median_ms / times[_OURS_BFLOAT16].median_ms:.2f} times, mean IoU {means[_OURS_BFLOAT16]:.3f}",
    )
    yield _table(times, ious)


def _table(times: Mapping[str, Timing], ious: Mapping[str, list[float]]) -> Table:
    plain = times[PLAIN].median_ms
    rows = [
        (name, timing.median_ms / 1e3, timing.median_ms / plain, float(np.mean(ious[name])), min(ious[name]))
        for name, timing in sorted(times.items(), key=lambda item: -item[1].median_ms)
    ]
    return Table(
        "encoders",
        "Encoding one tile with ViT-B on the CPU",
        ("method", "s", "relative to plain float32", "mask IoU mean", "mask IoU smallest"),
        rows,
        "With random weights; masks of the sharpened decoder of this benchmark, compared with plain float32.",
    )


def _tile() -> NDArray[np.uint8]:
    for path in real_images():
        raster = Raster(path)
        if min(raster.width, raster.height) >= TILE_SIZE:
            pixels, _ = raster.read_bands(Window(0, 0, TILE_SIZE, TILE_SIZE), 1)
            return np.ascontiguousarray(np.moveaxis(pixels, 0, -1), np.uint8)
    return np.ascontiguousarray(np.moveaxis(synthetic_pixels(TILE_SIZE, TILE_SIZE), 0, -1))


def reference_encoders(bench: Bench, sam: LoadedSam) -> dict[str, Encode]:
    plain = sam.network.image_encoder
    encoders: dict[str, Encode] = {PLAIN: plain}
    if bench.quick:
        return encoders
    last = _copy(plain, is_own=_is_of_convolution).to(memory_format=torch.channels_last)
    encoders["float32, channels last"] = lambda x: last(x.contiguous(memory_format=torch.channels_last))
    encoders["float32, autocast to bfloat16"] = lambda x: _autocast(plain, x)
    small = copy.deepcopy(plain).to(torch.bfloat16)
    encoders["bfloat16 weights"] = lambda x: small(x.to(torch.bfloat16))
    encoders["onnxruntime, float32, block by block"] = _onnx_encoder(bench, plain)
    if shutil.which("c++") or shutil.which("g++"):
        compiled = _copy(plain, is_own=lambda _: False)
        for block in compiled.blocks:
            block.compile()
        encoders["float32, torch.compile"] = compiled
    return encoders


def _product(sam: LoadedSam, precision: Precision, threads: int) -> SamTorchEncoder:
    """Return GeoSAM-ES's encoder, which changes the order in memory of the convolutions' weights."""
    own = LoadedSam(_copy(sam.network, is_own=_is_of_convolution), sam.info)
    return SamTorchEncoder(own, "cpu", precision, threads)


def _is_of_convolution(weight: torch.Tensor) -> bool:
    return weight.dim() == 4


def _copy(encoder: Any, is_own: Callable[[torch.Tensor], bool]) -> Any:
    """Copy a network and the weights that `is_own` selects; the others are shared to save memory."""
    shared = {id(weight): weight for weight in encoder.parameters() if not is_own(weight)}
    return copy.deepcopy(encoder, shared)


def _autocast(encoder: Any, pixels: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        features: torch.Tensor = encoder(pixels)
    return features


def _onnx_encoder(bench: Bench, encoder: Any) -> Encode:
    """Run the blocks on onnxruntime as separate graphs, because exporting them as one takes 10 GiB."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = bench.threads
    options.log_severity_level = 3
    # Each session's arena would keep the global attention's maps.
    options.enable_cpu_mem_arena = False
    sample = torch.zeros(1, 64, 64, encoder.pos_embed.shape[3])
    sessions = []
    for index, block in enumerate(encoder.blocks):
        path = bench.work / f"block{index}.onnx"
        _export(block, sample, path)
        sessions.append(onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        x = (encoder.patch_embed(pixels) + encoder.pos_embed).numpy()
        for session in sessions:
            (x,) = session.run(None, {"x": x})
        features: torch.Tensor = encoder.neck(torch.from_numpy(x).permute(0, 3, 1, 2))
        return features

    return encode


def _export(block: Any, sample: torch.Tensor, path: Path) -> None:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(block, (sample,), str(path), input_names=["x"], opset_version=OPSET, dynamo=False)


def _ious(bench: Bench, sam: LoadedSam, features: Mapping[str, NDArray[np.float32]]) -> dict[str, list[float]]:
    files = sam_files(bench.work, sam)
    decoder = load_decoder(files.prepare, files.decoder, bench.threads)
    contexts = {name: decoder.prepare({"image_embeddings": values}) for name, values in features.items()}
    ious: dict[str, list[float]] = {name: [] for name in features}
    for prompts in some_clicks(bench.runs(_CLICKS, 4)):
        wanted = decoder.decode(contexts[PLAIN], prompts).low_res_masks
        masks = [i for i, mask in enumerate(wanted) if _MASK_SHARE[0] < (mask > 0).mean() < _MASK_SHARE[1]]
        for name, context in contexts.items():
            got = decoder.decode(context, prompts).low_res_masks
            ious[name] += [mask_iou(got[index], wanted[index]) for index in masks]
    if not ious[PLAIN]:
        # Without masks to compare, nothing agrees.
        return {name: [0.0] for name in features}
    return ious
