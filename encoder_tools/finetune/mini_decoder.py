"""The decoder of `mini` for training, with the weights of its ONNX files.

Stores have no other weights than those of their graphs, which were exported from the folded network
(`mini.fold_batch_norm`) and name them after its modules. The folded network can be trained, because a folded batch
normalisation is a scale and a bias of its convolution.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosam_es.errors import ModelError

from ..mini.config import PACKED_CHANNELS
from ..mini.export import export_decoder_graphs
from ..mini.fold_batch_norm import fold
from ..mini.losses import answer_loss
from ..mini.network import MiniNet
from ..models.libraries import import_onnx, torch
from .tunable_decoder import Answer, PromptTensors

__all__ = ["FEATURE_CHANNELS", "MiniDecoder", "graph_weights"]

FEATURE_CHANNELS = PACKED_CHANNELS
_HALF = "_half"
_PART = re.compile(r"\d+/")
"""Prefix of the names of a graph that was joined with others."""

_REMEDY = "encode the raster again with this version of GeoSAM-ES"


class MiniDecoder:
    """A folded decoder of `mini` that can be trained; see `TunableDecoder`.

    Parameters
    ----------
    module : PromptDecoder
        Folded.
    """

    window_cells = (20, 28, 40, 52, 64)
    objects_at_once = 6
    learning_rate = 2e-4

    def __init__(self, module: torch.nn.Module) -> None:
        self.module: Any = module
        module.requires_grad_(True)
        # The biases of a pixel shuffle, one for each position, are buffers of the folded network.
        for owner in module.modules():
            for name, buffer in list(owner.named_buffers(recurse=False)):
                if name.startswith("pattern"):
                    delattr(owner, name)
                    owner.register_parameter(name, torch.nn.Parameter(buffer.detach().clone()))

    @classmethod
    def from_onnx(cls, prepare_path: Path, decoder_path: Path) -> MiniDecoder:
        """Load the weights of a store's graphs.

        Raises
        ------
        ModelError
            If the files do not belong to this version of `mini`.
        """
        with torch.random.fork_rng(devices=[]):
            module = fold(MiniNet()).decoder
        wanted = module.state_dict()
        found = graph_weights(prepare_path, "", wanted, "context.") | graph_weights(decoder_path, "decoder.", wanted)
        # The exported context adds these biases, so that the decoder need not add them for each prompt.
        unused = {name for name in wanted if name not in found and name.endswith(".pattern")}
        missing = wanted.keys() - found.keys() - unused
        misshapen = [name for name in found if tuple(found[name].shape) != tuple(wanted[name].shape)]
        if missing or misshapen:
            example = sorted(missing)[0] if missing else misshapen[0]
            raise ModelError(f"{decoder_path} belongs to another version of mini ({example} differs)", _REMEDY)
        state = {name: wanted[name] for name in unused}
        state.update({name: torch.from_numpy(np.array(values, np.float32)) for name, values in found.items()})
        module.load_state_dict(state)
        return cls(module)

    def prepare(self, embeddings: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the context of features (1, 512, h, w)."""
        context: tuple[torch.Tensor, ...] = self.module.context(embeddings)
        return context

    def decode(self, context: tuple[torch.Tensor, ...], prompts: PromptTensors) -> Answer:
        """Return the masks for prompts."""
        masks, scores, _ = self.module(context, *prompts)
        return Answer(masks, scores)

    def learn(
        self,
        context: tuple[torch.Tensor, ...],
        prompts: PromptTensors,
        truth: torch.Tensor,
        ambiguous: torch.Tensor,
    ) -> tuple[Answer, torch.Tensor]:
        """Return the masks for prompts and their mean loss."""
        masks, scores, coarse = self.module(context, *prompts)
        return Answer(masks, scores), answer_loss(masks, scores, coarse, truth, ambiguous)

    def export(self, folder: Path) -> None:
        """Write ``prepare.onnx`` and ``decoder.onnx``."""
        export_decoder_graphs(self.module.eval(), folder)


def graph_weights(path: Path, wrapper: str, wanted: Mapping[str, Any], prefix: str = "") -> dict[str, NDArray[Any]]:
    """Return the weights of a graph by their names in a module.

    Parameters
    ----------
    path : Path
    wrapper : str
        Prefix that the names in the graph have and those in the module have not.
    wanted : mapping
        With the names in the module as keys; other weights are left out.
    prefix : str
        Prefix that the names in the module have and those in the graph have not.

    Raises
    ------
    ModelError
        If it is not an ONNX file.
    """
    onnx = import_onnx()
    try:
        model = onnx.load(str(path))
    # The classes of protobuf's errors differ between its versions.
    except Exception as error:
        raise ModelError(f"{path} is not an ONNX file", "copy the store again") from error
    constants = {
        tensor.name.removesuffix(_HALF): onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer
    }
    # The exporter stores equal tensors, such as zero biases, once, and adds Identity nodes for their other names.
    for node in model.graph.node:
        if node.op_type == "Identity" and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
    found = {}
    for name, values in (*constants.items(), *_linear_weights(model.graph, constants)):
        full = prefix + _PART.sub("", name, count=1).removeprefix(wrapper)
        if full in wanted:
            found[full] = values
    return found


def _linear_weights(graph: Any, constants: Mapping[str, NDArray[Any]]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the weights of linear layers, which the exporter transposes and gives meaningless names.

    The layer is identified by the bias that is added to the product.
    """
    products = {node.output[0]: node for node in graph.node if node.op_type == "MatMul"}
    for node in graph.node:
        if node.op_type != "Add":
            continue
        bias = next((name for name in node.input if name in constants and name.endswith(".bias")), None)
        product = next((products[name] for name in node.input if name in products), None)
        if bias is None or product is None:
            continue
        weight = next((name for name in product.input if name in constants), None)
        if weight is not None:
            yield bias.removesuffix("bias") + "weight", constants[weight].T
