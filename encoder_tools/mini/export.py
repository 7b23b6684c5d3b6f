"""Export a trained `mini` to ONNX: ``python -m encoder_tools.mini.export CHECKPOINT -o DIR``.

The network is folded (see `fold_batch_norm`), and large weights are stored as float16 with a Cast, which onnxruntime
computes once on loading: half the size at the same speed.
"""

from __future__ import annotations

import argparse
import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from geosam_es.errors import GeoSamError, ModelError, OutputError
from geosam_es.inference.encoder import TILE_SIZE, ModelInfo
from geosam_es.store.decoder_files import prefixed_sha256

from .config import PACKED_CHANNELS
from .decoder import CONTEXT_NAMES, PromptDecoder
from .fold_batch_norm import fold
from .network import ImageEncoder, MiniNet, normalise

OPSET = 17
IR_VERSION = 8
MIN_HALF_ELEMENTS = 256
GRID = TILE_SIZE // 16
LICENCE = "GPL-3.0-or-later AND CC-BY-4.0"
FILES = ("encoder.onnx", "prepare.onnx", "decoder.onnx")


class EncoderGraph(nn.Module):
    """``images`` uint8 (B, 1024, 1024, 3) to ``image_embeddings`` (B, 512, 64, 64)."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        """Encode a batch of tiles."""
        packed: Tensor = self.encoder(normalise(images))
        return packed


class DecoderGraph(nn.Module):
    """Context tensors and prompts to ``low_res_masks`` and ``iou_predictions``."""

    def __init__(self, decoder: PromptDecoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(
        self,
        context4: Tensor,
        context8: Tensor,
        context16: Tensor,
        keys: Tensor,
        appearances: Tensor,
        cost8: Tensor,
        cost16: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Answer prompts, without the coarse mask, which only training needs."""
        context = (context4, context8, context16, keys, appearances, cost8, cost16)
        masks, scores, _ = self.decoder(context, point_coords, point_labels, mask_input, has_mask_input)
        return masks, scores


def load_checkpoint(path: Path) -> tuple[MiniNet, dict[str, float]]:
    """Load the averaged weights of a checkpoint, and its step and seconds.

    Raises
    ------
    ModelError
        If the file is missing, damaged, or of another network.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        net = MiniNet()
        net.load_state_dict(state["average"])
        return net, {"step": float(state["step"]), "seconds": float(state["seconds"])}
    except (OSError, RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError) as error:
        problem = f"'{path}' is not a checkpoint of this network ({type(error).__name__})"
        raise ModelError(problem, "make one with geosam-es train-mini") from error


def save_checkpoint(weights: Mapping[str, Tensor], trained: Mapping[str, float], path: Path) -> Path:
    """Write a checkpoint for `load_checkpoint` completely or not at all, and return its path.

    The folder is made if it does not exist.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    partial = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"average": dict(weights), **trained}, partial)
        return partial.replace(path)
    # PyTorch raises a RuntimeError for some files that cannot be written.
    except (OSError, RuntimeError) as error:
        raise OutputError(f"cannot write to '{path.parent}' ({error})", "choose another folder") from error


def store_as_half(path: Path) -> None:
    """Store the large float32 weights of an ONNX file as float16, each with a Cast back to float32."""
    model = onnx.load(str(path))
    graph = model.graph
    casts = []
    for number, tensor in enumerate(graph.initializer):
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < MIN_HALF_ELEMENTS:
            continue
        name = tensor.name
        half = numpy_helper.from_array(values.astype(np.float16), f"{name}_half")
        graph.initializer[number].CopyFrom(half)
        casts.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
    for place, cast in enumerate(casts):
        graph.node.insert(place, cast)
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def export_graph(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    path: Path,
    names: tuple[list[str], list[str]],
    axes: dict[str, dict[int, str]],
) -> None:
    """Write a module to ONNX, with its large weights in float16; ``names`` are those of inputs and outputs."""
    with warnings.catch_warnings():
        # The tracer warns about numbers that become constants, which is intended for the sizes of the maps.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            inputs,
            str(path),
            input_names=names[0],
            output_names=names[1],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    store_as_half(path)


def export_graphs(net: MiniNet, out: Path) -> None:
    """Write ``encoder.onnx``, ``prepare.onnx`` and ``decoder.onnx`` of a network."""
    folded = fold(net)
    export_encoder_graph(folded.encoder, out)
    export_decoder_graphs(folded.decoder, out)


def export_encoder_graph(encoder: ImageEncoder, out: Path) -> None:
    """Write ``encoder.onnx`` of a folded encoder."""
    batch = {0: "batch"}
    images = torch.zeros(1, TILE_SIZE, TILE_SIZE, 3, dtype=torch.uint8)
    with torch.no_grad():
        export_graph(
            EncoderGraph(encoder),
            (images,),
            out / FILES[0],
            (["images"], ["image_embeddings"]),
            {"images": batch, "image_embeddings": batch},
        )


def export_decoder_graphs(decoder: PromptDecoder, out: Path) -> None:
    """Write ``prepare.onnx`` and ``decoder.onnx`` of a folded decoder."""
    embeddings = torch.zeros(1, PACKED_CHANNELS, GRID, GRID)
    context_module = decoder.context
    with torch.no_grad():
        context = context_module(embeddings)
        export_graph(context_module, (embeddings,), out / FILES[1], (["image_embeddings"], list(CONTEXT_NAMES)), {})
        prompts = {
            "point_coords": torch.full((2, 3, 2), 100.0),
            "point_labels": torch.tensor([[1.0, 0.0, -1.0], [2.0, 3.0, 1.0]]),
            "mask_input": torch.zeros(2, 1, 4 * GRID, 4 * GRID),
            "has_mask_input": torch.zeros(1),
        }
        axes = {name: {0: "batch"} for name in ("mask_input", "low_res_masks", "iou_predictions")}
        axes |= {name: {0: "batch", 1: "points"} for name in ("point_coords", "point_labels")}
        axes["has_mask_input"] = {0: "one_or_batch"}
        export_graph(
            DecoderGraph(decoder),
            (*context, *prompts.values()),
            out / FILES[2],
            ([*CONTEXT_NAMES, *prompts], ["low_res_masks", "iou_predictions"]),
            axes,
        )


def write_model(net: MiniNet, out: Path, trained: dict[str, float]) -> None:
    """Write the three graphs and ``model.json``.

    Parameters
    ----------
    net : MiniNet
    out : Path
        Folder to write to.
    trained : dict of str to float
        ``step`` and ``seconds`` of the training, which the card records.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        export_graphs(net, out)
        info = ModelInfo(
            name="mini",
            encoder_sha256=prefixed_sha256(out / FILES[0]),
            licence=LICENCE,
            features={"image_embeddings": (PACKED_CHANNELS, GRID, GRID)},
        )
        record = {
            **info.to_json(),
            "version": "1",
            "image_size": TILE_SIZE,
            "files": {name: prefixed_sha256(out / name) for name in FILES},
            "training": {"steps": int(trained["step"]), "minutes": round(trained["seconds"] / 60, 1)},
        }
        (out / "model.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write the model to '{out}' ({error.strerror})", "choose another folder") from error


def main() -> None:
    """Parse the command line and export."""
    parser = argparse.ArgumentParser(prog="python -m encoder_tools.mini.export", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    try:
        net, trained = load_checkpoint(options.checkpoint)
        write_model(net, options.out, trained)
    except GeoSamError as error:
        parser.exit(2, f"error: {error.user_message}\n")
    size = sum((options.out / name).stat().st_size for name in FILES) / 2**20
    print(f"{options.out}: {size:.1f} MiB of ONNX, {net.parameter_count() / 1e6:.2f} million parameters")


if __name__ == "__main__":
    main()
