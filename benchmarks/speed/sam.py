"""Segment Anything ViT-B for the benchmark: the real architecture, with random weights.

The time does not depend on the weights. To make the masks comparable too, the random weights are changed so that they
draw something: attention is sharpened, features vary smoothly over the image, and upscaling treats the four pixels of a
place alike, because noise would give masks of a thousand parts, as no trained model does.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from encoder_tools.models.export import OPSET, export_model
from encoder_tools.models.libraries import torch
from encoder_tools.models.sam.segment_anything_import import import_segment_anything
from encoder_tools.models.sam.weights import LoadedSam, random_sam
from geosam_es.core.prompts import Point, Prompts
from geosam_es.inference.encoder import TILE_SIZE
from geosam_es.inference.runtime import new_session
from geosam_es.store.layout import DECODER_FILE, PREPARE_FILE

__all__ = [
    "OfficialDecoder",
    "SamFiles",
    "decoder_feeds",
    "export_official_decoder",
    "lively_sam",
    "sam_files",
    "smooth_features",
    "some_clicks",
]

SEED = 0
_SHARPER = 4.0
_STRONGER = 2.0
_WIDER = 10.0
_SMOOTHNESS_CELLS = 6.0

Feeds = dict[str, NDArray[Any]]


class SamFiles(NamedTuple):
    """The decoder as GeoSAM-ES exports it, and as segment_anything's own script does, with one mask and with four."""

    prepare: Path
    decoder: Path
    official: Path
    official_four: Path

    @property
    def decoder_files(self) -> Mapping[str, Path]:
        """The files of a store."""
        return {PREPARE_FILE: self.prepare, DECODER_FILE: self.decoder}


def lively_sam(roughness: float = 0.0) -> LoadedSam:
    """Build ViT-B with random weights whose masks are not trivial.

    Parameters
    ----------
    roughness : float
        Difference between the pixels of a place in the upscaling: 0 for none, 1 as in a new model.
    """
    sam = random_sam("vit_b", seed=SEED)
    network = sam.network
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        for name, weight in network.mask_decoder.named_parameters():
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                weight.mul_(_SHARPER)
            elif name.endswith(("v_proj.weight", "out_proj.weight")):
                weight.mul_(_STRONGER)
            elif "output_hypernetworks_mlps" in name and name.endswith("layers.2.weight"):
                weight.mul_(_WIDER)
        for index in (0, 3):
            weight = network.mask_decoder.output_upscaling[index].weight
            mean = weight.mean(dim=(2, 3), keepdim=True)
            weight.copy_(mean * 2 + (weight - mean) * roughness)
        for name, weight in network.image_encoder.named_parameters():
            if "pos" in name:  # zero in a new encoder
                weight.normal_(0, 0.3)
    return sam


def sam_files(work: Path, sam: LoadedSam | None = None) -> SamFiles:
    """Return the decoder's files, which are exported on the first call."""
    folder = work / "sam"
    files = SamFiles(*(folder / name for name in (PREPARE_FILE, DECODER_FILE, "official.onnx", "official_four.onnx")))
    if not files.official_four.is_file():
        sam = sam or lively_sam()
        export_model(sam, folder)
        export_official_decoder(sam, files.official, return_single_mask=True)
        export_official_decoder(sam, files.official_four, return_single_mask=False)
    return files


def export_official_decoder(sam: LoadedSam, path: Path, return_single_mask: bool = False) -> None:
    """Export the decoder as one graph, as segment_anything's script does, but from an image as large as a tile.

    Its release 1.0 cuts the upsampled masks to the size of the image that it was exported with, 1500 x 2250 there.
    """
    import_segment_anything()
    from segment_anything.utils.onnx import SamOnnxModel

    feeds = {
        "image_embeddings": smooth_features(),
        **decoder_feeds(some_clicks(1)[0]),
        "orig_im_size": np.array([TILE_SIZE, TILE_SIZE], np.float32),
    }
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            SamOnnxModel(sam.network, return_single_mask),
            tuple(torch.from_numpy(array) for array in feeds.values()),
            str(path),
            input_names=list(feeds),
            output_names=["masks", "iou_predictions", "low_res_masks"],
            dynamic_axes={"point_coords": {1: "points"}, "point_labels": {1: "points"}},
            opset_version=OPSET,
            dynamo=False,
        )


def smooth_features() -> NDArray[np.float32]:
    """Return random features of unit variance that vary slowly over the tile: float32 (1, 256, 64, 64)."""
    noise = np.random.default_rng(SEED).standard_normal((1, 256, 64, 64))
    rows, columns = np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64), indexing="ij")
    window = np.exp(-((_SMOOTHNESS_CELLS * np.hypot(rows, columns)) ** 2) * np.pi)
    smooth = np.fft.ifft2(np.fft.fft2(noise) * window).real
    return np.asarray(smooth / smooth.std(), np.float32)


def some_clicks(count: int, seed: int = SEED) -> list[Prompts]:
    """Return single clicks on a tile, not too near its border."""
    places = np.random.default_rng(seed).uniform(0.1, 0.9, (count, 2)) * TILE_SIZE
    return [Prompts((Point(float(x), float(y)),)) for x, y in places]


def decoder_feeds(prompts: Prompts, mask_input: NDArray[np.float32] | None = None) -> Feeds:
    """Return the prompt inputs of a decoder's graph."""
    point_coords, point_labels = prompts.to_arrays()
    mask = np.zeros((256, 256), np.float32) if mask_input is None else mask_input
    return {
        "point_coords": point_coords,
        "point_labels": point_labels,
        "mask_input": mask[None, None],
        "has_mask_input": np.array([mask_input is not None], np.float32),
    }


def _as_it_comes(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class OfficialDecoder:
    """segment_anything's single graph, as its users run it: masks of 1024 x 1024 pixels.

    Parameters
    ----------
    path : Path
    features : float32 (1, 256, 64, 64)
    threads : int
    own_options : bool
        Whether to use onnxruntime's default options with this number of threads, or those of GeoSAM-ES.
    """

    def __init__(self, path: Path, features: NDArray[np.float32], threads: int, own_options: bool = False) -> None:
        self._session = _as_it_comes(path, threads) if own_options else new_session(str(path), threads, spinning=True)
        self._fixed = {
            "image_embeddings": features,
            "orig_im_size": np.array([TILE_SIZE, TILE_SIZE], np.float32),
        }

    def decode(self, prompts: Prompts, mask_input: NDArray[np.float32] | None = None) -> Feeds:
        """Return ``masks`` (1, K, 1024, 1024), ``iou_predictions`` (1, K) and ``low_res_masks`` (1, K, 256, 256)."""
        names = ("masks", "iou_predictions", "low_res_masks")
        return dict(zip(names, self._session.run(names, {**self._fixed, **decoder_feeds(prompts, mask_input)})))
