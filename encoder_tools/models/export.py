"""Export of a model to ONNX: the decoder in two graphs, and the image encoder.

PyTorch's TorchScript exporter writes the graphs at opset 17: onnxruntime 1.15 and later load them, and they run faster
than those of the newer exporter. Every file is run and compared with PyTorch before it is moved into place.
"""

from __future__ import annotations

import inspect
import json
import shutil
import tempfile
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosam_es.errors import ModelError, OutputError
from geosam_es.inference.encoder import ENCODER_FILE, MODEL_FILE, TILE_SIZE, ModelInfo, read_model_info
from geosam_es.inference.runtime import OnnxGraph
from geosam_es.store.decoder_files import file_sha256
from geosam_es.store.files import put_in_place
from geosam_es.store.layout import DECODER_FILE, EXTERNAL_SUFFIX, PREPARE_FILE

from .family import Feeds, Network
from .fast_decoder.networks import CONTEXT_NAMES
from .fast_decoder.transformer import FEW_TOKENS
from .libraries import import_onnx, torch
from .onnx_graphs import chain, choose_by_count, choose_by_length, with_default

__all__ = ["export_model"]

OPSET = 17
CARD_VERSION = 1
DECODER_INPUTS = ("point_coords", "point_labels", "mask_input", "has_mask_input")
DECODER_OUTPUTS = ("low_res_masks", "iou_predictions")
PLACES_INPUT = "refined_places"
TOLERANCE = 1e-3
"""Largest accepted difference from PyTorch, relative to the largest value."""

ENCODER_FILES = (ENCODER_FILE, ENCODER_FILE + EXTERNAL_SUFFIX)
DECODER_FILES = (PREPARE_FILE, DECODER_FILE)


def export_model(model: Network, directory: Path, *, with_encoder: bool = False) -> None:
    """Write ``prepare.onnx``, ``decoder.onnx`` and ``model.json``, and ``encoder.onnx`` if asked.

    ``prepare.onnx`` maps ``image_embeddings`` (1, 256, 64, 64) to the context that ``decoder.onnx`` reads by the same
    names, with a batch of 1. ``decoder.onnx`` also takes ``point_coords`` (B, N, 2), ``point_labels`` (B, N),
    ``mask_input`` (B, 1, 256, 256) and ``has_mask_input`` (1,) or (B,), all float32. It gives ``low_res_masks``
    (B, 4, 256, 256) and ``iou_predictions`` (B, 4), the single mask first. B and N are dynamic. The optional input
    ``refined_places``, an int64, asks for the mask to show first alone (see `Decode`).

    ``encoder.onnx`` maps ``images``, uint8 (B, 1024, 1024, 3) RGB, to ``image_embeddings``, float32 (B, 256, 64, 64); B
    is dynamic. Weights too large for one ONNX file, such as vit_h's, go into ``encoder.onnx.data``.

    Parameters
    ----------
    model : Network
    directory : Path
        Made if it does not exist. An older model in it is replaced, with all of its files.
    with_encoder : bool
        Export the image encoder too.

    Raises
    ------
    ModelError
        If the exported graphs and PyTorch give different answers.
    OutputError
        If the files cannot be written, or the directory has the encoder of another model, which would not fit them.
    """
    if not with_encoder and (directory / ENCODER_FILE).is_file() and not _is_of(model.info, directory):
        raise OutputError(f"{directory} contains the encoder of another model", "choose another folder")
    is_kept = not with_encoder and (directory / ENCODER_FILE).is_file()
    with _staged(model.info, directory, ENCODER_FILES if is_kept else ()) as staging:
        _write_decoder(model, staging)
        if with_encoder:
            _write_encoder(model, staging)


def _is_of(info: ModelInfo, directory: Path) -> bool:
    """Tell whether the card in a directory is of this model."""
    try:
        return read_model_info(directory).encoder_sha256 == info.encoder_sha256
    except ModelError:
        return False


@contextmanager
def _staged(info: ModelInfo, directory: Path, kept: Collection[str]) -> Iterator[Path]:
    """Yield an empty directory, and move its files to ``directory`` with a card at the end; nothing after an error.

    Files of an older model that have no successor are removed, except those to be kept.
    """
    is_new = not directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".export-", dir=directory))
        try:
            yield staging
            made = sorted(staging.iterdir())
            for file in made:
                put_in_place(file, directory / file.name)
            for name in {*ENCODER_FILES, *DECODER_FILES} - {file.name for file in made} - set(kept):
                (directory / name).unlink(missing_ok=True)
            hashes = {file.name: file_sha256(file) for file in sorted(directory.glob("*.onnx*"))}
            card = {"version": CARD_VERSION, **info.to_json(), "image_size": TILE_SIZE, "files": hashes}
            written = staging / MODEL_FILE
            written.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
            put_in_place(written, directory / MODEL_FILE)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            if is_new and not any(directory.iterdir()):
                directory.rmdir()
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"cannot write {error.filename or directory} ({error.strerror or error})",
            "choose a writable directory on a disk with free space",
        ) from error


def _write_decoder(model: Network, directory: Path) -> None:
    features = _random_features(model.info)
    prepare, decode = (directory / name for name in DECODER_FILES)
    preparing, decoding = model.decoder()
    names = preparing.context_names
    _write_graph(preparing, prepare, features, names, {})
    context = OnnxGraph(prepare).run(features, names)
    _join_decoder(decoding.eval(), context, decode)
    graph = OnnxGraph(decode)
    for prompts in (_prompts(1, 6, with_mask=False), _prompts(3, 2, with_mask=True), _prompts(2, 20, with_mask=True)):
        answer = graph.run({**context, **prompts}, DECODER_OUTPUTS)
        with torch.no_grad():
            wanted = [tensor.numpy() for tensor in model.answer(_tensors(features), _tensors(prompts))]
        _compare(decode, answer, dict(zip(DECODER_OUTPUTS, wanted)))


def _join_decoder(decode: Any, context: Feeds, path: Path) -> None:
    """Trace the parts of the decoder and join them to one graph, which chooses by the number of tokens."""
    axes: dict[str, dict[int, str]] = {
        name: {0: "batch"} for name in (*DECODER_INPUTS, *DECODER_OUTPUTS, "prompt_tokens", "tokens")
    }
    axes["point_coords"][1] = axes["point_labels"][1] = "points"
    axes["prompt_tokens"][1], axes["places"] = "tokens", {0: "places"}
    axes["has_mask_input"] = axes["mask_maps"] = {0: "batch_or_1"}
    axes["low_res_masks"][1] = axes["iou_predictions"][1] = "masks"
    feeds = _prompts(2, 3, with_mask=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:

        def part(module: Any, taken: Feeds, outputs: Sequence[str]) -> Any:
            target = Path(folder, f"{len(list(Path(folder).iterdir()))}.onnx")
            _trace(module, _tensors(taken), target, list(taken), outputs, axes)
            return import_onnx().load(target)

        def answer(module: Any, taken: Feeds, outputs: Sequence[str]) -> Feeds:
            with torch.no_grad():
                given = module(*_tensors(taken))
            given = given if isinstance(given, tuple) else (given,)
            return {name: tensor.numpy() for name, tensor in zip(outputs, given)}

        points = {name: feeds[name] for name in ("point_coords", "point_labels")}
        prompt, prompted = (step(decode.prompt_tokens, points, ("prompt_tokens",)) for step in (part, answer))
        masks = {name: feeds[name] for name in ("mask_input", "has_mask_input")}
        mask, masked = (step(decode.mask_maps, masks, ("mask_maps",)) for step in (part, answer))
        image = {name: context[name] for name in CONTEXT_NAMES}
        fine = {name: array for name, array in context.items() if name not in image}
        inputs = {**image, **prompted}
        plain, transformed = (step(decode.plain, inputs, ("places", "tokens")) for step in (part, answer))
        few, many = (part(module, {**inputs, **masked}, ("places", "tokens")) for module in (decode.few, decode.many))
        ended = {**transformed, **prompted}
        all_masks = part(decode.all_masks, {**ended, **fine}, DECODER_OUTPUTS)
        # The part that gives one mask takes one prompt.
        one = {name: array[:1] for name, array in {**ended, "point_labels": feeds["point_labels"]}.items()}
        one["places"] = transformed["places"][: len(transformed["places"]) // 2]
        before, count = [prompt], PLACES_INPUT
        if decode.places_of_click is not None:
            count, taken = "places_of_click", {"point_labels": one["point_labels"], PLACES_INPUT: np.array(1000)}
            before.append(part(decode.places_of_click, taken, (count,)))
        first_mask = part(decode.first_mask, {**one, count: np.array(1000), **fine}, DECODER_OUTPUTS)
        other = chain((mask, choose_by_length(few, many, "prompt_tokens", FEW_TOKENS)), ("places", "tokens"))
        middle = choose_by_length(plain, other, "prompt_tokens", FEW_TOKENS, absent="has_mask_input")
        whole = chain((*before, middle, choose_by_count(first_mask, all_masks, count)), DECODER_OUTPUTS)
        import_onnx().save_model(with_default(whole, PLACES_INPUT, 0), path)


def _write_encoder(model: Network, directory: Path) -> None:
    tile = np.random.default_rng(0).integers(0, 256, (1, TILE_SIZE, TILE_SIZE, 3), dtype=np.uint8)
    names = list(model.info.features)
    axes = {name: {0: "batch"} for name in ("images", *names)}
    _write_graph(model.tile_network(), directory / ENCODER_FILE, {"images": tile}, names, axes)


def _write_graph(
    module: Any,
    path: Path,
    feeds: Feeds,
    outputs: Sequence[str],
    axes: Mapping[str, Mapping[int, str]],
) -> None:
    """Trace a module, write it, and compare the graph's answer with the module's."""
    tensors = _tensors(feeds)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
        raw, whole = Path(folder, "raw", path.name), Path(folder, "whole", path.name)
        raw.parent.mkdir()
        whole.parent.mkdir()
        _trace(module.eval(), tensors, raw, list(feeds), outputs, axes)
        if len(list(raw.parent.iterdir())) == 1:
            raw.replace(whole)
        else:
            _gather_weights(raw, whole)
        with torch.no_grad():
            answer = module(*tensors)
        wanted = answer if isinstance(answer, tuple) else (answer,)
        got = OnnxGraph(whole).run(feeds, outputs)
        _compare(whole, got, {name: tensor.numpy() for name, tensor in zip(outputs, wanted)})
        for file in whole.parent.iterdir():
            put_in_place(file, path.parent / file.name)


def _trace(
    module: Any,
    tensors: tuple[torch.Tensor, ...],
    path: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    axes: Mapping[str, Mapping[int, str]],
) -> None:
    options: dict[str, Any] = {"opset_version": OPSET, "do_constant_folding": True, "dynamic_axes": axes}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:  # PyTorch 2.5 and later have two exporters
        options["dynamo"] = False
    with torch.no_grad(), warnings.catch_warnings():
        # It warns that it is deprecated, and of every fixed shape, which is intended.
        warnings.simplefilter("ignore")
        # A str, because with a Path it loses the directory for weights too large for one file.
        torch.onnx.export(module, tensors, str(path), input_names=list(inputs), output_names=list(outputs), **options)


def _gather_weights(source: Path, target: Path) -> None:
    """Copy a graph whose weights are in one file each, with all weights in a single file.

    The exporter writes such files if graph and weights exceed 2 GiB, the limit of one ONNX file.
    """
    onnx = import_onnx()
    location = target.name + EXTERNAL_SUFFIX
    onnx.save_model(onnx.load(source), target, save_as_external_data=True, location=location)


def _compare(path: Path, got: Mapping[str, NDArray[Any]], wanted: Mapping[str, NDArray[Any]]) -> None:
    for name, values in wanted.items():
        limit = TOLERANCE * float(np.abs(values).max())
        difference = float(np.abs(got[name] - values).max())
        if not difference <= limit:
            raise ModelError(
                f"the exported {path.name} differs from PyTorch by {difference:.2g} in {name}",
                "check that the weights are finite, and try other versions of PyTorch or onnxruntime",
            )


def _tensors(feeds: Feeds) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(array) for array in feeds.values())


def _random_features(info: ModelInfo) -> Feeds:
    generator = np.random.default_rng(0)
    return {name: generator.standard_normal((1, *shape), dtype=np.float32) for name, shape in info.features.items()}


def _prompts(batch: int, points: int, with_mask: bool) -> Feeds:
    generator = np.random.default_rng(batch + points)
    return {
        "point_coords": generator.uniform(0, TILE_SIZE, (batch, points, 2)).astype(np.float32),
        "point_labels": generator.integers(-1, 4, (batch, points)).astype(np.float32),
        "mask_input": generator.normal(0, 5, (batch, 1, 256, 256)).astype(np.float32),
        "has_mask_input": np.array([with_mask], np.float32),
    }
