"""Mask decoders: from prompts and the features of a tile to mask logits and scores.

Inputs and outputs have SAM's names. In: `point_coords` (1, N, 2) XY in tile pixels, `point_labels` (1, N), `mask_input`
(1, 1, 256, 256), `has_mask_input` (1). Out: `low_res_masks` (1, K, 256, 256), `iou_predictions` (1, K). With K = 4 the
first mask is for several prompts or a box, and the other three are candidates for a single click. With any other K all
masks are candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..core.contour import polygon_logits
from ..core.prompts import PADDING_LABEL, Prompts
from ..errors import ModelError
from .encoder import SAM2_FEATURES, SAM2_NAMES, SAM_FEATURES, TILE_SIZE
from .float16 import float16_to_float32
from .runtime import OnnxGraph, available_cores

__all__ = [
    "PREVIEW_PLACES",
    "Context",
    "DecodedMasks",
    "MaskDecoder",
    "SingleGraphDecoder",
    "SplitDecoder",
    "decode_many",
    "decode_preview",
    "load_decoder",
    "rank_masks",
]

MASK_SIDE = 256
"""Height and width of mask logits."""

Context = Mapping[str, NDArray[np.float32]]
"""The prepared features of a tile, kept between prompts."""


class DecodedMasks(NamedTuple):
    """A decoder's output for the prompts of one object.

    Attributes
    ----------
    low_res_masks : float32 (K, 256, 256)
        Logits, positive inside the object.
    iou_predictions : float32 (K,)
        The model's estimate of each mask's IoU.
    """

    low_res_masks: NDArray[np.float32]
    iou_predictions: NDArray[np.float32]

    def ranking(self, ambiguous: bool) -> list[int]:
        """Return the indices of the masks, the one to show first in front.

        Parameters
        ----------
        ambiguous : bool
            Whether the prompts are a single click. For anything else SAM's authors recommend the single-mask token.
        """
        return rank_masks(self.iou_predictions, ambiguous)


def rank_masks(scores: NDArray[np.floating[Any]], ambiguous: bool) -> list[int]:
    """Return the indices of a decoder's masks by their predicted IoU (K,); see `DecodedMasks.ranking`."""
    by_score = [int(index) for index in np.argsort(-scores, kind="stable")]
    if len(by_score) != 4:
        return by_score
    multi = [index for index in by_score if index != 0]
    return multi if ambiguous else [0, *multi]


class MaskDecoder(Protocol):
    """Decodes masks from prompts and a tile's features."""

    def prepare(self, features: Mapping[str, NDArray[Any]]) -> Context:
        """Compute the part that depends on the tile alone.

        Parameters
        ----------
        features : mapping of str to float32 or float16 (1, C, h, w)
            As the store holds them.

        Returns
        -------
        Context
        """
        ...

    def decode(self, context: Context, prompts: Prompts, mask_input: NDArray[np.float32] | None = None) -> DecodedMasks:
        """Decode the prompts of one object.

        Parameters
        ----------
        context : Context
            From `prepare`.
        prompts : Prompts
            In tile pixels.
        mask_input : float32 (256, 256), optional
            Logits of an earlier mask, to refine it. Default: those of the prompts' outline, if there is one.

        Returns
        -------
        DecodedMasks
        """
        ...


@runtime_checkable
class PreviewDecoder(Protocol):
    """A decoder that computes the mask to show first faster than all masks."""

    def preview(
        self, context: Context, prompts: Prompts, mask_input: NDArray[np.float32] | None = None
    ) -> DecodedMasks | None:
        """Return what `decode_preview` does, or None if this model has no fast way."""
        ...


@runtime_checkable
class BatchDecoder(Protocol):
    """A decoder that is faster on several objects together than one after the other."""

    def decode_many(self, context: Context, prompts: Sequence[Prompts], first_only: bool = False) -> list[DecodedMasks]:
        """Return what the function `decode_many` does."""
        ...


def decode_preview(
    decoder: MaskDecoder, context: Context, prompts: Prompts, mask_input: NDArray[np.float32] | None = None
) -> DecodedMasks:
    """Decode prompts for display, as fast as the decoder can.

    Parameters
    ----------
    decoder : MaskDecoder
    context, prompts, mask_input
        As for `MaskDecoder.decode`.

    Returns
    -------
    DecodedMasks
        If the decoder has a fast way, only the mask to show first. Its logits are exact near the outline, as far as a
        fixed time allows, and elsewhere have the right sign. Else all masks, exact.
    """
    preview = decoder.preview(context, prompts, mask_input) if isinstance(decoder, PreviewDecoder) else None
    return preview or decoder.decode(context, prompts, mask_input)


def decode_many(
    decoder: MaskDecoder, context: Context, prompts: Sequence[Prompts], first_only: bool = False
) -> list[DecodedMasks]:
    """Decode the prompts of several objects on one tile.

    Parameters
    ----------
    decoder : MaskDecoder
    context : Context
        From `MaskDecoder.prepare`.
    prompts : sequence of Prompts
        One per object, in tile pixels.
    first_only : bool
        Whether the mask to show first is enough.

    Returns
    -------
    list of DecodedMasks
        As from `MaskDecoder.decode`, in the order of the prompts. With ``first_only`` the decoder may return only the
        mask to show first, whose logits are exact near the whole outline and elsewhere have the right sign.
    """
    if isinstance(decoder, BatchDecoder):
        return decoder.decode_many(context, prompts, first_only)
    return [decoder.decode(context, item) for item in prompts]


def _prompt_feeds(prompts: Prompts, mask_input: NDArray[np.float32] | None) -> dict[str, NDArray[np.float32]]:
    point_coords, point_labels = prompts.to_arrays()
    if mask_input is None and prompts.outline is not None:
        mask_input = polygon_logits(prompts.outline, TILE_SIZE, MASK_SIDE)
    logits = np.zeros((MASK_SIDE, MASK_SIDE), np.float32) if mask_input is None else mask_input
    return {
        "point_coords": point_coords,
        "point_labels": point_labels,
        "mask_input": logits[None, None],
        "has_mask_input": np.array([mask_input is not None], np.float32),
    }


def _decoded(outputs: Mapping[str, NDArray[np.float32]]) -> DecodedMasks:
    masks, scores = outputs["low_res_masks"][0], outputs["iou_predictions"][0]
    if not (np.isfinite(masks).all() and np.isfinite(scores).all()):
        raise ModelError(
            "The model gives masks that are not numbers, so its decoder or the tile is damaged",
            "check the store with geosam-es verify, or copy it again",
        )
    return DecodedMasks(masks, scores)


def _as_float32(features: Mapping[str, NDArray[Any]], graph: OnnxGraph) -> dict[str, NDArray[np.float32]]:
    """Return the features that a graph reads; those of a store may be more."""
    return {
        name: float16_to_float32(values) if values.dtype == np.float16 else values
        for name, values in features.items()
        if name in graph.inputs
    }


_OUTPUTS = ("low_res_masks", "iou_predictions")
_SAM2_OUTPUTS = ("masks", "iou_predictions")
_PLACES = "refined_places"
"""Optional input of ``decoder.onnx``. Above zero only the mask to show first is computed, and in full detail only in at
most this many of its 64 x 64 places."""

PREVIEW_PLACES = 512
"""Value of that input for a preview."""

_ALL_PLACES = 1 << 16
"""More than any model has."""


class SplitDecoder:
    """A decoder in two graphs: one per tile, one per prompt.

    Parameters
    ----------
    prepare_path, decoder_path : Path
        ``prepare.onnx`` turns features into context tensors, which ``decoder.onnx`` reads by the same names.
    threads : int, optional

    Raises
    ------
    ModelError
        If a file cannot be loaded, or the two do not match.
    """

    def __init__(self, prepare_path: Path, decoder_path: Path, threads: int | None = None) -> None:
        self._prepare = OnnxGraph(prepare_path, threads)
        self._decoder = OnnxGraph(decoder_path, threads, spinning=True)
        prompts = set(_prompt_feeds(Prompts(), None))
        needed = set(self._decoder.inputs) - prompts
        has_outputs = set(_OUTPUTS) <= set(self._decoder.outputs)
        reads_features = not {"image_embeddings", *SAM2_NAMES.values()}.isdisjoint(needed - set(self._prepare.outputs))
        if reads_features and (has_outputs or set(_SAM2_OUTPUTS) <= set(self._decoder.outputs)):
            raise ModelError(
                "{path} reads the features itself, and {prepare} belongs to another decoder",
                "remove {prepare}, or copy or export both again",
                path=decoder_path,
                prepare=prepare_path,
            )
        if not needed <= set(self._prepare.outputs) or not has_outputs:
            raise ModelError(
                "{path} does not match the {name} next to it",
                "copy or export both again",
                path=decoder_path,
                name=prepare_path.name,
            )
        self._context_names = sorted(needed)
        self._gives_one = _PLACES in self._decoder.optional_inputs
        self._workers = threads or available_cores()
        self._one_thread: OnnxGraph | None = None

    def prepare(self, features: Mapping[str, NDArray[Any]]) -> Context:
        """Run ``prepare.onnx``; see `MaskDecoder.prepare`."""
        return self._prepare.run(_as_float32(features, self._prepare), self._context_names)

    def decode(self, context: Context, prompts: Prompts, mask_input: NDArray[np.float32] | None = None) -> DecodedMasks:
        """Run ``decoder.onnx``; see `MaskDecoder.decode`."""
        return _decoded(self._decoder.run({**context, **_prompt_feeds(prompts, mask_input)}, _OUTPUTS))

    def preview(
        self, context: Context, prompts: Prompts, mask_input: NDArray[np.float32] | None = None
    ) -> DecodedMasks | None:
        """Run ``decoder.onnx`` for a preview if it supports that; see `decode_preview`."""
        if not self._gives_one:
            return None
        feeds = {**context, **_prompt_feeds(prompts, mask_input), _PLACES: np.array(PREVIEW_PLACES)}
        return _decoded(self._decoder.run(feeds, _OUTPUTS))

    def decode_many(self, context: Context, prompts: Sequence[Prompts], first_only: bool = False) -> list[DecodedMasks]:
        """Run ``decoder.onnx`` on as many objects in parallel as there are threads; see `decode_many`.

        Each object gets one thread, because several threads would wait for each other after every small matrix
        product. A batch of prompts would save nothing, as most time goes into products with the whole tile.
        """
        fixed = {_PLACES: np.array(_ALL_PLACES)} if first_only and self._gives_one else {}
        is_together = self._workers > 1 and len(prompts) > 1
        if is_together and self._one_thread is None:
            self._one_thread = OnnxGraph(self._decoder.path, 1)
        graph = self._one_thread if is_together and self._one_thread else self._decoder

        def answer(item: Prompts) -> DecodedMasks:
            return _decoded(graph.run({**context, **fixed, **_prompt_feeds(item, None)}, _OUTPUTS))

        if not is_together:
            return [answer(item) for item in prompts]
        with ThreadPoolExecutor(self._workers) as pool:
            return list(pool.map(answer, prompts))


class SingleGraphDecoder:
    """A SAM decoder as written by segment-anything's export script, or a SAM 2 decoder as written by samexporter.

    Parameters
    ----------
    decoder_path : Path
        Takes ``image_embeddings``, the prompts and ``orig_im_size``; or, for SAM 2, ``image_embed``,
        ``high_res_feats_0``, ``high_res_feats_1`` and the prompts, to which it adds a padding point itself.
    threads : int, optional

    Raises
    ------
    ModelError
        If the file cannot be loaded or is not such a decoder.
    """

    def __init__(self, decoder_path: Path, threads: int | None = None) -> None:
        self._decoder = OnnxGraph(decoder_path, threads, spinning=True)
        given = self._decoder.inputs.keys()
        self._is_sam2 = not given.isdisjoint(SAM2_NAMES.values())
        self._outputs = _SAM2_OUTPUTS if self._is_sam2 else _OUTPUTS
        needed = {*self._renamed(SAM2_FEATURES if self._is_sam2 else SAM_FEATURES), *_prompt_feeds(Prompts(), None)}
        wrong = (needed ^ given) - {"orig_im_size"} | set(self._outputs) - self._decoder.outputs.keys()
        if wrong:
            raise ModelError(
                "{path} is not a complete SAM decoder, and no prepare.onnx is next to it (missing or unknown: {names})",
                "copy or export both again",
                path=decoder_path,
                names=", ".join(sorted(wrong)),
            )

    def _renamed(self, features: Mapping[str, Any]) -> dict[str, Any]:
        names = SAM2_NAMES if self._is_sam2 else {}
        return {names.get(name, name): value for name, value in features.items()}

    def prepare(self, features: Mapping[str, NDArray[Any]]) -> Context:
        """Return the features in float32; a single graph has nothing else to prepare."""
        return _as_float32(self._renamed(features), self._decoder)

    def decode(self, context: Context, prompts: Prompts, mask_input: NDArray[np.float32] | None = None) -> DecodedMasks:
        """Run the graph; see `MaskDecoder.decode`."""
        feeds = {**context, **_prompt_feeds(prompts, mask_input)}
        if self._is_sam2:
            is_prompt = feeds["point_labels"][0] != PADDING_LABEL
            feeds.update({name: feeds[name][:, is_prompt] for name in ("point_coords", "point_labels")})
        if "orig_im_size" in self._decoder.inputs:
            # The smallest size, because the upsampled masks are not used.
            feeds["orig_im_size"] = np.array([MASK_SIDE, MASK_SIDE], np.float32)
        return _decoded(dict(zip(_OUTPUTS, self._decoder.run(feeds, self._outputs).values())))


def load_decoder(prepare_path: Path | None, decoder_path: Path, threads: int | None = None) -> MaskDecoder:
    """Load a decoder of either kind.

    Parameters
    ----------
    prepare_path : Path, optional
        None if the decoder is a single graph.
    decoder_path : Path
    threads : int, optional

    Raises
    ------
    ModelError
        If a file cannot be loaded or is not a decoder.
    """
    if prepare_path is None:
        return SingleGraphDecoder(decoder_path, threads)
    return SplitDecoder(prepare_path, decoder_path, threads)
