"""The network of `mini` with the weights of exported ONNX files, for training that goes on from a released model.

The files hold the folded network (see `fold_batch_norm`). Its weights fit the network for training exactly, with batch
normalisations that scale by one and add the folded bias. The boundary head, which is not exported, begins with zeros.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geosam_es.errors import ModelError

from ..models.libraries import import_onnx
from .blocks import ConvNorm, ShuffleUp
from .export import FILES, load_checkpoint
from .network import MiniNet

__all__ = ["graph_weights", "load_network", "network_of_folder"]

_HALF = "_half"
_MOVED_BIASES = {"decoder.up4.conv": "decoder.context.pattern4", "decoder.up8.conv": "decoder.context.pattern8"}
_WITHOUT_BIAS = ("decoder.in4", "decoder.in8", "decoder.in16")
"""Convolutions whose bias folding added to that of another one."""


def load_network(path: Path) -> tuple[MiniNet, dict[str, float]]:
    """Load a checkpoint, or a folder of ONNX files; return the network, and its steps and seconds of training.

    Raises
    ------
    ModelError
        If a file is missing, damaged, or of another network.
    """
    if path.is_dir():
        return network_of_folder(path), {"step": 0.0, "seconds": 0.0}
    return load_checkpoint(path)


def network_of_folder(folder: Path) -> MiniNet:
    """Return the network for training whose export gives the ONNX files of a folder.

    Raises
    ------
    ModelError
        If a file is missing, damaged, or of another network.
    """
    found: dict[str, NDArray[Any]] = {}
    for name, prefix in zip(FILES, ("encoder.", "decoder.context.", "decoder.")):
        wrapper = prefix.split(".")[0] + "."
        for key, values in graph_weights(folder / name).items():
            found[prefix + key.removeprefix(wrapper)] = values
    net = MiniNet()
    try:
        net.load_state_dict(_unfolded(net, {name: torch.tensor(v, dtype=torch.float32) for name, v in found.items()}))
    except (KeyError, RuntimeError) as error:
        problem = f"the ONNX files in '{folder}' belong to another version of mini ({error})"
        raise ModelError(problem, "choose a folder that geosam-es train-mini has written") from error
    return net


def _unfolded(net: MiniNet, folded: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state of a network with the weights of a folded one."""
    # FoldedContext holds the context.
    known = {name.replace("context.context.", "context."): values for name, values in folded.items()}
    state = {
        name: torch.zeros_like(values) for name, values in net.encoder.edge.state_dict(prefix="encoder.edge.").items()
    }
    ups = {f"{name}.conv" for name, module in net.named_modules() if isinstance(module, ShuffleUp)}
    for name, module in net.named_modules():
        if not isinstance(module, ConvNorm):
            continue
        outputs = module.conv.out_channels
        if name in ups:
            # From TransposedUp: (inputs, outputs, 2, 2).
            weight = known[f"{name}.weight"].permute(1, 2, 3, 0).reshape(outputs, -1, 1, 1)
            bias = known[_MOVED_BIASES.get(name) or f"{name.removesuffix('.conv')}.pattern"].reshape(outputs)
        elif name in _WITHOUT_BIAS:
            weight, bias = known[f"{name}.weight"][:, :, None, None], torch.zeros(outputs)
        else:
            weight, bias = known[f"{name}.conv.weight"], known[f"{name}.conv.bias"]
        plain = nn.BatchNorm2d(outputs).state_dict()
        state |= {f"{name}.norm.{part}": values for part, values in plain.items()}
        state |= {f"{name}.conv.weight": weight, f"{name}.norm.bias": bias}
        # Together with the constant that the normalisation adds to it, this is one.
        state[f"{name}.norm.running_var"] -= nn.BatchNorm2d(outputs).eps
    return {name: state[name] if name in state else known[name] for name in net.state_dict()}


def graph_weights(path: Path) -> dict[str, NDArray[Any]]:
    """Return the weights of an ONNX file of `mini` by the names of the modules that were exported.

    Raises
    ------
    ModelError
        If the file cannot be read.
    """
    onnx = import_onnx()
    try:
        model = onnx.load(str(path))
    # The classes of protobuf's errors differ between its versions.
    except Exception as error:
        raise ModelError(f"{path} is missing or no ONNX file", "copy the folder again") from error
    constants = {
        tensor.name.removesuffix(_HALF): onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer
    }
    # The exporter stores equal tensors, such as zero biases, once, and adds Identity nodes for their other names.
    for node in model.graph.node:
        if node.op_type == "Identity" and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
    return {**constants, **dict(_linear_weights(model.graph, constants))}


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
